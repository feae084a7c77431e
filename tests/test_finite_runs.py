"""How networks are trained: alone or together, for longer, in single precision, in a parametrization of one's own."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

import finite
from finite.dense import draw
from tests.oracles import table2
from tpsim.parametrization import MUP, Parametrization
from tpsim.problem import Network, Problem, Training

ROUNDING = 1e-12  # float64, quantities of order one, a few hundred operations

RNG = np.random.default_rng(5)
PROBLEM = Problem(RNG.standard_normal((4, 3)), [1.0, -1.0, 1.0, -1.0], RNG.standard_normal((2, 3)))


def test_result_does_not_depend_on_how_seeds_are_grouped() -> None:
    """Network k depends on (seed, width, k) only: not on its block, on `seeds`, or on what is recorded."""
    network, training = Network(2, "silu"), Training(3, 0.2, batches={"size": 2, "seed": 1})
    plain = Problem(PROBLEM.inputs, PROBLEM.targets)
    reference = finite.train(PROBLEM, network, training, 10, seeds=5, seed=3)
    for options in ({"batch_seeds": 1}, {"batch_seeds": 3}, {"probe_every": 2}, {"quantities": ("f",)}):
        run = finite.train(PROBLEM, network, training, 10, seeds=5, seed=3, **options)
        np.testing.assert_allclose(run.f, reference.f, rtol=0, atol=ROUNDING)
    rarely = finite.train(PROBLEM, network, training, 10, seeds=5, seed=3, record_every=3)
    np.testing.assert_allclose(rarely.f, reference.f[:, ::3], rtol=0, atol=ROUNDING)
    fewer = finite.train(plain, network, training, 10, seeds=2, seed=3)
    np.testing.assert_allclose(fewer.f, reference.f[:2], rtol=0, atol=ROUNDING)
    last = finite.train(plain, network, training, 10, seeds=2, seed=3, first_seed=3)
    np.testing.assert_allclose(last.f, reference.f[3:], rtol=0, atol=ROUNDING)
    assert last.replica.values.tolist() == [3, 4]
    other = finite.train(plain, network, training, 10, seeds=5, seed=4)
    assert np.abs(other.f - reference.f).min() > 0
    # the first rows of a wider network are not a narrower one
    wider = finite.train(plain, network, training, 11, seeds=5, seed=3).kernel_h[:, 0, 0] * 11
    assert (np.linalg.eigvalsh(wider - 10 * reference.kernel_h[:, 0, 0]).min(axis=-1) < -1e-3).any()


def test_a_probe_that_is_a_training_input_returns_its_output() -> None:
    problem = Problem(PROBLEM.inputs, PROBLEM.targets, PROBLEM.inputs[1:3])
    run = finite.train(problem, Network(2, "gelu"), Training(3, 0.2), 8, seeds=4)
    np.testing.assert_allclose(run.f_probe, run.f[:, :, 1:3], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("batches", [None, {"size": 3, "seed": 2}])
def test_more_steps_continue_the_same_run(batches: dict | None) -> None:
    """T steps are a prefix of T + k, and a second run is the first, to the last bit."""
    arguments = {"width": 16, "parametrization": "ip", "seeds": 3, "record_every": 2, "progress": False}
    network = Network(3, "sigmoid")
    short, long, again = (
        finite.train(PROBLEM, network, Training(steps, 0.3, batches=batches), **arguments) for steps in (4, 7, 4)
    )
    for name in set(short.data_vars) - {"batch", "diverged_at"}:
        rows = {dim: slice(0, short.sizes[dim]) for dim in ("step", "probe_step") if dim in short[name].dims}
        np.testing.assert_array_equal(short[name], long[name][rows])
        np.testing.assert_array_equal(short[name], again[name])


@pytest.mark.parametrize("name", table2.NAMES)
def test_at_rate_zero_nothing_moves(name: str) -> None:
    """To the last bit, in f and in every kernel; features have not changed."""
    run = finite.train(PROBLEM, Network(2, "softplus"), Training(3, 0.0), 8, name, 2, progress=False)
    for quantity in ("f", "f_probe", "kernel_h", "kernel_x", "kernel_dh", "kernel_h0", "mean_x"):
        values = run[quantity].values
        np.testing.assert_array_equal(values, np.broadcast_to(values[:, :1], values.shape))
    assert not run.feature_change_h.any() and not run.feature_change_x.any()


def test_single_precision_follows_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: float64 from the same matrices, rounded to float32.

    A sum of n products is off by sqrt(n) u of its size, u = 6e-8 (errors of random sign); 2L + 1 such sums follow each
    other in a step, and T + 1 steps add up in a run that neither amplifies nor forgets: sqrt(n (2L + 1)) (T + 1) u.
    """
    width, depth, steps = 64, 3, 10
    arguments = (PROBLEM, Network(depth, "tanh", 1.2), Training(steps, 0.2, reduction="mean"), width)
    exact = finite.train(*arguments, seeds=4, snapshots=(0, steps), progress=False)
    start = draw(arguments[1], 3, width, MUP, torch.float64, 0, range(4))
    rounded = iter([{l: w.float() for l, w in start.items()}, {l: w.float().double() for l, w in start.items()}])
    monkeypatch.setattr("finite.run.draw", lambda *_: next(rounded))
    single = finite.train(*arguments, seeds=4, dtype="float32", snapshots=(0, steps), progress=False)
    double = finite.train(*arguments, seeds=4, snapshots=(0, steps), progress=False)
    assert np.abs(double.f - exact.f).max() < 1e-5 and np.abs(double.f[:, -1] - double.f[:, 0]).max() > 0.1
    tolerance = (width * (2 * depth + 1)) ** 0.5 * (steps + 1) * 2.0**-24
    worst = {}
    for name in set(single.data_vars) - {"batch", "targets", "diverged_at"}:
        scale = max(1.0, float(np.abs(double[name]).max()))
        worst[name] = float(np.abs(single[name] - double[name]).max()) / scale
    print(f"float32 against float64, of {tolerance:.1e}:", {name: f"{off:.1e}" for name, off in sorted(worst.items())})
    assert max(worst.values()) <= tolerance
    for field in ("h", "x", "dh"):  # what single precision left is summed in double precision
        z = single[f"Z_{field}"].values[:, -1]
        np.testing.assert_allclose(single[f"kernel_{field}"][:, -1], z @ np.swapaxes(z, -1, -2) / width, atol=ROUNDING)


def test_the_benchmark_compares_the_same_networks() -> None:
    """`compare` asserts that both trainers end at the same f, and prints one row."""
    benchmark = runpy.run_path(str(Path(__file__).parent.parent / "benchmarks/backprop.py"))
    row = benchmark["compare"](("silu", 8, 2, 3, torch.float64), pairs=1, work=1e5)
    assert row.split()[:5] == ["float64", "silu", "8", "2", "3"] and len(row.split()) == 11
    assert "*" in benchmark["blocks"](8, 2, torch.float32, 1, 1e3)


def test_a_parametrization_of_ones_own() -> None:
    """A `Parametrization` is used as it is: muP by another name, and its own exponents."""
    mine = Parametrization("mine", MUP.init, MUP.rate)
    arguments = {"width": 8, "seeds": 2, "progress": False}
    one = finite.train(PROBLEM, Network(2), Training(2, 0.2), parametrization=mine, **arguments)
    other = finite.train(PROBLEM, Network(2), Training(2, 0.2), **arguments)
    np.testing.assert_array_equal(one.f, other.f)
    assert one.attrs["parametrization"] == "mine" and "mine" in one.attrs["title"]
