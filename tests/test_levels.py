"""The false-alarm probability of the suite: what may be spent, and that nothing else is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from tests.null_statistics import FAMILIES, Row, table
from tests.oracles import levels
from tests.oracles.compare import check_means
from tests.oracles.levels import ALPHA, LEVELS, SUITE, confirmed, critical, detectable, spend, total

TESTS = Path(__file__).parent


def test_the_suite_spends_at_most_its_level() -> None:
    """Boole's bound over all comparisons of all tests, slow ones included."""
    comparisons = sum(items for items, _ in LEVELS.values())
    print(f"false alarms of the whole suite: at most {total():.2e} in {comparisons} tests of {len(LEVELS)} kinds")
    assert total() <= SUITE == 1e-4


def test_what_is_listed_exists_and_spends() -> None:
    """Every name is that of a test; its file spends, by itself or through an oracle that does."""
    through = "spend(", "confirmed(", "check_means(", "check_same_law(", "check_extrapolated("
    for name in LEVELS:
        file, test = name.split("::")
        text = (TESTS / f"{file}.py").read_text()
        assert re.search(rf"^def {test}\(", text, re.MULTILINE) and any(word in text for word in through), name
    files = {name.split("::")[0] for name in LEVELS}
    for path in TESTS.glob("test_*.py"):
        if any(word in path.read_text() for word in through) and path.stem != "test_levels":
            assert path.stem in files, path.name


def test_documents_state_the_bound() -> None:
    """Where docs/reliability.md says what the suite's false-alarm probability is, it is this one."""
    text = (TESTS.parent / "docs/reliability.md").read_text()
    ((factor, power),) = re.findall(r"false-alarm probability is at most \$([\d.]+) \\times 10\^\{(-\d+)\}", text)
    assert float(factor) * 10.0 ** int(power) == pytest.approx(total(), rel=0.01)


def test_documents_show_the_null_statistics() -> None:
    """Oracle: what `python -m tests.null_statistics --output benchmarks/results/null_statistics.json` has left."""
    rows = [Row(**row) for row in json.loads((TESTS.parent / "benchmarks/results/null_statistics.json").read_text())]
    assert {row.family for row in rows} == set(FAMILIES) and all(row.as_claimed and row.seeds >= 100 for row in rows)
    assert table(rows) in (TESTS.parent / "docs/reliability.md").read_text()


def test_more_than_allowed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that is not listed may spend nothing; one that is, its own share, over all its comparisons."""
    with pytest.raises(AssertionError, match="LEVELS allows it 0"):
        spend(1e-12)
    monkeypatch.setitem(LEVELS, "test_levels::test_more_than_allowed_is_refused", (1, 2e-6))
    monkeypatch.setattr(levels, "_spent", type(levels._spent)())
    monkeypatch.setattr("builtins.print", lambda *_: None)  # it is not the suite's
    spend(1e-6)
    spend(1e-6)
    with pytest.raises(AssertionError, match="spends 3e-06"):
        spend(1e-6)


def test_names_of_items() -> None:
    assert levels.name_of("tests/test_a.py::test_b[c::d-e]") == "test_a::test_b"
    assert levels.name_of("/x/tests/test_a.py::test_b") == "test_a::test_b"


def test_critical_values_are_quantiles() -> None:
    """Oracle: the distribution functions; Bonferroni over the entries."""
    for entries, freedom in ((1, None), (60, None), (1, 15), (1000, 31)):
        law = norm() if freedom is None else student(freedom)
        assert 2 * entries * law.sf(critical(entries, freedom)) == pytest.approx(ALPHA, rel=1e-6)
        assert law.sf(detectable(entries, freedom) - critical(entries, freedom)) == pytest.approx(0.1, rel=1e-9)


def test_a_comparison_fails_at_its_critical_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a mean just inside, and just outside, with a standard error of one; `spend` is called for the first."""
    spent: list[float] = []
    monkeypatch.setattr("tests.oracles.compare.spend", spent.append)
    most = critical(2, 15)
    for off, passes in ((most - 1e-9, True), (most + 1e-9, False)):
        measured = {"f": (np.array([off, 0.0]), np.ones(2))}
        try:
            check_means("", measured, {"f": np.zeros(2)}, 16)
            assert passes
        except AssertionError as error:
            assert not passes and "1 of 2 fail" in str(error)
    assert spent == [ALPHA]


def test_a_failure_has_to_be_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: coins of a generator with a fixed seed; both fail with the square of the probability."""
    spent: list[float] = []
    monkeypatch.setattr(levels, "spend", spent.append)
    rng, failures = np.random.default_rng(0), 0
    for _ in range(4000):
        coins = rng.random(2) < 0.1

        def check(attempt: int, coins=coins) -> None:
            assert not coins[attempt]

        try:
            confirmed(check, 0.1)
        except AssertionError:
            failures += 1
    assert len(spent) == 4000 - failures and set(spent) == {0.1**2}
    assert 20 <= failures <= 60  # 40 +- 6
