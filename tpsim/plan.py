"""What a run needs before it is started: memory."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import ResourceError

if TYPE_CHECKING:
    from .task import Task


def memory_bytes(task: Task, rank: int) -> int:
    """Bytes of a run when every hidden matrix has `rank` basis vectors on either side.

    Particle arrays of one replica: per hidden matrix X, D, U, V and, for `matched`, the residuals of X and D in the
    joint basis; per layer h, x, phi', dh of this step, of the last one and of step 0; W^1, What; the frames of the
    probes; the snapshots.
    """
    settings, schedule = task.settings, task.schedule
    M, m, L = settings.particles, task.problem.samples, task.network.depth
    inputs = min(task.problem.inputs.shape)
    bases = (6 if settings.noise == "matched" else 4) * (L - 1) * rank
    fields = 3 * 4 * L * m
    snapshots = len(schedule.snapshot) * L * m * (9 if schedule.parts else 3)
    frames = len(schedule.probe) * (inputs + 1)
    particles = M * (bases + fields + 2 * inputs + 3 + frames + snapshots + (24 * L if settings.sobol else 0))
    records = task.replicas * (3 * len(schedule.record) + 2 * len(schedule.joint)) * L * m * m
    running = min(task.workers, task.replicas)
    return 8 * (running * particles + records + (task.replicas - running) * M * snapshots)


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


def check_memory(task: Task) -> None:
    """Refuse a run whose lower bound (the ranks of linear features at step 0) cannot fit.

    Raises
    ------
    ResourceError
        Names the number of particles that would fit, and that more workers need more.
    """
    inputs, particles = task.problem.inputs, task.settings.particles
    rank = int(np.linalg.matrix_rank(inputs)) if max(inputs.shape) <= 2048 else 1
    needed, free = memory_bytes(task, rank), available_bytes()
    if needed > free:
        fits = 1 << max(int(particles * free / needed).bit_length() - 1, 1)
        raise ResourceError(
            f"particles={particles} needs at least {needed / 2**30:.3g} GiB, {free / 2**30:.3g} GiB are free; about "
            f"particles={fits} would fit (fewer workers, samples, snapshots or probe steps also need less)"
        )
