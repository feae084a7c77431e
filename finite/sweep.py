"""A grid of finite networks, activation x parametrization x width x seed: computed by cells, resumed from its files."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import threading
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import joblib
import torch
import xarray as xr
from joblib.externals.loky.process_executor import BrokenProcessPool
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from tpsim.errors import Damaged, FileError, Notice, ResourceError
from tpsim.files import file_path
from tpsim.parametrization import Parametrization
from tpsim.plan import available_bytes
from tpsim.problem import Network, Problem, Training, positive_int
from tpsim.signals import interrupts_deferred
from tpsim.storage import check_writable
from tpsim.task import slope_notices

from .cells import write
from .collect import Table
from .folder import find, held, other_versions, refuse_other_sweeps
from .grid import Cell, Grid, resolve
from .plan import memory_bytes

Progress = None | bool | Callable[[int, int, str], None]
PROCESS_BYTES = 400 << 20  # python, torch and what else a process loads


@dataclass
class Report:
    """What a sweep did.

    Attributes
    ----------
    cells, computed, kept : numbers of cells; `computed` includes those that replaced damaged ones.
    damaged : name and reason of each cell that was found damaged and computed again.
    """

    cells: int = 0
    computed: int = 0
    kept: int = 0
    damaged: dict[str, str] = field(default_factory=dict)


def sweep(
    problem: Problem,
    network: Network,
    training: Training,
    folder: str | os.PathLike[str],
    *,
    widths: Sequence[int],
    parametrizations: Sequence[str | Parametrization] = ("sp", "ntp", "ip", "mup"),
    activations: Sequence[Any] | None = None,
    seeds: int = 8,
    seed: int = 0,
    dtype: str = "float32",
    constants: str | None = None,
    quantities: Sequence[str] | None = None,
    record_every: int | None = None,
    probe_every: int | None = None,
    joint_every: int | None = None,
    workers: int | None = None,
    progress: Progress = None,
) -> xr.Dataset:
    """Train a grid of networks, activation x parametrization x width x seed, in parallel and in a folder.

    A cell is a block of networks of one activation, parametrization and width; each finished cell is one file with a
    checksum (`finite.cells`). A call with the same settings computes only what is missing or damaged; more widths,
    parametrizations or activations keep what there is, more seeds all but the last block of each width, if that was not
    full (narrow networks are trained up to 128 at a time). Networks and results are those of `finite.train`.

    Parameters
    ----------
    problem, network, training : as for `finite.train`; inputs are used as given.
    folder : of the cells; it is made if need be. It holds the cells of one sweep.
    widths : sequence of int
    parametrizations : names of Table 2, or a `Parametrization` each.
    activations : as of `Network`, optional
        By default that of `network`.
    seeds : int
        Networks of every activation, parametrization and width. They share their draws (see `finite.train`).
    seed, dtype, quantities, probe_every : as for `finite.train`. By default feature changes, kernels, joint kernels and
        f on the probes are kept besides f, chi and loss.
    constants : None or "appendix_a"
        Initial scales and rates of Appendix A for each parametrization, `training.learning_rate` being its eta; inputs
        must be divided by sqrt(d) for that. By default `network` and `training` give the same constants to all.
    record_every, joint_every : int, optional
        By default every step up to 50 steps and ten intervals beyond; joint kernels at the first and the last step.
    workers : int, optional
        Processes, of one thread each; no result depends on it. By default all cores, as far as there is memory.
    progress : None (a bar on a terminal), True, False, or a callable of (cells done, cells to do, name).

    Returns
    -------
    xarray.Dataset
        Variables of `finite.train` over (activation, parametrization, width, replica, ...), NaN from `diverged_at` on,
        which is -1 for networks that never diverged. `report` (JSON) counts the cells that were computed and kept and
        names the damaged ones that were computed again, each of which is told by a `Notice` as well.

    Raises
    ------
    InputError
        An argument out of range.
    FileError
        The folder cannot be written, holds a sweep of other settings (the first that differs is named), or is in use.
    ResourceError
        A cell, all workers together or the result do not fit into memory, or a worker process was killed.

    Error: cells of equal settings are equal byte for byte on one CPU type with equal versions of the libraries; cells
    that other versions computed are kept, and a `Notice` says so. Cost: see `Grid.work`; cells of seconds each.
    """
    grid = resolve(
        problem, network, training, widths=widths, parametrizations=parametrizations, activations=activations,
        seeds=seeds, seed=seed, dtype=dtype, constants=constants, quantities=quantities, record_every=record_every,
        probe_every=probe_every, joint_every=joint_every,
    )  # fmt: skip
    return execute(grid, file_path("folder", folder), workers, progress)


def execute(
    grid: Grid, folder: Path, workers: int | None = None, progress: Progress = None, report: Report | None = None
) -> xr.Dataset:
    """Compute what is missing of a checked sweep, and put all of it together; `report` is filled on the way."""
    report = report or Report()
    _check_result(grid)
    cells = grid.cells()
    if workers is not None:
        positive_int("workers", workers)
    table = Table(list(grid.activations), list(grid.rows), grid.widths, grid.seeds)
    with held(folder):
        report.cells, missing, foreign = len(cells), [], {}
        for cell in cells:
            try:
                run = find(folder, grid, cell)
            except Damaged as error:
                report.damaged[error.name], run = error.reason, None
            if run is None:
                missing.append(cell)
                continue
            table.put(cell, run)
            report.kept += 1
            if libraries := other_versions(run):
                foreign[cell.name] = libraries
        if missing:
            if not report.kept:
                refuse_other_sweeps(folder, grid)
            check_writable(folder)
        again = [f"{name} is damaged and computed again: {reason}" for name, reason in report.damaged.items()]
        notices = slope_notices(grid.network, grid.training)
        if foreign:
            notices.append(
                f"{len(foreign)} of {report.cells} cells were computed with {next(iter(foreign.values()))}, and are "
                "kept: equal to those of the versions here up to rounding"
            )
        for notice in again + notices:
            warnings.warn(notice, Notice, stacklevel=3)
        with Bar(progress, grid, missing) as bar, contextlib.closing(_compute(grid, folder, missing, workers)) as done:
            for cell in done:
                run = find(folder, grid, cell)  # back from the disk: what is not there is not finished
                if run is None:
                    raise FileError(f"{folder / cell.name}: vanished after it was written")
                table.put(cell, run)
                report.computed += 1
                bar.step(cell, int((run["diverged_at"] >= 0).sum()))
    return table.dataset(asdict(report), notices)


def _check_result(grid: Grid) -> None:
    """Refuse a sweep whose result cannot fit."""
    of_one = sum(8 * math.prod(shape) for _, shape, _ in grid.form(Cell(*grid.names[0], grid.widths[0], 0, 0)).values())
    networks, free = len(grid.names) * len(grid.widths) * grid.seeds, available_bytes()
    if networks * of_one > free:
        raise ResourceError(
            f"the result of {networks} networks takes {networks * of_one / 2**30:.3g} GiB, {free / 2**30:.3g} GiB are "
            "free; fewer seeds or quantities, or a larger record_every, need less"
        )


def _crew(grid: Grid, missing: Sequence[Cell], workers: int | None) -> int:
    """Processes, at most as many as there is memory for."""
    block, recorded = (max(sizes) for sizes in zip(*(memory_bytes(grid.plan(cell)) for cell in missing), strict=True))
    each, free = block + 3 * recorded + PROCESS_BYTES, available_bytes()  # recorded, labelled, written
    fits, most = max(free // each, 1), min(joblib.cpu_count() if workers is None else workers, len(missing))
    if workers is not None and most > fits:
        raise ResourceError(
            f"workers={workers}: {most} processes need {most * each / 2**30:.3g} GiB, {free / 2**30:.3g} GiB are free; "
            f"workers={fits} would fit"
        )
    return int(min(most, fits))


def _compute(grid: Grid, folder: Path, missing: Sequence[Cell], workers: int | None) -> Generator[Cell]:
    """Compute cells here or in worker processes, and yield each when it is on the disk."""
    count = _crew(grid, missing, workers) if missing else 1
    if count == 1:
        for cell in missing:
            yield _cell(grid, folder, cell, os.getpid())
        return
    try:
        with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
            jobs = (joblib.delayed(_cell)(grid, folder, cell, os.getpid()) for cell in missing)
            with interrupts_deferred():
                results = joblib.Parallel(count, return_as="generator_unordered", max_nbytes=None)(jobs)
            with contextlib.closing(results):
                yield from results
    except BrokenProcessPool as error:
        text = "a worker process was killed, perhaps for want of memory (fewer need less); finished cells are kept"
        raise ResourceError(text) from error


def _cell(grid: Grid, folder: Path, cell: Cell, parent: int) -> Cell:
    """Compute and write one cell, on one thread: sums in another order would be other bits."""
    if os.getpid() != parent:
        _end_with(parent)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)  # they are in the cell's attributes
            write(grid.train(cell), grid.identity(cell), folder / cell.name)
    finally:
        torch.set_num_threads(threads)
    return cell


@functools.cache
def _end_with(parent: int) -> None:
    """End this worker process within a second of its parent, whose death it would not notice otherwise.

    Ending at any moment is safe: see `finite.cells.write`.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Bar:
    """A bar in proportion to the work, or calls of the user's function."""

    def __init__(self, progress: Progress, grid: Grid, missing: Sequence[Cell]) -> None:
        self._callback = progress if callable(progress) else None
        disable = not progress if isinstance(progress, bool) else None if progress is None else True
        self._work, self._done, self._diverged = grid.work, 0, 0
        self._cells, total = len(missing), sum(map(grid.work, missing))
        shape = "{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
        self._bar = tqdm(total=total, disable=disable or not missing or None, bar_format=shape, leave=False)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def step(self, cell: Cell, diverged: int) -> None:
        """Say that a cell is finished, and how many of its networks diverged."""
        self._done += 1
        self._diverged += diverged
        if self._callback is not None:
            self._callback(self._done, self._cells, cell.name)
        more = f", {self._diverged} networks diverged" if self._diverged else ""
        self._bar.set_postfix_str(f"{self._done}/{self._cells} cells{more}", refresh=False)
        self._bar.update(self._work(cell))
