"""Figures of training curves and of the law of pre-activations, by width, with the limit on top."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from tpsim.plot.particles import density
from tpsim.plot.read import band, classes, finite, layers_of, setting
from tpsim.plot.style import (
    BLUE,
    GREY,
    band_key,
    colours,
    compress,
    curve,
    finish,
    finish_page,
    line_key,
    page,
    page_width,
    scale_values,
    whole_numbers,
)

from .scaling import bars, log_axes, log_ticks

if TYPE_CHECKING:
    from .study import Study

Array = np.ndarray

MAX_SAMPLES = 4  # whose outputs are drawn
SPREAD = (0.16, 0.84)  # quantiles over networks: one standard deviation to either side of a normal variable
TINT = 0.4  # strength of a shaded area's colour on white
DASHES: Any = (0, (4, 1.5))
DISTANCES = {"w1": "Wasserstein-1", "ks": "Kolmogorov-Smirnov"}


def curves_figure(study: Study, figure: Any = None) -> Any:
    """Draw f_t of up to four samples, and the loss, by width, and the limit on top."""
    limit, networks = study.limit, study.networks
    samples, targets = _samples(limit["targets"].values), limit["targets"].values
    columns = 3 if len(samples) in (2, 4) else 2  # the loss, at the end, takes what is left of the last row
    rows = -(-(len(samples) + 1) // columns)
    with page(figure, (page_width(2.3 * columns), 0.75 + 1.7 * rows)) as figure:
        grid = figure.add_gridspec(rows, columns)
        for k, i in enumerate(samples):
            ax = figure.add_subplot(grid[divmod(k, columns)])
            _fan(ax, {n: run["f"].isel(sample=i) for n, run in networks.items()}, limit["f"].isel(sample=i))
            reach = max(1.0, abs(float(targets[i])))
            compress(ax, max(float(np.abs(line.get_ydata()).max()) for line in ax.lines), reach)
            if setting(limit, "training", "loss") != "logistic":
                view = ax.get_ylim()
                ax.axhline(targets[i], color="black", linestyle=":", linewidth=0.8)
                ax.set_ylim(view)  # a target far from what was learnt would press the curves together
            finish(ax, f"$\\xi_{{{i}}}$, target $y={targets[i]:+.3g}$", "training step $t$", f"$f_t(\\xi_{{{i}}})$")
        row, column = divmod(len(samples), columns)
        ax = figure.add_subplot(grid[row, column:])
        _fan(ax, {n: run["loss"] for n, run in networks.items()}, limit["loss"])
        scale_values(ax, np.concatenate([line.get_ydata() for line in ax.lines]))
        if ax.get_yscale() == "log":
            log_ticks(ax.yaxis)
        finish(ax, "training loss", "training step $t$", "loss")
        keys = [*_width_keys(networks), *_fan_keys(study)]
        finish_page(figure, "Training curves by width, and the limit", keys)
    return figure


def densities_figure(study: Study, figure: Any = None) -> Any:
    """Draw the law of the entries of h^l_T by width against that of Z^{h^l_T}, and their distances against width."""
    layers, step = layers_of(study.limit, None), int(study.limit["snapshot_step"].values[-1])
    networks = {n: run for n, run in study.networks.items() if "h" in run}
    with page(figure, (page_width(0.7 + 1.9 * len(layers)), 5.6)) as figure:
        axes = figure.subplots(3, len(layers), squeeze=False)
        for ax, l in zip(axes[0], layers, strict=True):
            for run, colour in zip(networks.values(), colours(len(networks)), strict=True):
                _density(ax, _pooled(run["h"].sel(layer=l)), color=colour, linewidth=0.9)
            particles = _pooled(study.limit["Z_h"].sel(layer=l).isel(snapshot_step=-1))
            _density(ax, particles, color="black", linestyle=DASHES)
            _view(ax, particles)
            finish(ax, f"layer {l}", f"entries of $h^{{{l}}}_{{{step}}}(\\xi_0)$", "density")
        for row, (name, label) in zip(axes[1:], DISTANCES.items(), strict=True):
            for ax, l in zip(row, layers, strict=True):
                _distance(ax, study.rates.sel(layer=l), name)
                finish(ax, "", "width $n$", label)
        for ax in axes[:, 1:].flat:
            ax.set_ylabel("")
        keys = [*_width_keys(networks), line_key("black", "$Z^{h^l}$", linestyle=DASHES)]
        keys += [line_key(BLUE, "networks", marker="o", linestyle="none")]
        keys += [line_key(GREY, "independent draws of $Z^{h^l}$", linestyle="--")]
        finish_page(figure, "Entries of $h^l$ after training against $Z^{h^l}$", keys)
    return figure


def _samples(targets: Array) -> list[int]:
    """All samples if they are few; else the first of up to four distinct targets, the outermost included."""
    if len(targets) <= MAX_SAMPLES:
        return list(range(len(targets)))
    groups = classes(targets)
    picked = np.linspace(0, len(groups) - 1, min(len(groups), MAX_SAMPLES)).round().astype(int)
    return sorted(int(groups[k][1][0]) for k in picked)


def _fan(ax: Any, networks: dict[int, xr.DataArray], limit: xr.DataArray) -> None:
    """Draw mean and spread (replica, step) by width, the widest on top, and the limit above all."""
    steps = limit["step"].values
    for level, (values, colour) in enumerate(zip(networks.values(), colours(len(networks)), strict=True)):
        kept, on_top = _kept(values), level / 1000
        mark = {"marker": "o"} if len(steps) == 1 else {}
        if len(kept) > 1:
            low, high = np.quantile(kept, SPREAD, axis=0)
            ax.fill_between(steps, low, high, color=_tint(colour), linewidth=0, zorder=1 + on_top)
        if len(kept):
            ax.plot(steps, kept.mean(axis=0), color=colour, linewidth=0.9, zorder=2 + on_top, **mark)
    curve(ax, steps, band(limit.transpose("replica", "step")), "black", zorder=3)
    whole_numbers(ax, steps)


def _kept(values: xr.DataArray) -> Array:
    """The rows (replica, step) of networks that did not diverge."""
    rows = finite(values).transpose("replica", "step").values
    return rows[np.isfinite(rows).all(axis=1)]


def _tint(colour: tuple[float, ...]) -> Any:
    """The colour, opaque but pale."""
    return tuple(1 - TINT * (1 - part) for part in colour[:3])


def _width_keys(networks: dict[int, xr.Dataset]) -> list[tuple[Any, str]]:
    """Legend entries of all widths, with the number of networks where some diverged."""
    keys = []
    for (n, run), colour in zip(networks.items(), colours(len(networks)), strict=True):
        kept, all_ = len(_kept(run["loss"])), run.sizes["replica"]
        keys.append(line_key(colour, f"$n={n}$" + (f" ({kept} of {all_})" if kept < all_ else "")))
    return keys


def _fan_keys(study: Study) -> list[tuple[Any, str]]:
    from matplotlib.patches import Patch

    shade = Patch(facecolor=_tint(colours(1)[0]), linewidth=0)
    keys = [line_key("black", "limit"), band_key(study.limit.sizes["replica"])]
    several = any(run.sizes["replica"] > 1 for run in study.networks.values())
    return [(shade, "16% to 84% of the networks"), *keys] if several else keys


def _pooled(entries: xr.DataArray) -> Array:
    """Entries of the first sample, of all replicas that did not diverge."""
    values = finite(entries.isel(sample=0)).values.ravel()
    return values[np.isfinite(values)]


def _density(ax: Any, z: Array, **line: Any) -> None:
    if z.size and z.std() > 1e-12 * abs(z.mean()):
        ax.plot(*density(z), **line)
    elif z.size:  # a point mass
        ax.axvline(z.mean(), **line)


def _view(ax: Any, z: Array) -> None:
    """Look at where the limit lives: networks on their way to overflow are elsewhere."""
    ax.set_ylim(bottom=0)
    if z.size and z.std() > 1e-12 * abs(z.mean()):
        low, high = np.quantile(z, (0.001, 0.999))
        ax.set_xlim(low - 0.2 * (high - low), high + 0.2 * (high - low))


def _distance(ax: Any, rates: xr.Dataset, name: str) -> None:
    """Draw one distance of one layer against width, and what independent entries would show."""
    n, value, error = rates["width"].values, rates[name].values, rates[f"{name}_se"].values
    use = np.isfinite(value) & (value > 0)
    ax.plot(n, rates[f"{name}_iid"], color=GREY, linestyle="--", marker="_" if len(n) == 1 else "")
    ax.errorbar(
        n[use], value[use], bars(value[use], error[use]), color=BLUE, marker="o", linestyle="none", elinewidth=0.7
    )
    log_axes([ax], n)
