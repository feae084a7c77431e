"""What the public functions of the core ask of their arguments: the kernels do not look where they read and write."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..errors import InputError, ResourceError

Array = np.ndarray
LONGEST = 64  # numbers in a key


def integer(field: str, value: Any, least: int) -> int:
    """Return `value` as an int >= least."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value < 2**63:
        raise InputError(field, value, f"an integer >= {least}")
    return int(value)


def key(field: str, value: Any) -> tuple[int, ...]:
    """Return a tuple of integers."""
    try:
        if isinstance(value, list | tuple) and len(value) <= LONGEST:
            return tuple(operator.index(k) for k in value)
    except TypeError:
        pass
    raise InputError(field, value, f"a tuple of at most {LONGEST} integers")


def storage(value: Any) -> np.dtype:
    """Return float64 or float32."""
    try:
        found = np.dtype(value)
    except (TypeError, ValueError, RecursionError):
        found = np.dtype(object)
    if value is None or found not in (np.float64, np.float32):
        raise InputError("dtype", value, "float64 or float32")
    return found


def fields(field: str, value: Any, particles: int | None = None) -> Array:
    """Return real arrays (k, M) as the kernels read them: contiguous, in double precision."""
    if type(value) is np.ndarray and value.dtype == np.float64 and value.ndim == 2 and value.flags.c_contiguous:
        array = value
    else:
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, MemoryError, OverflowError, RecursionError, RuntimeError):
            array = np.empty(0, dtype=object)
        if array.ndim != 2 or array.dtype.kind not in "fiub" or np.ma.isMaskedArray(value):
            what = f"<{array.dtype} array of shape {array.shape}>"
            raise InputError(field, what, f"real arrays of shape (k, {particles or 'M'})")
        with fits(field):
            array = np.ascontiguousarray(array, dtype=np.float64)
    if particles is not None and array.shape[1] != particles:
        raise InputError(field, f"<array of shape {array.shape}>", f"an array of shape (k, {particles})")
    return array


def written(field: str, value: Any, shape: tuple[int, ...]) -> None:
    """Refuse what a kernel cannot write to."""
    if not isinstance(value, np.ndarray) or value.dtype != np.float64 or value.shape != shape:
        what = f"<{type(value).__name__} of shape {getattr(value, 'shape', None)}>"
        raise InputError(field, what, f"a float64 array of shape {shape}")
    if not (value.flags.c_contiguous and value.flags.writeable):
        raise InputError(field, "<an array that is not contiguous, or not writeable>", "a contiguous, writeable array")


@contextmanager
def fits(field: str) -> Iterator[None]:
    """Name the field whose size does not fit into memory."""
    try:
        yield
    except (MemoryError, OverflowError) as error:
        raise ResourceError(f"{field}: does not fit into memory") from error
    except ValueError as error:
        if "array is too big" not in str(error) and "Maximum allowed" not in str(error):
            raise
        raise ResourceError(f"{field}: does not fit into memory") from error
