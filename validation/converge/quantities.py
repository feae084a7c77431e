"""What is compared with the limit: every quantity of a run, as one array of entries for each replica."""

from __future__ import annotations

import numpy as np
import xarray as xr

from tpsim.report import smallest_eigenvalue

Array = np.ndarray


def quantities(run: xr.Dataset) -> dict[str, Array]:
    """Return the quantities of a run by name, (replica, entries) each; entries are recorded steps, samples and pairs.

    f, the loss, and of h^l and x^l at every layer the kernel, the feature change and the smallest eigenvalue of the
    kernel. Works on runs of `simulate` and of `finite.train`.
    """
    kernels = {field: run[f"kernel_{field}"] for field in "hx"}
    by_layer = {f"kernel_{field}": kernels[field] for field in "hx"}
    by_layer |= {f"feature change {field}": run[f"feature_change_{field}"] for field in "hx"}
    by_layer |= {f"smallest eigenvalue {field}": smallest_eigenvalue(kernels[field]) for field in "hx"}
    found = {"f": run["f"], "loss": run["loss"]}
    found |= {f"{name}, layer {l}": value.sel(layer=l) for name, value in by_layer.items() for l in run["layer"].values}
    return {name: _rows(values) for name, values in found.items()}


def healthy(run: xr.Dataset) -> xr.Dataset:
    """Return the replicas that did not diverge."""
    return run.isel(replica=np.flatnonzero(np.isfinite(run["f"].values).all(axis=(1, 2))))


def _rows(values: xr.DataArray) -> Array:
    return values.transpose("replica", ...).values.reshape(values.sizes["replica"], -1).astype(float)
