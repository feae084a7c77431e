"""The paper's own experiment, as a user would run it.

    python -m benchmarks.paper [--quick]
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import numpy as np
import xarray as xr

from tpsim import simulate

from .common import Result, Row, appendix_a, main, paper_problem, say, spread

TITLE = "The paper's experiment"
WHAT = (
    "Digits 0 against 1, SiLU, Appendix A's constants, every default of `tpsim.simulate` but the workers, every step "
    "recorded; wall clock on all cores, compilation and imports left out. Error: the standard error of f over "
    "replicas, root mean square over steps and samples. Third row: as many samples as this tool is for. Last row: the "
    "first one in float32."
)


def one(depth: int, samples: int, steps: int, repeats: int, **options: Any) -> tuple[Row, xr.Dataset]:
    """Seconds of repeated runs of one setting, and the last of them."""
    network, training = appendix_a(depth, "silu", steps)
    problem, times = paper_problem(samples), []
    simulate(problem, network, appendix_a(depth, "silu", 2)[1], progress=False, **options)  # compiles, starts workers
    for _ in range(repeats):
        start = time.perf_counter()
        run = simulate(problem, network, training, progress=False, **options)
        times.append(time.perf_counter() - start)
    replicas = run.sizes["replica"]
    error = float(np.sqrt((run.f.std("replica", ddof=1) ** 2).mean() / replicas)) if replicas > 1 else ""
    p, q = (run[f"rank_{side}"].values[:, -1, 1:].mean(axis=0).round().astype(int) for side in ("forward", "backward"))
    row = {
        "L": depth, "m": samples, "T": steps, "M": options["particles"], "replicas": replicas,
        "workers": options.get("workers", 1), "numbers": options.get("dtype", "float64"),
        "p": ", ".join(map(str, p)), "q": ", ".join(map(str, q)),
        "seconds": spread(times), "loss at the end": float(run.loss.values[:, -1].mean()), "error of f": error,
    }  # fmt: skip
    say(f"paper: {row}")
    return row, run


def measure(quick: bool) -> Result:
    """Eight replicas at the default size, in both precisions; one at many particles; two of 200 samples."""
    workers = min(2, len(os.sched_getaffinity(0)))
    if quick:
        return Result({"": [one(3, 10, 20, 2, particles=1024, replicas=2, workers=workers)[0]]})
    usual: dict[str, Any] = {"particles": 4096, "replicas": 8, "workers": workers}
    first, double = one(3, 10, 1000, 3, **usual)
    rows = [first, one(3, 10, 1000, 1, particles=65536, replicas=1)[0]]
    rows.append(one(2, 200, 100, 1, particles=16384, replicas=2, workers=workers)[0])
    goals = ["below 60", "below 180", "minutes"]
    row, single = one(3, 10, 1000, 1, **usual, dtype="float32")
    change = float(np.sqrt(((single.f - double.f).mean("replica") ** 2).mean())) / first["error of f"]
    rounding = {"what": "float32 less float64, same seeds, over the standard error of f", "target": "below 1",
                "reached": change}  # fmt: skip
    reached = [
        {"what": f"m = {row['m']}, T = {row['T']}, M = {row['M']}, {row['replicas']} replicas: seconds", "target": goal,
         "reached": row["seconds"]}
        for row, goal in zip(rows, goals, strict=True)
    ]  # fmt: skip
    return Result({"": [*rows, row]}, [*reached, rounding])


if __name__ == "__main__":
    sys.exit(main("paper", measure))
