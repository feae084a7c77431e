"""Figures 1-4 and 11-16: feature change, diversity and joint diversity against width, with the limit in them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tpsim.plot.style import COLUMN, GREY, PAGE, SHADE, finish, finish_page, line_key, page
from validation.converge.scaling import log_axes

from .look import COLOURS, MARKERS, SYMBOLS
from .measure import METRICS, Curve, curves
from .metric_captions import caption
from .study import PARAMETRIZATIONS, Figure, Study

Array = np.ndarray

LABELS = {
    "change": r"$\Vert %s_T-%s_0\Vert\,/\,\Vert %s_0\Vert$",
    "diversity": r"$\lambda_{\min}$ of $\langle %s_i,%s_j\rangle/n$",
    "joint": r"$\lambda_{\min}$ of $[%s_0,%s_T]$ Gram$/n$",
}
TITLES = {"change": "Feature change", "diversity": "Diversity", "joint": "Joint diversity"}
FIELDS = {"h": "pre-activations", "x": "post-activations"}
PRINTED = {"silu": "SiLU", "relu": "ReLU"}
DODGE = 1.07  # between the points of one width
DASHES = {"mup": "-", "ip": (0, (3, 6)), "ntp": (3, (3, 6)), "sp": (6, (3, 6))}  # equal limits show all their colours
STRIP = 0.14  # of the axis, below all values, for those that are zero


class Metrics(NamedTuple):
    """What one figure shows: `metrics` of h or x (`kind`) in a layer, or in the last one if there are fewer."""

    activation: str
    kind: str
    layer: int
    metrics: tuple[str, ...] = METRICS

    def layer_in(self, study: Study) -> int:
        return min(self.layer, study.settings.network.depth)


def metrics_figure(study: Study, figure: Any = None, *, shown: Metrics) -> Any:
    """Draw one panel for each metric: networks as points with bars, limits as lines with bands."""
    layer, kind, count = shown.layer_in(study), shown.kind, len(shown.metrics)
    size = COLUMN if count == 1 else (PAGE, 2.9 if count == 2 else 2.6)
    with page(figure, size) as figure:
        axes = figure.subplots(1, count, squeeze=False)[0]
        for ax, metric in zip(axes, shown.metrics, strict=True):
            found = curves(study, shown.activation, metric, kind, layer)
            _draw(ax, found)
            label = LABELS[metric] % ((kind,) * LABELS[metric].count("%s"))
            finish(ax, TITLES[metric] if count > 1 else "", "width $n$", label)
        phi = PRINTED.get(shown.activation, shown.activation)
        what = f"{FIELDS[kind]}, layer {layer} ({phi}, $T={study.settings.training.steps}$)"
        title = what[0].upper() + what[1:] if count > 1 else f"Joint diversity, {what}"
        finish_page(figure, title, _keys(study, brief=count == 1))
    return figure


def _draw(ax: Any, found: dict[str, Curve]) -> None:
    """Draw one panel."""
    widths = next(iter(found.values())).widths
    for place, name in enumerate(PARAMETRIZATIONS):
        _points(ax, found[name], name, DODGE ** (place - 1.5))
    reach = np.array([widths.min() / 1.5, widths.max() * 1.5])
    zero = []
    for name in PARAMETRIZATIONS:
        mean, error = found[name].bounds
        if not found[name].resolved:
            continue
        if mean > 0:
            ax.plot(reach, [mean, mean], color=COLOURS[name], linestyle=DASHES[name], gid=f"limit {name}", zorder=1.8)
            if np.isfinite(error):
                ax.axhspan(mean - error, mean + error, color=COLOURS[name], alpha=SHADE, linewidth=0, zorder=1.2)
        elif mean == 0:
            zero.append(name)
    log_axes([ax], widths)
    low, high = np.log(ax.get_ylim())
    ax.set_ylim(np.exp(low - STRIP / (1 - STRIP) * (high - low)))
    _zero_points(ax, found)
    _zero_limits(ax, zero)


def _points(ax: Any, curve: Curve, name: str, shift: float) -> None:
    median, low, high = curve.spread()
    use = median > 0
    bars = np.stack([median - low, high - median])[:, use]
    container = ax.errorbar(
        curve.widths[use] * shift, median[use], bars, color=COLOURS[name], linestyle="none", marker=MARKERS[name],
        markersize=3.2, elinewidth=0.8, zorder=3,
    )  # fmt: skip
    container.set_label(f"_{name}")  # found again by tests, and no entry of a legend


def _zero_points(ax: Any, found: dict[str, Curve]) -> None:
    """Mark, at the lower edge, networks whose median is zero: Gram matrices of more vectors than neurons."""
    for place, name in enumerate(PARAMETRIZATIONS):
        zero = found[name].widths[found[name].spread()[0] == 0]
        ax.plot(
            zero * DODGE ** (place - 1.5), np.full(len(zero), 0.02), color=COLOURS[name], linestyle="none",
            marker=MARKERS[name], markersize=3.2, markerfacecolor="white", markeredgewidth=0.7,
            transform=ax.get_xaxis_transform(), gid=f"zero {name}",
        )  # fmt: skip


def _zero_limits(ax: Any, names: Sequence[str]) -> None:
    """Say, at the lower edge, which limits are zero."""
    for place, name in enumerate(reversed(names)):
        ax.plot(
            [0.97 - 0.05 * place], [0.035], color=COLOURS[name], marker=r"$\downarrow$", markersize=7,
            transform=ax.transAxes, linestyle="none", gid=f"limit 0 {name}",
        )  # fmt: skip
    if names:
        ax.text(0.98 - 0.05 * len(names), 0.035, "limit 0", color=GREY, fontsize=7, ha="right", va="center",
                transform=ax.transAxes)  # fmt: skip


def _keys(study: Study, brief: bool) -> list[tuple[Any, str]]:
    seeds = study.settings.seeds
    keys = [line_key(COLOURS[name], SYMBOLS[name], marker=MARKERS[name]) for name in PARAMETRIZATIONS]
    networks = "networks" if brief else f"median of {seeds} networks, 16% to 84%"
    keys.append(line_key(GREY, networks, marker="o", linestyle="none"))
    keys.append(line_key(GREY, "limit" if brief else r"limit $n\to\infty$"))
    return keys


def _figure(title: str, *what: Any) -> Figure:
    shown = Metrics(*what)
    return Figure(title, partial(metrics_figure, shown=shown), partial(caption, shown=shown), (shown.activation,))


FIGURES = {
    "1": _figure("Feature change and diversity against width", "silu", "h", 2, ("change", "diversity")),
    "2": _figure("Diversity of initial and final features together", "silu", "h", 2, ("joint",)),
    "3": _figure("Feature learning with tanh", "tanh", "h", 2),
    "4": _figure("Feature learning with ReLU", "relu", "h", 2),
} | {
    str(number): _figure(f"Feature learning, {FIELDS[kind]}, layer {layer}", "silu", kind, layer)
    for number, (kind, layer) in enumerate([(kind, layer) for kind in "xh" for layer in (1, 2, 3)], start=11)
}
