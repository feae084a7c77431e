"""The literal reference: exact for linear networks, unbiased or not as documented, and equal to the fast engine."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from tests.oracles.compare import check_means, mean_and_error
from tests.oracles.linear import deep_linear
from tpsim import Network, Problem, Training, simulate
from tpsim.errors import Diverged, InputError, ResourceError
from tpsim.reference import Mistake, simulate_reference
from tpsim.reference.gaussians import Particles, gaussian, mean_product, response

INPUTS = np.random.default_rng(3).standard_normal((3, 4)) / 2
KERNELS = ("kernel_h", "kernel_x", "kernel_dh")
# 24 regressions (6 steps, 2 matrices, 2 directions) on families that may be nearly degenerate, each good to
# RCOND + eps / RCOND = 3e-8 of fields of order one
EXACT = 1e-6


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("batches", [None, {"size": 2, "seed": 1}], ids=["full", "minibatch"])
def test_deep_linear_is_exact(depth: int, loss: str, batches: dict | None) -> None:
    """Oracle: the recursion in coordinates, which shares no code; unequal s_l and eta_l, f and every kernel."""
    problem = Problem(INPUTS, [1.0, -1.0, 1.0])
    network = Network(depth, "identity", list(np.linspace(0.8, 1.2, depth + 1)))
    rates = list((0.3 if loss == "logistic" else 0.1) * np.linspace(1.0, 0.5, depth + 1))
    training = Training(6, rates, loss=loss, reduction="mean", batches=batches)
    exact = deep_linear(problem, network, training)
    run = simulate_reference(problem, network, training, particles=128, replicas=1)
    assert 0.1 < np.abs(exact["f"][-1]).max() < 3  # it moves and does not diverge: EXACT is an absolute error
    for name in ("f", *KERNELS):
        np.testing.assert_allclose(run[name][0], exact[name], rtol=0, atol=EXACT, err_msg=name)


def test_mistakes_are_visible_in_linear_networks() -> None:
    """Oracle: the recursion in coordinates.

    Left out: s = t, whose share of the sum is not defined here (dh_t is the same for all samples, so that the family is
    degenerate and derivatives in its members are not unique; only the whole sum is).
    """
    problem, network = Problem(INPUTS, [1.0, -1.0, 1.0]), Network(2, "identity")
    training = Training(4, 0.2)
    exact = deep_linear(problem, network, training)["f"]
    for mistake in set(get_args(Mistake)) - {"s_equals_t_dropped"}:
        run = simulate_reference(problem, network, training, particles=128, replicas=1, mistake=mistake)
        off = np.abs(run.f.values[0] - exact).max()
        assert off > 1e-3, (mistake, off)


@pytest.mark.parametrize("depth,activation", [(2, "tanh"), (3, "silu")])
def test_fast_engine_equals_the_reference(depth: int, activation: str) -> None:
    """Oracle: full history, conditional draws and regressions, against the lazy matrices; f, loss, kernels.

    Both estimates carry a bias O(1/M), below a third of the standard errors at this M.
    """
    problem = Problem(INPUTS, [1.0, -1.0, 0.5])
    network = Network(depth, activation, list(np.linspace(1.2, 0.9, depth + 1)))
    training = Training(4, list(np.linspace(0.3, 0.2, depth + 1)), batches=[[0, 1], [2], [0, 2], [1]])
    replicas, names = 24, ("f", "loss", *KERNELS)
    slow = simulate_reference(problem, network, training, 2048, replicas, seed=21)
    fast = simulate(problem, network, training, 2048, replicas, seed=22, progress=False, threads=1)
    measured, expected = {}, {}
    for name in names:
        (mean, error), (expected[name], other) = mean_and_error(fast[name].values), mean_and_error(slow[name].values)
        measured[name] = mean, np.hypot(error, other)
    check_means(f"fast against literal, L={depth}", measured, expected, replicas, allowance=1e-12)


def test_duplicated_opposite_and_zero_inputs_run() -> None:
    """Singular families: equal inputs keep equal outputs, opposite ones opposite outputs (tanh), zero ones f = 0."""
    xi = INPUTS[0]
    problem = Problem(np.array([xi, xi, -xi, 0 * xi]), [1.0, 1.0, -1.0, 0.5])
    f = simulate_reference(problem, Network(3, "tanh"), Training(4, 0.3), 256, 2).f.values
    assert np.abs(f[:, -1, 0]).min() > 0.1
    np.testing.assert_allclose(f[..., 1], f[..., 0], rtol=0, atol=EXACT)
    np.testing.assert_allclose(f[..., 2], -f[..., 0], rtol=0, atol=EXACT)
    np.testing.assert_allclose(f[..., 3], 0, atol=EXACT)


@pytest.mark.parametrize("matched", [True, False])
def test_initial_output_vanishes_and_replicas_are_keyed(matched: bool) -> None:
    problem = Problem(INPUTS, [1.0, -1.0, 0.5])
    run = simulate_reference(problem, Network(2, "gelu"), Training(2, 0.2), 64, 3, seed=5, matched=matched)
    fewer = simulate_reference(problem, Network(2, "gelu"), Training(2, 0.2), 64, 2, seed=5, matched=matched)
    np.testing.assert_allclose(run.f[:, 0], 0, atol=1e-13)
    np.testing.assert_array_equal(run.f[:2], fewer.f)
    assert np.ptp(run.f.values[:, -1, 0]) > 1e-6


def test_gaussian_families_and_responses() -> None:
    """Oracle: Cov(Zhat^{Wy}) = s^2 E[yy'], past included, and E[d target / d Zhat] of linear targets, to rounding."""
    spaces = [Particles(64, True, np.random.default_rng(k)) for k in range(2)]
    y, scale = spaces[0].normal(3), 1.7
    y = np.vstack([y, y[0] + 1e-6 * y[1], y[2]])[:, None]  # two nearly and two exactly dependent vectors
    zhat = gaussian(spaces[1], y[:3, 0], y[:0, 0][None][:0], np.empty((0, 1, 64)), scale)[:, None]
    zhat = np.concatenate([zhat, gaussian(spaces[1], y[3:, 0], y[:3], zhat, scale)[:, None]])
    covariance = mean_product(zhat[:, 0], zhat[:, 0])
    np.testing.assert_allclose(covariance, scale**2 * mean_product(y[:, 0], y[:, 0]), rtol=0, atol=1e-12)
    carriers = np.random.default_rng(9).standard_normal((3, 1, 8))
    theta = np.array([[0.5, -2.0, 1.0]])
    zdot = response(theta @ zhat[:3, 0], zhat[:3], carriers, scale)
    np.testing.assert_allclose(zdot, scale**2 * theta @ carriers[:, 0], rtol=0, atol=1e-12)


def test_errors_name_their_cause() -> None:
    problem, network = Problem(INPUTS, [1.0, -1.0, 0.5]), Network(2, "identity")
    with pytest.raises(InputError, match="mistake"):
        simulate_reference(problem, network, Training(1), mistake="none_such")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="particles"):
        simulate_reference(problem, network, Training(1), particles=0)
    with pytest.raises(ResourceError, match="particles=16"):
        simulate_reference(problem, Network(2), Training(5), particles=16)
    with pytest.raises(Diverged, match="step"), np.errstate(over="ignore", invalid="ignore"):
        simulate_reference(problem, network, Training(12, 1e30), particles=64, replicas=1)
