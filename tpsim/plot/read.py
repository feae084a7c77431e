"""What the pictures read from a run: variables with clear errors, bands over replicas, samples by target."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ..errors import InputError
from ..results import DIMENSIONS, LABELS

Array = np.ndarray

HOW = {
    "f_probe": "a Problem with probes",
    "probe_targets": "a Problem with probe_targets",
    "f_mean": 'simulate(..., limit="ntp" or "sp")',
    "Z_h": "simulate(..., snapshots=(0, T))",
}
KERNELS = {"h": "Z^{h^{%s}}", "x": "Z^{x^{%s}}", "dh": r"Z^{\mathrm{d}h^{%s}}"}  # which: symbol at a layer
LARGEST = 1e150  # past this a square overflows, and with it every standard error
MAX_CLASSES = 6  # with more distinct targets the colour is a scale and no longer a name
MAX_PANELS = 4  # layers side by side in print


def require(run: xr.Dataset, *names: str) -> None:
    """Raise `InputError` for the first of `names` that the run does not have, has at no step, or in another form."""
    if not isinstance(run, xr.Dataset):
        raise InputError("run", f"<{type(run).__name__}>", "an xarray.Dataset, as `tpsim.simulate` returns it")
    if "replica" not in run.dims:
        raise InputError("run", "<no dimension replica>", "a run with its replicas; run.isel(replica=[0]) keeps one")
    for name in names:
        if name not in run or run[name].size == 0:
            source = HOW.get(name, "recorded by default")
            raise InputError(name, "<missing from the run>", f"a run with {LABELS.get(name, name)} ({source})")
        _check_form(run, name)


def _check_form(run: xr.Dataset, name: str) -> None:
    """Refuse a variable over other dimensions than those of a run, or of other things than real numbers."""
    values, own = run[name], DIMENSIONS.get(name)
    if own is not None and values.dims != (("replica", *own) if "replica" in values.dims else own):
        raise InputError(name, f"<dimensions {values.dims}>", f"replica, {', '.join(own)}")
    if values.dtype.kind not in "biuf":
        raise InputError(name, f"<values of type {values.dtype}>", "real numbers")
    if "replica" not in values.dims and not np.isfinite(values).all():
        raise InputError(name, "<nan or inf>", "finite numbers")
    for dim in {"step", "probe_step", "snapshot_step", "layer"} & set(values.dims):
        if dim not in run.coords or run[dim].dtype.kind not in "iu":
            raise InputError(str(dim), "<no integers>", f"a coordinate of integers, over which {name} is")


def require_hidden(run: xr.Dataset) -> None:
    """Raise `InputError` when there is no W^l with 2 <= l <= L."""
    if run.sizes.get("layer", 0) < 2:
        raise InputError("layer", run.sizes.get("layer", 0), "at least two hidden layers: W^1 alone has no lazy matrix")


@dataclass(frozen=True)
class Band:
    """Mean over replicas and the edges mean +- 2 s.e. (NaN for one replica), each (...) without the replica axis."""

    mean: Array
    low: Array
    high: Array
    replicas: int

    @property
    def error(self) -> Array:
        return self.high - self.mean

    def at(self, *index: Any) -> Band:
        return Band(self.mean[index], self.low[index], self.high[index], self.replicas)


def finite(values: xr.DataArray) -> xr.DataArray:
    """`values` with NaN where they are infinite or past `LARGEST`: networks on their way to overflow."""
    return values.astype(float).where(abs(values) < LARGEST)


def band(values: xr.DataArray) -> Band:
    """Mean +- 2 s.e. over `replica`, the other dimensions in their order; NaN where a replica is not finite."""
    kept = finite(values)
    mean, error = kept.mean("replica", skipna=False).values, np.full(kept.isel(replica=0).shape, np.nan)
    replicas = kept.sizes["replica"]
    if replicas > 1:
        error = 2.0 * kept.std("replica", ddof=1, skipna=False).values / np.sqrt(replicas)
    return Band(mean, mean - error, mean + error, replicas)


def output_band(run: xr.Dataset, name: str) -> Band:
    """Mean and band of `f` or `f_probe`; where f_0 is random the law of f_t, mean +- 2 std, in the place of errors."""
    if f"{name}_cov" not in run:
        return band(run[name].transpose("replica", ...))
    mean, covariance = (finite(run[f"{name}_{moment}"]).values for moment in ("mean", "cov"))
    std = np.sqrt(np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 0.0))
    return Band(mean, mean - 2 * std, mean + 2 * std, 2)


def layer_of(run: xr.Dataset, layer: int | None) -> int:
    """`layer`, or the last one for None."""
    layers = [int(l) for l in run["layer"].values]
    if layer is None:
        return layers[-1]
    if not _integer(layer) or layer not in layers:
        raise InputError("layer", layer, f"None (the last), or one of {layers}")
    return int(layer)


def _integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def step_of(run: xr.Dataset, step: int | None, dim: str = "step") -> int:
    """`step`, or the last recorded one for None."""
    steps = [int(t) for t in run[dim].values]
    if step is None:
        return steps[-1]
    if not _integer(step) or step not in steps:
        raise InputError(
            "step", step, f"None (the last), or one of `{dim}`: {len(steps)} from {steps[0]} to {steps[-1]}"
        )
    return int(step)


def first_and_last(run: xr.Dataset | xr.DataArray, dim: str = "step") -> list[int]:
    """The first and the last recorded step; one entry if they are the same."""
    steps = run[dim].values
    return sorted({int(steps[0]), int(steps[-1])})


def layers_of(run: xr.Dataset, layers: Sequence[int] | None) -> list[int]:
    """`layers`, or for None all of them, thinned to `MAX_PANELS` evenly spaced ones, first and last included."""
    if layers is not None:
        if not isinstance(layers, list | tuple | range | np.ndarray) or not 0 < len(layers) <= len(run["layer"]):
            raise InputError("layers", layers, "None, or a list of layers")
        return [layer_of(run, layer) for layer in layers]
    everything = run["layer"].values
    picked = np.linspace(0, len(everything) - 1, min(len(everything), MAX_PANELS)).round().astype(int)
    return [int(layer) for layer in everything[picked]]


def kernel_of(run: xr.Dataset, which: str) -> xr.DataArray:
    """The kernel of h, x or dh (replica, step, layer, sample, sample2)."""
    if not isinstance(which, str) or which not in KERNELS:
        raise InputError("which", which, f"one of {sorted(KERNELS)}")
    require(run, f"kernel_{which}", "targets")
    if run.sizes["sample"] != run.sizes["sample2"]:
        raise InputError(f"kernel_{which}", f"<shape {run[f'kernel_{which}'].shape}>", "as many sample2 as sample")
    return run[f"kernel_{which}"]


def classes(targets: Array) -> list[tuple[float, Array]]:
    """Distinct targets in ascending order, each with the indices that have it."""
    return [(float(y), np.flatnonzero(targets == y)) for y in np.unique(targets)]


def setting(run: xr.Dataset, section: str, key: str, default: Any = None) -> Any:
    """One entry of the resolved configuration, or `default` where the run does not say."""
    try:
        return json.loads(run.attrs["config"])[section][key]
    except (KeyError, TypeError, ValueError):
        return default
