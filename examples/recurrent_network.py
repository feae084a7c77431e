"""A recurrent network of infinite width, without and with the transpose of its matrix.

    python examples/recurrent_network.py [--output DIR] [--smoke]

h_{t+1} = J tanh(h_t) + u with the same J at every step. For J = W, h is a Gaussian process whose kernel follows from
that of the step before (Yang 2019). For J = (W + W') / sqrt 2 that recursion is wrong: h has met W before it meets W',
and the response to that, Zdot, is part of every product. The lazy matrix has it, and dense networks agree.
"""

import argparse
from pathlib import Path

import numpy as np

from tpsim.core import GaussianMatrix, ParticleSpace, inner
from tpsim.plot.style import BLUE, GREY, PAGE, VERMILLION, band_key, finish, finish_page, line_key, page

SCALE, INPUT = 1.6, 0.3


def limit(steps, particles, symmetric, seed):
    """E[h_s h_t], (T+1, T+1), on a particle space."""
    space = ParticleSpace(particles, sobol=True, seed=(seed,))
    W = GaussianMatrix(space, space, scale=SCALE, tolerance=1e-6)
    h = [INPUT * space.normal()]
    for _ in range(steps):
        x = np.tanh(h[-1])
        h.append(((W @ x + W.T @ x) / np.sqrt(2) if symmetric else W @ x) + h[0])
    return inner(np.concatenate(h), np.concatenate(h))


def dense(steps, n, symmetric, seed):
    """The same of a network of n neurons."""
    rng = np.random.default_rng(seed)
    W, h = SCALE * rng.standard_normal((n, n)) / np.sqrt(n), [INPUT * rng.standard_normal(n)]
    J = (W + W.T) / np.sqrt(2) if symmetric else W
    for _ in range(steps):
        h.append(J @ np.tanh(h[-1]) + h[0])
    return np.array(h) @ np.array(h).T / n


def gaussian_process(steps):
    """K_{s+1,t+1} = SCALE^2 E[tanh h_s tanh h_t] + INPUT^2 by Gauss-Hermite quadrature."""
    z, w = np.polynomial.hermite_e.hermegauss(60)
    K = np.full((steps + 1, steps + 1), INPUT**2)
    for t, s in zip(*np.tril_indices(steps), strict=True):  # row by row
        a, b, c = K[s, s], K[t, t], K[s, t]
        v = c / np.sqrt(a) * z[:, None] + np.sqrt(max(b - c * c / a, 0)) * z
        moment = (w * np.tanh(np.sqrt(a) * z)) @ np.tanh(v) @ w / w.sum() ** 2
        K[s + 1, t + 1] = K[t + 1, s + 1] = SCALE**2 * moment + INPUT**2
    return K


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("."), metavar="DIR")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    options = parser.parse_args(argv)
    steps, particles, n, seeds = (3, 1024, 128, 8) if options.smoke else (10, 8192, 1024, 8)
    options.output.mkdir(parents=True, exist_ok=True)
    process = gaussian_process(steps)
    ours = [np.array([limit(steps, particles, J, seed) for seed in range(seeds)]) for J in (False, True)]
    theirs = [np.array([dense(steps, n, J, seed) for seed in range(seeds)]) for J in (False, True)]
    print("E h_T^2 for W, for W + W', Gaussian process:", *(K[..., -1, -1].mean().round(4) for K in (*ours, process)))
    with page(None, (PAGE, 2.7)) as figure:
        for k, (ax, name) in enumerate(zip(figure.subplots(1, 2), ("W", r"(W + W^\top)/\sqrt{2}"), strict=True)):
            for K, style in ((ours[k], {"color": BLUE}), (theirs[k], {"color": VERMILLION, "fmt": "o"})):
                error = 2 * K[:, -1].std(axis=0, ddof=1) / np.sqrt(seeds)
                ax.errorbar(range(steps + 1), K[:, -1].mean(axis=0), error, capsize=2, **style)
            ax.plot(process[-1], "--", color=GREY, zorder=3)
            finish(ax, f"$J = {name}$", "step $t$", f"$E[h_t h_{{{steps}}}]$")
        keys = [line_key(BLUE, "infinite width"), line_key(VERMILLION, f"dense, $n={n}$", marker="o", linestyle="none")]
        keys += [line_key(GREY, "Gaussian process", linestyle="--"), band_key(seeds, bars=True)]
        finish_page(figure, r"Recurrent network $h_{t+1} = J\,\tanh(h_t) + u$: memory of the last state", keys)
        figure.savefig(options.output / "recurrent_network.png")
    return {"process": process, "tied": ours[0], "symmetric": ours[1]}


if __name__ == "__main__":
    main()
