"""Configuration files. Oracles: tomllib, the signatures of the Python interface, the values written in each test."""

import dataclasses
import inspect
import tomllib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from finite import MUP
from tpsim import FileError, InputError, Network, Training, simulate
from tpsim.config import (
    DEMO,
    TABLES,
    NetworkTable,
    SimulationTable,
    StepSchedule,
    TrainingTable,
    read,
    to_toml,
    validate,
)
from tpsim.conventions import conventions, power
from tpsim.job import OPTIONS

number = st.one_of(st.integers(-(2**62), 2**62), st.floats(allow_nan=False))
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
value = st.recursive(
    st.one_of(number, st.booleans(), text),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
    max_leaves=6,
)
per_layer = st.one_of(number, st.lists(number, max_size=3))
tables = st.fixed_dictionaries(
    {"data": st.dictionaries(text, value, max_size=4)},
    optional={
        "network": st.fixed_dictionaries(
            {}, optional={"depth": st.integers(), "activation": text, "init_scale": per_layer}
        ),
        "training": st.fixed_dictionaries(
            {},
            optional={
                "learning_rate": st.one_of(per_layer, st.dictionaries(text, per_layer, max_size=3)),
                "reduction": st.sampled_from(["sum", "mean"]),
                "batches": st.lists(st.lists(st.integers(), max_size=3), max_size=3),
            },
        ),
        "simulation": st.fixed_dictionaries(
            {}, optional={"sobol": st.booleans(), "tolerance": number, "snapshots": st.lists(st.integers(), max_size=3)}
        ),
    },
)


@given(tables)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_what_is_written_is_read_back(raw):
    config = validate(raw)
    assert validate(tomllib.loads(to_toml(config, ["a comment\nof two lines"]))) == config


@pytest.mark.parametrize(
    ("table", "function", "elsewhere"),
    [
        (NetworkTable, Network, set()),
        (TrainingTable, Training, set()),
        (SimulationTable, simulate, {"problem", "network", "training", "progress", *OPTIONS}),
    ],
)
def test_keys_and_defaults_are_those_of_python(table, function, elsewhere):
    expected = {n: p.default for n, p in inspect.signature(function).parameters.items() if n not in elsewhere}
    defaults = dataclasses.asdict(table())
    assert set(defaults) == set(expected)
    assert defaults.pop("workers", None) is None and expected.pop("workers", 1) == 1  # files default to all cores
    assert {n: v if v != [] else () for n, v in defaults.items()} == expected


def test_the_demo_is_the_default_with_overrides_on_top(tmp_path):
    path = tmp_path / "demo.toml"
    path.write_text(DEMO)
    assert read() == read(path)
    changed = read(None, ["training.steps=7", "network.activation=tanh", "network.init_scale = [1, 2.5, 1, 1]"])
    assert (changed.training.steps, changed.network.activation) == (7, "tanh")
    assert changed.network.init_scale == [1, 2.5, 1, 1]
    assert changed.training.learning_rate == read().training.learning_rate == 0.1
    batches = read(None, ["training.batches.size=4", "training.batches.seed=1"]).training.batches
    assert batches == {"size": 4, "seed": 1}
    assert read(None, ["data.target=a = b"]).data["target"] == "a = b"


def test_paths_start_at_the_file_and_in_overrides_at_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    path = tmp_path / "there.toml"
    path.write_text('[data]\nsource = "csv"\npath = "x.csv"\nprobes = "/p.csv"')
    monkeypatch.chdir(tmp_path / "here")
    assert read(path).data == {"source": "csv", "path": str(tmp_path / "x.csv"), "probes": "/p.csv"}
    assert read(path, ["data.path=y.csv"]).data["path"] == str(tmp_path / "here" / "y.csv")
    assert read(path, ["data.path=~/y.csv"]).data["path"] == "~/y.csv"
    assert read(None, ["data.probes=5"]).data["probes"] == 5


@pytest.mark.parametrize(
    ("override", "field", "allowed"),
    [
        ("network.dept=3", "network.dept", "depth, activation, init_scale"),
        ("netwrok.depth=3", "netwrok", "data, network, training, simulation"),
        ("network=3", "--set", "section.key=value"),
        ("network.depth", "--set", "section.key=value"),
        ("network..depth=3", "--set", "section.key=value"),
        ("network.depth.x=3", "--set", "depth is a value"),
        ("network.depth=3.0", "network.depth", "an integer >= 1"),
        ("network.depth=true", "network.depth", "an integer >= 1"),
        ("network.init_scale=[1, 'a']", "network.init_scale", "L+1"),
        ("training.learning_rate=fast", "training.learning_rate", "first step"),
        ("training.reduction=average", "training.reduction", '"sum" or "mean"'),
        ("training.batches=3", "training.batches", "size"),
        ("simulation.noise=white", "simulation.noise", '"matched", "iid" or "width"'),
        ("simulation.sobol=1", "simulation.sobol", "true or false"),
        ("simulation.snapshots=3", "simulation.snapshots", "a list of steps"),
    ],
)
def test_errors_name_the_key_and_what_is_allowed(override, field, allowed):
    with pytest.raises(InputError) as caught:
        read(None, [override])
    assert caught.value.field == field and allowed in caught.value.allowed


@pytest.mark.parametrize("section", TABLES)
def test_a_section_must_be_a_table(section):
    with pytest.raises(InputError, match=f"{section}: got 3; allowed: a table"):
        validate({"data": {}, section: 3})


def test_data_must_be_there():
    with pytest.raises(InputError, match="data: got <nothing>; allowed: .*source"):
        validate({})


@pytest.mark.parametrize(
    "content", [b"[data", b"\xff\xfe", b"a = 1\na = 2", b"a = " + b"[" * 10_000, b"a = " + b"9" * 5000], ids=range(5)
)
def test_a_file_that_is_not_toml(tmp_path, content):
    (tmp_path / "x.toml").write_bytes(content)
    with pytest.raises(FileError, match="x.toml: not a TOML file"):
        read(tmp_path / "x.toml")


def test_a_file_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "missing.toml", tmp_path):
        with pytest.raises(FileError, match="cannot be read"):
            read(path)


def test_a_schedule_changes_at_its_steps():
    schedule = StepSchedule.of({"100": 0.2, "0": [1, 2], "7": 0.5})
    assert [schedule(step) for step in (0, 6, 7, 99, 100, 10**6)] == [[1, 2], [1, 2], 0.5, 0.5, 0.2, 0.2]


@pytest.mark.parametrize(
    "table", [{}, {"1": 0.1}, {"0": 1, "x": 1}, {"0": 1, "-1": 1}, {"0": 1, "1.5": 1}, {"0": 1, "²": 1}]
)
def test_a_schedule_needs_step_numbers_from_0(table):
    with pytest.raises(InputError, match="learning_rate"):
        StepSchedule.of(table)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_conventions_are_those_of_the_dense_networks(depth):
    """Oracle: the parametrization of finite/, at a width that no formula simplifies at."""
    n, scales = 37, [0.5 + l for l in range(depth + 1)]
    rows = conventions(Network(depth, init_scale=scales), Training(3, lambda step: 0.3 + step))
    variance = np.array([row.variance * float(n) ** row.variance_power for row in rows])
    assert_allclose(variance, MUP.init_std(np.array(scales), n) ** 2, rtol=1e-15)
    for step, rate in ((0, "rate"), (2, "last_rate")):
        rates = np.array([getattr(row, rate) * float(n) ** row.rate_power for row in rows])
        assert_allclose(rates, MUP.rates(np.full(depth + 1, 0.3 + step), n), rtol=1e-15)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((2.0000000000000004, -2), "2 / n^2"),
        ((0.1, 1), "0.1 n"),
        ((3, 0), "3"),
        ((1e-7, -1), "1e-07 / n"),
        ((0, 0), "0"),
    ],
)
def test_powers_are_written_as_people_do(arguments, expected):
    assert power(*arguments) == expected
