"""Networks of a problem by width, its limit, and three statistics of the convergence of f.

The limit is `simulate` at M = 1024 and 4096, (4 f_4096 - f_1024) / 3 per pair of replicas, without its bias b/M.
Source of the estimators: `validation.rates`, which has tests of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from finite import train
from tpsim import Network, Problem, Training, simulate
from tpsim.parametrization import MUP, Parametrization
from validation.rates import Slope, bias, control_variates, fit_slope, spread

from .compare import check_means, mean_and_error
from .finite_limit import extrapolate

Array = np.ndarray
Seeds = dict[int, int]  # networks by width

PARTICLES = (1024, 4096)


@dataclass(frozen=True, eq=False)  # told apart by identity
class Case:
    """A problem, and the networks of which parametrization are trained on it."""

    problem: Problem
    network: Network
    training: Training
    parametrization: Parametrization = MUP


@cache
def dense(case: Case, width: int, seeds: int) -> Array:
    """f_0..f_T of independent dense networks, (seeds, T + 1, m)."""
    run = train(
        case.problem, case.network, case.training, width, case.parametrization, seeds,
        seed=31, dtype="float32", quantities=("f",),
    )  # fmt: skip
    return run.f.values


def controlled(case: Case, seeds: Seeds) -> dict[int, Array]:
    """f_1..f_T by width, with the part that f_0 explains taken out."""
    runs = {width: dense(case, width, count) for width, count in seeds.items()}
    return {width: control_variates(f[:, 1:], f[:, 0]) for width, f in runs.items()}


def matrix_free(case: Case, width: int, seeds: int) -> Array:
    """f_0..f_T of networks whose matrices are never formed, (seeds, T + 1, m)."""
    run = simulate(
        case.problem, case.network, case.training, width, seeds, noise="width", limit=case.parametrization.name,
        seed=width, progress=False, threads=1,
    )  # fmt: skip
    return run.f.values


@cache
def limit(case: Case, replicas: int) -> Array:
    """f_1..f_T in the limit, free of the bias b/M, (replicas, T, m)."""
    low, high = (
        simulate(
            case.problem, case.network, case.training, M, replicas, seed=M, progress=False, threads=1
        ).f.values[:, 1:]
        for M in PARTICLES
    )  # fmt: skip
    size, error = mean_and_error(high - low)
    moved = f"{np.abs(size).max():.1e}, {np.abs(size / error).max():.1f} s.e."
    print(f"from M = {PARTICLES[0]} to {PARTICLES[1]} the mean of f moves by up to {moved}")
    ratio = PARTICLES[1] // PARTICLES[0]
    return (ratio * high - low) / (ratio - 1)


def off(case: Case, part: str, entry: int, exponent: float = 0.0, factor: float = 1.0, right_at: int = 1) -> Case:
    """Put a mistake into one entry of the muP row: part "init" or "rate"; entry 0 first, 1 hidden, 2 last.

    With a wrong exponent the networks of width `right_at` are right: the constant is adapted, as if tuned there.
    """
    depth = case.network.depth
    wrong, factors = list(getattr(MUP, part)), np.ones(depth + 1)
    wrong[entry] += exponent
    factors[[slice(0, 1), slice(1, depth), slice(depth, None)][entry]] = factor * float(right_at) ** exponent
    network, training = case.network, case.training
    if part == "init":
        network = replace(network, init_scale=tuple(network.scales * factors))
    else:
        training = replace(training, learning_rate=tuple(training.rates(0, depth) * factors))
    row = replace(MUP, name="wrong", **{part: tuple(wrong)})
    return Case(case.problem, network, training, row)


def inside(slope: Slope, window: tuple[float, float]) -> bool:
    """Whether the whole interval lies in the window: the estimate does, and is sharp enough to mean it."""
    return window[0] <= slope.low and slope.high <= window[1]


def outside(slope: Slope, window: tuple[float, float]) -> bool:
    """Whether no part of the interval lies in the window: more than not being sure of the estimate."""
    return slope.high < window[0] or window[1] < slope.low


def show(title: str, slope: Slope) -> None:
    half = (slope.high - slope.low) / 2
    print(f"{title}: exponent {slope.estimate:.4f}, 95% +- {half:.4f}; minimum detectable effect {2 * half:.3f}")


def spread_slope(title: str, runs: list[tuple[int, Array]]) -> Slope:
    """The exponent of the pooled spread of f_0..f_T; a width may come twice."""
    estimates = [spread(f) for _, f in runs]
    slope = fit_slope([n for n, _ in runs], [s.value for s in estimates], [s.error for s in estimates])
    show(f"spread, {title}", slope)
    assert np.isfinite(slope).all()
    return slope


def bias_slope(title: str, runs: Mapping[int, Array], reference: Array) -> Slope:
    """The exponent of the pooled bias of f_1..f_T; every width has to resolve it."""
    estimates = [bias(f, reference) for f in runs.values()]
    slope = fit_slope(list(runs), [b.value for b in estimates], [b.error for b in estimates])
    print("bias:", ", ".join(f"n={n} {b.value:.2e}+-{b.error:.0e}" for n, b in zip(runs, estimates, strict=True)))
    show(f"bias, {title}", slope)
    assert all(b.resolved for b in estimates) and len(estimates) >= 3
    return slope


def check_extrapolated(title: str, runs: Mapping[int, Array], reference: Array, alpha: float) -> float:
    """Assert that networks extrapolated to 1/n = 0 agree with the limit at every step and sample.

    Level alpha over all of them. Returns the largest joint standard error.
    """
    estimate, error = extrapolate(runs)
    exact, exact_error = mean_and_error(reference)
    joint = np.hypot(error, exact_error)
    off_by = np.abs(estimate - exact) / joint
    print(f"{title}: s.e. up to {joint.max():.1e}; off by up to {off_by.max():.1f} s.e., mean {off_by.mean():.2f}")
    check_means(title, {"f": (estimate, joint)}, {"f": exact}, len(reference), alpha=alpha)
    return float(joint.max())
