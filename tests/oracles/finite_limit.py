"""The limit of f_t estimated from dense networks of finite width, extrapolated in the width.

E f_t at width n is f_t + a/n + b/n^2 + ..., so that the extrapolation over widths n, 2n, 4n,

    R_n = 2 E f(2n) - E f(n),      estimate = (4 R_{2n} - R_n) / 3,

leaves an error O(n^-3). f_0 is the control variate: E f_0 = 0 at every width, and its limit is 0.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from finite import train
from tpsim.problem import Network, Problem, Training

from .compare import mean_and_error, remove_controls

Array = np.ndarray

WIDTHS = (32, 64, 128)
WEIGHTS = (1 / 3, -2.0, 8 / 3)  # of the means at WIDTHS in the estimate
SEEDS = 8000  # networks per width: most of the error comes from the two larger widths, in equal parts


@cache  # once per session: problems, networks and trainings are told apart by identity
def finite_limit(problem: Problem, network: Network, training: Training, seeds: int = SEEDS) -> tuple[Array, Array]:
    """Return the estimate of f_1..f_T in the limit, (T, m), and its standard error.

    Cost: 10-15 s for L = 3, m = 3, T = 5.
    """
    estimate, variance = 0.0, 0.0
    for width, weight in zip(WIDTHS, WEIGHTS, strict=True):
        f = train(problem, network, training, width, seeds=seeds, seed=2025, quantities=("f",)).f.values
        mean, error = mean_and_error(remove_controls(f[:, 1:], f[:, 0], np.zeros(problem.samples)))
        estimate, variance = estimate + weight * mean, variance + (weight * error) ** 2
    return estimate, np.sqrt(variance)
