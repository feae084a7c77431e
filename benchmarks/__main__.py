"""Every benchmark, one process after the other, then the page: what `make bench` runs.

    python -m benchmarks [--quick] [--only NAME ...] [--results FOLDER] [--docs FOLDER]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from .common import ASIDE, RESULTS
from .report import DOCS, NAMES


def main() -> int:
    """Run, and return the number of benchmarks that failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, then write the page.")
    parser.add_argument("--quick", action="store_true", help="small sizes, about two minutes: to see that all runs")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--results", type=Path, default=None, help="folder of the JSON files")
    parser.add_argument("--docs", type=Path, default=None, help="folder of performance.md")
    arguments = parser.parse_args()
    results = arguments.results or (ASIDE if arguments.quick else RESULTS)
    docs = arguments.docs or (ASIDE if arguments.quick else DOCS)
    failed = []
    for k, name in enumerate(arguments.only, start=1):
        print(f"[{k}/{len(arguments.only)}] {name}", flush=True)
        start = time.perf_counter()
        command = [sys.executable, "-m", f"benchmarks.{name}", "--results", str(results)]
        if subprocess.run(command + ["--quick"] * arguments.quick).returncode:
            failed.append(name)
            print(f"{name} failed after {time.perf_counter() - start:.0f} s", flush=True)
    page = [sys.executable, "-m", "benchmarks.report", "--results", str(results), "--docs", str(docs)]
    return len(failed) or subprocess.run(page).returncode


if __name__ == "__main__":
    sys.exit(main())
