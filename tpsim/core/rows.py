"""A growable stack of particle arrays, stored in the order in which the kernels read it."""

from __future__ import annotations

import math

import numpy as np

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
        self.particles, self.dtype = particles, np.dtype(dtype)
        self.blocks = -(-particles // BLOCK)
        self.chunks: list[Array] = []
        self._addresses = np.empty(0, dtype=np.int64)
        self._count = 0

    @classmethod
    def of(cls, array: Array, dtype: np.dtype | type = np.float64) -> Rows:
        """Return the rows of an array (k, M)."""
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
        other._count = self._count
        return other

    def tail(self, start: int) -> Array:
        """A copy of the rows from `start` on, (count - start, M), in double precision."""
        first = start // CHUNK
        out = np.zeros((CHUNK * max(len(self.chunks) - first, 0), self.blocks * BLOCK))
        for k, chunk in enumerate(self.chunks[first:]):
            out[k * CHUNK : (k + 1) * CHUNK].reshape(CHUNK, self.blocks, BLOCK)[...] = chunk.transpose(1, 0, 2)
        return np.ascontiguousarray(out[start - first * CHUNK : self._count - first * CHUNK, : self.particles])

    @property
    def bytes(self) -> int:
        """Bytes of the storage."""
        return sum(chunk.nbytes for chunk in self.chunks)

    def append(self, rows: Array) -> None:
        """Append one row (M,) or a block of rows (k, M)."""
        rows = np.atleast_2d(rows)
        whole, start = self.particles // BLOCK, 0
        self._reserve(self._count + len(rows))
        while start < len(rows):
            chunk, first = divmod(self._count, CHUNK)
            part = rows[start : start + CHUNK - first]
            place = self.chunks[chunk][:, first : first + len(part)]
            place[:whole] = part[:, : whole * BLOCK].reshape(len(part), whole, BLOCK).transpose(1, 0, 2)
            if whole < self.blocks:
                place[whole, :, : self.particles - whole * BLOCK] = part[:, whole * BLOCK :]
            self._count += len(part)
            start += len(part)

    def truncate(self, count: int) -> None:
        """Forget all rows but the first `count`."""
        self._count = min(self._count, count)

    @property
    def held(self) -> tuple[Array, Array]:
        """(chunks,) addresses of the chunks, and how many rows each holds; chunks that hold none are left out."""
        used = -(-self._count // CHUNK)
        counts = np.full(used, CHUNK)
        if used:
            counts[-1] = self._count - (used - 1) * CHUNK
        return self._addresses[:used], counts

    def state(self) -> dict[str, Array]:
        """What `restore` takes: the storage itself, and how many rows it holds."""
        used = len(self.held[0])
        return {"count": np.array(self._count)} | {str(k): chunk for k, chunk in enumerate(self.chunks[:used])}

    def restore(self, saved: Saved) -> None:
        """Become the rows that `state` described; their storage is adopted, not copied."""
        count, shape = saved.count("count"), (self.blocks, CHUNK, BLOCK)
        self.chunks = [saved.take(str(k), shape, self.dtype) for k in range(saved.chunks(count, CHUNK))]
        self._addresses = np.array([chunk.ctypes.data for chunk in self.chunks], dtype=np.int64)
        self._count = count

    def _reserve(self, count: int) -> None:
        while len(self.chunks) * CHUNK < count:
            chunk = aligned((self.blocks, CHUNK, BLOCK), self.dtype)
            self.chunks.append(chunk)
            self._addresses = np.append(self._addresses, chunk.ctypes.data)


def aligned(shape: tuple[int, ...], dtype: np.dtype | type = np.float64) -> Array:
    """Zeros that start at a multiple of `ALIGNED` bytes."""
    count, itemsize = math.prod(shape), np.dtype(dtype).itemsize
    raw = np.zeros(count + ALIGNED // itemsize, dtype)
    skip = -raw.ctypes.data % ALIGNED // itemsize
    return raw[skip : skip + count].reshape(shape)
