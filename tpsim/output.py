"""The folder that a run leaves: written completely beside its place, then moved there."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import FileError, InputError
from .files import check_plain
from .storage import room

if TYPE_CHECKING:
    import xarray as xr

DEFAULT = "tpsim-output"
POOLED = 16384  # particles per density, all replicas together, that a result keeps when only the pictures need them
SUMMARY = "summary.json"
MOST = 1 << 20  # bytes of a summary


def choose(output: str | None, force: bool = False, default: str = DEFAULT) -> Path:
    """Return the folder to write, which does not exist or is empty (or, with `force`, may be anything but a file).

    Parameters
    ----------
    output : the user's choice; None takes the first free one of `default`, `default`-2, ...
    force : allow a folder that holds something: the files of an earlier run in it are replaced, others stay.

    Raises
    ------
    InputError
        A folder that is not empty, a file, or a place where nothing can be written.
    """
    if output is None:
        names = itertools.chain([default], (f"{default}-{k}" for k in itertools.count(2)))
        folder = next(Path(name) for name in names if force or not os.path.lexists(name))
    else:
        folder = Path(output)
    if not output and output is not None or (os.path.lexists(folder) and not folder.is_dir()):
        raise InputError("--output", output, "a folder")
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise InputError("--output", str(folder), "a new or an empty folder, or --force to replace the results in it")
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".tpsim-", dir=place))  # better to know before a long run
    except OSError:
        raise InputError("--output", str(folder), f"a folder that can be written: {place} cannot") from None
    return folder


def write(folder: Path, run: xr.Dataset, summary: dict[str, Any], config: str) -> list[Path]:
    """Write limit.nc, summary.json, config.toml and the figures into `folder`, at once; return their paths.

    Raises
    ------
    FileError
        Nothing can be written there; what was there is left as it was.
    """
    from . import plot  # matplotlib takes half a second to import
    from .results import save

    def fill(temporary: Path) -> list[str]:
        figures = plot.save_all(run, temporary)
        save(run, temporary / "limit.nc")
        return ["limit.nc", SUMMARY, "config.toml", *(path.name for path in figures)]

    return write_folder(folder, fill, summary, config)


def write_folder(
    folder: Path, fill: Callable[[Path], Sequence[str]], summary: dict[str, Any], config: str
) -> list[Path]:
    """Write what `fill` puts into the folder it is given, summary.json and config.toml, at once; return their paths.

    Parameters
    ----------
    folder : Path
    fill : writes files into a temporary folder, and returns the names of all files in the order to show them.
    summary, config : what summary.json (with the names) and config.toml hold.

    Raises
    ------
    FileError
        Nothing can be written there; what was there is left as it was.
    """
    folder = folder.absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise FileError(f"{folder}: cannot be written: {error.strerror or error}") from error
    try:
        names = list(fill(temporary))
        (temporary / "config.toml").write_text(config, encoding="utf-8", errors="surrogateescape")
        text = json.dumps({**summary, "files": names}, indent=2, allow_nan=False)
        (temporary / SUMMARY).write_text(text + "\n", encoding="utf-8")
        _move(temporary, folder, names)
    except FileError as error:  # of one of the files
        raise FileError(str(error).replace(str(temporary), str(folder))) from error
    except OSError as error:
        raise FileError(f"{folder}: cannot be written: {error.strerror or error}{room(folder.parent)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [folder / name for name in names]


def _move(temporary: Path, folder: Path, names: Sequence[str]) -> None:
    """Move the files into place; those of an earlier run that are not replaced are removed."""
    folder.mkdir(exist_ok=True)
    for name in set(_earlier(folder)) - set(names):
        (folder / name).unlink(missing_ok=True)
    for name in names:
        os.replace(temporary / name, folder / name)


def _earlier(folder: Path) -> list[str]:
    """Names of the files that an earlier run says it wrote, of which those that are files in this folder count."""
    try:
        check_plain(folder / SUMMARY, MOST)
        names = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))["files"]
        return [name for name in names if Path(name).name == name and os.path.isfile(folder / name)]
    except (FileError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def thin(run: xr.Dataset) -> xr.Dataset:
    """Return the run with the particles that the density pictures need: 16384 of Z^h in all, and no Z^x or Z^dh.

    The first ones, and not every k-th: only a leading block of Sobol points is evenly spread.
    """
    if "Z_h" not in run:
        return run
    run = run.drop_vars(["Z_x", "Z_dh", "Z_h_parts", "Z_dx_parts", "part"], errors="ignore")
    run = run.isel(particle=slice(max(POOLED // run.sizes["replica"], 1)))
    return run.assign(Z_h=run["Z_h"].astype("float32", keep_attrs=True))
