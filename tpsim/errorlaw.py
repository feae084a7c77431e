"""The error of f at M particles and R replicas, estimated from runs at several M: the formulas of `tpsim.accuracy`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Array = np.ndarray

USUAL, USUAL_ERROR = {True: 0.65, False: 0.5}, 0.2  # exponent a of s ~ M^-a, with and without Sobol points
CHAOTIC, REGULAR = 0.25, 0.5  # a spread that falls more slowly than the first is not on the way to the second
TINY = 1e-200  # the variance that stands for none, so that its inverse exists


class Size(NamedTuple):
    """Particles M and replicas R."""

    particles: int
    replicas: int


@dataclass(frozen=True)
class Errors:
    """The terms of (1), root mean squares over entries."""

    standard_error: float
    bias: float
    truncation: float

    @property
    def total(self) -> float:
        return math.hypot(self.standard_error, self.bias, self.truncation)  # (1)

    def __str__(self) -> str:
        terms = {"standard error": self.standard_error, "bias": self.bias, "truncation": self.truncation}
        each = (f"{name} {value:.1e}" if math.isfinite(value) else f"{name} not known" for name, value in terms.items())
        return f"error of f {self.total:.2g} ({', '.join(each)})"


class Law:
    """Spread and bias of one output as functions of M.

    Parameters
    ----------
    samples : by M, ascending, (R, entries): the output of every replica.
    sobol : whether the runs used Sobol points.
    truncation : the last term of (1).

    Attributes
    ----------
    exponent : a of s ~ M^-a, drawn towards what is usual.
    falls : whether the spread falls as M grows: False where the measured exponent is below 1/4, and below 1/2 by more
        than three standard errors, from three M at least.
    sure : whether it is seen to fall: an exponent two standard errors above 0.
    square, noise : |b|^2 of (2), and what it would be on average for b = 0; mean squares over entries, infinite where
        there is a single M.

    Error: the noise takes stages as independent. They share some random numbers, which makes it too large.
    """

    def __init__(self, samples: dict[int, Array], sobol: bool, truncation: float) -> None:
        self.truncation = truncation
        self.sizes = [Size(M, len(x)) for M, x in samples.items()]
        self.variance = np.array([max(float(x.var(axis=0, ddof=1).mean()), TINY) for x in samples.values()])
        self._fit_spread(USUAL[sobol])
        weights, self.noise = _slope(self.sizes, self.variance)
        b = np.tensordot(weights, [x.mean(axis=0) for x in samples.values()], 1)
        self.square = float(np.mean(b**2)) if len(self.sizes) > 1 else math.inf

    def _fit_spread(self, usual: float) -> None:
        """Fit log s = const - a log M; log s from R replicas is known to +- 1 / sqrt(2 (R - 1)), if not better."""
        known = np.array([2.0 * (R - 1) for _, R in self.sizes])
        x, y = np.log([float(M) for M, _ in self.sizes]), np.log(self.variance) / 2
        self._x, self._y = float(np.average(x, weights=known)), float(np.average(y, weights=known))
        lever = float(known @ (x - self._x) ** 2)
        moment = -float(known @ ((x - self._x) * (y - self._y)))
        self.exponent = (moment + usual / USUAL_ERROR**2) / (lever + 1 / USUAL_ERROR**2)
        self.falls = len(x) < 3 or moment / lever > min(CHAOTIC, REGULAR - 3 / math.sqrt(lever))
        self.sure = len(x) > 1 and moment / lever > 2 / math.sqrt(lever)

    @property
    def bias_resolved(self) -> bool:
        """Whether |b| is above two standard errors."""
        return len(self.sizes) > 1 and self.square > 4 * self.noise

    def errors(self, k: int = -1) -> Errors:
        """The errors of a run that was made; an unresolved bias counts as the noise that hides it."""
        M, R = self.sizes[k]
        return Errors(math.sqrt(self.variance[k] / R), math.sqrt(max(self.square, self.noise)) / M, self.truncation)

    def predict(self, size: Size) -> float:
        """The error that a run of this size will have, in the place of the one that its M has now."""
        M, R = size
        kept = [k for k, known in enumerate(self.sizes) if known.particles != M]
        same = [k for k, known in enumerate(self.sizes) if known.particles == M]
        law = math.exp(2 * (self._y - self.exponent * (math.log(M) - self._x)))
        variance = self.variance[same[0]] if same else law
        _, noise = _slope([*(self.sizes[k] for k in kept), size], np.array([*self.variance[kept], variance]))
        square = max(self.square - self.noise, 0.0) if len(self.sizes) > 1 else 0.0
        return Errors(math.sqrt(variance / R), math.sqrt(square + noise) / M, self.truncation).total


def _slope(sizes: Sequence[Size], variance: Array) -> tuple[Array, float]:
    """Weights of the means in the least-squares b of f + b / M, and the variance of b: (2)."""
    if len(sizes) < 2:
        return np.zeros(len(sizes)), math.inf
    x, w = np.array([1.0 / M for M, _ in sizes]), np.array([R for _, R in sizes]) / variance
    centred = x - (w @ x) / w.sum()
    lever = float(w @ centred**2)
    return w * centred / lever, 1 / lever


def truncation_error(coarse: Array, fine: Array, ratio: float) -> float:
    """(3) at the finer tolerance, from the same replicas (R, entries) at two tolerances, `ratio` apart.

    f_eps = f + c eps^2, so the difference is (ratio^2 - 1) times the error; its noise counts where that is larger.
    """
    difference = coarse - fine
    noise = float(difference.var(axis=0, ddof=1).mean()) / len(difference)
    return math.sqrt(max(float(np.mean(difference.mean(axis=0) ** 2)), noise)) / (ratio**2 - 1)
