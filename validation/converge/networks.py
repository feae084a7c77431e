"""Networks of one width, dense (`finite.train`) or without their matrices (`simulate(..., noise="width")`).

Both have the same law; either way a block of them comes back as the same small dataset.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from tpsim import Diverged, Network, Notice, Problem, Training, simulate
from validation.rates import distances

from .coordinates import sizes

Array = np.ndarray

BLOCKS = 8  # of the networks of one width: what processes share
SERIES = ("f", "loss", "kernel_h", "kernel_x", "feature_change_h", "feature_change_x")
MEASURED = (*SERIES, "kernel_h0", "kernel_x0", "Z_h")


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
        feature_change_h, feature_change_x (replica, step, layer); at the last step size_h, size_x, change_h, change_x
        (replica, layer), and with a reference w1, ks (replica, layer, sample); with entries h (replica, layer, sample,
        entry). All NaN for a network that diverged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # of the data: the limit gives them; of divergence: it is counted
        runs = [_dense(block)] if block.dense else [_without_matrices(block, k) for k in block.replicas]
    found = xr.concat([_reduce(block, run) for run in runs], "replica", combine_attrs="drop")
    found = found.assign_coords(replica=np.array(block.replicas))
    return found.where(np.isfinite(found["f"]).all(("step", "sample")))


def _dense(block: Block) -> xr.Dataset:
    import torch  # where there are no dense networks, nothing needs it

    import finite

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return finite.train(
            block.problem, block.network, block.training, block.width, block.parametrization, len(block.replicas),
            seed=_seed(block, block.replicas[0]), dtype=block.dtype, quantities=MEASURED,
            record_every=block.record_every, joint_every=_last(block), snapshots=_snapshots(block), progress=False,
        )  # fmt: skip
    finally:
        torch.set_num_threads(threads)


def _without_matrices(block: Block, replica: int) -> xr.Dataset:
    """One network; NaN where it diverges."""

    def attempt(training: Training) -> xr.Dataset:
        return simulate(
            block.problem, block.network, training, block.width, 1, noise="width", seed=_seed(block, replica),
            record_every=block.record_every, joint_every=_last(block), snapshots=_snapshots(block),
            limit=block.parametrization, progress=False, threads=1,
        )  # fmt: skip

    try:
        return attempt(block.training)
    except Diverged:
        return attempt(replace(block.training, learning_rate=0.0)) * np.nan  # of the same shapes


def _seed(block: Block, replica: int) -> int:
    keys = [block.seed, block.width, replica, int(block.dense)]
    return int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0] >> 1)


def _last(block: Block) -> int:
    return max(block.training.steps, 1)


def _snapshots(block: Block) -> tuple[int, ...]:
    return (block.training.steps,) if block.reference is not None or block.entries else ()


def _reduce(block: Block, run: xr.Dataset) -> xr.Dataset:
    """What the study needs of a run of either kind."""
    found = xr.merge([run[list(SERIES)].drop_attrs(), sizes(run)])
    dims = ("replica", "layer")
    if block.reference is not None:
        measured = _distances(run["Z_h"].values[:, 0], block.reference)
        found["w1"], found["ks"] = ((*dims, "sample"), measured[..., 0]), ((*dims, "sample"), measured[..., 1])
    if block.entries:  # neurons are exchangeable: the first ones are a fair choice
        kept = run["Z_h"].values[:, 0, ..., : block.entries].astype(np.float32)
        found["h"] = ((*dims, "sample", "entry"), kept)
    return found


def _distances(fields: Array, reference: Array) -> Array:
    """(replica, layer, sample, 2) Wasserstein and Kolmogorov-Smirnov distances of h^l_T(xi_i) to particles."""
    found = np.full((*fields.shape[:3], 2), np.nan)
    for index in np.ndindex(*fields.shape[:3]):
        if np.isfinite(fields[index]).all():
            found[index] = distances(fields[index], reference[index[1:]])
    return found
