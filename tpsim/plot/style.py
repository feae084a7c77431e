"""One style for all pictures: fonts and sizes for print, colours that survive colour blindness and grey printing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..errors import InputError
from .read import Band

Array = np.ndarray

COLUMN = (3.4, 2.6)  # inches: one column of print
PAGE = 6.9  # inches: the full width of the text
STYLE: Any = {
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "axes.axisbelow": True,
    "figure.dpi": 150.0,
    "savefig.dpi": 300.0,
    "pdf.fonttype": 42,
    "svg.hashsalt": "tpsim",
}
# Okabe & Ito: distinct under the common forms of colour blindness.
BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
NAMED = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
GREY = "#767676"
SHADE = 0.22  # opacity of a band
LEGEND: dict[str, Any] = {
    "borderaxespad": 0.2, "borderpad": 0.1, "handlelength": 1.7, "handletextpad": 0.5, "columnspacing": 1.1,
    "labelspacing": 0.25,
}  # fmt: skip
Keys = Sequence[tuple[Any, str]]


def page_width(inches: float) -> float:
    """`inches`, but at least a column and at most the text."""
    return min(max(inches, COLUMN[0]), PAGE)


@contextmanager
def panel(ax: Any, size: tuple[float, float] = COLUMN) -> Iterator[Any]:
    """Give `ax`, or new axes, with the style in force inside the block only."""
    import matplotlib as mpl
    import matplotlib.axes

    with mpl.rc_context(STYLE):
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots(figsize=size, layout="constrained")[1]
        elif not isinstance(ax, mpl.axes.Axes):
            raise InputError("ax", ax, "None, or Axes of matplotlib")
        yield ax


@contextmanager
def page(figure: Any, size: tuple[float, float]) -> Iterator[Any]:
    """Give `figure`, or a new one of `size`, with the style in force inside the block only."""
    import matplotlib as mpl
    import matplotlib.figure

    with mpl.rc_context(STYLE):
        if figure is None:
            import matplotlib.pyplot as plt

            figure = plt.figure(figsize=size, layout="constrained")
        elif isinstance(figure, mpl.figure.Figure):
            figure.set_size_inches(size)
        else:
            raise InputError("figure", figure, "None, or a Figure of matplotlib")
        yield figure


def colours(count: int) -> list[Any]:
    """`count` colours of ordered things (layers), dark to light."""
    import matplotlib as mpl

    return [tuple(c) for c in mpl.colormaps["viridis"](np.linspace(0.0, 0.85, max(count, 1)))]


def curve(ax: Any, x: Array, values: Band, colour: Any, opacity: float = 1.0, **line: Any) -> Any:
    """Draw a mean and its band (an error bar where there is one step only); return the line."""
    single = len(x) == 1
    (drawn,) = ax.plot(x, values.mean, color=colour, alpha=opacity, **({"marker": "o"} if single else {}), **line)
    if values.replicas > 1 and single:
        ax.errorbar(x, values.mean, values.error, fmt="none", ecolor=colour, alpha=opacity, capsize=2)
    elif values.replicas > 1:
        ax.fill_between(x, values.low, values.high, color=colour, alpha=SHADE * opacity, linewidth=0)
    return drawn


def band_key(replicas: int, bars: bool = False) -> tuple[Any, str]:
    """Legend entry that says what the bands, or bars, are."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.path import Path

    if replicas < 2:
        return Line2D([], [], linestyle="none"), "one replica: no error band"
    if bars:
        capped = Path([(-0.35, -1), (0.35, -1), (0, -1), (0, 1), (-0.35, 1), (0.35, 1)], [1, 2, 1, 2, 1, 2])
        bar = Line2D([], [], color=GREY, linestyle="none", marker=capped, markersize=8)
        return bar, f"$\\pm$2 s.e. of {replicas} replicas"
    return Patch(color=GREY, alpha=2 * SHADE, linewidth=0), f"$\\pm$2 s.e. of {replicas} replicas"


def law_key() -> tuple[Any, str]:
    """Legend entry of a band that is the law of a random f, and no error."""
    from matplotlib.patches import Patch

    return Patch(color=GREY, alpha=2 * SHADE, linewidth=0), "$\\pm$2 std of the law of $f_t$"


def line_key(colour: Any, label: str, **line: Any) -> tuple[Any, str]:
    """Legend entry for a kind of line."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, **line), label


def finish(ax: Any, title: str, x: str, y: str, keys: Keys = ()) -> None:
    """Title, axis labels, and the legend in a strip between title and axes, where it covers no data."""
    import matplotlib as mpl

    ax.set_xlabel(x)
    ax.set_ylabel(y)
    rows = 0
    if keys:
        columns, rows = _columns(keys, 1.06 * ax.get_window_extent().width / ax.figure.dpi * 72)
        ax.legend(*zip(*keys, strict=True), ncols=columns, loc="lower left", bbox_to_anchor=(0.0, 1.0), **LEGEND)
    ax.set_title(title, pad=5 + rows * mpl.rcParams["legend.fontsize"] * 1.45)
    if ax.get_yscale() == "linear" and not 1e-3 <= max(map(abs, ax.get_ylim())) < 1e4:
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")  # no common factor in a corner
    ax.tick_params(labelsize=mpl.rcParams["xtick.labelsize"], width=0.6, length=2.5)


def finish_page(figure: Any, title: str, keys: Keys = ()) -> None:
    """Title of a figure of several panels, and one legend for all of them below."""
    figure.suptitle(title, x=0.01, horizontalalignment="left", fontsize=STYLE["axes.titlesize"])
    if keys:
        columns, _ = _columns(keys, 0.95 * figure.get_size_inches()[0] * 72)
        figure.legend(*zip(*keys, strict=True), ncols=columns, loc="outside lower center", **LEGEND)


def _columns(keys: Keys, points: float) -> tuple[int, int]:
    """Most columns, and their rows, with which a legend is at most `points` wide."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    size = STYLE["legend.fontsize"]
    font = FontProperties(size=size)
    widths = [text_to_path.get_text_width_height_descent(label, font, "$" in label)[0] for _, label in keys]
    extra = size * (LEGEND["handlelength"] + LEGEND["handletextpad"] + LEGEND["columnspacing"])
    for columns in range(len(keys), 0, -1):
        parts = np.array_split(widths, columns)
        if columns == 1 or sum(part.max() + extra for part in parts) <= points:
            return columns, max(len(part) for part in parts)
    raise AssertionError("one column always fits")


def finish_curves(ax: Any, steps: Array, title: str, y: str, keys: Keys) -> None:
    """`finish` for trajectories."""
    whole_numbers(ax, steps)
    finish(ax, title, "training step $t$", y, keys)


def whole_numbers(ax: Any, values: Array) -> None:
    """Ticks of x at whole numbers; at the only value there is when there is no other."""
    from matplotlib.ticker import FixedLocator, MaxNLocator

    whole = MaxNLocator("auto", integer=True, steps=(1, 2, 2.5, 5, 10))
    ax.xaxis.set_major_locator(whole if len(values) > 1 else FixedLocator(list(values)))


def show_zero(ax: Any) -> None:
    """Begin y just below zero, so that a curve at zero is not hidden by the frame."""
    ax.set_ylim(bottom=-0.02 * min(ax.get_ylim()[1], 1.0))


def compress(ax: Any, largest: float, reach: float = 1.0) -> None:
    """Make y logarithmic outside +-2 `reach` where something grew past ten times that, as diverging runs do."""
    if largest > 20 * reach:
        ax.set_yscale("symlog", linthresh=2 * reach)


def scale_values(ax: Any, values: Array) -> None:
    """Choose and set the scale of y: log where all values are positive and span more than a factor of four.

    Zeros among positive values leave the picture at its lower edge. Otherwise the scale is linear, or compressed.
    """
    finite = values[np.isfinite(values)]
    positive = finite[finite > 0]
    if positive.size == 0 or (finite < 0).any():
        compress(ax, float(np.abs(finite).max(initial=0.0)))
    elif positive.size < finite.size or positive.max() >= 4 * positive.min():
        ax.set_ylim(positive.min() / 1.6, positive.max() * 1.6)
        ax.set_yscale("log", nonpositive="clip")
