"""Same seed, same configuration: bit-identical results for any threads and workers. Oracle: bitwise identity."""

import os
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tpsim import InputError, Network, Problem, Training, simulate
from tpsim.core import TILE
from tpsim.core.noise import NormalSource

RNG = np.random.default_rng(5)
PROBLEM = Problem(RNG.standard_normal((3, 4)) / 2, np.array([1.0, -1.0, 1.0]), probes=RNG.standard_normal((2, 4)) / 2)
TRAINING = Training(4, 0.2)
RAGGED = 5 * TILE - 300  # five tiles, the last one partial


def silu(h):
    return h / (1 + np.exp(-h))


def dsilu(h):
    s = 1 / (1 + np.exp(-h))
    return s * (1 + h * (1 - s))


def assert_identical(a, b):
    for name in a.data_vars:
        assert_array_equal(a[name].values, b[name].values, err_msg=name)
    assert a.attrs == b.attrs


@pytest.mark.parametrize("noise", ["matched", "iid", "width"])
@pytest.mark.parametrize("activation", ["gelu", (silu, dsilu)])
def test_results_do_not_depend_on_threads(noise, activation):
    runs = [
        simulate(PROBLEM, Network(3, activation), TRAINING, RAGGED, 1, noise, threads=threads, snapshots=[0, 4])
        for threads in (1, 2, 3)
    ]
    assert_identical(runs[0], runs[1])
    assert_identical(runs[0], runs[2])


def test_results_do_not_depend_on_workers():
    network = Network(2, (lambda h: np.tanh(h), lambda h: 1 - np.tanh(h) ** 2))
    runs = [simulate(PROBLEM, network, TRAINING, 512, 5, workers=w) for w in (1, 2, 3)]
    assert_identical(runs[0], runs[1])
    assert_identical(runs[0], runs[2])


def test_workers_may_have_more_than_one_thread():
    """In a process of its own: the suite's NUMBA_NUM_THREADS would hide what worker processes are given."""
    script = (
        "import numpy as np; from tpsim import *\n"
        "problem = Problem(np.eye(2) + 0.1, [1.0, -1.0])\n"
        "if __name__ == '__main__':\n"
        "    print(simulate(problem, Network(2), Training(2), 2048, 2, workers=2, threads=2).f.shape)\n"
    )
    free = {name: value for name, value in os.environ.items() if name != "NUMBA_NUM_THREADS"}
    cores = subprocess.run([sys.executable, "-c", "import numba; print(numba.config.NUMBA_NUM_THREADS)"], env=free,
                           capture_output=True, text=True, check=True)  # fmt: skip
    if int(cores.stdout) < 2:
        script = script.replace("threads=2", "threads=1")
    done = subprocess.run([sys.executable, "-c", script], env=free, capture_output=True, text=True)
    assert done.stdout == "(2, 3, 2)\n", done.stderr


def test_replicas_and_seeds_are_independent_streams():
    """Oracle: replica r of R replicas is replica r of any other number; other seeds give other numbers."""
    few, many = (simulate(PROBLEM, Network(2), TRAINING, 256, replicas) for replicas in (2, 4))
    assert_array_equal(few.f.values, many.f.values[:2])
    other = simulate(PROBLEM, Network(2), TRAINING, 256, 2, seed=1)
    first = [run.f.values[r, 1] for run in (few, other) for r in (0, 1)]
    assert all((first[i] != first[j]).all() for i in range(4) for j in range(i))


@pytest.mark.parametrize("sobol", [False, True])
def test_no_two_draws_of_a_run_share_a_stream(sobol, monkeypatch):
    """Oracle: inequality, of everything that layers, matrices, directions, steps, samples and replicas are served."""
    served, normal = [], NormalSource.normal

    def watched(self, key):
        served.append(normal(self, key))
        return served[-1]

    monkeypatch.setattr(NormalSource, "normal", watched)
    simulate(PROBLEM, Network(3), TRAINING, 256, 2, sobol=sobol)
    assert len({z.tobytes() for z in served}) == len(served) > 100


def test_errors_of_worker_processes_arrive_whole():
    def wrong(h):
        return h[:1]

    with pytest.raises(InputError, match="activation"):
        simulate(PROBLEM, Network(2, (wrong, wrong)), TRAINING, 256, 2, workers=2)
