"""The figure of a sweep: feature learning and feature diversity after training against the width."""

from __future__ import annotations

from typing import Any

import xarray as xr

from tpsim.conventions import parametrization_title
from tpsim.plot.style import (
    BLUE,
    GREY,
    ORANGE,
    PAGE,
    PURPLE,
    VERMILLION,
    band_key,
    finish,
    finish_page,
    line_key,
    page,
    scale_values,
)

from .table import CHANGE, SMALLEST, estimate, final

Look = tuple[str, dict[str, Any]]
LOOKS: dict[str, Look] = {
    "sp": (VERMILLION, {"marker": "s"}),
    "ntp": (ORANGE, {"marker": "^", "linestyle": "--"}),  # it often lies on SP
    "ip": (PURPLE, {"marker": "v"}),
    "mup": (BLUE, {"marker": "o"}),
}
OTHER: Look = (GREY, {"marker": "D"})
LABELS = {CHANGE: "relative change of $h^L$", SMALLEST: "smallest eigenvalue of $h^L\\cdot h^L/n$"}


def draw(run: xr.Dataset, figure: Any = None) -> Any:
    """Draw the change of h and the smallest eigenvalue of its kernel, last layer and step, a row for each activation.

    Means over the networks that did not diverge +- 2 standard errors; only what was recorded is drawn.
    """
    found = final(run)
    panels = {LABELS[name]: found[name].isel(layer=-1) for name in LABELS if name in found}
    activations = [str(name) for name in run["activation"].values]
    with page(figure, (PAGE, 0.5 + 2.2 * len(activations))) as figure:
        axes = figure.subplots(len(activations), len(panels), squeeze=False)
        for row, activation in zip(axes, activations, strict=True):
            for ax, (label, values) in zip(row, panels.items(), strict=True):
                _panel(ax, values.sel(activation=activation))
                finish(ax, activation, "width $n$", label)
        keys = []
        for name in run["parametrization"].values.tolist():
            colour, line = LOOKS.get(name, OTHER)
            keys.append(line_key(colour, parametrization_title(name).split(":")[0], **line))
        title = f"networks of finite width after {int(run['step'][-1])} steps, $L = {run.sizes['layer']}$"
        finish_page(figure, title, [*keys, band_key(run.sizes["replica"], bars=True)])
    return figure


def _panel(ax: Any, values: xr.DataArray) -> None:
    """One line over the widths for each parametrization."""
    mean, error, _ = estimate(values)
    widths = values["width"].values
    for name in values["parametrization"].values.tolist():
        place, bars = mean.sel(parametrization=name).values, 2.0 * error.sel(parametrization=name).values
        colour, line = LOOKS.get(name, OTHER)
        ax.errorbar(widths, place, bars, color=colour, capsize=2, **line)
    ax.set_xscale("log", base=2)
    ax.set_xticks(widths, [str(n) for n in widths])
    ax.minorticks_off()
    scale_values(ax, mean.values)
