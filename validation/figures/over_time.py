"""Figure "time": smallest eigenvalues and correlations of the features in the muP limit at every step."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from tpsim.plot.read import MAX_PANELS, band, layers_of
from tpsim.plot.style import GREY, PAGE, band_key, colours, curve, finish, finish_page, line_key, page, whole_numbers

from .axes import scale_positive
from .captions import activation, counted
from .eigen import smallest
from .runs import limit_run, notices_of, training_of
from .study import Figure, Progress, Settings, Study

Array = np.ndarray
KINDS = {"h": "h^l", "x": "x^l"}
CHANGES = (  # variable, its name in the caption, and what is said where there is none
    ("alignment", "alignment", "undefined"), ("same", "same target", "no pair"), ("other", "other target", "no pair")
)  # fmt: skip


def time_data(settings: Settings, progress: Progress = None) -> xr.Dataset:
    """Simulate the muP limit and read, at every step, eigenvalues and correlations of features.

    Returns
    -------
    Dataset over (kind "h" or "x", replica, step, layer): `eigenvalue`, the smallest one of K; with the correlation
    C_ij of the centred features of two samples, `alignment` = y'Cy / (|C| |y|^2) with y the targets less their mean,
    and `same`, `other`: mean |C_ij| over pairs of equal and of different targets (NaN where there are none).
    """
    run, stopped = limit_run(settings, settings.network, training_of(settings), progress)
    kinds = [_measure(run, kind).assign_coords(kind=kind) for kind in KINDS]
    found = xr.concat(kinds, dim="kind").assign(loss=run["loss"])
    return found.assign_attrs(title="tpsim: time", finished=int(stopped is None), notices=notices_of(run))


def _measure(run: xr.Dataset, kind: str) -> xr.Dataset:
    kernel, mean, y = run[f"kernel_{kind}"], run[f"mean_{kind}"], run["targets"].values
    c = correlations(kernel.values, mean.values)
    dims = ("replica", "step", "layer")
    equal, apart = y[:, None] == y[None, :], ~np.eye(len(y), dtype=bool)
    found = {"alignment": alignment(c, y - y.mean()), "same": _pairs(c, equal & apart), "other": _pairs(c, ~equal)}
    return xr.Dataset({name: (dims, values) for name, values in found.items()}, kernel.coords).assign(
        eigenvalue=smallest(kernel)
    )


def correlations(kernel: Array, mean: Array) -> Array:
    """Correlations (..., m, m) of the features of two samples, (K_ij - m_i m_j) / (sd_i sd_j)."""
    covariance = kernel - mean[..., :, None] * mean[..., None, :]
    deviation = np.sqrt(np.maximum(np.diagonal(covariance, axis1=-2, axis2=-1), 0.0))
    scale = deviation[..., :, None] * deviation[..., None, :]
    return np.divide(covariance, scale, out=np.full_like(covariance, np.nan), where=scale > 0)


def alignment(c: Array, y: Array) -> Array:
    """y'Cy / (|C|_F |y|^2) of matrices (..., m, m): 1 where C = yy', 1 / sqrt(m) where C = 1. NaN for y = 0."""
    top, bottom = np.einsum("...ij,i,j->...", c, y, y), np.sqrt((c**2).sum(axis=(-1, -2))) * (y @ y)
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)


def _pairs(c: Array, which: Array) -> Array:
    """Mean |C_ij| over the pairs `which` (m, m); NaN where there are none."""
    return np.abs(c)[..., which].mean(axis=-1) if which.any() else np.full(c.shape[:-2], np.nan)


def time_figure(study: Study, figure: Any = None) -> Any:
    """Draw eigenvalue, alignment and correlations against t, h above and x below, one colour for each layer."""
    data = study.extras["time"]
    layers = layers_of(data, None)
    palette = dict(zip(layers, colours(len(layers)), strict=True))
    with page(figure, (PAGE, 4.4)) as figure:
        axes = figure.subplots(2, 3, sharex=True)
        for row, (kind, symbol), below in zip(axes, KINDS.items(), ("", "training step $t$"), strict=True):
            own = data.sel(kind=kind)
            for layer, colour in palette.items():
                at = own.sel(layer=layer)
                _curve(row[0], at["eigenvalue"], colour)
                _curve(row[1], at["alignment"], colour)
                _curve(row[2], at["same"], colour)
                _curve(row[2], at["other"], colour, linestyle="--")
            scale_positive(row[0])
            labels = (f"$\\lambda_\\min$ of ${symbol}$", "alignment with targets", "|correlation|")
            for ax, label in zip(row, labels, strict=True):
                whole_numbers(ax, data["step"].values)
                finish(ax, "", below, label)
            for ax in row[1:]:
                ax.set_ylim(0, 1)
        for ax, title in zip(axes[0], ("smallest eigenvalue", "alignment", "correlation of samples"), strict=True):
            ax.set_title(title)
        keys = [line_key(colour, f"$l={layer}$", linewidth=3) for layer, colour in palette.items()]
        keys += [line_key(GREY, "same target"), line_key(GREY, "other target", linestyle="--")]
        keys.append(band_key(data.sizes["replica"]))
        finish_page(figure, r"Features of the $\mu$P limit against time ($h^l$ above, $x^l$ below)", keys)
    return figure


def _curve(ax: Any, values: xr.DataArray, colour: Any, **line: Any) -> None:
    if bool(np.isfinite(values).any()):
        curve(ax, values["step"].values, band(values.transpose("replica", "step")), colour, **line)


def _change(ends: Array, none: str) -> str:
    return f"{ends[0]:.2f} to {ends[1]:.2f}" if np.isfinite(ends).all() else none


def time_caption(study: Study) -> str:
    """Say what is drawn, how small the eigenvalues become and when, and how correlations change."""
    data = study.extras["time"]
    words = []
    for kind in KINDS:
        mean = data.sel(kind=kind).mean("replica", skipna=False)
        low = mean["eigenvalue"].min("layer")
        when = int(low["step"][int(low.fillna(np.inf).argmin("step"))])
        top = mean.sel(layer=mean["layer"][-1]).dropna("step", subset=["eigenvalue"])
        if top.sizes["step"]:
            ends = top.isel(step=[0, -1])
            changes = ", ".join(f"{label} {_change(ends[name].values, none)}" for name, label, none in CHANGES)
            words.append(f"{kind}: smallest eigenvalue {float(low.min()):.2g} at t = {when}; layer {int(top.layer)}, "
                         f"from start to end: {changes}")  # fmt: skip
    layers = data.sizes["layer"]
    return (
        f"Features of the muP limit at every step ({activation(study.settings)}), mean over "
        f"{counted(data.sizes['replica'], 'replica')} with bands of +-2 "
        "standard errors. Left: smallest eigenvalue of the Gram matrix. With C_ij the correlation of the "
        "centred features of samples i and j, middle: alignment y'Cy / (|C| |y|^2) with the centred targets y; right: "
        f"mean |C_ij| over pairs of the same and of other targets. {'. '.join(words)}."
        + (f" Of {layers} layers, {MAX_PANELS} are drawn." if layers > MAX_PANELS else "")
        + ("" if data.attrs["finished"] else " The run had to stop; what follows is missing.")
    )


FIGURE = Figure("Features against time", time_figure, time_caption, extra="time")
