"""What an object leaves of itself, and becomes again: arrays by name.

Every class with a state has a pair `state() -> dict` and `restore(Saved)`. Numbers are integer arrays; arrays may be
views. What is restored is not trusted: whatever is missing, left over or of another form is a ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Array = np.ndarray


class Saved:
    """Arrays by name, each of which is taken once; it is adopted, not copied.

    Parameters
    ----------
    arrays : name -> array, C-contiguous, its first entry at a multiple of 64 bytes.
    prefix : of all names that are asked for; `within` makes those of parts.
    """

    def __init__(self, arrays: Mapping[str, Array], prefix: str = "") -> None:
        self._arrays, self._prefix, self._taken = arrays, prefix, set[str]()

    def within(self, part: str) -> Saved:
        """What the part of this name has left."""
        inner = Saved(self._arrays, f"{self._prefix}{part}/")
        inner._taken = self._taken
        return inner

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._arrays

    def take(self, name: str, shape: tuple[int | None, ...], dtype: np.dtype | type) -> Array:
        """Return an array, None in `shape` standing for any length; ValueError: it is missing, or of another form."""
        name = self._prefix + name
        if name not in self._arrays or name in self._taken:
            raise ValueError(f"{name} is missing")
        array = self._arrays[name]
        fits = len(shape) == array.ndim and all(n in (None, k) for n, k in zip(shape, array.shape, strict=True))
        if not fits or array.dtype != dtype:
            wanted = f"{np.dtype(dtype)} of shape {shape}"
            raise ValueError(f"{name} is {array.dtype} of shape {array.shape}, and not {wanted}")
        self._taken.add(name)
        return array

    def count(self, name: str) -> int:
        """Return a number of things."""
        if (count := int(self.take(name, (), np.int64))) < 0:
            raise ValueError(f"{self._prefix}{name} is {count}")
        return count

    def chunks(self, count: int, size: int) -> int:
        """Return ceil(count / size), or raise ValueError if there are not even as many arrays."""
        if (chunks := -(-count // size)) > len(self._arrays):
            raise ValueError(f"{self._prefix}count is {count}, and there are not as many")
        return chunks

    def check_all_taken(self) -> None:
        """Raise ValueError if something is left that nobody has asked for."""
        if left := sorted(set(self._arrays) - self._taken):
            raise ValueError(f"{left[0]} is not part of it")


def nested(parts: Mapping[str, Mapping[str, Array]]) -> dict[str, Array]:
    """Return the states of parts as one, for `Saved.within`."""
    return {f"{part}/{name}": array for part, state in parts.items() for name, array in state.items()}
