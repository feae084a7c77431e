"""Files of named arrays. Oracles: what was written; the file itself with one thing changed, which must not be read."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import resource
from pathlib import Path

import numpy as np
import pytest

from tpsim import CheckpointError, FileError, container, storage
from tpsim.container import HEAD, MAGIC, read, write

RNG = np.random.default_rng(0)
ABOUT = {"step": 3, "text": "ü\n", "list": [1, None, 0.1]}
ARRAYS = {
    "a/0": RNG.standard_normal((2, 5)),
    "a/1": RNG.standard_normal((3, 4)).astype("<f4"),
    "count": np.array(7),
    "empty": np.empty((0, 4)),
    "strided": RNG.standard_normal((6, 4))[::2],
    "special": np.array([np.nan, -0.0, np.inf, 5e-324]),
}
START = HEAD.size + container.DIGEST


class Bomb:
    """What a pickle would execute."""

    def __reduce__(self):
        return os._exit, (99,)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(container, "flush", lambda path: None)


@pytest.fixture
def path(tmp_path):
    write(tmp_path / "one.ckpt", ABOUT, ARRAYS)
    return tmp_path / "one.ckpt"


def load(path):
    return read(path, lambda about: None)


def refused(path, data, *words):
    """The file with these bytes is refused in one error that names it; say why."""
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as error:
        load(path)
    assert isinstance(error.value, FileError) and str(error.value).startswith(f"{path}: ")
    assert all(word in error.value.reason for word in words), error.value.reason
    return error.value.reason


def parts(data):
    """Manifest and data of a file."""
    length = HEAD.unpack(data[: HEAD.size])[2]
    return json.loads(data[START : START + length]), data[START + length :]


def forged(manifest, data, version=container.FORMAT, length=None, total=None):
    """A file that a hostile hand has made, digests and all."""
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    length = len(text) if length is None else length
    head = HEAD.pack(MAGIC, version, length, START + len(text) + len(data) if total is None else total)
    return head + hashlib.sha256(head + text).digest() + text + data


def test_what_is_written_is_read_back_bit_by_bit(path):
    about, arrays = load(path)
    assert about == ABOUT and list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype and arrays[name].shape == array.shape
        assert arrays[name].tobytes() == array.tobytes()
        assert (arrays[name].size == 0 or arrays[name].ctypes.data % 64 == 0) and arrays[name].flags.writeable
    assert os.listdir(path.parent) == ["one.ckpt"]


def test_the_same_content_is_the_same_bytes_and_no_pickle(path):
    data = path.read_bytes()
    write(path, ABOUT, ARRAYS)
    assert path.read_bytes() == data and forged(*parts(data)) != b""
    manifest, rest = parts(data)
    assert len(rest) == sum(array.nbytes for array in ARRAYS.values())
    assert [entry[0] for entry in manifest["arrays"]] == list(ARRAYS)
    with pytest.raises((pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError)):
        pickle.loads(data)


def test_every_truncation_and_every_flipped_bit_is_refused(path):
    """All of them: 8 bits of every byte, and every length."""
    whole, refusals = path.read_bytes(), 0
    for size in range(len(whole)):
        refused(path, whole[:size])
    for byte in range(len(whole)):
        for bit in range(8):
            data = bytearray(whole)
            data[byte] ^= 1 << bit
            refusals += bool(refused(path, bytes(data)))
    refused(path, whole + b"\0", "says that it should have")
    assert refusals == 8 * len(whole) and refusals + len(whole) > 5000


def test_random_damage_is_refused(path):
    """Blocks of zeros, swapped stretches and insertions."""
    whole, draw = path.read_bytes(), random.Random(1)
    for _ in range(500):
        data, (a, b, c) = bytearray(whole), sorted(draw.sample(range(len(whole)), 3))
        kind = draw.randrange(4)
        if kind == 0:
            data[a:b] = bytes(b - a)
        elif kind == 1:
            data[a:c] = data[b:c] + data[a:b]
        elif kind == 2:
            data[a:a] = draw.randbytes(b - a)
        else:
            data[a:b] = draw.randbytes(b - a)
        if data != whole:
            refused(path, bytes(data))


@pytest.mark.parametrize("size", [0, 1, 8, HEAD.size, START - 1])
def test_short_files(path, size):
    refused(path, path.read_bytes()[:size])


def test_foreign_files(path):
    manifest, data = parts(path.read_bytes())
    refused(path, pickle.dumps(Bomb()), "not a checkpoint")
    refused(path, MAGIC + pickle.dumps(Bomb()))
    refused(path, forged(pickle.dumps(Bomb()), data), "manifest is not one")
    refused(path, forged(manifest, data, version=2), "of format 2, and this version of tpsim reads format 1")
    refused(path, b"\x89HDF\r\n\x1a\n" + bytes(100), "not a checkpoint")
    refused(path, bytes(1000), "not a checkpoint")


def test_giant_lengths_are_refused_before_anything_is_allocated(path):
    """With so little memory to have that a gigabyte could not be had."""
    manifest, data = parts(path.read_bytes())
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28), hard))
    try:
        for length in (1 << 30, 1 << 40, (1 << 64) - 1):
            refused(path, forged(manifest, data, length=length), f"manifest has {length} bytes")
            refused(path, forged(manifest, data, total=length), "says that it should have")
        for shape in ([1 << 30], [1 << 61], [1 << 40, 1 << 40], [1 << 61, 0, 1 << 61, 4], [1 << 62]):
            refused(path, forged({"about": {}, "arrays": [["x", "<f8", shape, "0" * 64]]}, b""))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


NULL = "0" * 64
LIES = {
    "parent": [["../evil", "<f8", [0], NULL]],
    "root": [["/etc/passwd", "<f8", [0], NULL]],
    "inner parent": [["a/../../b", "<f8", [0], NULL]],
    "empty name": [["", "<f8", [0], NULL]],
    "null byte": [["a\0b", "<f8", [0], NULL]],
    "newline": [["a\n", "<f8", [0], NULL]],
    "name is a number": [[1, "<f8", [0], NULL]],
    "twice": [["a", "<f8", [0], hashlib.sha256().hexdigest()]] * 2,
    "object": [["a", "|O", [0], NULL]],
    "big endian": [["a", ">f8", [0], NULL]],
    "complex": [["a", "<c16", [0], NULL]],
    "record": [["a", [["x", "<f8"]], [0], NULL]],
    "negative": [["a", "<f8", [-1], NULL]],
    "true": [["a", "<f8", [True], NULL]],
    "float": [["a", "<f8", [1.0], NULL]],
    "shape is a number": [["a", "<f8", 3, NULL]],
    "dimensions": [["a", "<f8", [0] * 65, NULL]],
    "digest": [["a", "<f8", [0], "xyz"]],
    "wrong digest": [["a", "<f8", [0], NULL]],
    "short entry": [["a", "<f8", [0]]],
    "long entry": [["a", "<f8", [0], NULL, 0]],
    "no list": {"a": 1},
    "numbers": [1, 2],
    "none": None,
}


@pytest.mark.parametrize("lie", LIES)
def test_manifests_that_lie_are_refused_though_their_digests_are_right(path, lie):
    refused(path, forged({"about": {}, "arrays": LIES[lie]}, b""))


@pytest.mark.parametrize(
    "text",
    [b"", b"null", b"[]", b"{}", b'{"about": {}}', b'{"about": [], "arrays": []}', 
     b'{"about": {}, "arrays": [], "x": 1}',
     b'{"about": {}, "about": {}, "arrays": []}', b"[" * 100000,
     b'{"about": {"x": ' + b"9" * 10000 + b'}, "arrays": []}', b"\xff\xfe", b'{"about": {}, "arrays": []}x'],
)  # fmt: skip
def test_manifests_that_are_none(path, text):
    refused(path, forged(text, b""))


def test_data_that_are_too_few_too_many_or_not_those(path):
    manifest, data = parts(path.read_bytes())
    refused(path, forged(manifest, data[:-8]), "arrays make")
    refused(path, forged(manifest, data + bytes(8)), "arrays make")
    refused(path, forged(manifest, data[8:16] + data[8:]), "a/0 does not match its digest")
    path.write_bytes(forged(manifest, data))
    assert load(path)[0] == ABOUT  # the control: what is forged right is read


def test_the_judge_is_asked_before_the_arrays_are_read(path, monkeypatch):
    def judge(about):
        assert about == ABOUT
        raise KeyError

    monkeypatch.setattr(container, "_read_array", lambda *arguments: pytest.fail("arrays were read"))
    with pytest.raises(KeyError):
        read(path, judge)
    monkeypatch.setattr(container, "available_bytes", lambda: 100)
    with pytest.raises(CheckpointError, match="do not fit into memory, of which 100 are free"):
        load(path)


def test_only_plain_files_are_read(path, tmp_path):
    link, pipe = tmp_path / "link.ckpt", tmp_path / "pipe.ckpt"
    link.symlink_to(path)
    os.mkfifo(pipe)
    (tmp_path / "folder.ckpt").mkdir()
    for other in (link, pipe, tmp_path / "folder.ckpt", tmp_path / "missing.ckpt"):
        with pytest.raises(CheckpointError, match=other.name):
            load(other)


class Full:
    """A file on a disk with room for `room` bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def seek(self, place):
        return self.file.seek(place)

    def write(self, view):
        if self.room <= 0:
            raise OSError(28, "No space left on device")
        count = self.file.write(view[: self.room])
        self.room -= count
        return count


def test_a_full_disk_leaves_the_old_file_and_nothing_else(path, monkeypatch):
    """At 30 sizes; the message has the bytes that are needed."""
    whole, create = path.read_bytes(), container._create
    for room in np.linspace(0, len(whole) - 1, 30).astype(int):
        monkeypatch.setattr(container, "_create", lambda path, room=room: Full(create(path), room))
        with pytest.raises(CheckpointError, match=rf"No space left on device; {len(whole)} bytes are needed, \d+ are"):
            write(path, ABOUT, ARRAYS)
        assert path.read_bytes() == whole and os.listdir(path.parent) == ["one.ckpt"]
    monkeypatch.setattr(container, "_create", lambda path: Full(create(path), len(whole)))
    write(path, ABOUT, ARRAYS)
    assert path.read_bytes() == whole


def test_a_disk_that_is_known_to_be_full_is_not_written_to(path, monkeypatch):
    monkeypatch.setattr(container, "free_bytes", lambda folder: 10)
    monkeypatch.setattr(storage, "free_bytes", lambda folder: 10)
    monkeypatch.setattr(container, "_create", lambda path: pytest.fail("it was"))
    with pytest.raises(CheckpointError, match="too full; .* bytes are needed, 10 are free"):
        write(path, ABOUT, ARRAYS)


@pytest.mark.parametrize("call", ["open", "replace"])
@pytest.mark.parametrize("number", [13, 30, 5])
def test_folders_that_do_not_take_files(path, call, number, monkeypatch):
    whole = path.read_bytes()

    def refuse(*arguments, **keywords):
        raise OSError(number, os.strerror(number))

    if call == "open":
        monkeypatch.setattr(container, "_create", refuse)
    else:
        monkeypatch.setattr(container.os, "replace", refuse)
    with pytest.raises(CheckpointError, match=f"one.ckpt: cannot be written: {os.strerror(number)}; .* needed"):
        write(path, ABOUT, ARRAYS)
    monkeypatch.undo()
    assert path.read_bytes() == whole and os.listdir(path.parent) == ["one.ckpt"]


def test_a_folder_that_has_vanished(tmp_path):
    with pytest.raises(CheckpointError, match="No such file or directory; .* bytes are needed"):
        write(tmp_path / "gone" / "one.ckpt", ABOUT, ARRAYS)
    assert not (tmp_path / "gone").exists()


def test_every_moment_of_writing_can_be_the_last(path, monkeypatch):
    """What is under the name is the old file or the new one, at every point."""
    old, seen = path.read_bytes(), {}
    other = ARRAYS | {"count": np.array(8)}
    monkeypatch.setattr(container, "at", lambda point: seen.setdefault(point, path.read_bytes()))
    write(path, ABOUT, other)
    new = path.read_bytes()
    assert {point for point, data in seen.items() if data == new} == {"after-rename", "after-dirsync"}
    assert {point for point, data in seen.items() if data == old} >= {
        "before-write", "during-write", "before-head", "after-write", "after-fsync",
    }  # fmt: skip


def test_what_is_left_of_killed_writers_is_removed(path):
    name = ".replica-0000-step-000000001.ckpt.0123456789abcdef0123456789abcdef.tmp"
    inner = path.parent / "inner"
    inner.mkdir()
    for place in (path.parent / name, inner / name, path.parent / "my.tmp"):
        place.write_bytes(b"")
    container.clean(path.parent)
    assert sorted(os.listdir(path.parent)) == ["inner", "my.tmp", "one.ckpt"] and os.listdir(inner) == []
