"""Accuracy on demand. Oracles: synthetic replicas whose limit, bias, spread and truncation are put in; linear runs.

A synthetic replica is f = limit + b/M + c eps^2 + M^-a noise, so that the search itself is what is tested: hundreds of
searches take a second. Real networks follow where the law of the error is not put in.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm
from scipy.stats import t as student
from xarray.testing import assert_equal, assert_identical

import tpsim
from tests.oracles.levels import confirmed
from tpsim import (
    InputError,
    Network,
    Notice,
    Problem,
    RankError,
    ResourceError,
    Training,
    accuracy,
    goal,
    results,
    simulate,
    stages,
)
from tpsim.cli import main
from tpsim.errorlaw import Law, Size, truncation_error
from tpsim.plan import memory_bytes
from tpsim.run import Replica
from tpsim.task import prepare
from validation.accuracy import Case, measure
from validation.particle_bias import gaussian_problem

Array = np.ndarray
LEVEL = 1e-3  # one-sided
STEPS, SAMPLES = 5, 3
PROBLEM = Problem(np.random.default_rng(7).standard_normal((SAMPLES, 4)) / 2, [1.0, -1.0, 1.0])
CASE = PROBLEM, Network(2, "tanh"), Training(STEPS, 0.1)


@dataclass
class Engine:
    """Synthetic replicas, and a clock that they move: a replica takes M / 1e5 seconds."""

    bias: float = 0.0  # at M = 1024
    exponent: float = 0.65
    spread: float = 0.01  # at M = 1024
    truncation: float = 1.0
    directions: int = 2  # of the noise, among 15 entries
    common: float = 0.5  # share of the variance that all M have in common, as they have the first draws
    room: int = 0  # particles below which a space is full
    speed: float = 1.0
    now: float = 0.0
    stages: list[tuple[int, int, float]] = field(default_factory=list)

    def run_all(self, task, bar, first=0):
        settings = task.settings
        M, eps = settings.particles, settings.tolerance
        if len(task.schedule.record) > 2:  # not the step that compiles
            self.stages.append((M, task.replicas - first, eps))
            self.now += self.speed * M * 1e-5 * math.ceil((task.replicas - first) / task.workers)
        return [self.replica(task, M, eps, r) for r in range(first, task.replicas)]

    def replica(self, task, M, eps, r):
        T, L = len(task.schedule.record), task.network.depth
        shape = (T - 1, SAMPLES)
        entries = self.directions_of(shape)
        seed = task.settings.seed
        own, shared = (np.random.default_rng(key).standard_normal(len(entries)) for key in ([seed, r, M], [seed, r]))
        noise = math.sqrt(1 - self.common) * own + math.sqrt(self.common) * shared
        f = np.tensordot(noise, entries, 1) * self.spread * (M / 1024) ** -self.exponent
        f += self.bias * 1024 / M * self.pattern(shape) + self.truncation * eps**2
        zeros = np.zeros((T, L))
        arrays = {"f": np.concatenate([np.zeros((1, SAMPLES)), f]), "batch": np.ones((T, SAMPLES))}
        arrays |= {"loss": np.zeros(T), "rank_forward": zeros, "rank_backward": zeros}
        if self.room > M:
            return Replica(arrays, 2, "full", RankError)
        return Replica(arrays, task.training.steps + 1)

    def directions_of(self, shape):
        entries = np.random.default_rng(1).standard_normal((self.directions, *shape))
        return entries / np.sqrt((entries**2).sum(axis=0).mean())

    @staticmethod
    def pattern(shape):
        pattern = np.random.default_rng(2).standard_normal(shape)
        return pattern / np.sqrt(np.mean(pattern**2))


@pytest.fixture
def synthetic(monkeypatch):
    def install(**law):
        engine = Engine(**law)
        monkeypatch.setattr(stages, "run_all", engine.run_all)
        monkeypatch.setattr(stages, "clock", lambda: engine.now)
        monkeypatch.setattr(results, "versions", lambda: {})  # slower than a search
        return engine

    return install


def search(**arguments):
    return simulate(*CASE, progress=False, threads=1, **arguments)


def size(run):
    return run.attrs["particles"], run.sizes["replica"]


def noticed(**arguments):
    """The run of a search that does not reach its target, and its one notice."""
    with pytest.warns(Notice, match="not reached") as caught:
        run = search(**arguments)
    assert len(caught) == 1 and run.attrs["notices"] == str(caught[0].message) == run.attrs["why"]
    return run


# The formulas ---------------------------------------------------------------------------------------------------------


def samples(sizes, bias=0.0, exponent=0.6, noise=1.0, seed=0, entries=40):
    """E = 1 + bias / M along the ones; iid entries of spread M^-exponent."""
    rng = np.random.default_rng(seed)
    return {M: 1.0 + bias / M + noise * M**-exponent * rng.standard_normal((R, entries)) for M, R in sizes.items()}


def test_the_law_finds_what_was_put_in():
    """Oracle: the construction; with 4000 entries per replica the spread is known to 1%, the bias almost exactly."""
    law = Law(samples({1024: 16, 4096: 8, 16384: 8}, bias=50.0, entries=4000), sobol=True, truncation=0.0)
    assert abs(math.sqrt(law.square - law.noise) - 50.0) < 1.0 and law.bias_resolved and law.falls
    assert 0.59 < law.exponent < 0.63  # drawn towards 0.65
    errors = law.errors()
    assert_allclose(errors.standard_error, 16384**-0.6 / math.sqrt(8), rtol=0.02)
    assert_allclose(errors.bias, math.sqrt(law.square) / 16384)
    assert_allclose(law.predict(Size(16384, 8)), errors.total, rtol=1e-6)
    # more replicas lower the standard error only; a hundred times more particles, all
    assert law.predict(Size(16384, 800)) > errors.bias * 0.9
    assert law.predict(Size(1638400, 8)) < 0.1 * errors.total


def test_the_square_of_the_bias_is_at_least_the_truth_on_average():
    """Oracle: E |b|^2 = b^2 + noise, and max(., noise) is more; 400 draws, for no bias and one of the noise's size."""
    sizes = {1024: 16, 4096: 8}
    for bias in (0.0, 3.0, 30.0):
        squares = [Law(samples(sizes, bias, seed=k), True, 0.0).errors().bias ** 2 * 4096**2 for k in range(400)]
        error = np.std(squares, ddof=1) / 20
        print(f"b = {bias}: claimed^2 {np.mean(squares):.3g}, minimum detectable effect {norm.isf(LEVEL) * error:.2g}")
        assert np.mean(squares) + norm.isf(LEVEL) * error > bias**2


def test_one_number_of_particles_knows_no_bias():
    law = Law(samples({1024: 16}), sobol=True, truncation=0.0)
    assert law.errors().bias == law.errors().total == math.inf and not law.bias_resolved and law.falls
    assert "not known" in str(law.errors()) and law.predict(Size(4096, 8)) < math.inf == law.predict(Size(1024, 99))


def test_a_bias_that_falls_faster_than_assumed_is_overestimated():
    """Oracle: b / M^2 without noise: from M/4 and M, |b| / M is (16 - 1) / (4 - 1) times the truth."""
    exact = {M: np.full((8, 5), 1.0 + 1e6 / M**2) for M in (1024, 4096)}
    assert_allclose(Law(exact, True, 0.0).errors().bias, 5 * 1e6 / 4096**2, rtol=1e-6)


def test_truncation_is_extrapolated_from_the_coarser_tolerance():
    """Oracle: f + c eps^2 with common noise; noise that is not common counts where it hides the difference."""
    noise = np.random.default_rng(0).standard_normal((16, 30))
    assert_allclose(truncation_error(noise + 0.02 * 0.08**2, noise + 0.02 * 0.01**2, 8.0), 0.02 * 0.01**2)
    hidden = truncation_error(noise + 1e-3 * np.random.default_rng(1).standard_normal((16, 30)), noise, 8.0)
    assert_allclose(hidden, 1e-3 / 4 / 63, rtol=0.5)


# The search, on synthetic replicas ------------------------------------------------------------------------------------


LAWS = [
    {}, {"bias": 5e-3}, {"bias": 0.05, "exponent": 0.9}, {"exponent": 0.5, "directions": 1}, {"common": 0.0},
    {"directions": 10, "bias": 2e-3, "truncation": 30.0},
]  # fmt: skip


def check_coverage(law, target, seeds):
    """Oracle: the limit is 0. Over independent searches the mean square is not above that of the target."""
    runs = [search(seed=seed, target_error=target) for seed in range(seeds)]
    squares = np.array([np.mean(run.f.values[:, 1:].mean(axis=0) ** 2) for run in runs]) / target**2
    claims = np.array([run.attrs["error"] for run in runs]) / target
    error = squares.std(ddof=1) / math.sqrt(seeds)
    sizes = Counter(size(run) for run in runs)
    print(
        f"{law}, target {target}: actual / target {np.sqrt(squares.mean()):.2f}, claimed / target "
        f"{np.sqrt(np.mean(claims**2)):.2f}, minimum detectable effect: a mean square of 1 + "
        f"{norm.isf(LEVEL) * error:.2f}; {dict(sizes)}"
    )
    assert (claims <= 1).all() and all(json.loads(run.attrs["accuracy"])["reached"] for run in runs)
    assert squares.mean() < 1 + norm.isf(LEVEL) * error
    assert squares.mean() - norm.isf(LEVEL) * error < np.mean(claims**2)  # the claim itself is honest


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_actual_errors_are_within_the_target_in_root_mean_square(synthetic, law):
    synthetic(**law)
    check_coverage(law, 2e-3, 25)


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("target", [1e-2, 5e-3, 1e-3, 3e-4])
def test_actual_errors_are_within_many_targets(synthetic, law, target):
    synthetic(**law)
    check_coverage(law, target, 400)


def test_more_accuracy_is_bought_with_particles_where_they_are_the_cheaper(synthetic):
    """Oracle: spread^2 ~ 1 / (R M^1.3): M is the cheaper, down to 8 replicas; a given M leaves replicas only."""
    synthetic()
    assert size(search(target_error=3e-4)) == (65536, 8)
    M, R = size(search(target_error=1e-3, particles=4096))
    assert M == 4096 and R > 8


def test_stages_grow_by_four_at_most_and_keep_the_replicas_that_are_there(synthetic):
    engine = synthetic(exponent=0.5, common=0.0)
    run = search(target_error=1e-3, seed=3)
    tolerances = {eps for _, _, eps in engine.stages}
    assert len(tolerances) == 2 and max(tolerances) == accuracy.COARSE * min(tolerances)
    particles = [M for M, _, _ in engine.stages]
    assert all(b <= 4 * a for a, b in zip(particles, particles[1:], strict=False))
    M, R = size(run)
    assert sum(count for m, count, _ in engine.stages if m == M) == R  # none was run twice


def test_a_truncation_that_is_too_large_lowers_the_tolerance(synthetic):
    """Oracle: c = 1000: at the first tolerance, target / 16 of eps^2, it is 60 targets; at a sixteenth of eps, 0.24."""
    synthetic(truncation=1e3)
    run = search(target_error=1e-3)
    details = json.loads(run.attrs["accuracy"])
    tolerance = details["stages"][-1]["tolerance"]
    assert_allclose(tolerance, math.sqrt(1e-3) / 4 / 16)
    assert_allclose(details["truncation"], 1e3 * tolerance**2, rtol=0.1)
    assert run.attrs["error"] <= 1e-3


def test_the_clock_does_not_choose(synthetic):
    """A machine that is a hundred times slower runs the same stages, as long as the budget lasts."""
    found = []
    for speed in (1.0, 100.0):
        engine = synthetic()
        engine.speed = speed
        found.append(search(target_error=5e-4, max_seconds=1e6))
    assert size(found[0]) == size(found[1])
    assert_array_equal(found[0].f, found[1].f)


# Targets that are not met ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1.0, 3.0, 10.0])
def test_the_budget_of_time_is_kept_and_what_would_be_needed_is_said(synthetic, seconds):
    engine = synthetic()
    run = noticed(target_error=1e-5, max_seconds=seconds)
    assert engine.now <= seconds and engine.now > seconds / 8  # and it is used
    assert run.attrs["error"] > 1e-5 == run.attrs["target_error"]
    found = re.search(r"needed: (\d+) replicas of (\d+) particles, (\S+) s more", run.attrs["why"])
    assert found and float(found[3]) > seconds and f"max_seconds={seconds:g}" in run.attrs["why"]


def test_what_is_said_to_be_needed_is_enough(synthetic):
    engine = synthetic()
    run = noticed(target_error=2e-4, max_seconds=3.0)
    found = re.search(r"needed: (\d+) replicas of (\d+) particles", run.attrs["why"])
    again = search(target_error=2e-4, max_seconds=1e5)
    needed, enough = int(found[1]) * int(found[2]), math.prod(size(again))
    print(f"said {needed}, was {enough}")
    assert enough / 4 <= needed <= 4 * enough and engine.now < 1e5


def test_the_budget_of_memory_is_kept(synthetic):
    """Oracle: 8 bytes for each of the arrays that `memory_bytes` counts."""
    engine = synthetic()
    run = noticed(target_error=1e-5, max_bytes=100 * 2**20)
    assert engine.now < 600 and "max_bytes=104857600" in run.attrs["why"] and "GiB" in run.attrs["why"]
    assert max(memory_bytes_of(M, R) for M, R, _ in engine.stages) <= 100 * 2**20
    assert size(run)[1] > 8  # where more particles do not fit, replicas are bought
    with pytest.raises(ResourceError, match="max_bytes=1000 is too small"):
        search(target_error=1e-2, max_bytes=1000)


def memory_bytes_of(M, R):
    settings = dict(noise="matched", sobol=None, tolerance=None, seed=0, record_every=1, workers=1, max_rank=None)
    rest = dict(probe_every=None, joint_every=None, snapshots=(), parts=False, threads=1, limit="mup", dtype="float64")
    return memory_bytes(prepare(*CASE, particles=M, replicas=R, **settings, **rest), 0)


def test_a_spread_that_does_not_fall_is_noticed_and_costs_little(synthetic):
    """Oracle: exponent 0; found at the third M in most of 20 searches, and in all within a twelfth of the budget."""
    third = 0
    for seed in range(20):
        engine = synthetic(exponent=0.0, common=0.0, spread=0.3)
        run = noticed(target_error=1e-3, seed=seed, max_seconds=600)
        assert "does not fall" in run.attrs["why"] and engine.now < 50
        third += size(run)[0] <= 16384
    assert third >= 14  # power about 0.9


def test_a_spread_that_falls_is_not_called_chaotic(synthetic):
    """Oracle: exponent 0.5 in one direction, the noisiest; level 0.0013 per stage."""
    for seed in range(20):
        synthetic(exponent=0.5, directions=1, common=0.0)
        run = search(target_error=5e-4, seed=seed)
        assert json.loads(run.attrs["accuracy"])["reached"]


def test_everything_given_is_one_run_and_a_verdict(synthetic):
    synthetic()
    run = noticed(target_error=1e-4, particles=4096, replicas=8, tolerance=1e-3)
    assert size(run) == (4096, 8) and "given particles and replicas and tolerance" in run.attrs["why"]
    assert search(target_error=0.02, particles=4096, replicas=8, tolerance=1e-3).attrs["error"] < 0.02


@pytest.mark.parametrize(
    "given", [{"particles": 2048}, {"replicas": 5}, {"replicas": 20}, {"tolerance": 1e-3}, {"particles": 3000}], ids=str
)
def test_what_is_given_is_held(synthetic, given):
    engine = synthetic()
    run = search(target_error=1e-3, **given)
    settings = json.loads(run.attrs["config"])["simulation"] | {"replicas": run.sizes["replica"]}
    assert {name: settings[name] for name in given} == given and run.attrs["error"] <= 1e-3
    if "particles" in given:
        assert {M for M, _, _ in engine.stages} == {given["particles"] // 4, given["particles"]}  # the bias


def test_a_tolerance_that_is_too_coarse_is_noticed(synthetic):
    synthetic(truncation=1.0)
    run = noticed(target_error=1e-3, tolerance=0.1)
    assert "no run with the given tolerance is predicted to reach it" in run.attrs["why"]
    assert_allclose(json.loads(run.attrs["accuracy"])["truncation"], 0.01, rtol=0.1)


def test_a_space_that_is_full_takes_more_particles(synthetic):
    engine = synthetic(room=3000)
    run = search(target_error=5e-3)
    assert size(run)[0] > 4096 and [M for M, _, _ in engine.stages][:3] == [1024, 2048, 4096]
    with pytest.raises(RankError):
        search(target_error=5e-3, particles=2048)
    with pytest.raises(RankError):
        search(target_error=5e-3, max_seconds=0.01)


BAD = {
    "zero": ({"target_error": 0.0}, "target_error: got 0.0; allowed: a number > 0"),
    "word": ({"target_error": "small"}, "target_error: got 'small'"),
    "NaN": ({"target_error": math.nan}, "target_error: got nan"),
    "width": ({"noise": "width"}, "target_error: got 0.01; allowed: None with noise='width'"),
    "ntp": ({"limit": "ntp"}, "target_error: got 0.01; allowed: None with limit='ntp'"),
    "one replica": ({"replicas": 1}, "replicas: got 1; allowed: an integer >= 2"),
    "coarse": ({"tolerance": 0.5}, "tolerance: got 0.5; allowed: a number below 0.5"),
    "tolerance": ({"tolerance": -1.0}, "tolerance: got -1.0"),
    "particles": ({"particles": 2.5}, "particles: got 2.5"),
    "seconds": ({"max_seconds": 0}, "max_seconds: got 0; allowed: a number > 0"),
    "bytes": ({"max_bytes": 1.5}, "max_bytes: got 1.5; allowed: an integer >= 1"),
    "no target": ({"target_error": None, "max_seconds": 3.0}, "max_seconds: got 3.0; allowed: None without"),
    "no target 2": ({"target_error": None, "max_bytes": 3}, "max_bytes: got 3; allowed: None without"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_targets_are_refused_by_name(name):
    arguments, message = BAD[name]
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        search(**{"target_error": 0.01} | arguments)


# Real networks --------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_start(monkeypatch):
    monkeypatch.setattr(goal, "FEWEST", 256)


@pytest.mark.parametrize("target", [1e-3, 1e-9])
def test_a_linear_network_is_exact_at_the_first_comparison(target):
    """Oracle: the same network at tolerance 1e-13, which is exact at any M: what is left is the truncation."""
    case = gaussian_problem(4), Network(2, "identity"), Training(10, 0.3, reduction="mean")
    run = simulate(*case, target_error=target, progress=False)
    exact = simulate(*case, 256, 1, tolerance=1e-13, seed=5, progress=False).f.values[0]
    error = np.sqrt(np.mean((run.f.values.mean(axis=0) - exact)[1:] ** 2))
    print(f"actual {error:.1e}, claimed {run.attrs['error']:.1e}, target {target:g}")
    assert size(run) == (2048, 8) and error < target and run.attrs["error"] <= target
    assert error < 4 * run.attrs["error"]  # (3) takes c eps^2 as a power law; drops come in steps


def test_the_errors_of_a_nonlinear_network_are_within_the_target(small_start):
    """Oracle: a reference four times as accurate as the target, of another seed; 8 independent searches."""
    problem = gaussian_problem(4), Network(2, "tanh"), Training(10, 0.3, reduction="mean")

    def check(attempt: int) -> None:
        row = measure(Case("tanh", *problem, 2e-3, 8192, 4), range(8 * attempt, 8 * attempt + 8))
        error = student.isf(LEVEL, 7) * 2 * row.actual * row.actual_se
        print(f"{row}; minimum detectable effect: a mean square of 1 + {error / row.target**2:.2f}")
        assert row.reference_se < row.target / 4 and row.claimed <= row.target
        assert row.actual**2 < row.target**2 + error
        assert row.actual**2 - error < row.claimed**2

    confirmed(check, 2 * LEVEL)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_result_is_the_run_that_was_chosen(small_start, workers, tmp_path):
    """Oracle: `simulate` with the numbers that the search reports; probes and minibatches take part."""
    problem = Problem(PROBLEM.inputs, PROBLEM.targets, PROBLEM.inputs[:2] + 0.1)
    case = problem, Network(2, "tanh"), Training(6, 0.2, batches={"size": 2, "seed": 1})
    shared = dict(seed=3, record_every=2, snapshots=[6], progress=False)
    run = simulate(*case, target_error=0.01, workers=workers, **shared)
    chosen = json.loads(run.attrs["config"])["simulation"]
    again = simulate(*case, chosen["particles"], run.sizes["replica"], tolerance=chosen["tolerance"], **shared)
    assert_equal(run, again)
    more = {"target_error", "error", "accuracy", "why"}
    assert set(run.attrs) - set(again.attrs) == more and {k: run.attrs[k] for k in again.attrs} == again.attrs
    assert_identical(tpsim.load(tpsim.save(run, tmp_path / "run.nc")), run)


def test_probes_count(small_start):
    """Oracle: the definition, on the run itself: of f and f_probe the larger standard error."""
    problem = Problem(PROBLEM.inputs, PROBLEM.targets, 3 * PROBLEM.inputs[:2][:, ::-1])
    run = simulate(problem, Network(2, "tanh"), Training(6, 0.2), target_error=0.02, progress=False)
    errors = [float(np.sqrt(np.mean(tpsim.standard_error(run[name])[1:] ** 2))) for name in ("f", "f_probe")]
    details = json.loads(run.attrs["accuracy"])
    assert errors[1] > errors[0]
    assert_allclose(details["standard_error"], errors[1])
    assert details["largest_standard_error"] >= errors[1]


def test_literal_noise_has_its_tolerance_in_the_bias(small_start):
    run = simulate(*CASE, noise="iid", target_error=0.05, progress=False)
    M, _ = size(run)
    stages = json.loads(run.attrs["accuracy"])["stages"]
    assert stages[-1]["tolerance"] == 3 / math.sqrt(M) and stages[-1]["truncation"] == 0.0
    assert run.attrs["error"] <= 0.05


def test_a_limit_that_stands_still_is_known_at_once():
    """Oracle: three layers of IP without phi(0) stay at f = 0; and no steps, f_0 = 0."""
    for training, limit in ((Training(3), "ip"), (Training(0), "mup")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)  # undefined ratios
            run = simulate(PROBLEM, Network(3, "tanh"), training, target_error=1e-9, limit=limit, progress=False)
        assert run.attrs["error"] <= 1e-9 and size(run) == (2048, 8)


def test_max_rank_and_divergence_stop_a_search_as_they_stop_a_run(small_start):
    with pytest.raises(RankError, match="max_rank=8"):
        simulate(PROBLEM, Network(2), Training(20, 0.5), target_error=0.1, max_rank=8, progress=False)
    with pytest.raises(tpsim.Diverged, match="diverged") as caught:
        simulate(PROBLEM, Network(2, "relu"), Training(200, 60.0), target_error=0.1, progress=False)
    assert caught.value.run is not None


def test_progress_hears_of_every_stage(small_start):
    heard = []
    run = simulate(*CASE, target_error=0.05, progress=lambda step, replica, loss: heard.append((step, replica)))
    runs = json.loads(run.attrs["accuracy"])["stages"]
    # 2 replicas, the others of the first M, as many at the coarser tolerance, and the second M
    assert [entry["replicas"] for entry in runs] == [2, 16, 16, 8]
    assert len(heard) == (16 + 16 + 8) * (STEPS + 1)


# The command line -----------------------------------------------------------------------------------------------------

SETS = [
    "network.depth=2", "training.steps=4", "simulation.workers=1", "simulation.probe_every=3", "data.count=4",
    "data.probes=3", "simulation.target_error=0.01",
]  # fmt: skip


def command(name, *arguments, sets=SETS):
    return [name, *arguments, *(word for entry in sets for word in ("--set", entry))]


def test_run_prints_stages_and_writes_a_configuration_that_reproduces_it(small_start, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tpsim.plot, "save_all", lambda run, directory: [])
    assert main(command("run", "--output", "first")) == 0
    printed = capsys.readouterr()
    assert printed.err == "" and printed.out.count("stage: ") >= 2 and "target_error=0.01 was reached by" in printed.out
    run, summary = tpsim.load("first/limit.nc"), json.loads(Path("first/summary.json").read_text())
    assert summary["why"] == run.attrs["why"] and summary["accuracy"] == json.loads(run.attrs["accuracy"])
    text = Path("first/config.toml").read_text()
    assert "\ntarget_error =" not in text and f"# {run.attrs['why']}" in text
    assert main(["run", "first/config.toml", "--output", "second", "--quiet"]) == 0
    again = tpsim.load("second/limit.nc")
    assert_equal(again.drop_vars(["Z_h", "snapshot_step"]), run)  # a search takes no snapshots for pictures
    assert main(command("run", "--output", "third", "--quiet")) == 0
    assert capsys.readouterr().out == ""


def test_run_says_when_the_target_was_not_reached(small_start, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tpsim.plot, "save_all", lambda run, directory: [])
    sets = [*SETS, "simulation.target_error=1e-7", "simulation.max_seconds=1"]
    assert main(command("run", "--quiet", "--output", "out", sets=sets)) == 0
    assert re.match(r"notice: target_error=1e-07 was not reached .* allowed: max_seconds=1, ", capsys.readouterr().err)
    assert not json.loads(Path("out/summary.json").read_text())["accuracy"]["reached"]


def test_plan_says_what_a_search_will_do(capsys):
    assert main(command("plan", sets=[*SETS, "simulation.replicas=6", "simulation.max_seconds=30"])) == 0
    printed = capsys.readouterr().out
    for words in ("error of f at most 0.01, within 30 s", "given: replicas = 6", "6 replicas of 1024 particles"):
        assert words in printed
    assert "for the first stage" in printed


@pytest.mark.parametrize("name", ["converge", "verify", "figures"])
def test_other_commands_refuse_a_target(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([name, "--set", "simulation.target_error=0.1"]) == 2
    assert "simulation.target_error: got 0.1; allowed: nothing here" in capsys.readouterr().err


def test_errors_are_named_after_the_keys(capsys):
    for more, message in (
        ("simulation.target_error=-1", "simulation.target_error: got -1; allowed: a number > 0"),
        ("simulation.limit=sp", "simulation.target_error: got 0.01; allowed: None with limit='sp'"),
        ("simulation.replicas=1", "simulation.replicas: got 1"),
    ):
        assert main(command("run", sets=[*SETS, more])) == 2
        assert f"error: {message}" in capsys.readouterr().err
