"""A checked run: every argument of `simulate` resolved, nothing computed yet."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import joblib
import numba
import numpy as np

from .assumption import check_assumption
from .core import TILE, Noise, check_noise
from .errors import InputError, ResourceError
from .losses import LOSSES
from .mlp import Settings
from .parametrization import TABLE_2, as_mup
from .plan import available_bytes, check_memory, check_records, most_workers
from .problem import Network, Problem, Training, positive_int
from .record import JOINT, QUANTITIES, Schedule

if TYPE_CHECKING:
    from .checkpoint import Checkpoints
    from .goal import Goal

Array = np.ndarray

PARTICLES, REPLICAS = 4096, 8  # where neither they nor a target are given
DEFAULT_TOLERANCE = {"matched": 3e-3, "width": 1e-10}
SMALLEST_TOLERANCE = {"float64": 0.0, "float32": 1e-5}  # residuals of stored arrays are known to 1e-7 in float32
RATE_BYTES = 100  # of a number in a list and in JSON
TILES_PER_THREAD = 8  # with fewer, waking a sleeping thread costs more than it saves
JOINT_SAMPLES = 64  # with more samples the joint kernels are recorded about ten times only


@dataclass(frozen=True)
class Task:
    """Everything that a run needs; travels to worker processes.

    Parameters
    ----------
    problem, network, training : what the user gave.
    settings, schedule : how the limit is simulated, and which steps leave what.
    limit : the parametrization whose limit, or whose network of width M, is simulated.
    replicas, workers, threads : independent runs, processes that share them, threads of each.
    notices : what the user should know of the data.
    goal : the target for the error of f, of which the task is the first stage; None where all is given.
    checkpoint : where the run keeps what it has reached; None where it does not.
    """

    problem: Problem
    network: Network
    training: Training
    settings: Settings
    schedule: Schedule
    replicas: int = 1
    workers: int = 1
    threads: int = 1
    notices: list[str] = field(default_factory=list)
    limit: str = "mup"
    goal: Goal | None = None
    checkpoint: Checkpoints | None = None

    @property
    def lazy(self) -> bool:
        """Whether features do not move: the limits of NTP and SP, which `tpsim.lazy` knows."""
        return self.limit in ("ntp", "sp") and self.settings.noise != "width"

    @property
    def engine(self) -> tuple[Network, Training]:
        """The network and training in muP form: at width M in `width` mode, in the limit otherwise."""
        width = self.settings.particles if self.settings.noise == "width" else math.inf
        return as_mup(self.limit, self.network, self.training, width)

    def batches(self, first: int = 0) -> Iterator[Array]:
        """Yield B_first .. B_{T-1}, and an empty one for the last step, which makes no update."""
        yield from itertools.islice(self.training.batch_indices(self.problem.samples), first, None)
        yield np.empty(0, dtype=int)


def prepare(
    problem: Problem,
    network: Network,
    training: Training,
    *,
    particles: int | None,
    replicas: int | None,
    noise: Noise,
    sobol: bool | None,
    tolerance: float | None,
    seed: int,
    record_every: int,
    workers: int | None,
    probe_every: int | None,
    joint_every: int | None,
    snapshots: Sequence[int],
    parts: bool,
    max_rank: int | None,
    threads: int | None,
    limit: str,
    dtype: str,
    quantities: Sequence[str] | None = None,
) -> Task:
    """Check every argument of `simulate`, all of them given, and resolve what is None.

    workers=None takes as many processes as there are cores, replicas, and room for.

    Raises
    ------
    InputError
        Names the argument, its value and what is allowed.
    ResourceError
        The lower bound of the memory does not fit, or step 0 alone would fill a space.
    """
    check_arguments(problem, network, training)
    settings = resolve_settings(particles, noise, sobol, tolerance, seed, max_rank, dtype)
    check_limit(limit, parts, noise)
    replicas = REPLICAS if replicas is None else positive_int("replicas", replicas)
    check_records(problem, network, training, positive_int("record_every", record_every), replicas)
    schedule = schedule_of(problem, training, record_every, probe_every, joint_every, snapshots, parts)
    schedule = choose(schedule, quantities)
    _check_room(problem, training, settings)
    task = Task(problem, network, training, settings, schedule, replicas, limit=limit)
    if workers is None:
        workers = most_workers(task, min(replicas, joblib.cpu_count()))
    workers = min(positive_int("workers", workers), replicas)
    threads = threads_of(threads, workers, settings.particles)
    task = replace(task, workers=workers, threads=threads)
    check_memory(task)
    return replace(task, notices=_data_notices(problem) + slope_notices(network, training))


def resolve_settings(
    particles: int | None, noise: Noise, sobol: bool | None, tolerance: float | None, seed: int, max_rank: int | None,
    dtype: str,
) -> Settings:  # fmt: skip
    """Check how the limit is to be simulated, and resolve what is None."""
    particles = PARTICLES if particles is None else positive_int("particles", particles, 2)
    positive_int("seed", seed, 0)
    check_noise(noise)
    if sobol is None:
        sobol = noise == "matched"
    if not isinstance(sobol, bool | np.bool_):
        raise InputError("sobol", sobol, "True, False or None")
    check_noise(noise, bool(sobol))
    if not isinstance(dtype, str) or dtype not in SMALLEST_TOLERANCE:
        raise InputError("dtype", dtype, "'float64' or 'float32'")
    if tolerance is None:
        tolerance = default_tolerance(noise, particles, dtype)
    elif isinstance(tolerance, bool) or not isinstance(tolerance, int | float | np.number) or not 0 < tolerance < 1:
        raise InputError("tolerance", tolerance, "a number between 0 and 1, exclusive")
    if max_rank is not None:
        positive_int("max_rank", max_rank)
    if tolerance < SMALLEST_TOLERANCE[dtype]:
        raise InputError("tolerance", tolerance, f"at least {SMALLEST_TOLERANCE[dtype]} with dtype={dtype!r}")
    return Settings(int(particles), noise, bool(sobol), float(tolerance), int(seed), max_rank, dtype)


def default_tolerance(noise: Noise, particles: int, dtype: str = "float64") -> float:
    """Of `iid`, whose spurious correlations are of size 1 / sqrt(M), it depends on M."""
    tolerance = float(min(3.0 / np.sqrt(particles), 0.5)) if noise == "iid" else DEFAULT_TOLERANCE[noise]
    return max(tolerance, SMALLEST_TOLERANCE[dtype])


def schedule_of(
    problem: Problem, training: Training, record_every: int, probe_every: int | None, joint_every: int | None,
    snapshots: Sequence[int], parts: bool = False,
) -> Schedule:  # fmt: skip
    """Check the intervals of recording, resolve those that are None, and return the steps (see `simulate`)."""
    T = training.steps

    def every(name: str, interval: int) -> tuple[int, ...]:
        return tuple(sorted({*range(0, T + 1, positive_int(name, interval)), T}))

    record = every("record_every", record_every)
    if joint_every is None:
        joint_every = record_every if problem.samples <= JOINT_SAMPLES else max(record_every, -(-T // 10))
    probe = () if problem.probes is None else every("probe_every", record_every if probe_every is None else probe_every)
    if not isinstance(snapshots, Sequence | np.ndarray) or isinstance(snapshots, str):
        raise InputError("snapshots", snapshots, "a list of steps")
    for step in snapshots:
        if positive_int("snapshots", step, 0) > T:
            raise InputError("snapshots", step, f"steps 0..{T}")
    return Schedule(record, every("joint_every", joint_every), probe, tuple(sorted(set(snapshots))), parts)


def choose(schedule: Schedule, quantities: Sequence[str] | None) -> Schedule:
    """Check the names of what is to be recorded, and leave out the steps that nothing of it needs."""
    if quantities is None:
        return schedule
    if not isinstance(quantities, Sequence | set | frozenset) or isinstance(quantities, str):
        raise InputError("quantities", quantities, "None, or a list of names")
    for name in quantities:
        if name not in QUANTITIES:
            raise InputError("quantities", name, f"names out of {', '.join(QUANTITIES)}")
    schedule = replace(schedule, quantities=tuple(name for name in QUANTITIES if name in quantities))
    joint, probe = schedule.wants(*JOINT), schedule.wants("f_probe")
    return replace(schedule, joint=schedule.joint if joint else (), probe=schedule.probe if probe else ())


def check_limit(limit: str, parts: bool, noise: Noise) -> None:
    """Refuse a limit that is not known, and parts of fields that have none."""
    if not isinstance(limit, str) or limit not in TABLE_2:
        raise InputError("limit", limit, f"one of {', '.join(TABLE_2)}")
    if limit in ("ntp", "sp") and noise != "width" and parts:
        raise InputError("parts", parts, f"False with limit={limit!r}: its features do not move, so they have one part")


def check_arguments(problem: Problem, network: Network, training: Training) -> None:
    """Refuse arguments of other types, bad batches, rates and targets before any work is done."""
    for value, kind in ((problem, Problem), (network, Network), (training, Training)):
        if not isinstance(value, kind):
            raise InputError(kind.__name__.lower(), value, f"a tpsim.{kind.__name__}")
    listed = training.batches is not None and not isinstance(training.batches, dict)
    for _ in itertools.islice(training.batch_indices(problem.samples), None if listed else 1):
        pass
    _check_rates(network, training)
    signs = np.isin(problem.targets, (-1.0, 1.0))
    if training.criterion.name == "logistic" and not signs.all():
        raise InputError("targets", float(problem.targets[~signs][0]), "-1 or +1 with the logistic loss")


def _check_rates(network: Network, training: Training) -> None:
    """Ask a rate that is a function for all steps, whose values are kept with the run."""
    steps = training.steps if callable(training.learning_rate) else 1
    if RATE_BYTES * steps * (network.depth + 1) > available_bytes():
        raise ResourceError(f"steps={steps}: the learning rates of all steps, which are kept, do not fit into memory")
    for step in range(steps):
        training.rates(step, network.depth)


def _check_room(problem: Problem, training: Training, settings: Settings) -> None:
    """Refuse a space that step 0 alone would fill: the constant, and one draw and one image of each input direction."""
    least = 1 + 2 * min(problem.inputs.shape)
    if settings.noise != "width" and settings.particles <= least:
        m = problem.samples
        enough = 4 * m * (training.steps + 1) + 2 * m + 3  # U, V, X, D of every step, W^1, x^L_0, What_0, the constant
        raise ResourceError(
            f"particles={settings.particles} is too small: step 0 alone needs about {least} arrays in one space, and "
            f"there must be fewer arrays than particles; particles={enough} is sufficient whatever the ranks become"
        )


def threads_of(threads: int | None, workers: int, particles: int) -> int:
    """Check the threads of each process, or resolve None."""
    available = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    if threads is None:
        return max(1, min(available, joblib.cpu_count() // workers, particles // (TILES_PER_THREAD * TILE)))
    if positive_int("threads", threads) > available:
        raise InputError("threads", threads, f"at most NUMBA_NUM_THREADS = {available}")
    return threads


def _data_notices(problem: Problem) -> list[str]:
    report = check_assumption(problem.inputs)
    if report.holds_needed:
        return []
    return [
        f"Assumption 4.1, in the form that the proof of Theorem 4.5 needs, fails on these inputs "
        f"({report.needed_violations} violations): features may be linearly dependent"
    ]


def slope_notices(network: Network, training: Training) -> list[str]:
    """Say where a user's derivative is not that of the function, at more than a tenth of some points."""
    x, step = np.linspace(-1.5, 1.5, 61) + 0.013, 1e-5
    pairs = {} if network.phi.builtin else {"the activation's": (network.phi.phi, network.phi.dphi)}
    if training.criterion.name not in LOSSES:
        value, derivative = training.criterion.value, training.criterion.derivative
        y = np.where(np.arange(x.size) % 2, -1.0, 1.0)
        pairs["the loss's"] = (lambda f: value(f, y), lambda f: derivative(f, y))
    notices = []
    for whose, (function, slope) in pairs.items():
        expected = (function(x + step) - function(x - step)) / (2 * step)
        wrong = np.abs(slope(x) - expected) > 1e-3 * (1.0 + np.abs(expected))
        if wrong.mean() > 0.1:
            where = f"for instance at {x[wrong][0]:.3g}"
            notices.append(f"{whose} derivative is not the derivative of its function ({where})")
    return notices
