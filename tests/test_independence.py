"""Theorem 4.5: the features of the limit are linearly independent; dependent ones are told from them."""

import itertools
import warnings

import numpy as np
import pytest
import xarray as xr
from oracles import truncated
from oracles.problems import problem_of
from scipy.stats import binom

from finite import train
from tpsim import Network, Notice, Problem, Training, simulate
from validation import families, gram, joint
from validation.claim import LEVEL, Verdict
from validation.controls import Control, cases, controls, judged, simulated, summary
from validation.independence import (
    ROUNDING,
    by_layer,
    certify,
    floor,
    grams,
    rank,
    smallest,
    spectra,
    theorem_4_5,
)
from validation.truncation import truncation, unsteady

SCALE = np.sqrt(2.0)
MINIBATCH = {"size": 2, "seed": 5}


def limits(problem, network, training, particles=256, tolerance=1e-4, **more):
    """Pilot, M and 2M."""
    return [
        simulate(problem, network, training, M, replicas, tolerance=tolerance, seed=seed, progress=False, **more)
        for seed, (M, replicas) in enumerate([(particles, 2), (particles, 8), (2 * particles, 8)])
    ]


def assert_independent(problem, network, training, **settings):
    runs = limits(problem, network, training, **settings)
    claim = theorem_4_5(*runs, training, problem.inputs)
    rows = by_layer(*runs, training, problem.inputs)
    assert claim.verdict is Verdict.PASS, claim
    assert [row for row in rows if row.verdict is not Verdict.PASS] == []
    assert claim.resolved == claim.of == len(rows) == 4 * network.depth
    return claim


# The features themselves: every layer, before and after the activation, centred and not, every step


@pytest.mark.parametrize(
    "activation, loss, batches",
    [
        ("silu", "squared", None),
        ("tanh", "logistic", MINIBATCH),
        ("sigmoid", "logistic", None),
        ("gelu", "squared", MINIBATCH),
        ("erf", "squared", None),
    ],
)
def test_features_are_linearly_independent(activation, loss, batches):
    """The certificate passes over all of them together and for each layer and kind of its own."""
    training = Training(4, 0.3, loss=loss, reduction="mean", batches=batches)
    assert_independent(problem_of(4, 6), Network(2, activation, SCALE), training)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["silu", "tanh", "sigmoid", "gelu", "erf", "softplus"])
@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("batches", [None, MINIBATCH])
@pytest.mark.parametrize("depth", [1, 3, 4])
def test_features_are_linearly_independent_widely(activation, loss, batches, depth):
    training = Training(10, 0.1, loss=loss, reduction="mean", batches=batches)
    assert_independent(problem_of(4, 8), Network(depth, activation, SCALE), training, particles=512)


def test_particles_are_as_independent_as_their_kernels_say():
    """Identity: the least singular value of the particles (m, M), squared over M, is the last of the spectrum."""
    problem, network = problem_of(5, 7), Network(2, "silu", SCALE)
    run = simulate(problem, network, Training(3, 0.1), 256, 2, progress=False, snapshots=(0, 3))
    found = spectra(run).sel(step=[0, 3])
    for z in ("h", "x"):
        particles = run[f"Z_{z}"].transpose("replica", "snapshot_step", "layer", "sample", "particle").values
        for kind, fields in ((z, particles), (f"{z} centred", particles - particles.mean(axis=-1, keepdims=True))):
            values = np.linalg.svd(fields, compute_uv=False) ** 2 / 256
            np.testing.assert_allclose(found.sel(kind=kind).values, values, rtol=1e-9, atol=1e-13)


def test_dense_networks_can_be_certified_too():
    """Schema: the runs of `finite` serve as those of the limit; a width below m is rejected, as it has to be."""
    problem, network, training = problem_of(4, 6), Network(2, "silu", SCALE), Training(3, 0.1, reduction="mean")

    def verdict(n):
        runs = [train(problem, network, training, w, seed=k, progress=False) for k, w in enumerate((n, n, 2 * n))]
        return theorem_4_5(*runs, training, problem.inputs).verdict

    assert verdict(64) is Verdict.PASS
    assert verdict(1) is Verdict.FAIL


def test_lazy_limits_can_be_certified_too():
    """NTP's features do not move and are independent at each step; with the initial ones they are not."""
    problem, network, training = problem_of(4, 6), Network(2, "silu", SCALE), Training(2, 0.1)
    runs = limits(problem, network, training, limit="ntp")
    assert theorem_4_5(*runs, training, problem.inputs).verdict is Verdict.PASS
    assert joint.joint_features(*runs, training, problem.inputs).verdict is Verdict.FAIL


# Negative controls


@pytest.fixture(scope="module")
def ran():
    return [(case, simulated(case, (0, k))) for k, case in enumerate(cases())]


def judged_all(ran):
    return [control for case, runs in ran for control in judged(case, runs)]


@pytest.fixture(scope="module")
def found(ran):
    return {control.name: control for control in judged_all(ran)}


def rejected(control: Control):
    return control.expected is control.claim.verdict is Verdict.FAIL and control.claim.estimate < ROUNDING


def test_duplicated_input_is_rejected(found):
    assert rejected(found["a duplicated input"])


def test_identity_with_more_samples_than_dimensions_is_rejected(found):
    assert rejected(found["identity activation, m > d"])


def test_opposite_inputs_with_an_odd_activation_are_rejected(found):
    assert rejected(found["two inputs +-xi, tanh"])


def test_opposite_inputs_with_a_sigmoid_are_rejected_by_the_centred_kernel_alone(found):
    """Oracle: phi(h) + phi(-h) = 1, so that the two features and the constant are dependent, and they alone are not."""
    assert rejected(found["two inputs +-xi, sigmoid: x centred of layer 1"])
    beside = found["two inputs +-xi, sigmoid: x of layer 1"]
    assert beside.expected is beside.claim.verdict is Verdict.PASS and beside.claim.estimate > 1e-3


def test_duplicated_input_is_rejected_by_the_gaussian_families(found):
    assert rejected(found["a duplicated input: Gaussian families"])


def test_identity_is_rejected_by_the_gaussian_families(found):
    assert rejected(found["identity activation: Gaussian families"])


def test_duplicated_input_with_two_labels_is_rejected_by_corollary_4_6(found):
    assert rejected(found["a duplicated input, two labels: Corollary 4.6"])


def test_dependent_inputs_reject_h_of_layer_1_only(found):
    assert rejected(found["m > rank(inputs): h of layer 1"])
    rest = found["m > rank(inputs): all other features"]
    assert rest.expected is rest.claim.verdict is Verdict.PASS
    assert any("correction to the theorem" in note for note in rest.claim.notes)


def test_ip_with_two_layers_is_rejected_after_one_step(found):
    assert rejected(found["IP, L = 2, t = 1: h of layer 2"])


def test_ip_with_three_layers_is_rejected(found):
    control = found["IP, L = 3, last step: layers 2 and 3"]
    assert rejected(control) and control.claim.estimate == 0.0


def test_ntp_with_its_initial_features_is_rejected(found):
    control = found["NTP, features of first and last step together"]
    assert rejected(control) and control.claim.name == "Joint initial and final features"  # that of the report


@pytest.mark.parametrize("what", ["", ": Gaussian families", ", features of first and last step together"])
def test_random_labels_are_no_counter_example(found, what):
    control = found[f"random labels{what}"]
    assert control.expected is control.claim.verdict is Verdict.PASS


def test_a_control_that_comes_out_wrong_fails_the_summary(found):
    every = list(found.values())
    assert len(every) == 16 and summary(every).verdict is Verdict.PASS
    wrong = Control("duplicated", Verdict.PASS, found["a duplicated input"].claim, "")
    claim = summary([*every, wrong])
    assert claim.refuted and (claim.resolved, claim.of) == (16, 17) and "duplicated: has to PASS" in claim.notes[0]
    assert summary([]).verdict is Verdict.NOT_RESOLVED


def test_controls_notice_kernels_that_are_not_centred(ran, monkeypatch):
    """Planted: the mean is not taken off."""
    right = gram.grams
    monkeypatch.setattr(gram, "grams", lambda run: {kind: right(run)[kind[0]] for kind in gram.KINDS})
    claim = summary(judged_all(ran))
    assert claim.refuted and len(claim.notes) == 1 and "x centred of layer 1: has to FAIL, did PASS" in claim.notes[0]


def test_controls_notice_innovations_that_ignore_the_other_samples(ran, monkeypatch):
    """Planted: the residual of each sample against the past alone, which does not see equal samples."""
    right = families.innovations

    def planted(run):
        names = ("forward", "backward")
        return right(run.assign({f"innovation_{d}": run[f"residual_{d}"].min("sample") for d in names}))

    monkeypatch.setattr(families, "innovations", planted)
    claim = summary(judged_all(ran))
    wrong = ["a duplicated input: Gaussian families", "identity activation: Gaussian families"]
    assert claim.refuted and [note.split(": has")[0] for note in claim.notes] == wrong


def test_controls_notice_final_features_put_in_the_place_of_the_joint_ones(ran, monkeypatch):
    """Planted: no product of initial and final features, as if they were uncorrelated."""
    right = joint.joint_gram

    def planted(run, kind):
        return right(run, kind) * np.kron(np.eye(2), np.ones((run.sizes["sample"],) * 2))

    monkeypatch.setattr(joint, "joint_gram", planted)
    claim = summary(judged_all(ran))
    assert claim.refuted and "NTP, features of first and last step together: has to FAIL" in claim.notes[0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_controls_do_not_depend_on_the_seed(seed):
    assert summary(controls(seed)).verdict is Verdict.PASS


# The certificate


def synthetic(kernels, steps=1, layers=1):
    """A run with the given kernels (replica, m, m) in all cells, and means 0."""
    shape = (len(kernels), steps, layers)
    kernel = np.broadcast_to(kernels[:, None, None], (*shape, *kernels.shape[1:]))
    run = xr.Dataset(coords={"replica": range(shape[0]), "step": range(steps), "layer": range(1, layers + 1)})
    for z in ("h", "x"):
        run[f"kernel_{z}"] = (("replica", "step", "layer", "sample", "sample2"), kernel)
        run[f"mean_{z}"] = (("replica", "step", "layer", "sample"), np.zeros(kernel.shape[:-1]))
    return run


def wishart(rng, eigenvalues, particles, replicas):
    """Kernels of `particles` Gaussian particles whose true kernel is diagonal."""
    fields = np.sqrt(eigenvalues)[:, None] * rng.standard_normal((replicas, len(eigenvalues), particles))
    return fields @ np.swapaxes(fields, 1, 2) / particles


@pytest.mark.parametrize("m", [1, 4])
def test_a_smallest_eigenvalue_at_the_floor_is_passed_no_more_often_than_stated(m):
    """Oracle: kernels with a known smallest eigenvalue, .1 of the largest; at most 1 - LEVEL of 2000 certificates pass.

    For m = 1 nothing is biased; for m = 4 Jensen adds safety. Ten times the floor is passed nearly always: the standard
    error of the extrapolation is .11 of the truth, 4.8 of them bring the lower bound to about .5 of it.
    """
    rng, repetitions, truth = np.random.default_rng(7), 2000, 0.1
    eigenvalues = np.array([1.0, 0.8, 0.5, truth])[-m:]
    pilot = synthetic(np.diag([1.0] * m)[None])
    T = [
        smallest(synthetic(wishart(rng, eigenvalues, M, 8 * repetitions)), pilot, ["h"]).reshape(repetitions, 8)
        for M in (64, 128)
    ]
    passed = sum(certify(small, large, truth).verdict is Verdict.PASS for small, large in zip(*T, strict=True))
    powerful = sum(certify(a, b, truth / 10).verdict is Verdict.PASS for a, b in zip(*T, strict=True))
    assert passed <= binom.isf(1e-6, repetitions, 1 - LEVEL)
    assert powerful > 0.95 * repetitions


def test_bounds_of_the_certificate_have_their_level():
    """Oracle: normal values; each of the three lower bounds is above the truth as often as stated, both ways."""
    rng, repetitions = np.random.default_rng(8), 5000
    every = [certify(rng.normal(size=8), rng.normal(size=8), 0.0) for _ in range(repetitions)]
    for wrong in (sum(c.small.low > 0 for c in every), sum(c.large.low > 0 for c in every)):
        assert binom.isf(1 - 1e-4, repetitions, 1 - LEVEL) <= wrong <= binom.isf(1e-4, repetitions, 1 - LEVEL)
    assert sum(c.limit.low > 0 for c in every) <= binom.isf(1e-4, repetitions, 1 - LEVEL)  # fewer degrees of freedom


def test_verdicts_of_certificates():
    """Definition: three bounds above the floor and 8 replicas pass, two below rounding fail."""
    rng = np.random.default_rng(9)
    good, zero = 1.0 + 0.01 * rng.standard_normal(8), 1e-16 * rng.standard_normal(8)
    assert certify(good, good, 0.9).verdict is Verdict.PASS
    assert certify(good, good, 1.1).verdict is Verdict.NOT_RESOLVED
    assert certify(good[:7], good, 0.9).verdict is Verdict.NOT_RESOLVED
    assert certify(good + 1.5, good, 0.9).verdict is Verdict.NOT_RESOLVED  # extrapolates to -.5
    assert certify(zero, zero, 1e-12).verdict is Verdict.FAIL
    assert certify(zero, good, 1e-12).verdict is Verdict.NOT_RESOLVED
    assert certify(zero[:1], zero[:1], 1e-12).verdict is Verdict.NOT_RESOLVED
    assert certify(good, np.full(8, np.nan), 0.9).verdict is Verdict.NOT_RESOLVED
    assert certify(good, good, 0.9).low == min(certify(good, good, 0.9).small.low, certify(good, good, 0.9).limit.low)


def test_scales_are_those_of_the_pilot_and_vanishing_features_count_as_zero():
    """Hand-made kernels: lambda_min / lambda_max(pilot), whatever the run's own scale; 0 where the pilot has 0."""
    run = synthetic(np.array([np.diag([4.0, 0.2]), np.diag([0.5, 8.0])]))
    pilot = synthetic(np.array([np.diag([3.0, 0.0]), np.diag([1.0, 2.0])]))
    np.testing.assert_allclose(smallest(run, pilot), [0.1, 0.25])
    assert (smallest(run, synthetic(np.zeros((2, 2, 2)))) == 0.0).all()
    lost = synthetic(np.array([np.full((2, 2), np.nan), np.eye(2)]))
    assert np.isnan(smallest(lost, pilot)).tolist() == [True, False]


def test_too_few_replicas_are_said():
    problem, network, training = problem_of(3, 5), Network(1, "silu"), Training(1)
    runs = [simulate(problem, network, training, 64, 4, seed=k, progress=False) for k in range(3)]
    claim = theorem_4_5(*runs, training, problem.inputs)
    assert claim.verdict is Verdict.NOT_RESOLVED and claim.resolved == 0
    assert any("4 replicas are too few" in note for note in claim.notes)


def test_a_tolerance_that_drops_a_feature_refutes_nothing():
    """Two inputs 1e-4 apart: at tolerance 1e-3 h^2 is singular to rounding; a smaller one shows that it is not.

    An exact duplicate is told from them at either: x^1 is singular before anything has been dropped.
    """
    base, network, training = problem_of(4, 6), Network(2, "silu", SCALE), Training(2, 0.1, reduction="mean")
    verdicts = {}
    for apart, tolerance in itertools.product((0.0, 1e-4), (1e-3, 1e-7)):
        near = base.inputs[0] + apart * base.inputs[3]
        problem = Problem(np.vstack([base.inputs[:3], near]), base.targets)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)  # of Assumption 4.1, which a duplicate violates
            runs = limits(problem, network, training, tolerance=tolerance)
        verdicts[apart, tolerance] = theorem_4_5(*runs, training, problem.inputs).verdict
        if (apart, tolerance) == (1e-4, 1e-3):
            assert smallest(runs[2], runs[0], ["h"], [2]).max() < ROUNDING
    assert verdicts[1e-4, 1e-3] is Verdict.NOT_RESOLVED and verdicts[1e-4, 1e-7] is Verdict.PASS
    assert verdicts[0.0, 1e-3] is verdicts[0.0, 1e-7] is Verdict.FAIL


def test_a_spectrum_that_decays_into_rounding_refutes_nothing():
    """14 points of a curve, rank 2: the kernel of a smooth function has eigenvalues that fall by ten to thirty each."""
    curve = np.stack([np.linspace(-1, 1, 14) + 0.013 * np.sqrt(np.arange(14)), np.ones(14)], axis=1) / np.sqrt(2)
    training = Training(1, 0.1, reduction="mean")
    runs = limits(Problem(curve, np.sin(3 * curve[:, 0])), Network(2, "silu", SCALE), training, tolerance=1e-8)
    claim = theorem_4_5(*runs, training, curve)
    assert claim.estimate < ROUNDING and claim.verdict is Verdict.NOT_RESOLVED
    rows = {(row.kind, row.layer): row.verdict for row in by_layer(*runs, training, curve)}
    assert rows["h", 1] is rows["h centred", 1] is Verdict.FAIL  # linear in inputs of rank 2, behind a gap
    assert Verdict.FAIL not in [verdict for group, verdict in rows.items() if group[0][0] == "x" or group[1] > 1]


def test_rank_of_the_inputs():
    """Known ranks, at scales from 1e-8 to 1e8."""
    rng = np.random.default_rng(10)
    square = rng.standard_normal((5, 5))
    for factor in (1e-8, 1.0, 1e8):
        assert rank(factor * square) == 5
        assert rank(factor * square[:, :3]) == 3
        assert rank(factor * square[[0, 1, 0]]) == 2
        assert rank(factor * np.vstack([square[:3], square[:3].sum(axis=0)])) == 3
    assert rank(np.zeros((2, 3))) == 0


# The floor


def literal_truncation(run, training, k):
    """The formula of `truncation`, one term at a time; every step is recorded."""
    T, L, m = run.sizes["step"], run.sizes["layer"], run.sizes["sample"]

    def F(t, l):
        return np.sqrt(run.dropped_forward.values[k, t, l - 1])

    def B(t, l):
        return np.sqrt(run.dropped_backward.values[k, t, l - 1])

    def size(z, t, l, i):
        return np.sqrt(run[f"kernel_{z}"].values[k, t, l - 1, i, i])

    def w(s, l):
        batch = np.flatnonzero(run.batch.values[s])
        per = len(batch) / m if training.reduction == "mean" else 1.0
        total = sum(abs(run.chi.values[k, s, i]) / per * size("dh", s, l, i) * size("x", s, l - 1, i) for i in batch)
        largest = max(size("x", s, l - 1, j) for j in range(m)) / max(size("h", s, l, j) for j in range(m))
        return training.rates(s, L)[l - 1] * total * largest

    layers = range(2, L + 1)
    return max(
        sum(F(t, j) for j in layers if j <= l) + sum(w(s, j) * (F(s, j) + B(s, j)) for s in range(t) for j in layers)
        for t in range(T)
        for l in layers
    )


@pytest.mark.parametrize("reduction, batches", [("mean", None), ("mean", MINIBATCH), ("sum", MINIBATCH)])
def test_truncation_is_its_formula(reduction, batches):
    """Oracle: the sums as they are written, with rates that change from layer to layer and step to step."""
    training = Training(4, lambda t: [0.1, 0.2 / (t + 1), 0.05, 0.1], reduction=reduction, batches=batches)
    run = simulate(problem_of(5, 7), Network(3, "silu", SCALE), training, 256, 2, tolerance=0.1, progress=False)
    expected = [literal_truncation(run, training, k) for k in range(2)]
    assert min(expected) > 0.01
    np.testing.assert_allclose(truncation(run, training), expected, rtol=1e-12)


def test_truncation_of_steps_that_are_not_recorded():
    """Exact: where nothing changes over 12 steps, recording each of them, every 4th or the ends counts the same."""
    training = Training(12, 0.1, reduction="mean")
    run = simulate(problem_of(3, 5), Network(2, "silu", SCALE), Training(3, 0.1), 64, 1, tolerance=0.5, progress=False)

    def still(steps):
        copies = xr.concat([run.isel(step=[2])] * len(steps), dim="step", data_vars="minimal")
        return copies.assign_coords(step=steps)

    every = truncation(still(range(13)), training)
    assert every > 0
    np.testing.assert_allclose(truncation(still([0, 4, 8, 12]), training), every, rtol=1e-12)
    np.testing.assert_allclose(truncation(still([0, 12]), training), every, rtol=1e-12)


def test_nothing_is_dropped_without_hidden_matrices():
    training = Training(2, 0.1)
    deep, flat = Network(2, "silu"), Network(1, "silu")
    for network, more in ((flat, {}), (deep, {"limit": "ntp"}), (deep, {"limit": "sp"})):
        run = simulate(problem_of(3, 5), network, training, 64, 2, progress=False, **more)
        assert (truncation(run, training) == 0.0).all()
        assert floor(run, run, run, training) == ROUNDING


ACCOUNTED = [
    (2, 4, "silu", 8, None), (3, 6, "silu", 20, None), (3, 6, "tanh", 20, MINIBATCH), (4, 6, "sigmoid", 10, None),
]  # fmt: skip


@pytest.mark.parametrize("depth, m, activation, steps, batches", ACCOUNTED)
@pytest.mark.parametrize("tolerance", [0.03, 0.003])
def test_features_change_by_less_than_the_accounted_truncation(depth, m, activation, steps, batches, tolerance):
    """Oracle: dense networks with the same W_0 that drop the same and nothing at all, compared neuron by neuron."""
    training = Training(steps, 0.1, reduction="mean", batches=batches)
    arguments = problem_of(m, 8), Network(depth, activation, SCALE), training, 256
    _, exact = truncated.train(*arguments, tolerance=None)
    run, changed = truncated.train(*arguments, tolerance=tolerance)
    actual, accounted = largest_change(changed, exact), float(truncation(run, training)[0])
    print(f"L={depth} m={m} {activation}: {actual / accounted:.2f} of the accounted {accounted:.1e}")
    assert tolerance / 10 < actual < accounted


def largest_change(changed, exact):
    """Relative change of Z^h_t or Z^x_t over all samples together, the largest over layers and steps."""
    return max(
        np.linalg.norm(changed[key][t] - field[t]) / np.linalg.norm(field[t])
        for key, field in exact.items()
        if key[0] != "dh"
        for t in range(len(field))
    )


def test_an_unsteady_loss_amplifies_what_is_dropped_and_is_noticed():
    """Twice the rate: the loss rises from .001 to .1, where the features change by more than what is accounted for."""
    problem, network, training = problem_of(6, 8), Network(3, "silu", SCALE), Training(40, 0.2, reduction="mean")
    (steady, exact), (run, changed) = (
        truncated.train(problem, network, training, 300, tolerance, seed=1) for tolerance in (None, 0.01)
    )
    assert largest_change(changed, exact) > 2 * truncation(run, training)[0]
    assert unsteady(with_loss(run, problem)) in range(20, 40)
    calm = truncated.train(problem, network, Training(40, 0.1, reduction="mean"), 300, None, seed=1)[0]
    assert unsteady(with_loss(calm, problem)) is None


def test_an_unsteady_loss_raises_the_floor():
    """Oracle: the floor is rounding + (account)^2 trace / scale, and the account is taken tenfold."""
    problem, network, training = problem_of(4, 8), Network(2, "silu", SCALE), Training(4, 0.1, reduction="mean")
    run = simulate(problem, network, training, 256, 2, tolerance=1e-3, progress=False)
    rises = run.assign(loss=run.loss.copy(data=np.broadcast_to([1.0, 0.1, 0.2, 0.1, 0.1], run.loss.shape)))
    calm, raised = (floor(one, one, one, training) - ROUNDING for one in (run, rises))
    assert calm > 0 and raised == pytest.approx(100 * calm, rel=1e-9)


def with_loss(run, problem):
    return run.assign(loss=((run.f - problem.targets) ** 2).mean("sample"))


@pytest.mark.parametrize("depth, steps", [(2, 8), (3, 8), (3, 30)])
def test_kernels_change_by_less_than_the_accounted_truncation(depth, steps):
    """Oracle: deep linear networks, which the engine simulates exactly for any M, at a 30 times smaller tolerance.

    |H + E|^2 differs from |H|^2 by at most (2 a + a^2) |H|^2 if |E| <= a |H|; |.|^2 is at most the trace.
    """
    training = Training(steps, 0.04, reduction="mean")
    fine, coarse = (
        simulate(problem_of(6, 8), Network(depth, "identity", SCALE), training, 256, 1, tolerance=tolerance,
                 seed=1, progress=False)
        for tolerance in (1e-3, 3e-2)
    )  # fmt: skip
    a = float(truncation(coarse, training)[0])
    kernels, exact = grams(coarse)["h"], grams(fine)["h"]
    actual = (np.linalg.norm(kernels - exact, axis=(-2, -1)) / np.trace(exact, axis1=-2, axis2=-1)).max()
    assert 0 < actual < 2 * a + a**2
