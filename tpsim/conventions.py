"""Which factor goes where: initial variances and learning rates of every layer, in powers of the width n."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .parametrization import MUP, TITLES, Parametrization, resolve_parametrization
from .problem import Network, Training


class Layer(NamedTuple):
    """One weight matrix of a network of width n.

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
    variance_power: float
    rate: float
    last_rate: float
    rate_power: float


def conventions(
    network: Network, training: Training, parametrization: str | Parametrization = MUP
) -> list[Layer]:
    """Return the weight matrices W^1..W^{L+1} of a finite network, for `mup` of the one whose limit is simulated.

        h^1 = W^1 xi,  h^l = W^l x^{l-1},  f = W^{L+1} x^L,    W^l ~ N(0, s_l^2 n^-2b_l),  rate eta_l n^-c_l

    Plain SGD: W -= rate * dLoss/dW. Source: Chen et al. 2025, Table 2 and App. B, items 1-2.
    """
    L, row = network.depth, resolve_parametrization(parametrization)
    first, last = (training.rates(step, L) for step in (0, max(training.steps - 1, 0)))
    rows = []
    for l, scale in enumerate(network.scales, 1):
        shape, place = ("n x d", 0) if l == 1 else ("n x n", 1) if l <= L else ("1 x n", 2)
        powers = (0.0 - 2.0 * row.init[place], 0.0 - row.rate[place])
        variance = float(scale) * float(scale)  # infinite where it overflows
        rows.append(Layer(f"W^{l}", shape, variance, powers[0], float(first[l - 1]), float(last[l - 1]), powers[1]))
    return rows


def power(value: float, exponent: float) -> str:
    """Return `value` n^`exponent` as people write it: 2 / n^2, 0.1 n, 3."""
    number = np.format_float_positional(float(f"{value:.6g}"), trim="-") if 1e-4 <= abs(value) < 1e6 else f"{value:.6g}"
    if exponent == 0:
        return number
    symbol = "n" if abs(exponent) == 1 else f"n^{abs(exponent):g}"
    return f"{number} {symbol}" if exponent > 0 else f"{number} / {symbol}"


def conventions_table(
    network: Network, training: Training, parametrization: str | Parametrization = MUP, width: int | None = None
) -> str:
    """Return the conventions as lines of text; with a width also what they come to there."""
    here = f"at n = {width}: std, rate" if width else ""
    lines = [f"  {'':6}{'shape':8}{'initial variance':20}{'learning rate':20}{here}".rstrip()]
    for row in conventions(network, training, parametrization):
        rate = power(row.rate, row.rate_power)
        if row.last_rate != row.rate:
            rate += f"  (last step: {power(row.last_rate, row.rate_power)})"
        line = f"  {row.name:6}{row.shape:8}{power(row.variance, row.variance_power):20}{rate:20}"
        if width:
            line += f"{(row.variance * width**row.variance_power) ** 0.5:.4g}, {row.rate * width**row.rate_power:.4g}"
        lines.append(line.rstrip())
    reduction = "sum over the batch" if training.reduction == "sum" else "mean over the batch"
    lines.append(f"  loss: {training.criterion.name}, {reduction}")
    return "\n".join(lines)


def parametrization_title(parametrization: str | Parametrization) -> str:
    """Return the name in full, as in "muP: maximal update parametrization"."""
    name = resolve_parametrization(parametrization).name
    short = {"mup": "muP"}.get(name, name.upper())
    return f"{short}: {TITLES[name]} parametrization" if name in TITLES else name
