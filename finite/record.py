"""What is kept of dense networks while they train, in the result schema of the limit."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr

from tpsim.problem import Problem, Training

Array = np.ndarray

KERNELS = ("kernel_h", "kernel_x", "kernel_dh")
QUANTITIES = ("f", *KERNELS)
SAMPLE = ("replica", "step", "sample")
KERNEL = ("replica", "step", "layer", "sample", "sample2")


class Record:
    """Arrays over (replica, step, ...), filled by blocks of replicas.

    Parameters
    ----------
    problem, depth, training : what is trained.
    replicas : int
    quantities : names out of `QUANTITIES`
    probe_every : int
    """

    def __init__(
        self,
        problem: Problem,
        depth: int,
        training: Training,
        replicas: int,
        quantities: tuple[str, ...],
        probe_every: int,
    ) -> None:
        self.problem, self.depth, self.training = problem, depth, training
        steps, m = training.steps, problem.samples
        self.f = np.empty((replicas, steps + 1, m))
        self.kernels = {k: np.empty((replicas, steps + 1, depth, m, m)) for k in KERNELS if k in quantities}
        self.probe_steps: list[int] = []
        if problem.probes is not None:
            self.probe_steps = sorted({*range(0, steps + 1, probe_every), steps})
            self.f_probe = np.empty((replicas, len(self.probe_steps), len(problem.probes)))

    def write(self, rows: slice, step: int, f: torch.Tensor) -> None:
        """Keep the outputs f (B, m) of the networks `rows`."""
        self.f[rows, step] = f.numpy()

    def write_kernels(self, rows: slice, step: int, fields: dict[str, dict[int, torch.Tensor]]) -> None:
        """Keep (1/n) Z.Z' for the fields {"h": {l: (B, m, n)}, "x": ..., "dh": ...} whose kernels are wanted."""
        for name, kernel in self.kernels.items():
            for l in range(1, self.depth + 1):
                z = fields[name.removeprefix("kernel_")][l]
                kernel[rows, step, l - 1] = (torch.bmm(z, z.mT) / z.shape[-1]).numpy()

    def write_probes(self, rows: slice, step: int, f: torch.Tensor) -> None:
        """Keep the outputs f (B, p) at the probes."""
        self.f_probe[rows, self.probe_steps.index(step)] = f.numpy()

    def dataset(self, attributes: dict[str, Any]) -> xr.Dataset:
        """Return what was written, with the error signals and the loss that follow from f."""
        criterion, y, m = self.training.criterion, self.problem.targets, self.problem.samples
        scale = 1.0 / m if self.training.reduction == "mean" else 1.0
        batch = np.zeros((self.training.steps + 1, m), dtype=bool)
        for step, index in enumerate(self.training.batch_indices(m)):
            batch[step, index] = True
        with np.errstate(over="ignore", invalid="ignore"):  # of networks that diverged
            chi = scale * criterion.derivative(self.f, np.broadcast_to(y, self.f.shape))
            loss = scale * criterion.value(self.f, np.broadcast_to(y, self.f.shape)).sum(axis=-1)
        variables: dict[str, Any] = {
            "f": (SAMPLE, self.f),
            "chi": (SAMPLE, chi),
            "loss": (SAMPLE[:2], loss),
            "batch": (SAMPLE[1:], batch),
            "targets": ("sample", y),
        }
        variables |= {name: (KERNEL, kernel) for name, kernel in self.kernels.items()}
        coordinates: dict[str, Any] = {"step": np.arange(self.training.steps + 1)}
        if self.kernels:
            coordinates["layer"] = np.arange(1, self.depth + 1)
        if self.probe_steps:
            variables["f_probe"] = (("replica", "probe_step", "probe"), self.f_probe)
            coordinates["probe_step"] = self.probe_steps
        if self.problem.probe_targets is not None:
            variables["probe_targets"] = ("probe", self.problem.probe_targets)
        return xr.Dataset(variables, coordinates, attributes)
