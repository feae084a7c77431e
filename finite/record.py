"""What is kept of dense networks while they train, in the result schema of the limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from tpsim.problem import Problem, Training
from tpsim.record import Schedule
from tpsim.results import label

from .dense import Layers

Array = np.ndarray
Measure = Callable[[str, int, Tensor], Tensor]

ALWAYS = ("f", "chi", "loss", "batch", "targets")
KERNELS = ("kernel_h", "kernel_x", "kernel_dh")
JOINT = ("kernel_h0", "kernel_x0")
MEANS = ("mean_h", "mean_x")
CHANGES = ("feature_change_h", "feature_change_x")
SNAPSHOTS = ("Z_h", "Z_x", "Z_dh")
QUANTITIES = (*ALWAYS, *KERNELS, *JOINT, *MEANS, *CHANGES, "f_probe", *SNAPSHOTS)
LABELS = {
    "kernel_h": "(1/n) h.h'", "kernel_x": "(1/n) x.x'", "kernel_dh": "(1/n) dh.dh'",
    "kernel_h0": "(1/n) h_0.h_t'", "kernel_x0": "(1/n) x_0.x_t'",
    "mean_h": "mean of h over neurons", "mean_x": "mean of x over neurons",
    "feature_change_h": "sqrt(sum |h_t - h_0|^2 / sum |h_0|^2)",
    "feature_change_x": "sqrt(sum |x_t - x_0|^2 / sum |x_0|^2)",
    "Z_h": "neurons of h", "Z_x": "neurons of x", "Z_dh": "neurons of dh",
    "diverged_at": "first step at which the network had diverged, -1 if it never did",
}  # fmt: skip


@dataclass(frozen=True)
class Fields:
    """h^l, x^l and df/dh^l of a block of networks at all samples, {l: (B, m, n)} each; dh is None where not wanted."""

    h: Layers
    x: Layers
    dh: Layers | None

    def of(self, name: str) -> Layers:
        """The fields that a variable is made of, as told by the last part of its name."""
        fields = {"h": self.h, "x": self.x, "dh": self.dh}[name.rsplit("_", 1)[1].rstrip("0")]
        assert fields is not None
        return fields


def shapes(
    quantities: tuple[str, ...], schedule: Schedule, depth: int, samples: int, probes: int, width: int
) -> dict[str, tuple[int, ...]]:
    """Return the shape of every variable of one network that is recorded, the steps first."""
    T, joint, L, m = len(schedule.record), len(schedule.joint), depth, samples
    every: dict[str, tuple[int, ...]] = {"f": (T, m)}
    every |= {name: (T, L, m, m) for name in KERNELS} | {name: (joint, L, m, m) for name in JOINT}
    every |= {name: (T, L, m) for name in MEANS} | {name: (T, L) for name in CHANGES}
    if probes:
        every["f_probe"] = (len(schedule.probe), probes)
    if schedule.snapshot:
        every |= {name: (len(schedule.snapshot), L, m, width) for name in SNAPSHOTS}
    return {name: shape for name, shape in every.items() if name in ("f", *quantities)}


class Record:
    """One array per variable over (replica, recorded step, ...), filled by blocks of replicas.

    Parameters
    ----------
    problem, depth, training, schedule : what is trained, and which steps leave what.
    replicas : the numbers of the networks.
    width : int
    gradient_scale : float
        dh = gradient_scale * df/dh.
    quantities : names out of `QUANTITIES`
    """

    def __init__(
        self, problem: Problem, depth: int, training: Training, schedule: Schedule, replicas: range, width: int,
        gradient_scale: float, quantities: tuple[str, ...],
    ) -> None:  # fmt: skip
        self.problem, self.depth, self.training, self.schedule = problem, depth, training, schedule
        self.replicas, self.scale = replicas, gradient_scale
        probes = 0 if problem.probes is None else len(problem.probes)
        kept = shapes(quantities, schedule, depth, problem.samples, probes, width)
        self.arrays = {name: np.full((len(replicas), *shape), np.nan) for name, shape in kept.items()}
        self.diverged_at = np.full(len(replicas), -1, dtype=np.int64)
        self._steps = dict.fromkeys(self.arrays, schedule.record) | dict.fromkeys(JOINT, schedule.joint)
        self._steps |= dict.fromkeys(SNAPSHOTS, schedule.snapshot) | {"f_probe": schedule.probe}
        self._row = {steps: {step: t for t, step in enumerate(steps)} for steps in self._steps.values()}
        self._initial: Fields | None = None

    def row(self, name: str, step: int) -> int | None:
        """The row of a variable that waits for `step`; None where it is not kept."""
        return self._row[self._steps[name]].get(step) if name in self.arrays else None

    def needs_dh(self, step: int) -> bool:
        """Whether df/dh of all samples is recorded at `step`."""
        return self.row("kernel_dh", step) is not None or self.row("Z_dh", step) is not None

    def observe(self, rows: slice, step: int, f: Tensor, fields: Fields) -> None:
        """Keep what is wanted of the networks `rows` at `step`: f (B, m) and the fields at all samples."""
        if step == 0:
            self._initial = fields
        self.observe_outputs("f", rows, step, f)
        self._observe(KERNELS, rows, step, fields, self._kernel)
        self._observe(MEANS, rows, step, fields, self._mean)
        self._observe(CHANGES, rows, step, fields, self._change)
        self._observe(JOINT, rows, step, fields, self._joint_kernel)
        self._observe(SNAPSHOTS, rows, step, fields, self._snapshot)

    def observe_outputs(self, name: str, rows: slice, step: int, f: Tensor) -> None:
        """Keep `f` (B, m) or `f_probe` (B, p)."""
        if (t := self.row(name, step)) is not None:
            self.arrays[name][rows, t] = f.numpy()

    def _observe(self, names: Sequence[str], rows: slice, step: int, fields: Fields, measure: Measure) -> None:
        """Put measure(name, l, z) of every layer l where the variables `names` are kept at `step`."""
        for name in names:
            if (t := self.row(name, step)) is not None:
                z = fields.of(name)
                for l in range(1, self.depth + 1):
                    self.arrays[name][rows, t, l - 1] = measure(name, l, z[l].double()).numpy()

    def _kernel(self, name: str, l: int, z: Tensor) -> Tensor:
        scale = self.scale if name == "kernel_dh" else 1.0
        return torch.bmm(z, z.mT).mul_(scale**2 / z.shape[-1])

    def _mean(self, name: str, l: int, z: Tensor) -> Tensor:
        return z.mean(dim=-1)

    def _joint_kernel(self, name: str, l: int, z: Tensor) -> Tensor:
        assert self._initial is not None
        return torch.bmm(self._initial.of(name)[l].double(), z.mT).div_(z.shape[-1])

    def _change(self, name: str, l: int, z: Tensor) -> Tensor:
        """(sum_i |z_i - z_i(0)|^2 / sum_i |z_i(0)|^2)^1/2, NaN where the denominator is zero."""
        assert self._initial is not None
        start = self._initial.of(name)[l].double()
        size, size_0 = torch.linalg.vector_norm(z - start, dim=(1, 2)), torch.linalg.vector_norm(start, dim=(1, 2))
        return torch.where(size_0 > 0, size / size_0, torch.nan)

    def _snapshot(self, name: str, l: int, z: Tensor) -> Tensor:
        return z * self.scale if name == "Z_dh" else z

    def undefined(self) -> list[str]:
        """The ratios that met a zero denominator while their network had not diverged; after `dataset`."""
        known = np.isfinite(self.arrays["f"][..., :1])
        return [name for name in CHANGES if name in self.arrays and (np.isnan(self.arrays[name]) & known).any()]

    def dataset(self) -> xr.Dataset:
        """Return what was observed, NaN from the step of divergence on, with chi and the loss that follow from f."""
        plan, y, m = self.schedule, self.problem.targets, self.problem.samples
        self._mask()
        f = self.arrays["f"]
        known = np.where(np.isfinite(f), f, 0.0)
        gaps = np.where(np.isfinite(f), 0.0, np.nan)
        with np.errstate(all="ignore"):  # outputs may be as large as DIVERGED, targets where f is not known even larger
            loss, chi = self.training.evaluate(known, np.broadcast_to(y, f.shape))
            self.arrays["chi"], self.arrays["loss"] = chi + gaps, loss + gaps[..., 0]
        batch = np.zeros((len(plan.record), m))
        rows = {step: t for t, step in enumerate(plan.record)}
        for step, index in enumerate(self.training.batch_indices(m)):
            if step in rows:
                batch[rows[step], index] = 1.0
        run = label(self.problem, self.depth, plan, self.arrays, batch).assign_coords(replica=np.array(self.replicas))
        run["diverged_at"] = ("replica", self.diverged_at)
        for name in LABELS.keys() & run.data_vars.keys():
            run[name].attrs["long_name"] = LABELS[name]
        return run

    def _mask(self) -> None:
        """Put NaN for every value of a network from the step on at which it had diverged."""
        for replica in np.flatnonzero(self.diverged_at >= 0):
            for name, array in self.arrays.items():
                array[replica, np.array(self._steps[name]) >= self.diverged_at[replica]] = np.nan
