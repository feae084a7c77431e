"""Networks of finite width: problem, network and training in, the labelled trajectories of many networks out."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from tpsim.conventions import conventions_table, parametrization_title
from tpsim.errors import Notice
from tpsim.parametrization import Parametrization
from tpsim.problem import Network, Problem, Training
from tpsim.progress import Bar, Progress
from tpsim.results import describe_arguments, versions
from tpsim.run import DIVERGED, LARGEST
from tpsim.task import slope_notices

from .activations import in_torch
from .dense import Layers, backward, draw, forward, update
from .plan import Plan, prepare
from .record import Fields, Record

Array = np.ndarray


def train(
    problem: Problem,
    network: Network,
    training: Training,
    width: int = 1024,
    parametrization: str | Parametrization = "mup",
    seeds: int = 8,
    *,
    seed: int = 0,
    dtype: str = "float64",
    batch_seeds: int | None = None,
    quantities: Sequence[str] | None = None,
    record_every: int = 1,
    probe_every: int | None = None,
    joint_every: int | None = None,
    snapshots: Sequence[int] = (),
    progress: Progress = None,
    first_seed: int = 0,
) -> xr.Dataset:
    """Train independent networks of width n and return their trajectories, in the schema of `tpsim.simulate`.

    h^1 = W^1 xi, x^l = phi(h^l), h^{l+1} = W^{l+1} x^l, f = W^{L+1} x^L, and at every step
    W^l -= rate_l sum_{i in B_t} chi_i (df_i/dh^l) (x^{l-1}_i)^T.  Source: Chen et al. 2025, (B.1) and Definition 3.1.
    `tpsim.conventions.conventions_table(network, training, parametrization, width)` is the table of what every layer
    gets; it is kept in the result: `print(run.attrs["conventions"])`.

    Parameters
    ----------
    problem, network, training : as for `tpsim.simulate`; `mup` converges to it.
    width : int
        n, of every hidden layer.
    parametrization : "sp", "ntp", "ip", "mup" (rows of Table 2) or a `Parametrization`
    seeds : int
        Number of networks, the dimension `replica` of the result.
    seed : int
        Network k of width n draws from `SeedSequence([seed, n, k])`. It does not depend on `seeds`, and on
        `batch_seeds` and on what is recorded by rounding only.
    dtype : "float64" or "float32"
        Of weights and fields. Kernels and means are summed in double precision; everything recorded is float64.
    batch_seeds : int, optional
        Networks that are trained together; by default as many as fit into the cache.
    quantities : names out of `finite.record.QUANTITIES`, optional
        Which variables to keep; f, chi, loss, batch and targets always are. By default all.
    record_every, probe_every, joint_every, snapshots, progress : as for `tpsim.simulate`.
    first_seed : int
        Train the networks k = first_seed .. first_seed + seeds - 1 of this `seed`, to carry on an earlier call.

    Returns
    -------
    xarray.Dataset
        The variables of docs/notation.md with (1/n) v.w in the place of E[Z^v Z^w] and neurons in that of particles;
        dh^l = `parametrization.gradient_scale(n)` df/dh^l. f_0 is kept: E f_0 = 0 at every width. `diverged_at`
        (replica) is the first step at which f, a feature, the loss or its derivative was not finite, or |f| past
        tpsim.run.DIVERGED max(1, |y|), and -1 if there was none; every value of that network is NaN from this step on.

    Raises
    ------
    InputError
        An argument out of range.
    ResourceError
        A block of networks, or what is to be recorded, does not fit into the memory.

    Error: rounding. In float32, while the run is stable, about 1e-6 and at most 1e-5 of the root mean square of each
    quantity. The same call gives the same bits on one type of CPU with one number of torch threads.
    Cost: seeds (6 m T + 10) (L-1) n^2 flops, of which the 10 stand for drawing a normal number; two to six times less
    than with autograd (benchmarks/backprop.py). Memory: the matrices of one block, and what is recorded.
    """
    plan = prepare(
        problem, network, training, width, parametrization, seeds, seed, dtype, batch_seeds, quantities,
        record_every, probe_every, joint_every, snapshots, first_seed,
    )  # fmt: skip
    scale = plan.parametrization.gradient_scale(plan.width)
    record = Record(problem, network.depth, training, plan.schedule, plan.replicas, plan.width, scale, plan.quantities)
    with Bar(progress, len(plan.replicas), training.steps + 1) as bar:
        for first in range(0, len(plan.replicas), plan.block):
            _train_block(plan, slice(first, first + plan.block), record, bar)
    run = record.dataset()
    notices = slope_notices(network, training) + _notices(record)
    run.attrs = _attributes(plan, notices)
    for notice in notices:
        warnings.warn(notice, Notice, stacklevel=2)
    return run


@np.errstate(all="ignore")  # divergence is looked for at every step; a user's phi must not complain of it
def _train_block(plan: Plan, rows: slice, record: Record, bar: Bar) -> None:
    """Train the networks `rows`, together: the algorithm."""
    problem, network, training, replicas = plan.problem, plan.network, plan.training, plan.replicas[rows]
    phi, dphi = in_torch(network.phi)
    inputs = plan.tensor(problem.inputs)
    largest = DIVERGED * max(1.0, float(np.abs(problem.targets).max()))
    diverged_at = record.diverged_at[rows]
    weights = draw(network, inputs.shape[1], plan.width, plan.parametrization, plan.dtype, plan.seed, replicas)
    for step, batch in enumerate(_batches_and_last(training, problem.samples)):
        full = plan.schedule.full(step)
        samples = np.arange(problem.samples) if full else batch
        h, x, f = forward(weights, phi, inputs[samples])
        seen = slice(None) if len(batch) == len(samples) else batch  # what the update needs of them
        whole = record.needs_dh(step)
        dh = backward(weights, dphi, h if whole else _rows(h, seen))
        outputs, y = f.double().numpy(), problem.targets[samples]
        loss, gradient = training.evaluate(outputs, np.broadcast_to(y, outputs.shape))
        fine = (np.abs([loss, *gradient.T]) <= LARGEST).all(axis=0) & ~_diverged(f, [h, dh], largest)
        new = (diverged_at < 0) & ~fine
        if new.any():
            diverged_at[new] = step
            _silence(new, [weights, h, {l: x[l] for l in h}, dh, {0: f}])
        if full:
            record.observe(rows, step, f, Fields(h, x, dh))
        if problem.probes is not None and record.row("f_probe", step) is not None:
            record.observe_outputs("f_probe", rows, step, forward(weights, phi, plan.tensor(problem.probes))[2])
        alive = diverged_at < 0
        if bar.active:
            for replica, value in zip(replicas, np.where(alive, loss, np.nan).tolist(), strict=True):
                bar.step(replica, step, value)
        if not batch.size or not alive.any():
            return
        chi = plan.tensor(_error_signal(training, f[:, seen], problem.targets[batch], alive))
        rates = plan.parametrization.rates(training.rates(step, network.depth), plan.width)
        update(weights, rates, chi, _rows(x, seen), _rows(dh, seen) if whole else dh)


def _rows(layers: Layers, samples: Array | slice) -> Layers:
    return {l: z[:, samples] for l, z in layers.items()}


def _error_signal(training: Training, f: Tensor, y: Array, alive: Array) -> Array:
    """chi_{t,i} = L'(f_t, y_i) of the batch (B, m); `mean` divides by its size. 0 for networks that diverged."""
    outputs = f.double().numpy()
    chi = training.criterion.derivative(outputs, np.broadcast_to(y, outputs.shape)) * alive[:, None]
    return chi / len(y) if training.reduction == "mean" else chi


def _diverged(f: Tensor, fields: list[Layers], largest: float) -> Array:
    """Which networks (B,) have an |f| past `largest`, or an output or second moments that are not finite."""
    sizes = [torch.linalg.vector_norm(z, dim=(1, 2), dtype=torch.float64) for layers in fields for z in layers.values()]
    fine = (f.abs() <= largest).all(dim=1) & torch.stack(sizes).isfinite().all(dim=0)  # no comparison holds for NaN
    return ~fine.numpy()


def _silence(which: Array, fields: list[Layers]) -> None:
    """Put zeros for everything of these networks: with chi = 0 they then stay where they are, and finite."""
    for layers in fields:
        for z in layers.values():
            z[torch.from_numpy(which)] = 0.0


def _batches_and_last(training: Training, samples: int) -> Iterator[Array]:
    yield from training.batch_indices(samples)
    yield np.empty(0, dtype=int)  # after the last update the networks are only looked at


def _notices(record: Record) -> list[str]:
    notices = []
    if undefined := record.undefined():
        notices.append(f"undefined ratios (zero denominators) are NaN in: {', '.join(undefined)}")
    steps = record.diverged_at[record.diverged_at >= 0]
    if steps.size:
        when = f"at step {steps.min()}" if steps.min() == steps.max() else f"at steps {steps.min()} to {steps.max()}"
        notices.append(f"{steps.size} of {record.diverged_at.size} networks diverged, {when}; NaN from there on")
    return notices


def _attributes(plan: Plan, notices: list[str]) -> dict[str, Any]:
    row, dtype = plan.parametrization, str(plan.dtype).removeprefix("torch.")
    config = describe_arguments(plan.problem, plan.network, plan.training) | {
        "finite": {"width": plan.width, "parametrization": asdict(row), "dtype": dtype, "seed": plan.seed}
    }
    return {
        "title": f"tpsim: {parametrization_title(row).split(':')[0]} networks of finite width {plan.width}",
        "config": json.dumps(config),
        "seed": plan.seed,
        "width": plan.width,
        "parametrization": row.name,
        "dtype": dtype,
        "conventions": conventions_table(plan.network, plan.training, row, plan.width),
        "versions": json.dumps(versions("torch")),
        "notices": "\n".join(notices),
    }
