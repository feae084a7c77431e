"""The run: problem, network and training in, labelled trajectory out."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import joblib
import numba
import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from .assumption import check_assumption
from .core import TILE, MaxRank, Noise, SpaceFull, check_noise
from .errors import Diverged, InputError, Notice, RankError, ResourceError
from .mlp import Settings, State, backward, forward, update
from .plan import check_memory
from .probes import replay
from .problem import Network, Problem, Training, positive_int
from .progress import Bar, Progress, Relay
from .record import Recorder, Schedule
from .results import assemble

Array = np.ndarray

DIVERGED = 1e6  # |f| past this times max(1, max |y|) is three to five steps from overflow, and never comes back
DEFAULT_TOLERANCE = {"matched": 3e-3, "width": 1e-10}
JOINT_SAMPLES = 64  # with more samples the joint kernels are recorded about ten times only


@dataclass
class Replica:
    """What one independent run leaves: arrays by name, the number of finished steps, and why it stopped early."""

    arrays: dict[str, Array]
    finished: int
    stopped: str | None = None
    kind: type[Diverged] | type[RankError] | None = None
    notices: list[str] = field(default_factory=list)


def simulate(
    problem: Problem,
    network: Network,
    training: Training,
    particles: int = 4096,
    replicas: int = 8,
    noise: Noise = "matched",
    sobol: bool | None = None,
    tolerance: float | None = None,
    seed: int = 0,
    record_every: int = 1,
    progress: Progress = None,
    workers: int = 1,
    *,
    probe_every: int | None = None,
    joint_every: int | None = None,
    snapshots: Sequence[int] = (),
    parts: bool = False,
    max_rank: int | None = None,
    threads: int | None = None,
) -> xr.Dataset:
    """Simulate the infinite-width muP limit of training `network` on `problem`.

    Parameters
    ----------
    problem, network, training
        See `Problem`, `Network`, `Training`.
    particles : int
        M, the size of the sample that stands for each random variable.
    replicas : int
        R independent runs; every standard error comes from them.
    noise : "matched" (every second moment that the limit fixes is exact), "iid" (the literal method), or "width" (an
        exact-in-law simulation of a finite network of width M without its matrices).
    sobol : bool, optional
        Scrambled Sobol points under the first draws. Default: on for `matched` when M is a power of two.
    tolerance : float, optional
        Relative residual below which an array is taken to lie in its basis. Default 3e-3 (`matched`), 1e-10 (`width`),
        3 / sqrt(M) (`iid`, whose spurious correlations are of that size). Errors are O(tolerance^2) in f.
    seed : int
        Same seed, configuration, versions and CPU type: bit-identical results for any `threads` and `workers`.
    record_every, probe_every, joint_every : int, optional
        Intervals of recording: kernels and f; f on the probes; joint kernels with the initial features. The first and
        the last step are always recorded. `probe_every` defaults to `record_every`, as does `joint_every` up to 64
        samples. With minibatches, a recorded step evaluates all samples, another one its batch only.
    progress : bool, callable or None
        None shows a bar on a terminal; a callable receives (step, replica, loss), with workers > 1 in another thread.
    workers : int
        Processes among which replicas are shared.
    snapshots : steps at which Z_h, Z_x, Z_dh are kept particle by particle.
    parts : with snapshots, also keep Zhat, Zdot and history of Z^h and Z^dx apart.
    max_rank : int, optional
        Cap on the basis of either side of every hidden matrix.
    threads : int, optional
        Threads of each process. Default: the cores divided by `workers`.

    Returns
    -------
    xarray.Dataset
        Dimensions replica, step, layer, sample, ...; see docs/notation.md for every variable.

    Raises
    ------
    InputError
        A parameter out of range.
    ResourceError
        The lower bound of the memory does not fit, or more arrays than particles at step 0.
    Diverged, RankError
        The run had to stop; its finished steps are in the exception's `run`.

    Source: Chen et al. 2025, Appendix B, corrected (docs/algorithm.md).
    Error: spread of f over replicas M^-0.65..-0.9 with Sobol points, bias O(1/M); zero for the identity activation.
    Cost: O(M r m) a step for basis size r, which saturates; memory 3 M r arrays a hidden matrix.
    """
    for value, kind in ((problem, Problem), (network, Network), (training, Training)):
        if not isinstance(value, kind):
            raise InputError(kind.__name__.lower(), value, f"a tpsim.{kind.__name__}")
    settings = _settings(network, particles, noise, sobol, tolerance, seed, max_rank)
    positive_int("replicas", replicas)
    positive_int("workers", workers)
    schedule = _schedule(problem, training, record_every, probe_every, joint_every, snapshots, parts)
    batches = list(training.batch_indices(problem.samples))
    for step in range(training.steps if callable(training.learning_rate) else 1):
        training.rates(step, network.depth)  # refuse a bad schedule before any work is done
    _check_targets(problem, training)
    threads = _threads(threads, workers, particles)
    _check_room(problem, training, settings)
    check_memory(problem, network, settings, schedule, replicas, workers)
    notices = _data_notices(problem)

    run_one = _Runner(problem, network, training, settings, schedule, batches, threads)
    results = _run_all(run_one, replicas, workers, progress, training.steps)
    return _finish(problem, network, training, settings, schedule, results, notices)


def run_replica(
    problem: Problem,
    network: Network,
    training: Training,
    settings: Settings,
    schedule: Schedule,
    batches: list[Array],
    replica: int,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> Replica:
    """One independent run of the limit: the algorithm."""
    everyone = np.arange(problem.samples)
    recorder = Recorder(schedule, network.depth, problem.samples, settings.particles)
    state = State(network, problem.inputs, settings, replica)
    step = 0
    stopped: str | None = None
    kind: type[Diverged] | type[RankError] | None = None
    try:
        for step in range(training.steps + 1):
            last = step == training.steps
            batch = np.empty(0, dtype=int) if last else batches[step]
            samples = everyone if schedule.full(step) else batch
            fields = forward(state, step, samples, schedule.parts and step in schedule.snapshot)
            if reason := _diverged(fields.f, problem.targets):
                stopped, kind = f"{reason} at step {step}", Diverged
                break
            backward(state, fields, schedule.parts and step in schedule.snapshot)
            loss, gradient = _loss(training, fields.f, problem.targets[samples])
            recorder.observe(state, fields, gradient, loss, batch)
            report(step, loss)
            if not last:
                chi = error_signal(training, fields.f, problem.targets[samples], np.isin(samples, batch))
                update(state, fields, chi, training.rates(step, network.depth))
        else:
            step += 1
    except (SpaceFull, MaxRank) as error:
        stopped, kind = f"{error} (at step {step})", RankError
    notices = []
    if recorder.undefined:
        notices = [f"undefined ratios (zero denominators) are NaN in: {', '.join(sorted(recorder.undefined))}"]
    arrays = recorder.arrays
    if problem.probes is not None and recorder.frames:
        arrays["f_probe"] = replay(state, recorder.frames, problem.probes)
    return Replica(arrays, step, stopped, kind, notices)


def error_signal(training: Training, f: Array, y: Array, in_batch: Array) -> Array:
    """chi_{t,i} = L'(f_t, y_i) 1{i in B_t}   (App. B, item 8); `mean` divides by the batch's size."""
    chi = training.criterion.derivative(f, y) * in_batch
    return chi / in_batch.sum() if training.reduction == "mean" else chi


def _loss(training: Training, f: Array, y: Array) -> tuple[float, Array]:
    """Loss over the evaluated samples and its gradient in f."""
    value, gradient = training.criterion.value(f, y), training.criterion.derivative(f, y)
    if training.reduction == "mean":
        return float(np.mean(value)), gradient / len(f)
    return float(np.sum(value)), gradient


def _diverged(f: Array, targets: Array) -> str | None:
    limit = DIVERGED * max(1.0, float(np.abs(targets).max()))
    if not np.isfinite(f).all():
        return "diverged: f is not finite"
    if np.abs(f).max() > limit:
        return f"diverged: |f| = {np.abs(f).max():.3g} exceeds {limit:.3g}; a smaller learning rate is needed,"
    return None


@dataclass(frozen=True)
class _Runner:
    """`run_replica` with everything but the replica filled in; travels to worker processes."""

    problem: Problem
    network: Network
    training: Training
    settings: Settings
    schedule: Schedule
    batches: list[Array]
    threads: int

    def __call__(self, replica: int, report: Callable[[int, float], None] = lambda step, loss: None) -> Replica:
        before = numba.get_num_threads()
        numba.set_num_threads(self.threads)
        try:
            with threadpool_limits(1, user_api="blas"), warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", Notice)
                arguments = (self.problem, self.network, self.training, self.settings, self.schedule, self.batches)
                result = run_replica(*arguments, replica, report)
        finally:
            numba.set_num_threads(before)
        for warning in caught:
            if issubclass(warning.category, Notice):
                result.notices.append(str(warning.message))
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        return result


def _run_all(run_one: _Runner, replicas: int, workers: int, progress: Progress, steps: int) -> list[Replica]:
    """Run replicas 0..R-1 here or in worker processes; the order of the results is that of the replicas."""
    with Bar(progress, replicas, steps + 1) as bar:
        if workers == 1:
            return [run_one(r, functools.partial(bar.step, r)) for r in range(replicas)]
        threads = joblib.parallel_config(backend="loky", inner_max_num_threads=run_one.threads)
        with threads, Relay(bar) as relay:
            return joblib.Parallel(n_jobs=workers)(joblib.delayed(run_one)(r, relay.log(r)) for r in range(replicas))


def _settings(
    network: Network, particles: int, noise: Noise, sobol: bool | None, tolerance: float | None, seed: int,
    max_rank: int | None,
) -> Settings:  # fmt: skip
    positive_int("particles", particles, 2)
    positive_int("seed", seed, 0)
    check_noise(noise, False, particles)
    if sobol is None:
        sobol = noise == "matched" and particles & (particles - 1) == 0
    if not isinstance(sobol, bool | np.bool_):
        raise InputError("sobol", sobol, "True, False or None")
    check_noise(noise, bool(sobol), particles)
    if tolerance is None:
        tolerance = DEFAULT_TOLERANCE.get(noise, min(3.0 / np.sqrt(particles), 0.5))
    elif isinstance(tolerance, bool) or not isinstance(tolerance, int | float | np.number) or not 0 < tolerance < 1:
        raise InputError("tolerance", tolerance, "a number between 0 and 1, exclusive")
    if max_rank is not None:
        positive_int("max_rank", max_rank)
    return Settings(int(particles), noise, bool(sobol), float(tolerance), int(seed), max_rank)


def _schedule(
    problem: Problem, training: Training, record_every: int, probe_every: int | None, joint_every: int | None,
    snapshots: Sequence[int], parts: bool,
) -> Schedule:  # fmt: skip
    T = training.steps

    def every(name: str, interval: int) -> tuple[int, ...]:
        return tuple(sorted({*range(0, T + 1, positive_int(name, interval)), T}))

    record = every("record_every", record_every)
    if joint_every is None:
        joint_every = record_every if problem.samples <= JOINT_SAMPLES else max(record_every, -(-T // 10))
    probe = () if problem.probes is None else every("probe_every", record_every if probe_every is None else probe_every)
    for step in snapshots:
        if positive_int("snapshots", step, 0) > T:
            raise InputError("snapshots", step, f"steps 0..{T}")
    return Schedule(record, every("joint_every", max(joint_every, 1)), probe, tuple(sorted(set(snapshots))), parts)


def _check_targets(problem: Problem, training: Training) -> None:
    if training.criterion.name == "logistic" and not np.isin(problem.targets, (-1.0, 1.0)).all():
        wrong = problem.targets[~np.isin(problem.targets, (-1.0, 1.0))][0]
        raise InputError("targets", float(wrong), "-1 or +1 with the logistic loss")


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


def _threads(threads: int | None, workers: int, particles: int) -> int:
    available = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    if threads is None:
        return max(1, min(available, joblib.cpu_count() // workers, particles // TILE))
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


def _finish(
    problem: Problem, network: Network, training: Training, settings: Settings, schedule: Schedule,
    results: list[Replica], notices: list[str],
) -> xr.Dataset:  # fmt: skip
    """Assemble the dataset, give the notices, and raise if a replica had to stop."""
    finished = min(result.finished for result in results)
    notices = list(dict.fromkeys(notices + [notice for result in results for notice in result.notices]))
    run = assemble(problem, network, training, settings, schedule, [r.arrays for r in results], finished, notices)
    for notice in [] if run is None else run.attrs["notices"].split("\n"):
        if notice:
            warnings.warn(notice, Notice, stacklevel=3)
    for index, result in enumerate(results):
        if result.kind is not None and result.finished == finished:
            raise result.kind(f"replica {index} stopped: {result.stopped}", finished, run)
    assert run is not None
    return run
