"""Files that are not what they were, and what reading them has to come to: an error that names them, or their content.

`python -m tests.damage KIND COUNT SEED` damages and reads, and prints the counts as JSON: a battery in a process of its
own, whose crash is seen from outside.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import pickle
import resource
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

import tpsim
from finite import MUP, cells, train
from finite.folder import refuse_other_settings
from tests.fuzz.files import prepare
from tpsim import FileError, InputError, Network, Problem, Training, data
from tpsim.store import seal

SECONDS = 1.0
CELL = "mup-tanh-n00005-seeds-0000-0001.nc"


class Payload:
    """A pickle that runs a command where it is loaded as Python loads it."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


def problem():
    rng = np.random.default_rng(0)
    return Problem(rng.standard_normal((3, 4)), [1.0, -1.0, 1.0], rng.standard_normal((2, 4)))


def make(folder):
    """Two results, two cells with their checksums, and data of every format; return what each reads as."""
    folder = Path(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in (0, 1):
            run = tpsim.simulate(problem(), Network(2), Training(3), 64, 2, seed=seed, snapshots=[0, 3])
            tpsim.save(run, folder / f"run{seed}.nc")
            networks = train(problem(), Network(2, "tanh"), Training(2), 5, MUP, 2, seed=seed)
            cells.write(networks, {"settings": {"seed": seed}, "cell": {}}, folder / f"{seed}{CELL}")
    prepare(folder)
    for name in ("train-images-idx3", "train-labels-idx1"):
        path = folder / "data" / f"{name}-ubyte"
        (folder / "data" / f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))


def load_result(path):
    return tpsim.load(path)


def load_cell(path):
    found = cells.read(path, lambda identity, form: refuse_other_settings(path, identity, {"seed": 0}))
    if found is None:
        raise FileError(f"{path}: unfinished")
    return found


def as_npz(path):
    return data.npz(path)


def as_csv(path):
    return data.csv(path)


def as_idx(path):
    return data.formats.read_idx(path)


def as_binary(path):
    return data.formats.read_cifar_binary(path)


def as_pickle(path):
    return data.formats.read_cifar_pickle(path, data.formats.CIFAR_100["fine"])


KINDS = {
    "result": (load_result, "run0.nc", "data.npz"),  # another result in its place is a result, and says which
    "cell": (load_cell, f"0{CELL}", f"1{CELL}"),
    "npz": (as_npz, "data.npz", "run0.nc"),
    "csv": (as_csv, "data.csv", "data.npz"),
    "idx": (as_idx, "data/train-images-idx3-ubyte", "data/test"),
    "idx.gz": (as_idx, "data/train-images-idx3.gz", "data/train-labels-idx1-ubyte"),
    "binary": (as_binary, "data/test_batch.bin", "data.npz"),
    "pickle": (as_pickle, "data/train", "data/test_batch.bin"),
}
CHECKED = ("result", "cell")  # files of this package, whose every bit counts; other formats have no checksum


def netcdf(change):
    """The sealed bytes of a netCDF file that was changed on purpose: its checksum is right."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["title"] = "tpsim: hostile"
        file["f"] = np.zeros(4)
        change(file)
    return seal(buffer.getvalue())


def virtual(file):
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "f", (4,))
    file.create_virtual_dataset("v", layout)


HOSTILE = {
    "external link": netcdf(lambda f: f.__setitem__("x", h5py.ExternalLink("../run1.nc", "f"))),
    "soft link": netcdf(lambda f: f.__setitem__("x", h5py.SoftLink("/../../f"))),
    "external storage": netcdf(lambda f: f.create_dataset("x", (64,), "u1", external=[("/etc/passwd", 0, 64)])),
    "virtual": netcdf(virtual),
    "group": netcdf(lambda f: f.create_group("../x")),
    "giant": netcdf(lambda f: f.create_dataset("x", (10**6, 10**6), "f8", chunks=(64, 64))),
    "large and empty": netcdf(lambda f: f.create_dataset("x", (2**24,), "f8", chunks=(2**10,))),
    "compound": netcdf(lambda f: f.create_dataset("x", (4,), [("a", "f8"), ("b", "i4")])),
    "vlen": netcdf(lambda f: f.create_dataset("x", (4,), h5py.vlen_dtype("f8"))),
    "reference": netcdf(lambda f: f.create_dataset("x", (4,), h5py.ref_dtype)),
    "opaque": netcdf(lambda f: f.create_dataset("x", data=np.zeros(4, "V8"))),
    "plugin filter": netcdf(lambda f: f.create_dataset("x", (64,), "f8", chunks=(8,), compression="lzf")),
    "nothing of tpsim": seal(b"x" * 500),
    "pickle": seal(pickle.dumps(Payload())),
}


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return buffer.getvalue()


def npy(header):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


def objects():
    buffer = io.BytesIO()
    np.savez(buffer, inputs=np.array([Payload()], dtype=object), targets=np.zeros(1))
    return buffer.getvalue()


def nested():
    """Nine lists, each ten times in the next: a billion labels in a hundred bytes."""
    value: list = [0]
    for _ in range(9):
        value = [value] * 10
    return pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"fine_labels": value}, protocol=2)


GIANT = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 1000), }"
FOREIGN = {
    "npz": [zipped(inputs_npy=npy(GIANT), targets_npy=npy(GIANT)), objects(), zipped(**{"__etc__passwd": b"x"}),
            zipped(inputs_npy=npy("{" * 9000), targets_npy=npy("")), zipped(**{"..__..__x_npy": b""})],
    "csv": [b"a,b\n1,nan\n", b"a,b\n" + b"9" * 10**6 + b",1\n", b'"' * 10**5, b"a,b\n1\n", b"\0" * 1000, b"a," * 10**5],
    "idx": [bytes([0, 0, 14, 4]) + b"\xff" * 16, bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**31, 2**31, 2)],
    "idx.gz": [gzip.compress(bytes([0, 0, 14, 4]) + b"\xff" * 16), gzip.compress(b"\0" * 10**8),
               b"\x1f\x8b" + b"\0" * 50],
    "binary": [b"\xff" * 3073, b"\0" * 3072],
    "pickle": [pickle.dumps(Payload()), nested(), b"\x80\x02Nr\xff\xff\xff\xff.", b"\x80\x04\x8e" + b"\xff" * 8 + b".",
               b"cos\nsystem\n(S'mkdir executed'\ntR.", b"c_codecs\nencode\n(N}S'__defaults__'\n(S'x'\ntstb.",
               b"(" * 10**5, b"cbuiltins\neval\n(S'1'\ntR.", b"\x80\x02]" + b"h\x00" * 100 + b".", b"]" * 10**5 + b"."],
}  # fmt: skip


def damaged(kind, original, other, rng):
    """Yield name and content, or a function that makes the file, without end."""
    size = len(original)
    for name, content in HOSTILE.items() if kind in CHECKED else []:
        yield name, content
    for k, content in enumerate(FOREIGN.get(kind, [])):
        yield f"foreign {k}", content
    yield "swapped", other
    yield "empty", b""
    yield "folder", lambda path: path.mkdir()
    yield "pipe", os.mkfifo
    yield "loop", lambda path: path.symlink_to(path.name)
    yield "device", lambda path: path.symlink_to("/dev/zero")
    yield "another version", original.replace(b"netcdf 1 sha", b"netcdf 2 sha").replace(b"NUMPY\x01", b"NUMPY\x07")
    yield "trailing", original + b"\n"
    yield "twice", original * 2
    for byte in range(min(size, 300)):
        yield f"bit of byte {byte}", flipped(original, 8 * byte + int(rng.integers(8)))
    while True:
        where = int(rng.integers(size))
        which = int(rng.integers(5))
        if which == 0:
            yield f"truncated to {where}", original[:where]
        elif which == 1:
            yield f"bit {8 * where}", flipped(original, 8 * where + int(rng.integers(8)))
        elif which == 2:
            end = min(size, where + int(rng.integers(1, 600)))
            yield f"zeros {where}:{end}", original[:where] + bytes(end - where) + original[end:]
        elif which == 3:
            end = min(size, where + int(rng.integers(1, 64)))
            yield f"noise {where}:{end}", original[:where] + rng.bytes(end - where) + original[end:]
        else:
            yield f"cut {where}", original[:where] + original[where + int(rng.integers(1, 64)) :]


def flipped(content, bit):
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


def equal(one, other):
    return one.identical(other) if isinstance(one, xr.Dataset) else False


def battery(kind, count, seed, folder):
    """Damage and read `count` files of one kind; return how each reading ended, and what broke the property."""
    load, name, other = KINDS[kind]
    folder, counts, wrong = Path(folder), Counter(), []
    path = folder / name
    content, right = path.read_bytes(), load(path)
    line = cells.checksum_of(path).read_bytes() if kind == "cell" else b""
    stream = damaged(kind, content, (folder / other).read_bytes(), np.random.default_rng(seed))
    for k, (what, change) in zip(range(count), stream, strict=False):
        signed = kind == "cell" and (what in HOSTILE or k % 7 == 0)  # what a hand that tampers would do
        place(path, change)
        if kind == "cell":
            fits = cells.hashlib.sha256(change).hexdigest() if signed and isinstance(change, bytes) else None
            text = cells._line(fits, path).encode() if fits else line
            cells.checksum_of(path).write_bytes(flipped(line, int(k) % (8 * len(line))) if k % 11 == 10 else text)
        ended = read(load, path)
        if ended[0] == "read" and (kind not in CHECKED or equal(ended[1], right)):
            counts["read" if kind not in CHECKED else "same content"] += 1
        elif ended[0] == "read" and signed and what not in HOSTILE:  # a checksum is no signature
            counts["changed and signed again"] += 1
        elif ended[0] == "read":
            wrong.append(f"{kind}, {what}: loaded with another content")
        elif ended[0] == "refused":
            counts["refused"] += 1
        else:
            wrong.append(f"{kind}, {what}: {ended[1]}")
        place(path, None)
        if Path("executed").exists():
            wrong.append(f"{kind}, {what}: executed")
            Path("executed").rmdir()
    place(path, content)
    if kind == "cell":
        cells.checksum_of(path).write_bytes(line)
    return {"files": sum(counts.values()) + len(wrong), **counts, "wrong": wrong}


def place(path, change):
    """Put content, or what a function makes, in the place of whatever is there; None removes it."""
    with contextlib.suppress(FileNotFoundError):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    if callable(change):
        change(path)
    elif change is not None:
        path.write_bytes(change)


def read(load, path):
    """How a reading ends: ("read", content), ("refused", error) or ("broken", what is wrong).

    Seconds are of the processor: the machine may be busy. Waiting is bounded by the clock.
    """
    start, begun = time.process_time(), time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            content = load(path)
        result = "read", content
    except (FileError, InputError) as error:
        named = path.name in str(error)
        result = ("refused", error) if named else ("broken", f"does not name the file: {error}")
    except Exception as error:
        result = "broken", f"{type(error).__name__}: {error}"
    seconds, waited = time.process_time() - start, time.perf_counter() - begun
    if result[0] != "broken" and (seconds > SECONDS or waited > 20 * SECONDS):
        return "broken", f"{seconds:.1f} s to come to {result[0]}"
    return result


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as here:
        os.chdir(here)
        make(here)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        counts = battery(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), here)
        print(json.dumps(counts | {"grown_MiB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10}))
