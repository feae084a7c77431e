"""Runs of figures that need data of their own: shorter and smaller than the study, in the constants of Appendix A."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

import finite
import tpsim
from tpsim.errors import Notice, RunStopped
from tpsim.parametrization import appendix_a
from tpsim.problem import Network, Problem, Training

from .study import Progress, Settings

STEPS = 200  # at most
PARTICLES = 2048  # at most
TOLERANCE = 1e-2  # unless the user says otherwise; errors are of the order of its square in f and eigenvalues
WIDTH = 128  # of networks beside the limit, at most


def training_of(settings: Settings, **changes: Any) -> Training:
    """The training, at most `STEPS` steps of it, with changes."""
    return replace(settings.training, **{"steps": min(settings.training.steps, STEPS)} | changes)


def width_of(settings: Settings) -> int:
    """The largest width up to `WIDTH`, or else the smallest."""
    return max((n for n in settings.widths if n <= WIDTH), default=min(settings.widths))


def replicas_of(settings: Settings) -> int:
    """Half of the replicas of the limit, at least two."""
    return max(settings.replicas // 2, 2)


def seeds_of(settings: Settings) -> int:
    """Half of the seeds of the networks, at least two."""
    return max(settings.seeds // 2, 2)


def limit_run(
    settings: Settings, network: Network, training: Training, progress: Progress = None, **options: Any
) -> tuple[xr.Dataset, RunStopped | None]:
    """Simulate the muP limit; return the run, NaN from where it had to stop, and why it had to.

    `options` are arguments of `tpsim.simulate`.
    """
    problem = _without_probes(settings.problem)
    eta: Any = training.learning_rate
    network, training = appendix_a("mup", network, training, problem.inputs.shape[1], eta)
    given = {name: value for name, value in settings.simulation.items() if value is not None}
    arguments = {
        "tolerance": TOLERANCE, "particles": min(settings.particles, PARTICLES), "replicas": replicas_of(settings),
        "seed": settings.seed, "workers": settings.workers, "progress": progress,
    }  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)  # kept by the run, see `notices_of`
            return tpsim.simulate(problem, network, training, **arguments | given | options), None
    except RunStopped as stopped:
        if stopped.run is None:
            raise
        every = int(options.get("record_every", 1))
        steps = sorted({*range(0, training.steps + 1, every), training.steps})
        return stopped.run.reindex(step=steps), stopped


def network_run(
    settings: Settings, network: Network, training: Training, width: int, parametrization: str,
    quantities: Sequence[str], **options: Any,
) -> xr.Dataset:  # fmt: skip
    """Train networks of one width; see `finite.train`, of which `options` are arguments."""
    problem = _without_probes(settings.problem)
    eta: Any = training.learning_rate
    network, training = appendix_a(parametrization, network, training, problem.inputs.shape[1], eta)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # networks that diverge are counted
        return finite.train(
            problem, network, training, width, parametrization, seeds_of(settings), seed=settings.seed,
            dtype=settings.dtype, quantities=quantities, progress=False, **options,
        )  # fmt: skip


def notices_of(run: xr.Dataset) -> str:
    """The notices of a run, one on each line; they are not given while these figures' data are computed."""
    return str(run.attrs.get("notices", ""))


def joined(notices: Iterable[str]) -> str:
    """The notices of several runs, each once."""
    return "\n".join(dict.fromkeys(line for own in notices for line in own.splitlines()))


def summarised(values: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the replicas that are finite and its standard error (NaN for fewer than two), without that axis."""
    count = values.count("replica").values
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no replica: NaN
        mean = values.mean("replica").values
        error = values.std("replica", ddof=1).values / np.sqrt(count)
    return mean, np.where(count > 1, error, np.nan)


def _without_probes(problem: Problem) -> Problem:
    return replace(problem, probes=None, probe_targets=None)
