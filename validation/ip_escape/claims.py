"""What the escape times say: estimate, interval, reference and verdict of every statement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from tpsim import Network, Problem, Training

from ..growth import LEVEL, spread
from .networks import Result, escape_time, limit_of, measured_rates

ROUNDING = 1e-12
SIGNIFICANCE = 1e-3  # of a FAIL
RESOLUTION = 0.25  # an interval whose half width is larger than this times the reference is NOT RESOLVED
COLUMNS = "study", "statement", "estimate (95%)", "reference", "verdict"


@dataclass(frozen=True)
class Claim:
    """One checked statement; `low` and `high` bound the estimate at level 0.95 (NaN where nothing is random)."""

    study: str
    name: str
    estimate: float
    low: float
    high: float
    reference: float
    verdict: str

    def row(self) -> str:
        """A row of the table with `COLUMNS`."""
        interval = f" ({self.low:.4g} .. {self.high:.4g})" if np.isfinite(self.low) else ""
        reference = f"{self.reference:.4g}" if np.isfinite(self.reference) else ""
        return f"| {self.study} | {self.name} | {self.estimate:.4g}{interval} | {reference} | {self.verdict} |"


def claims(result: Result) -> list[Claim]:
    """Check one study: the law of growth, its constants (L = 3), dense against matrix-free, and the limit."""
    found = [law(result)]
    if result.study.depth == 3:
        found += [slope(result), rate(result)]
    found.append(same_times(result))
    if result.study.depth > 2:
        name, still = "max f_t of the limit", result.limit == 0.0
        found.append(Claim(result.study.name, name, result.limit, np.nan, np.nan, 0.0, "PASS" if still else "FAIL"))
    return found


def law(result: Result) -> Claim:
    """Whether t_escape is bounded, a logarithm of n, or a power, with the exponent p of a + b (n^p - 1) / p."""
    growth, study = result.growth, result.study
    verdict = "PASS" if growth.verdict == study.law else "FAIL"
    if growth.verdict == "not resolved":
        verdict = "NOT RESOLVED"
    name = f"t_escape: {growth.verdict}"
    if study.power is None:  # a constant has no exponent
        return Claim(study.name, f"{name}; per log n", growth.slope, growth.low, growth.high, 0.0, verdict)
    interval = growth.power, growth.power_low, growth.power_high
    return Claim(study.name, f"{name}; exponent p", *interval, study.power, verdict)


def slope(result: Result) -> Claim:
    """b of t_escape = a + b log n against 1 / (2 log(1 + lambda))."""
    growth = result.growth
    return against(result.study.name, "slope b of t_escape", growth.slope, growth.error, growth.freedom, result.slope)


def rate(result: Result) -> Claim:
    """Measured growth of the signal per step against log(1 + lambda).

    A mean over networks weighted by n; its relative error is that of the escape times, kappa n^-1/2 for each, since
    they vary because the rates do.
    """
    rates, growth = measured_rates(result.matrix_free), result.growth
    widths = np.concatenate([np.full(len(r), n) for n, r in rates.items()])
    mean = float(np.average(np.concatenate(list(rates.values())), weights=widths))
    error, reference = growth.kappa * mean / np.sqrt(widths.sum()), float(np.log1p(result.rate))
    return against(result.study.name, "growth rate per step", mean, error, growth.freedom, reference)


def same_times(result: Result) -> Claim:
    """Mean escape time of matrix-free networks over that of dense ones, at the largest width that has both."""
    n = max({*result.dense} & {*result.matrix_free})
    dense, free = (np.array([escape_time(loss) for loss in losses[n]]) for losses in (result.dense, result.matrix_free))
    value = float(free.mean() / dense.mean())
    error = float(np.sqrt(sum(t.var(ddof=1) / len(t) / t.mean() ** 2 for t in (dense, free))))
    name = f"t_escape matrix-free / dense, n={n}"
    return against(result.study.name, name, value, error, len(dense) + len(free) - 2, 1.0)


def sigmoid(problem: Problem) -> list[Claim]:
    """The limit at L = 3 with phi(0) != 0: it moves at once unless the error signals of a balanced problem cancel.

    While all h^l = 0, l >= 2, every update of W^3 and W^4 has the factor sum_i chi_i.
    """
    found = []
    one_flipped = np.where(np.arange(problem.samples) == np.argmin(problem.targets), 1.0, problem.targets)
    for name, targets, moves in (
        ("balanced classes", problem.targets, False),
        ("one label flipped", one_flipped, True),
    ):
        training, network = Training(20, 1.0, reduction="mean"), Network(3, "sigmoid", np.sqrt(2.0))
        largest = abs(limit_of(Problem(problem.inputs, targets), network, training).f).max().item()
        verdict = "PASS" if (largest > ROUNDING) == moves else "FAIL"
        found.append(Claim("L=3, sigmoid", f"max f_t of the limit, {name}", largest, np.nan, np.nan, np.nan, verdict))
    return found


def against(study: str, name: str, value: float, error: float, freedom: int, reference: float) -> Claim:
    """FAIL at `SIGNIFICANCE`, NOT RESOLVED where the interval is wider than `RESOLUTION`."""
    half = float(student.ppf((1 + LEVEL) / 2, freedom)) * error
    verdict = "PASS"
    if not half < RESOLUTION * abs(reference):
        verdict = "NOT RESOLVED"
    elif abs(value - reference) > float(student.isf(SIGNIFICANCE / 2, freedom)) * error:
        verdict = "FAIL"
    return Claim(study, name, value, value - half, value + half, reference, verdict)


def times_table(result: Result) -> str:
    """Escape times by width as markdown."""
    lines = ["| study | n | networks | t_escape | s.e. | spread / t sqrt(n) |", "|---|---|---|---|---|---|"]
    for n, times in result.times.items():
        kinds = [f"{len(kind[n])} {name}" for name, kind in result.kinds.items() if n in kind]
        relative = spread({n: times})[0] if len(times) > 1 else np.nan
        error = result.growth.kappa * times.mean() / np.sqrt(n * len(times))
        lines.append(
            f"| {result.study.name} | {n} | {', '.join(kinds)} | {times.mean():.1f} | {error:.1f} | {relative:.2f} |"
        )
    return "\n".join(lines)


def claims_table(found: list[Claim]) -> str:
    """All statements as markdown, and what the verdicts mean."""
    rule = "|" + "---|" * len(COLUMNS)
    meaning = (
        f"FAIL: off the reference at significance {SIGNIFICANCE:g}, or another law of growth. "
        f"NOT RESOLVED: the interval reaches further than {RESOLUTION:.0%} of the reference, or no law stands out."
    )
    return "\n".join(["| " + " | ".join(COLUMNS) + " |", rule, *(claim.row() for claim in found), "", meaning])
