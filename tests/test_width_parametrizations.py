"""`noise="width"` with `limit` = sp, ntp or ip is a dense network of that parametrization and width, in law.

Oracle: dense networks trained in torch (`finite.train`), which share no code with the engine but the losses and the
table of exponents; those exponents are asserted in test_conventions.py.
"""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import finite
from tests.oracles.same_law import check_same_law
from tests.test_width import KERNELS, Case, problem_of, statistics
from tpsim import Network, Training, simulate

Array = np.ndarray

# Both bases of every matrix reach rank n; the rates move f by a good part of the targets, and NTP's that of W^1, too.
CASES: dict[str, Case] = {
    "sp": (
        problem_of(4, 3, 0),
        Network(2, "tanh", [1.0, 1.2, 0.9]),
        Training(8, [8.0, 2.0, 1.0], reduction="mean"),
        16,
    ),
    "ntp": (
        problem_of(4, 3, 1),
        Network(2, "silu", [1.4, 1.1, 0.9]),
        Training(8, [5.0, 0.8, 0.5], reduction="mean"),
        16,
    ),
    "ip": (
        problem_of(4, 3, 3),
        Network(2, "tanh", [1.2, 1.0, 1.1]),
        Training(9, [0.5, 0.6, 0.4], reduction="mean", batches={"size": 3, "seed": 1}),
        16,
    ),
}
# Wide enough that held-out points meet a part of W_0 that training never touched: rank at most m (T + 1) = 12 of 64.
UNSEEN: Case = (problem_of(2, 3, 5), Network(3, "tanh", 1.2), Training(5, [0.6, 0.5, 0.5, 0.3]), 64)
REPLICAS, SEEDS = 250, 2000


def width_runs(case: Case, limit: str, replicas: int = REPLICAS) -> xr.Dataset:
    problem, network, training, width = case
    return simulate(
        problem, network, training, width, replicas, noise="width", limit=limit, probe_every=3, progress=False,
        threads=1,
    )  # fmt: skip


def dense_runs(case: Case, parametrization: str, seeds: int = SEEDS) -> xr.Dataset:
    problem, network, training, width = case
    quantities = ("f", "f_probe", *KERNELS)
    return finite.train(
        problem, network, training, width=width, seeds=seeds, parametrization=parametrization, quantities=quantities,
        probe_every=3, seed=7,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:undefined")
@pytest.mark.parametrize("limit", CASES)
def test_width_noise_is_a_dense_network_of_that_parametrization(limit: str) -> None:
    """Mean and standard deviation over seeds of f, f_probe and kernels, with all of R^n used up."""
    case = CASES[limit]
    runs, networks = width_runs(case, limit), dense_runs(case, limit)
    assert (runs.rank_forward[:, -1, 1:] == case[-1]).all() and (runs.rank_backward[:, -1, 1:] == case[-1]).all()
    assert (networks.f - networks.f.isel(step=0)).mean("replica").isel(step=-1).max() > 0.1
    check_same_law(f"{limit}, width {case[-1]}", statistics(runs), statistics(networks))


@pytest.mark.parametrize("limit", ["ip", pytest.param("sp", marks=pytest.mark.slow)])
def test_held_out_points_of_wider_networks(limit: str) -> None:
    """As above for f_probe where the residual noise of the replay matters."""
    runs, networks = width_runs(UNSEEN, limit), dense_runs(UNSEEN, limit)
    assert runs.rank_forward.max() <= 12
    check_same_law(f"{limit}, held-out points, width 64", statistics(runs), statistics(networks))


@pytest.mark.filterwarnings("ignore:undefined")
@pytest.mark.parametrize("limit,other", [("ntp", "sp"), ("sp", "ntp"), ("ip", "mup"), ("mup", "ip")])
def test_networks_of_another_parametrization_are_rejected(limit: str, other: str) -> None:
    """Control. NTP and SP differ in the rate of W^1 alone, IP and muP in the variance of W^2..W^L alone."""
    case = CASES["ip" if "ip" in (limit, other) else "ntp"]
    runs, networks = width_runs(case, limit, 100), dense_runs(case, other, 1000)
    with pytest.raises(AssertionError, match=r"of f\("):
        check_same_law(f"{limit} as {other}", statistics(runs), statistics(networks))
