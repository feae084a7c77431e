"""The section of docs/reliability.md between its markers, from benchmarks/results/mutants.json."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from .mutant import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "mutants.json"
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- mutants:begin -->", "<!-- mutants:end -->"
Found = dict[str, Any]


def load(path: Path = RESULTS) -> Found:
    """What `make mutants` found."""
    found: Found = json.loads(path.read_text(encoding="utf-8"))
    return found


def render(found: Found) -> str:
    """The section, markers excluded."""
    control, mutants = found["control"], found["mutants"]
    killed = sum(one["verdict"] == "killed" for one in mutants)
    wall, cpu = (control[key] + sum(one[key] for one in mutants) for key in ("seconds", "cpu"))
    lines = [
        f"{killed} of {len(mutants)} bugs killed. Without a bug all {control['passed']} of their tests pass, in "
        f"{control['cpu']:.0f} s of a processor, compilation included; with the bugs it is {cpu:.0f} s altogether "
        f"({wall / 60:.0f} minutes by the clock, on a machine that others were using).",
        "",
        "| bug | file | killed by | s |",
        "|---|---|---|---|",
    ]
    for one in mutants:
        by = f"`{one['killer'].removeprefix('tests/')}`" if one["verdict"] == "killed" else f"**{one['verdict']}**"
        lines.append(f"| {one['bug']} | `{one['file'].removeprefix('tpsim/')}` | {by} | {one['cpu']:.0f} |")
    return "\n".join(lines) + "\n"


def replaced(page: str, section: str) -> str:
    """The page with a new section between the markers.

    Raises
    ------
    ValueError
        The page does not have both markers.
    """
    pattern = re.compile(f"(?<={BEGIN}\n).*(?={END})", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"{PAGE.name} has to have the lines {BEGIN} and {END}")
    return pattern.sub(lambda _: section, page)
