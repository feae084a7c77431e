"""The law of f_t where f_0 stays random, as in the limits of NTP and SP."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from .curves import paint, target_lines
from .read import finite, require
from .style import GREY, SHADE, compress, finish_curves, line_key, panel

Array = np.ndarray


def law(run: xr.Dataset, ax: Any = None) -> Any:
    """Draw the mean of f_t(xi_i) over f_0, a band of one standard deviation of its law, and the draws themselves.

    The band is no error bar: it is what wide networks of other initial weights do, and no width makes it smaller.

    Raises
    ------
    InputError
        The run has no `f_mean` and `f_cov`: f_t is not random in the limits of muP and IP.
    """
    require(run, "f_mean", "f_cov", "f", "targets")
    steps, targets = run["step"].values, run["targets"].values
    mean = finite(run["f_mean"]).transpose("step", "sample").values
    variance = np.diagonal(finite(run["f_cov"]).transpose("step", "sample", "sample2").values, axis1=1, axis2=2)
    std = np.sqrt(np.maximum(variance, 0.0))
    draws = finite(run["f"]).transpose("replica", "step", "sample").values
    with panel(ax) as ax:
        palette, keys = paint(ax, targets, len(targets))
        for i, colour in enumerate(palette):
            ax.fill_between(steps, mean[:, i] - std[:, i], mean[:, i] + std[:, i], color=colour, alpha=SHADE / 2, lw=0)
            ax.plot(steps, draws[:, :, i].T, color=colour, linewidth=0.3, alpha=0.5)
            ax.plot(steps, mean[:, i], color=colour)
        keys += target_lines(ax, run, palette)
        keys += [line_key(GREY, "mean, $\\pm$1 std of the law"), line_key(GREY, "draws of $f_0$", linewidth=0.4)]
        compress(ax, float(np.nanmax(np.abs(mean) + std, initial=0.0)), max(1.0, float(np.abs(targets).max())))
        finish_curves(ax, steps, "Law of the outputs on the training samples", r"$f_t(\xi_i)$", keys)
    return ax
