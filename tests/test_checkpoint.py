"""Checkpoints. Oracle: the run that nobody has disturbed, bit by bit, in every variable and attribute."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_container import Full, forged, parts
from victim import NETWORK, OPTIONS, PROBLEM, TRAINING, Server, run

import tpsim
from tpsim import (
    CheckpointError,
    FileError,
    InputError,
    Network,
    Notice,
    Problem,
    Training,
    checkpoint,
    container,
    storage,
)
from tpsim import simulate as _simulate

ROOT = Path(__file__).parent.parent
INPUTS = PROBLEM.inputs


def silu(h):
    return h / (1 + np.exp(-h))


def dsilu(h):
    s = 1 / (1 + np.exp(-h))
    return s * (1 + h * (1 - s))


def rate(step):
    return 0.3 / (1 + step)


class Killed(BaseException):
    """Stands for the end of the process where that is not the point."""


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch, request):
    """The tests of kills and the others do the same; the disk is not cut off from its power here."""
    monkeypatch.setattr(container, "flush", lambda path: None)


def simulate(*arguments, **options):
    """Without notices of small spaces, but for those of checkpoints."""
    options = {"progress": False, "threads": 1} | options
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=Notice)
        warnings.filterwarnings("always", category=checkpoint.Remark)
        return _simulate(*arguments, **options)


def quiet(folder, **options):
    """The small run with its checkpoints, its notices ignored."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        return run(checkpoint=folder, **options)


def assert_identical(a, b):
    assert set(a.variables) == set(b.variables)
    for name in a.variables:
        assert a[name].dtype == b[name].dtype, name
        assert a[name].values.tobytes() == b[name].values.tobytes(), name
    assert a.attrs == b.attrs


def files(folder):
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.fixture(scope="module")
def undisturbed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        return run()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of the small run, which has come to its end: two generations of two replicas."""
    folder = tmp_path_factory.mktemp("finished") / "checkpoints"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(container, "flush", lambda path: None)
        quiet(folder, checkpoint_seconds=0)
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "checkpoints"))


# resumed runs are the undisturbed one

CASES = {
    "three layers, parts of snapshots": (Network(3, "silu"), Training(5, 0.2), dict(snapshots=[0, 3, 5], parts=True)),
    "one layer": (Network(1, "tanh"), Training(4, 0.2), dict(particles=64)),
    "iid, minibatch, few records": (
        Network(2, "tanh"), Training(6, 0.2, batches={"size": 2, "seed": 1}),
        dict(noise="iid", particles=200, record_every=4),
    ),
    "width, listed batches": (
        Network(2, "relu"), Training(5, rate, batches=[[0], [1, 2], [2], [0, 1], [1]]),
        dict(noise="width", particles=64),
    ),
    "float32, own functions": (Network(2, (silu, dsilu)), Training(4, 0.2), dict(dtype="float32", joint_every=3)),
    "ip": (Network(2, "gelu"), Training(4, 0.5, "logistic", "mean"), dict(limit="ip")),
    "a space that is half full": (Network(2, "tanh"), Training(5, 0.2), dict(particles=64, sobol=False)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_run_resumed_from_any_step_is_the_undisturbed_one(case, tmp_path, monkeypatch):
    """Of the last replica: the steps of the first are then done, but for the last one."""
    network, training, options = CASES[case]
    problem = replace(PROBLEM, targets=np.sign(PROBLEM.targets))
    options = dict(particles=256, replicas=2) | options
    expected = simulate(problem, network, training, **options)
    monkeypatch.setattr(checkpoint, "GENERATIONS", 99)
    every = tmp_path / "every"
    assert_identical(
        simulate(problem, network, training, checkpoint=every, checkpoint_seconds=0, **options), expected
    )
    monkeypatch.undo()
    monkeypatch.setattr(container, "flush", lambda path: None)
    T = training.steps
    assert files(every) == [f"replica-{r:04d}-step-{t:09d}.ckpt" for r in (0, 1) for t in range(1, T + 1)]
    for step in range(1, T + 1):
        folder, seen = tmp_path / str(step), []
        folder.mkdir()
        for replica, at in ((0, T), (1, step)):
            shutil.copy(every / f"replica-{replica:04d}-step-{at:09d}.ckpt", folder)
        found = simulate(
            problem, network, training, checkpoint=folder, resume=True,
            progress=lambda t, r, loss, seen=seen: seen.append((r, t)), **options,
        )  # fmt: skip
        assert seen == [(0, T), *((1, t) for t in range(step, T + 1))]
        assert_identical(found, expected)


def test_on_other_numbers_of_threads_and_workers(undisturbed, folder):
    for name in files(folder):
        if not name.startswith("replica-0000-step-000000019"):
            (folder / name).unlink()
    for options in (dict(threads=2), dict(threads=3), dict(workers=2)):
        place = Path(shutil.copytree(folder, folder.parent / "-".join(options) / str(options)))
        assert_identical(quiet(place, resume=True, **options), undisturbed)


def test_more_steps_and_more_replicas(folder):
    """The row of the old last step is none of the longer run's; the old replicas go on from their last step."""
    longer, seen = replace(TRAINING, steps=31), []
    options = OPTIONS | {"replicas": 3}
    expected = simulate(PROBLEM, NETWORK, longer, **options)
    found = simulate(
        PROBLEM, NETWORK, longer, checkpoint=folder, resume=True,
        progress=lambda t, r, loss: seen.append((r, t)), **options,
    )  # fmt: skip
    assert_identical(found, expected)
    assert [seen.index((0, 20)), (0, 19) in seen, (1, 19) in seen, (2, 0) in seen] == [0, False, False, True]
    again = simulate(PROBLEM, NETWORK, longer, checkpoint=folder, resume=True, **options)
    assert_identical(again, expected)


def test_other_probes_may_be_asked_at_the_end(folder):
    """Training is the same with and without them."""
    problem = Problem(INPUTS, PROBLEM.targets, probes=INPUTS[:1] + 0.1)
    found = simulate(problem, NETWORK, TRAINING, checkpoint=folder, resume=True, **OPTIONS)
    assert_identical(found, simulate(problem, NETWORK, TRAINING, **OPTIONS))


def test_a_run_that_diverges_or_is_full_does_so_again(tmp_path):
    for k, (training, options, kind) in enumerate([
        (Training(30, 40.0), dict(particles=64), tpsim.Diverged),
        (Training(30, 0.5), dict(particles=48, sobol=False), tpsim.RankError),
    ]):  # fmt: skip
        place, options = tmp_path / str(k), dict(replicas=1) | options
        stops = []
        for keep in (dict(), dict(checkpoint=place, checkpoint_seconds=0), dict(checkpoint=place, resume=True)):
            with pytest.raises(kind) as stop:
                simulate(PROBLEM, Network(2, "relu"), training, **options, **keep)
            stops.append(stop.value)
        assert len({(str(stop), stop.step) for stop in stops}) == 1
        assert_identical(stops[2].run, stops[0].run)


def test_two_generations_are_kept_and_nothing_else(finished):
    assert files(finished) == [f"replica-{r:04d}-step-{t:09d}.ckpt" for r in (0, 1) for t in (19, 20)]


def test_the_interval_is_kept(tmp_path, monkeypatch):
    """By a clock that advances one second a step: one at every third step, and the last one."""
    steps, clock = [], [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(checkpoint, "write", lambda path, about, arrays: steps.append(about["step"]))

    def progress(step, replica, loss):
        clock[0] += 1.0

    quiet(tmp_path, replicas=1, progress=progress, checkpoint_seconds=3)
    assert steps == [3, 6, 9, 12, 15, 18, 20]


# what is refused


def test_a_folder_with_checkpoints_is_not_written_over(folder):
    with pytest.raises(InputError, match="checkpoint: .*a folder without checkpoints, or `resume`"):
        quiet(folder)


def test_resume_without_checkpoints_starts_at_the_beginning(undisturbed, tmp_path):
    """So that the same command starts a run and goes on with it."""
    for place in (tmp_path, tmp_path / "new" / "one"):
        with pytest.warns(Notice, match="holds no checkpoint: the run starts at its beginning"):
            found = run(checkpoint=place, resume=True)
        assert_identical(found, undisturbed)


def test_one_run_at_a_time(folder):
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(FileError, match="another run is at work in this folder"):
        quiet(folder, resume=True)
    os.close(descriptor)
    quiet(folder, resume=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(checkpoint=""), "checkpoint: "),
        (dict(checkpoint=3), "checkpoint: "),
        (dict(checkpoint=__file__), "checkpoint: .*a folder"),
        (dict(checkpoint="x", checkpoint_seconds=-1), "checkpoint_seconds: got -1; allowed: a number >= 0"),
        (dict(checkpoint="x", checkpoint_seconds="1"), "checkpoint_seconds: "),
        (dict(checkpoint="x", checkpoint_seconds=np.inf), "checkpoint_seconds: "),
        (dict(resume=True), "resume: got True; allowed: False without checkpoint"),
        (dict(checkpoint="x", resume=1), "resume: "),
        (dict(checkpoint="x", limit="ntp"), "checkpoint: .*features do not move"),
    ],
)
def test_bad_arguments(options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        run(**options)
    assert files(tmp_path) == []


OTHERS = {
    "seed": (dict(seed=1), {}, {}, {}, "simulation.seed is 0 there and 1 here"),
    "particles": (dict(particles=128), {}, {}, {}, "simulation.particles is 256 there and 128 here"),
    "tolerance": (dict(tolerance=1e-3), {}, {}, {}, "simulation.tolerance is 0.003 there and 0.001 here"),
    "dtype": (dict(dtype="float32"), {}, {}, {}, 'simulation.dtype is "float64" there'),
    "limit": (dict(limit="ip"), {}, {}, {}, 'simulation.limit is "mup" there and "ip" here'),
    "record": (dict(record_every=2), {}, {}, {}, "step 2 is in the schedule `record` here and not there"),
    "probe": (dict(probe_every=8), {}, {}, {}, "step 7 is in the schedule `probe` there and not here"),
    "snapshot": (dict(snapshots=[1]), {}, {}, {}, "step 1 is in the schedule `snapshot` here and not there"),
    "activation": ({}, dict(activation="erf"), {}, {}, 'network.activation is "tanh" there and "erf" here'),
    "function": ({}, dict(activation=(silu, dsilu)), {}, {}, "network.activation"),
    "depth": ({}, dict(depth=3), {}, {}, "network.depth is 2 there and 3 here"),
    "scale": ({}, dict(init_scale=1.1), {}, {}, "network.init_scale"),
    "rate": ({}, {}, dict(learning_rate=0.3), {}, r"learning_rate at step 0 is \[0.2, 0.2, 0.2\] there and \[0.3"),
    "later rate": ({}, {}, dict(learning_rate=lambda t: 0.2 + (t > 4)), {}, r"learning_rate at step 5 is \[0.2"),
    "loss": ({}, {}, dict(loss="logistic"), {}, "training.loss"),
    "reduction": ({}, {}, dict(reduction="mean"), {}, "training.reduction"),
    "batches": ({}, {}, dict(batches={"size": 2, "seed": 2}), {}, "training.batches.seed is 1 there and 2 here"),
    "lists": ({}, {}, dict(batches=[[0]] * 20), {}, "training.batches"),
    "inputs": ({}, {}, {}, dict(inputs=INPUTS + 1e-12), "problem.sha256_inputs"),
    "targets": ({}, {}, {}, dict(targets=[1.0, 1.0, 1.0]), "problem.sha256_targets"),
    "no probes": ({}, {}, {}, dict(probes=None), "step 0 is in the schedule `probe` there and not here"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_run_is_refused_by_name_with_both_values(name, folder):
    options, network, training, problem, words = OTHERS[name]
    before = files(folder)
    with pytest.raises(CheckpointError, match=f"another run, so that this one needs another folder: {words}"):
        simulate(
            replace(PROBLEM, **problem), replace(NETWORK, **network), replace(TRAINING, **training),
            checkpoint=folder, resume=True, **OPTIONS | options,
        )  # fmt: skip
    assert files(folder) == before


def test_fewer_steps_are_refused(folder):
    with pytest.raises(InputError, match="steps: got 10; allowed: at least 20"):
        simulate(PROBLEM, NETWORK, replace(TRAINING, steps=10), checkpoint=folder, resume=True, **OPTIONS)


def test_later_learning_rates_and_batches_may_be_others(tmp_path):
    """A schedule that is the same so far is the same run."""
    lists = [[0, 1], [1, 2], [0, 2]]
    first = Training(3, rate, batches=lists)
    simulate(PROBLEM, NETWORK, first, checkpoint=tmp_path, **OPTIONS)
    longer = Training(6, lambda t: rate(t) if t < 3 else 0.01, batches=[*lists, [0], [1], [2]])
    found = simulate(PROBLEM, NETWORK, longer, checkpoint=tmp_path, resume=True, **OPTIONS)
    assert_identical(found, simulate(PROBLEM, NETWORK, longer, **OPTIONS))
    with pytest.raises(CheckpointError, match="training.batches"):
        other = replace(longer, batches=[[0], *lists, [1], [2]])
        simulate(PROBLEM, NETWORK, other, checkpoint=tmp_path, resume=True, **OPTIONS)


def test_functions_with_the_same_values_are_the_same(tmp_path):
    network = Network(2, (silu, dsilu))
    expected = simulate(PROBLEM, network, TRAINING, checkpoint=tmp_path, **OPTIONS)
    same = Network(2, (lambda h: h / (1 + np.exp(-h)), dsilu))
    found = simulate(PROBLEM, same, TRAINING, checkpoint=tmp_path, resume=True, **OPTIONS)
    assert found.f.values.tobytes() == expected.f.values.tobytes()


def test_other_versions_are_told_and_go_on(folder, undisturbed, monkeypatch):
    there = checkpoint.here() | {"numba": "0.1"}
    monkeypatch.setattr(checkpoint, "here", lambda: there)
    with pytest.warns(Notice, match='numba is .* there and "0.1" here: results may differ in their last digits'):
        found = run(checkpoint=folder, resume=True)
    assert_identical(found, undisturbed)


# damage


def newest(folder, replica=0):
    return folder / f"replica-{replica:04d}-step-000000020.ckpt"


def older(folder, replica=0):
    return folder / f"replica-{replica:04d}-step-000000019.ckpt"


def damaged_files(folder, count, draw, every):
    """Yield (what, bytes) for the newest file of replica 0: `every` which array is aimed at, the rest is random."""
    whole = newest(folder).read_bytes()
    manifest, data = parts(whole)
    about, arrays = manifest["about"], manifest["arrays"]

    def about_with(**changes):
        return forged(manifest | {"about": about | changes}, data)

    def arrays_with(index, entry):
        return forged(manifest | {"arrays": [*arrays[:index], entry, *arrays[index + 1 :]]}, data)

    yield "the older one", older(folder).read_bytes()
    yield "another replica's", newest(folder, 1).read_bytes()
    yield "another replica's older one", older(folder, 1).read_bytes()
    yield "empty", b""
    yield "pickle", b"\x80\x04\x95" + os.urandom(50)
    yield "foreign version", forged(manifest, data, version=2)
    yield "giant manifest", forged(manifest, data, length=1 << 62)
    yield "trailing", whole + b"x"
    yield "other step", about_with(step=19)
    yield "other replica", about_with(replica=1)
    yield "step is a text", about_with(step="20")
    yield "no notices", about_with(notices=None)
    yield "notices are numbers", about_with(notices=[1])
    yield "a key more", about_with(more=1)
    yield "no versions", about_with(versions=[])
    for index, (name, dtype, shape, digest) in list(enumerate(arrays))[::every]:
        yield f"{name} renamed", arrays_with(index, [name + "x", dtype, shape, digest])
        yield f"{name} above", arrays_with(index, ["../" + name, dtype, shape, digest])
        yield f"{name} twice", arrays_with(index, arrays[index - 1])
        yield f"{name} flat", arrays_with(index, [name, dtype, [1, *shape], digest])
        yield f"{name} other dtype", arrays_with(index, [name, "<i8" if dtype == "<f8" else "<f8", shape, digest])
    start = len(whole) - len(data)
    for _ in range(count):
        if (kind := draw.randrange(4)) == 0:
            size = draw.randrange(len(whole))
            yield f"truncated to {size}", whole[:size]
        else:
            byte = draw.randrange(start) if kind == 1 else draw.randrange(len(whole))
            flipped = bytearray(whole)
            flipped[byte] ^= 1 << draw.randrange(8)
            yield f"bit flipped in byte {byte}", bytes(flipped)


def check_damage(folder, expected, count, seed, every=1):
    """Every damaged file is refused by name and the older one used; return how many there were."""
    fallbacks, one = 0, newest(folder)
    others = {path: path.read_bytes() for path in folder.iterdir() if path != one}
    for what, data in damaged_files(folder, count, random.Random(seed), every):
        one.write_bytes(data)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = run(checkpoint=folder, checkpoint_seconds=1e9, resume=True, replicas=1)
        told = [str(w.message) for w in caught if issubclass(w.category, checkpoint.Remark)]
        assert len(told) == 1 and told[0].startswith(f"{one}: "), (what, told)
        assert told[0].endswith("going on from step 19, the checkpoint before it"), (what, told)
        assert_identical(found, expected)
        fallbacks += 1
        for path, content in others.items():  # the run has written its last step anew
            path.write_bytes(content)
    return fallbacks


@pytest.fixture(scope="module")
def single():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        return run(replicas=1)


def test_damage_is_told_and_the_checkpoint_before_it_used(folder, single):
    assert check_damage(folder, single, 100, 0, every=8) > 160


@pytest.mark.slow
def test_five_thousand_damaged_files(folder, single):
    number = check_damage(folder, single, 5000, 1)
    print(f"{number} damaged files: all refused by name, all results bit-identical")
    assert number > 5000


def test_if_all_are_damaged_all_are_named(folder):
    for path in (newest(folder), older(folder)):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError) as error:
        quiet(folder, resume=True)
    for words in ("no checkpoint of replica 0 can be used", str(newest(folder)), str(older(folder))):
        assert words in str(error.value)


def test_files_of_other_names_are_left_alone_and_wrong_ones_are_damage(folder, undisturbed):
    strange = ["replica-00000-step-000000021.ckpt", "replica-0000-step-0000000021.ckpt", "notes.txt", "x.ckpt"]
    for name in strange:
        (folder / name).write_bytes(b"")
    late = folder / "replica-0000-step-999999999.ckpt"
    shutil.copy(newest(folder), late)
    with pytest.warns(Notice, match="999999999.ckpt: it is step 20 of replica 0 .*; going on from step 20"):
        assert_identical(run(checkpoint=folder, resume=True), undisturbed)
    assert set(strange) < set(files(folder))


def test_swapped_generations_are_noticed(folder):
    one, other = newest(folder).read_bytes(), older(folder).read_bytes()
    newest(folder).write_bytes(other)
    older(folder).write_bytes(one)
    with pytest.raises(CheckpointError, match="it is step 19 of replica 0 under another name; .* it is step 20 of"):
        quiet(folder, resume=True)


def test_forged_counts_are_refused_before_memory_is_taken(folder):
    """Every number of things, as large as it can be, with digests that are right."""
    import hashlib

    manifest, data = parts(newest(folder).read_bytes())
    offset, tried = 0, 0
    for index, (name, dtype, shape, _) in enumerate(manifest["arrays"]):
        size = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
        if dtype == "<i8" and size and not name.startswith("past/"):
            for value in (1 << 60, -1):
                lie = np.full(shape, value, "<i8").tobytes()
                entry = [name, dtype, shape, hashlib.sha256(lie).hexdigest()]
                arrays = [*manifest["arrays"][:index], entry, *manifest["arrays"][index + 1 :]]
                newest(folder).write_bytes(
                    forged(manifest | {"arrays": arrays}, data[:offset] + lie + data[offset + size :])
                )
                if name.endswith(("count", "numbers", "waiting", "lengths")):
                    with pytest.raises(CheckpointError):
                        checkpoint_of(folder)
                    tried += 1
        offset += size
    assert tried > 20


def checkpoint_of(folder):
    """Load the newest file of replica 0 alone."""
    older(folder).unlink(missing_ok=True)
    return quiet(folder, resume=True, replicas=1)


def test_a_damaged_one_is_not_counted_as_a_generation(folder):
    """After the next whole one it is gone."""
    newest(folder).write_bytes(b"")
    with pytest.warns(Notice, match="going on from step 19"):
        run(checkpoint=folder, resume=True)
    assert files(folder)[:2] == [older(folder).name, newest(folder).name] and newest(folder).stat().st_size > 0


# disks


@pytest.mark.parametrize("quota", range(30))
def test_a_full_disk_does_not_end_a_run(quota, folder, single, monkeypatch):
    """At 30 sizes: what is there still loads, the result is the same, and the notice has the bytes."""
    for replica in (0, 1):
        newest(folder, replica).unlink()
    room = round(older(folder).stat().st_size * quota / 30)
    create = container._create
    monkeypatch.setattr(container, "_create", lambda path: Full(create(path), room))
    before = files(folder)
    with pytest.warns(Notice, match=r"No space left on device; \d+ bytes are needed, \d+ are free; the run goes on"):
        found = run(checkpoint=folder, checkpoint_seconds=0, resume=True, replicas=1)
    assert_identical(found, single)
    assert files(folder) == before
    monkeypatch.setattr(container, "_create", create)
    assert_identical(quiet(folder, resume=True, replicas=1), single)


def test_a_limit_of_the_system_on_the_size_of_files(tmp_path):
    """A real one, in a process of its own."""
    script = (
        "import resource, sys, warnings; sys.path[:0] = ['tests']; from victim import run\n"
        "from tpsim.checkpoint import Remark; warnings.simplefilter('always', Remark)\n"
        "run(checkpoint=sys.argv[1], checkpoint_seconds=0, replicas=1)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))\n"
        "from victim import *; from dataclasses import replace\n"
        "simulate(PROBLEM, NETWORK, replace(TRAINING, steps=22), progress=False, checkpoint=sys.argv[1],\n"
        "         checkpoint_seconds=0, resume=True, **OPTIONS | {'replicas': 1})\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "c"], cwd=ROOT, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("cannot be written: File too large; ") == 2 and "bytes are needed" in done.stderr
    assert files(tmp_path / "c") == [older(tmp_path).name, newest(tmp_path).name]


def test_a_folder_that_vanishes_does_not_end_a_run(undisturbed, tmp_path):
    place = tmp_path / "place"

    def progress(step, replica, loss):
        if step == 10:
            shutil.rmtree(place, ignore_errors=True)

    with pytest.warns(Notice, match="No such file or directory; .* bytes are needed"):
        found = _simulate(
            PROBLEM, NETWORK, TRAINING, progress=progress, checkpoint=place, checkpoint_seconds=0, **OPTIONS
        )
    assert_identical(found, undisturbed)
    assert not place.exists()


def test_a_folder_that_becomes_read_only_does_not_end_a_run(undisturbed, folder, monkeypatch):
    def refuse(*arguments):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(container, "_create", refuse)
    with pytest.warns(Notice, match="Read-only file system; .* the run goes on without this checkpoint"):
        found = simulate(PROBLEM, NETWORK, replace(TRAINING, steps=22), checkpoint=folder, resume=True, **OPTIONS)
    assert found.sizes["step"] == 9


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path, monkeypatch):
    def refuse(*arguments, **keywords):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(storage.tempfile, "TemporaryFile", refuse)
    with pytest.raises(FileError, match=f"{tmp_path}: cannot be written: Read-only file system"):
        run(checkpoint=tmp_path, progress=lambda *step: pytest.fail("it began"))


# kills


@pytest.fixture(scope="module")
def server():
    one = Server()
    yield one
    one.close()


def steps_of(log):
    """Steps by replica that a log holds."""
    steps = {0: [], 1: []}
    for line in Path(log).read_text().splitlines() if Path(log).exists() else []:
        replica, step = map(int, line.split())
        steps[replica].append(step)
    return steps


def check_resumed(folder, log, undisturbed):
    """Go on in this process: bit-identical, and at most the step that was not finished is done again."""
    killed, again = steps_of(log), Path(f"{log}-again")
    found = quiet(folder, log=again, checkpoint_seconds=0, resume=True)
    assert_identical(found, undisturbed)
    for replica, steps in steps_of(again).items():
        if killed[replica]:
            assert killed[replica][-1] <= steps[0] <= killed[replica][-1] + 1, (replica, killed, steps)
    assert files(folder) == [f"replica-{r:04d}-step-{t:09d}.ckpt" for r in (0, 1) for t in (19, 20)]


def points():
    """All points of writing, in their order."""
    seen: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(container, "at", lambda point: seen.append(point) if point not in seen else None)
        patch.setattr(container, "flush", lambda path: None)
        path = ROOT / "tests" / f".points-{os.getpid()}"
        try:
            container.write(path, {}, {"x": np.zeros(1)})
        finally:
            path.unlink()
    return seen


POINTS = points()


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_every_point_of_writing(point, server, undisturbed, tmp_path):
    skip = 3 if point != "during-write" else 300
    server.start(tmp_path / "c", tmp_path / "log", point, skip)
    assert server.status() == -signal.SIGKILL, "the kill came too late"
    check_resumed(tmp_path / "c", tmp_path / "log", undisturbed)


def kill_at_random(server, undisturbed, tmp_path, count, seed):
    """SIGKILL at `count` moments; return how many of the 42 steps were done.

    A moment is a number of steps, random and up to 36, and a part of the time that a step takes after that: a run on a
    busy machine is as long as it is, and not as long as another one was.
    """
    draw, reached = random.Random(seed), []
    for k in range(count):
        folder, log = tmp_path / f"c{k}", tmp_path / f"kill-{k}"
        pid, steps = server.start(folder, log), draw.randrange(37)
        end = time.monotonic() + 60
        while sum(map(len, steps_of(log).values())) < steps and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(0.03 * draw.random())
        os.kill(pid, signal.SIGKILL)
        assert server.status() == -signal.SIGKILL, "the kill came too late"
        reached.append(sum(map(len, steps_of(log).values())))
        check_resumed(folder, log, undisturbed)
        shutil.rmtree(folder)
    return reached


def test_killed_at_any_moment(server, undisturbed, tmp_path):
    reached = kill_at_random(server, undisturbed, tmp_path, 10, 0)
    assert len(set(reached)) > 4, reached


@pytest.mark.slow
def test_killed_at_two_hundred_moments(server, undisturbed, tmp_path):
    reached = kill_at_random(server, undisturbed, tmp_path, 200, 1)
    print(f"200 kills, after {min(reached)} to {max(reached)} of 42 steps: all resumed, all bit-identical")
    assert len(set(reached)) > 20


@pytest.mark.parametrize("point", ["after-rename", "after-dirsync"])
def test_what_was_to_be_removed_when_it_was_killed_is_removed_later(point, server, undisturbed, tmp_path):
    """At the last checkpoint of a replica, after which nothing is written when the run goes on."""
    server.start(tmp_path / "c", tmp_path / "log", point, 19)
    assert server.status() == -signal.SIGKILL, "the kill came too late"
    assert [name for name in files(tmp_path / "c") if name.endswith(".ckpt")] == [
        f"replica-0000-step-{step:09d}.ckpt" for step in (18, 19, 20)
    ]
    check_resumed(tmp_path / "c", tmp_path / "log", undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_every_point_of_every_checkpoint(point, server, undisturbed, tmp_path):
    for skip in range(40):
        server.start(tmp_path / f"c{skip}", tmp_path / f"log-{skip}", point, skip)
        assert server.status() == -signal.SIGKILL, "the kill came too late"
        check_resumed(tmp_path / f"c{skip}", tmp_path / f"log-{skip}", undisturbed)


def test_killed_again_and_again(server, undisturbed, tmp_path):
    """A run that never lives longer than five checkpoints comes to its end."""
    lives = 0
    while True:
        server.start(tmp_path / "c", tmp_path / "log", "after-rename", 4)
        lives += 1
        if server.status() == 0:
            break
    assert lives == 9  # 40 checkpoints, the fifth of each life is its last
    assert_identical(quiet(tmp_path / "c", resume=True), undisturbed)


# what the first readers found


def cube(f, y):
    return (f - y) ** 2 * (2 - y * y), 2 * (f - y) * (2 - y * y)


def test_a_loss_that_differs_at_the_targets_only_is_another_run(tmp_path):
    """At y = 1 and -1 it is the squared loss."""
    problem, network = Problem(INPUTS, [0.5, -0.5, 0.5]), Network(1)
    squared = (lambda f, y: (f - y) ** 2, lambda f, y: 2 * (f - y))
    other = (lambda f, y: cube(f, y)[0], lambda f, y: cube(f, y)[1])
    options = dict(particles=64, replicas=1, checkpoint=tmp_path / "c")
    simulate(problem, network, Training(2, 0.1, squared), **options)
    with pytest.raises(CheckpointError, match="training.loss_fingerprint is .* there and .* here"):
        simulate(problem, network, Training(3, 0.1, other), **options, resume=True)


def test_a_run_that_has_reached_its_rank_goes_on_with_a_larger_one(tmp_path):
    """Oracle: the run that had the larger one from the start. A smaller one than is reached is refused."""
    case, options = (PROBLEM, Network(2, "tanh"), TRAINING), OPTIONS | dict(replicas=1)
    whole = simulate(*case, **options)
    most = int(whole.rank_backward.max()) - 1
    with pytest.raises(tpsim.RankError):
        simulate(*case, **options, max_rank=most, checkpoint=tmp_path / "c", checkpoint_seconds=0)
    with pytest.raises(CheckpointError, match="simulation.max_rank is 2 here, and a rank of"):
        simulate(*case, **options, max_rank=2, checkpoint=tmp_path / "c", resume=True)
    found = simulate(*case, **options, checkpoint=tmp_path / "c", resume=True)
    assert found.identical(whole)


def killing(parent):
    """A learning rate that kills a worker in which it is asked for that of the third step."""

    def rate(step):
        if step == 3 and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0.2

    return rate


@pytest.mark.parametrize("kept", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_worker_that_is_killed_is_an_error_that_says_how_to_go_on(kept, tmp_path):
    """Oracle: the run in one process, in which nothing is killed."""
    options = dict(particles=64, replicas=2)
    case = PROBLEM, Network(2), Training(6, killing(os.getpid()))
    folder = dict(checkpoint=tmp_path / "c", checkpoint_seconds=0) if kept else {}
    with pytest.raises(tpsim.ResourceError, match=f"a worker process was killed.* {'goes' if kept else 'go'} on"):
        simulate(*case, **options, **folder, workers=2)
    if kept:
        assert_identical(simulate(*case, **options, **folder, resume=True), simulate(*case, **options))


@pytest.mark.parametrize("folder", ["a\0b", "p\ud800", "", 3])
def test_folders_that_cannot_be(folder):
    with pytest.raises(InputError, match="^checkpoint: "):
        simulate(PROBLEM, Network(1), Training(1), 64, 1, checkpoint=folder)


def test_a_folder_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    simulate(PROBLEM, Network(1), Training(1), 64, 1, checkpoint="~/kept")
    assert files(tmp_path / "kept")


def test_differences_of_lists_are_named_by_entry():
    """Where the lists themselves would be cut short before they differ."""
    long = [2**0.5] * 5
    assert storage.first_difference({"a": long}, {"a": [*long[:4], 3.0]}) == f"a[4] is {2**0.5} there and 3.0 here"
    assert storage.first_difference([1.0, 2.0], [1.0, 3.0], "b") == "b is [1.0, 2.0] there and [1.0, 3.0] here"
    assert storage.first_difference(long, [*long, 1.0], "b") == "b has 5 entries there and 6 here"
    assert storage.first_difference(long, [*long], "b") is None
