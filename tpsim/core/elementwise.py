"""The activations and their derivatives, both in one pass: numba leaves, arrays in, arrays out.

A kernel `name(h, x, slope)` writes x = phi(h) and slope = phi'(h) for C-contiguous float64 arrays of one shape. The
scalar functions have no branch and call nothing, so LLVM turns them into vector code of any width; without fused or
reassociated operations the result does not depend on that width, on the tile or on the number of threads.

Error: at most 1e-15 max(1, |phi|) and 1e-15 max(1, |phi'|) for every float64 h; no overflow, NaN gives NaN. phi keeps
its relative accuracy near a zero of phi: phi(0) = 0 exactly for the odd ones.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from .tiles import TILE

Array = np.ndarray

# exp(y) = 2^n exp(r), n = round(y / log 2), |r| <= log(2)/2. Adding 1.5 2^52 rounds to an integer and leaves n in the
# low bits; log 2 is split so that n times its first part is exact (Cody & Waite).
LOG2E = 1.4426950408889634
ROUND = 6755399441055744.0
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
LOWEST = 708.0  # exp(-708) = 3.3e-308, the last normal number: below it exp is held there, an error of 3.3e-308
SQRT_HALF = math.sqrt(0.5)
TWO_OVER_SQRT_PI = 2.0 / math.sqrt(math.pi)


@njit
def _magnitude(h):  # |h|, held at LOWEST; NaN stays NaN
    a = abs(h)
    return LOWEST if a > LOWEST else a


@njit
def _exp(y):
    """exp(y) and exp(y) - 1 for -708 <= y <= 0, each to 2e-16 relative."""
    t = y * LOG2E + ROUND
    n = t - ROUND
    r = (y - n * LN2_HIGH) - n * LN2_LOW
    bits = np.float64(t).view(np.int64)
    power = np.int64((bits << 52) + (1023 << 52)).view(np.float64)
    p = 1.0 / 6227020800.0  # Taylor, sum_{k=2}^{13} r^k / k!: remainder below 5e-18
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = r + (r * r) * p
    minus_one = power * p + (power - 1.0)
    return power * p + power, minus_one


@njit
def _log1p(e):
    """log(1 + e) for 0 <= e <= 1: 2 artanh(s), s = e / (2 + e) <= 1/3.

    Coefficients: interpolation of 2 artanh(sqrt(z)) / sqrt(z) at the 11 Chebyshev nodes of 0 <= z = s^2 <= 1/9, in
    powers of v = 18 z - 1; error 2e-18.
    """
    s = e / (2.0 + e)
    v = 18.0 * (s * s) - 1.0
    p = 4.7736507523966946e-14
    p = p * v + 8.970331682448942e-13
    p = p * v + 1.691445880838224e-11
    p = p * v + 3.2599912325477556e-10
    p = p * v + 6.3975633975214875e-09
    p = p * v + 1.2860729238217998e-07
    p = p * v + 2.6742881227547037e-06
    p = p * v + 5.851928814011422e-05
    p = p * v + 0.0013952765489187672
    p = p * v + 0.03966212261758931
    p = p * v + 2.038322813588351
    return s * p


ERF_SPLIT = 0.8


@njit
def _erf_centre(h):
    """erf(h) for |h| <= 0.8: h times a polynomial in h^2.

    Coefficients: interpolation of erf(sqrt(z)) / sqrt(z) at the 11 Chebyshev nodes of 0 <= z <= 0.64, in powers of
    v = 2 z / 0.64 - 1; error 3e-18.
    """
    v = 3.125 * (h * h) - 1.0
    p = 1.2473865274999765e-13
    p = p * v - 4.321478745478939e-12
    p = p * v + 1.360008969960609e-10
    p = p * v - 3.869051962206556e-09
    p = p * v + 9.81617015869592e-08
    p = p * v - 2.1899296976828704e-06
    p = p * v + 4.2209793779279816e-05
    p = p * v - 0.0006875055626695648
    p = p * v + 0.00921537027856223
    p = p * v - 0.0996867812397278
    p = p * v + 1.0187450081198755
    return h * p


@njit
def _erfc_tail(a, gauss):
    """erfc(a) for a >= 0.8, given gauss = exp(-a^2): gauss / (a + 5/2) times a polynomial in t = 1 / (a + 5/2).

    Coefficients: interpolation of erfc(a) exp(a^2) (a + 5/2) at the 16 Chebyshev nodes, in t, of 0.8 <= a <= 6, in
    powers of v in [-1, 1]; error 1e-17. Past 6 (erfc = 2e-17) v goes down to -2.27 and gauss kills the polynomial.
    """
    t = 1.0 / (a + 2.5)
    v = 10.788461538461538 * t - 2.269230769230769
    p = 1.529985768184446e-11
    p = p * v - 2.2555340392702263e-11
    p = p * v - 3.5562350375331697e-10
    p = p * v + 1.3089566542793258e-09
    p = p * v + 6.2143854246408194e-09
    p = p * v - 4.5067761172768923e-08
    p = p * v - 1.1159850845730591e-07
    p = p * v + 1.410235565754952e-06
    p = p * v + 3.3177181394868896e-06
    p = p * v - 4.5665353829146196e-05
    p = p * v - 0.00021077764838300296
    p = p * v + 0.0011996128065084283
    p = p * v + 0.017607817080742685
    p = p * v + 0.10329724934346392
    p = p * v + 0.39531530763979883
    p = p * v + 1.0968638221200782
    return gauss * t * p


GAUSS_END = 26.6  # exp(-26.6^2) = 5e-308


@njit
def _erf_parts(h):
    """erf(h), erfc(|h|) and exp(-h^2)."""
    a = abs(h)
    a = GAUSS_END if a > GAUSS_END else a
    gauss, _ = _exp(-(a * a))
    centre = _erf_centre(a)
    tail = _erfc_tail(a, gauss)
    inside = a < ERF_SPLIT
    upper = 1.0 - centre if inside else tail
    lower = centre if inside else 1.0 - tail
    return (-lower if h < 0.0 else lower), upper, gauss


@njit
def _tanh(h):  # tanh|h| = (1 - e) / (1 + e), e = exp(-2 |h|)
    e, e_minus_one = _exp(-_magnitude(2.0 * h))
    share = 1.0 / (1.0 + e)
    t = -e_minus_one * share
    return (-t if h < 0.0 else t), 4.0 * e * share * share


@njit
def _sigmoid(h):
    e, _ = _exp(-_magnitude(h))
    share = 1.0 / (1.0 + e)
    return (e * share if h < 0.0 else share), e * share * share


@njit
def _silu(h):  # h s(h), s + h s (1 - s)
    a = _magnitude(h)
    e, _ = _exp(-a)
    share = 1.0 / (1.0 + e)
    s = e * share if h < 0.0 else share
    held = -a if h < 0.0 else a  # only where s (1 - s) or s is below 4e-308
    return (held if h < 0.0 else h) * s, s + held * (e * share * share)


@njit
def _softplus(h):  # max(h, 0) + log(1 + exp(-|h|))
    e, _ = _exp(-_magnitude(h))
    share = 1.0 / (1.0 + e)
    return (h if h > 0.0 else 0.0) + _log1p(e), (e * share if h < 0.0 else share)


@njit
def _erf(h):
    value, _, gauss = _erf_parts(h)
    return value, TWO_OVER_SQRT_PI * gauss


@njit
def _gelu(h):  # h Phi(h), Phi(h) + h exp(-h^2 / 2) / sqrt(2 pi)
    _, upper, gauss = _erf_parts(SQRT_HALF * h)
    cdf = 0.5 * upper if h < 0.0 else 1.0 - 0.5 * upper
    held = 38.0 if h > 38.0 else (-38.0 if h < -38.0 else h)  # exp(-38^2 / 2) is below 1e-300
    return (held if h < 0.0 else h) * cdf, cdf + held * (gauss * (0.5 * SQRT_HALF * TWO_OVER_SQRT_PI))


@njit
def _relu(h):  # phi'(0) = 0
    return (0.0 if h < 0.0 else h), (1.0 if h > 0.0 else (h if h != h else 0.0))


@njit
def _identity(h):
    return h, 1.0


@njit(parallel=True, cache=True, error_model="numpy")
def tanh(h: Array, x: Array, slope: Array) -> None:
    h, x, slope = h.reshape(-1), x.reshape(-1), slope.reshape(-1)
    for tile in prange((h.size + TILE - 1) // TILE):
        for a in range(tile * TILE, min(h.size, (tile + 1) * TILE)):
            x[a], slope[a] = _tanh(h[a])


@njit(parallel=True, cache=True, error_model="numpy")
def sigmoid(h: Array, x: Array, slope: Array) -> None:
    h, x, slope = h.reshape(-1), x.reshape(-1), slope.reshape(-1)
    for tile in prange((h.size + TILE - 1) // TILE):
        for a in range(tile * TILE, min(h.size, (tile + 1) * TILE)):
            x[a], slope[a] = _sigmoid(h[a])


@njit(parallel=True, cache=True, error_model="numpy")
def erf(h: Array, x: Array, slope: Array) -> None:
    h, x, slope = h.reshape(-1), x.reshape(-1), slope.reshape(-1)
    for tile in prange((h.size + TILE - 1) // TILE):
        for a in range(tile * TILE, min(h.size, (tile + 1) * TILE)):
            x[a], slope[a] = _erf(h[a])


@njit(parallel=True, cache=True, error_model="numpy")
def silu(h: Array, x: Array, slope: Array) -> None:
    h, x, slope = h.reshape(-1), x.reshape(-1), slope.reshape(-1)
    for tile in prange((h.size + TILE - 1) // TILE):
        for a in range(tile * TILE, min(h.size, (tile + 1) * TILE)):
            x[a], slope[a] = _silu(h[a])


@njit(parallel=True, cache=True, error_model="numpy")
def gelu(h: Array, x: Array, slope: Array) -> None:
    h, x, slope = h.reshape(-1), x.reshape(-1), slope.reshape(-1)
    for tile in prange((h.size + TILE - 1) // TILE):
        for a in range(tile * TILE, min(h.size, (tile + 1) * TILE)):
            x[a], slope[a] = _gelu(h[a])


@njit(parallel=True, cache=True, error_model="numpy")
def softplus(h: Array, x: Array, slope: Array) -> None:
    h, x, slope = h.reshape(-1), x.reshape(-1), slope.reshape(-1)
    for tile in prange((h.size + TILE - 1) // TILE):
        for a in range(tile * TILE, min(h.size, (tile + 1) * TILE)):
            x[a], slope[a] = _softplus(h[a])


@njit(parallel=True, cache=True, error_model="numpy")
def relu(h: Array, x: Array, slope: Array) -> None:
    h, x, slope = h.reshape(-1), x.reshape(-1), slope.reshape(-1)
    for tile in prange((h.size + TILE - 1) // TILE):
        for a in range(tile * TILE, min(h.size, (tile + 1) * TILE)):
            x[a], slope[a] = _relu(h[a])


@njit(parallel=True, cache=True, error_model="numpy")
def identity(h: Array, x: Array, slope: Array) -> None:
    h, x, slope = h.reshape(-1), x.reshape(-1), slope.reshape(-1)
    for tile in prange((h.size + TILE - 1) // TILE):
        for a in range(tile * TILE, min(h.size, (tile + 1) * TILE)):
            x[a], slope[a] = _identity(h[a])
