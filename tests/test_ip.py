"""The limit of the integrable parametrization (IP): `simulate(limit="ip")` against finite IP networks, and exactly.

Oracles: dense networks whose hidden matrices have entries of size 1/n, extrapolated to infinite width; the recursion in
coordinates for linear networks; and two identities of the limit (nothing moves for L >= 3 and phi(0) = 0; one step
makes Z^{h^2} rank one).

Powers of n: hidden IP matrices are those of muP with s_l -> s_l n^-1/2. The law of (W^2, .., W^L) does not change when
any of them changes sign, so that E f_t, a smooth function of their size, is one of its square s_l^2 / n: as in muP it
is f_t + a/n + b/n^2 + ..., with larger coefficients (the square itself is 1/n), for which the widths here are
twice those of `finite_limit`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import xarray as xr

from finite import train
from tests.oracles.compare import check_means, mean_and_error, remove_controls
from tests.oracles.finite_limit import WEIGHTS
from tests.oracles.functions import resolve
from tests.oracles.kernels import initial_kernels
from tests.oracles.linear import deep_linear
from tests.oracles.problems import problem_of
from tpsim import Network, Notice, Problem, Training, simulate
from tpsim.parametrization import TABLE_2, Parametrization

Array = np.ndarray
IP = TABLE_2["ip"]
WIDTHS = (64, 128, 256)
SEEDS = 1000
REPLICAS, PARTICLES = 32, 2048
ROUNDING = 1e-10
NAMES = ("f", "kernel_h", "kernel_x")
INPUTS = [[1.0, 0.0], [0.5, 1.0], [-0.3, 0.8]]


@dataclass(frozen=True)
class Case:
    problem: Problem
    network: Network
    training: Training

    def __hash__(self) -> int:
        return id(self)


# Sigmoid at L = 3 moves only where the error signals do not sum to zero (see below): all targets are positive, and What
# is slow, so that the features and not the readout learn them.
CASES = {
    "tanh-2": Case(Problem(INPUTS, [1.0, -1.0, 0.5]), Network(2, "tanh", 1.3), Training(5, 0.5, reduction="mean")),
    "silu-2-minibatch": Case(
        Problem(INPUTS, [1.0, -1.0, 0.5]),
        Network(2, "silu", [1.3, 1.0, 1.2]),
        Training(5, [0.5, 0.6, 0.4], batches=[[0, 1], [2], [1, 2], [0], [0, 1, 2]], reduction="mean"),
    ),
    "sigmoid-3": Case(
        Problem(INPUTS, [2.0, 0.5, 1.0]),
        Network(3, "sigmoid", [2.0, 1.0, 1.0, 4.0]),
        Training(5, [4.0, 8.0, 8.0, 0.1], reduction="mean"),
    ),
}


@cache
def extrapolated(case: Case, parametrization: Parametrization, seeds: int) -> dict[str, tuple[Array, Array]]:
    """Mean and standard error, in the limit, of every entry at t >= 1: weights cancel 1/n and 1/n^2.

    Control variates: f_0, of mean 0 at every width, and its square, of mean O(1/n); the kernel of x^1_0, whose mean is
    that of the limit; and that of dh^L_0, of mean s_{L+1}^2 phi'(0)^2 + O(1/n), since h^L_0 = O(n^-1/2).
    """
    m, network = case.problem.samples, case.network
    pairs = np.triu_indices(m)
    slope = float(resolve(network.activation).dphi(np.zeros(1))[0])
    first = initial_kernels(case.problem, network)["kernel_x"][0][pairs]
    exact = np.concatenate([np.zeros(m + 1), first, [(network.scales[-1] * slope) ** 2]])
    total = {name: [0.0, 0.0] for name in NAMES}
    for width, weight in zip(WIDTHS, WEIGHTS, strict=True):
        run = train(
            case.problem, network, case.training, width=width, seeds=seeds, parametrization=parametrization,
            quantities=(*NAMES, "kernel_dh"), seed=2025, dtype="float32",
        )  # fmt: skip
        first, last = run.kernel_x.values[:, 0, 0][:, *pairs], run.kernel_dh.values[:, 0, -1, 0, :1]
        f = run.f.values[:, 0]
        known = np.concatenate([f, f.mean(axis=1, keepdims=True) ** 2, first, last], axis=1)
        for name, sums in total.items():
            mean, error = mean_and_error(remove_controls(run[name].values[:, 1:], known, exact))
            sums[0], sums[1] = sums[0] + weight * mean, sums[1] + (weight * error) ** 2
    return {name: (mean, np.sqrt(variance)) for name, (mean, variance) in total.items()}


def limit_of(case: Case, limit: str = "ip") -> xr.Dataset:
    return simulate(
        case.problem, case.network, case.training, PARTICLES, REPLICAS, limit=limit, progress=False, threads=1
    )


def check(title: str, run: xr.Dataset, finite: dict[str, tuple[Array, Array]]) -> None:
    measured, reference = {}, {}
    for name, (mean, error) in finite.items():
        ours, ours_error = mean_and_error(run[name].values[:, 1:])
        measured[name], reference[name] = (ours, np.hypot(ours_error, error)), mean
    check_means(title, measured, reference, REPLICAS)


@pytest.mark.filterwarnings("ignore:undefined")  # ratios to Z^{h_0} = 0
@pytest.mark.parametrize("name", CASES)
def test_the_limit_is_that_of_finite_networks(name: str) -> None:
    """f and the kernels of h and x at every step and layer."""
    run = limit_of(CASES[name])
    assert np.abs(run.f.values[:, -1]).max() > 0.3 and run.kernel_h.values[:, -1, 1:, 0, 0].min() > 0.01
    check(f"IP, {name}", run, extrapolated(CASES[name], IP, SEEDS))


@pytest.mark.parametrize("name", CASES)
def test_initial_hidden_weights_kept_is_rejected(name: str) -> None:
    """Control: the limit that keeps W^2..W^L, which is muP's."""
    with pytest.raises(AssertionError, match=r"kernel_h\("):
        check(f"muP instead of IP, {name}", limit_of(CASES[name], "mup"), extrapolated(CASES[name], IP, SEEDS))


@pytest.mark.filterwarnings("ignore:undefined")
@pytest.mark.parametrize(
    "rate", [(-0.9, 0.0, 1.0), (-1.0, 0.1, 1.0), (-1.0, 0.0, 1.1)], ids=["first", "hidden", "readout"]
)
def test_wrong_powers_of_the_rates_are_rejected(rate: tuple[float, float, float]) -> None:
    """Control: networks one of whose rates falls faster than IP's by n^-0.1."""
    wrong = extrapolated(CASES["tanh-2"], replace(IP, name="wrong", rate=rate), SEEDS // 2)
    with pytest.raises(AssertionError, match=r"f\("):
        check(f"rates n^-c, c = {rate}", limit_of(CASES["tanh-2"]), wrong)


# Exact statements -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["silu", "tanh", "relu"])
@pytest.mark.parametrize("depth", [3, 4])
def test_three_layers_never_move_where_phi_of_zero_is_zero(activation: str, depth: int) -> None:
    """Z^{h^l}, l >= 2, and f stay 0, bit by bit: each update of a hidden matrix has a factor that vanishes."""
    with pytest.warns(Notice, match="undefined ratios .*feature_change_h"):
        run = simulate(
            problem_of(3), Network(depth, activation), Training(20, 0.5), 256, 2, limit="ip", progress=False, threads=1
        )
    assert (run.f == 0.0).all() and (run.kernel_h.sel(layer=slice(2, None)) == 0.0).all()
    changes = run.feature_change_h
    assert np.isnan(changes.sel(layer=slice(2, None))).all() and (changes.sel(layer=1) == 0.0).all()
    assert (run.kernel_h.sel(layer=1) == run.kernel_h.sel(layer=1, step=0)).all()


@pytest.mark.filterwarnings("ignore:undefined")
def test_sigmoid_moves_only_where_error_signals_do_not_cancel() -> None:
    """L = 3, phi(0) = 1/2: while h^2 = h^3 = 0 every update has the factor sum_i chi_i, zero for balanced classes.

    Otherwise f_1 = -(eta_4 phi(0)^2 + eta_3 (s_4 phi(0) phi'(0))^2) sum_i chi_i to first order in the rate, at all xi.
    """
    network, rate = Network(3, "sigmoid", 1.2), 1e-4
    training = Training(20, rate, reduction="mean")
    balanced = Problem(problem_of(4).inputs, [1.0, -1.0, 1.0, -1.0])
    unbalanced = Problem(problem_of(4).inputs, [1.0, 1.0, 1.0, -1.0])
    still, moving = (
        simulate(problem, network, training, 256, 1, limit="ip", progress=False, threads=1)
        for problem in (balanced, unbalanced)
    )
    assert np.abs(still.f.values).max() < 1e-12
    first_order = rate * 0.25 * (1 + 1.2**2 / 16)  # -sum chi = 1 here
    np.testing.assert_allclose(moving.f.values[0, 1], first_order, rtol=1e-3)


@pytest.mark.filterwarnings("ignore:undefined")
def test_one_step_makes_the_second_layer_rank_one() -> None:
    """L = 2: Z^{h^2_1(xi)} = -phi'(0) Z^{What} sum_j eta chi_j E[Z^{x^1_j} Z^{x^1(xi)}]; later steps are richer."""
    problem, rate, scale = problem_of(4), 0.5, 1.3
    training = Training(3, rate, reduction="mean")
    run = simulate(problem, Network(2, "tanh", scale), training, 1024, 1, limit="ip", progress=False, threads=1)
    h, x = run.kernel_h.values[0, :, 1], run.kernel_x.values[0, 0, 0]
    weights = -rate * run.chi.values[0, 0] @ x
    np.testing.assert_allclose(h[1], scale**2 * np.outer(weights, weights), rtol=0, atol=ROUNDING)
    spectrum = np.array([np.linalg.eigvalsh(kernel) for kernel in h])
    assert (spectrum[0] == 0.0).all() and spectrum[1, -1] > 1e-3
    assert spectrum[1, -2] < 1e-14 * spectrum[1, -1] and spectrum[2, -2] > 1e-6 * spectrum[2, -1]


@pytest.mark.filterwarnings("ignore:undefined")
@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("batches", [None, {"size": 2, "seed": 1}], ids=["full", "minibatch"])
def test_deep_linear_is_exact(depth: int, batches: dict | None) -> None:
    """Oracle: the recursion in coordinates from hidden matrices that are zero, to 1e-10. From L = 3 on all is still."""
    problem, scales = problem_of(4), np.linspace(0.8, 1.2, depth + 1)
    training = Training(12, list(0.2 * np.linspace(1.0, 0.5, depth + 1)), batches=batches, reduction="mean")
    run = simulate(
        problem, Network(depth, "identity", list(scales)), training, 256, 1, limit="ip", tolerance=1e-13,
        progress=False, threads=1,
    )  # fmt: skip
    scales[1:-1] = 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        exact = deep_linear(problem, Network(depth, "identity", list(scales)), training)
    assert (np.abs(exact["f"][-1]).max() > 0.5) == (depth == 2)
    for name, value in exact.items():
        if not name.startswith("feature_change"):  # 0 / 0
            np.testing.assert_allclose(run[name].values[0], value, rtol=0, atol=ROUNDING, err_msg=name)
