"""The folder of the figures: pictures, captions, and the numbers from which each can be drawn again."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5netcdf
import xarray as xr

from tpsim import output
from tpsim.errors import FileError
from tpsim.plot.files import write_pictures

from .captions import activation, counted
from .registry import FIGURES
from .study import Settings, Study

REPORT, NUMBERS = "figures.md", "figures.nc"
FORMATS = ("png", "pdf")
STEPS = ("step", "joint_step")


def write(
    folder: Path, study: Study, names: Sequence[str], facts: dict[str, Any], config: str, data: str = ""
) -> list[Path]:
    """Write the pictures, figures.md, figures.nc, summary.json and config.toml, at once; return their paths.

    `data` says in words where the data are from.

    Raises
    ------
    FileError
        Nothing can be written there; what was there is left as it was.
    """

    def fill(temporary: Path) -> list[str]:
        pictures = {stem(name): partial(FIGURES[name].draw, study) for name in names}
        logging.getLogger("fontTools").setLevel(logging.ERROR)  # it warns of the dates of fonts in every pdf
        written = write_pictures(pictures, temporary, FORMATS)
        (temporary / REPORT).write_text(report(study, names, data), encoding="utf-8")
        (temporary / NUMBERS).write_bytes(numbers(study))
        return [REPORT, NUMBERS, output.SUMMARY, "config.toml", *(path.name for path in written)]

    return output.write_folder(folder, fill, facts, config)


def stem(name: str) -> str:
    """The file name of a figure: figure-01, depths."""
    return f"figure-{int(name):02d}" if name.isdecimal() else name


def report(study: Study, names: Sequence[str], data: str = "") -> str:
    """Return Markdown: the settings, and every picture with its caption."""
    parts = ["# Figures of the paper, with the limit of infinite width", header(study.settings, data)]
    for name in names:
        figure = FIGURES[name]
        label = f"Figure {name}" if name.isdecimal() else figure.title
        title = f"## {label}: {figure.title}" if name.isdecimal() else f"## {figure.title}"
        parts.append(f"{title}\n\n![{label}]({stem(name)}.{FORMATS[0]})\n\n{figure.caption(study)}")
    return "\n\n".join(parts) + "\n"


def header(settings: Settings, data: str = "") -> str:
    """Return the settings in one paragraph."""
    (m, d), training = settings.problem.inputs.shape, settings.training
    batches = "full batches" if training.batches is None else "minibatches, listed in config.toml"
    if isinstance(training.batches, dict):
        batches = f"minibatches of {training.batches['size']}"
    return (
        f"Data: {data or 'given as arrays'}; m = {m} samples of d = {d}. L = {settings.network.depth} hidden layers, "
        f"constants of Appendix A, eta = {training.learning_rate:g}, {training.criterion.name} loss "
        f"({training.reduction} over samples), {batches}, T = {counted(training.steps, 'step')}. Networks: n = "
        f"{', '.join(map(str, settings.widths))}, {counted(settings.seeds, 'seed')}, {settings.dtype}. Limits: "
        f"{counted(settings.replicas, 'replica')} of {settings.particles} particles, where a caption says nothing "
        f"else. Figures with a title in place of a number: {activation(settings)}."
    )


def numbers(study: Study) -> bytes:
    """Return a netCDF4 file of what the figures draw: networks and limits before and after training, other data whole.

    Groups: networks, limits/PARAMETRIZATION-ACTIVATION, extras/NAME.
    """
    groups = {f"limits/{name}-{phi}": _ends(run) for (phi, name), run in study.limits.items()}
    groups |= {f"extras/{name}": run for name, run in study.extras.items()}
    if study.networks is not None:
        groups["networks"] = _ends(study.networks).assign_attrs(report="")  # that of this call: what was there already
    buffer = io.BytesIO()
    with h5netcdf.File(buffer, "w") as file:
        file.attrs["title"] = "tpsim: the numbers of the figures"
        for name, run in groups.items():
            run = run.drop_encoding()  # that of a file it may have been read from
            encoding = {key: {"zlib": True, "complevel": 1} for key in run.data_vars if run[key].size > 4096}
            run.dump_to_store(xr.backends.H5NetCDFStore(file.create_group(name)), encoding=encoding)
    return buffer.getvalue()


def load_study(path: str | os.PathLike[str], settings: Settings) -> Study:
    """Return the study that `numbers` wrote, as far as figures and captions need it.

    Raises
    ------
    FileError
        Missing or damaged.
    """
    limits, extras, networks = {}, {}, None
    try:
        with h5netcdf.File(path, "r") as file:
            names = {kind: list(file[kind]) if kind in file else [] for kind in ("limits", "extras")}
            found = "networks" in file
        for name in names["limits"]:
            parametrization, _, phi = name.partition("-")
            limits[phi, parametrization] = _group(path, f"limits/{name}")
        for name in names["extras"]:
            extras[name] = _group(path, f"extras/{name}")
        networks = _group(path, "networks") if found else None
    except Exception as error:  # h5py and xarray raise half a dozen unrelated types on damage
        raise FileError(f"{path}: not the numbers of figures ({type(error).__name__}: {error})") from error
    return Study(settings, networks, limits, extras)


def _group(path: str | os.PathLike[str], name: str) -> xr.Dataset:
    with xr.open_dataset(path, engine="h5netcdf", group=name) as opened:
        return opened.load()


def _ends(run: xr.Dataset) -> xr.Dataset:
    """The first and the last step of a run."""
    return run.isel({dim: sorted({0, run.sizes[dim] - 1}) for dim in STEPS if dim in run.dims})
