"""The study behind `tpsim converge`. Oracles: its numbers recomputed from what it kept, exact laws, wrong limits.

One small study is shared: L=2 tanh, three samples, four steps, dense networks of width 16 to 64, others at 32 to 256.
"""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from xarray.testing import assert_equal, assert_identical

import tpsim
from tests.oracles.levels import ALPHA, critical, detectable, spend
from tests.oracles.problems import problem_of
from tpsim import InputError, Network, ResourceError, Training, simulate
from tpsim.cli import main
from tpsim.config import read, to_toml
from validation.converge import Study, crew, report, study
from validation.converge.files import flatten, with_agreement
from validation.converge.measure import agreement, compare
from validation.converge.networks import Block, run
from validation.converge.quantities import controls, quantities

Array = np.ndarray

PROBLEM, NETWORK = problem_of(3, probes=2), Network(2, "tanh", 1.2)
TRAINING = Training(4, 0.5, reduction="mean")
SIZES = dict(
    widths=(16, 32, 64), matrix_free=(32, 128, 256), seeds={0: 64, 64: 48, 128: 24}, particles=2048, replicas=6,
    coordinate_seeds=6, fit_from=16, seed=3, progress=False,
)  # fmt: skip
LIGHT = ("f", "loss")


@pytest.fixture(scope="module")
def small() -> Study:
    return study(PROBLEM, NETWORK, TRAINING, **SIZES)


def rms(array: Array) -> float:
    return float(np.sqrt(np.mean(np.square(array))))


# What is measured


def test_schema(small: Study) -> None:
    """Oracle: the documentation of `Study`: names, dimensions and order."""
    assert list(small.networks) == [16, 32, 64, 128, 256]
    assert [run.attrs["dense"] for run in small.networks.values()] == [1, 1, 1, 0, 0]
    assert [run.sizes["replica"] for run in small.networks.values()] == [64, 64, 48, 24, 24]
    names = ["f", "loss"]
    for kind in ("kernel_", "feature change ", "smallest eigenvalue "):
        names += [f"{kind}{field}, layer {l}" for field in "hx" for l in (1, 2)]
    assert small.rates["quantity"].values.tolist() == names
    for name, dims in {
        "scale": ("quantity",), "limit_se": ("quantity",), "width_within": ("quantity",), "seeds": ("width",),
        "dense": ("width",), "diverged": ("width",), "bias_resolved": ("quantity", "width"),
        **{f"{k}{e}": ("quantity", "width") for k in ("spread", "bias", "error") for e in ("", "_se")},
        **{f"{k}_slope": ("quantity", "bound") for k in ("spread", "bias")},
        **{f"{k}{e}": ("width", "layer") for k in ("w1", "ks") for e in ("", "_se", "_iid")},
    }.items():  # fmt: skip
        assert small.rates[name].dims == dims, name
    assert small.coordinate["size_h"].dims == ("parametrization", "width", "layer")
    assert small.coordinate["limit_change_x"].dims == ("parametrization", "layer")
    assert small.agreement["width"].values.tolist() == [32]
    assert small.skipped == []
    assert "f_probe" not in small.limit  # probes are left aside


def test_numbers_of_the_table_by_hand(small: Study) -> None:
    """Oracle: the formulas, from the flat dataset that is written."""
    flat, limit = flatten(small.networks), small.limit
    for name, pick in {
        "f": lambda run: run["f"],
        "loss": lambda run: run["loss"],
        "kernel_x, layer 2": lambda run: run["kernel_x"].sel(layer=2),
        "feature change h, layer 1": lambda run: run["feature_change_h"].sel(layer=1),
    }.items():
        reference = pick(limit).mean("replica").values
        row = small.rates.sel(quantity=name)
        assert_allclose(row["scale"], rms(reference), rtol=1e-12)
        se = pick(limit).std("replica", ddof=1).values / np.sqrt(6)
        assert_allclose(row["limit_se"], rms(se), rtol=1e-12)
        for n in small.networks:
            values = pick(flat.isel(network=flat["width"].values == n)).values.astype(float)
            one = row.sel(width=n)
            assert len(values) == one["seeds"]
            assert_allclose(one["spread"], rms(values.std(axis=0, ddof=1)), rtol=1e-12)
            assert_allclose(one["error"], rms(values - reference), rtol=1e-12)
        within = row["width"].values[(row["error"] <= 0.05 * row["scale"]).values[::-1].cumprod()[::-1].astype(bool)]
        assert_allclose(row["width_within"], within[0] if len(within) else np.nan)


def test_smallest_eigenvalues_are_those_of_the_kernels(small: Study) -> None:
    """Oracle: numpy, on the kernels in single precision."""
    for one in small.networks.values():
        exact = np.linalg.eigvalsh(one["kernel_x"].values.astype(float))[..., 0]
        assert_allclose(one["smallest_eigenvalue_x"], exact, atol=1e-6)
        assert_allclose(quantities(one)["smallest eigenvalue x, layer 2"], one["smallest_eigenvalue_x"].sel(layer=2))


def test_bias_uses_what_has_a_known_mean(small: Study) -> None:
    """Oracle: regression by numpy, for the bias of f at width 16 with 64 // 16 = 4 control variates."""
    one = small.networks[16]
    z = (controls(one) - controls(small.limit).mean(axis=0))[:, :4]
    f, limit = one["f"].values.reshape(64, -1), small.limit["f"].values.reshape(6, -1)
    design = np.column_stack([np.ones(64), z])
    coefficients, left = np.linalg.lstsq(design, f, rcond=None)[:2]
    se = left / (64 - 5) / 64
    square = (coefficients[0] - limit.mean(axis=0)) ** 2 - se - limit.var(axis=0, ddof=1) / 6
    found = small.rates["bias"].sel(quantity="f", width=16)
    assert_allclose(found, np.sqrt(max(square.mean(), 0.0)), rtol=1e-9)
    # the means are the known ones
    assert (np.abs(z.mean(axis=0)) < critical(4, 63) * z.std(axis=0, ddof=1) / 8).all()
    spend(ALPHA)


def test_spread_falls_like_the_root_of_the_width(small: Study) -> None:
    """Oracle: theory, n^-1/2, at the level of `levels.critical`; the limit is among the networks."""
    for name in ("f", "loss", "kernel_h, layer 1", "kernel_x, layer 2"):
        estimate, low, high = small.rates["spread_slope"].sel(quantity=name).values
        error = (high - low) / 2 / 1.96
        assert abs(estimate + 0.5) < critical(4) * error
        assert high - low < 0.6
    print(f"slope of the spread: minimum detectable effect {detectable(4) * error:.2g}")
    spend(ALPHA)


def test_distances_approach_the_limit(small: Study) -> None:
    """Oracle: entries of layer 1 at t=0 are independent draws of Z, so that distances are near those of such draws."""
    for name in ("w1", "ks"):
        value, error, floor = (small.rates[f"{name}{e}"].sel(layer=1).values for e in ("", "_se", "_iid"))
        assert (np.diff(value) < 0).all() and (error < 0.2 * value).all()
        assert (np.abs(np.log(value / floor)) < 0.5).all()


# Both kinds of networks


def test_both_kinds_agree(small: Study) -> None:
    """Oracle: they have the same law (`test_width.py`): means by the test of `bias`, spreads by standard errors.

    Spreads of f, the loss and the kernels: with 64 seeds the errors of heavier tails are not known well enough.
    """
    found = small.agreement.sel(width=32)
    assert float(found["p"].min()) > ALPHA / found.sizes["quantity"]
    light = found.sel(
        quantity=[
            str(name) for name in found["quantity"].values if str(name) in LIGHT or str(name).startswith("kernel")
        ]
    )
    most, seen = critical(light.sizes["quantity"]), detectable(light.sizes["quantity"])
    assert (np.abs(np.log(light["spread_ratio"])) < most * light["spread_ratio_se"] / light["spread_ratio"]).all()
    print(f"ratio of spreads: minimum detectable effect {seen * float(found['spread_ratio_se'].sel(quantity='f')):.2g}")
    spend(2 * ALPHA)


def test_networks_of_another_width_do_not_agree(small: Study) -> None:
    """Negative control: width 16 against 256: spreads of f differ by 4, and means of smallest eigenvalues."""
    found = agreement({16: (small.networks[16], small.networks[256])}).sel(width=16)
    ratio, error = (float(found[name].sel(quantity="f")) for name in ("spread_ratio", "spread_ratio_se"))
    assert abs(ratio - 4) < 5 * error < 3
    assert float(found["p"].min()) < 1e-6


def test_seeds_do_not_depend_on_the_processes(small: Study) -> None:
    """Oracle: bit-identical results with two processes, and other ones with another seed."""
    sizes = SIZES | {"widths": (16,), "matrix_free": (32,), "seeds": 12, "coordinate_seeds": 2, "limit": small.limit}
    one, two = (study(PROBLEM, NETWORK, TRAINING, **sizes, workers=workers) for workers in (1, 2))
    for n, networks in one.networks.items():
        assert_identical(networks, two.networks[n])
    assert_identical(one.rates, two.rates)
    assert_identical(one.coordinate, two.coordinate)
    other = study(PROBLEM, NETWORK, TRAINING, **sizes | {"seed": 4, "widths": ()})
    assert (other.networks[32]["f"] != one.networks[32]["f"]).all()


# The coordinate check


def test_coordinates_of_the_limits(small: Study) -> None:
    """Oracles: E (Z^{h^l_0})^2 = s_l^2 ... in SP and NTP, whose features stay; IP's second layer starts at zero."""
    limit = small.coordinate
    h1 = 1.2 * rms(np.linalg.norm(PROBLEM.inputs, axis=1))
    for name in ("sp", "ntp"):
        one = limit.sel(parametrization=name)
        assert_allclose(one["limit_size_h"].sel(layer=1), h1, rtol=1e-6)
        assert_allclose(one["limit_change_h"], 0.0, atol=1e-7)
    ip = limit.sel(parametrization="ip", layer=2)
    assert_allclose(ip["limit_size_h"], ip["limit_change_h"], rtol=1e-12)
    mup = small.limit
    final = mup["kernel_h"].isel(step=-1).sel(layer=2).mean("replica").values
    assert_allclose(limit["limit_size_h"].sel(parametrization="mup", layer=2), np.sqrt(np.trace(final) / 3), rtol=1e-3)


def test_networks_meet_their_limits(small: Study) -> None:
    """Oracle: the limit, at width 256 within the critical value and a bias of 10 / n; features of NTP and SP freeze."""
    wide = small.coordinate.sel(width=256)
    most = critical(16, 5)  # sizes, changes; limits; layers: 6 networks each
    for size in ("size_h", "change_h", "size_x", "change_x"):
        for name in ("ip", "mup"):
            one = wide.sel(parametrization=name)
            off = np.abs(one[size] - one[f"limit_{size}"])
            assert (off < most * one[f"{size}_se"] + 10 / 256 * one[f"limit_{size}"]).all(), (size, name)
        for name in ("sp", "ntp"):
            one = small.coordinate[size].sel(parametrization=name)
            if size.startswith("change"):
                assert (one.sel(width=256) < 0.6 * one.sel(width=16)).all()
    spend(ALPHA)


# Wrong limits, and networks that diverge


def test_wrong_limit_is_noticed(small: Study) -> None:
    """Negative control: with a learning rate 10% off, the bias of f is resolved at every width and does not fall."""
    faster = replace(TRAINING, learning_rate=0.55)
    plain = replace(PROBLEM, probes=None)
    wrong = simulate(plain, NETWORK, faster, 2048, 6, joint_every=4, snapshots=(0, 4), progress=False)
    found = compare(wrong, small.networks, tolerance=0.05, fit_from=16).sel(quantity="f")
    right = small.rates.sel(quantity="f")
    assert found["bias_resolved"].sel(width=[64, 128, 256]).all()
    assert (right["bias"].sel(width=[128, 256]) < 0.5 * found["bias"].sel(width=[128, 256])).all()
    assert float(found["bias_slope"].sel(bound="high")) > -0.5
    off = rms((wrong["f"].mean("replica") - small.limit["f"].mean("replica")).values)
    wide = found.sel(width=256)
    assert abs(float(wide["bias"]) - off) < 4 * float(wide["bias_se"]) + 10 / 256 * off
    print(f"bias of f at width 256: minimum detectable effect {3.3 * float(right['bias_se'].sel(width=256)):.2g}")


def test_diverged_networks_are_counted_and_left_out(small: Study) -> None:
    """Oracle: the study without them."""
    networks = {n: one.copy(deep=True) for n, one in small.networks.items()}
    networks[32]["f"][5, 2:] = np.nan
    found = compare(small.limit, networks, 0.05, 16)
    others = {n: one.isel(replica=np.delete(np.arange(64), 5)) if n == 32 else one for n, one in small.networks.items()}
    exact = compare(small.limit, others, 0.05, 16)
    assert found["diverged"].values.tolist() == [0, 1, 0, 0, 0]
    assert_equal(found.drop_vars(("seeds", "diverged")), exact.drop_vars(("seeds", "diverged")))
    networks[32]["f"][:] = np.nan
    found = compare(small.limit, networks, 0.05, 16)
    assert found["spread"].sel(width=32).isnull().all() and not found["bias_resolved"].sel(width=32).any()


@pytest.mark.parametrize("dense", [True, False])
def test_a_block_that_diverges(dense: bool) -> None:
    """Oracle: NaN in all variables and the shapes of a block that does not."""
    plain = replace(PROBLEM, probes=None)
    block = Block(plain, Network(2, "relu"), Training(6, 1e4), 16, dense, range(2), entries=3)
    fine = run(replace(block, training=Training(6, 1e-3)))
    found = run(block)
    assert found.sizes == fine.sizes and list(found.data_vars) == list(fine.data_vars)
    assert all(found[name].isnull().all() for name in found.data_vars)
    assert all(fine[name].notnull().all() for name in fine.data_vars)


# What does not fit


def test_widths_that_take_too_long_are_named() -> None:
    """Oracle: without any time only the first width of each kind is run, for which nothing was measured yet."""
    plan = SIZES | {"widths": (16, 32), "matrix_free": (64, 128), "seeds": 4, "minutes": 1e-9, "coordinate_seeds": 1}
    found = study(PROBLEM, NETWORK, TRAINING, **plan)
    assert list(found.networks) == [16, 64]
    assert [n for n, _ in found.skipped] == [32, 128]
    assert all("would take about" in reason and "minutes=1e-09" in reason for _, reason in found.skipped)
    assert "left out: n = 32: dense networks: would take" in report.text(found)
    assert np.isnan(found.rates["bias_slope"]).all()


def test_widths_that_do_not_fit_into_memory_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a machine with 2 MB; and an error where nothing fits."""
    monkeypatch.setattr(crew, "available_bytes", lambda: 2_000_000)
    plan = SIZES | {"widths": (16,), "matrix_free": (32, 2**20), "seeds": 4, "coordinate_seeds": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crew, "run", _never_wide)
        found = study(PROBLEM, NETWORK, TRAINING, **plan)
    ((width, reason),) = found.skipped
    assert width == 2**20 and reason.startswith("networks without matrices: ") and "GiB are free" in reason
    monkeypatch.setattr(crew, "available_bytes", lambda: 1000)
    with pytest.raises(ResourceError, match="no width fits: 16: dense networks: "):
        study(PROBLEM, NETWORK, TRAINING, **plan)


def _never_wide(block: Block) -> xr.Dataset:
    assert block.width < 1000
    return run(block)


@pytest.mark.parametrize(("bad", "field"), [
    ({"seeds": 2}, "seeds"), ({"seeds": {32: 8}}, "seeds"), ({"widths": (1,)}, "widths"), ({"minutes": 0}, "minutes"),
    ({"tolerance": float("nan")}, "tolerance"), ({"dtype": "half"}, "dtype"), ({"replicas": 2}, "replicas"),
    ({"widths": (), "matrix_free": ()}, "widths"), ({"fit_from": "64"}, "fit_from"), ({"workers": 0}, "workers"),
    ({"record_every": 0}, "record_every"), ({"coordinate_seeds": 0}, "coordinate_seeds"),
])  # fmt: skip
def test_bad_arguments(bad: dict, field: str) -> None:
    """Oracle: the error names the argument, before anything is run."""
    with pytest.raises(InputError) as caught:
        study(PROBLEM, NETWORK, TRAINING, **SIZES | bad)
    assert caught.value.field == field


def test_a_limit_of_another_run_is_refused(small: Study) -> None:
    """Oracle: the recorded steps and the samples must be those of the networks."""
    plain = replace(PROBLEM, probes=None)
    for training, problem, snapshots in (
        (Training(3, 0.5), plain, (0, 3)), (TRAINING, problem_of(2), (0, 4)), (TRAINING, plain, ()),
    ):  # fmt: skip
        other = simulate(problem, NETWORK, training, 256, 3, snapshots=snapshots, progress=False)
        with pytest.raises(InputError, match="limit"):
            study(PROBLEM, NETWORK, TRAINING, **SIZES, limit=other)


# The command


CONFIG = """
[data]
source = "digits"
count = 2
probes = 2

[network]
depth = 2
activation = "tanh"

[training]
steps = 2
learning_rate = 0.3

[simulation]
particles = 256
replicas = 4
workers = 1
seed = 5

[converge]
widths = [8, 16, 32]
matrix_free = [16, 64]
seeds = { 8 = 20, 32 = 8 }
fit_from = 8
coordinate_seeds = 2
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The folder of one command, and what it printed."""
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("converge")
    (folder / "config.toml").write_text(CONFIG)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["converge", str(folder / "config.toml"), "--output", str(folder / "out")]) == 0
    yield folder / "out", out.getvalue()


def test_files_of_the_command(written: tuple[Path, str]) -> None:
    """Oracle: the same study from Python; every netCDF file is read by `tpsim.load`."""
    folder, _ = written
    summary = json.loads((folder / "summary.json").read_text())
    assert sorted(summary["files"]) == sorted(path.name for path in folder.iterdir())
    config = read(folder / "config.toml")
    assert config.converge == read(folder.parent / "config.toml").converge
    problem = tpsim.data.load("digits", count=2, probes=0)
    again = study(
        problem, Network(2, "tanh"), Training(2, 0.3), widths=(8, 16, 32), matrix_free=(16, 64),
        seeds={8: 20, 32: 8}, fit_from=8, coordinate_seeds=2, particles=256, replicas=4, seed=5, progress=False,
    )  # fmt: skip
    loaded = {name: tpsim.load(folder / f"{name}.nc") for name in ("limit", "networks", "rates", "coordinate")}
    assert_equal(loaded["networks"], flatten(again.networks))
    assert_equal(loaded["rates"], with_agreement(again))
    assert_equal(loaded["coordinate"], again.coordinate)
    assert_equal(loaded["limit"]["f"], again.limit["f"])
    for row, exact in zip(summary["table"], report.rows(again.rates), strict=True):
        assert row == exact
    assert [(one["width"], one["seeds"]) for one in summary["networks"]] == [(8, 20), (16, 20), (32, 8), (64, 8)]
    assert {one["width"] for one in summary["agreement"]} == {16}


def test_table_of_the_command(written: tuple[Path, str]) -> None:
    """Oracle: rates.nc, number by number; what is printed has a line for every row, width and convention."""
    folder, text = written
    rates = tpsim.load(folder / "rates.nc")
    with (folder / "table.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["quantity"] for row in table] == rates["quantity"].values.tolist()
    for row in table:
        one = rates.sel(quantity=row["quantity"])
        assert float(row["scale"]) == float(one["scale"])
        for kind in ("spread_slope", "bias_slope"):
            for bound, name in (("estimate", kind), ("low", f"{kind}_low"), ("high", f"{kind}_high")):
                exact = float(one[kind].sel(bound=bound))
                assert row[name] == "" if np.isnan(exact) else float(row[name]) == exact
        assert f"\n  {row['quantity']} " in text
    for line in ("muP: maximal update", "SP: standard", "NTP: neural tangent", "IP: integrable", "n = 8 ", "n = 64 "):
        assert line in text
    assert "W^2   n x n   1 / n^2" in text and "not resolved" in text
    assert max(map(len, text.splitlines()[:-1])) <= 120


def test_a_folder_is_not_overwritten_unasked(written: tuple[Path, str], capsys: pytest.CaptureFixture) -> None:
    """Oracle: one line on stderr and exit code 2, before anything is run."""
    folder, _ = written
    assert main(["converge", "--output", str(folder)]) == 2
    assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize(("override", "message"), [
    ("simulation.limit=ntp", "simulation.limit: got 'ntp'"),
    ("simulation.noise=width", "simulation.noise: got 'width'"),
    ("simulation.replicas=2", "simulation.replicas: got 2"),
    ("converge.seeds=1", "converge.seeds: got 1"),
    ("converge.seeds={ a = 8 }", "converge.seeds: got {'a': 8}"),
    ("converge.widths=[0]", "converge.widths: got 0"),
    ("converge.tolerance=-1", "converge.tolerance: got -1"),
    ("converge.width=[16]", "converge.width: got [16]; allowed: keys widths"),
    ("converge.dtype=half", "converge.dtype: got 'half'"),
])  # fmt: skip
def test_bad_configurations(
    override: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Oracle: one line that names section and key, exit code 2, nothing written."""
    monkeypatch.chdir(tmp_path)
    assert main(["converge", "--quiet", "--set", override]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """Oracle: one line that says what to install."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else find(name, *rest))
    monkeypatch.chdir(tmp_path)
    assert main(["converge"]) == 2
    assert "pip install 'tpsim[finite]'" in capsys.readouterr().err


def test_limit_that_diverges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """Oracle: exit code 3, one line, nothing written."""
    monkeypatch.chdir(tmp_path)
    sets = ["network.activation=relu", "training.learning_rate=1e5", "simulation.particles=256", "simulation.workers=1"]
    assert main(["converge", "--quiet", *(word for entry in sets for word in ("--set", entry))]) == 3
    assert capsys.readouterr().err.startswith("stopped: the limit: ")
    assert not list(tmp_path.iterdir())


def test_other_commands_know_the_section_and_leave_it_alone(tmp_path: Path) -> None:
    """Oracle: a configuration of `run` with [converge] is read, and written without it."""
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    config = read(path)
    assert config.converge.fit_from == 8
    assert "[converge]" not in to_toml(config)
    path.write_text(to_toml(config, sections=("data", "network", "training", "simulation", "converge")))
    assert read(path) == config
