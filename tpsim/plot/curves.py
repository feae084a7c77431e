"""The trajectory of the outputs: loss, f_t on the training set, f_t on the probes, test error."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from .read import MAX_CLASSES, Band, band, classes, require, setting
from .style import BLUE, GREY, NAMED, VERMILLION, band_key, curve, finish, line_key, panel, scale_values

Array = np.ndarray
STEP = "training step $t$"


def loss(run: xr.Dataset, ax: Any = None) -> Any:
    """Draw the training loss against t: mean over replicas, band of +- 2 s.e., logarithmic where it can be.

    Raises
    ------
    InputError
        The run has no `loss`.
    """
    require(run, "loss")
    values = band(run["loss"].transpose("replica", "step"))
    with panel(ax) as ax:
        curve(ax, run["step"].values, values, BLUE)
        scale_values(ax, values.mean)
        finish(ax, "Training loss", STEP, "loss", [line_key(BLUE, "mean"), band_key(values.replicas)])
    return ax


def outputs(run: xr.Dataset, ax: Any = None) -> Any:
    """Draw f_t(xi_i) of every training sample: mean and +- 2 s.e. over replicas, coloured by target.

    Targets are dashed lines where there are few distinct ones, and marks at the last step otherwise.

    Raises
    ------
    InputError
        The run has no `f` or no `targets`.
    """
    require(run, "f", "targets")
    values, targets = band(run["f"].transpose("replica", "step", "sample")), run["targets"].values
    with panel(ax) as ax:
        keys = _by_target(ax, run["step"].values, values, targets)
        finish(ax, f"Outputs on the {len(targets)} training samples", STEP, r"$f_t(\xi_i)$", keys)
    return ax


def probes(run: xr.Dataset, ax: Any = None) -> Any:
    """Draw f_t of every probe, coloured by the probe's target where the run has it.

    Raises
    ------
    InputError
        The run has no `f_probe`.
    """
    require(run, "f_probe")
    values = band(run["f_probe"].transpose("replica", "probe_step", "probe"))
    targets = run["probe_targets"].values if "probe_targets" in run else None
    with panel(ax) as ax:
        keys = _by_target(ax, run["probe_step"].values, values, targets)
        finish(ax, f"Outputs on {values.mean.shape[1]} probes (never trained on)", STEP, r"$f_t(\xi_*)$", keys)
    return ax


def probe_error(run: xr.Dataset, ax: Any = None) -> Any:
    """Draw the test error on the probes against t: share of wrong signs for targets +-1, and mean of (f - y)^2.

    Each is computed per replica, then averaged; f = 0 counts as half a wrong sign. The squared error is left out of
    runs with the logistic loss, whose outputs do not aim at their targets.

    Raises
    ------
    InputError
        The run has no `f_probe` or no `probe_targets`.
    """
    require(run, "f_probe", "probe_targets")
    steps, y = run["probe_step"].values, run["probe_targets"]
    f = run["f_probe"].where(np.isfinite(run["f_probe"]))
    keys, drawn = [], []
    with panel(ax) as ax:
        if setting(run, "training", "loss") != "logistic":
            with np.errstate(over="ignore"):
                squared = band(((f - y) ** 2).mean("probe", skipna=False).transpose("replica", "probe_step"))
            curve(ax, steps, squared, BLUE)
            keys.append(line_key(BLUE, "mean of $(f-y)^2$"))
            drawn.append(squared.mean)
        if np.isin(y.values, (-1.0, 1.0)).all():
            wrong = 0.5 * (1.0 - np.sign(f * y)).mean("probe", skipna=False)
            share = band(wrong.transpose("replica", "probe_step"))
            curve(ax, steps, share, VERMILLION, linestyle="--")
            keys.append(line_key(VERMILLION, "share of wrong signs", linestyle="--"))
            drawn.append(share.mean)
        if drawn and np.nanmax(np.concatenate(drawn), initial=0.0) < 10:
            ax.set_ylim(bottom=0.0)
        finish(ax, f"Test error on {y.size} probes", STEP, "error", [*keys, band_key(run.sizes["replica"])])
    return ax


def _by_target(ax: Any, steps: Array, values: Band, targets: Array | None) -> list[tuple[Any, str]]:
    """Draw one curve per sample in the colour of its target; return the legend entries."""
    count = values.mean.shape[1]
    opacity = float(np.clip((12 / count) ** 0.5, 0.25, 1.0))
    palette, keys = _colours(ax, targets, count)
    for i in range(count):
        curve(ax, steps, values.at(slice(None), i), palette[i], opacity, linewidth=1.0 if count <= 12 else 0.7)
    if targets is not None:
        keys += _targets(ax, steps, values, targets, palette)
    return [*keys, band_key(values.replicas)]


def _colours(ax: Any, targets: Array | None, count: int) -> tuple[list[Any], list[tuple[Any, str]]]:
    """One colour per sample, and legend entries (or a colour bar on `ax` for many distinct targets)."""
    import matplotlib as mpl

    if targets is None:
        return [BLUE] * count, [line_key(BLUE, "one probe each")]
    groups = classes(targets)
    if len(groups) <= MAX_CLASSES:
        colour = {y: NAMED[k] for k, (y, _) in enumerate(groups)}
        keys = [line_key(colour[y], f"$y={y:+g}$ ({len(who)})") for y, who in groups]
        return [colour[float(y)] for y in targets], keys
    norm = mpl.colors.Normalize(targets.min(), targets.max())
    scale = mpl.cm.ScalarMappable(norm, "viridis")
    bar = ax.figure.colorbar(scale, ax=ax, pad=0.02, aspect=30)
    bar.set_label("target $y$")
    bar.outline.set_visible(False)
    return [tuple(c) for c in scale.to_rgba(targets)], []


def _targets(ax: Any, steps: Array, values: Band, targets: Array, palette: list[Any]) -> list[tuple[Any, str]]:
    """Mark the targets, and choose a scale that shows them beside outputs that may have diverged."""
    groups = classes(targets)
    if len(groups) <= MAX_CLASSES:
        for y, who in groups:
            ax.axhline(y, color=palette[who[0]], linestyle="--", linewidth=0.8, zorder=0.5)
        keys = [line_key(GREY, "targets", linestyle="--", linewidth=0.8)]
    else:
        ax.scatter(np.full(len(targets), steps[-1]), targets, c=palette, s=8, marker="_", zorder=3)
        keys = [line_key(GREY, "targets", linestyle="none", marker="_")]
    largest = float(np.nanmax(np.abs(values.mean), initial=0.0))
    reach = max(1.0, float(np.abs(targets).max()))
    if largest > 50 * reach:
        ax.set_yscale("symlog", linthresh=2 * reach)
    return keys
