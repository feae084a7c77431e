"""The command line. Oracles: the Python interface on the same settings, and what each bad input is defined to do."""

import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from xarray.testing import assert_equal, assert_identical

import tpsim
from tpsim import Network, Problem, Training, data, output, plot
from tpsim.cli import main
from tpsim.config import read
from tpsim.core import stack
from tpsim.describe import concerns
from tpsim.job import Job, prepare
from tpsim.plan import memory_bytes
from tpsim.predict import predict
from tpsim.report import show, summarise, table
from tpsim.run import execute

SMALL = [
    "network.depth=2", "training.steps=4", "simulation.particles=128", "simulation.replicas=2", "simulation.workers=1",
    "simulation.probe_every=3", "data.count=4", "data.probes=3",
]  # fmt: skip
PYTHON = dict(particles=128, replicas=2, probe_every=3)


def command(name, *arguments, sets=SMALL):
    return [name, *arguments, *(word for entry in sets for word in ("--set", entry))]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_figures(monkeypatch):
    """One test draws them; the others write a stand-in."""

    def save_all(run, directory):
        path = directory / "loss.png"
        path.write_bytes(b"figure")
        return [path]

    monkeypatch.setattr(plot, "save_all", save_all)


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_run_writes_what_python_computes(capsys):
    assert main(command("run")) == 0
    printed = capsys.readouterr()
    for word in ("plan", "conventions", "initial variance", "0.1 / n", "smallest eigenvalue", "change of h", "time:"):
        assert word in printed.out
    found = tpsim.load("tpsim-output/limit.nc")
    problem, training = data.digits(count=4, probes=3), Training(4, 0.1, reduction="mean")
    expected = tpsim.simulate(problem, Network(2, "silu", 2**0.5), training, **PYTHON, snapshots=(0, 4))
    assert_equal(found, output.thin(expected))
    assert found.attrs == expected.attrs
    summary = json.loads(Path("tpsim-output/summary.json").read_text())
    assert {k: summary[k] for k in ("loss", "layers", "probe_mse")} == {
        k: summarise(expected)[k] for k in ("loss", "layers", "probe_mse")
    }
    assert summary["stopped"] is None and summary["data"] == json.loads(json.dumps(data.describe(problem)))
    figures = {f"{name}.png" for name in ("loss", "outputs", "kernels", "spectra", "densities", "ranks", "residuals")}
    assert figures < set(summary["files"]) == {path.name for path in Path("tpsim-output").iterdir()}


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["training.learning_rate={0=0.1, 2=[0.05, 0.1, 0.2]}", "training.batches={size=3, seed=1}"],
        ["training.batches=[[0],[1,2],[3],[0,1]]", "simulation.noise=iid", "simulation.seed=5"],
        ["data.source=npz", "data.path=some.npz", "data.standardise=feature", "simulation.snapshots=[1]"],
        ["training.loss=logistic", "simulation.workers=2", "simulation.tolerance=1e-4"],
    ],
    ids=["demo", "schedule and minibatches", "listed batches", "npz", "logistic, two processes"],
)
def test_the_resolved_configuration_reproduces_every_bit(more, no_figures, folder, monkeypatch):
    sets = [s for s in SMALL if "npz" not in str(more) or not s.startswith("data.")] + more
    rng = np.random.default_rng(0)
    np.savez("some.npz", inputs=rng.normal(size=(4, 3)), targets=rng.normal(size=4), probes=rng.normal(size=(2, 3)))
    assert main(command("run", "--output", "first", sets=sets)) == 0
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert main(["run", "../first/config.toml", "--output", "second", "--quiet"]) == 0
    assert_identical(tpsim.load("../first/limit.nc"), tpsim.load("second/limit.nc"))
    first, second = (Path(p, "config.toml").read_text() for p in ("../first", "second"))
    assert first == second


def write_bad_files():
    good = dict(inputs=np.eye(3), targets=np.ones(3))
    for name, change in {
        "nan": dict(inputs=np.diag([1, np.nan, 1])),
        "infinite": dict(targets=np.array([1, np.inf, 1])),
        "shape": dict(targets=np.ones(4)),
        "flat": dict(inputs=np.ones(3)),
        "empty": dict(inputs=np.empty((0, 3)), targets=np.empty(0)),
        "probes": dict(probes=np.eye(2)),
        "key": dict(labels=np.ones(3)),
    }.items():
        np.savez(f"{name}.npz", **{**good, **change})
    np.savez("half.npz", **good, probes=np.eye(3), probe_targets=np.ones(2))
    np.savez("half_targets.npz", inputs=np.eye(3), targets=np.array([0.5, 1, -1]))
    Path("text.npz").write_text("not an archive")
    Path("words.csv").write_text("a,b\n1,x\n")
    Path("broken.toml").write_text("[data\n")
    Path("nodata.toml").write_text("[network]\ndepth = 2\n")
    Path("nosource.toml").write_text("[data]\ncount = 2\n")


def npz(name):
    return ["data.source=npz", f"data.path={name}.npz"]


BAD = {
    "unknown key": (["network.dept=3"], "network.dept: got 3; allowed: keys depth, activation, init_scale"),
    "unknown section": (["net.depth=3"], "net: got .*allowed: sections data, network, training, simulation"),
    "unknown activation": (["network.activation=sine"], "network.activation: got 'sine'; allowed: one of erf, gelu"),
    "unknown loss": (["training.loss=hinge"], "training.loss: got 'hinge'; allowed: one of logistic, squared"),
    "unknown source": (["data.source=imagenet"], "data.source: got 'imagenet'; allowed: one of digits"),
    "unknown option": (["data.number=3"], "data.number: got 3; allowed: source digits takes classes"),
    "missing option": (["data.source=csv"], "data.path: got <nothing>; allowed: source csv needs it"),
    "negative count": (["data.count=-1"], "data.count: got -1; allowed: an integer >= 1"),
    "too many images": (["data.count=1000"], "data.count: got 1000; allowed: fewer"),
    "wrong classes": (["data.classes=[1, 1]"], r"data.classes: got \[1, 1\]; allowed: two different"),
    "negative depth": (["network.depth=-2"], "network.depth: got -2; allowed: an integer >= 1"),
    "negative scale": (["network.init_scale=-1.0"], "network.init_scale: got -1.0; allowed: finite numbers >= 0"),
    "scales": (["network.init_scale=[1,1]"], r"network.init_scale: got \[1, 1\]; allowed: a scalar or 4 values"),
    "negative steps": (["training.steps=-1"], "training.steps: got -1; allowed: an integer >= 0"),
    "rates": (["training.learning_rate=[1]"], r"training.learning_rate: got \[1\]; allowed: a scalar or 4 values"),
    "late rate": (["training.learning_rate={0=1,5=[1]}"], r"training.learning_rate: got \[1\]; allowed: a scalar or 4"),
    "nan rate": (["training.learning_rate=nan"], "training.learning_rate: got nan; allowed: finite numbers >= 0"),
    "batch size": (["training.batches={size=11}"], "training.batches.size: got 11; allowed: at most"),
    "batch key": (["training.batches={number=2}"], "training.batches: got .*allowed: a table with .size."),
    "few batches": (["training.batches=[[0]]"], r"training.batches: got \[\[0\]\]; allowed: .*at least steps=200"),
    "batch index": (["training.steps=1", "training.batches=[[10]]"], r"training.batches\[0\]: got .*indices 0..9"),
    "no particles": (["simulation.particles=0"], "simulation.particles: got 0; allowed: an integer >= 2"),
    "few particles": (["simulation.particles=15"], "particles=15 is too small: .* particles=8063 is sufficient"),
    "much memory": (["simulation.particles=2000000000"], r"particles=2000000000 needs .* particles=\d+ would fit"),
    "no replicas": (["simulation.replicas=-8"], "simulation.replicas: got -8; allowed: an integer >= 1"),
    "no workers": (["simulation.workers=0"], "simulation.workers: got 0; allowed: an integer >= 1"),
    "many threads": (["simulation.threads=999"], "simulation.threads: got 999; allowed: at most"),
    "negative seed": (["simulation.seed=-1"], "simulation.seed: got -1; allowed: an integer >= 0"),
    "tolerance": (["simulation.tolerance=1"], "simulation.tolerance: got 1; allowed: a number between 0 and 1"),
    "sobol": (["simulation.noise=iid", "simulation.sobol=true"], "simulation.sobol: got True; allowed: False with"),
    "quantities": (["simulation.quantities=[\"h\"]"], "simulation.quantities: got 'h'; allowed: names out of f, chi"),
    "no interval": (["simulation.record_every=0"], "simulation.record_every: got 0; allowed: an integer >= 1"),
    "late snapshot": (["simulation.snapshots=[201]"], "simulation.snapshots: got 201; allowed: steps 0..200"),
    "NaN data": (npz("nan"), r"data.path .*nan.npz: inputs: got <nan at \(1, 1\)>; allowed: finite numbers only"),
    "infinite data": (npz("infinite"), r"data.path .*: targets: got <inf at \(1,\)>; allowed: finite numbers only"),
    "wrong shape": (npz("shape"), "data.path .*: targets: got <4 values>; allowed: 3 values, one per input"),
    "flat inputs": (npz("flat"), r"data.path .*: inputs: got <array of shape \(3,\)>; allowed: .*\(m, d\)"),
    "empty data": (npz("empty"), r"data.path .*: inputs: got <array of shape \(0, 3\)>; allowed: at least one sample"),
    "probe shape": (npz("probes"), r"data.path .*: probes: got <array of shape \(2, 2\)>; allowed: 3 columns"),
    "probe targets": (npz("half"), "data.path .*: probe_targets: got <2 values>; allowed: 3 values"),
    "unknown array": (npz("key"), "key.npz: holds inputs, labels, targets; allowed: inputs, targets"),
    "no archive": (npz("text"), "text.npz: not an npz file"),
    "no file": (npz("missing"), "missing.npz: cannot be read"),
    "words": (["data.source=csv", "data.path=words.csv"], "words.csv, line 2, column b: 'x' is not a finite number"),
    "logistic targets": ([*npz("half_targets"), "training.loss=logistic"], "data.targets: got 0.5; allowed: -1 or .1"),
    "override": (["depth=3"], "--set: got 'depth=3'; allowed: section.key=value"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gives_one_line_and_nothing_else(name, capsys, folder):
    write_bad_files()
    sets, message = BAD[name]
    check_refused(command("run", sets=sets), message, capsys, folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "missing.toml"], "missing.toml: cannot be read: No such file"),
        (["run", "."], r"\.: cannot be read: it is a folder"),
        (["run", "broken.toml"], "broken.toml: not a TOML file: .*line 1"),
        (["run", "nodata.toml"], r"data: got <nothing>; allowed: a table \[data\]"),
        (["run", "nosource.toml"], "data.source: got <nothing>; allowed: one of digits"),
        (["run", "--output", "broken.toml"], "--output: got 'broken.toml'; allowed: a folder"),
        (["run", "--output", "broken.toml/x"], "--output: got 'broken.toml/x'; allowed: a folder that can be written"),
        (["run", "--output", "."], r"--output: got '\.'; allowed: a new or an empty folder, or --force"),
        (["run", "--output", ""], "--output: got ''; allowed: a folder"),
        (["run", "--outptu", "x"], "unrecognized arguments: --outptu"),
        (["run", "a.toml", "b.toml"], "unrecognized arguments: b.toml"),
        (["walk"], "invalid choice: 'walk'"),
        ([], "required: COMMAND"),
        (["plan", "missing.toml"], "missing.toml: cannot be read"),
        (["plan", "--set", "network.depth=0"], "network.depth: got 0"),
    ],
)
def test_bad_arguments_give_one_line_and_nothing_else(arguments, message, capsys, folder):
    write_bad_files()
    check_refused(arguments, message, capsys, folder)


def check_refused(arguments, message, capsys, folder):
    before = tree(folder)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1 and printed.err.endswith("\n")
    assert re.search(message, printed.err), printed.err
    assert tree(folder) == before


def test_too_much_memory_is_refused_in_under_a_second(capsys):
    prepare(read())  # imports
    start = time.perf_counter()
    assert main(["run", "--set", "simulation.particles=2000000000"]) == 2
    assert time.perf_counter() - start < 1.0


def test_a_diverging_run_keeps_what_was_finished(no_figures, capsys):
    """The demo with `sum` is one."""
    sets = ["training.reduction=sum", "simulation.particles=512", "simulation.replicas=2", "simulation.workers=1"]
    assert main(command("run", "--output", "out", sets=sets)) == 3
    printed = capsys.readouterr()
    last = printed.err.splitlines()[-1]
    assert "wrong signs on probes (to 0)" in printed.out  # every 10 steps: the last was step 0
    assert last.startswith("stopped: replica ") and "diverged" in last and "smaller learning rate" in last
    step = int(last.split("at step ")[1].split(";")[0])
    run = tpsim.load("out/limit.nc")
    assert run.step.values.tolist() == list(range(step)) and 5 < step < 30
    summary = json.loads(Path("out/summary.json").read_text())
    assert f"at step {step}" in summary["stopped"] and summary["steps"] == step - 1
    assert sorted(p.name for p in Path("out").iterdir()) == sorted(summary["files"])


def test_a_run_out_of_room_keeps_what_was_finished(no_figures, capsys):
    """Probes are evaluated on a matrix whose last basis vector has no image."""
    sets = ["simulation.particles=192", "simulation.replicas=1", "training.steps=100", "simulation.probe_every=1"]
    assert main(command("run", "--output", "out", sets=sets)) == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("stopped: ") and "particles >= " in last and "at step" in last
    run = tpsim.load("out/limit.nc")
    assert run.sizes["probe_step"] == run.sizes["step"] > 1 and np.isfinite(run.f_probe).all()


def test_a_run_that_finished_nothing_writes_nothing(no_figures, capsys, folder):
    sets = [*SMALL, "simulation.max_rank=1"]
    assert main(command("run", sets=sets)) == 3
    assert "stopped: " in capsys.readouterr().err and tree(folder) == {}


def test_notices_are_lines(no_figures, capsys):
    np.savez("twice.npz", inputs=np.array([[1.0, 2], [1, 2]]), targets=np.ones(2))
    sets = [s for s in SMALL if not s.startswith("data.")] + ["data.source=npz", "data.path=twice.npz"]
    assert main(command("run", "--quiet", sets=sets)) == 0
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("notice: Assumption 4.1") and printed.err.count("\n") == 1


def test_interrupting_leaves_nothing(monkeypatch, capsys, folder):
    def interrupted(job, progress=None, report=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(Job, "simulate", interrupted)
    assert main(command("run", "--quiet")) == 130
    assert capsys.readouterr().err == "interrupted: nothing was written\n" and tree(folder) == {}


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("place", ["tpsim.cli._announce", "tpsim.output.write"])
def test_signals_before_and_after_the_run_leave_nothing_and_say_how_to_go_on(
    place, number, code, monkeypatch, capsys, folder
):
    monkeypatch.setattr(place, lambda *_: os.kill(os.getpid(), number))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        assert main(command("run", "--output", "out", "--checkpoint", "kept")) == code
    finally:
        signal.signal(signal.SIGINT, before)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("interrupted: nothing was written; what checkpoints there are is in kept: to go on: tpsim")
    assert error.endswith(" --resume") and not Path("out").exists() and not list(Path().glob(".*"))


def test_checkpoints_are_not_kept_where_results_go(capsys, folder):
    for kept in ("out", "out/kept", "../" + Path.cwd().name + "/out"):
        assert main(command("run", "--output", "out", "--checkpoint", kept)) == 2
        assert capsys.readouterr().err.startswith("error: --checkpoint: got ")


def test_a_disk_that_is_full_at_the_end(capsys, folder, monkeypatch):
    """The bytes that are needed and free, and where the checkpoints are."""

    def full(path, data, write=Path.write_bytes):
        if ".nc." in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert main(command("run", "--quiet", "--output", "out", "--checkpoint", "kept")) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    pattern = r"error: .*/out/limit.nc: cannot be written: No space left on device; \d+ bytes are needed, \d+ are free"
    assert re.fullmatch(pattern + "; the same command with --resume goes on from what is in .*/kept", error)
    assert not Path("out").exists()


@pytest.mark.slow  # test_checkpoint_signals has a shorter one
def test_interrupting_worker_processes(folder):
    """A real SIGINT, as a terminal sends it, to all processes of a long run with two workers."""
    sets = [*SMALL[:2], "training.steps=100000", "simulation.record_every=1000", "simulation.workers=2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tpsim", *command("run", sets=sets)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # a shell's background job ignores Ctrl-C, and would hand that down to here
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        for line in process.stdout:  # the conventions come last before the run
            if line.startswith("  loss:"):
                break
        time.sleep(2)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, errors.splitlines()[-1]) == (130, "interrupted: nothing was written")
    assert "Traceback" not in errors and tree(folder) == {}


def test_the_default_folder_is_never_overwritten(no_figures):
    for name in ("tpsim-output", "tpsim-output-2", "tpsim-output-3"):
        assert not Path(name).exists()
        assert main(command("run", "--quiet")) == 0
        assert Path(name, "limit.nc").stat().st_mode & 0o777 == Path(name, "config.toml").stat().st_mode & 0o777


def test_force_replaces_results_and_keeps_the_rest(no_figures, monkeypatch):
    assert main(command("run", "--quiet", "--output", "out")) == 0
    Path("out/notes.txt").write_text("mine")
    monkeypatch.setattr(plot, "save_all", lambda run, directory: [])
    assert main(command("run", "--quiet", "--output", "out")) == 2
    assert main(command("run", "--quiet", "--output", "out", "--force")) == 0
    names = sorted(path.name for path in Path("out").iterdir())
    assert names == ["config.toml", "limit.nc", "notes.txt", "summary.json"]


def test_a_failing_disk_leaves_no_partial_output(no_figures, monkeypatch, capsys, folder):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output, "_move", full)
    assert main(command("run", "--quiet", "--output", "out")) == 2
    error = capsys.readouterr().err
    assert re.search(r"out: cannot be written: No space left on device, \d+ are free$", error) and tree(folder) == {}


def test_plan_predicts_the_ranks_that_the_run_has(capsys, folder):
    """Oracle: the run. Up to 1024 particles the pilot is its first replica, so the prediction is exact."""
    assert main(command("plan")) == 0
    printed = capsys.readouterr()
    job = prepare(read(None, SMALL))
    prediction, run = predict(job.task), job.simulate(progress=False)
    ranks = np.stack([run[name][0, -1, 1:] for name in ("rank_forward", "rank_backward")], axis=-1)
    assert prediction.ranks.tolist() == ranks.tolist()
    assert f"W^2: {ranks[0, 0]}, {ranks[0, 1]}" in printed.out
    assert prediction.seconds > 0 and concerns(job, prediction) == [] and tree(folder) == {}


def test_the_pilot_is_continued_to_more_particles_and_steps():
    """Ranks within a third of those of the run, as documented, from a pilot that stops after 20 of 60 steps."""
    sets = ["simulation.particles=2048", "simulation.replicas=1", "training.steps=60", "simulation.probe_every=60"]
    job = prepare(read(None, sets))
    prediction, run = predict(job.task, budget=0.0), job.simulate(progress=False)
    assert (prediction.pilot.particles, prediction.pilot.steps) == (1024, 20)
    ranks = np.stack([run[name][0, -1, 1:] for name in ("rank_forward", "rank_backward")], axis=-1)
    print(f"predicted {prediction.ranks.tolist()}, run {ranks.tolist()}")
    assert_allclose(prediction.ranks, ranks, rtol=1 / 3)


@pytest.mark.parametrize(
    "more",
    [
        ["data.probes=0"],
        ["data.probes=0", "simulation.dtype=float32", "network.depth=2"],
        ["simulation.snapshots=[3, 6]", "simulation.replicas=2"],
        ["data.probes=0", "simulation.noise=width", "data.seed=2"],
    ],
)
def test_memory_is_predicted_within_fifteen_percent_at_the_ranks_reached(more):
    """Oracle: tracemalloc, which sees every array of numpy."""
    sets = ["simulation.particles=8192", "simulation.replicas=1", "simulation.workers=1", "training.steps=6", *more]
    task = prepare(read(None, sets)).task
    execute(task, False)  # compiles
    stack._local.__dict__.clear()  # buffers that earlier tests left
    tracemalloc.start()
    run = execute(task, False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    ranks = np.stack([run[name][0, -1, 1:] for name in ("rank_forward", "rank_backward")], axis=-1)
    print(f"predicted {memory_bytes(task, ranks) / 1e6:.1f} MB, peak {peak / 1e6:.1f} MB")
    assert abs(memory_bytes(task, ranks) / peak - 1.0) < 0.15


def test_plan_says_when_particles_may_not_do():
    job = prepare(read(None, ["simulation.particles=256", "simulation.replicas=1"]))
    prediction = predict(job.task)
    assert prediction.pilot.full and "particles=256 may not do" in concerns(job, prediction)[0]


def test_plan_says_when_the_pilot_diverges():
    job = prepare(read(None, ["training.reduction=sum", "simulation.particles=512"]))
    assert "the pilot stopped: diverged" in concerns(job, predict(job.task))[0]


def test_summary_of_one_replica_and_of_vanishing_features():
    problem = Problem(np.eye(2), np.array([1.0, -1.0]), np.eye(2), np.array([1.0, 0.5]))
    with pytest.warns(tpsim.Notice):
        run = tpsim.simulate(problem, Network(2, "tanh", 0.0), Training(2), 64, 1)
    summary = summarise(run)
    assert summary["loss"]["end"] == {"mean": 2.0, "se": None} and "probe_error" not in summary
    assert summary["layers"][1]["feature_change_h"] == {"mean": None, "se": None}
    assert "undefined" in table(summary) and "not available for one replica" in table(summary)
    json.dumps(summary, allow_nan=False)


def test_summary_is_the_mean_and_standard_error_over_replicas():
    """Oracle: numpy, replica by replica."""
    run = tpsim.simulate(data.digits(count=4, probes=3), Network(2), Training(3, 0.2), 64, 5, probe_every=2)
    summary = summarise(run)

    def check(found, values):
        assert_allclose([found["mean"], found["se"]], [np.mean(values), np.std(values, ddof=1) / 5**0.5], rtol=1e-12)

    check(summary["loss"]["end"], run.loss.values[:, -1])
    f, y = run.f_probe.values[:, -1], run.probe_targets.values
    check(summary["probe_mse"]["end"], [np.mean((f[r] - y) ** 2) for r in range(5)])
    check(summary["probe_error"]["end"], [np.mean(np.sign(f[r]) != y) for r in range(5)])
    for l in (1, 2):
        smallest = [np.linalg.eigvalsh(run.kernel_x.values[r, -1, l - 1])[0] for r in range(5)]
        check(summary["layers"][l - 1]["smallest_eigenvalue_x"]["end"], smallest)
        check(summary["layers"][l - 1]["feature_change_h"], run.feature_change_h.values[:, -1, l - 1])


@pytest.mark.parametrize(
    ("mean", "se", "expected"),
    [
        (0.001016492, 2.6e-05, "0.001016 +- 2.6e-05"), (1.0, 0.0, "1 +- 0"), (0.0, 1e-3, "0 +- 1.0e-03"),
        (12.3456789, 0.02, "12.346 +- 2.0e-02"), (1.23456, None, "1.235"), (None, None, "undefined"),
        (1e-5, 2.0, "1e-05 +- 2.0e+00"),
    ],
)  # fmt: skip
def test_numbers_have_the_digits_that_their_errors_support(mean, se, expected):
    assert show({"mean": mean, "se": se}) == expected


def test_help_comes_without_the_engine_and_a_run_without_torch():
    script = (
        "import sys; from tpsim.cli import main; heavy = {'numba', 'scipy', 'xarray', 'matplotlib', 'sklearn'};"
        "assert main(['--help']) == main(['--version']) == 0; assert main(['run', '--set', 'network.x=1']) == 2;"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules);"
        f"assert main({command('run', '--quiet')}) == 0; assert heavy < set(sys.modules);"
        "print([m for m in ('torch', 'finite', 'validation') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]"), done.stderr
