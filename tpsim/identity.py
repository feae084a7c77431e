"""Which run a checkpoint belongs to: what the numbers before a step depend on, and what of it differs."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import replace
from typing import Any

import numpy as np

from .core.saved import Saved
from .losses import LOSSES
from .results import describe_arguments, describe_settings, versions
from .storage import first_difference
from .task import Task

Array = np.ndarray


def identity(task: Task, step: int) -> dict[str, Any]:
    """Return what the numbers before `step` depend on, but for those of `past`, ready for JSON."""
    about = describe_arguments(task.problem, task.network, replace(task.training, learning_rate=0.0))
    problem, training = about["problem"], about["training"]
    del problem["probes"], training["steps"], training["learning_rate"]  # see `past`; probes are only looked at
    if not task.network.phi.builtin:
        about["network"]["activation"] = "<the user's>"  # whatever its name, the fingerprint tells it
    if LOSSES.get(training["loss"]) != task.training.criterion:
        training["loss"] = "<the user's>"
    if isinstance(training["batches"], list):
        first = [np.asarray(batch).tolist() for batch in training["batches"][:step]]
        training["batches"] = "the first lists: " + hashlib.sha256(repr(first).encode()).hexdigest()
    settings = describe_settings(task)
    del settings["max_rank"]  # which changes nothing before it is reached
    recorded = {"parts": task.schedule.parts, "quantities": list(task.schedule.quantities)}
    return about | {"simulation": settings | recorded}


def past(task: Task, step: int) -> dict[str, Array]:
    """Return what of the schedules lies before `step`: a longer run of the same past may go on from there."""
    schedule, depth = task.schedule, task.network.depth
    rates = [task.training.rates(t, depth) for t in range(step)]
    kinds = {"record": schedule.record, "joint": schedule.joint, "probe": schedule.probe, "snapshot": schedule.snapshot}
    steps = {name: np.array([t for t in of if t < step], dtype=np.int64) for name, of in kinds.items()}
    return steps | {"learning_rate": np.array(rates).reshape(step, depth + 1)}


def other_past(saved: Saved, expected: dict[str, Array]) -> str | None:
    """Say what differs first from the past of a checkpoint."""
    for name, right in expected.items():
        there = saved.take(name, (None, *right.shape[1:]), right.dtype)
        if np.array_equal(there, right):
            continue
        if name == "learning_rate":
            if len(there) != len(right):
                raise ValueError(f"{len(there)} learning rates, and not {len(right)}")
            t = int(np.flatnonzero((there != right).any(axis=1))[0])
            return first_difference(there[t].tolist(), right[t].tolist(), f"learning_rate at step {t}")
        only = sorted(set(there.tolist()) ^ set(right.tolist()))[0]
        what = f"step {only} is in the schedule `{name}`"
        return f"{what} there and not here" if only in there else f"{what} here and not there"
    return None


@functools.cache
def here() -> dict[str, str]:
    """Versions and the type of the processor: with others, results agree up to rounding only."""
    from llvmlite.binding import get_host_cpu_name

    return versions("llvmlite") | {"cpu": get_host_cpu_name()}
