"""The trajectory of the outputs: loss, f_t on the training set, f_t on the probes, test error."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from .read import MAX_CLASSES, Band, band, classes, finite, output_band, require, setting
from .style import (
    BLUE,
    GREY,
    NAMED,
    VERMILLION,
    band_key,
    compress,
    curve,
    finish_curves,
    law_key,
    line_key,
    panel,
    scale_values,
    show_zero,
)

Array = np.ndarray


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
        keys = [line_key(BLUE, "mean"), band_key(values.replicas)]
        finish_curves(ax, run["step"].values, "Training loss", "loss", keys)
    return ax


def outputs(run: xr.Dataset, ax: Any = None) -> Any:
    """Draw f_t(xi_i) of every training sample: mean and +- 2 s.e. over replicas, coloured by target.

    Where f_0 is random (the limits of NTP and SP): mean and +- 2 standard deviations of its law, as for the probes.
    Targets are dashed lines where there are few distinct ones, and marks at the last step otherwise.

    Raises
    ------
    InputError
        The run has no `f` or no `targets`.
    """
    require(run, "f", "targets")
    values, targets = output_band(run, "f"), run["targets"].values
    with panel(ax) as ax:
        keys = _by_target(ax, run, "step", values, targets)
        count = f"{len(targets)} training samples" if len(targets) > 1 else "training sample"
        finish_curves(ax, run["step"].values, f"Outputs on the {count}", r"$f_t(\xi_i)$", keys)
    return ax


def probes(run: xr.Dataset, ax: Any = None) -> Any:
    """Draw f_t of every probe, coloured by the probe's target where the run has it.

    Raises
    ------
    InputError
        The run has no `f_probe`.
    """
    require(run, "f_probe")
    values = output_band(run, "f_probe")
    targets = run["probe_targets"].values if "probe_targets" in run else None
    with panel(ax) as ax:
        keys = _by_target(ax, run, "probe_step", values, targets)
        title = f"Outputs on {_probes(values.mean.shape[1])} (never trained on)"
        finish_curves(ax, run["probe_step"].values, title, r"$f_t(\xi_*)$", keys)
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
    f = finite(run["f_probe"]).transpose("replica", "probe_step", "probe")
    keys, largest = [], 0.0
    with panel(ax) as ax:
        if not _logistic(run):
            squared = band(((f - y) ** 2).mean("probe", skipna=False))
            curve(ax, steps, squared, BLUE)
            keys.append(line_key(BLUE, "mean of $(f-y)^2$"))
            largest = float(np.nanmax(squared.mean, initial=0.0))
        if np.isin(y.values, (-1.0, 1.0)).all():
            agreement = xr.apply_ufunc(np.sign, f * y).mean("probe", skipna=False)
            curve(ax, steps, band(0.5 - 0.5 * agreement), VERMILLION, linestyle="--")
            keys.append(line_key(VERMILLION, "share of wrong signs", linestyle="--"))
        compress(ax, largest)
        show_zero(ax)
        keys.append(band_key(run.sizes["replica"]))
        finish_curves(ax, steps, f"Test error on {_probes(y.size)}", "error", keys)
    return ax


def _probes(count: int) -> str:
    return f"{count} probes" if count > 1 else "one probe"


def _logistic(run: xr.Dataset) -> bool:
    """Whether outputs grow past their targets +-1 by design."""
    return setting(run, "training", "loss") == "logistic"


def _by_target(ax: Any, run: xr.Dataset, dim: str, values: Band, targets: Array | None) -> list[tuple[Any, str]]:
    """Draw one curve per sample in the colour of its target; return the legend entries."""
    steps, count = run[dim].values, values.mean.shape[1]
    opacity = float(np.clip((12 / count) ** 0.5, 0.25, 1.0))
    palette, keys = paint(ax, targets, count)
    for i in range(count):
        curve(ax, steps, values.at(slice(None), i), palette[i], opacity, linewidth=1.0 if count <= 12 else 0.7)
    if targets is not None and not _logistic(run):
        keys += _targets(ax, steps, targets, palette)
    compress(ax, float(np.nanmax(np.abs(values.mean), initial=0.0)), 1.0 if targets is None else _reach(targets))
    return [*keys, law_key() if "f_cov" in run else band_key(run.sizes["replica"])]


def paint(ax: Any, targets: Array | None, count: int) -> tuple[list[Any], list[tuple[Any, str]]]:
    """One colour per sample, and legend entries (or a colour bar on `ax` for many distinct targets)."""
    import matplotlib as mpl

    if targets is None:
        return [BLUE] * count, [line_key(BLUE, "one probe each")]
    groups = classes(targets)
    if len(groups) <= MAX_CLASSES:
        colour = {y: NAMED[k] for k, (y, _) in enumerate(groups)}
        keys = [line_key(colour[y], f"$y={y:+.3g}$ ({len(who)})") for y, who in groups]
        return [colour[float(y)] for y in targets], keys
    norm = mpl.colors.Normalize(targets.min(), targets.max())
    scale = mpl.cm.ScalarMappable(norm, "viridis")
    bar = ax.figure.colorbar(scale, ax=ax, pad=0.02, aspect=30)
    bar.set_label("target $y$")
    bar.outline.set_visible(False)
    return [tuple(c) for c in scale.to_rgba(targets)], []


def _targets(ax: Any, steps: Array, targets: Array, palette: list[Any]) -> list[tuple[Any, str]]:
    """Mark the targets: dashed lines, or marks at the last step where there are many distinct ones."""
    groups = classes(targets)
    if len(groups) <= MAX_CLASSES:
        for y, who in groups:
            ax.axhline(y, color=palette[who[0]], linestyle="--", linewidth=0.8, zorder=0.5)
        return [line_key(GREY, "targets", linestyle="--", linewidth=0.8)]
    ax.scatter(np.full(len(targets), steps[-1]), targets, c=palette, s=14, marker="_", zorder=3)
    return [line_key(GREY, "targets", linestyle="none", marker="_")]


def target_lines(ax: Any, run: xr.Dataset, palette: list[Any]) -> list[tuple[Any, str]]:
    """Mark the targets of the training samples, where f is to reach them; return the legend entries."""
    return [] if _logistic(run) else _targets(ax, run["step"].values, run["targets"].values, palette)


def _reach(targets: Array) -> float:
    return max(1.0, float(np.abs(targets).max()))
