"""What every test runs under; the environment is set before numpy, numba and matplotlib are imported."""

import os

os.environ.update(
    OMP_NUM_THREADS="1",  # BLAS and torch: the tests are parallel by processes
    OPENBLAS_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    OMP_WAIT_POLICY="PASSIVE",  # threads that spin while they wait cost two orders of magnitude on a busy machine
    NUMBA_NUM_THREADS="4",  # the most that a test can ask for, whatever the machine has
    MPLBACKEND="Agg",
)

import hypothesis
import numba
import numpy as np
import pytest

np.seterr(divide="raise", over="raise", invalid="raise")
hypothesis.settings.register_profile("tpsim", deadline=None, derandomize=True)
hypothesis.settings.load_profile("tpsim")


@pytest.fixture(autouse=True)
def one_numba_thread():
    """Start every test with one numba thread; a test of thread counts sets its own."""
    numba.set_num_threads(1)


def pytest_terminal_summary(terminalreporter):
    """Show what passing tests printed about the smallest effect they could have seen."""
    lines = [
        f"{report.nodeid.removeprefix('tests/')}: {line.strip()}"
        for report in terminalreporter.stats.get("passed", [])
        for line in report.capstdout.splitlines()
        if "minimum detectable effect" in line
    ]
    if lines:
        terminalreporter.section("minimum detectable effects")
        for line in sorted(lines):
            terminalreporter.line(line)
