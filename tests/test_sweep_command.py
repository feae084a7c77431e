"""`tpsim sweep`. Oracles: the Python interface on the same settings; the bytes of a sweep that nobody disturbed."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import tpsim
from finite import command, sweep
from tpsim import Network, Training, config, data
from tpsim.cli import main

SMALL = """
[data]
source = "digits"
count = 4
probes = 2
scale = "sqrt_d"

[network]
depth = 2

[training]
steps = 5
learning_rate = 0.2
reduction = "mean"

[sweep]
widths = [8, 12]
parametrizations = ["sp", "mup"]
seeds = 3
constants = "appendix_a"
workers = 1
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(SMALL)
    return tmp_path


@pytest.fixture
def no_figure(monkeypatch):
    """One test draws it; the others write a stand-in."""
    monkeypatch.setattr(command, "draw", lambda run, figure: figure)


def contents(place):
    return {path.name: path.read_bytes() for path in Path(place).iterdir() if path.is_file()}


def test_the_command_writes_what_python_computes(capsys):
    assert main(["sweep", "small.toml"]) == 0
    printed = capsys.readouterr().out
    for words in (
        "SP: standard parametrization", "muP: maximal update parametrization", "12.8 / n", "at n = 12: std, rate",
        "8, 12", "sp, mup; 3 seeds each: 12 networks in 4 cells", "smallest eigenvalue of kernel_h, layer 1..2",
        "4 cells: 0 kept, 4 computed", "change of h, layer 1..2",
    ):  # fmt: skip
        assert words in printed
    found = tpsim.load("tpsim-sweep/sweep.nc")
    problem = data.digits(count=4, probes=2, scale="sqrt_d")
    training = Training(5, 0.2, reduction="mean")
    expected = sweep(
        problem, Network(2), training, "python", widths=(8, 12), parametrizations=("sp", "mup"), seeds=3,
        constants="appendix_a", workers=1, progress=False,
    )  # fmt: skip
    del expected.attrs["report"]
    xr.testing.assert_identical(found, expected)
    assert contents("tpsim-sweep/cells") == contents("python")
    with open("tpsim-sweep/table.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 2 * 2 * (1 + 2 + 2)
    row = next(r for r in table if (r["parametrization"], r["width"], r["quantity"]) == ("mup", "12", "loss"))
    loss = expected["loss"].sel(activation="silu", parametrization="mup", width=12)[:, -1].values
    assert float(row["mean"]) == pytest.approx(loss.mean(), rel=1e-12)
    assert float(row["se"]) == pytest.approx(loss.std(ddof=1) / 3**0.5, rel=1e-12)
    assert (row["networks"], row["diverged"], row["layer"]) == ("3", "0", "")
    row = next(r for r in table if r["quantity"].startswith("smallest") and r["layer"] == "2" and r["width"] == "8")
    kernels = expected["kernel_h"].sel(activation="silu", parametrization=row["parametrization"], width=8, layer=2)
    assert float(row["mean"]) == pytest.approx(np.linalg.eigvalsh(kernels[:, -1])[:, 0].mean(), rel=1e-9)
    summary = json.loads(Path("tpsim-sweep/summary.json").read_text())
    assert summary["computed"] == 4 and summary["diverged"] == 0
    assert {*summary["files"], "cells"} == {path.name for path in Path("tpsim-sweep").iterdir()}


def test_the_same_command_again_computes_nothing_and_a_larger_one_the_rest(capsys, no_figure):
    assert main(["sweep", "small.toml", "--output", "out", "--quiet"]) == 0
    first, cells = contents("out"), contents("out/cells")
    assert main(["sweep", "out/config.toml", "--output", "out", "--workers", "1"]) == 0
    assert "4 cells: 4 kept, 0 computed" in capsys.readouterr().out
    again = contents("out")
    for name in ("sweep.nc", "table.csv"):
        assert again[name] == first[name]
    Path("out/cells/mup-silu-n00008-seeds-0000-0002.nc").write_bytes(b"")
    assert main(["sweep", "small.toml", "--output", "out", "--set", "sweep.widths=[8, 12, 5]"]) == 0
    printed = capsys.readouterr()
    assert "6 cells: 3 kept, 3 computed, 1 of them damaged before" in printed.out
    assert "notice: mup-silu-n00008-seeds-0000-0002.nc is damaged and computed again: its content" in printed.err
    assert contents("out/cells").items() > cells.items()
    before = contents("out") | contents("out/cells")
    assert main(["sweep", "small.toml", "--output", "out", "--set", "training.steps=6"]) == 2
    assert "belongs to another sweep, so that this one needs another folder: training.steps" in capsys.readouterr().err
    assert contents("out") | contents("out/cells") == before


def test_divergence_is_a_result(capsys, no_figure):
    """Exit code 0; told, counted, and left out of the means."""
    sets = ["training.learning_rate=60", "training.steps=12", "sweep.seeds=2"]
    assert main(["sweep", "small.toml", *(word for entry in sets for word in ("--set", entry))]) == 0
    assert "2 of 2" in capsys.readouterr().out
    with open("tpsim-sweep/table.csv", newline="") as file:
        gone = [row for row in csv.DictReader(file) if row["diverged"] == "2"]
    assert gone and all((row["mean"], row["networks"]) == ("nan", "0") for row in gone)
    assert json.loads(Path("tpsim-sweep/summary.json").read_text())["diverged"] == 2 * len(gone) // 5


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("sweep.widths=[]", "sweep.widths"), ("sweep.widths=[0]", "sweep.widths"), ("sweep.widths=8", "sweep.widths"),
        ("sweep.parametrizations=[mup]", "sweep.parametrizations"),
        ('sweep.parametrizations=["map"]', "sweep.parametrizations"), ("sweep.seeds=0", "sweep.seeds"),
        ('sweep.activations=["tahn"]', "sweep.activations"), ("sweep.dtype=half", "sweep.dtype"),
        ("sweep.constants=mine", "sweep.constants"), ('sweep.quantities=["g"]', "sweep.quantities"),
        ("sweep.record_every=0", "sweep.record_every"), ("sweep.workers=0", "sweep.workers"),
        ("training.learning_rate=[0.1, 0.1, 0.1]", "training.learning_rate"), ("sweep.wdth=1", "sweep.wdth"),
        ("network.activation=tahn", "network.activation"), ("data.source=digit", "data.source"),
    ],
)  # fmt: skip
def test_bad_input_is_named_and_nothing_is_written(override, key, capsys, folder):
    assert main(["sweep", "small.toml", "--set", override]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {key}: got ") and error.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == ["small.toml"]


def test_folders_of_something_else_are_refused(capsys):
    Path("mine").mkdir()
    Path("mine/config.toml").write_text("of a run")
    for place in ("mine", "small.toml"):
        assert main(["sweep", "small.toml", "--output", place]) == 2
        assert capsys.readouterr().err.startswith("error: --output: got ")
    assert contents("mine") == {"config.toml": b"of a run"}


def test_without_torch_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["sweep", "small.toml"]) == 2
    assert capsys.readouterr().err.endswith("pip install 'tpsim[finite]'\n")


def test_the_example_is_a_grid_of_four_parametrizations_and_five_widths():
    grid, _ = command.prepare(config.read(Path(__file__).parent.parent / "examples/sweep.toml"))
    assert list(grid.rows) == ["sp", "ntp", "ip", "mup"] and len(grid.cells()) == 20
    np.testing.assert_allclose(grid.problem.inputs, data.digits(count=6, scale=1.0).inputs / 8)  # sqrt(d) = 8


def test_run_takes_no_notice_of_the_table():
    read = config.read("small.toml")
    assert "[sweep]" not in config.to_toml(read)
    assert config.read("small.toml").sweep.widths == [8, 12]


# killed, and started again

LONG = SMALL.replace("steps = 5", "steps = 150").replace('["sp", "mup"]', '["sp", "ntp", "ip", "mup"]')
LONG = LONG.replace("seeds = 3", "seeds = 4").replace("[8, 12]", "[48, 96]")


def start(workers, *more):
    """The command in a process group of its own."""
    line = [
        sys.executable,
        "-m",
        "tpsim",
        "sweep",
        "long.toml",
        "--output",
        "out",
        "--workers",
        str(workers),
        "--quiet",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(tpsim.__file__).parent.parent)}
    return subprocess.Popen(
        [*line, *more], start_new_session=True, env=environment, stderr=subprocess.PIPE, text=True,
        # a shell's background job ignores Ctrl-C, and would hand that down to here
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def wait_for(condition, process, seconds=120):
    """Look every few milliseconds; the process must not end before."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"ended before it could be killed: {process.stderr.read()}"
        assert time.monotonic() < end
        time.sleep(0.002)


def members(process):
    """Processes of the group that are still there; zombies are not."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == process.pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def wait_until_alone(process, seconds=30):
    """Workers end by themselves when their parent has ended, however it did."""
    end = time.monotonic() + seconds
    while members(process):
        assert time.monotonic() < end
        time.sleep(0.05)


def end_of(process):
    """Nothing may outlive a test."""
    for member in members(process):
        os.kill(member, signal.SIGKILL)
    process.wait()
    process.stderr.close()


def finished():
    return len(list(Path("out/cells").glob("*.sha256")))


def writing():
    return any(Path("out/cells").glob(".*.tmp"))


def kill(process, moment, whole_group=True):
    """SIGKILL at a moment: (finished cells, seconds after that, or None for while the next cell is written)."""
    cells, delay = moment
    wait_for(lambda: finished() >= cells, process)
    if delay is None:
        wait_for(writing, process)
    else:
        time.sleep(delay)
    assert process.poll() is None, "ended before it was killed: choose an earlier moment"
    os.killpg(process.pid, signal.SIGKILL) if whole_group else process.kill()
    process.wait()


def kill_often(moments, workers, capsys, alone=()):
    """Kill and start again at each of the moments, then once more to the end, and return the last report."""
    for k, moment in enumerate(moments):
        process = start(workers)
        try:
            kill(process, moment, whole_group=k not in alone)
            wait_until_alone(process)
        finally:
            end_of(process)
    assert main(["sweep", "long.toml", "--output", "out", "--workers", "1", "--quiet"]) == 0
    assert capsys.readouterr().err == ""  # unfinished cells are no damage
    return json.loads(Path("out/summary.json").read_text())


@pytest.fixture
def undisturbed(folder):
    """The cells of an undisturbed sweep, computed in this process."""

    def cells(text):
        Path("long.toml").write_text(text)
        grid, _ = command.prepare(config.read("long.toml"))
        command.execute(grid, folder / "undisturbed", 1, False)
        return contents("undisturbed")

    return cells


@pytest.mark.slow
def test_killed_three_times_it_ends_with_the_same_bytes(undisturbed, capsys):
    """While the first cell is written, between two cells, and while one is written."""
    expected = undisturbed(LONG)
    report = kill_often([(0, None), (3, 0.05), (5, None)], workers=1, capsys=capsys)
    assert contents("out/cells") == expected
    assert report["kept"] >= 5 and report["kept"] + report["computed"] == report["cells"] == 8


@pytest.mark.slow
def test_killed_twenty_times_it_ends_with_the_same_bytes(undisturbed, capsys):
    """At random moments of the whole sweep: before the first cell, between cells, while they are written; 2 workers.

    Every fifth time only the parent is killed, and its workers must end by themselves.
    """
    text = LONG.replace("[48, 96]", "[32, 40, 48, 56, 64, 80, 96]").replace(
        "depth = 2", 'depth = 2\nactivation = "tanh"'
    )
    text = text.replace("seeds = 4", 'seeds = 4\nactivations = ["tanh", "silu"]')
    expected = undisturbed(text)
    cells = len(expected) // 2
    draw = random.Random(20)
    moments = [(0, 0.3), (0, 2.0)]  # while it starts
    moments += [(int(k * cells / 19), None if k % 3 == 0 else draw.uniform(0.0, 0.8)) for k in range(18)]
    report = kill_often(moments, workers=2, capsys=capsys, alone=range(4, 20, 5))
    assert contents("out/cells") == expected
    assert report["kept"] + report["computed"] == report["cells"] == cells
    print(f"20 kills, {cells} cells, {report['kept']} kept by the last start")


@pytest.mark.parametrize(("number", "code", "workers"), [(signal.SIGINT, 130, 2), (signal.SIGTERM, 143, 1)])
def test_signals_end_it_in_order(number, code, workers):
    """The exit code of the signal, one line, no process and no temporary file left; finished cells stay."""
    Path("long.toml").write_text(LONG.replace("steps = 150", "steps = 100000"))
    process = start(workers, "--set", "sweep.widths=[8, 64]", "--set", "sweep.parametrizations=['mup']")
    try:
        wait_for(lambda: Path("out/cells").is_dir() and len(members(process)) >= workers, process)
        time.sleep(1.0)
        os.kill(process.pid, number)
        assert process.wait(30) == code
        error = process.stderr.read()
        assert re.fullmatch(r"interrupted: 0 of \d cells are finished; the same command goes on from there\n", error)
        wait_until_alone(process)
        assert contents("out/cells") == {}
    finally:
        end_of(process)
