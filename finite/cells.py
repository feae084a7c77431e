"""One file for each cell of a sweep: netCDF4 with a checksum beside it, written whole or not at all.

    mup-silu-n00064-seeds-0000-0127.nc          the networks
    mup-silu-n00064-seeds-0000-0127.nc.sha256   the line of sha256sum: `sha256sum -c *.sha256` checks a folder

The checksum is written last: a cell without it is unfinished. No dates or timings are inside, so that the same
networks are the same bytes. What is read is hashed first, and the bytes that were hashed are those that are parsed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xarray as xr

from tpsim.errors import Damaged, FileError
from tpsim.files import plain_bytes
from tpsim.storage import flush
from tpsim.store import netcdf, parsed

FORMAT = 1  # of the cell files; another number is another version's, and is neither read nor replaced
CHECKSUM = ".sha256"
TEMPORARY = re.compile(r"\..+\.nc\.[0-9a-f]{32}\.tmp")
Identity = dict[str, Any]  # {"settings": what a whole sweep shares, "cell": what is the cell's own}, as JSON
Form = dict[str, tuple[tuple[str, ...], tuple[int, ...], str]]  # variable: dimensions, shape, kind of dtype
Judge = Callable[[Identity, Form], None]


def checksum_of(path: Path) -> Path:
    """The file that holds the checksum of a cell."""
    return path.with_name(path.name + CHECKSUM)


def write(run: xr.Dataset, identity: Identity, path: Path) -> None:
    """Write a cell: data, then checksum, each to a temporary file that is renamed when it is on the disk.

    Killed at any moment, it leaves a cell that is complete or unfinished, and at most a temporary file. Several
    processes may write the same cell at once: their bytes are the same.

    Raises
    ------
    FileError
        The folder or the disk does not take it; what was written of it is removed.
    """
    run = run.assign_attrs(cell_format=FORMAT, identity=json.dumps(identity, sort_keys=True))
    data = netcdf(run)
    digest = hashlib.sha256(data).hexdigest()
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        try:
            temporary.write_bytes(data)
            checksum_of(path).unlink(missing_ok=True)  # of what is replaced: the cell is unfinished from here on
            _settle(temporary, path)
            temporary.write_text(_line(digest, path), encoding="utf-8")
            _settle(temporary, checksum_of(path))
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from error


def _settle(temporary: Path, path: Path) -> None:
    """Rename, once the bytes are on the disk; then put the new name there."""
    flush(temporary)
    os.replace(temporary, path)
    flush(path.parent)


def _line(digest: str, path: Path) -> str:
    return f"{digest}  {path.name}\n"


def read(path: Path, judge: Judge) -> xr.Dataset | None:
    """Read a cell and check it; None where it is unfinished or was never begun.

    Parameters
    ----------
    path : Path
    judge : called with the cell's identity and form before any variable is unpacked; raises if they are not right.

    Raises
    ------
    Damaged
        The checksum or the content is not what it must be.
    FileError
        The file cannot be opened, or belongs to another version of the format.
    """
    if not os.path.exists(checksum_of(path)):
        return None
    if not os.path.exists(path):
        raise Damaged(path, "its checksum is there, but not the file")
    data, line = plain_bytes(path), plain_bytes(checksum_of(path))
    digest = hashlib.sha256(data).hexdigest()
    if line != _line(digest, path).encode():
        raise Damaged(path, _mismatch(digest, line))
    with parsed(path, data) as opened:
        judge(_identity(path, opened), form_of(opened))
        return opened.load()


def _mismatch(digest: str, line: bytes) -> str:
    words = line.split()
    if len(words) != 2 or len(words[0]) != len(digest):
        return "its checksum file is damaged"
    if words[0] == digest.encode():
        return "its checksum file names another file"
    return "its content does not match its checksum"


def _identity(path: Path, opened: xr.Dataset) -> Identity:
    """What the cell says that it is."""
    if opened.attrs.get("cell_format", FORMAT) != FORMAT:
        version = opened.attrs["cell_format"]
        raise FileError(f"{path}: a cell of format {version}, and this version of tpsim reads format {FORMAT}")
    try:
        identity = json.loads(opened.attrs["identity"])
        if isinstance(identity, dict) and {"settings", "cell"} <= set(identity):
            return identity
    except (KeyError, TypeError, ValueError, RecursionError):
        pass
    raise Damaged(path, "not a cell of a sweep: it has no readable identity")


def form_of(run: xr.Dataset) -> Form:
    """Dimensions, shapes and kinds of dtype of all variables."""
    return {str(k): (tuple(map(str, v.dims)), v.shape, v.dtype.kind) for k, v in run.variables.items()}


def clean(folder: Path) -> None:
    """Remove what killed processes have left. A process that still writes one of them fails; nothing else happens."""
    with contextlib.suppress(OSError):  # a folder that can only be read
        for path in list(folder.iterdir()):
            if TEMPORARY.fullmatch(path.name):
                path.unlink()
