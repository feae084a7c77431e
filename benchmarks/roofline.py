"""How far a step in the steady state is from what memory and arithmetic allow.

    python -m benchmarks.roofline [--quick]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .common import (
    DTYPES,
    Result,
    Row,
    appendix_a,
    clocked,
    main,
    paper_problem,
    ranks,
    ratios,
    say,
    spread,
    task_of,
)  # fmt: skip
from .rates import GEMM_SIZE, cores, measured

TITLE = "A step against the roofline"
WHAT = (
    "Digits, SiLU, three hidden layers, Appendix A's constants, default tolerance, f and ranks recorded. Measured: the "
    "median of those of the last 100 of 300 steps in which no basis grew; the last columns say how many did, and what "
    "such a step takes. In each hidden matrix the forward and the backward pass must each read "
    "X, D, U and V once, so 4 M (p + q) numbers, and need 8 m M (p + q) flops, with the ranks p and q that were "
    "reached. The bound is the larger of bytes / read bandwidth, measured on an array as large as all of these arrays "
    "together (in the cache where they fit), and flops / GEMM rate; everything else that a step does (activations, the "
    "other layers, orthogonalisation, recording) counts as overhead. Times are medians over steps and runs, wall clock."
)
AT_MOST, FASTER = "at most 1.7", {"float64 over float32": "at least 1.6", "1 thread over 2": "at least 1.7"}


def bytes_per_step(p: Sequence[int], q: Sequence[int], particles: int, itemsize: int) -> int:
    """Bytes of two passes over X, V (source space) and U, D (target space) of every hidden matrix: 4 M (p + q)."""
    return sum(4 * particles * (a + b) for a, b in zip(p, q, strict=True)) * itemsize


def flops_per_step(p: Sequence[int], q: Sequence[int], particles: int, samples: int) -> int:
    """A pass multiplies and adds once per sample and entry of the four arrays: twice 4 m M (p + q) in all."""
    return sum(8 * samples * particles * (a + b) for a, b in zip(p, q, strict=True))


def working_set(p: Sequence[int], q: Sequence[int], particles: int, itemsize: int) -> int:
    """Bytes of X, V, U and D of all hidden matrices: 2 M (p + q) numbers each."""
    return bytes_per_step(p, q, particles, itemsize) // 2


@dataclass(frozen=True)
class Steps:
    """The last steps of a run: median seconds of one in which no basis grew, and of one in which one did; ranks."""

    still: float
    growing: float
    share: float
    p: list[int]
    q: list[int]


def one_run(particles: int, threads: int, dtype: str, steps: int, last: int) -> Steps:
    """Run, and look at the last steps but the very last one."""
    network, training = appendix_a(3, "silu", steps)
    options = {"joint_every": steps, "quantities": ()} | ({"dtype": dtype} if len(DTYPES) > 1 else {})
    task = task_of(paper_problem(), network, training, particles=particles, replicas=1, threads=threads, **options)
    ends, replica = clocked(task)
    sizes = np.concatenate([replica.arrays[f"rank_{side}"][:, 1:] for side in ("forward", "backward")], axis=1)
    grew, seconds = (np.diff(sizes, axis=0) > 0).any(axis=1)[-last - 1 : -1], np.diff(ends)[-last - 1 : -1]
    growing = float(np.median(seconds[grew])) if grew.any() else np.nan
    still = seconds if grew.all() else seconds[~grew]  # a short run may have no such step
    return Steps(float(np.median(still)), growing, float(grew.mean()), *ranks(replica))


def row_of(case: tuple[int, str, int], runs: list[Steps], quick: bool) -> Row:
    """One row of the table."""
    particles, dtype, threads = case
    times, p, q = [run.still for run in runs], runs[-1].p, runs[-1].q
    itemsize, samples = np.dtype(dtype).itemsize, 10
    size, seconds = working_set(p, q, particles, itemsize), 0.3 if quick else 1.0
    bandwidth = measured("read", dtype, threads, size, seconds)
    rate = measured("gemm", dtype, threads, GEMM_SIZE // 2 if quick else GEMM_SIZE, seconds)
    moved, flops = bytes_per_step(p, q, particles, itemsize), flops_per_step(p, q, particles, samples)
    bound = max(moved / bandwidth, flops / rate)
    return {
        "M": particles, "numbers": dtype, "threads": threads,
        "p": ", ".join(map(str, p)), "q": ", ".join(map(str, q)),
        "MB moved": moved / 1e6, "GB/s": bandwidth / 1e9, "Mflop": flops / 1e6, "Gflop/s": rate / 1e9,
        "bytes bound, ms": 1e3 * moved / bandwidth, "flops bound, ms": 1e3 * flops / rate,
        "measured, ms": spread([1e3 * t for t in times]), "measured / bound": spread([t / bound for t in times]),
        "steps that grew, %": spread([100 * run.share for run in runs]),
        "such a step, ms": spread([1e3 * run.growing for run in runs if run.share] or [0.0]),
    }  # fmt: skip


def measure(quick: bool) -> Result:
    """Every M, precision and number of threads; the repeats of one M take turns."""
    sizes, steps, last, repeats = ((1 << 12,), 200, 60, 2) if quick else ((1 << 12, 1 << 14, 1 << 16), 300, 100, 3)
    cases = [(dtype, threads) for dtype in DTYPES for threads in cores()]
    rows, speedups = [], []
    for dtype, threads in cases:
        one_run(sizes[0], threads, dtype, 9, 8)  # compiles
    for particles in sizes:
        runs: dict[tuple[str, int], list[Steps]] = {case: [] for case in cases}
        for _ in range(repeats if particles < 1 << 16 else 2):
            for dtype, threads in cases:
                runs[dtype, threads].append(one_run(particles, threads, dtype, steps, last))
            say(f"roofline M={particles}: {[(case, of[-1].still) for case, of in runs.items()]}")
        rows += [row_of((particles, *case), of, quick) for case, of in runs.items()]
        times = {case: [run.still for run in of] for case, of in runs.items()}
        speedups.append(_speedups(particles, times))
    titles = {"Against the bound": rows, "Pairs of runs, time over time": [row for row in speedups if len(row) > 1]}
    return Result(titles, list(_reached(rows, speedups)))


def _reached(rows: list[Row], speedups: list[Row]) -> Iterator[Row]:
    """What is asked for: M = 2^14 and 2^16, float64, one thread; and the gains of threads and of float32 there."""
    for row in rows:
        if row["numbers"] == "float64" and row["threads"] == 1 and row["M"] >= 1 << 14:
            what = f"a step over its roofline, M = {row['M']}"
            yield {"what": what, "target": AT_MOST, "reached": row["measured / bound"]}
    for row in speedups:
        for name, target in FASTER.items():
            for column, value in row.items():
                if column.startswith(name) and row["M"] >= 1 << 14:
                    yield {"what": f"{column}, M = {row['M']}", "target": target, "reached": value}


def _speedups(particles: int, times: dict[tuple[str, int], list[float]]) -> Row:
    row: Row = {"M": particles}
    for dtype, threads in times:
        if threads > 1:
            row[f"1 thread over {threads}, {dtype}"] = ratios(times[dtype, 1], times[dtype, threads])
        if dtype == "float32":
            row[f"float64 over float32, threads: {threads}"] = ratios(times["float64", threads], times[dtype, threads])
    return row


if __name__ == "__main__":
    sys.exit(main("roofline", measure))
