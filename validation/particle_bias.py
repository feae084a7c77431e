"""The bias in M of `matched` noise, which the standard error over replicas does not contain.

    python -m validation.particle_bias [--quick] [--output FILE.json]

A run at M particles estimates E[f_M] = f + b/M + ... and its replicas say nothing of b. Here replicas at several M do:
the bias at M is the mean at M less the limit that the *other* M extrapolate to (weighted least squares on 1 and 1/M).

Source: none; a property of this implementation. The results of a run are in docs/particle_bias.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtr, ndtri, stdtrit

from tpsim import Network, Notice, Problem, Training, simulate

Array = np.ndarray
Samples = dict[int, Array]  # M -> (replicas, entries)
Interval = tuple[float, float, float]  # estimate, low, high

DEFAULT_REPLICAS = 8  # of `simulate`: its standard error is the spread of one replica over sqrt(8)
LEVEL = 0.95


@dataclass(frozen=True)
class Case:
    """A problem, and how many replicas are run at each M."""

    name: str
    problem: Problem
    network: Network
    training: Training
    replicas: dict[int, int]


@dataclass(frozen=True)
class Row:
    """The bias of one quantity at one M; all sizes are root mean squares over its entries.

    Parameters
    ----------
    spread : standard deviation of one replica.
    bias, low, high : estimate, noise floor subtracted, and its interval at level 0.95; low = 0 where it is not seen.
    law : |b| / M of the fit f + b/M to all M; law_low, law_high its interval.
    verdict : "below" or "above" the standard error of 8 replicas, where the interval is; "below by b/M" or
        "above by b/M", where only that of the law is; else "not resolved".
    """

    particles: int
    replicas: int
    spread: float
    bias: float
    low: float
    high: float
    law: float
    law_low: float
    law_high: float
    verdict: str

    @property
    def standard_error(self) -> float:
        return self.spread / np.sqrt(DEFAULT_REPLICAS)


def gaussian_problem(m: int, seed: int = 0) -> Problem:
    """m Gaussian inputs of dimension m and norm about 1, targets alternately +-1."""
    inputs = np.random.default_rng(seed).standard_normal((m, m)) / np.sqrt(m)
    return Problem(inputs, np.where(np.arange(m) % 2, -1.0, 1.0))


def cases(quick: bool = False) -> list[Case]:
    """Three problems, most replicas where they are cheap and b/M is large, and the first once more at small M."""
    sizes = (1024, 2048, 4096) if quick else (1024, 2048, 4096, 8192, 16384)
    small, large = ((16, 12, 8), (8, 6, 4)) if quick else ((256, 128, 64, 32, 16), (96, 48, 24, 8, 4))
    counts, few = dict(zip(sizes, small, strict=True)), dict(zip(sizes, large, strict=True))
    smallest = {256: 48, 512: 24, 1024: 12} if quick else {256: 600, 512: 300, 1024: 150, 4096: 60}

    def train(steps: int, rate: float) -> Training:
        return Training(steps, rate, reduction="mean")

    return [
        Case("L=2 tanh, m=4, T=10", gaussian_problem(4), Network(2, "tanh"), train(10, 0.3), counts),
        Case("L=2 tanh, m=10, T=25", gaussian_problem(10), Network(2, "tanh"), train(25, 0.5), few),
        Case("L=3 silu, m=6, T=30", gaussian_problem(6), Network(3, "silu", np.sqrt(2)), train(30, 0.1), few),
        Case("L=2 tanh, m=4, T=10, small M", gaussian_problem(4), Network(2, "tanh"), train(10, 0.3), smallest),
    ]


def measure(case: Case, sobol: bool) -> dict[str, Samples]:
    """Run every replica; entries are (step, sample) of f and (step, layer, sample, sample2) of E[Z^x Z^x'], t > 0."""
    found: dict[str, Samples] = {"f": {}, "kernel_x": {}}
    every = max(1, case.training.steps // 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # more arrays than half of M: what is measured here
        for particles, replicas in case.replicas.items():
            run = simulate(
                case.problem, case.network, case.training, particles, replicas, sobol=sobol, seed=particles,
                record_every=every, joint_every=case.training.steps, progress=False, threads=1,
            )  # fmt: skip
            for name, samples in found.items():
                samples[particles] = run[name].values[:, 1:].reshape(replicas, -1)
    return found


def estimate(samples: Samples) -> list[Row]:
    """Return one `Row` per M, from at least three M.

    Error: the intervals take the noise as equal in nu = (tr C)^2 / tr C^2 directions (Satterthwaite), C its covariance.
    """
    sizes = sorted(samples)
    noise = np.array([_variance(samples[M]) / len(samples[M]) for M in sizes])
    _, slope = _fit_weights(sizes, noise)
    rows = []
    for k, M in enumerate(sizes):
        others = np.delete(np.arange(len(sizes)), k)
        intercept, _ = _fit_weights([sizes[j] for j in others], noise[others])
        weights = np.zeros(len(sizes))
        weights[k], weights[others] = 1.0, -intercept
        size = bias_size(samples, dict(zip(sizes, weights, strict=True)))
        law = bias_size(samples, dict(zip(sizes, slope / M, strict=True)))
        spread = float(np.sqrt(_variance(samples[M])))
        rows.append(Row(M, len(samples[M]), spread, *size, *law, _verdict(spread, size, law)))
    return rows


def _verdict(spread: float, size: Interval, law: Interval) -> str:
    standard_error = spread / np.sqrt(DEFAULT_REPLICAS)
    for (_, low, high), source in ((size, ""), (law, " by b/M")):
        if high < standard_error:
            return "below" + source
        if low > standard_error:
            return "above" + source
    return "not resolved"


def _variance(x: Array) -> float:
    """Variance of one replica, averaged over the entries."""
    return float(x.var(axis=0, ddof=1).mean())


def _fit_weights(sizes: Sequence[int], noise: Array) -> tuple[Array, Array]:
    """Weights of the means in the least-squares estimates of f and of b in f + b/M."""
    design = np.stack([np.ones(len(sizes)), 1.0 / np.array(sizes)], axis=1)
    intercept, slope = np.linalg.solve(design.T @ (design / noise[:, None]), (design / noise[:, None]).T)
    return intercept, slope


def bias_size(samples: Samples, weights: dict[int, float]) -> Interval:
    """Root mean square of E[sum_M w_M mean_M]: sqrt(|estimate|^2 - tr C), and its interval.

    The noise floor is tr C, C the covariance of the estimate.
    """
    total = sum(w * samples[M].mean(axis=0) for M, w in weights.items())
    scaled = {M: w * (samples[M] - samples[M].mean(axis=0)) for M, w in weights.items()}
    stacked = np.concatenate([x / np.sqrt(len(x) * (len(x) - 1)) for x in scaled.values()])  # C = stacked' stacked
    squares = {M: float((x**2).sum()) / len(x) / (len(x) - 1) for M, x in scaled.items()}
    traces = [(trace, len(samples[M])) for M, trace in squares.items()]
    return size_interval(np.asarray(total), traces, float(((stacked @ stacked.T) ** 2).sum()))


def size_interval(estimate: Array, traces: list[tuple[float, int]], norm: float, level: float = LEVEL) -> Interval:
    """The interval of a root mean square, from an estimate whose noise has a covariance C.

    traces : tr C of each of the means that the estimate is a sum of, with the number of its replicas.
    norm : tr C^2.

    |estimate|^2 nu / tr C is taken as noncentral chi-square with nu = (tr C)^2 / tr C^2 degrees of freedom, whose
    noncentrality is inverted. C is enlarged as Student's t is wider than the normal.
    """
    trace = sum(part for part, _ in traces)
    nu = trace**2 / norm
    welch = trace**2 / sum(part**2 / (count - 1) for part, count in traces)
    upper = (1 + level) / 2
    unit = trace / nu * float(stdtrit(welch, upper) / ndtri(upper)) ** 2
    square = float(np.sum(estimate**2))
    low, high = (
        float(np.sqrt(unit * _noncentrality(square / unit, nu, p) / np.size(estimate))) for p in (upper, 1 - upper)
    )
    return float(np.sqrt(max(square - trace, 0.0) / np.size(estimate))), low, high


def _noncentrality(square: float, nu: float, probability: float) -> float:
    """The noncentrality at which `square` is the quantile `probability` of noncentral chi-square; 0 if there is none.

    Source: Patnaik 1949: noncentral chi-square (nu, x) is about (nu + 2x)/(nu + x) chi-square with
    (nu + x)^2 / (nu + 2x) degrees of freedom.
    """

    def excess(size: float) -> float:  # x = size^2; the distribution of the square root has about unit spread
        x = size**2
        return float(chdtr((nu + x) ** 2 / (nu + 2 * x), square * (nu + x) / (nu + 2 * x))) - probability

    if excess(0.0) <= 0.0:
        return 0.0
    return float(brentq(excess, 0.0, np.sqrt(square) + 10.0 * np.sqrt(nu + 1.0))) ** 2


def table(rows: list[tuple[str, bool, Row]]) -> str:
    """The rows of one quantity as markdown."""
    lines = [
        "| problem | Sobol | M | R | spread | bias (95%) | b/M (95%) | bias / spread | bias / s.e. of 8 | verdict |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, sobol, row in rows:
        best = row.bias if row.low > 0 else row.high
        sign = "" if row.low > 0 else "< "
        lines.append(
            f"| {name} | {'on' if sobol else 'off'} | {row.particles} | {row.replicas} | {row.spread:.1e} "
            f"| {_interval(row.bias, row.low, row.high)} | {_interval(row.law, row.law_low, row.law_high)} "
            f"| {sign}{best / row.spread:.2f} | {sign}{best / row.standard_error:.2f} | {row.verdict} |"
        )
    return "\n".join(lines)


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.1e} ({low:.1e} .. {high:.1e})" if low > 0 else f"< {high:.1e}"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print the tables of docs/particle_bias.md."""
    parser = argparse.ArgumentParser(description="The bias in M of `matched` noise, measured.")
    parser.add_argument("--quick", action="store_true", help="three M and few replicas")
    parser.add_argument("--output", metavar="FILE.json", help="write all rows here")
    arguments = parser.parse_args(argv)
    found: dict[str, list[tuple[str, bool, Row]]] = {"f": [], "kernel_x": []}
    for case in cases(arguments.quick):
        for sobol in (False, True):
            start = time.perf_counter()
            for quantity, samples in measure(case, sobol).items():
                found[quantity] += [(case.name, sobol, row) for row in estimate(samples)]
            print(f"{case.name}, sobol={sobol}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    for quantity, rows in found.items():
        print(f"\n### {quantity}\n\n{table(rows)}")
    if arguments.output:
        entries = [
            {"quantity": q, "problem": n, "sobol": s} | asdict(r) for q, rows in found.items() for n, s, r in rows
        ]
        with open(arguments.output, "w", encoding="utf-8") as file:
            json.dump(entries, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
