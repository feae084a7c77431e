"""`tpsim sweep`: a grid of networks from a configuration, printed, drawn and written."""

from __future__ import annotations

import argparse
import csv
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import joblib
import matplotlib as mpl
import xarray as xr
from matplotlib.figure import Figure

from tpsim import config, data, output
from tpsim.activations import ACTIVATIONS
from tpsim.conventions import conventions_table, parametrization_title
from tpsim.describe import duration
from tpsim.errors import InputError
from tpsim.job import named, network_and_training, read_data
from tpsim.plot.style import STYLE
from tpsim.results import versions
from tpsim.signals import Terminated
from tpsim.store import netcdf

from .grid import Grid, resolve
from .picture import draw
from .sweep import Report, execute
from .table import HEADER, lines, rows

FOLDER = "tpsim-sweep"
CELLS = "cells"  # the folder of the cells in that of the results
SECTIONS = ("data", "network", "training", "sweep")
SPEED = 1e10  # operations a second of one core, in float32
FILE = 0.4  # seconds to write a cell and to read it back
OK, INTERRUPTED, TERMINATED = 0, 130, 143


def main(arguments: argparse.Namespace) -> int:
    """Run the command, and return its exit code.

    Raises
    ------
    InputError, FileError, ResourceError
        A configuration or a folder that cannot be used, or that holds a sweep of other settings.
    """
    read = config.read(arguments.config, arguments.set, used=SECTIONS)
    if arguments.workers is not None:
        read = replace(read, sweep=replace(read.sweep, workers=arguments.workers))
    folder, report, start = _choose(arguments.output), Report(), time.perf_counter()
    try:
        grid, resolved = prepare(read)
        if not arguments.quiet:
            print(announcement(grid, resolved), flush=True)
        with named("sweep"):
            run = execute(grid, folder / CELLS, read.sweep.workers, False if arguments.quiet else None, report)
        files = write(folder, run, report, time.perf_counter() - start, grid, resolved)
    except KeyboardInterrupt as stop:
        done = report.kept + report.computed
        cells = f"{done} of {report.cells} cells are finished" if report.cells else "nothing was computed"
        print(f"interrupted: {cells}; the same command goes on from there", file=sys.stderr, flush=True)
        return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED
    if not arguments.quiet:
        text = "\n".join(lines(run))
        print(f"result at step {int(run['step'][-1])}\n{text}\n\n{summary_line(report)}")
        print(f"written to {folder}: {CELLS}/, {', '.join(path.name for path in files)}", flush=True)
    return OK


def _choose(given: str | None) -> Path:
    """Return the folder of the results: new, empty, or that of a sweep."""
    folder = output.choose(given, force=True, default=FOLDER)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CELLS).is_dir():
        raise InputError("--output", str(folder), f"a new or an empty folder, or that of a sweep, which has {CELLS}/")
    return folder


def prepare(read: config.Config) -> tuple[Grid, config.Config]:
    """Return the grid of a configuration, and the configuration with its defaults resolved.

    Raises
    ------
    InputError, FileError, ResourceError
        Names the key (section.key), the value and what is allowed, or the file.
    """
    network, training = network_and_training(read)
    names = read.sweep.activations or [read.network.activation]
    for name in names:
        if name not in ACTIVATIONS:
            raise InputError("sweep.activations", name, f"names out of {', '.join(sorted(ACTIVATIONS))}")
    problem, options = read_data(read.data)
    arguments: dict[str, Any] = asdict(read.sweep) | {"activations": names}
    del arguments["workers"]
    with named("sweep"):
        grid = resolve(problem, network, training, **arguments)
    sweep = replace(
        read.sweep, activations=names, quantities=list(grid.options["quantities"]),
        **{key: grid.options[key] for key in ("record_every", "probe_every", "joint_every")},
    )  # fmt: skip
    return grid, replace(read, data=options, sweep=sweep)


def announcement(grid: Grid, resolved: config.Config) -> str:
    """Return the plan, and which factor goes where in every parametrization."""
    options, cells = {key: value for key, value in resolved.data.items() if key != "source"}, grid.cells()
    m, d = grid.problem.inputs.shape
    seconds = sum(grid.work(cell) / SPEED + FILE for cell in cells)
    workers = min(resolved.sweep.workers or joblib.cpu_count(), len(cells))
    networks = len(grid.names) * len(grid.widths) * grid.seeds
    text = [
        "plan",
        f"  {'data':12}{data.explain(resolved.data['source'], **options)}",
        f"  {'':12}m = {m} samples, d = {d}",
        f"  {'network':12}L = {grid.network.depth} hidden layers; {', '.join(grid.activations)}",
        f"  {'training':12}{grid.training.steps} steps",
        f"  {'widths':12}{', '.join(map(str, grid.widths))}",
        f"  {'sweep':12}{', '.join(grid.rows)}; {grid.seeds} seeds each: {networks} networks in {len(cells)} cells",
        f"  {'cost':12}about {duration(seconds / workers)} on {workers} idle cores, less what is there already",
        "",
        f"conventions (n: width, d: input dimension); inputs as they are"
        f"{', for the constants of Appendix A divided by sqrt(d)' if grid.constants else ''}",
    ]
    for name, row in grid.rows.items():
        network, training = grid.arguments(next(iter(grid.activations)), name)
        text += [f" {parametrization_title(row)}", conventions_table(network, training, row, grid.widths[-1])]
    return "\n".join([*text, ""])


def summary_line(report: Report) -> str:
    """Return what was done in one line."""
    again = f", {len(report.damaged)} of them damaged before" if report.damaged else ""
    return f"{report.cells} cells: {report.kept} kept, {report.computed} computed{again}"


def write(
    folder: Path, run: xr.Dataset, report: Report, seconds: float, grid: Grid, resolved: config.Config
) -> list[Path]:
    """Write sweep.nc, table.csv, sweep.png, summary.json and config.toml, at once; return their paths."""

    def fill(temporary: Path) -> list[str]:
        whole = run.assign_attrs()
        del whole.attrs["report"]  # of this call; the networks are the same however often they were interrupted
        (temporary / "sweep.nc").write_bytes(netcdf(whole))
        with (temporary / "table.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([HEADER, *rows(run)])
        names = ["sweep.nc", "table.csv", output.SUMMARY, "config.toml"]
        if {"feature_change_h", "kernel_h"} & set(run.data_vars):
            with mpl.rc_context(STYLE):
                draw(run, Figure(layout="constrained")).savefig(temporary / "sweep.png")
            names.append("sweep.png")
        return names

    summary = asdict(report) | {
        "diverged": int((run["diverged_at"] >= 0).sum()), "seconds": round(seconds, 3),
        "notices": run.attrs["notices"].splitlines(), "data": data.describe(grid.problem),
        "versions": versions("torch"),
    }  # fmt: skip
    origin = f"tpsim {versions()['tpsim']} sweep: the configuration of the results beside this file"
    return output.write_folder(folder, fill, summary, config.to_toml(resolved, [origin], SECTIONS))
