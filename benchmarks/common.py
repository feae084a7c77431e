"""What all benchmarks share: problems, clocks, ratios with their range, the description of the machine, the JSON files.

A benchmark is a module with `TITLE`, `WHAT` and `measure(quick) -> Result`; its numbers go into results/NAME.json and
from there, by `benchmarks.report`, into docs/performance.md. Nothing else writes numbers into that page.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.metadata
import inspect
import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tpsim import Network, Notice, Problem, Training, simulate
from tpsim.data import digits
from tpsim.run import Replica, quietly, run_replica
from tpsim.task import Task, prepare

Array = np.ndarray
Row = dict[str, Any]

RESULTS = Path(__file__).parent / "results"
ASIDE = Path("bench-quick")  # where a fast pass goes, which leaves the measured results alone
PACKAGES = ("numpy", "scipy", "numba", "llvmlite", "torch")
VARIABLES = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
HAS_FLOAT32 = "dtype" in inspect.signature(simulate).parameters
DTYPES = ("float64", "float32") if HAS_FLOAT32 else ("float64",)


@dataclass
class Result:
    """What a benchmark found.

    Parameters
    ----------
    tables : title -> rows; a row is {column: number, text, or [median, smallest, largest]}.
    reached : rows of {"what", "target", "reached"} for the page's first table.
    notes : sentences that hold for this run only.
    data : further numbers, kept in the file and not shown.
    """

    tables: dict[str, list[Row]] = field(default_factory=dict)
    reached: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)


def paper_problem(count: int = 10, probes: int = 0) -> Problem:
    """Digits 0 against 1, pixels in [0, 1] divided by sqrt(d)."""
    return digits(count=count, probes=probes)


def gaussian_problem(m: int, d: int) -> Problem:
    """m Gaussian inputs of dimension d and norm about 1, targets alternately +-1."""
    inputs = np.random.default_rng(0).standard_normal((m, d)) / np.sqrt(d)
    return Problem(inputs, np.where(np.arange(m) % 2, -1.0, 1.0))


def appendix_a(depth: int, activation: str, steps: int, rate: float = 0.1) -> tuple[Network, Training]:
    """Appendix A's constants: s_l = sqrt 2, eta = 0.1, squared loss; the loss is a mean."""
    return Network(depth, activation, np.sqrt(2.0)), Training(steps, rate, reduction="mean")


def task_of(problem: Problem, network: Network, training: Training, **options: Any) -> Task:
    """The checked run of `simulate(problem, network, training, **options)`, with the defaults that it has."""
    defaults = {name: p.default for name, p in inspect.signature(simulate).parameters.items()}
    arguments = {name: defaults.get(name) for name in inspect.signature(prepare).parameters if name in defaults}
    for name in ("problem", "network", "training"):
        arguments.pop(name)
    return prepare(problem, network, training, **{**arguments, **options})


def unrecorded(steps: int) -> dict[str, int]:
    """Options of `simulate` that record the first and the last step only."""
    return {"record_every": max(steps, 1), "joint_every": max(steps, 1)}


def ranks(replica: Replica) -> tuple[list[int], list[int]]:
    """p and q of W^2..W^L at the last recorded step."""
    last = [replica.arrays[f"rank_{side}"][-1, 1:] for side in ("forward", "backward")]
    forward, backward = (rank.astype(int).tolist() for rank in last)
    return forward, backward


def clocked(task: Task, clock: Callable[[], float] = time.perf_counter) -> tuple[Array, Replica]:
    """Run one replica; return the time at the end of each step, (T+1,), measured from the start."""
    ends: list[float] = []
    start = clock()
    with quietly(task):
        replica = run_replica(task, 0, lambda step, loss: ends.append(clock() - start))
    if replica.stopped:
        raise RuntimeError(replica.stopped)
    return np.array(ends), replica


@contextmanager
def silent() -> Iterator[None]:
    """Without the library's notices: a benchmark runs at the edges on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        yield


def cpu_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor time of a call, and what it returned."""
    start = time.process_time()
    value = work()
    return time.process_time() - start, value


def interleaved(work: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Call each function once, to warm up, then `repeats` rounds of all of them in turn; what each returned."""
    for function in work.values():
        function()
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repeats):
        for name, function in work.items():
            found[name].append(function())
    return found


def spread(values: Sequence[float]) -> list[float]:
    """[median, smallest, largest]"""
    return [float(statistics.median(values)), float(min(values)), float(max(values))]


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """[median, smallest, largest] of the ratios of pairs."""
    return spread([a / b for a, b in zip(above, below, strict=True)])


def machine() -> Row:
    """What the numbers were measured on."""
    caches = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            caches[f"L{level}"] = size
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "caches": ", ".join(f"{level} {size}" for level, size in caches.items()),
        "memory_gib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30,
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def busy(seconds: float = 0.5) -> float | None:
    """Share of the cores that others keep busy while this process sleeps; None where the system does not tell."""

    def ticks() -> list[int]:
        return [int(x) for x in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]

    try:
        before = ticks()
        time.sleep(seconds)
        spent = [b - a for a, b in zip(before, ticks(), strict=True)]
    except OSError:
        return None
    return 1.0 - (spent[3] + spent[4]) / max(sum(spent), 1)  # idle, waiting for a disk


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = {line.split(":")[0].strip(): line.split(":")[1].strip() for line in lines if ":" in line}
    return f"{names.get('model name', '?')} (family {names.get('cpu family')}, model {names.get('model')})"


def write(name: str, result: Result, command: str, seconds: float, started: float | None, folder: Path) -> Path:
    """Write NAME.json; `started` is what `busy` said before."""
    module = importlib.import_module(f"benchmarks.{name}")
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "benchmark": name,
        "title": module.TITLE,
        "what": module.WHAT,
        "command": command,
        "seconds": seconds,
        "busy": started,
        "machine": machine(),
    } | dataclasses.asdict(result)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content, indent=1, default=_plain) + "\n", encoding="utf-8")
    return path


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def main(name: str, measure: Callable[..., Result], *flags: str) -> int:
    """The command line of a benchmark: measure, write the JSON file, say where it is."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=sys.modules["__main__"].__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes and few repeats: minutes for all benchmarks")
    parser.add_argument("--results", type=Path, help="folder of the JSON files")
    for flag in flags:
        parser.add_argument(f"--{flag}", action="store_true")
    arguments = parser.parse_args()
    options = {flag: getattr(arguments, flag) for flag in flags}
    started, start = busy(), time.perf_counter()
    with silent():
        result = measure(arguments.quick, **options)
    given = [f" --{flag}" for flag in ("quick", *flags) if getattr(arguments, flag)]
    folder = arguments.results or (ASIDE if arguments.quick else RESULTS)
    command = f"python -m benchmarks.{name}" + "".join(given)
    path = write(name, result, command, time.perf_counter() - start, started, folder)
    print(f"{name}: {time.perf_counter() - start:.0f} s, {path}")
    return 0


def say(text: str) -> None:
    """A line of progress."""
    print(f"  {text}", file=sys.stderr, flush=True)
