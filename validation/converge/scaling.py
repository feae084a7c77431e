"""Figures against width on logarithmic axes: the errors with their slopes, and the coordinate check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from tpsim.parametrization import TITLES
from tpsim.plot.read import layers_of
from tpsim.plot.style import GREY, LEGEND, PAGE, STYLE, colours, finish, finish_page, line_key, page

from .measure import bias_fitted

if TYPE_CHECKING:
    from .study import Study

Array = np.ndarray
Keys = list[tuple[Any, str]]

GROUPS = {
    "f": "outputs $f_t$",
    "loss": "training loss",
    "kernel_h": "kernels of $h^l$",
    "kernel_x": "kernels of $x^l$",
    "kernel_dh": r"kernels of $\mathrm{d}h^l$",
    "feature change h": "feature change of $h^l$",
    "feature change x": "feature change of $x^l$",
    "smallest eigenvalue h": "smallest eigenvalue, $h^l$",
    "smallest eigenvalue x": "smallest eigenvalue, $x^l$",
}
SYMBOLS = {"sp": "SP", "ntp": "NTP", "ip": "IP", "mup": r"$\mu$P"}
SIZES = {"size_h": "size of $h^l_T$", "change_h": "size of $h^l_T-h^l_0$"}
COLUMNS = 3
REACH = 1e4  # between the ends of the coordinate check's axes
FAINT = 0.45  # opacity of a bias that is not resolved


def rates_figure(study: Study, figure: Any = None) -> Any:
    """Draw spread and bias of every quantity against width, the fitted powers, and the limit's own error."""
    rates, groups = study.rates, _groups(study.rates)
    layers = layers_of(study.limit, None)
    palette: dict[int | None, Any] = dict(zip(layers, colours(len(layers)), strict=True)) | {None: "black"}
    rows, columns = -(-len(groups) // COLUMNS), min(len(groups), COLUMNS)
    with page(figure, (PAGE, 0.7 + (1.75 + 0.12 * len(layers)) * rows)) as figure:
        axes, spare = figure.subplots(rows, columns, squeeze=False), rows * columns - len(groups)
        for ax, (group, members) in zip(axes.flat, groups.items(), strict=False):
            shown = {label: palette[l] for l, label in members.items() if l in palette}
            keys = [_errors(ax, rates.sel(quantity=label), colour) for label, colour in shown.items()]
            _guides(ax, rates["width"].values)
            log_axes([ax], rates["width"].values)
            finish(ax, "", "width $n$", "relative error")
            size = STYLE["legend.fontsize"]
            ax.legend(*zip(*keys, strict=True), loc="lower left", bbox_to_anchor=(0.0, 1.0), **LEGEND)
            ax.set_title(GROUPS.get(group, group), pad=5 + 1.45 * size * len(layers))
        for ax in axes[:, 1:].flat:
            ax.set_ylabel("")
        for ax in axes.flat[len(groups) :]:
            ax.set_axis_off()
        keys = _rate_keys(layers, palette, rates)
        if spare:
            axes.flat[-1].legend(*zip(*keys, strict=True), loc="center left", **LEGEND)
        finish_page(figure, "Distance of finite networks from the limit", () if spare else keys)
    return figure


def coordinate_figure(study: Study, figure: Any = None) -> Any:
    """Draw the size of h^l_T, and of its change, by width, layer and parametrization, and their exact limits."""
    check = study.coordinate
    layers = layers_of(check, None)
    palette = dict(zip(layers, colours(len(layers)), strict=True))
    names = [str(name) for name in check["parametrization"].values]
    with page(figure, (PAGE, 4.0)) as figure:
        axes = figure.subplots(2, len(names), squeeze=False, sharex=True)
        for quantity, line in zip(SIZES, axes, strict=True):
            for ax, name in zip(line, names, strict=True):
                _coordinates(ax, check.sel(parametrization=name), quantity, palette)
                title = f"{TITLES.get(name, name)} ({SYMBOLS.get(name, name)})" if quantity == "size_h" else ""
                finish(ax, title, "width $n$", SIZES[quantity])
            log_axes(line, check["width"].values, REACH)
        for ax in axes.flat:
            ax.label_outer()
        keys = [line_key(colour, f"$l={l}$", marker="o") for l, colour in palette.items()]
        keys.append(line_key(GREY, "limit", linestyle="--"))
        finish_page(figure, "Coordinate check: root mean square of the entries", keys)
    return figure


def log_axes(axes: Sequence[Any], widths: Array, reach: float = np.inf) -> None:
    """Make axes logarithmic, with one scale around the lines drawn (bars may leave it) whose ends are `reach` apart."""
    lines = [np.asarray(line.get_ydata(), dtype=float) for ax in axes for line in ax.lines]
    values = np.concatenate([*lines, np.empty(0)])
    values = values[np.isfinite(values) & (values > 0)]
    low, high = (values.min(), values.max()) if values.size else (1.0, 1.0)  # nothing to show: any scale
    margin = 1.5 if len(widths) > 1 else 2.0
    for ax in axes:
        ax.set_xscale("log")
        ax.set_yscale("log", nonpositive="clip")
        ax.set_xlim(widths.min() / margin, widths.max() * margin)
        ax.set_ylim(max(low, high / reach) / 1.6, high * 1.6)
        log_ticks(ax.xaxis)
        log_ticks(ax.yaxis)


def log_ticks(axis: Any) -> None:
    """Mark 1, 2 and 5 times powers of ten on an axis that shows fewer than two of these."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    if np.floor(np.log10(high)) - np.ceil(np.log10(low)) < 1:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())


def bars(value: Array, error: Array) -> Array:
    """Lengths (2, n) of bars from `value` to value exp(+-2 error / value): +- 2 s.e. of the logarithm."""
    factor = np.exp(np.minimum(2 * error / value, 20.0))  # longer ones leave every picture
    return np.stack([value - value / factor, value * factor - value])


def _groups(rates: xr.Dataset) -> dict[str, dict[int | None, str]]:
    """Labels by group and layer: "kernel_h, layer 2" is layer 2 of "kernel_h", "f" has none."""
    groups: dict[str, dict[int | None, str]] = {}
    for label in map(str, rates["quantity"].values):
        group, _, layer = label.partition(", layer ")
        groups.setdefault(group, {})[int(layer) if layer else None] = label
    return groups


def _errors(ax: Any, one: xr.Dataset, colour: Any) -> tuple[Any, str]:
    """Draw one quantity: spread filled, bias open, unresolved bias as an arrow; return the legend entry with slopes."""
    n, resolved, scale = one["width"].values, one["bias_resolved"].values, _scale(one)
    spread, spread_se, bias, bias_se = (one[name].values / scale for name in ("spread", "spread_se", "bias", "bias_se"))
    seen = np.where(resolved, bias, np.nan)
    _points(ax, one, spread, spread_se, color=colour)
    _points(ax, one, seen, bias_se, color=colour, markerfacecolor="white")
    bound = np.sqrt(bias**2 + 2 * bias_se**2)  # the square of the bias has the standard error bias_se^2
    ax.plot(n[~resolved], bound[~resolved], "v", color=colour, alpha=FAINT, markersize=2.8, markeredgewidth=0)
    fitted = n >= one.attrs["fit_from"]
    _power(ax, n[fitted], spread[fitted], spread_se[fitted], one["spread_slope"], color=colour)
    fitted = bias_fitted(one)
    _power(ax, n[fitted], seen[fitted], bias_se[fitted], one["bias_slope"], color=colour, linestyle="--")
    if float(one["limit_se"]) > 0:
        ax.axhline(float(one["limit_se"]) / scale, color=colour, linestyle=":", linewidth=0.8)
    slopes = _slope(one["spread_slope"], "not fitted"), _slope(one["bias_slope"], "not resolved")
    return line_key(colour, f"{slopes[0]}, bias {slopes[1]}")


def _scale(one: xr.Dataset) -> float:
    """What errors are relative to: the size of the limit, or 1 where that is zero."""
    return float(one["scale"]) or 1.0


def _points(ax: Any, one: xr.Dataset, value: Array, error: Array, **style: Any) -> None:
    """Draw points with bars: circles for dense networks, squares for those without matrices."""
    dense, positive = one["dense"].values.astype(bool), np.isfinite(value) & (value > 0)
    for marker, some in (("o", dense & positive), ("s", ~dense & positive)):
        length = bars(value[some], error[some])
        style |= {"marker": marker, "linestyle": "none", "elinewidth": 0.6, "markeredgewidth": 0.8, "capsize": 0}
        ax.errorbar(one["width"].values[some], value[some], length, **style)


def _power(ax: Any, n: Array, value: Array, error: Array, slope: xr.DataArray, **style: Any) -> None:
    """Draw the fitted power over the widths fitted: through their centre, weighed and corrected as in `fit_slope`."""
    use = np.isfinite(value) & np.isfinite(error) & (value > 0) & (error > 0)
    power = float(slope.sel(bound="estimate"))
    if use.any() and np.isfinite(power):
        weights = (value[use] / error[use]) ** 2
        x = np.average(np.log(n[use]), weights=weights)
        y = np.average(np.log(value[use]) + 1 / weights, weights=weights)
        ends = np.array([n[use].min(), n[use].max()], dtype=float)
        ax.plot(ends, np.exp(y + power * (np.log(ends) - x)), linewidth=0.8, **style)


def _slope(slope: xr.DataArray, otherwise: str) -> str:
    estimate, low, high = (float(slope.sel(bound=bound)) for bound in ("estimate", "low", "high"))
    return f"${estimate:.2f}\\pm{(high - low) / 2:.2f}$" if np.isfinite(estimate) else otherwise


def _guides(ax: Any, widths: Array) -> None:
    """Draw n^-1/2 and n^-1 from a point above those drawn so far."""
    n = widths[[0, -1]].astype(float)
    points = [line.get_ydata() for line in ax.lines if line.get_marker() in ("o", "s")]
    top = float(np.max(np.concatenate([*points, [0.0]])))
    if top > 0 and n[1] > n[0]:
        for power in (-0.5, -1.0):
            ax.plot(n, 2.0 * top * (n / n[0]) ** power, color=GREY, linewidth=0.6, zorder=0.5)


def _rate_keys(layers: list[int], palette: dict[int | None, Any], rates: xr.Dataset) -> Keys:
    keys = [line_key(palette[l], f"$l={l}$", linewidth=3) for l in layers]
    keys.append(line_key("black", "spread, and its slope", marker="o"))
    keys.append(line_key("black", "bias, and its slope", marker="o", markerfacecolor="white", linestyle="--"))
    keys.append(line_key("black", "bias not resolved: upper bound", marker="v", linestyle="none", alpha=FAINT))
    if not rates["dense"].values.all():
        keys.append(line_key("black", "networks without matrices", marker="s", linestyle="none"))
    keys.append(line_key("black", "standard error of the limit", linestyle=":", linewidth=0.8))
    keys.append(line_key(GREY, "powers $n^{-1/2}$ and $n^{-1}$", linewidth=0.6))
    return keys


def _coordinates(ax: Any, check: xr.Dataset, quantity: str, palette: dict[int, Any]) -> None:
    """Draw one quantity of one parametrization, layer by layer, and its limit; zeros, which have no place, in words."""
    n, exact = check["width"].values, check[f"limit_{quantity}"]
    for l, colour in palette.items():
        value, error = (check[name].sel(layer=l).values for name in (quantity, f"{quantity}_se"))
        use = np.isfinite(value) & (value > 0)
        length = bars(value[use], error[use])
        ax.errorbar(n[use], value[use], length, color=colour, marker="o", linewidth=0.9, elinewidth=0.7, capsize=0)
        if float(exact.sel(layer=l)) > 0:
            ax.axhline(float(exact.sel(layer=l)), color=colour, linestyle="--", linewidth=0.9)
    if words := _vanishing(exact):
        blank = line_key(GREY, words, linestyle="none")
        ax.legend(*zip(blank, strict=True), loc="best", handlelength=0, labelcolor=GREY, borderpad=0.1)


def _vanishing(exact: xr.DataArray) -> str:
    """Say for which layers the limit is zero."""
    zero = [int(l) for l in exact["layer"].values[exact.values == 0]]
    if len(zero) in (0, exact.size):
        return "limit: 0" if zero else ""
    tail = zero == list(range(zero[0], exact.size + 1))
    return "limit: 0 for $l" + (f"\\geq{zero[0]}$" if tail else f"={','.join(map(str, zero))}$")
