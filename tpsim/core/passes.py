"""The two passes of a step over a particle space: each reads the bases of the matrices on either side once.

    forward    h = sum_k c_k b_k,  x = phi(h),  slope = phi'(h);   <x, b'> for the bases b' of the matrix ahead
    backward   dx = sum_k c_k b_k,  dh = dx slope;                 <dh, b'> for the bases b' of the matrix behind

Fields are formed, used and written block by block, while they are in the cache. Their second moments among themselves
come along.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numba import njit, prange

from ..errors import InputError
from . import elementwise
from .checks import fields, written
from .kernels import (
    SUMS,
    expand,
    expand_stack,
    fold,
    inner,
    load_block,
    reduce_fields,
    reduce_stack,
    stream_block,
    to_single,
)
from .micro import BLOCK, CHUNK, entries, fence
from .stack import Basis, Stack, padded, partial_sums, scratch, unit_of

Array = np.ndarray
Evaluate = Callable[[Array, Array, Array], None]
Pair = Callable[[float], tuple[float, float]]
_FUSED: Any = {"fastmath": {"contract"}, "error_model": "numpy"}


@dataclass(frozen=True)
class Sums:
    """What a pass has summed over the particles.

    Attributes
    ----------
    inner : (m, r) <x_i, b_k> for the bases it was given; backward: <dh_i, b_k>.
    kernel_x, mean_x : (m, m), (m,) <x_i, x_j> and <x_i>; backward: of dh. Unless the whole was asked for, the diagonal.
    kernel_h, mean_h : (m, m), (m,) <h_i, h_j> and <h_i>; backward: empty. Likewise.
    """

    inner: Array
    kernel_x: Array
    mean_x: Array
    kernel_h: Array
    mean_h: Array


@njit(cache=True)
def _moments(entries, m, x, whole, sheet, column):
    """sheet[:, column:] += x x' (its diagonal unless `whole`) and, one column on, the sums of m (padded) fields."""
    last = column + x.shape[0]
    if whole:
        reduce_fields(entries, m, x, x, sheet.ctypes.data + 8 * column, 8 * sheet.shape[1])
        for i in range(m):
            sheet[i, last] += _sum(x[i])
    else:
        for i in range(m):
            sheet[i, column + i] += _square(x[i])


@njit(cache=True, fastmath=SUMS)
def _sum(x):
    s = 0.0
    for a in range(BLOCK):
        s += x[a]
    return s


@njit(cache=True, fastmath=SUMS)
def _square(x):
    s = 0.0
    for a in range(BLOCK):
        s += x[a] * x[a]
    return s


@njit(cache=True)
def _observe(entries, m, x, spare, whole, onto, single, index, sheet, column, ahead):
    """Add to a unit's sheet <x, b'> and the moments of x for one block."""
    place = to_single(x, m, spare) if single else x.ctypes.data
    reduce_stack(entries, single, m, place, onto, index, sheet.ctypes.data, 8 * sheet.shape[1], ahead)
    _moments(entries, m, x, whole, sheet, column)


def _forward(pair: Pair) -> Callable[..., None]:
    """The kernel of the forward pass through one activation; numba's cache tells them apart by `pair`."""

    @njit(parallel=True, cache=True, **_FUSED)
    def kernel(entries, factors, basis, single, unit, whole, h, x, slope, onto, partial, scratch):
        m, particles = h.shape
        size = 4 if single else 8
        for u in prange((particles + unit - 1) // unit):
            work, sheet = scratch[numba.get_thread_id()], partial[u]
            hb, xb, sb = work[0], work[1], work[2]
            for start in range(u * unit, min(particles, (u + 1) * unit), BLOCK):
                stop, index = min(particles, start + BLOCK), start // BLOCK
                following = basis[0, 0] + (index + 1) * CHUNK * BLOCK * size if basis.size else 0
                second = onto[0, 0] + index * CHUNK * BLOCK * size if onto.size else following
                hb[:] = 0.0
                expand_stack(entries, single, m, factors.ctypes.data, basis, index, hb, sb, second)
                for i in range(m):
                    for a in range(BLOCK):
                        xb[i, a], sb[i, a] = pair(hb[i, a])
                    for a in range(stop - start, BLOCK):
                        xb[i, a] = 0.0
                xb[m:] = 0.0
                if whole:
                    stream_block(hb, h, start, stop)
                stream_block(xb, x, start, stop)
                stream_block(sb, slope, start, stop)
                column = partial.shape[2] - 2 * (xb.shape[0] + 1)
                _observe(entries, m, xb, sb, whole, onto, single, index, sheet, column, following)
                _moments(entries, m, hb, whole, sheet, column + xb.shape[0] + 1)
            fence()

    return kernel


FORWARD = {
    name: _forward(getattr(elementwise, "_" + name))
    for name in ("tanh", "sigmoid", "erf", "silu", "gelu", "softplus", "relu", "identity")
}


def _smoothed(pair: Pair) -> Callable[..., None]:
    """The kernel of <What, E phi(h + rho Z)> for one activation."""

    @njit(parallel=True, cache=True, fastmath=SUMS, error_model="numpy")
    def kernel(h, rho, readout, nodes, weights, unit, partial):
        m, particles = h.shape
        for u in prange((particles + unit - 1) // unit):
            start, stop = u * unit, min(particles, (u + 1) * unit)
            what = readout[start:stop]
            for i in range(m):
                hi = h[i, start:stop]
                for node, weight in zip(nodes, weights):  # noqa: B905
                    shift, s = node * rho[i], 0.0
                    for a in range(stop - start):
                        s += what[a] * pair(hi[a] + shift)[0]
                    partial[u, i, 0] += weight * s

    return kernel


SMOOTHED = {name: _smoothed(getattr(elementwise, "_" + name)) for name in FORWARD}


def smoothed_output(activation: str | Evaluate, h: Array, rho: Array, readout: Array, nodes: int) -> Array:
    """Return <What, E phi(h_i + rho_i Z)>, (m,), for Z ~ N(0, 1) independent of all: Gauss-Hermite quadrature.

    Parameters
    ----------
    activation : as for `forward_pass`
    h : (m, M); rho : (m,); readout : (M,)
    nodes : int, of the quadrature

    Error: exact for polynomials of degree 2 nodes - 1. Cost: m nodes M evaluations of phi.
    """
    z, w = np.polynomial.hermite_e.hermegauss(nodes) if rho.any() else (np.zeros(1), np.ones(1))
    w = w / w.sum()
    m, particles = h.shape
    if isinstance(activation, str):
        partial = partial_sums(particles, m, 1)
        SMOOTHED[activation](h, rho, readout, z, w, unit_of(particles), partial)
        return fold(partial, particles)[:, 0]
    f, x, slope = np.zeros(m), np.empty_like(h), np.empty_like(h)
    for node, weight in zip(z, w, strict=True):
        activation(h + (node * rho)[:, None], x, slope)
        f += weight * inner(x, readout[None])[:, 0]
    return f


@njit(parallel=True, cache=True)
def _look(entries, h, x, whole, onto, single, unit, partial, scratch):
    """The second half of a forward pass, for an activation that is no kernel."""
    m, particles = h.shape
    for u in prange((particles + unit - 1) // unit):
        work, sheet = scratch[numba.get_thread_id()], partial[u]
        work[:2] = 0.0
        for start in range(u * unit, min(particles, (u + 1) * unit), BLOCK):
            stop, index = min(particles, start + BLOCK), start // BLOCK
            load_block(h, start, stop, work[0])
            load_block(x, start, stop, work[1])
            size = 4 if single else 8
            ahead = onto[0, 0] + (index + 1) * CHUNK * BLOCK * size if onto.size else 0
            column = partial.shape[2] - 2 * (work.shape[1] + 1)
            _observe(entries, m, work[1], work[2], whole, onto, single, index, sheet, column, ahead)
            _moments(entries, m, work[0], whole, sheet, column + work.shape[1] + 1)


@njit(parallel=True, cache=True)
def _backward(entries, factors, basis, single, unit, whole, slope, dh, onto, partial, scratch):
    m, particles = dh.shape
    size = 4 if single else 8
    for u in prange((particles + unit - 1) // unit):
        work, sheet = scratch[numba.get_thread_id()], partial[u]
        db, sb, spare = work[0], work[1], work[2]
        for start in range(u * unit, min(particles, (u + 1) * unit), BLOCK):
            stop, index = min(particles, start + BLOCK), start // BLOCK
            following = basis[0, 0] + (index + 1) * CHUNK * BLOCK * size if basis.size else 0
            second = onto[0, 0] + index * CHUNK * BLOCK * size if onto.size else following
            db[:] = 0.0
            expand_stack(entries, single, m, factors.ctypes.data, basis, index, db, spare, second)
            load_block(slope, start, stop, sb)
            for i in range(m):
                for a in range(BLOCK):
                    db[i, a] *= sb[i, a]
            stream_block(db, dh, start, stop)
            column = partial.shape[2] - (db.shape[0] + 1)
            _observe(entries, m, db, spare, whole, onto, single, index, sheet, column, following)
        fence()


def forward_pass(
    coefficients: Array, basis: Basis, activation: str | Evaluate, h: Array, x: Array, slope: Array, onto: Basis,
    whole: bool = True,
) -> Sums:  # fmt: skip
    """Write h = coefficients @ basis, x = phi(h), slope = phi'(h), and return <x, onto> and moments.

    Parameters
    ----------
    coefficients : (m, r)
    basis : Rows or a sequence of them, r in all; r = 0 where nothing has touched a matrix that is zero
    activation : a name of `FORWARD`, or a function that writes x and slope from h
    h, x, slope : (m, M), overwritten
    onto : Rows or a sequence of them, possibly none
    whole : whether h, the moments off the diagonal, and the means are wanted; if not, they hold nothing of use.

    Cost: 2 m M (r + r' + 2 m) flops for r' rows in `onto`; reads both bases once, writes three fields.
    """
    here, there = Stack.of(basis), Stack.of(onto)
    coefficients = fields("coefficients", coefficients)
    m, particles = _check_pass(coefficients, here, there, h=h, x=x, slope=slope)
    if isinstance(activation, str) and activation not in FORWARD or not isinstance(activation, str | Callable):
        raise InputError("activation", activation, f"one of {sorted(FORWARD)}, or a function")
    partial, work, unit = partial_sums(particles, m, _width(m, there, 2)), scratch(m, 3), unit_of(particles)
    if isinstance(activation, str):
        FORWARD[activation](
            entries(), here.factors(coefficients), here.table, here.single, unit, whole, h, x, slope, there.table,
            partial, work,
        )  # fmt: skip
    else:
        h[...] = 0.0
        expand(coefficients, here.members, out=h)
        activation(h, x, slope)
        partial, work = partial_sums(particles, m, partial.shape[2]), scratch(m, 3)
        _look(entries(), h, x, whole, there.table, here.single, unit, partial, work)
    inner_x, kernel_x, mean_x, kernel_h, mean_h = _sheet(fold(partial, particles), there, m, 2)
    return Sums(inner_x, kernel_x, mean_x, kernel_h, mean_h)


def backward_pass(coefficients: Array, basis: Basis, slope: Array, dh: Array, onto: Basis, whole: bool = True) -> Sums:
    """Write dh = (coefficients @ basis) slope, and return <dh, onto> and moments; see `forward_pass`."""
    here, there = Stack.of(basis), Stack.of(onto)
    coefficients = fields("coefficients", coefficients)
    m, particles = _check_pass(coefficients, here, there, dh=dh)
    slope = fields("slope", slope, particles)
    if len(slope) != m:
        raise InputError("slope", f"<array of shape {slope.shape}>", f"an array of shape {dh.shape}")
    partial = partial_sums(particles, m, _width(m, there, 1))
    _backward(
        entries(), here.factors(coefficients), here.table, here.single, unit_of(particles), whole, slope, dh,
        there.table, partial, scratch(m, 3),
    )  # fmt: skip
    none = np.empty(0)
    inner_dh, kernel_dh, mean_dh = _sheet(fold(partial, particles), there, m, 1)
    return Sums(inner_dh, kernel_dh, mean_dh, none, none)


def _check_pass(coefficients: Array, here: Stack, there: Stack, **out: Array) -> tuple[int, int]:
    """Refuse arrays that do not fit together, which a kernel would read or write beyond; return m and M."""
    m, r = coefficients.shape
    if not here.members or r != len(here):
        what = f"<array of shape {coefficients.shape}>"
        raise InputError("coefficients", what, f"a column for each of the {len(here)} rows of basis")
    particles = here.particles
    if there.members and (there.particles, there.single) != (particles, here.single):
        what = f"<Rows over {there.particles} particles>"
        raise InputError("onto", what, f"Rows of the dtype of basis, over its {particles} particles")
    for field, array in out.items():
        written(field, array, (m, particles))
    return m, particles


def _width(m: int, onto: Stack, fields: int) -> int:
    """The columns of a sheet: <., onto>, then moments and mean of each field."""
    return onto.columns + fields * (padded(m) + 1)


def _sheet(sums: Array, onto: Stack, m: int, fields: int) -> list[Array]:
    """The parts of a sheet."""
    parts, width = [sums[:, : len(onto)]], padded(m)
    for k in range(fields):
        first = onto.columns + k * (width + 1)
        parts += [sums[:, first : first + m], sums[:, first + width]]
    return parts
