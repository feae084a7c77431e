"""Particle spaces: M particles on which every random variable of one layer lives."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal, get_args

import numpy as np

from ..errors import InputError, Notice, ResourceError
from .checks import fields, fits, integer, storage
from .checks import key as key_of
from .guards import count
from .kernels import inner, inner_rows
from .noise import Key, NormalSource
from .orthogonal import directions, orthonormalise, project_off
from .rows import Rows
from .saved import Saved, nested

Array = np.ndarray
Noise = Literal["iid", "width", "matched"]

_UNNAMED = 1 << 29  # a first key entry that nothing else uses
# An array whose relative residual is below this lies in the joint basis up to rounding.
IN_SPAN = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 1e-5}


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
        Base the first draws on scrambled Sobol points (`matched` only).
    seed : tuple of int
        Identifies the random stream of this space.
    name : str
        Used in messages.
    dtype : float64 or float32
        How arrays that are drawn or kept are stored; sums over blocks of particles are in double
        precision.

    Raises
    ------
    InputError
        Unknown noise, or Sobol points with another noise than `matched`.
    """

    def __init__(
        self,
        particles: int,
        noise: Noise = "matched",
        sobol: bool = False,
        seed: Key = (0,),
        name: str = "the space",
        dtype: np.dtype | type = np.float64,
    ) -> None:
        particles = integer("particles", particles, 2)
        check_noise(noise, sobol)
        if not isinstance(name, str):
            raise InputError("name", name, "a string")
        self.particles, self.noise, self.name, self.dtype = particles, noise, name, storage(dtype)
        self._source = NormalSource(particles, key_of("seed", seed), bool(sobol))
        self._families: list[Rows] = []  # fresh draws
        self._kept = Rows(particles, dtype)  # what `keep` adds to the joint basis (`matched`)
        self._waiting: list[Array] = []  # what `keep` was shown and no draw has met yet (`matched`)
        self._counted = 0  # what `keep` was shown in the other modes, which have no joint basis
        self._warned = False
        self._drawn: set[Key] = set()  # the names of all draws
        self._unnamed = 0  # how many families were given a name of their own
        if noise == "matched":
            with fits("particles"):
                one = np.ones((1, particles))
            self._kept.append(one)

    @property
    def arrays(self) -> int:
        """Number of arrays drawn or kept; for `matched` the dimension of the joint basis at the last draw."""
        return self._counted + len(self._kept) + sum(len(family) for family in self._families)

    def family(self) -> Rows:
        """Return an empty family of fresh normal arrays of this space, to be filled by `draw`."""
        family = Rows(self.particles, self.dtype)
        self._families.append(family)
        return family

    def new_name(self) -> int:
        """Return a number that no earlier call has returned: names what its owner draws in this space."""
        self._unnamed += 1
        return self._unnamed - 1

    def arrays_of(self, x: Array, field: str = "x") -> Array:
        """Return x, one array (M,) or a stack (k, M), as a contiguous float64 stack, or raise `InputError`."""
        return fields(field, x[None] if isinstance(x, np.ndarray) and x.ndim == 1 else x, self.particles)

    def draw(self, family: Rows, keys: Sequence[Key], complement: Rows | None = None) -> Array:
        """Append one fresh array per key to `family` and return them, (k, M).

        Parameters
        ----------
        family : Rows
            One of this space's families.
        keys : sequence of tuples of int
            What the draws are called; equal keys give equal pseudo-random numbers, so none may be used twice.
        complement : Rows, orthonormal, optional
            `width` projects the draws off these arrays: the block of the matrix that is already known.
        """
        if not isinstance(keys, list | tuple):
            raise InputError("keys", keys, "a list of keys")
        keys = [key_of("key", key) for key in keys]
        if complement is not None and (not isinstance(complement, Rows) or complement.particles != self.particles):
            raise InputError("complement", complement, f"None, or Rows of {self.particles} particles")
        for key in keys:
            if key in self._drawn or keys.count(key) > 1:
                raise InputError("key", key, f"a name that was not drawn before in {self.name}")
        if not keys:
            return np.empty((0, self.particles))
        z = np.stack([self._source.normal(key) for key in keys])
        if self.noise == "matched":
            z = self._match(z)
        else:
            self._make_room(len(keys))
            self._shape(z, complement)
        self._drawn.update(keys)
        family.append(z)
        return z

    def _match(self, z: Array) -> Array:
        """Take into the joint basis what was kept since the last draw, and make draws z orthonormal to it all.

        Both are projected off the basis together.
        """
        x = np.concatenate(self._waiting) if self._waiting else np.empty((0, self.particles))
        both = np.concatenate([x, z])
        energy = inner_rows(both, both)
        project_off(both, others := self._basis())
        k = len(x)
        if k:
            new = directions(both[:k], others, IN_SPAN[self.dtype] ** 2 * energy[:k], energy[:k])
            self._make_room(len(new.rows) + len(z))  # before anything changes
            count("kept_in_span", k - len(new.rows))
            energy = np.concatenate([np.ones(len(new.rows)), energy[k:]])
            both = orthonormalise(np.concatenate([new.directions, both[k:]]), others, energy)
            self._kept.append(both[: len(new.rows)])
            self._waiting = []
            return both[len(new.rows) :]
        self._make_room(len(z))
        return orthonormalise(both, others, energy)

    def sample(self, keys: Sequence[Key], complement: Rows | None = None) -> Array:
        """Return fresh arrays, (k, M), as `draw` does but without adding them to the space: for inputs only looked at.

        Each is independent of everything in the space; among themselves they are pseudo-random.
        """
        z = np.stack([self._source.pseudo_random(key) for key in keys])
        if self.noise != "matched":
            return self._shape(z, complement)
        with suppress(SpaceFull):  # of a run that has stopped: then orthogonal to all but what was kept last
            self._match(z[:0])
        project_off(z, self._basis())
        z /= np.sqrt(inner_rows(z, z))[:, None]
        return z

    def _shape(self, z: Array, complement: Rows | None) -> Array:
        """Project draws z, in place, off the block that is known already (`width`)."""
        if self.noise == "width" and complement is not None and len(complement):
            project_off(z, (complement,))
        return z

    def normal(self, key: Key | None = None, count: int = 1) -> Array:
        """Return `count` fresh N(0, 1) arrays, (count, M), independent of everything in this space so far.

        They are named by `key`, or by how many names were given out before.
        """
        integer("count", count, 1)
        if count >= self.particles:
            self._make_room(count)
        with fits("count"):
            np.empty((count, self.particles))  # before a list of as many names is made
        name = (_UNNAMED, self.new_name()) if key is None else key_of("key", key)
        return self.draw(self.family(), [(*name, k) for k in range(count)])

    def keep(self, x: Array) -> None:
        """Make later `matched` draws orthogonal to the rows of x, (k, M); the other modes only count them."""
        x = self.arrays_of(x)
        if self.noise != "matched":
            self._counted += len(x)
            return
        self._waiting.append(x.copy())

    def inner(self, x: Array, y: Array) -> Array:
        """Return <x_i, y_j>, (m, k): the particle estimate of E[x_i y_j]."""
        return inner(self.arrays_of(x), self.arrays_of(y, "y"))

    def mean(self, x: Array) -> Array:
        """Return the particle estimate of E[x_i], (m,)."""
        return inner(self.arrays_of(x), np.ones((1, self.particles)))[:, 0]

    def state(self) -> dict[str, Array]:
        """What `restore` takes: all arrays, the names of all draws, and what has been counted."""
        names = sorted(self._drawn)
        numbers = [self._counted, self._warned, self._unnamed, self._source.served, len(self._families)]
        own = {
            "numbers": np.array(numbers, dtype=np.int64),
            "name_lengths": np.array([len(name) for name in names], dtype=np.int64),
            "names": np.array([entry for name in names for entry in name], dtype=np.int64),
            "waiting": np.array(len(self._waiting)),
        }
        waiting = {f"waiting/{k}": x for k, x in enumerate(self._waiting)}
        rows = {"kept": self._kept, **{f"family/{k}": family for k, family in enumerate(self._families)}}
        return own | waiting | nested({part: one.state() for part, one in rows.items()})

    def restore(self, saved: Saved) -> None:
        """Become the space that `state` described; families that exist stay the same objects, as matrices hold them.

        Sobol points are not saved: they are those of the seed.
        """
        numbers = saved.take("numbers", (5,), np.int64)
        self._counted, warned, self._unnamed, served, families = (int(n) for n in numbers)
        self._warned, self._source.served = bool(warned), served
        ends = np.cumsum(saved.take("name_lengths", (None,), np.int64))
        entries = saved.take("names", (int(ends[-1]) if len(ends) else 0,), np.int64).tolist()
        self._drawn = {tuple(entries[a:b]) for a, b in zip([0, *ends[:-1]], ends, strict=True)} if len(ends) else set()
        waiting = saved.chunks(saved.count("waiting"), 1)
        self._waiting = [saved.take(f"waiting/{k}", (None, self.particles), np.float64) for k in range(waiting)]
        if not len(self._families) <= saved.chunks(families, 1) == families:
            raise ValueError(f"{self.name} has {families} families, and not {len(self._families)} or more")
        while len(self._families) < families:
            self.family()
        self._kept.restore(saved.within("kept"))
        for k, family in enumerate(self._families):
            family.restore(saved.within(f"family/{k}"))

    def _basis(self) -> list[Rows]:
        return [self._kept, *self._families]

    def _make_room(self, more: int = 1) -> None:
        if self.noise == "width":  # bases saturate at M by themselves, as in a network of that width
            return
        needed = self.arrays + more
        if 2 * needed > self.particles and not self._warned:
            self._warned = True
            count("half_full")
            warnings.warn(
                f"{self.name} holds more arrays than half of its {self.particles} particles; "
                f"estimates are still unbiased but noisy: particles >= {4 * needed} is advised",
                Notice,
                stacklevel=2,
            )
        if needed >= self.particles:
            raise SpaceFull(self.name, needed, self.particles)


def check_noise(noise: str, sobol: bool = False) -> None:
    """Raise `InputError` for a noise mode, or a use of Sobol points, that does not exist."""
    if not isinstance(noise, str) or noise not in get_args(Noise):
        raise InputError("noise", noise, f"one of {list(get_args(Noise))}")
    if not isinstance(sobol, bool | np.bool_):
        raise InputError("sobol", sobol, "True or False")
    if sobol and noise != "matched":
        raise InputError("sobol", sobol, f"False with noise={noise!r}: only 'matched' is built on Sobol points")
