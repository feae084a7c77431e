"""The Gaussian families over space and time, and joint features. Oracles: the whole history kept and decomposed here;
theory (which inputs and activations are degenerate); the particles themselves."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose

from tpsim import InputError, Network, Notice, Problem, Training, simulate
from tpsim.mlp import Settings, State, backward, forward, update
from validation.claim import Verdict
from validation.families import families, gaussian_families, innovations
from validation.joint import joint_features, joint_gram

Array = np.ndarray
RNG = np.random.default_rng(0)
INPUTS = RNG.standard_normal((3, 4)) / 2.0
TARGETS = np.array([1.0, -1.0, 0.5])
PROBLEM = Problem(INPUTS, TARGETS)
TRAINING = Training(8, 0.2)
SMALL = {"particles": 512, "replicas": 2, "progress": False}


def off(z: Array, past: list[Array]) -> float:
    """Smallest singular value of the rows of z, normalised, off the span of all the arrays in `past`."""
    size = np.linalg.norm(z, axis=1)[:, None]
    if past:
        basis = np.linalg.qr(np.concatenate(past).T)[0]
        for _ in range(2):
            z = z - (z @ basis) @ basis.T
    return float(np.linalg.svd(z / size, compute_uv=False)[-1])


@pytest.mark.parametrize("activation", ["silu", "tanh"])
def test_innovations_are_those_against_the_whole_history(activation):
    """Oracle: QR of every delta x and dh of all earlier steps, kept here, on the same particles.

    1e-7: arrays are known to 1e-14, increments to 1e-14 / 5e-3, and the past's condition number is below 1e5 so far.
    """
    network, training = Network(3, activation), Training(4, 0.2)
    run = families(PROBLEM, network, training, 512, replicas=1, seed=5, progress=False)
    state = State(network, INPUTS, Settings(512, "matched", True, 1e-12, 5), 0)
    everyone = np.arange(3)
    increments: dict[int, list[Array]] = {2: [], 3: []}
    gradients: dict[int, list[Array]] = {2: [], 3: []}
    before = None
    for step in range(5):
        fields = forward(state, step, everyone)
        backward(state, fields)
        for l in (2, 3):
            delta = fields.x[l - 1] - (before.x[l - 1] if before else 0.0)
            at = {"replica": 0, "step": step}
            assert_allclose(run.innovation_forward.isel(at).sel(layer=l), off(delta, increments[l]), rtol=0, atol=1e-7)
            assert_allclose(
                run.innovation_backward.isel(at).sel(layer=l), off(fields.dh[l], gradients[l]), rtol=0, atol=1e-7
            )
            increments[l].append(delta / np.linalg.norm(delta, axis=1)[:, None])
            gradients[l].append(fields.dh[l].copy())
        update(state, fields, 2.0 * (fields.f - TARGETS), training.rates(step, 3))
        before = fields
    assert run.innovation_forward.sel(layer=[2, 3]).min() > 1e-5  # of which 1e-7 says something


def test_increments_are_relative_sizes_and_know_their_rows():
    """Oracle: snapshots; with minibatches and gaps in the record, the rows that `residual_forward` knows."""
    run = simulate(PROBLEM, Network(2), Training(2, 0.2), snapshots=[0, 1, 2], **SMALL)
    x = run.Z_x.sel(layer=1).values
    size = np.linalg.norm(np.diff(x, axis=1), axis=-1) / np.linalg.norm(x[:, 1:], axis=-1)
    increment = run.increment_forward.sel(layer=2)
    assert_allclose(increment[:, 0], 1.0, rtol=1e-12)
    assert_allclose(increment[:, 1:], size, rtol=1e-9)
    batches = Training(6, 0.2, batches={"size": 1, "seed": 0})
    run = simulate(PROBLEM, Network(2), batches, record_every=3, **SMALL)
    known = np.isfinite(run.increment_forward.sel(layer=2).values)
    assert (known == np.isfinite(run.residual_forward.sel(layer=2).values)).all()
    assert known[:, 0].all() and (known[:, 1:].sum(axis=-1) == 1).all()
    one = run.innovation_forward.sel(layer=2).values[:, 1:]  # of a single row: its residual off what was kept
    assert (one > 0).all() and (one <= run.residual_forward.sel(layer=2).max("sample").values[:, 1:] + 1e-8).all()


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("activation", ["silu", "tanh", "sigmoid"])
def test_new_randomness_enters_in_every_step(activation, depth):
    """Oracle: the theorem, whose proof shows that both families are non-degenerate over space and time."""
    rate = 5.0 if activation == "sigmoid" else 0.2  # increments of sigmoid are 20 times smaller at the same rate
    claim = gaussian_families(families(PROBLEM, Network(depth, activation), Training(8, rate), **SMALL))
    assert claim.verdict is Verdict.PASS, claim
    assert claim.estimate > claim.reference and 5 <= claim.resolved <= claim.of == 9
    assert 0 <= claim.error < claim.estimate


def test_random_labels_are_no_counter_example():
    """Oracle: the theorem does not mention the targets, but for an error signal that is not zero."""
    targets = np.random.default_rng(3).choice([-1.0, 1.0], 3)
    claim = gaussian_families(families(Problem(INPUTS, targets), Network(3), TRAINING, **SMALL))
    assert claim.verdict is Verdict.PASS, claim


def test_duplicated_input_is_rejected():
    """Oracle: equal samples have equal x and dh. Each sample's own residual does not see it."""
    problem = Problem(INPUTS[[0, 1, 0]], TARGETS)
    with pytest.warns(Notice, match="Assumption 4.1"):
        run = families(problem, Network(2), TRAINING, **SMALL)
    claim = gaussian_families(run)
    assert claim.verdict is Verdict.FAIL and claim.resolved == 0 and claim.estimate < 1e-12
    assert (run.residual_forward.sel(layer=2, step=0) == 1.0).all()


def test_opposite_inputs_with_an_odd_activation_are_rejected():
    """Oracle: tanh(-h) = -tanh(h), so that x(-xi) = -x(xi), at every step."""
    problem = Problem(np.stack([INPUTS[0], -INPUTS[0], INPUTS[1]]), TARGETS)
    with pytest.warns(Notice, match="Assumption 4.1"):
        run = families(problem, Network(2, "tanh"), TRAINING, **SMALL)
    assert gaussian_families(run).verdict is Verdict.FAIL


@pytest.mark.parametrize("depth", [2, 3])
def test_identity_activation_is_rejected(depth):
    """Oracle: phi' = 1, so that dh^l does not depend on the sample, and no delta x after step 0 is more than one array.

    Independent inputs give independent x_0 all the same; a single sample has nothing to depend on.
    """
    training = Training(5, 0.05)
    run = families(PROBLEM, Network(depth, "identity"), training, **SMALL)
    values, floors = innovations(run)
    assert gaussian_families(run).verdict is Verdict.FAIL
    assert (values.sel(direction="backward") <= 1e-12).all()
    assert (values.sel(direction="forward", step=0) > 0.01).all()
    assert (values.sel(direction="forward") <= floors.sel(direction="forward")).sel(step=slice(1, None)).all()
    ranks = run.rank_forward.sel(layer=2).values
    assert (ranks == 3 + np.arange(6)).all()  # x_0, and one array a step: rounding brings no direction of its own
    alone = families(Problem(INPUTS[:1], TARGETS[:1]), Network(depth, "identity"), training, **SMALL)
    assert gaussian_families(alone).verdict is Verdict.PASS


def test_what_is_too_short_says_nothing():
    """Oracle: five steps are asked for; one hidden layer has no family; zero targets give no error signal."""
    claim = gaussian_families(families(PROBLEM, Network(2), Training(3, 0.2), **SMALL))
    assert claim.verdict is Verdict.NOT_RESOLVED and (claim.resolved, claim.of) == (4, 4)
    claim = gaussian_families(families(PROBLEM, Network(1), TRAINING, **SMALL))
    assert claim.verdict is Verdict.NOT_RESOLVED and (claim.resolved, claim.of) == (0, 0)
    with pytest.warns(Notice, match="undefined ratios"):
        still = families(Problem(INPUTS, np.zeros(3)), Network(2), TRAINING, **SMALL)
    claim = gaussian_families(still)
    assert claim.verdict is Verdict.NOT_RESOLVED and (claim.resolved, claim.of) == (1, 1)
    few = families(PROBLEM, Network(3), TRAINING, **SMALL | {"particles": 128})
    assert few.sizes["step"] - 1 == 3  # (64 - 9) // 12 - 1: half of the particles, 4 m arrays a step


@pytest.mark.parametrize("depth", [2, 3])
def test_a_space_that_is_too_small_says_how_many_particles_it_takes(depth):
    """Oracle: the number that it names gives five steps, and two particles fewer do not."""
    claim = gaussian_families(families(PROBLEM, Network(depth), TRAINING, **SMALL | {"particles": 64}))
    assert claim.verdict is Verdict.NOT_RESOLVED
    found = re.search(r"5 are asked for: take at least (\d+) particles", " ".join(claim.notes))
    assert found is not None
    for particles, verdict in ((int(found[1]), Verdict.PASS), (int(found[1]) - 2, Verdict.NOT_RESOLVED)):
        run = families(PROBLEM, Network(depth), TRAINING, **SMALL | {"particles": particles})
        assert gaussian_families(run).verdict is verdict


def test_why_there_are_no_more_steps_is_said():
    """Oracle: three steps of training, and none with an error signal."""
    claim = gaussian_families(families(PROBLEM, Network(2), Training(3, 0.2), **SMALL))
    assert "train for at least 4 steps" in claim.notes[1]
    with pytest.warns(Notice, match="undefined ratios"):
        still = families(Problem(INPUTS, np.zeros(3)), Network(2), TRAINING, **SMALL)
    assert "error signals vanish at step 0" in gaussian_families(still).notes[1]


ZERO = Problem(INPUTS * [[1.0], [0.0], [1.0]], TARGETS)


@pytest.mark.parametrize(
    ("problem", "network", "what"),
    [
        (PROBLEM, Network(2, init_scale=[1, 1, 0]), "step 0 on: backward innovation of W^2 undefined: z = dh^2"),
        (ZERO, Network(2), "step 0 on: forward innovation of W^2 undefined: z = delta x^1"),
        (ZERO, Network(2, "sigmoid"), "step 1 on: forward innovation of W^2 undefined: z = delta x^1"),
    ],
)
def test_arrays_that_vanish_refute_nothing(problem, network, what):
    """Oracle: What_0 = 0 gives dh = 0, and an input 0 delta x^1 = 0: the theory assumes that neither is."""
    with pytest.warns(Notice):
        claim = gaussian_families(families(problem, network, TRAINING, **SMALL))
    assert claim.verdict is Verdict.NOT_RESOLVED
    assert f"not resolved from {what} vanishes for some sample" in claim.notes[1]


@pytest.mark.parametrize(
    ("problem", "network", "where"),
    [
        (Problem(INPUTS[[0, 1, 0]], TARGETS), Network(2, init_scale=[1, 1, 0]), "forward"),
        (ZERO, Network(2, "identity"), "backward"),
    ],
)
def test_equal_arrays_are_rejected_though_others_vanish(problem, network, where):
    """Oracle: a duplicated input gives equal x, identity equal dh; beside them What_0 = 0, or an input 0."""
    with pytest.warns(Notice):
        claim = gaussian_families(families(problem, network, TRAINING, **SMALL))
    assert claim.verdict is Verdict.FAIL and claim.estimate < 1e-12 < claim.reference
    assert f"step 0 on: {where} innovation of W^2 below the floor" in claim.notes[1]


def test_a_thinned_past_is_refused():
    """Oracle: the residual off a thinned basis overstates the new randomness; lazy limits record none."""
    with pytest.raises(InputError, match="tolerance"):
        gaussian_families(simulate(PROBLEM, Network(2), TRAINING, **SMALL))
    with pytest.raises(InputError, match="innovations"):
        gaussian_families(simulate(PROBLEM, Network(2), TRAINING, limit="ntp", **SMALL))


def triple(network: Network, training: Training, problem: Problem = PROBLEM, **more) -> list[xr.Dataset]:
    """A pilot, 8 replicas of M particles, 8 of 2M: independent, with little left out."""
    settings = {"tolerance": 1e-6, "progress": False} | more
    sizes = ((256, 2, 11), (256, 8, 12), (512, 8, 13))
    return [simulate(problem, network, training, M, replicas=R, seed=seed, **settings) for M, R, seed in sizes]


def test_the_joint_gram_is_that_of_the_stacked_features():
    """Oracle: the Gram matrix of the particles of both times, stacked."""
    run = simulate(PROBLEM, Network(2), Training(7, 0.2), record_every=3, joint_every=5, snapshots=[0, 7], **SMALL)
    for kind in ("h", "x"):
        z = run[f"Z_{kind}"].transpose("replica", "layer", "snapshot_step", "sample", "particle").values
        z = z.reshape(2, 2, 6, -1)
        assert_allclose(joint_gram(run, kind), z @ z.swapaxes(-1, -2) / z.shape[-1], rtol=0, atol=1e-13)


@pytest.mark.parametrize("activation", ["silu", "tanh"])
def test_joint_features_of_mup_are_independent(activation):
    """Oracle: the theory of Section 5.3."""
    claim = joint_features(*triple(Network(2, activation), TRAINING), TRAINING, INPUTS)
    assert claim.verdict is Verdict.PASS and claim.resolved == claim.of == 4, claim
    assert claim.estimate - 5 * claim.error > claim.reference


@pytest.mark.parametrize("limit", ["ntp", "sp"])
def test_frozen_joint_features_are_rejected(limit):
    """Oracle: Z_T = Z_0 in NTP and SP."""
    claim = joint_features(*triple(Network(2), TRAINING, limit=limit), TRAINING, INPUTS)
    assert claim.verdict is Verdict.FAIL and claim.refuted and abs(claim.estimate) < 1e-12
    assert "h of layer 1, x of layer 1, h of layer 2, x of layer 2" in claim.notes[-1]


def test_joint_features_of_ip_are_rejected():
    """Oracle: W^2_0 = 0 in the limit of IP, so that Z^{h^2_0} = 0."""
    with pytest.warns(Notice, match="undefined ratios"):
        runs = triple(Network(2), TRAINING, limit="ip")
    claim = joint_features(*runs, TRAINING, INPUTS)
    assert claim.verdict is Verdict.FAIL and "h of layer 2" in claim.notes[-1]


def test_joint_features_of_a_duplicated_input_are_rejected():
    problem = Problem(INPUTS[[0, 1, 0]], TARGETS)
    with pytest.warns(Notice, match="Assumption 4.1"):
        runs = triple(Network(2), TRAINING, problem)
    claim = joint_features(*runs, TRAINING, problem.inputs)
    assert claim.verdict is Verdict.FAIL and claim.of == 3  # without h of layer 1


def test_joint_features_that_hardly_moved_are_no_failure():
    """Oracle: at a rate of 1e-7 they are as independent as at 0.2, but by less than the rounding of a Gram matrix."""
    training = Training(2, 1e-7)
    claim = joint_features(*triple(Network(2), training), training, INPUTS)
    assert claim.verdict is Verdict.NOT_RESOLVED and claim.estimate < 1e-12


@pytest.mark.parametrize("limit", ["mup", "ntp"])
@pytest.mark.parametrize(
    ("training", "layers"),
    [
        (Training(0, 0.2), "1, 2"), (Training(4, 0.0), "1, 2"), (Training(4, 1e-14), "1, 2"),
        (Training(4, [0.0, 0.0, 0.2]), "1, 2"), (Training(4, [0.0, 0.2, 0.2]), "1"),
    ],
)  # fmt: skip
def test_joint_features_that_were_not_trained_are_no_failure(limit, training, layers):
    """Oracle: no steps or no rates (or below rounding) move no features; with the last one layer 2 does move in muP."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # of zero denominators
        claim = joint_features(*triple(Network(2), training, limit=limit), training, INPUTS)
    failed = limit == "ntp" and layers == "1"  # W^2 was trained, and h^2 did not move
    assert claim.verdict is (Verdict.FAIL if failed else Verdict.NOT_RESOLVED)
    assert f"nothing was trained that moves layer {layers}: zero steps" in claim.notes[2]
    assert not failed or "singular: h of layer 2, x of layer 2" in claim.notes[3]


def test_joint_features_without_error_signals_are_no_failure():
    problem = Problem(INPUTS, np.zeros(3))
    with pytest.warns(Notice, match="undefined ratios"):
        runs = triple(Network(2), TRAINING, problem)
    claim = joint_features(*runs, TRAINING, INPUTS)
    assert claim.verdict is Verdict.NOT_RESOLVED and "nothing was trained" in claim.notes[-1]


def test_joint_features_of_a_duplicated_input_need_no_training_to_be_rejected():
    problem, training = Problem(INPUTS[[0, 1, 0]], TARGETS), Training(0)
    with pytest.warns(Notice, match="Assumption 4.1"):
        runs = triple(Network(2), training, problem)
    assert joint_features(*runs, training, problem.inputs).verdict is Verdict.FAIL


def test_joint_features_whose_spectrum_decays_into_rounding_are_no_failure():
    """14 points of a curve: the eigenvalues of a smooth function's kernel fall by ten to thirty each."""
    curve = np.stack([np.linspace(-1, 1, 14) + 0.013 * np.sqrt(np.arange(14)), np.ones(14)], axis=1) / np.sqrt(2)
    training = Training(1, 0.1, reduction="mean")
    runs = triple(Network(2, init_scale=np.sqrt(2)), training, Problem(curve, np.sin(3 * curve[:, 0])))
    claim = joint_features(*runs, training, curve)
    assert claim.verdict is Verdict.NOT_RESOLVED and claim.estimate < 1e-12
