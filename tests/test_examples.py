"""Every example runs, at smoke size, and prints or returns a right number. Oracles: closed forms and quadrature."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.oracles.functions import FUNCTIONS
from tests.oracles.kernels import kernel_matrix
from tests.oracles.levels import critical, detectable, spend
from tpsim import data

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))


def run(name: str, folder: Path, *options: str) -> Any:
    """`main` of an example at smoke size; its figure must appear, and nothing else."""
    result = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](["--smoke", "--output", str(folder), *options])
    (figure,) = folder.iterdir()
    assert figure.name == f"{name}.png" and figure.stat().st_size > 10_000
    return result


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_short_and_tested(name: str) -> None:
    """At most 80 lines; a docstring that shows the command; a test here that runs it."""
    text = (EXAMPLES / f"{name}.py").read_text()
    assert len(text.splitlines()) <= 80
    assert f"python examples/{name}.py" in (ast.get_docstring(ast.parse(text)) or "")
    assert f'run("{name}"' in Path(__file__).read_text()


def test_limit_of_a_dataset(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """f_0 = 0, so that the loss starts at the mean of y^2 = 1, and falls."""
    result = run("limit_of_a_dataset", tmp_path)
    loss = result.loss.mean("replica").values
    assert abs(loss[0] - 1.0) < 1e-12 and loss[-1] < 0.9
    assert "loss 1.0000 at t = 0" in capsys.readouterr().out


def test_limit_of_a_csv_file(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((6, 4))
    file = tmp_path / "data.csv"
    np.savetxt(file, rows, delimiter=",", header="a,b,c,y", comments="")
    result = run("limit_of_a_dataset", tmp_path / "out", "--csv", str(file))
    assert result.sizes["sample"] == 6
    assert abs(float(result.loss[0, 0]) - np.mean(rows[:, 3] ** 2)) < 1e-12


def test_marchenko_pastur(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Oracle: Catalan numbers."""
    result = run("marchenko_pastur", tmp_path)
    np.testing.assert_allclose(result["matched"], [1, 2, 5, 14, 42, 132], rtol=1e-10)
    np.testing.assert_allclose(result["without"], 0.0, atol=1e-10)
    assert "1 2 5 14 42 132" in capsys.readouterr().out


def test_recurrent_network(tmp_path: Path) -> None:
    """Oracle: quadrature for J = W; for J = (W + W')/sqrt 2 it must be far off.

    A closed form, too: h_1 = J tanh(h_0) + h_0 has E[h_1 h_0] = E[h_0^2] for either J.
    """
    result = run("recurrent_network", tmp_path)
    process, seeds = result["process"], len(result["tied"])
    error = result["tied"].std(axis=0, ddof=1) / np.sqrt(seeds)
    sizes = process.size, seeds - 1, 1e-6
    print("minimum detectable effect", detectable(*sizes) * error.max())
    assert (np.abs(result["tied"].mean(axis=0) - process) < critical(*sizes) * error + 1e-12).all()
    spend(1e-6)
    assert (result["symmetric"][:, 3, 3] > 1.5 * process[3, 3]).all()
    np.testing.assert_allclose(result["symmetric"][:, 0, 1], 0.09, atol=1e-12)


def test_learning_rate_sweep(tmp_path: Path) -> None:
    """The bracket is narrow, lies between a rate that is stable and one that is not, and small rates train slowly."""
    result = run("learning_rate_sweep", tmp_path)
    low, high = result["bracket"]
    finite = np.isfinite(result["loss"])
    assert low < high <= 1.5 * low
    assert finite[result["rates"] == low].all() and not finite[result["rates"] == high].any()
    assert 0.3 < result["loss"][0] < 1.0


def test_own_activation_and_loss(tmp_path: Path) -> None:
    """f_0 = 0, so that the loss starts at the mean of the user's own loss at f = 0; training lowers both losses."""
    result = run("own_activation_and_loss", tmp_path)
    module = runpy.run_path(str(EXAMPLES / "own_activation_and_loss.py"))
    y = result["Huber"].targets.values
    np.testing.assert_allclose(result["Huber"].loss[:, 0], module["huber"](np.zeros_like(y), y).mean(), atol=1e-12)
    np.testing.assert_allclose(result["squared"].loss[:, 0], np.mean(y**2), atol=1e-12)
    for each in result.values():
        assert (each.loss[:, -1] < each.loss[:, 0]).all()
    h, step = np.linspace(-3, 3, 31), 1e-6
    for value, slope in (("snake", "snake_derivative"), ("huber", "huber_derivative")):
        extra = (0.3,) if value == "huber" else ()
        difference = (module[value](h + step, *extra) - module[value](h - step, *extra)) / (2 * step)
        np.testing.assert_allclose(module[slope](h, *extra), difference, atol=1e-8)


def test_other_limits(tmp_path: Path) -> None:
    """f_0 = 0 in muP and IP; in NTP and SP it has mean 0 and the same variance. Oracle: quadrature."""
    result = run("other_limits", tmp_path)
    for limit in ("mup", "ip"):
        assert abs(result[limit].f[:, 0]).max() < 1e-12
    ntp, sp = result["ntp"], result["sp"]
    assert (ntp.f_mean[0] == 0).all() and (ntp.f_cov[0].values == sp.f_cov[0].values).all()
    function, scale = FUNCTIONS["tanh"], 2.0
    inputs = data.digits((3, 8), count=8, probes=8).inputs[:2]
    K = kernel_matrix(function, scale * kernel_matrix(function, scale * inputs @ inputs.T))
    error = ntp.f_cov_se[0, :2, :2].values
    sizes = 3, ntp.sizes["replica"] - 1, 1e-6
    print("minimum detectable effect", detectable(*sizes) * error.max())
    assert (abs(ntp.f_cov[0, :2, :2].values - scale * K) < critical(*sizes) * error).all()
    spend(1e-6)
    assert (np.diag(ntp.f_cov[-1]) < np.diag(ntp.f_cov[0])).all()  # training takes some of the spread away
