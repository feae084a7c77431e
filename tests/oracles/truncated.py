"""A dense muP network that drops what the lazy matrix drops, beside the one that drops nothing: path by path.

The lazy matrix knows W_0 on the span of X and its transpose on that of D, bases that grow by every argument whose
residual exceeds the tolerance. It leaves (1 - D D') W_0 (1 - X X') x out of W_0 x, and the residuals out of updates.
Here W_0 is the same dense matrix with and without, so that features can be compared neuron by neuron.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from tpsim.problem import Network, Problem, Training
from tpsim.record import Schedule
from tpsim.results import label
from tpsim.run import error_signal

Array = np.ndarray
Features = dict[tuple[str, int], Array]  # (h, x or dh, layer) -> (T+1, m, n)


class Matrix:
    """W_0 + update, (n, n), seen through bases X and D of its arguments; tolerance None: W_0 itself."""

    def __init__(self, W: Array, tolerance: float | None) -> None:
        self.W, self.update, self.tolerance = W, np.zeros_like(W), tolerance
        self.X, self.D = np.zeros((0, len(W))), np.zeros((0, len(W)))

    def product(self, x: Array) -> tuple[Array, Array, float]:
        """Rows of (m, n) -> their images, what is kept of them, and the dropped share."""
        self.X, kept, dropped = extend(self.X, x, self.tolerance)
        return kept @ (self.W + self.update).T + (x - kept) @ self.W.T @ self.D.T @ self.D, kept, dropped

    def transposed(self, y: Array) -> tuple[Array, Array, float]:
        self.D, kept, dropped = extend(self.D, y, self.tolerance)
        return kept @ (self.W + self.update) + (y - kept) @ self.W @ self.X.T @ self.X, kept, dropped


def extend(basis: Array, x: Array, tolerance: float | None) -> tuple[Array, Array, float]:
    """Grow an orthonormal basis by the rows that leave it; return it, the projections of x, and the share left out."""
    if tolerance is None:
        return basis, x, 0.0
    for row in x:
        residual = row - (basis @ row) @ basis
        if np.linalg.norm(residual) > tolerance * np.linalg.norm(row):
            residual = residual / np.linalg.norm(residual)
            residual = residual - (basis @ residual) @ basis
            basis = np.vstack([basis, residual / np.linalg.norm(residual)])
    kept = (x @ basis.T) @ basis
    return basis, kept, float(((x - kept) ** 2).sum() / (x**2).sum())


def train(
    problem: Problem, network: Network, training: Training, n: int, tolerance: float | None, seed: int = 0
) -> tuple[xr.Dataset, Features]:
    """Train one network of width n; return its run, with one replica and as `simulate` would, and its features."""
    rng, L, m, T = np.random.default_rng(seed), network.depth, problem.samples, training.steps
    phi, s = network.phi, network.scales
    W1 = s[0] * rng.standard_normal((n, problem.inputs.shape[1]))
    W = {l: Matrix(s[l - 1] * rng.standard_normal((n, n)) / np.sqrt(n), tolerance) for l in range(2, L + 1)}
    readout = s[L] * rng.standard_normal(n)
    z: Features = {(name, l): np.zeros((T + 1, m, n)) for name in ("h", "x", "dh") for l in range(1, L + 1)}
    forward, backward = np.full((T + 1, L), np.nan), np.full((T + 1, L), np.nan)
    f, chi = np.zeros((T + 1, m)), np.zeros((T + 1, m))
    batches = np.array([np.isin(np.arange(m), batch) for batch in training.batch_indices(m)] + [np.zeros(m, bool)])
    for t in range(T + 1):
        seen, back = {}, {}
        for l in range(1, L + 1):
            if l == 1:
                z["h", 1][t] = problem.inputs @ W1.T
            else:
                z["h", l][t], seen[l], forward[t, l - 1] = W[l].product(z["x", l - 1][t])
            z["x", l][t] = phi.phi(z["h", l][t])
        dx = np.broadcast_to(readout, (m, n))
        for l in range(L, 0, -1):
            z["dh", l][t] = dx * phi.dphi(z["h", l][t])
            if l > 1:
                dx, back[l], backward[t, l - 1] = W[l].transposed(z["dh", l][t])
        f[t] = z["x", L][t] @ readout / n
        chi[t] = error_signal(training, f[t], problem.targets, np.ones(m, bool))
        if batches[t].any():
            step = -error_signal(training, f[t], problem.targets, batches[t])[:, None]
            rates = training.rates(t, L)
            W1 += rates[0] * (step * z["dh", 1][t]).T @ problem.inputs
            for l in range(2, L + 1):
                W[l].update += rates[l - 1] * (step * back[l]).T @ seen[l] / n
            readout = readout + rates[L] * step[:, 0] @ z["x", L][t]
    arrays = {"f": f, "chi": chi, "dropped_forward": forward, "dropped_backward": backward}
    return _run(problem, L, batches, arrays, z), z


def _run(problem: Problem, depth: int, batches: Array, arrays: dict[str, Array], z: Features) -> xr.Dataset:
    steps = tuple(range(len(batches)))
    for name in ("h", "x", "dh"):
        fields = np.stack([z[name, l] for l in range(1, depth + 1)], axis=1)
        arrays[f"kernel_{name}"] = fields @ np.swapaxes(fields, -1, -2) / fields.shape[-1]
        if name != "dh":
            arrays[f"mean_{name}"] = fields.mean(axis=-1)
    replica = {name: values[None] for name, values in arrays.items()}
    return label(problem, depth, Schedule(steps, steps, (), ()), replica, batches.astype(float))
