"""The property: a call runs, or is refused with an error of the package, at once, and leaves all else as it was."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
import pickle
import signal
import threading
import time
import warnings

import numpy as np
import xarray as xr

from tpsim import InputError, Notice, TpsimError

SECONDS = 1.0
GIVE_UP = 20.0


class TooLong(BaseException):
    """A call that does not come back; no package catches it."""


@contextlib.contextmanager
def alarm(seconds):
    """Raise `TooLong` in the main thread after this time."""

    def ring(*_):
        raise TooLong(f"no answer in {seconds} s")

    assert threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def mark(value, depth=0):
    """What tells whether a value was changed: its content as far as it has one."""
    if isinstance(value, np.ndarray):
        small = value.nbytes < 10**7
        inner = hashlib.sha256(np.ma.getdata(value).tobytes()).hexdigest() if small and value.dtype != object else ""
        return "array", id(value), value.shape, str(value.dtype), value.flags.writeable, inner
    if isinstance(value, xr.Dataset | xr.DataArray):
        with contextlib.suppress(Exception):
            return "xarray", hashlib.sha256(pickle.dumps(value.to_dict())).hexdigest()
        return "xarray", id(value)
    if depth < 4 and isinstance(value, list | tuple):
        return type(value), [mark(entry, depth + 1) for entry in value]
    if depth < 4 and isinstance(value, dict):
        return dict, [(mark(key), mark(entry, depth + 1)) for key, entry in value.items()]
    if depth < 4 and hasattr(value, "__dataclass_fields__"):
        return type(value), [mark(getattr(value, name), depth + 1) for name in value.__dataclass_fields__]
    return type(value), id(value)


def tree(folder="."):
    """Everything below a folder; of plain files the content."""
    found = {}
    for where, folders, files in os.walk(folder):
        found |= {os.path.join(where, name): None for name in folders}
        for path in (os.path.join(where, name) for name in files):
            found[path] = None
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    found[path] = hashlib.sha256(file.read()).hexdigest()
    return found


def timed(call, arguments):
    """Return the result, the error and the seconds of a call."""
    start, result, refused = time.perf_counter(), None, None
    with alarm(GIVE_UP):
        try:
            result = call(**arguments)
        except TpsimError as error:
            refused = error
    return result, refused, time.perf_counter() - start


def check(call, arguments, writes=False):
    """Assert the property of one call; return its result and its error, one of which is None."""
    before, files = mark(arguments), tree()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", Notice)
        again = copy.copy(arguments)
        result, refused, seconds = timed(call, arguments)
        if seconds > SECONDS and not (writes and refused is None):  # the machine may be busy: the better of two
            result, refused, other = timed(call, again)
            seconds = min(seconds, other)
    assert mark(arguments) == before, "the call has changed its arguments"
    assert seconds < SECONDS or (writes and refused is None), f"{seconds:.1f} s"
    if refused is not None:
        message = str(refused)
        assert message and len(message) < 11000, message
        if isinstance(refused, InputError):
            assert refused.field and message.startswith(refused.field), message
        assert tree() == files, "a refused call has left something"
    elif not writes:
        assert tree() == files, "a call that writes nothing has written something"
    assert not [name for name in tree() if name.endswith(".tmp")]
    return result, refused
