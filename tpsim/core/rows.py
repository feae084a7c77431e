"""A growable stack of particle arrays, stored in the order in which the kernels read it."""

from __future__ import annotations

import math

import numpy as np

from .checks import fields, fits, integer, storage
from .micro import BLOCK, CHUNK
from .saved import Saved

Array = np.ndarray

ALIGNED = 64  # bytes: no vector load crosses a cache line


class Rows:
    """Arrays over M particles, one per row, appended in blocks.

    Storage is a list of chunks of `CHUNK` rows, each (blocks of particles, CHUNK, BLOCK) and never moved: what a block
    of particles needs of a chunk lies side by side, and growing copies nothing. Rows that are not there yet, and
    particles past M, are zero. Memory: ceil(count / CHUNK) chunks of CHUNK M numbers.

    Parameters
    ----------
    particles : int
        M.
    dtype : float64 or float32
        Of the storage; values go in and come out in double precision.
    """

    def __init__(self, particles: int, dtype: np.dtype | type = np.float64) -> None:
        self.particles, self.dtype = integer("particles", particles, 1), storage(dtype)
        self.blocks = -(-particles // BLOCK)
        self.chunks: list[Array] = []
        self._table = np.empty((3, 0), dtype=np.int64)
        self._count = 0

    @classmethod
    def of(cls, array: Array, dtype: np.dtype | type = np.float64) -> Rows:
        """Return the rows of an array (k, M)."""
        array = fields("array", array)
        rows = cls(array.shape[1], dtype)
        rows.append(array)
        return rows

    def __len__(self) -> int:
        return self._count

    @property
    def array(self) -> Array:
        """A copy of the rows appended so far, (count, M), in double precision: for those who look, not for kernels."""
        return self.tail(0)

    def copy(self) -> Rows:
        """Return rows of the same content."""
        other = Rows(self.particles, self.dtype)
        other._reserve(self._count)
        for mine, its in zip(self.chunks, other.chunks, strict=False):
            its[...] = mine
        other._count, other._table[1] = self._count, self._table[1, : len(other.chunks)]
        return other

    def tail(self, start: int) -> Array:
        """A copy of the rows from `start` on, (count - start, M), in double precision."""
        out, whole = np.empty((max(self._count - start, 0), self.particles)), self.particles // BLOCK
        for row in range(start, self._count):
            values, target = self.chunks[row // CHUNK][:, row % CHUNK], out[row - start]
            target[: whole * BLOCK].reshape(whole, BLOCK)[...] = values[:whole]
            target[whole * BLOCK :] = values[whole:].ravel()[: self.particles - whole * BLOCK]
        return out

    @property
    def bytes(self) -> int:
        """Bytes of the storage."""
        return sum(chunk.nbytes for chunk in self.chunks)

    def append(self, rows: Array) -> None:
        """Append one row (M,) or a block of rows (k, M)."""
        rows = fields("rows", rows[None] if isinstance(rows, np.ndarray) and rows.ndim == 1 else rows, self.particles)
        whole, start = self.particles // BLOCK, 0
        with fits("rows"):
            self._reserve(self._count + len(rows))
        while start < len(rows):
            chunk, first = divmod(self._count, CHUNK)
            part = rows[start : start + CHUNK - first]
            place = self.chunks[chunk][:, first : first + len(part)]
            place[:whole] = part[:, : whole * BLOCK].reshape(len(part), whole, BLOCK).transpose(1, 0, 2)
            if whole < self.blocks:
                place[whole, :, : self.particles - whole * BLOCK] = part[:, whole * BLOCK :]
            self._count += len(part)
            self._table[1, chunk] += len(part)
            start += len(part)

    def truncate(self, count: int) -> None:
        """Forget all rows but the first `count`."""
        self._count = min(self._count, count)
        for k, chunk in enumerate(self.chunks):
            self._table[1, k] = min(max(self._count - k * CHUNK, 0), CHUNK)
            chunk[:, self._table[1, k] :] = 0.0

    @property
    def table(self) -> Array:
        """(3, chunks): where each chunk lies, how many rows it holds, and which row its first one is; none is empty."""
        return self._table[:, : -(-self._count // CHUNK)]

    def state(self) -> dict[str, Array]:
        """What `restore` takes: the storage itself, and how many rows it holds."""
        used = self.table.shape[1]
        return {"count": np.array(self._count)} | {str(k): chunk for k, chunk in enumerate(self.chunks[:used])}

    def restore(self, saved: Saved) -> None:
        """Become the rows that `state` described; their storage is adopted, not copied."""
        count, shape = saved.count("count"), (self.blocks, CHUNK, BLOCK)
        self.chunks, self._table = [], self._table[:, :0]
        for k in range(saved.chunks(count, CHUNK)):
            self._add(saved.take(str(k), shape, self.dtype), min(count - k * CHUNK, CHUNK))
        self._count = count

    def _reserve(self, count: int) -> None:
        while len(self.chunks) * CHUNK < count:
            self._add(aligned((self.blocks, CHUNK, BLOCK), self.dtype), 0)

    def _add(self, chunk: Array, held: int) -> None:
        """Add a chunk that holds so many rows."""
        entry = [[chunk.ctypes.data], [held], [CHUNK * len(self.chunks)]]
        self.chunks.append(chunk)
        self._table = np.concatenate([self._table, entry], axis=1)


def aligned(shape: tuple[int, ...], dtype: np.dtype | type = np.float64) -> Array:
    """Zeros that start at a multiple of `ALIGNED` bytes."""
    count, itemsize = math.prod(shape), np.dtype(dtype).itemsize
    raw = np.zeros(count + ALIGNED // itemsize, dtype)
    skip = -raw.ctypes.data % ALIGNED // itemsize
    return raw[skip : skip + count].reshape(shape)
