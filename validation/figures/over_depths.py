"""Figure "depths": smallest eigenvalues and feature change of networks of L = 2, 3, .. hidden layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from tpsim.plot.style import PAGE, colours, finish, finish_page, line_key, page
from validation.claim import LEVEL, bounds

from .axes import scale_positive
from .captions import activation, counted
from .eigen import smallest
from .runs import joined, limit_run, network_run, notices_of, summarised, training_of, width_of
from .study import Figure, Progress, Settings, Study

SERIES: dict[str, dict[str, Any]] = {
    "limit": {"linestyle": "-", "marker": ""},
    "mup": {"linestyle": "none", "marker": "o", "markersize": 3.2},
    "ip": {"linestyle": ":", "marker": "s", "markersize": 3.2, "markerfacecolor": "white"},
}
ROWS = {r"$\mu$P": ("limit", "mup"), "IP": ("ip",)}
PANELS = {
    "eigenvalue_h": r"$\lambda_\min$ of $h^l$",
    "eigenvalue_x": r"$\lambda_\min$ of $x^l$",
    "feature_change_h": "feature change of $h^l$",
}
DODGE = 0.08  # of a layer, between depths
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
    depths, notices = [], []
    for depth in settings.depths:
        network = replace(settings.network, depth=depth)
        runs = {"limit": limit_run(settings, network, training, progress, record_every=every)[0]}
        for name in ("mup", "ip"):
            runs[name] = network_run(settings, network, training, width, name, KEPT, record_every=every)
        notices += [notices_of(run) for run in runs.values()]
        series = [_end(run).assign_coords(series=name) for name, run in runs.items()]
        depths.append(xr.concat(series, dim="series", join="outer").assign_coords(depth=depth))
    found = xr.concat(depths, dim="depth", join="outer")
    return found.assign_attrs(title="tpsim: depths", width=width, steps=training.steps, notices=joined(notices))


def _end(run: xr.Dataset) -> xr.Dataset:
    last = run.isel(step=-1)
    return xr.Dataset(
        {f"eigenvalue_{kind}": smallest(last[f"kernel_{kind}"]) for kind in "hx"}
        | {name: last[name] for name in ("feature_change_h", "feature_change_x", "loss")}
    ).drop_vars("step")


def depths_figure(study: Study, figure: Any = None) -> Any:
    """Draw each quantity against the layer, one colour for each depth: muP above, the limit as lines, and IP below."""
    data = study.extras["depths"]
    palette = dict(zip(map(int, data["depth"].values), colours(data.sizes["depth"]), strict=True))
    with page(figure, (PAGE, 4.4)) as figure:
        axes = figure.subplots(2, len(PANELS), sharex=True)
        for row, (title, members), below in zip(axes, ROWS.items(), ("", "layer $l$"), strict=True):
            for ax, (name, label) in zip(row, PANELS.items(), strict=True):
                for k, (depth, colour) in enumerate(palette.items()):
                    shift = DODGE * (k - (len(palette) - 1) / 2)
                    for series in members:
                        _line(ax, data[name].sel(depth=depth, series=series), shift, colour, SERIES[series])
                scale_positive(ax)
                ax.set_xticks(data["layer"].values)
                finish(ax, title if ax is row[0] else "", below, label)
        keys = [line_key(colour, f"$L={depth}$", linewidth=3) for depth, colour in palette.items()]
        width = f"$n={data.attrs['width']}$"
        names = {"limit": r"limit $n\to\infty$", "mup": rf"$\mu$P, {width}", "ip": f"IP, {width}"}
        keys += [line_key("black", names[series], **style) for series, style in SERIES.items()]
        finish_page(figure, f"Depths, after $T={data.attrs['steps']}$ steps (eigenvalues of $K/n$)", keys)
    return figure


def _line(ax: Any, values: xr.DataArray, shift: float, colour: Any, style: dict[str, Any]) -> None:
    """One depth of one series: mean over replicas, bars of +- 2 s.e."""
    mean, error = summarised(values)
    use = np.isfinite(mean) & (mean > 0)
    bars = np.where(np.isfinite(error[use]), 2 * error[use], 0)
    ax.errorbar(
        values["layer"].values[use] + shift, mean[use], bars, color=colour, elinewidth=0.8, linewidth=1, **style
    )


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
    limit = smallest_one.sel(series="limit").dropna("replica", how="all")
    resolved = sum(bounds(limit.sel(depth=depth).values).low > 0 for depth in data["depth"].values)
    depths, circles = data["depth"].values, counted(_count(data, "mup"), "network")
    lines = counted(_count(data, "limit"), "replica")
    return (
        f"Smallest eigenvalue of K/n and relative feature change by layer, after {data.attrs['steps']} steps of the "
        f"settings of the other figures ({activation(study.settings)}), for depths L = {', '.join(map(str, depths))}. "
        f"Above: muP, lines for the limit, mean over {lines}, circles for {circles} "
        f"of width {data.attrs['width']}. Below: as many networks of IP. Bars: +-2 standard errors. Smallest "
        f"eigenvalue over all layers, h and x (standard error), of the limit, and of IP beside it: {'. '.join(words)}. "
        f"That of the limit is above zero, by a Student bound at {LEVEL:.1%}, at {resolved} of "
        f"{counted(len(depths), 'depth')}."
    )


def _count(data: xr.Dataset, series: str) -> int:
    return int(data["loss"].sel(series=series).count("replica").max())


FIGURE = Figure("Depths", depths_figure, depths_caption, extra="depths")
