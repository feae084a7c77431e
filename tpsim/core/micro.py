"""Register-blocked products over one block of particles, written in LLVM's vector types.

numba turns a loop into vector code only where the loop is innermost, so a product of tall and skinny matrices written
in Python loads and stores an accumulator for every multiplication. The kernels here hold a rectangle of accumulators in
registers, `ROWS` x `WIDE[ROWS]` of them, as a BLAS kernel does:

    expand   o_i += sum_k c_ki b_k         i < ROWS, WIDE vectors of particles at once, k runs
    reduce   p_ik += sum_a x_ia b_ka       i < ROWS, WIDE rows k at once, the particles a of the block run

All arguments are integers: addresses, and strides in bytes. Rows of b, o and x are `BLOCK` particles long and follow
each other, and the coefficients of one k lie side by side, so that addresses in the innermost loops are constants
apart. `ahead` is the address of the piece of b that comes next: it is fetched meanwhile, evenly, which hides the
latency of memory, into the first-level cache where that has room for it, else into the second.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import cfunc, types
from numba.core import cgutils
from numba.extending import intrinsic

BLOCK = 128  # particles of a block: 16 rows of b and 10 of x or o, in double precision, stay in 32 KB
CHUNK = 16  # rows of b in one piece of storage
LINE = 64  # bytes of a cache line

VECTOR = 64 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 32  # bytes of a vector register
# 8 to 12 accumulators of the 16 vector registers that AVX2 has; 8 to 24 of the 32 of AVX-512
WIDE = (
    {1: 8, 2: 8, 3: 4, 4: 4, 5: 4, 6: 4, 7: 2, 8: 2, 9: 2, 10: 2, 11: 2, 12: 2}
    if VECTOR == 64
    else {1: 8, 2: 4, 3: 4, 4: 2, 5: 2, 6: 2}
)
MOST = max(WIDE)

NON_TEMPORAL, SECOND_LEVEL = 0, 2  # where the piece that comes next is fetched to, as LLVM counts


def _nearest(size: Path = Path("/sys/devices/system/cpu/cpu0/cache/index0/size")) -> int:
    """The first level, past the others, where it holds three pieces: this one, the next one, and the fields."""
    try:
        known = int(size.read_text().strip().removesuffix("K")) << 10
    except (OSError, ValueError):
        known = 0
    return NON_TEMPORAL if known >= 3 * CHUNK * BLOCK * 8 else SECOND_LEVEL


NEAREST = _nearest()

_INT, _I32, _DOUBLE = ir.IntType(64), ir.IntType(32), ir.DoubleType()


def untyped(function: Any) -> Any:
    """Hide from type checkers that the compiler supplies an intrinsic's first argument."""
    return function


class _Emit:
    """LLVM instructions on vectors of one kind of real numbers."""

    def __init__(self, builder: Any, real: ir.Type) -> None:
        self.builder, self.real = builder, real
        self.size = 8 if real == _DOUBLE else 4
        self.lanes = VECTOR // self.size
        self.vector = ir.VectorType(real, self.lanes)

    def at(self, base: Any, *offsets: Any) -> Any:
        """base + offsets, in bytes; integers are constants."""
        for offset in offsets:
            base = self.builder.add(base, _INT(offset) if isinstance(offset, int) else offset)
        return base

    def load(self, address: Any) -> Any:
        return self.builder.load(self.builder.inttoptr(address, self.vector.as_pointer()), align=self.size)

    def store(self, value: Any, address: Any) -> None:
        self.builder.store(value, self.builder.inttoptr(address, self.vector.as_pointer()), align=self.size)

    def splat(self, address: Any) -> Any:
        """A vector of copies of the number at an address."""
        one = self.builder.load(self.builder.inttoptr(address, self.real.as_pointer()), align=self.size)
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, one, _I32(0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, self.lanes), None))

    def add_product(self, a: Any, b: Any, slot: Any) -> None:
        """slot += a b, in one operation."""
        product = self.builder.fmul(a, b, flags=("contract",))
        self.builder.store(self.builder.fadd(product, self.builder.load(slot), flags=("contract",)), slot)

    def slot(self, value: Any) -> Any:
        """An accumulator; LLVM keeps it in a register."""
        place = cgutils.alloca_once(self.builder, self.vector)
        self.builder.store(value, place)
        return place

    def add_totals(self, a: Any, b: Any, address: Any) -> None:
        """Add the sums of the entries of a and of b to the two doubles at an address.

        Neighbours are added as they are, then halves, in double precision.
        """
        even, odd = (
            self._pick(a, b, [start + k + side for k in range(0, self.lanes, 2) for side in (0, self.lanes)])
            for start in (0, 1)
        )
        both = self.builder.fadd(even, odd)  # a, b, a, b, ...
        if self.real != _DOUBLE:
            both = self.builder.fpext(both, ir.VectorType(_DOUBLE, self.lanes))
        lanes = self.lanes
        while lanes > 2:
            lanes //= 2
            halves = (self._pick(both, both, list(range(start, start + lanes))) for start in (0, lanes))
            both = self.builder.fadd(*halves)
        place = self.builder.inttoptr(address, both.type.as_pointer())
        self.builder.store(self.builder.fadd(self.builder.load(place, align=8), both), place, align=8)

    def _pick(self, a: Any, b: Any, entries: list[int]) -> Any:
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(entries)), entries))

    def follow(self, ahead: Any, m: Any) -> Callable[[int], None]:
        """Return what is to be called in every turn of the innermost loop to fetch a piece meanwhile, evenly.

        It is told how many cache lines a turn reads of the current piece of b. All are read by every share of the m
        rows, so that the address moves on by that part of them.
        """
        builder = self.builder
        place, shares = cgutils.alloca_once_value(builder, ahead), _shares(builder, m)

        def fetch(lines: int) -> None:
            address = builder.load(place)
            for line in range(lines):
                self._prefetch(self.at(address, line * LINE))
            builder.store(builder.add(address, builder.udiv(_INT(lines * LINE), shares)), place)

        return fetch

    def _prefetch(self, address: Any) -> None:
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0i8")
        read, where, data = _I32(0), _I32(NEAREST), _I32(1)
        self.builder.call(function, [self.builder.inttoptr(address, byte), read, where, data])


def _shares(builder: Any, rows: Any) -> Any:
    """How many shares of at most `MOST` rows there are."""
    return builder.udiv(builder.add(rows, _INT(MOST - 1)), _INT(MOST))


@contextmanager
def _range(builder: Any, stop: Any, step: int) -> Iterator[Any]:
    """A loop over 0, step, 2 step, ... below stop."""
    with cgutils.for_range_slice(builder, _INT(0), stop, _INT(step)) as (index, _):
        yield index


def _by_rows(e: _Emit, m: Any, body: Callable[[int, Any], None]) -> None:
    """Call body(rows, i) for rows i.. of the m: nearly equal shares of at most `MOST`, each with code of its own."""
    builder = e.builder
    i = cgutils.alloca_once_value(builder, _INT(0))
    with _while(builder, i, m):
        start = builder.load(i)
        left = builder.sub(m, start)
        shares = _shares(builder, left)
        rows = builder.udiv(builder.sub(builder.add(left, shares), _INT(1)), shares)
        for case in WIDE:
            with builder.if_then(builder.icmp_unsigned("==", rows, _INT(case))):
                body(case, start)
        builder.store(builder.add(start, rows), i)


@contextmanager
def _while(builder: Any, i: Any, m: Any) -> Iterator[None]:
    """Repeat the block while i < m."""
    test, body, end = (builder.append_basic_block(name) for name in ("rows.test", "rows.body", "rows.end"))
    builder.branch(test)
    builder.position_at_end(test)
    builder.cbranch(builder.icmp_unsigned("<", builder.load(i), m), body, end)
    builder.position_at_end(body)
    yield
    builder.branch(test)
    builder.position_at_end(end)


def _expand(real: ir.Type) -> Any:
    """The intrinsic of o (m, BLOCK) += c' b for c (n, m), b (n, BLOCK)."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        o, c, c_stride, b, n, m, ahead = arguments
        e = _Emit(builder, real)
        fetch = e.follow(ahead, m)

        def body(rows: int, i: Any) -> None:
            wide, length = WIDE[rows], BLOCK * e.size
            first, factors = e.at(o, builder.mul(_INT(length), i)), e.at(c, builder.mul(_INT(e.size), i))
            with _range(builder, _INT(length), wide * VECTOR) as column:
                places = [e.at(first, column, k * length + v * VECTOR) for k in range(rows) for v in range(wide)]
                slots = [e.slot(e.load(place)) for place in places]
                with _range(builder, n, 1) as k:
                    row = e.at(b, column, builder.mul(k, _INT(length)))
                    mine = e.at(factors, builder.mul(k, c_stride))
                    fetch(wide * VECTOR // LINE)
                    vectors = [e.load(e.at(row, v * VECTOR)) for v in range(wide)]
                    for j in range(rows):
                        factor = e.splat(e.at(mine, j * e.size))
                        for v in range(wide):
                            e.add_product(factor, vectors[v], slots[j * wide + v])
                for slot, place in zip(slots, places, strict=True):
                    e.store(builder.load(slot), place)

        _by_rows(e, m, body)
        return context.get_dummy_value()

    @intrinsic
    def expand(typing, o, c, c_stride, b, n, m, ahead):
        return types.void(*[types.intp] * 7), emit

    return expand


def _reduce(real: ir.Type) -> Any:
    """The intrinsic of p (m, CHUNK) += x (m, BLOCK) b (CHUNK, BLOCK)'; p is in double precision."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, b, p, p_stride, m, ahead = arguments
        e = _Emit(builder, real)
        length = BLOCK * e.size  # bytes of a row of b
        fetch = e.follow(ahead, m)

        def body(rows: int, i: Any) -> None:
            wide = WIDE[rows]
            first, sums = e.at(x, builder.mul(_INT(length), i)), e.at(p, builder.mul(p_stride, i))
            with _range(builder, _INT(CHUNK), wide) as k:
                top = builder.mul(k, _INT(length))
                slots = [e.slot(ir.Constant(e.vector, None)) for _ in range(rows * wide)]
                with _range(builder, _INT(length), 2 * VECTOR) as start:
                    fetch(wide * 2 * VECTOR // LINE)
                    for half in (0, VECTOR):
                        vectors = [e.load(e.at(b, top, start, v * length + half)) for v in range(wide)]
                        for j in range(rows):
                            entry = e.load(e.at(first, start, j * length + half))
                            for v in range(wide):
                                e.add_product(entry, vectors[v], slots[j * wide + v])
                for j in range(rows):
                    place = e.at(sums, builder.mul(p_stride, _INT(j)), builder.mul(k, _INT(8)))
                    for v in range(0, wide, 2):
                        first_sum, second_sum = (builder.load(slots[j * wide + v + k]) for k in range(2))
                        e.add_totals(first_sum, second_sum, e.at(place, 8 * v))

        _by_rows(e, m, body)
        return context.get_dummy_value()

    @intrinsic
    def reduce(typing, x, b, p, p_stride, m, ahead):
        return types.void(*[types.intp] * 6), emit

    return reduce


@untyped
@intrinsic
def stream_row(typing, source, target):
    """Write the BLOCK doubles at `source` to `target`, both multiples of `VECTOR`, past the caches.

    What is not read again soon need not be fetched to be written.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        e = _Emit(builder, _DOUBLE)
        for offset in range(0, BLOCK * 8, VECTOR):
            value = e.load(e.at(arguments[0], offset))
            place = builder.inttoptr(e.at(arguments[1], offset), e.vector.as_pointer())
            store = builder.store(value, place, align=VECTOR)
            store.set_metadata("nontemporal", builder.module.add_metadata([_I32(1)]))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), emit


@untyped
@intrinsic
def fence(typing):
    """Make what `stream_row` wrote visible to other threads."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), emit


_expand_double, _expand_single = _expand(_DOUBLE), _expand(ir.FloatType())
_reduce_double, _reduce_single = _reduce(_DOUBLE), _reduce(ir.FloatType())


def _expand_any(single, o, c, c_stride, b, n, m, ahead):
    if single:
        _expand_single(o, c, c_stride, b, n, m, ahead)
    else:
        _expand_double(o, c, c_stride, b, n, m, ahead)


def _reduce_any(single, x, b, p, p_stride, m, ahead):
    if single:
        _reduce_single(x, b, p, p_stride, m, ahead)
    else:
        _reduce_double(x, b, p, p_stride, m, ahead)


@functools.cache
def entries() -> tuple[int, int]:
    """Return the addresses of the two kernels, for `expand_block` and `reduce_block`.

    They are called through these, so that what uses them is compiled without compiling them again.
    """
    kernels: list[Any] = [
        cfunc(types.void(*[types.intp] * count), cache=True)(kernel)
        for kernel, count in ((_expand_any, 8), (_reduce_any, 7))
    ]
    _kept.extend(kernels)
    return int(kernels[0].address), int(kernels[1].address)


_kept: list[Any] = []  # the code behind `entries`


def _call(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Call the function at the address that is the first argument with the others."""
    entry, *rest = arguments
    kind = ir.FunctionType(ir.VoidType(), [_INT] * len(rest))
    builder.call(builder.inttoptr(entry, kind.as_pointer()), rest)
    return context.get_dummy_value()


@untyped
@intrinsic
def expand_block(typing, entry, single, o, c, c_stride, b, n, m, ahead):
    """o (m, BLOCK) += c' b for c (n, m), b (n, BLOCK), n <= CHUNK; all in single precision or all in double."""
    return types.void(*[types.intp] * 9), _call


@untyped
@intrinsic
def reduce_block(typing, entry, single, x, b, p, p_stride, m, ahead):
    """p (m, CHUNK) += x (m, BLOCK) b (CHUNK, BLOCK)'; x and b in single precision or in double, p in double."""
    return types.void(*[types.intp] * 8), _call
