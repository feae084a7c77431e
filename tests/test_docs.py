"""The documents against the code. Oracle: the code itself: what runs, which files, tests and variables there are."""

from __future__ import annotations

import inspect
import re
import runpy
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from finite import train
from tpsim import Network, Problem, Training, simulate
from tpsim.core import GUARDS
from tpsim.mlp import Settings, State

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = "tpsim|finite|validation|tests|examples|docs|benchmarks"
PLACEHOLDERS = {"CONFIG.toml", "report.md", "figures.md"}  # names of the reader's own files
page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)


def prose(path: Path) -> str:
    """The text without fenced blocks and inline code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL))


def table(text: str) -> list[list[str]]:
    """The body rows of a markdown table, cell by cell."""
    rows = [line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


@cache
def defined_tests(file: Path) -> list[str]:
    return re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)


def test_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGES[0].read_text(), re.DOTALL)
    assert blocks
    namespace: dict[str, object] = {}
    for block in blocks:  # a later block may use what an earlier one has defined
        exec(compile(block, "README.md", "exec"), namespace)


def test_the_picture_of_the_readme_can_be_drawn():
    run = simulate(Problem([[1.0, 0.2], [0.3, -0.8]], [1.0, -1.0]), Network(2), Training(4), 64, 2, progress=False)
    script = runpy.run_path(str(ROOT / "docs/images/demo.py"))
    assert len(script["figure"](run).axes) == 4


@page
def test_paths_exist(page):
    text = page.read_text()
    mentioned = set(re.findall(rf"(?<![\w/.-])(?:(?:{FOLDERS})/[\w./*-]*|\w+\.(?:md|toml|txt|cff)|Makefile)", text))
    linked = set(re.findall(r"\]\(([^)#:]+)[^):]*\)", text))
    missing = {name for name in linked if not (page.parent / name).exists()}
    missing |= {name for name in mentioned - linked - PLACEHOLDERS if not list(ROOT.glob(name.rstrip("./")))}
    assert not missing


@page
def test_anchors_are_headings(page):
    text = page.read_text()
    slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= slugs


@page
def test_named_tests_exist(page):
    text = page.read_text()
    every = {name for file in ROOT.glob("tests/test_*.py") for name in defined_tests(file)}
    assert set(re.findall(r"\b(test_\w+)\b(?!\.py)", text)) <= every
    for file, words in re.findall(r"pytest (tests/\w+\.py)[^`\n]*? -k (\w+)", text):
        assert words in (ROOT / file).read_text(), (file, words)  # a test's name or one of its parameters


@page
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^ *)make ([a-z]+)", page.read_text(), re.MULTILINE)) <= targets


@page
def test_formulas_are_closed(page):
    """Every $ has a partner in its paragraph, every brace one in its formula; no | in a formula ends a table cell."""
    text = prose(page)
    for paragraph in re.split(r"\n\s*\n|\n(?=[|\-])", text):
        assert paragraph.count("$") % 2 == 0, paragraph
        for formula in paragraph.split("$")[1::2]:
            assert formula == formula.strip() and formula.count("{") == formula.count("}"), formula
            assert not re.search(r"\\[{},;!\\]", formula), f"GitHub eats the backslash in {formula}"
    for formula in re.findall(r"```math\n(.*?)```", page.read_text(), re.DOTALL):
        assert formula.count("{") == formula.count("}"), formula
    widths = [[len(row.split("|")) for row in block.splitlines()] for block in re.findall(r"(?:^\|.*\n)+", text, re.M)]
    assert all(len(set(width)) == 1 for width in widths)


def test_every_variable_of_a_run_is_in_the_glossary_and_conversely():
    inputs = np.array([[1.0, 0.2, 0.1], [0.3, -0.8, 0.5]])
    run = simulate(
        Problem(inputs, [1.0, -1.0], inputs + 0.1, [1.0, -1.0]), Network(2, "tanh"), Training(3), particles=64,
        replicas=1, joint_every=2, snapshots=[0, 3], parts=True, progress=False,
    )  # fmt: skip
    body = re.search(r"<!-- variables -->(.*)<!-- /variables -->", (ROOT / "docs/notation.md").read_text(), re.DOTALL)
    assert body
    documented = {row[0].strip("`"): tuple(row[1].split(", ")) for row in table(body[1])}
    assert documented == {name: tuple(map(str, run[name].dims)) for name in run.data_vars}
    glossary = (ROOT / "docs/notation.md").read_text()
    for name in {*run.coords, *run.attrs}:
        assert f"`{name}`" in glossary, name
    assert set(run["part"].values) <= set(re.findall(r"`(\w+)`", glossary))


def test_every_guard_is_in_the_glossary_and_conversely():
    body = re.search(r"<!-- guards -->(.*)<!-- /guards -->", (ROOT / "docs/notation.md").read_text(), re.DOTALL)
    assert body and [row[0].strip("`") for row in table(body[1])] == list(GUARDS)
    code = "".join(path.read_text() for path in (ROOT / "tpsim").rglob("*.py"))
    assert set(re.findall(r"(?<![.\w])count\(\"(\w+)\"", code)) == set(GUARDS)


def test_finite_networks_use_the_same_names_and_dimensions():
    inputs = np.array([[1.0, 0.2], [0.3, -0.8]])
    problem, network, training = Problem(inputs, [1.0, -1.0], inputs + 0.1), Network(2, "tanh"), Training(3)
    limit = simulate(problem, network, training, particles=64, replicas=2, progress=False)
    dense = train(problem, network, training, 4, seeds=2)
    shared = set(dense.data_vars) - {"diverged_at"}
    assert {name: dense[name].dims for name in shared} == {name: limit[name].dims for name in shared}
    section = (ROOT / "docs/notation.md").read_text().split("## Finite networks")[1]
    assert {*dense.data_vars, *dense.attrs} <= set(re.findall(r"`(\w+)`", section))
    assert dense["diverged_at"].dims == ("replica",)


def test_every_setting_is_in_the_glossary_with_its_default():
    section = (ROOT / "docs/notation.md").read_text().split("## Settings of `simulate`")[1].split("\n## ")[0]
    documented = {row[0].strip("`"): row[1].strip("`") for row in table(section)}
    signature = inspect.signature(simulate).parameters
    assert list(documented) == [name for name in signature if name not in ("problem", "network", "training")]
    for name, default in documented.items():
        if re.fullmatch(r"\d+|None|False|\"\w+\"", default):
            assert str(signature[name].default) == default.strip('"'), name


def test_attributes_in_the_glossary_exist():
    text = (ROOT / "docs/notation.md").read_text()
    state = State(Network(2), np.eye(2), Settings(16, "matched", False, 1e-3, 0), 0)
    owners = {"W": state.hidden[2], "state.first": state.first, "network": state.network}
    for owner, value in owners.items():
        for name in re.findall(rf"`{owner}\.(\w+)", text):
            assert hasattr(value, name), f"{owner}.{name}"
