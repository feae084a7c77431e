"""Small valid data files of every format."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np


def idx(array):
    """The bytes of an IDX file of uint8."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">I", n) for n in array.shape) + array.tobytes()


def prepare(folder="."):
    """data.csv, data.npz, and in data/ MNIST's four files, CIFAR-10 as bytes and CIFAR-100 as pickles."""
    folder, rng = Path(folder), np.random.default_rng(0)
    labels = (np.arange(6) % 2).astype(np.uint8)
    pixels, colours = rng.integers(0, 256, (6, 4, 4), np.uint8), rng.integers(0, 256, (6, 3072), np.uint8)
    np.savez(folder / "data.npz", inputs=rng.standard_normal((3, 2)), targets=np.ones(3))
    (folder / "data.csv").write_text("a,b,c\n1,2,3\n4,5,6.5\n")
    (folder / "data").mkdir(exist_ok=True)
    for part in ("train", "t10k"):
        (folder / "data" / f"{part}-images-idx3-ubyte").write_bytes(idx(pixels))
        (folder / "data" / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    binary = b"".join(bytes([label]) + image.tobytes() for label, image in zip(labels, colours, strict=True))
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        (folder / "data" / f"{name}.bin").write_bytes(binary)
    for name in ("train", "test"):
        batch = {b"data": colours, b"fine_labels": labels.tolist(), b"coarse_labels": labels.tolist()}
        (folder / "data" / name).write_bytes(pickle.dumps(batch, protocol=2))
