"""Standard normal arrays over particles: keyed pseudo-random streams and scrambled Sobol points."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from scipy.special import ndtri

from ..errors import InputError
from .checks import fits, integer
from .checks import key as key_of
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
        Serve the first `SOBOL_DIMENSIONS` requests from the first M points of one scrambled Sobol sequence through the
        inverse normal distribution function; for M = 2^k marginals are N(0, 1) stratified into M cells, other M
        spread somewhat more (docs/algorithm.md).
    """

    def __init__(self, particles: int, root: Key, sobol: bool = False) -> None:
        self.particles, self.root = integer("particles", particles, 0), key_of("root", root)
        self._stream = Stream()
        if not isinstance(sobol, bool | np.bool_):
            raise InputError("sobol", sobol, "True or False")
        with fits("particles"):
            self._sobol = self._sobol_points() if sobol else np.empty((0, self.particles))
        self._served = 0

    def normal(self, key: Key) -> Array:
        """Return a fresh array (M,) ~ N(0, I) for `key`."""
        if self._served < len(self._sobol):
            self._served += 1
            # multiples of 2^-30: half a step keeps them off 0, where the normal quantile is infinite
            return ndtri(self._sobol[self._served - 1] + 2.0**-31)
        return self.pseudo_random(key)

    def pseudo_random(self, key: Key) -> Array:
        """Return the pseudo-random array (M,) of `key`, whatever was served before."""
        key = key_of("key", key)
        with fits("particles"):
            out = np.empty(self.particles)
        for tile, start in enumerate(range(0, self.particles, TILE)):
            self._stream.at((*self.root, *key), tile).standard_normal(out=out[start : start + TILE])
        return out

    @property
    def served(self) -> int:
        """How many Sobol points have been served; may be set, as they are the same whenever they are asked for."""
        return self._served

    @served.setter
    def served(self, count: int) -> None:
        if not 0 <= count <= len(self._sobol):
            raise ValueError(f"{count} of {len(self._sobol)} Sobol points")
        self._served = count

    def _sobol_points(self) -> Array:
        from scipy.stats import qmc  # half a second to import, for those who use it

        # qmc spawns a generator of its own from the seed sequence, whatever the state: it has to be one of this key
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence((*self.root, _SOBOL_STREAM))))
        sequence = qmc.Sobol(SOBOL_DIMENSIONS, scramble=True, rng=rng)
        points = sequence.random_base2((self.particles - 1).bit_length())
        return np.ascontiguousarray(points[: self.particles].T)


class Stream:
    """A Philox generator that is set to the start of any (key, tile) in microseconds, a tenth of what a new one costs.

    The key of the cipher is a 128-bit cryptographic hash of `key`, its 256-bit counter starts at tile * 2^64: different
    keys are different ciphers, the tiles of one key are stretches of one sequence that cannot overlap.
    """

    def __init__(self) -> None:
        self._philox = np.random.Philox(0)
        self._start = self._philox.state  # of a generator that has produced nothing
        self._generator = np.random.Generator(self._philox)
        self._key: Key | None = None

    def at(self, key: Key, tile: int = 0) -> np.random.Generator:
        """Return the generator at the start of (key, tile); valid until the next call; do not spawn it."""
        if key != self._key:
            digest = blake2b(repr([int(k) for k in key]).encode(), digest_size=16).digest()
            self._start["state"]["key"][:] = np.frombuffer(digest, "<u8")
            self._key = key
        self._start["state"]["counter"][:] = (0, tile, 0, 0)
        self._philox.state = self._start
        return self._generator
