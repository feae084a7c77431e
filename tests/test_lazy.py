"""The limits of NTP and SP: kernels and laws against closed forms, independent iterations, and themselves.

Networks of finite width are in tests/test_lazy_networks.py.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from tests.oracles.compare import check_means, mean_and_error
from tests.oracles.levels import ALPHA, confirmed
from tests.oracles.tangent import all_inputs, law, tangent_kernels
from tpsim import Diverged, Network, Notice, Problem, Training, lazy, simulate, standard_error
from tpsim.errors import InputError, ResourceError
from tpsim.tangent import factor

Array = np.ndarray
ROUNDING = 1e-12  # quantities of order one, a few hundred operations in float64
LIMITS = ("ntp", "sp")

INPUTS = 1.2 * np.random.default_rng(0).standard_normal((6, 4)) / 2
PROBLEM = Problem(INPUTS[:4], [1.0, -1.0, 1.0, -1.0], INPUTS[4:])


def network_of(activation: str, depth: int) -> Network:
    return Network(depth, activation, list(np.linspace(1.3, 0.9, depth + 1)))


def rates_of(depth: int) -> list[float]:
    return list(np.linspace(0.2, 0.12, depth + 1))


def run_of(network: Network, training: Training, limit: str, problem: Problem = PROBLEM, **options) -> xr.Dataset:
    options = {"particles": 256, "replicas": 3, "threads": 1, "progress": False} | options
    return simulate(problem, network, training, limit=limit, **options)


# Kernels --------------------------------------------------------------------------------------------------------------


def initial_moments(run: xr.Dataset) -> dict[str, tuple[Array, Array]]:
    """Everything that a run says about its kernels at t = 0: mean over replicas and standard error."""
    names = ("kernel_h", "kernel_x", "kernel_dh", "mean_x", "nngp", "nngp_probe", "ntk", "ntk_probe")
    found = {name: mean_and_error(run[name].values) for name in names}
    return found | {"f_probe_cov": (run.f_probe_cov.values[0], run.f_probe_cov_se.values[0])}


def closed_moments(problem: Problem, network: Network, training: Training, first: bool) -> dict[str, Array]:
    """The same in closed form."""
    from tests.oracles.kernels import initial_kernels

    m = problem.samples
    rates = training.rates(0, network.depth)
    covariance, tangent = tangent_kernels(all_inputs(problem), network, rates, first)
    found = {name: values[None] for name, values in initial_kernels(problem, network).items()}
    found |= {"nngp": covariance[:m, :m], "nngp_probe": covariance[m:, :m], "f_probe_cov": covariance[m:, m:]}
    return found | {"ntk": tangent[:m, :m], "ntk_probe": tangent[m:, :m]}


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_kernels_are_those_of_the_closed_forms(activation: str, depth: int) -> None:
    """Oracle: arc-cosine kernels of degree 1 and 0, Williams' kernel; the recursion of Jacot et al. for the tangent."""
    network, training = network_of(activation, depth), Training(0, rates_of(depth))
    run = run_of(network, training, "ntp", particles=4096, replicas=16)
    exact = closed_moments(PROBLEM, network, training, True)
    check_means(f"{activation}, L = {depth}", initial_moments(run), exact, 16, allowance=ROUNDING)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_linear_networks_are_exact(depth: int, limit: str) -> None:
    """Oracle: closed forms of kernels and law, K^l = s_l^2 K^{l-1}; no particle estimate errs for the identity."""
    network, training = network_of("identity", depth), Training(6, rates_of(depth), reduction="mean")
    run = run_of(network, training, limit, particles=64)
    first = limit == "ntp"
    for name, exact in closed_moments(PROBLEM, network, training, first).items():
        if name in run and name != "f_probe_cov":
            np.testing.assert_allclose(run[name], np.broadcast_to(exact, run[name].shape), rtol=0, atol=ROUNDING)
    kernels = tangent_kernels(INPUTS, network, training.rates(0, depth), first)
    check_law(run, *law(*kernels, PROBLEM, training))
    assert max(float(run[name].max()) for name in run if str(name).endswith("_se")) < ROUNDING


def check_law(run: xr.Dataset, mean: Array, covariance: Array) -> None:
    """Assert that the law of a run is that of (T+1, N) and (T+1, N, N), to rounding."""
    m = run.sizes["sample"]
    for name, exact in (
        ("f_mean", mean[:, :m]), ("f_probe_mean", mean[:, m:]),
        ("f_cov", covariance[:, :m, :m]), ("f_probe_cov", covariance[:, m:, m:]),
    ):  # fmt: skip
        np.testing.assert_allclose(run[name], exact, rtol=0, atol=ROUNDING, err_msg=name)


def test_the_first_layer_is_what_tells_ntp_from_sp() -> None:
    """Oracle: runs that train one matrix only; the tangent kernel is linear in the rates, and W^1 is dead in SP."""
    network = network_of("tanh", 2)
    share = {}
    for limit in LIMITS:
        for layer in range(3):
            share[limit, layer] = run_of(network, Training(0, list(np.eye(3)[layer])), limit).ntk.values
        whole = run_of(network, Training(0, rates_of(2)), limit).ntk.values
        parts = sum(rate * share[limit, layer] for layer, rate in enumerate(rates_of(2)))
        np.testing.assert_allclose(whole, parts, rtol=0, atol=ROUNDING)
    assert (share["sp", 0] == 0).all() and (share["ntp", 0].diagonal(axis1=1, axis2=2) > 0).all()
    for layer in (1, 2):
        assert (share["sp", layer] == share["ntp", layer]).all()


# The law, given the kernel --------------------------------------------------------------------------------------------


def pooled(run: xr.Dataset) -> tuple[Array, Array]:
    """Cov(f_0) (N, N) and the tangent kernel (N, N), whose columns of probes nobody needs: what moved the run."""
    nngp, ntk = (
        np.concatenate([run[name].mean("replica"), run[f"{name}_probe"].mean("replica")]) for name in ("nngp", "ntk")
    )
    m = run.sizes["sample"]
    covariance = np.block([nngp, np.concatenate([nngp[m:].T, run.f_probe_cov.values[0]])])
    return covariance, np.pad(ntk, ((0, 0), (0, len(ntk) - m)))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("limit", LIMITS)
def test_squared_loss_is_a_power_of_a_matrix(limit: str, reduction: str) -> None:
    """Oracle: f_t = f_0 - G Theta sum_{s<t} (1 - G Theta)^s (f_0 - y) with the pooled kernel, to rounding."""
    training = Training(9, rates_of(3), reduction=reduction)
    run = run_of(network_of("tanh", 3), training, limit)
    mean, covariance = law(*pooled(run), PROBLEM, training)
    assert np.abs(mean[-1]).max() > 0.2 and np.abs(covariance[-1] - covariance[0]).max() > 0.1
    check_law(run, mean, covariance)


def test_schedules_of_rates_and_minibatches() -> None:
    """Oracle: an iteration of its own over replicas and law; the shares of the matrices from runs of one rate each."""
    network = network_of("erf", 2)
    batches = [[0, 3], [1], [0, 1, 2], [2], [1, 3]]
    training = Training(5, lambda t: [0.3 / (1 + t), 0.2, 0.1 * (t % 2)], reduction="mean", batches=batches)
    run = run_of(network, training, "ntp")
    one_rate = [pooled(run_of(network, Training(0, list(np.eye(3)[k])), "ntp"))[1][:, :4] for k in range(3)]
    f = np.concatenate([run.f.values[:, 0], run.f_probe.values[:, 0]], axis=1)
    mean, flow = np.zeros(6), np.eye(6)
    covariance, y = pooled(run)[0], PROBLEM.targets
    rows, means, covariances = [f], [mean], [covariance]
    for step, batch in enumerate(batches):
        rates = training.rates(step, 2)
        move = 2 / len(batch) * sum(r * share[:, batch] for r, share in zip(rates, one_rate, strict=True))
        f = f - (f[:, batch] - y[batch]) @ move.T
        mean = mean - move @ (mean[batch] - y[batch])
        flow = flow - move @ flow[batch]
        rows, means, covariances = [*rows, f], [*means, mean], [*covariances, flow @ covariance @ flow.T]
    np.testing.assert_allclose(run.f, np.stack(rows, axis=1)[..., :4], rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(run.f_probe, np.stack(rows, axis=1)[..., 4:], rtol=0, atol=ROUNDING)
    check_law(run, np.array(means), np.array(covariances))
    assert run.batch.values.tolist()[1] == [False, True, False, False] and not run.batch.values[-1].any()


def logistic_draws(run: xr.Dataset, rate: float, count: int) -> Array:
    """f_t (count, T+1, N) of independent draws of f_0 under the logistic loss, by an iteration of its own."""
    covariance, tangent = pooled(run)
    values, vectors = np.linalg.eigh(covariance)
    f = np.random.default_rng(7).standard_normal((count, 6)) @ (vectors * np.sqrt(np.maximum(values, 0))).T
    rows = [f]
    for _ in range(run.sizes["step"] - 1):
        y = PROBLEM.targets
        f = f + rate * (y / (1 + np.exp(y * f[:, :4]))) @ tangent[:, :4].T
        rows.append(f)
    return np.stack(rows, axis=1)


def test_logistic_law_against_an_independent_iteration() -> None:
    """Oracle: 40 000 draws from another square root of the covariance, by Euler steps written here."""
    run = run_of(network_of("tanh", 2), Training(8, 1.5, "logistic"), "ntp")
    count = 40_000
    draws = logistic_draws(run, 1.0, count)  # the rate is in the kernel
    assert run.attrs["law_draws"] == 4096
    mean, error = mean_and_error(draws)
    centred = draws - mean
    measured, reference = {}, {}
    for name, part in (("f", slice(0, 4)), ("f_probe", slice(4, 6))):
        products = centred[..., part, None] * centred[..., None, part]
        second, second_error = mean_and_error(products)
        measured[name + "_mean"] = run[name + "_mean"].values, np.hypot(error[..., part], run[name + "_mean_draw_se"])
        measured[name + "_cov"] = run[name + "_cov"].values, np.hypot(second_error, run[name + "_cov_draw_se"])
        reference |= {name + "_mean": mean[..., part], name + "_cov": second}
    check_means("logistic law", measured, reference, count, allowance=1e-12)
    assert float(np.abs(run.f_cov[-1] - run.f_cov[0]).max()) > 0.05


def test_squared_loss_by_draws_agrees_with_the_closed_form() -> None:
    """Oracle: the closed form. A pair of callables is a loss that is not known to be squared; the map is affine."""
    own = (lambda f, y: (f - y) ** 2, lambda f, y: 2 * (f - y))
    runs = [run_of(network_of("tanh", 2), Training(5, 0.15, loss), "ntp") for loss in ("squared", own)]
    assert [run.attrs["law_draws"] for run in runs] == [0, 4096]
    assert "f_cov_draw_se" not in runs[0] and float(runs[1].f_cov_draw_se.max()) < 1e-7  # rounding under a root
    for name in ("f_mean", "f_cov", "f_probe_mean", "f_probe_cov"):
        np.testing.assert_allclose(runs[1][name], runs[0][name], rtol=0, atol=ROUNDING, err_msg=name)
        np.testing.assert_allclose(runs[1][name + "_se"], runs[0][name + "_se"], rtol=1e-6, atol=ROUNDING)
    assert (runs[0].f.values == runs[1].f.values).all()


# Standard errors ------------------------------------------------------------------------------------------------------


FACTOR = 2.0  # over other seeds the logarithm of an entry scatters by at most 0.25, that of the mean by less than 0.1


def check_scatter(title: str, values: Array, errors: Array) -> None:
    """Assert that the variance of values (S, k) over runs is the mean of errors^2 (S, k), up to a factor of FACTOR.

    Of the entries in geometric mean, and of each up to the square of it. No t-statistic: squares are too skew for one
    at any S that can be afforded (`tests/null_statistics.py` found that it rejects too often).
    """
    ratio = np.log(values.var(axis=0, ddof=1) / (errors**2).mean(axis=0))
    print(f"{title}: variance over claimed, geometric mean {np.exp(ratio.mean()):.2f}, worst {np.exp(ratio).round(2)}")
    assert abs(ratio.mean()) < np.log(FACTOR) and np.abs(ratio).max() < 2 * np.log(FACTOR)


def entries(runs: list[xr.Dataset], suffix: str = "") -> Array:
    """Mean and covariance of f at the last step, of samples and probes, (S, k)."""
    names = ("f_mean", "f_probe_mean", "f_cov", "f_probe_cov")
    rows = [[run[name + suffix].values[-1] for name in names] for run in runs]
    return np.array([np.concatenate([v if v.ndim == 1 else v[np.triu_indices(len(v))] for v in row]) for row in rows])


def test_standard_errors_of_the_kernel_are_the_scatter_of_runs() -> None:
    """Oracle: the variance over 80 seeds, each with a kernel of its own."""
    training, options = Training(6, rates_of(2)), {"particles": 128, "replicas": 6, "sobol": False}

    def check(attempt: int) -> None:
        seeds = range(80 * attempt, 80 * (attempt + 1))
        runs = [run_of(network_of("erf", 2), training, "ntp", seed=seed, **options) for seed in seeds]
        check_scatter("jackknife", entries(runs), entries(runs, "_se"))
        with pytest.raises(AssertionError):  # control
            check_scatter("errors FACTOR times as large", entries(runs), FACTOR * entries(runs, "_se"))

    confirmed(check, ALPHA**0.5)


@pytest.mark.slow
def test_standard_errors_of_the_draws_are_the_scatter_of_runs() -> None:
    """Oracle: the variance over 80 seeds of linear networks, whose kernel has no error."""
    training, options = Training(6, 1.5, "logistic"), {"particles": 64, "replicas": 1}

    def check(attempt: int) -> None:
        seeds = range(80 * attempt, 80 * (attempt + 1))
        runs = [run_of(network_of("identity", 1), training, "ntp", seed=seed, **options) for seed in seeds]
        check_scatter("draws", entries(runs), entries(runs, "_draw_se"))

    confirmed(check, ALPHA**0.5)


def test_one_replica_has_no_standard_errors() -> None:
    run = run_of(network_of("tanh", 2), Training(2, 0.1), "ntp", replicas=1)
    for name in run:
        assert np.isnan(run[name]).all() == str(name).endswith("_se"), name


# Replicas -------------------------------------------------------------------------------------------------------------


MANY = {"particles": 64, "replicas": 500, "sobol": False}


def check_replicas(run: xr.Dataset) -> None:
    """Assert that replicas have the law that the run states, samples and probes jointly, first and last step.

    u = S^-1 (f - mean) has mean 0 and covariance 1, if S S' is the covariance of the samples, or of the probes; and at
    t = 0 of both together.
    """
    m, replicas = run.sizes["sample"], run.sizes["replica"]
    start = np.concatenate([run.f.values[:, 0], run.f_probe.values[:, 0]], axis=1)
    white = {"f_0": np.linalg.solve(np.linalg.cholesky(pooled(run)[0]), start.T).T}
    for name in ("f", "f_probe"):
        root = np.linalg.cholesky(run[name + "_cov"].values[-1])
        white[name + "_T"] = np.linalg.solve(root, (run[name].values[:, -1] - run[name + "_mean"].values[-1]).T).T
    measured = {f"{name}, mean": mean_and_error(u) for name, u in white.items()}
    measured |= {f"{name}, cov": mean_and_error(u[:, :, None] * u[:, None]) for name, u in white.items()}
    reference = {k: np.zeros(v.shape) if k.endswith("mean") else np.eye(len(v)) for k, (v, _) in measured.items()}
    assert m == 4 and start.shape[1] == 6
    check_means("replicas", measured, reference, replicas)


@pytest.mark.parametrize("limit", LIMITS)
def test_replicas_follow_the_law(limit: str) -> None:
    """Oracle: the law of the same run, at t = 0 and after training; 500 replicas."""
    check_replicas(run_of(network_of("tanh", 1), Training(4, rates_of(1)), limit, **MANY))


def test_independent_draws_for_samples_and_probes_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: f_0 with the right law on samples and on probes, but not jointly."""

    def apart(task, kernel):
        other = replace(kernel, covariance=kernel.covariance * (np.arange(6)[:, None] // 4 == np.arange(6) // 4))
        return right(task, other)

    right = lazy.replica_starts
    monkeypatch.setattr(lazy, "replica_starts", apart)
    with pytest.raises(AssertionError, match="f_0, cov"):
        check_replicas(run_of(network_of("tanh", 1), Training(4, rates_of(1)), "ntp", **MANY))


def test_the_spread_stays_when_particles_are_added() -> None:
    """Oracle: the closed form, at M and 16 M: the kernel's error falls, the spread of f does not."""
    network, training = network_of("erf", 2), Training(5, rates_of(2))
    few, many = (run_of(network, training, "ntp", particles=M, replicas=16) for M in (128, 2048))
    covariance = law(*tangent_kernels(INPUTS, network, training.rates(0, 2), True), PROBLEM, training)[1]
    exact = {"f_cov": covariance[-1, :4, :4], "f_probe_cov": covariance[-1, 4:, 4:]}
    for run in (few, many):
        measured = {name: (run[name].values[-1], run[name + "_se"].values[-1]) for name in exact}
        check_means("spread", measured, exact, 16)
    assert float(many.f_cov_se[-1].max()) < 0.4 * float(few.f_cov_se[-1].max())
    assert (np.diag(many.f_cov[-1]) > 20 * np.diag(many.f_cov_se[-1])).all()


# Schema, reproducibility, refusals ------------------------------------------------------------------------------------


def test_the_schema_is_that_of_mup() -> None:
    """Oracle: the run of muP; features and kernels are constant in the step, and those of muP at t = 0."""
    problem = Problem(PROBLEM.inputs, PROBLEM.targets, PROBLEM.probes, [1.0, -1.0])
    options = {"record_every": 2, "probe_every": 3, "joint_every": 4, "snapshots": [0, 5], "problem": problem}
    training = Training(5, 0.1, batches={"size": 2, "seed": 3})
    mup, ntp = (run_of(network_of("tanh", 2), training, limit, **options) for limit in ("mup", "ntp"))
    own = {"rank", "residual", "dropped", "innovation", "increment", "guards"}  # of bases, which NTP has none of
    expected = {name: mup[name].dims for name in mup if str(name).split("_")[0] not in own}
    assert expected == {name: ntp[name].dims for name in ntp if name not in lazy.VARIABLES}
    assert set(ntp.coords) == set(mup.coords) - {"guard"} and {*mup.attrs, "law_draws"} == set(ntp.attrs)
    assert "NTP" in ntp.title and all(np.isfinite(ntp[name]).all() for name in ntp)
    assert (ntp.batch.values == mup.batch.values).all()
    for name in ("kernel_h", "kernel_x", "mean_h", "mean_x", "Z_h", "Z_x", "kernel_h0", "kernel_x0"):
        steps, start = ntp[name].values, mup[name].values[:, :1]
        np.testing.assert_allclose(steps, np.broadcast_to(start, steps.shape), rtol=0, atol=ROUNDING, err_msg=name)
    assert (ntp.feature_change_h == 0).all() and (ntp.feature_change_x == 0).all()
    kernel = np.einsum("rlia,rlja->rlij", *[ntp.Z_dh.values[:, 1]] * 2) / 256
    np.testing.assert_allclose(kernel, ntp.kernel_dh[:, 0], atol=0.5)  # of 256 particles: size and sign, no more
    np.testing.assert_allclose(ntp.loss, ((ntp.f - ntp.targets) ** 2).sum("sample"), rtol=1e-12)
    np.testing.assert_allclose(ntp.chi, 2 * (ntp.f - ntp.targets), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_a_longer_run_begins_as_a_shorter_one(loss: str) -> None:
    """Oracle: bitwise identity; minibatches."""
    runs = [
        run_of(network_of("tanh", 2), Training(T, 0.1, loss, batches={"size": 3, "seed": 1}), "ntp", record_every=2)
        for T in (4, 6)
    ]
    for name in runs[0]:
        if name != "batch":  # there is none at the last step
            shared = {dim: [0, 2, 4] for dim in ("step", "probe_step") if dim in runs[0][name].dims}
            assert (runs[0][name].values == runs[1][name].sel(shared).values).all(), name


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_training_knows_of_probes_in_no_bit(loss: str) -> None:
    """Oracle: bitwise identity of a run without probes, of one with other options, of one with threads."""
    training = Training(4, 0.1, loss)
    run = run_of(network_of("silu", 3), training, "ntp", particles=4096)
    alone = run_of(network_of("silu", 3), training, "ntp", Problem(PROBLEM.inputs, PROBLEM.targets), particles=4096)
    assert not [name for name in alone if "probe" in str(name)]
    for name in alone:
        assert (alone[name].values == run[name].values).all(), name
    again = run_of(network_of("silu", 3), training, "ntp", particles=4096, threads=2, workers=2, snapshots=[1])
    for name in run:
        assert (again[name].values == run[name].values).all(), name


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_a_probe_that_is_a_sample_returns_its_f(loss: str) -> None:
    """Oracle: the sample's own; the covariance of f_0 is singular here. Also with a sample that is given twice."""
    inputs = np.vstack([INPUTS[:3], INPUTS[1]])
    problem = Problem(inputs, [1.0, -1.0, 1.0, 1.0], INPUTS[[2, 4, 0]])
    with warnings.catch_warnings(action="ignore", category=Notice):  # Assumption 4.1 fails
        run = run_of(network_of("tanh", 3), Training(5, 0.1, loss), "ntp", problem)
    for probe, sample in ((0, 2), (2, 0)):
        for name in ("f", "f_mean"):
            mirror = run[name.replace("f", "f_probe")].values[..., probe]
            np.testing.assert_allclose(mirror, run[name].values[..., sample], rtol=0, atol=1e-10)
        np.testing.assert_allclose(run.f_probe_cov[:, probe, probe], run.f_cov[:, sample, sample], rtol=0, atol=1e-10)
    np.testing.assert_allclose(run.f[..., 0, 1], run.f[..., 0, 3], rtol=0, atol=1e-10)


def test_the_factor_of_a_singular_matrix() -> None:
    """Oracle: S S' is the matrix; Cholesky where that exists."""
    x = np.random.default_rng(1).standard_normal((5, 3))
    x[1] = 0.0
    for matrix in (x @ x.T, np.zeros((2, 2)), np.eye(3)):
        root = factor(matrix)
        np.testing.assert_allclose(root @ root.T, matrix, rtol=0, atol=ROUNDING)
        assert (np.triu(root, 1) == 0).all()
    full = x[2:] @ x[2:].T
    np.testing.assert_allclose(factor(full), np.linalg.cholesky(full), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("loss", ["squared", (lambda f, y: (f - y) ** 4, lambda f, y: 4 * (f - y) ** 3)])
def test_a_rate_that_is_too_high_stops_the_run(loss) -> None:
    """The finished steps are kept, the same as those of a run that ends there, with finite errors."""
    case = network_of("tanh", 2), "ntp"
    with pytest.raises(Diverged, match=r"exceeds 1e\+06; a smaller learning rate is needed, at step") as stopped:
        run_of(case[0], Training(60, 5.0, loss), case[1])
    run, step = stopped.value.run, stopped.value.step
    assert 0 < step < 60 and run.sizes["step"] == run.sizes["probe_step"] == step
    shorter = run_of(case[0], Training(step - 1, 5.0, loss), case[1])
    for name in ("f", "f_mean", "f_cov", "f_cov_se", "f_probe_cov_se"):
        assert (run[name].values == shorter[name].values).all() and np.isfinite(run[name]).all(), name


def test_second_moments_that_are_not_finite_are_refused() -> None:
    with pytest.raises(Diverged, match="second moments at step 0 are not finite") as stopped:
        run_of(Network(2, "identity", 1e154), Training(2, 0.1), "ntp")
    assert stopped.value.run is None


@pytest.mark.parametrize("limit", ["ntp", "sp"])
@pytest.mark.parametrize("size, overflows", [(1e60, False), (1e76, True), (1e155, True), (1e300, True)])
def test_targets_whose_squares_overflow_are_divergence(limit: str, size: float, overflows: bool) -> None:
    """f may be as large as the targets, and their loss is then not a number that can be written."""
    problem = Problem(PROBLEM.inputs, size * PROBLEM.targets)
    if not overflows:
        run = run_of(network_of("tanh", 1), Training(2, rates_of(1)), limit, problem=problem)
        assert all(np.isfinite(values).all() for values in run.data_vars.values())
        return
    with pytest.raises(Diverged, match="replica 0: diverged: the loss or its derivative .* at step 0") as stopped:
        run_of(network_of("tanh", 1), Training(2, rates_of(1)), limit, problem=problem)
    assert stopped.value.run is None


def test_refusals_name_what_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    many = Problem(PROBLEM.inputs, PROBLEM.targets, np.random.default_rng(0).standard_normal((40, 4)))
    with pytest.raises(ResourceError, match="samples and probes together, 44 here: particles=91 is sufficient"):
        run_of(network_of("tanh", 2), Training(1, 0.1), "ntp", many, particles=64)
    with pytest.warns(Notice, match="more arrays than half of its 91 particles") as given:
        run = run_of(network_of("tanh", 2), Training(1, 0.1), "ntp", many, particles=91)
    # of the layer that draws after its features are known
    assert len(given) == 1 and all(str(notice.message) in run.notices for notice in given)
    with pytest.raises(InputError, match="parts"):
        run_of(network_of("tanh", 2), Training(1, 0.1), "ntp", snapshots=[0], parts=True)
    monkeypatch.setattr(lazy, "available_bytes", lambda: 1000)
    with pytest.raises(ResourceError, match=r"law of f on 4 samples and 2 probes.*larger probe_every"):
        run_of(network_of("tanh", 2), Training(1, 0.1), "ntp")


def test_progress_and_standard_error() -> None:
    """Every step of every replica is reported, with its loss; the kernels' error is that over replicas."""
    seen: list[tuple[int, int, float]] = []
    run = run_of(network_of("relu", 2), Training(3, 0.1), "sp", progress=lambda *row: seen.append(row))
    assert seen == [(t, r, float(run.loss[r, t])) for t in range(4) for r in range(3)]
    assert float(standard_error(run.kernel_x).max()) > 0
