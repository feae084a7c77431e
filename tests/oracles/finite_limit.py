"""The limit of f_t estimated from dense networks of finite width, extrapolated in the width.

E f_t at width n is f_t + a/n + b/n^2 + ... The value at 1/n = 0 of the parabola in 1/n through three widths n_k,

    estimate = sum_k w_k E f(n_k),    w_k = prod_{j != k} n_k / (n_k - n_j),

leaves an error c / (n_1 n_2 n_3). f_0 is the control variate: E f_0 = 0 at every width, and its limit is 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

import numpy as np

from finite import train
from tpsim.problem import Network, Problem, Training

from .compare import mean_and_error, remove_controls

Array = np.ndarray


def extrapolation_weights(widths: Iterable[int]) -> tuple[float, ...]:
    """Return the weights w_k of the means at `widths`, exact for polynomials in 1/n of degree len(widths) - 1."""
    sizes = list(widths)
    return tuple(float(np.prod([n / (n - other) for other in sizes if other != n])) for n in sizes)


def extrapolate(samples: Mapping[int, Array]) -> tuple[Array, Array]:
    """Return the estimate at infinite width and its standard error from independent `samples` (seeds, ...) by width."""
    estimate, variance = 0.0, 0.0
    for weight, values in zip(extrapolation_weights(samples), samples.values(), strict=True):
        mean, error = mean_and_error(values)
        estimate, variance = estimate + weight * mean, variance + (weight * error) ** 2
    return np.asarray(estimate), np.sqrt(variance)


WIDTHS = (32, 64, 128)
WEIGHTS = extrapolation_weights(WIDTHS)  # 1/3, -2, 8/3
SEEDS = 8000  # networks per width: most of the error comes from the two larger widths, in equal parts


@cache  # once per session: problems, networks and trainings are told apart by identity
def finite_limit(problem: Problem, network: Network, training: Training, seeds: int = SEEDS) -> tuple[Array, Array]:
    """Return the estimate of f_1..f_T in the limit, (T, m), and its standard error.

    Cost: 10-15 s for L = 3, m = 3, T = 5.
    """
    samples = {}
    for width in WIDTHS:
        f = train(problem, network, training, width, seeds=seeds, seed=2025, quantities=("f",)).f.values
        samples[width] = remove_controls(f[:, 1:], f[:, 0], np.zeros(problem.samples))
    return extrapolate(samples)
