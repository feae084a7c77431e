"""What a run needs before it is started: memory."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from .errors import ResourceError
from .mlp import Settings
from .problem import Network, Problem
from .record import Schedule


def memory_bytes(
    problem: Problem, network: Network, settings: Settings, schedule: Schedule, replicas: int, workers: int, rank: int
) -> int:
    """Bytes of a run when every hidden matrix has `rank` basis vectors on either side.

    Particle arrays of one replica: per hidden matrix X, D, U, V and, for `matched`, the residuals of X and D in the
    joint basis; per layer h, x, phi', dh of this step, of the last one and of step 0; W^1, What; the frames of the
    probes; the snapshots.
    """
    M, m, L = settings.particles, problem.samples, network.depth
    inputs = min(problem.inputs.shape)
    bases = (6 if settings.noise == "matched" else 4) * (L - 1) * rank
    fields = 3 * 4 * L * m
    snapshots = len(schedule.snapshot) * L * m * (9 if schedule.parts else 3)
    frames = len(schedule.probe) * (inputs + 1)
    particles = M * (bases + fields + 2 * inputs + 3 + frames + snapshots + (24 * L if settings.sobol else 0))
    records = replicas * (3 * len(schedule.record) + 2 * len(schedule.joint)) * L * m * m
    running = min(workers, replicas)
    return 8 * (running * particles + records + (replicas - running) * M * snapshots)


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


def check_memory(
    problem: Problem, network: Network, settings: Settings, schedule: Schedule, replicas: int, workers: int
) -> None:
    """Refuse a run whose lower bound (the ranks of linear features at step 0) cannot fit.

    Raises
    ------
    ResourceError
        Names the number of particles that would fit, and that more workers need more.
    """
    rank = int(np.linalg.matrix_rank(problem.inputs)) if max(problem.inputs.shape) <= 2048 else 1
    needed = memory_bytes(problem, network, settings, schedule, replicas, workers, rank)
    free = available_bytes()
    if needed > free:
        fits = 1 << max(int(settings.particles * free / needed).bit_length() - 1, 1)
        raise ResourceError(
            f"particles={settings.particles} needs at least {needed / 2**30:.3g} GiB, {free / 2**30:.3g} GiB are free; "
            f"about particles={fits} would fit (fewer workers, samples, snapshots or probe steps also need less)"
        )
