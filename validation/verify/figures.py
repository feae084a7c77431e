"""The figures of a report: what the certificates rest on, step by step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tpsim.plot.eigenvalues import spectra_figure
from tpsim.plot.files import write_pictures
from tpsim.plot.read import Band, layers_of
from tpsim.plot.style import GREY, PAGE, colours, curve, finish, finish_page, line_key, page, whole_numbers

from ..families import innovations
from ..independence import floor, spectra
from .claims import Findings
from .evidence import Evidence

Array = np.ndarray

VISIBLE = 1e-16  # on logarithmic axes

KINDS = {
    "h": r"$E[Z^h Z^{h\prime}]$",
    "h centred": r"$\mathrm{Cov}(Z^h)$",
    "x": r"$E[Z^x Z^{x\prime}]$",
    "x centred": r"$\mathrm{Cov}(Z^x)$",
}


def save_figures(evidence: Evidence, findings: Findings, folder: Path) -> dict[str, str]:
    """Write the figures as png; return their captions by file name."""
    found: dict[str, tuple[Callable[[Any], Any], str]] = {
        "independence": (partial(_independence, evidence), independence_caption(evidence)),
        "corollary": (partial(_corollary, evidence), COROLLARY),
        "spectra_x": (lambda figure: spectra_figure(evidence.large, "x", figure=figure), _spectra("Z^x")),
        "spectra_h": (lambda figure: spectra_figure(evidence.large, "h", figure=figure), _spectra("Z^h")),
    }
    if evidence.large.sizes["layer"] > 1:
        found["families"] = (partial(_families, evidence), FAMILIES)
    write_pictures({name: draw for name, (draw, _) in found.items()}, folder)
    return {f"{name}.png": caption for name, (_, caption) in found.items()}


COROLLARY = (
    "Corollary 4.6: loss, largest error signal, and smallest eigenvalue of the last features' Gram matrix K^L at 2M "
    "particles; bands are 2 standard errors over replicas. While the last stays above zero, "
    "eta^2 chi' K chi >= eta^2 lambda_min |chi|^2 and the readout moves unless every error signal is zero."
)
FAMILIES = (
    "The Gaussian families (C.1), (C.2) against the whole past: smallest singular value of the new randomness of all "
    "samples together, by matrix and step; the lowest of all replicas. Positive at every step, the families are "
    "non-degenerate over space and time. Dotted: the floor, below which rounding and tolerance do not tell; from the "
    "first point below it on the past is not whole, and nothing is to be read."
)


def _spectra(symbol: str) -> str:
    return (
        f"Eigenvalues of the Gram matrix of {symbol} at the first and the last step, by layer, at 2M particles. "
        "Dotted: the square of the tolerance times the mean diagonal, what a single step may drop."
    )


def independence_caption(evidence: Evidence) -> str:
    """What the picture of Theorem 4.5 shows."""
    return (
        "Theorem 4.5: smallest over largest eigenvalue of the Gram matrices of Z^h and Z^x, centred and not, by layer "
        f"and step, at 2M particles; what is below {VISIBLE:g} is rounding and drawn there; bands are 2 standard "
        f"errors over replicas. Dashed: what is accounted to truncation by the tolerance ({_floor(evidence):.2g})."
    )


def _floor(evidence: Evidence) -> float:
    return floor(evidence.pilot, evidence.small, evidence.large, evidence.settings.training)


def _independence(evidence: Evidence, figure: Any) -> Any:
    run, steps = evidence.large, evidence.large["step"].values
    layers, eigenvalues = layers_of(run, None), spectra(run)
    palette = dict(zip(layers, colours(len(layers)), strict=True))
    with page(figure, (PAGE, 4.2)) as figure:
        axes = figure.subplots(2, 2, sharex=True, sharey=True)
        for ax, (kind, title) in zip(axes.flat, KINDS.items(), strict=True):
            values = eigenvalues.sel(kind=kind).values  # descending
            ratio = np.maximum(_ratio(values[..., -1], values[..., 0]), VISIBLE)
            for l in layers:
                curve(ax, steps, _band(ratio[:, :, l - 1]), palette[l])
            ax.axhline(_floor(evidence), color=GREY, linestyle="--")
            _logarithmic(ax, steps)
            finish(ax, title, "training step $t$", r"$\lambda_{\min}/\lambda_{\max}$")
            ax.label_outer()
        keys = [line_key(palette[l], f"$l={l}$") for l in layers]
        finish_page(figure, "Linear independence of features", [*keys, line_key(GREY, "floor", linestyle="--")])
    return figure


def _families(evidence: Evidence, figure: Any) -> Any:
    run = evidence.short[-1]
    values, floors = innovations(run)
    steps, layers = run["step"].values, layers_of(run.isel(layer=slice(1, None)), None)
    palette = dict(zip(layers, colours(len(layers)), strict=True))
    with page(figure, (PAGE, 2.7)) as figure:
        axes = figure.subplots(1, 2, sharey=True)
        for ax, way, title in zip(
            axes, ("forward", "backward"), (r"forward: $\delta x^{l-1}_t$", r"backward: $\mathrm{d}h^l_t$"), strict=True
        ):
            for l in layers:
                here = {"direction": way, "layer": l}
                ax.plot(steps, values.sel(here).min("replica"), color=palette[l], marker="o")
                ax.plot(steps, floors.sel(here).max("replica"), color=palette[l], linestyle=":")
            _logarithmic(ax, steps)
            finish(ax, title, "training step $t$", "new randomness")
        axes[1].set_ylabel("")
        keys = [line_key(palette[l], f"$W^{l}$", marker="o") for l in layers]
        finish_page(figure, "New randomness of all samples together", [*keys, line_key(GREY, "floor", linestyle=":")])
    return figure


def _corollary(evidence: Evidence, figure: Any) -> Any:
    run, steps = evidence.large, evidence.large["step"].values
    smallest = spectra(run).sel(kind="x").isel(layer=-1, eigenvalue=-1).values
    panels = {
        "loss": run["loss"].values,
        r"$\max_i |\chi_{t,i}|$": np.abs(run["chi"].values).max(axis=-1),
        r"$\lambda_{\min}(K^L_t)$": smallest,
    }
    with page(figure, (PAGE, 2.5)) as figure:
        for ax, (label, values) in zip(figure.subplots(1, 3), panels.items(), strict=True):
            curve(ax, steps, _band(values), "black")
            _logarithmic(ax, steps)
            finish(ax, "", "training step $t$", label)
        finish_page(figure, "Convergence, and the last features' smallest eigenvalue")
    return figure


def _logarithmic(ax: Any, steps: Array) -> None:
    """Make y logarithmic, where there is anything to show on such an axis."""
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in ax.lines])
    if (drawn[np.isfinite(drawn)] > 0).any():
        ax.set_yscale("log", nonpositive="clip")
    else:
        ax.set_xlim(steps[0] - 0.5, steps[-1] + 0.5)
        ax.text(0.5, 0.5, "zero or undefined", transform=ax.transAxes, ha="center", color=GREY)
    whole_numbers(ax, steps)


def _band(values: Array) -> Band:
    """Mean +- 2 s.e. over the first axis."""
    mean = values.mean(axis=0)
    error = 2 * values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return Band(mean, mean - error, mean + error, len(values))


def _ratio(smallest: Array, largest: Array) -> Array:
    """0 where there is nothing: features that are zero are dependent."""
    return np.divide(smallest, largest, out=np.zeros_like(smallest), where=largest > 0)
