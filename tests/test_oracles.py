"""The oracles against each other and against closed forms; the sources of each are independent of the other's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from tests.oracles.compare import check_means, remove_controls, richardson
from tests.oracles.dense import dense
from tests.oracles.functions import FUNCTIONS, Function
from tests.oracles.kernels import (
    DERIVATIVE_KERNELS,
    KERNELS,
    MEANS,
    gaussian_kernel,
    initial_kernels,
    quadrature_kernel,
    quadrature_mean,
)
from tests.oracles.linear import Matrix, Space, deep_linear
from tests.oracles.one_step import one_step, second_layer
from tests.oracles.problems import (
    MEAN_FIELD_ERROR,
    ONE_STEP,
    ONE_STEP_ERROR,
    mean_field_case,
    one_step_case,
    problem_of,
)
from tests.oracles.quadrature import mean_field
from tests.oracles.words import deep_linear_words
from tpsim.problem import Network, Problem, Training

Array = np.ndarray
COVARIANCES = [(1.0, 0.5, 1.3), (2.0, -1.2, 2.5), (0.3, 0.1, 4.0), (1.5, 1.5, 1.5), (1.5, -1.5, 1.5)]


def check_equal(left: dict[str, Array], right: dict[str, Array], tolerance: float, names: tuple[str, ...] = ()) -> None:
    for name in names or left:
        np.testing.assert_allclose(left[name], right[name], rtol=tolerance, atol=tolerance, err_msg=name)


# Deep linear networks -------------------------------------------------------------------------------------------------


def second_moments(problem: Problem, network: Network, training: Training) -> dict[str, Array]:
    """L = 1 in closed form: per neuron (w, a) <- B (w, a), B = [[1, -eta_1 g], [-eta_2 g', 1]], g = sum chi_i xi_i."""
    d = problem.inputs.shape[1]
    start = np.diag(np.append(np.full(d, network.scales[0] ** 2), network.scales[1] ** 2))
    flow = np.eye(d + 1)
    rows: dict[str, list[Array]] = {"f": [], "kernel_h": [], "kernel_h0": [], "kernel_dh": []}
    for step, batch in enumerate([*training.batch_indices(problem.samples), None]):
        now = flow @ start @ flow.T
        f = problem.inputs @ now[:d, d]
        rows["f"].append(f)
        rows["kernel_h"].append((problem.inputs @ now[:d, :d] @ problem.inputs.T)[None])
        rows["kernel_h0"].append((problem.inputs @ (start @ flow.T)[:d, :d] @ problem.inputs.T)[None])
        rows["kernel_dh"].append(np.full((1, len(f), len(f)), now[d, d]))
        if batch is not None:
            signal = np.zeros(len(f))
            signal[batch] = training.criterion.derivative(f, problem.targets)[batch]
            g = signal @ problem.inputs / (len(batch) if training.reduction == "mean" else 1)
            rates = training.rates(step, 1)
            move = np.eye(d + 1)
            move[:d, d], move[d, :d] = -rates[0] * g, -rates[1] * g
            flow = move @ flow
    return {name: np.array(values) for name, values in rows.items()}


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("batches", [None, {"size": 2, "seed": 1}])
def test_one_hidden_layer_against_the_closed_second_moments(loss: str, reduction: str, batches: dict | None) -> None:
    """Oracle: the (d+1)-dimensional second-moment matrix of one neuron. Tolerance: rounding over 12 steps."""
    problem, network = problem_of(5, d=3), Network(1, "identity", [0.8, 1.3])  # rank 3 < m: the inputs' basis is cut
    training = Training(12, lambda t: [0.2 / (1 + t), 0.15], loss, reduction, batches)  # type: ignore[arg-type]
    exact = second_moments(problem, network, training)
    assert np.ptp(exact["f"]) > 0.1
    check_equal(exact, deep_linear(problem, network, training), 1e-12, tuple(exact))


@pytest.mark.parametrize("depth,steps", [(1, 6), (2, 6), (3, 5), (4, 4)])
@pytest.mark.parametrize("batches", [None, [[1], [0, 1], [0], [1], [0, 1], [0]]])
@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_coordinates_against_words(depth: int, steps: int, batches: list | None, loss: str) -> None:
    """Oracle: free probability (non-crossing pairings), which knows no basis. Tolerance: rounding."""
    problem = problem_of(2)
    network = Network(depth, "identity", list(np.linspace(0.8, 1.2, depth + 1)))
    rates = np.linspace(0.2, 0.1, depth + 1) * (3 if loss == "logistic" else 1)
    training = Training(steps, list(rates), loss, "mean", batches)
    words = deep_linear_words(problem, network, training)
    assert np.abs(words["f"][-1]).max() > 0.05
    check_equal(words, deep_linear(problem, network, training), 1e-12, tuple(words))


def test_coordinate_matrix_has_the_catalan_moments() -> None:
    """Oracle: <v, (W'W)^k v> = s^2k Catalan_k (Marchenko-Pastur, square). Tolerance: rounding."""
    matrix = Matrix(Space(40), Space(40), 1.5)
    v = start = matrix.source.draw()[None]
    moments = []
    for k in range(1, 8):
        v = matrix.backward(matrix.forward(v))
        moments.append(float((start @ v.T).item()) / 1.5 ** (2 * k))
    np.testing.assert_allclose(moments, [1, 2, 5, 14, 42, 132, 429], rtol=1e-12)


def test_bases_of_near_duplicates_stay_orthonormal() -> None:
    """Near-duplicate inputs: the bases stay orthonormal to rounding, and duplicates change nothing."""
    base = problem_of(2)
    near = Problem(np.vstack([base.inputs, base.inputs[0] * (1 + 1e-9)]), np.append(base.targets, 1.0))
    defects = []

    def monitor(step: int, hidden: list[Matrix]) -> None:
        for basis in (b for matrix in hidden for b in (matrix.x_basis, matrix.d_basis)):
            array = np.array(basis)
            defects.append(np.abs(array @ array.T - np.eye(len(array))).max())

    training = Training(8, 0.1, reduction="mean", batches=[[0, 1]] * 8)
    run = deep_linear(near, Network(3, "identity"), training, monitor)
    assert max(defects) < 1e-14
    alone = deep_linear(base, Network(3, "identity"), training)
    np.testing.assert_allclose(run["f"][:, :2], alone["f"], atol=1e-13)
    np.testing.assert_allclose(run["f"][:, 2], alone["f"][:, 0] * (1 + 1e-9), atol=1e-13)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_deep_linear_against_dense_networks(depth: int) -> None:
    """Oracle: 400 dense networks each of width 100 and 200, Richardson in 1/n."""
    problem = problem_of(2)
    network = Network(depth, "identity", list(np.linspace(0.9, 1.2, depth + 1)))
    training = Training(4, list(np.linspace(0.2, 0.1, depth + 1)), reduction="mean")
    exact = deep_linear(problem, network, training)
    check_against_dense(problem, network, training, exact, widths=(100, 200), seeds=400)


def check_against_dense(
    problem: Problem, network: Network, training: Training, exact: dict[str, Array], widths: tuple[int, int], seeds: int
) -> None:
    """Compare means over dense networks, extrapolated in 1/n, with `exact`: t = 0 as it is, later steps with the t = 0
    values as control variates (their limits are known: f_0 = 0 and `initial_kernels`)."""
    start = {"f": np.zeros(problem.samples), **initial_kernels(problem, network)}
    expected = np.concatenate([value.ravel() for value in start.values()])
    runs = [[dense(problem, network, training, width, seed) for seed in range(seeds)] for width in widths]
    controls = [np.array([np.concatenate([run[name][0].ravel() for name in start]) for run in rows]) for rows in runs]
    title = f"L={network.depth} {network.activation}"
    start_means = {"all": richardson(controls[0], controls[1])}
    check_means(f"{title} t=0", start_means, {"all": expected}, seeds, allowance=1e-12)
    measured = {}
    for name, value in exact.items():
        coarse, fine = (
            remove_controls(np.array([run[name][1 : len(value)] for run in rows]), control, expected)
            for rows, control in zip(runs, controls, strict=True)
        )
        measured[name] = richardson(coarse, fine)
    check_means(f"{title} t>0", measured, {name: value[1:] for name, value in exact.items()}, seeds, allowance=1e-12)


# Gaussian kernels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [f.name for f in FUNCTIONS.values() if f.ddphi is not None])
def test_derivatives_of_the_functions(name: str) -> None:
    """Oracle: central differences, error h^2 |phi'''| / 6 + eps / h < 1e-9 at h = 1e-5."""
    function, h, step = FUNCTIONS[name], np.linspace(-6, 6, 401), 1e-5
    assert function.ddphi is not None
    for g, dg in ((function.phi, function.dphi), (function.dphi, function.ddphi)):
        np.testing.assert_allclose((g(h + step) - g(h - step)) / (2 * step), dg(h), atol=1e-9)


@pytest.mark.parametrize("name", ["erf", "sin", "cos", "identity"])
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_closed_kernels_against_quadrature(name: str, covariance: tuple[float, float, float]) -> None:
    """Oracle: 160^2 nodes, whose error is below 1e-13 here (next test)."""
    function = FUNCTIONS[name]
    assert abs(KERNELS[name](*covariance) - quadrature_kernel(function.phi, *covariance)) < 1e-12
    assert abs(DERIVATIVE_KERNELS[name](*covariance) - quadrature_kernel(function.dphi, *covariance)) < 1e-12
    assert abs(MEANS[name](covariance[0]) - quadrature_mean(function.phi, covariance[0])) < 1e-12


@pytest.mark.parametrize("name", ["tanh", "silu", "gelu", "softplus", "sigmoid", "erf"])
def test_quadrature_converges(name: str) -> None:
    """Two rules agree, and the trapezoid's error is below 1e-11 at 80 nodes (its docstring: exp(-31) at d = 1)."""
    phi = FUNCTIONS[name].phi
    best = quadrature_kernel(phi, 2.0, -1.2, 2.5, 240)
    errors = [abs(quadrature_kernel(phi, 2.0, -1.2, 2.5, size) - best) for size in (20, 40, 80, 160)]
    assert errors[1] < 1e-7 and errors[2] < 1e-11 and errors[3] < 1e-13, errors
    assert abs(quadrature_kernel(phi, 2.0, -1.2, 2.5, 200, "hermite") - best) < 1e-11


@pytest.mark.parametrize("covariance", COVARIANCES[:3])
def test_relu_kernels_against_one_dimensional_integrals(covariance: tuple[float, float, float]) -> None:
    """Oracle: E[v+ | u] in closed form, integrated over u > 0 (adaptive, 1e-10); orthant probability for relu'."""
    a, c, b = covariance
    rest = np.sqrt(b - c**2 / a)

    def given(u: float) -> float:
        mean = c / a * u
        return float(u * (mean * norm.cdf(mean / rest) + rest * norm.pdf(mean / rest)) * norm.pdf(u, scale=np.sqrt(a)))

    assert abs(KERNELS["relu"](*covariance) - quad(given, 0, 12 * np.sqrt(a), epsabs=1e-12)[0]) < 1e-10
    assert abs(KERNELS["relu"](a, a, a) - a / 2) < 1e-12 and abs(KERNELS["relu"](a, -a, a)) < 1e-7
    orthant = 0.25 + np.arcsin(c / np.sqrt(a * b)) / (2 * np.pi)
    assert abs(DERIVATIVE_KERNELS["relu"](*covariance) - orthant) < 1e-14
    assert gaussian_kernel(FUNCTIONS["relu"], 0.0, 0.0, b) == 0.0


@pytest.mark.parametrize("activation", ["tanh", "gelu", "identity"])
def test_initial_kernels_are_the_start_of_every_trajectory(activation: str) -> None:
    """Oracle: the t = 0 row of mean_field and of one_step. Tolerance: those rules' error, measured below."""
    problem = problem_of(2)
    for depth, scales, run in ((1, [1.2, 0.9], mean_field), (2, [1.2, 0.9, 1.1], one_step)):
        network = Network(depth, activation, scales)
        rule = "hermite" if activation == "identity" else "trapezoid"  # exact for polynomials
        options: dict = {"rule": rule} if depth == 1 else {"rule": rule, "sizes": (32, 24, 24, 6)}
        trajectory = run(problem, network, Training(1, 0.1), **options)
        for name, value in initial_kernels(problem, network).items():
            np.testing.assert_allclose(trajectory[name][0], value, atol=1e-8 if depth == 1 else 1e-4, err_msg=name)


# Quadrature in training -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batches", [None, {"size": 1, "seed": 3}])
@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_mean_field_of_the_identity_is_deep_linear(batches: dict | None, loss: str) -> None:
    """Oracle: the coordinate recursion; Gauss-Hermite is exact for second moments. Tolerance: rounding."""
    problem, network = problem_of(2), Network(1, "identity", [0.8, 1.3])
    training = Training(12, [0.2, 0.15], loss, "mean", batches)
    check_equal(mean_field(problem, network, training, 8, "hermite"), deep_linear(problem, network, training), 1e-12)


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("batches", [None, [[0]]])
def test_one_step_of_the_identity_is_deep_linear(m: int, batches: list | None) -> None:
    """Oracle: the coordinate recursion; 6 Gauss-Hermite nodes are exact for these polynomials. Tolerance: rounding."""
    problem, network = problem_of(m), Network(2, "identity", [0.8, 1.3, 1.1])
    training = Training(1, [0.2, 0.15, 0.25], batches=batches)
    check_equal(
        one_step(problem, network, training, (6, 6, 6, 6), "hermite"), deep_linear(problem, network, training), 1e-12
    )


@pytest.mark.parametrize(
    "activation, minibatch",
    [("tanh", True), ("silu", False), ("gelu", True)]
    + [pytest.param(*case, marks=pytest.mark.slow) for case in [("tanh", False), ("silu", True), ("gelu", False)]],
)
def test_mean_field_converges_in_the_nodes(activation: str, minibatch: bool) -> None:
    """Ten steps: every array to 1e-4 on the default 48 nodes per axis, f to 1e-5; f_0 = 0.

    The maps N -> h_t steepen with t, and need more nodes than a single expectation does. 1e-4 is a tenth of what
    replicas of an engine resolve.
    """
    problem, network, training = mean_field_case(activation, minibatch)
    best = mean_field(problem, network, training, 80)
    assert np.abs(best["f"][0]).max() < 1e-15 and np.abs(best["f"][-1]).max() > 0.15
    errors = distance(mean_field(problem, network, training), best)
    print(activation, "errors at 48 nodes per axis:", errors)
    assert max(errors.values()) < MEAN_FIELD_ERROR and errors["f"] < MEAN_FIELD_ERROR / 10
    coarse = distance(mean_field(problem, network, training, 24), best)
    assert max(errors.values()) < max(coarse.values()) / 5


def distance(run: dict[str, Array], best: dict[str, Array]) -> dict[str, float]:
    return {name: float(np.abs(run[name] - best[name]).max()) for name in best}


@pytest.mark.parametrize("activation, m", ONE_STEP)
def test_one_step_converges_in_the_nodes(activation: str, m: int) -> None:
    """Every array to the stated error at the case's nodes, against a quarter more of them along every axis."""
    problem, network, training, sizes = one_step_case(activation, m)
    finer = (5 * sizes[0] // 4, 5 * sizes[1] // 4, 5 * sizes[2] // 4, 5 * sizes[3] // 4)
    errors = distance(one_step(problem, network, training, sizes), one_step(problem, network, training, finer))
    print(activation, m, errors)
    assert max(errors.values()) < ONE_STEP_ERROR[m] and errors["f"] < ONE_STEP_ERROR[m] / 3


def test_one_step_with_a_spectator_sample() -> None:
    """m = 2 with a batch of the first sample only is m = 1 for that sample. Tolerance: the rule's error."""
    problem, network, _, sizes = one_step_case("tanh", 2)
    alone = Problem(problem.inputs[:1], problem.targets[:1])
    both = one_step(problem, network, Training(1, [0.4, 0.3, 0.35], batches=[[0]]), sizes)
    single = one_step(alone, network, Training(1, [0.4, 0.3, 0.35]), (64, 64, 48, 16))
    assert abs(both["f"][1, 0] - single["f"][1, 0]) < ONE_STEP_ERROR[2]
    for name in ("kernel_h", "kernel_x", "kernel_h0", "kernel_x0", "kernel_dh"):
        np.testing.assert_allclose(both[name][..., :1, :1], single[name], atol=ONE_STEP_ERROR[2], err_msg=name)


@pytest.mark.parametrize("activation", ["tanh", "silu", "erf"])
def test_pathwise_responses_obey_stein(activation: str) -> None:
    """Oracle: Stein's lemma E[dh_1 G] = E[d dh_1 / dG] Cov(G), at arbitrary coefficients. Tolerance: the rule's."""
    covariance = np.array([[1.0, 0.7], [0.7, 1.2]])
    layer = second_layer(
        FUNCTIONS[activation],
        covariance,
        k=np.array([[0.8]]),
        w=np.array([-1.5]),
        scales=np.array([1.0, 1.0, 1.1]),
        rates=np.array([0.1, 0.2, 0.3]),
        sizes=(80, 80, 40),
        rule="trapezoid",
    )
    gradient = np.hstack([layer["d_g0"], np.diag(layer["d_g1"])])
    assert np.abs(gradient).max() > 0.2
    np.testing.assert_allclose(layer["dh1_g"], gradient @ covariance, atol=1e-8)


@pytest.mark.parametrize("activation", ["tanh", "silu"])
@pytest.mark.parametrize("m", [1, 2])
def test_one_step_against_dense_networks(activation: str, m: int) -> None:
    """Oracle: 800 dense networks each of width 64 and 128, Richardson in 1/n; every kernel (backward too) and mean."""
    problem, network, training, sizes = one_step_case(activation, m)
    exact = one_step(problem, network, training, sizes)
    check_against_dense(problem, network, training, exact, widths=(64, 128), seeds=800)


@pytest.mark.parametrize("activation", ["tanh", "silu"])
def test_mean_field_against_dense_networks(activation: str) -> None:
    """Oracle: 400 dense networks each of width 500 and 1000 (no hidden matrix), Richardson in 1/n."""
    problem, network, training = mean_field_case(activation, minibatch=True)
    exact = mean_field(problem, network, training)
    check_against_dense(problem, network, training, exact, widths=(500, 1000), seeds=400)


def test_user_pairs_of_callables_are_accepted() -> None:
    """A pair (phi, dphi) gives what the named activation gives (L = 1 needs no phi'')."""
    problem, training = problem_of(2), Training(3, 0.2)
    pair = (np.tanh, lambda h: 1 - np.tanh(h) ** 2)
    named = mean_field(problem, Network(1, "tanh"), training, 24)
    check_equal(mean_field(problem, Network(1, pair), training, 24), named, 1e-13)
    assert isinstance(FUNCTIONS["tanh"], Function)
