"""Image sources. Oracle: the pixels and labels that the test itself wrote in the standard formats."""

import gzip
import itertools
import pickle
import struct
import sys

import numpy as np
import pytest

from tpsim.data import cifar10, cifar100, describe, digits, mnist
from tpsim.data.formats import read_cifar_pickle, read_idx
from tpsim.data.images import training_images
from tpsim.errors import FileError, InputError, Notice


def images(count, pixels, seed):
    """Random images with balanced labels 0..9; every image is different."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, pixels), dtype=np.uint8), rng.permutation(np.arange(count) % 10)


def check(problem, train, probe, classes, d):
    """Every input is one of the written images of the right class, divided by 255 sqrt(d); none twice."""
    lookup = [{row.tobytes(): label for row, label in zip(*source, strict=True)} for source in (train, probe)]
    seen = set()
    parts = [(problem.inputs, problem.targets, lookup[0])]
    if problem.probes is not None:
        parts.append((problem.probes, problem.probe_targets, lookup[1]))
    for inputs, targets, labels in parts:
        raw = inputs * 255 * np.sqrt(d)
        pixels = np.rint(raw).astype(np.uint8)
        assert np.abs(raw - pixels).max() < 1e-10
        assert [labels[row.tobytes()] for row in pixels] == [classes[int(target > 0)] for target in targets]
        assert set(np.unique(targets)) == {-1.0, 1.0} and abs(targets.sum()) <= 1
        seen |= {row.tobytes() for row in pixels}
    assert len(seen) == sum(len(inputs) for inputs, _, _ in parts)


def test_digits():
    """Oracle: scikit-learn's own arrays."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    problem = digits(classes=(3, 8), count=7, probes=5, seed=2)
    assert problem.inputs.shape == (7, 64) and problem.probes.shape == (5, 64)
    assert describe(problem)["classes"] == {-1.0: 4, 1.0: 3}
    rows = []
    for x, y in zip([*problem.inputs, *problem.probes], [*problem.targets, *problem.probe_targets], strict=True):
        (row,) = np.flatnonzero((pixels / 16 / 8 == x).all(axis=1))
        assert labels[row] == (3 if y < 0 else 8)
        rows.append(row)
    assert len(set(rows)) == 12
    assert describe(digits(classes=("3", 8), count=7, probes=5, seed=2)) == describe(problem)


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(InputError, match="pip install scikit-learn"):
        digits()


# CIFAR-10 -------------------------------------------------------------------------------------------------------------


def write_binary(path, pixels, labels):
    path.write_bytes(b"".join(bytes([label]) + row.tobytes() for row, label in zip(pixels, labels, strict=True)))


def write_pickle(path, pixels, labels, protocol=2):
    content = {b"batch_label": b"x", b"labels": [int(k) for k in labels], b"data": pixels, b"filenames": [b"a.png"]}
    path.write_bytes(pickle.dumps(content, protocol=protocol))


def python2_pickle(pixels, labels):
    """Write a batch opcode by opcode as Python 2 did for the distributed files: str keys, numpy.core, protocol 2."""

    def text(value):
        return b"T" + struct.pack("<I", len(value)) + value  # BINSTRING: a Python 2 str

    ints = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\0K\1\x87R(K\3" + text(b"|") + b"NNN"
    dtype += b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85" + text(b"b") + b"\x87R"
    shape = b"M" + struct.pack("<H", len(pixels)) + b"M" + struct.pack("<H", 3072) + b"\x86"
    array = empty + b"(K\1" + shape + dtype + b"\x89" + text(pixels.tobytes()) + b"tb"
    return b"\x80\2}(" + text(b"data") + array + text(b"labels") + ints + b"u."


@pytest.mark.parametrize("style", ["binary", "python2", "protocol 2", "protocol 3", "protocol 4", "protocol 5"])
@pytest.mark.parametrize("folder", ["", "standard"])
def test_cifar10(tmp_path, style, folder):
    batches = [images(60, 3072, seed) for seed in range(6)]
    end = ".bin" if style == "binary" else ""
    place = tmp_path / f"cifar-10-batches-{'bin' if end else 'py'}" if folder else tmp_path
    place.mkdir(exist_ok=True)
    for name, batch in zip([f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"], batches, strict=True):
        if style == "binary":
            write_binary(place / f"{name}.bin", *batch)
        elif style == "python2":
            (place / name).write_bytes(python2_pickle(*batch))
        else:
            write_pickle(place / name, *batch, protocol=int(style[-1]))
    train = [np.concatenate(parts) for parts in zip(*batches[:5], strict=True)]
    problem = cifar10(tmp_path, classes=("cat", 5), count=11, seed=3, probes=8)
    check(problem, train, batches[5], (3, 5), 3072)
    assert len(problem.inputs) == 11 and len(problem.probes) == 8
    problem = cifar10(str(tmp_path), classes=("cat", 5), count=30, probes=30, probes_from="train")
    check(problem, train, train, (3, 5), 3072)


def test_cifar10_numpy_reads_what_the_stand_ins_read(tmp_path):
    """Oracle: the ordinary unpickler, on files that this test wrote."""
    pixels, labels = images(7, 3072, 0)
    path = tmp_path / "data_batch_1"
    for protocol, order in itertools.product(range(2, 6), "CF"):
        write_pickle(path, np.asarray(pixels, order=order), labels, protocol)
        found = read_cifar_pickle(path)
        expected = pickle.loads(path.read_bytes(), encoding="bytes")
        assert np.array_equal(found[0], expected[b"data"]) and list(found[1]) == expected[b"labels"]
    written = pickle.loads(python2_pickle(pixels, labels), encoding="bytes")  # the hand-written one is a real one
    assert np.array_equal(written[b"data"], pixels) and written[b"labels"] == list(labels)


def test_cifar10_missing_files_are_named(tmp_path):
    with pytest.raises(FileError, match=r"data_batch_1\.bin, .*data_batch_5\.bin, data_batch_1, .*cifar-10-batches-py"):
        cifar10(tmp_path)
    write_binary(tmp_path / "data_batch_2.bin", *images(40, 3072, 0))
    with pytest.warns(Notice, match=r"data_batch_1\.bin, data_batch_3\.bin.* not found"):
        assert cifar10(tmp_path, count=4).probes is None
    with pytest.warns(Notice), pytest.raises(FileError, match=r"none of the files test_batch\.bin"):
        cifar10(tmp_path, count=4, probes=2)


class Hostile:
    """Pickles as a call of `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_hostile_pickles_execute_nothing(tmp_path):
    executed, path = tmp_path / "executed", tmp_path / "data_batch_1"
    pixels, labels = images(3, 3072, 0)
    attacks = [
        Hostile(exec, f"open({str(executed)!r}, 'w')"),
        Hostile(getattr, "a", "upper"),
        Hostile(open, str(executed), "w"),
        Hostile(np.save, str(executed), np.ones(1)),
        Hostile(np.load, str(executed)),
        Hostile(np.zeros, 10),
    ]
    for attack in attacks:
        for content in (attack, {b"data": pixels, b"labels": attack}, {b"data": pixels, b"labels": labels, attack: 0}):
            path.write_bytes(pickle.dumps(content))
            with pytest.raises(FileError, match=r"data_batch_1: refused: the pickle names"):
                read_cifar_pickle(path)
    for raw in (b"cos\nsystem\n(S'touch x'\ntR.", b"\x80\4\x8c\2os\x94\x8c\6system\x94\x93.", b"Pexternal\n."):
        path.write_bytes(raw)
        with pytest.raises(FileError, match="refused"):
            read_cifar_pickle(path)
    assert not executed.exists()


def test_damaged_pickles_are_one_clear_error(tmp_path):
    """Truncations, flipped bytes and wrong contents: FileError or the right shapes, never another exception."""
    path = tmp_path / "data_batch_1"
    raw = python2_pickle(*images(2, 3072, 0))
    for size in [*range(0, 300), len(raw) // 2, len(raw) - 1]:
        path.write_bytes(raw[:size])
        with pytest.raises(FileError, match="data_batch_1"):
            read_cifar_pickle(path)
    rng = np.random.default_rng(0)
    for position in [*range(260), *range(len(raw) - 40, len(raw))]:
        flipped = bytearray(raw)
        flipped[position] = rng.integers(256)
        path.write_bytes(flipped)
        try:
            pixels, labels = read_cifar_pickle(path)
            assert pixels.shape == (len(labels), 3072) and pixels.dtype == np.uint8
        except FileError as error:
            assert "data_batch_1" in str(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "not a CIFAR-10 python batch"),
        ({b"labels": [1]}, "KeyError: 'data'"),
        ({b"data": np.zeros((2, 3072)), b"labels": [0, 1]}, "not an array of uint8"),
        ({b"data": [[0] * 3072], b"labels": [0]}, "not a CIFAR-10 python batch"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}, r"data \(2, 3072\) and labels \(1,\)"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 0.5]}, "labels"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 77]}, "labels outside 0..9"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": []}, r"labels \(0,\)"),
    ],
)
def test_pickles_that_hold_something_else(tmp_path, content, message):
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(FileError, match=message):
        read_cifar_pickle(path)


@pytest.mark.parametrize("size", [0, 1, 3072, 3074, 2 * 3073 - 1])
def test_binary_of_a_wrong_size(tmp_path, size):
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(size))
    with (
        pytest.warns(Notice),
        pytest.raises(FileError, match=rf"data_batch_1\.bin: {size} bytes are not a whole number"),
    ):
        cifar10(tmp_path)


def test_binary_with_other_labels(tmp_path):
    write_binary(tmp_path / "data_batch_1.bin", images(3, 3072, 0)[0], [1, 2, 99])
    with pytest.warns(Notice), pytest.raises(FileError, match="labels outside 0..9"):
        cifar10(tmp_path)


# CIFAR-100 ------------------------------------------------------------------------------------------------------------


def images_100(count, seed):
    """Random images with coarse and fine labels, which always differ."""
    pixels, fine = images(count, 3072, seed)
    return pixels, 9 - fine, fine


@pytest.mark.parametrize("style", ["binary", "protocol 2", "protocol 5"])
@pytest.mark.parametrize("folder", ["", "standard"])
def test_cifar100(tmp_path, style, folder):
    """Both labels of every image, which differ, are read from where they are."""
    place = tmp_path / f"cifar-100-{'binary' if style == 'binary' else 'python'}" if folder else tmp_path
    place.mkdir(exist_ok=True)
    train, test = images_100(200, 0), images_100(80, 1)
    for name, (pixels, coarse, fine) in (("train", train), ("test", test)):
        if style == "binary":
            rows = zip(coarse, fine, pixels, strict=True)
            (place / f"{name}.bin").write_bytes(b"".join(bytes([a, b]) + row.tobytes() for a, b, row in rows))
        else:
            names = [b"a.png"] * len(fine)
            content = {b"filenames": names, b"batch_label": b"x", b"data": pixels}
            content |= {b"coarse_labels": coarse.tolist(), b"fine_labels": fine.tolist()}
            (place / name).write_bytes(pickle.dumps(content, protocol=int(style[-1])))
    for k, kind in ((1, "coarse"), (2, "fine")):
        problem = cifar100(tmp_path, classes=(3, 8), count=9, seed=3, probes=6, labels=kind)
        check(problem, (train[0], train[k]), (test[0], test[k]), (3, 8), 3072)
    assert describe(cifar100(str(tmp_path), (3, 8), 9, 3, 6)) == describe(problem)
    raw = training_images("cifar100", tmp_path)
    assert np.array_equal(raw.pixels, train[0]) and np.array_equal(raw.labels, train[2])


def test_cifar100_refuses_other_labels_and_files(tmp_path):
    with pytest.raises(InputError, match=r"labels: got 'medium'; allowed: \"fine\" or \"coarse\""):
        cifar100(tmp_path, labels="medium")
    with pytest.raises(InputError, match=r"two different classes of 0\.\.19$"):
        cifar100(tmp_path, classes=(0, 20), labels="coarse")
    with pytest.raises(FileError, match=r"train\.bin, train exists in .*cifar-100-python"):
        cifar100(tmp_path)
    path = tmp_path / "train.bin"
    path.write_bytes(bytes(3073 * 5))  # CIFAR-10
    with pytest.raises(FileError, match=r"train\.bin: 15365 bytes are not a whole number of rows of 3074"):
        cifar100(tmp_path)
    for kind, row in (("fine", b"\0\x64"), ("coarse", b"\x14\0")):
        path.write_bytes(row + bytes(3072))
        with pytest.raises(FileError, match=r"labels outside 0\.\.(99|19) \(is it CIFAR-100\?\)"):
            cifar100(tmp_path, labels=kind)
    path.unlink()
    write_pickle(tmp_path / "train", *images(4, 3072, 0))  # CIFAR-10
    with pytest.raises(FileError, match=r"not a CIFAR-100 python batch \(KeyError: 'fine_labels'\)"):
        cifar100(tmp_path)


def test_training_images_are_those_of_the_files(tmp_path):
    with pytest.raises(InputError, match="source: got 'imagenet'; allowed: one of digits, mnist, cifar10, cifar100"):
        training_images("imagenet", tmp_path)
    with pytest.raises(InputError, match="path"):
        training_images("mnist")
    found = training_images("digits")
    assert found.pixels.shape == (1797, 64) and set(found.labels) == set(range(10))


# MNIST ----------------------------------------------------------------------------------------------------------------


def idx(array, code):
    header = bytes([0, 0, code, array.ndim]) + b"".join(struct.pack(">I", size) for size in array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_mnist(folder, prefix, pixels, labels, style="-", end=""):
    folder.mkdir(exist_ok=True, parents=True)
    opener = gzip.open if end else open
    square = pixels.reshape(len(pixels), 28, 28)
    for kind, array in (("images", square), ("labels", labels.astype(np.uint8))):
        with opener(folder / f"{prefix}-{kind}{style}idx{array.ndim}-ubyte{end}", "wb") as file:
            file.write(idx(array, 8))


@pytest.mark.parametrize("style", "-.")
@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("folder", ["", "raw", "MNIST/raw"])
def test_mnist(tmp_path, style, end, folder):
    train, test = images(120, 784, 0), images(50, 784, 1)
    write_mnist(tmp_path / folder, "train", *train, style, end)
    problem = mnist(tmp_path, classes=(7, 2), count=9, seed=1, probes=11, probes_from="train")
    check(problem, train, train, (7, 2), 784)
    with pytest.raises(FileError, match=r"t10k-images-idx3-ubyte, t10k-images\.idx3-ubyte, .*\.gz"):
        mnist(tmp_path, probes=2)
    write_mnist(tmp_path / folder, "t10k", *test, style, end)
    check(mnist(tmp_path, classes=(7, 2), count=9, seed=1, probes=8), train, test, (7, 2), 784)


@pytest.mark.parametrize(
    ("code", "dtype"), [(0x08, "u1"), (0x09, "i1"), (0x0B, "i2"), (0x0C, "i4"), (0x0D, "f4"), (0x0E, "f8")]
)
def test_idx_types(tmp_path, code, dtype):
    array = np.array([[1, 2, 100], [-3, 4, -128]]).astype(dtype)
    (tmp_path / "a").write_bytes(idx(array, code))
    found = read_idx(tmp_path / "a")
    assert np.array_equal(found, array) and found.dtype == np.dtype(dtype)


@pytest.mark.parametrize("end", ["", ".gz"])
def test_idx_damage(tmp_path, end):
    """Truncated, too long, another magic, a header that promises terabytes: one FileError that names the file."""
    path, whole = tmp_path / f"a{end}", idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4), 8)
    huge = bytes([0, 0, 8, 3]) + b"\xff" * 12 + bytes(10)
    bad = [whole[:size] for size in range(len(whole))] + [whole + b"\0", b"\1" + whole[1:], huge]
    bad += [bytes([0, 0, 7, 1]), bytes([0, 0, 8, 0]), bytes([0, 0, 8, 200]) + b"\0\0\0\1" * 200 + b"\0"]
    for raw in bad:
        path.write_bytes(gzip.compress(raw) if end else raw)
        with pytest.raises(FileError, match=f"a{end}: "):
            read_idx(path)
    packed = gzip.compress(whole)
    for raw in [packed[:size] for size in range(len(packed))] + [b"no gzip"]:
        (tmp_path / "b.gz").write_bytes(raw)
        with pytest.raises(FileError, match=r"b\.gz: "):
            read_idx(tmp_path / "b.gz")


def test_mnist_with_unequal_or_swapped_files(tmp_path):
    pixels, labels = images(20, 784, 0)
    write_mnist(tmp_path, "train", pixels, labels[:19])
    with pytest.raises(FileError, match=r"\(20, 28, 28\) and .*\(19,\) are not images and their labels"):
        mnist(tmp_path)
    write_mnist(tmp_path, "train", pixels, labels)
    with pytest.raises(InputError, match="class 0 has 2 samples"):
        mnist(tmp_path, count=10)
    with pytest.raises(InputError, match="probes_from"):
        mnist(tmp_path, probes_from="validation")
