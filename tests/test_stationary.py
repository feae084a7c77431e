"""Corollary 4.6 and the update of the read-out. Oracles: problems of which it is known whether they have a stationary
point with an error signal; the algebra of the losses; planted errors."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.levels import confirmed
from tpsim import Network, Notice, Problem, Training, simulate
from validation import stationary
from validation.claim import Verdict
from validation.stationary import corollary_4_6, update_identity

RNG = np.random.default_rng(0)
INPUTS = RNG.standard_normal((3, 4)) / 2.0
TARGETS = np.array([1.0, -1.0, 0.5])
PROBLEM = Problem(INPUTS, TARGETS)
CONVERGES = Training(60, 0.1)


def triple(training: Training, problem: Problem = PROBLEM, activation: str = "tanh") -> list[xr.Dataset]:
    """A pilot, 8 replicas of M particles, 8 of 2M, independent."""
    sizes = ((512, 2, 21), (512, 8, 22), (1024, 8, 23))
    settings = {"tolerance": 1e-3, "progress": False, "record_every": 2}
    return [
        simulate(problem, Network(2, activation), training, M, replicas=R, seed=seed, **settings)
        for M, R, seed in sizes
    ]


def test_a_run_that_converges_passes():
    """Oracle: three independent inputs, full batch, a small rate."""
    runs = triple(CONVERGES)
    claim = corollary_4_6(*runs, CONVERGES)
    assert claim.verdict is Verdict.PASS and claim.resolved == claim.of == 2, claim
    assert claim.estimate - 5 * claim.error > claim.reference
    signals = [float(abs(runs[2].chi).max("sample").mean("replica").isel(step=t)) for t in (0, -1)]
    said = f"max |chi| is {signals[0]:.2g} at step 0, {signals[1]:.2g} at step 60"
    assert any(note.startswith(said) for note in claim.notes)


def edited(runs: list[xr.Dataset], steps: slice, loss: float, chi: float) -> list[xr.Dataset]:
    """The same runs with other losses and error signals at some recorded steps."""
    found = [run.copy(deep=True) for run in runs]
    for run in found:
        run["loss"].loc[{"step": steps}] = loss
        run["chi"].loc[{"step": steps}] = chi
    return found


def test_a_run_that_has_converged_and_diverges_again_is_not_resolved():
    """Oracle: the losses and error signals that are put in, after a certified convergence."""
    runs = triple(CONVERGES)
    claim = corollary_4_6(*edited(runs, slice(56, None), 0.9, 0.5), CONVERGES)
    assert claim.verdict is Verdict.NOT_RESOLVED and (claim.resolved, claim.of) == (1, 2), claim
    assert any("the loss does not end below 0.001: 0.9 at step 60" in note for note in claim.notes)
    assert any("the loss rises from " in note and note.endswith("to 0.9 at step 56") for note in claim.notes)
    assert not any(" on" in note and "loss below" in note for note in claim.notes)
    signals = corollary_4_6(*edited(runs, slice(56, None), 1e-5, 1.0), CONVERGES)  # the loss alone does not settle it
    assert signals.verdict is Verdict.NOT_RESOLVED, signals
    assert "max |chi| does not end below 0.1 of its start" in signals.notes


def test_the_loss_counts_as_converged_from_its_last_crossing_on():
    """Oracle: losses that are put in, equal over replicas: below at step 44, above at 46, below from 48 on."""
    runs = edited(triple(CONVERGES), slice(44, None), 1e-5, 1e-3)
    claim = corollary_4_6(*edited(runs, slice(46, 46), 0.9, 0.5), CONVERGES)
    assert claim.verdict is Verdict.PASS, claim
    assert "loss below 0.001 from step 48 on" in claim.notes
    assert any(note.startswith("the loss rises from 1e-05 at step 44 to 0.9 at step 46") for note in claim.notes)


def test_the_logistic_loss_converges_too():
    """Oracle: as above; its rate has to grow for the loss to fall below 1e-3 in 60 steps, and tanh would saturate."""
    training = Training(60, lambda t: 0.2 * 1.1**t, loss="logistic")
    claim = corollary_4_6(*triple(training, Problem(INPUTS, np.sign(TARGETS)), "silu"), training)
    assert claim.verdict is Verdict.PASS and claim.resolved == claim.of == 2, claim


def test_a_short_run_is_not_resolved():
    training = Training(5, 0.1)
    claim = corollary_4_6(*triple(training), training)
    assert claim.verdict is Verdict.NOT_RESOLVED and (claim.resolved, claim.of) == (1, 2)
    assert any("the loss does not end below 0.001" in note for note in claim.notes)


def test_duplicated_input_with_contradictory_labels_is_rejected():
    """Oracle: chi = (-a, a, 0) moves nothing, a stationary point with an error signal; chi_0 - chi_1 = -4 always."""
    problem = Problem(INPUTS[[0, 0, 1]], np.array([1.0, -1.0, 0.5]))
    with pytest.warns(Notice, match="Assumption 4.1"):
        runs = triple(CONVERGES, problem)
    claim = corollary_4_6(*runs, CONVERGES)
    assert claim.verdict is Verdict.FAIL and abs(claim.estimate) < 1e-12
    assert abs(runs[2].chi.sel(sample=0) - runs[2].chi.sel(sample=1) + 4.0).max() < 1e-9


def test_duplicated_input_with_equal_labels_is_rejected():
    """Oracle: it converges, but not because its K^L is non-singular."""
    problem = Problem(INPUTS[[0, 0, 1]], TARGETS[[0, 0, 1]])
    with pytest.warns(Notice, match="Assumption 4.1"):
        runs = triple(CONVERGES, problem)
    claim = corollary_4_6(*runs, CONVERGES)
    assert runs[2].loss.isel(step=-1).max() < 1e-3 and claim.verdict is Verdict.FAIL


@pytest.mark.parametrize("training", [Training(4, 0.0), Training(4, [0.1, 0.1, 0.0]), Training(0)])
@pytest.mark.parametrize("rows", [[0, 1, 2], [0, 0, 1]])
@pytest.mark.filterwarnings("ignore::tpsim.Notice")  # undefined ratios, and equal inputs
def test_a_read_out_that_is_not_trained_is_no_counter_example(training, rows):
    """Oracle: parameters that are not trained stand still, whatever chi is; no singular K^L (equal inputs) refutes."""
    claim = corollary_4_6(*triple(training, Problem(INPUTS[rows], TARGETS)), training)
    assert claim.verdict is Verdict.NOT_RESOLVED and claim.resolved == 0
    assert any("learning rate of the read-out" in note for note in claim.notes)


def test_without_error_signal_there_is_nothing_to_say():
    problem = Problem(INPUTS, np.zeros(3))
    with pytest.warns(Notice, match="undefined ratios"):
        runs = triple(Training(4, 0.1), problem)
    claim = corollary_4_6(*runs, Training(4, 0.1))
    assert claim.verdict is Verdict.NOT_RESOLVED and claim.resolved == 0


@given(
    st.lists(st.tuples(st.floats(-20, 20), st.sampled_from([-1.0, 1.0])), min_size=1, max_size=5),
    st.sampled_from(["squared", "logistic"]),
    st.sampled_from(["sum", "mean"]),
)
def test_no_error_signal_is_larger_than_its_loss_allows(pairs, loss, reduction):
    """Oracle: the loss and its derivative themselves."""
    training = Training(1, loss=loss, reduction=reduction)
    f, y = np.array(pairs).T
    share = len(f) if reduction == "mean" else 1
    value = training.criterion.value(f, y).sum() / share
    chi = training.criterion.derivative(f, y) / share
    allowed = stationary._allowed(training, value, len(f))
    assert np.abs(chi).max() <= allowed * (1 + 1e-12) + 1e-15


BATCHES = Training(6, 0.2, batches={"size": 2, "seed": 1}, reduction="mean")
PAIRS = {"particles": 512, "replicas": 8, "progress": False, "snapshots": [0, 1, 4, 5]}


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("training", [Training(6, [0.3, 0.2, 0.1]), BATCHES])
def test_the_update_of_the_read_out_is_what_chi_and_the_kernel_say(training, parts):
    """Oracle: two halves of the replicas; with `parts` the increments of What themselves. The claim's level is .001."""

    def check(attempt: int) -> None:
        run = simulate(PROBLEM, Network(2), training, parts=parts, seed=attempt, **PAIRS)
        claim = update_identity(run, training)
        assert claim.verdict is Verdict.PASS and claim.resolved == (2 if parts else 4), claim

    confirmed(check, stationary.FALSE)


def test_a_wrong_rate_is_rejected():
    """Planted: a rate that is a tenth too large, against the increments of What."""
    run = simulate(PROBLEM, Network(2), Training(6, 0.2), parts=True, **PAIRS)
    claim = update_identity(run, Training(6, 0.22))
    assert claim.verdict is Verdict.FAIL and abs(claim.estimate - 1 / 1.21) < 0.05


@pytest.mark.parametrize("parts", [False, True])
def test_a_stale_error_signal_is_rejected(parts):
    """Planted: chi of the step before, in the half that K and chi come from."""
    run = simulate(PROBLEM, Network(2), Training(6, 0.2), parts=parts, **PAIRS)
    stale = run.chi.copy()
    stale[4:, 1:] = run.chi.values[4:, :-1]
    claim = update_identity(run.assign(chi=stale), Training(6, 0.2))
    assert claim.verdict is Verdict.FAIL, claim


def test_the_whole_data_in_the_place_of_the_batch_is_rejected():
    """Planted: chi of all samples where only the batch's made the update."""
    run = simulate(PROBLEM, Network(2), BATCHES, parts=True, **PAIRS)
    assert update_identity(run.assign(batch=run.batch | True), BATCHES).verdict is Verdict.FAIL


@pytest.mark.parametrize("missing", ["snapshots", "replicas"])
def test_the_update_needs_snapshots_and_replicas(missing):
    settings = {**PAIRS, "snapshots": [6]} if missing == "snapshots" else {**PAIRS, "replicas": 3}
    claim = update_identity(simulate(PROBLEM, Network(2), Training(6, 0.2), **settings), Training(6, 0.2))
    assert claim.verdict is Verdict.NOT_RESOLVED and claim.resolved == 0
