"""The limits of NTP and SP: features stay where they started, and f is a Gaussian process that a fixed kernel moves.

    f_0 ~ N(0, s_{L+1}^2 K^L),    f_{t+1} = f_t - Theta_t(., B_t) chi_t(B_t)

for samples and probes together; the kernels are those of `tpsim.tangent`. f_t is random: its law is that of wide
networks over their initial weights, and its spread vanishes neither with n nor with M. A replica is one draw of f_0,
moved by the mean of all replicas' kernel estimates. The law itself is computed apart from the draws (`tpsim.law`), and
so is the error that the kernel estimates bring into it.

Source: Jacot, Gabriel & Hongler 2018; Lee et al. 2019, Sec. 2, for steps of any size.
"""

from __future__ import annotations

import warnings

import numpy as np
import xarray as xr

from .errors import Diverged, Notice, ResourceError
from .law import descend, jackknife, law_of, moments, replica_starts
from .plan import available_bytes
from .progress import Bar, Progress
from .record import ALWAYS, QUANTITIES
from .results import attributes, label
from .run import DIVERGED, loss_too_large, quietly
from .tangent import Estimate, average, estimate, leave_out
from .task import Task

Array = np.ndarray

OF_REPLICAS = ("f", "chi", "loss", "f_probe")
_SAMPLES, _PROBES = ("step", "sample"), ("probe_step", "probe")
VARIABLES: dict[str, tuple[tuple[str, ...], str]] = {
    "nngp": (("replica", "sample", "sample2"), "covariance of f_0"),
    "nngp_probe": (("replica", "probe", "sample"), "covariance of f_0 between probes and samples"),
    "ntk": (("replica", "sample", "sample2"), "tangent kernel at the rates of step 0"),
    "ntk_probe": (("replica", "probe", "sample"), "tangent kernel between probes and samples"),
    "f_mean": (_SAMPLES, "mean of f_t over f_0"),
    "f_cov": ((*_SAMPLES, "sample2"), "covariance of f_t over f_0"),
    "f_probe_mean": (_PROBES, "mean of f_t over f_0 on the probes"),
    "f_probe_cov": ((*_PROBES, "probe2"), "covariance of f_t over f_0 on the probes"),
}
for _name, (_dims, _text) in list(VARIABLES.items())[4:]:
    VARIABLES[f"{_name}_se"] = (_dims, f"{_text}: standard error that the kernel brings")
    VARIABLES[f"{_name}_draw_se"] = (_dims, f"{_text}: standard error that the draws bring")


def execute(task: Task, progress: Progress = None) -> xr.Dataset:
    """Run a checked task of limit "ntp" or "sp"; see `tpsim.simulate`.

    Returns
    -------
    xarray.Dataset
        What `simulate` returns, without ranks and residuals, and the `VARIABLES` above. Kernels hold each replica's own
        estimate, constant in the step. Attribute `law_draws`: 0 where the law is in closed form.

    Raises
    ------
    Diverged
        |f| past `DIVERGED`; the finished steps are in the exception's `run`.
    ResourceError
        More arrays than particles in one space, or a law that does not fit into the memory.

    Error: of f and of its law, what the kernel brings, in `*_se` (NaN for one replica), and a bias O(1/M).
    Cost: per replica one step of the engine on N = m + p inputs, O(L N^2 M), one after the other (`workers` is not
    used); then O(T m (m + R) N).
    """
    _check_memory(task)
    errors = np.errstate(over="ignore", invalid="ignore")  # divergence is looked for at every step
    with Bar(progress, task.replicas, task.training.steps + 1) as bar, quietly(task) as caught, errors:
        estimates = [estimate(task, replica) for replica in range(task.replicas)]
        rows, finished, stopped = _train(task, estimates, bar)
        _add_errors(task, estimates, rows, finished)
    notices = list(dict.fromkeys(task.notices + caught))
    run = _dataset(task, estimates, rows, finished, notices) if finished else None
    for notice in notices:
        warnings.warn(notice, Notice, stacklevel=4)  # at the caller of `simulate`
    if stopped:
        raise Diverged(stopped, finished, run)
    assert run is not None
    return run


Rows = dict[str, list[Array]]  # by variable, one entry per recorded step


def _train(task: Task, estimates: list[Estimate], bar: Bar) -> tuple[Rows, int, str | None]:
    """Move the replicas, and with them the law, to the end or until something diverges.

    Returns f and chi (R, m), loss (R,), f_probe (R, p), batch (m,) and the law by recorded step, the number of finished
    steps, and why there are not more.
    """
    R, y, rows = task.replicas, task.problem.targets, Rows()
    kernel, law = average([one.kernel for one in estimates]), law_of(task)
    starts = zip(replica_starts(task, kernel), law.starts(kernel), strict=True)
    f_0, g_0 = (np.concatenate(both) for both in starts)
    for step, (batch, f, g) in enumerate(descend(task, kernel, f_0, g_0)):
        loss, chi = task.training.evaluate(f, np.broadcast_to(y, f.shape))
        if reason := _diverged(f, R, DIVERGED * max(1.0, float(np.abs(y).max()))) or _too_large(loss, chi, R):
            return rows, step, f"{reason} at step {step}"
        in_batch = np.isin(np.arange(len(y)), batch) * 1.0
        row = {"f": f[:R], "chi": chi[:R], "loss": loss[:R], "batch": in_batch}
        if step in task.schedule.record:
            _append(rows, row)
        if step in task.schedule.probe:
            _append(rows, {"f_probe": g[:R]})
        _append(rows, moments(task, law, kernel, step, f[R:], g[R:]))
        for replica in range(R):
            bar.step(replica, step, float(row["loss"][replica]))
    return rows, step + 1, None


def _diverged(f: Array, replicas: int, allowed: float) -> str | None:
    sizes = np.abs(f).max(axis=1)
    worst = int(np.argmax(sizes))
    if sizes[worst] <= allowed:
        return None
    size = f"|f| = {sizes[worst]:.3g} exceeds {allowed:.3g}"
    return f"{_whose(worst, replicas)}: diverged: {size}; a smaller learning rate is needed,"


def _too_large(losses: Array, gradients: Array, replicas: int) -> str | None:
    for row, (loss, gradient) in enumerate(zip(losses, gradients, strict=True)):
        if reason := loss_too_large(loss, gradient):
            return f"{_whose(row, replicas)}: {reason}"
    return None


def _whose(row: int, replicas: int) -> str:
    return f"replica {row}" if row < replicas else "the law of f"


def _add_errors(task: Task, estimates: list[Estimate], rows: Rows, finished: int) -> None:
    """Add the standard errors of the law; NaN for one replica."""
    kernels, R = [one.kernel for one in estimates], task.replicas
    if R == 1:
        for name in [name for name in rows if name in VARIABLES and not name.endswith("_se")]:
            rows[f"{name}_se"] = [np.full_like(value, np.nan) for value in rows[name]]
        return
    pooled = average(kernels)
    errors = jackknife(task, [leave_out(pooled, kernel, R) for kernel in kernels])
    for _, row in zip(range(finished), errors, strict=False):
        _append(rows, row)


def _append(rows: Rows, row: dict[str, Array]) -> None:
    for name, value in row.items():
        rows.setdefault(name, []).append(value)


def _dataset(task: Task, estimates: list[Estimate], rows: Rows, finished: int, notices: list[str]) -> xr.Dataset:
    """Label what was finished."""
    schedule, depth, m = task.schedule, task.network.depth, task.problem.samples
    arrays = {name: np.stack(values, axis=1) for name, values in rows.items() if name in OF_REPLICAS}
    for name in estimates[0].arrays:
        steps = schedule.snapshot if name.startswith("Z_") else schedule.record
        arrays[name] = _repeat(np.stack([one.arrays[name] for one in estimates]), steps)
    for kind in "hx":
        kernel = np.stack([one.arrays[f"kernel_{kind}"] for one in estimates])
        arrays[f"kernel_{kind}0"] = _repeat(kernel, schedule.joint)
        arrays[f"feature_change_{kind}"] = np.zeros((task.replicas, len(schedule.record), depth))
    left_out = set(QUANTITIES).difference(ALWAYS, schedule.quantities)
    arrays = {name: values for name, values in arrays.items() if name not in left_out}
    run = label(task.problem, depth, schedule, arrays, np.array(rows["batch"]), finished)
    rates = task.training.rates(0, depth)
    more = {name: np.array(values) for name, values in rows.items() if name in VARIABLES}
    for name, kernels in (
        ("nngp", np.stack([one.kernel.covariance[:, :m] for one in estimates])),
        ("ntk", np.stack([one.kernel.at(rates) for one in estimates])),
    ):
        more |= {name: kernels[:, :m], f"{name}_probe": kernels[:, m:]}
    for name, (dims, text) in VARIABLES.items():
        if name in more and more[name].size:
            run[name] = (dims, more[name], {"long_name": text})
    run.attrs = attributes(task, notices) | {"law_draws": law_of(task).draws}
    return run


def _repeat(values: Array, steps: tuple[int, ...]) -> Array:
    """(replica, ...) as (replica, step, ...): what no step changes."""
    return np.repeat(values[:, None], len(steps), axis=1)


def memory_bytes(task: Task) -> int:
    """Bytes of the law, of the kernels of all replicas, and of the particles of one."""
    m, p = task.problem.samples, 0 if task.problem.probes is None else len(task.problem.probes)
    L, schedule = task.network.depth, task.schedule
    laws = 2 * (len(schedule.record) * m**2 + len(schedule.probe) * p**2)
    kernels = 2 * task.replicas * ((L + 1) * (m + p) * m + (m + p) ** 2)
    fields = (m + p) * (6 * L + 2) * task.settings.particles
    return 8 * (laws + kernels + fields)


def _check_memory(task: Task) -> None:
    """Refuse covariances that cannot fit.

    Raises
    ------
    ResourceError
        Names what would need less.
    """
    needed, free = memory_bytes(task), available_bytes()
    if needed > free:
        m, p = task.problem.samples, 0 if task.problem.probes is None else len(task.problem.probes)
        raise ResourceError(
            f"the law of f on {m} samples and {p} probes needs at least {needed / 2**30:.3g} GiB, "
            f"{free / 2**30:.3g} GiB are free; fewer probes, particles or replicas, or larger probe_every and "
            f"record_every, need less"
        )
