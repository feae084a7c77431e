"""Figure "learning_rate": the loss at the end against eta, and the largest stable eta."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from tpsim.plot.style import GREY, PAGE, SHADE, colours, finish, finish_page, line_key, page, whole_numbers

from .captions import activation, counted
from .look import COLOURS, MARKERS, NAMES, SYMBOLS
from .stability import RATIO, SLACK
from .study import Figure, Study

HIGHEST = 6.0  # of eta times sharpness, in the picture
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
    """Loss of one series against eta: median over runs that are left; crosses where half of them or more diverged."""
    one = one.dropna("trial", subset=["rate"])
    rate, gone = one["rate"].values, one["alive"].values <= 0.5
    middle = one["loss"].where(one["alive"] > 0.5).median("replica").values
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.plot(rate, middle, color=colour, marker=marker, markersize=2.8, linewidth=1)
    ax.plot(
        rate[gone], np.full(gone.sum(), 0.97), "x", color=colour, markersize=3.5, transform=ax.get_xaxis_transform()
    )
    if not int(one["width"]):
        ax.axvspan(float(one["low"]), float(one["high"]), color=GREY, alpha=2 * SHADE, linewidth=0)


def _sharpness(ax: Any, data: xr.Dataset) -> None:
    """eta times sharpness against t, for stable rates from that of the other figures up to the largest."""
    rates, limit = data["limit_rate"].values, data.isel(series=0)
    stable = [k for k in range(len(rates)) if data.attrs["eta"] <= rates[k] <= float(limit["low"])]
    places = np.linspace(0, len(stable) - 1, min(CURVES, len(stable))).round().astype(int)
    chosen = [stable[place] for place in places]
    for k, colour in zip(chosen, colours(len(chosen)), strict=True):
        values = rates[k] * data["sharpness"].values[k]
        ax.plot(data["step"].values, values, color=colour, linewidth=0.9, label=f"$\\eta={rates[k]:.3g}$")
    ax.axhline(2, color=GREY, linestyle=":", linewidth=1)
    ax.set_ylim(0, min(ax.get_ylim()[1], HIGHEST))
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
    return (
        f"Loss after {data.attrs['steps']} steps against the learning rate eta of Appendix A, which scales those "
        f"of all layers (median over runs; crosses: half of them or more diverged); "
        f"{activation(study.settings)}; {_runs(data)}. (a) muP networks and the limit, (b) "
        "all parametrizations at one width beside the muP limit, (c) in the limit, eta times the largest eigenvalue of "
        "the Gauss-Newton matrix (sharpness), for stable rates up to the largest one; past 2 (dotted) a quadratic "
        f"model of the loss diverges; cut off at {HIGHEST:g}. A rate is called stable if more than half of its runs do "
        f"not diverge and end with a loss that is not above its start by more than {SLACK:g} of it; if the bases of "
        f"the limit fill up before the end it is left undecided. Found by doubling and bisection down to a ratio of "
        f"{RATIO:g}, from the largest stable to the smallest unstable rate: {'; '.join(words)}."
        f"{_full(data)}{_sharpening(data)}{_answer(data)}"
    )


def _runs(data: xr.Dataset) -> str:
    limit, own = counted(data.attrs["replicas"], "replica"), counted(data.attrs["networks"], "network")
    return f"{limit} of {data.attrs['particles']} particles of the limit, {own} of each kind and width"


def _full(data: xr.Dataset) -> str:
    """Say at how many rates the limit is noisy, and where."""
    limit = data.isel(series=0)
    rate = limit["rate"].values[limit["full"].values > 0]
    if not rate.size:
        return ""
    tried = counted(int(limit["rate"].notnull().sum()), "rate")
    return f" Of {tried} tried in the limit {len(rate)} filled a basis to more than half, and are noisy: {_list(rate)}."


def _edge(one: xr.Dataset) -> str:
    low, high = float(one["low"]), float(one["high"])
    if low == 0:
        return f"none stable down to {float(one['rate'].min()):.3g}"
    return f"{low:.3g} to {high:.3g}" if np.isfinite(high) else f"all stable up to {low:.3g}"


def _islands(one: xr.Dataset) -> str:
    """Name rates that are undecided, and those on the wrong side of the edge."""
    rate, share = one["rate"].values, one["share"].values
    low = float(one["low"])
    odd = rate[((share > 0.5) & (rate > low)) | ((share <= 0.5) & (rate < low))]
    undecided = rate[np.isnan(share) & np.isfinite(rate)]
    words = [f"undecided: {_list(undecided)}"] * bool(undecided.size) + [f"against it: {_list(odd)}"] * bool(odd.size)
    return f" ({'; '.join(words)})" if words else ""


def _list(values: np.ndarray) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def _sharpening(data: xr.Dataset) -> str:
    """Compare the edge of the linearised dynamics at the start with what training makes of it."""
    at = int(np.abs(data["limit_rate"].values - data.attrs["eta"]).argmin())
    sharp = data["sharpness"].values[at]
    if not (np.isfinite(sharp[0]) and sharp[0] > 0):
        return ""
    start, least = 2 / sharp[0], 2 / np.nanmax(sharp)
    found = f" In the limit 2 / sharpness is {start:.3g} at the start, and down to {least:.3g} on the way"
    return f"{found} at eta = {float(data['limit_rate'][at]):g}."


def _answer(data: xr.Dataset) -> str:
    """What readers asked, where there is an answer."""
    high = float(data["high"].values[0])
    question = " Readers asked under what conditions on eta training converges; the paper asks for eta > 0 only"
    return f"{question}, but at eta = {high:.3g} the limit does not." if np.isfinite(high) else ""


FIGURE = Figure("Largest stable learning rate", rates_figure, rates_caption, extra="learning_rate")
