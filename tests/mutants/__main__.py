"""What `make mutants` runs: plant every bug in turn, and write what was found into the results and the page.

    python -m tests.mutants [--only TEXT ...] [--list]

With `--only` the bugs whose name or file has one of the texts; what is known of the others is kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from . import MUTANTS, Mutant
from .mutant import ROOT
from .page import PAGE, RESULTS, Found, load, render, replaced
from .runner import Copy, Outcome


def chosen(only: Sequence[str]) -> list[Mutant]:
    """The mutants whose name or file has one of the texts; all without a text."""
    return [mutant for mutant in MUTANTS if not only or any(text in mutant.name + mutant.file for text in only)]


def kill(mutants: Sequence[Mutant]) -> tuple[Outcome, list[tuple[Mutant, Outcome]]]:
    """The control, then each mutant; nothing after a control that fails. Says what it finds."""
    found = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Copy(Path(folder))
        for mutant in mutants:  # a stale one is found before any time is spent
            mutant.applied((copy.root / mutant.file).read_text(encoding="utf-8"))
        copy.check_import()
        control = copy.control(mutants)
        say("control", "no bug", control)
        if control.verdict == "survived":
            for k, mutant in enumerate(mutants, start=1):
                found.append((mutant, copy.run(mutant)))
                say(f"{k}/{len(mutants)}", mutant.name, found[-1][1])
    return control, found


def say(place: str, name: str, outcome: Outcome) -> None:
    """A line of the table on the terminal."""
    by = outcome.killer.removeprefix("tests/") if outcome.verdict == "killed" else outcome.said
    print(f"{place:>7} {outcome.verdict:8} {outcome.cpu:5.1f} s  {name:20} {by}", flush=True)


def merge(control: Outcome, found: list[tuple[Mutant, Outcome]], before: Found | None) -> Found:
    """What is written: the new outcomes, and those of before of mutants that have not changed."""
    new = {mutant.name: asdict(mutant) | asdict(outcome) for mutant, outcome in found}
    known = {one["name"]: one for one in before["mutants"]} if before else {}
    whole = len(new) == len(MUTANTS) or before is None
    rows = [new.get(mutant.name, known.get(mutant.name)) for mutant in MUTANTS]
    return {
        "command": "make mutants",
        "python": sys.version.split()[0],
        "control": asdict(control) if whole else before["control"],
        "mutants": [row for row in rows if row is not None],
    }


def main() -> int:
    """Run, and return 1 if the control failed or a mutant was not killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Plant bugs and run the tests.")
    parser.add_argument("--only", nargs="+", default=(), metavar="TEXT", help="part of a bug's name or file")
    parser.add_argument("--list", action="store_true", help="the bugs, without running anything")
    arguments = parser.parse_args()
    mutants = chosen(arguments.only)
    if arguments.list:
        for mutant in mutants:
            print(f"{mutant.name:20} {mutant.file:26} {mutant.bug}")
        return 0
    control, found = kill(mutants)
    if control.verdict != "survived":
        print(f"without a bug {control.killer or 'the run'} fails: {control.said}", file=sys.stderr)
        return 1
    result = merge(control, found, load() if RESULTS.exists() else None)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), render(result)), encoding="utf-8")
    alive = [mutant.name for mutant, outcome in found if outcome.verdict != "killed"]
    seconds = control.seconds + sum(outcome.seconds for _, outcome in found)
    print(f"{len(found) - len(alive)} of {len(found)} killed, {seconds / 60:.1f} minutes: "
          f"{RESULTS.relative_to(ROOT)}, {PAGE.relative_to(ROOT)}")  # fmt: skip
    if alive:
        print(f"not killed: {', '.join(alive)}", file=sys.stderr)
    return int(bool(alive))


if __name__ == "__main__":
    sys.exit(main())
