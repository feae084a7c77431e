"""Gram-Schmidt on particle arrays, in blocks: a basis is read once for `CHUNK` new arrays and not for each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .kernels import expand, inner, inner_rows
from .micro import CHUNK
from .rows import Rows

Array = np.ndarray

KEPT = 0.5  # a projection that leaves this share of the energy has lost no digit: once is enough (Kahan & Parlett)
PIVOT = 0.1  # likewise for the smallest pivot of a Gram matrix near the identity
PASSES = 4


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
    make_room: Callable[[], None] = lambda: None,
) -> tuple[list[int], Array]:
    """Append to `basis` every direction that the rows of x have outside the span of `basis` and `others`.

    Parameters
    ----------
    basis : Rows, orthonormal
    others : more orthonormal Rows, orthogonal to `basis` and each other
    x : (m, M)
    allowed : (m,) the energy |r|^2 of a residual up to which it is dropped
    make_room : called before a direction is accepted; may raise

    Returns
    -------
    The indices of the rows that brought a new direction, in order, and the energy that was dropped of each row (m,).

    Error: orthonormal to rounding (Gram-Schmidt twice, normalising between the passes).
    """
    fresh: list[int] = []
    dropped = np.zeros(len(x))
    for start in range(0, len(x), CHUNK):
        residuals = x[start : start + CHUNK].copy()
        project_off(residuals, (basis, *others))
        accepted = Rows(basis.particles)
        for i, r in enumerate(residuals, start):
            r = r[None]
            if len(accepted):
                project_off(r, (accepted,))
            energy = float(inner_rows(r, r)[0])
            if energy > allowed[i]:
                make_room()
                accepted.append(r / np.sqrt(energy))
                fresh.append(i)
            else:  # whatever is not a number, too
                dropped[i] = energy
        if len(accepted):
            basis.append(_settle(accepted.array, (basis, *others)))
    return fresh, dropped


def _settle(z: Array, bases: Sequence[Rows]) -> Array:
    """Further passes of Gram-Schmidt over normalised rows z, among themselves too, until one removes hardly anything.

    One is enough unless the first residuals were mostly rounding: cleaned of it, two rows may then be nearly parallel.
    """
    for _ in range(PASSES):
        project_off(z, bases)
        done, least = Rows(z.shape[1]), 1.0
        for r in z:
            r = r[None]
            if len(done):
                project_off(r, (done,))
            energy = float(inner_rows(r, r)[0])
            least = min(least, energy)
            done.append(r / np.sqrt(energy))
        z = done.array
        if least >= KEPT:
            break
    return z
