"""Kernels as heat maps, and their eigenvalues, before and after training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from ..errors import InputError
from .read import MAX_CLASSES, band, classes, first_and_last, layer_of, require, setting, some_layers, step_of
from .style import BLUE, GREY, PAGE, VERMILLION, band_key, finish, line_key, page, panel

Array = np.ndarray
SYMBOL = {"h": "h", "x": "x", "dh": r"\mathrm{d}h"}
FEW = 40  # samples up to which single eigenvalues are marked


def kernels(
    run: xr.Dataset, which: str = "x", layer: int | None = None, step: int | None = None, ax: Any = None,
    *, limits: tuple[float, float] | None = None, colorbar: bool = True,
) -> Any:  # fmt: skip
    """Draw the kernel E[Z(xi_i) Z(xi_j)] as a heat map: mean over replicas, samples sorted by target.

    Parameters
    ----------
    which : "x", "h" or "dh".
    layer, step : default the last.
    limits : ends of the colour scale; default those of this kernel. A range with both signs is centred at 0.
    colorbar : whether to draw the scale beside the axes.

    Raises
    ------
    InputError
        An unknown kernel, layer or step, or a run without it.
    """
    values = _kernel(run, which)
    layer, step = layer_of(run, layer), step_of(run, step)
    order = np.argsort(run["targets"].values, kind="stable")
    matrix = values.sel(layer=layer, step=step).mean("replica").values[np.ix_(order, order)]
    low, high, colours = _colour_scale(matrix if limits is None else np.array(limits))
    with panel(ax, (3.0, 2.6)) as ax:
        image = ax.imshow(matrix, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
        _mark_targets(ax, run["targets"].values[order])
        ax.spines[:].set_visible(False)
        ax.set_title(f"$E[Z^{{{_name(which, layer)}}}Z^{{{_name(which, layer)}}}{{}}']$, $t={step}$")
        if colorbar:
            _colorbar(ax.figure, image, ax)
    return ax


def kernels_figure(run: xr.Dataset, which: str = "x", layers: Sequence[int] | None = None, figure: Any = None) -> Any:
    """Draw `kernels` per layer (columns) at the first and the last step (rows), on one colour scale; return the Figure.

    More than four layers are thinned to four, evenly spaced, unless `layers` names them.
    """
    values = _kernel(run, which)
    layers = [layer_of(run, l) for l in layers] if layers is not None else some_layers(run)
    steps = first_and_last(run)
    shown = values.sel(layer=layers, step=steps).mean("replica").values
    limits = _colour_scale(shown)[:2]
    width = min(PAGE, 1.1 + 1.45 * len(layers))
    with page(figure, (width, 0.75 + 1.55 * len(steps))) as figure:
        axes = figure.subplots(len(steps), len(layers), squeeze=False)
        for row, step in zip(axes, steps, strict=True):
            for ax, layer in zip(row, layers, strict=True):
                kernels(run, which, layer, step, ax, limits=limits, colorbar=False)
                ax.label_outer()
                ax.set_title(f"layer {layer}, $t={step}$", fontsize=8)
        _colorbar(figure, axes[0, 0].images[0], axes)
        symbol = _name(which, "l")
        figure.suptitle(f"Kernels $E[Z^{{{symbol}}}(\\xi_i)\\,Z^{{{symbol}}}(\\xi_j)]$", fontsize=8.5)
    return figure


def spectra(run: xr.Dataset, which: str = "x", layer: int | None = None, ax: Any = None) -> Any:
    """Draw the eigenvalues of a kernel, in decreasing order, at the first and the last step: mean +- 2 s.e.

    Eigenvalues are computed per replica and then averaged. The dotted line is tolerance^2 times the mean diagonal at
    the last step, the energy that the engine may drop; values below the rounding of the largest are drawn at it.

    Raises
    ------
    InputError
        An unknown kernel or layer, or a run without it.
    """
    values = _kernel(run, which).sel(layer=layer_of(run, layer))
    steps = first_and_last(run)
    m = run.sizes["sample"]
    rank, smallest, largest = np.arange(1, m + 1), np.inf, 0.0
    with panel(ax) as ax:
        keys = []
        for step, colour, marker in zip(steps, (GREY, BLUE), ("o", "s"), strict=False):
            found = band(eigenvalues(values.sel(step=step)))
            floor = m * np.finfo(float).eps * np.nanmax(np.abs(found.mean), initial=0.0)
            mean = np.maximum(found.mean, floor)
            label = f"$t={step}$"
            if m <= FEW:
                error = found.error if found.replicas > 1 else None
                fill = "white" if marker == "o" else colour
                ax.errorbar(
                    rank, mean, error, color=colour, marker=marker, markerfacecolor=fill, linewidth=0.8, capsize=1.5
                )
                keys.append(line_key(colour, label, marker=marker, markerfacecolor=fill, linewidth=0.8))
            else:
                ax.plot(rank, mean, color=colour)
                if found.replicas > 1:
                    ax.fill_between(rank, found.low, found.high, color=colour, alpha=0.25, linewidth=0)
                keys.append(line_key(colour, label))
            smallest, largest = (
                min(smallest, np.nanmin(mean, initial=np.inf)),
                max(largest, np.nanmax(mean, initial=0.0)),
            )
        tolerance = setting(run, "simulation", "tolerance")
        if tolerance is not None and largest > 0:
            kernel = values.sel(step=steps[-1]).mean("replica").values
            floor = tolerance**2 * float(np.mean(np.diag(kernel)))
            ax.axhline(floor, color=VERMILLION, linestyle=":", linewidth=0.9)
            keys.append(line_key(VERMILLION, "tolerance$^2$", linestyle=":", linewidth=0.9))
            smallest = min(smallest, floor)
        if largest > 0:
            ax.set_yscale("log", nonpositive="clip")
            ax.set_ylim(smallest / 3, largest * 3)
        ax.xaxis.get_major_locator().set_params(integer=True)
        layer = layer_of(run, layer)
        keys.append(band_key(run.sizes["replica"]))
        finish(
            ax,
            f"Eigenvalues of $E[Z^{{{_name(which, layer)}}}Z^{{{_name(which, layer)}}}{{}}']$",
            "index $k$",
            r"$\lambda_k$",
            keys,
        )
    return ax


def spectra_figure(run: xr.Dataset, which: str = "x", layers: Sequence[int] | None = None, figure: Any = None) -> Any:
    """Draw `spectra` of several layers side by side on one scale; return the Figure."""
    _kernel(run, which)
    layers = [layer_of(run, l) for l in layers] if layers is not None else some_layers(run)
    with page(figure, (min(PAGE, 0.7 + 1.9 * len(layers)), 2.5)) as figure:
        axes = figure.subplots(1, len(layers), sharey=True, squeeze=False)[0]
        limits = []
        for ax, layer in zip(axes, layers, strict=True):
            spectra(run, which, layer, ax)
            limits.append(ax.get_ylim())
            ax.label_outer()
        axes[0].set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    return figure


def eigenvalues(kernel: xr.DataArray) -> xr.DataArray:
    """Eigenvalues (replica, index) of kernels (replica, sample, sample2), largest first; NaN where not finite."""
    matrices = kernel.transpose("replica", "sample", "sample2").values
    found = np.full(matrices.shape[:2], np.nan)
    finite = np.isfinite(matrices).all(axis=(1, 2))
    found[finite] = np.linalg.eigvalsh(matrices[finite])[:, ::-1]
    return xr.DataArray(found, dims=("replica", "index"))


def _kernel(run: xr.Dataset, which: str) -> xr.DataArray:
    if which not in SYMBOL:
        raise InputError("which", which, f"one of {sorted(SYMBOL)}")
    require(run, f"kernel_{which}", "targets")
    return run[f"kernel_{which}"]


def _name(which: str, layer: int | str) -> str:
    return f"{SYMBOL[which]}^{{{layer}}}"


def _colour_scale(values: Array) -> tuple[float, float, str]:
    """Ends and name of the colour map: sequential for one sign, diverging and centred at 0 for two."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low < -0.02 * max(high, 0.0) and high > 0.02 * -low:
        reach = max(-low, high)
        return -reach, reach, "RdBu_r"
    return low, high if high > low else low + 1.0, "viridis"


def _mark_targets(ax: Any, targets: Array) -> None:
    """Name the blocks of equal target along both axes, and part them by thin lines."""
    groups = classes(targets)
    if len(groups) > MAX_CLASSES:
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_xlabel(r"sample $j$ ($y$ rising)", fontsize=7)
        ax.set_ylabel(r"sample $i$ ($y$ rising)", fontsize=7)
        return
    centres, labels = [float(who.mean()) for _, who in groups], [f"$y={y:+g}$" for y, _ in groups]
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
