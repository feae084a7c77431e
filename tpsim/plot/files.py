"""All the pictures of a run, one file each."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr

from ..errors import FileError, InputError
from ..files import file_path
from .curves import loss, outputs, probe_error, probes
from .diagnostics import feature_change, ranks, residuals
from .eigenvalues import spectra_figure
from .law import law
from .matrices import kernels_figure
from .particles import densities_figure
from .read import require, require_hidden
from .style import COLUMN, STYLE

FORMATS = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}  # no dates: same run, same file


@dataclass(frozen=True)
class Picture:
    """How a file is drawn, and the variables that it needs."""

    draw: Callable[..., Any]
    needs: tuple[str, ...]
    panels: bool = False
    hidden: bool = False
    options: tuple[Any, ...] = ()


PICTURES = {
    "loss": Picture(loss, ("loss",)),
    "outputs": Picture(outputs, ("f", "targets")),
    "law": Picture(law, ("f_mean", "f_cov", "targets")),
    "probes": Picture(probes, ("f_probe",)),
    "probe_error": Picture(probe_error, ("f_probe", "probe_targets")),
    "kernels": Picture(kernels_figure, ("kernel_x", "targets"), panels=True, options=("x",)),
    "kernels_h": Picture(kernels_figure, ("kernel_h", "targets"), panels=True, options=("h",)),
    "spectra": Picture(spectra_figure, ("kernel_x", "targets"), panels=True, options=("x",)),
    "spectra_h": Picture(spectra_figure, ("kernel_h", "targets"), panels=True, options=("h",)),
    "densities": Picture(densities_figure, ("Z_h", "targets"), panels=True),
    "feature_change": Picture(feature_change, ("feature_change_h", "feature_change_x")),
    "ranks": Picture(ranks, ("rank_forward", "rank_backward")),
    "residuals": Picture(residuals, ("residual_forward", "residual_backward"), hidden=True),
}


def missing(run: xr.Dataset) -> dict[str, str]:
    """Return the pictures that `save_all` leaves out, each with the reason."""
    reasons = {}
    for name, picture in PICTURES.items():
        try:
            require(run, *picture.needs)
            if picture.hidden:
                require_hidden(run)
        except InputError as error:
            reasons[name] = str(error)
    return reasons


def save_all(run: xr.Dataset, directory: str | os.PathLike[str], formats: Sequence[str] = ("png",)) -> list[Path]:
    """Write every picture that the run has data for, one file per picture and format; return their paths.

    What is left out, and why, is in `missing(run)`. The same run gives the same files, byte for byte.

    Raises
    ------
    InputError
        An unknown format (png, pdf and svg are known).
    FileError
        The directory cannot be created or written.
    """
    file_path("directory", directory)
    check_formats(formats)
    left_out = missing(run)
    drawn = {name: partial(_draw, run, picture) for name, picture in PICTURES.items() if name not in left_out}
    return write_pictures(drawn, directory, formats)


def _draw(run: xr.Dataset, picture: Picture, figure: Any) -> None:
    place = {"figure": figure} if picture.panels else {"ax": figure.subplots()}
    picture.draw(run, *picture.options, **place)


def write_pictures(
    pictures: Mapping[str, Callable[[Any], Any]], directory: str | os.PathLike[str], formats: Sequence[str] = ("png",)
) -> list[Path]:
    """Draw each picture on a new figure and write it in every format; return the paths.

    Raises
    ------
    InputError
        An unknown format (png, pdf and svg are known).
    FileError
        The directory cannot be created or written.
    """
    folder = file_path("directory", directory)
    drawn = _drawn(pictures, check_formats(formats))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in drawn.items():
            (folder / name).write_bytes(data)
    except OSError as error:
        raise FileError(f"{directory}: cannot be written: {error.strerror or error}") from error
    return [folder / name for name in drawn]


def _drawn(pictures: Mapping[str, Callable[[Any], Any]], formats: Sequence[str]) -> dict[str, bytes]:
    """The content of every file: none is written before all are drawn."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    files = {}
    for name, draw in pictures.items():
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=COLUMN, layout="constrained")  # no pyplot: nothing to show or to close
            draw(figure)
            for kind in formats:
                buffer = io.BytesIO()
                figure.savefig(buffer, format=kind, metadata=FORMATS[kind])
                files[f"{name}.{kind}"] = buffer.getvalue()
    return files


def check_formats(formats: Sequence[str]) -> Sequence[str]:
    """Return `formats`, or raise `InputError` for one that is not known."""
    if not isinstance(formats, list | tuple):
        raise InputError("formats", formats, f"a list of any of {sorted(FORMATS)}")
    for kind in formats:
        if not isinstance(kind, str) or kind not in FORMATS:
            raise InputError("formats", kind, f"any of {sorted(FORMATS)}")
    return formats
