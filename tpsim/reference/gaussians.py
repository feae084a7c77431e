"""Gaussian families Zhat^{W y} on particles: conditional draws, and responses by Stein's lemma.

Families over the past are arrays (t, m, M): one row per step s < t and sample j.
"""

from __future__ import annotations

import numpy as np

from ..errors import ResourceError

Array = np.ndarray

# Regressions leave out combinations of a family whose size is below RCOND relative to the largest (1e-16 in the Gram
# matrix, whose condition number is 80 to 2e4 in ordinary runs, and has no bound near convergence or for duplicated
# samples). Coefficients of nearly dependent arrays are ill-posed; the fields made with them are not, because what they
# multiply (Zhat^{Wx} for x, Z^dh for Zhat^{W^T dh}) is as small in that combination, up to rounding. A combination of
# relative size r costs eps / r if it is kept and r if it is left out (a covariance of that size is then missing), so
# that sqrt(eps) balances the two: an error of about 1e-8 per regression, far below any statistical one.
RCOND = 1e-8
# Relative length below which an array lies in the span of earlier ones up to rounding, and adds no direction to it.
IN_SPAN = 1e-12


def flat(past: Array) -> Array:
    """The family (t, m, M) as (t m, M)."""
    return past.reshape(-1, past.shape[-1])


def mean_product(a: Array, b: Array) -> Array:
    """E[a_i b_j], (p, q), of arrays (p, M) and (q, M)."""
    return a @ b.T / a.shape[-1]


def regress(targets: Array, family: Array) -> Array:
    """Coefficients c (p, k) of the projections sum_k c_k family_k of the targets (p, M) on a family (k, M)."""
    if not (np.isfinite(family).all() and np.isfinite(targets).all()):
        raise np.linalg.LinAlgError("fields that are not finite")
    return np.linalg.lstsq(family.T, targets.T, rcond=RCOND)[0].T


class Particles:
    """Standard normal arrays (M,) of one particle space, `matched` or iid.

    A matched draw is projected off the constant and off everything that this space has seen (`keep`), then normalised:
    second moments that hold for iid draws up to O(M^-1/2) hold exactly. Particles are then not independent.
    """

    def __init__(self, particles: int, matched: bool, generator: np.random.Generator) -> None:
        self.particles, self.matched, self._generator = particles, matched, generator
        self._basis = np.empty((0, particles))
        self.keep(np.ones((1, particles)))

    def keep(self, arrays: Array) -> None:
        """Make later matched draws orthogonal to the arrays (k, M)."""
        for array in arrays if self.matched else ():
            rest = self._project_off(array)
            if np.linalg.norm(rest) > IN_SPAN * np.linalg.norm(array):
                rest = self._project_off(rest / np.linalg.norm(rest))  # twice is enough for orthogonality to rounding
                self._basis = np.vstack([self._basis, rest / np.linalg.norm(rest)])
        if len(self._basis) >= self.particles:
            raise ResourceError(f"particles={self.particles} is too small: a space needs more particles than arrays")

    def normal(self, count: int) -> Array:
        """Fresh arrays (count, M), each ~ N(0, 1) and independent of all that was drawn or kept."""
        z = self._generator.standard_normal((count, self.particles))
        for k in range(count if self.matched else 0):
            self.keep(z[k : k + 1])
            z[k] = np.sqrt(self.particles) * self._basis[-1]
        return z

    def _project_off(self, array: Array) -> Array:
        return array - (self._basis @ array) @ self._basis


def gaussian(space: Particles, new: Array, past: Array, zhat: Array, scale: float) -> Array:
    """Zhat^{W y'}, (m, M), for new vectors y' given those of the past: Cov(Zhat^{Wy}, Zhat^{Wy'}) = s^2 E[Z^y Z^y'].

    Conditionally on its past, a Gaussian family is its regression on it plus independent N(0, residual covariance):
    Zhat^{W y'} = sum_k c_k Zhat^{W y_k} + s F z,  F F' = E[r r'],  r = y' - sum_k c_k y_k.

    Parameters
    ----------
    space : where the Zhat live.
    new (m, P), past (t, m, P) : vectors in the space that W maps from; zhat (t, m, M).
    """
    c = regress(new, flat(past))
    residual = new - c @ flat(past)
    u, sigma, _ = np.linalg.svd(residual, full_matrices=False)  # gives F without squaring the residual
    return c @ flat(zhat) + scale / np.sqrt(new.shape[-1]) * (u * sigma) @ space.normal(len(sigma))


def response(targets: Array, zhat: Array, carriers: Array, scale: float) -> Array:
    """Zdot = s^2 sum_{s,j} Z^{carrier_{s,j}} E[d target / d Zhat_{s,j}], (m, M).

    Stein: E[Zhat_k target] = sum_k' Cov(Zhat_k, Zhat_k') E[d target / d Zhat_k'], so that the derivatives are the
    coefficients of the regression of the targets (m, M') on the family. The sum is over the s that have carriers:
    the family zhat (t', m, M') may be longer than the carriers (t, m, M).
    """
    theta = regress(targets, flat(zhat))
    return (scale * scale) * theta[:, : len(flat(carriers))] @ flat(carriers)
