"""What a run needs before it is started: memory."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .core.micro import BLOCK, CHUNK
from .core.stack import units
from .errors import ResourceError
from .probes import CHUNK as PROBES_AT_ONCE
from .record import shapes

Array = np.ndarray

if TYPE_CHECKING:
    from .problem import Network, Problem, Training
    from .task import Task


def memory_bytes(task: Task, ranks: int | Array) -> int:
    """Bytes of the arrays of a run whose hidden matrices have the given ranks at the end.

    Parameters
    ----------
    task : Task
    ranks : (L - 1, 2), p and q of W^2..W^L; or one int for all of them.

    Of every process: what its replica keeps (`replica_bytes`). Of all replicas: what is recorded, and once more in the
    dataset, when the processes have done their work. The program itself, some 0.3 GB a process, is left out.
    """
    recorded = task.replicas * recorded_bytes(task)
    running = min(task.workers, task.replicas) * replica_bytes(task, ranks)
    return recorded + max(running, recorded)


def replica_bytes(task: Task, ranks: int | Array) -> int:
    """Bytes of the arrays over particles of one replica, and of its sums: a function of M, dtype, m, probes and ranks.

    Rows are stored in whole chunks. In `matched` a space keeps once more what the arguments of its matrices, and the
    first features of the last layer, add to its draws; that is at most all of them.
    """
    settings, network, problem = task.settings, task.network, task.problem
    M, m, L, r = settings.particles, problem.samples, network.depth, min(problem.inputs.shape)
    pq = np.broadcast_to(np.asarray(ranks, dtype=np.int64), (L - 1, 2))
    size = np.dtype(settings.dtype).itemsize
    matrices = 2 * sum(rows_bytes(int(k), M, size) for k in pq.ravel())  # X and U (p each), D and V (q each)
    ends = 2 * rows_bytes(r, M, size) + 2 * rows_bytes(1, M, size)  # W^1: draws, updates; What: draw, and What_t
    kept = 0
    if settings.noise == "matched":
        before, after = [0, *pq[:, 1]], [*pq[:, 0], m]  # D of the matrix behind, X of the one ahead (x^L_0 at the end)
        kept = sum(rows_bytes(1 + int(d) + int(x), M, size) for d, x in zip(before, after, strict=True))
    sobol = 24 * L * M if settings.sobol else 0
    first = sum(task.schedule.wants(f"feature_change_{name}", f"kernel_{name}0") for name in "hx")
    fields = (2 * 4 * L + first * L + 4) * m * M + M  # of two steps, of step 0, and of one that brings new directions
    widest = max([int(p + q) for p, q in pq], default=0)
    sums = units(M) * m * (widest + 2 * (m + CHUNK))
    return matrices + ends + kept + 8 * (sobol + fields + sums) + probe_bytes(task, pq)


def probe_bytes(task: Task, ranks: Array) -> int:
    """Bytes of the frames that probes need, and of the fields and the noise of those evaluated at once."""
    if task.problem.probes is None:
        return 0
    M, L, r = task.settings.particles, task.network.depth, min(task.problem.inputs.shape)
    at_once = min(len(task.problem.probes), PROBES_AT_ONCE)
    frame = (r + 1) * M + sum(int(p) * int(q) for p, q in ranks)
    size = np.dtype(task.settings.dtype).itemsize
    noise = (L if task.settings.noise == "width" else L - 1) * rows_bytes(at_once, M, size)
    return 8 * (len(task.schedule.probe) * frame + 4 * at_once * M) + noise


def recorded_bytes(task: Task) -> int:
    """Bytes of what one replica records."""
    schedule, m, L = task.schedule, task.problem.samples, task.network.depth
    return 8 * sum(math.prod(shape) for shape in shapes(schedule, L, m, task.settings.particles).values())


def rows_bytes(count: int, particles: int, itemsize: int) -> int:
    """Bytes of `count` arrays over particles in `tpsim.core.Rows`: whole chunks, whole blocks of particles."""
    return -(-count // CHUNK) * CHUNK * -(-particles // BLOCK) * BLOCK * itemsize


def available_bytes() -> int:
    """Memory that a new process may use: MemAvailable, or the cgroup's limit where that is lower."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pass
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        free = free if limit == "max" else min(free, int(limit) - used)
    except (OSError, ValueError):
        pass
    return free


def most_workers(task: Task, most: int) -> int:
    """Return how many processes, at most `most`, the lower bound of the memory leaves room for; at least one."""
    free, rank = available_bytes(), min(task.problem.inputs.shape)
    fits = (w for w in range(most, 1, -1) if memory_bytes(replace(task, workers=w), rank) <= free)
    return next(fits, 1)


def check_particles(particles: int) -> None:
    """Refuse particles of which not even the eight arrays that one sample and one layer need can fit.

    Knows nothing of the problem, so that the command line can ask before it imports the engine.

    Raises
    ------
    ResourceError
        Names an upper bound of what fits.
    """
    needed, free = 8 * 8 * particles, available_bytes()
    if needed > free:
        raise ResourceError(
            f"particles={particles} needs at least {needed / 2**30:.3g} GiB, {free / 2**30:.3g} GiB are free; at most "
            f"particles={1 << ((free // 64).bit_length() - 1)} would fit, fewer with more samples or layers"
        )


def check_memory(task: Task) -> None:
    """Refuse a run whose lower bound (the ranks of linear features at step 0) cannot fit.

    Raises
    ------
    ResourceError
        Names the number of particles that would fit, and that more workers need more.
    """
    inputs, particles = task.problem.inputs, task.settings.particles
    rank = int(np.linalg.matrix_rank(inputs)) if max(inputs.shape) <= 512 else 1  # larger ones take too long to ask
    needed, free = memory_bytes(task, rank), available_bytes()
    if needed > free:
        records = 2 * task.replicas * recorded_bytes(replace(task, settings=replace(task.settings, particles=0)))
        fits = int(particles * (free - records) / (needed - records))
        advice = f"about particles={1 << (fits.bit_length() - 1)} would fit" if fits > 4 * rank else "too much at any M"
        raise ResourceError(
            f"particles={particles} needs at least {needed / 2**30:.3g} GiB, {free / 2**30:.3g} GiB are free; {advice} "
            f"(fewer workers, replicas, samples, layers, snapshots, probe or recorded steps also need less)"
        )


def check_records(problem: Problem, network: Network, training: Training, record_every: int, replicas: int) -> None:
    """Refuse a run whose kernels alone cannot fit, before any list of its steps is made.

    Raises
    ------
    ResourceError
        Names the interval of recording that would fit.
    """
    once, free = 8 * replicas * 3 * network.depth * problem.samples**2, available_bytes()
    records = training.steps // record_every + 1
    if once * records > free:
        most = free // once
        advice = f"record_every={training.steps // (most - 1) + 1} would fit" if most > 1 else "fewer samples would"
        raise ResourceError(
            f"steps={training.steps} with record_every={record_every}: {records} records of {once / 2**20:.3g} MiB, "
            f"{free / 2**30:.3g} GiB are free; {advice}"
        )
