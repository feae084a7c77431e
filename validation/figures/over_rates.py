"""Figure "learning_rate": the loss at the end against eta, and the largest stable eta."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from tpsim.plot.style import GREY, PAGE, SHADE, colours, finish, finish_page, line_key, page, whole_numbers

from .look import COLOURS, MARKERS, NAMES, SYMBOLS
from .stability import RATIO, SLACK
from .study import Figure, Study

CURVES = 4  # rates whose sharpness is drawn, the largest stable one last


def rates_figure(study: Study, figure: Any = None) -> Any:
    """Draw the loss at the end against eta in muP (a) and in all parametrizations (b), and eta times sharpness (c)."""
    data = study.extras["learning_rate"]
    widths, largest = data["width"].values, int(data["width"].max())
    mup = [k for k in range(data.sizes["series"]) if data["name"].values[k] == "mup" and widths[k]]
    others = [k for k in range(data.sizes["series"]) if widths[k] == largest]
    shades = colours(len(mup) + 1)
    with page(figure, (PAGE, 3.0)) as figure:
        axes = figure.subplots(1, 3)
        keys = []
        for k, shade in zip(mup, shades[:-1], strict=True):
            _losses(axes[0], data.isel(series=k), shade, "o")
            keys.append(line_key(shade, f"$n={widths[k]}$", marker="o"))
        for k in reversed(others):
            name = str(data["name"].values[k])
            _losses(axes[1], data.isel(series=k), COLOURS[name], MARKERS[name])
        keys += [line_key(COLOURS[n], SYMBOLS[n], marker=MARKERS[n]) for n in _names(data, others)]
        for ax in axes[:2]:
            _losses(ax, data.isel(series=0), "black", "")
            finish(ax, "", r"learning rate $\eta$", f"loss at $t={data.attrs['steps']}$")
        keys.append(line_key("black", r"$\mu$P, limit"))
        keys.append(line_key(GREY, "diverged", marker="x", linestyle="none"))
        _sharpness(axes[2], data)
        for ax, title in zip(axes, (r"(a) $\mu$P", f"(b) $n={largest}$", "(c) limit"), strict=True):
            ax.set_title(title)
        finish_page(figure, r"Learning rates (grey: from the largest stable to the next unstable $\eta$, limit)", keys)
    return figure


def _names(data: xr.Dataset, which: list[int]) -> list[str]:
    return [str(data["name"].values[k]) for k in which]


def _losses(ax: Any, one: xr.Dataset, colour: Any, marker: str) -> None:
    """Loss of one series against eta: median over the runs that did not diverge; crosses where more than half did."""
    one = one.dropna("trial", subset=["rate"])
    rate, kept = one["rate"].values, one["alive"].values > 0.5
    middle = one["loss"].where(one["alive"] > 0.5).median("replica").values
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.plot(rate, middle, color=colour, marker=marker, markersize=2.8, linewidth=1)
    ax.plot(
        rate[~kept], np.full((~kept).sum(), 0.97), "x", color=colour, markersize=3.5, transform=ax.get_xaxis_transform()
    )
    if not int(one["width"]):
        ax.axvspan(float(one["low"]), float(one["high"]), color=GREY, alpha=2 * SHADE, linewidth=0)


def _sharpness(ax: Any, data: xr.Dataset) -> None:
    """eta times sharpness against t, for stable rates up to the largest."""
    rates, limit = data["limit_rate"].values, data.isel(series=0)
    stable = [k for k in range(len(rates)) if rates[k] <= float(limit["low"])]
    chosen = [stable[k] for k in np.unique(np.linspace(0, len(stable) - 1, CURVES).round().astype(int))]
    for k, colour in zip(chosen, colours(len(chosen)), strict=True):
        values = rates[k] * data["sharpness"].values[k]
        ax.plot(data["step"].values, values, color=colour, linewidth=0.9, label=f"$\\eta={rates[k]:.3g}$")
    ax.axhline(2, color=GREY, linestyle=":", linewidth=1)
    ax.set_ylim(bottom=0)
    whole_numbers(ax, data["step"].values)
    finish(ax, "", "training step $t$", r"$\eta\,\times$ sharpness")
    ax.legend(loc="best", fontsize=6)


def rates_caption(study: Study) -> str:
    """Say what is drawn, how stability was decided, and the brackets with their resolution."""
    data = study.extras["learning_rate"]
    words = []
    for k in range(data.sizes["series"]):
        one = data.isel(series=k)
        name, width = NAMES[str(one["name"].values)], int(one["width"])
        words.append(f"{name}, {f'n = {width}' if width else 'limit'}: {_edge(one)}{_islands(one)}")
    sharp = _linear(data)
    return (
        f"Loss after {data.attrs['steps']} steps against the learning rate eta of Appendix A, which scales those "
        "of all layers (median over runs; crosses: more than half diverged). (a) muP networks and the limit, (b) all "
        "parametrizations at one width beside the muP limit, (c) in the limit, eta times the largest eigenvalue of the "
        "Gauss-Newton matrix, for stable rates up to the largest one; past 2 (dotted) a quadratic model of the loss "
        "diverges. A rate is called stable if more than half of its runs do not diverge and end with a loss that is "
        f"not above its start by more than {SLACK:g} of it. Largest stable rates found by doubling and bisection, down "
        f'to a ratio of {RATIO:g} of the ends: {"; ".join(words)}.{sharp} "Under what conditions on the learning rate '
        'does convergence hold?", readers asked; the paper has no condition but eta > 0, and that is not enough.'
    )


def _edge(one: xr.Dataset) -> str:
    low, high = float(one["low"]), float(one["high"])
    if low == 0:
        return f"none stable down to {float(one['rate'].min()):.3g}"
    return f"{low:.3g} to {high:.3g}" if np.isfinite(high) else f"all stable up to {low:.3g}"


def _islands(one: xr.Dataset) -> str:
    """Name rates on the wrong side of the edge."""
    rate, stable = one["rate"].values, one["share"].values > 0.5
    odd = rate[(stable & (rate > float(one["low"]))) | (~stable & (rate < float(one["low"])))]
    return f" (but not monotone: {', '.join(f'{value:.3g}' for value in odd)})" if odd.size else ""


def _linear(data: xr.Dataset) -> str:
    """Compare the edge with that of the linearised dynamics at the start."""
    sharp = float(data["sharpness"].values[0, 0])
    low = float(data["low"].values[0])
    if not np.isfinite(sharp) or sharp <= 0 or low == 0:
        return ""
    return f" In the limit the start alone would ask for eta < 2 / sharpness = {2 / sharp:.3g}."


FIGURE = Figure("Largest stable learning rate", rates_figure, rates_caption, extra="learning_rate")
