"""The picture of the escape: trajectories, their collapse at the start, escape times, and other depths."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpsim.plot import style
from tpsim.plot.style import BLUE, GREEN, GREY, VERMILLION, colours, finish, line_key

from .networks import Result, escape_time, signal

TIME = r"$t_\mathrm{escape}$"
MARKERS = {2: ("o", BLUE), 3: ("s", VERMILLION), 4: ("^", GREEN)}


def draw(results: list[Result]) -> Any:
    """Return a figure of two by two panels; the first study fills three of them."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(style.STYLE):
        figure = Figure(figsize=(style.PAGE, 5.0), layout="constrained")
        axes = figure.subplots(2, 2)
        trajectories(axes[0, 0], results[0])
        collapse(axes[0, 1], results[0])
        escape_times(axes[1, 0], results[0])
        depths(axes[1, 1], [result for result in results if result.study.rate == results[-1].study.rate])
    return figure


def trajectories(ax: Any, result: Result) -> None:
    """Loss against t of one network per width, beside the limit."""
    shades = dict(zip(result.losses, colours(len(result.losses)), strict=True))
    for n, losses in result.losses.items():
        ax.plot(losses[-1], color=shades[n])
    ax.axhline(1.0, color=GREY, linestyle="--")
    ax.set(ylim=(0.0, 1.08), xlim=(0, max(len(losses[-1]) for losses in result.matrix_free.values())))
    keys = [line_key(shades[n], f"n = {n}") for n in (min(shades), max(shades))]
    finish(
        ax, "Loss: one network per width", "training step $t$", "loss", [*keys, line_key(GREY, "limit", linestyle="--")]
    )


def collapse(ax: Any, result: Result) -> None:
    """n (1 - Loss_t / Loss_0) against t: one curve of the linear theory for all widths, as long as it is small."""
    shades = dict(zip(result.losses, colours(len(result.losses)), strict=True))
    for n, losses in result.matrix_free.items():
        last = int(escape_time(losses[0]))
        ax.plot(n * np.maximum(signal(losses[0][: last + 1]), 1e-300), color=shades[n])
    t, rate, eta, s = np.arange(1, last), result.rate, result.study.rate, result.study.network.scales[1]
    theory = rate * s**2 / (2 * eta) * ((1 + rate) ** (2 * t) - (1 - rate) ** (2 * t))
    ax.plot(t, theory, color="black", linestyle=":", linewidth=1.6)
    ax.set(yscale="log", ylim=(theory[0], 2 * max(result.matrix_free)))
    keys = [line_key("black", "linear theory", linestyle=":")]
    finish(ax, "The start, times $n$, is the same at every width", "training step $t$", r"$n\,(1 - L_t / L_0)$", keys)


def escape_times(ax: Any, result: Result) -> None:
    """t_escape against n with +- 2 s.e., the fitted logarithm (in brackets its s.e.), the slope of the theory."""
    growth = result.growth
    for name, losses, face in (("dense", result.dense, VERMILLION), ("matrix-free", result.matrix_free, "white")):
        n = np.array(sorted(losses))
        times = [np.array([escape_time(x) for x in losses[k]]) for k in n]
        mean, count = np.array([t.mean() for t in times]), np.array([len(t) for t in times])
        error = 2 * growth.kappa * mean / np.sqrt(n * count)
        ax.errorbar(n, mean, error, fmt="s", color=VERMILLION, mfc=face, capsize=2, label=name, zorder=3)
    n = np.geomspace(min(result.times), max(result.times))
    ax.plot(n, growth.at(n), color=GREY, label=rf"fit: {growth.slope:.1f}({growth.error:.1f}) $\log n$")
    middle = np.exp(np.log(n).mean())
    theory = growth.at(middle) + result.slope * np.log(n / middle)
    ax.plot(n, theory, color="black", linestyle=":", label=rf"theory: {result.slope:.1f} $\log n$")
    ax.set_xscale("log")
    finish(ax, rf"When the loss is halved ($L = 3$, $\eta = {result.study.rate:g}$)", "width $n$", TIME, legend(ax))


def depths(ax: Any, results: list[Result]) -> None:
    """t_escape against n for each depth, with the laws that are expected."""
    for result in sorted(results, key=lambda r: r.study.depth):
        marker, colour = MARKERS[result.study.depth]
        times = {n: t for n, t in result.times.items() if np.isfinite(t).all()}
        n, mean = np.array(list(times)), np.array([t.mean() for t in times.values()])
        law = {2: "bounded", 3: r"$\propto \log n$", 4: r"$\propto n^{1/2}$"}[result.study.depth]
        ax.plot(n, mean, marker=marker, color=colour, linestyle="none", label=f"L = {result.study.depth}: {law}")
        fine = np.geomspace(n[0], n[-1])
        x, at = {2: (1.0 / n, 1.0 / fine), 3: (np.log(n), np.log(fine)), 4: (n**0.5, fine**0.5)}[result.study.depth]
        weights = np.sqrt(n * np.array([len(t) for t in times.values()])) / mean
        ax.plot(fine, np.polyval(np.polyfit(x, mean, 1, w=weights), at), color=colour, linewidth=0.8)
    ax.set(xscale="log", yscale="log")
    finish(ax, r"Other depths ($\eta = 1$)", "width $n$", TIME, legend(ax))


def legend(ax: Any) -> list[tuple[Any, str]]:
    handles, labels = ax.get_legend_handles_labels()
    return list(zip(handles, labels, strict=True))
