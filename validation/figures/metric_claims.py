"""What the paper says of Figures 1-4 and 11-16, each sentence with its test; `metric_verdicts` says what decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .look import NAMES
from .measure import Curve, loss
from .metric_verdicts import (
    WORDS,
    Decision,
    Seen,
    at,
    every,
    falls,
    negated,
    power,
    powers,
    regimes,
    stable,
    stays,
    told,
)
from .study import PARAMETRIZATIONS

if TYPE_CHECKING:
    from .metrics import Metrics

Measure = Callable[["Seen"], tuple[str, Decision]]
LOSS, STEPS = 0.05, 1000  # Appendix A: "training loss smaller than 0.05" after 1000 steps


def _only_stable(seen: Seen) -> tuple[str, Decision]:
    found = seen["change"]
    decisions = [stable(found["mup"]), *(negated(stable(found[name])) for name in ("ip", "ntp", "sp"))]
    return f"Powers of n of the feature change: {powers(found)}.{regimes(seen)}", every(decisions)


def _learns(seen: Seen) -> tuple[str, Decision]:
    curve = seen["change"]["mup"]
    return f"Power of n of muP's feature change: {power(curve)}; {at(curve)}.", stays(curve)


def _lazy(seen: Seen) -> tuple[str, Decision]:
    curve = seen["change"]["sp"]
    return f"Power of n of SP's feature change: {power(curve)}; {at(curve)}.", negated(stays(curve))


def _collapse(seen: Seen) -> tuple[str, Decision]:
    found = seen["diversity"]
    decisions = [negated(stays(found["ip"])), *(stays(found[name]) for name in ("sp", "ntp", "mup"))]
    return f"Powers of n of the diversity: {powers(found)}.", every(decisions)


def _ip(seen: Seen) -> tuple[str, Decision]:
    change, diversity = seen["change"]["ip"], seen["diversity"]["ip"]
    words = f"Powers of n of IP: {power(change)} of the change, {power(diversity)} of the diversity"
    left = loss(seen.study, seen.shown.activation)["ip"]
    words += f"; its loss is {left[0]:.2g} in the narrowest networks and {left[-1]:.2g} in the widest.{regimes(seen)}"
    return words, every([stays(change), negated(stays(diversity))])


def _both(seen: Seen) -> tuple[str, Decision]:
    change, diversity = seen["change"], seen["diversity"]
    own = {name: every([stays(change[name]), stays(diversity[name])]) for name in PARAMETRIZATIONS}
    words = {True: "both", False: "not both", None: "undecided"}
    said = ", ".join(f"{NAMES[name]} {words[decision]}" for name, decision in own.items())
    agrees = every([own["mup"], *(negated(own[name]) for name in ("ip", "ntp", "sp"))])
    return f"Change and diversity that do not decay: {said}.{_both_powers(diversity)}{regimes(seen)}", agrees


def _both_powers(diversity: dict[str, Curve]) -> str:
    """Say the powers of the diversity that decide otherwise without division by n."""
    said = [f"{NAMES[name]} {power(curve)}" for name, curve in diversity.items() if "K itself" in power(curve)]
    return f" Powers of n of the diversity: {', '.join(said)}." if said else ""


def _rich(seen: Seen) -> tuple[str, Decision]:
    curve = seen["diversity"]["mup"]
    return f"Power of n of muP's diversity: {power(curve)}; {at(curve)}.", stays(curve)


def _less_with_width(seen: Seen) -> tuple[str, Decision]:
    curve = seen["diversity"]["mup"]
    agrees = told(curve, falls) if curve.resolved else None
    return f"Power of n of muP's diversity: {power(curve, falls)}; {at(curve)}.", agrees


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
    small, steps = all(bool((values < LOSS).all()) for values in found.values()), seen.study.settings.training.steps
    decided = steps <= STEPS if small else steps >= STEPS
    words = f"Largest over widths of the median loss after {steps} steps (the paper: {STEPS} steps): {said}."
    return words, small if decided else None


class Sentence(NamedTuple):
    """What the paper says.

    Attributes
    ----------
    words : the paper's.
    metrics : which of `METRICS` it speaks of.
    measure : what was found, in words, and whether it agrees.
    said_of : number of the figure.
    """

    words: str
    metrics: tuple[str, ...]
    measure: Measure
    said_of: int


def tried(seen: Seen, sentence: Sentence) -> tuple[str, Decision]:
    """Try a sentence on a figure: undecided where no width is wide enough, and marked if said of another figure."""
    words, agrees = sentence.measure(seen)
    narrow = [WORDS[metric] for metric in sentence.metrics if not seen[metric]["mup"].fitted.any()]
    if narrow:
        words, agrees = f"{words} No width is wide enough for a power of the {' and the '.join(narrow)}.", None
    for metric in sentence.metrics if agrees is None else ():
        lost = [NAMES[name] for name, curve in seen[metric].items() if not curve.resolved]
        words += f" The limit of the {WORDS[metric]} of {', '.join(lost)} is not resolved." if lost else ""
    if sentence.said_of != _number(seen):
        words = f"Said of Figure {sentence.said_of}; here: {words}"
    return words, agrees


def _number(seen: Seen) -> int | None:
    """The number of a figure that the paper says something of, None of all others."""
    shown = seen.shown
    if (shown.kind, seen.layer) != ("h", 2):
        return None
    special = {("change", "diversity"): 1, ("joint",): 2}
    return special.get(shown.metrics, {"tanh": 3, "relu": 4}.get(shown.activation))


def _of(figure: int, *sentences: tuple[str, tuple[str, ...], Measure]) -> tuple[Sentence, ...]:
    return tuple(Sentence(*sentence, figure) for sentence in sentences)


C, D, J = WORDS
GENERAL = _of(
    1,
    ("only muP maintain stable feature representations", (C,), _only_stable),
    ("SP keeps features close to initialization", (C,), _lazy),
    ("IP achieves feature learning but suffers from feature collapse", (C, D), _ip),
    ("Meanfield parametrization suffers from feature collapse while SP, NTP and muP preserve rich feature "
     "representations", (D,), _collapse),
    ("only muP achieves both feature learning capability and feature richness", (C, D), _both),
)  # fmt: skip
JOINT = _of(
    2,
    ("The muP parametrization maintains higher eigenvalues as width increases", (J,), _joint_higher),
    ("other parametrizations (NTP, IP, SP) show substantial decay in eigenvalues with increasing width", (J,),
     _joint_decay),
)  # fmt: skip
APPENDIX = _of(1, ("sufficient for all widths to achieve [...] training loss smaller than 0.05", (), _trained))
TANH = _of(
    3,
    ("Tanh enables meaningful feature learning", (C,), _learns),
    ("leading to a gradual decrease in feature diversity as width goes up", (D,), _less_with_width),
)
RELU = _of(
    4,
    ("ReLU-trained networks still exhibit feature learning", (C,), _learns),
    ("and maintain meaningful representations under Maximal Update Parametrization", (D,), _rich),
)
SAID = {"silu": (*GENERAL, *JOINT), "tanh": (*TANH, *GENERAL, *JOINT), "relu": (*RELU, *GENERAL, *JOINT)}


def statements(shown: Metrics) -> tuple[Sentence, ...]:
    """Return what the paper says of a figure; what it says of Figures 1 and 2 is tried on all others as well."""
    if shown.metrics == ("joint",):
        return JOINT
    if "joint" not in shown.metrics:
        return (*GENERAL, *APPENDIX)
    return SAID[shown.activation]
