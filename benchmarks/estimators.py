"""Estimators of f_t made of runs at one or more sizes: their spread, their bias with its uncertainty, and their price.

An estimator is a sum of means, sum_n w_n mean_n, over sizes n (particles or width): one size with w = 1, or
Richardson's 2 f(2n) - f(n) and (8 f(4n) - 6 f(2n) + f(n)) / 3. Its error is
sqrt(bias^2 + sum_n w_n^2 spread_n^2 / R_n). The bias is that of the law E f_n - f = sum_k a_k / n^k, fitted to all
sizes together, of the lowest order that fits; where none does, it is measured at the estimator's own sizes. Biases and
spreads are root mean squares over t > 0 and samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from validation.particle_bias import Interval, Samples, bias_size

Array = np.ndarray
Weights = dict[int, float]

TRUTH = 0  # the key of the runs of the truth among the samples
ORDERS = (1, 2, 3)


@dataclass(frozen=True)
class Part:
    """One size of an estimator: its weight, the spread of one run, and processor seconds of one run."""

    weight: float
    spread: float
    seconds: float


def combinations(sizes: Sequence[int]) -> list[Weights]:
    """Every size alone, and all pairs n, 2n and triples n, 2n, 4n among them."""
    kinds = ({1: 1.0}, {1: -1.0, 2: 2.0}, {1: 1 / 3, 2: -2.0, 4: 8 / 3})
    every = [{factor * n: w for factor, w in kind.items()} for kind in kinds for n in sizes]
    return [weights for weights in every if set(weights) <= set(sizes)]


def spread_of(x: Array) -> float:
    """Standard deviation of one run, root mean square over the entries."""
    return float(np.sqrt(x.var(axis=0, ddof=1).mean()))


def with_control(samples: Samples, controls: Samples) -> Samples:
    """f less its regression on f_0 of all training samples, whose mean is 0 at every width.

    The coefficients for one size come from the runs of all others, f_0 times sqrt(n): the mean stays what it was.
    """
    scaled = {n: (math.sqrt(n) * controls[n], math.sqrt(n) * (x - x.mean(axis=0))) for n, x in samples.items()}
    found = {}
    for n, x in samples.items():
        f_0, f = (np.concatenate([scaled[other][k] for other in scaled if other != n]) for k in (0, 1))
        found[n] = x - controls[n] @ np.linalg.lstsq(f_0, f, rcond=None)[0]
    return found


def law(samples: Samples, order: int, origin: float = math.inf) -> tuple[list[int], Array]:
    """Sizes, and the least-squares weights (order, sizes) that give a_k of E f_n - truth = sum_k a_k (1/n^k - 1/N^k).

    origin : N, the size that the truth was simulated at, where it is one of the same kind.
    """
    sizes = sorted(n for n in samples if n != TRUTH)
    design = np.array([[n**-k - origin**-k for k in range(1, order + 1)] for n in map(float, sizes)])
    noise = np.array([spread_of(samples[n]) ** 2 / len(samples[n]) for n in sizes])
    scale = np.abs(design).max(axis=0)
    whitened = design / scale / np.sqrt(noise)[:, None]
    return sizes, np.linalg.pinv(whitened) / np.sqrt(noise) / scale[:, None]


def order_of(samples: Samples, origin: float = math.inf) -> int | None:
    """The lowest order of the law that no size contradicts at the level of 95%."""
    sizes = [n for n in samples if n != TRUTH]
    for order in ORDERS:
        if order < len(sizes) and all(_misfit(samples, n, order, origin)[1] == 0.0 for n in sizes):
            return order
    return None


def _misfit(samples: Samples, n: int, order: int, origin: float) -> Interval:
    sizes, fit = law(samples, order, origin)
    powers = np.array([float(n) ** -k - origin**-k for k in range(1, order + 1)])
    rest = dict(zip(sizes, -(powers @ fit), strict=True))
    rest[n] += 1.0
    return bias_size(samples, rest | {TRUTH: -sum(rest.values())})


def bias_of(samples: Samples, weights: Weights, order: int | None, origin: float = math.inf) -> Interval:
    """Estimate and 95% interval of an estimator's bias; low = 0 where it is not resolved.

    order : of the law, raised to the number of sizes, whose lower terms the weights remove; None measures directly.
    """
    sizes = [n for n in samples if n != TRUTH]
    if order is None or max(order, len(weights)) >= len(sizes):
        return bias_size(samples, weights | {TRUTH: -1.0})
    sizes, fit = law(samples, max(order, len(weights)), origin)
    powers = [sum(w * float(n) ** -k for n, w in weights.items()) for k in range(1, len(fit) + 1)]
    means = dict(zip(sizes, (np.array(powers) @ fit).tolist(), strict=True))
    return bias_size(samples, means | {TRUTH: -sum(means.values())})


def price(parts: Sequence[Part], bias: float, error: float) -> tuple[float, list[int]] | None:
    """Least processor seconds for this error, and the runs of every size: whole numbers, at least 1.

    The best real numbers are R_n ~ |w_n| spread_n / sqrt(seconds_n); they are rounded up. None: the bias is too large.
    """
    if bias >= error:
        return None
    allowed = error**2 - bias**2
    total = sum(abs(part.weight) * part.spread * math.sqrt(part.seconds) for part in parts)
    real = [abs(part.weight) * part.spread / math.sqrt(part.seconds) * total / allowed for part in parts]
    runs = [max(1, math.ceil(count - 1e-9)) for count in real]
    return sum(count * part.seconds for count, part in zip(runs, parts, strict=True)), runs


def used(bias: Interval, favourable: bool = False) -> float:
    """The bias that counts: the estimate where it is resolved, else its upper limit; the lower limit if favourable."""
    estimate, low, high = bias
    return low if favourable else (estimate if low > 0 else high)
