"""A claim: what was measured, what it was compared with, and whether that settles it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

Array = np.ndarray

LEVEL = 0.999  # of each one-sided bound
REPLICAS = 8  # fewer say too little of their own spread


class Verdict(StrEnum):
    """What a measurement says of a claim."""

    PASS = "PASS"
    FAIL = "FAIL"
    NOT_RESOLVED = "NOT RESOLVED"


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, measured.

    Attributes
    ----------
    name, statement : "Theorem 4.5", and what was measured, one line each.
    estimate, reference, error : the number that decides, what it is compared with, and its standard error from
        independent replicas; NaN where the claim has none.
    verdict : Verdict
    resolved, of : how many of how many comparisons were resolved.
    notes : what a reader has to know beside it, one sentence each.
    hypothesis : an assumption of the theorems and none of their claims: where it fails, nothing is refuted.
    """

    name: str
    statement: str
    estimate: float
    reference: float
    error: float
    verdict: Verdict
    resolved: int
    of: int
    notes: tuple[str, ...] = ()
    hypothesis: bool = False

    @property
    def refuted(self) -> bool:
        """Whether this is a failure, and not merely that of a hypothesis."""
        return self.verdict is Verdict.FAIL and not self.hypothesis


class Bounds(NamedTuple):
    """Mean over replicas, its standard error, and one-sided bounds at `LEVEL` each."""

    mean: float
    error: float
    low: float
    high: float


def bounds(values: Array) -> Bounds:
    """Student bounds on the mean of R independent values (R,); infinitely wide below 2."""
    return _bounds(float(np.mean(values)), _error(values), len(values) - 1)


def extrapolated(small: Array, large: Array) -> Bounds:
    """The same for the limit M -> infinity of a mean with a bias b/M: 2 large - small, (R,) at M and (S,) at 2M.

    Degrees of freedom: those of the smaller sample, which is fewer than Welch's and so careful.
    """
    error = float(np.hypot(2 * _error(large), _error(small)))
    return _bounds(2 * float(np.mean(large)) - float(np.mean(small)), error, min(len(small), len(large)) - 1)


def _bounds(mean: float, error: float, freedom: int) -> Bounds:
    reach = float(stdtrit(freedom, LEVEL)) * error if freedom > 0 else np.inf
    return Bounds(mean, error, mean - reach, mean + reach)


def _error(values: Array) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """FAIL if there is one, then NOT RESOLVED, then PASS; NOT RESOLVED where there is nothing."""
    order = (Verdict.FAIL, Verdict.NOT_RESOLVED, Verdict.PASS)
    return min(verdicts, key=order.index, default=Verdict.NOT_RESOLVED)
