"""Folders that outlive a process: held by one at a time, written so that a kill at any moment leaves whole files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .errors import FileError


@contextlib.contextmanager
def held(folder: Path, whose: str, clean: Callable[[Path], None]) -> Iterator[None]:
    """Make the folder and hold it against others; `clean` removes what killed ones have left, before and after.

    The lock is the system's, on the folder itself: it ends with the process, however that ends.

    Raises
    ------
    FileError
        It cannot be made or opened, or another of `whose` kind is at work in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise FileError(f"{folder}: not a folder that can be made and opened: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileError(f"{folder}: another {whose} is at work in this folder") from None
        except OSError:  # a file system without locks: writing is safe all the same, and only work may be done twice
            yield
            return
        clean(folder)
        try:
            yield
        finally:
            clean(folder)
    finally:
        os.close(descriptor)


def check_writable(folder: Path) -> None:
    """Refuse a folder that does not take files, before anything is computed."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"cell")
            file.flush()
    except OSError as error:
        raise FileError(f"{folder}: cannot be written: {error.strerror or error}") from error


def flush(path: Path) -> None:
    """Force a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # what some network file systems say of folders
            raise
    finally:
        os.close(descriptor)


def free_bytes(folder: Path) -> int | None:
    """Bytes that the file system of a folder has free; None where it does not tell."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def room(folder: Path) -> str:
    """The end of a message: how much is free."""
    free = free_bytes(folder)
    return "" if free is None else f", {free} are free"


def first_difference(found: Any, expected: Any, name: str = "") -> str | None:
    """Say where two nested tables differ first, as in `training.steps is 10 there and 20 here`; None if nowhere."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in [*expected, *(key for key in found if key not in expected)]:
            inner = f"{name}.{key}" if name else str(key)
            if difference := first_difference(found.get(key, _NOTHING), expected.get(key, _NOTHING), inner):
                return difference
        return None
    if type(found) is type(expected) and found == expected:
        return None
    if isinstance(found, list) and isinstance(expected, list) and _brief(found) == _brief(expected):  # cut short
        pairs = enumerate(zip(found, expected, strict=False))
        lengths = f"{name or 'it'} has {len(found)} entries there and {len(expected)} here"
        return next((text for k, pair in pairs if (text := first_difference(*pair, f"{name}[{k}]"))), lengths)
    return f"{name or 'it'} is {_brief(found)} there and {_brief(expected)} here"


_NOTHING = "<nothing>"


def _brief(value: Any, limit: int = 60) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
