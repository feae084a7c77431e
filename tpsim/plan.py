"""What a run needs before it is started: memory."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import ResourceError
from .probes import CHUNK

if TYPE_CHECKING:
    from .problem import Network, Problem, Training
    from .task import Task


def memory_bytes(task: Task, rank: int) -> int:
    """Bytes of the arrays of a run when every hidden matrix has `rank` basis vectors on either side.

    Particle arrays of a process: per hidden matrix X, D, U, V and, for `matched`, the residuals of X and D in the joint
    basis, with an eighth of slack; per layer h, x, phi', dh of this step, of the last one and of step 0; W^1, What;
    Sobol points; the frames of the probes, and the fields of those evaluated at once. Of all replicas: what is
    recorded, and once more in the dataset, when the processes have done their work. The program itself, some 0.3 GB a
    process, is left out.
    """
    settings, schedule, probes = task.settings, task.schedule, task.problem.probes
    M, m, L = settings.particles, task.problem.samples, task.network.depth
    inputs = min(task.problem.inputs.shape)
    bases = (6 if settings.noise == "matched" else 4) * (L - 1) * rank * 9 // 8
    fields = 3 * 4 * L * m + 2 * inputs + 3
    sobol = 24 * L if settings.sobol else 0
    replay = 0 if probes is None else len(schedule.probe) * (inputs + 1) + (L + 3) * min(len(probes), CHUNK)
    kernels = (3 * len(schedule.record) + 2 * len(schedule.joint)) * L * m * m
    snapshots = len(schedule.snapshot) * L * m * (9 if schedule.parts else 3) * M
    running = min(task.workers, task.replicas) * M * (bases + fields + sobol + replay)
    recorded = task.replicas * (kernels + snapshots)
    return 8 * (recorded + max(running, recorded))


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
        records = memory_bytes(replace(task, settings=replace(task.settings, particles=0)), rank)
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
