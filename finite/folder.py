"""The folder of a sweep: held by one sweep at a time, and what is found in it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import xarray as xr

from tpsim import storage
from tpsim.errors import Damaged, FileError
from tpsim.results import versions
from tpsim.storage import first_difference

from .cells import Form, Identity, clean, read
from .grid import Cell, Grid


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the folder and hold it against other sweeps; leave no temporary files in it. See `tpsim.storage.held`."""
    with storage.held(folder, "sweep", clean):
        yield


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


def other_versions(run: xr.Dataset) -> str | None:
    """Say which libraries had other versions when a cell was computed, as in `torch 2.4.0`."""
    here = versions("torch")
    try:
        there = json.loads(run.attrs["versions"])
        return ", ".join(f"{name} {there.get(name)}" for name in here if there.get(name) != here[name]) or None
    except (KeyError, TypeError, ValueError, AttributeError):
        return "unknown versions"
