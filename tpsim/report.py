"""A run in a few numbers: the summary that is written as JSON, and the table that the command line prints.

Every number comes with its standard error over the replicas (None, in the table nothing, for a single replica).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

MOST_DIGITS = 6
Estimate = dict[str, float | None]  # {"mean": ..., "se": ...}; None where undefined


def summarise(run: xr.Dataset) -> dict[str, Any]:
    """Return the numbers of a run at its first and its last recorded step, ready for JSON.

    Returns
    -------
    dict
        `steps`, `replicas`, `loss`; with targets on the probes `probe_mse` and, where those are +-1, `probe_error`;
        and `layers`, one dict per layer l: the smallest eigenvalues of the kernels of h and x, the feature changes at
        the end, the basis sizes p and q at the end (largest over replicas), each where the run has it. `guards`: how
        often each numerical guard acted, where any did.
    """
    ends = run.isel(step=[0, -1])
    out: dict[str, Any] = {
        "steps": int(run["step"][-1]),
        "replicas": run.sizes["replica"],
        "loss": _start_end(ends["loss"]),
    }
    if "f_probe" in run and "probe_targets" in run and run.sizes["probe_step"]:
        out["probe_steps"] = [int(run["probe_step"][k]) for k in (0, -1)]
        out |= {name: _start_end(values) for name, values in probe_errors(run.isel(probe_step=[0, -1])).items()}
    smallest = {field: smallest_eigenvalue(ends[f"kernel_{field}"]) for field in "hx" if f"kernel_{field}" in run}
    changes = [name for name in ("feature_change_h", "feature_change_x") if name in run]
    if guards := guards_of(run):
        out["guards"] = guards
    ranks = [name for name in ("rank_forward", "rank_backward") if name in run]  # of simulations only
    out["layers"] = [
        {"layer": int(l)}
        | {f"smallest_eigenvalue_{field}": _start_end(values.sel(layer=l)) for field, values in smallest.items()}
        | {name: _estimate(run[name].sel(layer=l)[:, -1]) for name in changes}
        | {name: int(run[name].sel(layer=l)[:, -1].max()) for name in ranks}
        for l in run["layer"].values
    ]
    return out


def probe_errors(run: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return the errors on the probes, (replica, probe_step) each.

        probe_mse = mean (f - y)^2,    probe_error = share of probes with sign f != y   (f = 0 counts one half)

    The second only where all targets are +-1. The run needs `f_probe` and `probe_targets`.
    """
    f, y = run["f_probe"], run["probe_targets"]
    square: xr.DataArray = (f - y) ** 2
    errors = {"probe_mse": square.mean("probe")}
    if np.isin(y.values, (-1.0, 1.0)).all():
        wrong = 0.5 * (1.0 - xr.apply_ufunc(np.sign, f) * y)
        errors["probe_error"] = wrong.mean("probe")
    return errors


def guards_of(run: xr.Dataset) -> dict[str, int]:
    """Return how often each numerical guard acted, all replicas together, without those that never did."""
    if "guards" not in run:
        return {}
    total = run["guards"].sum("replica")
    return {str(name): int(times) for name, times in zip(run["guard"].values, total.values, strict=True) if times}


def smallest_eigenvalue(kernel: xr.DataArray) -> xr.DataArray:
    """Return the smallest eigenvalue of each Gram matrix E[Z_i Z_j] over the dimensions sample, sample2."""
    matrices = kernel.transpose(..., "sample", "sample2")
    finite = np.isfinite(matrices.values).all(axis=(-1, -2))
    smallest = np.full(finite.shape, np.nan)
    smallest[finite] = np.linalg.eigvalsh(matrices.values[finite])[..., 0]
    return matrices.isel(sample=0, sample2=0, drop=True).copy(data=smallest)


def _start_end(values: xr.DataArray) -> dict[str, Estimate]:
    """The estimates at the start and the end, from (replica, 2)."""
    return {"start": _estimate(values[:, 0]), "end": _estimate(values[:, 1])}


def _estimate(values: xr.DataArray) -> Estimate:
    """The mean of values (replica,) and its standard error, std(ddof=1) / sqrt(R)."""
    numbers = values.values
    mean = float(numbers.mean())
    se = float(numbers.std(ddof=1) / math.sqrt(numbers.size)) if numbers.size > 1 else math.nan
    return {"mean": mean if math.isfinite(mean) else None, "se": se if math.isfinite(se) else None}


def table(summary: dict[str, Any]) -> str:
    """Return the table of a summary: start and end, each +- its standard error."""
    rows: list[tuple[str, Any, Callable[[Estimate], str]]] = [("loss", summary["loss"], show)]
    for key, name, form in (("probe_error", "wrong signs", percent), ("probe_mse", "mean (f - y)^2", show)):
        if key in summary:
            last = summary["probe_steps"][1]  # a run that had to stop may be past it
            late = "" if last == summary["steps"] else f" (to {last})"
            rows.append((f"{name} on probes{late}", summary[key], form))
    for layer in summary["layers"]:
        for field in "hx":
            if (key := f"smallest_eigenvalue_{field}") in layer:
                rows.append((f"layer {layer['layer']}  smallest eigenvalue, {field}", layer[key], show))
    lines = [f"  {'':36}{'step 0':26}step {summary['steps']}"]
    lines += [f"  {name:36}{form(both['start']):26}{form(both['end'])}" for name, both, form in rows]
    fields = [field for field in "hx" if f"feature_change_{field}" in summary["layers"][0]]
    ranked = "rank_forward" in summary["layers"][0]
    if fields or ranked:
        header = "".join(f"{'change of ' + field:26}" for field in fields) + ("ranks p, q" if ranked else "")
        lines += ["", f"  {'at the last step':20}{header}".rstrip()]
    for layer in summary["layers"] if fields or ranked else []:
        row = "".join(f"{show(layer[f'feature_change_{field}']):26}" for field in fields)
        if ranked:
            row += f"{layer['rank_forward']}, {layer['rank_backward']}" if layer["layer"] > 1 else "-"
        lines.append(f"  {'layer ' + str(layer['layer']):20}{row}".rstrip())
    counted = f"over {summary['replicas']} replicas" if summary["replicas"] > 1 else "not available for one replica"
    return "\n".join([*lines, f"  +-: standard error of the mean {counted}"])


def show(value: Estimate) -> str:
    """Return mean +- s.e., the mean with no more decimals than its error supports."""
    mean, se = value["mean"], value["se"]
    if mean is None:
        return "undefined"
    if se is None:
        return f"{mean:.4g}"
    if se <= 1e-14 * abs(mean):  # the replicas differ by rounding only
        return f"{mean:.4g} +- 0"
    digits = 2
    if mean != 0.0:
        digits = min(max(math.floor(math.log10(abs(mean))) - math.floor(math.log10(se)) + 2, 1), MOST_DIGITS)
    return f"{mean:.{digits}g} +- {se:.1e}"


def percent(value: Estimate) -> str:
    """Return a share as a percentage +- s.e."""
    if value["mean"] is None:
        return "undefined"
    return f"{100 * value['mean']:.1f}%" + ("" if value["se"] is None else f" +- {100 * value['se']:.1f}%")
