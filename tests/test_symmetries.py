"""Symmetries of the limit that the engine keeps exactly. Oracle of each: an identity between two runs."""

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from tests.oracles.levels import ALPHA, critical, detectable, spend
from tpsim import Network, Notice, Problem, Training, mlp, simulate
from tpsim.core import matrix
from tpsim.core.noise import NormalSource

SETTINGS = {"particles": 512, "replicas": 1, "progress": False}
RNG = np.random.default_rng(11)
INPUTS = RNG.standard_normal((4, 5)) / np.sqrt(5)
TARGETS = np.array([1.0, -1.0, 0.5, -0.3])
NETWORK = Network(3, "tanh", [1.0, 1.2, 0.9, 1.1])
TRAINING = Training(5, [0.1, 0.15, 0.2, 0.1])
SCALARS = ("f", "kernel_h", "kernel_x", "kernel_dh", "kernel_h0", "kernel_x0")


def assert_same(a: xr.Dataset, b: xr.Dataset, names, bound: float) -> None:
    for name in names:
        scale = max(1.0, float(np.abs(a[name]).max()))
        assert_allclose(a[name].values, b[name].values, rtol=0, atol=bound * scale, err_msg=name)


def test_rotating_the_inputs_changes_nothing():
    rotation = np.linalg.qr(RNG.standard_normal((5, 5)))[0]
    a = simulate(Problem(INPUTS, TARGETS), NETWORK, TRAINING, **SETTINGS)
    b = simulate(Problem(INPUTS @ rotation, TARGETS), NETWORK, TRAINING, **SETTINGS)
    assert_same(a, b, SCALARS, 1e-12)


def test_duplicating_every_sample_and_halving_the_rate_changes_nothing():
    a = simulate(Problem(INPUTS, TARGETS), NETWORK, TRAINING, **SETTINGS)
    halved = Training(5, [0.05, 0.075, 0.1, 0.05])
    twice = Problem(np.concatenate([INPUTS, INPUTS]), np.concatenate([TARGETS, TARGETS]))
    with pytest.warns(Notice, match="Assumption 4.1"):
        b = simulate(twice, NETWORK, halved, **SETTINGS)
    for half in (slice(0, 4), slice(4, 8)):
        assert_same(a, b.isel(sample=half, sample2=half), SCALARS, 1e-12)


def test_flipping_the_readout_the_targets_and_the_backward_noise_flips_f(monkeypatch):
    """(What_0, y, V) -> -(What_0, y, V) gives f -> -f with the same features."""
    a = simulate(Problem(INPUTS, TARGETS), NETWORK, TRAINING, **SETTINGS)
    original = NormalSource.normal

    def flipped(self, key):
        backward = key[0] == mlp._READOUT or (key[0] in (2, 3) and key[1] == matrix.BACKWARD)
        return -original(self, key) if backward else original(self, key)

    monkeypatch.setattr(NormalSource, "normal", flipped)
    b = simulate(Problem(INPUTS, -TARGETS), NETWORK, TRAINING, **SETTINGS)
    assert_same(a.assign(f=-a.f), b, SCALARS, 1e-12)


def test_a_zero_rate_changes_nothing_and_names_the_undefined_ratios():
    with pytest.warns(Notice, match="undefined ratios"):
        run = simulate(Problem(INPUTS, TARGETS), NETWORK, Training(3, 0.0), **SETTINGS)
    for name in ("f", "kernel_h", "kernel_x", "kernel_dh", "feature_change_h"):
        assert_allclose(run[name], run[name].isel(step=[0, 0, 0, 0]), rtol=0, atol=1e-13, err_msg=name)
    assert_allclose(run.f, 0.0, rtol=0, atol=1e-15)
    assert np.isnan(run.residual_forward.sel(layer=[2, 3], step=[1, 2, 3])).all()
    assert "residual_forward" in run.attrs["notices"]


@pytest.mark.parametrize("noise", ["matched", "iid", "width"])
@pytest.mark.parametrize("batches", [None, {"size": 2, "seed": 3}])
def test_a_run_is_a_bit_identical_prefix_of_a_longer_one(noise, batches):
    short = simulate(Problem(INPUTS, TARGETS), NETWORK, Training(4, 0.2, batches=batches), noise=noise, **SETTINGS)
    long = simulate(Problem(INPUTS, TARGETS), NETWORK, Training(7, 0.2, batches=batches), noise=noise, **SETTINGS)
    for name in (*SCALARS, "rank_forward", "residual_backward", "loss", "mean_x"):
        assert_array_equal(short[name].values, long[name].isel(step=slice(0, 5)).values, err_msg=name)


@pytest.mark.parametrize("noise", ["matched", "width"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_probe_that_is_a_training_point_returns_its_f(noise, depth):
    """Residuals below `tolerance` are dropped at different times in training and in replay: f agrees to their size."""
    problem = Problem(INPUTS, TARGETS, probes=INPUTS)
    run = simulate(problem, Network(depth, "silu"), TRAINING_BY_DEPTH[depth], noise=noise, tolerance=1e-10, **SETTINGS)
    assert_allclose(run.f_probe.values, run.f.values, rtol=0, atol=1e-11)


TRAINING_BY_DEPTH = {depth: Training(5, 0.2) for depth in (1, 2, 3)}


def test_training_is_bit_identical_with_and_without_probes():
    plain = simulate(Problem(INPUTS, TARGETS), NETWORK, TRAINING, **SETTINGS)
    probed = simulate(Problem(INPUTS, TARGETS, probes=INPUTS + 0.3), NETWORK, TRAINING, probe_every=2, **SETTINGS)
    for name in set(plain.data_vars) - {"guards"}:
        assert_array_equal(plain[name].values, probed[name].values, err_msg=name)
    assert (probed.guards >= plain.guards).all()  # what acts on probes is counted as well
    assert probed.probe_step.values.tolist() == [0, 2, 4, 5]


def test_permuting_samples_is_equal_in_law_only():
    """Oracle: two independent sets of 24 replicas, 20 comparisons."""
    order = [2, 0, 3, 1]
    kwargs = SETTINGS | {"replicas": 24}
    a = simulate(Problem(INPUTS, TARGETS), NETWORK, TRAINING, **kwargs)
    b = simulate(Problem(INPUTS[order], TARGETS[order]), NETWORK, TRAINING, seed=1, **kwargs)
    difference = a.f.mean("replica").values[1:, order] - b.f.mean("replica").values[1:]
    error = np.sqrt((a.f.var("replica", ddof=1).values[1:, order] + b.f.var("replica", ddof=1).values[1:]) / 24)
    print("minimum detectable effect", detectable(difference.size, 46) * error.max())
    assert (np.abs(difference) < critical(difference.size, 46) * error).all()
    spend(ALPHA)
