"""Sweeps of finite networks. Oracles: separate calls of `finite.train`, and the bytes of an undisturbed sweep."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import resource
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import tpsim
from finite import appendix_a, cells, folder, load_sweep, sweep, train
from finite.grid import resolve
from tpsim import Network, Problem, Training, storage
from tpsim.errors import FileError, InputError, Notice, ResourceError
from tpsim.parametrization import Parametrization

RNG = np.random.default_rng(11)
PROBLEM = Problem(RNG.standard_normal((3, 4)) / 2, [1.0, -1.0, 1.0])
NETWORK, TRAINING = Network(2, "tanh", 1.3), Training(4, 0.2, reduction="mean", batches={"size": 2, "seed": 1})
GRID: dict = dict(widths=(6, 9), parametrizations=("ntp", "mup"), seeds=3, quantities=("kernel_h",))
BLOCKS = 2  # seeds of a cell here: 0-1 and 2
FINITE_GRID, FINITE_SWEEP = sys.modules["finite.grid"], sys.modules["finite.sweep"]


@pytest.fixture(autouse=True)
def small_cells(monkeypatch):
    monkeypatch.setattr(FINITE_GRID, "CELL_SEEDS", BLOCKS)


def run(place, **changes):
    """A sweep in this process; returns it with the names of the cells that were computed."""
    computed = []
    arguments = {"problem": PROBLEM, "network": NETWORK, "training": TRAINING, "workers": 1} | GRID | changes
    found = sweep(folder=place, progress=lambda done, total, name: computed.append(name), **arguments)
    return found, sorted(computed)


def contents(place):
    return {path.name: path.read_bytes() for path in Path(place).iterdir()}


def touched(place):
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in Path(place).iterdir()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    place = tmp_path_factory.mktemp("undisturbed") / "cells"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FINITE_GRID, "CELL_SEEDS", BLOCKS)
        run(place)
    return place


@pytest.fixture
def place(undisturbed, tmp_path):
    return Path(shutil.copytree(undisturbed, tmp_path / "cells"))


def sign(path):
    """Write the checksum that fits a file, as a hand that tampers with it would."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(path.name + ".sha256").write_text(f"{digest}  {path.name}\n")


ENDS = ("0000-0001", "0002-0002")
NAMES = [f"{row}-tanh-n0000{n}-seeds-{end}.nc" for row in ("mup", "ntp") for n in (6, 9) for end in ENDS]


# the grid


def test_the_files_are_the_blocks_of_the_grid_with_checksums_of_sha256sum(undisturbed):
    assert sorted(contents(undisturbed)) == sorted([*NAMES, *(f"{name}.sha256" for name in NAMES)])
    for name in NAMES:
        digest = hashlib.sha256((undisturbed / name).read_bytes()).hexdigest()
        assert (undisturbed / f"{name}.sha256").read_text() == f"{digest}  {name}\n"
        assert tpsim.load(undisturbed / name).attrs["title"].startswith("tpsim")


@pytest.mark.parametrize("constants", [None, "appendix_a"])
def test_a_sweep_is_separate_calls_of_train(constants, tmp_path):
    """Bit by bit in the same blocks, and up to rounding in others; Appendix A's constants are those of `appendix_a`."""
    own = Parametrization("mine", (0.0, 0.5, 0.75), (-0.5, 0.0, 0.5))
    rows = ("sp", "mup") if constants else ("sp", own)
    problem = Problem(PROBLEM.inputs, PROBLEM.targets, PROBLEM.inputs + 0.1)
    phis = ("tanh", (np.sin, np.cos))
    found, _ = run(
        tmp_path, problem=problem, parametrizations=rows, activations=phis, widths=(7,), dtype="float64",
        constants=constants, quantities=None, record_every=3, probe_every=2,
    )  # fmt: skip
    assert found["activation"].values.tolist() == ["tanh", "user:sin"]
    for phi, label in zip(phis, found["activation"].values, strict=True):
        for row, name in zip(rows, found["parametrization"].values, strict=True):
            network, training = Network(2, phi, 1.3), TRAINING
            if constants:
                network, training = appendix_a(row, network, training, 4, 0.2)
            here = found.sel(activation=label, parametrization=name, width=7)
            options = dict(record_every=3, probe_every=2, joint_every=4, progress=False)
            for first, seeds, exact in ((0, 2, True), (2, 1, True), (0, 3, False)):
                expected = train(problem, network, training, 7, row, seeds, first_seed=first, **options)
                for variable in found.data_vars:
                    one, other = here[variable], expected[variable]
                    if "replica" in one.dims:
                        one = one.sel(replica=slice(first, first + seeds - 1))
                    np.testing.assert_allclose(one, other, rtol=0, atol=0 if exact else 1e-12, err_msg=str(variable))


def test_constants_of_the_user_are_the_same_for_all_parametrizations(undisturbed):
    found = load_sweep(undisturbed)
    expected = train(PROBLEM, NETWORK, TRAINING, 9, "ntp", 1, first_seed=2, dtype="float32", progress=False)
    np.testing.assert_array_equal(found["f"].sel(parametrization="ntp", width=9, activation="tanh")[2:], expected["f"])


def test_blocks_hold_little_work_and_do_not_move(monkeypatch):
    """Cells of wide networks hold few of them, those of narrow ones many; more seeds only add blocks."""
    monkeypatch.setattr(FINITE_GRID, "CELL_SEEDS", 128)
    grids = [resolve(PROBLEM, NETWORK, Training(1000), **options(seeds=seeds)) for seeds in (100, 300)]
    for width in (16, 256, 1024, 4096):
        few, many = (list(grid.blocks(width)) for grid in grids)
        assert many[: len(few) - 1] == few[:-1] and few[-1][1] == 99 and many[-1][1] == 299
        sizes = [last - first + 1 for first, last in many[:-1]]
        assert len(set(sizes)) == 1 and sizes[0] & (sizes[0] - 1) == 0
        assert sizes[0] in (1, 128) or 0.5 < sizes[0] * grids[0]._work(width) / FINITE_GRID.CELL_WORK <= 1
    assert [last - first + 1 for first, last in grids[1].blocks(16)] == [128, 128, 44]
    assert len(list(grids[1].blocks(4096))) == 300


def options(**changes):
    defaults = dict(activations=None, seed=0, dtype="float32", constants=None, record_every=None, probe_every=None,
                    joint_every=None)  # fmt: skip
    return defaults | GRID | changes


def test_default_records_are_ten_intervals_of_a_long_run():
    assert resolve(PROBLEM, NETWORK, Training(50), **options()).options["record_every"] == 1
    grid = resolve(PROBLEM, NETWORK, Training(1000), **options())
    assert (grid.options["record_every"], grid.options["joint_every"]) == (100, 1000)


def test_large_cells_come_first():
    cells = resolve(PROBLEM, NETWORK, TRAINING, **options(widths=(4, 64, 16))).cells()
    assert [cell.width for cell in cells if cell.first == 0][::2] == [64, 16, 4]


def test_divergence_is_recorded(tmp_path):
    """NaN from `diverged_at` on; the others are as they would be alone."""
    rate = Training(30, 40.0, reduction="mean")
    found, computed = run(tmp_path, network=Network(2, "identity"), training=rate, parametrizations=("mup", "ip"))
    assert len(computed) == 8 and json.loads(found.attrs["report"])["computed"] == 8
    gone = found["diverged_at"].squeeze("activation")
    assert (gone.sel(parametrization="mup") > 0).all()
    late = found["step"] >= found["diverged_at"].where(found["diverged_at"] >= 0, 10**6)
    assert (np.isnan(found["loss"]) == late).all()
    again, computed = run(tmp_path, network=Network(2, "identity"), training=rate, parametrizations=("mup", "ip"))
    assert computed == [] and again["loss"].identical(found["loss"])


# what is kept, and what is computed again


def test_nothing_is_computed_twice(place):
    before = touched(place)
    found, computed = run(place)
    assert computed == [] and touched(place) == before
    assert json.loads(found.attrs["report"]) == {"cells": 8, "computed": 0, "kept": 8, "damaged": {}}


def test_results_do_not_depend_on_the_number_of_workers(undisturbed, tmp_path):
    """Byte by byte, computed in two other processes."""
    run(tmp_path, workers=2)
    assert contents(tmp_path) == contents(undisturbed)


@pytest.mark.slow  # starts processes twice
def test_a_killed_worker_is_no_riddle_and_costs_only_its_cell(tmp_path):
    """A function that ends the process that computes it stands for the system that runs out of memory."""
    parent = os.getpid()

    def fatal(h):
        if os.getpid() != parent and h.size > 6:
            os._exit(9)
        return np.tanh(h)

    pair = (fatal, lambda h: 1 / np.cosh(h) ** 2)
    with pytest.raises(ResourceError, match="a worker process was killed, perhaps for want of memory"):
        run(tmp_path, activations=(pair,), workers=2)
    assert not [name for name in contents(tmp_path) if name.endswith(".tmp")]
    done = {name.removesuffix(".sha256") for name in contents(tmp_path) if name.endswith(".sha256")}
    assert not done & set(run(tmp_path, activations=(pair,))[1])


@pytest.mark.parametrize(
    ("changes", "new"),
    [
        (dict(widths=(6, 9, 5)), ["ntp-tanh-n00005", "mup-tanh-n00005"]),
        (dict(parametrizations=("ip", "mup", "ntp")), ["ip-tanh-n00006", "ip-tanh-n00009"]),
        (dict(activations=("tanh", "relu")), [f"{r}-relu-n0000{n}" for r in ("ntp", "mup") for n in (6, 9)]),
    ],
    ids=["widths", "parametrizations", "activations"],
)
def test_a_larger_grid_keeps_every_cell(changes, new, place):
    before = touched(place)
    found, computed = run(place, **changes)
    assert computed == sorted(f"{name}-seeds-{block}.nc" for name in new for block in ("0000-0001", "0002-0002"))
    assert touched(place).items() >= before.items()
    assert np.isfinite(found["loss"]).all()


def test_more_seeds_compute_the_last_block_anew_and_keep_every_cell(place):
    before = touched(place)
    found, computed = run(place, seeds=5)
    assert computed == sorted(f"{n[:-12]}{block}.nc" for n in NAMES[::2] for block in ("0002-0003", "0004-0004"))
    assert touched(place).items() >= before.items() and np.isfinite(found["loss"]).all()
    _, computed = run(place)
    assert computed == []
    assert load_sweep(place)["f"].identical(found.sortby("parametrization", ascending=False)["f"])


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(bytes(data))


def swap(one, other):
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def checksum(path):
    return path.with_name(path.name + ".sha256")


def other_netcdf(path):
    xr.Dataset({"f": ("x", np.arange(3.0))}).to_netcdf(path, engine="h5netcdf")
    sign(path)


def rewrite(path, change):
    """A cell with another content, written as cells are."""
    with xr.open_dataset(path, engine="h5netcdf") as opened:
        found = opened.load()
    identity = json.loads(found.attrs.pop("identity"))
    cells.write(change(found, identity), identity, path)


def test_no_flipped_bit_goes_unnoticed(place):
    """Every fifth bit of a checksum file, and 150 random ones of the data."""
    path = place / NAMES[0]
    for file, bits in (
        (path, np.random.default_rng(3).integers(0, 8 * path.stat().st_size, 150).tolist()),
        (checksum(path), range(0, 8 * checksum(path).stat().st_size, 5)),
    ):
        for bit in bits:
            flip(file, bit)
            with pytest.raises(cells.Damaged, match=NAMES[0]):
                cells.read(path, lambda identity, form: None)
            flip(file, bit)
    assert cells.read(path, lambda identity, form: None) is not None


def test_damaged_cells_are_computed_again_and_reported(place, undisturbed):
    damages = [
        (lambda path: flip(path, 40_003), "its content does not match its checksum"),
        (lambda path: os.truncate(path, 5000), "its content does not match its checksum"),
        (lambda path: flip(checksum(path), 100), "checksum"),
        (lambda path: os.truncate(checksum(path), 0), "its checksum file is damaged"),
        (lambda path: path.unlink(), "its checksum is there, but not the file"),
        (lambda path: (path.write_text("no networks"), sign(path)), "not a readable netCDF4 file"),
        (other_netcdf, "no readable identity"),
        (lambda path: rewrite(path, lambda run, _: run.drop_vars("loss")), "loss is"),
    ]
    for name, (act, _) in zip(NAMES, damages, strict=True):
        act(place / name)
    with pytest.warns(Notice) as told:
        found, computed = run(place)
    report = json.loads(found.attrs["report"])
    assert computed == sorted(report["damaged"]) == sorted(NAMES) and report["computed"] == 8
    for name, (_, reason) in zip(NAMES, damages, strict=True):
        assert reason in report["damaged"][name]
        assert any(name in str(notice.message) and reason in str(notice.message) for notice in told)
    assert contents(place) == contents(undisturbed)
    assert found["f"].identical(load_sweep(place).sortby("parametrization", ascending=False)["f"])


def test_swapped_and_unfinished_cells_are_computed_again(place, undisturbed):
    one, two, three, four, five, six, unfinished, fine = (place / name for name in NAMES)
    swap(one, two)
    swap(three, four)
    swap(checksum(three), checksum(four))
    swap(five, six)
    sign(five), sign(six)
    checksum(unfinished).unlink()
    before = touched(place)
    with pytest.warns(Notice):
        found, computed = run(place)
    damaged = json.loads(found.attrs["report"])["damaged"]
    assert computed == sorted(NAMES[:7]) and sorted(damaged) == sorted(NAMES[:6])
    assert damaged[one.name] == "its content does not match its checksum"
    assert damaged[three.name] == "its checksum file names another file"
    assert damaged[five.name] == f"it is the cell {six.name} under another name"
    assert contents(place) == contents(undisturbed)
    assert touched(place)[fine.name] == before[fine.name]


def test_every_moment_of_writing_can_be_the_last(place, undisturbed, tmp_path, monkeypatch):
    """What is in the folder before each call that changes it or forces it to the disk is a cell whole or unfinished."""
    name, moments = NAMES[0], []
    (place / name).unlink()  # and its old checksum is there: writing it anew must not make that a lie

    def before(action):
        def wrapped(*arguments, **keywords):
            moments.append({**contents(place), "last": action.__name__.encode()})
            return action(*arguments, **keywords)

        return wrapped

    with monkeypatch.context() as patch:
        for action in ("replace", "fsync", "unlink"):
            patch.setattr(os, action, before(getattr(os, action)))
        patch.setattr(Path, "write_text", before(Path.write_text))
        with pytest.warns(Notice, match="not the file"):
            run(place)
    assert [moment.pop("last").decode() for moment in moments].count("replace") == 2 and len(moments) >= 8
    whole = contents(undisturbed)
    for k, moment in enumerate(moments):
        late = tmp_path / str(k)
        late.mkdir()
        for file, data in moment.items():
            (late / file).write_bytes(data)
        states = {n: data for n, data in moment.items() if not n.endswith(".tmp")}
        assert states.items() - whole.items() == set()
        found = None
        if name in states or k > 1:
            found = cells.read(late / name, lambda identity, form: None)
        assert (found is not None) == (set(states) == set(whole))
    with folder.held(late):
        assert not [file for file in contents(late) if file.endswith(".tmp")]


# what is refused


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (dict(training=replace(TRAINING, steps=5)), "training.steps is 4 there"),
        (dict(training=replace(TRAINING, learning_rate=0.3)), "training.learning_rate"),
        (dict(training=replace(TRAINING, batches=None)), "training.batches"),
        (dict(network=Network(3, "tanh", 1.3)), "network.depth is 2 there and 3 here"),
        (dict(network=Network(2, "tanh", 1.4)), "network.init_scale"),
        (dict(problem=Problem(PROBLEM.inputs + 1e-9, PROBLEM.targets)), "problem.sha256_inputs"),
        (dict(problem=Problem(PROBLEM.inputs, PROBLEM.targets, PROBLEM.inputs)), "problem.p is 0 there"),
        (dict(seed=1), "sweep.seed"),
        (dict(dtype="float64"), "sweep.dtype"),
        (dict(quantities=("kernel_x",)), "sweep.quantities"),
        (dict(record_every=2), "sweep.record_every"),
        (dict(constants="appendix_a"), "network.init_scale|sweep.constants"),
        (dict(seed=1, widths=(64,)), "sweep.seed"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:24],
)
def test_a_folder_of_another_sweep_is_refused_and_left_alone(changes, named, place):
    before = touched(place)
    with pytest.raises(FileError, match=f"tanh-n0.*belongs to another sweep.*: ({named})"):
        run(place, **changes)
    assert touched(place) == before


def test_functions_and_exponents_of_the_same_name_are_told_apart(tmp_path):
    pairs = [(lambda h, a=a: np.tanh(a * h), lambda h, a=a: a / np.cosh(a * h) ** 2) for a in (1.0, 1.1)]
    small: dict = dict(widths=(6,), parametrizations=("mup",), seeds=1)
    run(tmp_path, activations=pairs[:1], **small)
    with pytest.raises(FileError, match="another sweep: activation_fingerprint"):
        run(tmp_path, activations=pairs[1:], **small)
    wrong = Parametrization("mup", (0.0, 0.5, 1.0), (-1.0, 0.0, 0.9))
    with pytest.raises(FileError, match=r"another sweep: c is \[-1.0, 0.0, 1.0\] there"):
        run(tmp_path, activations=pairs[:1], **small | dict(parametrizations=(wrong,)))
    with pytest.raises(InputError, match="activations: .*different names"):
        run(tmp_path, activations=pairs, **small)


def test_cells_of_another_format_are_neither_read_nor_replaced(place):
    rewrite(place / NAMES[0], lambda run, _: run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "FORMAT", 2)
        rewrite(place / NAMES[0], lambda run, _: run)
    before = touched(place)
    for act in (run, load_sweep):
        with pytest.raises(FileError, match=f"{NAMES[0]}: a cell of format 2"):
            act(place)
    assert touched(place) == before


def test_cells_of_other_library_versions_are_kept_with_a_notice(place):
    rewrite(place / NAMES[0], lambda run, _: run.assign_attrs(versions=json.dumps({"torch": "1.0"})))
    with pytest.warns(Notice, match="1 of 8 cells were computed with .*torch 1.0, and are kept"):
        found, computed = run(place)
    assert computed == [] and "torch 1.0" in found.attrs["notices"]


def test_what_is_no_plain_file_is_refused(place):
    (place / NAMES[0]).unlink()
    os.mkfifo(place / NAMES[0])  # reading it would wait for ever
    with pytest.raises(FileError, match=f"{NAMES[0]}: not a plain file"):
        run(place)


def test_one_sweep_at_a_time(place):
    descriptor = os.open(place, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(FileError, match="another sweep is at work"):
        run(place)
    os.close(descriptor)
    assert run(place)[1] == []


def test_a_folder_that_cannot_be_written_is_named_before_any_work(place, monkeypatch, tmp_path):
    """What is finished can be read all the same."""

    def refused(*arguments, **keywords):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(storage.tempfile, "TemporaryFile", refused)
    assert run(place)[1] == []
    with pytest.raises(FileError, match=f"{place}: cannot be written: Read-only file system"):
        run(place, seeds=5)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="file: not a folder"):
        run(tmp_path / "file")


@pytest.mark.parametrize("share", [0.02, 0.9])
def test_a_full_disk_is_named_and_leaves_nothing(share, place):
    """The system's limit on the size of files stands for the disk."""
    limit = int(share * (place / NAMES[0]).stat().st_size)
    before = contents(place)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(FileError, match="seeds-0002-0003.nc: cannot be written: "):
            run(place, seeds=4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(place) == before


def test_too_little_memory_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(FINITE_SWEEP, "available_bytes", lambda: 10**9)
    with pytest.raises(ResourceError, match="workers=8: 8 processes need .* workers=2 would fit"):
        run(tmp_path, workers=8)
    with pytest.raises(ResourceError, match="the result of 400000000 networks"):
        run(tmp_path, seeds=10**8)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (dict(widths=()), "widths"), (dict(widths=(4, 0)), "widths"), (dict(widths=8), "widths"),
        (dict(widths="64"), "widths"), (dict(parametrizations=("mup", "map")), "parametrization"),
        (dict(parametrizations=("mup", "mup")), "parametrizations"), (dict(parametrizations=()), "parametrizations"),
        (dict(activations=("tahn",)), "activation"), (dict(activations=("tanh", "tanh")), "activations"),
        (dict(seeds=0), "seeds"), (dict(seed=-1), "seed"), (dict(dtype="float16"), "dtype"),
        (dict(constants="appendix_b"), "constants"), (dict(quantities=("g",)), "quantities"),
        (dict(quantities="f"), "quantities"), (dict(quantities=("Z_h",)), "quantities"),
        (dict(quantities=("f_probe",)), "quantities"), (dict(record_every=0), "record_every"),
        (dict(joint_every=-1), "joint_every"), (dict(workers=0), "workers"),
        (dict(parametrizations=(Parametrization("a", (0, 0, 0), (0, 0, 0)),), constants="appendix_a"), "constants"),
        (dict(training=Training(4, [0.1, 0.2, 0.1]), constants="appendix_a"), "learning_rate"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(changes, named, tmp_path):
    with pytest.raises(InputError, match=f"^{named}"):
        run(tmp_path / "new", **changes)
    assert not (tmp_path / "new").exists()


# what is read without the settings


def test_a_folder_can_be_read_without_its_settings(place):
    found, _ = run(place)
    read = load_sweep(place)
    assert read.sel(parametrization=["ntp", "mup"]).drop_attrs().identical(found.drop_attrs())
    assert {k: read.attrs[k] for k in ("config", "seed", "dtype")} == {
        k: found.attrs[k] for k in ("config", "seed", "dtype")
    }
    assert json.loads(read.attrs["report"]) == {"damaged": {}, "missing": []}


def test_what_is_missing_is_told_and_not_a_number(place, tmp_path):
    flip(place / NAMES[0], 3000)  # mup, n = 6, networks 0 and 1
    checksum(place / NAMES[7]).unlink()  # ntp, n = 9, network 2
    with pytest.warns(Notice) as told:
        read = load_sweep(place)
    gaps = np.isnan(read["loss"]).any("step").squeeze("activation").transpose("parametrization", "width", "replica")
    expected = np.zeros((2, 2, 3), dtype=bool)
    expected[1, 0, :2] = expected[0, 1, 2] = True
    np.testing.assert_array_equal(gaps, expected)
    report = json.loads(read.attrs["report"])
    assert sorted(report["damaged"]) == sorted([NAMES[0], NAMES[7]])
    assert report["missing"] == ["ntp, tanh, n = 9: 1 of 3 networks", "mup, tanh, n = 6: 2 of 3 networks"]
    assert len(told) == 3
    with pytest.raises(FileError, match="no finished cell"):
        load_sweep(tmp_path / "nowhere")


def test_cells_of_two_sweeps_are_not_read_together(place, tmp_path):
    run(tmp_path / "other", seed=1, widths=(7,), seeds=1)
    for path in (tmp_path / "other").iterdir():
        shutil.copy(path, place)
    with pytest.raises(FileError, match="belongs to another sweep.*sweep.seed"):
        load_sweep(place)
