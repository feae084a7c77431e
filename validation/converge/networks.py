"""Networks of one width, dense (`finite.train`) or without their matrices (`simulate(..., noise="width")`).

Both have the same law; either way a block of them comes back as the same small dataset.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from tpsim import Network, Notice, Problem, Training
from tpsim import plan as memory
from tpsim.run import run_quietly
from tpsim.task import Task, prepare
from validation.rates import distances

from .coordinates import sizes
from .quantities import smallest_eigenvalues

Array = np.ndarray
Runs = dict[str, Array]  # name -> (replica, ...)

BLOCKS = 8  # of the networks of one width: what processes share
MEASURED = 32  # networks of a width whose entries are compared with the particles
SERIES = ("f", "loss", "kernel_h", "kernel_x", "feature_change_h", "feature_change_x")
_STEP, _LAST = ("replica", "step"), ("replica", "layer")
DIMENSIONS = {
    "f": (*_STEP, "sample"), "loss": _STEP,
    "kernel_h": (*_STEP, "layer", "sample", "sample2"), "kernel_x": (*_STEP, "layer", "sample", "sample2"),
    "feature_change_h": (*_STEP, "layer"), "feature_change_x": (*_STEP, "layer"),
    "smallest_eigenvalue_h": (*_STEP, "layer"), "smallest_eigenvalue_x": (*_STEP, "layer"),
    "size_h": _LAST, "size_x": _LAST, "change_h": _LAST, "change_x": _LAST,
    "w1": (*_LAST, "sample"), "ks": (*_LAST, "sample"), "h": (*_LAST, "sample", "entry"),
}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """Networks that one process trains.

    Parameters
    ----------
    width, dense, parametrization : which networks; the weights of dense ones have the precision `dtype`.
    seed, replicas : their draws depend on the seed, the width and the first replica of the block.
    record_every : as in `simulate`.
    reference : (L, m, N) particles of Z^{h^l_T(xi_i)}, or None where the distances to them are not wanted.
    entries : how many entries of h^l_T(xi_i) to keep of each network.
    """

    problem: Problem
    network: Network
    training: Training
    width: int
    dense: bool
    replicas: range
    parametrization: str = "mup"
    seed: int = 0
    record_every: int = 1
    dtype: str = "float32"
    reference: Array | None = None
    entries: int = 0

    @property
    def work(self) -> float:
        """In proportion to the time of these networks, dense ones and those without matrices each in their own unit.

        The second terms stand for what does not depend on the width, as measured on one machine.
        """
        n, m, steps = self.width, self.problem.samples, self.training.steps + 1
        one = n**2 + 128.0**2 if self.dense else steps * (m * n * min(self.rank, n) + 6e5)
        return len(self.replicas) * one

    @property
    def rank(self) -> int:
        """Arrays in each basis of a network without matrices, if it is wide: nothing saturates at its tolerance."""
        return self.problem.samples + sum(batch.size for batch in self.training.batch_indices(self.problem.samples))

    def pieces(self) -> list[Block]:
        """At most `BLOCKS` blocks of about the same size that together are this one, whoever will run them."""
        size = -(-len(self.replicas) // BLOCKS)
        return [replace(self, replicas=self.replicas[k : k + size]) for k in range(0, len(self.replicas), size)]


def run(block: Block) -> xr.Dataset:
    """Train the networks of a block.

    Returns
    -------
    xarray.Dataset
        f (replica, step, sample), loss (replica, step), kernel_h, kernel_x (replica, step, layer, sample, sample2),
        feature_change_h, feature_change_x, smallest_eigenvalue_h, smallest_eigenvalue_x (replica, step, layer); at the
        last step size_h, size_x, change_h, change_x (replica, layer), and with a reference w1, ks (replica, layer,
        sample), NaN from replica 32 on; with entries h (replica, layer, sample, entry). All NaN for a network that
        diverged. Kernels are in single precision, after everything that follows from them.
    """
    runs = _dense(block) if block.dense else _without_matrices(block)
    healthy = np.isfinite(runs["f"]).all(axis=(1, 2))
    found = {name: runs[name] for name in SERIES} | sizes(runs)
    for field in "hx":
        found[f"smallest_eigenvalue_{field}"] = smallest_eigenvalues(runs[f"kernel_{field}"])
        found[f"kernel_{field}"] = runs[f"kernel_{field}"].astype(np.float32)
    if block.reference is not None:
        found["w1"], found["ks"] = _distances(runs["Z_h"][:, 0], block)
    if block.entries:  # neurons are exchangeable: the first ones stand for all
        found["h"] = runs["Z_h"][:, 0, ..., : block.entries].astype(np.float32)
    for values in found.values():
        values[~healthy] = np.nan
    steps = np.unique([*range(0, block.training.steps, block.record_every), block.training.steps])
    coordinates = {"replica": np.array(block.replicas), "step": steps, "layer": np.arange(1, block.network.depth + 1)}
    return xr.Dataset({name: (DIMENSIONS[name], values) for name, values in found.items()}, coordinates)


def bytes_of(block: Block) -> int:
    """Memory that a process needs to run a block.

    Raises
    ------
    ResourceError
        Not even what is known before the run would fit.
    """
    if block.dense:
        from finite import plan

        return sum(plan.memory_bytes(plan.prepare(**_arguments(block), batch_seeds=None, probe_every=None)))
    return memory.memory_bytes(_task(block), min(block.rank, block.width))


def _dense(block: Block) -> Runs:
    import torch  # where there are no dense networks, nothing needs it

    import finite

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)  # of the data: the limit gives them; of divergence: it is counted
            networks = finite.train(**_arguments(block), progress=False)
    finally:
        torch.set_num_threads(threads)
    return {str(name): values.values for name, values in networks.items()}


def _arguments(block: Block) -> dict[str, Any]:
    return {
        "problem": block.problem, "network": block.network, "training": block.training, "width": block.width,
        "parametrization": block.parametrization, "seeds": len(block.replicas), "dtype": block.dtype,
        "seed": _seed(block), "quantities": (*SERIES, "kernel_h0", "kernel_x0", "Z_h"),
        "record_every": block.record_every, "joint_every": _last(block), "snapshots": _snapshots(block),
    }  # fmt: skip


def _without_matrices(block: Block) -> Runs:
    task = _task(block)
    runs = [run_quietly(task, replica, lambda step, loss: None) for replica in range(task.replicas)]
    for one in runs:
        if one.stopped:
            one.arrays["f"][:] = np.nan
    return {name: np.stack([one.arrays[name] for one in runs]) for name in runs[0].arrays}


def _task(block: Block) -> Task:
    return prepare(
        block.problem, block.network, block.training, particles=block.width, replicas=len(block.replicas),
        noise="width", sobol=None, tolerance=None, seed=_seed(block), record_every=block.record_every, workers=1,
        probe_every=None, joint_every=_last(block), snapshots=_snapshots(block), parts=False, max_rank=None, threads=1,
        limit=block.parametrization, dtype="float64",
    )  # fmt: skip


def _seed(block: Block) -> int:
    keys = [block.seed, block.width, block.replicas[0], int(block.dense)]
    return int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0] >> 1)


def _last(block: Block) -> int:
    return max(block.training.steps, 1)


def _snapshots(block: Block) -> tuple[int, ...]:
    return (block.training.steps,) if block.reference is not None or block.entries else ()


def _distances(fields: Array, block: Block) -> Array:
    """(2, replica, layer, sample) Wasserstein and Kolmogorov-Smirnov distances of h^l_T(xi_i) to the particles."""
    assert block.reference is not None
    found = np.full((2, *fields.shape[:3]), np.nan)
    for index in np.ndindex(*fields.shape[:3]):
        if block.replicas[index[0]] < MEASURED and np.isfinite(fields[index]).all():
            found[:, *index] = distances(fields[index], block.reference[index[1:]])
    return found
