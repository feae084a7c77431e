"""Assumption 4.1 of Chen et al. 2025 on a given dataset, as printed and as the proof of Theorem 4.5 needs it.

Step 1 of the proof conditions on everything but one Gaussian Z^U and is left, for a sample k with chi_k != 0, with

    sum_i lambda_i phi(<xi_k, xi_i> Z^U + c_i) = C                                  (Chen et al. 2025, App. C)

GOOD (Definition 4.2) makes every lambda_i vanish only if the m numbers |<xi_k, xi_i>|, i = 1..m, are distinct and not
zero: i = k included. The printed assumption compares three *different* points and so leaves i = k out; with xi and
-xi it can hold while the theorem fails. Any k may be the one with chi_k != 0, so every row of |Gram| is checked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .errors import InputError

Array = np.ndarray

MAX_EXAMPLES = 20
MAX_DENOMINATOR = 256  # inputs = c * integers is tried with c = smallest |value| / 1, 2, .., 256 (8-bit pixels)
BLOCK = 256  # rows of the Gram matrix held at a time
UNIT, UNIT32 = 2.0**-53, 2.0**-24  # unit roundoff of float64 and float32


class Violation(NamedTuple):
    """|<x_i, x_j>| = |<x_i, x_k>| (j < k; one of them may be i), or <x_i, x_j> = 0 where k is None; counted from 0."""

    i: int
    j: int
    k: int | None

    def __str__(self) -> str:
        if self.k is None:
            return f"<x[{self.i}],x[{self.j}]> = 0"
        return f"|<x[{self.i}],x[{self.j}]>| = |<x[{self.i}],x[{self.k}]>|"


@dataclass(frozen=True)
class AssumptionReport:
    """What `check_assumption` found.

    Attributes
    ----------
    samples, dimension : m and d.
    printed_violations : int
        Triples of different points with |<x_i,x_j>| = |<x_i,x_k>|, plus pairs i < j with <x_i,x_j> = 0.
    needed_violations : int
        The same with j = i or k = i allowed, plus zero inputs: what the proof of Theorem 4.5 needs to be none.
    smallest_gap : float
        Over rows i, the smallest distance between any two of 0, |<x_i,x_1>|, .., |<x_i,x_m>|, relative to
        |x_i| max_j |x_j|.
    printed_examples, needed_examples : tuple of Violation, at most 20 each.
    arithmetic : str
        "exact integers ..." or "float64, rounding bound ...": in the second case a violation is a difference that
        rounding could explain.
    """

    samples: int
    dimension: int
    printed_violations: int
    needed_violations: int
    smallest_gap: float
    printed_examples: tuple[Violation, ...]
    needed_examples: tuple[Violation, ...]
    arithmetic: str

    @property
    def holds_printed(self) -> bool:
        """Whether Assumption 4.1 holds as printed."""
        return self.printed_violations == 0

    @property
    def holds_needed(self) -> bool:
        """Whether it holds in the form that the proof of Theorem 4.5 needs."""
        return self.needed_violations == 0

    def __str__(self) -> str:
        return "\n".join(
            [
                f"Assumption 4.1 on {self.samples} inputs of dimension {self.dimension} ({self.arithmetic})",
                f"  as printed: {_verdict(self.printed_violations, self.printed_examples)}",
                f"  as the proof needs it: {_verdict(self.needed_violations, self.needed_examples)}",
                f"  smallest relative gap: {self.smallest_gap:.2g}",
            ]
        )


def _verdict(count: int, examples: tuple[Violation, ...], shown: int = 3) -> str:
    if count == 0:
        return "holds"
    named = ", ".join(str(example) for example in examples[:shown])
    return f"{count} violation{'s' if count > 1 else ''}: {named}{', ...' if count > shown else ''}"


def check_assumption(inputs: Any) -> AssumptionReport:
    """Check Assumption 4.1 over all triples of a dataset, as printed and as the proof needs it.

    Parameters
    ----------
    inputs : (m, d) array.

    Returns
    -------
    AssumptionReport

    Raises
    ------
    InputError
        If `inputs` is not a non-empty (m, d) array of finite real numbers.

    Notes
    -----
    Exact where the inputs are integers up to one common factor (pixels / 16 / sqrt(d), say). Otherwise |<x_i,x_j>| is
    an interval of half-width gamma_{d+8} |x_i| |x_j|, and intervals that meet count as equal. Cost: O(m^2 (d + log m)).
    """
    x = _finite_matrix(inputs)
    found = _integers(x)
    if found is not None:
        x, arithmetic = found
        relative, floor = 0.0, 0.0
    else:
        x = np.ldexp(x, -int(np.frexp(np.abs(x).max())[1]))  # a power of two, so exact; nothing can overflow
        relative, floor = _rounding(x.shape[1])
        arithmetic = f"float64, rounding bound {relative:.2g} |x_i| |x_j|"
    tally = _Tally(x, relative, floor)
    for i, row in _gram_rows(x):
        tally.add(i, row)
    return AssumptionReport(
        len(x), x.shape[1], tally.printed, tally.needed, tally.gap, tuple(tally.printed_examples),
        tuple(tally.needed_examples), arithmetic,
    )  # fmt: skip


def _finite_matrix(inputs: Any) -> Array:
    try:
        if np.iscomplexobj(inputs) or np.ma.isMaskedArray(inputs):
            raise TypeError
        x = np.asarray(inputs, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, MemoryError, RecursionError, RuntimeError):
        raise InputError("inputs", f"<{type(inputs).__name__}>", "a real array of shape (m, d)") from None
    if x.ndim != 2 or x.size == 0:
        raise InputError("inputs", f"<array of shape {x.shape}>", "a non-empty array of shape (m, d)")
    if not np.isfinite(x).all():
        raise InputError("inputs", "<nan or inf>", "finite numbers only")
    return x


def _integers(x: Array) -> tuple[Array, str] | None:
    """Return (N, name) with x = c N, N integer-valued and small enough for an exact float64 Gram matrix, or None.

    d max|N|^2 <= 2^53, so every product and partial sum of N N^T is an integer that float64 holds, in any order.
    """
    largest = math.isqrt(2**53 // x.shape[1])
    values = np.unique(np.abs(x))
    values = values[values > 0]
    if values.size == 0 or (values[-1] <= largest and (values == np.rint(values)).all()):
        return x, "exact integers"
    with np.errstate(over="ignore"):
        ratios = values / values[0]
    q = _denominator(ratios, largest, UNIT)
    rounding = ""
    # Rounded in float32: a looser match, so only where 8 different values on a small grid cannot match by chance.
    if q is None and values.size >= 8:
        q = _denominator(ratios, min(largest, 4096), UNIT32)
        rounding = " up to float32 rounding"
    if q is None:
        return None
    return np.rint(x / values[0] * q), f"exact integers: inputs = {values[0] / q:.6g} * integers{rounding}"


def _denominator(ratios: Array, largest: int, unit: float) -> int | None:
    """Return the smallest q <= 256 that makes every q * ratio an integer <= largest up to rounding, or None.

    A stored value may have been rounded up to three times (pixel / 255, scaled, standardised by one number), which is
    6 units in a ratio; the ratio and its multiple are rounded once each: 8 units.
    """
    few = ratios[:1024]  # rejects quickly; then all of them decide
    for q in range(1, MAX_DENOMINATOR + 1):
        if ratios[-1] * q > largest * (1 + 8 * unit):
            return None
        if all((np.abs(r * q - np.rint(r * q)) <= 8 * unit * r * q).all() for r in (few, ratios)):
            return q
    return None


def _rounding(d: int) -> tuple[float, float]:
    """Return (gamma_{d+8}, floor): |fl(<x,y>) - <x,y>| <= gamma_{d+8} |x| |y| + floor.

    gamma_k = k u / (1 - k u): a d-term dot product in any order has error gamma_d sum |x_a y_a| <= gamma_d |x| |y|
    (Higham 2002, section 3.1). Inputs that were themselves rounded twice before they came here add 4, and the rounding
    of the computed norms and of the interval ends is a second-order term that 4 more cover up to d ~ 1e8. The floor is
    for underflow, with inputs scaled to max |x_a| < 1.
    """
    k = d + 8
    return k * UNIT / (1 - k * UNIT), d * float(np.finfo(np.float64).tiny)


def _gram_rows(x: Array) -> Iterator[tuple[int, Array]]:
    for start in range(0, len(x), BLOCK):
        yield from enumerate(np.abs(x[start : start + BLOCK] @ x.T), start)


class _Tally:
    """Counts over the rows of |Gram|; an entry is the interval [low, high], a point when arithmetic is exact."""

    def __init__(self, x: Array, relative: float, floor: float) -> None:
        self.norms = np.sqrt(np.einsum("ia,ia->i", x, x))
        self.relative, self.floor = relative, floor
        self.printed = self.needed = 0
        self.gap = math.inf
        self.printed_examples: list[Violation] = []
        self.needed_examples: list[Violation] = []

    def add(self, i: int, row: Array) -> None:
        """Count the violations of row i: |<x_i, x_j>| for all j."""
        error = self.relative * self.norms[i] * self.norms + self.floor
        low, high = row - error, row + error
        zeros = np.flatnonzero(low[i:] <= 0) + i  # pairs once: j >= i
        with_itself = int(np.count_nonzero((low <= high[i]) & (high >= low[i]))) - 1
        order = np.argsort(low, kind="stable")
        # in the order of `low`, p meets exactly those q > p with low_q <= high_p
        meets = np.searchsorted(low[order], high[order], side="right") - np.arange(1, len(row) + 1)
        ties = int(meets.sum())
        self.needed += ties + len(zeros)
        self.printed += ties - with_itself + int(np.count_nonzero(zeros != i))
        if ties or len(zeros):
            self._name(i, zeros, order, meets)
        scale = self.norms[i] * self.norms.max()
        self.gap = min(self.gap, float(np.diff(np.sort(row), prepend=0).min() / scale) if scale else 0.0)

    def _name(self, i: int, zeros: Array, order: Array, meets: Array) -> None:
        for violation in _violations(i, zeros, order, meets):
            missing_needed = len(self.needed_examples) < MAX_EXAMPLES
            missing_printed = len(self.printed_examples) < MAX_EXAMPLES
            if not (missing_needed or missing_printed):
                return
            if missing_needed:
                self.needed_examples.append(violation)
            if missing_printed and i not in (violation.j, violation.k):
                self.printed_examples.append(violation)


def _violations(i: int, zeros: Array, order: Array, meets: Array) -> Iterator[Violation]:
    yield from (Violation(i, int(j), None) for j in zeros)
    for p in np.flatnonzero(meets):
        for q in range(p + 1, p + 1 + meets[p]):
            j, k = sorted((int(order[p]), int(order[q])))
            yield Violation(i, j, k)
