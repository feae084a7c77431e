"""What a run will cost: memory and time, from a pilot at few particles and a few steps at full size.

Ranks hardly depend on the number of particles M, and the cost per step is proportional to M times the ranks. So

1. a pilot of one replica with M_0 = min(M, 1024) particles (more if it runs out of room) gives the ranks at every step
   and the share of the time that each step takes; it runs all T steps, or as many as a few seconds allow, and is then
   continued: ranks as in its second half, against log t (in `width` mode, where they do not saturate, against t), and
   time per step in proportion to the ranks;
2. the first steps at the full M, again as many as a few seconds allow, give the price of the pilot's share.

Times are processor seconds of one thread, so they are those of a machine with idle cores.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numba
import numpy as np
from threadpoolctl import threadpool_limits

from . import lazy
from .errors import Diverged, Notice, RankError
from .plan import available_bytes, memory_bytes
from .problem import Problem
from .record import Schedule
from .run import run_replica
from .task import Task

Array = np.ndarray
PILOT = 1024  # particles
SECONDS = 4.0  # roughly what the pilot, and the steps at full size, may take each


@dataclass(frozen=True)
class Trial:
    """One replica, timed.

    Attributes
    ----------
    particles : M of the trial.
    clock : (steps + 1,) processor seconds up to the end of each step that was finished.
    replay : processor seconds of the probes.
    recorded : (k,) steps at which the ranks are known.
    ranks : (k, L - 1, 2) p and q of the hidden matrices.
    stopped : why it stopped early, or None.
    full : whether that was because a space was full.
    """

    particles: int
    clock: Array
    replay: float
    recorded: Array
    ranks: Array
    stopped: str | None
    full: bool

    @property
    def steps(self) -> int:
        """The last step that was finished."""
        return len(self.clock) - 1

    @property
    def seconds(self) -> float:
        """Everything, the probes included."""
        return float(self.clock[-1] + self.replay)

    def ranks_at(self, step: int, linear: bool) -> Array:
        """(L - 1, 2) p and q at a later step: linear, or logarithmic, in the number of steps since the second half."""
        half = int(np.searchsorted(self.recorded, self.recorded[-1] / 2))
        start, end = int(self.recorded[half]) + 1, int(self.recorded[-1]) + 1
        if step < end or start == end:
            return self.ranks[-1]
        progress = (step + 1 - end) / (end - start) if linear else np.log((step + 1) / end) / np.log(end / start)
        return self.ranks[-1] + progress * (self.ranks[-1] - self.ranks[half])


@dataclass(frozen=True)
class Prediction:
    """Predicted cost of a run.

    Attributes
    ----------
    ranks : (L - 1, 2) p and q of W^2..W^L at the end.
    arrays : the largest number of arrays in one particle space; must stay below the number of particles.
    bytes : of the arrays of all processes together, beside the 0.3 GB that each needs to exist.
    free_bytes : what is free now.
    seconds : on idle cores.
    pilot : Trial at few particles.
    trial_steps, trial_seconds : what was timed at the full number of particles (0: nothing).
    """

    ranks: Array
    arrays: int
    bytes: int
    free_bytes: int
    seconds: float
    pilot: Trial
    trial_steps: int
    trial_seconds: float


def predict(task: Task, budget: float = SECONDS) -> Prediction:
    """Predict ranks, memory and time of a run; takes about twice `budget` seconds.

    Error: time within a factor of two on idle cores; ranks within some 10% where the pilot runs all steps, and within a
    third where it is continued, always for `matched`; for the other modes they are rough.
    """
    if task.lazy:
        return _predict_lazy(task)
    with _one_thread():
        _trial(task, min(task.settings.particles, PILOT), 1)  # compiles
        pilot = _pilot(task, budget)
        steps, price, spent = _price(task, pilot, budget)
    M, m, T = task.settings.particles, task.problem.samples, task.training.steps
    left = T - pilot.steps if pilot.full or not pilot.stopped else 0
    limit = min(M, task.settings.max_rank or M, m * (T + 1))
    later = pilot.ranks_at(pilot.steps + left, linear=task.settings.noise == "width")
    ranks = np.minimum(later, limit).round().astype(int)
    rounds = -(-task.replicas // task.workers)
    return Prediction(
        ranks=ranks,
        arrays=_arrays(ranks, task.problem),
        bytes=memory_bytes(task, ranks),
        free_bytes=available_bytes(),
        seconds=price * _total(pilot, ranks, left, task.schedule.probe) * rounds / task.threads,
        pilot=pilot,
        trial_steps=steps,
        trial_seconds=spent,
    )


def _predict_lazy(task: Task) -> Prediction:
    """The cost where features do not move: a kernel estimate per replica, and the law once and for each of them."""
    inputs = task.problem.samples + (0 if task.problem.probes is None else len(task.problem.probes))
    none = np.empty((task.training.steps + 1, 0, 2), dtype=int)
    arrays = _arrays(np.tile([inputs, 0], (task.network.depth - 1, 1)), task.problem) + inputs
    particles = min(task.settings.particles, max(PILOT, 1 << (2 * arrays).bit_length()))
    settings = replace(task.settings, particles=particles)
    pilot, stopped = replace(task, settings=settings, replicas=2), None
    with _one_thread():
        lazy.estimate(pilot, 0)  # compiles
        first = time.process_time()
        lazy.estimate(pilot, 0)
        kernel = time.process_time() - first
        try:
            lazy.execute(pilot, progress=False)
        except Diverged as error:
            stopped = str(error)
    seconds = time.process_time() - first - kernel
    law = max(seconds - 2 * kernel, 0.0) / 3
    R, ratio = task.replicas, task.settings.particles / particles
    return Prediction(
        ranks=none[0],
        arrays=arrays,
        bytes=lazy.memory_bytes(task),
        free_bytes=available_bytes(),
        seconds=R * kernel * ratio + (R + 1) * law,
        pilot=Trial(particles, np.linspace(0.0, seconds, len(none)), 0.0, np.arange(len(none)), none, stopped, False),
        trial_steps=0,
        trial_seconds=0.0,
    )


def _pilot(task: Task, budget: float) -> Trial:
    """The longest trial that the budget allows, at the fewest particles that have room for it."""
    particles, steps = min(task.settings.particles, PILOT), 20
    while True:
        most = task.training.steps
        if task.settings.noise == "width":  # its ranks grow until they meet M, here that of the pilot
            most = min(most, max(particles // (2 * task.problem.samples), 1))
        steps = min(steps, most)
        trial = _trial(task, particles, steps)
        if trial.full and particles < task.settings.particles and 4 * trial.seconds < budget:
            particles = min(2 * particles, task.settings.particles)
        elif trial.stopped or steps == most or min(4, most / steps) * trial.seconds > budget:
            return trial
        else:
            steps *= 4


def _price(task: Task, pilot: Trial, budget: float) -> tuple[int, float, float]:
    """Return the number of steps timed at full size, the time of a step there over that in the pilot, and the time."""
    ratio = task.settings.particles / pilot.particles
    steps = int(np.searchsorted(ratio * pilot.clock, budget)) - 1
    if ratio == 1 or steps < 0:  # nothing to learn, or step 0 alone would take longer
        return 0, ratio, 0.0
    trial = _trial(task, task.settings.particles, steps)
    return trial.steps + 1, float(trial.clock[-1] / pilot.clock[trial.steps]), float(trial.clock[-1])


def _total(pilot: Trial, ranks: Array, left: int, probe: tuple[int, ...]) -> float:
    """Processor seconds of the pilot, continued by the steps that are left and to all probe steps."""
    half = pilot.steps // 2
    per_step = (pilot.clock[-1] - pilot.clock[half]) / max(pilot.steps - half, 1)
    growth = float((ranks.sum() + 1) / (pilot.ranks[-1].sum() + 1))
    frames = sum(step <= pilot.steps for step in probe)
    replay = pilot.replay * growth * len(probe) / frames if frames else 0.0
    return float(pilot.clock[-1] + per_step * left * (1 + growth) / 2 + replay)


def _arrays(ranks: Array, problem: Problem) -> int:
    """The largest number of arrays that share a space: draws and arguments of the matrices on either side."""
    both = [min(problem.inputs.shape), *(int(p + q) for p, q in ranks), problem.samples]
    return 2 + max(left + right for left, right in zip(both, both[1:], strict=False))


def _trial(task: Task, particles: int, steps: int) -> Trial:
    """Run and time one replica with fewer particles or steps, recording what the run will record."""
    steps = min(steps, task.training.steps)
    settings = replace(
        task.settings,
        particles=particles,
        # the tolerance of `iid` fits its M: with fewer particles nothing would ever lie in a span
        noise="matched" if task.settings.noise == "iid" else task.settings.noise,
    )
    kept = task.schedule
    record, joint, probe = (tuple(t for t in every if t <= steps) for every in (kept.record, kept.joint, kept.probe))
    schedule = Schedule(tuple(sorted({*record, steps})), joint, probe, ())
    clock: list[float] = []
    start = time.process_time()
    trial = replace(task, training=replace(task.training, steps=steps), settings=settings, schedule=schedule)
    result = run_replica(trial, 0, lambda step, loss: clock.append(time.process_time() - start))
    stop = time.process_time() - start
    clock = clock or [stop]
    seen = [step for step in schedule.record if step < max(result.finished, 1)]
    ranks = [np.nan_to_num(result.arrays[name][: len(seen), 1:]) for name in ("rank_forward", "rank_backward")]
    full = result.kind is RankError
    return Trial(
        particles, np.array(clock), stop - clock[-1], np.array(seen), np.stack(ranks, axis=-1), result.stopped, full
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Inside the block BLAS and numba use one thread, and the notices of trials stay silent."""
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)
            yield
    finally:
        numba.set_num_threads(threads)
