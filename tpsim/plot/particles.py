"""Densities of Z^h, from particle snapshots, before and after training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter1d

from ..errors import InputError
from .read import classes, first_and_last, layer_of, layers_of, require
from .style import BLUE, GREY, finish, finish_page, line_key, page, page_width, panel

Array = np.ndarray
CELLS = 512


def densities(run: xr.Dataset, layer: int | None = None, sample: int = 0, ax: Any = None) -> Any:
    """Draw the density of Z^{h^l_t}(xi_i) at the first and the last snapshot, particles of all replicas pooled.

    Dashed: the Gaussian of the same mean and variance.

    Parameters
    ----------
    layer : default the last.
    sample : i, the index of the training sample.

    Raises
    ------
    InputError
        A run without snapshots, or an unknown layer or sample.
    """
    require(run, "Z_h", "targets")
    layer = layer_of(run, layer)
    integer = isinstance(sample, int | np.integer) and not isinstance(sample, bool)
    if not integer or sample not in range(run.sizes["sample"]):
        raise InputError("sample", sample, f"0..{run.sizes['sample'] - 1}")
    with panel(ax) as ax:
        keys = _draw(ax, run["Z_h"].sel(layer=layer).isel(sample=sample))
        y = float(run["targets"].values[sample])
        symbol = f"Z^{{h^{{{layer}}}}}(\\xi_{{{sample}}})"
        finish(ax, f"Density of ${symbol}$, target $y={y:+.3g}$", f"${symbol}$", "density", keys)
    return ax


def densities_figure(run: xr.Dataset, layers: Sequence[int] | None = None, figure: Any = None) -> Any:
    """Draw `densities` per layer (columns) of a sample with the lowest and one with the highest target (rows).

    More than four layers are thinned to four, evenly spaced, unless `layers` names them.
    """
    require(run, "Z_h", "targets")
    layers, targets = layers_of(run, layers), run["targets"].values
    groups = classes(targets)
    samples = list(dict.fromkeys((int(groups[0][1][0]), int(groups[-1][1][0]))))
    size = (page_width(0.6 + 1.9 * len(layers)), 0.7 + 1.45 * len(samples))
    with page(figure, size) as figure:
        axes = figure.subplots(len(samples), len(layers), squeeze=False)
        for row, sample in zip(axes, samples, strict=True):
            for ax, layer in zip(row, layers, strict=True):
                keys = _draw(ax, run["Z_h"].sel(layer=layer).isel(sample=sample))
                name = f"layer {layer}, $\\xi_{{{sample}}}$ ($y={targets[sample]:+.3g}$)"
                finish(ax, name, "" if sample != samples[-1] else f"$Z^{{h^{{{layer}}}}}$", "density")
                if layer != layers[0]:
                    ax.set_ylabel("")
        finish_page(figure, "Densities of $Z^{h^l}$, before and after training", keys)
    return figure


def density(z: Array, cells: int = CELLS) -> tuple[Array, Array]:
    """Kernel density estimate (grid, density) of a sample: a fine histogram smoothed by a Gaussian, O(size).

    Bandwidth 0.9 min(std, IQR / 1.34) n^{-1/5} (Silverman); the grid reaches four bandwidths past the sample.
    """
    spread = min(z.std(), float(np.subtract(*np.quantile(z, (0.75, 0.25)))) / 1.34) or z.std()
    width = 0.9 * spread * z.size**-0.2
    edges = np.linspace(z.min() - 4 * width, z.max() + 4 * width, cells + 1)
    counts = np.histogram(z, edges, density=True)[0]
    return 0.5 * (edges[1:] + edges[:-1]), gaussian_filter1d(counts, width / (edges[1] - edges[0]), mode="constant")


def _draw(ax: Any, values: xr.DataArray) -> list[tuple[Any, str]]:
    """Draw the densities of (replica, snapshot_step, particle) before and after; return the legend entries."""
    keys = []
    for step, colour in zip(first_and_last(values, "snapshot_step"), (GREY, BLUE), strict=False):
        z = values.sel(snapshot_step=step).values.ravel()
        keys.append(line_key(colour, f"$t={step}$"))
        mean, std = float(z.mean()), float(z.std())
        if not std > 1e-12 * abs(mean):  # a point mass (a zero input): no density
            ax.axvline(mean, color=colour)
            continue
        grid, height = density(z)
        ax.plot(grid, height, color=colour)
        ax.fill_between(grid, height, color=colour, alpha=0.15, linewidth=0)
        gaussian = np.exp(-0.5 * ((grid - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
        ax.plot(grid, gaussian, color=colour, linestyle="--", linewidth=0.8)
    ax.set_ylim(bottom=0)
    return [*keys, line_key("black", "Gaussian of the same mean and variance", linestyle="--", linewidth=0.8)]
