"""Gram-Schmidt on particle arrays, in blocks: a basis is read once for `CHUNK` new arrays and not for each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .kernels import expand, inner, inner_rows
from .micro import CHUNK
from .rows import Rows

Array = np.ndarray

KEPT = 0.5  # a projection that leaves this share of the energy has lost no digit: once is enough (Kahan & Parlett)
PIVOT = 0.1  # likewise for the smallest pivot of a Gram matrix near the identity
PASSES = 4
# Of a pivot of a Gram matrix, relative to its diagonal entry: its rounding, and the size from which it is clearly new.
ROUNDING, CLEAR = 1e-12, 1e-6


def project_off(z: Array, bases: Sequence[Rows]) -> Array:
    """Remove from the rows of z, in place, their projection on orthonormal rows; return the coefficients removed."""
    coefficients = inner(z, bases)
    expand(-coefficients, bases, out=z)
    return coefficients


def orthonormalise(z: Array, bases: Sequence[Rows]) -> Array:
    """Make the rows of fresh draws z, in place, orthonormal and orthogonal to `bases`, each to the draws before it.

    The Gram matrix of draws is near the identity, so its Cholesky factor is safe, and row i of the result depends on
    the rows up to i only. Repeated until a pass finds hardly anything to remove, as is the case at once unless the
    space is nearly full.
    """
    for _ in range(PASSES):
        before = inner_rows(z, z)
        project_off(z, bases)
        after = inner_rows(z, z)
        z /= np.sqrt(after)[:, None]
        factor, pivot = np.eye(1), 1.0
        if len(z) > 1:
            factor = np.linalg.cholesky(inner(z, z))
            pivot = float(np.diag(factor).min() ** 2)
            z[...] = expand(np.linalg.inv(factor), z)
        if (after >= KEPT * before).all() and pivot >= PIVOT:
            break
    return z


def extend(
    basis: Rows,
    others: Sequence[Rows],
    x: Array,
    allowed: Array,
    make_room: Callable[[int], None] = lambda more: None,
) -> tuple[list[int], Array]:
    """Append to `basis` every direction that the rows of x have outside the span of `basis` and `others`.

    Parameters
    ----------
    basis : Rows, orthonormal
    others : more orthonormal Rows, orthogonal to `basis` and each other
    x : (m, M)
    allowed : (m,) the energy |r|^2 of a residual up to which it is dropped
    make_room : called with a number of directions before they are accepted; may raise

    Returns
    -------
    The indices of the rows that brought a new direction, in order, and the energy that was dropped of each row (m,).

    Error: orthonormal to rounding (Gram-Schmidt at least twice, normalising between the passes).
    """
    fresh: list[int] = []
    dropped = np.zeros(len(x))
    for start in range(0, len(x), CHUNK):
        block = slice(start, start + CHUNK)
        residuals = x[block].copy()
        project_off(residuals, (basis, *others))
        energy = inner_rows(residuals, residuals)
        far = (energy > allowed[block]) & np.isfinite(energy)
        dropped[block] = np.where(far, 0.0, energy)
        rows = np.flatnonzero(far)
        if not rows.size:
            continue
        chosen = _choose(residuals[rows], allowed[start + rows])
        dropped[start + rows] = chosen.left
        make_room(len(chosen.rows))
        basis.append(_settle(chosen.directions, (basis, *others)))
        fresh += [int(i) for i in start + rows[chosen.rows]]
    return fresh, dropped


@dataclass(frozen=True)
class _Choice:
    """Which of some residuals are new directions, in order: normalised, nearly orthogonal; and what of each is left."""

    rows: Array
    directions: Array
    left: Array


def _choose(residuals: Array, allowed: Array) -> _Choice:
    """Gram-Schmidt in order of appearance among residuals, on their Gram matrix where its rounding allows it.

    A pivot is known to `ROUNDING` of the residual's energy: enough to drop what is below an `allowed` larger than that,
    and to accept what keeps `CLEAR` of its energy.
    """
    gram = inner(residuals, residuals)
    energy = np.diag(gram)
    rest, rows, left = gram.copy(), [], np.zeros(len(gram))
    for i in range(len(gram)):
        pivot = rest[i, i]
        new = pivot > allowed[i]
        if pivot < CLEAR * energy[i] if new else allowed[i] < ROUNDING * energy[i]:
            return _choose_one_by_one(residuals, allowed)
        if new:
            rows.append(i)
            rest -= np.outer(rest[:, i], rest[i]) / pivot
        else:
            left[i] = max(pivot, 0.0)
    factor = np.linalg.cholesky(gram[np.ix_(rows, rows)])
    return _Choice(np.array(rows, dtype=int), expand(np.linalg.inv(factor), residuals[rows]), left)


def _choose_one_by_one(residuals: Array, allowed: Array) -> _Choice:
    """`_choose` on the particles themselves: every residual is formed."""
    accepted, rows, left = Rows(residuals.shape[1]), [], np.zeros(len(residuals))
    for i, r in enumerate(residuals):
        r = r[None]
        project_off(r, (accepted,))
        energy = float(inner_rows(r, r)[0])
        if energy > allowed[i]:
            rows.append(i)
            accepted.append(r / np.sqrt(energy))
        else:
            left[i] = energy
    return _Choice(np.array(rows, dtype=int), accepted.array, left)


def _settle(z: Array, bases: Sequence[Rows]) -> Array:
    """Further passes of Gram-Schmidt over normalised rows z, among themselves too, until one removes hardly anything.

    One is enough unless the first residuals were mostly rounding: cleaned of it, two rows may then be nearly parallel.
    """
    for _ in range(PASSES):
        project_off(z, bases)
        gram = inner(z, z)
        if np.abs(gram - np.eye(len(z))).sum(axis=1).max() < 1.0 - KEPT:  # hence positive definite
            return np.asarray(expand(np.linalg.inv(np.linalg.cholesky(gram)), z))
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
