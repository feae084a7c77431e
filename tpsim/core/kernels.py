"""Tall-skinny products over particles: the numba leaves of the core (arrays in, arrays out).

Particles are last and contiguous. Work is cut into fixed tiles of `TILE` particles; every sum over particles is formed
per tile and the tiles' partial sums are folded in tile order, so results do not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from ..errors import InputError
from .tiles import TILE

Array = np.ndarray

BLOCK = 256  # particles per cache block: 4 basis rows and ~10 outputs of a block stay in a 32 KB L1
# Reassociation lets LLVM vectorise the sums of one block; NaN and infinity keep their meaning.
_SUMS = {"reassoc", "contract", "nsz"}


@njit(parallel=True, cache=True, fastmath=_SUMS)
def _expand(coefficients: Array, basis: Array, out: Array) -> None:
    m, r = coefficients.shape
    particles = basis.shape[1]
    for tile in prange((particles + TILE - 1) // TILE):
        for start in range(tile * TILE, min(particles, (tile + 1) * TILE), BLOCK):
            stop = min(particles, (tile + 1) * TILE, start + BLOCK)
            for k in range(0, r - r % 4, 4):
                b0, b1 = basis[k, start:stop], basis[k + 1, start:stop]
                b2, b3 = basis[k + 2, start:stop], basis[k + 3, start:stop]
                for i in range(m):
                    c0, c1 = coefficients[i, k], coefficients[i, k + 1]
                    c2, c3 = coefficients[i, k + 2], coefficients[i, k + 3]
                    o = out[i, start:stop]
                    for a in range(stop - start):
                        o[a] += (c0 * b0[a] + c1 * b1[a]) + (c2 * b2[a] + c3 * b3[a])
            for k in range(r - r % 4, r):
                b0 = basis[k, start:stop]
                for i in range(m):
                    c0 = coefficients[i, k]
                    o = out[i, start:stop]
                    for a in range(stop - start):
                        o[a] += c0 * b0[a]


@njit(parallel=True, cache=True, fastmath=_SUMS)
def _reduce(basis: Array, x: Array, partial: Array) -> None:
    m, r = x.shape[0], basis.shape[0]
    particles = basis.shape[1]
    for tile in prange((particles + TILE - 1) // TILE):
        for start in range(tile * TILE, min(particles, (tile + 1) * TILE), BLOCK):
            stop = min(particles, (tile + 1) * TILE, start + BLOCK)
            for k in range(0, r - r % 4, 4):
                b0, b1 = basis[k, start:stop], basis[k + 1, start:stop]
                b2, b3 = basis[k + 2, start:stop], basis[k + 3, start:stop]
                for i in range(m):
                    xi = x[i, start:stop]
                    s0 = s1 = s2 = s3 = 0.0
                    for a in range(stop - start):
                        s0 += xi[a] * b0[a]
                        s1 += xi[a] * b1[a]
                        s2 += xi[a] * b2[a]
                        s3 += xi[a] * b3[a]
                    partial[tile, i, k] += s0
                    partial[tile, i, k + 1] += s1
                    partial[tile, i, k + 2] += s2
                    partial[tile, i, k + 3] += s3
            for k in range(r - r % 4, r):
                b0 = basis[k, start:stop]
                for i in range(m):
                    xi = x[i, start:stop]
                    s0 = 0.0
                    for a in range(stop - start):
                        s0 += xi[a] * b0[a]
                    partial[tile, i, k] += s0


@njit(cache=True)
def _fold(partial: Array, out: Array) -> None:
    for tile in range(partial.shape[0]):
        for i in range(out.shape[0]):
            for k in range(out.shape[1]):
                out[i, k] += partial[tile, i, k]


def _check_shape(field: str, array: Array, shape: tuple[int, ...]) -> None:
    """The kernels do not look where they read: a wrong shape must not reach them."""
    if array.shape != shape:
        raise InputError(field, f"<array of shape {array.shape}>", f"an array of shape {shape}")


def expand(coefficients: Array, basis: Array, out: Array | None = None) -> Array:
    """Return out + coefficients @ basis, in place when `out` is given.

    Parameters
    ----------
    coefficients : (m, r)
    basis : (r, M), particles contiguous
    out : (m, M), optional; zeros when missing.

    Cost: 2 m r M flops; reads the basis once.
    """
    if out is None:
        out = np.zeros((coefficients.shape[0], basis.shape[1]))
    _check_shape("coefficients", coefficients, (out.shape[0], basis.shape[0]))
    _check_shape("out", out, (coefficients.shape[0], basis.shape[1]))
    if basis.shape[0]:
        _expand(np.ascontiguousarray(coefficients), basis, out)
    return out


def inner(x: Array, basis: Array) -> Array:
    """Return <x_i, b_k> = (1/M) sum_alpha x_i b_k, shape (m, r): the particle estimate of E[x_i b_k].

    Parameters
    ----------
    x : (m, M)
    basis : (r, M)

    Cost: 2 m r M flops; reads the basis once. Bit-identical for any number of threads.
    """
    particles = basis.shape[1]
    _check_shape("x", x, (x.shape[0], particles))
    out = np.zeros((x.shape[0], basis.shape[0]))
    if out.size:
        partial = np.zeros(((particles + TILE - 1) // TILE, *out.shape))
        _reduce(basis, x, partial)
        _fold(partial, out)
        out /= particles
    return out


@njit(parallel=True, cache=True, fastmath=_SUMS)
def _row_sums(x: Array, y: Array, partial: Array) -> None:
    particles = x.shape[1]
    for tile in prange((particles + TILE - 1) // TILE):
        start, stop = tile * TILE, min(particles, (tile + 1) * TILE)
        for i in range(x.shape[0]):
            xi, yi = x[i, start:stop], y[i, start:stop]
            s = 0.0
            for a in range(stop - start):
                s += xi[a] * yi[a]
            partial[tile, i, 0] = s


def inner_rows(x: Array, y: Array) -> Array:
    """Return <x_i, y_i> for each row i, shape (m,)."""
    particles = x.shape[1]
    _check_shape("y", y, x.shape)
    out = np.zeros((x.shape[0], 1))
    partial = np.zeros(((particles + TILE - 1) // TILE, x.shape[0], 1))
    _row_sums(x, y, partial)
    _fold(partial, out)
    return out[:, 0] / particles
