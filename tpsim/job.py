"""From a configuration to the arguments of `simulate`: data read, every value checked, nothing computed yet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import xarray as xr

from . import accuracy, data
from .activations import ACTIVATIONS
from .checkpoint import with_checkpoints
from .config import TABLES, Config, SimulationTable, StepSchedule, TrainingTable
from .errors import InputError
from .goal import prepare_goal
from .losses import LOSSES
from .problem import Network, Problem, Training
from .progress import Progress
from .run import execute
from .task import Task, resolve_settings

ARRAYS = ("inputs", "targets", "probes", "probe_targets")
OPTIONS = ("checkpoint", "checkpoint_seconds", "resume")  # which a command line has, and no file
SETTINGS = ("particles", "noise", "sobol", "tolerance", "seed", "max_rank", "dtype")
SNAPSHOT_BYTES = 2**30  # what may be spent on particle snapshots that only a figure needs


@dataclass(frozen=True)
class Job:
    """A task with the configuration that it came from.

    Attributes
    ----------
    config : Config, with every default filled in that has an influence on the numbers.
    task : Task
    kept : bool
        Whether the user asked for the particle snapshots, or only the pictures do.
    """

    config: Config
    task: Task
    kept: bool

    def simulate(self, progress: Progress = None, report: Callable[[str], None] = lambda line: None) -> xr.Dataset:
        """Run it, errors named after the configuration's keys; `report` hears of every stage of a search."""
        with named("simulation"):
            if self.task.goal is None:
                return execute(self.task, progress)
            return accuracy.execute(self.task, progress, report)

    def with_checkpoints(self, folder: str | None, seconds: float, resume: bool) -> Job:
        """Return the job with checkpoints; InputError as `tpsim.simulate`."""
        with named("simulation"):
            return replace(self, task=with_checkpoints(self.task, folder, seconds, resume))

    def resolved(self, run: xr.Dataset) -> Config:
        """Return the configuration of a run of this job: with a target that of the last stage, without the target."""
        if self.task.goal is None:
            return self.config
        settings = json.loads(run.attrs["config"])["simulation"]
        chosen = {name: settings[name] for name in ("particles", "sobol", "tolerance")}
        chosen |= {"replicas": run.sizes["replica"], "target_error": None, "max_seconds": None, "max_bytes": None}
        return replace(self.config, simulation=replace(self.config.simulation, **chosen))


def prepare(config: Config, pictures: bool = True) -> Job:
    """Check a configuration and read its data.

    Parameters
    ----------
    config : Config
    pictures : whether particle snapshots of the first and the last step are wanted, where the configuration asks for
        none and they take less than 1 GiB; never in a search, which would take them at every stage.

    Raises
    ------
    InputError, FileError
        Names the key (section.key), the value and what is allowed, or the file.
    ResourceError
        The lower bound of the memory does not fit.
    """
    network, training = network_and_training(config)
    arguments = {entry.name: getattr(config.simulation, entry.name) for entry in fields(config.simulation)}
    with named("simulation"):
        resolve_settings(**{name: arguments[name] for name in SETTINGS})  # before the data are read: that may take long
    problem, options = read_data(config.data)
    with named("simulation"):
        task = prepare_goal(problem, network, training, **arguments)
        kept = bool(task.schedule.snapshot)
        if pictures and not kept and task.goal is None and _picture_bytes(task) <= SNAPSHOT_BYTES:
            task = prepare_goal(problem, network, training, **arguments | {"snapshots": sorted({0, training.steps})})
    return Job(replace(config, data=options, simulation=_resolved(config.simulation, task)), task, kept)


@contextmanager
def named(section: str) -> Iterator[None]:
    """Give the fields of an `InputError` the name of their section: depth -> network.depth."""
    try:
        yield
    except InputError as error:
        field = error.field.split("[")[0].split(".")[0]
        if field in OPTIONS:
            raise InputError("--" + field.replace("_", "-"), error.value, error.allowed) from None
        if section in TABLES and field not in {entry.name for entry in fields(TABLES[section])}:
            section = next((s for s, table in TABLES.items() if field in {e.name for e in fields(table)}), "data")
        if error.field.startswith(f"{section}."):
            raise
        raise InputError(f"{section}.{error.field}", error.value, error.allowed) from None


def network_and_training(config: Config) -> tuple[Network, Training]:
    """Return the network and the training of a configuration; InputError as of `prepare`."""
    _check_names(config)
    with named("network"):
        network = Network(**asdict(config.network))
    with named("training"):
        return network, _training(config.training)


def refuse_target(config: Config) -> None:
    """For commands that need to know how the limit is simulated."""
    if (target := config.simulation.target_error) is not None:
        raise InputError("simulation.target_error", target, "nothing here: only `tpsim run` and `tpsim plan` know it")


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


def read_data(table: dict[str, Any]) -> tuple[Problem, dict[str, Any]]:
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


def _picture_bytes(task: Task) -> int:
    """What snapshots of Z_h, Z_x, Z_dh at two steps take."""
    return 8 * 3 * 2 * task.replicas * task.network.depth * task.problem.samples * task.settings.particles


def _resolved(table: SimulationTable, task: Task) -> SimulationTable:
    """Fill in the defaults that depend on other values; workers and threads do not change the numbers."""

    def every(steps: tuple[int, ...], given: int | None) -> int | None:
        return given if given is not None or not steps else steps[1] - steps[0] if len(steps) > 1 else 1

    searched = task.goal is not None
    return replace(
        table,
        particles=table.particles if searched else task.settings.particles,
        replicas=table.replicas if searched else task.replicas,
        sobol=task.settings.sobol,
        tolerance=table.tolerance if searched else task.settings.tolerance,
        probe_every=every(task.schedule.probe, table.probe_every),
        joint_every=every(task.schedule.joint, table.joint_every),
    )
