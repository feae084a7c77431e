"""What a run with a target for its error is given: every argument of `simulate` checked, some left to be chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import joblib
import numpy as np

from .core import check_noise
from .errors import InputError, ResourceError
from .plan import available_bytes, check_memory, memory_bytes
from .problem import Network, Problem, Training, positive_int
from .task import REPLICAS, Task, check_arguments, default_tolerance, prepare, threads_of

FEWEST = 1024  # particles of the first stage, where its space has room
PILOT_REPLICAS = 16  # of the smallest M, whose noise is most of what hides a bias
MAX_SECONDS = 600.0
FREE = 0.8  # share of the free memory that a search may use
HELD = ("particles", "replicas", "tolerance")  # chosen where they are not given
COARSEST = 0.5  # a tolerance that is given must leave room for a coarser one to compare it with


@dataclass(frozen=True)
class Goal:
    """A target for the error of f, and what may be spent on it.

    Attributes
    ----------
    target : the error (1) of `tpsim.accuracy` that is wanted.
    particles, replicas, tolerance : held fixed where they are given, chosen where None.
    max_seconds, max_bytes : the budget, of all stages together and of each.
    arguments : what else `tpsim.task.prepare` takes.
    """

    target: float
    particles: int | None
    replicas: int | None
    tolerance: float | None
    max_seconds: float
    max_bytes: int
    arguments: dict[str, Any]

    @property
    def first_tolerance(self) -> float | None:
        """Tried first, as errors are about tolerance^2; None for `iid`, where it is 3 / sqrt(M), a part of the bias."""
        if self.tolerance is not None or self.arguments["noise"] == "iid":
            return self.tolerance
        return float(np.clip(math.sqrt(self.target) / 4, 1e-10, 1e-2))


def prepare_goal(
    problem: Problem, network: Network, training: Training, *,
    target_error: float | None, max_seconds: float | None, max_bytes: int | None, **arguments: Any,
) -> Task:  # fmt: skip
    """Check every argument of `simulate`; with `target_error` the task is the first stage, and has a `goal`.

    Raises
    ------
    InputError, ResourceError
        As `tpsim.task.prepare`; and where f is random, so that it has no error but a law.
    """
    if target_error is None:
        for name, value in (("max_seconds", max_seconds), ("max_bytes", max_bytes)):
            if value is not None:
                raise InputError(name, value, "None without target_error, whose budget it is")
        return prepare(problem, network, training, **arguments)
    check_arguments(problem, network, training)
    _positive("target_error", target_error)
    noise, limit, given = arguments["noise"], arguments["limit"], arguments["replicas"]
    check_noise(noise)
    if noise == "width" or isinstance(limit, str) and limit in ("ntp", "sp"):
        where = f"noise={noise!r}" if noise == "width" else f"limit={limit!r}"
        raise InputError("target_error", target_error, f"None with {where}: f is random there, and has a law, no error")
    if given is not None and positive_int("replicas", given) < 2:
        raise InputError("replicas", given, "an integer >= 2 with target_error: errors come from replicas")
    tolerance = arguments["tolerance"]
    if isinstance(tolerance, int | float) and COARSEST <= tolerance < 1:
        raise InputError("tolerance", tolerance, f"a number below {COARSEST} with target_error")
    if max_seconds is not None:
        _positive("max_seconds", max_seconds)
    budget = int(FREE * available_bytes()) if max_bytes is None else positive_int("max_bytes", max_bytes)
    goal = Goal(
        float(target_error), arguments["particles"], given, tolerance,
        MAX_SECONDS if max_seconds is None else float(max_seconds), budget, arguments,
    )  # fmt: skip
    first = {
        "particles": first_particles(problem, None) if goal.particles is None else goal.particles,
        "replicas": given or (PILOT_REPLICAS if goal.particles is None else REPLICAS),
        "tolerance": goal.first_tolerance,
    }
    task = prepare(problem, network, training, **arguments | first)
    task = replace(task, goal=goal)
    least = memory_bytes(replace(task, workers=1), 1)
    if least > budget:
        raise ResourceError(f"max_bytes={budget} is too small: the first stage needs at least {least}")
    return task


def stage_task(task: Task, goal: Goal, particles: int, replicas: int, tolerance: float | None, workers: int) -> Task:
    """Return the task of one stage; ResourceError if the memory that was free is not any more."""
    if tolerance is None:
        tolerance = default_tolerance(task.settings.noise, particles)
    settings = replace(task.settings, particles=particles, tolerance=tolerance)
    threads = threads_of(goal.arguments["threads"], workers, particles)
    own = task.checkpoint and task.checkpoint.within(f"particles-{particles}-tolerance-{tolerance:.17g}")
    stage = replace(
        task, settings=settings, replicas=replicas, workers=workers, threads=threads, goal=None, checkpoint=own
    )
    check_memory(stage)
    return stage


def most_workers(goal: Goal, replicas: int) -> int:
    """Return the processes that were asked for, or all cores; at most one a replica."""
    return min(goal.arguments["workers"] or joblib.cpu_count(), replicas)


def first_particles(problem: Problem, given: int | None) -> int:
    """Return the smallest M, with room for twice what step 0 needs; a given M is compared with a quarter of it."""
    least = 4 * min(problem.inputs.shape) + 2
    if given is None:
        return max(FEWEST, 1 << least.bit_length())
    return next((fewer for fewer in (given // 4, given // 2) if fewer > least), given)


def _positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < math.inf:
        raise InputError(name, value, "a number > 0")
