"""`noise="width"` is a dense network of that width, in law; probes are what dense networks say of held-out points.

Oracle: dense muP networks trained in torch (`finite.train`), which share no code with the engine but the losses.
"""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import finite
from tests.oracles.compare import check_means, mean_and_error, remove_controls
from tests.oracles.finite_limit import WEIGHTS, WIDTHS
from tests.oracles.same_law import Samples, check_same_law
from tpsim import Network, Problem, Training, probes, simulate
from tpsim.core import ParticleSpace

Array = np.ndarray
Case = tuple[Problem, Network, Training, int]  # and the width
KERNELS = ("kernel_h", "kernel_x", "kernel_dh")


def problem_of(m: int, held_out: int, seed: int) -> Problem:
    """Normal inputs of norm about 1 in six dimensions; the last ones are not trained on."""
    inputs = np.random.default_rng(seed).standard_normal((m + held_out, 6)) / np.sqrt(6)
    return Problem(inputs[:m], np.where(np.arange(m) % 2, -1.0, 1.0), inputs[m:])


# Small enough that all of R^n is used up: m (T + 1) > n arguments of every matrix, and both bases reach rank n.
TANH = (problem_of(4, 3, 0), Network(2, "tanh", [1.0, 1.2, 0.9]), Training(8, [0.3, 0.4, 0.2], reduction="mean"), 16)
SILU = (
    problem_of(4, 3, 3),
    Network(3, "silu", [1.4, 1.0, 1.1, 0.9]),
    Training(9, [0.1, 0.15, 0.12, 0.1], reduction="mean", batches={"size": 3, "seed": 1}),
    32,
)
# Wide enough that held-out points meet a part of W_0 that training never touched: rank at most m (T + 1) = 12 of 32.
UNSEEN = (problem_of(2, 3, 5), Network(3, "tanh", 1.2), Training(5, 0.3), 32)


def width_runs(case: Case, replicas: int) -> xr.Dataset:
    problem, network, training, width = case
    return simulate(
        problem, network, training, width, replicas, noise="width", probe_every=3, progress=False, threads=1
    )


def dense_runs(case: Case, seeds: int) -> xr.Dataset:
    problem, network, training, width = case
    quantities = ("f", "f_probe", *KERNELS)
    return finite.train(
        problem, network, training, width, seeds=seeds, quantities=quantities, probe_every=3, seed=7
    )


def statistics(run: xr.Dataset) -> Samples:
    """f at all steps and its whole increment, on training and held-out points; kernels in light-tailed coordinates.

    A kernel of a narrow network is nearly log-normal: its diagonal is compared by its logarithm, the rest by cosines.
    """
    f, held_out = run.f.values, run.f_probe.values
    samples = {"f": f, "f_T - f_0": f[:, -1] - f[:, 0], "f_probe": held_out}
    samples["f_probe_T - f_probe_0"] = held_out[:, -1] - held_out[:, 0]
    rows, columns = np.triu_indices(f.shape[-1], 1)
    for name in KERNELS:
        kernel = run[name].values
        size = np.log(np.einsum("rtlii->rtli", kernel)) / 2
        samples[f"log {name}"] = size
        samples[f"cos {name}"] = kernel[..., rows, columns] * np.exp(-size[..., rows] - size[..., columns])
    return samples


@pytest.mark.parametrize(
    "case,replicas,seeds",
    [pytest.param(TANH, 800, 4000, id="tanh", marks=pytest.mark.slow), pytest.param(SILU, 450, 3000, id="silu")],
)
def test_width_noise_is_a_dense_network_in_law(case: Case, replicas: int, seeds: int) -> None:
    """Mean and standard deviation over seeds, f_0 and every later step, with all of R^n used up."""
    runs, networks = width_runs(case, replicas), dense_runs(case, seeds)
    assert (runs.rank_forward[:, -1, 1:] == case[-1]).all() and (runs.rank_backward[:, -1, 1:] == case[-1]).all()
    assert networks.f.std("replica").min() > 0.02  # f_0 included
    check_same_law(f"width {case[-1]}", statistics(runs), statistics(networks))


@pytest.mark.slow
def test_width_noise_on_held_out_points() -> None:
    """As above for f_probe where the residual noise of the replay matters, at l = 2 and l = L = 3."""
    runs, networks = width_runs(UNSEEN, 400), dense_runs(UNSEEN, 3000)
    assert runs.rank_forward.max() <= 12
    check_same_law("held-out points, width 32", statistics(runs), statistics(networks))


def test_without_the_projection_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: fresh draws that are not projected off the known block count <D, W X> twice."""
    monkeypatch.setattr(ParticleSpace, "_shape", lambda self, z, complement: z)
    runs, networks = width_runs(TANH, 120), dense_runs(TANH, 1500)
    with pytest.raises(AssertionError, match=r"mean of log kernel_h\(.*log std of "):
        check_same_law("no projection", statistics(runs), statistics(networks))


def test_without_the_residual_noise_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: held-out points seen through the trained span alone vary too little."""
    monkeypatch.setattr(probes, "_residual_norm", lambda square, c, tolerance: np.zeros_like(square))
    runs, networks = width_runs(UNSEEN, 100), dense_runs(UNSEEN, 1500)
    with pytest.raises(AssertionError, match=r"log std of f_probe\("):
        check_same_law("no residual noise", statistics(runs), statistics(networks))


@pytest.mark.parametrize("activation", ["tanh", pytest.param("silu", marks=pytest.mark.slow)])
def test_probes_of_the_limit_on_held_out_points(activation: str) -> None:
    """`matched` against widths 32, 64, 128 extrapolated (R_n = 2 f(2n) - f(n), then (4 R_2n - R_n) / 3).

    f_0 on training and held-out points, of mean 0 at every width, is the control variate.
    """
    problem, replicas = problem_of(4, 4, 4), 48
    network = Network(3, activation, [1.0, 1.2, 1.2, 1.0])
    training = Training(8, [0.2, 0.3, 0.25, 0.2], reduction="mean")
    limit, variance = 0.0, 0.0
    options = {"seeds": 4000, "quantities": ("f_probe",), "probe_every": 4, "dtype": "float32", "seed": 9}
    for width, weight in zip(WIDTHS, WEIGHTS, strict=True):
        f = finite.train(problem, network, training, width, **options)
        controls = np.concatenate([f.f.values[:, 0], f.f_probe.values[:, 0]], axis=1)
        mean, error = mean_and_error(remove_controls(f.f_probe.values[:, 1:], controls, np.zeros(8)))
        limit, variance = limit + weight * mean, variance + (weight * error) ** 2
    run = simulate(problem, network, training, 1024, replicas, probe_every=4, progress=False, threads=1)
    mean, error = mean_and_error(run.f_probe.values)
    assert np.abs(limit).max() > 0.1
    measured = {"f_probe": (mean[1:], np.hypot(error[1:], np.sqrt(variance)))}
    check_means(f"held-out points, {activation}", measured, {"f_probe": limit}, replicas)
    check_means(f"held-out f_0, {activation}", {"f_0": (mean[0], error[0])}, {"f_0": np.zeros(4)}, replicas)
