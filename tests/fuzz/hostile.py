"""What no argument should be, beside what is nearly right: factories, so that every case has values of its own."""

from __future__ import annotations

import decimal
import fractions
import math
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import xarray as xr
from hypothesis import strategies as st


class Unprintable:
    """Has no repr, no length and no truth."""

    def __repr__(self):
        raise RuntimeError("no repr")

    def __len__(self):
        raise RuntimeError("no length")

    def __bool__(self):
        raise RuntimeError("no truth")


class Text(str):
    """A string that is not quite one."""


class Subclass(np.ndarray):
    """An array that is not quite one."""


def raises(*_):
    raise KeyError("the user's function")


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


def itself():
    value: list = [1]
    value.append(value)
    return value


def readonly():
    array = np.arange(6.0).reshape(2, 3)
    array.flags.writeable = False
    return array


SCALARS = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    3,
    7,
    2**46,
    2**63 - 1,
    2**63,
    10**30,
    10**5000,
    -(2**63),
    0.0,
    -0.0,
    0.5,
    1.5,
    -1.0,
    math.nan,
    math.inf,
    -math.inf,
    1e300,
    -1e300,
    5e-324,
    1e-310,
    1j,
    "",
    "x",
    "mup",
    "tanh",
    "ñ☃é",
    "\0",
    "a" * 5000,
    "\ud800",
    "../..",
    "/",
    b"bytes",
    (),
    object,
    range(3),
    range(10**18),
    Ellipsis,
    NotImplemented,
    Path("nowhere"),
    decimal.Decimal("NaN"),
    fractions.Fraction(1, 3),
    np.float32(2.0),
    np.float64(np.nan),
    np.int8(-3),
    np.uint64(2**64 - 1),
    np.bool_(True),
    np.str_("tanh"),
    np.complex128(1j),
    np.datetime64("2020-01-01"),
    np.ma.masked,
    Text("tanh"),
    frozenset({1}),
    slice(0, 2),
    math.sin,
    raises,
    lambda *_: None,
    lambda *_: "text",
    lambda x, *_: x[:0],
    lambda x, *_: np.asarray(x) * 1j,
    lambda x, *_: np.full_like(x, np.nan),
    lambda *_: np.zeros((3, 3)),
]
FRESH = [
    list,
    dict,
    set,
    Unprintable,
    object,
    itself,
    readonly,
    xr.Dataset,
    lambda: deep(50),
    lambda: deep(20000),
    lambda: iter([1, 2]),
    lambda: [[]],
    lambda: [1, [2]],
    lambda: ["a"],
    lambda: [None],
    lambda: [0],
    lambda: [1, 1],
    lambda: [-1],
    lambda: [math.nan],
    lambda: [1e300, 1e300],
    lambda: [10**400],
    lambda: {"size": 2},
    lambda: {"a": 1},
    lambda: {"size": -1, "seed": 0},
    lambda: {"size": 1, "seed": 2**70},
    lambda: [True],
    lambda: [[0], [1]],
    lambda: [[0.5]],
    lambda: bytearray(b"x"),
    lambda: memoryview(b"xyz"),
    lambda: np.array([]),
    lambda: np.zeros((0, 3)),
    lambda: np.zeros((3, 0)),
    lambda: np.array(3.0),
    lambda: np.array([[np.nan, 1.0, 2.0]]),
    lambda: np.array([[np.inf, 1.0, 2.0], [1, 2, 3]]),
    lambda: np.zeros((4, 3)),
    lambda: np.array([1, None, "a"], dtype=object),
    lambda: np.array([[1.0, 2], [3, 4]], dtype=object),
    lambda: np.array([{"a": 1}]),
    lambda: np.array(["a", "b"]),
    lambda: np.array([[1j, 2]]),
    lambda: np.zeros((2, 2, 2)),
    lambda: np.ma.masked_array([[1.0, 2.0]], [[0, 1]]),
    lambda: np.ma.masked_array([1.0], mask=True),
    lambda: np.arange(24.0).reshape(4, 6)[::2, ::-2],
    lambda: np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    lambda: np.full((2, 3), 1e300),
    lambda: np.full((2, 3), 5e-324),
    lambda: np.array([[1e300, 1e-300, 0.0]] * 2),
    lambda: np.zeros(2, dtype=[("a", float), ("b", int)]),
    lambda: np.array(["2020"], dtype="datetime64[D]"),
    lambda: np.broadcast_to(0.0, (10**8, 10**8)),
    lambda: np.broadcast_to(1.0, (10**14,)),
    lambda: np.zeros(70),
    lambda: np.arange(6, dtype=">i2").reshape(2, 3),
    lambda: np.float16([[1, 2, 3]]),
    lambda: np.ones((2, 3)).view(Subclass),
    lambda: np.longdouble([[1, 2, 3]]),
    lambda: np.array([[True, False, True]]),
    lambda: np.ones((2, 64)),
    lambda: xr.DataArray(np.ones((2, 3))),
    lambda: xr.Dataset({"f": ("x", [1.0])}),
    lambda: [xr.Dataset()],
    lambda: Path("a\0b"),
    lambda: Path("x" * 5000),
    lambda: [Path("a")],
]

DRAWN = st.one_of(
    st.integers(-(2**70), 2**70).filter(lambda k: not 3 < k < 2**45),  # sizes between would be honest long runs
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=8),
    hnp.arrays(st.sampled_from([np.float64, np.int64, np.bool_]), hnp.array_shapes(max_dims=3, max_side=4)),
    st.lists(st.one_of(st.integers(-3, 4), st.floats(), st.none()), max_size=4),
)
HOSTILE = st.one_of(
    st.sampled_from(SCALARS), st.sampled_from(FRESH).map(lambda make: make()), DRAWN, st.sampled_from(SCALARS)
)
