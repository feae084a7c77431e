"""Captions of Figures 1-4 and 11-16: what is drawn and how, the limits, and what the paper says of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tpsim.activations import resolve_activation
from tpsim.plot.read import setting

from .captions import Statement, judged
from .look import NAMES
from .measure import ROUNDING, STABLE, Curve, loss
from .metric_claims import WORDS, Seen, limit_words, statements
from .study import Study

if TYPE_CHECKING:
    from .metrics import Metrics


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
