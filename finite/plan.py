"""A checked call of `finite.train`: every argument resolved, nothing drawn yet, and what it will need of memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tpsim.errors import InputError, ResourceError
from tpsim.parametrization import Parametrization, resolve_parametrization
from tpsim.plan import available_bytes
from tpsim.problem import Network, Problem, Training, positive_int
from tpsim.record import Schedule
from tpsim.task import check_arguments, schedule_of

from .record import QUANTITIES, shapes

Array = np.ndarray

DTYPES = {"float64": torch.float64, "float32": torch.float32}
BLOCK_BYTES = 3 << 20  # of one block's weights and fields: they stay in the cache (benchmarks/backprop.py)


@dataclass(frozen=True)
class Plan:
    """What `finite.train` was given, resolved.

    Parameters
    ----------
    parametrization : the row of the abc-table.
    replicas : the numbers k of the networks.
    seed : the root of their random streams.
    block : networks that are trained together.
    quantities : names out of `finite.record.QUANTITIES`
    """

    problem: Problem
    network: Network
    training: Training
    width: int
    parametrization: Parametrization
    replicas: range
    seed: int
    dtype: torch.dtype
    block: int
    quantities: tuple[str, ...]
    schedule: Schedule

    def tensor(self, array: Array) -> Tensor:
        """A copy in the precision of the weights."""
        return torch.tensor(np.asarray(array), dtype=self.dtype)


def prepare(
    problem: Problem, network: Network, training: Training, width: int, parametrization: str | Parametrization,
    seeds: int, seed: int, dtype: str, batch_seeds: int | None, quantities: Sequence[str] | None, record_every: int,
    probe_every: int | None, joint_every: int | None, snapshots: Sequence[int], first_seed: int = 0,
) -> Plan:  # fmt: skip
    """Check every argument of `finite.train`, and resolve what is None.

    Raises
    ------
    InputError
        Names the argument, its value and what is allowed.
    ResourceError
        A block of networks, or what is to be recorded, does not fit into the memory.
    """
    check_arguments(problem, network, training)
    row = resolve_parametrization(parametrization)
    positive_int("width", width)
    for field, value in (("seed", seed), ("first_seed", first_seed)):
        positive_int(field, value, 0)
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise InputError("dtype", dtype, f"one of {', '.join(DTYPES)}")
    kept = _quantities(quantities)
    if batch_seeds is None:
        size = _entries(problem, network, width) + 4 * network.depth * problem.samples * width  # h, x, dh, chi dh
        batch_seeds = max(1, BLOCK_BYTES // (size * DTYPES[dtype].itemsize))
    replicas = range(int(first_seed), int(first_seed) + positive_int("seeds", seeds))
    block = min(positive_int("batch_seeds", batch_seeds), len(replicas))
    records: Any = range(0, training.steps + 1, positive_int("record_every", record_every))
    fewest = Schedule(records, (), (), ())
    plan = Plan(
        problem, network, training, int(width), row, replicas, int(seed), DTYPES[dtype], block, kept, fewest
    )  # fmt: skip
    check_memory(plan)  # before any list of steps is made
    plan = replace(plan, schedule=schedule_of(problem, training, record_every, probe_every, joint_every, snapshots))
    check_memory(plan)
    return plan


def _quantities(names: Sequence[str] | None) -> tuple[str, ...]:
    if names is None:
        return QUANTITIES
    if not isinstance(names, Sequence) or isinstance(names, str):
        raise InputError("quantities", names, "None, or a list of names")
    for name in names:
        if name not in QUANTITIES:
            raise InputError("quantities", name, f"names out of {', '.join(QUANTITIES)}")
    return tuple(names)


def _entries(problem: Problem, network: Network, width: int) -> int:
    """Entries of all matrices of one network."""
    return (network.depth - 1) * width**2 + (problem.inputs.shape[1] + 1) * width


def memory_bytes(plan: Plan) -> tuple[int, int]:
    """Bytes of a block while it trains, and of what is recorded of all networks.

    A block: all matrices; h, x, dh, phi'(h) of this step, h and x of step 0, and as much again for what is computed
    from them; h and x of the probes.
    """
    m, n, L = plan.problem.samples, plan.width, plan.network.depth
    probes = 0 if plan.problem.probes is None else len(plan.problem.probes)
    fields = (8 * L * m + 2 * L * probes) * n
    block = plan.block * (_entries(plan.problem, plan.network, n) + fields) * plan.dtype.itemsize
    kept = shapes(plan.quantities, plan.schedule, L, m, probes, n)
    return block, 8 * len(plan.replicas) * sum(math.prod(shape) for shape in kept.values())


def check_memory(plan: Plan) -> None:
    """Refuse networks, or a record of them, that cannot fit.

    Raises
    ------
    ResourceError
        Names what is needed, what is free and what else would need less.
    """
    block, recorded = memory_bytes(plan)
    free = available_bytes()
    if block + recorded > free:
        less = "a smaller width or batch_seeds, or float32," if block > recorded else "fewer seeds, steps or quantities"
        raise ResourceError(
            f"width={plan.width}, seeds={len(plan.replicas)}: {block} bytes for {plan.block} at a time and {recorded} "
            f"for what is recorded, {free} bytes ({free / 2**30:.3g} GiB) are free; {less} would need less"
        )
