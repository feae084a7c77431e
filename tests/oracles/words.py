r"""Deep linear networks in the muP limit by free probability: words of Gaussian matrices and non-crossing pairings.

In the limit every vector of a deep linear network is a combination, with deterministic coefficients, of words
W^{l_1} W^{l_2 T} ... v where v is one of W_0^1's columns or What_0. Wick's theorem at leading order in n gives

    <v, word v> -> E[v^2] tau(word),   tau(word) = sum_j [letter_j = letter_1^T] s_l^2 tau(inside) tau(outside),

the sum over non-crossing pairings; different seeds v are orthogonal. The update of a matrix is kept term by term,
W_t x = W_0 x - sum_{s<t,j} eta chi_{s,j} dh_{s,j} <x_{s,j}, x>. No basis, no orthogonalisation, no response function:
nothing is shared with the recursion in coordinates. Cost: exponential in t; a second at t = 6.
Source: non-crossing pairings as in Tulino & Verdu 2004, sec. 2.4; the network as in Chen et al. 2025, App. B.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from tpsim.problem import Network, Problem, Training

from .linear import batch_weights

Array = np.ndarray
Word = tuple[int, ...]  # +l is W^l, -l its transpose; the leftmost letter is applied last
Vector = dict[tuple[Word, int], float]  # (word, seed) -> coefficient; seed k >= 0 is an input direction, -1 is What_0


def free_moment(scales: Array) -> Callable[[Word], float]:
    """Return tau: the normalised trace of a word in the limit, W^l ~ N(0, scales[l-1]^2 / n)."""

    @cache
    def tau(word: Word) -> float:
        if not word:
            return 1.0
        total = 0.0
        for j in range(1, len(word), 2):
            if word[j] == -word[0]:
                total += scales[abs(word[0]) - 1] ** 2 * tau(word[1:j]) * tau(word[j + 1 :])
        return total

    return tau


def inner_product(scales: Array) -> Callable[[Vector, Vector], float]:
    """Return <u, v>, with W^1's columns of variance s_1^2 and What_0 of variance s_{L+1}^2."""
    tau = free_moment(scales)

    def inner(u: Vector, v: Vector) -> float:
        total = 0.0
        for (left, seed), cu in u.items():
            flipped = tuple(-letter for letter in reversed(left))
            variance = scales[-1 if seed < 0 else 0] ** 2
            total += sum(cu * cv * variance * tau(flipped + right) for (right, s), cv in v.items() if s == seed)
        return total

    return inner


def add(target: Vector, factor: float, vector: Vector) -> None:
    """target += factor * vector."""
    for key, value in vector.items():
        target[key] = target.get(key, 0.0) + factor * value


def deep_linear_words(problem: Problem, network: Network, training: Training) -> dict[str, Array]:
    """Train a deep linear network in the muP limit by free probability; inputs of full rank.

    Returns f, kernel_x, kernel_dh and kernel_x0 as `deep_linear` does (h = x).
    """
    depth, m = network.depth, problem.samples
    inner = inner_product(network.scales)
    gram = problem.inputs @ problem.inputs.T
    coordinates = np.linalg.cholesky(gram)
    weights = batch_weights(training, m)
    # past[l-1]: the terms (rate * chi * indicator, dh^l_s, x^{l-1}_s) of W^l, l = 2..L; `shift` is W^1's history
    past: list[list[tuple[float, Vector, Vector]]] = [[] for _ in range(depth)]
    shift: list[Vector] = [{} for _ in range(m)]
    output: Vector = {((), -1): 1.0}
    results: dict[str, list[Array]] = {"f": [], "kernel_x": [], "kernel_dh": [], "kernel_x0": []}
    start: list[list[Vector]] = []

    for step in range(training.steps + 1):
        x: list[list[Vector]] = [[dict(shift[i]) for i in range(m)]]
        for i in range(m):
            add(x[0][i], 1.0, {((), k): float(coordinates[i, k]) for k in range(m)})
        for k in range(1, depth):
            x.append([_product(k + 1, v, past[k], inner) for v in x[-1]])
        dh: list[list[Vector]] = [[output] * m]
        for k in range(depth - 1, 0, -1):
            dh.insert(0, [_product(-k - 1, v, [(r, b, a) for r, a, b in past[k]], inner) for v in dh[0]])
        start = start or x
        f = np.array([inner(output, v) for v in x[-1]])
        for name, left, right in (("kernel_x", x, x), ("kernel_dh", dh, dh), ("kernel_x0", start, x)):
            pairs = zip(left, right, strict=True)
            results[name].append(np.array([[[inner(a, b) for b in r] for a in q] for q, r in pairs]))
        results["f"].append(f)
        if step < training.steps:
            signal = training.criterion.derivative(f, problem.targets) * weights[step]
            rates = training.rates(step, depth)
            output = dict(output)
            for j in range(m):
                for i in range(m):
                    add(shift[i], -rates[0] * signal[j] * gram[i, j], dh[0][j])
                for k in range(1, depth):
                    past[k].append((rates[k] * signal[j], dh[k][j], x[k - 1][j]))
                add(output, -rates[depth] * signal[j], x[-1][j])
    return {name: np.array(rows) for name, rows in results.items()}


def _product(
    letter: int, vector: Vector, terms: list[tuple[float, Vector, Vector]], inner: Callable[[Vector, Vector], float]
) -> Vector:
    result = {((letter, *word), seed): value for (word, seed), value in vector.items()}
    for rate, left, right in terms:  # - rate left <right, vector>
        add(result, -rate * inner(right, vector), left)
    return result
