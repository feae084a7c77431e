"""Checkpoints of runs that signals end, of commands and of searches. Oracle: the run that nobody has disturbed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import joblib
import pytest
from test_checkpoint import Killed, assert_identical, files, quiet, simulate
from test_container import Full
from victim import NETWORK, PROBLEM, run

import tpsim
from tpsim import CheckpointError, Interrupted, Notice, Training, checkpoint, config, container, job, signals
from tpsim.cli import main

ROOT = Path(__file__).parent.parent
CONFIG = """
[data]
source = "digits"
count = 4

[network]
depth = 2
activation = "tanh"

[training]
steps = 300
learning_rate = 0.05
reduction = "mean"

[simulation]
particles = 256
replicas = 2
threads = 1
"""


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(container, "flush", lambda path: None)


@pytest.fixture(scope="module")
def undisturbed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        return run()


def command(tmp_path, *arguments):
    script = "import sys; from tpsim.cli import main; sys.exit(main())"
    call = [sys.executable, "-c", script, "run", "small.toml", *arguments]
    return subprocess.Popen(
        call, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        # a shell's background job ignores Ctrl-C, and would hand that down to here
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def replicas(folder):
    """Replicas of which there are checkpoints."""
    return {name[:12] for name in files(folder) if name.endswith(".ckpt")} if folder.exists() else set()


@pytest.mark.parametrize(
    ("number", "workers"),
    [(signal.SIGTERM, 1), (signal.SIGINT, 2), pytest.param(signal.SIGTERM, 2, marks=pytest.mark.slow)],
)
def test_a_signal_ends_a_command_that_says_how_to_go_on(number, workers, tmp_path):
    """To all processes of the run, as a terminal or a batch system sends it."""
    (tmp_path / "small.toml").write_text(CONFIG)
    arguments = ["--checkpoint", "c", "--checkpoint-seconds", "0.05", "--quiet"]
    arguments += ["--set", f"simulation.workers={workers}"]
    process = command(tmp_path, *arguments)
    wait_for(lambda: len(replicas(tmp_path / "c")) == workers)
    os.killpg(process.pid, number)
    start = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert time.monotonic() - start < 10
    assert f"interrupted: {number.name}: stopped, replica 0 at step" in err and "Traceback" not in err
    again = f"to go on: tpsim run small.toml {' '.join(arguments)} --resume"
    assert again in err and not list(tmp_path.glob("tpsim-output*"))
    assert all(name.endswith(".ckpt") for name in files(tmp_path / "c"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        whole = job.prepare(config.read(tmp_path / "small.toml"))
        resumed = whole.with_checkpoints(str(tmp_path / "c"), 300, True)
        assert_identical(resumed.simulate(False), whole.simulate(False))


def test_the_command_keeps_checkpoints_and_goes_on(tmp_path, monkeypatch, capsys):
    """One line that names the option, and exit code 2, where it must not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tpsim.plot, "save_all", lambda run, folder: [])
    Path("small.toml").write_text(CONFIG)
    call = ["run", "small.toml", "--quiet", "--set", "training.steps=3", "--set", "simulation.workers=1"]
    call += ["--checkpoint", "c"]
    assert main([*call, "--output", "one"]) == 0
    assert files("c") == [f"replica-{r:04d}-step-000000003.ckpt" for r in (0, 1)]
    assert main([*call, "--output", "two"]) == 2
    assert capsys.readouterr().err.endswith("; allowed: a folder without checkpoints, or `resume` to go on from them\n")
    assert main([*call, "--output", "two", "--resume"]) == 0
    assert_identical(tpsim.load("two/limit.nc"), tpsim.load("one/limit.nc"))
    capsys.readouterr()
    assert main([*call, "--output", "three", "--resume", "--set", "simulation.seed=1"]) == 2
    assert "simulation.seed is 0 there and 1 here" in capsys.readouterr().err
    assert main(["run", "--resume"]) == 2
    assert capsys.readouterr().err.startswith("error: --resume: got True; allowed: False without checkpoint")
    assert main([*call[:-1], "d", "--checkpoint-seconds", "-1"]) == 2
    assert capsys.readouterr().err.startswith("error: --checkpoint-seconds: got -1.0; allowed: a number >= 0")


def interrupted(folder, numbers=(signal.SIGTERM,), step=10, **options):
    """The small run in this process, with signals at a step of the first replica."""

    def progress(t, replica, loss):
        if (replica, t) == (0, step):
            for number in numbers:
                signal.raise_signal(number)

    return quiet(folder, progress=progress, **options)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_and_writes_a_checkpoint(number, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "POLL", 0.0)
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted, match=f"{number.name}: stopped, replica 0 at step 11; .* with `resume`") as stop:
        interrupted(tmp_path, [number])
    assert stop.value.signum == number and isinstance(stop.value, KeyboardInterrupt)
    assert files(tmp_path) == ["replica-0000-step-000000011.ckpt"]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert_identical(quiet(tmp_path, resume=True), undisturbed)


def test_a_second_signal_does_not_wait(tmp_path):
    with pytest.raises(KeyboardInterrupt) as stop:
        interrupted(tmp_path, [signal.SIGINT, signal.SIGINT])
    assert not isinstance(stop.value, Interrupted) and files(tmp_path) == []


def test_a_signal_in_the_last_step_is_not_lost(undisturbed, tmp_path):
    with pytest.raises(Interrupted, match="replica 0 at step 20"):
        interrupted(tmp_path, step=20, replicas=1)
    assert_identical(quiet(tmp_path, resume=True), undisturbed)


def test_an_interrupt_that_cannot_write_is_an_error(tmp_path, monkeypatch):
    """The user is told that what was done since the last checkpoint is gone."""
    monkeypatch.setattr(checkpoint, "POLL", 0.0)
    create = container._create
    monkeypatch.setattr(container, "_create", lambda path: Full(create(path), 1000))
    with pytest.raises(CheckpointError, match="No space left on device; .* bytes are needed"):
        interrupted(tmp_path)


def test_signals_are_not_lost_while_processes_start():
    """And the processes do not get them. Oracle: a child that would say so."""
    came = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    child = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('alive')"
    try:
        with signals.interrupts_deferred():
            done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True)
            os.kill(os.getpid(), signal.SIGINT)
            assert came == []
        assert came == [signal.SIGINT] and done.stdout == "alive\n"
        os.kill(os.getpid(), signal.SIGINT)
        assert came == [signal.SIGINT] * 2
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_signal_while_workers_start_stops_the_run(undisturbed, tmp_path, monkeypatch):
    """It is acted on at the first step: nothing is done, and nothing lost."""
    parallel = joblib.Parallel

    def starting(*arguments, **keywords):
        os.kill(os.getpid(), signal.SIGTERM)
        return parallel(*arguments, **keywords)

    monkeypatch.setattr(joblib, "Parallel", starting)
    with pytest.raises(Interrupted, match="SIGTERM: stopped"):
        quiet(tmp_path, workers=2)
    monkeypatch.setattr(joblib, "Parallel", parallel)
    assert_identical(quiet(tmp_path, workers=2, resume=True), undisturbed)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def test_workers_end_with_the_process_that_was_killed(tmp_path):
    """So that they do not write into a folder that another run holds."""
    (tmp_path / "small.toml").write_text(CONFIG.replace("steps = 300", "steps = 9999"))
    arguments = ["--checkpoint", "c", "--checkpoint-seconds", "0.05", "--set", "simulation.workers=2", "--quiet"]
    process = command(tmp_path, *arguments)
    wait_for(lambda: len(replicas(tmp_path / "c")) == 2)
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    children = [int(pid) for task in tasks for pid in task.read_text().split()]
    process.kill()
    process.communicate()
    assert len(children) >= 2
    wait_for(lambda: not any(alive(pid) for pid in children), 20)


def test_a_search_goes_on_from_its_stages(tmp_path):
    """Every stage has a folder of its own; what is found is the same, but for the seconds that it took."""
    options = dict(target_error=0.03, replicas=4, max_seconds=1e4, workers=1)
    expected = simulate(PROBLEM, NETWORK, Training(5, 0.2), **options)
    count = [0]

    def progress(step, replica, loss):
        count[0] += 1
        if count[0] == 60:
            raise Killed

    with pytest.raises(Killed):
        simulate(PROBLEM, NETWORK, Training(5, 0.2), checkpoint=tmp_path, progress=progress, **options)
    assert all(name.startswith("particles-") for name in files(tmp_path)) and len(files(tmp_path)) > 1
    count[0] = 1000
    found = simulate(PROBLEM, NETWORK, Training(5, 0.2), checkpoint=tmp_path, resume=True, progress=progress, **options)
    for name in expected.data_vars:
        assert found[name].values.tobytes() == expected[name].values.tobytes(), name
    one, other = (json.loads(run.attrs["accuracy"]) for run in (found, expected))
    for stage in (*one["stages"], *other["stages"]):
        del stage["seconds"]
    assert one == other


def test_files_of_killed_processes_are_removed(tmp_path, monkeypatch):
    """Those of a process that is there stay."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    dead, alive, other = (tmp_path / f"tpsim-stop-{name}-x" for name in (process.pid, os.getpid(), "word"))
    for path in (dead, alive, other):
        path.write_bytes(b"\0")
    request = signals.StopRequest()
    assert sorted(tmp_path.iterdir()) == sorted([alive, other, request.path])
    request.close()
