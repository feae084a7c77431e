"""From a configuration to the arguments of `simulate`: data read, every value checked, nothing computed yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import joblib
import xarray as xr

from . import data, run
from .activations import ACTIVATIONS
from .config import Config, NetworkTable, SimulationTable, StepSchedule, TrainingTable
from .errors import InputError
from .losses import LOSSES
from .mlp import Settings
from .plan import available_bytes, check_memory, memory_bytes
from .problem import Network, Problem, Training, positive_int
from .record import Schedule

ARRAYS = ("inputs", "targets", "probes", "probe_targets")
SNAPSHOT_BYTES = 2**30  # what may be spent on particle snapshots that only a figure needs


@dataclass(frozen=True)
class Job:
    """Everything that a run needs.

    Attributes
    ----------
    config : Config, with every default filled in that has an influence on the numbers.
    problem, network, training, settings, schedule : as the engine takes them.
    replicas, workers, threads : int
    kept : bool
        Whether the user asked for the particle snapshots, or only the pictures do.
    """

    config: Config
    problem: Problem
    network: Network
    training: Training
    settings: Settings
    schedule: Schedule
    replicas: int
    workers: int
    threads: int
    kept: bool

    def simulate(self, progress: run.Progress = None) -> xr.Dataset:
        """Run it: `tpsim.simulate` with these arguments, its errors named after the configuration's keys."""
        table, own = self.config.simulation, ("workers", "threads", "snapshots")
        arguments = {entry.name: getattr(table, entry.name) for entry in fields(table) if entry.name not in own}
        arguments |= {"workers": self.workers, "threads": self.threads, "snapshots": self.schedule.snapshot}
        with named("simulation"):
            return run.simulate(self.problem, self.network, self.training, progress=progress, **arguments)


def prepare(config: Config, pictures: bool = True) -> Job:
    """Check a configuration and read its data.

    Parameters
    ----------
    config : Config
    pictures : whether particle snapshots of the first and the last step are wanted, where the configuration asks for
        none and they take less than 1 GiB.

    Raises
    ------
    InputError, FileError
        Names the key (section.key), the value and what is allowed, or the file.
    ResourceError
        The lower bound of the memory does not fit.
    """
    _check_names(config)
    with named("network"):
        network = Network(**asdict(config.network))
    with named("training"):
        training = _training(config.training)
    table = config.simulation
    with named("simulation"):
        settings = run._settings(
            network, table.particles, table.noise, table.sobol, table.tolerance, table.seed, table.max_rank
        )
        replicas = positive_int("replicas", table.replicas)
        if table.workers is not None:
            positive_int("workers", table.workers)
    problem, options = _read(config.data)
    with named("simulation"):
        snapshots = table.snapshots or _picture_steps(problem, network, training, settings, replicas, pictures)
        schedule = run._schedule(
            problem, training, table.record_every, table.probe_every, table.joint_every, snapshots, table.parts
        )
        for _ in training.batch_indices(problem.samples):
            pass
        for step in range(training.steps if callable(training.learning_rate) else 1):
            training.rates(step, network.depth)
        run._check_targets(problem, training)
        workers = table.workers or _workers(problem, network, settings, schedule, replicas)
        threads = run._threads(table.threads, workers, settings.particles)
        run._check_room(problem, training, settings)
        check_memory(problem, network, settings, schedule, replicas, workers)
    resolved = replace(config, data=options, simulation=_resolved(table, settings, schedule))
    return Job(
        resolved, problem, network, training, settings, schedule, replicas, workers, threads, bool(table.snapshots)
    )


@contextmanager
def named(section: str) -> Iterator[None]:
    """Give the fields of an `InputError` the name of their section: depth -> network.depth."""
    try:
        yield
    except InputError as error:
        field = error.field.split("[")[0].split(".")[0]
        owners = {"network": NetworkTable, "training": TrainingTable, "simulation": SimulationTable}
        if section in owners and field not in {entry.name for entry in fields(owners[section])}:
            section = next((s for s, table in owners.items() if field in {e.name for e in fields(table)}), "data")
        if error.field.startswith(f"{section}."):
            raise
        raise InputError(f"{section}.{error.field}", error.value, error.allowed) from None


def _check_names(config: Config) -> None:
    """A file can name what is built in; a user's own functions need Python."""
    for field, value, known in (
        ("network.activation", config.network.activation, ACTIVATIONS),
        ("training.loss", config.training.loss, LOSSES),
    ):
        if value not in known:
            raise InputError(field, value, f"one of {', '.join(sorted(known))}")


def _training(table: TrainingTable) -> Training:
    arguments = asdict(table)
    if isinstance(table.learning_rate, dict):
        arguments["learning_rate"] = StepSchedule.of(table.learning_rate)
    return Training(**arguments)


def _read(table: dict[str, Any]) -> tuple[Problem, dict[str, Any]]:
    """Return the problem of a [data] table, and the table with the defaults of its source."""
    options = {key: value for key, value in table.items() if key != "source"}
    with named("data"):
        if "source" not in table:
            raise InputError("source", "<nothing>", f"one of {', '.join(data.SOURCES)}")
        resolved = data.resolve_options(table["source"], **options)
        try:
            problem = data.load(table["source"], **options)
        except InputError as error:
            if error.field in ARRAYS and str(error.value).startswith("<") and "path" in options:
                raise InputError(f"data.path {options['path']}: {error.field}", error.value, error.allowed) from None
            raise
    return problem, {"source": table["source"]} | resolved


def _picture_steps(
    problem: Problem, network: Network, training: Training, settings: Settings, replicas: int, pictures: bool
) -> tuple[int, ...]:
    steps = tuple(sorted({0, training.steps}))
    size = 8 * 3 * replicas * len(steps) * network.depth * problem.samples * settings.particles
    return steps if pictures and size <= SNAPSHOT_BYTES else ()


def _workers(problem: Problem, network: Network, settings: Settings, schedule: Schedule, replicas: int) -> int:
    """As many processes as there are cores, replicas, and room for by the lower bound of the memory."""
    free, workers = available_bytes(), min(replicas, joblib.cpu_count())
    rank = min(problem.inputs.shape)
    while workers > 1 and memory_bytes(problem, network, settings, schedule, replicas, workers, rank) > free:
        workers -= 1
    return workers


def _resolved(table: SimulationTable, settings: Settings, schedule: Schedule) -> SimulationTable:
    """Fill in the defaults that depend on other values; workers and threads do not change the numbers."""

    def every(steps: tuple[int, ...], given: int | None) -> int | None:
        return given if given is not None or not steps else steps[1] - steps[0] if len(steps) > 1 else 1

    return replace(
        table,
        sobol=settings.sobol,
        tolerance=settings.tolerance,
        probe_every=every(schedule.probe, table.probe_every),
        joint_every=every(schedule.joint, table.joint_every),
    )
