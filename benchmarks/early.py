"""What growth costs while it is fast: the shares of the first steps that go into drawing and into new directions.

    python -m benchmarks.early [--quick]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tpsim.core import GaussianMatrix, ParticleSpace

from .common import Result, Row, appendix_a, clocked, main, paper_problem, ranks, say, spread, task_of, unrecorded

TITLE = "While the bases grow"
WHAT = (
    "Digits, SiLU, three hidden layers, Appendix A's constants, default tolerance, nothing recorded, one thread: "
    "the steps from 0 to `until`, in which most directions come. Drawing: fresh noise, orthogonal to all that its "
    "space holds, and what was kept since the last draw taken into that basis. Directions: the rest of meeting an "
    "argument that leaves the span. Shares of the wall clock of these steps, which counts everything else, too."
)
TARGET = "below 50%"


@contextmanager
def timed(owner: type, name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Add the time that calls of a method take to `seconds[name]` while the block lasts."""
    method = getattr(owner, name)

    def clocked_method(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return method(*arguments, **options)
        finally:
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start

    setattr(owner, name, clocked_method)
    try:
        yield
    finally:
        setattr(owner, name, method)


def shares(particles: int, steps: int) -> tuple[float, float, float, list[int], list[int]]:
    """Seconds of a run, the shares of drawing and of the rest of `meet`, and the ranks at the end."""
    network, training = appendix_a(3, "silu", steps)
    options = {"particles": particles, "replicas": 1, "threads": 1} | unrecorded(steps)
    task, seconds = task_of(paper_problem(), network, training, **options), dict[str, float]()
    with timed(ParticleSpace, "draw", seconds), timed(GaussianMatrix, "meet", seconds):
        ends, replica = clocked(task)
    total = float(ends[-1])
    return total, seconds["draw"] / total, (seconds["meet"] - seconds["draw"]) / total, *ranks(replica)


def measure(quick: bool) -> Result:
    """Two lengths, two sizes."""
    sizes, lengths, repeats = ((1024,), (5,), 2) if quick else ((4096, 16384, 65536), (20, 60), 3)
    rows: list[Row] = []
    shares(sizes[0], 2)  # compiles
    for particles in sizes:
        for steps in lengths:
            totals, draws, others, p, q = zip(*(shares(particles, steps) for _ in range(repeats)), strict=True)
            rows.append({
                "M": particles, "until": steps, "p": ", ".join(map(str, p[-1])), "q": ", ".join(map(str, q[-1])),
                "seconds": spread(totals), "drawing, %": spread([100 * share for share in draws]),
                "directions, %": spread([100 * share for share in others]),
            })  # fmt: skip
            say(f"early M={particles}, until {steps}: {rows[-1]['drawing, %']}")
    worst = max(row["drawing, %"][0] for row in rows)
    return Result({"": rows}, [{"what": "share of drawing, worst case", "target": TARGET, "reached": f"{worst:.0f}%"}])


if __name__ == "__main__":
    sys.exit(main("early", measure))
