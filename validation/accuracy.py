"""How well the errors that `simulate(target_error=...)` claims are kept.

    python -m validation.accuracy [--seeds N] [--output FILE.json]

Every seed is an independent search. Its actual error is the distance of its mean f from that of a reference with more
particles and replicas and of another seed, in root mean square over recorded steps and samples, less the standard error
of the reference. Over seeds its mean square must be below that of the target, and below that of what was claimed.

Source: none; a property of this implementation. The results of a run are in docs/accuracy.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from tpsim import Network, Problem, Training, simulate

from .particle_bias import gaussian_problem

Array = np.ndarray

REFERENCE_SEED = 10**6
SEEDS = 12


@dataclass(frozen=True)
class Case:
    """A problem, the target, and the particles and replicas of its reference."""

    name: str
    problem: Problem
    network: Network
    training: Training
    target: float
    particles: int
    replicas: int


@dataclass(frozen=True)
class Row:
    """Root mean squares over seeds.

    Parameters
    ----------
    target, claimed : what was asked for, and the attribute `error`.
    actual, actual_se : distance from the limit and its standard error over seeds.
    standard_error, bias, truncation : the terms of `claimed`.
    reference_se : standard error of the reference, which `actual` is corrected for.
    missed : seeds whose own distance is above the target.
    sizes : "R x M" of the final runs, with the number of seeds.
    seconds : of one search, on average.
    """

    name: str
    target: float
    claimed: float
    actual: float
    actual_se: float
    standard_error: float
    bias: float
    truncation: float
    reference_se: float
    seeds: int
    missed: int
    sizes: dict[str, int]
    seconds: float


def cases() -> list[Case]:
    """Two and three hidden layers, two activations, constants as in docs/particle_bias.md."""

    def train(steps: int, rate: float) -> Training:
        return Training(steps, rate, reduction="mean")

    small = gaussian_problem(4), Network(2, "tanh"), train(10, 0.3)
    wide = gaussian_problem(6), Network(2, "tanh"), train(15, 0.5)
    deep = gaussian_problem(4), Network(3, "silu", np.sqrt(2)), train(10, 0.1)
    return [
        Case("L=2 tanh, m=4, T=10", *small, 2e-3, 16384, 16),
        Case("L=3 silu, m=4, T=10", *deep, 2e-3, 8192, 16),
        Case("L=2 tanh, m=6, T=15", *wide, 3e-3, 8192, 16),
    ]


def measure(case: Case, seeds: Sequence[int]) -> Row:
    """Run the reference and every search."""
    problem = case.problem, case.network, case.training
    limit = simulate(*problem, case.particles, case.replicas, seed=REFERENCE_SEED, progress=False, threads=1)
    reference = limit.f.values[:, 1:]
    noise = float(reference.var(axis=0, ddof=1).mean()) / case.replicas
    squares, claims, terms, sizes = [], [], [], dict[str, int]()
    start = time.perf_counter()
    for seed in seeds:
        run = simulate(*problem, seed=seed, target_error=case.target, progress=False, threads=1)
        squares.append(float(np.mean((run.f.values[:, 1:].mean(axis=0) - reference.mean(axis=0)) ** 2)))
        claims.append(run.attrs["error"])
        found = json.loads(run.attrs["accuracy"])
        terms.append([found[name] for name in ("standard_error", "bias", "truncation")])
        size = f"{run.sizes['replica']} x {run.attrs['particles']}"
        sizes[size] = sizes.get(size, 0) + 1
    seconds = (time.perf_counter() - start) / len(seeds)
    mean = float(np.mean(squares)) - noise
    error = float(np.std(squares, ddof=1)) / np.sqrt(len(seeds))
    actual = float(np.sqrt(max(mean, 0.0)))
    se, bias, truncation = np.sqrt(np.mean(np.square(terms), axis=0)).tolist()
    missed = int(np.sum(np.array(squares) - noise > case.target**2))
    claimed = float(np.sqrt(np.mean(np.square(claims))))
    error = error / (2 * max(actual, 1e-300))  # of the root
    return Row(
        case.name, case.target, claimed, actual, error, se, bias, truncation, float(np.sqrt(noise)), len(seeds), missed,
        sizes, seconds,
    )  # fmt: skip


def table(rows: list[Row]) -> str:
    """The rows as markdown."""
    lines = [
        "| problem | target | claimed | actual | s.e., bias, truncation claimed | R x M (seeds) | missed | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        sizes = ", ".join(f"{size} ({count})" for size, count in row.sizes.items())
        terms = f"{row.standard_error:.1e}, {row.bias:.1e}, {row.truncation:.1e}"
        lines.append(
            f"| {row.name} | {row.target:.1e} | {row.claimed:.1e} | {row.actual:.1e} +- {row.actual_se:.0e} | {terms} "
            f"| {sizes} | {row.missed} of {row.seeds} | {row.seconds:.1f} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Run all cases, print the table, and write the numbers."""
    parser = argparse.ArgumentParser(prog="python -m validation.accuracy", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--case", type=int, action="append", help="of 0, 1, 2; default: all")
    parser.add_argument("--output", metavar="FILE.json")
    options = parser.parse_args(argv)
    rows = []
    for case in (case for k, case in enumerate(cases()) if options.case is None or k in options.case):
        rows.append(measure(case, range(options.seeds)))
        print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(rows))
    if options.output:
        with open(options.output, "w", encoding="utf-8") as file:
            json.dump([asdict(row) for row in rows], file, indent=1)


if __name__ == "__main__":
    main()
