"""Which factor goes where: initial variances and learning rates of every layer, in powers of the width n."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .problem import Network, Training


class Layer(NamedTuple):
    """One weight matrix of a network of width n in the maximal update parametrization.

    Attributes
    ----------
    name : "W^l"
    shape : in n and d
    variance, rate : float
        The initial variance of an entry is `variance` n^`variance_power`, its learning rate `rate` n^`rate_power`.
    last_rate : float
        `rate` at the last step, where a schedule changes it.
    """

    name: str
    shape: str
    variance: float
    variance_power: int
    rate: float
    last_rate: float
    rate_power: int


def conventions(network: Network, training: Training) -> list[Layer]:
    """Return the weight matrices W^1..W^{L+1} of the finite network whose limit is simulated.

        h^1 = W^1 xi,  h^l = W^l x^{l-1},  f = W^{L+1} x^L

        W^1       N(0, s_1^2)             rate eta_1 n
        W^l       N(0, s_l^2 / n)         rate eta_l          l = 2..L
        W^{L+1}   N(0, s_{L+1}^2 / n^2)   rate eta_{L+1} / n

    Plain SGD: W -= rate * dLoss/dW. Source: Chen et al. 2025, App. B, items 1-2.
    """
    L = network.depth
    first, last = (training.rates(step, L) for step in (0, max(training.steps - 1, 0)))
    rows = []
    for l, scale in enumerate(network.scales, 1):
        shape, powers = ("n x n", (-1, 0)) if 1 < l <= L else ("n x d", (0, 1)) if l == 1 else ("1 x n", (-2, -1))
        rows.append(
            Layer(f"W^{l}", shape, float(scale**2), powers[0], float(first[l - 1]), float(last[l - 1]), powers[1])
        )
    return rows


def power(value: float, exponent: int) -> str:
    """Return `value` n^`exponent` as people write it: 2 / n^2, 0.1 n, 3."""
    number = np.format_float_positional(float(f"{value:.6g}"), trim="-") if 1e-4 <= abs(value) < 1e6 else f"{value:.6g}"
    if exponent == 0:
        return number
    symbol = "n" if abs(exponent) == 1 else f"n^{abs(exponent)}"
    return f"{number} {symbol}" if exponent > 0 else f"{number} / {symbol}"


def conventions_table(network: Network, training: Training) -> str:
    """Return the conventions as lines of text."""
    lines = [f"  {'':6}{'shape':8}{'initial variance':20}learning rate"]
    for row in conventions(network, training):
        rate = power(row.rate, row.rate_power)
        if row.last_rate != row.rate:
            rate += f"  (last step: {power(row.last_rate, row.rate_power)})"
        lines.append(f"  {row.name:6}{row.shape:8}{power(row.variance, row.variance_power):20}{rate}")
    reduction = "sum over the batch" if training.reduction == "sum" else "mean over the batch"
    lines.append(f"  loss: {training.criterion.name}, {reduction}")
    return "\n".join(lines)
