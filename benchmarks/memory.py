"""Memory that `tpsim.plan` predicts, at the ranks that a run reached, against the peak of the processes.

    python -m benchmarks.memory [--quick]
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .common import DTYPES, Result, Row, appendix_a, main, paper_problem, say, silent, task_of

TITLE = "Memory"
WHAT = (
    "Each run in a fresh process. Measured: the peak resident memory less that of the same process after a tiny run; "
    "of workers, that of the largest times their number, and of the parent. Predicted: `tpsim.plan.memory_bytes` at "
    "the ranks that were reached, the number that `tpsim plan` prints. Digits, SiLU."
)
TARGET = "0.85 to 1.15"
BASE: dict[str, Any] = {"particles": 16384, "samples": 10, "depth": 3, "steps": 60, "probes": 0, "options": {}}
CASES: dict[str, dict[str, Any]] = {
    "base": {},
    "M = 65536": {"particles": 65536, "steps": 30},
    "m = 100, L = 2": {"particles": 8192, "samples": 100, "depth": 2, "steps": 40},
    "m = 200, L = 2": {"particles": 16384, "samples": 200, "depth": 2, "steps": 100},
    "L = 5": {"depth": 5, "steps": 40},
    "200 probes": {"probes": 200},
    "13 snapshots": {"options": {"snapshots": list(range(0, 61, 5))}},
    "nothing recorded": {"options": {"record_every": 60, "joint_every": 60}},
    "noise = width": {"particles": 8192, "steps": 30, "options": {"noise": "width"}},
    "noise = iid": {"options": {"noise": "iid"}},
    "2 workers": {"options": {"workers": 2, "replicas": 2}},
} | ({"float32": {"options": {"dtype": "float32"}}} if "float32" in DTYPES else {})
QUICK = {"particles": 2048, "steps": 10}


def run(case: dict[str, Any], tiny: bool) -> None:
    """In the child: run the case, or its tiny twin; print the peaks in bytes, the prediction and the mean rank."""
    import resource

    from joblib.externals.loky import get_reusable_executor

    from tpsim import simulate
    from tpsim.plan import memory_bytes

    options: dict[str, Any] = {"replicas": 1, "threads": 1} | case["options"]
    size = {"particles": 1024, "steps": 1} if tiny else {key: case[key] for key in ("particles", "steps")}
    if tiny:
        options |= {name: value for name, value in (("snapshots", ()),) if name in options}
    network, training = appendix_a(case["depth"], "silu", size["steps"])
    problem = paper_problem(case["samples"], case["probes"])
    arguments = (problem, network, training)
    with silent():
        result = simulate(*arguments, particles=size["particles"], progress=False, **options)
        task = task_of(*arguments, particles=size["particles"], **options)
    reached = [result[f"rank_{side}"].values[:, -1, 1:] for side in ("forward", "backward")]
    ranks = np.stack([r.mean(axis=0) for r in reached], axis=-1).round().astype(int)
    get_reusable_executor().shutdown(wait=True)
    peaks = [1024 * resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps([*peaks, memory_bytes(task, ranks), round(ranks.mean())]))


def child(case: dict[str, Any], tiny: bool) -> tuple[int, int, int, int]:
    """What `run` prints in a process of its own."""
    code = f"import json; from benchmarks.memory import run; run(json.loads({json.dumps(case)!r}), {tiny})"
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True)
    own, children, predicted, rank = json.loads(done.stdout.splitlines()[-1])
    return own, children, predicted, rank


def measure(quick: bool) -> Result:
    """One row per case."""
    rows: list[Row] = []
    for name in list(CASES)[:1] if quick else CASES:
        case = BASE | CASES[name] | (QUICK if quick else {})
        child(case, True)  # what compiles needs memory of its own
        (own, children, predicted, rank), small = child(case, False), child(case, True)
        workers = case["options"].get("workers", 1)
        measured = own - small[0] + (workers * (children - small[1]) if workers > 1 else 0)
        rows.append({
            "case": name, "M": case["particles"], "m": case["samples"], "L": case["depth"], "T": case["steps"],
            "mean of p, q": rank, "predicted, MB": predicted / 1e6, "measured, MB": measured / 1e6,
            "measured / predicted": measured / predicted,
        })  # fmt: skip
        say(f"memory {name}: {rows[-1]['measured / predicted']:.2f}")
    found = [row["measured / predicted"] for row in rows]
    what = "measured over predicted memory, least and most of all cases"
    reached = {"what": what, "target": TARGET, "reached": f"{min(found):.2f} to {max(found):.2f}"}
    return Result({"": rows}, [reached])


if __name__ == "__main__":
    sys.exit(main("memory", measure))
