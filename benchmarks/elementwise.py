"""The activation kernels against numpy, scipy and torch.

    python -m benchmarks.elementwise [--quick]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import mpmath
import numba
import numpy as np
import torch

from finite.activations import in_torch
from tpsim.activations import ACTIVATIONS, Activation

from .common import Array, Result, Row, interleaved, main, ratios, say, spread

TITLE = "Activations"
WHAT = (
    "Million entries per second, one thread, arrays of ten samples by 4096 particles that stay in the cache. The "
    "kernel writes phi and phi' in one pass. numpy and scipy, and torch, each compute phi and phi' by the formulas "
    "that `tpsim.activations` and `finite.activations` have for them, and phi alone. The error is the largest of "
    "|phi - exact| / max(1, |phi|), and of phi' likewise, over points of [-12, 12] against 40 digits."
)
NAMES = ("tanh", "sigmoid", "erf", "silu", "gelu", "softplus")
SHAPE = (10, 4096)


def exact(name: str) -> Callable[[Any], Any]:
    """phi in multiple precision."""
    mp = mpmath.mp
    sigmoid = lambda x: 1 / (1 + mp.exp(-x))  # noqa: E731
    return {
        "tanh": mp.tanh, "sigmoid": sigmoid, "erf": mp.erf, "silu": lambda x: x * sigmoid(x),
        "gelu": lambda x: x * mp.ncdf(x), "softplus": lambda x: mp.log(1 + mp.exp(x)),
    }[name]  # fmt: skip


def largest_error(name: str, evaluate: Callable[[Array], tuple[Array, Array]], dtype: str, points: int) -> float:
    """Error of (phi, phi') as `evaluate` gives them."""
    h = np.linspace(-12.0, 12.0, points).astype(dtype)[None]
    with mpmath.workdps(40):
        phi = exact(name)
        true = [[float(phi(mpmath.mpf(float(x)))) for x in h[0]], [float(mpmath.diff(phi, float(x))) for x in h[0]]]
    errors = [np.abs(value[0] - t) / np.maximum(1.0, np.abs(t)) for value, t in zip(evaluate(h), true, strict=True)]
    return float(max(error.max() for error in errors))


def contestants(activation: Activation, dtype: str) -> dict[str, Callable[[Array], Any]]:
    """Functions of h: the kernel first."""
    phi, dphi = in_torch(activation)
    buffers = {}

    def kernel(h: Array) -> tuple[Array, Array]:
        x, slope = buffers.setdefault(h.shape, (np.empty_like(h), np.empty_like(h)))
        activation.evaluate(h, x, slope)
        return x, slope

    def with_torch(h: Array) -> tuple[Array, Array]:
        tensor = torch.from_numpy(h)
        return phi(tensor).numpy(), dphi(tensor).numpy()

    return {
        "kernel": kernel,
        "numpy, scipy": lambda h: (activation.phi(h), activation.dphi(h)),
        "torch": with_torch,
        "numpy, scipy: phi alone": activation.phi,
        "torch: phi alone": lambda h: phi(torch.from_numpy(h)),
    }


def seconds(function: Callable[[Array], Any], h: Array, calls: int) -> Callable[[], float]:
    """A clock of `calls` calls."""

    def clock() -> float:
        start = time.perf_counter()
        for _ in range(calls):
            function(h)
        return time.perf_counter() - start

    return clock


def measure(quick: bool) -> Result:
    """One row per activation and precision."""
    calls, repeats, points = (20, 3, 101) if quick else (200, 7, 2001)
    numba.set_num_threads(1)
    torch.set_num_threads(1)
    rows: list[Row] = []
    for dtype in ("float64",):  # in which the engine evaluates them, whatever it stores
        h = (2.0 * np.random.default_rng(0).standard_normal(SHAPE)).astype(dtype)
        for name in NAMES:
            functions = contestants(ACTIVATIONS[name], dtype)
            times = interleaved({key: seconds(function, h, calls) for key, function in functions.items()}, repeats)
            row: Row = {"activation": name, "numbers": dtype}
            row |= {f"{key}, M/s": h.size * calls / 1e6 / spread(value)[0] for key, value in times.items()}
            for key in ("numpy, scipy", "torch"):
                row[f"{key} / kernel, time"] = ratios(times[key], times["kernel"])
            row["error of the kernel"] = largest_error(name, functions["kernel"], dtype, points)
            row["of torch"] = largest_error(name, functions["torch"], dtype, points)
            rows.append(row)
            say(f"elementwise {name} {dtype}")
    return Result({"": rows})


if __name__ == "__main__":
    sys.exit(main("elementwise", measure))
