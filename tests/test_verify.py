"""`tpsim verify` from end to end on tiny problems; the claims themselves have tests of their own."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import tpsim
from tests.oracles.levels import confirmed
from tpsim.cli import main
from validation.claim import Claim, Verdict, bounds, extrapolated, worst
from validation.stationary import FALSE
from validation.verify import report
from validation.verify.claims import Findings

TINY = """
[data]
source = "gaussian_mixture"
count = 4
dimension = {dimension}
probes = 0
[network]
depth = 2
activation = "{activation}"
[training]
steps = {steps}
learning_rate = 0.3
reduction = "mean"
[simulation]
particles = 512
workers = 1
[verify]
widths = []
"""


def configuration(folder, activation="tanh", dimension=6, steps=6):
    path = folder / "config.toml"
    path.write_text(TINY.format(activation=activation, dimension=dimension, steps=steps))
    return str(path)


def verify(folder, *options, **choices):
    """Exit code, and summary.json by claim."""
    code = main(["verify", configuration(folder, **choices), "--output", str(folder / "out"), *options])
    summary = json.loads((folder / "out/summary.json").read_text())
    return code, {claim["name"]: claim for claim in summary["claims"]}, summary


def test_every_claim_is_reported_and_none_fails(tmp_path, capsys):
    """Oracle: the theorems, on Gaussian inputs, which satisfy their hypotheses almost surely.

    The consistency check of the read-out fails without cause at level .001.
    """
    found = []

    def check(attempt):
        capsys.readouterr()
        found[:] = verify(tmp_path, "--set", f"simulation.seed={attempt}")
        assert found[0] == 0

    confirmed(check, FALSE)
    _, claims, summary = found
    for name in ("Theorem 4.5", "Negative controls"):
        assert claims[name]["verdict"] == "PASS", claims[name]
    assert claims["Corollary 4.6"]["verdict"] == "NOT RESOLVED"  # six steps do not converge
    assert claims["Limit of finite networks"]["verdict"] == "NOT RESOLVED"  # no networks were asked for
    assert not [claim for claim in claims.values() if claim["verdict"] == "FAIL"]
    printed, written = capsys.readouterr().out, (tmp_path / "out/report.md").read_text()
    for name, claim in claims.items():
        assert name in printed and f"**{name}: {claim['verdict']}" in written
    resolved = [claim for claim in claims.values() if not claim["hypothesis"] and claim["verdict"] != "NOT RESOLVED"]
    assert f"{len(resolved)} of {sum(not claim['hypothesis'] for claim in claims.values())} claims resolved" in printed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(summary["files"])
    for name in summary["files"]:
        if name.endswith(".nc"):
            assert tpsim.load(tmp_path / "out" / name).sizes["layer"] == 2
        if name.endswith(".png"):
            assert f"]({name})" in written


def test_linear_networks_fail_with_exit_code_1(tmp_path, capsys):
    """Oracle: a linear network has at most d independent features in each layer, here 2 of 4."""
    code, claims, _ = verify(tmp_path, "--set", "verify.controls=false", activation="identity", dimension=2)
    assert code == 1
    assert claims["Theorem 4.5"]["verdict"] == claims["Assumption 4.3"]["verdict"] == "FAIL"
    assert claims["Theorem 4.5"]["estimate"] < 1e-12


def test_a_failed_hypothesis_is_a_notice(tmp_path, capsys):
    """Oracle: orthogonal inputs break Assumption 4.1, which asks for products other than 0, and no claim."""
    inputs = np.eye(4)
    np.savez(tmp_path / "data.npz", inputs=inputs, targets=np.array([1.0, -1.0, 1.0, -1.0]))
    text = TINY.format(activation="tanh", dimension=6, steps=5).replace(
        'source = "gaussian_mixture"\ncount = 4\ndimension = 6\nprobes = 0', 'source = "npz"\npath = "data.npz"'
    )
    (tmp_path / "own.toml").write_text(text)
    options = ["--output", str(tmp_path / "out"), "--quiet", "--set", "verify.controls=false"]
    printed = []

    def check(attempt):
        capsys.readouterr()
        code = main(["verify", str(tmp_path / "own.toml"), *options, "--set", f"simulation.seed={attempt}"])
        printed[:] = capsys.readouterr()
        assert code == 0

    confirmed(check, FALSE)
    out, err = printed
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    found = {claim["name"]: claim for claim in summary["claims"]}["Assumption 4.1"]
    assert found["verdict"] == "FAIL" and found["hypothesis"]
    assert "Assumption 4.1" in err and out == ""


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("simulation.particles=511", "particles"), ("simulation.replicas=4", "replicas"),
        ("simulation.limit=ntp", "simulation.limit"), ("simulation.noise=iid", "simulation.noise"),
        ("verify.widths=[64]", "widths"), ("verify.seeds=1.5", "verify.seeds"), ("verify.mnist=/nowhere", "/nowhere"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(tmp_path, capsys, override, field):
    path = configuration(tmp_path, steps=2)
    assert main(["verify", path, "--output", str(tmp_path / "out"), "--set", override, "--quiet"]) == 2
    printed = capsys.readouterr()
    assert field in printed.err and printed.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


PASSED = Claim("A", "a", 1.0, 0.5, 0.1, Verdict.PASS, 3, 3)


def test_only_claims_are_refuted():
    failed = replace(PASSED, verdict=Verdict.FAIL)
    assumed = replace(failed, hypothesis=True)
    found = Findings([PASSED, failed, assumed, replace(PASSED, verdict=Verdict.NOT_RESOLVED)], [], [], [], [])
    assert found.refuted == [failed]
    assert report.count(found) == "2 of 3 claims resolved: 1 PASS, 1 FAIL, 1 NOT RESOLVED"
    assert "FAIL*" in report.text(found) and "hypothesis" in report.text(found)


def test_worst_of_several_verdicts():
    assert worst([Verdict.PASS, Verdict.FAIL, Verdict.NOT_RESOLVED]) is Verdict.FAIL
    assert worst([Verdict.PASS, Verdict.NOT_RESOLVED]) is Verdict.NOT_RESOLVED
    assert worst([Verdict.PASS]) is Verdict.PASS
    assert worst([]) is Verdict.NOT_RESOLVED


def test_bounds_hold_as_often_as_they_say():
    """Oracle: normal data of mean 0; each one-sided bound at level .999 is missed once in a thousand times.

    Of 20 000 draws 20 +- 4.5 are expected; 40 is 4.5 standard deviations off.
    """
    draws = np.random.default_rng(0).standard_normal((20_000, 2, 8))
    assert sum(bounds(pair[0]).low > 0 for pair in draws) <= 40
    assert sum(bounds(pair[0]).high < 0 for pair in draws) <= 40
    assert sum(extrapolated(pair[0], pair[1]).low > 0 for pair in draws) <= 40
    one = bounds(np.array([1.0]))
    assert one.low == -np.inf and one.high == np.inf


def test_extrapolation_removes_a_bias_of_first_order():
    """Oracle: f(M) = 3 + 4 / M without noise."""
    found = extrapolated(np.full(8, 3 + 4 / 64), np.full(8, 3 + 4 / 128))
    assert found.mean == pytest.approx(3.0, abs=1e-14) and found.error == pytest.approx(0.0, abs=1e-14)
