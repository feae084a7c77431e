"""The table of planted bugs against the source, and the judge of their runs. `make mutants` itself takes minutes.

Oracles: the source; reports of pytest that are written here.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from functools import cache

import pytest

from tests.mutants import MUTANTS, ROOT, Mutant, Stale, page
from tests.mutants.__main__ import merge
from tests.mutants.runner import Copy, Outcome, judge

EVERY = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)


@cache
def source(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


@EVERY
def test_every_bug_can_be_planted(mutant: Mutant) -> None:
    """Its old text occurs once, what replaces it is a program, and the tests it names are there."""
    compile(mutant.applied(source(mutant.file)), mutant.file, "exec")
    assert mutant.new != mutant.old and mutant.tests
    for test in mutant.tests:
        file, name = test.split("::")
        before = re.search(rf"((?:^@.*\n(?:^[ )\]].*\n)*)*)^def {re.escape(name.split('[')[0])}\(", source(file), re.M)
        assert before, test
        assert "mark.slow" not in before[1], f"{test} is left out of what the suite runs"


def test_there_are_many_bugs_of_many_files_with_names_of_their_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len({(m.file, m.old, m.new) for m in MUTANTS}) == len(MUTANTS)
    assert len(MUTANTS) >= 12 and len({mutant.file for mutant in MUTANTS}) >= 8


def test_text_that_has_changed_is_noticed() -> None:
    for text in ("a", "abb"):
        with pytest.raises(Stale, match="occurs . times in f.py"):
            Mutant("name", "bug", "f.py", "b", "c", ()).applied(text)


def test_the_page_and_the_results_are_those_of_the_table() -> None:
    """Whoever changes the table runs `make mutants`, or its part `python -m tests.mutants --only NAME`."""
    found = page.load()
    defined = [{**asdict(mutant), "tests": list(mutant.tests)} for mutant in MUTANTS]
    assert [{key: one[key] for key in defined[0]} for one in found["mutants"]] == defined
    assert {one["verdict"] for one in found["mutants"]} == {"killed"} and found["control"]["verdict"] == "survived"
    text = page.PAGE.read_text(encoding="utf-8")
    assert text == page.replaced(text, page.render(found))


REPORT = '<testsuites><testsuite><testcase classname="tests.test_a" name="test_good"/>{}</testsuite></testsuites>'
CASE = '<testcase classname="tests.test_a" name="test_b[1]"><{kind} message="{message}"/></testcase>'


@pytest.mark.parametrize(
    ("code", "case", "verdict"),
    [
        (0, "", "survived"),
        (1, CASE.format(kind="failure", message="AssertionError: &#10;Not equal to tolerance"), "killed"),
        (1, CASE.format(kind="failure", message="assert 3 &lt; 2"), "killed"),
        (1, CASE.format(kind="failure", message="tpsim.errors.InputError: key: got 1"), "killed"),
        (1, CASE.format(kind="failure", message="ImportError: no module"), "unfit"),
        (1, CASE.format(kind="failure", message="numba.core.errors.TypingError: Failed"), "unfit"),
        (1, CASE.format(kind="error", message="collection failure"), "unfit"),
        (1, "", "unfit"),
        (2, "", "unfit"),
        (4, "", "unfit"),
        (-11, "", "unfit"),
    ],
)
def test_only_a_test_that_failed_kills(code: int, case: str, verdict: str, tmp_path) -> None:
    """Not an import, a fixture, a crash, a test that does not exist, or a program that does not compile."""
    path = tmp_path / "report.xml"
    path.write_text(REPORT.format(case))
    outcome = judge(code, path, "last line", 1.0, 1.0)
    assert outcome.verdict == verdict
    assert outcome.killer == ("tests/test_a.py::test_b[1]" if "<failure" in case else "")


def test_a_bug_drops_what_was_compiled_with_it(tmp_path) -> None:
    """Oracle: what imports what. `micro` knows no other module; `passes` is imported by no module with kernels."""
    copy = Copy(tmp_path)
    for module in ("micro", "elementwise", "kernels", "passes", "orthogonal"):
        (copy.cache / f"{module}.f-1.py311.nbi").touch()
    for file, kept in (
        ("tpsim/core/passes.py", ["elementwise", "kernels", "micro", "orthogonal"]),
        ("tpsim/core/elementwise.py", ["kernels", "micro", "orthogonal"]),
        ("tpsim/core/kernels.py", ["elementwise", "micro"]),
        ("tpsim/core/micro.py", ["elementwise"]),
        ("tpsim/core/matrix.py", ["elementwise", "kernels", "micro", "orthogonal", "passes"]),
    ):
        with copy._cache_without(file) as cache:
            assert sorted(path.name.split(".")[0] for path in cache.iterdir()) == kept, file
            assert (cache == copy.cache) == (len(kept) == 5)


def test_a_bug_is_taken_out_again(tmp_path) -> None:
    """Oracle: bytes and time of the file before."""
    copy, mutant = Copy(tmp_path), MUTANTS[0]
    path = copy.root / mutant.file
    before = path.read_bytes(), path.stat().st_mtime_ns
    with copy._planted(mutant):
        assert path.read_bytes() == mutant.applied(source(mutant.file)).encode()
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_a_part_of_the_table_is_merged_into_what_is_known() -> None:
    good, bad = (Outcome(verdict, "tests/test_a.py::test_b", "", 1, 2.0, 3.0) for verdict in ("killed", "survived"))
    whole = merge(bad, [(mutant, good) for mutant in MUTANTS], None)
    part = merge(good, [(MUTANTS[1], bad)], whole)
    assert [one["verdict"] for one in part["mutants"][:3]] == ["killed", "survived", "killed"]
    assert part["control"] == whole["control"] and len(part["mutants"]) == len(MUTANTS)
    assert "**survived**" in page.render(part)
