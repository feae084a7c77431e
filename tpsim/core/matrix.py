"""The lazy Gaussian matrix: W : source -> target, known only on the span of what touched it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ..errors import InputError, ResourceError
from .kernels import expand, inner, inner_rows
from .noise import Key
from .rows import Rows
from .space import ParticleSpace

Array = np.ndarray

# Below this the residual norm is formed explicitly; above it sqrt(|x|^2 - |c|^2), whose rounding is 1e-8 |x|, decides.
EXPLICIT_RESIDUAL = 1e-6
FORWARD, BACKWARD = 0, 1


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
    """A product with the lazy matrix.

    Parameters
    ----------
    value : (m, M), Z^{W_t x_i} (or Z^{W_t' y_i}), Theta(1).
    coordinates : (m, p) of the argument in its basis.
    known : int, size of the basis before this call: `coordinates[:, :known]` belong to the past.
    dropped : float, share of sum_i |x_i|^2 that the tolerance left out in this call.
    parts : the three parts of `value`, when asked for.
    """

    value: Array
    coordinates: Array
    known: int
    dropped: float
    parts: Parts | None = None


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
        if not (np.ndim(scale) == 0 and np.isfinite(scale) and scale >= 0):
            raise InputError("scale", scale, "a finite number >= 0")
        if not 0 < tolerance < 1:
            raise InputError("tolerance", tolerance, "a number between 0 and 1, exclusive")
        if max_rank is not None and max_rank < 1:
            raise InputError("max_rank", max_rank, "an integer >= 1")
        self.source, self.target = source, target
        self.scale, self.tolerance, self.max_rank = float(scale), tolerance, max_rank
        self.key = (source.new_name(), target.new_name()) if key is None else key
        self.X, self.V = Rows(source.particles), source.family()
        self.D, self.U = Rows(target.particles), target.family()
        self.S = np.zeros((0, 0))  # (q, p), the core of all updates
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
        x = self.source.arrays_of(x)
        names = self._names(FORWARD, step, labels, len(x))
        known = len(self.X)
        with _in_step(self.X, self.U):
            c, dropped, fresh = self._span(self.X, x)
            self._reveal(self.source, self.X, self.target, self.U, self.D, [names[i] for i in fresh])
        self._pad()
        return self._combine(c, inner(x, self.V.array), self.S, self.U, self.D, known, dropped, parts)

    def transposed(
        self, y: Array, step: int | None = None, labels: Iterable[int] | None = None, parts: bool = False
    ) -> Product:
        """Return W_t' y for the rows of y, (m, M); see `product`."""
        y = self.target.arrays_of(y, "y")
        names = self._names(BACKWARD, step, labels, len(y))
        known = len(self.D)
        with _in_step(self.D, self.V):
            g, dropped, fresh = self._span(self.D, y)
            self._reveal(self.target, self.D, self.source, self.V, self.X, [names[i] for i in fresh])
        self._pad()
        return self._combine(g, inner(y, self.U.array), self.S.T, self.V, self.X, known, dropped, parts)

    def update(self, weights: Array, left: Product, right: Product) -> None:
        """W += sum_i weights_i y_i x_i' / n, where left = transposed(y) and right = product(x)."""
        g, c = left.coordinates, right.coordinates
        self.S[: g.shape[1], : c.shape[1]] += (g * np.asarray(weights)[:, None]).T @ c

    def __matmul__(self, x: Array) -> Array:
        return self.product(x).value

    @property
    def T(self) -> Transposed:
        """W', so that `W.T @ y` reads as written."""
        return Transposed(self)

    def _names(self, direction: int, step: int | None, labels: Iterable[int] | None, m: int) -> list[Key]:
        call = self._calls[direction] if step is None else step
        self._calls[direction] += 1
        return [(*self.key, direction, int(call), int(i)) for i in (range(m) if labels is None else labels)]

    def _span(self, basis: Rows, x: Array) -> tuple[Array, float, list[int]]:
        """Extend `basis` until it spans x up to the tolerance.

        Return the coordinates of x, the share of energy dropped, and the indices of the rows that brought a new
        direction. Gram-Schmidt twice, normalising between the passes.
        """
        old = len(basis)
        c = inner(x, basis.array)
        square = inner_rows(x, x)
        left = np.maximum(square - (c**2).sum(axis=1), 0.0)
        explicit = self.tolerance < EXPLICIT_RESIDUAL
        suspects = np.flatnonzero((square > 0.0) if explicit else (left > self.tolerance**2 * square))
        fresh: list[int] = []
        if suspects.size:
            residuals = expand(-c[suspects], basis.array, out=x[suspects])
            for i, r in zip(suspects, residuals, strict=True):
                size = len(basis)
                left[i] = self._append(basis, old, r[None], square[i])
                if len(basis) > size:
                    fresh.append(int(i))
            c = np.concatenate([c, inner(x, basis.array[old:])], axis=1)
        total = square.sum()
        return c, float(left.sum() / total) if total > 0 else 0.0, fresh

    def _append(self, basis: Rows, old: int, r: Array, square: float) -> float:
        """Append the direction of r (already off the first `old` vectors), or return the energy dropped."""
        new = basis.array[old:]
        expand(-inner(r, new), new, out=r)
        energy = float(inner_rows(r, r)[0])
        if energy <= self.tolerance**2 * square:
            return energy
        if self.max_rank is not None and len(basis) >= self.max_rank:
            raise MaxRank(f"max_rank={self.max_rank} is reached; allow more, or a larger tolerance")
        r /= np.sqrt(energy)
        expand(-inner(r, basis.array), basis.array, out=r)
        basis.append(r / np.sqrt(inner_rows(r, r))[:, None])
        return 0.0

    def _reveal(
        self, here: ParticleSpace, basis: Rows, there: ParticleSpace, images: Rows, other: Rows, names: list[Key]
    ) -> None:
        """Draw the images of the newest len(names) basis vectors: fresh normals in the space `there`."""
        if names:
            here.keep(basis.array[len(basis) - len(names) :])
            there.draw(images, names, complement=other.array)

    def _pad(self) -> None:
        q, p = self.S.shape
        if (q, p) != (len(self.D), len(self.X)):
            self.S = np.pad(self.S, ((0, len(self.D) - q), (0, len(self.X) - p)))

    def _combine(
        self, c: Array, b: Array, S: Array, U: Rows, D: Rows, known: int, dropped: float, parts: bool
    ) -> Product:
        """s U c + s D b + D S c."""
        history = c @ S.T
        value = expand(self.scale * c, U.array)
        expand(self.scale * b + history, D.array, out=value)
        three = None
        if parts:
            three = Parts(expand(self.scale * c, U.array), expand(self.scale * b, D.array), expand(history, D.array))
        return Product(value, c, known, dropped, three)


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
        return self.matrix.transposed(y).value
