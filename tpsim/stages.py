"""The stages of a search: replicas of one M, what they left and took, and what another stage would take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter as clock
from typing import Any

import numpy as np

from .errorlaw import Law, Size
from .goal import Goal, most_workers, stage_task
from .plan import memory_bytes
from .progress import Bar, Progress
from .record import Schedule
from .run import Replica, finish, run_all
from .task import Task

Array = np.ndarray

OUTPUTS = ("f", "f_probe")
SLOWER = 1.25  # more particles cost more than in proportion once they leave a cache


@dataclass
class Stage:
    """All replicas of one M: what they left and took, their outputs by name (R, entries), and facts to report."""

    task: Task
    results: list[Replica]
    seconds: float
    facts: dict[str, Any]
    samples: dict[str, Array] = field(init=False)
    rank: int = field(init=False)  # mean of p and q at the end

    def __post_init__(self) -> None:
        ends = [self.results[0].arrays[name][-1, 1:] for name in ("rank_forward", "rank_backward")]
        self.rank = math.ceil(np.mean(ends)) if ends[0].size else 0
        names = [name for name in OUTPUTS if name in self.results[0].arrays]
        self.samples = {name: _entries(np.stack([one.arrays[name] for one in self.results])) for name in names}

    @property
    def size(self) -> Size:
        return Size(self.task.settings.particles, self.task.replicas)

    @property
    def seconds_a_round(self) -> float:
        """Of one replica in every process."""
        return self.seconds / math.ceil(self.task.replicas / self.task.workers)


def _entries(values: Array) -> Array:
    """(R, steps, samples) -> (R, entries), without step 0, where f = 0 in every run."""
    return values[:, min(1, values.shape[1] - 1) :].reshape(len(values), -1)


@dataclass(frozen=True)
class Plan:
    """A stage that might be run, and what is predicted of it."""

    size: Size
    error: float
    work: int  # particles times replicas: which plan is cheaper must not depend on the clock
    seconds: float
    bytes: int
    affordable: bool


class Workshop:
    """Runs stages, and knows what they take and what the budget has left.

    Attributes
    ----------
    history : facts of every run, for the record.
    """

    def __init__(self, task: Task, goal: Goal, progress: Progress) -> None:
        self.task, self.goal, self.progress = task, goal, progress
        self.history: list[dict[str, Any]] = []
        self._compile()
        self._start = clock()

    def _compile(self) -> None:
        """One step, so that no stage is timed with the compiler at work."""
        steps = min(1, self.task.training.steps)
        training, schedule = replace(self.task.training, steps=steps), Schedule(tuple(range(steps + 1)), (0,), (), ())
        task = replace(self.task, training=training, schedule=schedule, replicas=1, workers=1, checkpoint=None)
        run_all(task, Bar(False, 1, 1))

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return clock() - self._start

    def run(self, size: Size, tolerance: float | None, last: Stage | None, earlier: Stage | None = None) -> Stage:
        """Run a stage; the replicas of `earlier`, of the same M, are kept, and `last` tells the ranks.

        Raises
        ------
        Diverged, RankError, ResourceError
            As a run of this size.
        """
        start, done = clock(), 0 if earlier is None else earlier.size.replicas
        task = stage_task(self.task, self.goal, *size, tolerance, self._workers(size, last))
        if task.checkpoint is not None:
            task.checkpoint.make()
        with Bar(self.progress, size.replicas - done, task.training.steps + 1) as bar:
            results = ([] if earlier is None else earlier.results) + run_all(task, bar, done)
        if any(result.kind is not None for result in results):
            finish(task, results)  # raises
        seconds = clock() - start
        facts = {"particles": size.particles, "replicas": size.replicas, "tolerance": task.settings.tolerance}
        self.history.append(facts | {"seconds": round(seconds, 3)})
        return Stage(task, results, seconds + (0.0 if earlier is None else earlier.seconds), self.history[-1])

    def plan(self, size: Size, last: Stage, laws: Mapping[str, Law]) -> Plan:
        """Predict error and cost of a stage after the last one, whose replicas it keeps where M is the same."""
        same = size.particles == last.size.particles
        extra = size.replicas - (last.size.replicas if same else 0)
        growth = 1.0 if same else SLOWER * size.particles / last.size.particles
        workers = self._workers(size, last)
        seconds = last.seconds_a_round * growth * math.ceil(extra / workers)
        needed = self._bytes(size, last, workers)
        error = max(law.predict(size) for law in laws.values())
        affordable = seconds <= self.goal.max_seconds - self.spent and needed <= self.goal.max_bytes
        return Plan(size, error, size.particles * extra, seconds, needed, affordable)

    def _workers(self, size: Size, last: Stage | None) -> int:
        """As many processes as were asked for and fit into the memory."""
        most = most_workers(self.goal, size.replicas)
        return next((w for w in range(most, 1, -1) if self._bytes(size, last, w) <= self.goal.max_bytes), 1)

    def _bytes(self, size: Size, last: Stage | None, workers: int) -> int:
        settings = replace(self.task.settings, particles=size.particles)
        task = replace(self.task, settings=settings, replicas=size.replicas, workers=workers)
        return memory_bytes(task, last.rank if last else min(task.problem.inputs.shape))
