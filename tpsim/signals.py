"""Signals: kept from processes that are started, and turned into a request to stop at the end of a step."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _is_ours() -> bool:
    """Whether handlers can be set: only the main thread may, and not over those of an embedding program."""
    main = threading.current_thread() is threading.main_thread()
    return main and all(signal.getsignal(number) is not None for number in SIGNALS)


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Processes started inside never see Ctrl-C, which a terminal sends to all: this process ends them, in silence.

    Nor do they see SIGTERM where this process handles it. What comes while the block lasts, about a second, is acted
    on when it ends.
    """
    if not _is_ours():
        yield
        return
    numbers = [number for number in SIGNALS if callable(signal.getsignal(number))]
    came: list[int] = []
    resource_tracker.ensure_running()  # starting it would unblock the signals (Python before 3.13)
    before = {number: signal.signal(number, lambda n, _: came.append(n)) for number in numbers}  # from other threads
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)  # which processes started inside inherit
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
        for signum in dict.fromkeys(came):
            signal.raise_signal(signum)


def block_signals() -> None:
    """In a worker process: leave both signals to the process that has started it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


PREFIX = "tpsim-stop-"


def _remove_left() -> None:
    """Remove the files of processes that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        with suppress(OSError, ValueError):
            owner = int(path.name.removeprefix(PREFIX).split("-")[0])
            try:
                os.kill(owner, 0)
            except ProcessLookupError:
                path.unlink()


class StopRequest:
    """A file of one byte, the number of the signal that asks all processes of a run to stop.

    It is there before it is needed, in the system's folder for temporary files: on a full disk no new file can be made.
    """

    def __init__(self) -> None:
        _remove_left()
        descriptor, name = tempfile.mkstemp(prefix=f"{PREFIX}{os.getpid()}-")
        self.path = Path(name)
        self._descriptor = descriptor
        os.write(descriptor, b"\0")

    def make(self, signum: int) -> None:
        """Ask all processes to stop."""
        os.pwrite(self._descriptor, bytes([signum]), 0)

    @property
    def signum(self) -> int:
        """The signal; 0 where none has come."""
        return os.pread(self._descriptor, 1, 0)[0]

    def close(self) -> None:
        """Remove the file."""
        os.close(self._descriptor)
        self.path.unlink(missing_ok=True)


def requested(path: Path) -> bool:
    """Whether the file of a `StopRequest` says so."""
    try:
        return path.read_bytes() not in (b"", b"\0")
    except OSError:  # removed by whoever tidies up old files
        return False


class Terminated(KeyboardInterrupt):
    """SIGTERM, where it is to end a command as Ctrl-C does."""


@contextmanager
def terminable() -> Iterator[None]:
    """End on SIGTERM as on Ctrl-C: workers stopped, temporary files removed."""
    if not _is_ours():
        yield
        return

    def end(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """SIGINT and SIGTERM ask for a stop; a second one raises KeyboardInterrupt at once, as Ctrl-C does without this."""
    request = StopRequest()

    def handle(signum: int, frame: FrameType | None) -> None:
        if request.signum:
            raise KeyboardInterrupt
        request.make(signum)

    before = {number: signal.signal(number, handle) for number in SIGNALS} if _is_ours() else {}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        request.close()
