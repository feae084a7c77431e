"""The engine's own quantities against time: basis sizes, new randomness, distance from the initial features."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from .curves import STEP
from .read import band, require, require_hidden, setting
from .style import GREY, band_key, colours, curve, finish, line_key, panel, scale_values


def ranks(run: xr.Dataset, ax: Any = None) -> Any:
    """Draw the basis sizes p (arguments of W^l) and q (arguments of its transpose) against t, for l = 2..L.

    With one hidden layer there is only W^1, whose p is the rank of the inputs seen so far.

    Raises
    ------
    InputError
        The run has no ranks (finite networks have none).
    """
    require(run, "rank_forward", "rank_backward")
    steps, layers = run["step"].values, [int(l) for l in run["layer"].values if l > 1] or [1]
    palette = dict(zip(layers, colours(len(layers)), strict=True))
    with panel(ax) as ax:
        for name, style in (("rank_forward", "-"), ("rank_backward", "--")):
            values = band(run[name].transpose("replica", "step", "layer"))
            for l in layers if layers != [1] or style == "-" else []:
                curve(ax, steps, values.at(slice(None), l - 1), palette[l], linestyle=style)
        ax.set_ylim(bottom=0)
        keys = [line_key(palette[l], f"$W^{{{l}}}$") for l in layers]
        keys += [line_key(GREY, "$p$ (forward)"), line_key(GREY, "$q$ (backward)", linestyle="--")]
        finish(ax, "Basis sizes per hidden matrix", STEP, "arrays", [*keys, band_key(run.sizes["replica"])])
    return ax


def residuals(run: xr.Dataset, ax: Any = None) -> Any:
    """Draw the new randomness per step, averaged over samples, for W^l with l = 2..L (Chen et al. 2025, Section 5.4).

    Forward: |P_perp delta x^{l-1}| / |delta x^{l-1}|; backward: |P_perp dh^l| / |dh^l|; P_perp: off the past's span.

    Raises
    ------
    InputError
        The run has no residuals (finite networks have none), or one hidden layer only.
    """
    require(run, "residual_forward", "residual_backward")
    require_hidden(run)
    layers = [int(l) for l in run["layer"].values if l > 1]
    palette, drawn = dict(zip(layers, colours(len(layers)), strict=True)), []
    with panel(ax) as ax:
        for name, style in (("residual_forward", "-"), ("residual_backward", "--")):
            mean = run[name].mean("sample")  # samples outside the minibatch are NaN, and skipped
            values = band(mean.transpose("replica", "step", "layer"))
            for l in layers:
                defined = np.isfinite(values.mean[:, l - 1])
                curve(ax, run["step"].values[defined], values.at(defined, l - 1), palette[l], linestyle=style)
                drawn.append(values.mean[:, l - 1])
        scale_values(ax, np.concatenate(drawn))
        keys = [line_key(palette[l], f"$W^{{{l}}}$") for l in layers]
        keys += [line_key(GREY, r"forward, $\delta x$"), line_key(GREY, "backward, $dh$", linestyle="--")]
        tolerance = setting(run, "simulation", "tolerance")
        if tolerance is not None:
            ax.axhline(tolerance, color=GREY, linestyle=":", linewidth=0.9)
            keys.append(line_key(GREY, "tolerance", linestyle=":", linewidth=0.9))
        finish(
            ax,
            "New randomness per step",
            STEP,
            r"$|P_\perp\cdot|\,/\,|\cdot|$",
            [*keys, band_key(run.sizes["replica"])],
        )
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
    palette = dict(zip(layers, colours(len(layers)), strict=True))
    with panel(ax) as ax:
        for name, style in (("feature_change_h", "-"), ("feature_change_x", "--")):
            values = band(run[name].transpose("replica", "step", "layer"))
            for k, l in enumerate(layers):
                curve(ax, run["step"].values, values.at(slice(None), k), palette[l], linestyle=style)
        ax.set_ylim(bottom=0)
        keys = [line_key(palette[l], f"$l={l}$") for l in layers]
        keys += [line_key(GREY, "$h^l$"), line_key(GREY, "$x^l$", linestyle="--"), band_key(run.sizes["replica"])]
        finish(ax, "Relative change of the features", STEP, "$\\|Z_t-Z_0\\|\\,/\\,\\|Z_0\\|$", keys)
    return ax
