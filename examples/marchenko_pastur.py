"""Moments of a random matrix that is never written down.

    python examples/marchenko_pastur.py [--output DIR] [--smoke]

For a square Gaussian W with entries N(0, 1/n) and an independent v, <v, (W'W)^k v> -> the k-th Catalan number, the k-th
moment of the Marchenko-Pastur law. `matched` noise gives them to rounding at any number of particles; `width` gives the
law of an n x n matrix, n = M; without the response Zdot, W' would be independent of W and every moment zero.
"""

import argparse
from math import comb
from pathlib import Path

import numpy as np

from tpsim.core import GaussianMatrix, ParticleSpace
from tpsim.plot.style import BLUE, GREY, SHADE, VERMILLION, finish, line_key, panel

PARTICLES = 128


def moments(noise, seed, order, response=True):
    """<v, (W'W)^k v> / <v, v> for k = 1..order."""
    source = ParticleSpace(PARTICLES, noise, seed=(seed, 0))
    target = ParticleSpace(PARTICLES, noise, seed=(seed, 1))
    W = GaussianMatrix(source, target, tolerance=1e-10)
    v = y = source.normal()
    found = []
    for _ in range(order):
        y = W.T @ (W @ y) if response else W.transposed(W.product(y, parts=True).parts.Zhat, parts=True).parts.Zhat
        found.append(source.inner(v, y).item())
    return np.array(found) / source.inner(v, v).item()


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("."), metavar="DIR")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    options = parser.parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    order, seeds = (6, 8) if options.smoke else (10, 200)

    k = np.arange(1, order + 1)
    catalan = np.array([comb(2 * j, j) // (j + 1) for j in k], dtype=float)
    matched = moments("matched", 0, order) / catalan
    width = np.array([moments("width", seed, order) for seed in range(seeds)]) / catalan
    without = moments("matched", 0, order, response=False) / catalan
    print("Catalan numbers       ", *(f"{c:.0f}" for c in catalan))
    print("matched, one run      ", *(f"{c:.10g}" for c in matched * catalan))
    print(f"width, mean of {seeds:3d}    ", *(f"{c:.4g}" for c in width.mean(axis=0) * catalan))

    with panel(None) as ax:
        low, middle, high = np.quantile(width, [0.1, 0.5, 0.9], axis=0)
        ax.fill_between(k, low, high, color=VERMILLION, alpha=SHADE, linewidth=0)
        ax.plot(k, middle, color=VERMILLION)
        ax.plot(k, matched, "o", color=BLUE)
        ax.plot(k, without, "x", color=GREY)
        ax.set_xticks(k)
        keys = [
            line_key(BLUE, f"matched, one run, {PARTICLES} particles", marker="o", linestyle="none"),
            line_key(VERMILLION, f"{PARTICLES} x {PARTICLES} matrices, 10% to 90%"),
            line_key(GREY, "without the response", marker="x", linestyle="none"),
        ]
        finish(ax, r"Moments $\langle v, (W^\top W)^k v\rangle$", "order $k$", "moment / Catalan number", keys)
        ax.figure.savefig(options.output / "marchenko_pastur.png")
    return {"catalan": catalan, "matched": matched * catalan, "width": width * catalan, "without": without * catalan}


if __name__ == "__main__":
    main()
