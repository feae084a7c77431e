"""Products over particles: the numba leaves of the core.

Fields are arrays (m, M), particles last; bases are `Rows`. Work is cut into fixed units of whole tiles of `TILE`
particles, and a unit into blocks that stay in the cache; every sum over particles is formed per unit, and the units'
sums are folded in order, so results do not depend on the number of threads. Buffers are kept from call to call.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
from numba import njit, prange

from ..errors import InputError
from .checks import fields, written
from .micro import BLOCK, CHUNK, VECTOR, entries, expand_block, reduce_block, stream_row
from .rows import Rows
from .stack import Basis, Stack, padded, partial_sums, scratch, unit_of

Array = np.ndarray

SUMS = {"reassoc", "contract", "nsz"}  # sums may be reordered into vector code; NaN and infinity keep their meaning


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
def expand_stack(entries, single, m, factors, table, index, block, spare, ahead):
    """block (m, BLOCK) += coefficients times the rows of all chunks at block number `index` of the particles.

    factors: the address of `Stack.factors`. In single precision the rows are summed in `spare`, added at the end.
    """
    size = 4 if single else 8
    piece = index * CHUNK * BLOCK * size
    o = block.ctypes.data
    if single:
        o = spare.ctypes.data
        spare[:m] = 0.0
    chunks = table.shape[1]
    for k in range(chunks):
        following = table[0, k + 1] + piece if k + 1 < chunks else ahead
        mine = factors + table[2, k] * m * size
        expand_block(entries[0], single, o, mine, m * size, table[0, k] + piece, table[1, k], m, following)
    if single:
        narrow = spare.reshape(-1).view(np.float32)
        for i in range(m):
            for a in range(BLOCK):
                block[i, a] += narrow[i * BLOCK + a]


@njit(cache=True)
def reduce_stack(entries, single, m, x, table, index, sums, stride, ahead):
    """sums (m, columns) += x (m, BLOCK) times the rows of all chunks, transposed; x, sums: addresses."""
    size = 4 if single else 8
    piece = index * CHUNK * BLOCK * size
    chunks = table.shape[1]
    for k in range(chunks):
        following = table[0, k + 1] + piece if k + 1 < chunks else ahead
        reduce_block(entries[1], single, x, table[0, k] + piece, sums + table[2, k] * 8, stride, m, following)


@njit(cache=True)
def reduce_fields(entries, m, x, y, sums, stride):
    """sums (m, rows of y) += x y' for two blocks of fields; rows of y past the last must be finite."""
    chunks = y.shape[0] // CHUNK
    for k in range(chunks):
        place = y.ctypes.data + k * CHUNK * BLOCK * 8
        reduce_block(entries[1], 0, x.ctypes.data, place, sums + k * CHUNK * 8, stride, m, place)


@njit(parallel=True, cache=True)
def _expand(entries, factors, table, single, unit, out, scratch):
    m, particles = out.shape
    for u in prange((particles + unit - 1) // unit):
        work = scratch[numba.get_thread_id()]
        for start in range(u * unit, min(particles, (u + 1) * unit), BLOCK):
            stop = min(particles, start + BLOCK)
            load_block(out, start, stop, work[0])
            size = 4 if single else 8
            ahead = table[0, 0] + (start // BLOCK + 1) * CHUNK * BLOCK * size
            expand_stack(
                entries, single, m, factors.ctypes.data, table, start // BLOCK, work[0], work[1], ahead
            )
            store_block(work[0], out, start, stop)


@njit(parallel=True, cache=True)
def _reduce(entries, x, table, single, unit, partial, scratch):
    m, particles = x.shape
    for u in prange((particles + unit - 1) // unit):
        work = scratch[numba.get_thread_id()]
        for start in range(u * unit, min(particles, (u + 1) * unit), BLOCK):
            stop = min(particles, start + BLOCK)
            load_block(x, start, stop, work[0])
            place = to_single(work[0], m, work[1]) if single else work[0].ctypes.data
            size = 4 if single else 8
            ahead = table[0, 0] + (start // BLOCK + 1) * CHUNK * BLOCK * size
            sums, stride = partial[u].ctypes.data, 8 * partial.shape[2]
            reduce_stack(entries, single, m, place, table, start // BLOCK, sums, stride, ahead)


@njit(parallel=True, cache=True)
def _accumulate(entries, coefficients, x, table, single, unit, scratch):
    (m, particles), r = x.shape, coefficients.shape[1]
    size = 4 if single else 8
    for u in prange((particles + unit - 1) // unit):
        work = scratch[numba.get_thread_id()]
        for start in range(u * unit, min(particles, (u + 1) * unit), BLOCK):
            stop = min(particles, start + BLOCK)
            load_block(x, start, stop, work[0])
            place = to_single(work[0], m, work[1]) if single else work[0].ctypes.data
            for k in range(table.shape[1]):
                target = table[0, k] + (start // BLOCK) * CHUNK * BLOCK * size
                for j in range(0, m, CHUNK):  # the fields, CHUNK at a time, are the rows of the product
                    rows = place + j * BLOCK * size
                    factors = coefficients.ctypes.data + (j * r + table[2, k]) * size
                    n = min(CHUNK, m - j)
                    expand_block(entries[0], single, target, factors, r * size, rows, n, table[1, k], target)


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
    """z = matrix' z."""
    m, particles = z.shape
    for u in prange((particles + unit - 1) // unit):
        work = scratch[numba.get_thread_id()]
        for start in range(u * unit, min(particles, (u + 1) * unit), BLOCK):
            stop = min(particles, start + BLOCK)
            load_block(z, start, stop, work[0])
            work[1] = 0.0
            for j in range(0, m, CHUNK):
                rows, factors = work[0].ctypes.data + j * BLOCK * 8, matrix.ctypes.data + j * m * 8
                expand_block(entries[0], 0, work[1].ctypes.data, factors, m * 8, rows, min(CHUNK, m - j), m, rows)
            store_block(work[1], z, start, stop)


@njit(cache=True)
def fold(partial, particles):
    """Return the sum of the sheets of partial, in order, divided by the number of particles."""
    out = partial[0].copy()
    for unit in range(1, partial.shape[0]):
        for i in range(out.shape[0]):
            for k in range(out.shape[1]):
                out[i, k] += partial[unit, i, k]
    for i in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[i, k] /= particles
    return out


def _check_shape(field: str, array: Array, shape: tuple[int, ...]) -> None:
    """The kernels do not look where they read: a wrong shape must not reach them."""
    if array.shape != shape:
        raise InputError(field, f"<array of shape {array.shape}>", f"an array of shape {shape}")


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
        out = np.zeros((len(coefficients), stack.particles))
    written("out", out, (len(out), stack.particles))
    _check_shape("coefficients", coefficients, (len(out), len(stack)))
    if len(stack) and out.size:
        _expand(
            entries(), stack.factors(coefficients), stack.table, stack.single, unit_of(out.shape[1]), out,
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
    m, particles = len(x), stack.particles
    _check_shape("x", x, (m, particles))
    if not m or not len(stack):
        return np.zeros((m, len(stack)))
    partial, work = partial_sums(particles, m, stack.columns), scratch(m, 2)
    _reduce(entries(), x, stack.table, stack.single, unit_of(particles), partial, work)
    return fold(partial, particles)[:, : len(stack)]


def _inner_fields(x: Array, y: Array) -> Array:
    """`inner` of two arrays of fields."""
    (m, particles), r = x.shape, len(y)
    _check_shape("x", x, (m, y.shape[1]))
    if not m or not r:
        return np.zeros((m, r))
    partial = partial_sums(particles, m, padded(max(m, r)))
    _cross(entries(), x, y, unit_of(particles), partial, scratch(max(m, r), 2))
    return fold(partial, particles)[:, :r]


def gram(x: Array) -> Array:
    """Return <x_i, x_j>, (m, m)."""
    m, particles = x.shape
    if not m:
        return np.zeros((0, 0))
    partial = partial_sums(particles, m, padded(m))
    _gram(entries(), x, unit_of(particles), partial, scratch(m, 1))
    return fold(partial, particles)[:, :m]


def transform(matrix: Array, z: Array) -> Array:
    """Return z = matrix z, in place, for a matrix (m, m) and fields z (m, M), C-contiguous."""
    _check_shape("matrix", matrix, (len(z), len(z)))
    if len(z):
        _transform(entries(), np.ascontiguousarray(matrix.T), z, unit_of(z.shape[1]), scratch(len(z), 2))
    return z


def accumulate(rows: Rows, coefficients: Array, x: Array) -> None:
    """rows += coefficients' x, in place, for coefficients (m, r) and fields x (m, M).

    Cost: 2 m r M flops; reads and writes the rows once.
    """
    stack, x, coefficients = Stack.of(rows), fields("x", x, rows.particles), fields("coefficients", coefficients)
    _check_shape("coefficients", coefficients, (len(x), len(rows)))
    if len(x) and len(rows):
        factors = np.ascontiguousarray(coefficients, rows.dtype)
        unit, work = unit_of(rows.particles), scratch(len(x), 2)
        _accumulate(entries(), factors, x, stack.table, stack.single, unit, work)


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
    partial = partial_sums(particles, len(x), 1)
    kernel(x, y, unit_of(particles), partial)
    return fold(partial, particles)[:, 0]
