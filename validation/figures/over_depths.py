"""Figure "depths": smallest eigenvalues and feature change of networks of L = 2, 3, .. hidden layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from tpsim.plot.style import PAGE, colours, finish, finish_page, line_key, page

from ..converge.scaling import log_ticks
from .eigen import smallest
from .runs import STEPS, limit_run, network_run, summarised, training_of, width_of
from .study import Figure, Progress, Settings, Study

SERIES = {"limit": r"$\mu$P, limit", "mup": r"$\mu$P", "ip": "IP"}  # and what they are called in pictures
VARIABLES = {
    "eigenvalue_h": r"$\lambda_\min$ of $h^l$", "eigenvalue_x": r"$\lambda_\min$ of $x^l$",
    "feature_change_h": "feature change of $h^l$", "feature_change_x": "feature change of $x^l$",
}  # fmt: skip
KEPT = ("kernel_h", "kernel_x", "feature_change_h", "feature_change_x")


def depths_data(settings: Settings, progress: Progress = None) -> xr.Dataset:
    """Train the muP limit, and networks of muP and IP of one width, at every depth; what they are like at the end.

    Returns
    -------
    Dataset over (series, depth, layer, replica): smallest eigenvalues of K/n and feature changes, NaN where there is no
    such layer or replica, and the loss (series, depth, replica). `width` is that of the networks.
    """
    training, width = training_of(settings), width_of(settings)
    every = max(training.steps, 1)
    depths = []
    for depth in settings.depths:
        network = replace(settings.network, depth=depth)
        runs = {"limit": limit_run(settings, network, training, progress, record_every=every)[0]}
        for name in ("mup", "ip"):
            runs[name] = network_run(settings, network, training, width, name, KEPT, record_every=every)
        series = [_end(run).assign_coords(series=name) for name, run in runs.items()]
        depths.append(xr.concat(series, dim="series", join="outer").assign_coords(depth=depth))
    found = xr.concat(depths, dim="depth", join="outer")
    return found.assign_attrs(title="tpsim: depths", width=width, steps=training.steps)


def _end(run: xr.Dataset) -> xr.Dataset:
    last = run.isel(step=-1)
    return xr.Dataset(
        {f"eigenvalue_{kind}": smallest(last[f"kernel_{kind}"]) for kind in "hx"}
        | {name: last[name] for name in ("feature_change_h", "feature_change_x", "loss")}
    ).drop_vars("step")


def depths_figure(study: Study, figure: Any = None) -> Any:
    """Draw each quantity against the layer, one line for each depth: the limit, and networks of muP and IP."""
    data = study.extras["depths"]
    palette = dict(zip(map(int, data["depth"].values), colours(data.sizes["depth"]), strict=True))
    styles: dict[str, dict[str, Any]] = {
        "limit": {"linestyle": "-", "marker": ""},
        "mup": {"linestyle": "none", "marker": "o", "markersize": 3.2},
        "ip": {"linestyle": ":", "marker": "s", "markersize": 3.2, "markerfacecolor": "white"},
    }
    with page(figure, (PAGE, 4.6)) as figure:
        axes = figure.subplots(2, 2, sharex=True)
        for ax, (name, label) in zip(axes.flat, VARIABLES.items(), strict=True):
            for depth, colour in palette.items():
                for series, style in styles.items():
                    _line(ax, data[name].sel(depth=depth, series=series), colour, style)
            ax.set_yscale("log")
            log_ticks(ax.yaxis)
            ax.set_xticks(data["layer"].values)
            finish(ax, "", "layer $l$" if ax in axes[1] else "", label)
        keys = [line_key(colour, f"$L={depth}$", linewidth=3) for depth, colour in palette.items()]
        names = {"limit": SERIES["limit"]} | {k: f"{SERIES[k]}, $n={data.attrs['width']}$" for k in ("mup", "ip")}
        keys += [line_key("black", names[series], **style) for series, style in styles.items()]
        finish_page(figure, f"Depths, after $T={data.attrs['steps']}$ steps (eigenvalues of $K/n$)", keys)
    return figure


def _line(ax: Any, values: xr.DataArray, colour: Any, style: dict[str, Any]) -> None:
    """One depth of one series: mean over replicas, bars of +- 2 s.e."""
    mean, error = summarised(values)
    use = np.isfinite(mean) & (mean > 0)
    bars = np.where(np.isfinite(error[use]), 2 * error[use], 0)
    ax.errorbar(values["layer"].values[use], mean[use], bars, color=colour, elinewidth=0.8, linewidth=1, **style)


def depths_caption(study: Study) -> str:
    """Say what is drawn, where features are independent and move, and what IP does."""
    data = study.extras["depths"]
    smallest_one = xr.concat([data["eigenvalue_h"], data["eigenvalue_x"]], "kind").min(["kind", "layer"])
    words = []
    for depth in map(int, data["depth"].values):
        own, loss = (values.sel(depth=depth) for values in (smallest_one, data["loss"]))
        (low, error), change = summarised(own.sel(series="limit")), data["feature_change_h"].sel(depth=depth)
        moved = summarised(change.sel(series="limit"))[0]
        text = f"L = {depth}: {float(low):.2g} ({float(error):.1g}), feature change of h {np.nanmin(moved):.2g} to "
        text += f"{np.nanmax(moved):.2g}, loss {float(summarised(loss.sel(series='limit'))[0]):.2g}"
        ip = [float(summarised(values.sel(series="ip"))[0]) for values in (own, loss)]
        words.append(f"{text}; IP {ip[0]:.2g}, loss {ip[1]:.2g}")
    resolved = int((_resolved(smallest_one.sel(series="limit"))).sum())
    return (
        f"Smallest eigenvalue of K/n and relative feature change by layer, after at most {STEPS} steps of the settings "
        f"of the other figures, for depths L = {', '.join(map(str, data['depth'].values))}. Lines: the muP limit, mean "
        f"over {_count(data, 'limit')} replicas; circles and squares: {_count(data, 'mup')} networks each of width "
        f"{data.attrs['width']} in muP and IP. Bars: +-2 standard errors. Smallest eigenvalue over all layers, h and x "
        f"(standard error) of the limit, and of IP beside it: {'. '.join(words)}. The limit's is more than four "
        f"standard errors above zero at {resolved} of {data.sizes['depth']} depths."
    )


def _resolved(values: xr.DataArray) -> np.ndarray:
    mean, error = summarised(values)
    return mean > 4 * error


def _count(data: xr.Dataset, series: str) -> int:
    return int(data["loss"].sel(series=series).count("replica").max())


FIGURE = Figure("Depths", depths_figure, depths_caption, extra="depths")
