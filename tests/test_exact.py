"""The engine against exact values: machine-precision identities for linear networks, quadrature for the others.

Statistical tests extrapolate in the number of particles, (4 E[4M] - E[M]) / 3: the bias of `matched` noise is O(1/M),
and the two particle counts measure it. What is left is noise, whose standard error comes from independent replicas.
"""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from tests.oracles.compare import check_means, richardson
from tests.oracles.kernels import initial_kernels
from tests.oracles.linear import deep_linear, input_coordinates
from tests.oracles.one_step import one_step
from tests.oracles.problems import (
    MEAN_FIELD_ERROR,
    ONE_STEP,
    ONE_STEP_ERROR,
    mean_field_case,
    one_step_case,
    problem_of,
)
from tests.oracles.quadrature import mean_field
from tpsim import Network, Problem, Training, simulate
from tpsim.core import ParticleSpace, expand
from tpsim.mlp import FirstLayer

Array = np.ndarray
ROUNDING = 1e-10  # the engine in double precision: 1e-13 of each field's norm is dropped, and errors grow over 12 steps
REPLICAS = 32


def linear_case(depth: int, loss: str) -> tuple[Network, dict]:
    """Unequal s_l and eta_l; rates that move f of order one in twelve steps."""
    network = Network(depth, "identity", list(np.linspace(0.8, 1.2, depth + 1)))
    rate = 0.6 if loss == "logistic" else 0.2
    return network, {"learning_rate": list(rate * np.linspace(1.0, 0.5, depth + 1)), "loss": loss, "reduction": "mean"}


def check_identical(run: xr.Dataset, exact: dict[str, Array], steps: Array | None = None) -> None:
    for name, value in exact.items():
        expected = value if steps is None else value[steps]
        for replica in run[name].values:
            np.testing.assert_allclose(replica, expected, rtol=0, atol=ROUNDING, err_msg=name)


# Linear networks: identities to rounding ------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("batches", [None, {"size": 2, "seed": 1}], ids=["full", "minibatch"])
@pytest.mark.parametrize("particles,sobol", [(256, None), (256, False), (1024, None), (1024, False)])
def test_deep_linear_is_exact(depth: int, loss: str, batches: dict | None, particles: int, sobol: bool | None) -> None:
    """Oracle: the recursion in coordinates. f, chi-driven updates, every kernel and mean, at every step, to 1e-10."""
    problem, (network, options) = problem_of(4), linear_case(depth, loss)
    training = Training(12, batches=batches, **options)
    exact = deep_linear(problem, network, training)
    assert np.abs(exact["f"][-1]).max() > 0.5 and exact["feature_change_h"][-1].min() > 0.1
    run = simulate(
        problem, network, training, particles, replicas=1, tolerance=1e-13, sobol=sobol, progress=False, threads=1
    )
    check_identical(run, exact)
    chi = training.criterion.derivative(exact["f"], problem.targets) / 4
    np.testing.assert_allclose(run.chi.values[0], chi, atol=ROUNDING)


@pytest.mark.parametrize("m,reduction", [(1, "sum"), (2, "sum"), (3, "mean")])
def test_deep_linear_schedules_and_ragged_batches(m: int, reduction: str) -> None:
    """Oracle: the recursion in coordinates; a schedule, unequal rates, `sum`, batches of different sizes, rank < m."""
    problem = problem_of(m, d=2)
    lists = [[t % m] if t % 3 else list(range(m)) for t in range(12)]
    rates = np.array([0.1, 0.15, 0.05, 0.1])
    training = Training(12, lambda t: rates / (1 + 0.1 * t), "squared", reduction, lists)  # type: ignore[arg-type]
    network = Network(3, "identity", [0.9, 1.1, 1.0, 1.2])
    run = simulate(problem, network, training, 256, replicas=2, tolerance=1e-13, progress=False, threads=1)
    check_identical(run, deep_linear(problem, network, training))


@pytest.mark.parametrize("depth", [2, 3])
def test_deep_linear_recorded_seldom(depth: int) -> None:
    """Oracle: the recursion in coordinates. Between recorded steps only the batch's samples touch the bases."""
    problem, (network, options) = problem_of(4), linear_case(depth, "squared")
    training = Training(12, batches={"size": 1, "seed": 2}, **options)
    run = simulate(
        problem, network, training, 256, replicas=1, tolerance=1e-13, record_every=5, progress=False, threads=1
    )
    assert run.step.values.tolist() == [0, 5, 10, 12]
    check_identical(run, deep_linear(problem, network, training), run.step.values)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_deep_linear_probes_are_projections(depth: int) -> None:
    """Oracle: f_t is linear in the input, and zero off the span of the training inputs, which W_0^1 alone sees."""
    problem, (network, options) = problem_of(3, probes=4), linear_case(depth, "squared")
    training = Training(12, **options)
    exact = deep_linear(problem, network, training)["f"]
    assert problem.probes is not None
    onto = problem.probes @ np.linalg.pinv(problem.inputs)
    run = simulate(problem, network, training, 256, replicas=2, tolerance=1e-13, progress=False, threads=1)
    for replica in run.f_probe.values:
        np.testing.assert_allclose(replica, exact @ onto.T, atol=ROUNDING)


@pytest.mark.parametrize("activation", ["silu", "gelu"])
def test_a_probe_off_the_span_of_the_inputs_meets_fresh_weights(activation: str) -> None:
    """Oracle: Z^{h*} = s_1 |xi*| Z is independent of What_t, hence f_t(xi*) = E[What_t] E[phi(s_1 |xi*| Z)], L = 1.

    3e-3 of the largest: the 8 nodes of the replay against 80. s_1 left out would be a fifth.
    """
    inputs, probes = [[1.0, 0.2, 0.0], [0.3, -0.8, 0.0]], [[0.0, 0.0, 1.0], [0.0, 0.0, -0.4]]
    network, training = Network(1, activation, [1.2, 1.3]), Training(5, 0.4, reduction="mean")
    run = simulate(
        Problem(inputs, [1.0, 1.0], probes), network, training, 256, replicas=2, snapshots=range(6), parts=True,
        progress=False, threads=1,
    )  # fmt: skip
    readout = run.Z_dx_parts.sel(layer=1).isel(sample=0).sum("part").mean("particle").values  # (replica, step)
    z, w = np.polynomial.hermite_e.hermegauss(80)
    features = np.array([w @ network.phi.phi(1.2 * size * z) / w.sum() for size in (1.0, 0.4)])
    exact = readout[:, :, None] * features
    assert np.abs(exact).max() > 0.01
    np.testing.assert_allclose(run.f_probe.values, exact, rtol=0, atol=3e-3 * np.abs(exact).max())


def test_deep_linear_with_zero_rates_and_scales() -> None:
    """Oracle: the recursion in coordinates, with one frozen layer and one that starts at zero."""
    problem = problem_of(3)
    network = Network(3, "identity", [1.0, 0.0, 1.1, 0.9])
    training = Training(12, [0.0, 0.2, 0.3, 0.1], reduction="mean")
    with pytest.warns(match="undefined"):
        run = simulate(problem, network, training, 256, replicas=1, tolerance=1e-13, progress=False, threads=1)
    check_identical(run, linear_without_ratios(problem, network, training))


def linear_without_ratios(problem: Problem, network: Network, training: Training) -> dict[str, Array]:
    """`deep_linear` less the feature changes, which are 0 / 0 where h_0 = 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        exact = deep_linear(problem, network, training)
    return {name: value for name, value in exact.items() if not name.startswith("feature_change")}


# Kernels at t = 0 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["erf", "relu", "tanh", "silu", "gelu", "softplus", "sigmoid"])
def test_initial_kernels(activation: str) -> None:
    """Oracle: closed forms (erf, relu) or quadrature to 1e-12, three layers deep, forward and backward."""
    problem, network = problem_of(3, size=1.5), Network(3, activation, [1.2, 1.1, 0.9, 1.3])
    exact = initial_kernels(problem, network)
    runs = engine_runs(problem, network, Training(0, 0.1))
    check_engine(f"t=0 {activation}", runs, {name: value[None] for name, value in exact.items()}, ROUNDING)
    for run in runs:  # what the limit fixes exactly: the first layer, and f_0 = 0
        assert np.abs(run.kernel_h.values[:, 0, 0] - exact["kernel_h"][0]).max() < ROUNDING
        assert np.abs(run.f.values).max() < ROUNDING


def test_nearly_equal_inputs_have_the_first_kernel_of_their_gram_matrix() -> None:
    """Oracle: s_1^2 <xi, xi'>. An input 1e-11 off another is new: one pass leaves 1e-5 of the other in it."""
    xi = problem_of(3, d=8).inputs
    inputs = np.vstack([xi, xi + 1e-11 * problem_of(3, d=8, seed=1).inputs, 0.5 * xi[0] - xi[2]])
    first = FirstLayer(ParticleSpace(256), inputs, scale=1.2)
    assert len(first.basis) == 6
    h = expand(*first.terms(first.coordinates))
    np.testing.assert_allclose(h @ h.T / 256, 1.44 * inputs @ inputs.T, rtol=0, atol=1e-14)


def engine_runs(problem: Problem, network: Network, training: Training) -> tuple[xr.Dataset, xr.Dataset]:
    """R replicas with M = 1024 and, independently, with 4096 particles."""
    coarse, fine = (
        simulate(problem, network, training, particles, REPLICAS, seed=particles, progress=False, threads=1)
        for particles in (1024, 4096)
    )
    return coarse, fine


def check_engine(title: str, runs: tuple[xr.Dataset, xr.Dataset], exact: dict[str, Array], allowance: float) -> None:
    coarse, fine = runs
    measured = {name: richardson(coarse[name].values, fine[name].values, ratio=4) for name in exact}
    check_means(title, measured, exact, REPLICAS, allowance=allowance)


# Training against quadrature ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["tanh", "silu", "gelu"])
@pytest.mark.parametrize("minibatch", [False, True], ids=["full", "minibatch"])
def test_one_hidden_layer_against_quadrature(activation: str, minibatch: bool) -> None:
    """Oracle: mean field training on 48^3 nodes, whose error test_oracles.py bounds."""
    problem, network, training = mean_field_case(activation, minibatch)
    exact = mean_field(problem, network, training)
    check_engine(f"L=1 {activation}", engine_runs(problem, network, training), exact, MEAN_FIELD_ERROR)


@pytest.mark.parametrize("activation, m", ONE_STEP)
def test_one_step_of_two_layers_against_quadrature(activation: str, m: int) -> None:
    """Oracle: the step as a low-dimensional integral, responses pathwise; its error is bounded by test_oracles.py."""
    problem, network, training, sizes = one_step_case(activation, m)
    exact = one_step(problem, network, training, sizes)
    check_engine(f"L=2 {activation} m={m}", engine_runs(problem, network, training), exact, ONE_STEP_ERROR[m])


def test_oracles_and_engine_agree_on_the_inputs_basis() -> None:
    """The coordinates that both use reproduce the inputs' Gram matrix, for inputs of low rank too."""
    inputs = problem_of(4, d=2).inputs
    coordinates = input_coordinates(inputs)
    assert coordinates.shape == (4, 2)
    np.testing.assert_allclose(coordinates @ coordinates.T, inputs @ inputs.T, atol=1e-14)
