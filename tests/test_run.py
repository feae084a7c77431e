"""The run and its labelled result: names, dimensions, recording, stops, notices, bad input."""

import json
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

import tpsim
from tests.oracles.levels import ALPHA, spend
from tpsim import (
    Diverged,
    FileError,
    InputError,
    Network,
    Notice,
    Problem,
    RankError,
    ResourceError,
    Training,
    simulate,
)

RNG = np.random.default_rng(7)
INPUTS = RNG.standard_normal((3, 4)) / 2
TARGETS = np.array([1.0, -1.0, 1.0])
PROBLEM = Problem(INPUTS, TARGETS)
SMALL = {"particles": 256, "replicas": 2}


def test_names_and_dimensions_are_those_promised():
    problem = Problem(INPUTS, TARGETS, probes=INPUTS[:2] + 0.1, probe_targets=TARGETS[:2])
    run = simulate(problem, Network(2), Training(4), **SMALL, snapshots=[0, 4], parts=True, probe_every=2)
    kernel = ("replica", "step", "layer", "sample", "sample2")
    expected = {
        "f": ("replica", "step", "sample"),
        "chi": ("replica", "step", "sample"),
        "loss": ("replica", "step"),
        "f_probe": ("replica", "probe_step", "probe"),
        **dict.fromkeys(("kernel_h", "kernel_x", "kernel_dh", "kernel_h0", "kernel_x0"), kernel),
        **dict.fromkeys(("mean_h", "mean_x", "residual_forward", "residual_backward"), kernel[:-1]),
        "increment_forward": kernel[:-1],
        **dict.fromkeys(("innovation_forward", "innovation_backward"), kernel[:3]),
        **dict.fromkeys(("feature_change_h", "feature_change_x", "rank_forward", "rank_backward"), kernel[:3]),
        **dict.fromkeys(("dropped_forward", "dropped_backward"), kernel[:3]),
        "batch": ("step", "sample"),
        "guards": ("replica", "guard"),
        "targets": ("sample",),
        "probe_targets": ("probe",),
        **dict.fromkeys(("Z_h", "Z_x", "Z_dh"), ("replica", "snapshot_step", "layer", "sample", "particle")),
        **dict.fromkeys(
            ("Z_h_parts", "Z_dx_parts"), ("replica", "snapshot_step", "layer", "sample", "part", "particle")
        ),
    }
    assert {name: run[name].dims for name in run.data_vars} == expected
    assert run.step.values.tolist() == [0, 1, 2, 3, 4]
    assert run.layer.values.tolist() == [1, 2]
    assert run.probe_step.values.tolist() == [0, 2, 4]
    assert all("long_name" in run[name].attrs for name in run.data_vars)
    config = json.loads(run.attrs["config"])
    assert config["simulation"]["tolerance"] == 3e-3 and config["simulation"]["sobol"] is True
    assert config["network"]["init_scale"] == [1.0, 1.0, 1.0]
    assert json.loads(run.attrs["versions"])["tpsim"] == tpsim.results.versions()["tpsim"]
    # what is undefined at layer 1 is NaN there, and finite elsewhere
    hidden = {name for name in expected if name.startswith(("residual", "increment", "innovation", "dropped"))}
    for name in set(expected) - hidden:
        assert np.isfinite(run[name]).all(), name
    for name in hidden:
        assert np.isfinite(run[name].sel(layer=2)).all() and np.isnan(run[name].sel(layer=1)).all(), name


def test_the_first_and_the_last_step_are_always_recorded():
    run = simulate(PROBLEM, Network(2), Training(7), **SMALL, record_every=3, joint_every=5)
    every = simulate(PROBLEM, Network(2), Training(7), **SMALL)
    assert run.step.values.tolist() == [0, 3, 6, 7]
    assert run.kernel_h0.dims[1] == "joint_step" and run.joint_step.values.tolist() == [0, 5, 7]
    assert_array_equal(run.f.values, every.f.sel(step=[0, 3, 6, 7]).values)
    assert_array_equal(run.kernel_h0.values, every.kernel_h0.sel(step=[0, 5, 7]).values)


def test_many_samples_record_the_joint_kernels_coarsely():
    inputs = RNG.standard_normal((65, 3))
    run = simulate(Problem(inputs, np.ones(65)), Network(1), Training(20, 0.01, reduction="mean"), 512, 1)
    assert run.joint_step.values.tolist() == list(range(0, 21, 2))


def test_recorded_quantities_are_consistent():
    """Oracle: E|Z_t - Z_0|^2 = K_t + K_0 - 2 K_0t on the diagonal; chi and loss from f; snapshots give the kernels."""
    run = simulate(
        PROBLEM,
        Network(3, "gelu", [1.1, 1.2, 0.9, 1.3]),
        Training(4, 0.3, reduction="mean"),
        **SMALL,
        snapshots=[0, 2, 4],
        parts=True,
    )
    assert_allclose(run.chi, 2 * (run.f - run.targets) / 3, rtol=0, atol=1e-15)
    assert_allclose(run.loss, ((run.f - run.targets) ** 2).mean("sample"), rtol=0, atol=1e-15)
    for kind in ("h", "x"):
        trace = {name: np.einsum("rtlii->rtl", run[f"kernel_{name}"]) for name in (kind, kind + "0")}
        change = np.sqrt(np.maximum(trace[kind] + trace[kind][:, :1] - 2 * trace[kind + "0"], 0) / trace[kind][:, :1])
        assert_allclose(run[f"feature_change_{kind}"], change, rtol=0, atol=1e-7)  # the square root of rounding
    Z = run.Z_h.values
    K = np.einsum("rtlia,rtlja->rtlij", Z, Z) / Z.shape[-1]
    assert_allclose(run.kernel_h.sel(step=[0, 2, 4]), K, rtol=0, atol=1e-13)
    assert_allclose(run.Z_h_parts.sum("part"), run.Z_h, rtol=0, atol=1e-12)
    assert_array_equal(run.Z_h_parts.sel(part="Zdot", layer=1), 0.0)
    Zdx_last = run.Z_dx_parts.sel(layer=3)
    assert_array_equal(Zdx_last.sel(part="Zhat").values[:, 0], Zdx_last.sel(part="Zhat").values[:, 2])
    # f_t = E[What_t x^L_t], from the particles themselves
    f = (Zdx_last.sum("part") * run.Z_x.sel(layer=3)).mean("particle")
    assert_allclose(run.f.sel(step=[0, 2, 4]), f, rtol=0, atol=1e-14)


def test_a_zero_output_at_the_start_is_exact_in_the_limit_and_random_at_finite_width():
    """Oracle: f_0 = 0 in the limit; at width n, f_0 ~ N(0, s^2 E[x x'] / n): chi^2 of 128 values at level ALPHA."""
    from scipy.stats import chi2

    for noise in ("matched", "iid"):
        assert_allclose(simulate(PROBLEM, Network(2), Training(0), 256, 4, noise).f, 0.0, rtol=0, atol=1e-14)
    run = simulate(PROBLEM, Network(2), Training(0), 256, 128, "width")
    variance = np.einsum("rii->ri", run.kernel_x.values[:, 0, 1])[:, 0] / 256
    statistic = float((run.f.values[:, 0, 0] ** 2 / variance).sum())
    low, high = chi2.ppf(ALPHA / 2, 128), chi2.isf(ALPHA / 2, 128)
    print(f"minimum detectable effect: variance ratio {low / 128:.2f} to {high / 128:.2f}")
    assert low < statistic < high
    spend(ALPHA)


def test_schedules_of_the_learning_rate():
    """Oracle: a constant schedule is the constant; after the rate drops to zero f stands still."""
    constant = simulate(PROBLEM, Network(2), Training(4, 0.2), **SMALL)
    callable_ = simulate(PROBLEM, Network(2), Training(4, lambda t: 0.2), **SMALL)
    listed = simulate(PROBLEM, Network(2), Training(4, lambda t: [0.2, 0.2, 0.2]), **SMALL)
    assert_array_equal(constant.f, callable_.f)
    assert_array_equal(constant.f, listed.f)
    with pytest.warns(Notice, match="undefined"):
        stopped = simulate(PROBLEM, Network(2), Training(4, lambda t: 0.2 if t < 2 else 0.0), **SMALL)
    assert_array_equal(stopped.f.values[:, :3], constant.f.values[:, :3])
    assert_allclose(stopped.f.values[:, 3:], stopped.f.values[:, 2:3].repeat(2, axis=1), rtol=0, atol=1e-13)


def test_minibatches_follow_the_indicator_and_mean_divides_by_the_size_of_the_batch():
    """Oracle: a batch {0, 1} of three samples is training on these two, seen from the third as a probe of the law."""
    pair = simulate(Problem(INPUTS[:2], TARGETS[:2]), Network(1), Training(3, 0.2, reduction="mean"), **SMALL)
    run = simulate(PROBLEM, Network(1), Training(3, 0.2, reduction="mean", batches=[[1, 0]] * 3), **SMALL)
    assert run.batch.values.tolist() == [[True, True, False]] * 3 + [[False] * 3]
    # the draws differ (a third direction of W^1 and x^1_0), the law does not: bound 8 spreads of M = 256
    assert_allclose(run.f.values[..., :2], pair.f.values, rtol=0, atol=8 * 256**-0.65)
    epochs = Training(6, batches={"size": 2, "seed": 4})
    batches = [set(b.tolist()) for b in epochs.batch_indices(3)]
    assert [len(b) for b in batches] == [2, 1] * 3
    assert all(batches[k] | batches[k + 1] == {0, 1, 2} for k in (0, 2, 4))


def test_unrecorded_steps_of_a_minibatch_run_evaluate_the_batch_only():
    run = simulate(PROBLEM, Network(2), Training(5, 0.2, batches={"size": 1, "seed": 0}), **SMALL, record_every=5)
    # step 0 adds 3 directions, steps 1..4 one each, step 5 three
    assert run.rank_forward.sel(layer=2, replica=0).values.tolist() == [3, 10]


def test_a_users_activation_and_loss_are_used():
    """Oracle: the built-in ones, through numpy instead of the kernels."""
    own = Network(2, (np.tanh, lambda h: 1 - np.tanh(h) ** 2))
    loss = (lambda f, y: (f - y) ** 2, lambda f, y: 2 * (f - y))
    a = simulate(PROBLEM, own, Training(4, 0.2, loss=loss), **SMALL)
    b = simulate(PROBLEM, Network(2, "tanh"), Training(4, 0.2), **SMALL)
    assert_allclose(a.f, b.f, rtol=0, atol=1e-12)
    other = simulate(PROBLEM, Network(2, (np.sin, np.cos)), Training(4, 0.2, loss=loss), **SMALL)
    prints = [json.loads(run.attrs["config"])["network"]["activation_fingerprint"] for run in (a, a, other)]
    assert prints[0] == prints[1] != prints[2]


def test_a_derivative_that_is_none_is_noticed():
    with pytest.warns(Notice, match="the activation's derivative is not the derivative"):
        simulate(PROBLEM, Network(2, (np.tanh, np.tanh)), Training(1), **SMALL)
    with pytest.warns(Notice, match="the loss's derivative is not the derivative"):
        simulate(PROBLEM, Network(2), Training(1, loss=(lambda f, y: (f - y) ** 2, lambda f, y: f - y)), **SMALL)


def test_standard_errors_come_from_replicas():
    run = simulate(PROBLEM, Network(1), Training(2), 256, 5)
    error = tpsim.standard_error(run.f)
    assert_allclose(error, run.f.values.std(axis=0, ddof=1) / np.sqrt(5))
    both = tpsim.summary(run)
    assert_allclose(both.f.sel(statistic="se"), error)
    assert_allclose(both.loss.sel(statistic="mean"), run.loss.mean("replica"))
    assert np.isnan(tpsim.standard_error(run.isel(replica=[0])).f).all()


def test_saving_and_loading_is_the_identity(tmp_path):
    run = simulate(PROBLEM, Network(2), Training(3), **SMALL)
    path = tpsim.save(run, tmp_path / "run.nc")
    xr.testing.assert_identical(tpsim.load(path), run)
    assert [p.name for p in tmp_path.iterdir()] == ["run.nc"]


FULL = """
import resource, signal, sys
import numpy as np, xarray as xr, tpsim
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # what a full disk does, for this process
try:
    tpsim.save(xr.Dataset({"f": ("x", np.random.default_rng(0).standard_normal(100_000))}), sys.argv[1])
except tpsim.FileError as error:
    print(error)
"""


def test_a_full_disk_is_one_clear_error(tmp_path):
    """HDF5 that meets it while it closes a file crashes the process after the error."""
    path = tmp_path / "run.nc"
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{path}: cannot be written: ") and done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_results_are_refused(tmp_path):
    run = simulate(PROBLEM, Network(1), Training(1), **SMALL)
    path = tpsim.save(run, tmp_path / "run.nc")
    truncated = tmp_path / "truncated.nc"
    truncated.write_bytes(path.read_bytes()[:1000])
    foreign = tmp_path / "foreign.nc"
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(foreign, engine="h5netcdf")
    for bad in (truncated, foreign, tmp_path / "missing.nc", tmp_path):
        with pytest.raises(FileError, match=str(bad)):
            tpsim.load(bad)
    with pytest.raises(FileError, match="cannot be written"):
        tpsim.save(run, tmp_path / "no" / "folder.nc")


def test_a_diverging_run_stops_and_keeps_what_was_finished():
    training = Training(200, 60.0)
    with pytest.raises(Diverged, match=r"diverged: .* at step \d+") as caught:
        simulate(PROBLEM, Network(2, "relu"), training, **SMALL)
    run, step = caught.value.run, caught.value.step
    assert 0 < step < 50 and run.step.values.tolist() == list(range(step))
    assert np.isfinite(run.f).all() and np.isfinite(run.kernel_h).all()
    short = simulate(PROBLEM, Network(2, "relu"), Training(step - 1, 60.0), **SMALL)
    assert_array_equal(short.f, run.f)


@pytest.mark.parametrize(
    "scale, what",
    [([1e200, 1.0, 1.0], r"E\[\(Z\^h\)\^2\] of layer 1 is not finite"), ([1.0, 1.0, 1e200], r"\|f\| = ")],
)
def test_a_state_that_is_not_finite_stops_the_run(scale, what):
    with pytest.raises(Diverged, match=rf"diverged: {what}.* at step 0") as caught:
        simulate(PROBLEM, Network(2, init_scale=scale), Training(3), **SMALL)
    assert caught.value.run is None and caught.value.step == 0


def test_endless_runs_are_refused_at_once():
    start = time.perf_counter()
    with pytest.raises(ResourceError, match=r"steps=1000000000000 .* record_every=\d+ would fit"):
        simulate(PROBLEM, Network(2), Training(10**12), **SMALL)
    assert time.perf_counter() - start < 1.0


def test_too_many_arrays_stop_the_run_with_a_number():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        with pytest.raises(RankError, match=r"particles >= \d+.*at step \d+") as caught:
            simulate(PROBLEM, Network(3, "tanh"), Training(50, 0.5), 48, 1, tolerance=1e-8)
    assert caught.value.run.sizes["step"] == caught.value.step > 0


def test_a_stop_in_either_pass_keeps_the_probes():
    """max_rank is met in the backward pass first (3 new directions a step there), then in the forward one."""
    problem = Problem(INPUTS, TARGETS, probes=INPUTS + 0.1)
    for cap in (4, 5, 6, 7):
        with pytest.raises(RankError, match="max_rank") as caught:
            simulate(problem, Network(2, "tanh"), Training(20, 0.5), **SMALL, max_rank=cap, tolerance=1e-8)
        run = caught.value.run
        assert run.sizes["probe_step"] == run.sizes["step"] == caught.value.step
        assert np.isfinite(run.f_probe).all()


def test_replicas_that_stop_at_different_steps_keep_the_probes():
    """The message names the first replica with the fewest steps: those before it got farther."""
    rng = np.random.default_rng(0)
    problem = Problem(rng.standard_normal((4, 3)), [1.0, -1.0, 1.0, -1.0], rng.standard_normal((2, 3)))
    training = Training(60, 0.05, reduction="mean")
    with pytest.raises(RankError, match="replica [1-9]") as caught:
        simulate(problem, Network(3, "silu", 1.414), training, 256, 6, max_rank=30, progress=False)
    run = caught.value.run
    assert run.sizes["probe_step"] == run.sizes["step"] == caught.value.step
    assert np.isfinite(run.f_probe).all()


def test_max_rank_stops_the_run():
    with pytest.raises(RankError, match="max_rank=8") as caught:
        simulate(PROBLEM, Network(2), Training(20, 0.5), **SMALL, max_rank=8)
    assert int(caught.value.run.rank_backward.max()) <= 8


@pytest.mark.parametrize("noise", ["matched", "iid"])
def test_too_few_particles_for_step_0_are_refused_with_a_sufficient_number(noise):
    with pytest.raises(ResourceError, match=r"particles=7 is too small.*particles=(\d+) is sufficient") as caught:
        simulate(PROBLEM, Network(2), Training(3), 7, 1, noise)
    enough = int(str(caught.value).split("particles=")[2].split()[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        simulate(PROBLEM, Network(2), Training(3), enough, 1, noise, tolerance=1e-8)


def test_width_mode_runs_past_the_width():
    """T m = 60 > n = 16: bases saturate at the width, as the matrices of such a network do."""
    run = simulate(PROBLEM, Network(2, "tanh"), Training(20, 0.3), 16, 2, "width")
    assert int(run.rank_forward.max()) <= 16 and int(run.rank_backward.max()) <= 16
    assert np.isfinite(run.f).all()


def test_memory_that_cannot_fit_is_refused_at_once():
    start = time.perf_counter()
    with pytest.raises(ResourceError, match=r"GiB are free; about particles=\d+ would fit"):
        simulate(PROBLEM, Network(2), Training(3), 1 << 40, 1)
    assert time.perf_counter() - start < 1.0


@pytest.mark.parametrize(
    "inputs",
    [INPUTS[[0, 1, 1]], np.stack([INPUTS[0], -INPUTS[0], INPUTS[1]]), np.stack([INPUTS[0], np.zeros(4)])],
    ids=["duplicated", "opposite", "zero"],
)
@pytest.mark.parametrize("activation", ["tanh", "silu"])
def test_degenerate_inputs_are_legal_and_noticed(inputs, activation):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Notice)
        run = simulate(Problem(inputs, TARGETS[: len(inputs)]), Network(2, activation), Training(3, 0.1), **SMALL)
    notices = [str(w.message) for w in caught if issubclass(w.category, Notice)]
    assert "Assumption 4.1" in notices[0]
    assert run.attrs["notices"].split("\n") == notices
    assert ("undefined" in run.attrs["notices"]) == (
        inputs[-1] == 0
    ).all()  # phi(0) = 0: the zero input has no features
    assert np.isfinite(run.f).all()


def test_progress_reports_every_step():
    seen = []
    simulate(
        PROBLEM, Network(1), Training(3), **SMALL, progress=lambda step, replica, loss: seen.append((replica, step))
    )
    assert seen == [(r, t) for r in (0, 1) for t in range(4)]


BAD_DATA = [
    ((np.array([[1.0, np.nan]]), [1.0]), "inputs"),
    (([[1.0, np.inf]], [1.0]), "inputs"),
    (([1.0, 2.0], [1.0, 2.0]), "inputs"),
    ((np.zeros((0, 3)), []), "inputs"),
    (([["a"]], [1.0]), "inputs"),
    ((INPUTS + 1j, TARGETS), "inputs"),
    ((np.ma.masked_less(INPUTS, 0), TARGETS), "inputs"),
    ((INPUTS, TARGETS[:2]), "targets"),
    ((INPUTS, [np.nan, 0, 1]), "targets"),
    ((INPUTS, TARGETS, np.zeros((2, 7))), "probes"),
    ((INPUTS, TARGETS, None, [1.0]), "probe_targets"),
]
BAD_SETTINGS = [
    ({"particles": 0}, "particles"),
    ({"particles": 2.5}, "particles"),
    ({"replicas": -1}, "replicas"),
    ({"noise": "gaussian"}, "noise"),
    ({"noise": "width", "sobol": True}, "sobol"),
    ({"quantities": ("f", "h")}, "quantities"),
    ({"quantities": "f"}, "quantities"),
    ({"sobol": "yes"}, "sobol"),
    ({"tolerance": 0.0}, "tolerance"),
    ({"tolerance": "small"}, "tolerance"),
    ({"seed": -1}, "seed"),
    ({"record_every": 0}, "record_every"),
    ({"snapshots": [9]}, "snapshots"),
    ({"workers": 0}, "workers"),
    ({"threads": 99}, "threads"),
    ({"max_rank": 0}, "max_rank"),
    ({"seed": 2**63}, "seed"),
    ({"particles": 10**40}, "particles"),
    ({"snapshots": 3}, "snapshots"),
]
BAD_TRAINING = [
    ({"steps": -1}, "steps"),
    ({"learning_rate": -0.1}, "learning_rate"),
    ({"learning_rate": [0.1, 0.1]}, "learning_rate"),
    ({"learning_rate": lambda t: np.nan}, "learning_rate"),
    ({"loss": "hinge"}, "loss"),
    ({"reduction": "max"}, "reduction"),
    ({"batches": {"size": 9}}, "batches.size"),
    ({"batches": {"sise": 1}}, "batches"),
    ({"batches": [[0], [5]]}, r"batches\[1\]"),
    ({"batches": [[0], []]}, r"batches\[1\]"),
    ({"batches": [[0]]}, "batches"),
    ({"batches": np.array(5)}, "batches"),
    ({"batches": {(0,), (1,)}}, "batches"),
    ({"batches": [[0, [1, 2]]] * 2}, r"batches\[0\]"),
    ({"learning_rate": [[1], [1, 2]]}, "learning_rate"),
    ({"learning_rate": "fast"}, "learning_rate"),
    ({"reduction": np.array(["sum", "mean"])}, "reduction"),
    ({"loss": (lambda f, y: (f - y) ** 2, lambda f, y: 2 * (f - y).sum())}, "loss derivative"),
    ({"loss": (lambda f, y: None, lambda f, y: f)}, "loss value"),
    ({"loss": (lambda f, y: f, lambda f, y: f / f.sum())}, "loss derivative"),
    ({"loss": (lambda f, y: f, lambda f, y: f.__isub__(y))}, "loss derivative"),
]


@pytest.mark.parametrize("arguments, field", BAD_DATA)
def test_bad_data_is_refused_by_name(arguments, field):
    with pytest.raises(InputError, match=f"^{field}: got .*; allowed: "):
        Problem(*arguments)


@pytest.mark.parametrize("arguments, field", BAD_SETTINGS)
def test_bad_settings_are_refused_by_name(arguments, field):
    with pytest.raises(InputError, match=f"^{field}: got .*; allowed: "):
        simulate(PROBLEM, Network(2), Training(2), **(SMALL | arguments))


@pytest.mark.parametrize("arguments, field", BAD_TRAINING)
def test_bad_training_is_refused_by_name(arguments, field):
    with pytest.raises(InputError, match=f"^{field}: got .*; allowed: "):
        simulate(PROBLEM, Network(2), Training(**({"steps": 2} | arguments)), **SMALL)


@pytest.mark.parametrize(
    "arguments, field",
    [({"depth": 0}, "depth"), ({"activation": "swish"}, "activation"), ({"init_scale": [1.0]}, "init_scale")],
)
def test_bad_networks_are_refused_by_name(arguments, field):
    with pytest.raises(InputError, match=f"^{field}: got .*; allowed: "):
        Network(**arguments)


def test_logistic_targets_must_be_signs():
    with pytest.raises(InputError, match="^targets: got 0.5"):
        simulate(Problem(INPUTS, [1.0, -1.0, 0.5]), Network(1), Training(1, loss="logistic"), **SMALL)


def test_inputs_are_not_modified():
    inputs, targets = INPUTS.copy(), TARGETS.copy()
    simulate(Problem(inputs, targets), Network(1), Training(2), **SMALL)
    inputs += 1.0  # still the caller's own, writeable
    assert_array_equal(inputs, INPUTS + 1.0)
    assert_array_equal(targets, TARGETS)


@pytest.mark.parametrize(
    "quantities", [(), ("kernel_x",), ("feature_change_h", "kernel_h0"), ("innovation_forward", "f_probe")]
)
@pytest.mark.parametrize("batches", [None, {"size": 2, "seed": 1}])
def test_chosen_quantities_are_those_of_a_run_that_keeps_all(quantities, batches):
    """Oracle: a run without a choice; what was not chosen is not there, and nothing that is depends on the choice.

    With minibatches a recorded step evaluates all samples either way.
    """
    problem = Problem(INPUTS, TARGETS, probes=INPUTS[:2] + 0.1)
    options = {**SMALL, "record_every": 2, "joint_every": 2, "probe_every": 2}
    training = Training(4, 0.1, batches=batches)
    everything = simulate(problem, Network(3, "silu"), training, **options)
    chosen = simulate(problem, Network(3, "silu"), training, **options, quantities=quantities)
    always = {"f", "chi", "loss", "batch", "targets", "guards"}
    always |= {f"{kind}_{way}" for kind in ("rank", "dropped") for way in ("forward", "backward")}
    assert set(chosen.data_vars) == always | set(quantities)
    for name in set(chosen.data_vars) - {"guards"}:  # E[Z_i^2] is summed in another order where it stands alone
        assert_allclose(chosen[name].values, everything[name].values, rtol=1e-12, atol=1e-14, err_msg=name)
    assert_array_equal(chosen.f.values, everything.f.values)
