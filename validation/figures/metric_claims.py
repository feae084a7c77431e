"""What the paper says of Figures 1-4 and 11-16, each sentence with its test, and the captions.

Words become numbers as follows. A quantity is stable where its power of n is between -1/4 and 1/4, decays where it is
below, and stays where it does not decay; each to be told by the 95% interval of the power over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tpsim.activations import resolve_activation
from tpsim.plot.read import setting

from .captions import Statement, judged
from .look import NAMES
from .measure import ROUNDING, STABLE, Curve, curves, loss
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


def caption(study: Study, *, shown: Metrics) -> str:
    """Say what is drawn and how, what the limits are, and which sentences of the paper the numbers bear out."""
    seen = Seen(study, shown)
    quoted = [
        Statement(words, lambda _, measure=measure: measure(seen))  # type: ignore[misc]
        for words, measure in statements(shown)
    ]
    return f"{described(seen)}{judged(quoted, study)}"


def described(seen: Seen) -> str:
    """Say what is drawn, and name every number that has no place in the picture."""
    shown, settings = seen.shown, seen.study.settings
    found = {metric: seen[metric] for metric in shown.metrics}
    first = next(iter(found.values()))["mup"]
    field = {"h": "pre-activations", "x": "post-activations"}[shown.kind]
    parts = [
        f"{_listed([WORDS[metric] for metric in shown.metrics]).capitalize()} of the {field} {shown.kind} of layer "
        f"{seen.layer} of {settings.network.depth} ({shown.activation}) after {settings.training.steps} steps, against "
        f"the width n. Points: median of {settings.seeds} networks, bars from the 16% to the 84% quantile; points of "
        "one width are moved apart sideways. Lines: the limit of infinite width, mean over "
        f"{len(first.limit)} replicas with a band of +-2 standard errors. An arrow at the lower edge: the limit is "
        "zero; an open point there: the median is."
    ]
    if {"diversity", "joint"} & set(found):
        parts.append(
            "Diversity is the smallest eigenvalue of K/n, K the Gram matrix of the features (of initial and final ones "
            "in the joint diversity): that of K itself, whose powers are larger by 1, grows like n where this one has "
            f"a limit. Eigenvalues below {ROUNDING:g} of the largest are rounding and count as zero; below n = "
            f"{_vectors(found)} all must be."
        )
    undefined = [NAMES[name] for name, curve in found["change"].items() if curve.undefined] if "change" in found else []
    if undefined:
        parts.append(
            f"In the limit of {', '.join(undefined)} initial features are zero, so that relative change is undefined: "
            f"the line is the root mean square of the final ones, {_undefined(found['change'])}."
        )
    parts.append(_not_yet(seen))
    parts += [f"Limit of the {WORDS[metric]}: {_limits(own)}." for metric, own in found.items()]
    parts.append(
        f"Powers of n are fitted to n >= {_fitted(found)}, one for each seed, with 95% intervals; decay: below "
        f"-{STABLE}; stable: within +-{STABLE}."
    )
    parts.append(_truncated(seen.study, shown.activation))
    parts.append(_diverged(next(iter(found.values()))))
    return " ".join(part for part in parts if part)


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _vectors(found: dict[str, dict[str, Curve]]) -> str:
    """The numbers of vectors of the Gram matrices shown."""
    return " and ".join(str(found[metric]["mup"].vectors) for metric in ("diversity", "joint") if metric in found)


def _fitted(found: dict[str, dict[str, Curve]]) -> str:
    """The least widths of the fits, one for each panel if they differ."""
    least = {WORDS[metric]: _least(own["mup"]) for metric, own in found.items()}
    if len(set(least.values())) == 1:
        return next(iter(least.values()))
    return ", ".join(f"{width} ({metric})" for metric, width in least.items())


def _least(curve: Curve) -> str:
    return str(curve.widths[curve.fitted].min()) if curve.fitted.any() else "no width"


def _not_yet(seen: Seen) -> str:
    """Say where the networks of IP have learned what its limit cannot learn in as many steps."""
    phi = seen.shown.activation
    there, widest = float(seen.study.limits[phi, "ip"]["loss"].isel(step=-1).mean()), loss(seen.study, phi)["ip"][-1]
    if not widest < there / 2:
        return ""
    return (
        f"Networks of IP have left their start at the widest n (loss {widest:.2g}), where the limit still is (loss "
        f"{there:.2g}): leaving takes more steps the wider they are, so that their points must turn towards the limit "
        "at larger n than are shown."
    )


def _limits(found: dict[str, Curve]) -> str:
    return ", ".join(f"{NAMES[name]} {limit_words(*curve.bounds)}" for name, curve in found.items())


def _undefined(found: dict[str, Curve]) -> str:
    return ", ".join(limit_words(*curve.bounds) for curve in found.values() if curve.undefined)


def _truncated(study: Study, activation: str) -> str:
    """Say how a limit with a derivative that jumps was simulated."""
    if resolve_activation(activation).smooth:
        return ""
    run = study.limits[activation, "mup"]
    tolerance = setting(run, "simulation", "tolerance")
    return (
        f"The derivative of {activation} jumps, so that every step brings new directions: its limit was simulated with "
        f"{run.sizes['replica']} replicas at a tolerance of {tolerance:g}, an error that the bands do not show."
    )


def _diverged(found: dict[str, Curve]) -> str:
    """Say how many networks are missing."""
    counts = [f"{curve.diverged} of {NAMES[name]}" for name, curve in found.items() if curve.diverged]
    return f"Left out, because they diverged: {', '.join(counts)}." if counts else ""
