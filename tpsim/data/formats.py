"""The standard file formats of MNIST (IDX) and CIFAR (binary and python pickles): bytes in, uint8 arrays out.

Nothing in a file is ever executed: the pickles are read by an Unpickler that can build two inert records and nothing
else, and every size is checked against the bytes that are there.
"""

from __future__ import annotations

import gzip
import io
import math
import pickle
import zlib
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple

import numpy as np

from ..errors import FileError
from ..files import check_plain, plain_bytes
from ..plan import available_bytes

Array = np.ndarray

IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
CIFAR_PIXELS = 3 * 32 * 32  # red, green, blue planes, each 32 rows of 32


def find_file(folders: list[Path], names: list[str]) -> Path:
    """Return the first existing `folder / name`.

    Raises
    ------
    FileError
        None exists; the message lists every name and folder that was looked for.
    """
    for folder in folders:
        for name in names:
            if (folder / name).is_file():
                return folder / name
    where = ", ".join(str(folder) for folder in folders)
    raise FileError(f"none of the files {', '.join(names)} exists in {where}")


def read_idx(path: Path) -> Array:
    """Return the array of an IDX file, gzipped if its name ends in .gz.

    Layout: the bytes 0, 0, dtype code, number of dimensions; one big-endian uint32 per dimension; the values.

    Raises
    ------
    FileError
        Unreadable, another magic number, or not exactly as many bytes as the header says.
    """
    check_plain(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _parse_idx(file, path)
    except (OSError, EOFError, zlib.error, MemoryError) as error:
        raise FileError(f"{path}: cannot be read ({_reason(error)})") from None


def _parse_idx(file: IO[bytes] | gzip.GzipFile, path: Path) -> Array:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in IDX_TYPES or not 1 <= magic[3] <= 4:
        raise FileError(f"{path}: not an IDX file (magic bytes {magic.hex(' ') or 'missing'})")
    header = file.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise FileError(f"{path}: truncated in the header")
    shape = [int(size) for size in np.frombuffer(header, ">u4")]
    dtype = np.dtype(IDX_TYPES[magic[2]])
    expected = math.prod(shape) * dtype.itemsize
    if expected > (free := available_bytes() // 2):
        raise FileError(f"{path}: header {tuple(shape)} needs {expected} bytes, at most {free} fit into memory")
    body = bytearray()
    while len(body) <= expected and (chunk := file.read(2**24)):  # never more memory than there is file
        body += chunk
    if len(body) != expected:
        found = f"{len(body)}" if len(body) < expected else "more"
        raise FileError(f"{path}: header {tuple(shape)} needs {expected} bytes of values, found {found}")
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="))


class Cifar(NamedTuple):
    """Which of the labels of an image is read; a binary row holds all of them, then the pixels."""

    dataset: str
    fields: tuple[str, ...]  # their names in the python batches, in the order of the bytes
    read: str
    classes: int


CIFAR_10 = Cifar("CIFAR-10", ("labels",), "labels", 10)
CIFAR_100 = {
    "fine": Cifar("CIFAR-100", ("coarse_labels", "fine_labels"), "fine_labels", 100),
    "coarse": Cifar("CIFAR-100", ("coarse_labels", "fine_labels"), "coarse_labels", 20),
}


def read_cifar_binary(path: Path, kind: Cifar = CIFAR_10) -> tuple[Array, Array]:
    """Return (pixels (N, 3072) uint8, labels (N,) uint8) of a binary batch: rows of labels and 3072 bytes.

    Raises
    ------
    FileError
        Unreadable, empty, not a whole number of rows, or a label out of range.
    """
    raw = np.frombuffer(plain_bytes(path), dtype=np.uint8)
    width = len(kind.fields) + CIFAR_PIXELS
    rows, rest = divmod(raw.size, width)
    if rows == 0 or rest:
        raise FileError(f"{path}: {raw.size} bytes are not a whole number of rows of {width} bytes")
    table = raw.reshape(rows, width)
    return _checked_cifar(table[:, len(kind.fields) :], table[:, kind.fields.index(kind.read)], path, kind)


def read_cifar_pickle(path: Path, kind: Cifar = CIFAR_10) -> tuple[Array, Array]:
    """Return (pixels (N, 3072) uint8, labels (N,) uint8) of a python batch, without executing anything.

    Raises
    ------
    FileError
        Unreadable, names anything outside the allow-list, or has no `data` and labels of equal length.
    """
    file = io.BytesIO(plain_bytes(path))
    try:
        content = _InertUnpickler(file, encoding="bytes").load()
        fields = {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}
        pixels, labels = fields["data"].array(), _labels(fields[kind.read])
    except FileError as error:
        raise FileError(f"{path}: {error}") from None
    except Exception as error:  # a damaged pickle may raise anything
        raise FileError(f"{path}: not a {kind.dataset} python batch ({_reason(error)})") from None
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or pixels.shape != (len(labels), CIFAR_PIXELS):
        raise FileError(f"{path}: data {pixels.shape} and labels {labels.shape} are not (N, {CIFAR_PIXELS}) and (N,)")
    return _checked_cifar(pixels, labels, path, kind)


def _labels(value: Any) -> Array:
    """A list of integers as an array; lists of lists, each in the next many times, would fill the memory."""
    if not isinstance(value, list) or any(type(label) is not int for label in value):
        raise FileError("its labels are not a list of integers")
    return np.array(value)


def _checked_cifar(pixels: Array, labels: Array, path: Path, kind: Cifar) -> tuple[Array, Array]:
    if labels.size == 0:
        raise FileError(f"{path}: holds no image")
    if labels.min() < 0 or labels.max() >= kind.classes:
        raise FileError(f"{path}: labels outside 0..{kind.classes - 1} (is it {kind.dataset}?)")
    return pixels, labels.astype(np.uint8)


class _Record:
    """Stands in for numpy.dtype and numpy.ndarray while a pickle is read: keeps arguments and state, does nothing."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> Array:
        """Return the uint8 array that the pickle described: state = (version, shape, dtype, fortran, bytes)."""
        _, shape, dtype, fortran, body = self.state
        if not isinstance(dtype, _Record) or dtype.arguments[0] not in ("u1", b"u1"):
            raise FileError("data is not an array of uint8")
        body = body.encode("latin-1") if isinstance(body, str) else body
        return np.frombuffer(body, np.uint8).reshape(shape, order="F" if fortran else "C")


def _frombuffer(body: Any, dtype: Any, shape: Any, order: Any) -> _Record:
    record = _Record()
    record.state = (1, shape, dtype, order == "F", body)
    return record


def _encode(text: str, encoding: Any = "latin1") -> bytes:
    return text.encode("latin-1")  # how Python 3 writes bytes in old protocols


_ALLOWED: dict[tuple[str, str], Any] = {("numpy", "dtype"): _Record, ("numpy", "ndarray"): _Record}
_ALLOWED[("_codecs", "encode")] = _encode
for _package in ("numpy.core", "numpy._core"):  # numpy 1 and 2
    _ALLOWED[(f"{_package}.multiarray", "_reconstruct")] = _Record
    _ALLOWED[(f"{_package}.numeric", "_frombuffer")] = _frombuffer


class _InertUnpickler(pickle._Unpickler):
    """An Unpickler whose only globals are the stand-ins above: no name in the file is ever imported.

    It is the one written in Python: that in C takes 64 GiB of memory if a file of ten bytes asks it to remember
    something under the number 2^32 - 1.
    """

    stack: list[Any]
    dispatch: ClassVar[Any] = pickle._Unpickler.dispatch.copy()

    def load_build(self) -> None:
        """Give a record its state; anything else, a function above for instance, keeps the state that it has."""
        if type(self.stack[-2]) is not _Record:
            raise FileError(f"refused: the pickle changes a {type(self.stack[-2]).__name__}")
        super().load_build()  # type: ignore[misc]  # of a class that typeshed knows half of

    dispatch[pickle.BUILD[0]] = load_build

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise FileError(f"refused: the pickle names {module}.{name}, which no CIFAR batch needs")
        return _ALLOWED[(module, name)]

    def persistent_load(self, pid: Any) -> Any:
        raise FileError("refused: the pickle refers to an external object")


def _reason(error: BaseException) -> str:
    text = str(error.strerror if isinstance(error, OSError) and error.strerror else error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
