"""The labelled result: assembly, files, and standard errors."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from .activations import fingerprint
from .conventions import parametrization_title
from .core import GUARDS
from .errors import Damaged, FileError, InputError
from .files import file_path, plain_bytes
from .problem import Network, Problem, Training
from .record import Schedule
from .storage import room
from .store import check_seal, netcdf, parsed
from .task import Task

Array = np.ndarray

_STEPWISE = ("step", "layer", "sample", "sample2")
DIMENSIONS: dict[str, tuple[str, ...]] = {
    "f": ("step", "sample"), "chi": ("step", "sample"), "loss": ("step",),
    "kernel_h": _STEPWISE, "kernel_x": _STEPWISE, "kernel_dh": _STEPWISE,
    "mean_h": ("step", "layer", "sample"), "mean_x": ("step", "layer", "sample"),
    "feature_change_h": ("step", "layer"), "feature_change_x": ("step", "layer"),
    "rank_forward": ("step", "layer"), "rank_backward": ("step", "layer"),
    "residual_forward": ("step", "layer", "sample"), "residual_backward": ("step", "layer", "sample"),
    "increment_forward": ("step", "layer", "sample"),
    "innovation_forward": ("step", "layer"), "innovation_backward": ("step", "layer"),
    "dropped_forward": ("step", "layer"), "dropped_backward": ("step", "layer"),
    "f_probe": ("probe_step", "probe"),
    "Z_h": ("snapshot_step", "layer", "sample", "particle"),
    "Z_x": ("snapshot_step", "layer", "sample", "particle"),
    "Z_dh": ("snapshot_step", "layer", "sample", "particle"),
    "Z_h_parts": ("snapshot_step", "layer", "sample", "part", "particle"),
    "Z_dx_parts": ("snapshot_step", "layer", "sample", "part", "particle"),
}  # fmt: skip
LABELS = {
    "f": "network output f_t", "chi": "error signal dLoss/df of the whole data", "loss": "loss over the whole data",
    "batch": "whether the sample is in the minibatch of the step",
    "kernel_h": "E[Z^h Z^h']", "kernel_x": "E[Z^x Z^x']", "kernel_dh": "E[Z^dh Z^dh']",
    "kernel_h0": "E[Z^h_0 Z^h_t']", "kernel_x0": "E[Z^x_0 Z^x_t']",
    "mean_h": "E[Z^h]", "mean_x": "E[Z^x]",
    "feature_change_h": "sqrt(sum E|Z^h_t - Z^h_0|^2 / sum E|Z^h_0|^2)",
    "feature_change_x": "sqrt(sum E|Z^x_t - Z^x_0|^2 / sum E|Z^x_0|^2)",
    "rank_forward": "basis size p of the arguments of W^l (layer 1: rank of the inputs)",
    "rank_backward": "basis size q of the arguments of W^l transposed (layer 1: 0)",
    "residual_forward": "new randomness |P_perp delta x^{l-1}| / |delta x^{l-1}|",
    "residual_backward": "new randomness |P_perp dh^l| / |dh^l|",
    "increment_forward": "size of the increment |delta x^{l-1}| / |x^{l-1}|",
    "innovation_forward": "smallest singular value of {P_perp delta x^{l-1}_i / |delta x^{l-1}_i|}",
    "innovation_backward": "smallest singular value of {P_perp dh^l_i / |dh^l_i|}",
    "dropped_forward": "share of sum |x^{l-1}|^2 dropped by the tolerance",
    "dropped_backward": "share of sum |dh^l|^2 dropped by the tolerance",
    "guards": "how often each numerical guard acted",
    "f_probe": "network output on the probes", "targets": "training targets", "probe_targets": "probe targets",
    "Z_h": "particles of Z^h", "Z_x": "particles of Z^x", "Z_dh": "particles of Z^dh",
    "Z_h_parts": "parts of Z^h", "Z_dx_parts": "parts of Z^dx",
}  # fmt: skip


def assemble(task: Task, replicas: list[dict[str, Array]], finished: int, notices: list[str]) -> xr.Dataset | None:
    """Label the arrays of all replicas; steps from `finished` on are left out. None if nothing was finished."""
    if not any(t < finished for t in task.schedule.record):
        return None
    arrays = {name: np.stack([one[name] for one in replicas]) for name in replicas[0]}
    run = label(task.problem, task.network.depth, task.schedule, arrays, replicas[0]["batch"], finished)
    for name in ("rank_forward", "rank_backward"):
        run[name] = run[name].astype(np.int64)
    if "guards" in arrays:
        run["guards"] = (("replica", "guard"), arrays["guards"].astype(np.int64), {"long_name": LABELS["guards"]})
        run = run.assign_coords(guard=list(GUARDS))
    run.attrs = attributes(task, notices)
    return run


def label(
    problem: Problem, depth: int, schedule: Schedule, arrays: dict[str, Array], batch: Array,
    finished: int | None = None,
) -> xr.Dataset:  # fmt: skip
    """Return a dataset in the common schema, without attributes.

    Parameters
    ----------
    arrays : (replica, *shape) by name; the shapes are those of `DIMENSIONS`, steps as in `schedule`.
    batch : (recorded steps, m), 1 for the samples of the minibatch.
    finished : int, optional
        Steps from this one on are left out.
    """
    finished = schedule.record[-1] + 1 if finished is None else finished
    joint = "step" if schedule.joint == schedule.record else "joint_step"
    dims = DIMENSIONS | {name: (joint, *_STEPWISE[1:]) for name in ("kernel_h0", "kernel_x0")}
    steps = {
        "step": [t for t in schedule.record if t < finished],
        "joint_step": [t for t in schedule.joint if t < finished],
        "probe_step": [t for t in schedule.probe if t < finished],
        "snapshot_step": [t for t in schedule.snapshot if t < finished],
    }
    run = xr.Dataset()
    for name, dim in dims.items():
        if name in arrays:
            values = arrays[name][:, : len(steps[dim[0]])]
            run[name] = (("replica", *dim), values, {"long_name": LABELS[name]})
    run["batch"] = (("step", "sample"), batch[: len(steps["step"])] == 1.0, {"long_name": LABELS["batch"]})
    run["targets"] = ("sample", problem.targets, {"long_name": LABELS["targets"]})
    if problem.probe_targets is not None:
        run["probe_targets"] = ("probe", problem.probe_targets, {"long_name": LABELS["probe_targets"]})
    run = run.assign_coords(
        {dim: values for dim, values in steps.items() if dim in run.dims}
        | {"replica": np.arange(run.sizes["replica"]), "layer": np.arange(1, depth + 1)}
        | {dim: np.arange(problem.samples) for dim in ("sample", "sample2")}
    )
    if "part" in run.dims:
        run = run.assign_coords(part=["Zhat", "Zdot", "history"])
    return run


def attributes(task: Task, notices: list[str]) -> dict[str, Any]:
    """Return what a run says of itself."""
    settings = task.settings
    config = describe_arguments(task.problem, task.network, task.training) | {"simulation": describe_settings(task)}
    short = parametrization_title(task.limit).split(":")[0]
    width = f"{short} networks of width {settings.particles}, without their matrices"
    return {
        "title": "tpsim: " + (width if settings.noise == "width" else f"infinite-width {short} limit"),
        "config": json.dumps(config),
        "seed": settings.seed,
        "particles": settings.particles,
        "versions": json.dumps(versions()),
        "notices": "\n".join(notices),
    }


def describe_settings(task: Task) -> dict[str, Any]:
    """Return how the limit is simulated, ready for JSON."""
    settings = task.settings
    return {
        "particles": settings.particles,
        "noise": settings.noise,
        "sobol": settings.sobol,
        "tolerance": settings.tolerance,
        "seed": settings.seed,
        "max_rank": settings.max_rank,
        "limit": task.limit,
        "dtype": settings.dtype,
    }


def describe_arguments(problem: Problem, network: Network, training: Training) -> dict[str, dict[str, Any]]:
    """Return what a run was given, ready for JSON: arrays by their hash, callables by a name and a fingerprint."""
    phi, loss, rate = network.phi, training.criterion, training.learning_rate
    return {
        "problem": {
            "samples": problem.samples,
            "dimension": problem.inputs.shape[1],
            "probes": 0 if problem.probes is None else len(problem.probes),
            "sha256_inputs": _digest(problem.inputs),
            "sha256_targets": _digest(problem.targets),
        },
        "network": {
            "depth": network.depth,
            "activation": phi.name,
            "activation_fingerprint": fingerprint(phi.phi, phi.dphi),
            "init_scale": network.scales.tolist(),
        },
        "training": {
            "steps": training.steps,
            "learning_rate": [training.rates(t, network.depth).tolist() for t in range(max(training.steps, 1))]
            if callable(rate)
            else training.rates(0, network.depth).tolist(),
            "loss": loss.name,
            "loss_fingerprint": fingerprint(loss.value, loss.derivative, targets=problem.targets),
            "reduction": training.reduction,
            "batches": training.batches
            if training.batches is None or isinstance(training.batches, dict)
            else [np.asarray(b).tolist() for b in training.batches[: training.steps]],
        },
    }


def versions(*more: str) -> dict[str, str]:
    """Versions of tpsim and of what its numbers depend on, and of `more` distributions."""
    names = ("tpsim", "numpy", "scipy", "numba", "xarray", *more)
    return {name: importlib.metadata.version(name) for name in names}


def _digest(array: Array) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def standard_error(values: xr.DataArray | xr.Dataset) -> Any:
    """Standard error of the mean over independent replicas: std(ddof=1) / sqrt(R); NaN for one replica.

    Of a dataset: of its variables that have replicas.

    NaN where a replica is not a number, as a network that diverged is. Particles within a run are not independent, so
    nothing else is an error bar.
    """
    _check_replicas("values", values)
    replicas = values.sizes["replica"]
    if isinstance(values, xr.Dataset):
        values = values[[name for name in values.data_vars if "replica" in values[name].dims]]
    if replicas < 2:
        return xr.full_like(values.isel(replica=0, drop=True), np.nan, dtype=float)
    with np.errstate(over="ignore", invalid="ignore"):  # of values whose squares overflow it is infinite
        return values.std("replica", ddof=1, skipna=False) / np.sqrt(replicas)


def _check_replicas(field: str, values: Any) -> None:
    """Refuse what has no replicas, or other things than real numbers over them."""
    if not isinstance(values, xr.Dataset | xr.DataArray):
        raise InputError(field, f"<{type(values).__name__}>", "an xarray.Dataset or DataArray")
    if values.sizes.get("replica", 0) < 1:
        raise InputError(field, f"<dimensions {dict(values.sizes)}>", "a dimension replica of at least one")
    for array in values.data_vars.values() if isinstance(values, xr.Dataset) else [values]:
        if "replica" in array.dims and array.dtype.kind not in "biuf":
            raise InputError(field, f"<{array.name} of type {array.dtype}>", "real numbers")


def summary(run: xr.Dataset) -> xr.Dataset:
    """Mean and standard error over replicas of every quantity: dimension `statistic` = mean, se."""
    if not isinstance(run, xr.Dataset):
        raise InputError("run", f"<{type(run).__name__}>", "an xarray.Dataset")
    _check_replicas("run", run)
    named = run[[name for name in run.data_vars if "replica" in run[name].dims]]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = named.mean("replica", skipna=False)
    both = xr.concat([mean, standard_error(named)], dim="statistic")
    return both.assign_coords(statistic=["mean", "se"])


def save(run: xr.Dataset, path: str | os.PathLike[str]) -> Path:
    """Write a run as netCDF4 with a checksum, at once: a temporary file that is renamed when it is complete.

    Raises
    ------
    InputError
        Not a dataset that netCDF can hold, or not a path.
    FileError
        The folder does not exist or cannot be written.
    """
    path, data = file_path("path", path), _packed(run)
    try:
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")  # mkstemp's would be the owner's only
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = f"{error.strerror or error}; {len(data)} bytes are needed{room(path.parent)}"
        raise FileError(f"{path}: cannot be written: {reason}") from error
    return path


def _packed(run: Any) -> bytes:
    """The bytes of the file, where `run` is something that netCDF can hold."""
    if not isinstance(run, xr.Dataset):
        raise InputError("run", f"<{type(run).__name__}>", "an xarray.Dataset")
    try:
        return netcdf(run)
    except (TypeError, ValueError, AttributeError, NotImplementedError, RuntimeError) as error:
        reason = f"<{type(error).__name__}: {error}>"
        raise InputError("run", reason, "a dataset of numbers and strings, which netCDF can hold") from error


def load(path: str | os.PathLike[str]) -> xr.Dataset:
    """Read a run that `save` wrote, whole and unchanged: any other byte in it is found out (`tpsim.store`).

    Raises
    ------
    InputError
        Not a path.
    FileError
        Missing, unreadable, or larger than the memory.
    Damaged
        A `FileError`: changed since it was written, of another format, or not a tpsim result.
    """
    path = file_path("path", path)
    data = plain_bytes(path)
    check_seal(path, data)
    with parsed(path, data) as opened:
        if not str(opened.attrs.get("title", "")).startswith("tpsim"):
            raise Damaged(path, "not a tpsim result (its title attribute is missing)")
        return opened.load()
