"""The settings that the other tests rely on. Oracle: the settings themselves, read back where they act."""

import os
import re
import subprocess
import sys
import tomllib
import warnings
from importlib.metadata import version
from pathlib import Path

import matplotlib
import numba
import numpy as np
import pytest
import threadpoolctl
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
EXTRAS = PROJECT["optional-dependencies"]


def test_numpy_raises_where_it_would_warn():
    with pytest.raises(FloatingPointError):
        np.float64(1.0) / np.zeros(1)
    with pytest.raises(FloatingPointError):
        np.exp(np.array([1e3]))
    with pytest.raises(FloatingPointError):
        np.sqrt(np.array([-1.0]))


def test_warnings_are_errors():
    with pytest.raises(UserWarning):
        warnings.warn("an unexpected warning", stacklevel=1)


def test_threads():
    np.ones((2, 2)) @ np.ones((2, 2))
    assert all(pool["num_threads"] == 1 for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas")
    assert numba.get_num_threads() == 1
    assert numba.config.NUMBA_NUM_THREADS >= 3


def test_figures_need_no_display():
    assert matplotlib.get_backend().lower() == "agg"


@pytest.mark.parametrize("requirement", [*PROJECT["dependencies"], *EXTRAS["finite"], *EXTRAS["dev"]])
def test_pins_satisfy_the_bounds(requirement):
    parsed = Requirement(requirement)
    assert PINS[parsed.name] in parsed.specifier


def test_versions_agree():
    assert version("tpsim") == PROJECT["version"]
    assert f"\nversion: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text()


def test_import_is_light_and_without_warnings(tmp_path):
    heavy = ("torch", "matplotlib.pyplot", "sklearn", "finite", "validation")
    code = f"import sys, tpsim; print(*(name for name in {heavy} if name in sys.modules))"
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
