"""The activations and their derivatives, both in one pass: numba leaves, arrays in, arrays out.

A kernel `name(h, x, slope)` writes x = phi(h) and slope = phi'(h) for C-contiguous float64 arrays (vectors, M). The
scalar functions have no branch and call nothing, so LLVM turns the inner loop over particles into vector code. Each
entry depends on its own h only: results do not depend on the number of threads.

Error: at most 1e-15 max(1, |phi|) and 1e-15 max(1, |phi'|) for every float64 h; no overflow, NaN gives NaN. phi keeps
its relative accuracy at a zero of phi: phi(0) is 0 exactly for tanh, erf, silu, gelu.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, prange
from numba.extending import register_jitable

from .tiles import TILE

Array = np.ndarray

_FUSED: Any = {"fastmath": {"contract"}, "error_model": "numpy"}  # a b + c in one operation; NaN and inf stay
inlined = register_jitable(forceinline=True, **_FUSED)

# exp(y) = 2^n exp(r), n = round(y / log 2), |r| <= log(2)/2. Adding 1.5 2^52 rounds to an integer and leaves n in the
# low bits; log 2 is split so that n times its first part is exact (Cody & Waite).
LOG2E = 1.4426950408889634
ROUND = 6755399441055744.0
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
LOWEST = 708.0  # exp(-708) = 3.3e-308, near the last normal number: exp is held there, an error of 3.3e-308
ERF_SPLIT = 0.8
GAUSS_END = 26.6  # exp(-26.6^2) = 5e-308, held there likewise
SQRT_HALF = math.sqrt(0.5)
TWO_OVER_SQRT_PI = 2.0 / math.sqrt(math.pi)


@inlined
def _magnitude(h: float) -> float:  # |h|, held at LOWEST; NaN stays NaN
    a = abs(h)
    return LOWEST if a > LOWEST else a


@inlined
def _exp(y: float) -> tuple[float, float]:
    """exp(y) and exp(y) - 1 for -708 <= y <= 0, each to 3e-16 relative.

    Coefficients: interpolation of (exp(r) - 1 - r) / r^2 at the 10 Chebyshev nodes of |r| <= 1.0001 log(2)/2, in powers
    of r; error of exp(r) 1.3e-17. Evaluated in pairs (Estrin), which shortens the chain of dependent operations.
    """
    t = y * LOG2E + ROUND
    n = t - ROUND
    r = (y - n * LN2_HIGH) - n * LN2_LOW
    bits = np.float64(t).view(np.int64)
    power = np.int64((bits << 52) + (1023 << 52)).view(np.float64)
    r2 = r * r
    p01 = 0.5000000000000001 + r * 0.16666666666666669
    p23 = 0.04166666666662413 + r * 0.008333333333330062
    p45 = 0.0013888888917213717 + r * 0.00019841269863053618
    p67 = 2.4801521295954376e-05 + r * 2.7557268459997064e-06
    p89 = 2.7620088445409746e-07 + r * 2.510038549551032e-08
    r4 = r2 * r2
    p = (p01 + r2 * p23) + r4 * ((p45 + r2 * p67) + r4 * p89)
    p = r + r2 * p
    return power * p + power, power * p + (power - 1.0)


@inlined
def _log1p(e: float) -> float:
    """log(1 + e) for 0 <= e <= 1: 2 artanh(s), s = e / (2 + e) <= 1/3.

    Coefficients: interpolation of 2 artanh(sqrt(z)) / sqrt(z) at the 11 Chebyshev nodes of 0 <= z = s^2 <= 1/9, in
    powers of v = 18 z - 1; error 2e-18.
    """
    s = e / (2.0 + e)
    v = 18.0 * (s * s) - 1.0
    p = 8.970331682448942e-13 + v * 4.7736507523966946e-14
    p = 1.691445880838224e-11 + v * p
    p = 3.2599912325477556e-10 + v * p
    p = 6.3975633975214875e-09 + v * p
    p = 1.2860729238217998e-07 + v * p
    p = 2.6742881227547037e-06 + v * p
    p = 5.851928814011422e-05 + v * p
    p = 0.0013952765489187672 + v * p
    p = 0.03966212261758931 + v * p
    p = 2.038322813588351 + v * p
    return s * p


@inlined
def _erf_centre(h: float) -> float:
    """erf(h) for |h| <= 0.8: h times a polynomial in h^2.

    Coefficients: interpolation of erf(sqrt(z)) / sqrt(z) at the 11 Chebyshev nodes of 0 <= z <= 0.64, in powers of
    v = 2 z / 0.64 - 1; error 3e-18.
    """
    v = 3.125 * (h * h) - 1.0
    p = -4.321478745478939e-12 + v * 1.2473865274999765e-13
    p = 1.360008969960609e-10 + v * p
    p = -3.869051962206556e-09 + v * p
    p = 9.81617015869592e-08 + v * p
    p = -2.1899296976828704e-06 + v * p
    p = 4.2209793779279816e-05 + v * p
    p = -0.0006875055626695648 + v * p
    p = 0.00921537027856223 + v * p
    p = -0.0996867812397278 + v * p
    p = 1.0187450081198755 + v * p
    return h * p


@inlined
def _erfc_tail(a: float, gauss: float) -> float:
    """erfc(a) for a >= 0.8, given gauss = exp(-a^2): gauss / (a + 5/2) times a polynomial in t = 1 / (a + 5/2).

    Coefficients: interpolation of erfc(a) exp(a^2) (a + 5/2) at the 16 Chebyshev nodes, in t, of 0.8 <= a <= 6, in
    powers of v in [-1, 1]; error 1e-17. Past 6 (erfc = 2e-17) v falls to -2.27 at most and gauss kills the rest.
    """
    t = 1.0 / (a + 2.5)
    v = 10.788461538461538 * t - 2.269230769230769
    p = -2.2555340392702263e-11 + v * 1.529985768184446e-11
    p = -3.5562350375331697e-10 + v * p
    p = 1.3089566542793258e-09 + v * p
    p = 6.2143854246408194e-09 + v * p
    p = -4.5067761172768923e-08 + v * p
    p = -1.1159850845730591e-07 + v * p
    p = 1.410235565754952e-06 + v * p
    p = 3.3177181394868896e-06 + v * p
    p = -4.5665353829146196e-05 + v * p
    p = -0.00021077764838300296 + v * p
    p = 0.0011996128065084283 + v * p
    p = 0.017607817080742685 + v * p
    p = 0.10329724934346392 + v * p
    p = 0.39531530763979883 + v * p
    p = 1.0968638221200782 + v * p
    return (gauss * t) * p


@inlined
def _erf_parts(h: float) -> tuple[float, float]:
    """erf|h| and exp(-h^2)."""
    a = abs(h)
    a = GAUSS_END if a > GAUSS_END else a
    gauss, _ = _exp(-(a * a))
    centre, outside = _erf_centre(a), 1.0 - _erfc_tail(a, gauss)  # both: a choice between values stays vector code
    return (centre if a < ERF_SPLIT else outside), gauss


@inlined
def _tanh(h: float) -> tuple[float, float]:  # tanh|h| = (1 - e) / (1 + e), e = exp(-2 |h|)
    e, e_minus_one = _exp(-_magnitude(2.0 * h))
    share = 1.0 / (1.0 + e)
    t = -e_minus_one * share
    return (-t if h < 0.0 else t), 4.0 * e * share * share


@inlined
def _sigmoid(h: float) -> tuple[float, float]:  # s, s (1 - s)
    e, _ = _exp(-_magnitude(h))
    share = 1.0 / (1.0 + e)
    small = e * share
    return (small if h < 0.0 else share), small * share


@inlined
def _silu(h: float) -> tuple[float, float]:  # h s(h), s + h s (1 - s)
    s, ds = _sigmoid(h)
    a = _magnitude(h)
    held = -a if h < 0.0 else a  # differs from h only where the factor beside it is below 4e-308
    return (held if h < 0.0 else h) * s, s + held * ds


@inlined
def _softplus(h: float) -> tuple[float, float]:  # max(h, 0) + log(1 + exp(-|h|))
    e, _ = _exp(-_magnitude(h))
    share = 1.0 / (1.0 + e)
    small = e * share
    return (h if h > 0.0 else 0.0) + _log1p(e), (small if h < 0.0 else share)


@inlined
def _erf(h: float) -> tuple[float, float]:
    value, gauss = _erf_parts(h)
    return (-value if h < 0.0 else value), TWO_OVER_SQRT_PI * gauss


@inlined
def _gelu(h: float) -> tuple[float, float]:  # h Phi(h), Phi(h) + h exp(-h^2 / 2) / sqrt(2 pi)
    value, gauss = _erf_parts(SQRT_HALF * h)
    half = 0.5 * value
    cdf = 0.5 + (-half if h < 0.0 else half)
    held = 38.0 if h > 38.0 else h
    held = -38.0 if held < -38.0 else held  # exp(-38^2 / 2) and Phi(-38) are below 1e-300
    return (held if h < 0.0 else h) * cdf, cdf + held * ((0.5 * SQRT_HALF * TWO_OVER_SQRT_PI) * gauss)


@inlined
def _relu(h: float) -> tuple[float, float]:  # phi'(0) = 0
    step = 1.0 if h > 0.0 else h  # h is NaN where it survives the next choice
    return (0.0 if h <= 0.0 else h), (0.0 if h <= 0.0 else step)


@inlined
def _identity(h: float) -> tuple[float, float]:
    return h, 1.0


def _kernel(pair: Callable[[float], tuple[float, float]]) -> Callable[[Array, Array, Array], None]:
    """Return the kernel of a scalar function that gives (phi, phi'); numba's cache tells them apart by `pair`."""

    @njit(parallel=True, cache=True, **_FUSED)
    def kernel(h: Array, x: Array, slope: Array) -> None:
        """Write x = phi(h) and slope = phi'(h), (vectors, M) each."""
        particles = h.shape[1]
        for tile in prange((particles + TILE - 1) // TILE):
            start, stop = tile * TILE, min(particles, (tile + 1) * TILE)
            for i in range(h.shape[0]):
                hi, xi, si = h[i, start:stop], x[i, start:stop], slope[i, start:stop]
                for a in range(stop - start):
                    xi[a], si[a] = pair(hi[a])

    return kernel


tanh = _kernel(_tanh)
sigmoid = _kernel(_sigmoid)
erf = _kernel(_erf)
silu = _kernel(_silu)
gelu = _kernel(_gelu)
softplus = _kernel(_softplus)
relu = _kernel(_relu)
identity = _kernel(_identity)
