"""Paths and plain files: what is read is neither a device nor a pipe, which may never end, and fits into memory."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from .errors import FileError, InputError


def file_path(field: str, value: Any) -> Path:
    """Return `value` as a path with ~ expanded.

    Raises
    ------
    InputError
        Not a path.
    """
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        if isinstance(text, str) and text and "\0" not in text:
            try:
                os.fsencode(text)
                return Path(text).expanduser()
            except (RuntimeError, UnicodeError):  # ~nobody; half a character
                pass
    raise InputError(field, value, "the path of a file or folder")


def check_plain(path: Path, most: int | None = None) -> None:
    """Refuse what is not a plain file, and one of more than `most` bytes (half of the free memory when None).

    Raises
    ------
    FileError
        Either of them, or nothing that can be looked at.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from None
    if stat.S_ISDIR(found.st_mode):
        raise FileError(f"{path}: cannot be read: it is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise FileError(f"{path}: not a plain file")
    if most is None:
        from .plan import available_bytes  # brings the engine

        most = available_bytes() // 2
    if found.st_size > most:
        raise FileError(f"{path}: {found.st_size} bytes are too many; at most {most} can be read")


def plain_bytes(path: Path) -> bytes:
    """Return the content of a plain file.

    Raises
    ------
    FileError
        No plain file, too large for the memory, or it cannot be read.
    """
    check_plain(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error
