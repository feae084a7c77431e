"""Damaged, swapped, foreign and hostile files: results, cells of sweeps, and data. Oracle: the content before.

Each reading ends in an error of the package that names the file, or, where the damage changes nothing that is read, in
what was written; in a second, without running anything from the file. By default some hundred files; `-m slow` reads
more than 5000 of them in processes of their own, so that a crash of the HDF5 library would be a failure.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

import tpsim
from tests.damage import HOSTILE, KINDS, battery, make
from tpsim import FileError, InputError, config, output, store
from tpsim.errors import Damaged
from tpsim.store import SEAL_BYTES, seal

ROOT = Path(__file__).parent.parent
SLOW = {"result": 1600, "cell": 1600, "npz": 500, "csv": 400, "idx": 300, "idx.gz": 300, "binary": 200, "pickle": 500}
SLOW_SEED = 11


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    make(folder)
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_no_damaged_file_is_loaded_silently(kind, files):
    found = battery(kind, 60, 5, files)
    assert found["wrong"] == [] and found["files"] == 60 and found["refused"] >= 9


def test_every_bit_of_the_checksum_line_and_of_random_data_counts(files):
    """Oracle: exhaustive over the line; the errors are `Damaged`, which has the path and the reason."""
    content, path = (files / "run0.nc").read_bytes(), Path("run.nc")
    rng = np.random.default_rng(0)
    bits = [*range(8 * (len(content) - SEAL_BYTES), 8 * len(content)), *rng.integers(0, 8 * len(content), 100).tolist()]
    for bit in bits:
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(changed)
        with pytest.raises(Damaged, match="run.nc: ") as caught:
            tpsim.load(path)
        assert caught.value.path == path and caught.value.reason in str(caught.value)


def test_other_programs_open_the_same_files(files):
    """HDF5 and xarray do not mind the line behind the data."""
    run = tpsim.load(files / "run0.nc")
    xr.testing.assert_identical(xr.open_dataset(files / "run0.nc", engine="h5netcdf").load(), run)
    with h5py.File(files / "run0.nc") as file:
        np.testing.assert_array_equal(file["f"][...], run["f"].values)


def test_a_file_of_another_program_is_refused_until_it_is_saved(files):
    run = tpsim.load(files / "run0.nc")
    run.to_netcdf("own.nc", engine="h5netcdf")
    with pytest.raises(Damaged, match="own.nc: does not end with a checksum of tpsim"):
        tpsim.load("own.nc")
    tpsim.save(xr.load_dataset("own.nc", engine="h5netcdf"), "own.nc")
    xr.testing.assert_identical(tpsim.load("own.nc"), run)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_with_a_right_checksum_is_refused(name):
    Path("run.nc").write_bytes(HOSTILE[name])
    with pytest.raises(Damaged, match="run.nc: "):
        tpsim.load("run.nc")


def test_another_format_is_named(files):
    content = (files / "run0.nc").read_bytes()
    Path("run.nc").write_bytes(content[:-SEAL_BYTES] + content[-SEAL_BYTES:].replace(b"netcdf 1", b"netcdf 9"))
    with pytest.raises(Damaged, match="format 9, and this version of tpsim reads format 1"):
        tpsim.load("run.nc")
    assert len(seal(b"")) == SEAL_BYTES


@pytest.mark.parametrize("text", [
    "", "[", "[" * 10**5, "{}", '{"files": 3}', '{"files": ["..", ".", "../kept", "/etc/x", "a\\u0000b", 3, null, ""]}',
    '{"files": ["../kept"]}', '{"files": ["sub"]}', '{"files": "kept"}', "9" * 5000, "\ud800",
])  # fmt: skip
def test_a_damaged_summary_removes_nothing(text):
    """`--force` removes the files that an earlier summary names: of a damaged one, none outside the folder."""
    folder = Path("out")
    (folder / "sub").mkdir(parents=True)
    Path("kept").write_text("kept")
    (folder / "summary.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    output.write_folder(folder, lambda temporary: [output.SUMMARY, "config.toml"], {}, "")
    assert Path("kept").read_text() == "kept" and (folder / "sub").is_dir()
    assert json.loads((folder / "summary.json").read_text())["files"] == [output.SUMMARY, "config.toml"]


def test_what_is_no_file_is_refused_at_once():
    os.mkfifo("pipe")
    os.symlink("loop", "loop")
    for load in (tpsim.load, tpsim.data.npz, tpsim.data.csv, config.read):
        for name in ("pipe", "loop", ".", "/dev/zero", "missing"):
            start = time.perf_counter()
            with pytest.raises(FileError, match=name):
                load(name)
            assert time.perf_counter() - start < 1
    with pytest.raises(InputError, match="path"):
        tpsim.load("a\0b")


@pytest.mark.parametrize("length", [0, 8, 1 << 40, 2**64 - 16, 2**64 - 1])
def test_a_heap_that_would_be_walked_for_ever_is_refused(length, tmp_path):
    """In every object of every heap of a result, signed again; `parsed` would not come back from a length of 0."""
    problem = tpsim.Problem([[1.0, 0.0], [0.5, 1.0]], [1.0, -1.0])
    run = tpsim.simulate(problem, tpsim.Network(1), tpsim.Training(1), 64, 1, progress=False)
    data = store.netcdf(run)[: -store.SEAL_BYTES]
    heaps = [found.start() for found in store.HEAP.finditer(data)]
    assert len(heaps) >= 1
    for start in heaps:
        place, end = start + 16, start + int.from_bytes(data[start + 8 : start + 16], "little")
        while place + 16 <= end:
            index, own = (int.from_bytes(data[place + a : place + b], "little") for a, b in ((0, 2), (8, 16)))
            need = 16 + -(-own // 8) * 8 if index else own
            if index == 0 or length > 8:  # the size of an object in use may be small
                changed = data[: place + 8] + length.to_bytes(8, "little") + data[place + 16 :]
                path = tmp_path / "changed.nc"
                path.write_bytes(store.seal(changed))
                with pytest.raises(FileError, match="in a heap that has"):
                    tpsim.load(path)
            place += need


@pytest.mark.slow
def test_five_thousand_files(capsys):
    """Counts of files, by kind; 0 silent loads, 0 raw errors, 0 crashes."""
    start, total = time.perf_counter(), 0
    for kind, count in SLOW.items():
        done = subprocess.run(
            [sys.executable, "-m", "tests.damage", kind, str(count), str(SLOW_SEED)], cwd=ROOT, text=True,
            capture_output=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=1800,
        )  # fmt: skip
        assert done.returncode == 0, f"{kind}: the process ended with {done.returncode}: {done.stderr[-2000:]}"
        found = json.loads(done.stdout)
        assert found["wrong"] == [], f"{kind}: {found['wrong'][:5]}"
        assert found["grown_MiB"] < 1024, f"{kind}: {found}"
        total += found["files"]
        with capsys.disabled():
            print(f"\n{kind}: {found}", end="")
    with capsys.disabled():
        print(f"\nseed {SLOW_SEED}: {total} files in {time.perf_counter() - start:.0f} s; 0 silent loads, 0 raw errors")
    assert total >= 5000
