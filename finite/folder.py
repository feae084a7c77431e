"""The folder of a sweep: held by one sweep at a time, and what is found in it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import xarray as xr

from tpsim.errors import Damaged, FileError
from tpsim.results import versions

from .cells import Form, Identity, clean, read
from .grid import Cell, Grid


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the folder and hold it against other sweeps; leave no temporary files in it.

    The lock is the system's, on the folder itself: it ends with the process, however that ends.

    Raises
    ------
    FileError
        It cannot be made or opened, or another sweep is at work in it.
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
            raise FileError(f"{folder}: another sweep is at work in this folder") from None
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


def find(folder: Path, grid: Grid, cell: Cell) -> xr.Dataset | None:
    """Return a finished cell of the grid, None where there is none.

    Raises
    ------
    Damaged
        It is not whole, or another cell under this one's name.
    FileError
        It is whole, and belongs to a sweep of other settings; or it cannot be read.
    """
    path, expected = folder / cell.name, grid.identity(cell)

    def judge(identity: Identity, form: Form) -> None:
        refuse_other_settings(path, identity, expected["settings"])
        if (there := place_of(path, identity)) != cell:
            raise Damaged(path, f"it is the cell {there.name} under another name")
        if difference := first_difference(identity["cell"], expected["cell"]):
            raise FileError(f"{path}: belongs to another sweep: {difference}")
        refuse_other_form(path, form, grid.form(cell))

    return read(path, judge)


def refuse_other_sweeps(folder: Path, grid: Grid) -> None:
    """Refuse a folder whose first whole cell, in the grid or not, has other settings."""
    for path in sorted(folder.glob("*.nc")):

        def judge(identity: Identity, _: Form, path: Path = path) -> None:
            refuse_other_settings(path, identity, grid.settings)

        with contextlib.suppress(Damaged):
            if read(path, judge) is not None:
                return


def refuse_other_settings(path: Path, identity: Identity, settings: dict[str, Any]) -> None:
    """Refuse to touch a whole cell of another sweep."""
    if difference := first_difference(identity["settings"], settings):
        raise FileError(f"{path}: belongs to another sweep, so that this one needs another folder: {difference}")


def refuse_other_form(path: Path, form: Form, expected: Form) -> None:
    """Call a cell damaged whose variables are not what they must be."""
    found, right = ({name: str(entry) for name, entry in one.items()} for one in (form, expected))
    if difference := first_difference(found, right):
        raise Damaged(path, f"its variables are not those of the cell: {difference}")


def place_of(path: Path, identity: Identity) -> Cell:
    """Return the cell that a file says it is; Damaged if that makes no sense."""
    try:
        cell = Cell(**{entry.name: identity["cell"][entry.name] for entry in fields(Cell)})
        if cell.name and 0 <= cell.first <= cell.last and cell.width > 0:
            return cell
    except (KeyError, TypeError, ValueError):
        pass
    raise Damaged(path, "its identity is not that of a cell")


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
    return f"{name or 'it'} is {_brief(found)} there and {_brief(expected)} here"


_NOTHING = "<nothing>"


def _brief(value: Any, limit: int = 60) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def other_versions(run: xr.Dataset) -> str | None:
    """Say which libraries had other versions when a cell was computed, as in `torch 2.4.0`."""
    here = versions("torch")
    try:
        there = json.loads(run.attrs["versions"])
        return ", ".join(f"{name} {there.get(name)}" for name in here if there.get(name) != here[name]) or None
    except (KeyError, TypeError, ValueError, AttributeError):
        return "unknown versions"
