"""Standard normal arrays over particles: keyed pseudo-random streams and scrambled Sobol points."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri

from .tiles import TILE

Array = np.ndarray
Key = tuple[int, ...]

SOBOL_DIMENSIONS = 24  # further dimensions bring no measurable gain; later draws are pseudo-random
_SOBOL_STREAM = 1 << 30  # a first key that no draw uses


class NormalSource:
    """iid N(0, 1) arrays that depend only on (root, key, tile), never on the order in which they are asked for.

    Parameters
    ----------
    particles : int
        M.
    root : tuple of int
        What tells this space from all others: seed, replica, index of the space.
    sobol : bool
        Serve the first `SOBOL_DIMENSIONS` requests from one scrambled Sobol sequence of M = 2^k points through the
        inverse normal distribution function; its marginals are N(0, 1) stratified into M cells.
    """

    def __init__(self, particles: int, root: Key, sobol: bool = False) -> None:
        self.particles, self.root = particles, root
        self._sobol = self._sobol_points() if sobol else np.empty((0, particles))
        self._served = 0

    def normal(self, key: Key) -> Array:
        """Return a fresh array (M,) ~ N(0, I) for `key`."""
        if self._served < len(self._sobol):
            self._served += 1
            return self._sobol[self._served - 1]
        return self.pseudo_random(key)

    def pseudo_random(self, key: Key) -> Array:
        """Return the pseudo-random array (M,) of `key`, whatever was served before."""
        out = np.empty(self.particles)
        for tile, start in enumerate(range(0, self.particles, TILE)):
            block = out[start : start + TILE]
            _generator((*self.root, *key, tile)).standard_normal(out=block)
        return out

    def _sobol_points(self) -> Array:
        from scipy.stats import qmc  # half a second to import, for those who use it

        sequence = qmc.Sobol(SOBOL_DIMENSIONS, scramble=True, rng=_generator((*self.root, _SOBOL_STREAM)))
        u = sequence.random_base2(round(math.log2(self.particles)))
        # the points are multiples of 2^-30: half a step keeps them off 0, where the normal quantile is infinite
        return np.ascontiguousarray(ndtri(u + 2.0**-31).T)


def _generator(key: Key) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
