"""Dense L-hidden-layer networks trained by SGD with hand-written gradients, many seeds at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from tpsim.errors import InputError
from tpsim.parametrization import MUP, Parametrization
from tpsim.problem import Network, Problem, Training, positive_int

from .activations import in_torch
from .record import QUANTITIES, Record

Array = np.ndarray
Layers = dict[int, Tensor]  # by the paper's layer index, 1..L or 1..L+1

DTYPES = {"float64": torch.float64, "float32": torch.float32}
BLOCK_BYTES = 1 << 21  # weights of one block of networks: they stay in the cache between steps


def train(
    problem: Problem,
    network: Network,
    training: Training,
    width: int,
    seeds: int,
    *,
    seed: int = 0,
    dtype: str = "float64",
    batch_seeds: int | None = None,
    quantities: Sequence[str] = ("f",),
    probe_every: int | None = None,
    parametrization: Parametrization = MUP,
) -> xr.Dataset:
    """Train `seeds` independent networks of width n and return their trajectories.

    h^1 = W^1 xi, x^l = phi(h^l), h^{l+1} = W^{l+1} x^l, f = W^{L+1} x^L, and at every step
    W^l -= rate_l sum_{i in B_t} chi_i (df_i/dh^l) (x^{l-1}_i)^T.  Source: Chen et al. 2025, (B.1) and Definition 3.1.

    Parameters
    ----------
    problem, network, training : as for `tpsim.simulate`.
    width : int
        n, of every hidden layer.
    seeds : int
        Number of networks, the dimension `replica` of the result.
    seed : int
        Network k of width n draws from `SeedSequence([seed, n, k])`: it does not depend on `seeds` or `batch_seeds`.
    dtype : "float64" or "float32"
    batch_seeds : int, optional
        Networks that are trained together; by default as many as fit into `BLOCK_BYTES`.
    quantities : names out of `QUANTITIES`
        f, chi and loss are always there. Kernels are (1/n) h.h', (1/n) x.x' and (1/n) dh.dh' with dh = n df/dh.
    probe_every : int, optional
        Look at `problem.probes` at these steps (and the last); by default every step when there are probes.
    parametrization : Parametrization

    Returns
    -------
    xarray.Dataset
        f, chi (replica, step, sample), loss (replica, step), batch (step, sample), targets (sample), and if asked for
        f_probe (replica, probe_step, probe) and kernels (replica, step, layer, sample, sample2), in float64.
        f_0 is kept: E f_0 = 0 at every width. A network that diverges has infinite or undefined f from there on.

    Raises
    ------
    InputError
        A count that is not positive, an unknown dtype or quantity.

    Notes
    -----
    Cost: seeds (6 m T + 10) (L-1) n^2 flops, of which the 10 stand for drawing a normal number.
    """
    _check(width, seeds, dtype, batch_seeds, quantities, probe_every)
    per_network = (network.depth - 1) * width**2 + (problem.inputs.shape[1] + 1) * width
    size = batch_seeds or max(1, BLOCK_BYTES // (8 * per_network))
    record = Record(problem, network.depth, training, seeds, tuple(quantities), probe_every or 1)
    setup = _Setup(problem, network, training, width, parametrization, DTYPES[dtype])
    for first in range(0, seeds, size):
        replicas = range(first, min(first + size, seeds))
        with np.errstate(over="ignore", invalid="ignore"):  # a diverging network is data here, not an accident
            _train_block(setup, draw(setup, seed, replicas), record, slice(replicas.start, replicas.stop))
    return record.dataset({"width": width, "seed": seed, "dtype": dtype, "parametrization": parametrization.name})


@dataclass(frozen=True)
class _Setup:
    problem: Problem
    network: Network
    training: Training
    width: int
    parametrization: Parametrization
    dtype: torch.dtype

    def tensor(self, array: Array) -> Tensor:
        return torch.tensor(np.asarray(array), dtype=self.dtype)


def _check(
    width: int, seeds: int, dtype: str, batch_seeds: int | None, quantities: Sequence[str], probe_every: int | None
) -> None:
    positive_int("width", width)
    positive_int("seeds", seeds)
    for field, value in (("batch_seeds", batch_seeds), ("probe_every", probe_every)):
        if value is not None:
            positive_int(field, value)
    if dtype not in DTYPES:
        raise InputError("dtype", dtype, f"one of {sorted(DTYPES)}")
    for name in quantities:
        if name not in QUANTITIES:
            raise InputError("quantities", name, f"names out of {QUANTITIES}")


def draw(setup: _Setup, seed: int, replicas: range) -> Layers:
    """Return W^1..W^{L+1} at t = 0, of shapes (B, n, d), (B, n, n), (B, 1, n) (items 1-2 of Appendix B)."""
    n, depth = setup.width, setup.network.depth
    shapes = {1: (n, setup.problem.inputs.shape[1])} | {l: (n, n) for l in range(2, depth + 1)} | {depth + 1: (1, n)}
    real = np.float64 if setup.dtype == torch.float64 else np.float32
    arrays = {l: np.empty((len(replicas), *shape), dtype=real) for l, shape in shapes.items()}
    for row, replica in enumerate(replicas):
        generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, n, replica])))
        for array in arrays.values():
            generator.standard_normal(out=array[row], dtype=real)
    std = setup.parametrization.init_std(setup.network.scales, n)
    return {l: torch.from_numpy(array).mul_(std[l - 1]) for l, array in arrays.items()}


def forward(weights: Layers, phi: Callable[[Tensor], Tensor], inputs: Tensor) -> tuple[Layers, Layers, Tensor]:
    """Return h^l, x^l as {l: (B, m, n)} and f (B, m) at the inputs (m, d); x^0 stands for the inputs. (B.1)"""
    depth = len(weights) - 1
    h: Layers = {}
    x: Layers = {0: inputs.expand(len(weights[1]), -1, -1)}
    for l in range(1, depth + 1):
        h[l] = torch.bmm(x[l - 1], weights[l].mT)
        x[l] = phi(h[l])
    return h, x, torch.bmm(x[depth], weights[depth + 1].mT)[..., 0]


def backward(weights: Layers, dphi: Callable[[Tensor], Tensor], h: Layers) -> Layers:
    """Return df_i/dh^l_i as {l: (B, m, n)}; muP's dh^l is n times it. (B.6)-(B.8)"""
    depth = len(weights) - 1
    dh: Layers = {}
    dx = weights[depth + 1]  # (B, 1, n): the same for all samples
    for l in range(depth, 0, -1):
        dh[l] = dx * dphi(h[l])
        if l > 1:
            dx = torch.bmm(dh[l], weights[l])
    return dh


def update(weights: Layers, rates: Array, chi: Tensor, x: Layers, dh: Layers) -> None:
    """Move every matrix in place: W^l -= rate_l sum_i chi_i (df_i/dh^l) (x^{l-1}_i)^T, chi (B, m)."""
    depth = len(weights) - 1
    for l in range(1, depth + 1):
        weights[l].baddbmm_((chi[..., None] * dh[l]).mT, x[l - 1], alpha=-float(rates[l - 1]))
    weights[depth + 1].baddbmm_(chi[:, None, :], x[depth], alpha=-float(rates[depth]))


def _train_block(setup: _Setup, weights: Layers, record: Record, rows: slice) -> None:
    """Train one block of networks from its initial `weights`, which are overwritten."""
    problem, training, depth = setup.problem, setup.training, setup.network.depth
    phi, dphi = in_torch(setup.network.phi)
    inputs = setup.tensor(problem.inputs)
    for step, batch in enumerate(_batches_and_last(training, problem.samples)):
        h, x, f = forward(weights, phi, inputs)
        record.write(rows, step, f)
        if record.kernels:
            dh = {l: setup.width * gradient for l, gradient in backward(weights, dphi, h).items()}
            record.write_kernels(rows, step, {"h": h, "x": x, "dh": dh})
        if problem.probes is not None and step in record.probe_steps:
            record.write_probes(rows, step, forward(weights, phi, setup.tensor(problem.probes))[2])
        if batch is None:
            return
        chi = training.criterion.derivative(f.double().numpy()[:, batch], problem.targets[batch])
        if training.reduction == "mean":
            chi = chi / len(batch)
        seen = torch.from_numpy(batch)
        h, x = ({l: value[:, seen] for l, value in layers.items()} for layers in (h, x))
        rates = setup.parametrization.rates(training.rates(step, depth), setup.width)
        update(weights, rates, setup.tensor(chi), x, backward(weights, dphi, h))


def _batches_and_last(training: Training, samples: int) -> Iterator[Array | None]:
    yield from training.batch_indices(samples)
    yield None  # after the last update the networks are only looked at
