"""What the points under the first draws, and their order, do to the spread of f over replicas.

    python benchmarks/variance.py [--quick] [--problem A B C] [--scheme NAME ...] [--particles M ...]

One thread. spread: standard deviation of f_t(xi_i) over replicas, root mean square over t > 0 and i. gain: the variance
of "appearance" (24 Sobol dimensions in the order in which draws are asked for) over that of the scheme, with its 95%
interval from a bootstrap over replicas. shift: the difference of the two means of f, root mean square, over its
standard error: about 1 where neither has a bias that the other has not. CPU time is that of one replica; it
contains products that are done twice in the schemes with rotations.
The last table is the time of drawing itself. A new run adds its rows to the results that are there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from scipy.stats import qmc
from sklearn.datasets import load_digits

from tpsim import Network, Notice, Problem, Training, mlp, simulate
from tpsim.core import GaussianMatrix, NormalSource, Product, Rows, matrix, orthogonal
from tpsim.mlp import FirstLayer

Array = np.ndarray
RESULTS = Path(__file__).parent / "results" / "variance.json"
REFERENCE = "appearance"


def problems() -> dict[str, tuple[Problem, Network, Training]]:
    """A: Gaussian inputs. B, C: five images of each of two digits, which are strongly correlated."""
    gaussian = np.random.default_rng(1).standard_normal((4, 8)) / np.sqrt(8)
    digits = load_digits()
    chosen = np.column_stack([np.flatnonzero(digits.target == k)[:5] for k in (0, 1)]).ravel()
    images = Problem(digits.data[chosen] / 16 / 8, np.where(digits.target[chosen] == 0, -1.0, 1.0))
    s = float(np.sqrt(2))
    return {
        "A": (Problem(gaussian, [1.0, -1.0, 1.0, -1.0]), Network(2, "tanh", s), Training(10, 0.4, reduction="mean")),
        "B": (images, Network(2, "tanh", s), Training(25, 0.3, reduction="mean")),
        "C": (images, Network(3, "silu", s), Training(100, 0.1, reduction="mean")),
    }


def _rng(source: NormalSource) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence((*source.root, 1 << 30)))


def _inside(u: Array) -> Array:
    """Off 1, where the normal quantile is infinite; `NormalSource` adds half of a 2^-30 to keep off 0."""
    return np.ascontiguousarray(np.minimum(u, 1 - 2.0**-30))


def sobol(source: NormalSource, dimensions: int = 24) -> Array:
    """Linear matrix scramble and digital shift."""
    return _inside(qmc.Sobol(dimensions, scramble=True, rng=_rng(source)).random(source.particles).T)


def nothing(source: NormalSource) -> Array:
    return np.empty((0, source.particles))


def owen(source: NormalSource, dimensions: int = 24) -> Array:
    """Nested uniform scramble of the Sobol sequence: one random flip per node of the binary tree."""
    rng, M = _rng(source), source.particles
    bits = M.bit_length() - 1
    x = (qmc.Sobol(dimensions, scramble=False).random(M).T * M).astype(np.int64)
    y = np.zeros_like(x)
    for b in range(bits):
        flips = rng.integers(0, 2, (dimensions, 1 << b))
        y = 2 * y + ((x >> (bits - 1 - b) & 1) ^ np.take_along_axis(flips, x >> (bits - b), axis=1))
    return _inside((y + rng.random(y.shape)) / M)


def interlaced(source: NormalSource, dimensions: int = 24) -> Array:
    """Digits of two Sobol coordinates in turn: a higher-order net, better for smooth functions of few variables."""
    points = qmc.Sobol(2 * dimensions, scramble=True, rng=_rng(source)).random(source.particles).T
    x, y = (points * 2**30).astype(np.int64), np.zeros((dimensions, source.particles), np.int64)
    for b in range(52):
        y |= (x[b % 2 :: 2] >> (29 - b // 2) & 1) << (51 - b)
    return _inside((y + 0.5) / 2.0**52)


def halton(source: NormalSource) -> Array:
    return _inside(qmc.Halton(24, scramble=True, rng=_rng(source)).random(source.particles).T)


def korobov(source: NormalSource, baker: bool = False) -> Array:
    """Rank-1 lattice 1, a, a^2, .. mod M with a random shift; a has the smallest P_2, over pairs, of 24 odd choices."""
    rng, M = _rng(source), source.particles
    best, z = np.inf, np.empty(0)
    for a in np.random.default_rng(0).integers(1, M // 2, 24) * 2 + 1:
        powers = np.array([pow(int(a), j, M) for j in range(24)])
        u = np.outer(powers, np.arange(M)) % M / M
        kernel = 2 * np.pi**2 * (u**2 - u + 1 / 6)  # sum of exp(2 pi i h u) / h^2
        pairs = float((kernel.sum(axis=0) ** 2 - (kernel**2).sum(axis=0)).mean())
        if pairs < best:
            best, z = pairs, powers
    u = (np.outer(z, np.arange(M)) / M + rng.random((24, 1))) % 1.0
    return _inside(1 - np.abs(2 * u - 1) if baker else u)


def antithetic(source: NormalSource) -> Array:
    """Half the points, and their mirror images."""
    u = qmc.Sobol(24, scramble=True, rng=_rng(source)).random(source.particles // 2).T
    return np.concatenate([u, 1 - 2.0**-30 - u], axis=1)


def principal(coordinates: Array) -> Array:
    """Rows: principal directions (k, k) of coordinates (m, k), in falling order."""
    return np.linalg.svd(coordinates, full_matrices=True)[2]


def turn(rows: Rows, start: int, coordinates: Array) -> None:
    """Make the rows from `start` on the images of the principal directions of coordinates (m, k)."""
    fresh = rows.tail(start)
    if len(fresh):
        rows.truncate(start)
        rows.append(principal(coordinates).T @ fresh)


def first_rotated(layer: FirstLayer, *args: Any, init: Callable[..., None] = FirstLayer.__init__) -> None:
    """The draws of W^1 are the images of the principal directions of the inputs; the law is rotation invariant."""
    init(layer, *args)
    turn(layer.draws, 0, layer.coordinates)


def rotated(
    matrix: GaussianMatrix, direction: int, *args: Any, meet: Callable[..., Product] = GaussianMatrix.meet
) -> Product:
    """Fresh draws of a hidden matrix are the images of the principal directions of what is new in this call."""
    product = meet(matrix, direction, *args)
    turn(matrix.sides[direction].images, product.known, product.coordinates[:, product.known :])
    return product


def readout_first(source: NormalSource, key: tuple[int, ...], normal: Any = NormalSource.normal) -> Array:
    """`NormalSource.normal` with the first dimension kept for What_0."""
    if not len(source._sobol) or key[0] != mlp._READOUT:
        source._served = max(source._served, 1)
        return normal(source, key)
    served, source._served = source._served, 0
    z = normal(source, key)
    source._served = served
    return z


def pivoted(residuals: Array, bases: Any, allowed: Array, energy: Array, choose: Any = orthogonal.directions) -> Any:
    """`tpsim.core.orthogonal.directions` with the residuals in falling order, and not in that of the samples."""
    order = np.argsort(-(residuals**2).sum(axis=1), kind="stable")
    new = choose(residuals[order], bases, allowed[order], energy[order])
    left = np.empty_like(new.left)
    left[order] = new.left
    return orthogonal.New(order[new.rows], new.directions, left)


@dataclass(frozen=True)
class Scheme:
    """Points of the first draws; are draws rotated to principal directions; what comes first, in which order."""

    points: Callable[[NormalSource], Array] = sobol
    rotate: bool = False
    readout_first: bool = False
    pivot: bool = False


SCHEMES = {
    REFERENCE: Scheme(),
    "principal, readout first": Scheme(sobol, True, True),
    "principal": Scheme(sobol, True),
    "readout first": Scheme(sobol, False, True),
    "pivoted": Scheme(sobol, pivot=True),
    "pseudo-random": Scheme(nothing),
    "sobol, 8 dimensions": Scheme(partial(sobol, dimensions=8)),
    "sobol, 12 dimensions": Scheme(partial(sobol, dimensions=12)),
    "sobol, 48 dimensions": Scheme(partial(sobol, dimensions=48)),
    "owen": Scheme(owen),
    "interlaced": Scheme(interlaced),
    "halton": Scheme(halton),
    "korobov": Scheme(korobov),
    "korobov, baker": Scheme(partial(korobov, baker=True)),
    "antithetic": Scheme(antithetic),
}
FINALISTS = tuple(SCHEMES)[:5]


def replicas(name: str, problem: str, particles: int, count: int, seed: int) -> tuple[Array, float]:
    """f (replica, step > 0, sample) of a scheme, and the processor time of one replica."""
    scheme, (data, network, training) = SCHEMES[name], problems()[problem]
    with ExitStack() as stack:
        stack.enter_context(patch.object(NormalSource, "_sobol_points", lambda source: scheme.points(source)))
        if scheme.readout_first:
            stack.enter_context(patch.object(NormalSource, "normal", readout_first))
        if scheme.pivot:
            stack.enter_context(patch.object(matrix, "directions", pivoted))
        if scheme.rotate:
            stack.enter_context(patch.object(FirstLayer, "__init__", first_rotated))
            stack.enter_context(patch.object(GaussianMatrix, "meet", rotated))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", Notice)  # more arrays than half of M
        clock = time.process_time()
        run = simulate(
            data, network, training, particles, count, record_every=max(1, training.steps // 10), progress=False,
            threads=1, joint_every=training.steps, seed=seed,
        )  # fmt: skip
        return run.f.values[:, 1:], (time.process_time() - clock) / count


def variance(f: Array) -> float:
    return float(f.var(axis=0, ddof=1).mean())


def compare(f: Array, reference: Array) -> dict[str, float]:
    """Spread, gain with its interval, and the shift of the mean in standard errors."""
    rng = np.random.default_rng(0)
    ratios = [variance(rng.choice(reference, len(reference))) / variance(rng.choice(f, len(f))) for _ in range(1000)]
    low, high = np.quantile(ratios, [0.025, 0.975])
    noise = (variance(f) / len(f) + variance(reference) / len(reference)) ** 0.5
    shift = float(np.sqrt(np.mean((f.mean(axis=0) - reference.mean(axis=0)) ** 2))) / noise
    gain = variance(reference) / variance(f)
    return {"spread": variance(f) ** 0.5, "gain": gain, "low": low, "high": high, "shift": shift}


def controlled(problem: str, particles: int, count: int, seed: int, folds: int = 8) -> dict[str, float]:
    """Variance of f over that of f less its regression on kernels at t = 0, forward only and with those of dh.

    Coefficients come from other replicas than those they are used for: what weights that are calibrated once can give.
    """
    data, network, training = problems()[problem]
    run = simulate(
        data, network, training, particles, count, record_every=max(1, training.steps // 10), progress=False, threads=1,
        joint_every=training.steps, seed=seed, quantities=("kernel_h", "kernel_x", "kernel_dh"),
    )  # fmt: skip
    f = run.f.values[:, 1:].reshape(count, -1)
    rows, columns = np.triu_indices(data.samples)
    found = {}
    for name, kinds in (("forward", "hx"), ("with gradients", ("h", "x", "dh"))):
        upper = [run[f"kernel_{kind}"].values[:, 0][..., rows, columns].reshape(count, -1) for kind in kinds]
        kernels = np.concatenate(upper, axis=1)
        kernels -= kernels.mean(axis=0)
        directions = np.linalg.svd(kernels / np.maximum(kernels.std(axis=0), 1e-12), full_matrices=False)
        controls = directions[0] * directions[1]
        controls = controls[:, directions[1] > 1e-6 * directions[1][0]]
        best = 0.0
        for most in (2, 4, 8, 16, 32, controls.shape[1]):  # principal directions of the kernels
            rest = np.empty_like(f)
            for fold in range(folds):
                out = np.arange(count) % folds == fold
                x, y = controls[~out, :most], f[~out]
                weights = np.linalg.lstsq(x - x.mean(axis=0), y - y.mean(axis=0), rcond=None)[0]
                rest[out] = f[out] - controls[out, :most] @ weights
            best = max(best, variance(f) / variance(rest))
        found[name] = best
    return {"problem": problem, "M": particles, "replicas": count} | found  # type: ignore[return-value]


def drawing() -> list[dict[str, float]]:
    """Microseconds of a pseudo-random draw, as it is and by a new generator per tile; and of all Sobol draws."""

    def per_tile(M: int, key: tuple[int, ...]) -> None:
        for tile in range(M // 1024):
            np.random.Generator(np.random.Philox(np.random.SeedSequence((*key, tile)))).standard_normal(1024)

    def best(call: Callable[[int], object], repeats: int = 30) -> float:
        times = []
        for k in range(repeats):
            start = time.process_time()
            call(k)
            times.append(time.process_time() - start)
        return 1e6 * min(times)

    rows = []
    for M in (1024, 4096, 16384, 65536):
        source = NormalSource(M, (0, 3, 1))
        now = best(lambda k, s=source: s.pseudo_random((2, 0, 5, k)))  # type: ignore[misc]
        new = best(lambda k, M=M: per_tile(M, (0, 3, 1, 2, 0, 5, k)))  # type: ignore[misc]
        points = best(lambda k, M=M: NormalSource(M, (0, k, 1), sobol=True), 5)  # type: ignore[misc]
        rows.append({"M": M, "draw": now, "a generator per tile": new, "sobol set-up": points})
    return rows


def main() -> int:
    """Print the tables and write the results."""
    parser = argparse.ArgumentParser(description="The spread of f by points and order of the first draws.")
    parser.add_argument("--quick", action="store_true", help="8 replicas of problem A at M = 1024")
    parser.add_argument("--problem", nargs="+", choices=problems(), default=["A", "B", "C"])
    parser.add_argument("--scheme", nargs="+", choices=SCHEMES, default=None)
    parser.add_argument("--particles", nargs="+", type=int, default=None)
    parser.add_argument("--replicas", type=int, default=None)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    sizes = args.particles or (1024, 4096, 16384)
    cases = [("A", 1024)] if args.quick else [(p, M) for p in args.problem for M in sizes]
    document = json.loads(args.output.read_text()) if args.output.exists() else {"spread": []}
    found = {(row["problem"], row["M"], row["scheme"]): row for row in document["spread"]}
    print("problem      M  scheme                    replicas  spread    gain  95% interval   shift   CPU s")
    for problem, M in cases:
        count = 8 if args.quick else args.replicas or (64 if M < 16384 else 32)
        names = args.scheme or (tuple(SCHEMES) if M == 1024 and problem != "C" else FINALISTS)
        reference: Array | None = None
        for name in dict.fromkeys((REFERENCE, *names)):
            f, seconds = replicas(name, problem, M, count, args.seed)
            reference = f if reference is None else reference
            row = {"problem": problem, "M": M, "scheme": name, "replicas": count, "cpu": seconds}
            row |= compare(f, reference)
            found[problem, M, name] = row
            print(
                f"{problem:7} {M:6}  {name:24}  {count:8}  {row['spread']:.2e}  {row['gain']:4.2f}  "
                f"{row['low']:4.2f} .. {row['high']:4.2f}  {row['shift']:5.2f}  {seconds:6.3f}", flush=True,
            )  # fmt: skip
            document["spread"] = list(found.values())
            args.output.parent.mkdir(exist_ok=True)
            args.output.write_text(json.dumps(document, indent=1) + "\n")
    document["controls"] = [controlled(problem, 1024, 24 if args.quick else 400, 9) for problem in ("A", "B")]
    for row in document["controls"]:
        print(f"\nregression on kernels at t = 0: {row}")
    document["drawing"] = drawing()
    print("\nmicroseconds:  M, one draw, the same with a generator per tile, Sobol points of one space")
    for times in document["drawing"]:
        print("  ".join(f"{value:10.1f}" for value in times.values()))
    args.output.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
