"""Captions of Figures 1-4 and 11-16: what is drawn and how, the limits, and what the paper says of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tpsim.activations import resolve_activation
from tpsim.plot.read import setting

from .captions import Statement, judged
from .look import NAMES
from .measure import ROUNDING, STABLE, Curve, loss
from .metric_claims import statements, tried
from .metric_verdicts import WORDS, Seen, limit_words
from .study import Study

if TYPE_CHECKING:
    from .metrics import Metrics


def caption(study: Study, *, shown: Metrics) -> str:
    """Say what is drawn and how, what the limits are, and which sentences of the paper the numbers bear out."""
    seen = Seen(study, shown)
    quoted = [
        Statement(sentence.words, lambda _, sentence=sentence: tried(seen, sentence))  # type: ignore[misc]
        for sentence in statements(shown)
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
        f"the width n. Points: median of {settings.seeds} networks, bars from the 16% to the 84% quantile"
        f"{_means(shown)}; points of one width are moved apart sideways. Lines: the limit of infinite width, mean over "
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
    parts.append(_not_yet(seen))
    for metric, own in found.items():
        parts += [_limits(metric, own), *_undefined(own, shown.kind), *_unresolved(metric, own)]
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
        f"{there:.2g}): leaving takes more steps the wider they are."
    )


def _means(shown: Metrics) -> str:
    """The mean over trials is what the paper reports in its Figures 1 and 2."""
    return " (the paper plots means, here medians)" if len(shown.metrics) < len(WORDS) else ""


def _limits(metric: str, found: dict[str, Curve]) -> str:
    """Say the limits that are those of the metric, and large enough for their tolerance."""
    said = [
        f"{NAMES[name]} {limit_words(*curve.bounds)}"
        for name, curve in found.items()
        if curve.resolved and not curve.undefined
    ]
    return f"Limit of the {WORDS[metric]}: {', '.join(said)}." if said else ""


def _undefined(found: dict[str, Curve], kind: str) -> list[str]:
    """Say what stands in the place of a change relative to zero."""
    said = []
    for name, curve in found.items():
        if not curve.undefined:
            continue
        still = curve.bounds[0] == 0
        mark, then = ("arrow", "can tend to another number") if still else ("line", "grows with n")
        said.append(
            f"{NAMES[name]}: Z^{{{kind}_0}} = 0, so the relative change has no limit in terms of Z; the {mark} is the "
            f"rms of Z^{{{kind}_T}}, {limit_words(*curve.bounds)}; that of networks {then}."
        )
    return said


def _unresolved(metric: str, found: dict[str, Curve]) -> list[str]:
    """Say which limits are not drawn: one step may drop tolerance^2 times the mean diagonal of K."""
    return [
        f"Not drawn: limit of the {WORDS[metric]} of {NAMES[name]}: below {curve.resolution:.2g}, what its tolerance "
        "resolves."
        for name, curve in found.items()
        if not curve.resolved
    ]


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
