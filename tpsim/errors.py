"""The errors and notices of tpsim: each names the field, the value and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class TpsimError(Exception):
    """Base class of everything that tpsim raises on purpose."""


class InputError(TpsimError, ValueError):
    """An argument, a configuration key or a data file that cannot be used."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        self.field, self.value, self.allowed = field, value, allowed
        super().__init__(f"{field}: got {_short(value)}; allowed: {allowed}")

    def __reduce__(self) -> tuple[Any, ...]:  # so that it survives the way back from a worker process
        return type(self), (self.field, self.value, self.allowed)


class ResourceError(TpsimError):
    """The run cannot fit: memory, or more arrays in a space than it has particles."""


class RunStopped(TpsimError):
    """A run that had to stop early; what was finished is kept in `run`.

    Attributes
    ----------
    step : int
        The step that could not be completed.
    run : xarray.Dataset or None
        Every recorded step before it (None if there is none).
    """

    def __init__(self, message: str, step: int, run: Any = None) -> None:
        super().__init__(message)
        self.step, self.run = step, run


class Diverged(RunStopped):
    """The outputs became non-finite or grew past the divergence threshold."""


class RankError(RunStopped, ResourceError):
    """The bases reached the number of particles, or `max_rank`."""


class FileError(TpsimError):
    """A file that is missing, damaged or not what it claims to be."""


class Damaged(FileError):
    """A file that is there and is not what it was when it was written, or was made to be something else.

    Attributes
    ----------
    path, name, reason : the file, its name, and what is wrong with it.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.name, self.reason = path, path.name, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.reason)


class CheckpointError(FileError):
    """A checkpoint that cannot be written, or that is there and cannot be used.

    Attributes
    ----------
    path, reason : the file, and what is wrong with it.
    """

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.reason)


class Interrupted(KeyboardInterrupt):
    """A run with checkpoints that a signal has stopped: what was finished is in them.

    Attributes
    ----------
    signum : int
        The signal.
    """

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.signum = signum


class Notice(UserWarning):
    """Something legal that the user should know of (kept in `run.attrs["notices"]`)."""


def _short(value: object, limit: int = 80) -> str:
    try:
        text = str(value) if isinstance(value, str) and value.startswith("<") else repr(value)
    except Exception:  # a class of the user's, a list in itself a thousand times, an integer of 5000 digits
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else text[: limit - 3] + "..."
