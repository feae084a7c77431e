"""Figures 5-10: all eigenvalues of the Gram matrices of the features, before and after training."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tpsim.plot.read import layer_of
from tpsim.plot.style import GREY, LEGEND, PAGE, SHADE, finish, finish_page, line_key, page
from validation.claim import LEVEL

from .captions import counted, judged
from .eigen import End, Spectra, spectra_of
from .look import COLOURS, MARKERS, NAMES, SYMBOLS
from .spectra_claims import ACTIVATION, STATEMENTS
from .study import PARAMETRIZATIONS, Figure, Study

Array = np.ndarray

TITLE = {"h": "pre-activations", "x": "post-activations"}
DODGE = 0.011  # of the axis, between markers of one percentile


def spectrum_figure(study: Study, layer: int, kind: str, figure: Any = None) -> Any:
    """Draw the spectra of K/n of layer `layer` of `kind` "h" or "x", after training (a), and with its start (b).

    Raises
    ------
    InputError
        The networks have no such layer.
    """
    assert study.networks is not None
    layer = layer_of(study.networks, layer)
    spectra = spectra_of(study, ACTIVATION, layer, kind)
    with page(figure, (PAGE, 3.1)) as figure:
        axes = figure.subplots(1, 2, sharex=True, sharey=True)
        for name in reversed(PARAMETRIZATIONS):  # muP on top
            _draw(axes[0], spectra, name, ends=("last",))
            _draw(axes[1], spectra, name, ends=("first", "last"))
        label = f"eigenvalue of $\\langle {kind}^{layer}_i, {kind}^{layer}_j\\rangle / n$"
        finish(axes[0], "(a) after training", "percentile of the sorted eigenvalues", label)
        finish(axes[1], "(b) with initialization (dashed, open)", "percentile of the sorted eigenvalues", "")
        axes[0].set_yscale("log")
        _say_zeros(axes, spectra)
        title = f"Spectrum of the {TITLE[kind]}, layer {layer}"
        finish_page(figure, f"{title} (SiLU, $n={spectra.width}$, $T={spectra.steps}$)", _keys(spectra))
    return figure


def _draw_figure(study: Study, figure: Any = None, *, layer: int, kind: str) -> Any:
    return spectrum_figure(study, layer, kind, figure)


def spectrum_caption(study: Study, layer: int, kind: str) -> str:
    """Say what is drawn, what is zero, and which sentences of the paper agree with the numbers."""
    spectra = spectra_of(study, ACTIVATION, layer, kind)
    diverged = [f"{count} of {NAMES[name]}" for name, count in spectra.diverged.items() if count]
    claims = STATEMENTS.get((layer, kind))
    samples, steps = counted(spectra.samples, "sample"), counted(spectra.steps, "step")
    seeds, replicas = counted(_seeds(spectra), "seed"), counted(len(spectra.limits["mup", "last"]), "replica")
    parts = [
        f"Eigenvalues of the Gram matrix of the {TITLE[kind]} of layer {layer} over {samples}, divided by n, from the "
        f"largest (0%) to the smallest (100%), after {steps} (a) and beside those at initialization (b). Markers: "
        f"networks of width {spectra.width}, mean over {seeds} with bars from the 16% to the 84% quantile; those of "
        f"one percentile are moved apart sideways. Lines: the limit of infinite width, mean over {replicas} with a "
        "band of +-2 standard errors. The paper does not say whether it divides by n; without, values are "
        f"{spectra.width} times as large.",
        f"Left out, because they diverged: {', '.join(diverged)}." if diverged else "",
        *_zeros(spectra),
        _same(spectra),
    ]
    if not claims:
        return " ".join(part for part in parts if part)
    parts.append(f"Ratios are geometric means over seeds, decided by one-sided Student bounds at {LEVEL:.1%}.")
    return " ".join(part for part in parts if part) + judged(claims, study)


def _draw(ax: Any, spectra: Spectra, name: str, ends: tuple[End, ...]) -> None:
    """Draw one parametrization: networks as markers, the limit as a line with its band."""
    colour, shift = COLOURS[name], (PARAMETRIZATIONS.index(name) - 1.5) * DODGE * 100
    under = name == "ntp"  # whose limit is that of SP: drawn wide and below it
    for end in ends:
        first = end == "first"
        limit = spectra.limit_spread(name, end)
        line = {"linestyle": "--" if first else "-", "linewidth": 3.0 if under else 1.1, "alpha": 0.35 if under else 1}
        ax.plot(spectra.percentiles, limit.mean, color=colour, zorder=1.5 if under else 2, **line)
        ax.fill_between(spectra.percentiles, limit.low, limit.high, color=colour, alpha=SHADE, linewidth=0)
        points = spectra.network_spread(name, end)
        bars = np.stack([points.mean - points.low, points.high - points.mean]).clip(0)
        face = "white" if first else colour
        ax.errorbar(
            spectra.percentiles + shift, points.mean, bars, color=colour, linestyle="none", marker=MARKERS[name],
            markerfacecolor=face, markersize=4.6 if first else 3.2, elinewidth=0.7, markeredgewidth=0.7,
            zorder=2.8 if first else 3,
        )  # fmt: skip


def _say_zeros(axes: Any, spectra: Spectra) -> None:
    """Name, in each panel, the limits that are zero and have no place on a logarithmic axis."""
    shown: tuple[tuple[End, ...], ...] = (("last",), ("last", "first"))
    for ax, ends in zip(axes, shown, strict=True):
        zero = [SYMBOLS[name] for name in PARAMETRIZATIONS if all(spectra.zero(name, end).all() for end in ends)]
        if zero:
            blank = line_key(GREY, f"limit of {', '.join(zero)}: 0", linestyle="none")
            ax.legend(*zip(blank, strict=True), loc="lower left", **LEGEND | {"handlelength": 0}, labelcolor=GREY)


def _keys(spectra: Spectra) -> list[tuple[Any, str]]:
    keys = [
        line_key(COLOURS[name], SYMBOLS[name], marker=MARKERS[name], linewidth=3.0 if name == "ntp" else 1.1)
        for name in PARAMETRIZATIONS
    ]
    count = f"$n={spectra.width}$, 16-84% of {counted(_seeds(spectra), 'seed')}"
    keys.append(line_key(GREY, count, marker="o", linestyle="none"))
    keys.append(line_key(GREY, r"limit $n\to\infty$"))
    return keys


def _seeds(spectra: Spectra) -> int:
    return max(len(values) for values in spectra.finite.values())


def _zeros(spectra: Spectra) -> list[str]:
    """One sentence for each limit that is zero, wholly or in part."""
    found = []
    for name in PARAMETRIZATIONS:
        zero = spectra.zero(name, "last")
        if zero.all():
            found.append(f"The limit of {NAMES[name]} is zero and has no place on this axis.")
        elif zero.any():
            count = counted(int(zero.sum()), "eigenvalue")
            found.append(f"Zero up to rounding, and not drawn: {count} of the limit of {NAMES[name]}.")
    return found


def _same(spectra: Spectra) -> str:
    """Name the limits that are one line with that of NTP: within two standard errors everywhere."""
    one = spectra.limit_spread("ntp", "last")
    same = []
    for name in PARAMETRIZATIONS:
        two = spectra.limit_spread(name, "last")
        reach = np.hypot(one.high - one.mean, two.high - two.mean) + 1e-12 * one.mean
        if (np.abs(one.mean - two.mean) <= reach).all():
            same.append(NAMES[name])
    return f"One line: the limits of {' and '.join(same)}." if len(same) > 1 else ""


FIGURES = {
    str(number): Figure(
        f"Eigenvalue spectrum of the {TITLE[kind]}, layer {layer}",
        partial(_draw_figure, layer=layer, kind=kind),
        partial(spectrum_caption, layer=layer, kind=kind),
        (ACTIVATION,),
    )
    for number, (kind, layer) in enumerate([(kind, layer) for kind in "xh" for layer in (1, 2, 3)], start=5)
}
