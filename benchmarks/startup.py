"""What the first simulation of a process costs.

    python -m benchmarks.startup [--quick]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from .common import Result, Row, main, say, spread

TITLE = "Start"
WHAT = (
    "Wall-clock seconds inside fresh processes, one after the other: `import tpsim`; the first `tpsim.simulate` (two "
    "hidden layers, 256 particles, three steps), when nothing is compiled yet, and in a later process, which finds "
    "the compiled code in the cache; the same call once more, in the same process. Interpreter: a process that does "
    "nothing."
)
CHILD = """
import time; start = time.perf_counter()
import numpy as np
numpy = time.perf_counter() - start
import tpsim
imported = time.perf_counter() - start
problem = tpsim.Problem(np.eye(2), [1.0, -1.0])
seconds = []
for _ in range(2):
    start = time.perf_counter()
    tpsim.simulate(problem, tpsim.Network(2, "tanh"), tpsim.Training(3), 256, 2, progress=False)
    seconds.append(time.perf_counter() - start)
import json; print(json.dumps([numpy, imported, *seconds]))
"""
COLUMNS = ("import numpy, s", "import tpsim (numpy included), s", "first simulate, s", "the same again, s")


def child(cache: str, code: str = CHILD) -> list[float]:
    """Times that a fresh process reports, with its compiled code in the folder `cache`."""
    environment = os.environ | {"NUMBA_CACHE_DIR": cache}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent.parent, env=environment, capture_output=True, check=True
    )
    return json.loads(done.stdout)


def measure(quick: bool) -> Result:
    """Cold and warm processes, alternately: each pair has a cache of its own."""
    cold, warm = [], []
    for turn in range(1 if quick else 3):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(child(cache))
            warm.append(child(cache))
        say(f"startup {turn}: {cold[-1]} {warm[-1]}")
    rows: list[Row] = []
    for name, found in (("nothing compiled", cold), ("second process", warm)):
        rows.append({"process": name} | dict(zip(COLUMNS, map(spread, zip(*found, strict=True)), strict=True)))
    return Result({"": rows})


if __name__ == "__main__":
    sys.exit(main("startup", measure))
