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

from collections import Counter

import hypothesis
import numba
import numpy as np
import pytest

from tests.oracles import levels

np.seterr(divide="raise", over="raise", invalid="raise")
hypothesis.settings.register_profile("tpsim", deadline=None, derandomize=True)
hypothesis.settings.load_profile("tpsim")


@pytest.fixture(autouse=True)
def one_numba_thread():
    """Start every test with one numba thread; a test of thread counts sets its own."""
    numba.set_num_threads(1)


def spent(terminalreporter):
    """The level that each kind of statistical test has spent, from what its reports say: processes share nothing."""
    found = Counter()
    for report in (one for kind in ("passed", "failed") for one in terminalreporter.stats.get(kind, [])):
        for line in getattr(report, "capstdout", "").splitlines():
            if line.startswith(levels.MARK):
                found[levels.name_of(report.nodeid)] += float(line.split()[-1])
    return found


def pytest_sessionfinish(session):
    """Fail where a kind of test has spent more than LEVELS allows all its items together."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    found = spent(reporter) if reporter is not None else Counter()
    for name, level in found.items():
        if level > (1 + 1e-9) * np.prod(levels.LEVELS.get(name, (0, 0.0))):
            reporter.write_line(f"{name} spends {level:.3g}, more than LEVELS allows it", red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    """Show what passing tests printed about the smallest effect they could have seen, and what they may cost."""
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
    if found := spent(terminalreporter):
        terminalreporter.section("false alarms")
        bound = f"the whole suite, slow tests included: at most {levels.total():.2g}"
        terminalreporter.line(f"probability that a test of this run failed without cause: at most {found.total():.2g}")
        terminalreporter.line(f"{bound}, {levels.SUITE:g} being allowed")
