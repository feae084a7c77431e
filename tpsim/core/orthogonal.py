"""Gram-Schmidt on particle arrays, in blocks: a basis is read once for a block of arrays and not for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from .guards import count
from .kernels import expand, gram, inner, inner_rows, transform
from .rows import Rows

Array = np.ndarray

KEPT = 0.1  # leaving this share of the energy multiplies rounding by sqrt(1 / KEPT) at most (Kahan, Parlett)
PIVOT = 0.1  # likewise for the smallest pivot of a Gram matrix near the identity
PASSES = 4
# Of a pivot of a Gram matrix, relative to its diagonal entry: its rounding, and the size from which it is clearly new.
ROUNDING, CLEAR = 1e-12, 1e-6


def project_off(z: Array, bases: Sequence[Rows]) -> Array:
    """Remove from the rows of z, in place, their projection on orthonormal rows; return z."""
    return expand(-inner(z, bases), bases, out=z)


def orthonormalise(z: Array, bases: Sequence[Rows], energy: Array | None = None) -> Array:
    """Make the rows of fresh draws z, in place, orthonormal and orthogonal to `bases`, each to the draws before it.

    The Gram matrix of draws is near the identity, so its Cholesky factor is safe, and row i of the result depends on
    the rows up to i only. Repeated until a pass finds hardly anything to remove, as is the case at once unless the
    space is nearly full.

    Parameters
    ----------
    z : (k, M)
    bases : orthonormal Rows, orthogonal to each other
    energy : (k,), optional: z is already off `bases`, and this was its energy before.
    """
    if not len(z):
        return z
    for number in range(PASSES):
        count("further_pass", number > 0)
        before = inner_rows(z, z) if energy is None else energy
        if energy is None:
            project_off(z, bases)
        energy = None
        moments = gram(z)
        after = np.diag(moments)
        size = np.sqrt(after)
        inverse = inverse_factor(moments / np.outer(size, size))
        transform(inverse / size, z)
        if (after >= KEPT * before).all() and np.diag(inverse).max() ** 2 <= 1.0 / PIVOT:
            break
    return z


@dataclass(frozen=True)
class New:
    """The directions that some arrays have outside a span.

    Attributes
    ----------
    rows : indices of the arrays that brought one, in order.
    directions : (k, M) orthonormal.
    left : (m,) the energy of each array that was dropped.
    """

    rows: Array
    directions: Array
    left: Array


def directions(residuals: Array, bases: Sequence[Rows], allowed: Array, energy: Array) -> New:
    """Return the new directions of residuals that are off `bases` up to the rounding of one projection.

    Parameters
    ----------
    residuals : (m, M)
    bases : orthonormal Rows, orthogonal to each other
    allowed : (m,) the energy up to which a residual is dropped, here or once earlier ones are taken off.
    energy : (m,) of the arrays before they were projected.

    Error: orthonormal to rounding: Gram-Schmidt twice, normalising between the passes, where the first left less than
    a tenth of the energy.
    """
    moments = gram(residuals)
    own = np.diag(moments)
    finite = np.isfinite(own)
    far = np.flatnonzero((own > allowed) & finite)
    count("not_finite", (~finite).sum())
    left = np.where(own > allowed, 0.0, own)  # what is not finite is dropped
    if not far.size:
        return New(far, residuals[:0], left)
    if far.size < len(own):
        residuals, moments, allowed = residuals[far], moments[np.ix_(far, far)], allowed[far]
    chosen = _choose(residuals, moments, allowed)
    left[far] = chosen.left
    rows, z = far[chosen.rows], chosen.directions
    # what is left of an array at the end, against what it was: the product of both projections
    kept = own[rows] / energy[rows] if len(rows) == len(far) else np.zeros(len(rows))
    if not ((kept * chosen.pivots) >= KEPT).all():
        count("second_projection", len(rows))
        z = _settle(z, bases)
    return New(rows, z, left)


@dataclass(frozen=True)
class _Choice:
    rows: Array
    directions: Array  # normalised, nearly orthogonal
    left: Array
    pivots: Array  # the share of each chosen residual that earlier ones do not explain


def _choose(residuals: Array, moments: Array, allowed: Array) -> _Choice:
    """Gram-Schmidt in order of appearance among residuals, on their Gram matrix where its rounding allows it."""
    sure, new, left, factor = _pivots(moments, allowed)
    if not sure:
        count("chosen_one_by_one", len(residuals))
        return _choose_one_by_one(residuals, np.diag(moments), allowed)
    rows = np.flatnonzero(new)
    if len(rows) < len(residuals):
        residuals, factor = residuals[rows], factor[np.ix_(rows, rows)]
    pivots = np.diag(factor) ** 2 / np.diag(moments)[rows]
    return _Choice(rows, transform(_invert(factor), residuals), left, pivots)


@njit(cache=True)
def _pivots(moments, allowed):
    """Cholesky's factor of a Gram matrix without the rows whose pivot is `allowed`, and whether its rounding lets it.

    A pivot is known to `ROUNDING` of the row's energy: enough to drop what is below an `allowed` larger than that, and
    to accept what keeps `CLEAR` of its energy. Returns sure, new (m,), left (m,) and the factor (m, m).
    """
    m = len(moments)
    new, left, factor = np.zeros(m, np.bool_), np.zeros(m), np.zeros((m, m))
    for i in range(m):
        energy, pivot = moments[i, i], moments[i, i]
        for j in range(i):
            if new[j]:
                s = moments[i, j]
                for k in range(j):
                    s -= factor[i, k] * factor[j, k]
                factor[i, j] = s / factor[j, j]
                pivot -= factor[i, j] ** 2
        new[i] = pivot > allowed[i]
        if (pivot < CLEAR * energy) if new[i] else (allowed[i] < ROUNDING * energy):
            return False, new, left, factor
        if new[i]:
            factor[i, i] = np.sqrt(pivot)
        else:
            left[i] = max(pivot, 0.0)
            factor[i] = 0.0
    return True, new, left, factor


@njit(cache=True)
def _invert(factor):
    """The inverse of a lower triangular matrix."""
    inverse = np.zeros_like(factor)
    for i in range(len(factor)):
        inverse[i, i] = 1.0 / factor[i, i]
        for j in range(i):
            s = 0.0
            for k in range(j, i):
                s += factor[i, k] * inverse[k, j]
            inverse[i, j] = -s * inverse[i, i]
    return inverse


@njit(cache=True)
def inverse_factor(moments):
    """L^-1 for moments = L L', which must be positive definite."""
    return _invert(np.linalg.cholesky(moments))


def _choose_one_by_one(residuals: Array, energy: Array, allowed: Array) -> _Choice:
    """`_choose` on the particles themselves: every residual is formed."""
    accepted, rows, pivots, left = Rows(residuals.shape[1]), [], [], np.zeros(len(residuals))
    for i, r in enumerate(residuals):
        r = project_off(r[None], (accepted,))
        own = float(inner_rows(r, r)[0])
        if own > allowed[i]:
            rows.append(i)
            pivots.append(own / energy[i])
            accepted.append(r / np.sqrt(own))
        else:
            left[i] = own
    return _Choice(np.array(rows, dtype=int), accepted.array, left, np.array(pivots))


def _settle(z: Array, bases: Sequence[Rows]) -> Array:
    """Further passes of Gram-Schmidt over normalised rows z, among themselves too, until one removes hardly anything.

    One is enough unless the first residuals were mostly rounding: cleaned of it, two rows may then be nearly parallel.
    """
    for number in range(PASSES):
        count("further_pass", number > 0)
        project_off(z, bases)
        moments = gram(z)
        if np.abs(moments - np.eye(len(z))).sum(axis=1).max() < 1.0 - KEPT:  # hence positive definite
            return transform(inverse_factor(moments), z)
        count("nearly_parallel", len(z))
        z = _one_by_one(z)
    return z


def _one_by_one(z: Array) -> Array:
    """Orthonormalise rows that may be nearly parallel."""
    done = Rows(z.shape[1])
    for r in z:
        r = r[None]
        for _ in range(2):
            project_off(r, (done,))
            r /= np.sqrt(inner_rows(r, r))[:, None]
        done.append(r)
    return done.array
