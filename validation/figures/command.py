"""`tpsim figures`: the figures asked for, computed, drawn and written; a call that was interrupted goes on."""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import xarray as xr

from finite.folder import first_difference
from tpsim import InputError, config, job, output
from tpsim.activations import ACTIVATIONS
from tpsim.data import describe
from tpsim.errors import Notice
from tpsim.parametrization import APPENDIX_A
from tpsim.problem import positive_int
from tpsim.results import describe_arguments, versions

from .compute import DATA, NETWORKS, make_study
from .files import REPORT, write
from .plan import announcement, source
from .registry import DEPTH, FIGURES
from .study import Settings, Study

FOLDER = "tpsim-figures"
SECTIONS = (*config.RUN, "figures")
NARROWEST = 8  # of the widths of --max-width
STUDY = "study"  # key of summary.json
UNUSED = ("record_every", "probe_every", "joint_every", "snapshots", "parts", "quantities")  # of [simulation]
OF_THE_LIMIT = ("noise", "sobol", "tolerance", "max_rank", "threads")
OK, INTERRUPTED = 0, 130
DEFAULT = """
[data]
source = "digits"

[network]
depth = 3

[training]
steps = 200
learning_rate = 0.1
reduction = "mean"
"""


def main(arguments: argparse.Namespace) -> int:
    """Run the command, and return its exit code.

    Raises
    ------
    InputError, FileError, ResourceError
        A configuration or a folder that cannot be used, or that holds networks of other settings.
    RunStopped
        A limit had to stop; no figure is written, networks and other limits are kept.
    """
    if arguments.list:
        print("\n".join(f"{name:14s} {figure.title}" for name, figure in FIGURES.items()))
        return OK
    start = time.perf_counter()
    read = config.read(arguments.config, [*overrides(arguments), *arguments.set], DEFAULT, SECTIONS)
    if arguments.data is not None:  # of files of one's own the default is another
        read = replace(read, data={"scale": "sqrt_d"} | read.data)
    names = chosen(arguments.only, read)
    folder = _choose(arguments.output)
    settings, resolved = prepare(read, arguments.workers)
    _check_earlier(folder, settings)
    if not arguments.quiet:
        print(announcement(settings, resolved, names), flush=True)
    try:
        progress = False if arguments.quiet else None
        study = make_study(settings, names, folder, progress, _say(arguments.quiet, start))
        facts = {
            "seconds": round(time.perf_counter() - start, 3), "notices": _notices(study), "figures": list(names),
            "data": describe(settings.problem), STUDY: _study(settings), "versions": versions("torch"),
        }  # fmt: skip
        origin = f"tpsim {versions()['tpsim']} figures: the configuration of the figures beside this file"
        paths = write(folder, study, names, facts, config.to_toml(resolved, [origin], SECTIONS), source(resolved))
    except KeyboardInterrupt:
        print("interrupted: what is finished is kept; the same command goes on from there", file=sys.stderr, flush=True)
        return INTERRUPTED
    if not arguments.quiet:
        print(f"\ntime: {time.perf_counter() - start:.1f} s")
        print(f"written to {folder}: {', '.join(path.name for path in paths)}", flush=True)
    return OK


def overrides(arguments: argparse.Namespace) -> list[str]:
    """Return what the short options mean, as overrides of the configuration."""
    found = []
    if arguments.data is not None:
        source, colon, path = arguments.data.partition(":")
        found.append(f"data.source={json.dumps(source)}")
        found += [f"data.path={json.dumps(path)}"] if colon else []
    if (most := arguments.max_width) is not None:
        if most < NARROWEST:
            raise InputError("--max-width", most, f"an integer >= {NARROWEST}")
        widths = [NARROWEST << k for k in range(most.bit_length()) if NARROWEST << k <= most]
        found.append(f"figures.widths={widths}")
    for key, value in (("training.steps", arguments.steps), ("figures.seeds", arguments.seeds)):
        found += [f"{key}={value}"] if value is not None else []
    return found


def chosen(only: str | None, read: config.Config) -> tuple[str, ...]:
    """Return the names of the figures to draw: those asked for, or all that there can be.

    Raises
    ------
    InputError
        There is no such figure, or not of such networks.
    """
    reasons = {name: reason for name in FIGURES if (reason := _impossible(name, read))}
    if only is None:
        for reason in dict.fromkeys(reasons.values()):
            left_out = ", ".join(name for name in reasons if reasons[name] == reason)
            warnings.warn(f"figures {left_out} are left out: they need {reason}", Notice, stacklevel=3)
        return tuple(name for name in FIGURES if name not in reasons)
    names = [name.strip() for name in only.split(",")]
    for name in names:
        if name not in FIGURES:
            raise InputError("--only", name, f"names out of {', '.join(FIGURES)}")
        if name in reasons:
            raise InputError("--only", name, f"figures that there can be: this one needs {reasons[name]}")
    return tuple(name for name in FIGURES if name in names)


def _impossible(name: str, read: config.Config) -> str | None:
    """What a figure needs and does not get."""
    if read.network.depth < DEPTH.get(name, 1):
        return f"network.depth >= {DEPTH[name]}"
    missing = [phi for phi in FIGURES[name].activations if phi not in read.figures.activations]
    return f"{', '.join(missing)} among figures.activations" if missing else None


def _choose(given: str | None) -> Path:
    """Return the folder of the results: new, empty, or that of an earlier call."""
    folder = output.choose(given, force=True, default=FOLDER)
    ours = any((folder / name).exists() for name in (NETWORKS, DATA, REPORT))
    if folder.is_dir() and any(folder.iterdir()) and not ours:
        allowed = f"a new or an empty folder, or that of earlier figures, which has {REPORT} or {DATA}/"
        raise InputError("--output", str(folder), allowed)
    return folder


def prepare(read: config.Config, workers: int | None = None) -> tuple[Settings, config.Config]:
    """Return the settings of a configuration, and the configuration with its defaults resolved.

    Raises
    ------
    InputError, FileError, ResourceError
        Names the key (section.key), the value and what is allowed, or the file.
    """
    if workers is not None:
        read = replace(read, simulation=replace(read.simulation, workers=positive_int("--workers", workers)))
    _check(read)
    table = read.figures
    read = replace(read, network=replace(read.network, init_scale=APPENDIX_A["mup"].init_scale))
    prepared = job.prepare(read, pictures=False)
    if prepared.config.data["scale"] != "sqrt_d":
        allowed = '"sqrt_d": the constants of Appendix A are for inputs divided by sqrt(d)'
        raise InputError("data.scale", prepared.config.data["scale"], allowed)
    task = prepared.task
    simulation = replace(read.simulation, particles=task.settings.particles, replicas=task.replicas)
    settings = Settings(
        replace(task.problem, probes=None, probe_targets=None), task.network, task.training,
        tuple(sorted(set(table.widths))), table.seeds, tuple(table.activations), tuple(table.depths), table.dtype,
        task.settings.particles, task.replicas, simulation.seed,
        {name: getattr(simulation, name) for name in OF_THE_LIMIT}, simulation.workers or joblib.cpu_count(),
    )  # fmt: skip
    # As given: a default of each run is not the user's choice.
    unused: dict[str, Any] = dict.fromkeys(UNUSED)
    return settings, replace(prepared.config, simulation=replace(simulation, **unused))


def _study(settings: Settings) -> dict[str, Any]:
    """What all figures of a folder share, ready for JSON: data, network and training."""
    found = describe_arguments(settings.problem, settings.network, settings.training)
    return json.loads(json.dumps(found))


def _check_earlier(folder: Path, settings: Settings) -> None:
    """Refuse to replace the report of other data, another network or another training."""
    try:
        earlier = json.loads((folder / output.SUMMARY).read_text(encoding="utf-8"))[STUDY]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if different := first_difference(earlier, _study(settings)):
        raise InputError("--output", str(folder), f"another folder: {REPORT} there is of another study: {different}")


def _check(read: config.Config) -> None:
    """Refuse what this command has no meaning for."""
    simulation, table, plain = read.simulation, read.figures, config.SimulationTable()
    job.refuse_target(read)
    if simulation.limit != "mup":
        raise InputError("simulation.limit", simulation.limit, '"mup" here: the figures show all four limits')
    if simulation.noise == "width":
        raise InputError("simulation.noise", "width", '"matched" or "iid": how the limits are simulated')
    if not isinstance(read.training.learning_rate, int | float):
        raise InputError("training.learning_rate", read.training.learning_rate, "one number, the eta of Appendix A")
    for phi in table.activations:
        if phi not in ACTIVATIONS:
            raise InputError("figures.activations", phi, f"names out of {', '.join(sorted(ACTIVATIONS))}")
    for name in ("widths", "depths"):
        for value in getattr(table, name):
            positive_int(f"figures.{name}", value)
    positive_int("figures.seeds", table.seeds)
    if not table.widths:
        raise InputError("figures.widths", [], "at least one width")
    for key in (key for key in UNUSED if getattr(simulation, key) != getattr(plain, key)):
        warnings.warn(f"simulation.{key} has no meaning here and is not used", Notice, stacklevel=3)
    if read.network.init_scale not in (config.NetworkTable().init_scale, APPENDIX_A["mup"].init_scale):
        warnings.warn("network.init_scale is not used: it is that of Appendix A", Notice, stacklevel=3)


def _say(quiet: bool, start: float) -> Any:
    """Print what is at work, with the time since the start."""

    def say(text: str) -> None:
        if not quiet:
            print(f"  {time.perf_counter() - start:7.1f} s  {text}", flush=True)

    return say


def _notices(study: Study) -> list[str]:
    """All notices of the runs, each once."""
    runs: list[xr.Dataset] = [*study.limits.values(), *study.extras.values()]
    runs += [study.networks] if study.networks is not None else []
    return list(dict.fromkeys(line for run in runs for line in str(run.attrs.get("notices", "")).splitlines() if line))
