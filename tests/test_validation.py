"""The estimators of validation/ on synthetic samples whose answer is known, and that their commands run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tpsim import Network, Training
from validation import particle_bias
from validation.particle_bias import Case, estimate, gaussian_problem, measure

Array = np.ndarray
REPLICAS = {1024: 64, 2048: 48, 4096: 32, 8192: 16, 16384: 8}
ENTRIES = 30


def synthetic(bias: float, seed: int, spread: float = 0.01) -> dict[int, Array]:
    """E = 1 + bias / (M / 1024) in root mean square; noise along three directions, falling as M^-0.7."""
    rng = np.random.default_rng(seed)
    direction, mixing = rng.standard_normal(ENTRIES), rng.standard_normal((3, ENTRIES))
    direction *= 1024 * bias / np.sqrt(np.mean(direction**2))
    mixing *= spread / np.sqrt((mixing**2).sum(axis=0).mean())
    return {
        M: 1.0 + direction / M + (M / 1024) ** -0.7 * rng.standard_normal((R, 3)) @ mixing for M, R in REPLICAS.items()
    }


@pytest.mark.parametrize("bias", [0.0, 0.002, 0.01, 1.0])
def test_intervals_of_the_bias_hold_what_was_put_in(bias: float) -> None:
    """Oracle: the construction. Level 0.95: of 5 x 40 intervals at most 10% may miss (binomial: probability 2e-3)."""
    inside: list[tuple[bool, bool]] = []
    for seed in range(40):
        for row in estimate(synthetic(bias, seed)):
            exact = bias * 1024 / row.particles
            inside.append((row.low <= exact <= row.high, row.law_low <= exact <= row.law_high))
            assert row.low <= row.bias <= row.high and row.law_low <= row.law <= row.law_high
    assert (np.mean(inside, axis=0) >= 0.9).all(), np.mean(inside, axis=0)


def test_no_bias_is_not_seen_and_a_large_one_is() -> None:
    """Oracle: the construction; the standard error of 8 replicas at M = 1024 is 0.0035."""
    unseen, below, above = [], [], []
    for seed in range(40):
        row = estimate(synthetic(0.0, seed))[0]
        unseen.append(row.low == 0.0)
        below.append(row.verdict == "below")
        row = estimate(synthetic(0.015, seed))[0]
        above.append(row.verdict == "above" and abs(row.bias - 0.015) < 0.005)
    # level 0.95, one-sided 0.975: 36 of 40 has probability 4e-3 to fail
    assert np.sum(unseen) >= 36 and np.sum(below) >= 30 and np.sum(above) == 40


def test_one_entry_has_students_interval() -> None:
    """Oracle: Student's t, 11 degrees of freedom. One entry, noise from one M: false alarms between 2.5% and 5%."""
    rng = np.random.default_rng(0)
    noisy, quiet = rng.standard_normal((12, 1)), 1e-9 * rng.standard_normal((4, 12, 1))
    quiet -= quiet.mean(axis=1, keepdims=True)
    shape = noisy - noisy.mean()
    error = shape.std(ddof=1) / np.sqrt(12)
    for t, seen in ((2.201, False), (2.593, True)):
        samples = dict(zip(REPLICAS, [shape + t * error, *quiet], strict=True))
        assert (estimate(samples)[0].low > 0) == seen


def test_measuring_runs_every_replica() -> None:
    """The bridge to `simulate`: entries are steps after the first, by sample, by layer."""
    case = Case("tiny", gaussian_problem(2), Network(2, "tanh"), Training(2, 0.1), {256: 3, 512: 2, 1024: 2})
    found = measure(case, sobol=True)
    assert {M: x.shape for M, x in found["f"].items()} == {256: (3, 4), 512: (2, 4), 1024: (2, 4)}
    assert found["kernel_x"][256].shape == (3, 2 * 2 * 4)
    assert all(np.isfinite(x).all() for x in found["f"].values())


def test_the_command_prints_a_table_and_writes_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case("tiny", gaussian_problem(2), Network(2, "tanh"), Training(2, 0.1), {256: 3, 512: 2, 1024: 2})
    monkeypatch.setattr(particle_bias, "cases", lambda quick: [case])
    file = tmp_path / "bias.json"
    assert particle_bias.main(["--quick", "--output", str(file)]) == 0
    rows = json.loads(file.read_text())
    assert len(rows) == 2 * 2 * 3 and {row["quantity"] for row in rows} == {"f", "kernel_x"}
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| tiny")]
    assert len(printed) == len(rows)
