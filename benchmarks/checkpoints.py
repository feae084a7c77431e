"""What checkpoints cost: seconds to write and to read a large state, and a run with them against one without.

    python -m benchmarks.checkpoints [--quick]
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tpsim import Network, Problem, Training, simulate
from tpsim.checkpoint import SECONDS, Keeper, with_checkpoints
from tpsim.container import FORMAT, read
from tpsim.task import Task

from .common import Result, Row, appendix_a, interleaved, main, paper_problem, ratios, say, spread, task_of, unrecorded

TITLE = "Checkpoints"
WHAT = (
    "Written: the state of one replica, with digests, forced to the disk. The plain file: as many bytes, written and "
    "forced to the disk in the same way without digests, which is what the disk allows. Share of the interval: the "
    f"seconds of one write over the default interval of {SECONDS:.0f} s. A signal: SIGTERM to a process of its own, "
    "until that has finished its step, written its checkpoint and ended. The paired run: the same short run with and "
    "without a folder for checkpoints, in turns; it writes one at the end of each replica, which a longer run does as "
    "well, and none before. Digits, SiLU."
)
TARGET = "at most 3%"


def grown(task: Task, steps: int) -> tuple[Keeper, tuple]:
    """A keeper, and what `turn` takes at the beginning of `steps`, when bases have grown to what they are."""
    from tpsim.mlp import backward, forward, update
    from tpsim.run import error_signal

    keeper = Keeper(task, 0)
    _, state, recorder = keeper.begin()
    (_, training), samples = task.engine, np.arange(task.problem.samples)
    for step in range(steps):
        fields = forward(state, step, samples)
        backward(state, fields)
        chi = error_signal(training, fields.f, task.problem.targets, np.ones(len(samples)))
        recorder.observe(state, fields, chi, 0.0, samples)
        update(state, fields, chi, training.rates(step, state.depth))
    return keeper, (steps, state, recorder)


def plain(folder: Path, size: int) -> float:
    """Seconds to write as many bytes and force them to the disk."""
    block, start = np.random.default_rng(0).bytes(1 << 24), time.perf_counter()
    with open(folder / "plain", "wb", buffering=0) as file:
        for first in range(0, size, len(block)):
            file.write(block[: size - first])
        os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    (folder / "plain").unlink()
    return seconds


def write_and_read(folder: Path, particles: int, steps: int, repeats: int) -> tuple[Row, list[float]]:
    """One row: a state of M particles after some steps."""
    network, training = appendix_a(3, "silu", steps)
    task = task_of(paper_problem(), network, training, particles=particles, replicas=1, **unrecorded(steps))
    keeper, moment = grown(with_checkpoints(task, folder, 0.0, False), steps)
    path = folder / f"replica-0000-step-{steps:09d}.ckpt"

    def write() -> float:
        start = time.perf_counter()
        keeper.turn(*moment)
        return time.perf_counter() - start

    def load() -> float:
        start = time.perf_counter()
        read(path, lambda about: None)
        return time.perf_counter() - start

    write()
    size = path.stat().st_size
    work = {"plain": lambda: plain(folder, size), "write": write, "read": load}
    seconds = interleaved(work, repeats)
    path.unlink()
    share = [100 * s / SECONDS for s in seconds["write"]]
    row = {
        "M": particles, "steps": steps, "file, MB": size / 1e6, "written, s": spread(seconds["write"]),
        "plain file, s": spread(seconds["plain"]), "written / plain": ratios(seconds["write"], seconds["plain"]),
        "read, s": spread(seconds["read"]), "share of the interval, %": spread(share),
    }  # fmt: skip
    say(f"checkpoint of {size / 1e6:.0f} MB: {row['written, s'][0]:.2f} s")
    return row, share


def paired(folder: Path, steps: int, repeats: int) -> Row:
    """One row: a run with and without checkpoints."""
    network, training = appendix_a(3, "silu", steps)
    arguments: tuple[Problem, Network, Training] = (paper_problem(), network, training)

    def timed(**options: object) -> float:
        start = time.perf_counter()
        simulate(*arguments, 4096, 2, progress=False, threads=1, **unrecorded(steps), **options)  # type: ignore[arg-type]
        return time.perf_counter() - start

    def kept() -> float:
        place = folder / "paired"
        seconds = timed(checkpoint=place)
        shutil.rmtree(place)
        return seconds

    seconds = interleaved({"without": timed, "with": kept}, repeats)
    more = [100 * (a / b - 1) for a, b in zip(seconds["with"], seconds["without"], strict=True)]
    return {
        "M": 4096, "steps": steps, "replicas": 2, "without, s": spread(seconds["without"]),
        "with, s": spread(seconds["with"]), "more, %": spread(more),
    }  # fmt: skip


CHILD = """
import sys
from benchmarks.common import appendix_a, paper_problem, silent
from tpsim import simulate
particles, folder = int(sys.argv[1]), sys.argv[2]
with silent():
    simulate(paper_problem(), *appendix_a(3, "silu", 10**6), particles, 1, threads=1, checkpoint=folder,
             record_every=10**6, joint_every=10**6, progress=lambda step, replica, loss: print(step, flush=True))
"""


def signalled(folder: Path, particles: int, step: int, repeats: int) -> tuple[Row, list[float]]:
    """One row: SIGTERM while a process is in the middle of a step, until it has ended."""
    seconds, sizes = [], []
    for _ in range(repeats):
        place = folder / "signalled"
        command = [sys.executable, "-c", CHILD, str(particles), str(place)]
        with subprocess.Popen(command, cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True) as process:  # fmt: skip
            assert process.stdout is not None
            next(line for line in process.stdout if int(line) >= step)
            process.send_signal(signal.SIGTERM)
            start = time.perf_counter()
            process.stdout.read()
            process.wait()
            seconds.append(time.perf_counter() - start)
        (file,) = place.glob("*.ckpt")
        sizes.append(file.stat().st_size)
        shutil.rmtree(place)
    say(f"SIGTERM with {sizes[-1] / 1e6:.0f} MB: {max(seconds):.2f} s")
    return {"M": particles, "step": step, "file, MB": spread([size / 1e6 for size in sizes]),
            "signal to end, s": spread(seconds)}, seconds  # fmt: skip


def measure(quick: bool) -> Result:
    """Writes of growing states, signals, then the paired run."""
    sizes = [(4096, 10), (32768, 10)] if quick else [(4096, 60), (65536, 60), (262144, 40)]
    with tempfile.TemporaryDirectory(prefix="tpsim-bench-") as name:
        folder = Path(name)
        found = [write_and_read(folder, M, steps, 2 if quick else 5) for M, steps in sizes]
        ended, seconds = signalled(folder, *((4096, 3, 1) if quick else (131072, 40, 3)))
        pair = paired(folder, 20 if quick else 300, 2 if quick else 7)
    worst = max(np.median(share) for _, share in found)
    reached = {"what": "write of the largest state, share of the default interval", "target": TARGET,
               "reached": f"{worst:.2g}%"}  # fmt: skip
    signals = {"what": f"SIGTERM to the end of the process, state of {ended['file, MB'][0]:.0f} MB, the slowest",
               "target": "below 10 s", "reached": f"{max(seconds):.2g} s"}  # fmt: skip
    tables = {"One checkpoint": [row for row, _ in found], "A signal": [ended], "A short run": [pair]}
    note = f"File format {FORMAT}; the folder is the system's for temporary files."
    return Result(tables, [reached, signals], [note])


if __name__ == "__main__":
    sys.exit(main("checkpoints", measure))
