r"""Exact deep linear networks in the muP limit: the recursion in coordinates.

With the identity as activation every Z-variable is a linear combination of finitely many fresh Gaussian draws: W^1 on
the inputs, What_0, and the fields Zhat^{W u_k}, Zhat^{W^T v_k} of the directions u_k, v_k that met a hidden matrix W.
Draws are independent, centred, of variance one: E[ZZ'] is the dot product of coordinate vectors, one axis per draw.
A hidden matrix of entries N(0, s^2 / n), seen on orthonormal directions Xb (with fields U) and Db (with fields V), is

    W_t x   = s U c + s Db b + Db S c,       c = <Xb, x>,  b = <V, x>
    W_t^T y = s V g + s Xb a + Xb S^T g,     g = <Db, y>,  a = <U, y>
    S      <- S - eta sum_i chi_i g_i c_i^T

Source: Chen et al. 2025, App. B (responses included up to s = t backward), with Stein's lemma E[dx / dV_k] = E[x V_k].
Error: rounding; residuals below 1e-12 of the vector's norm count as zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tpsim.problem import Network, Problem, Training

from .record import Recorder

Array = np.ndarray
DROPPED = 1e-12


def residual_direction(basis: list[Array], vector: Array) -> Array | None:
    """Return the unit residual of `vector` off the orthonormal `basis`, or None if it is below 1e-12 of its norm."""
    size = float(np.linalg.norm(vector))
    if size == 0.0:
        return None
    residual, scale = vector / size, 1.0
    for _ in range(3):
        for direction in basis:
            residual = residual - (direction @ residual) * direction
        norm = float(np.linalg.norm(residual))
        scale *= norm
        if scale < DROPPED:
            return None
        residual = residual / norm
    return residual


@dataclass
class Space:
    """A particle space in coordinates: at most `dimension` draws, each a new axis."""

    dimension: int
    used: int = 0

    def draw(self) -> Array:
        axis = np.zeros(self.dimension)
        axis[self.used] = 1.0  # IndexError if the bound on the number of draws were wrong
        self.used += 1
        return axis


@dataclass
class Matrix:
    """A Gaussian matrix N(0, s^2 / n) from space `source` to space `target`, known on what has touched it."""

    source: Space
    target: Space
    scale: float
    x_basis: list[Array] = field(default_factory=list)
    u: list[Array] = field(default_factory=list)
    d_basis: list[Array] = field(default_factory=list)
    v: list[Array] = field(default_factory=list)
    core: Array = field(default_factory=lambda: np.zeros((0, 0)))

    def forward(self, x: Array) -> Array:
        """W_t x for the rows of x (m, N)."""
        for row in x:
            new = residual_direction(self.x_basis, row)
            if new is not None:
                self.x_basis.append(new)
                self.u.append(self.target.draw())
        self._pad()
        c, b = coefficients(x, self.x_basis), coefficients(x, self.v)
        return self.scale * combine(c, self.u, x) + combine(self.scale * b + c @ self.core.T, self.d_basis, x)

    def backward(self, y: Array) -> Array:
        """W_t^T y for the rows of y (m, N)."""
        for row in y:
            new = residual_direction(self.d_basis, row)
            if new is not None:
                self.d_basis.append(new)
                self.v.append(self.source.draw())
        self._pad()
        g, a = coefficients(y, self.d_basis), coefficients(y, self.u)
        return self.scale * combine(g, self.v, y) + combine(self.scale * a + g @ self.core, self.x_basis, y)

    def update(self, step_sizes: Array, y: Array, x: Array) -> None:
        """W <- W - sum_i step_sizes_i y_i x_i^T / n, for rows that have touched the matrix."""
        g, c = coefficients(y, self.d_basis), coefficients(x, self.x_basis)
        self.core = self.core - (g * step_sizes[:, None]).T @ c

    def _pad(self) -> None:
        q, p = self.core.shape
        self.core = np.pad(self.core, ((0, len(self.d_basis) - q), (0, len(self.x_basis) - p)))


def coefficients(rows: Array, directions: list[Array]) -> Array:
    """<direction_k, row_i>, (rows, directions)."""
    return rows @ np.array(directions).T if directions else np.zeros((len(rows), 0))


def combine(weights: Array, directions: list[Array], like: Array) -> Array:
    """sum_k weights_ik direction_k, (rows, N)."""
    return weights @ np.array(directions) if directions else np.zeros_like(like)


def input_coordinates(inputs: Array) -> Array:
    """Coordinates (m, rank) of the inputs in their Gram-Schmidt basis, in order of appearance."""
    basis: list[Array] = []
    for xi in inputs:
        new = residual_direction(basis, xi)
        if new is not None:
            basis.append(new)
    return coefficients(inputs, basis)


def batch_weights(training: Training, samples: int) -> list[Array]:
    """The indicator of B_t, over its size for `mean`, for t = 0..T-1: what multiplies chi_t in the update."""
    rows = []
    for batch in training.batch_indices(samples):
        row = np.zeros(samples)
        row[batch] = 1.0 / len(batch) if training.reduction == "mean" else 1.0
        rows.append(row)
    return rows


def deep_linear(
    problem: Problem,
    network: Network,
    training: Training,
    monitor: Callable[[int, list[Matrix]], None] | None = None,
) -> dict[str, Array]:
    """Train a deep linear network in the muP limit, exactly (see the module's docstring).

    Parameters
    ----------
    problem, network, training : as for `tpsim.simulate`; the activation is taken to be the identity.
    monitor : callable of (step, hidden matrices), optional
        Called after every step's passes.

    Returns
    -------
    dict of arrays
        f (step, sample); kernel_h, kernel_x, kernel_dh (step, layer, sample, sample2); kernel_h0, kernel_x0, the same,
        E[Z_0(sample) Z_t(sample2)]; mean_h, mean_x (step, layer, sample), zero; feature_change_h, feature_change_x
        (step, layer).
    """
    depth, m, steps = network.depth, problem.samples, training.steps
    scales, gram = network.scales, problem.inputs @ problem.inputs.T
    dimension = m + 1 + 2 * m * (steps + 1)
    spaces = [Space(dimension) for _ in range(depth)]
    hidden = [Matrix(spaces[k], spaces[k + 1], float(scales[k + 1])) for k in range(depth - 1)]
    coordinates = input_coordinates(problem.inputs)
    first = scales[0] * coordinates @ np.array([spaces[0].draw() for _ in range(coordinates.shape[1])])
    weights = batch_weights(training, m)
    output = np.zeros(dimension)
    recorder = Recorder(lambda a, b: a @ b.T, lambda a: np.zeros(len(a)))

    for step in range(steps + 1):
        x = [first]
        for matrix in hidden:
            x.append(matrix.forward(x[-1]))
        if step == 0:  # What_0 is independent of the t = 0 features
            output = scales[depth] * spaces[-1].draw()
        f = x[-1] @ output
        dh = [np.tile(output, (m, 1))]
        for matrix in reversed(hidden):
            dh.insert(0, matrix.backward(dh[0]))
        recorder.add(f, x, x, dh)
        if monitor is not None:
            monitor(step, hidden)
        if step < steps:
            signal = training.criterion.derivative(f, problem.targets) * weights[step]
            rates = training.rates(step, depth)
            first = first - rates[0] * (gram * signal) @ dh[0]
            for k, matrix in enumerate(hidden):
                matrix.update(rates[k + 1] * signal, dh[k + 1], x[k])
            output = output - rates[depth] * signal @ x[-1]
    return recorder.arrays()
