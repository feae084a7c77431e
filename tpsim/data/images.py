"""Image sources, two classes each: scikit-learn's handwritten digits; CIFAR-10, CIFAR-100, MNIST from local files."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError, InputError, Notice
from ..files import file_path
from ..problem import Problem, positive_int
from .formats import CIFAR_10, CIFAR_100, Cifar, find_file, read_cifar_binary, read_cifar_pickle, read_idx
from .transform import NO_SAMPLES, Samples, Scale, Standardise, balanced, make_problem, signs, two_classes

Array = np.ndarray

DIGITS = tuple("0123456789")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DEMO_SEED = 1  # the smallest seed whose 10 images satisfy Assumption 4.1 in the form the proof needs (tested)


def digits(
    classes: Sequence[int] = (0, 1),
    count: int = 10,
    probes: int = 50,
    seed: int = DEMO_SEED,
    scale: Scale = "sqrt_d",
    standardise: Standardise = "none",
) -> Problem:
    """Two classes of scikit-learn's 8 x 8 handwritten digits, pixels / 16: d = 64, targets -1 (first class) and +1.

    Parameters
    ----------
    classes : two different digits.
    count, probes : training images and probes in all, disjoint, each balanced between the classes.
    seed : of the choice; the default satisfies Assumption 4.1, in the form the proof needs, at the default count.
    scale, standardise : see `tpsim.data`.

    Raises
    ------
    InputError
        An option out of range, or scikit-learn is not installed.
    """
    pair = two_classes(classes, DIGITS)
    images = _digits()
    train, rest = balanced(images.labels, pair, count, probes, seed)
    return make_problem(images.pick(train, pair), images.pick(rest, pair), scale, standardise)


def cifar10(
    path: str | Path,
    classes: Sequence[int | str] = ("airplane", "automobile"),
    count: int = 10,
    seed: int = 0,
    probes: int = 0,
    probes_from: str = "test",
    scale: Scale = "sqrt_d",
    standardise: Standardise = "none",
) -> Problem:
    """Two classes of CIFAR-10, pixels / 255 (red, green, blue planes): d = 3072, targets -1 (first class) and +1.

    Parameters
    ----------
    path : folder that holds `data_batch_1.bin`..`data_batch_5.bin` (and `test_batch.bin`), or the python pickles
        `data_batch_1`..`data_batch_5` (and `test_batch`), or the folder that the archive unpacks to.
    classes : two different classes, by name or 0..9.
    count, probes, seed : as for `digits`; all training batches that are there are chosen from.
    probes_from : "test" (the test batch) or "train" (the remaining training images).
    scale, standardise : see `tpsim.data`.

    Raises
    ------
    InputError, FileError
        An option out of range; a missing, damaged or unsafe file. Pickles are read without executing anything.
    """
    return _choose(partial(_cifar10, path), classes, CIFAR10, count, seed, probes, probes_from, scale, standardise)


def cifar100(
    path: str | Path,
    classes: Sequence[int] = (0, 1),
    count: int = 10,
    seed: int = 0,
    probes: int = 0,
    probes_from: str = "test",
    scale: Scale = "sqrt_d",
    standardise: Standardise = "none",
    labels: str = "fine",
) -> Problem:
    """Two classes of CIFAR-100, pixels / 255 (red, green, blue planes): d = 3072, targets -1 (first class) and +1.

    Parameters
    ----------
    path : folder that holds `train.bin` (and `test.bin`), or the python pickles `train` (and `test`), or the folder
        that the archive unpacks to.
    classes : two different classes, 0..99, or 0..19 where `labels` is "coarse".
    count, probes, seed : as for `digits`.
    probes_from : "test" (the test images) or "train" (the remaining training images).
    scale, standardise : see `tpsim.data`.
    labels : "fine" (100 classes) or "coarse" (20).

    Raises
    ------
    InputError, FileError
        An option out of range; a missing, damaged or unsafe file. Pickles are read without executing anything.
    """
    if not isinstance(labels, str) or labels not in CIFAR_100:
        raise InputError("labels", labels, '"fine" or "coarse"')
    names = [str(k) for k in range(CIFAR_100[labels].classes)]
    read = partial(_cifar100, path, labels=labels)
    return _choose(read, classes, names, count, seed, probes, probes_from, scale, standardise)


def mnist(
    path: str | Path,
    classes: Sequence[int] = (0, 1),
    count: int = 10,
    seed: int = 0,
    probes: int = 0,
    probes_from: str = "test",
    scale: Scale = "sqrt_d",
    standardise: Standardise = "none",
) -> Problem:
    """Two classes of MNIST, or of any set in its four IDX files, targets -1 (first class) and +1.

    Bytes are divided by 255; values of any other IDX type are taken as they are.

    Parameters
    ----------
    path : folder with `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` (and `t10k-...` for probes), with "." for
        the second "-" or not, with .gz or not; or a folder whose `raw` or `MNIST/raw` is that folder.
    classes, count, probes, seed, scale, standardise : as for `digits`.
    probes_from : "test" (the t10k files) or "train" (the remaining training images).

    Raises
    ------
    InputError, FileError
        An option out of range; a missing or damaged file.
    """
    return _choose(partial(_mnist, path), classes, DIGITS, count, seed, probes, probes_from, scale, standardise)


@dataclass(frozen=True)
class Images:
    """Raw images (N, d) with labels (N,); `white` is the raw value that becomes 1."""

    pixels: Array
    labels: Array
    white: float

    def pick(self, index: Array, pair: tuple[int, int]) -> Samples:
        """Return inputs and targets of the chosen images, or two Nones for no image."""
        if len(index) == 0:
            return NO_SAMPLES
        return self.pixels[index] / self.white, signs(self.labels[index], pair)


def training_images(source: str, path: str | Path | None = None) -> Images:
    """Return all training images of "digits", "mnist", "cifar10" or "cifar100" (fine labels), as they are in the files.

    Raises
    ------
    InputError, FileError
        Another source, no path where one is needed; a missing, damaged or unsafe file.
    """
    if source == "digits":
        return _digits()
    readers = {"mnist": _mnist, "cifar10": _cifar10, "cifar100": _cifar100}
    if not isinstance(source, str) or source not in readers:
        raise InputError("source", source, f"one of digits, {', '.join(readers)}")
    return readers[source](path, "train")


def _choose(
    read: Callable[[str], Images], classes: Any, names: Sequence[str],
    count: int, seed: int, probes: int, probes_from: str, scale: Scale, standardise: Standardise,
) -> Problem:  # fmt: skip
    pair = two_classes(classes, names)
    if not isinstance(probes_from, str) or probes_from not in ("test", "train"):
        raise InputError("probes_from", probes_from, '"test" or "train"')
    positive_int("probes", probes, 0)
    train = read("train")
    test = read("test") if probes_from == "test" and probes != 0 else None
    chosen, rest = balanced(train.labels, pair, count, probes if test is None else 0, seed)
    source = train
    if test is not None:
        source, (rest, _) = test, balanced(test.labels, pair, probes, 0, seed)
    if source.pixels.shape[1] != train.pixels.shape[1]:
        raise FileError(f"test images have {source.pixels.shape[1]} pixels, training images {train.pixels.shape[1]}")
    return make_problem(train.pick(chosen, pair), source.pick(rest, pair), scale, standardise)


def _digits() -> Images:
    try:
        pixels, labels = importlib.import_module("sklearn.datasets").load_digits(return_X_y=True)
    except ImportError:
        raise InputError("source", "digits", "this source needs scikit-learn: pip install scikit-learn") from None
    return Images(pixels, labels, 16.0)


def _cifar10(path: Any, split: str) -> Images:
    base = file_path("path", path)
    folders = [base, base / "cifar-10-batches-bin", base / "cifar-10-batches-py"]
    first = find_file(folders, [f"data_batch_{k}{end}" for end in (".bin", "") for k in range(1, 6)])
    if split == "test":
        return _cifar_images([find_file([first.parent], [f"test_batch{first.suffix}"])], CIFAR_10)
    batches = [first.parent / f"data_batch_{k}{first.suffix}" for k in range(1, 6)]
    missing = [batch.name for batch in batches if not batch.is_file()]
    if missing:
        warnings.warn(Notice(f"cifar10: {', '.join(missing)} not found; chosen from the rest"), stacklevel=4)
    return _cifar_images([batch for batch in batches if batch.is_file()], CIFAR_10)


def _cifar100(path: Any, split: str, labels: str = "fine") -> Images:
    base = file_path("path", path)
    folders = [base, base / "cifar-100-binary", base / "cifar-100-python"]
    return _cifar_images([find_file(folders, [f"{split}.bin", split])], CIFAR_100[labels])


def _mnist(path: Any, split: str) -> Images:
    base, prefix = file_path("path", path), {"train": "train", "test": "t10k"}[split]
    folders = [base, base / "raw", base / "MNIST" / "raw"]
    paths = [
        find_file(folders, [f"{prefix}-{kind}{dot}idx{rank}-ubyte{end}" for end in ("", ".gz") for dot in "-."])
        for kind, rank in (("images", 3), ("labels", 1))
    ]
    pixels, labels = (read_idx(path) for path in paths)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or pixels.ndim < 2 or len(pixels) != len(labels):
        raise FileError(f"{paths[0]} {pixels.shape} and {paths[1]} {labels.shape} are not images and their labels")
    return Images(pixels.reshape(len(pixels), -1), labels, 255.0 if pixels.dtype == np.uint8 else 1.0)


def _cifar_images(batches: list[Path], kind: Cifar) -> Images:
    read = [(read_cifar_binary if batch.suffix else read_cifar_pickle)(batch, kind) for batch in batches]
    pixels, labels = (np.concatenate(parts) for parts in zip(*read, strict=True))
    return Images(pixels, labels, 255.0)
