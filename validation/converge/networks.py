"""Networks of one width, dense (`finite.train`) or without their matrices (`simulate(..., noise="width")`).

Both have the same law; either way a block of them comes back as the same small dataset.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from tpsim import Diverged, Network, Notice, Problem, Training
from tpsim import plan as memory
from tpsim.run import execute
from tpsim.task import Task, prepare
from validation.rates import distances

from .coordinates import sizes
from .quantities import smallest

Array = np.ndarray

BLOCKS = 8  # of the networks of one width: what processes share
MEASURED = 32  # networks of a width whose entries are compared with the particles
SERIES = ("f", "loss", "kernel_h", "kernel_x", "feature_change_h", "feature_change_x")


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
        """In proportion to the time of these networks, dense ones and those without matrices each in their own unit."""
        n = self.width
        return len(self.replicas) * (n**2 + 256.0**2 if self.dense else n + 4096.0)  # the second: calls in Python

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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # of the data: the limit gives them; of divergence: it is counted
        runs = [_dense(block)] if block.dense else [_without_matrices(block, k) for k in block.replicas]
    found = xr.concat([_reduce(block, one) for one in runs], "replica", combine_attrs="drop")
    found = found.assign_coords(replica=np.array(block.replicas))
    if block.reference is not None:
        found["w1"], found["ks"] = _distances(np.concatenate([one["Z_h"].values[:, 0] for one in runs]), block)
    return found.where(found["f"].notnull().all(("step", "sample")))


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
    task = _task(block, 0)
    rank = task.problem.samples + sum(batch.size for batch in task.batches())  # nothing saturates at this tolerance
    return memory.memory_bytes(task, min(rank, block.width))


def _dense(block: Block) -> xr.Dataset:
    import torch  # where there are no dense networks, nothing needs it

    import finite

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return finite.train(**_arguments(block), progress=False)
    finally:
        torch.set_num_threads(threads)


def _arguments(block: Block) -> dict[str, Any]:
    return {
        "problem": block.problem, "network": block.network, "training": block.training, "width": block.width,
        "parametrization": block.parametrization, "seeds": len(block.replicas), "dtype": block.dtype,
        "seed": _seed(block, block.replicas[0]), "quantities": (*SERIES, "kernel_h0", "kernel_x0", "Z_h"),
        "record_every": block.record_every, "joint_every": _last(block), "snapshots": _snapshots(block),
    }  # fmt: skip


def _without_matrices(block: Block, replica: int) -> xr.Dataset:
    """One network; NaN where it diverges."""
    try:
        return execute(_task(block, replica), False)
    except Diverged:
        still = replace(block, training=replace(block.training, learning_rate=0.0))  # of the same shapes
        return execute(_task(still, replica), False) * np.nan


def _task(block: Block, replica: int) -> Task:
    return prepare(
        block.problem, block.network, block.training, particles=block.width, replicas=1, noise="width", sobol=None,
        tolerance=None, seed=_seed(block, replica), record_every=block.record_every, workers=1, probe_every=None,
        joint_every=_last(block), snapshots=_snapshots(block), parts=False, max_rank=None, threads=1,
        limit=block.parametrization,
    )  # fmt: skip


def _seed(block: Block, replica: int) -> int:
    keys = [block.seed, block.width, replica, int(block.dense)]
    return int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0] >> 1)


def _last(block: Block) -> int:
    return max(block.training.steps, 1)


def _snapshots(block: Block) -> tuple[int, ...]:
    return (block.training.steps,) if block.reference is not None or block.entries else ()


def _reduce(block: Block, one: xr.Dataset) -> xr.Dataset:
    """What the study needs of a run of either kind; neurons are exchangeable, so that the first ones stand for all."""
    found = xr.merge([one[list(SERIES)].drop_attrs(), sizes(one)])
    for field in "hx":
        found[f"smallest_eigenvalue_{field}"] = smallest(one, field)
        found[f"kernel_{field}"] = found[f"kernel_{field}"].astype(np.float32)
    if block.entries:
        kept = one["Z_h"].values[:, 0, ..., : block.entries].astype(np.float32)
        found["h"] = (("replica", "layer", "sample", "entry"), kept)
    return found


def _distances(fields: Array, block: Block) -> list[tuple[tuple[str, ...], Array]]:
    """Wasserstein and Kolmogorov-Smirnov distances of h^l_T(xi_i) to the particles, (replica, layer, sample) each."""
    assert block.reference is not None
    found = np.full((2, *fields.shape[:3]), np.nan)
    for index in np.ndindex(*fields.shape[:3]):
        if block.replicas[index[0]] < MEASURED and np.isfinite(fields[index]).all():
            found[:, *index] = distances(fields[index], block.reference[index[1:]])
    return [(("replica", "layer", "sample"), values) for values in found]
