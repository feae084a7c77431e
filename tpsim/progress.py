"""The progress bar of a run, here or in worker processes."""

from __future__ import annotations

import math
import struct
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

Progress = None | bool | Callable[[int, int, float], None]
RECORD = struct.Struct("<qd")  # step, loss
INTERVAL = 0.2  # seconds between two looks at what the workers have done


class Bar:
    """A bar with the loss and its standard error over the replicas that have reached the latest complete step.

    Parameters
    ----------
    progress : None (a bar on a terminal), True (a bar), False, or a callable of (step, replica, loss).
    replicas, steps : the total is replicas * steps.
    """

    def __init__(self, progress: Progress, replicas: int, steps: int) -> None:
        self._callback = progress if callable(progress) else None
        show = progress if isinstance(progress, bool) else None if self._callback is None else False
        self._bar = tqdm(total=replicas * steps, disable=None if show is None else not show, unit="step", leave=False)
        self._losses: dict[int, tuple[int, float, float]] = {}  # by step: count, mean, sum of squares about it

    @property
    def shown(self) -> bool:
        return not self._bar.disable

    @property
    def active(self) -> bool:
        """Whether anyone looks: a loss that is computed for the bar only need not be otherwise."""
        return self.shown or self._callback is not None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def step(self, replica: int, step: int, loss: float) -> None:
        """Say that `replica` has finished `step`."""
        if self._callback is not None:
            self._callback(step, replica, loss)
        if self.shown:
            count, mean, square = self._losses.get(step, (0, 0.0, 0.0))
            count, before = count + 1, loss - mean
            mean += before / count
            square += before * (loss - mean)
            self._losses[step] = count, mean, square
            error = f" +- {math.sqrt(square / (count - 1) / count):.1e}" if count > 1 else ""
            self._bar.set_postfix_str(f"loss {mean:.4g}{error} at step {step}", refresh=False)
            self._bar.update(1)


@dataclass(frozen=True)
class Log:
    """Called in a worker process: appends (step, loss) to a file. Progress is never worth a failed run."""

    path: Path

    def __call__(self, step: int, loss: float) -> None:
        try:
            with self.path.open("ab") as file:
                file.write(RECORD.pack(step, loss))
        except OSError:
            pass


class Relay:
    """Moves what worker processes log to the bar of this one, from a thread, while the block runs.

    What the user's callable raises there is raised at the end of the block.
    """

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._read: dict[int, int] = {}  # bytes of each replica's log that have been shown
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Relay:
        self._folder = tempfile.TemporaryDirectory(prefix="tpsim-", ignore_cleanup_errors=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        self._folder.cleanup()
        if self._error is not None:
            raise self._error

    def log(self, replica: int) -> Log:
        """Return what the worker that runs `replica` calls after each step."""
        self._read[replica] = 0
        return Log(Path(self._folder.name, str(replica)))

    def _watch(self) -> None:
        try:
            while not self._done.wait(INTERVAL):
                self._show()
            self._show()
        except BaseException as error:
            self._error = error

    def _show(self) -> None:
        for replica, start in list(self._read.items()):
            try:
                records = Path(self._folder.name, str(replica)).read_bytes()[start:]
            except OSError:  # not started yet
                continue
            records = records[: len(records) // RECORD.size * RECORD.size]
            self._read[replica] = start + len(records)
            for step, loss in RECORD.iter_unpack(records):
                self._bar.step(replica, step, loss)
