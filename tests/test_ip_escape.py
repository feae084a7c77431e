"""The estimators behind `python -m validation.ip_escape`: on synthetic networks whose answer is known, and its command.

Oracle: the construction. Synthetic escape times have a relative spread 1.4 n^-1/2, as those of real networks do.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.oracles.levels import confirmed
from tpsim.data import load
from validation.growth import Times, estimate
from validation.ip_escape import Result, Study, claims, escape_time, networks, studies
from validation.ip_escape import __main__ as command
from validation.ip_escape.claims import sigmoid
from validation.ip_escape.networks import matrix_free_loss, measured_rates

Array = np.ndarray
SEEDS = {128: 24, 256: 16, 512: 16, 1024: 8, 4096: 4, 16384: 2}
RUNS = 40
LAWS: dict[str, Callable[[float], float]] = {
    "logarithm": lambda n: 55.8 * np.log(n) - 10.0,
    "power": lambda n: 16.0 * np.sqrt(n) + 10.0,
    "bounded": lambda n: 6.3,
}


def synthetic(law: Callable[[float], float], seed: int) -> Times:
    rng = np.random.default_rng(seed)
    return {n: law(n) * (1 + 1.4 / np.sqrt(n) * rng.standard_normal(R)) for n, R in SEEDS.items()}


@pytest.mark.parametrize("law", LAWS)
def test_a_law_is_recognised(law: str) -> None:
    """At level 0.95 at most 7 of 40 may be missed (binomial: probability 2e-3), and no time that does not depend on n,
    or a square root of n, may be called a logarithm."""
    found = Counter(estimate(synthetic(LAWS[law], seed)).verdict for seed in range(RUNS))
    assert found[law] >= RUNS - 7, found
    assert law == "logarithm" or found["logarithm"] == 0, found


def test_a_time_that_settles_is_no_logarithm() -> None:
    """6.3 (1 - 20 / n) grows by 15% between the narrowest width and the next three, and no further."""
    found = Counter(estimate(synthetic(lambda n: 6.3 * (1 - 20 / n), seed)).verdict for seed in range(RUNS))
    assert found["bounded"] >= RUNS - 7 and found["logarithm"] == 0, found


def test_intervals_hold_what_was_put_in() -> None:
    """Slope of the logarithm, exponent 0 and exponent 1/2, level 0.95: at most 7 of 40 outside (probability 2e-3)."""
    inside = []
    for seed in range(RUNS):
        log, root = (estimate(synthetic(LAWS[law], seed)) for law in ("logarithm", "power"))
        inside.append(
            (
                log.low < 55.8 < log.high,
                log.power_low <= 0.0 <= log.power_high,
                root.power_low <= 0.5 <= root.power_high,
            )
        )
    assert (np.sum(inside, axis=0) >= RUNS - 7).all(), np.sum(inside, axis=0)


def test_a_network_that_never_escapes_leaves_the_law_open() -> None:
    times = synthetic(LAWS["logarithm"], 0)
    times[4096] = np.array([*times[4096][1:], np.nan])
    assert estimate(times).verdict == "not resolved"


def test_escape_times_are_those_of_the_construction() -> None:
    """Losses exp(-s (t - t_0)) before and after t_0 = 7.3, times 1/2; at a step, between two, and never."""
    steps = np.arange(20)
    for at in (7.3, 7.0):
        loss = 0.5 * np.exp(-0.4 * (steps - at))
        loss[0] = 1.0
        np.testing.assert_allclose(escape_time(loss), at, atol=1e-12)
    assert np.isnan(escape_time(np.ones(20)))


WIDE = 1 << 14
RATE = 0.05


def trajectory(rate: float, width: int) -> Array:
    """The linear theory, until the loss is halved, then 0.2: with s^2 lambda / (2 eta) = 0.09."""
    t = np.arange(1000)
    signal = 0.09 / width * ((1 + rate) ** (2 * t) - (1 - rate) ** (2 * t))
    return np.where(signal < 0.6, 1 - signal, 0.2)[: np.argmax(signal > 0.6) + 2]


def result(rate: float = RATE, shift: float = 1.0, limit: float = 0.0) -> Result:
    """A study of synthetic networks whose own rates vary; those without matrices escape `shift` times as late."""
    rng = np.random.default_rng(3)
    seeds = {64: 12, 256: 12, 1024: 8, 4096: 6, WIDE: 4}
    losses = {
        n: [trajectory(RATE * (1 + rng.standard_normal() / np.sqrt(n)), n) for _ in range(k)] for n, k in seeds.items()
    }
    late = {n: [np.concatenate([np.ones(int((shift - 1) * escape_time(x))), x]) for x in losses[n]] for n in losses}
    dense = {n: losses[n] for n in (64, 256)}
    matrix_free = {n: late[n] for n in (256, 1024, 4096, WIDE)}
    study = Study("synthetic", 3, 0.1, {}, {}, (0.0, 1.0, 1.0), "logarithm", 0.0, seed=0)
    return Result(study, dense, matrix_free, rate, limit)


def verdicts(result: Result) -> list[str]:
    return [claim.verdict for claim in claims(result)]


def test_growth_rates_are_those_of_the_construction() -> None:
    """log(1 + lambda) within 1%, of which the decaying mode is one half: only widths that leave room are used."""
    rates = measured_rates({n: [trajectory(RATE, n)] for n in (4096, WIDE, 4 * WIDE)})
    assert list(rates) == [WIDE, 4 * WIDE]
    np.testing.assert_allclose(np.concatenate(list(rates.values())), np.log1p(RATE), rtol=0.01)


def test_every_statement_can_fail() -> None:
    """Controls: a wrong rate of the theory, matrix-free networks that are late, a limit that moves."""
    assert verdicts(result()) == ["PASS"] * 5
    assert verdicts(result(rate=1.2 * RATE)) == ["PASS", "FAIL", "FAIL", "PASS", "PASS"]
    assert verdicts(result(shift=1.3))[3] == "FAIL"
    assert verdicts(result(limit=1e-9))[4] == "FAIL"
    wrong = result()
    other = Result(replace(wrong.study, law="power", power=0.5), wrong.dense, wrong.matrix_free, wrong.rate, 0.0)
    assert verdicts(other)[0] == "FAIL"


def test_the_tolerance_does_not_show_in_escape_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the same networks at a tolerance of 1e-10, which is exact; less than .1 of some 32 steps."""
    (study,), problem = studies(quick=True), load("digits")
    coarse = [escape_time(matrix_free_loss(study, problem, 256, seed)) for seed in range(3)]
    monkeypatch.setattr(networks, "TOLERANCE", 1e-10)
    exact = [escape_time(matrix_free_loss(study, problem, 256, seed)) for seed in range(3)]
    np.testing.assert_allclose(coarse, exact, rtol=0, atol=0.1)


def test_sigmoid_moves_unless_classes_are_balanced() -> None:
    """The contrast that the command prints."""
    assert [claim.verdict for claim in sigmoid(load("digits"))] == ["PASS", "PASS"]


def test_the_quick_command(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real networks on digits: every statement of L = 3 passes; the table, the data and the figure are written.

    The law of growth is told at level .95, three constants at .999: without cause one in twenty calls has a FAIL.
    """

    def check(attempt: int) -> None:
        changed = [replace(study, seed=study.seed + 100 * attempt) for study in studies(quick=True)]
        monkeypatch.setattr(command, "studies", lambda quick: changed)
        capsys.readouterr()
        assert command.main(["--quick", "--output", str(tmp_path)]) == 0

    confirmed(check, 0.053, attempts=5)
    content = json.loads((tmp_path / "ip_escape.json").read_text())
    assert [claim["verdict"] for claim in content["claims"]] == ["PASS"] * 7
    (times,) = content["escape_times"].values()
    assert {int(n): len(t) for n, t in times.items()} == {32: 8, 64: 16, 128: 16, 256: 20, 1024: 6, 4096: 2, 16384: 1}
    assert (tmp_path / "ip_escape.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert "logarithm" in printed and printed.count("| PASS |") == 7
