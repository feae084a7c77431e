"""Products over particles: the numba leaves of the core.

Fields are arrays (m, M), particles last; bases are `Rows`. Work is cut into fixed units of whole tiles of `TILE`
particles, and a unit into blocks that stay in the cache; every sum over particles is formed per unit, and the units'
sums are folded in order, so results do not depend on the number of threads. Buffers are kept from call to call.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numba import njit, prange

from ..errors import InputError
from .checks import fields, written
from .micro import BLOCK, CHUNK, VECTOR, entries, expand_block, reduce_block, stream_row
from .rows import Rows, aligned
from .tiles import TILE

Array = np.ndarray
Basis = Rows | Array | Sequence[Rows]

SUMS = {"reassoc", "contract", "nsz"}  # sums may be reordered into vector code; NaN and infinity keep their meaning
UNITS = 64  # the most sums that are kept apart, and hence the most threads that find work


@dataclass(frozen=True)
class Stack:
    """The chunks of several `Rows`, one after the other, as the kernels want them.

    Attributes
    ----------
    members : tuple of Rows
    addresses, counts : (chunks,) where each chunk starts, and how many rows it holds.
    single : 1 where the storage is float32, else 0.
    """

    members: tuple[Rows, ...]
    addresses: Array
    counts: Array
    single: int

    @classmethod
    def of(cls, basis: Basis) -> Stack:
        """Return the stack of one `Rows`, an array (r, M), or a sequence of `Rows`."""
        if isinstance(basis, np.ndarray):
            basis = Rows.of(basis)
        elif not isinstance(basis, Rows | list | tuple):
            raise InputError("basis", basis, "Rows, a list of Rows, or an array (r, M)")
        members: tuple[Rows, ...] = (basis,) if isinstance(basis, Rows) else tuple(basis)
        for member in members:
            first = members[0]
            if not isinstance(member, Rows) or (member.particles, member.dtype) != (first.particles, first.dtype):
                raise InputError("basis", member, "Rows over one number of particles, of one dtype")
        single = int(bool(members) and members[0].dtype == np.float32)
        if len(members) == 1:
            return cls(members, *members[0].held, single)
        none = np.empty(0, dtype=np.int64)
        held = [member.held for member in members]
        addresses, counts = (np.concatenate([none, *(both[k] for both in held)]) for k in range(2))
        return cls(members, addresses, counts, single)

    def __len__(self) -> int:
        return sum(len(member) for member in self.members)

    def pad(self, coefficients: Array) -> Array:
        """Return coefficients (m, r) in the columns of the chunks, (m, CHUNK chunks), as the storage is."""
        out = np.zeros((len(coefficients), CHUNK * len(self.counts)), np.float32 if self.single else np.float64)
        for here, there in self._columns():
            out[:, there] = coefficients[:, here]
        return out

    def unpad(self, sums: Array) -> Array:
        """Return sums (m, CHUNK chunks) without the columns that hold nothing, (m, r)."""
        out = np.empty((len(sums), len(self)))
        for here, there in self._columns():
            out[:, here] = sums[:, there]
        return out

    def _columns(self) -> list[tuple[slice, slice]]:
        """For every member: its columns among all rows, and among those of the chunks."""
        pairs, start, chunk = [], 0, 0
        for member in self.members:
            pairs.append((slice(start, start + len(member)), slice(CHUNK * chunk, CHUNK * chunk + len(member))))
            start, chunk = start + len(member), chunk + -(-len(member) // CHUNK)
        return pairs


# Buffers ------------------------------------------------------------------------------------------------------------

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
    padded = CHUNK * -(-m // CHUNK)
    return buffer("scratch", (numba.get_num_threads(), fields, padded, BLOCK))


# Loops over particles -----------------------------------------------------------------------------------------------


@njit(cache=True)
def load_block(x, start, stop, block):
    """block (m, BLOCK) = x[:, start:stop], zeros past the end."""
    for i in range(x.shape[0]):
        for a in range(stop - start):
            block[i, a] = x[i, start + a]
        for a in range(stop - start, BLOCK):
            block[i, a] = 0.0


@njit(cache=True)
def store_block(block, x, start, stop):
    """x[:, start:stop] = block."""
    for i in range(x.shape[0]):
        for a in range(stop - start):
            x[i, start + a] = block[i, a]


@njit(cache=True)
def stream_block(block, x, start, stop):
    """`store_block` past the caches, where rows lie at multiples of a vector; to be followed by a fence."""
    for i in range(x.shape[0]):
        target = x[i].ctypes.data + 8 * start
        if stop - start == BLOCK and target % VECTOR == 0:
            stream_row(block[i].ctypes.data, target)
        else:
            for a in range(stop - start):
                x[i, start + a] = block[i, a]


@njit(cache=True)
def to_single(block, m, out):
    """Return the address of a block in single precision, written over the storage of `out`."""
    single = out.reshape(-1).view(np.float32)
    for i in range(m):
        for a in range(BLOCK):
            single[i * BLOCK + a] = block[i, a]
    return single.ctypes.data


@njit(cache=True)
def expand_stack(entries, single, m, coefficients, addresses, counts, index, block, spare, ahead):
    """block (m, BLOCK) += coefficients times the rows of all chunks at block number `index` of the particles.

    In single precision the sum of the rows is formed in `spare` and added at the end.
    """
    size = 4 if single else 8
    piece = index * CHUNK * BLOCK * size
    o = block.ctypes.data
    if single:
        o = spare.ctypes.data
        spare[:m] = 0.0
    for k in range(addresses.size):
        following = addresses[k + 1] + piece if k + 1 < addresses.size else ahead
        expand_block(
            entries[0], single, o, BLOCK * size, coefficients + k * CHUNK * size, addresses.size * CHUNK * size,
            addresses[k] + piece, counts[k], m, following,
        )  # fmt: skip
    if single:
        narrow = spare.reshape(-1).view(np.float32)
        for i in range(m):
            for a in range(BLOCK):
                block[i, a] += narrow[i * BLOCK + a]


@njit(cache=True)
def reduce_stack(entries, single, m, x, addresses, index, sums, stride, ahead):
    """sums (m, CHUNK chunks) += x (m, BLOCK) times the rows of all chunks, transposed; x, sums: addresses."""
    size = 4 if single else 8
    piece = index * CHUNK * BLOCK * size
    for k in range(addresses.size):
        following = addresses[k + 1] + piece if k + 1 < addresses.size else ahead
        reduce_block(
            entries[1], single, x, BLOCK * size, addresses[k] + piece, sums + k * CHUNK * 8, stride, m, following
        )


@njit(cache=True)
def reduce_fields(entries, m, x, y, sums, stride):
    """sums (m, rows of y) += x y' for two blocks of fields; rows of y past the last must be finite."""
    chunks = y.shape[0] // CHUNK
    for k in range(chunks):
        place = y.ctypes.data + k * CHUNK * BLOCK * 8
        reduce_block(entries[1], 0, x.ctypes.data, BLOCK * 8, place, sums + k * CHUNK * 8, stride, m, place)


@njit(parallel=True, cache=True)
def _expand(entries, coefficients, addresses, counts, single, unit, out, scratch):
    m, particles = out.shape
    for u in prange((particles + unit - 1) // unit):
        work = scratch[numba.get_thread_id()]
        for start in range(u * unit, min(particles, (u + 1) * unit), BLOCK):
            stop = min(particles, start + BLOCK)
            load_block(out, start, stop, work[0])
            size = 4 if single else 8
            ahead = addresses[0] + (start // BLOCK + 1) * CHUNK * BLOCK * size
            expand_stack(
                entries, single, m, coefficients.ctypes.data, addresses, counts, start // BLOCK, work[0], work[1], ahead
            )
            store_block(work[0], out, start, stop)


@njit(parallel=True, cache=True)
def _reduce(entries, x, addresses, single, unit, partial, scratch):
    m, particles = x.shape
    for u in prange((particles + unit - 1) // unit):
        work = scratch[numba.get_thread_id()]
        for start in range(u * unit, min(particles, (u + 1) * unit), BLOCK):
            stop = min(particles, start + BLOCK)
            load_block(x, start, stop, work[0])
            place = to_single(work[0], m, work[1]) if single else work[0].ctypes.data
            size = 4 if single else 8
            ahead = addresses[0] + (start // BLOCK + 1) * CHUNK * BLOCK * size
            reduce_stack(
                entries,
                single,
                m,
                place,
                addresses,
                start // BLOCK,
                partial[u].ctypes.data,
                8 * partial.shape[2],
                ahead,
            )


@njit(parallel=True, cache=True)
def _accumulate(entries, coefficients, x, addresses, counts, single, unit, scratch):
    m, particles = x.shape
    size = 4 if single else 8
    for u in prange((particles + unit - 1) // unit):
        work = scratch[numba.get_thread_id()]
        for start in range(u * unit, min(particles, (u + 1) * unit), BLOCK):
            stop = min(particles, start + BLOCK)
            load_block(x, start, stop, work[0])
            place = to_single(work[0], m, work[1]) if single else work[0].ctypes.data
            for k in range(addresses.size):
                target = addresses[k] + (start // BLOCK) * CHUNK * BLOCK * size
                for j in range(0, m, CHUNK):  # the fields, CHUNK at a time, are the rows of the product
                    rows = place + j * BLOCK * size
                    factors = coefficients.ctypes.data + (k * CHUNK * m + j) * size
                    n = min(CHUNK, m - j)
                    expand_block(
                        entries[0], single, target, BLOCK * size, factors, m * size, rows, n, counts[k], target
                    )


@njit(parallel=True, cache=True)
def _gram(entries, x, unit, partial, scratch):
    m, particles = x.shape
    for u in prange((particles + unit - 1) // unit):
        block, sheet = scratch[numba.get_thread_id()][0], partial[u]
        block[:] = 0.0
        for start in range(u * unit, min(particles, (u + 1) * unit), BLOCK):
            load_block(x, start, min(particles, start + BLOCK), block)
            reduce_fields(entries, m, block, block, sheet.ctypes.data, 8 * sheet.shape[1])


@njit(parallel=True, cache=True)
def _cross(entries, x, y, unit, partial, scratch):
    m, particles = x.shape
    for u in prange((particles + unit - 1) // unit):
        work, sheet = scratch[numba.get_thread_id()], partial[u]
        work[:2] = 0.0
        for start in range(u * unit, min(particles, (u + 1) * unit), BLOCK):
            stop = min(particles, start + BLOCK)
            load_block(x, start, stop, work[0])
            load_block(y, start, stop, work[1])
            reduce_fields(entries, m, work[0], work[1], sheet.ctypes.data, 8 * sheet.shape[1])


@njit(parallel=True, cache=True)
def _transform(entries, matrix, z, unit, scratch):
    m, particles = z.shape
    for u in prange((particles + unit - 1) // unit):
        work = scratch[numba.get_thread_id()]
        for start in range(u * unit, min(particles, (u + 1) * unit), BLOCK):
            stop = min(particles, start + BLOCK)
            load_block(z, start, stop, work[0])
            work[1] = 0.0
            for j in range(0, m, CHUNK):
                rows, factors = work[0].ctypes.data + j * BLOCK * 8, matrix.ctypes.data + j * 8
                expand_block(
                    entries[0], 0, work[1].ctypes.data, BLOCK * 8, factors, m * 8, rows, min(CHUNK, m - j), m, rows
                )
            store_block(work[1], z, start, stop)


@njit(cache=True)
def fold(partial, out):
    """out += the sheets of partial, in order."""
    for unit in range(partial.shape[0]):
        for i in range(out.shape[0]):
            for k in range(out.shape[1]):
                out[i, k] += partial[unit, i, k]


# What the core calls ------------------------------------------------------------------------------------------------


def _check_shape(field: str, array: Array, shape: tuple[int, ...]) -> None:
    """The kernels do not look where they read: a wrong shape must not reach them."""
    if array.shape != shape:
        raise InputError(field, f"<array of shape {array.shape}>", f"an array of shape {shape}")


def _particles(stack: Stack) -> int:
    if not stack.members:
        raise InputError("basis", "<no Rows>", "at least one")
    return stack.members[0].particles


def expand(coefficients: Array, basis: Basis, out: Array | None = None) -> Array:
    """Return out + coefficients @ basis, in place when `out` is given.

    Parameters
    ----------
    coefficients : (m, r)
    basis : Rows, a sequence of Rows (their rows one after the other), or an array (r, M)
    out : (m, M), optional; zeros when missing.

    Error: rounding; with float32 storage the sum over the basis is formed in single precision.
    Cost: 2 m r M flops; reads the basis once.
    """
    stack, coefficients = Stack.of(basis), fields("coefficients", coefficients)
    if out is None:
        out = np.zeros((len(coefficients), _particles(stack)))
    written("out", out, (len(out), _particles(stack)))
    _check_shape("coefficients", coefficients, (len(out), len(stack)))
    if len(stack) and out.size:
        _expand(
            entries(), stack.pad(coefficients), stack.addresses, stack.counts, stack.single, unit_of(out.shape[1]), out,
            scratch(len(out), 2),
        )  # fmt: skip
    return out


def inner(x: Array, basis: Basis) -> Array:
    """Return <x_i, b_k> = (1/M) sum_alpha x_i b_k, shape (m, r): the particle estimate of E[x_i b_k].

    Parameters
    ----------
    x : (m, M)
    basis : Rows, a sequence of Rows (their rows one after the other), or an array (r, M)

    Error: rounding; with float32 storage products are formed in single precision and summed in double over blocks.
    Cost: 2 m r M flops; reads the basis once. Bit-identical for any number of threads.
    """
    x = fields("x", x)
    if isinstance(basis, np.ndarray):
        return _inner_fields(x, fields("basis", basis, x.shape[1]))
    stack = Stack.of(basis)
    particles = _particles(stack)
    _check_shape("x", x, (len(x), particles))
    sums = np.zeros((len(x), CHUNK * len(stack.counts)))
    if sums.size:
        partial = partial_sums(particles, *sums.shape)
        _reduce(entries(), x, stack.addresses, stack.single, unit_of(particles), partial, scratch(len(x), 2))
        fold(partial, sums)
    return stack.unpad(sums) / particles


def _inner_fields(x: Array, y: Array) -> Array:
    """`inner` of two arrays of fields."""
    (m, particles), r = x.shape, len(y)
    _check_shape("x", x, (m, y.shape[1]))
    most = max(m, r)
    out = np.zeros((m, CHUNK * -(-most // CHUNK)))
    if m and r:
        partial = partial_sums(particles, *out.shape)
        _cross(entries(), x, y, unit_of(particles), partial, scratch(most, 2))
        fold(partial, out)
    return out[:, :r] / particles


def gram(x: Array) -> Array:
    """Return <x_i, x_j>, (m, m)."""
    m, particles = x.shape
    out = np.zeros((m, CHUNK * -(-m // CHUNK)))
    if m:
        partial = partial_sums(particles, *out.shape)
        _gram(entries(), x, unit_of(particles), partial, scratch(m, 1))
        fold(partial, out)
    return out[:, :m] / particles


def transform(matrix: Array, z: Array) -> Array:
    """Return z = matrix z, in place, for a matrix (m, m) and fields z (m, M), C-contiguous."""
    _check_shape("matrix", matrix, (len(z), len(z)))
    if len(z):
        _transform(entries(), np.ascontiguousarray(matrix), z, unit_of(z.shape[1]), scratch(len(z), 2))
    return z


def accumulate(rows: Rows, coefficients: Array, x: Array) -> None:
    """rows += coefficients' x, in place, for coefficients (m, r) and fields x (m, M).

    Cost: 2 m r M flops; reads and writes the rows once.
    """
    stack, x, coefficients = Stack.of(rows), fields("x", x, rows.particles), fields("coefficients", coefficients)
    _check_shape("coefficients", coefficients, (len(x), len(rows)))
    if len(x) and len(rows):
        factors = np.ascontiguousarray(stack.pad(coefficients).T)
        unit, work = unit_of(rows.particles), scratch(len(x), 2)
        _accumulate(entries(), factors, x, stack.addresses, stack.counts, stack.single, unit, work)


@njit(parallel=True, cache=True, fastmath=SUMS)
def _row_sums(x, y, unit, partial):
    particles = x.shape[1]
    for u in prange((particles + unit - 1) // unit):
        start, stop = u * unit, min(particles, (u + 1) * unit)
        for i in range(x.shape[0]):
            xi, yi = x[i, start:stop], y[i, start:stop]
            s = 0.0
            for a in range(stop - start):
                s += xi[a] * yi[a]
            partial[u, i, 0] = s


@njit(parallel=True, cache=True, fastmath=SUMS)
def _row_changes(x, y, unit, partial):
    particles = x.shape[1]
    for u in prange((particles + unit - 1) // unit):
        start, stop = u * unit, min(particles, (u + 1) * unit)
        for i in range(x.shape[0]):
            xi, yi = x[i, start:stop], y[i, start:stop]
            s = 0.0
            for a in range(stop - start):
                d = xi[a] - yi[a]
                s += d * d
            partial[u, i, 0] = s


def inner_rows(x: Array, y: Array) -> Array:
    """Return <x_i, y_i> for each row i, shape (m,)."""
    return _by_rows(_row_sums, x, y)


def inner_change(x: Array, y: Array) -> Array:
    """Return <x_i - y_i, x_i - y_i> for each row i, shape (m,)."""
    return _by_rows(_row_changes, x, y)


def _by_rows(kernel: Callable[..., None], x: Array, y: Array) -> Array:
    particles = x.shape[1]
    _check_shape("y", y, x.shape)
    out = np.zeros((len(x), 1))
    partial = partial_sums(particles, len(x), 1)
    kernel(x, y, unit_of(particles), partial)
    fold(partial, out)
    return out[:, 0] / particles
