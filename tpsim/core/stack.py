"""What the kernels are given: the chunks of several bases as one stack, fixed units of particles, and kept buffers."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np

from ..errors import InputError
from .micro import BLOCK, CHUNK
from .rows import Rows, aligned
from .tiles import TILE

Array = np.ndarray
Basis = Rows | Array | Sequence[Rows]

_SHIFT = np.array([[0], [0], [1]])
UNITS = 64  # the most sums that are kept apart, and hence the most threads that find work


@dataclass
class Stack:
    """The chunks of several `Rows`, one after the other, as the kernels want them.

    Attributes
    ----------
    members : tuple of Rows
    table : (3, chunks) where each chunk lies, how many rows it holds, and which row of the stack its first one is.
    single : 1 where the storage is float32, else 0.
    """

    members: tuple[Rows, ...]
    table: Array
    single: int

    @classmethod
    def of(cls, basis: Basis) -> Stack:
        """Return the stack of one `Rows`, an array (r, M), or a sequence of `Rows`."""
        if isinstance(basis, np.ndarray):
            basis = Rows.of(basis)
        if isinstance(basis, Rows):
            return cls((basis,), basis.table, int(basis.dtype == np.float32))
        if not isinstance(basis, list | tuple):
            raise InputError("basis", basis, "Rows, a list of Rows, or an array (r, M)")
        members, first, tables = tuple(basis), 0, []
        for member in members:
            alike = isinstance(member, Rows) and member.particles == members[0].particles
            if not alike or member.dtype != members[0].dtype:
                raise InputError("basis", member, "Rows over one number of particles, of one dtype")
            tables.append(member.table + _SHIFT * first if first else member.table)
            first += len(member)
        table = np.concatenate(tables, axis=1) if members else np.empty((3, 0), dtype=np.int64)
        return cls(members, table, int(bool(members) and members[0].dtype == np.float32))

    def __len__(self) -> int:
        return sum(len(member) for member in self.members)

    @property
    def particles(self) -> int:
        if not self.members:
            raise InputError("basis", "<no Rows>", "at least one")
        return self.members[0].particles

    @property
    def columns(self) -> int:
        """Columns of a sheet of sums: a chunk that is partly filled adds zeros to those behind its own."""
        return int(self.table[2, -1]) + CHUNK if self.table.size else 0

    def factors(self, coefficients: Array) -> Array:
        """Return coefficients (m, r) as the kernels read them: (r, m), in the precision of the storage."""
        return np.ascontiguousarray(coefficients.T, np.float32 if self.single else np.float64)


_local = threading.local()


def buffer(name: str, shape: tuple[int, ...]) -> Array:
    """Return this thread's float64 array of that name and shape, its content arbitrary; kept for the next call."""
    kept: dict[str, Array] = _local.__dict__.setdefault("kept", {})
    size = math.prod(shape)
    if name not in kept or kept[name].size < size:
        kept[name] = aligned((max(size, 1),))
    return kept[name][:size].reshape(shape)


def partial_sums(particles: int, m: int, width: int) -> Array:
    """Zeros (units, m, width): one sheet per unit of particles."""
    sums = buffer("partial", (units(particles), m, width))
    sums[...] = 0.0
    return sums


def unit_of(particles: int) -> int:
    """Particles of a unit: whole tiles, at most `UNITS` units."""
    tiles = -(-particles // TILE)
    return TILE * -(-tiles // UNITS)


def units(particles: int) -> int:
    """How many units there are."""
    return -(-particles // unit_of(particles))


def scratch(m: int, fields: int) -> Array:
    """Per thread, `fields` blocks of m rows of particles (m rounded up to whole chunks)."""
    return buffer("scratch", (numba.get_num_threads(), fields, padded(m), BLOCK))


def padded(m: int) -> int:
    """m rounded up to whole chunks: rows of a block of fields, and columns of their moments."""
    return CHUNK * -(-m // CHUNK)
