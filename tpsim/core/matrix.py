"""The lazy Gaussian matrix: W : source -> target, known only on the span of what touched it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import InputError, ResourceError
from .checks import integer
from .checks import key as key_of
from .guards import count
from .kernels import expand, inner, inner_rows
from .noise import Key
from .orthogonal import directions
from .rows import Rows
from .saved import Saved, nested
from .space import ParticleSpace

Array = np.ndarray

# Below this tolerance residuals are formed explicitly; above it |x|^2 - |c|^2 decides, whose rounding is this squared.
EXPLICIT_RESIDUAL = {np.dtype(np.float64): 1e-6, np.dtype(np.float32): 1e-3}
FORWARD, BACKWARD = 0, 1
NUMBER = int | float | np.integer | np.floating


class MaxRank(ResourceError):
    """A basis reached `max_rank`."""


@dataclass(frozen=True)
class Parts:
    """The three parts of Z^{W_t x} = Zhat + Zdot + history, each (m, M)."""

    Zhat: Array
    Zdot: Array
    history: Array


@dataclass(frozen=True)
class Product:
    """A product with the lazy matrix, W_t x or W_t' y, known by what it takes to write it down.

    Parameters
    ----------
    direction : FORWARD or BACKWARD
    coordinates : (m, p) c of the argument in its basis.
    response : (m, q) b = <V, x>: the score-function estimates of the responses.
    known : int, size of the basis before this call: `coordinates[:, :known]` belong to the past.
    dropped : float, share of sum_i |x_i|^2 that the tolerance left out in this call.
    value : (m, M), Z^{W_t x_i} (or Z^{W_t' y_i}), Theta(1), when asked for.
    parts : the three parts of `value`, when asked for.
    """

    direction: int
    coordinates: Array
    response: Array
    known: int
    dropped: float
    value: Array | None = None
    parts: Parts | None = None


@dataclass(frozen=True)
class Side:
    """What W (or W') keeps: on its arguments' side a basis and the scores of their space, on the other the images.

    Attributes
    ----------
    here, there : ParticleSpace of the arguments and of the products.
    basis, score : X, V over `here` (of W': D, U).
    images, other : U, D over `there` (of W': V, X).
    """

    here: ParticleSpace
    basis: Rows
    score: Rows
    there: ParticleSpace
    images: Rows
    other: Rows

    @property
    def onto(self) -> tuple[Rows, Rows]:
        """What an argument is projected on: <X, x> and <V, x>."""
        return self.basis, self.score

    @property
    def from_(self) -> tuple[Rows, Rows]:
        """What a product is a combination of."""
        return self.images, self.other


class GaussianMatrix:
    """W_t = W_0 + D S X'/n with W_0 ~ N(0, s^2 / n) entries, for arguments as they come.

    With orthonormal bases X (of the arguments of W) and D (of those of W'), U_k = Zhat^{W X_k} / s and
    V_k = Zhat^{W' D_k} / s iid N(0, 1):

        W_t x  = s U c + s D b + D S c,     c = <X, x>, b = <V, x>
        W_t' y = s V g + s X a + X S' g,    g = <D, y>, a = <U, y>

    that is Zhat + Zdot + history. b and a are the score-function (Stein) estimates of the response matrices
    E[dx / dV_k] and E[dy / dU_k]; nothing is inverted.

    Parameters
    ----------
    source, target : ParticleSpace
        May be the same space (a weight-tied recurrent network).
    scale : float
        s.
    tolerance : float
        An argument enters its basis when its relative residual is larger. Error O(tolerance^2) in scalars.
    max_rank : int, optional
        Largest number of basis vectors on either side.
    key : tuple of int, optional
        Tells the draws of this matrix from those of others in the same spaces. Default: a new name in each.

    Error: exact second moments with `matched` noise, O(rank / M) bias with `iid`, none in law with `width`.
    Cost: 8 m r M flops a product, reading X, V, U and D once; memory 2 M (p + q), 3 M (p + q) with `matched`.
    Source: Yang & Hu 2020 (TP4), Theorem 7.4; the conditioning is that of Lu 2021, "Householder Dice".
    """

    def __init__(
        self,
        source: ParticleSpace,
        target: ParticleSpace,
        scale: float = 1.0,
        tolerance: float = 3e-3,
        max_rank: int | None = None,
        key: Key | None = None,
    ) -> None:
        for field, space in (("source", source), ("target", target)):
            if not isinstance(space, ParticleSpace):
                raise InputError(field, space, "a ParticleSpace")
        if not isinstance(scale, NUMBER) or isinstance(scale, bool) or not 0 <= scale < np.inf:
            raise InputError("scale", scale, "a finite number >= 0")
        if not isinstance(tolerance, NUMBER) or not 0 < tolerance < 1:
            raise InputError("tolerance", tolerance, "a number between 0 and 1, exclusive")
        if max_rank is not None:
            integer("max_rank", max_rank, 1)
        self.source, self.target = source, target
        self.scale, self.tolerance, self.max_rank = float(scale), tolerance, max_rank
        self.key = (source.new_name(), target.new_name()) if key is None else key_of("key", key)
        self.X, self.V = Rows(source.particles, source.dtype), source.family()
        self.D, self.U = Rows(target.particles, target.dtype), target.family()
        self.S = np.zeros((0, 0))  # (q, p), the core of all updates
        self.sides = (
            Side(source, self.X, self.V, target, self.U, self.D),
            Side(target, self.D, self.U, source, self.V, self.X),
        )
        self._calls = [0, 0]

    @property
    def ranks(self) -> tuple[int, int]:
        """(p, q): sizes of the bases of the arguments of W and of W'."""
        return len(self.X), len(self.D)

    def product(
        self, x: Array, step: int | None = None, labels: Iterable[int] | None = None, parts: bool = False
    ) -> Product:
        """Return W_t x for the rows of x, (m, M).

        Parameters
        ----------
        x : (m, M) arrays over the source space.
        step, labels : int, m ints
            Name the randomness of new directions; the number of earlier calls and 0..m-1 when missing.
        parts : also return Zhat, Zdot and history apart.

        Raises
        ------
        InputError
            x is not a real array over the source space, or `step` names a direction's randomness a second time.
        SpaceFull, MaxRank
            When x leaves the span and there is no room for a new direction: take more particles.
        """
        return self._whole(FORWARD, self.source.arrays_of(x), step, labels, parts)

    def transposed(
        self, y: Array, step: int | None = None, labels: Iterable[int] | None = None, parts: bool = False
    ) -> Product:
        """Return W_t' y for the rows of y, (m, M); see `product`."""
        return self._whole(BACKWARD, self.target.arrays_of(y, "y"), step, labels, parts)

    def _whole(
        self, direction: int, x: Array, step: int | None, labels: Iterable[int] | None, parts: bool
    ) -> Product:
        sums = inner(x, self.sides[direction].onto)
        product = self.meet(direction, x, sums, inner_rows(x, x), step, labels, parts)
        return replace(product, value=expand(*self.terms(product)))

    def meet(
        self, direction: int, x: Array, sums: Array, square: Array,
        step: int | None = None, labels: Iterable[int] | None = None, parts: bool = False,
    ) -> Product:  # fmt: skip
        """Take note of arguments x of W (FORWARD) or W' (BACKWARD), and return their product, not yet written down.

        Parameters
        ----------
        x : (m, M) arrays over the side's space.
        sums : (m, p + q) <x, onto> for `sides[direction].onto`.
        square : (m,) |x_i|^2.
        step, labels, parts : as for `product`.
        """
        side = self.sides[direction]
        known = len(side.basis)
        if not isinstance(parts, bool | np.bool_):
            raise InputError("parts", parts, "True or False")
        names = self._names(direction, step, labels, len(x))
        c, b = sums[:, :known], sums[:, known:]
        with _in_step(side.basis, side.images):
            fresh, dropped = self._span(side, x, c, square)
            if fresh:
                new = side.basis.tail(known)
                c = np.concatenate([c, inner(x, new)], axis=1)
                side.here.keep(new)
                side.there.draw(side.images, [names[i] for i in fresh], complement=side.other)
        self._pad()
        product = Product(direction, c, b, known, dropped)
        return replace(product, parts=self._parts(product)) if parts else product

    def terms(self, product: Product) -> tuple[Array, tuple[Rows, Rows]]:
        """Return the coefficients, and the rows, of s U c + D (s b + S c) (of s V g + X (s a + S' g) for W')."""
        zhat, zdot, history = self._coefficients(product)
        return np.concatenate([zhat, zdot + history], axis=1), self.sides[product.direction].from_

    def _coefficients(self, product: Product) -> tuple[Array, Array, Array]:
        """s c, s b and S c."""
        core = self.S if product.direction == FORWARD else self.S.T
        c, b = product.coordinates, product.response
        return self.scale * c, self.scale * b, c @ core.T

    def _parts(self, product: Product) -> Parts:
        side = self.sides[product.direction]
        zhat, zdot, history = self._coefficients(product)
        return Parts(expand(zhat, side.images), expand(zdot, side.other), expand(history, side.other))

    def update(self, weights: Array, left: Product, right: Product) -> None:
        """W += sum_i weights_i y_i x_i' / n, where left = transposed(y) and right = product(x)."""
        g, c = left.coordinates, right.coordinates
        self.S[: g.shape[1], : c.shape[1]] += (g * np.asarray(weights)[:, None]).T @ c

    def __matmul__(self, x: Array) -> Array:
        return _written(self.product(x))

    @property
    def T(self) -> Transposed:
        """W', so that `W.T @ y` reads as written."""
        return Transposed(self)

    def _names(self, direction: int, step: int | None, labels: Iterable[int] | None, m: int) -> list[Key]:
        (call,) = key_of("step", [self._calls[direction] if step is None else step])
        numbers = range(m) if labels is None else _labels(labels, m)
        self._calls[direction] += 1
        return [(*self.key, direction, call, int(i)) for i in numbers]

    def _span(self, side: Side, x: Array, c: Array, square: Array) -> tuple[list[int], float]:
        """Extend the basis until it spans x up to the tolerance.

        Return the indices of the rows that brought a new direction, and the share of energy dropped.
        """
        left = square - (c**2).sum(axis=1)
        count("clamped_energy", (left < 0.0).sum())  # an array of the span, up to the rounding of the difference
        left = np.maximum(left, 0.0)
        allowed = self.tolerance**2 * square
        explicit = self.tolerance < EXPLICIT_RESIDUAL[side.basis.dtype]
        suspects = np.flatnonzero((square > 0.0) if explicit else (left > allowed))
        fresh: list[int] = []
        if suspects.size:
            residuals = expand(-c[suspects], side.basis, out=x[suspects])
            new = directions(residuals, (side.basis,), allowed[suspects], square[suspects])
            left[suspects] = new.left
            self._check_rank(side.basis, len(new.rows))
            side.basis.append(new.directions)
            fresh = [int(suspects[i]) for i in new.rows]
        total = square.sum()
        return fresh, float(left.sum() / total) if total > 0 else 0.0

    def _check_rank(self, basis: Rows, more: int) -> None:
        if self.max_rank is not None and len(basis) + more > self.max_rank:
            raise MaxRank(f"max_rank={self.max_rank} is reached; allow more, or a larger tolerance")

    def _pad(self) -> None:
        q, p = self.S.shape
        if (q, p) != (len(self.D), len(self.X)):
            self.S = np.pad(self.S, ((0, len(self.D) - q), (0, len(self.X) - p)))

    def state(self) -> dict[str, Array]:
        """What `restore` takes: X, D and S; U and V are families of the spaces, and restored with them."""
        own = {"S": self.S, "calls": np.array(self._calls, dtype=np.int64)}
        return own | nested({"X": self.X.state(), "D": self.D.state()})

    def restore(self, saved: Saved) -> None:
        """Become the matrix that `state` described; to be called when its spaces are restored."""
        self.X.restore(saved.within("X"))
        self.D.restore(saved.within("D"))
        if (len(self.X), len(self.D)) != (len(self.U), len(self.V)):
            raise ValueError(f"{self.ranks} arguments and {len(self.U), len(self.V)} images")
        # a side that was met after the last update is not in S yet
        S = saved.take("S", (None, None), np.float64)
        if S.shape[0] > len(self.D) or S.shape[1] > len(self.X):
            raise ValueError(f"a core of shape {S.shape} for ranks {self.ranks}")
        self.S = S
        self._calls = saved.take("calls", (2,), np.int64).tolist()


def _labels(labels: Any, m: int) -> Array:
    """One integer for each argument."""
    try:
        if len(labels) == m and (array := np.asarray(labels)).shape == (m,) and array.dtype.kind in "iu":
            return array
    except (TypeError, ValueError, RuntimeError, OverflowError):
        pass
    raise InputError("labels", labels, f"{m} integers, one for each argument")


@contextmanager
def _in_step(basis: Rows, images: Rows) -> Iterator[None]:
    """When there is no room for an image, forget the basis vectors that have none: the matrix can still be used."""
    try:
        yield
    except ResourceError:
        basis.truncate(len(images))
        raise


@dataclass(frozen=True)
class Transposed:
    """A view of W as its transpose."""

    matrix: GaussianMatrix

    def __matmul__(self, y: Array) -> Array:
        return _written(self.matrix.transposed(y))


def _written(product: Product) -> Array:
    assert product.value is not None
    return product.value
