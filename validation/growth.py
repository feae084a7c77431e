"""How a time grows with the width n: not at all, like log n, or like a power; from times of single networks.

    t = a + b log n,        t = a + b (n^p - 1) / p     (Box & Cox 1964; p = 0 is the logarithm, p < 0 is bounded)

Noise: a network's own time constant is a mean over n neurons, so that its time varies by a relative kappa n^-1/2. One
kappa is pooled over all widths, since a width with two seeds says little of its own spread.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import f as fisher
from scipy.stats import t as student

Array = np.ndarray
Times = dict[int, Array]  # n -> (seeds,)

LEVEL = 0.95
POWERS = np.linspace(-2.0, 2.0, 401)
RESOLVED = 0.25  # |p| below this is called a logarithm: half of the exponent of a square root
BOUNDED = 0.25  # growth over all widths, relative to the mean time, whose upper limit passes for none
MISFIT = 1e-3  # significance at which the whole family is given up


@dataclass(frozen=True)
class Growth:
    """Estimates with intervals at level 0.95.

    Attributes
    ----------
    intercept, slope, error, low, high : a, b, the standard error and the interval of b.
    power, power_low, power_high : p; -2 or 2 where the interval has no end.
    kappa, freedom : sqrt(n) times the relative spread over seeds, and its degrees of freedom.
    misfit : probability of a worse fit of the best p.
    verdict : "bounded", "logarithm", "power" or "not resolved".
    """

    intercept: float
    slope: float
    error: float
    low: float
    high: float
    power: float
    power_low: float
    power_high: float
    kappa: float
    freedom: int
    misfit: float
    verdict: str

    def at(self, width: Array | float) -> Array:
        """a + b log n."""
        return self.intercept + self.slope * np.log(width)


NAN = float("nan")
UNKNOWN = Growth(NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, 0, NAN, "not resolved")


def estimate(times: Times) -> Growth:
    """Fit both laws by weighted least squares; at least three widths, some of them with several seeds.

    A time that is not finite (a network that was never seen to arrive) makes the verdict "not resolved", all else NaN.
    """
    if not all(np.isfinite(t).all() for t in times.values()):
        return UNKNOWN
    widths = np.array(sorted(times), dtype=float)
    seeds = np.array([len(times[int(n)]) for n in widths])
    means = np.array([times[int(n)].mean() for n in widths])
    kappa, freedom = spread(times)
    sigma = kappa * means / np.sqrt(widths * seeds)
    critical = float(student.ppf((1 + LEVEL) / 2, freedom))

    intercept, slope, error, _ = (float(v) for v in _fit(np.log(widths), means, sigma))
    low, high = slope - critical * error, slope + critical * error
    squares = _fit(np.array([_scale(widths, p) for p in POWERS]), means, sigma)[3]
    inside = POWERS[squares <= squares.min() + critical**2]
    misfit = float(fisher.sf(squares.min() / (len(widths) - 3), len(widths) - 3, freedom)) if len(widths) > 3 else 1.0
    power = float(POWERS[squares.argmin()])

    reach = high * np.log(widths[-1] / widths[0]) / means.mean()
    verdict = _verdict(low, reach, inside[0], inside[-1]) if misfit > MISFIT else "not resolved"
    return Growth(
        intercept, slope, error, low, high, power, float(inside[0]), float(inside[-1]),
        kappa, freedom, misfit, verdict,
    )  # fmt: skip


def _verdict(low: float, reach: float, power_low: float, power_high: float) -> str:
    """`low` bounds the slope of the logarithm from below, `reach` the growth over all widths from above."""
    if reach < BOUNDED or (low > 0 and power_high < 0):
        return "bounded"
    if low > 0 and power_low > 0:
        return "power"
    if low > 0 and -RESOLVED < power_low <= 0 <= power_high < RESOLVED:
        return "logarithm"
    return "not resolved"


def spread(times: Times) -> tuple[float, int]:
    """kappa, pooled over the widths, and its degrees of freedom."""
    square = sum(n * float(((t / t.mean() - 1) ** 2).sum()) for n, t in times.items())
    freedom = sum(len(t) - 1 for t in times.values())
    return float(np.sqrt(square / freedom)), freedom


def _scale(widths: Array, power: float) -> Array:
    """(n^p - 1) / p."""
    return np.log(widths) if power == 0 else np.expm1(power * np.log(widths)) / power


def _fit(x: Array, y: Array, sigma: Array) -> tuple[Array, Array, Array, Array]:
    """Least squares of y = a + b x for every row of x: a, b, the error of b, the weighted sum of squared residuals."""
    weights = sigma**-2 / np.sum(sigma**-2)
    x_mean, y_mean = x @ weights, y @ weights
    dx, dy = x - x_mean[..., None], y - y_mean
    size = (dx**2 / sigma**2).sum(axis=-1)
    slope = (dx * dy / sigma**2).sum(axis=-1) / size
    squares = ((dy - slope[..., None] * dx) ** 2 / sigma**2).sum(axis=-1)
    return y_mean - slope * x_mean, slope, size**-0.5, squares
