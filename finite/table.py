"""The table of a sweep: loss, feature change and smallest eigenvalue at the last step, of networks that survived."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from tpsim.conventions import parametrization_title
from tpsim.plot.read import finite
from tpsim.report import show, smallest_eigenvalue

CHANGE, SMALLEST = "change of h", "smallest eigenvalue of kernel_h"
HEADER = ("activation", "parametrization", "width", "quantity", "layer", "mean", "se", "networks", "diverged")


def final(run: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return the quantities of the table at the last step, as far as they were recorded: (..., replica[, layer])."""
    last = run.isel(step=-1)
    found = {"loss": last["loss"]}
    if "feature_change_h" in last:
        found[CHANGE] = last["feature_change_h"]
    if "kernel_h" in last:
        found[SMALLEST] = smallest_eigenvalue(last["kernel_h"])
    return found


def estimate(values: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Return mean and standard error over the networks with finite values, and their number.

    The mean of none and the standard error of one are NaN.
    """
    kept = finite(values)
    count = kept.count("replica")
    mean = kept.sum("replica") / count.where(count > 0)
    square: xr.DataArray = ((kept - mean) ** 2).sum("replica") / (count * (count - 1)).where(count > 1)
    return mean, square**0.5, count


def rows(run: xr.Dataset) -> Iterator[tuple[Any, ...]]:
    """Yield one row for each entry of the table, in the columns of `HEADER`; the layer of the loss is empty."""
    diverged = (run["diverged_at"] >= 0).sum("replica")
    for quantity, values in final(run).items():
        mean, error, count = estimate(values)
        for place, number in _entries(mean):
            here = {name: place[name] for name in ("activation", "parametrization", "width")}
            statistics = (number, float(error.sel(place)), int(count.sel(place)), int(diverged.sel(here)))
            yield *here.values(), quantity, place.get("layer", ""), *statistics


def _entries(values: xr.DataArray) -> Iterator[tuple[dict[str, Any], float]]:
    labels = [values[dim].values.tolist() for dim in values.dims]
    for index, number in np.ndenumerate(values.values):
        yield {str(d): axis[k] for d, axis, k in zip(values.dims, labels, index, strict=True)}, float(number)


def lines(run: xr.Dataset) -> list[str]:
    """Return the table as text: a block for each activation and parametrization, a line for each width."""
    numbers = {quantity: estimate(values) for quantity, values in final(run).items()}
    layers = [int(l) for l in run["layer"].values]
    per_layer = [quantity for quantity in (CHANGE, SMALLEST) if quantity in numbers]
    titles = {name: f"{name}, layer {f'1..{layers[-1]}' if len(layers) > 1 else 1}" for name in per_layer}
    wide = {name: max(11 * len(layers), len(title) + 3) for name, title in titles.items()}
    head = "".join(f"{title:{wide[name]}}" for name, title in titles.items())
    text = []
    for activation in run["activation"].values.tolist():
        for name in run["parametrization"].values.tolist():
            text += [f"  {parametrization_title(name)}; {activation}", f"    {'n':>6}  {'loss':22}{head}diverged"]
            for width in run["width"].values.tolist():
                place = {"activation": activation, "parametrization": name, "width": width}
                mean, error, _ = (float(part.sel(place)) for part in numbers["loss"])
                line = f"    {width:6d}  {_show(mean, error):22}"
                for quantity in per_layer:
                    means = numbers[quantity][0].sel(place).values
                    line += f"{''.join(f'{_short(value):11}' for value in means):{wide[quantity]}}"
                count = int((run["diverged_at"].sel(place) >= 0).sum())
                text.append(line + (f"{count} of {run.sizes['replica']}" if count else "-"))
    return [*text, "  means over the networks that did not diverge; +-: their standard error"]


def _show(mean: float, error: float) -> str:
    known = {"mean": mean if np.isfinite(mean) else None, "se": error if np.isfinite(error) else None}
    return show(known) if known["mean"] is not None else "-"


def _short(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "-"
