"""One style for all pictures: fonts and sizes for print, colours that survive colour blindness and grey printing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .read import Band

Array = np.ndarray

COLUMN = (3.4, 2.6)  # inches: one column of print
PAGE = 6.9  # inches: the full width of the text
STYLE = {
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


@contextmanager
def panel(ax: Any, size: tuple[float, float] = COLUMN) -> Iterator[Any]:
    """Give `ax`, or new axes, with the style in force inside the block only."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots(figsize=size, layout="constrained")[1]
        yield ax


@contextmanager
def page(figure: Any, size: tuple[float, float]) -> Iterator[Any]:
    """Give `figure`, or a new one of `size`, with the style in force inside the block only."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        if figure is None:
            import matplotlib.pyplot as plt

            figure = plt.figure(figsize=size, layout="constrained")
        else:
            figure.set_size_inches(size)
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


def band_key(replicas: int) -> tuple[Any, str]:
    """Legend entry that says what the bands are."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if replicas < 2:
        return Line2D([], [], linestyle="none"), "one replica: no error band"
    return Patch(color=GREY, alpha=2 * SHADE, linewidth=0), f"$\\pm$2 s.e. of {replicas} replicas"


def line_key(colour: Any, label: str, **line: Any) -> tuple[Any, str]:
    """Legend entry for a kind of line."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, **line), label


def finish(ax: Any, title: str, x: str, y: str, keys: Sequence[tuple[Any, str]] = ()) -> None:
    """Title, axis labels, and the legend in a strip between title and axes, where it covers no data."""
    import matplotlib as mpl

    ax.set_xlabel(x)
    ax.set_ylabel(y)
    size = mpl.rcParams["legend.fontsize"]
    rows = 0
    if keys:
        widest = max(_length(label) for _, label in keys)
        points = ax.get_window_extent().width / ax.figure.dpi * 72
        columns = int(np.clip(points // (0.52 * size * widest + 3.2 * size), 1, len(keys)))
        rows = -(-len(keys) // columns)
        ax.legend(
            [handle for handle, _ in keys], [label for _, label in keys], ncols=columns, loc="lower left",
            bbox_to_anchor=(0.0, 1.0), borderaxespad=0.2, borderpad=0.1, handlelength=1.7, handletextpad=0.5,
            columnspacing=1.0, labelspacing=0.25,
        )  # fmt: skip
    ax.set_title(title, pad=4 + rows * size * 1.42)
    ax.tick_params(labelsize=mpl.rcParams["xtick.labelsize"], width=0.6, length=2.5)


def _length(label: str) -> int:
    """Printed length of a label, in characters, mathematics included approximately."""
    return len(label) - 0.7 * label.count("\\") * 4 - 2 * label.count("$") // 2 if "$" in label else len(label)


def scale_values(ax: Any, values: Array) -> str:
    """Choose and set the scale of y: log where all values are positive and span more than a factor of four.

    Zeros among positive values leave the picture at its lower edge; with negative values, or none positive, or a
    nearly constant quantity, the scale is linear (symlog past three decades).
    """
    finite = values[np.isfinite(values)]
    positive = finite[finite > 0]
    if positive.size == 0 or (finite < 0).any():
        size = np.abs(finite[finite != 0])
        if size.size and size.max() > 1e3 * size.min() and size.max() > 1e3:
            ax.set_yscale("symlog", linthresh=max(float(np.median(size)), 1.0))
            return "symlog"
        return "linear"
    if positive.max() < 4 * positive.min() and positive.size == finite.size:
        return "linear"
    ax.set_yscale("log", nonpositive="clip")
    ax.set_ylim(positive.min() / 1.6, positive.max() * 1.6)
    return "log"
