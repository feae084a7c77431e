"""Whether statistics of the tests have the law that their levels assume: each family with 200 seeds of the engine.

    python -m tests.null_statistics [--seeds 200] [--only WORD] [--output FILE.json]

A test rejects where the largest of its statistics exceeds a critical value of the normal law, or of Student's. Here the
same statistic of a right engine is formed anew with every seed, at sizes that are smaller where its law is the same:

    worst      how often the test itself would reject at 5% and 1%: by Bonferroni at most that often
    single     one of its entries, the same for all seeds: its p-values are uniform, or larger (careful degrees of
               freedom). One-sided Kolmogorov-Smirnov distance, sup of (share of p-values below u) - u
    entries    all of its entries: share below 1%, with its standard error over seeds

A family is as claimed if none of the first three is more than chance explains at LEVEL each.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import xarray as xr
from scipy.stats import binom, chi2, kstest, norm
from scipy.stats import t as student

import finite
from tests.oracles import quadrature
from tests.oracles.compare import mean_and_error, richardson
from tests.oracles.kernels import initial_kernels
from tests.oracles.problems import mean_field_case, problem_of
from tests.oracles.same_law import log_std_and_error
from tests.test_core import moments
from tests.test_lazy import PROBLEM, closed_moments, initial_moments, network_of, pooled, rates_of, run_of
from tests.test_statistics import log_variance
from tpsim import Network, Notice, Problem, Training, simulate
from tpsim.core import TILE
from tpsim.core.noise import NormalSource
from validation.stationary import _two_sides

Array = np.ndarray
P = Array  # two-sided p-values of all entries of one test, (entries,)

LEVEL = 1e-4
QUIET = {"progress": False, "threads": 1}


def from_t(estimate: Array, error: Array, freedom: float | None = None) -> P:
    """Two-sided p-values of estimate / error; entries without error, which are exact, are left out."""
    z = np.abs(np.ravel(estimate)) / np.maximum(np.ravel(error), 1e-300)
    z = z[np.ravel(error) > 1e-14]
    return 2 * (norm.sf(z) if freedom is None else student.sf(z, freedom))


# Families: seed -> p-values -------------------------------------------------------------------------------------------


def closed_forms(seed: int) -> P:
    """Kernels of h, x, dh and means at t = 0, three layers; R = 16 at M and 4 M, extrapolated; Student, 15."""
    problem, network = problem_of(3, size=1.5), Network(3, "erf", [1.2, 1.1, 0.9, 1.3])
    exact = initial_kernels(problem, network)
    runs = [simulate(problem, network, Training(0, 0.1), M, 16, seed=10 * seed + k, **QUIET)
            for k, M in enumerate((256, 1024))]  # fmt: skip
    found = [richardson(*(run[name].values[:, 0] for run in runs), ratio=4) for name in exact]
    off = np.concatenate([np.ravel(mean - exact[name]) for name, (mean, _) in zip(exact, found, strict=True)])
    return from_t(off, np.concatenate([np.ravel(error) for _, error in found]), 15)


def lazy_kernels(seed: int) -> P:
    """Kernels and the tangent kernel of NTP against closed forms; R = 16; Student, 15."""
    network, training = network_of("relu", 2), Training(0, rates_of(2))
    run = run_of(network, training, "ntp", particles=1024, replicas=16, seed=seed)
    exact, found = closed_moments(PROBLEM, network, training, True), initial_moments(run)
    off = np.concatenate([np.ravel(mean - exact[name]) for name, (mean, _) in found.items()])
    return from_t(off, np.concatenate([np.ravel(error) for _, error in found.values()]), 15)


def lazy_replicas(seed: int) -> P:
    """Replicas of f_0 and f_T of NTP, made white by the law that the run states; R = 300; Student."""
    run = run_of(network_of("tanh", 1), Training(2, rates_of(1)), "ntp", particles=64, replicas=300, sobol=False,
                 seed=seed)  # fmt: skip
    start = np.concatenate([run.f.values[:, 0], run.f_probe.values[:, 0]], axis=1)
    u = np.linalg.solve(np.linalg.cholesky(pooled(run)[0]), start.T).T
    mean, error = mean_and_error(u)
    second, second_error = mean_and_error((u[:, :, None] * u[:, None])[:, *np.triu_indices(u.shape[1])])
    unit = np.eye(u.shape[1])[np.triu_indices(u.shape[1])]
    return from_t(np.concatenate([mean, second - unit]), np.concatenate([error, second_error]), 299)


RUNS: dict[int, xr.Dataset] = {}  # of `trained`, which several families look at
CASE = (
    Problem([[1.0, 0.0], [0.5, 1.0], [-0.3, 0.8]], [1.0, -1.0, 0.5], [[0.4, 0.4], [-1.0, 0.3]]),
    Network(3, "silu", [1.3, 1.2, 1.2, 1.0]),
    Training(3, 0.3, reduction="mean"),
)


def trained(seed: int) -> xr.Dataset:
    """40 replicas of 512 particles, three steps, L = 3."""
    if seed not in RUNS:
        RUNS[seed] = simulate(*CASE, 512, 40, seed=seed, quantities=("f_probe", "kernel_x"), **QUIET)
    return RUNS[seed]


def left_one_out(seed: int, name: str) -> P:
    """Mean of 16 replicas against that of all other seeds, whose error is known and small; Student, 15.

    As in the comparisons with networks: the reference has the same limit and bias, and an error of its own.
    """
    ours = trained(seed)[name].values[:16, 1:]
    others = np.array([run[name].values[:16, 1:].mean(axis=0) for k, run in RUNS.items() if k != seed])
    mean, error = mean_and_error(ours)
    reference, reference_error = mean_and_error(others)
    return from_t(mean - reference, np.hypot(error, reference_error), 15)


def output(seed: int) -> P:
    """f_1..f_T at the training inputs."""
    return left_one_out(seed, "f")


def held_out(seed: int) -> P:
    """f_1..f_T on two held-out points, by replay."""
    return left_one_out(seed, "f_probe")


def trained_kernels(seed: int) -> P:
    """Kernels of x after the first step, and later ones."""
    return left_one_out(seed, "kernel_x")


def two_samples(seed: int) -> P:
    """f_1..f_T of two independent sets of 20 replicas; Student, 38."""
    a, b = np.split(trained(seed)["f"].values[:, 1:], 2)
    (x, x_error), (y, y_error) = mean_and_error(a), mean_and_error(b)
    return from_t(x - y, np.hypot(x_error, y_error), 38)


def log_variances(seed: int) -> P:
    """log of the variance of f_T over 40 replicas, of two seeds, jackknife; normal."""
    (a, a_error), (b, b_error) = (log_variance(trained(k)["f"].values[:, -1]) for k in (2 * seed, 2 * seed + 1))
    return from_t(np.array([a - b]), np.array([np.hypot(a_error, b_error)]))


def same_law(seed: int) -> P:
    """Means and log standard deviations of f and kernels: 150 lazy networks of width 16, 600 dense; normal."""
    problem, network = problem_of(3, size=1.0), Network(2, "tanh", [1.0, 1.2, 0.9])
    training = Training(3, [0.3, 0.4, 0.2], reduction="mean")
    lazy = simulate(problem, network, training, 16, 150, noise="width", seed=seed, **QUIET)
    dense = finite.train(
        problem, network, training, 16, seeds=600, seed=seed, quantities=("f", "kernel_h", "kernel_x"), progress=False
    )
    off, errors = [], []
    for run_of_statistics in (lambda run: run.f.values, lambda run: np.log(np.einsum("rtlii->rtli", run.kernel_x))):
        a, b = run_of_statistics(lazy), run_of_statistics(dense)
        for moment in (mean_and_error, log_std_and_error):
            (x, x_error), (y, y_error) = moment(a), moment(b)
            off.append(np.ravel(x - y))
            errors.append(np.ravel(np.hypot(x_error, y_error)))
    return from_t(np.concatenate(off), np.concatenate(errors))


def first_output(seed: int) -> P:
    """f_0 of 64 networks of width 64: chi^2 of their squares over the variance that their kernels say."""
    run = simulate(*CASE[:2], Training(0), 64, 64, "width", seed=seed, quantities=("kernel_x",), **QUIET)
    variance = np.einsum("rii->ri", run.kernel_x.values[:, 0, -1])[:, 0] * CASE[1].scales[-1] ** 2 / 64
    statistic = float((run.f.values[:, 0, 0] ** 2 / variance).sum())
    return np.array([2 * min(chi2.cdf(statistic, 64), chi2.sf(statistic, 64))])


def wishart(seed: int) -> P:
    """<v, (W'W)^k v>, k = 1..3, of 100 lazy and 400 dense matrices of width 24; normal."""
    n, count = 24, 100
    lazy = np.array([moments("width", n, count * seed + k)[:3] for k in range(count)])
    rng, dense = np.random.default_rng(seed), np.empty((4 * count, 3))
    for row in dense:
        G, v = rng.standard_normal((n, n)) / np.sqrt(n), rng.standard_normal(n)
        y = v
        for k in range(3):
            y = G.T @ (G @ y)
            row[k] = v @ y / n
    (x, x_error), (y, y_error) = mean_and_error(lazy), mean_and_error(dense)
    return from_t(x - y, np.hypot(x_error, y_error))


def read_out(seed: int) -> P:
    """The update of the read-out between two halves of 8 replicas, from particles and from kernels; Student, 6."""
    problem, training = Problem(CASE[0].inputs, CASE[0].targets), Training(4, 0.2)
    run = simulate(problem, Network(2), training, 256, 8, seed=seed, snapshots=[0, 1, 2, 3], **QUIET)
    a, b = np.split(_two_sides(run, training)[0], 2)[0], np.split(_two_sides(run, training)[1], 2)[1]
    pooled_variance = (a.var(axis=0, ddof=1) + b.var(axis=0, ddof=1)) / 2
    return from_t(a.mean(axis=0) - b.mean(axis=0), np.sqrt(pooled_variance / 2), 6)


def streams(seed: int) -> P:
    """Draws of 32 neighbouring keys: Kolmogorov-Smirnov against N(0, 1), and correlations of neighbours; normal."""
    source = NormalSource(2 * TILE, (seed, 0, 1))
    z = np.array([source.pseudo_random((2, 0, step, i)) for step in range(4) for i in range(8)]).reshape(-1, TILE)
    lags = [float((z[lag:] * z[:-lag]).mean()) * np.sqrt(z[lag:].size) for lag in (1, 2, 8, 16)]
    return np.concatenate([[kstest(z.ravel(), "norm").pvalue], from_t(np.array(lags), np.ones(4))])


@cache
def exact_training() -> tuple[tuple[Problem, Network, Training], dict[str, Array]]:
    """A case of one hidden layer, and its solution."""
    case = mean_field_case("tanh", False)
    return case, quadrature.mean_field(*case)


def mean_field(seed: int) -> P:
    """One hidden layer, f_t and kernels after 10 steps against quadrature; R = 16 at M and 4 M; Student, 15."""
    case, exact = exact_training()
    runs = [simulate(*case, M, 16, seed=10 * seed + k, **QUIET) for k, M in enumerate((512, 2048))]
    off, errors = [], []
    for name in ("f", "kernel_h", "kernel_x"):
        mean, error = richardson(*(run[name].values for run in runs), ratio=4)
        off.append(np.ravel(mean - exact[name]))
        errors.append(np.ravel(error))
    return from_t(np.concatenate(off), np.concatenate(errors), 15)


Family = Callable[[int], P]
FAMILIES: dict[str, tuple[Family, str]] = {
    "kernels at t = 0 against closed forms": (closed_forms, "test_exact::test_initial_kernels"),
    "training against quadrature": (mean_field, "test_exact::test_one_hidden_layer_against_quadrature, one_step"),
    "f_t against a reference": (output, "test_wrong_engines, test_misprints, test_convergence (extrapolation)"),
    "f_t on held-out points": (held_out, "test_width::test_probes_of_the_limit_on_held_out_points"),
    "kernels after training": (trained_kernels, "test_ip, test_reference, test_pathwise"),
    "two sets of replicas": (two_samples, "test_symmetries::test_permuting_samples_is_equal_in_law_only"),
    "log variances of f": (log_variances, "test_statistics, test_convergence and test_converge (spread)"),
    "same law as dense networks": (same_law, "test_width, test_width_parametrizations, test_converge"),
    "f_0 at finite width": (first_output, "test_run::test_a_zero_output_at_the_start_..."),
    "moments of the lazy matrix": (wishart, "test_core::test_moments_in_width_mode_..."),
    "update of the read-out": (read_out, "test_stationary::test_the_update_of_the_read_out_..."),
    "kernels of NTP": (lazy_kernels, "test_lazy::test_kernels_are_those_of_the_closed_forms, test_examples"),
    "replicas of NTP": (lazy_replicas, "test_lazy::test_replicas_follow_the_law"),
    "streams of draws": (streams, "test_noise, test_core::test_draws_..."),
}


# Judgement ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What a family has shown; shares and distances in the order of the columns of the table."""

    family: str
    tests: str
    seeds: int
    entries: int
    worst_5: int
    worst_1: int
    most_5: int
    most_1: int
    distance: float
    distance_p: float
    entries_1: float
    entries_1_se: float
    seconds: float

    @property
    def as_claimed(self) -> bool:
        return self.worst_5 <= self.most_5 and self.worst_1 <= self.most_1 and self.distance_p > LEVEL


def judge(family: str, tests: str, p: Sequence[P], seconds: float) -> Row:
    """The row of a family from the p-values of every seed."""
    worst = np.array([min(1.0, len(one) * one.min()) for one in p])
    single = np.array([one[-1] for one in p])
    below = np.array([(one < 0.01).mean() for one in p])
    test = kstest(single, "uniform", alternative="greater")  # sup of F_n(u) - u: more small p-values than claimed
    most = [int(binom.isf(LEVEL, len(p), level)) for level in (0.05, 0.01)]
    return Row(
        family, tests, len(p), max(map(len, p)), int((worst <= 0.05).sum()), int((worst <= 0.01).sum()), *most,
        float(test.statistic), float(test.pvalue), float(below.mean()),
        float(below.std(ddof=1) / np.sqrt(len(p))) if len(p) > 1 else np.nan, round(seconds, 1),
    )  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = [
        "| statistic | entries | seeds | rejects at 5% (at most) | at 1% (at most) | KS, p | entries below 1% | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.family} | {row.entries} | {row.seeds} | {row.worst_5} ({row.most_5}) | "
            f"{row.worst_1} ({row.most_1}) | {row.distance:.3f}, {row.distance_p:.2g} | "
            f"{100 * row.entries_1:.2f}% +- {100 * row.entries_1_se:.2f}% | "
            f"{'as claimed' if row.as_claimed else 'NOT AS CLAIMED'} |"
        )
    return "\n".join(lines)


def run_family(name: str, seeds: int) -> Row:
    """All seeds of one family; seeds start far from those of the tests."""
    family, tests = FAMILIES[name]
    start, count = time.perf_counter(), seeds
    if family in (output, held_out, trained_kernels):
        for seed in range(seeds):
            trained(seed)
    if family is log_variances:
        count = seeds // 2  # pairs
    offset = 0 if family in (output, held_out, trained_kernels, two_samples, log_variances) else 100_000
    p = [family(offset + seed) for seed in range(count)]
    return judge(name, tests, p, time.perf_counter() - start)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; exit code 1 where a family is not as claimed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--only", default="", metavar="WORD", help="families whose name has it")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore", Notice)
    rows = []
    for name in FAMILIES:
        if options.only in name:
            rows.append(run_family(name, options.seeds))
            print(f"{name}: {rows[-1].seconds:.0f} s, {'' if rows[-1].as_claimed else 'NOT '}as claimed", flush=True)
    print(table(rows))
    if options.output is not None:
        options.output.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 0 if all(row.as_claimed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
