"""What the paper says of Figures 1-4 and 11-16, each sentence with its test.

Words become numbers as follows. A quantity is stable where its power of n is between -1/4 and 1/4, decays where it is
below, and stays where it does not decay; each to be told by the 95% interval of the power over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .look import NAMES
from .measure import Curve, curves, loss
from .study import PARAMETRIZATIONS, Study

if TYPE_CHECKING:
    from .metrics import Metrics

Decision = bool | None
Measure = Callable[["Seen"], tuple[str, Decision]]
LOSS = 0.05  # Appendix A: "training loss smaller than 0.05"
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
    if not curve.widest.size:
        return None
    if (curve.values[curve.fitted] == 0).all():
        return False
    trend = curve.trend()
    return None if trend is None else negated(trend.decays)


def stable(curve: Curve) -> Decision:
    trend = curve.trend()
    return None if trend is None else trend.stable


def powers(found: dict[str, Curve], names: Sequence[str] = PARAMETRIZATIONS) -> str:
    """Say the powers of n."""
    return ", ".join(f"{NAMES[name]} {power(found[name])}" for name in names)


def power(curve: Curve) -> str:
    """Say one power of n."""
    if (curve.values[curve.fitted] == 0).all():
        return "none, for all are zero" if curve.fitted.any() else "undecided"
    trend = curve.trend()
    return "undecided" if trend is None else f"{trend.power:.2f} +- {trend.reach:.2f}"


def _only_stable(seen: Seen) -> tuple[str, Decision]:
    found = seen["change"]
    decisions = [stable(found["mup"]), *(negated(stable(found[name])) for name in ("ip", "ntp", "sp"))]
    return f"Powers of n of the feature change: {powers(found)}.", every(decisions)


def _learns(seen: Seen) -> tuple[str, Decision]:
    curve = seen["change"]["mup"]
    return f"Power of n of muP's feature change: {power(curve)}; {_at(curve)}.", stays(curve)


def _lazy(seen: Seen) -> tuple[str, Decision]:
    curve = seen["change"]["sp"]
    return f"Power of n of SP's feature change: {power(curve)}; {_at(curve)}.", negated(stays(curve))


def _collapse(seen: Seen) -> tuple[str, Decision]:
    found = seen["diversity"]
    decisions = [negated(stays(found["ip"])), *(stays(found[name]) for name in ("sp", "ntp", "mup"))]
    return f"Powers of n of the diversity: {powers(found)}.", every(decisions)


def _ip(seen: Seen) -> tuple[str, Decision]:
    change, diversity = seen["change"]["ip"], seen["diversity"]["ip"]
    words = f"Powers of n of IP: {power(change)} of the change, {power(diversity)} of the diversity"
    left = loss(seen.study, seen.shown.activation)["ip"]
    words += f"; its loss is {left[0]:.2g} in the narrowest networks and {left[-1]:.2g} in the widest."
    return words, every([stays(change), negated(stays(diversity))])


def _both(seen: Seen) -> tuple[str, Decision]:
    change, diversity = seen["change"], seen["diversity"]
    own = {name: every([stays(change[name]), stays(diversity[name])]) for name in PARAMETRIZATIONS}
    words = {True: "both", False: "not both", None: "undecided"}
    said = ", ".join(f"{NAMES[name]} {words[decision]}" for name, decision in own.items())
    agrees = every([own["mup"], *(negated(own[name]) for name in ("ip", "ntp", "sp"))])
    return f"Change and diversity that do not decay: {said}.", agrees


def _rich(seen: Seen) -> tuple[str, Decision]:
    curve = seen["diversity"]["mup"]
    return f"Power of n of muP's diversity: {power(curve)}; {_at(curve)}.", stays(curve)


def _less_with_width(seen: Seen) -> tuple[str, Decision]:
    curve = seen["diversity"]["mup"]
    trend = curve.trend()
    agrees = None if trend is None or abs(trend.power) <= trend.reach else trend.power < 0
    return f"Power of n of muP's diversity: {power(curve)}; {_at(curve)}.", agrees


def _joint_higher(seen: Seen) -> tuple[str, Decision]:
    found = seen["joint"]
    mine = found["mup"].spread()[1:, -1]
    decisions: list[Decision] = [stays(found["mup"])]
    for name in ("ntp", "ip", "sp"):
        theirs = found[name].spread()[1:, -1]
        decisions.append(True if mine[0] > theirs[1] else False if mine[1] < theirs[0] else None)
    said = ", ".join(f"{NAMES[name]} {found[name].spread()[0, -1]:.2g}" for name in PARAMETRIZATIONS)
    width = found["mup"].widths[-1]
    return f"At n = {width}: {said}; power of n of muP: {power(found['mup'])}.", every(decisions)


def _joint_decay(seen: Seen) -> tuple[str, Decision]:
    found, names = seen["joint"], ("ntp", "ip", "sp")
    return f"Powers of n: {powers(found, names)}.", every([negated(stays(found[name])) for name in names])


def _trained(seen: Seen) -> tuple[str, Decision]:
    found = loss(seen.study, seen.shown.activation)
    said = ", ".join(f"{NAMES[name]} {np.nanmax(values):.2g}" for name, values in found.items())
    agrees = all(bool((values < LOSS).all()) for values in found.values())
    return f"Largest over widths of the median loss after {seen.study.settings.training.steps} steps: {said}.", agrees


def _at(curve: Curve) -> str:
    """Say what the widest networks and the limit have."""
    mean, error = curve.bounds
    return f"{curve.spread()[0, -1]:.3g} at n = {curve.widths[-1]}, {limit_words(mean, error)} in the limit"


def limit_words(mean: float, error: float) -> str:
    if mean == 0:
        return "0"
    return f"{mean:.3g}" + (f" +- {error:.1g}" if error > 1e-9 * mean else "")  # below: rounding, or no error at all


GENERAL: tuple[tuple[str, Measure], ...] = (
    ("only muP maintain stable feature representations", _only_stable),
    ("SP keeps features close to initialization", _lazy),
    ("IP achieves feature learning but suffers from feature collapse", _ip),
    ("Meanfield parametrization suffers from feature collapse while SP, NTP and muP preserve rich feature "
     "representations", _collapse),
    ("only muP achieves both feature learning capability and feature richness", _both),
)  # fmt: skip
JOINT: tuple[tuple[str, Measure], ...] = (
    ("The muP parametrization maintains higher eigenvalues as width increases", _joint_higher),
    ("other parametrizations (NTP, IP, SP) show substantial decay in eigenvalues with increasing width", _joint_decay),
)
APPENDIX: tuple[tuple[str, Measure], ...] = (
    ("sufficient for all widths to achieve [...] training loss smaller than 0.05", _trained),
)
TANH: tuple[tuple[str, Measure], ...] = (
    ("Tanh enables meaningful feature learning", _learns),
    ("leading to a gradual decrease in feature diversity as width goes up", _less_with_width),
)
RELU: tuple[tuple[str, Measure], ...] = (
    ("ReLU-trained networks still exhibit feature learning", _learns),
    ("and maintain meaningful representations under Maximal Update Parametrization", _rich),
)
SAID = {"silu": (*GENERAL, *JOINT), "tanh": (*TANH, *GENERAL, *JOINT), "relu": (*RELU, *GENERAL, *JOINT)}


def statements(shown: Metrics) -> tuple[tuple[str, Measure], ...]:
    """Return what the paper says of a figure; what it says of Figures 1 and 2 is tried on all others as well."""
    if shown.metrics == ("joint",):
        return JOINT
    if "joint" not in shown.metrics:
        return (*GENERAL, *APPENDIX)
    return SAID[shown.activation]
