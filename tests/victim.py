"""A run that tests kill, and a server that starts it: a forked process needs a tenth of the time that a new one does.

The server reads lines of JSON, {"folder", "log", "point", "skip"}; for each it forks a process that makes the run,
prints its id, and when it has ended its status. The run writes "replica step" lines to `log`; at the (skip + 1)-th time
that it comes to `point`, it is killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np

from tpsim import Network, Notice, Problem, Training, container, simulate

RNG = np.random.default_rng(5)
PROBLEM = Problem(RNG.standard_normal((3, 4)) / 2, [1.0, -1.0, 1.0], probes=RNG.standard_normal((2, 4)) / 2)
NETWORK, TRAINING = Network(2, "tanh"), Training(20, 0.2, batches={"size": 2, "seed": 1})
OPTIONS: dict = dict(particles=256, replicas=2, record_every=3, probe_every=7, threads=1)


def run(log=None, **options):
    """The run; with `log` its steps are appended to that file."""
    progress = False
    if log is not None:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def progress(step, replica, loss):
            os.write(descriptor, f"{replica} {step}\n".encode())

    return simulate(PROBLEM, NETWORK, TRAINING, **{"progress": progress} | OPTIONS | options)


def die_at(point, skip):
    """Make this process kill itself at a point of writing."""
    left = [skip]

    def at(here):
        if here == point:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    container.at = at


def serve():
    """The server; its first run loads what is compiled."""
    warnings.simplefilter("ignore", Notice)
    run()
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        if (pid := os.fork()) == 0:
            if job["point"] is not None:
                die_at(job["point"], job["skip"])
            run(job["log"], checkpoint=job["folder"], checkpoint_seconds=0, resume=True)
            os._exit(0)
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)


class Server:
    """The server, from the side of the tests."""

    def __init__(self):
        # the thread layer that survives a fork, as there is but one thread
        environment = os.environ | {"NUMBA_NUM_THREADS": "1", "NUMBA_THREADING_LAYER": "workqueue"}
        root = Path(__file__).parent.parent
        environment["PYTHONPATH"] = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout.readline() == "ready\n"

    def start(self, folder, log, point=None, skip=0):
        """Start a run, and return its process id."""
        job = {"folder": str(folder), "log": str(log), "point": point, "skip": skip}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def status(self):
        """Wait for the run to end: minus the signal that has ended it, or its exit code."""
        return os.waitstatus_to_exitcode(int(self.process.stdout.readline()))

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


if __name__ == "__main__":
    serve()
