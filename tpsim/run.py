"""The run: problem, network and training in, labelled trajectory out."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import joblib
import numba
import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from .checkpoint import SECONDS, Keeper, Pause, Remark, kept, with_checkpoints
from .core import GUARDS, MaxRank, Noise, SpaceFull, counting
from .errors import Diverged, Notice, RankError
from .goal import prepare_goal
from .mlp import Fields, backward, forward, update
from .parametrization import MUP, TABLE_2
from .probes import replay
from .problem import Network, Problem, Training
from .progress import Bar, Progress, Relay
from .results import assemble
from .signals import block_signals, interrupts_deferred
from .task import Task

Array = np.ndarray

LARGEST = 1e150  # of what is recorded: below it sums over samples and the squares in standard errors cannot overflow
DIVERGED = 1e6  # |f| past this times max(1, max |y|) is three to five steps from overflow, and never comes back


@dataclass
class Replica:
    """What one independent run leaves: arrays by name, the number of finished steps, and why it stopped early."""

    arrays: dict[str, Array]
    finished: int
    stopped: str | None = None
    kind: type[Diverged] | type[RankError] | None = None
    notices: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # notices that are no part of the result


def simulate(
    problem: Problem,
    network: Network,
    training: Training,
    particles: int | None = None,
    replicas: int | None = None,
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
    limit: str = "mup",
    dtype: str = "float64",
    target_error: float | None = None,
    max_seconds: float | None = None,
    max_bytes: int | None = None,
    quantities: Sequence[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = SECONDS,
    resume: bool = False,
) -> xr.Dataset:
    """Simulate the infinite-width limit of training `network` on `problem`: that of muP unless `limit` says otherwise.

    Parameters
    ----------
    problem, network, training
        See `Problem`, `Network`, `Training`.
    particles : int, optional
        M, the size of the sample that stands for each random variable. Default: 4096.
    replicas : int, optional
        R independent runs; every standard error comes from them. Default: 8.
    noise : "matched" (every second moment that the limit fixes is exact), "iid" (the literal method), or "width" (an
        exact-in-law simulation of a finite network of width M without its matrices).
    sobol : bool, optional
        Scrambled Sobol points under the first draws (`matched` only). Default: on there.
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
        Threads of each process. Default: the cores divided by `workers`, with at least 8192 particles each. On a
        machine with idle cores the environment variable OMP_WAIT_POLICY=ACTIVE makes more of them.
    limit : "mup", "ip", "ntp" or "sp"
        Whose limit (Table 2). `ip` is the same recursion from hidden matrices that are zero. In `ntp` and `sp` features
        do not move: each replica is a draw of f_0, see `tpsim.lazy`. With noise="width": the network of width M in
        this parametrization.
    dtype : "float64" or "float32"
        How arrays over particles that are kept are stored, and multiplied; sums over particles are in double precision
        from one block of 128 to the next. float32 needs half the memory and less time. It changes f by its rounding,
        about 1e-7, and more where a direction then falls on the other side of the tolerance, both far below the
        standard error (`tests/test_kernels.py`); its smallest tolerance is 1e-5.
    target_error : float, optional
        Choose particles, replicas and tolerance, those of them that are not given, so that the error of f, and of
        f_probe, is at most this in root mean square over recorded steps and samples: standard error, bias in M and
        truncation together, see docs/accuracy.md. The attributes `error`, `accuracy` and `why` say what was reached,
        how, and why. Not where f is random (noise="width", limits "ntp" and "sp").
    quantities : names out of `tpsim.record.QUANTITIES`, optional
        What is recorded besides f, chi, loss, batch, ranks and dropped energies; all of it by default. Without kernels
        and changes of features a step takes less time.
    max_seconds, max_bytes : optional, with target_error
        The budget: wall-clock seconds of all stages together (default: 600), and the memory of each (default: 0.8 of
        what is free). Where it is predicted not to suffice the best run that it allows is returned, with a `Notice`.
    checkpoint : path, optional
        A folder in which the run keeps what it has reached, every `checkpoint_seconds` and at the end. SIGTERM and
        SIGINT then finish the step, write a checkpoint and raise `Interrupted`. See docs/reliability.md.
    resume : bool
        Go on from the checkpoints of the same run, where there are some: the result is bit-identical to that of a run
        that nobody has disturbed. `workers`, `threads`, `steps` and `replicas` may be others.

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
    CheckpointError
        No checkpoint can be used, or they are those of another run.
    Interrupted
        A signal has ended a run with checkpoints.

    Source: Chen et al. 2025, Appendix B, corrected (docs/algorithm.md).
    Error: spread of f over replicas about M^-0.6 to M^-0.8 with Sobol points, M^-0.5 without; bias O(1/M), measured in
    docs/particle_bias.md; both zero for the identity activation.
    Cost: O(M r m) a step for basis size r, which saturates; memory 3 (p + q) arrays of M particles a hidden matrix.
    """
    task = prepare_goal(
        problem, network, training, particles=particles, replicas=replicas, noise=noise, sobol=sobol,
        tolerance=tolerance, seed=seed, record_every=record_every, workers=workers, probe_every=probe_every,
        joint_every=joint_every, snapshots=snapshots, parts=parts, max_rank=max_rank, threads=threads,
        limit=limit, dtype=dtype, target_error=target_error, max_seconds=max_seconds, max_bytes=max_bytes,
        quantities=quantities,
    )  # fmt: skip
    return execute(with_checkpoints(task, checkpoint, checkpoint_seconds, resume), progress)


def execute(task: Task, progress: Progress = None) -> xr.Dataset:
    """Run all replicas of a checked task; see `simulate`."""
    if task.lazy:
        from . import lazy

        return lazy.execute(task, progress)
    if task.goal is not None:
        from . import accuracy

        return accuracy.execute(task, progress)
    with kept(task) as task, Bar(progress, task.replicas, task.training.steps + 1) as bar:
        results = run_all(task, bar)
    return finish(task, results)


@np.errstate(over="ignore", invalid="ignore")  # divergence is looked for at every step
def run_replica(
    task: Task,
    replica: int,
    report: Callable[[int, float], None] = lambda step, loss: None,
    notices: list[str] | None = None,
) -> Replica:
    """One independent run of the limit: the algorithm. `notices` are those given so far, which the caller collects."""
    problem, schedule = task.problem, task.schedule
    network, training = task.engine
    everyone = np.arange(problem.samples)
    keeper = Keeper(task, replica, notices)
    first, state, recorder = keeper.begin()
    step = first
    stopped: str | None = None
    kind: type[Diverged] | type[RankError] | None = None
    try:
        for step, batch in enumerate(task.batches(first), first):
            keeper.turn(step, state, recorder)
            samples = everyone if schedule.full(step) else batch
            whole = schedule.moments(step)
            fields = forward(state, step, samples, schedule.parts and step in schedule.snapshot, whole)
            if not (reason := _diverged(fields, problem.targets)):
                backward(state, fields, schedule.parts and step in schedule.snapshot, whole)
                loss, gradient = training.evaluate(fields.f, problem.targets[samples])
                reason = _too_large(fields.kernel_dh, "dh") or loss_too_large(loss, gradient)
            if reason:
                stopped, kind = f"{reason} at step {step}", Diverged
                break
            recorder.observe(state, fields, gradient, loss, batch)
            report(step, float(loss))
            if batch.size:
                chi = error_signal(training, fields.f, problem.targets[samples], np.isin(samples, batch))
                update(state, fields, chi, training.rates(step, network.depth))
        else:
            step += 1
    except (SpaceFull, MaxRank) as error:
        stopped, kind = f"{error} (at step {step})", RankError
    undefined = []
    if recorder.undefined:
        undefined = [f"undefined ratios (zero denominators) are NaN in: {', '.join(sorted(recorder.undefined))}"]
    arrays = _normalise(task, recorder.arrays)
    if problem.probes is not None and recorder.frames:
        seen = replay(state, recorder.frames, problem.probes, keeper.look)
        arrays["f_probe"] = np.full((len(schedule.probe), len(problem.probes)), np.nan)  # one shape, however far it got
        arrays["f_probe"][: len(seen)] = seen
        if not (good := (np.abs(seen) <= LARGEST).all(axis=1)).all():
            step, kind = recorder.frames[int(np.argmin(good))].step, Diverged  # before training itself had to stop
            stopped = f"diverged: f on the probes {_excess(np.abs(seen).max())} at step {step}"
    return Replica(arrays, step, stopped, kind, undefined, keeper.remarks)


def _normalise(task: Task, arrays: dict[str, Array]) -> dict[str, Array]:
    """Turn n df/dh, of which the engine speaks, into the dh of size one of a network of width M in SP or NTP."""
    row, n = TABLE_2[task.limit], task.settings.particles
    factor = row.gradient_scale(n) / MUP.gradient_scale(n)
    for name, power in (("kernel_dh", 2), ("Z_dh", 1), ("Z_dx_parts", 1)):
        if name in arrays and factor != 1.0:
            arrays[name] *= factor**power
    return arrays


def error_signal(training: Training, f: Array, y: Array, in_batch: Array) -> Array:
    """chi_{t,i} = L'(f_t, y_i) 1{i in B_t}   (App. B, item 8); `mean` divides by the batch's size."""
    chi = training.criterion.derivative(f, y) * in_batch
    return chi / in_batch.sum() if training.reduction == "mean" else chi


def _diverged(fields: Fields, targets: Array) -> str | None:
    """Say what is not finite, or too large, in f or in the second moments of a layer."""
    f, limit = fields.f, DIVERGED * max(1.0, float(np.abs(targets).max()))
    if reason := _too_large(fields.kernel_h, "h") or _too_large(fields.kernel_x, "x"):
        return reason
    if not np.isfinite(f).all():
        return "diverged: f is not finite"
    if np.abs(f).max() > limit:
        return f"diverged: |f| = {np.abs(f).max():.3g} exceeds {limit:.3g}; a smaller learning rate is needed,"
    return None


def _too_large(kernels: dict[int, Array], name: str) -> str | None:
    for l, kernel in sorted(kernels.items()):
        if not (largest := np.diag(kernel).max()) <= LARGEST:  # NaN, too
            return f"diverged: E[(Z^{name})^2] of layer {l} {_excess(largest)}"
    return None


def loss_too_large(loss: float, gradient: Array) -> str | None:
    """Say whether the loss, or its derivative, is not finite or too large to be recorded."""
    largest = np.abs([loss, *gradient]).max()
    if not largest <= LARGEST:
        return "diverged: the loss or its derivative " + _excess(largest)
    return None


def _excess(value: float) -> str:
    return f"exceeds {LARGEST:g}" if np.isfinite(value) else "is not finite"


def run_quietly(task: Task, replica: int, report: Callable[[int, float], None]) -> Replica:
    """`run_replica` with the task's threads, its notices collected instead of given, and its guards counted."""
    with quietly(task) as notices, counting() as guards:
        result = run_replica(task, replica, report, notices)
    result.notices += notices
    result.arrays["guards"] = np.array([guards[name] for name in GUARDS])
    return result


@contextmanager
def quietly(task: Task) -> Iterator[list[str]]:
    """The task's threads, and one for BLAS; yields the list that gets the notices of the block."""
    before, notices = numba.get_num_threads(), list[str]()
    numba.set_num_threads(task.threads)
    try:
        with threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
            shown = warnings.showwarning

            def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
                if issubclass(category, Notice) and not issubclass(category, Remark):
                    notices.append(str(message))
                else:
                    shown(message, category, *place, **more)

            warnings.simplefilter("always", Notice)
            warnings.showwarning = show
            yield notices
    finally:
        numba.set_num_threads(before)


def run_all(task: Task, bar: Bar, first: int = 0) -> list[Replica]:
    """Run replicas first..R-1 here or in worker processes; the order of the results is that of the replicas.

    Raises
    ------
    Pause
        A stop was requested; every process has written its checkpoint.
    """
    replicas = range(first, task.replicas)
    if task.workers == 1:
        return [run_quietly(task, r, functools.partial(bar.step, r)) for r in replicas]
    threads = joblib.parallel_config(backend="loky", inner_max_num_threads=task.threads)
    with threads, Relay(bar) as relay:
        jobs = (joblib.delayed(run_in_worker)(task, r, relay.log(r)) for r in replicas)
        with interrupts_deferred():
            results = joblib.Parallel(n_jobs=task.workers, return_as="generator")(jobs)  # starts the processes
        return _arrived(list(results))


def _arrived(results: list[Replica | Pause]) -> list[Replica]:
    """Say what the workers had to say, and stop if they did."""
    pauses = [result for result in results if isinstance(result, Pause)]
    replicas = [result for result in results if isinstance(result, Replica)]
    for remark in (remark for replica in replicas for remark in replica.remarks):
        warnings.warn(remark, Remark, stacklevel=5)
    if pauses:
        raise next((pause for pause in pauses if pause.error is not None), pauses[0])
    return replicas


def run_in_worker(task: Task, replica: int, report: Callable[[int, float], None]) -> Replica | Pause:
    """`run_quietly` in a process that leaves signals to the one that has started it.

    A `Pause` is returned: raised, it would end the other processes in the middle of what they write.
    """
    if task.checkpoint is not None:
        block_signals()
    try:
        return run_quietly(task, replica, report)
    except Pause as pause:
        return pause


def finish(task: Task, results: list[Replica]) -> xr.Dataset:
    """Assemble the dataset, give the notices, and raise if a replica had to stop."""
    finished = min(result.finished for result in results)
    notices = list(dict.fromkeys(task.notices + [notice for result in results for notice in result.notices]))
    run = assemble(task, [result.arrays for result in results], finished, notices)
    for notice in notices:
        warnings.warn(notice, Notice, stacklevel=4)
    for index, result in enumerate(results):
        if result.kind is not None and result.finished == finished:
            raise result.kind(f"replica {index}: {result.stopped}", finished, run)
    assert run is not None
    return run
