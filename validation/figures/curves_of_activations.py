"""Figure 17: the activation functions and their derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpsim.activations import resolve_activation
from tpsim.plot.style import BLUE, GREEN, GREY, ORANGE, PAGE, PURPLE, VERMILLION, finish, finish_page, line_key, page

from .captions import Statement, judged
from .study import Figure, Study

Array = np.ndarray

CURVES = {
    "sigmoid": ("sigmoid", BLUE, "-"),
    "tanh": ("tanh", VERMILLION, "-"),
    "silu": ("SiLU", GREEN, "-"),
    "gelu": ("GELU", PURPLE, "--"),
    "relu": ("ReLU", ORANGE, "-."),
}
REACH = 5.0  # of the axis
GOOD = ("sigmoid", "tanh", "silu", "gelu")  # Appendix D
NEAR = 12.0  # where tails are compared with those twice as far away
DECAY = 1e-4  # of an exponential tail they are a smaller part


def activations_figure(study: Study, figure: Any = None) -> Any:
    """Draw phi (a) and phi' (b) of the activations of Appendix D, and of ReLU."""
    x = np.linspace(-REACH, REACH, 1001)
    with page(figure, (PAGE, 2.8)) as figure:
        axes = figure.subplots(1, 2)
        for name, (_, colour, style) in CURVES.items():
            phi = resolve_activation(name)
            axes[0].plot(x, phi.phi(x), color=colour, linestyle=style)
            axes[1].plot(x, _unjoined(phi.dphi(x)), color=colour, linestyle=style)
        for ax in axes:
            ax.axhline(0, color=GREY, linewidth=0.5, zorder=0.5)
            ax.set_xlim(-REACH, REACH)
        axes[0].set_ylim(-1.2, 3.0)
        finish(axes[0], "(a) activations", "$x$", r"$\phi(x)$")
        finish(axes[1], "(b) derivatives", "$x$", r"$\phi'(x)$")
        keys = [line_key(colour, label, linestyle=style) for label, colour, style in CURVES.values()]
        finish_page(figure, "Activation functions and their derivatives", keys)
    return figure


def activations_caption(study: Study) -> str:
    """Say what is drawn, and which tails decay as the paper says."""
    return (
        "Activation functions (a), cut off at 3, and their derivatives (b), as the simulation uses them. The "
        "derivative of ReLU jumps; at 0 it is taken to be 0."
    ) + judged(STATEMENTS, study)


def tail(name: str) -> float:
    """Largest |phi - asymptote| at x = +-24 over that at +-12, of phi and phi' on both sides; 0 where it is reached.

    The asymptote is the line through the values at +-48 and +-96. An exponential tail gives about exp(-12).
    """
    phi = resolve_activation(name)
    ratios = []
    for sign in (-1.0, 1.0):
        x = sign * np.array([NEAR, 2 * NEAR, 4 * NEAR, 8 * NEAR])
        for values in (phi.phi(x), phi.dphi(x)):
            slope = (values[3] - values[2]) / (x[3] - x[2])
            near, far, *_ = np.abs(values - values[3] - slope * (x - x[3]))
            ratios.append(far / near if near > 0 else 0.0)
    return float(max(ratios))


def growth(name: str) -> float:
    """phi(2x) / phi(x) at a large x: 2 where phi grows linearly, 1 where it is bounded."""
    low, high = resolve_activation(name).phi(np.array([4 * NEAR, 8 * NEAR]))
    return float(high / low)


def _tails(study: Study) -> tuple[str, bool]:
    found = {CURVES[name][0]: tail(name) for name in GOOD}
    words = ", ".join(f"{label} {value:.1e}" for label, value in found.items())
    text = f"Distance of phi and phi' from their asymptotes at x = +-{2 * NEAR:g} over that at +-{NEAR:g}, at most: "
    text += f"{words}; asked for: below {DECAY:g}, less than any power of x up to 13 would leave."
    return text, max(found.values()) < DECAY


def _contrast(study: Study) -> tuple[str, bool]:
    found = {CURVES[name][0]: growth(name) for name in CURVES}
    linear = [label for label, value in found.items() if value > 1.5]
    return f"phi(2x) / phi(x) at x = {4 * NEAR:g} is 2, linear growth, for {', '.join(linear)}.", linear == ["ReLU"]


STATEMENTS = (
    Statement("the exponential decay behavior in the tails of sigma, tanh, SiLU, and GeLU", _tails),
    Statement("with ReLU serving as a contrasting example that grows linearly", _contrast),
)
FIGURES = {"17": Figure("Activation functions and their derivatives", activations_figure, activations_caption)}


def _unjoined(slope: Array) -> Array:
    """`slope` with a gap where it jumps."""
    jump = np.abs(np.diff(slope, prepend=slope[0])) > 0.5
    return np.where(jump, np.nan, slope)
