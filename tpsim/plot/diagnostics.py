"""The engine's own quantities against time: basis sizes, new randomness, distance from the initial features."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from .read import Band, band, require, require_hidden, setting
from .style import GREY, band_key, colours, compress, curve, finish_curves, line_key, panel, scale_values

Array = np.ndarray
ROUNDING = 1e-12  # a relative change below this is that of float64 sums


def ranks(run: xr.Dataset, ax: Any = None) -> Any:
    """Draw the basis sizes p (arguments of W^l) and q (arguments of its transpose) against t, for l = 2..L.

    With one hidden layer there is only W^1, whose p is the rank of the inputs.

    Raises
    ------
    InputError
        The run has no ranks (finite networks have none).
    """
    require(run, "rank_forward", "rank_backward")
    layers = [int(l) for l in run["layer"].values if l > 1]
    with panel(ax) as ax:
        if layers:
            _per_layer(ax, run["step"].values, _bands(run, "rank_forward", "rank_backward"), layers)
            keys = [line_key(GREY, "$p$ (forward)"), line_key(GREY, "$q$ (backward)", linestyle="--")]
        else:
            layers = [1]
            _per_layer(ax, run["step"].values, _bands(run, "rank_forward"), layers)
            keys = [line_key(GREY, "$p$ (rank of the inputs)")]
        ax.set_ylim(bottom=0)
        keys = [*_layer_keys(layers, "$W^{%d}$"), *keys, band_key(run.sizes["replica"])]
        finish_curves(ax, run["step"].values, "Basis sizes per weight matrix", "arrays", keys)
    return ax


def residuals(run: xr.Dataset, ax: Any = None) -> Any:
    """Draw the new randomness per step, averaged over samples, for W^l with l = 2..L (Chen et al. 2025, Section 5.4).

    Forward: |P_perp delta x^{l-1}| / |delta x^{l-1}|; backward: |P_perp dh^l| / |dh^l|; P_perp: off the past's span.
    The past is kept to the tolerance, relative to |x| and |dh|: smaller values say only that it was reached.

    Raises
    ------
    InputError
        The run has no residuals (finite networks have none), or one hidden layer only.
    """
    require(run, "residual_forward", "residual_backward")
    require_hidden(run)
    layers = [int(l) for l in run["layer"].values if l > 1]
    with panel(ax) as ax:
        bands = _bands(run, "residual_forward", "residual_backward")
        _per_layer(ax, run["step"].values, bands, layers)
        scale_values(ax, np.concatenate([values.mean[:, l - 1] for values in bands for l in layers]))
        keys = _layer_keys(layers, "$W^{%d}$")
        keys += [line_key(GREY, r"forward, $\delta x$"), line_key(GREY, "backward, $dh$", linestyle="--")]
        tolerance = setting(run, "simulation", "tolerance")
        if tolerance is not None:
            ax.axhline(tolerance, color=GREY, linestyle=":", linewidth=0.9, zorder=0.5)
            keys.append(line_key(GREY, "tolerance", linestyle=":", linewidth=0.9))
        keys.append(band_key(run.sizes["replica"]))
        finish_curves(ax, run["step"].values, "New randomness per step", r"$|P_\perp\cdot|\,/\,|\cdot|$", keys)
    return ax


def feature_change(run: xr.Dataset, ax: Any = None) -> Any:
    """Draw sqrt(sum_i E|Z_t - Z_0|^2 / sum_i E|Z_0|^2) of h and x per layer against t.

    Raises
    ------
    InputError
        The run has no feature change.
    """
    require(run, "feature_change_h", "feature_change_x")
    layers = [int(l) for l in run["layer"].values]
    with panel(ax) as ax:
        bands = _bands(run, "feature_change_h", "feature_change_x")
        _per_layer(ax, run["step"].values, bands, layers)
        largest = max(float(np.nanmax(values.mean, initial=0.0)) for values in bands)
        compress(ax, largest)
        ax.set_ylim(bottom=0, top=None if largest > ROUNDING else 1.0)
        keys = [line_key(GREY, "$h^l$"), line_key(GREY, "$x^l$", linestyle="--"), band_key(run.sizes["replica"])]
        keys = [*_layer_keys(layers, "$l=%d$"), *keys]
        ratio = r"$\|Z_t-Z_0\|\,/\,\|Z_0\|$"
        finish_curves(ax, run["step"].values, "Relative change of the features", ratio, keys)
    return ax


def _bands(run: xr.Dataset, *names: str) -> list[Band]:
    """Bands (step, layer); averaged over samples, those outside the minibatch (NaN) skipped."""
    averaged = (run[name].mean("sample") if "sample" in run[name].dims else run[name] for name in names)
    return [band(values.transpose("replica", "step", "layer")) for values in averaged]


def _per_layer(ax: Any, steps: Array, bands: list[Band], layers: list[int]) -> None:
    """One colour per layer; the first quantity solid, the second dashed; undefined steps left out."""
    for values, style in zip(bands, ("-", "--"), strict=False):
        for l, colour in zip(layers, colours(len(layers)), strict=True):
            defined = np.isfinite(values.mean[:, l - 1])
            curve(ax, steps[defined], values.at(defined, l - 1), colour, linestyle=style)


def _layer_keys(layers: list[int], label: str) -> list[tuple[Any, str]]:
    return [line_key(colour, label % l) for l, colour in zip(layers, colours(len(layers)), strict=True)]
