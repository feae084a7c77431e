"""How the captions of Figures 1-4 and 11-16 decide: what powers of the width, and limits, tell and what they do not.

Words become numbers as follows. A quantity is stable where its power of n is between -1/4 and 1/4, decays where it is
below, and stays where it does not decay; each to be told by the 95% interval of the power over seeds. Nothing is told
of a metric that no width is wide enough to fit, of the feature change of IP where only some of its widths have left the
start, of powers of K/n that decide otherwise than those of K, and of limits below what their tolerance resolves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .look import NAMES
from .measure import LEFT, Curve, Trend, curves
from .study import PARAMETRIZATIONS, Study

if TYPE_CHECKING:
    from .metrics import Metrics

Decision = bool | None
WORDS = {"change": "feature change", "diversity": "diversity", "joint": "joint diversity"}


class Seen:
    """The curves of one figure, each computed once.

    Parameters
    ----------
    study : Study
    shown : what the figure shows; other metrics of the same features can be asked for.
    """

    def __init__(self, study: Study, shown: Metrics) -> None:
        self.study, self.shown, self.layer = study, shown, shown.layer_in(study)
        self._curves: dict[str, dict[str, Curve]] = {}

    def __getitem__(self, metric: str) -> dict[str, Curve]:
        if metric not in self._curves:
            self._curves[metric] = curves(self.study, self.shown.activation, metric, self.shown.kind, self.layer)
        return self._curves[metric]


def every(decisions: Sequence[Decision]) -> Decision:
    """False if one is, else None if one is, else True."""
    return False if False in decisions else None if None in decisions else True


def negated(decision: Decision) -> Decision:
    return None if decision is None else not decision


def stays(curve: Curve) -> Decision:
    """Whether a quantity does not decay with width."""
    if not curve.widest.size or curve.mixed:
        return None
    if curve.zero:
        return False
    decision = told(curve, _stays)
    return None if decision and not curve.resolved else decision


def stable(curve: Curve) -> Decision:
    return None if curve.mixed else told(curve, lambda trend: trend.stable)


def told(curve: Curve, decide: Callable[[Trend], Decision]) -> Decision:
    """What a power of n tells; of eigenvalues None unless those of K/n and of K, which the paper has, agree."""
    trend = curve.trend()
    if trend is None or (curve.divided and decide(trend) != decide(trend.undivided)):
        return None
    return decide(trend)


def _stays(trend: Trend) -> Decision:
    return negated(trend.decays)


def falls(trend: Trend) -> Decision:
    return None if abs(trend.power) <= trend.reach else trend.power < 0


def powers(found: dict[str, Curve], names: Sequence[str] = PARAMETRIZATIONS) -> str:
    """Say the powers of n."""
    return ", ".join(f"{NAMES[name]} {power(found[name])}" for name in names)


def power(curve: Curve, decide: Callable[[Trend], Decision] = _stays) -> str:
    """Say one power of n; of eigenvalues also that of K where it decides otherwise."""
    if curve.zero:
        return "none, for all are zero"
    trend = curve.trend()
    if trend is None:
        return "undecided"
    said = f"{trend.power:.2f} +- {trend.reach:.2f}"
    if curve.divided and decide(trend) != decide(trend.undivided):
        said += f" (after dividing by n; K itself: power {trend.undivided.power:.2f})"
    return said


def regimes(seen: Seen) -> str:
    """Say where one power cannot describe the feature change of IP."""
    if not seen["change"]["ip"].mixed:
        return ""
    return (
        f" Of IP's feature change nothing is decided: of the widths that its power is fitted to some have left their "
        f"start (median loss below {LEFT:g} of the initial one) and others have not."
    )


def at(curve: Curve) -> str:
    """Say what the widest networks and the limit have."""
    there = limit_words(*curve.bounds) if curve.resolved else f"below {curve.resolution:.2g}, not resolved,"
    return f"{curve.spread()[0, -1]:.3g} at n = {curve.widths[-1]}, {there} in the limit"


def limit_words(mean: float, error: float) -> str:
    if mean == 0:
        return "0"
    return f"{mean:.3g}" + (f" +- {error:.1g}" if error > 1e-9 * mean else "")  # below: rounding, or no error at all
