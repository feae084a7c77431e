"""How fast finite networks approach the limit: estimators of spread, bias and slopes from independent replicas.

A quantity of a network of width n, say f_t(xi_i) over steps and samples, is an array q with entries k. Of it

    spread(n)^2 = mean_k Var q_k,        bias(n)^2 = mean_k (E q_k - limit_k)^2,

which theory expects to fall like n^-1 and n^-2. The entries of one replica are strongly dependent, the replicas are
not: every standard error and every test here rests on replicas alone. A replica is a row, `values` is (R, ...).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit
from scipy.stats import f as fisher

Array = np.ndarray

LEVEL = 0.95  # of the intervals
FALSE = 0.001  # how often `bias` may call resolved what is zero
PER_CONTROL = 16  # replicas for each control variate


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    error: float


class Bias(NamedTuple):
    """A bias, noise removed.

    Attributes
    ----------
    value : sqrt(max(estimate of bias^2, 0)).
    error : its standard error where it is resolved; else the size of a bias whose square is one standard error.
    p : probability of as large a deviation without any bias.
    resolved : p < `FALSE`.
    """

    value: float
    error: float
    p: float
    resolved: bool


class Slope(NamedTuple):
    """An exponent with its interval at level 0.95; NaN where it was not fitted."""

    estimate: float
    low: float
    high: float


NO_SLOPE = Slope(np.nan, np.nan, np.nan)


def spread(values: Array) -> Estimate:
    """Return sqrt(mean_k Var q_k) over replicas, for one replica, and its standard error.

    Source: the delete-one jackknife over replicas, of the logarithm of the mean variance: the entries may be dependent
    and need not be normal. NaN below 3 replicas.
    """
    noise = _deviations(_rows(values))
    square, R = _squares(noise), len(noise)
    if R < 3:
        return Estimate(np.nan, np.nan)
    value = float(np.sqrt(square.sum() / (R - 1) / noise.shape[1]))
    left_out = square.sum() - square * R / (R - 1)  # sums of squares about the mean, without one replica each
    if not left_out.min() > 1e-12 * square.sum():  # all alike, or all but one, up to rounding
        return Estimate(value, np.nan if value > 0.0 else 0.0)
    return Estimate(value, value * _jackknife(np.log(left_out) / 2))


def ratio(first: Estimate, second: Estimate) -> Estimate:
    """Return the ratio of two independent positive estimates, errors to first order; NaN unless both are positive."""
    if not (first.value > 0 and second.value > 0):
        return Estimate(np.nan, np.nan)
    value = first.value / second.value
    return Estimate(value, float(value * np.hypot(first.error / first.value, second.error / second.value)))


def bias(values: Array, reference: Array) -> Bias:
    """Return sqrt(mean_k (E q_k - reference_k)^2), both noises removed, and whether it is there at all.

        bias^2 = mean_k [ (mean_k - ref_k)^2 - se_k^2 - refse_k^2 ]

    is unbiased. The test is that of |mean - ref|^2 over its expectation without bias against F(nu_1, nu_2), where nu_1
    is the number of independent directions of the noise and nu_2 says how well its size is known. Few replicas make
    nu_1 too small and the test careful. It expects means that are nearly normal: of 8 replicas of a skewed law, one
    mean in a hundred is called resolved without a bias.

    Parameters
    ----------
    values : (R, ...) replicas, R >= 3.
    reference : (S, ...) replicas of the limit, S >= 3; or (...), known exactly.

    Source: Box 1954, Ann. Math. Statist. 25, 290, for quadratic forms in normal variables.
    Error: standard error by the delete-one jackknife over the replicas of both, and that of the squared noise in
    addition: else a bias that the noise happens to cancel along its own directions would look exact.
    """
    rows, limit = _rows(values), np.asarray(reference, dtype=float)
    noises = [_deviations(rows)]
    if limit.ndim == np.ndim(values):
        noises.append(_deviations(_rows(limit)))
        limit = limit.mean(axis=0)
    off = rows.mean(axis=0) - limit.reshape(-1)
    scaled = [z / np.sqrt(len(z) * (len(z) - 1)) for z in noises]  # z'z is the covariance of the mean
    noise = sum(float(_squares(z).sum()) for z in scaled)
    square = (float(off @ off) - noise) / off.size
    p = _no_bias(float(off @ off), noise, scaled)
    linear = [_bias_jackknife(sign * off, z) for sign, z in zip((1, -1), noises, strict=False)]
    quadratic = np.sqrt(2 * _trace_square(np.concatenate(scaled)))  # that of |noise|^2 alone
    error = float(np.linalg.norm([*linear, quadratic])) / off.size
    value = float(np.sqrt(max(square, 0.0)))
    return Bias(value, error / (2 * value) if p < FALSE else float(np.sqrt(error)), p, p < FALSE)


def _no_bias(distance: float, noise: float, scaled: list[Array]) -> float:
    """The probability that |mean - ref|^2, of expectation `noise`, is as large as `distance`."""
    if noise == 0.0:
        return float(distance == 0.0)
    both = np.concatenate(scaled)
    known = sum(_trace_square(z) / (len(z) - 1) for z in scaled)
    return float(fisher.sf(distance / noise, noise**2 / _trace_square(both), noise**2 / known))


def _trace_square(z: Array) -> float:
    """tr (z'z)^2 through the smaller of the products."""
    return float(np.sum((z.T @ z if z.shape[1] < len(z) else z @ z.T) ** 2))


def _bias_jackknife(off: Array, z: Array) -> float:
    """Standard error of |mean - ref|^2 - tr C / R from the replicas with deviations z, the other side held fixed."""
    R, square = len(z), _squares(z)
    distance = off @ off - 2 * (z @ off) / (R - 1) + square / (R - 1) ** 2
    trace = (square.sum() - square * R / (R - 1)) / (R - 2)  # tr C without one replica each
    return _jackknife(distance - trace / (R - 1))


def _jackknife(left_out: Array) -> float:
    """Standard error from the R values with one replica left out each."""
    R = len(left_out)
    return float(np.sqrt((R - 1) / R * _squares(left_out - left_out.mean()[None]).sum()))


def error(values: Array, reference: Array) -> Estimate:
    """Return the root mean square over replicas and entries of q - reference, (R, ...) and (...), and its s.e.

    The squared distances of the replicas are independent; the noise of the reference is part of the value.
    """
    off = _rows(values) - np.asarray(reference, dtype=float).reshape(-1)
    square = _squares(off) / off.shape[1]
    value = float(np.sqrt(square.mean()))
    if len(square) < 2 or value == 0.0:
        return Estimate(value, 0.0 if value == 0.0 else np.nan)
    return Estimate(value, float(square.std(ddof=1) / np.sqrt(len(square)) / (2 * value)))


def control_variates(values: Array, controls: Array, expected: Array | float = 0.0) -> Array:
    """Return values (R, ...) less their regression on controls (R, k) of known mean: the same mean, less noise.

    For f_t the first controls to think of are f_0: E f_0 = 0 at every width, and f_0 = 0 in the limit of muP and IP.
    Only the first R / 16 controls are used. Residuals are scaled by sqrt((R - 1) / (R - 1 - k)) for the coefficients
    that come from the same replicas.

    Error: a bias of order sqrt(k / R) standard errors times the part of the noise that is quadratic in the controls.
    """
    flat, z = _rows(values), _rows(controls)
    R, k = len(z), min(z.shape[1], len(z) // PER_CONTROL)
    if k == 0:
        return np.asarray(values, dtype=float)
    z = (z - expected)[:, :k]
    mean, centred = z.mean(axis=0), flat - flat.mean(axis=0)
    slope = np.linalg.lstsq(z - mean, centred, rcond=1e-10)[0]
    left = (centred - (z - mean) @ slope) * np.sqrt((R - 1) / (R - 1 - k))
    return (flat.mean(axis=0) - mean @ slope + left).reshape(np.shape(values))


def fit_slope(widths: Sequence[int] | Array, values: Array, errors: Array) -> Slope:
    """Return the exponent b of values = a n^b by weighted least squares on logarithms, with its 95% interval.

    Values are taken as square roots of unbiased estimates, as those of `spread` and `bias` are: to first order
    E log value = log a n^b - (error / value)^2, which is added back. Half of the interval is 1.96 times the standard
    error that follows from the given ones, or, if that is wider, the one that follows from the scatter of the points
    around the line (Student, points - 2 degrees of freedom): they scatter more where the law is not yet a power law, or
    where errors from few replicas are off. Points whose value or error is not positive and finite are left out; NaN
    with fewer than 3 points.
    """
    n, y, s = (np.asarray(array, dtype=float) for array in (widths, values, errors))
    use = np.isfinite(y) & np.isfinite(s) & (y > 0) & (s > 0)
    if use.sum() < 3:
        return NO_SLOPE
    weight = (y[use] / s[use]) ** 2
    x, y = np.log(n[use]), np.log(y[use]) + 1 / weight
    x = x - np.average(x, weights=weight)
    slope = float(np.sum(weight * x * y) / np.sum(weight * x**2))
    dof, upper = len(x) - 2, (1 + LEVEL) / 2
    chi = float(np.sum(weight * (y - np.average(y, weights=weight) - slope * x) ** 2))
    given = float(1 / np.sqrt(np.sum(weight * x**2)))
    half = given * max(float(ndtri(upper)), float(stdtrit(dof, upper)) * np.sqrt(chi / dof))
    return Slope(slope, slope - half, slope + half)


def width_within(widths: Sequence[int] | Array, error: Array, tolerance: float) -> int | None:
    """Return the smallest of the increasing `widths` from which on `error` <= tolerance; None if there is none."""
    outside = np.flatnonzero(~(np.asarray(error) <= tolerance))
    first = outside[-1] + 1 if outside.size else 0
    return int(widths[first]) if first < len(widths) else None


def distances(sample: Array, reference: Array) -> tuple[float, float]:
    """Return the Wasserstein-1 and the Kolmogorov-Smirnov distance between two samples of real numbers.

    W_1 = int |F - G| dz,    KS = sup |F - G|    for the empirical distribution functions F and G
    """
    a, b = np.sort(np.asarray(sample, dtype=float)), np.sort(np.asarray(reference, dtype=float), kind="stable")
    both = np.concatenate([a, b])
    order = np.argsort(both, kind="stable")  # two runs: merged in linear time, as is b if it comes sorted
    below = np.cumsum(order < a.size)
    gap = np.abs(below / a.size - (np.arange(1, both.size + 1) - below) / b.size)[:-1]
    steps = np.diff(both[order])
    return float(gap @ steps), float(gap[steps > 0].max(initial=0.0))


def distance_floor(reference: Array, size: int) -> tuple[float, float]:
    """Return the mean distances between `size` independent draws from a continuous law and the law itself.

        E W_1 = sqrt(2 / (pi n)) int sqrt(F (1 - F)) dz,    E KS = 0.8687 / (sqrt n + 0.12 + 0.11 / sqrt n)

    What a network of that width would show if its entries were independent draws from the limit, F that of `reference`.

    Source: del Barrio, Gine & Matran 1999, Ann. Probab. 27, 1009; Stephens 1970, J. R. Stat. Soc. B 32, 115.
    Error: 5% at n = 16, for both; the noise of the reference.
    """
    z = np.sort(np.asarray(reference, dtype=float), kind="stable")
    F = np.arange(1, z.size) / z.size
    root = np.sqrt(size)
    return float(np.sqrt(2 / np.pi) / root * (np.sqrt(F * (1 - F)) @ np.diff(z))), 0.8687 / (root + 0.12 + 0.11 / root)


def _rows(values: Array) -> Array:
    array = np.asarray(values, dtype=float)
    return array.reshape(len(array), -1)


def _deviations(rows: Array) -> Array:
    return rows - rows.mean(axis=0)


def _squares(z: Array) -> Array:
    """|z_r|^2 of every row."""
    rows = z.reshape(len(z), -1)
    return np.einsum("rk,rk->r", rows, rows)


__all__ = [
    "Bias", "Estimate", "Slope", "bias", "control_variates", "distance_floor", "distances", "error", "fit_slope",
    "ratio", "spread", "width_within",
]  # fmt: skip
