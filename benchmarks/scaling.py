"""The literal full history against the engine as T grows; ranks, time and memory as the number of samples grows.

    python -m benchmarks.scaling [--quick]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import numpy as np
from threadpoolctl import threadpool_limits

from tpsim import simulate
from tpsim.plan import memory_bytes
from tpsim.reference import simulate_reference

from .common import (
    Result,
    Row,
    appendix_a,
    clocked,
    cpu_seconds,
    gaussian_problem,
    interleaved,
    main,
    paper_problem,
    ranks,
    ratios,
    say,
    spread,
    task_of,
    unrecorded,
)

TITLE = "Growth with steps and with samples"
WHAT = (
    "First table: `tpsim.reference`, which keeps the full history of Appendix B, against `tpsim.simulate` on the same "
    "problem (tanh, two hidden layers, m = 4, 4096 particles, Gaussian inputs), both recording every step. Second "
    "table: digits, tanh, two hidden layers, full batch, eta = .1, nothing recorded; the memory is that of "
    "`tpsim.plan` at the ranks reached. Processor seconds on one thread; exponents are slopes between a row and the "
    "one above it."
)


def slope(x: list[float], y: list[float]) -> float:
    """Exponent of y ~ x^a between the last two points."""
    return float(np.log(y[-1] / y[-2]) / np.log(x[-1] / x[-2]))


def seconds(work: Callable[[], object]) -> float:
    """Processor time of a call."""
    return cpu_seconds(work)[0]


def history(steps: tuple[int, ...], particles: int, repeats: int) -> list[Row]:
    """The first table."""
    rows: list[Row] = []
    medians: dict[str, list[float]] = {"reference": [], "tpsim": []}
    for T in steps:
        case = gaussian_problem(4, 8), *appendix_a(2, "tanh", T)
        slow = partial(simulate_reference, *case, particles, 1)
        fast = partial(simulate, *case, particles, 1, threads=1, progress=False)
        with threadpool_limits(1, user_api="blas"):
            times = interleaved({"reference": partial(seconds, slow), "tpsim": partial(seconds, fast)}, repeats)
        row: Row = {"T": T} | {f"{name}, s": spread(values) for name, values in times.items()}
        row["reference / tpsim"] = ratios(times["reference"], times["tpsim"])
        for name, values in times.items():
            medians[name].append(spread(values)[0])
            several = len(medians[name]) > 1
            row[f"exponent, {name}"] = slope(list(steps[: len(medians[name])]), medians[name]) if several else ""
        rows.append(row)
        say(f"scaling T={T}: {row['reference / tpsim']}")
    return rows


def samples(counts: tuple[int, ...], particles: int, steps: int) -> list[Row]:
    """The second table."""
    rows, times, sizes = [], [], []
    for m in counts:
        network, training = appendix_a(2, "tanh", steps)
        options = {"particles": particles, "replicas": 1, "threads": 1} | unrecorded(steps)
        task = task_of(paper_problem(m), network, training, **options)
        taken, (ends, replica) = cpu_seconds(lambda task=task: clocked(task))
        (p,), (q,) = ranks(replica)
        times.append(taken)
        sizes.append(float(p + q))
        several, x = len(rows) > 0, list(map(float, counts[: len(rows) + 1]))
        rows.append({
            "m": m, "M": particles, "steps": steps, "p": p, "q": q, "p / m": p / m, "q / m": q / m,
            "memory, MB": memory_bytes(task, np.array([[p, q]])) / 1e6, "seconds": taken,
            "last step, ms": 1e3 * float(np.median(np.diff(ends)[-10:])),
            "exponent of p + q in m": slope(x, sizes) if several else "",
            "exponent of the time": slope(x, times) if several else "",
        })  # fmt: skip
        say(f"scaling m={m}: p={p}, q={q}, {taken:.1f} s")
    return rows


def measure(quick: bool) -> Result:
    """Both tables."""
    if quick:
        first, second = history((4, 8, 16), 1024, 2), samples((10, 20), 1024, 20)
    else:
        first, second = history((4, 8, 16, 32, 64), 4096, 3), samples((10, 20, 50, 100, 200), 16384, 100)
    return Result({"Steps": first, "Samples": second})


if __name__ == "__main__":
    sys.exit(main("scaling", measure))
