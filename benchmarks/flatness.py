"""Whether a late step costs what an early one does.

    python -m benchmarks.flatness [--quick]
"""

from __future__ import annotations

import sys

import numpy as np

from .common import (
    Array,
    Result,
    Row,
    appendix_a,
    clocked,
    gaussian_problem,
    main,
    paper_problem,
    ranks,
    say,
    spread,
    task_of,
    unrecorded,
)  # fmt: skip

TITLE = "Cost of a step as training goes on"
WHAT = (
    "Three hidden layers, SiLU, m = 10, Appendix A's constants, 4096 particles, default tolerance, one thread. "
    "Processor time of the steps of two windows of the same run, and their ratio: means, in which the few steps count "
    "in which a basis grows, and medians. A history that were kept in full would make it that of the times gone by."
)
TARGET = "at most 1.05"
WINDOWS = ((300, 400), (900, 1000))


def window_times(ends: Array, windows: tuple[tuple[int, int], ...]) -> list[float]:
    """Mean times of the steps first < t <= last of every window, then medians, from the times at which steps end."""
    steps = np.diff(ends)  # steps[t - 1] is the time of step t
    return [float(of(steps[first:last])) for of in (np.mean, np.median) for first, last in windows]


def measure(quick: bool) -> Result:
    """Repeated runs on digits and on Gaussian inputs."""
    import time

    windows = tuple((first // 10, last // 10) for first, last in WINDOWS) if quick else WINDOWS
    particles, repeats = (1024, 2) if quick else (4096, 3)
    problems = {"digits": paper_problem(), "Gaussian inputs, d = 64": gaussian_problem(10, 64)}
    network, training = appendix_a(3, "silu", windows[-1][1])
    rows: list[Row] = []
    for recorded in (False, True):
        for name, problem in problems.items():
            options = {} if recorded else unrecorded(training.steps)
            task = task_of(problem, network, training, particles=particles, replicas=1, threads=1, **options)
            found = []
            for _ in range(repeats):
                ends, replica = clocked(task, time.process_time)
                found.append([*window_times(ends, windows), ends[-1]])
            early, late, *middles, total = zip(*found, strict=True)
            p, q = ranks(replica)
            labels = [f"steps {first} to {last}, ms" for first, last in windows]
            rows.append({
                "problem": name, "recorded": "every step" if recorded else "the ends", "p": ", ".join(map(str, p)),
                "q": ", ".join(map(str, q)), labels[0]: spread([1e3 * t for t in early]),
                labels[1]: spread([1e3 * t for t in late]),
                "late / early": spread([b / a for a, b in zip(early, late, strict=True)]),
                "late / early, medians": spread([b / a for a, b in zip(*middles, strict=True)]),
                "whole run, s": spread(total),
            })  # fmt: skip
            say(f"flatness {name}: {rows[-1]['late / early']}")
    worst = max(row["late / early"][0] for row in rows)
    return Result({"": rows}, [{"what": "late step over early step, worst case", "target": TARGET, "reached": worst}])


if __name__ == "__main__":
    sys.exit(main("flatness", measure))
