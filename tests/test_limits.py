"""`simulate(limit=...)`: which recursion it runs, what it refuses, how the result is labelled."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tpsim import InputError, Network, Problem, Training, simulate
from tpsim.conventions import conventions, conventions_table, parametrization_title
from tpsim.parametrization import TABLE_2, Parametrization, appendix_a, as_mup, resolve_parametrization

RNG = np.random.default_rng(11)
PROBLEM = Problem(RNG.standard_normal((3, 4)) / 2, [1.0, -1.0, 1.0], RNG.standard_normal((2, 4)) / 2)
SMALL = {"particles": 64, "replicas": 2, "progress": False}


@pytest.mark.filterwarnings("ignore:undefined ratios:tpsim.Notice")
def test_ip_is_mup_from_hidden_matrices_that_are_zero():
    """Oracle: the same engine with s = (s_1, 0, 0, s_4), to the last bit."""
    training = Training(4, 0.3)
    ip = simulate(PROBLEM, Network(3, "sigmoid", 1.3), training, **SMALL, limit="ip")
    zero = simulate(PROBLEM, Network(3, "sigmoid", (1.3, 0.0, 0.0, 1.3)), training, **SMALL)
    for name in ("f", "f_probe", "kernel_h", "kernel_dh"):
        assert_array_equal(ip[name], zero[name])
    assert np.abs(ip["f"][:, -1]).min() > 0.01  # it does move


@pytest.mark.parametrize("name", TABLE_2)
def test_a_row_in_mup_form_has_the_same_matrices(name):
    """Oracle: Table 2 itself, s_l n^-b and eta_l n^-c, at a width that no formula simplifies at."""
    n, row = 37, TABLE_2[name]
    network, training = Network(3, "tanh", (1.1, 1.2, 1.3, 1.4)), Training(2, lambda t: np.arange(1.0, 5.0) / (t + 1))
    ours, rates = as_mup(name, network, training, n)
    assert_allclose(TABLE_2["mup"].init_std(ours.scales, n), row.init_std(network.scales, n), rtol=1e-14)
    for step in (0, 1):
        expected = row.rates(training.rates(step, 3), n)
        assert_allclose(TABLE_2["mup"].rates(rates.rates(step, 3), n), expected, rtol=1e-14)


@pytest.mark.parametrize("name", ["sp", "ntp"])
def test_frozen_limits_have_no_mup_form(name):
    with pytest.raises(InputError, match="muP form"):
        as_mup(name, Network(2), Training(1), math.inf)


@pytest.mark.filterwarnings("ignore:undefined ratios:tpsim.Notice")
def test_a_run_says_whose_limit_it_is():
    training = Training(1, 0.1)
    run = simulate(PROBLEM, Network(2, "sigmoid"), training, **SMALL, limit="ip")
    assert "IP limit" in run.attrs["title"] and json.loads(run.attrs["config"])["simulation"]["limit"] == "ip"
    run = simulate(PROBLEM, Network(2), training, **SMALL, limit="sp", noise="width")
    assert "SP networks of width 64" in run.attrs["title"]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [({"limit": "muP"}, "limit"), ({"limit": None}, "limit"), ({"limit": "ntp", "parts": True}, "parts")],
)
def test_what_cannot_be_is_named(arguments, field):
    with pytest.raises(InputError, match=f"^{field}: "):
        simulate(PROBLEM, Network(2), Training(1), **SMALL, **arguments)


def test_unknown_parametrizations_are_named():
    with pytest.raises(InputError, match="one of sp, ntp, ip, mup"):
        resolve_parametrization("standard")
    with pytest.raises(InputError, match="learning_rate"):
        appendix_a("sp", Network(2), Training(1), 64, learning_rate=-1.0)


@pytest.mark.parametrize("name", TABLE_2)
def test_conventions_are_those_of_the_table(name):
    """Oracle: the row's own powers at a width; the printed table has the same numbers."""
    n, network, training = 50, Network(3, init_scale=(1.0, 2.0, 3.0, 4.0)), Training(3, 0.3)
    rows = conventions(network, training, name)
    std = [math.sqrt(row.variance * n**row.variance_power) for row in rows]
    assert_allclose(std, TABLE_2[name].init_std(network.scales, n), rtol=1e-14)
    rates = [row.rate * n**row.rate_power for row in rows]
    assert_allclose(rates, TABLE_2[name].rates(np.full(4, 0.3), n), rtol=1e-14)
    lines = conventions_table(network, training, name, n).splitlines()
    for line, one, rate in zip(lines[1:], std, rates, strict=False):
        assert line.endswith(f"{one:.4g}, {rate:.4g}")


def test_a_users_own_row_has_a_table_too():
    row = Parametrization("mine", init=(0.0, 0.25, 0.75), rate=(-1.0, 0.0, 0.5))
    assert parametrization_title(row) == "mine"
    assert "1 / n^1.5" in conventions_table(Network(2), Training(1), row)
