"""Estimators of f_t made of runs at one or more sizes: their spread, their bias with its uncertainty, and their price.

An estimator is a sum of means, sum_n w_n mean_n, over sizes n (particles or width): one size with w = 1, or
Richardson's 2 f(2n) - f(n) and (8 f(4n) - 6 f(2n) + f(n)) / 3. Its error is
sqrt(bias^2 + sum_n w_n^2 spread_n^2 / R_n). The bias is that of the law E f_n - f = sum_k a_k / n^k, fitted to all
sizes together, of the lowest order that no size contradicts; sizes below those that any order fits are left to direct
measurement. Biases and spreads are root mean squares over t > 0 and samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from validation.particle_bias import LEVEL, Interval, size_interval

Array = np.ndarray
Weights = dict[int, float]

ORDERS = (1, 2, 3)


@dataclass(frozen=True)
class Moments:
    """Mean (entries,) and covariance (entries, entries) of one run, from so many runs."""

    mean: Array
    covariance: Array
    runs: int

    @classmethod
    def of(cls, x: Array) -> Moments:
        """Those of runs x (R, entries)."""
        centred = x - x.mean(axis=0)
        return cls(x.mean(axis=0), centred.T @ centred / (len(x) - 1), len(x))

    @property
    def spread(self) -> float:
        """Standard deviation of one run."""
        return float(np.sqrt(np.trace(self.covariance) / len(self.mean)))


@dataclass(frozen=True)
class Part:
    """One size of an estimator: its weight, the spread of one run, and processor seconds of one run."""

    weight: float
    spread: float
    seconds: float


def combinations(sizes: Sequence[int], most: int = 3) -> list[Weights]:
    """Every size alone, and all pairs n, 2n and triples n, 2n, 4n among them, of at most `most` sizes."""
    kinds = ({1: 1.0}, {1: -1.0, 2: 2.0}, {1: 1 / 3, 2: -2.0, 4: 8 / 3})[:most]
    every = [{factor * n: w for factor, w in kind.items()} for kind in kinds for n in sizes]
    return [weights for weights in every if set(weights) <= set(sizes)]


def with_control(samples: dict[int, Array], controls: dict[int, Array]) -> dict[int, Array]:
    """f less its regression on f_0 of all training samples, whose mean is 0 at every width.

    The coefficients for one size come from the runs of all others, f_0 times sqrt(n): the mean stays what it was.
    """
    scaled = {n: (math.sqrt(n) * controls[n], math.sqrt(n) * (x - x.mean(axis=0))) for n, x in samples.items()}
    squares = {n: f_0.T @ f_0 for n, (f_0, _) in scaled.items()}
    products = {n: f_0.T @ f for n, (f_0, f) in scaled.items()}
    found = {}
    for n, x in samples.items():
        square, product = (sum(v for other, v in every.items() if other != n) for every in (squares, products))
        found[n] = x - controls[n] @ np.linalg.lstsq(square, product, rcond=None)[0]
    return found


def interval(
    moments: dict[int, Moments], weights: Weights, truth: tuple[float, Moments] | None = None, level: float = LEVEL
) -> Interval:
    """Estimate and interval of the size of sum_n w_n mean_n, plus a weight times the truth; low = 0: not resolved."""
    terms = [(w, moments[n]) for n, w in weights.items()] + ([truth] if truth else [])
    estimate = sum(w * m.mean for w, m in terms)
    covariance = sum(w**2 / m.runs * m.covariance for w, m in terms)
    traces = [(w**2 / m.runs * float(np.trace(m.covariance)), m.runs) for w, m in terms if w]
    return size_interval(estimate, traces, float((covariance**2).sum()), level)


@dataclass(frozen=True)
class Law:
    """E f_n - truth = sum_{k <= order} a_k (1/n^k - 1/N^k) over some sizes.

    Parameters
    ----------
    moments : of all sizes.
    truth : of the truth's runs, whose size N is `origin` where they are of the same kind.
    first : the law holds for sizes n >= first.
    """

    moments: dict[int, Moments]
    truth: Moments
    origin: float
    order: int
    first: int

    @property
    def sizes(self) -> list[int]:
        return sorted(n for n in self.moments if n >= self.first)

    def coefficients(self, order: int) -> Array:
        """Least-squares weights (order, sizes) of the means less the truth in a_1 .. a_order."""
        design = np.array([_powers(n, order, self.origin) for n in self.sizes])
        noise = np.array([self.moments[n].spread / math.sqrt(self.moments[n].runs) for n in self.sizes])
        scale = np.abs(design).max(axis=0)
        return np.linalg.pinv(design / scale / noise[:, None]) / noise / scale[:, None]

    def size(self, weights: Weights, level: float = LEVEL) -> Interval:
        """Of a sum of means less as much of the truth."""
        return interval(self.moments, weights, (-sum(weights.values()), self.truth), level)

    def contradicted(self) -> bool:
        """Whether the mean of a size is off the law, at 95% for all of them together."""
        fit = self.coefficients(self.order)
        level = 1.0 - (1.0 - LEVEL) / len(self.sizes)
        for n in self.sizes:
            rest = dict(zip(self.sizes, (-_powers(n, self.order, self.origin) @ fit).tolist(), strict=True))
            rest[n] += 1.0
            if self.size(rest, level)[1] > 0.0:
                return True
        return False

    def bias(self, weights: Weights) -> Interval:
        """Of an estimator: by the law, of an order not below the number of its sizes, or directly."""
        order = max(self.order, len(weights))
        if min(weights) < self.first or order >= len(self.sizes):
            return self.size(weights)
        powers = sum(w * _powers(n, order, math.inf) for n, w in weights.items())
        return self.size(dict(zip(self.sizes, (powers @ self.coefficients(order)).tolist(), strict=True)))


def _powers(n: float, order: int, origin: float) -> Array:
    return np.array([float(n) ** -k - origin**-k for k in range(1, order + 1)])


def fit(moments: dict[int, Moments], truth: Moments, origin: float = math.inf) -> Law:
    """The law of the most sizes, and then of the lowest order, that is not contradicted."""
    sizes = sorted(moments)
    for first in sizes:
        for order in ORDERS:
            law = Law(moments, truth, origin, order, first)
            if order < len(law.sizes) and not law.contradicted():
                return law
    return Law(moments, truth, origin, 1, sizes[-1])  # nothing fits: every bias is measured directly


def limit(law: Law) -> Weights:
    """Weights of the means in the value at infinite size, fitted by the same powers without the truth."""
    design = np.array([np.r_[1.0, _powers(n, law.order, math.inf)] for n in law.sizes])
    noise = np.array([law.moments[n].spread / math.sqrt(law.moments[n].runs) for n in law.sizes])
    scale = np.abs(design).max(axis=0)
    weights = np.linalg.pinv(design / scale / noise[:, None])[0] / noise / scale[0]
    return dict(zip(law.sizes, weights.tolist(), strict=True))


def price(parts: Sequence[Part], bias: float, error: float) -> tuple[float, list[int]] | None:
    """Least processor seconds for this error, and the runs of every size: whole numbers, at least 1.

    The best real numbers are R_n ~ |w_n| spread_n / sqrt(seconds_n); they are rounded up. None: the bias is too large.
    """
    if bias >= error:
        return None
    allowed = error**2 - bias**2
    total = sum(abs(part.weight) * part.spread * math.sqrt(part.seconds) for part in parts)
    real = [abs(part.weight) * part.spread / math.sqrt(part.seconds) * total / allowed for part in parts]
    runs = [max(1, math.ceil(count - 1e-9)) for count in real]
    return sum(count * part.seconds for count, part in zip(runs, parts, strict=True)), runs


def used(bias: Interval, favourable: bool = False) -> float:
    """The bias that counts: the estimate where it is resolved, else its upper limit; the lower limit if favourable."""
    estimate, low, high = bias
    return low if favourable else (estimate if low > 0 else high)
