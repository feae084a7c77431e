"""The processes that train the networks of a study, within the memory that is free and the time that is allowed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import joblib
import xarray as xr
from tqdm import tqdm

from tpsim import ResourceError
from tpsim.plan import available_bytes
from tpsim.signals import interrupts_deferred

from .networks import Block, bytes_of, run


class Crew:
    """Runs one width after the other, and says which had to be left out.

    Parameters
    ----------
    workers : processes.
    minutes : a width is left out if it would end later than this after the start; predicted from the last width of the
        same kind, in proportion to the work.
    progress : None (a bar on a terminal), True or False.
    total : pieces of all blocks that will be asked for.
    """

    def __init__(self, workers: int, minutes: float, progress: bool | None, total: int) -> None:
        self.workers, self.minutes = workers, minutes
        self.skipped: list[tuple[int, str]] = []
        self.seconds: dict[tuple[int, bool], float] = {}  # by width and whether dense
        self._rate: dict[bool, float] = {}  # seconds for a unit of work, by whether dense
        self._start = time.perf_counter()
        disable = None if progress is None else not progress
        self._bar = tqdm(total=total, disable=disable, unit="block", leave=False)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def train(self, blocks: Sequence[Block]) -> list[xr.Dataset] | None:
        """Train blocks of one width and kind; None, and a line in `skipped`, if that does not fit."""
        n, dense = blocks[0].width, blocks[0].dense
        pieces = [(k, piece) for k, block in enumerate(blocks) for piece in block.pieces()]
        work = sum(block.work for block in blocks)
        start = time.perf_counter()
        self._bar.set_description(f"n = {n}", refresh=True)
        try:
            workers = self._fitting(blocks)
            if reason := self._too_long(work * self._rate.get(dense, 0.0)):
                raise ResourceError(reason)
            found = self._run([piece for _, piece in pieces], workers)
        except ResourceError as error:
            self.skipped.append((n, f"{'dense networks' if dense else 'networks without matrices'}: {error}"))
            self._bar.total -= len(pieces)
            self._bar.refresh()
            return None
        self.seconds[n, dense] = time.perf_counter() - start
        self._rate[dense] = self.seconds[n, dense] / work
        runs = [[one for (j, _), one in zip(pieces, found, strict=True) if j == k] for k in range(len(blocks))]
        return [_join(block, parts) for block, parts in zip(blocks, runs, strict=True)]

    def _fitting(self, blocks: Sequence[Block]) -> int:
        """Processes for which there is room; the first piece of a block is the largest."""
        needed, free = max(bytes_of(block.pieces()[0]) for block in blocks), available_bytes()
        if needed > free:
            raise ResourceError(f"{needed / 2**30:.3g} GiB are needed, {free / 2**30:.3g} GiB are free")
        return min(self.workers, free // needed)

    def _too_long(self, predicted: float) -> str | None:
        left = 60 * self.minutes - (time.perf_counter() - self._start)
        if predicted <= max(left, 0.0):
            return None
        return f"would take about {predicted:.0f} s, {max(left, 0.0):.0f} s of minutes={self.minutes:g} are left"

    def _run(self, pieces: Sequence[Block], workers: int) -> list[xr.Dataset]:
        if workers == 1:
            return list(self._counted(map(run, pieces)))
        with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
            jobs = (joblib.delayed(_run_here)(piece) for piece in pieces)
            with interrupts_deferred():
                results = joblib.Parallel(n_jobs=workers, return_as="generator")(jobs)
            return list(self._counted(results))

    def _counted(self, results: Iterator[xr.Dataset]) -> Iterator[xr.Dataset]:
        for result in results:
            self._bar.update(1)
            yield result


def _run_here(block: Block) -> xr.Dataset:
    """In a worker process: bars, shown or not, share a semaphore, which a process that is ended would leave behind."""
    tqdm.set_lock(threading.RLock())
    return run(block)


def _join(block: Block, pieces: list[xr.Dataset]) -> xr.Dataset:
    whole = xr.concat(pieces, "replica")
    return whole.assign_attrs(width=block.width, dense=int(block.dense), parametrization=block.parametrization)
