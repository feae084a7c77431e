"""Files of results: netCDF4 that ends with its own checksum, and is read without being trusted.

    HDF5 as it is, then one line:  # tpsim netcdf 1 sha256 <64 hexadecimal digits of the sha256 of all bytes before>

HDF5 and netCDF read files up to the end that their header states, so that every other program opens these as well.
Here the bytes are hashed first, and those that were hashed are parsed: HDF5 itself may crash on damaged ones. A
checksum is no signature. Of a file that was made to harm, only what a result needs is parsed: arrays of numbers and
strings at the top, stored in the file itself, with the filters of netCDF, and not larger than what is stored can be.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import xarray as xr

from .errors import Damaged, FileError
from .plan import available_bytes

FORMAT = 1
SEAL = re.compile(rb"\n# tpsim netcdf (\d) sha256 ([0-9a-f]{64})\n")
SEAL_BYTES = 90
FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32"}  # HDF5 would load any other as a plugin
INFLATED = 1100  # no byte of deflate makes more than 1032
HEAP = re.compile(rb"GCOL\x01\0\0\0")  # the signature, the version, and what is reserved
NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"


def netcdf(run: xr.Dataset) -> bytes:
    """Return the bytes of the sealed netCDF4 file of a dataset: on a full disk HDF5 itself would crash the process."""
    buffer = io.BytesIO()
    encoding = {name: {"zlib": True, "complevel": 1} for name in run.data_vars if run[name].size > 4096}
    with h5netcdf.File(buffer, "w") as file:
        run.dump_to_store(xr.backends.H5NetCDFStore(file), encoding=encoding)
    return seal(buffer.getvalue())


def seal(data: bytes) -> bytes:
    """Return `data` with its checksum behind it."""
    return data + f"\n# tpsim netcdf {FORMAT} sha256 {hashlib.sha256(data).hexdigest()}\n".encode()


def check_seal(path: Path, data: bytes) -> None:
    """Raise `Damaged` unless `data` are as `seal` left them."""
    found = SEAL.fullmatch(data[-SEAL_BYTES:])
    if found is None:
        what = "truncated, changed by another program, or not written by tpsim"
        raise Damaged(path, f"does not end with a checksum of tpsim: {what}")
    if int(found[1]) != FORMAT:
        raise Damaged(path, f"a file of format {int(found[1])}, and this version of tpsim reads format {FORMAT}")
    if hashlib.sha256(memoryview(data)[:-SEAL_BYTES]).hexdigest().encode() != found[2]:
        raise Damaged(path, "its content does not match its checksum")


@contextmanager
def parsed(path: Path, data: bytes) -> Iterator[xr.Dataset]:
    """Yield the dataset that the bytes of a netCDF4 file hold, its variables not read yet.

    Raises
    ------
    Damaged
        No netCDF4 file, or one with something in it that no result has; whatever fails while it is open.
    """
    _check_heaps(path, data)
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            _check_structure(path, file)
        with xr.open_dataset(io.BytesIO(data), engine="h5netcdf") as opened:
            if opened.nbytes > available_bytes():
                raise FileError(f"{path}: {opened.nbytes} bytes of variables do not fit into memory")
            yield opened
    except FileError:
        raise
    except Exception as error:  # h5py and xarray raise half a dozen unrelated types on damage
        raise Damaged(path, f"not a readable netCDF4 file ({type(error).__name__}: {error})") from error


def _check_heaps(path: Path, data: bytes) -> None:
    """Refuse a global heap (HDF5's place for strings and references) whose objects do not lie one after the other.

    The library walks along them by their sizes, and on some sizes for ever. Format: HDF5 File Format Specification,
    III.E: a header of 16 bytes, then objects with a header of 16 bytes, at multiples of 8; index 0 is what is free.
    """
    for found in HEAP.finditer(data):
        start = found.start()
        (size,) = struct.unpack_from("<Q", data, start + 8) if start + 16 <= len(data) else (0,)
        place, end = start + 16, start + size
        while place + 16 <= min(end, len(data)):
            index, length = struct.unpack_from("<H6xQ", data, place)
            need = 16 + -(-length // 8) * 8 if index else length
            if not 16 <= need <= end - place:
                raise Damaged(path, f"an object of {length} bytes in a heap that has {end - place} left")
            place += need


def _check_structure(path: Path, file: Any) -> None:
    for name in file:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            raise Damaged(path, f"{name!r} is a link to somewhere else")
        if not isinstance(variable := file[name], h5py.Dataset):
            raise Damaged(path, f"{name!r} is not an array")
        if reason := _not_plain(variable):
            raise Damaged(path, f"{name!r} {reason}")


def _not_plain(variable: Any) -> str | None:
    """Say what a variable has that those of results have not."""
    if variable.is_virtual or variable.external:
        return "is stored in other files"
    if variable.dtype.kind not in "biuf" and h5py.check_string_dtype(variable.dtype) is None:
        return f"is of type {variable.dtype}; allowed: numbers and strings"
    properties = variable.id.get_create_plist()
    filters = {properties.get_filter(k)[0] for k in range(properties.get_nfilters())}
    if filters - set(FILTERS):
        return f"needs the filters {sorted(filters - set(FILTERS))}; allowed: {', '.join(FILTERS.values())}"
    stored, declared = variable.id.get_storage_size(), variable.size * variable.dtype.itemsize
    if declared > INFLATED * stored and not bytes(variable.attrs.get("NAME", b"")).startswith(NO_VARIABLE):
        return f"declares {declared} bytes, of which {stored} are there"
    return None
