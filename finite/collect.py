"""Cells put together: one dataset over activation, parametrization, width and replica."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from tpsim.errors import Damaged, FileError, Notice, ResourceError
from tpsim.files import file_path
from tpsim.parametrization import TABLE_2
from tpsim.plan import available_bytes

from .cells import Form, Identity, checksum_of, read
from .folder import place_of, refuse_other_form, refuse_other_settings
from .grid import Cell

AXES = ("activation", "parametrization", "width")


class Table:
    """Arrays over (activation, parametrization, width, replica, ...), NaN until a cell is put into its place.

    Parameters
    ----------
    activations, parametrizations, widths : the coordinates.
    seeds : replicas.
    """

    def __init__(
        self, activations: Sequence[str], parametrizations: Sequence[str], widths: Sequence[int], seeds: int
    ) -> None:
        self.axes: dict[str, list[Any]] = {
            "activation": list(activations), "parametrization": list(parametrizations), "width": list(widths)
        }  # fmt: skip
        self.seeds = seeds
        self.arrays: dict[str, np.ndarray] = {}
        self._first: xr.Dataset | None = None

    def put(self, cell: Cell, run: xr.Dataset) -> None:
        """Copy the networks of a cell into their place."""
        if self._first is None:
            self._first = run
            sizes = (*map(len, self.axes.values()), self.seeds)
            whole = sum(v.nbytes for v in run.data_vars.values() if "replica" in v.dims) / run.sizes["replica"]
            if whole * math.prod(sizes) > available_bytes():
                raise ResourceError(f"{cell.name}: a table of {math.prod(sizes)} networks does not fit into memory")
            for name, values in run.data_vars.items():
                if "replica" in values.dims:
                    blank = np.nan if values.dtype.kind == "f" else -1
                    self.arrays[str(name)] = np.full((*sizes, *values.shape[1:]), blank, dtype=values.dtype)
        place: Any = tuple(axis.index(getattr(cell, name)) for name, axis in self.axes.items())
        for name, array in self.arrays.items():
            array[(*place, slice(cell.first, cell.last + 1))] = run[name].values

    def dataset(self, report: dict[str, Any], notices: Sequence[str]) -> xr.Dataset:
        """Return the whole, with what all its cells share in the attributes."""
        run = self._first
        assert run is not None
        variables = {
            name: ((*self.axes, *values.dims), self.arrays[str(name)], values.attrs)
            if name in self.arrays
            else values.variable
            for name, values in run.data_vars.items()
        }
        coordinates = self.axes | {"replica": np.arange(self.seeds)}
        coordinates |= {str(name): axis.variable for name, axis in run.coords.items() if name != "replica"}
        settings = json.loads(run.attrs["identity"])["settings"]
        attributes = {
            "title": "tpsim: a sweep of networks of finite width",
            "config": json.dumps(settings),
            "seed": settings["sweep"]["seed"],
            "dtype": settings["sweep"]["dtype"],
            "versions": run.attrs["versions"],
            "notices": "\n".join(notices),
            "report": json.dumps(report),
        }
        return xr.Dataset(variables, coordinates, attributes)


def load_sweep(folder: str | os.PathLike[str]) -> xr.Dataset:
    """Read all finished cells of a folder that `sweep` wrote, whatever its settings were.

    Returns
    -------
    xarray.Dataset
        As of `sweep`, over all values of activation, parametrization, width and seed for which there is a finished
        cell. What is missing between them or damaged is NaN, listed in the attribute `report` and told by a `Notice`.

    Raises
    ------
    FileError
        No finished cell, a file that cannot be read, or cells of different sweeps.
    """
    place, found, damaged = file_path("folder", folder), [], {}
    settings: dict[str, Any] = {}
    form: Form = {}
    try:
        paths = sorted(place.glob("*.nc*"))
    except OSError as error:
        raise FileError(f"{place}: cannot be read: {error.strerror or error}") from error
    for path in paths:
        if path.suffix != ".nc":
            continue

        def judge(identity: Identity, own: Form, path: Path = path) -> None:
            refuse_other_settings(path, identity, settings or identity["settings"])
            if (cell := place_of(path, identity)).name != path.name:
                raise Damaged(path, f"it is the cell {cell.name} under another name")
            refuse_other_form(path, own, _resized(form or own, cell.seeds))
            settings.update(identity["settings"])
            form.update(own)

        try:
            if (run := read(path, judge)) is None:
                damaged[path.name] = f"unfinished: it has no {checksum_of(path).name}"
            else:
                found.append((place_of(path, json.loads(run.attrs["identity"])), run))
        except Damaged as error:
            damaged[error.name] = error.reason
    if not found:
        raise FileError(f"{place}: no finished cell of a sweep")
    return _together(found, damaged)


def _resized(form: Form, seeds: int) -> Form:
    """The form of a cell with another number of networks."""
    return {
        name: (dims, tuple(seeds if dim == "replica" else size for dim, size in zip(dims, shape, strict=True)), kind)
        for name, (dims, shape, kind) in form.items()
    }


def _together(found: list[tuple[Cell, xr.Dataset]], damaged: dict[str, str]) -> xr.Dataset:
    cells = sorted((cell for cell, _ in found), key=lambda cell: cell.seeds)
    order = [*TABLE_2, *sorted({cell.parametrization for cell in cells} - set(TABLE_2))]
    table = Table(
        sorted({cell.activation for cell in cells}),
        sorted({cell.parametrization for cell in cells}, key=order.index),
        sorted({cell.width for cell in cells}),
        max(cell.last for cell in cells) + 1,
    )
    for cell, run in sorted(found, key=lambda pair: pair[0].seeds):  # of overlapping cells the longest stays
        table.put(cell, run)
    missing = []
    for activation in table.axes["activation"]:
        for parametrization in table.axes["parametrization"]:
            for width in table.axes["width"]:
                line = Cell(activation, parametrization, width, 0, table.seeds - 1)
                there = {
                    k for cell in cells if replace(cell, first=0, last=table.seeds - 1) == line
                    for k in range(cell.first, cell.last + 1)
                }  # fmt: skip
                if gaps := table.seeds - len(there):
                    missing.append(f"{parametrization}, {activation}, n = {width}: {gaps} of {table.seeds} networks")
    notices = [f"{name} was left out: {reason}" for name, reason in damaged.items()]
    notices += [f"missing: {'; '.join(missing)}"] if missing else []
    for notice in notices:
        warnings.warn(notice, Notice, stacklevel=3)
    return table.dataset({"damaged": damaged, "missing": missing}, notices)
