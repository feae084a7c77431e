"""Numbers: divergence is seen at its step, nothing that is not finite is written as data, bases are orthonormal.

What is asked of every run here: it ends, by itself or with an error of the package that names the step; no warning of
numpy (all are errors in tests); no LinAlgError; and what it leaves is finite, undefined ratios apart, which are named.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr

import tpsim
from tpsim import Diverged, Network, Notice, Problem, Training, simulate
from tpsim.core import GUARDS, Rows, counted, counting, restore
from tpsim.core.guards import count
from tpsim.core.orthogonal import PASSES, orthonormalise
from tpsim.mlp import Settings, State, backward, forward, update
from tpsim.report import summarise
from tpsim.results import summary
from tpsim.run import DIVERGED, LARGEST, error_signal

Array = np.ndarray
RATES = (1e-2, 1.0, 30.0, 1e3, 1e5, 1e10, 1e20, 1e38, 1e39, 1e77, 1e110, 1e154, 1e155, 1e200, 1e300)
STEPS, PARTICLES = 5, 256
RNG = np.random.default_rng(5)
INPUTS = RNG.standard_normal((4, 5)) / np.sqrt(5)
SIGNS = np.array([1.0, -1.0, 1.0, -1.0])
PROBLEM = Problem(INPUTS, SIGNS, probes=RNG.standard_normal((2, 5)))
RATIOS = ("residual_forward", "residual_backward", "increment_forward", "innovation_forward", "innovation_backward")
ONLY_HIDDEN = (*RATIOS, "dropped_forward", "dropped_backward")  # NaN at layer 1 by definition


def quietly(*arguments, **options) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        options = {"particles": PARTICLES, "replicas": 1, "threads": 1, "progress": False} | options
        return simulate(*arguments, **options)


def check_finite(run: xr.Dataset) -> None:
    """Nothing infinite anywhere; NaN at layer 1 where defined so, else only in ratios that a notice names."""
    named = set(re.findall(r"\w+", "".join(re.findall("are NaN in: (.*)", run.attrs["notices"]))))
    assert named <= {*RATIOS, "feature_change_h", "feature_change_x"}
    for name, values in run.data_vars.items():
        if values.dtype.kind != "f":
            continue
        assert not np.isinf(values).any(), name
        assert (np.abs(values.values[np.isfinite(values)]) <= LARGEST).all(), name
        inner = values.sel(layer=slice(2, None)) if name in ONLY_HIDDEN else values
        assert name in named or not np.isnan(inner).any(), name


# Divergence -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    network: Network
    training: Training
    settings: Settings

    def first_bad_step(self) -> int | None:
        """Oracle: the recursion without any check, its particles looked at one by one; None: all steps are good."""
        problem, L = PROBLEM, self.network.depth
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)
            state = State(self.network, problem.inputs, self.settings, 0)
            everyone, all_in = np.arange(problem.samples), np.ones(problem.samples, bool)
            for step in range(STEPS + 1):
                fields = forward(state, step, everyone)
                try:
                    backward(state, fields)
                except np.linalg.LinAlgError:  # draws beside arrays that are not finite
                    return step
                value = self.training.criterion.value(fields.f, problem.targets)
                moments = [(z**2).mean(axis=1) for kind in (fields.h, fields.x, fields.dh) for z in kind[1:]]
                recorded = np.concatenate([*moments, value])
                good = np.isfinite(recorded).all() and (np.abs(recorded) <= LARGEST).all()
                if not (good and np.abs(fields.f).max() <= DIVERGED):
                    return step
                if step < STEPS:
                    chi = error_signal(self.training, fields.f, problem.targets, all_in)
                    update(state, fields, chi, self.training.rates(step, L))
        return None


@pytest.mark.parametrize(
    "rates", [pytest.param(RATES[::7], id="some"), pytest.param(RATES, id="all", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("noise", ["matched", "iid", "width"])
@pytest.mark.parametrize("activation", ["relu", "silu", "tanh", "identity"])
def test_divergence_is_seen_at_its_step_at_every_rate(
    activation: str, noise: str, dtype: str, rates: tuple[float, ...]
) -> None:
    """Oracle: `first_bad_step`; the same step, and what was finished before it is finite."""
    ends = []
    tolerance = 1e-3 if noise != "width" else 1e-5
    settings = Settings(PARTICLES, noise, noise == "matched", tolerance, 0, None, dtype)  # type: ignore[arg-type]
    options = {"noise": noise, "tolerance": tolerance, "dtype": dtype}
    for k, rate in enumerate(rates):
        training = Training(STEPS, rate, loss=("squared", "logistic")[(k + len(noise)) % 2])
        case = Case(Network(3, activation, 1.3), training, settings)
        step, run, why = None, None, ""
        try:
            run = quietly(PROBLEM, case.network, training, **options)
        except Diverged as stop:
            step, run, why = stop.step, stop.run, str(stop)
            assert f"at step {step}" in why
        bad = case.first_bad_step()
        earlier = "f on the probes" in why and step is not None and step < (bad or STEPS + 1)
        assert step == bad or earlier, (rate, training.loss, step, bad, why)
        if run is not None:
            assert run.sizes["step"] == (STEPS + 1 if step is None else step)
            check_finite(run)
        ends.append(step)
    assert ends[0] is None and ends[-1] is not None


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_a_diverged_run_leaves_can_be_saved_and_summarised(dtype, tmp_path):
    """Oracle: the dataset itself; every mean and standard error of it is finite, too."""
    for rate, noise in ((30.0, "matched"), (1e20, "iid"), (1e150, "width"), (1e300, "matched")):
        with pytest.raises(Diverged) as caught:
            options = {"noise": noise, "dtype": dtype, "replicas": 2, "snapshots": (0, 1), "parts": True}
            quietly(PROBLEM, Network(2, "relu"), Training(40, rate), **options)
        run = caught.value.run
        check_finite(run)
        found = tpsim.load(tpsim.save(run, tmp_path / f"{rate:g}.nc"))
        check_finite(found)
        assert found.identical(run)
        for name, values in summary(run).data_vars.items():
            assert not np.isinf(values).any(), name


@pytest.mark.parametrize("noise", ["matched", "iid", "width"])
@pytest.mark.parametrize("scale", [1e74, 1e76, 1e100, 1e155, 1e200, 1e308])
def test_an_initial_state_that_overflows_is_divergence_at_step_0(noise, scale):
    """`iid` solves for What_0 with moments of x that are not finite; relu passes the size on, tanh holds it."""
    for activation in ("relu", "tanh"):
        for scales in ([scale, 1.0, 1.0], [1.0, scale, 1.0], [1.0, 1.0, scale]):
            try:
                check_finite(quietly(PROBLEM, Network(2, activation, scales), Training(2, 0.1), noise=noise))
            except Diverged as stop:
                assert stop.run is None or check_finite(stop.run) is None
                assert stop.step <= 1


@pytest.mark.parametrize("size, overflows", [(1e60, False), (1e72, False), (1e76, True), (1e154, True), (1e200, True)])
def test_targets_whose_squares_overflow_are_divergence(size, overflows):
    try:
        check_finite(quietly(Problem(INPUTS, size * SIGNS), Network(2), Training(2, 0.0)))
        assert not overflows
    except Diverged as stop:
        assert overflows and "the loss" in str(stop) and stop.step == 0 and stop.run is None


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("size, overflows", [(1e20, False), (1e120, False), (1e155, True), (1e200, True)])
def test_probes_that_overflow_are_divergence(size, overflows, activation):
    """While the training data do not: what is not known of a probe must not become a number."""
    problem = Problem(INPUTS, SIGNS, probes=np.array([INPUTS[0], size * np.ones(5)]))
    try:
        check_finite(quietly(problem, Network(2, activation), Training(3, 0.1)))
        assert not overflows
    except Diverged as stop:
        assert overflows and "f on the probes" in str(stop)
        assert stop.run is None or check_finite(stop.run) is None


def test_a_users_activation_and_loss_may_overflow():
    """Where x overflows and h does not, and where a loss does and f does not."""
    with np.errstate(all="ignore"):
        grows = (lambda h: h + 1e160 * (np.abs(h) > 2.5), lambda h: np.ones_like(h))
        with pytest.raises(Diverged, match=r"E\[\(Z\^x\)\^2\] of layer \d is not finite"):
            quietly(PROBLEM, Network(2, grows), Training(2, 0.1), particles=512)
        pole = 1e-5, 0.1  # just below |f - y| = 1, where training begins; none of the values tried first
        loss = (
            lambda f, y: np.where((pole[0] < 1 - abs(f - y)) & (1 - abs(f - y) < pole[1]), np.inf, (f - y) ** 2),
            lambda f, y: 1e-3 * (f - y),
        )
        with pytest.raises(Diverged, match="the loss or its derivative is not finite"):
            quietly(PROBLEM, Network(2, "tanh"), Training(2, 0.1, loss=loss))


# Degenerate runs ------------------------------------------------------------------------------------------------------

BOUND = {"float64": 1e-12, "float32": 1e-5}
ALMOST = np.concatenate([INPUTS, INPUTS[:2] * (1 + 1e-9)])
DEGENERATE: dict[str, tuple[Array, Array]] = {
    "plain": (INPUTS, SIGNS),
    "duplicated": (INPUTS[[0, 1, 1, 2, 0]], np.array([1.0, -1.0, -1.0, 1.0, 1.0])),
    "conflicting": (INPUTS[[0, 0, 1, 1]], SIGNS),
    "almost equal": (ALMOST, np.ones(6)),
    "nearly equal": (np.concatenate([INPUTS, INPUTS[:2] + 1e-9]), np.array([1.0, -1, 1, -1, -1, 1])),
    "tiny": (np.concatenate([INPUTS, 1e-9 * INPUTS[:2]]), np.array([1.0, -1, 1, -1, -1, 1])),
    "opposite": (np.concatenate([INPUTS[:2], -INPUTS[:2]]), SIGNS),
    "zero": (np.concatenate([INPUTS[:2], np.zeros((2, 5))]), SIGNS),
    "only zeros": (np.zeros((2, 5)), SIGNS[:2]),
}


def train(problem: Problem, network: Network, training: Training, settings: Settings) -> State:
    """The recursion itself; returns the state after the last step."""
    state, everyone = State(network, problem.inputs, settings, 0), np.arange(problem.samples)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # spaces may be more than half full here
        for step in range(training.steps + 1):
            fields = forward(state, step, everyone)
            backward(state, fields)
            if step < training.steps:
                chi = error_signal(training, fields.f, problem.targets, np.ones(problem.samples, bool))
                update(state, fields, chi, training.rates(step, network.depth))
    return state


def worst(state: State) -> float:
    """max |B B' / M - 1| over the bases of both sides of every matrix, and the joint basis of every space."""
    bases = [rows.array for matrix in state.hidden.values() for rows in (matrix.X, matrix.D)]
    if state.settings.noise == "matched":
        bases += [np.concatenate([rows.array for rows in space._basis()]) for space in state.space.values()]
    return max(float(np.abs(B @ B.T / B.shape[1] - np.eye(len(B))).max()) for B in bases if len(B))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("noise", ["matched", "iid", "width"])
@pytest.mark.parametrize("data", list(DEGENERATE))
def test_bases_are_orthonormal_whatever_the_data(data: str, noise: str, dtype: str) -> None:
    """Oracle: the identity. Rates from static to large, tolerances from none to the default."""
    inputs, targets = DEGENERATE[data]
    off = {}
    for rate in (0.0, 1e-16, 1e-8, 0.3):
        for tolerance in (1e-14, 1e-10, 1e-6, 1e-3) if dtype == "float64" else (1e-5, 1e-3):
            settings = Settings(512, noise, noise == "matched", tolerance, 0, None, dtype)
            state = train(Problem(inputs, targets), Network(3, "tanh", 1.4), Training(12, rate), settings)
            off[rate, tolerance] = worst(state)
    print(f"{data}, {noise}, {dtype}: max |B B' / M - 1| = {max(off.values()):.1e}")
    assert max(off.values()) < BOUND[dtype], {key: value for key, value in off.items() if value >= BOUND[dtype]}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("data", list(DEGENERATE))
@pytest.mark.parametrize("rate", [0.0, 1e-16, 1e-8])
def test_nearly_static_runs_finish(data: str, rate: float, dtype: str) -> None:
    """Oracle: f moves by no more than the rate allows, T max|chi| eta K with K below 10, or by rounding.

    Of inputs that are 1e-9 apart the difference may be left out: then f moves by no more than that.
    """
    inputs, targets = DEGENERATE[data]
    run = quietly(Problem(inputs, targets), Network(3, "silu", 1.4), Training(60, rate), particles=512, dtype=dtype)
    check_finite(run)
    rounding = (1e-9 if "equal" in data else 1e-12) if dtype == "float64" else 1e-5
    assert np.abs(run.f).max() < 60 * 20 * len(targets) * rate + rounding
    assert run.rank_forward.max() <= 4 * len(targets) and run.rank_backward.max() <= 4 * len(targets)


@pytest.mark.parametrize(
    "m, T, M, tolerance, dtype",
    [
        (20, 60, 2048, 1e-3, "float32"),
        (20, 60, 2048, 3e-4, "float64"),
        pytest.param(40, 100, 4096, 1e-4, "float64", marks=pytest.mark.slow),
        pytest.param(40, 100, 4096, 1e-3, "float32", marks=pytest.mark.slow),
        pytest.param(40, 200, 8192, 3e-5, "float64", marks=pytest.mark.slow),
    ],
)
def test_bases_are_orthonormal_with_thousands_of_arguments(m, T, M, tolerance, dtype):
    """Oracle: the identity. m T = 1200 to 8000 arguments on each side; bases take up to half of the space."""
    inputs = np.random.default_rng(8).standard_normal((m, 30)) / np.sqrt(30)
    problem = Problem(inputs, np.where(np.arange(m) % 2, -1.0, 1.0))
    settings = Settings(M, "matched", True, tolerance, 0, None, dtype)
    state = train(problem, Network(3, "silu", 1.4), Training(T, 0.2, reduction="mean"), settings)
    off, ranks = worst(state), [matrix.ranks for matrix in state.hidden.values()]
    arrays = [space.arrays for space in state.space.values()]
    print(f"m T = {m * T}, M = {M}, {dtype}, ranks {ranks}, arrays {arrays}: max |B B' / M - 1| = {off:.1e}")
    assert off < BOUND[dtype]


@pytest.mark.parametrize("noise", ["matched", "iid", "width"])
@pytest.mark.parametrize("particles", [20, 24, 32, 33, 64])
def test_spaces_that_fill_up_end_with_an_error_of_the_package(noise, particles):
    """To the last free direction: fresh draws are orthonormalised in a space that has hardly room for them."""
    for tolerance in (1e-14, 1e-8, 1e-3):
        try:
            options = {"particles": particles, "noise": noise, "tolerance": tolerance}
            run = quietly(PROBLEM, Network(2, "tanh", 1.3), Training(30, 0.5), **options)
        except (tpsim.RankError, Diverged) as stop:  # networks of so few neurons may diverge
            run = stop.run
        if run is not None:
            check_finite(run)


# Guards ---------------------------------------------------------------------------------------------------------------


def acted(run: xr.Dataset, name: str) -> Array:
    return run.guards.sel(guard=name).values


def test_guards_are_counted_where_they_act_and_nowhere_else():
    """Oracle: counts that follow from the data: ranks, samples, steps."""
    plain = quietly(Problem(INPUTS, SIGNS), Network(2, "tanh"), Training(3, 0.3), noise="matched", replicas=2)
    assert plain.guards.dtype == np.int64 and list(plain.guard.values) == list(GUARDS)
    for name in ("input_in_span", "not_finite", "static_increment", "undefined_ratio", "probe_in_span", "readout_rank"):
        assert (acted(plain, name) == 0).all(), name
    doubled = quietly(Problem(INPUTS[[0, 1, 1, 0]], SIGNS), Network(2, "tanh"), Training(3, 0.0), noise="iid")
    assert acted(doubled, "input_in_span") == 2 and acted(doubled, "readout_rank") == 2
    static = quietly(Problem(INPUTS, SIGNS), Network(2, "tanh"), Training(3, 0.0))
    undefined = static.sel(layer=2)[["residual_forward", "increment_forward"]].isnull()
    assert acted(static, "undefined_ratio") >= int(undefined["residual_forward"].sum()) == 12
    zero = quietly(Problem(np.concatenate([INPUTS[:1], 0 * INPUTS[:1]]), SIGNS[:2]), Network(1, "tanh"), Training(0))
    assert acted(zero, "input_in_span") == 1
    trained = Problem(INPUTS, SIGNS, probes=INPUTS)
    run = quietly(trained, Network(2, "tanh"), Training(2, 0.3))
    assert acted(run, "probe_in_span") == 2 * 2 * 4 * 3  # layers, signs, probes, steps: all lie in the span
    assert summarise(run)["guards"]["probe_in_span"] == 48
    with pytest.raises(Diverged) as caught:
        quietly(Problem(INPUTS, SIGNS), Network(2, "relu"), Training(5, 1e200))
    assert caught.value.run is not None and "guards" in caught.value.run


def test_a_space_that_is_half_full_is_counted_once():
    run = quietly(Problem(INPUTS, SIGNS), Network(2, "tanh"), Training(2, 0.1), particles=40, tolerance=0.5)
    assert acted(run, "half_full").item() <= 2 and acted(run, "half_full").item() == len(
        re.findall("more arrays than half", run.attrs["notices"])
    )


def test_counts_belong_to_their_replica_whatever_the_processes():
    """Oracle: bitwise identity for other threads and workers; alone a replica has the same."""
    problem = Problem(INPUTS[[0, 1, 1, 2]], SIGNS)
    options = {"particles": 2048, "replicas": 3, "tolerance": 1e-9}
    case = problem, Network(3, "tanh", 1.4), Training(8, 0.4)
    base = quietly(*case, **options)
    assert (base.guards.sum("guard") > 0).all()
    for other in ({"threads": 2}, {"workers": 2}):
        assert quietly(*case, **options | other).guards.identical(base.guards)
    assert quietly(*case, **options | {"replicas": 1}).guards.equals(base.guards.isel(replica=[0]))


def test_counts_can_be_taken_up_again():
    with counting() as outer:
        count("half_full")
        with counting() as inner:
            restore({"half_full": 3, "unknown": 1})
            count("half_full", 2)
            assert counted() == inner and inner["half_full"] == 5
        assert outer["half_full"] == 1 and set(outer) == set(GUARDS)
    count("half_full")  # nobody counts
    assert counted() == {}


def test_passes_past_the_first_are_counted():
    """Oracle: by construction, draws that lie almost in the span of the basis."""
    basis = Rows.of(orthonormalise(RNG.standard_normal((20, 256)), (Rows(256),)))
    z = RNG.standard_normal((3, 20)) @ basis.array + 1e-9 * RNG.standard_normal((3, 256))
    with counting() as counts:
        orthonormalise(z, (basis,))
    assert 1 <= counts["further_pass"] < PASSES
    both = np.concatenate([basis.array, z])
    assert np.abs(both @ both.T / 256 - np.eye(23)).max() < 1e-13
