"""The engine's own quantities against time: basis sizes, new randomness, distance from the initial features."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from .read import Band, band, require, require_hidden, setting
from .style import GREY, band_key, colours, compress, curve, finish_curves, line_key, panel, scale_values, show_zero

Array = np.ndarray
RESOLUTION = 1e-8  # smaller residual ratios are the rounding of a difference of squares
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
    """Draw the new randomness per step for W^l with l = 2..L (Chen et al. 2025, Section 5.4).

    Forward: |P_perp delta x^{l-1}| / |delta x^{l-1}|; backward: |P_perp dh^l| / |dh^l|; P_perp: off the past's span.
    Geometric means over samples and replicas, and +- 2 s.e. of the logarithm. The past is kept to the tolerance only:
    backward values below it are not resolved, nor are forward ones below tolerance |x| / |delta x|, which grows as
    learning slows down; what the tolerance kept back can then appear in one step, as a spike in the next layer.

    Raises
    ------
    InputError
        The run has no residuals (finite networks have none), or one hidden layer only.
    """
    require(run, "residual_forward", "residual_backward")
    require_hidden(run)
    layers = [int(l) for l in run["layer"].values if l > 1]
    with panel(ax) as ax:
        bands = [_geometric(run[name]) for name in ("residual_forward", "residual_backward")]
        _per_layer(ax, run["step"].values, bands, layers)
        scale_values(ax, np.concatenate([values.mean[:, l - 1] for values in bands for l in layers]))
        keys = _layer_keys(layers, "$W^{%d}$")
        keys += [line_key(GREY, r"forward, $\delta x$"), line_key(GREY, "backward, $dh$", linestyle="--")]
        tolerance = setting(run, "simulation", "tolerance")
        if tolerance is not None:
            ax.axhline(tolerance, color=GREY, linestyle=":", linewidth=0.9, zorder=0.5)
            keys.append(line_key(GREY, "tolerance of $|dh|$", linestyle=":", linewidth=0.9))
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
        ax.set_ylim(top=None if largest > ROUNDING else 1.0)
        show_zero(ax)
        keys = [line_key(GREY, "$h^l$"), line_key(GREY, "$x^l$", linestyle="--"), band_key(run.sizes["replica"])]
        keys = [*_layer_keys(layers, "$l=%d$"), *keys]
        ratio = r"$\|Z_t-Z_0\|\,/\,\|Z_0\|$"
        finish_curves(ax, run["step"].values, "Relative change of the features", ratio, keys)
    return ax


def _bands(run: xr.Dataset, *names: str) -> list[Band]:
    """Bands (step, layer)."""
    return [band(run[name].transpose("replica", "step", "layer")) for name in names]


def _geometric(values: xr.DataArray) -> Band:
    """Geometric mean and band (step, layer) of ratios; those of samples outside the minibatch (NaN) are skipped."""
    logarithm = xr.apply_ufunc(np.log, values.clip(min=RESOLUTION)).mean("sample")
    found = band(logarithm.transpose("replica", "step", "layer"))
    return Band(np.exp(found.mean), np.exp(found.low), np.exp(found.high), found.replicas)


def _per_layer(ax: Any, steps: Array, bands: list[Band], layers: list[int]) -> None:
    """One colour per layer; the first quantity solid, the second dashed; undefined steps left out."""
    for values, style in zip(bands, ("-", "--"), strict=False):
        for l, colour in zip(layers, colours(len(layers)), strict=True):
            defined = np.isfinite(values.mean[:, l - 1])
            curve(ax, steps[defined], values.at(defined, l - 1), colour, linestyle=style)


def _layer_keys(layers: list[int], label: str) -> list[tuple[Any, str]]:
    return [line_key(colour, label % l) for l, colour in zip(layers, colours(len(layers)), strict=True)]
