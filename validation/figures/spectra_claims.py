"""What the paper says of Figures 5-10, each sentence with its test on the spectra of the widest networks.

Words become numbers as follows. "Higher": by a factor of `HIGHER` or more at every percentile named; "significantly" or
"substantially" higher: `MUCH`; "orders of magnitude": `ORDERS`; "collapse": below `COLLAPSED` of the eigenvalue of muP
at the same percentile. A factor is decided where the one-sided Student bound on its mean over seeds, at `LEVEL`, is on
one side of the threshold: each sentence compares tens of eigenvalues. "At higher percentiles" and "beyond the 20th" say
where as well: a collapse of all eigenvalues, the largest too, is none of these. Where no eigenvalue lies in the
percentiles named, nothing is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from validation.claim import LEVEL

from .captions import Statement
from .eigen import End, Spectra, spectra_of
from .look import NAMES
from .study import Study

Array = np.ndarray

ACTIVATION = "silu"  # that of the paper's Figures 5-10
HIGHER, MUCH, ORDERS, COLLAPSED = 1.1, 1.5, 100.0, 0.01
REST = ("ip", "ntp", "sp")
Decision = bool | None
Key = tuple[str, End]


class Ratio(NamedTuple):
    """Geometric mean over seeds of a ratio of eigenvalues, and how far its logarithm's bounds reach, each (m,)."""

    mean: Array
    reach: Array

    def above(self, threshold: float) -> Decision:
        """Whether it is above `threshold` everywhere; None where that is not resolved."""
        distance = np.log(self.mean / threshold)
        if (distance > self.reach).all():
            return True
        return False if (distance < -self.reach).any() else None

    def words(self) -> str:
        low, high = self.mean.min(), self.mean.max()
        return f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} to {high:.3g}"


def ratio(one: Array, two: Array) -> Ratio | None:
    """one / two for eigenvalues (replica, m) of networks that share their draws; None without a positive pair."""
    count = min(len(one), len(two))
    one, two = one[:count], two[:count]
    fine = ((one > 0) & (two > 0)).all(axis=1)
    if not fine.any() or not one.shape[1]:
        return None
    logs = np.log(one[fine] / two[fine])
    reach = np.full(logs.shape[1], np.inf)
    if len(logs) > 1:
        reach = stdtrit(len(logs) - 1, LEVEL) * logs.std(axis=0, ddof=1) / np.sqrt(len(logs))
    return Ratio(np.exp(logs.mean(axis=0)), reach)


def every(decisions: Sequence[Decision]) -> Decision:
    """False if one is, else None if one is, else True."""
    return False if False in decisions else None if None in decisions else True


def _statement(
    quoted: str, layer: int, kind: str, beyond: float, measure: Callable[[Spectra], tuple[str, Decision]]
) -> Statement:
    """A sentence on the spectra of one layer, from a percentile on: not decided where no eigenvalue is there."""

    def of_study(study: Study) -> tuple[str, Decision]:
        spectra = spectra_of(study, ACTIVATION, layer, kind)
        if (spectra.percentiles >= beyond).any():
            return measure(spectra)
        return f"No eigenvalue{_where(beyond)}: there are {spectra.samples} in all.", None

    return Statement(quoted, of_study)


def higher(
    quoted: str, layer: int, kind: str, ones: Sequence[str], others: Sequence[str], factor: float, beyond: float = 0.0,
    throughout: bool = False,
) -> Statement:  # fmt: skip
    """After training the eigenvalues of each of `ones` are `factor` times those of each of `others`, or more.

    `throughout`: the sentence is of all steps, of which networks record the last one only. That can refute it.
    """

    def measure(spectra: Spectra) -> tuple[str, Decision]:
        decisions, words = [], []
        for one in ones:
            for other in others:
                found = _ratio(spectra, spectra.finite, (one, "last"), (other, "last"), beyond)
                decisions.append(None if found is None else found.above(factor))
                limit = _ratio(spectra, spectra.limits, (one, "last"), (other, "last"), beyond)
                words.append(f"{NAMES[one]}/{NAMES[other]} {_said(found)} (limit: {_said(limit)})")
        text = f"Ratios{_where(beyond)}: {', '.join(words)}; asked for: {factor:g} or more."
        if throughout:
            decisions.append(None)
            text = f"At the end of training, the only step known after its start: {text[0].lower()}{text[1:]}"
        return text, every(decisions)

    return _statement(quoted, layer, kind, beyond, measure)


def collapse(quoted: str, layer: int, kind: str, beyond: float) -> Statement:
    """After training the eigenvalues of IP are below `COLLAPSED` times those of muP past a percentile only.

    Refuted where the largest eigenvalue has collapsed as well; not decided where all that was so before training.
    """

    def measure(spectra: Spectra) -> tuple[str, Decision]:
        last, first = (_ratio(spectra, spectra.finite, ("ip", end), ("mup", end), beyond) for end in ("last", "first"))
        top = ratio(*(spectra.finite[name, "last"][:, :1] for name in ("ip", "mup")))
        size, before, all_of_it = _collapsed(last), _collapsed(first), _collapsed(top)
        words = f"Ratios IP/muP{_where(beyond)}: {_said(last)}; asked for: below {COLLAPSED:g}. At 0%: {_said(top)}. "
        words += f"Before training: {_said(first)}."
        if size is not True or not (all_of_it or before):
            return words, None if size is True and None in (all_of_it, before) else size
        odd = ["IP is as small at 0%"] * bool(all_of_it) + ["it was before training"] * bool(before)
        agrees = f"agrees in size, not in {'where' if all_of_it else 'when'}: {', and '.join(odd)}."
        return f"{agrees[0].upper()}{agrees[1:]} {words}", False if all_of_it else None

    return _statement(quoted, layer, kind, beyond, measure)


def _collapsed(found: Ratio | None) -> Decision:
    return None if found is None else Ratio(1 / found.mean, found.reach).above(1 / COLLAPSED)


def plummet(quoted: str, layer: int, kind: str, beyond: float, value: float) -> Statement:
    """After training the eigenvalues of IP past a percentile are of the order of `value` or smaller, whatever K is."""

    def measure(spectra: Spectra) -> tuple[str, Decision]:
        use = spectra.percentiles >= beyond
        if not len(spectra.finite["ip", "last"]):
            return "All networks of IP diverged.", None
        found = spectra.network_spread("ip", "last").mean[use]
        small = [bool((found * times < 10 * value).all()) for times in (1, spectra.width)]
        words = f"Eigenvalues of IP{_where(beyond)}: {found.min():.2g} to {found.max():.2g} divided by n, "
        words += f"{found.min() * spectra.width:.2g} to {found.max() * spectra.width:.2g} without"
        return f"{words}; asked for: below {10 * value:g}.", small[0] if small[0] == small[1] else None

    return _statement(quoted, layer, kind, beyond, measure)


def kept(quoted: str, layer: int, kind: str, beyond: float) -> Statement:
    """Past a percentile training leaves muP at least half of each eigenvalue."""

    def measure(spectra: Spectra) -> tuple[str, Decision]:
        found = _ratio(spectra, spectra.finite, ("mup", "last"), ("mup", "first"), beyond)
        limit = _ratio(spectra, spectra.limits, ("mup", "last"), ("mup", "first"), beyond)
        words = f"Ratios of muP after and before training{_where(beyond)}: {_said(found)} (limit: {_said(limit)})"
        return f"{words}; asked for: 0.5 or more.", None if found is None else found.above(0.5)

    return _statement(quoted, layer, kind, beyond, measure)


def widest(quoted: str, layer: int, kind: str) -> Statement:
    """The parametrizations differ most in this layer: the largest mean ratio of two of them."""

    def measure(study: Study) -> tuple[str, Decision]:
        assert study.networks is not None
        gaps: dict[int, float] = {}
        for l in map(int, study.networks["layer"].values):
            spectra = spectra_of(study, ACTIVATION, l, kind)
            names = {name for name, _ in spectra.finite}
            pairs = [_ratio(spectra, spectra.finite, (a, "last"), (b, "last")) for a in names for b in names]
            gaps[l] = max((float(np.log10(pair.mean).mean()) for pair in pairs if pair), default=np.nan)
        words = ", ".join(f"{gap:.2g} in layer {l}" for l, gap in gaps.items())
        decided = np.isfinite(list(gaps.values())).all()
        agrees = max(gaps, key=lambda l: gaps[l]) == layer if decided else None
        return f"Largest mean distance of two parametrizations, in decades: {words}.", agrees

    return Statement(quoted, measure)


def _ratio(spectra: Spectra, values: dict[Key, Array], one: Key, other: Key, beyond: float = 0.0) -> Ratio | None:
    use = spectra.percentiles >= beyond
    return ratio(values[one][:, use], values[other][:, use])


def _said(found: Ratio | None) -> str:
    return "undefined, one is zero" if found is None else found.words()


def _where(beyond: float) -> str:
    return f" from {beyond:g}% on" if 0 < beyond < 100 else " at 100%" if beyond else ""


STATEMENTS: dict[tuple[int, str], tuple[Statement, ...]] = {
    (1, "x"): (
        higher(
            "muP and IP maintain higher eigenvalues throughout the spectrum compared to NTP and SP",
            1, "x", ("mup", "ip"), ("ntp", "sp"), HIGHER,
        ),
    ),
    (2, "x"): (
        collapse("IP shows dramatic eigenvalue collapse at higher percentiles", 2, "x", 60),
        higher("muP maintains substantially higher eigenvalues across all percentiles", 2, "x", ("mup",), REST, MUCH),
    ),
    (3, "x"): (
        plummet("eigenvalues at higher percentiles (60-100%) plummeting to 10^-7", 3, "x", 60, 1e-7),
        higher(
            "muP maintains eigenvalues orders of magnitude larger across all percentiles",
            3, "x", ("mup",), ("ip",), ORDERS,
        ),
    ),
    (1, "h"): (
        higher(
            "muP maintains strong feature independence throughout training compared to other parameterizations",
            1, "h", ("mup",), REST, HIGHER, 100, throughout=True,
        ),
    ),
    (2, "h"): (
        higher(
            "muP maintains significantly higher eigenvalues at all percentiles compared to NTP and SP",
            2, "h", ("mup",), ("ntp", "sp"), MUCH,
        ),
        collapse("IP experiences severe feature collapse above the 20th percentile", 2, "h", 20),
    ),
    (3, "h"): (
        kept("muP maintains substantial eigenvalues even at the highest percentiles (80-100%)", 3, "h", 80),
        collapse("IP experiences catastrophic collapse beyond the 20th percentile", 3, "h", 20),
        widest(
            "At this deepest layer, the percentile-based analysis reveals the most dramatic differentiation between "
            "parameterizations", 3, "h",
        ),
    ),
}  # fmt: skip
