"""A file of named arrays that is written whole or not at all, and read only if it is what it says it is.

    magic       8 bytes   "TPSIMCKP"
    version     u32       FORMAT
    manifest    u64       its length
    total       u64       length of the file
    digest      32 bytes  SHA-256 of magic, version, both lengths, and the manifest
    manifest    JSON      {"about": what the file is, "arrays": [[name, dtype, shape, SHA-256 of the data], ...]}
    data                  the arrays in that order, little-endian, C order, nothing between or after them

Every byte is under a digest. Nothing in the file is executed, and no name in it is used as the name of a file. The
digests find damage; they are no signature: who can write to the folder can write a file that passes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import stat
import struct
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .core.rows import aligned
from .errors import CheckpointError
from .plan import available_bytes
from .storage import flush, free_bytes, room

Array = np.ndarray

MAGIC, FORMAT = b"TPSIMCKP", 1  # another number is another version's, and is not read
HEAD = struct.Struct("<8sIQQ")
DIGEST = 32
LONGEST_MANIFEST = 1 << 26
DTYPES = ("<f8", "<f4", "<i8")
NAME = re.compile(r"[A-Za-z0-9_]+(/[A-Za-z0-9_]+)*")
MOST_DIMENSIONS = 8
PIECE = 1 << 22  # bytes that are hashed and written at once: they stay in a cache
TEMPORARY = re.compile(r"\..+\.ckpt\.[0-9a-f]{32}\.tmp")


@dataclass(frozen=True)
class Entry:
    """One array of a file: what it is called, its form, and the digest of its bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    digest: str = "0" * 2 * DIGEST

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def at(point: str) -> None:
    """A moment at which a process may be killed; tests replace this function by one that does it."""


def write(path: Path, about: dict[str, Any], arrays: Mapping[str, Array]) -> int:
    """Write a file: to a temporary one in its folder, forced to the disk, renamed, the folder forced to the disk.

    Parameters
    ----------
    path : Path
    about : JSON
    arrays : float64, float32 or int64; read once, and never copied as long as they are contiguous.

    Returns
    -------
    int
        Bytes of the file.

    Raises
    ------
    CheckpointError
        The folder or the disk does not take it; what was written of it is removed.
    """
    entries = [Entry(name, array.dtype.str, array.shape) for name, array in arrays.items()]
    start = HEAD.size + DIGEST + len(_manifest(about, entries))
    total = start + sum(entry.bytes for entry in entries)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        _check(about, entries, start)
        if (free := free_bytes(path.parent)) is not None and free < total:
            raise OSError(None, "the disk is too full")
        try:
            at("before-write")
            with _create(temporary) as file:
                file.seek(start)  # digests are known when the data are written; as text their length is always the same
                written = [_write_array(file, entry, arrays[entry.name]) for entry in entries]
                at("before-head")
                file.seek(0)
                _write(file, _head(about, written, total))
            at("after-write")
            flush(temporary)
            at("after-fsync")
            os.replace(temporary, path)
            at("after-rename")
            flush(path.parent)
            at("after-dirsync")
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = f"{error.strerror or error}; {total} bytes are needed{room(path.parent)}"
        raise CheckpointError(path, f"cannot be written: {reason}") from error
    return total


def _check(about: dict[str, Any], entries: list[Entry], start: int) -> None:
    """Refuse to write what would not be read."""
    if start > LONGEST_MANIFEST:
        raise OSError(None, f"{len(entries)} arrays are too many; fewer recorded probe steps need fewer")
    assert all(NAME.fullmatch(entry.name) and entry.dtype in DTYPES for entry in entries)


def _create(path: Path) -> BinaryIO:
    return open(path, "xb", buffering=0)  # noqa: SIM115


def _manifest(about: dict[str, Any], entries: list[Entry]) -> bytes:
    listed = [[entry.name, entry.dtype, entry.shape, entry.digest] for entry in entries]
    return json.dumps({"about": about, "arrays": listed}).encode("ascii")


def _head(about: dict[str, Any], entries: list[Entry], total: int) -> bytes:
    manifest = _manifest(about, entries)
    head = HEAD.pack(MAGIC, FORMAT, len(manifest), total)
    return head + hashlib.sha256(head + manifest).digest() + manifest


def _write_array(file: BinaryIO, entry: Entry, array: Array) -> Entry:
    """Write the bytes of an array piece by piece; return its entry with their digest."""
    digest = hashlib.sha256()
    if array.size:
        data = _bytes_of(np.ascontiguousarray(array))
        for first in range(0, len(data), PIECE):
            digest.update(data[first : first + PIECE])
            _write(file, data[first : first + PIECE])
            at("during-write")
    return Entry(entry.name, entry.dtype, entry.shape, digest.hexdigest())


def _bytes_of(array: Array) -> memoryview:
    """The bytes of a contiguous array, not copied."""
    return memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]


def _write(file: BinaryIO, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while len(view):
        view = view[file.write(view) :]


def read(path: Path, judge: Callable[[dict[str, Any]], None]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read a file: what it is about, and its arrays, each at a multiple of 64 bytes.

    Parameters
    ----------
    path : Path
    judge : called with `about` before anything is allocated for arrays; raises if it is not right.

    Raises
    ------
    CheckpointError
        It cannot be opened, is not such a file, is of another version, or is damaged.
    """
    try:
        with _opened(path) as file:
            about, entries = _read_manifest(path, file)
            judge(about)
            if (needed := sum(entry.bytes for entry in entries)) > (free := available_bytes()):
                raise CheckpointError(path, f"its {needed} bytes do not fit into memory, of which {free} are free")
            return about, {entry.name: _read_array(path, file, entry) for entry in entries}
    except OSError as error:
        raise CheckpointError(path, f"cannot be read: {error.strerror or error}") from error
    except MemoryError:
        raise CheckpointError(path, "does not fit into memory") from None


def _opened(path: Path) -> BinaryIO:
    """Open a plain file: anything else may never end, or be another one than it was."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise CheckpointError(path, "not a plain file")
    return file


def _read_manifest(path: Path, file: BinaryIO) -> tuple[dict[str, Any], list[Entry]]:
    """Check the lengths against the file, and the manifest against its digest and its schema."""
    size, head = os.fstat(file.fileno()).st_size, file.read(HEAD.size)
    if not head.startswith(MAGIC):
        raise CheckpointError(path, "not a checkpoint of tpsim")
    if len(head) < HEAD.size or size < HEAD.size + DIGEST:
        raise CheckpointError(path, f"truncated: it has {size} bytes")
    _, version, length, total = HEAD.unpack(head)
    if version != FORMAT:
        raise CheckpointError(path, f"of format {version}, and this version of tpsim reads format {FORMAT}")
    if total != size:
        raise CheckpointError(path, f"it has {size} bytes and says that it should have {total}")
    if length > min(LONGEST_MANIFEST, size - HEAD.size - DIGEST):
        raise CheckpointError(path, f"it says that its manifest has {length} bytes")
    digest, manifest = file.read(DIGEST), file.read(length)
    if hashlib.sha256(head + manifest).digest() != digest:
        raise CheckpointError(path, "its manifest does not match its digest")
    try:
        about, entries = _parsed(manifest)
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(path, f"its manifest is not one: {error}") from None
    if (held := HEAD.size + DIGEST + length + sum(entry.bytes for entry in entries)) != size:
        raise CheckpointError(path, f"it has {size} bytes and its arrays make {held}")
    return about, entries


def _parsed(manifest: bytes) -> tuple[dict[str, Any], list[Entry]]:
    """Return what a manifest says; ValueError or TypeError if it is none."""
    content = json.loads(manifest, object_pairs_hook=_without_duplicates)
    if not isinstance(content, dict) or set(content) != {"about", "arrays"} or not isinstance(content["about"], dict):
        raise ValueError("it must hold `about` and `arrays`")
    entries = [_entry(*listed) for listed in content["arrays"]]
    if len({entry.name for entry in entries}) != len(entries):
        raise ValueError("two arrays have one name")
    return content["about"], entries


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)


def _entry(name: Any, dtype: Any, shape: Any, digest: Any) -> Entry:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"an array is called {name!r:.80}")
    if dtype not in DTYPES:
        raise ValueError(f"{name} has the dtype {dtype!r:.80}")
    whole = isinstance(shape, list) and len(shape) <= MOST_DIMENSIONS
    if not whole or not all(type(n) is int and 0 <= n < 1 << 62 for n in shape):
        raise ValueError(f"{name} has the shape {shape!r:.80}")
    if not isinstance(digest, str) or not re.fullmatch(f"[0-9a-f]{{{2 * DIGEST}}}", digest):
        raise ValueError(f"{name} has the digest {digest!r:.80}")
    return Entry(name, dtype, tuple(shape), digest)


def _read_array(path: Path, file: BinaryIO, entry: Entry) -> Array:
    try:
        array, digest = aligned(entry.shape, np.dtype(entry.dtype)), hashlib.sha256()
    except ValueError as error:  # more than numpy can address along one axis, and nothing along another
        raise CheckpointError(path, f"{entry.name} has the shape {entry.shape}: {error}") from None
    if array.size:
        data = _bytes_of(array)
        for first in range(0, len(data), PIECE):
            piece = data[first : first + PIECE]
            if file.readinto(piece) != len(piece):  # type: ignore[attr-defined]
                raise CheckpointError(path, f"truncated in {entry.name}")
            digest.update(piece)
    if digest.hexdigest() != entry.digest:
        raise CheckpointError(path, f"{entry.name} does not match its digest")
    return array


def clean(folder: Path) -> None:
    """Remove what killed processes have left in a folder, and in the folders in it."""
    with contextlib.suppress(OSError):  # a folder that can only be read
        for path in [*folder.iterdir(), *folder.glob("*/.*.tmp")]:
            if TEMPORARY.fullmatch(path.name):
                path.unlink()
