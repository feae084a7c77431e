"""The runs that the claims are measured on, each with randomness of its own."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import joblib
import numpy as np
import xarray as xr

from tpsim import InputError, Network, Notice, Problem, Training, simulate
from tpsim.problem import positive_int

from ..claim import REPLICAS
from ..families import families

TOLERANCE = 1e-3  # of the runs that certify: their floor is the square of what the tolerance drops
PILOTS = 2
FEW_STEPS = 12  # of the short runs against the whole past, at most

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What is verified, and how.

    Attributes
    ----------
    problem, network, training : as of `tpsim.simulate`.
    particles : of the larger of the two runs; the smaller has half of them.
    replicas : of each, at least 8.
    tolerance, sobol, max_rank, record_every, seed, workers : as of `simulate`.
    widths, seeds : of the finite networks of Table 1; [] for none.
    """

    problem: Problem
    network: Network
    training: Training
    particles: int = 4096
    replicas: int = 8
    tolerance: float | None = None
    sobol: bool | None = None
    max_rank: int | None = None
    record_every: int = 1
    seed: int = 0
    workers: int | None = None
    widths: tuple[int, ...] = (64, 256)
    seeds: int = 8

    def __post_init__(self) -> None:
        if positive_int("particles", self.particles, 8) % 4:
            allowed = "a multiple of 4: the limit is simulated at a half and a quarter of them too"
            raise InputError("particles", self.particles, allowed)
        if positive_int("replicas", self.replicas) < REPLICAS:
            raise InputError("replicas", self.replicas, f"an integer >= {REPLICAS}: a bound needs a standard error")
        if len(set(self.widths)) == 1:
            raise InputError("widths", list(self.widths), "at least two widths, or []")


@dataclass(frozen=True)
class Evidence:
    """The runs.

    Attributes
    ----------
    settings : Settings
    pilot : limit of muP, few replicas: fixes scales and decides nothing.
    small, large : the same limit at M and 2M particles.
    short : pilot, M/2 and M particles: the first steps against the whole past (`validation.families.families`).
    limits : the limits of all four parametrizations at the first and the last step; that of muP is `large`.
    networks : finite networks of all four, over (parametrization, width, replica, ...); None without torch.
    """

    settings: Settings
    pilot: xr.Dataset
    small: xr.Dataset
    large: xr.Dataset
    short: tuple[xr.Dataset, xr.Dataset, xr.Dataset]
    limits: dict[str, xr.Dataset]
    networks: xr.Dataset | None
    notices: list[str] = field(default_factory=list)


def gather(settings: Settings, progress: bool | None = None, say: Say = lambda stage: None) -> Evidence:
    """Run everything that the claims need.

    Parameters
    ----------
    settings : Settings
    progress : None (bars on a terminal), True or False.
    say : called with the name of each stage as it begins.

    Raises
    ------
    InputError, ResourceError
        As of `tpsim.simulate`.
    RunStopped
        The limit diverged, or ran out of particles.

    Cost: that of `simulate` at 2M and at M, and about a tenth more.
    """
    s, T = settings, settings.training.steps
    half, bare = s.particles // 2, Problem(s.problem.inputs, s.problem.targets)
    pictures = tuple(sorted({t for t in (0, 1, T // 2, T // 2 + 1) if t <= T}))  # pairs: what two updates did
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Notice)
        say(f"limit of muP: {PILOTS} pilot replicas, {half} particles")
        pilot = _limit(s, bare, half, PILOTS, 1, progress)
        say(f"limit of muP: {s.replicas} replicas of {half} particles")
        small = _limit(s, bare, half, s.replicas, 2, progress, snapshots=pictures, parts=True)
        say(f"limit of muP: {s.replicas} replicas of {s.particles} particles")
        large = _limit(s, bare, s.particles, s.replicas, 3, progress)
        say("limit of muP: its first steps against the whole past")
        short = _short(s, bare, progress)
        limits = {"mup": large} | _others(s, bare, progress, say)
        networks = _networks(s, bare, progress, say)
    notices = [str(warning.message) for warning in caught if issubclass(warning.category, Notice)]
    return Evidence(s, pilot, small, large, short, limits, networks, list(dict.fromkeys(notices)))


def _limit(
    s: Settings, problem: Problem, particles: int, replicas: int, stream: int, progress: bool | None, **more: Any
) -> xr.Dataset:
    """One run of the limit with a random stream of its own."""
    arguments: dict[str, Any] = {
        "tolerance": TOLERANCE if s.tolerance is None else s.tolerance, "sobol": s.sobol, "max_rank": s.max_rank,
        "record_every": s.record_every,
    }  # fmt: skip
    return simulate(
        problem, s.network, s.training, particles=particles, replicas=replicas, seed=_seed(s, stream),
        progress=progress, workers=min(_workers(s), replicas), **arguments | more,
    )  # fmt: skip


def _others(s: Settings, problem: Problem, progress: bool | None, say: Say) -> dict[str, xr.Dataset]:
    """The other parametrizations' limits at the first and the last step."""
    found = {}
    for stream, name in enumerate(("ip", "ntp", "sp"), start=5):
        say(f"limit of {name}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)  # zero denominators, which IP has by construction
            every = max(s.training.steps, 1)
            found[name] = _limit(
                s, problem, s.particles // 2, s.replicas, stream, progress, limit=name, record_every=every
            )
    return found


def _short(s: Settings, problem: Problem, progress: bool | None) -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
    """The first steps against the whole past: a pilot, M/2 and M particles, as many steps as M/2 have room for."""

    def run(particles: int, replicas: int, stream: int, steps: int) -> xr.Dataset:
        return families(
            problem, s.network, s.training, particles=particles, replicas=replicas, seed=_seed(s, stream), steps=steps,
            progress=progress, workers=min(_workers(s), replicas),
        )  # fmt: skip

    quarter = s.particles // 4
    small = run(quarter, s.replicas, 4, FEW_STEPS)
    steps = int(small["step"][-1])
    return run(quarter, PILOTS, 9, steps), small, run(2 * quarter, s.replicas, 10, steps)


def _networks(s: Settings, problem: Problem, progress: bool | None, say: Say) -> xr.Dataset | None:
    """Finite networks of all parametrizations, with the same constants s_l and eta_l."""
    if not s.widths:
        return None
    from finite import sweep  # torch

    say(f"networks of width {', '.join(map(str, s.widths))}: SP, NTP, IP, muP")
    with tempfile.TemporaryDirectory(prefix="tpsim-verify-") as folder:
        return sweep(
            problem, s.network, s.training, folder, widths=s.widths, seeds=s.seeds, seed=_seed(s, 8), dtype="float64",
            quantities=("kernel_h", "kernel_x", "kernel_h0", "kernel_x0", "feature_change_h", "feature_change_x"),
            record_every=max(s.training.steps, 1), workers=_workers(s), progress=progress,
        )  # fmt: skip


def _seed(s: Settings, stream: int) -> int:
    """A seed of its own for each run: runs of equal seeds and other M share tiles of random numbers."""
    return int(np.random.SeedSequence([s.seed, stream]).generate_state(1)[0])


def _workers(s: Settings) -> int:
    return s.workers or joblib.cpu_count()
