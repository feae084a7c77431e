"""The limits of NTP and SP against networks of finite width: the law of f_t on samples and probes.

Oracle: dense networks in torch, thousands of seeds at widths n, 2n, 4n, extrapolated in 1/n. Control variates, of which
the expectations in the limit are known in closed form, take most of the spread away: f_0, the networks' own kernels of
f_0 and of the tangent, and their products with f_0. At width n these expectations are off by a/n, as all else is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import xarray as xr

import finite
from tests.oracles.compare import check_means, mean_and_error, remove_controls
from tests.oracles.finite_limit import WEIGHTS
from tests.oracles.levels import ALPHA, critical, detectable, spend
from tests.oracles.tangent import law, tangent_kernels
from tpsim import Network, Problem, Training, lazy, simulate
from tpsim.parametrization import appendix_a
from tpsim.tangent import Estimate, Kernel

Array = np.ndarray
Measured = dict[str, tuple[Array, Array]]  # by name: the value and its standard error

STEPS, HALF = 8, 4
SAMPLES, PROBES = slice(0, 3), slice(3, 5)
PAIRS = np.triu_indices(5)
INPUTS = 0.6 * np.random.default_rng(0).standard_normal((5, 4))
TARGETS = np.array([1.0, -1.0, 1.0])
WIDTHS, SEEDS = (32, 64, 128), 4000


@dataclass(frozen=True, eq=False)
class Case:
    """Three samples and two probes, trained for eight steps."""

    name: str  # ntp or sp
    network: Network
    training: Training
    inputs: Array

    @property
    def problem(self) -> Problem:
        return Problem(self.inputs[SAMPLES], TARGETS, self.inputs[PROBES])

    def kernels(self) -> tuple[Array, Array]:
        """Cov(f_0) and the tangent kernel in the limit, in closed form or by quadrature."""
        rates = self.training.rates(0, self.network.depth)
        return tangent_kernels(self.inputs, self.network, rates, self.name == "ntp")

    def limit(self, name: str = "") -> xr.Dataset:
        return simulate(
            self.problem, self.network, self.training, 4096, 8, record_every=HALF, progress=False, threads=1,
            limit=name or self.name,
        )  # fmt: skip


def case_of(name: str, activation: str, depth: int, rate: float = 1.0, **training) -> Case:
    network = Network(depth, activation, list(np.linspace(1.3, 1.1, depth + 1)))
    return Case(name, network, Training(STEPS, list(rate * np.linspace(0.25, 0.15, depth + 1)), **training), INPUTS)


NTP, SP = case_of("ntp", "erf", 2), case_of("sp", "erf", 2)
LOGISTIC = case_of("ntp", "erf", 2, 4.0, loss="logistic")


# Networks -------------------------------------------------------------------------------------------------------------


@cache
def extrapolated(case: Case, widths: tuple[int, ...] = WIDTHS, seeds: int = SEEDS) -> Measured:
    """Mean and covariance of f_t at t = 0, T/2, T on all five inputs, from widths n, 2n, 4n: an error O(n^-3)."""
    each = [networks(case, width, seeds) for width in widths]
    found = {}
    for name in each[0]:
        mean = sum(w * one[name][0] for w, one in zip(WEIGHTS, each, strict=True))
        variance = sum((w * one[name][1]) ** 2 for w, one in zip(WEIGHTS, each, strict=True))
        found[name] = np.asarray(mean), np.sqrt(variance)
    return found


def networks(case: Case, width: int, seeds: int) -> Measured:
    """The same at one width. Probes are samples that no batch has, so that their kernels are recorded as well."""
    batches = case.training.batches or [[0, 1, 2]] * STEPS
    training = Training(STEPS, case.training.learning_rate, case.training.loss, case.training.reduction, batches)
    run = finite.train(
        Problem(case.inputs, [*TARGETS, 1.0, 1.0]), case.network, training, width=width, parametrization=case.name,
        seeds=seeds, seed=11, dtype="float32", quantities=("kernel_x", "kernel_dh"), record_every=HALF,
    )  # fmt: skip
    f, centred = run.f.values, run.f.values - run.f.values.mean(axis=0)
    products = pairs(centred) * seeds / (seeds - 1)
    start = case.network.scales[-1] ** 2 * run.kernel_x.values[:, 0, -1][..., *PAIRS]
    controls = initial_controls(case, run)
    squares = np.concatenate([controls, pairs(f[:, 0]) - case.kernels()[0][PAIRS]], axis=1)
    return {
        "mean": mean_and_error(remove_controls(f[:, 1:], controls, np.zeros(controls.shape[1]))),
        "cov_0": mean_and_error(start[:, None]),  # E[f_0 f_0'] over the last matrix alone
        "cov": mean_and_error(remove_controls(products[:, 1:], squares, np.zeros(squares.shape[1]))),
    }


def pairs(f: Array) -> Array:
    """f_i f_j, i <= j."""
    return (f[..., :, None] * f[..., None, :])[..., *PAIRS]


def initial_controls(case: Case, run: xr.Dataset) -> Array:
    """f_0, the networks' own kernels less those of the limit, and the products of f_0 and the tangent, (seeds, k)."""
    f, forward, gradient = (run[key].values[:, 0] for key in ("f", "kernel_x", "kernel_dh"))
    covariance, tangent = case.kernels()
    gram = np.broadcast_to(case.inputs @ case.inputs.T, (len(f), 1, 5, 5))
    before = np.concatenate([gram, forward], axis=1)
    shares = np.concatenate([gradient * before[:, :-1], before[:, -1:]], axis=1)
    rates = case.training.rates(0, case.network.depth)
    if case.name == "sp":
        shares[:, 0] = 0.0
    moving = (np.einsum("l,slij->sij", rates, shares) - tangent)[:, *PAIRS]
    own = (case.network.scales[-1] ** 2 * forward[:, -1] - covariance)[:, *PAIRS]
    return np.concatenate([f, moving, own, (f[:, :, None] * moving[:, None]).reshape(len(f), -1)], axis=1)


# Comparison -----------------------------------------------------------------------------------------------------------


def check_law(title: str, found: Measured, run: xr.Dataset) -> None:
    """Assert that the networks' mean and covariance are those of the limit, on samples and on probes."""
    measured, reference = {}, {}
    for f, part in (("f", SAMPLES), ("f_probe", PROBES)):
        for what, name, steps in (
            ("mean", "mean", slice(1, None)), ("cov_0", "cov", slice(0, 1)), ("cov", "cov", slice(1, None))
        ):  # fmt: skip
            value, error = (one[:, part] if what == "mean" else square(one)[:, part, part] for one in found[what])
            for suffix in ("_se", "_draw_se"):  # of the limit's kernel, and of the draws of its law
                if f"{f}_{name}{suffix}" in run:
                    error = np.hypot(error, run[f"{f}_{name}{suffix}"].values[steps])
            measured[f"{f}_{what}"] = value, error
            reference[f"{f}_{what}"] = run[f"{f}_{name}"].values[steps]
    check_means(title, measured, reference, SEEDS)


def square(upper: Array) -> Array:
    """Symmetric matrices (..., 5, 5) from their upper triangles."""
    matrix = np.empty((*upper.shape[:-1], 5, 5))
    matrix[..., *PAIRS] = upper
    matrix[..., PAIRS[1], PAIRS[0]] = upper
    return matrix


@pytest.mark.parametrize("case", [NTP, SP, LOGISTIC], ids=["ntp", "sp", "logistic"])
def test_wide_networks_follow_the_law(case: Case) -> None:
    check_law(case.name, extrapolated(case), case.limit())


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        case_of("ntp", "silu", 3, 1.0, loss="logistic", reduction="mean", batches=[[0, 1], [2], [1, 2], [0]] * 2),
        case_of("sp", "tanh", 3, 2.0, reduction="mean"),
        case_of("ntp", "gelu", 1),
    ],
    ids=["silu minibatches", "tanh", "gelu"],
)
def test_wider_networks_follow_the_law(case: Case) -> None:
    """The same for other activations, depths and batches, with more networks of twice the width."""
    check_law(case.name, extrapolated(case, (64, 128, 256), 8000), case.limit())


def test_ntp_without_the_first_layer_is_rejected() -> None:
    """Control: the limit of SP is that of NTP with W^1 frozen."""
    with pytest.raises(AssertionError, match="f_mean"):
        check_law("ntp as sp", extrapolated(NTP), NTP.limit("sp"))


def test_sp_with_the_first_layer_is_rejected() -> None:
    with pytest.raises(AssertionError, match="f_mean"):
        check_law("sp as ntp", extrapolated(SP), SP.limit("ntp"))


def changed_limit(monkeypatch: pytest.MonkeyPatch, change: Callable[[Kernel], Kernel]) -> xr.Dataset:
    """The limit of NTP with every kernel estimate changed."""
    right = lazy.estimate

    def wrong(task, replica):
        one = right(task, replica)
        return Estimate(change(one.kernel), one.arrays)

    monkeypatch.setattr(lazy, "estimate", wrong)
    return NTP.limit()


def test_gradients_without_the_last_scale_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: D^L = Kdot^L in place of s_{L+1}^2 Kdot^L, s_{L+1} = 1.1."""
    factors = np.array([1.21, 1.21, 1.0])[:, None, None]
    run = changed_limit(monkeypatch, lambda kernel: Kernel(kernel.covariance, kernel.shares / factors))
    with pytest.raises(AssertionError, match="f_probe_mean"):
        check_law("without s_3", extrapolated(NTP), run)


def test_independent_samples_and_probes_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: f_0 on the probes independent of f_0 on the samples; only the covariance on the probes can tell."""
    same = np.arange(5)[:, None] // 3 == np.arange(5) // 3
    run = changed_limit(monkeypatch, lambda kernel: Kernel(kernel.covariance * same, kernel.shares))
    with pytest.raises(AssertionError, match="f_probe_cov"):
        check_law("independent", extrapolated(NTP), run)


# The rates of Appendix A in SP ----------------------------------------------------------------------------------------


def appendix_case() -> Case:
    """One hidden layer, d = 16: on inputs divided by sqrt(d), Appendix A's rate of W^1 is eta d / n."""
    inputs = np.random.default_rng(3).standard_normal((5, 16)) / 4.0
    network, training = appendix_a("sp", Network(1, "erf"), Training(STEPS), dimension=16, learning_rate=0.2)
    return Case("sp", network, training, inputs)


def test_appendix_a_needs_widths_beyond_the_dimension() -> None:
    """The mean of f_t is off by what W^1 does at the rate eta d / n, and that falls like 1/n; covariances as well.

    Oracle: the direction of that error, from the law in closed form with a share of W^1; the slope of its size in n is
    -1, and -1 within 1/4 (the second order is d/n = 1/8 of the first at n = 128, but for a constant).
    """
    case, widths, seeds = appendix_case(), (128, 256, 512), 3000
    check_law("Appendix A", extrapolated(case, widths, seeds), case.limit())
    rates, share = case.training.rates(0, 1), 1e-6
    laws = [
        law(*tangent_kernels(case.inputs, case.network, rates * [part, 1.0], True), case.problem, case.training)[0][-1]
        for part in (0.0, share)
    ]
    direction = (laws[1] - laws[0]) / share  # times 1/n: the first order
    direction /= direction @ direction
    off, errors = [], []
    for width in widths:
        mean, error = (value[-1] for value in networks(case, width, seeds)["mean"])
        off.append(width * direction @ (mean - laws[0]))
        errors.append(width * np.abs(direction) @ error)  # whatever the correlations of the inputs' errors
    slope = np.log(off[-1] / off[0]) / np.log(widths[-1] / widths[0]) - 1
    error = float(np.hypot(errors[0] / off[0], errors[-1] / off[-1]) / np.log(widths[-1] / widths[0]))
    print(
        f"error of the mean over that of W^1 alone {np.round(off, 3)}, slope of the error {slope:.3f}; "
        f"minimum detectable effect {detectable() * error:.3f}"
    )
    assert abs(slope + 1.0) + critical() * error < 0.25  # the second order included
    spend(ALPHA)
