"""What this machine can do: bytes a second that its cores read, and multiplications of large matrices.

    python -m benchmarks.rates [--quick]

Both are measured in processes of their own, the product by numpy's BLAS and by torch, with no variable set that would
choose another kernel for either; the better one counts, so that the bound of `benchmarks.roofline` is not too easy.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import numba
import numpy as np

from .common import Array, Result, Row, main

TITLE = "What the machine can do"
WHAT = (
    "Reading: a sum over an array, passes over the whole of it, in the best of several repeats; out of memory where "
    "the array exceeds the caches. Products: square matrices, the better of numpy and torch."
)
CHOOSERS = ("OPENBLAS_CORETYPE", "OPENBLAS_VERBOSE", "MKL_DEBUG_CPU_TYPE", "MKL_ENABLE_INSTRUCTIONS")
DRAM_BYTES = 1 << 28
GEMM_SIZE = 1536


@numba.njit(parallel=True, fastmath=True)
def _read(x: Array, out: Array) -> None:
    """Sum each row of x (chunks, length): as many chunks as threads."""
    for k in numba.prange(x.shape[0]):
        row = x[k]
        total = row[0] - row[0]
        for i in range(row.size):
            total += row[i]
        out[k] = total


def read_bandwidth(size: int, threads: int, dtype: str = "float64", seconds: float = 0.5) -> float:
    """Bytes per second at which `threads` cores read an array of `size` bytes, again and again; the best pass."""
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    x = np.ones((threads, size // threads // np.dtype(dtype).itemsize), dtype=dtype)
    out = np.empty(threads, dtype=dtype)
    _read(x, out)  # compiles
    passes, best, end = max(1, (1 << 24) // size), np.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(passes):
            _read(x, out)
        best = min(best, (time.perf_counter() - start) / passes)
    numba.set_num_threads(before)
    return x.nbytes / best


def gemm_rate(dtype: str, threads: int, size: int = GEMM_SIZE, seconds: float = 1.0) -> float:
    """Flops per second of the product of square matrices, in this process: the better of numpy and torch."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    a = np.random.default_rng(0).standard_normal((size, size)).astype(dtype)
    b, tensor = a.T.copy(), torch.from_numpy(a)
    c, out = np.empty_like(a), torch.empty_like(tensor)
    other, best = torch.from_numpy(b), np.inf
    with threadpool_limits(threads, user_api="blas"):
        for product in (lambda: np.matmul(a, b, out=c), lambda: torch.mm(tensor, other, out=out)):
            product()
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                start = time.perf_counter()
                product()
                best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best


@cache
def measured(kind: str, dtype: str, threads: int, size: int, seconds: float) -> float:
    """`read_bandwidth` or `gemm_rate` in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name not in CHOOSERS}
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        environment.pop(name, None)
    call = {"read": f"read_bandwidth({size}, {threads}, {dtype!r}, {seconds})",
            "gemm": f"gemm_rate({dtype!r}, {threads}, {size}, {seconds})"}[kind]  # fmt: skip
    code = f"import json; from benchmarks.rates import *; print(json.dumps({call}))"
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, check=True)
    return float(json.loads(done.stdout))


def cores() -> tuple[int, ...]:
    """1, and 2 where there are two cores."""
    return tuple(threads for threads in (1, 2) if threads <= len(os.sched_getaffinity(0)))


def measure(quick: bool) -> Result:
    """Both rates, by precision and threads."""
    seconds = 0.2 if quick else 2.0
    rows: list[Row] = []
    for dtype in ("float64", "float32"):
        for threads in cores():
            size = GEMM_SIZE // 2 if quick else GEMM_SIZE
            row: Row = {"numbers": dtype, "threads": threads}
            row["GEMM, Gflop/s"] = measured("gemm", dtype, threads, size, seconds) / 1e9
            row["reading memory, GB/s"] = measured("read", dtype, threads, DRAM_BYTES, seconds) / 1e9
            rows.append(row)
    return Result({"": rows})


if __name__ == "__main__":
    sys.exit(main("rates", measure))
