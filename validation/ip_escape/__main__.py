"""python -m validation.ip_escape [--quick] [--output DIR]"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tpsim.data import load

from .claims import Claim, claims, claims_table, sigmoid, times_table
from .figure import draw
from .networks import Result, measure, studies


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print both tables, write them and the figure; 1 if a statement fails."""
    parser = argparse.ArgumentParser(description="When finite networks of the integrable parametrization escape f = 0.")
    parser.add_argument("--quick", action="store_true", help="L = 3 at ten times the rate, narrow networks")
    parser.add_argument("--output", metavar="DIR", type=Path, help="write ip_escape.json and ip_escape.png here")
    arguments = parser.parse_args(argv)
    problem = load("digits")
    results, found = [], sigmoid(problem)
    for study in studies(arguments.quick):
        start = time.perf_counter()
        results.append(measure(study, problem))
        found += claims(results[-1])
        print(f"{study.name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    for result in results:
        print(times_table(result), end="\n\n")
    print(claims_table(found))
    if arguments.output:
        write(arguments.output, results, found)
    return int(any(claim.verdict == "FAIL" for claim in found))


def write(folder: Path, results: list[Result], found: list[Claim]) -> None:
    """Escape times and statements as json; the figure."""
    folder.mkdir(parents=True, exist_ok=True)
    times = {result.study.name: {n: list(t) for n, t in result.times.items()} for result in results}
    content = {"escape_times": times, "claims": [asdict(claim) for claim in found]}
    (folder / "ip_escape.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    draw(results).savefig(folder / "ip_escape.png")


if __name__ == "__main__":
    sys.exit(main())
