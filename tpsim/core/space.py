"""Particle spaces: M particles on which every random variable of one layer lives."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from ..errors import InputError, Notice, ResourceError
from .kernels import expand, inner, inner_rows
from .noise import Key, NormalSource
from .rows import Rows

Array = np.ndarray
Noise = Literal["iid", "width", "matched"]

_UNNAMED = 1 << 29  # a first key entry that nothing else uses
IN_SPAN = 1e-12  # an array whose relative residual is below this lies in the joint basis up to rounding


class SpaceFull(ResourceError):
    """A space would hold as many arrays as it has particles."""

    def __init__(self, name: str, arrays: int, particles: int) -> None:
        self.arrays = arrays
        super().__init__(
            f"particles={particles} is too small: {name} already needs {arrays} arrays, and needs more particles than "
            f"arrays; a lower bound that leaves room is particles >= {1 << (2 * arrays - 1).bit_length()}"
        )


class ParticleSpace:
    """M particles; a random variable is an array over them and <a, b> = (1/M) sum a b estimates E[a b].

    Parameters
    ----------
    particles : int
        M.
    noise : "matched", "iid" or "width"
        How a fresh N(0, 1) array z is drawn.
        `iid`: as it is. `width`: projected off the complement that the drawing matrix names, not normalised; this makes
        the space an exact-in-law simulation of M neurons. `matched`: projected off everything drawn or kept in this
        space, the constant included, and normalised, so that every second moment that the limit fixes is exact.
    sobol : bool
        Base the first draws on scrambled Sobol points (`matched` and M = 2^k only).
    seed : tuple of int
        Identifies the random stream of this space.
    name : str
        Used in messages.

    Raises
    ------
    InputError
        Unknown noise, or Sobol points with another noise than `matched` or M not a power of two.
    """

    def __init__(
        self, particles: int, noise: Noise = "matched", sobol: bool = False, seed: Key = (0,), name: str = "the space"
    ) -> None:
        if isinstance(particles, bool) or not isinstance(particles, int | np.integer) or particles < 2:
            raise InputError("particles", particles, "an integer >= 2")
        check_noise(noise, sobol, particles)
        self.particles, self.noise, self.name = int(particles), noise, name
        self._source = NormalSource(particles, tuple(seed), sobol)
        self._families: list[Rows] = []  # fresh draws
        self._kept = Rows(particles)  # what `keep` adds to the joint basis (`matched`)
        self._counted = 0  # what `keep` was shown in the other modes, which have no joint basis
        self._warned = False
        self._drawn: set[Key] = set()  # the names of all draws
        self._unnamed = 0  # how many families were given a name of their own
        if noise == "matched":
            self._kept.append(np.ones(particles))

    @property
    def arrays(self) -> int:
        """Number of arrays drawn or kept; for `matched` the dimension of the joint basis."""
        return self._counted + len(self._kept) + sum(len(family) for family in self._families)

    def family(self) -> Rows:
        """Return an empty family of fresh normal arrays of this space, to be filled by `draw`."""
        family = Rows(self.particles)
        self._families.append(family)
        return family

    def new_name(self) -> int:
        """Return a number that no earlier call has returned: names what its owner draws in this space."""
        self._unnamed += 1
        return self._unnamed - 1

    def arrays_of(self, x: Array, field: str = "x") -> Array:
        """Return x, one array (M,) or a stack (k, M), as a contiguous float64 stack, or raise `InputError`."""
        rows = np.atleast_2d(np.asarray(x))
        if rows.ndim != 2 or rows.shape[1] != self.particles or rows.dtype.kind not in "fiub":
            what = f"<{rows.dtype} array of shape {np.shape(x)}>"
            raise InputError(field, what, f"real arrays of shape (k, {self.particles})")
        return np.ascontiguousarray(rows, dtype=np.float64)

    def draw(self, family: Rows, keys: Sequence[Key], complement: Array | None = None) -> Array:
        """Append one fresh array per key to `family` and return them, (k, M).

        Parameters
        ----------
        family : Rows
            One of this space's families.
        keys : sequence of tuples of int
            What the draws are called; equal keys give equal pseudo-random numbers, so none may be used twice.
        complement : (r, M) orthonormal, optional
            `width` projects the draws off these arrays: the block of the matrix that is already known.
        """
        start = len(family)
        for key in keys:
            if key in self._drawn:
                raise InputError("key", key, f"a name that was not drawn before in {self.name}")
            self._make_room()
            self._drawn.add(key)
            family.append(self._shape(self._source.normal(key)[None], complement))
        return family.array[start:]

    def sample(self, keys: Sequence[Key], complement: Array | None = None) -> Array:
        """Return fresh arrays, (k, M), as `draw` does but without adding them to the space: for inputs only looked at.

        Each is independent of everything in the space; among themselves they are pseudo-random.
        """
        return self._shape(np.stack([self._source.pseudo_random(key) for key in keys]), complement)

    def _shape(self, z: Array, complement: Array | None) -> Array:
        """Impose on iid draws z, in place, the second moments that the noise mode makes exact."""
        if self.noise == "width" and complement is not None:
            _project_off(z, [complement])
        if self.noise == "matched":
            for _ in range(2):  # twice: the second pass removes the rounding of the first
                _project_off(z, self._basis())
                z /= np.sqrt(inner_rows(z, z))[:, None]
        return z

    def normal(self, key: Key | None = None, count: int = 1) -> Array:
        """Return `count` fresh N(0, 1) arrays, (count, M), independent of everything in this space so far.

        They are named by `key`, or by how many names were given out before.
        """
        name = (_UNNAMED, self.new_name()) if key is None else key
        return self.draw(self.family(), [(*name, k) for k in range(count)])

    def keep(self, x: Array) -> None:
        """Make later `matched` draws orthogonal to the rows of x, (k, M); the other modes only count them."""
        x = self.arrays_of(x)
        if self.noise != "matched":
            self._counted += len(x)
            return
        for row in x:
            norm = np.sqrt(inner_rows(row[None], row[None])[0])
            residual = _project_off(row[None].copy(), self._basis())
            size = np.sqrt(inner_rows(residual, residual)[0])
            if size > IN_SPAN * norm:
                residual = _project_off(residual / size, self._basis())
                self._make_room()
                self._kept.append(residual / np.sqrt(inner_rows(residual, residual))[:, None])

    def inner(self, x: Array, y: Array) -> Array:
        """Return <x_i, y_j>, (m, k): the particle estimate of E[x_i y_j]."""
        return inner(self.arrays_of(x), self.arrays_of(y, "y"))

    def mean(self, x: Array) -> Array:
        """Return the particle estimate of E[x_i], (m,)."""
        return inner(self.arrays_of(x), np.ones((1, self.particles)))[:, 0]

    def _basis(self) -> list[Array]:
        return [self._kept.array, *(family.array for family in self._families)]

    def _make_room(self) -> None:
        if self.noise == "width":  # bases saturate at M by themselves, as in a network of that width
            return
        needed = self.arrays + 1
        if needed >= self.particles:
            raise SpaceFull(self.name, needed, self.particles)
        if 2 * needed > self.particles and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.name} holds more arrays than half of its {self.particles} particles; "
                f"estimates are still unbiased but noisy: particles >= {4 * needed} is advised",
                Notice,
                stacklevel=2,
            )


def _project_off(z: Array, bases: Sequence[Array]) -> Array:
    """Remove from z, in place, its projection on mutually orthogonal orthonormal blocks."""
    for basis in bases:
        expand(-inner(z, basis), basis, out=z)
    return z


def check_noise(noise: str, sobol: bool, particles: int) -> None:
    """Raise `InputError` for a noise mode, or a use of Sobol points, that does not exist."""
    if noise not in get_args(Noise):
        raise InputError("noise", noise, f"one of {list(get_args(Noise))}")
    if sobol and noise != "matched":
        raise InputError("sobol", sobol, f"False with noise={noise!r}: only 'matched' is built on Sobol points")
    if sobol and particles & (particles - 1):
        raise InputError("sobol", sobol, f"True only for a power of two; particles={particles} is none")
