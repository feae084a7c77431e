"""A growable stack of particle arrays."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


class Rows:
    """Arrays over M particles, one per row, appended one by one or in blocks.

    Storage grows by an eighth (at least 16 rows), so that memory stays within 12.5% of what is used.
    """

    def __init__(self, particles: int) -> None:
        self.particles = particles
        self._buffer = np.empty((0, particles))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def array(self) -> Array:
        """The rows appended so far, (count, M): a view that is valid until the next append."""
        return self._buffer[: self._count]

    def append(self, rows: Array) -> None:
        """Append one row (M,) or a block of rows (k, M)."""
        rows = np.atleast_2d(rows)
        needed = self._count + len(rows)
        if needed > len(self._buffer):
            buffer = np.empty((max(needed, len(self._buffer) + max(16, len(self._buffer) // 8)), self.particles))
            buffer[: self._count] = self.array
            self._buffer = buffer
        self._buffer[self._count : needed] = rows
        self._count = needed

    def truncate(self, count: int) -> None:
        """Forget all rows but the first `count`."""
        self._count = min(self._count, count)
