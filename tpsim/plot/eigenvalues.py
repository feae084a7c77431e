"""Eigenvalues of the kernels, before and after training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from .read import KERNELS, band, first_and_last, kernel_of, layer_of, layers_of, setting
from .style import (
    BLUE,
    GREY,
    SHADE,
    VERMILLION,
    band_key,
    finish,
    finish_page,
    line_key,
    page,
    page_width,
    panel,
    whole_numbers,
)

Array = np.ndarray
FEW = 40  # samples up to which single eigenvalues are marked
INDEX, VALUE = "index $k$", r"eigenvalue $\lambda_k$"


def spectra(run: xr.Dataset, which: str = "x", layer: int | None = None, ax: Any = None) -> Any:
    """Draw the eigenvalues of a kernel, in decreasing order, at the first and the last step: mean +- 2 s.e.

    Eigenvalues are computed per replica and then averaged. The dotted line is tolerance^2 times the mean diagonal at
    the last step, the energy that the engine may drop; eigenvalues below the rounding of the largest are drawn at it.

    Parameters
    ----------
    which : "x", "h" or "dh".
    layer : default the last.

    Raises
    ------
    InputError
        An unknown kernel or layer, or a run without it.
    """
    values, layer = kernel_of(run, which), layer_of(run, layer)
    with panel(ax) as ax:
        keys = _draw(ax, values.sel(layer=layer), setting(run, "simulation", "tolerance"))
        symbol = KERNELS[which] % layer
        finish(ax, f"Eigenvalues of $E[{symbol}(\\xi_i)\\,{symbol}(\\xi_j)]$", INDEX, VALUE, keys)
    return ax


def spectra_figure(run: xr.Dataset, which: str = "x", layers: Sequence[int] | None = None, figure: Any = None) -> Any:
    """Draw `spectra` of several layers side by side on one scale; return the Figure.

    More than four layers are thinned to four, evenly spaced, unless `layers` names them.
    """
    values, layers = kernel_of(run, which), layers_of(run, layers)
    with page(figure, (page_width(0.8 + 1.8 * len(layers)), 2.7)) as figure:
        axes = figure.subplots(1, len(layers), sharey=True, squeeze=False)[0]
        limits = []
        for ax, layer in zip(axes, layers, strict=True):
            keys = _draw(ax, values.sel(layer=layer), setting(run, "simulation", "tolerance"))
            finish(ax, f"layer {layer}", INDEX, VALUE)
            limits.append(ax.get_ylim())
            ax.label_outer()
        axes[0].set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        symbol = KERNELS[which] % "l"
        finish_page(figure, f"Eigenvalues of the kernels $E[{symbol}(\\xi_i)\\,{symbol}(\\xi_j)]$", keys)
    return figure


def eigenvalues(kernel: xr.DataArray) -> xr.DataArray:
    """Eigenvalues (replica, index) of kernels (replica, sample, sample2), largest first; NaN where not finite."""
    matrices = kernel.transpose("replica", "sample", "sample2").values
    found = np.full(matrices.shape[:2], np.nan)
    finite = np.isfinite(matrices).all(axis=(1, 2))
    found[finite] = np.linalg.eigvalsh(matrices[finite])[:, ::-1]
    return xr.DataArray(found, dims=("replica", "index"))


def _draw(ax: Any, kernel: xr.DataArray, tolerance: float | None) -> list[tuple[Any, str]]:
    """Draw the spectra of a kernel (replica, step, sample, sample2) before and after; return the legend entries."""
    keys, drawn = [], []
    for step, colour, marker in zip(first_and_last(kernel), (GREY, BLUE), "os", strict=False):
        values = band(eigenvalues(kernel.sel(step=step)))
        floor = values.mean.size * np.finfo(float).eps * np.nanmax(np.abs(values.mean), initial=0.0)
        drawn.append(np.maximum(values.mean, floor))
        index = np.arange(1, values.mean.size + 1)
        line: dict[str, Any] = {"linewidth": 0.8}
        if index.size <= FEW:
            line |= {"marker": marker, "markerfacecolor": "white" if marker == "o" else colour}
        ax.plot(index, drawn[-1], color=colour, zorder=2.5, **line)
        if values.replicas > 1 and index.size <= FEW:
            ax.errorbar(index, drawn[-1], values.error, fmt="none", ecolor=colour, elinewidth=0.8, capsize=1.5)
        elif values.replicas > 1:
            ax.fill_between(index, values.low, values.high, color=colour, alpha=SHADE, linewidth=0)
        keys.append(line_key(colour, f"$t={step}$", **line))
    if tolerance is not None:
        final = kernel.isel(step=-1).mean("replica").values
        drawn.append(np.array([tolerance**2 * np.diag(final).mean()]))
        ax.axhline(drawn[-1][0], color=VERMILLION, linestyle=":", linewidth=0.9)
        keys.append(line_key(VERMILLION, r"tolerance$^2\times$ mean diagonal", linestyle=":", linewidth=0.9))
    shown = np.concatenate(drawn)
    shown = shown[shown > 0]  # NaN excluded
    if shown.size:
        ax.set_ylim(shown.min() / 3, shown.max() * 3)
        ax.set_yscale("log", nonpositive="clip")
    whole_numbers(ax, index)
    return [*keys, band_key(kernel.sizes["replica"], bars=index.size <= FEW)]
