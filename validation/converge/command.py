"""`tpsim converge`: the study of a configuration, printed, drawn and written."""

from __future__ import annotations

import argparse
import importlib.util
import time
import warnings
from dataclasses import fields
from typing import Any

import joblib

from tpsim import InputError, config, job, output
from tpsim.conventions import conventions_table, parametrization_title
from tpsim.data import describe
from tpsim.describe import job_text
from tpsim.errors import Notice
from tpsim.parametrization import TABLE_2
from tpsim.results import versions

from . import report
from .files import write
from .study import Study, study

FOLDER = "tpsim-converge"
SECTIONS = (*config.RUN, "converge")
UNUSED = ("probe_every", "joint_every", "snapshots", "parts", "quantities")  # of [simulation]
OF_THE_LIMIT = ("noise", "sobol", "tolerance", "max_rank", "threads")
DEFAULT = """
[data]
source = "digits"
count = 4
probes = 0

[network]
depth = 2
activation = "tanh"
init_scale = 1.4142135623730951

[training]
steps = 10
learning_rate = 0.5
reduction = "mean"

[simulation]
particles = 8192

[converge]
matrix_free = [64, 1024, 4096, 8192, 16384, 32768, 65536, 131072]
seeds = { 16 = 256, 32 = 2000, 256 = 1000, 512 = 128, 1024 = 32, 2048 = 8 }
"""


def main(arguments: argparse.Namespace) -> None:
    """Run the command.

    Raises
    ------
    InputError, FileError, ResourceError
        A configuration or a folder that cannot be used, or no width fits.
    RunStopped
        The limit had to stop; nothing is written.
    """
    start = time.perf_counter()
    read = config.read(arguments.config, arguments.set, DEFAULT, SECTIONS)
    folder = output.choose(arguments.output, arguments.force, FOLDER)
    _check(read)
    prepared = job.prepare(read, pictures=False)
    if not arguments.quiet:
        print(announcement(prepared), flush=True)
    found = run(prepared, progress=False if arguments.quiet else None)
    for n, reason in found.skipped:
        warnings.warn(f"n = {n} is left out: {reason}", Notice, stacklevel=2)
    if not arguments.quiet:
        print(f"result\n{report.text(found)}\n", flush=True)
    facts = {
        "seconds": round(time.perf_counter() - start, 3), "notices": found.limit.attrs["notices"].splitlines(),
        "data": describe(prepared.task.problem), "versions": versions(),
    }  # fmt: skip
    origin = f"tpsim {facts['versions']['tpsim']} converge: the configuration of the results beside this file"
    summary = write(folder, found, facts, config.to_toml(prepared.config, [origin], SECTIONS))
    if not arguments.quiet:
        seconds = time.perf_counter() - start
        print(f"time: {seconds:.1f} s\nwritten to {folder}: {', '.join(summary['files'])}", flush=True)


def run(prepared: job.Job, progress: bool | None = None) -> Study:
    """Return the study of a checked configuration."""
    task, simulation, table = prepared.task, prepared.config.simulation, prepared.config.converge
    arguments: dict[str, Any] = {entry.name: getattr(table, entry.name) for entry in fields(table)}
    arguments["seeds"] = _seeds(table.seeds)
    with job.named("converge"):
        return study(
            task.problem, task.network, task.training, particles=task.settings.particles, replicas=task.replicas,
            seed=simulation.seed, record_every=simulation.record_every, progress=progress,
            workers=simulation.workers or joblib.cpu_count(),
            simulation={name: getattr(simulation, name) for name in OF_THE_LIMIT}, **arguments,
        )  # fmt: skip


def announcement(prepared: job.Job) -> str:
    """Return the plan, and which factor goes where in every parametrization."""
    task, table = prepared.task, prepared.config.converge
    seeds, few = _seeds(table.seeds), table.coordinate_seeds
    counts = {0: seeds} if isinstance(seeds, int) else seeds
    lines = [
        f"plan\n{job_text(prepared)}",
        f"  {'networks':12}dense, {table.dtype}: n = {_list(table.widths)}",
        f"  {'':12}without matrices, of the same law: n = {_list(table.matrix_free)}",
        f"  {'':12}seeds: {', '.join(f'{k} from n = {n}' if n else str(k) for n, k in counts.items())}",
        f"  {'':12}coordinate check: {few} seeds of SP, NTP and IP too, with the same constants s_l and eta_l",
        "\nconventions (n: width, d: input dimension); the limit is that of muP",
    ]
    for name in ("mup", *(name for name in TABLE_2 if name != "mup")):
        lines += [f" {parametrization_title(name)}", conventions_table(task.network, task.training, name)]
    return "\n".join([*lines, ""])


def _check(read: config.Config) -> None:
    """Refuse what this command has no meaning for, and dense networks without torch."""
    job.refuse_target(read)
    if read.simulation.limit != "mup":
        raise InputError(
            "simulation.limit", read.simulation.limit, '"mup": what finite networks are compared with here'
        )
    for key in UNUSED:
        if getattr(read.simulation, key) != getattr(config.SimulationTable(), key):
            warnings.warn(f"simulation.{key} has no meaning here and is not used", Notice, stacklevel=2)
    if read.simulation.noise == "width":
        raise InputError("simulation.noise", "width", '"matched" or "iid": how the limit is simulated')
    if read.converge.widths and importlib.util.find_spec("torch") is None:
        raise InputError(
            "converge.widths", read.converge.widths,
            "[] where torch is not installed: dense networks need it (pip install 'tpsim[finite]')",
        )  # fmt: skip


def _seeds(seeds: int | dict[str, int]) -> int | dict[int, int]:
    if isinstance(seeds, int):
        return seeds
    if not all(first.isdecimal() and first.isascii() and len(first) < 19 for first in seeds):
        raise InputError("converge.seeds", seeds, "an integer, or a table {first width = integer}")
    return {int(first): number for first, number in sorted(seeds.items(), key=lambda item: int(item[0]))}


def _list(widths: list[int]) -> str:
    return ", ".join(str(n) for n in sorted(set(widths))) or "none"
