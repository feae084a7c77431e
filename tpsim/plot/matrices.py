"""Kernels as heat maps, before and after training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from .read import KERNELS, MAX_CLASSES, classes, first_and_last, kernel_of, layer_of, layers_of, step_of
from .style import PAGE, finish_page, page, panel

Array = np.ndarray


def kernels(
    run: xr.Dataset, which: str = "x", layer: int | None = None, step: int | None = None, ax: Any = None,
    *, limits: tuple[float, float] | None = None, colorbar: bool = True,
) -> Any:  # fmt: skip
    """Draw the kernel E[Z(xi_i) Z(xi_j)] as a heat map: mean over replicas, samples sorted by target.

    Colours go with the signed square root of the value, so that a kernel that has not grown yet is still read beside
    one that has; the colour bar carries the values.

    Parameters
    ----------
    which : "x", "h" or "dh".
    layer, step : default the last.
    limits : ends of the colour scale; default those of this kernel, centred at 0 where it has both signs.
    colorbar : whether to draw the scale beside the axes.

    Raises
    ------
    InputError
        An unknown kernel, layer or step, or a run without it.
    """
    values = kernel_of(run, which)
    layer, step = layer_of(run, layer), step_of(run, step)
    targets = run["targets"].values
    order = np.argsort(targets, kind="stable")
    matrix = values.sel(layer=layer, step=step).mean("replica").values[np.ix_(order, order)]
    low, high = _limits(matrix) if limits is None else limits
    with panel(ax, (3.0, 2.6)) as ax:
        image = ax.imshow(matrix, cmap=_colours(low), norm=_square_root(low, high), interpolation="nearest")
        _mark_targets(ax, targets[order])
        ax.spines[:].set_visible(False)
        symbol = KERNELS[which] % layer
        ax.set_title(f"Kernel $E[{symbol}(\\xi_i)\\,{symbol}(\\xi_j)]$, $t={step}$")
        if colorbar:
            _colorbar(ax.figure, image, ax)
    return ax


def kernels_figure(run: xr.Dataset, which: str = "x", layers: Sequence[int] | None = None, figure: Any = None) -> Any:
    """Draw `kernels` per layer (columns) at the first and the last step (rows), on one colour scale; return the Figure.

    More than four layers are thinned to four, evenly spaced, unless `layers` names them.
    """
    values, layers, steps = kernel_of(run, which), layers_of(run, layers), first_and_last(run)
    limits = _limits(values.sel(layer=layers, step=steps).mean("replica").values)
    size = (min(PAGE, 1.15 + 1.45 * len(layers)), 0.65 + 1.5 * len(steps))
    with page(figure, size) as figure:
        axes = figure.subplots(len(steps), len(layers), squeeze=False)
        for row, step in zip(axes, steps, strict=True):
            for ax, layer in zip(row, layers, strict=True):
                kernels(run, which, layer, step, ax, limits=limits, colorbar=False)
                ax.label_outer()
                ax.set_title(f"layer {layer}, $t={step}$", fontsize=8)
        _colorbar(figure, axes[0, 0].images[0], axes)
        symbol = KERNELS[which] % "l"
        finish_page(figure, f"Kernels $E[{symbol}(\\xi_i)\\,{symbol}(\\xi_j)]$")
    return figure


def _limits(values: Array) -> tuple[float, float]:
    """Ends of the colour scale: centred at 0 where both signs matter."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low < -0.02 * abs(high):
        return -max(-low, high), max(-low, high)
    if low == high:
        return (0.0, high) if high > 0 else (low, low + 1.0)
    return low, high


def _colours(low: float) -> str:
    return "RdBu_r" if low < 0 else "viridis"


def _square_root(low: float, high: float) -> Any:
    from matplotlib.colors import FuncNorm

    return FuncNorm((lambda v: np.sign(v) * np.sqrt(np.abs(v)), lambda u: np.sign(u) * u**2), low, high)


def _mark_targets(ax: Any, targets: Array) -> None:
    """Name the blocks of equal target along both axes, and part them by thin lines."""
    groups = classes(targets)
    if len(groups) > MAX_CLASSES:
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_xlabel(r"sample $j$, by target", fontsize=7)
        ax.set_ylabel(r"sample $i$, by target", fontsize=7)
        return
    centres, labels = [float(who.mean()) for _, who in groups], [f"$y={y:+.3g}$" for y, _ in groups]
    ax.set_xticks(centres, labels)
    ax.set_yticks(centres, labels, rotation=90, va="center")
    ax.tick_params(length=0, labelsize=7)
    for _, who in groups[1:]:
        ax.axhline(who[0] - 0.5, color="white", linewidth=0.8)
        ax.axvline(who[0] - 0.5, color="white", linewidth=0.8)


def _colorbar(figure: Any, image: Any, axes: Any) -> None:
    bar = figure.colorbar(image, ax=axes, shrink=0.85, pad=0.02, aspect=25)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, width=0.6, length=2.5)
    bar.set_label("square-root scale", fontsize=7)
