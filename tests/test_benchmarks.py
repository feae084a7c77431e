"""The benchmarks: what they count, how they choose, that they run, and that the page says what their files say.

Oracles: counts by hand; laws and prices whose answer is known; the files themselves.
"""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest

from benchmarks import (
    accuracy,
    common,
    early,
    elementwise,
    estimators,
    flatness,
    memory,
    paper,
    rates,
    report,
    roofline,
    scaling,
    startup,
)
from benchmarks.common import Result
from benchmarks.estimators import Moments, Part

MEASURES = {
    "accuracy", "checkpoints", "early", "elementwise", "flatness", "memory", "paper", "rates", "roofline", "scaling",
    "startup",
}  # fmt: skip


def test_roofline_counts_are_those_of_arrays_counted_by_hand():
    p, q, M, m = 3, 2, 5, 4
    X, V, U, D = (np.ones((rank, M)) for rank in (p, q, p, q))
    x = np.ones((m, M))
    passes = (X, V, U, D), (D, U, V, X)  # forward: c, b; U c, D b; backward likewise
    assert roofline.bytes_per_step([p], [q], M, 8) == sum(array.nbytes for each in passes for array in each) == 800
    multiplications = sum(m * array.size for each in passes for array in each)
    assert roofline.flops_per_step([p], [q], M, len(x)) == 2 * multiplications == 800
    assert roofline.working_set([p], [q], M, 8) == X.nbytes + V.nbytes + U.nbytes + D.nbytes
    assert roofline.bytes_per_step([3, 4], [2, 5], M, 4) == 4 * 5 * (5 + 9) * 4


def test_windows_hold_the_steps_they_name():
    ends = np.cumsum(np.r_[1.0, np.full(10, 2.0), np.full(10, 3.0)])  # step 0 takes 1, steps 1..10 take 2, then 3
    assert flatness.window_times(ends, ((0, 10), (10, 20)))[2:] == [2.0, 3.0]
    assert scaling.slope([1.0, 2.0, 4.0], [1.0, 1.0, 8.0]) == pytest.approx(3.0)


def test_combinations_cancel_the_powers_that_they_should():
    for weights in estimators.combinations([8, 16, 32, 64]):
        sums = [sum(w / n**k for n, w in weights.items()) for k in range(len(weights))]
        assert np.allclose(sums, [1.0] + [0.0] * (len(weights) - 1))
    assert len(estimators.combinations([8, 16, 32, 64])) == 4 + 3 + 2


def test_price_is_the_least_of_all_allocations():
    alone = [Part(1.0, 0.1, 2.0)]
    assert estimators.price(alone, 0.0, 0.01) == (200.0, [100])
    assert estimators.price(alone, 0.006, 0.01) == (2.0 * 157, [157])  # .1^2 / R <= .01^2 - .006^2
    assert estimators.price(alone, 0.01, 0.01) is None
    pair = [Part(-1.0, 0.2, 1.0), Part(2.0, 0.1, 3.0)]
    found = estimators.price(pair, 0.0, 0.02)
    counts = np.arange(1, 600)
    variance = 0.04 / counts[:, None] + 0.04 / counts[None]
    cost = np.where(variance <= 0.02**2, counts[:, None] + 3.0 * counts[None], np.inf)
    assert cost.min() <= found[0] <= cost.min() + 4.0  # rounded up: at most one run of each size more


def networks(sizes, runs, slope, curvature, seed=0, entries=30, control=0.9):
    """Samples about a limit with bias slope / n + curvature / n^2, and an f_0 that explains most of the spread."""
    rng = np.random.default_rng(seed)
    limit, shape = rng.standard_normal(entries), rng.standard_normal(entries)
    samples, controls = {}, {}
    for n in sizes:
        controls[n] = rng.standard_normal((runs, 2)) / np.sqrt(n)
        noise = rng.standard_normal((runs, entries)) / np.sqrt(n)
        explained = controls[n] @ np.full((2, entries), control)
        samples[n] = limit + (slope / n + curvature / n**2) * shape + explained + 0.1 * noise
    truth = Moments.of(limit + 1e-5 * rng.standard_normal((16, entries)))
    return samples, controls, truth, float(np.sqrt((shape**2).mean()))


def moments(samples):
    return {n: Moments.of(x) for n, x in samples.items()}


def test_bias_of_every_estimator_is_that_of_the_law():
    samples, controls, truth, size = networks((16, 32, 64, 128, 256), 4000, 2.0, 30.0)
    law = estimators.fit(moments(estimators.with_control(samples, controls)), truth)
    assert (law.order, law.first) == (2, 16)
    for weights, true in (({64: 1.0}, 2 / 64 + 30 / 64**2), ({64: -1.0, 128: 2.0}, 30 / (2 * 64**2))):
        estimate, low, high = law.bias(weights)
        assert low < true * size < high and estimate == pytest.approx(true * size, rel=0.2)
        assert estimators.used((estimate, low, high)) == estimate
        assert estimators.used((estimate, low, high), favourable=True) == low
    third, low, high = law.bias({16: 1 / 3, 32: -2.0, 64: 8 / 3})  # no power below n^-3
    assert low == 0.0 and estimators.used((third, low, high)) == high < 0.02
    ends = estimators.interval(law.moments, estimators.limit(law), (-1.0, truth))
    assert ends[1] == 0.0 and ends[2] < 0.02


def test_law_of_particles_is_not_shifted_by_the_bias_of_the_truth():
    samples, _, truth, size = networks((64, 128, 256), 4000, 2.0, 0.0, control=0.0)
    shift = samples[256].mean(axis=0) - truth.mean  # the truth of a run at 256, which has 2 / 256
    law = estimators.fit(moments(samples), Moments(truth.mean + shift, truth.covariance, truth.runs), origin=256)
    assert law.bias({64: 1.0})[0] == pytest.approx(2 / 64 * size, rel=0.2)


def test_a_wrong_truth_is_seen():
    samples, _, truth, _ = networks((16, 32, 64, 128, 256), 2000, 2.0, 0.0, control=0.0)
    assert estimators.fit(moments(samples), truth).order == 1
    wrong = Moments(truth.mean + 0.05, truth.covariance, truth.runs)
    law = estimators.fit(moments(samples), wrong)
    assert estimators.interval(law.moments, estimators.limit(law), (-1.0, wrong))[1] > 0.0


def test_sizes_that_no_law_fits_are_measured_directly():
    samples, _, truth, size = networks((16, 32, 64, 128, 256), 4000, 2.0, 0.0, control=0.0)
    samples[16] += 1.0
    law = estimators.fit(moments(samples), truth)
    assert law.first == 32
    assert law.bias({16: 1.0})[0] == pytest.approx(1.0, rel=0.2)
    assert law.bias({64: 1.0})[0] == pytest.approx(2 / 64 * size, rel=0.3)


def test_control_leaves_the_mean_and_takes_the_variance():
    samples, controls, _, _ = networks((16, 32), 2000, 0.0, 0.0)
    before, after = moments(samples), moments(estimators.with_control(samples, controls))
    for n in samples:
        assert after[n].spread < 0.2 * before[n].spread
        assert np.abs(after[n].mean - before[n].mean).max() < 6 * before[n].spread / np.sqrt(before[n].runs)


def test_task_of_takes_the_defaults_of_simulate():
    task = common.task_of(common.gaussian_problem(3, 4), *common.appendix_a(2, "tanh", 3), particles=64)
    assert task.settings.noise == "matched" and task.settings.sobol and task.replicas == 8
    assert task.training.reduction == "mean" and task.network.scales == pytest.approx(np.sqrt(2.0))


def test_machine_rates_are_measured():
    assert rates.gemm_rate("float64", 1, 64, 0.01) > 1e6
    assert rates.read_bandwidth(1 << 20, 1, "float32", 0.01) > 1e6
    assert {"cpu", "cores", "versions"} <= set(common.machine())


def test_roofline_runs(monkeypatch):
    monkeypatch.setattr(roofline, "measured", lambda kind, *case: {"read": 2e9, "gemm": 3e9}[kind])
    run = roofline.one_run(128, 1, "float64", 5, 3)
    assert run.still > 0 and len(run.p) == len(run.q) == 2 and 0 <= run.share <= 1
    row = roofline.row_of((128, "float64", 1), [run, run], quick=True)
    bounds = row["MB moved"] / 2.0, row["Mflop"] / 3.0  # in ms
    assert [row["bytes bound, ms"], row["flops bound, ms"]] == pytest.approx(bounds)
    assert row["measured, ms"][0] / row["measured / bound"][0] == pytest.approx(max(bounds))
    speedups = roofline._speedups(128, {("float64", 1): [2.0, 3.0], ("float64", 2): [1.0, 1.0]})
    assert speedups["1 thread over 2, float64"] == [2.5, 2.0, 3.0]


def test_shares_of_growth_are_shares():
    total, draws, others, p, q = early.shares(128, 4)
    assert total > 0 and 0 < draws < 1 and 0 < others < 1 - draws and len(p) == len(q) == 2


def test_scaling_and_paper_run():
    rows = scaling.history((2, 4), 128, 1)
    assert rows[1]["T"] == 4 and rows[1]["reference / tpsim"][0] > 0 and isinstance(rows[1]["exponent, tpsim"], float)
    rows = scaling.samples((4, 6), 256, 3)
    assert rows[0]["p"] >= 4 and rows[1]["memory, MB"] > rows[0]["memory, MB"]
    with common.silent():
        row, run = paper.one(2, 4, 3, 1, particles=128, replicas=2)
    assert row["replicas"] == run.sizes["replica"] == 2 and row["error of f"] > 0


def test_kernels_are_compared_at_the_same_points(monkeypatch):
    monkeypatch.setattr(elementwise, "NAMES", ("tanh",))
    monkeypatch.setattr(elementwise, "SHAPE", (2, 64))
    (row,) = elementwise.measure(quick=True).tables[""][:1]
    assert row["error of the kernel"] < 1e-15 and row["of torch"] < 1e-14


def test_child_processes_report(tmp_path):
    tiny = memory.BASE | {"particles": 256, "samples": 4, "depth": 2, "steps": 3}
    own, children, predicted, rank = memory.child(tiny, tiny=False)
    assert own > 1 << 24 and predicted > 256 * 8 * rank
    assert len(startup.child(str(tmp_path), "print([1.0, 2.0])")) == 2


def test_accuracy_runs_on_a_tiny_problem():
    sizes = {"matched": (128, 256), "width": (32, 64), "iid": (128,), "dense": (16, 32)}
    case = dataclasses.replace(accuracy.cases(quick=True)[0], sizes=sizes, truth=(512, 2))
    with common.silent():
        found = accuracy.pilots(case, 0.01, 2, 12)
        values = accuracy.runner(case, "matched")(*case.truth, 10**6).f.values
    truth = Moments.of(values[:, 1:].reshape(2, -1))
    known = accuracy.widths(found, truth)
    every = accuracy.every_estimator(found, known, truth)
    assert {e.strategy for e in every} == {"matched", "width", "width + f_0", "iid", "dense", "dense + f_0"}
    assert all(e.seconds[n][0] > 0 for e in every for n in e.weights)
    rows = accuracy.contest(case, every, 2, 0.0)
    assert {row["error"] for row in rows} == set(accuracy.ERRORS)
    assert {row["error"] for row in accuracy.contest(case, every, 2, 5e-4)} == {1e-3}
    assert {row["agree"] for row in accuracy.check_truth(case, found, known, truth)} <= {"yes", "no"}


@pytest.fixture
def folder(tmp_path):
    """A file of every benchmark, with invented numbers."""
    rng = np.random.default_rng(0)
    for name in report.NAMES:
        rows = [{"size": int(rng.integers(10**4)), "ratio": sorted(rng.random(3) * 10.0**k)} for k in (-6, 0, 4)]
        reached = [{"what": f"of {name}", "target": float(rng.random()), "reached": float(rng.random())}]
        data = {"problem": {"matched": [[1.0, 0.1], [10.0, 0.01]]}} if name == "accuracy" else {}
        result = Result({"": rows, "more": rows[:1]}, reached, [], data)
        common.write(name, result, f"python -m benchmarks.{name}", float(rng.random()), 0.125, tmp_path)
    return tmp_path


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?", text))


def known(value) -> set[str]:
    """Every number that a file holds, written as the page writes numbers, and those in its words."""
    if isinstance(value, dict):
        return set().union(*(known(part) | numbers(key) for key, part in value.items()), set())
    if isinstance(value, list):
        return set().union(*map(known, value), set())
    return numbers(str(value)) if isinstance(value, str) else numbers(report.number(value))


def test_every_number_of_the_page_is_in_a_file(folder):
    results = report.load(folder)
    assert {result["benchmark"] for result in results} == MEASURES
    page = report.render(results)
    assert numbers(page) <= known(results)
    assert numbers(page.replace("of rates", "of 123456789")) - known(results) == {"123456789"}
    assert "fast pass" not in page


def test_a_fast_pass_is_called_one(folder):
    path = folder / "rates.json"
    path.write_text(path.read_text().replace("benchmarks.rates", "benchmarks.rates --quick"))
    assert "of which no number should be quoted: rates" in report.render(report.load(folder))


def test_picture_is_drawn_from_the_file(folder):
    (accurate,) = (result for result in report.load(folder) if result["benchmark"] == "accuracy")
    page = report.picture(accurate["data"])
    assert [line.get_xydata().tolist() for line in page.axes[0].lines] == [[[1.0, 0.1], [10.0, 0.01]]]


def test_numbers_keep_three_digits():
    assert list(map(report.number, (0.00123456, 1.23456, 12345.6, 7, 0.0, "text"))) == [
        "0.00123", "1.23", "12346", "7", "0", "text",
    ]  # fmt: skip
    assert report.number([2.0, 1.0, 3.0]) == "2 (1 .. 3)"


def test_the_committed_page_is_that_of_the_committed_files():
    results = report.load(common.RESULTS)
    assert results
    page = (report.DOCS / "performance.md").read_text(encoding="utf-8")
    assert page == report.render(results)
    assert numbers(page) <= known(results)
    assert all("--quick" not in json.loads(json.dumps(result))["command"] for result in results)
