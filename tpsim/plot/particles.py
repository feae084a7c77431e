"""Densities of Z^h, from particle snapshots, before and after training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter1d

from ..errors import InputError
from .read import classes, first_and_last, layer_of, require, some_layers
from .style import BLUE, GREY, PAGE, finish, line_key, page, panel

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
    require(run, "Z_h")
    layer = layer_of(run, layer)
    if sample not in range(run.sizes["sample"]):
        raise InputError("sample", sample, f"0..{run.sizes['sample'] - 1}")
    keys = []
    with panel(ax) as ax:
        for step, colour in zip(first_and_last(run, "snapshot_step"), (GREY, BLUE), strict=False):
            z = run["Z_h"].sel(layer=layer, snapshot_step=step).isel(sample=sample).values.ravel()
            keys.append(line_key(colour, f"$t={step}$"))
            _draw(ax, z, colour)
        ax.set_ylim(bottom=0)
        keys.append(line_key("black", "Gaussian", linestyle="--", linewidth=0.8))
        y = float(run["targets"].values[sample])
        finish(
            ax,
            f"Density of $Z^{{h^{{{layer}}}}}$ ($y={y:+g}$)",
            f"$Z^{{h^{{{layer}}}}}(\\xi_{{{sample}}})$",
            "density",
            keys,
        )
    return ax


def densities_figure(run: xr.Dataset, layers: Sequence[int] | None = None, figure: Any = None) -> Any:
    """Draw `densities` per layer (columns) of one sample with the lowest and one with the highest target (rows)."""
    require(run, "Z_h", "targets")
    layers = [layer_of(run, l) for l in layers] if layers is not None else some_layers(run)
    groups = classes(run["targets"].values)
    samples = sorted({int(groups[0][1][0]), int(groups[-1][1][0])})
    with page(figure, (min(PAGE, 0.7 + 2.0 * len(layers)), 0.3 + 2.0 * len(samples))) as figure:
        axes = figure.subplots(len(samples), len(layers), squeeze=False)
        for row, sample in zip(axes, samples, strict=True):
            for ax, layer in zip(row, layers, strict=True):
                densities(run, layer, sample, ax)
                if layer != layers[0]:
                    ax.set_ylabel("")
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


def _draw(ax: Any, z: Array, colour: Any) -> None:
    mean, std = float(z.mean()), float(z.std())
    if not std > 1e-12 * max(abs(mean), 1e-300):  # a point mass (a zero input), or not finite: no density
        ax.axvline(mean, color=colour)
        return
    grid, height = density(z)
    ax.plot(grid, height, color=colour)
    ax.fill_between(grid, height, color=colour, alpha=0.15, linewidth=0)
    ax.plot(
        grid,
        np.exp(-0.5 * ((grid - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi)),
        color=colour,
        linestyle="--",
        linewidth=0.8,
    )
