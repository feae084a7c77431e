"""What is compared with the limit: every quantity of a run, as one array of entries for each replica."""

from __future__ import annotations

import numpy as np
import xarray as xr

from tpsim.report import smallest_eigenvalue

Array = np.ndarray


def quantities(run: xr.Dataset) -> dict[str, Array]:
    """Return the quantities of a run by name, (replica, entries) each; entries are recorded steps, samples and pairs.

    f, the loss, and of h^l and x^l at every layer the kernel, the feature change and the smallest eigenvalue of the
    kernel. Works on runs of `simulate`, of `finite.train`, and of `converge.networks.run`.
    """
    by_layer = {f"kernel_{field}": run[f"kernel_{field}"] for field in "hx"}
    by_layer |= {f"feature change {field}": run[f"feature_change_{field}"] for field in "hx"}
    by_layer |= {f"smallest eigenvalue {field}": _smallest(run, field) for field in "hx"}
    found = {"f": run["f"], "loss": run["loss"]}
    found |= {f"{name}, layer {l}": value.sel(layer=l) for name, value in by_layer.items() for l in run["layer"].values}
    return {name: _rows(values) for name, values in found.items()}


def _smallest(run: xr.Dataset, field: str) -> xr.DataArray:
    """The smallest eigenvalues of the kernels of h or x, (replica, step, layer): stored, or computed."""
    name = f"smallest_eigenvalue_{field}"
    return run[name] if name in run else smallest_eigenvalue(run[f"kernel_{field}"])


def smallest_eigenvalues(kernels: Array) -> Array:
    """Return the smallest eigenvalue of every matrix (..., m, m); NaN where it is not finite."""
    return smallest_eigenvalue(
        xr.DataArray(kernels, dims=(*map(str, range(kernels.ndim - 2)), "sample", "sample2"))
    ).values


def controls(run: xr.Dataset) -> Array:
    """Return what has the same mean at every width and in the limit, (replica, k): control variates for all the rest.

    f_0, whose mean is zero, and the kernels of h^1_0 and x^1_0: the entries of h^1_0 are independent draws of Z^{h^1_0}
    at every width.
    """
    rows, columns = np.triu_indices(run.sizes["sample"])
    first = [run[name].values[:, 0, 0][:, rows, columns] for name in ("kernel_h", "kernel_x")]
    return np.concatenate([run["f"].values[:, 0], *first], axis=1).astype(float)


def healthy(run: xr.Dataset) -> xr.Dataset:
    """Return the replicas that did not diverge."""
    return run.isel(replica=np.flatnonzero(np.isfinite(run["f"].values).all(axis=(1, 2))))


def _rows(values: xr.DataArray) -> Array:
    found = values.transpose("replica", ...).values
    return found.reshape(len(found), int(np.prod(found.shape[1:]))).astype(float)
