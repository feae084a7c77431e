"""What `finite.train` returns: the schema of `simulate`, every variable against a twin, divergence, refusals."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import finite
from finite.record import ALWAYS, QUANTITIES
from tests.oracles import table2
from tests.oracles.dense import trajectory
from tpsim import Network, Notice, Problem, Training, load, plot, save, simulate, standard_error, summary
from tpsim.errors import InputError, ResourceError
from tpsim.plot.files import PICTURES
from tpsim.report import summarise, table

Array = np.ndarray
ROUNDING = 1e-12  # float64, quantities of order one, a few hundred operations

RNG = np.random.default_rng(7)
PROBLEM = Problem(
    RNG.standard_normal((5, 3)), [1.0, -1.0, 1.0, -1.0, 1.0], RNG.standard_normal((2, 3)), probe_targets=[1.0, -1.0]
)
OWN = (lambda h: np.tanh(0.7 * h) / 0.7, lambda h: 1.0 / np.cosh(0.7 * h) ** 2)
OPTIONS = {"record_every": 2, "probe_every": 3, "joint_every": 4, "snapshots": (0, 3), "progress": False}


def twin(problem: Problem, network: Network, training: Training, width: int, name: str, k: int) -> dict[str, Array]:
    """Network k of seed 0 by plain numpy, at every step: its own draws, and Table 2 written by hand."""
    L, places = network.depth, [0, *[1] * (network.depth - 1), 2]
    stds = [s * table2.VARIANCES[name](width)[p] ** 0.5 for s, p in zip(network.scales, places, strict=True)]
    normals = table2.standard_normals(0, width, k, problem.inputs.shape[1], L)
    weights = [std * z for std, z in zip(stds, normals, strict=True)]
    scale = width if name in ("mup", "ip") else width**0.5
    return trajectory(problem, network, training, [*weights[:-1], weights[-1][0]], table2.RATES[name](width), scale)


@pytest.mark.parametrize("name", table2.NAMES)
@pytest.mark.parametrize("batches", [None, {"size": 2, "seed": 1}], ids=["full", "minibatch"])
def test_every_variable_equals_its_numpy_twin(name: str, batches: dict | None) -> None:
    """Oracle: `tests.oracles.dense`, which evaluates everything at every step; an activation of the user's.

    f_probe: the probes as further samples that are in no batch.
    """
    network, width = Network(3, OWN, (1.2, 1.1, 0.9, 1.3)), 11
    training = Training(6, lambda t: np.array([0.3, 0.2, 0.25, 0.4]) / (1 + t), reduction="mean", batches=batches)
    run = finite.train(PROBLEM, network, training, width, name, 3, **OPTIONS)
    index = [b.tolist() for b in training.batch_indices(5)]
    wider = Problem(np.vstack([PROBLEM.inputs, PROBLEM.probes]), np.append(PROBLEM.targets, [0.0, 0.0]))
    fixed = Training(6, training.learning_rate, reduction="mean", batches=index)
    steps = {"step": [0, 2, 4, 6], "joint_step": [0, 4, 6], "probe_step": [0, 3, 6], "snapshot_step": [0, 3]}
    assert {dim: run[dim].values.tolist() for dim in steps} == steps
    for k in range(3):
        exact = twin(PROBLEM, network, training, width, name, k)
        exact["f_probe"] = twin(wider, network, fixed, width, name, k)["f"][:, 5:]
        for variable in set(QUANTITIES) - {"chi", "loss", "batch", "targets"}:
            expected = exact[variable][steps[str(run[variable].dims[1])]]
            off = np.abs(run[variable].values[k] - expected).max()
            assert off <= ROUNDING * max(1.0, np.abs(expected).max()), variable
    f = run.f.values
    np.testing.assert_allclose(run.chi, (f - PROBLEM.targets) * 2 / 5, rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(run.loss, ((f - PROBLEM.targets) ** 2).mean(axis=-1), rtol=0, atol=ROUNDING)
    assert [np.flatnonzero(row).tolist() for row in run.batch.values] == [index[0], index[2], index[4], []]
    assert run.diverged_at.values.tolist() == [-1, -1, -1]


def both(network: Network, training: Training) -> tuple[xr.Dataset, xr.Dataset]:
    """A simulation and networks, both with everything that either can record."""
    limit = simulate(PROBLEM, network, training, 256, 3, **OPTIONS)
    return limit, finite.train(PROBLEM, network, training, 16, "mup", 3, **OPTIONS)


def test_the_schema_is_that_of_simulate() -> None:
    """Names, dimensions, coordinates and attributes, but for what belongs to particles or to networks alone."""
    limit, run = both(Network(2, "tanh"), Training(6, 0.2))
    names = ("rank", "residual", "dropped", "innovation", "increment")  # of the bases, which networks do not have
    own = {"guards"} | {f"{name}_{way}" for name in names for way in ("forward", "backward")}
    assert set(limit.data_vars) - own == set(run.data_vars) - {"diverged_at"}
    assert set(run.data_vars) == {*QUANTITIES, "probe_targets", "diverged_at"}
    for name in set(run.data_vars) - {"diverged_at"}:
        assert run[name].dims == limit[name].dims and run[name].dtype == limit[name].dtype, name
        assert run[name].attrs["long_name"]
    assert run.diverged_at.dims == ("replica",) and run.diverged_at.dtype == np.int64
    assert set(run.coords) == set(limit.coords) - {"guard"}
    for name in run.coords:
        np.testing.assert_array_equal(run[name], limit[name])
    assert set(limit.attrs) - set(run.attrs) == {"particles"}
    assert set(run.attrs) - set(limit.attrs) == {"width", "parametrization", "dtype", "conventions"}
    ours, theirs = json.loads(run.attrs["config"]), json.loads(limit.attrs["config"])
    assert all(ours[key] == theirs[key] for key in ("problem", "network", "training"))
    row = {"name": "mup", "init": [0.0, 0.5, 1.0], "rate": [-1.0, 0.0, 1.0]}
    assert ours["finite"] == {"width": 16, "parametrization": row, "dtype": "float64", "seed": 0}
    assert "torch" in json.loads(run.attrs["versions"]) and run.attrs["notices"] == ""
    assert run.attrs["title"] == "tpsim: muP networks of finite width 16"
    assert "1 / n^2" in run.attrs["conventions"] and "n = 16" in run.attrs["conventions"]


def test_everything_that_reads_a_run_reads_networks(tmp_path: Path) -> None:
    """Files, means and errors, the table, and every picture but those of ranks and residuals."""
    limit, run = both(Network(2, "tanh"), Training(6, 0.2))
    xr.testing.assert_identical(load(save(run, tmp_path / "run.nc")), run)
    assert set(summary(run).data_vars) >= {"f", "kernel_h", "feature_change_x"}
    assert np.isfinite(standard_error(run["f"])).all()
    text, full = table(summarise(run)), table(summarise(limit))
    assert [line[:20] for line in text.splitlines()] == [line[:20] for line in full.splitlines()]  # the same rows
    assert "ranks" in full and "ranks" not in text and "change of x" in text
    plot.save_all(run, tmp_path / "plots")
    drawn = {path.stem for path in (tmp_path / "plots").glob("*.png")}
    assert drawn == {name for name, picture in PICTURES.items() if set(picture.needs) <= set(run.data_vars)}
    assert {"ranks", "residuals"} == {*plot.missing(run)} - {*plot.missing(limit)}


@pytest.mark.parametrize("kept", [(), ("kernel_x",), ("feature_change_h", "f_probe"), ["Z_dh", "kernel_h0"]])
def test_only_what_is_asked_for_is_kept(kept: list[str]) -> None:
    """And it is what it would be with everything else."""
    training = Training(4, 0.2, batches={"size": 2})
    full, run = (
        finite.train(PROBLEM, Network(2), training, 8, seeds=2, quantities=names, **OPTIONS) for names in (None, kept)
    )
    assert set(run.data_vars) == {*ALWAYS, *kept, "probe_targets", "diverged_at"}
    for name in run.data_vars:
        np.testing.assert_allclose(run[name], full[name], rtol=0, atol=ROUNDING)
    assert ("change of h" in table(summarise(run))) == ("feature_change_h" in kept)


DIVERGING = (Network(2, "identity"), Training(40, 0.6, reduction="mean"), 5)  # and the width: some do, some do not


@pytest.mark.parametrize("block", [1, 30])
def test_networks_that_diverge_are_recorded_and_masked(block: int) -> None:
    """Oracle: the numpy twin of each: the first step with |f| > 10^6 max(1, |y|). The others go on as if alone."""
    network, training, width = DIVERGING
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = finite.train(PROBLEM, network, training, width, seeds=30, batch_seeds=block, snapshots=[40])
    expected = []
    for k in range(30):
        with np.errstate(all="ignore"):
            f = twin(PROBLEM, network, training, width, "mup", k)["f"]
        large = ~(np.abs(f) <= 1e6).all(axis=1)
        expected.append(int(np.argmax(large)) if large.any() else -1)
        seen = slice(0, None if expected[-1] < 0 else expected[-1])
        np.testing.assert_allclose(run.f[k, seen], f[seen], rtol=1e-6, atol=1e-6)  # chaos before the end
    assert run.diverged_at.values.tolist() == expected
    count = sum(step >= 0 for step in expected)
    assert 3 <= count <= 27
    for name in ("f", "chi", "loss", "kernel_h", "kernel_dh", "kernel_x0", "mean_x", "feature_change_h", "f_probe"):
        for k, step in enumerate(expected):
            values = run[name].values[k]
            assert np.isfinite(values[: None if step < 0 else step]).all(), name
            assert step < 0 or np.isnan(values[step:]).all(), name
    assert np.isnan(run.Z_h[:, 0, 0, 0, 0]).values.tolist() == [step >= 0 for step in expected]
    assert [w.category for w in caught] == [Notice]
    first, last = min(s for s in expected if s >= 0), max(expected)
    assert str(caught[0].message) == f"{count} of 30 networks diverged, at steps {first} to {last}; NaN from there on"
    assert run.attrs["notices"] == str(caught[0].message)
    assert "undefined" in table(summarise(run)) and np.isnan(standard_error(run["loss"])[-1])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_overflow_in_a_function_of_the_users_is_no_error(dtype: str) -> None:
    """h^3 overflows within a step or two, in numpy as in torch; nothing is raised, warned of or finite."""
    cube = (lambda h: h**3, lambda h: 3 * h**2)
    with pytest.warns(Notice, match="4 of 4 networks diverged") as caught:
        run = finite.train(PROBLEM, Network(3, cube, 30.0), Training(5, 5.0), 8, seeds=4, dtype=dtype)
    assert len(caught) == 1 and not np.isfinite(run.f[:, -1]).any()


@pytest.mark.parametrize("size", [1e76, 1e155, 1e300])
def test_a_loss_that_overflows_is_divergence(size: float) -> None:
    """As in the limit: f is as good as zero beside such targets, and nothing infinite is recorded."""
    problem = Problem(PROBLEM.inputs, size * PROBLEM.targets)
    with pytest.warns(Notice, match="2 of 2 networks diverged, at step 0; NaN from there on"):
        run = finite.train(problem, Network(2), Training(3, 0.1), 8, seeds=2)
    assert run.diverged_at.values.tolist() == [0, 0] and np.isnan(run.loss).all() and np.isnan(run.chi).all()


def test_work_on_a_block_stops_when_all_its_networks_have_diverged(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("finite.run.update", lambda *arguments: calls.append(1) or finite.dense.update(*arguments))
    with pytest.warns(Notice, match="2 of 2"):
        run = finite.train(Problem(PROBLEM.inputs, PROBLEM.targets), *DIVERGING[:1], Training(1000, 9.0), 6, seeds=2)
    assert len(calls) == run.diverged_at.max() < 100


def test_ratios_of_nothing_are_undefined() -> None:
    """Hidden matrices that start at zero: no h^2_0 to compare with; a NaN and a notice, as in `simulate`."""
    network = Network(2, "tanh", (1.0, 0.0, 1.0))
    with pytest.warns(Notice) as caught:
        limit, run = both(network, Training(4, 0.2))
    ours = [str(w.message) for w in caught if "feature_change" in str(w.message)]
    assert run.attrs["notices"] == "undefined ratios (zero denominators) are NaN in: feature_change_h, feature_change_x"
    assert len(ours) == 2
    np.testing.assert_array_equal(np.isnan(run.feature_change_h), np.isnan(limit.feature_change_h))
    assert run.feature_change_x.sel(layer=1)[:, -1].min() > 0


def test_a_callable_hears_of_every_step_of_every_network() -> None:
    heard = []
    run = finite.train(
        PROBLEM, Network(2), Training(3, 0.1), 8, seeds=3, batch_seeds=2, progress=lambda *report: heard.append(report)
    )
    expected = [(step, k, run.loss.values[k, step]) for k in range(3) for step in range(4)]
    assert [report[:2] for report in sorted(heard)] == [report[:2] for report in sorted(expected)]
    np.testing.assert_allclose([r[2] for r in sorted(heard)], [r[2] for r in sorted(expected)], rtol=1e-14)


BAD = {
    "width": [0, 2.0, True, "64"],
    "seeds": [0, -1, 1.5],
    "seed": [-1, 0.5],
    "first_seed": [-1],
    "batch_seeds": [0],
    "parametrization": ["mu", 3, None],
    "dtype": ["float16", np.float64],
    "quantities": [("g",), "f", 3, ("rank_forward",)],
    "record_every": [0],
    "probe_every": [0],
    "joint_every": [0],
    "snapshots": [(2,), (-1,), "0", 1],
    "problem": [None],
    "network": ["tanh"],
    "training": [3],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in BAD.items() for value in values])
def test_bad_arguments_are_named(field: str, value: object) -> None:
    arguments = {"problem": PROBLEM, "network": Network(2), "training": Training(1), "width": 4, "seeds": 2}
    with pytest.raises(InputError, match=f"^{field}: got "):
        finite.train(**arguments | {field: value})


def test_targets_of_the_logistic_loss_are_checked() -> None:
    with pytest.raises(InputError, match="targets"):
        finite.train(Problem([[1.0]], [0.5]), Network(1), Training(1, loss="logistic"), 4)


@pytest.mark.parametrize("options", [{"width": 10**6}, {"seeds": 10**9}, {"training": Training(10**12)}])
def test_what_cannot_fit_is_refused_before_anything_is_drawn(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: L = 2 matrices of 10^12 entries; 8 bytes a number; and no list of 10^12 steps is made."""
    monkeypatch.setattr("finite.run.draw", None)
    arguments = {"problem": PROBLEM, "network": Network(2), "training": Training(1), "width": 4} | options
    with pytest.raises(ResourceError, match="bytes") as caught:
        finite.train(**arguments)
    if "width" in options:
        needed = int(str(caught.value).split(": ")[1].split(" bytes")[0])
        assert 8e12 < needed < 8.01e12
