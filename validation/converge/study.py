"""Networks of many widths beside the infinite-width limit, trained on the same data."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import joblib
import numpy as np
import xarray as xr
from tqdm import tqdm

from tpsim import Network, Problem, Training, simulate
from tpsim.output import thin
from validation.rates import distance_floor

from .coordinates import PARAMETRIZATIONS, coordinates, limit_sizes, sizes
from .measure import agreement, compare
from .networks import Block, run

Array = np.ndarray
Seeds = int | Mapping[int, int]  # networks of a width, or {first width: networks from that width on}

WIDTHS = (16, 32, 64, 128, 256, 512, 1024, 2048)
MATRIX_FREE = (256, 4096, 8192, 16384, 32768, 65536, 131072)
RECORDS = 20  # recorded steps
POOLED = 16384  # entries of h^l_T(xi_i), all networks of a width together, that are kept for pictures
FIT_FROM = 64  # below, the laws in n are not yet power laws


@dataclass(frozen=True)
class Study:
    """Finite networks against the limit.

    Attributes
    ----------
    limit : dataset of `simulate`, with particle snapshots at the first and the last step.
    networks : by width; f, loss, kernels and feature changes as in `limit`, and what `converge.networks.run` adds.
        Dense where the attribute `dense` says so.
    rates : errors and their rates by quantity and width, see `converge.measure.compare`; distances by width and layer.
    coordinate : the coordinate check, see `converge.coordinates`.
    agreement : widths at which dense and matrix-free networks were compared, see `converge.measure.agreement`.
    skipped : (width, reason)
    seconds : by width.
    """

    limit: xr.Dataset
    networks: dict[int, xr.Dataset]
    rates: xr.Dataset
    coordinate: xr.Dataset
    agreement: xr.Dataset
    skipped: list[tuple[int, str]] = field(default_factory=list)
    seconds: dict[int, float] = field(default_factory=dict)


def study(
    problem: Problem,
    network: Network,
    training: Training,
    *,
    widths: Sequence[int] = WIDTHS,
    matrix_free: Sequence[int] = MATRIX_FREE,
    seeds: Seeds = 8,
    particles: int = 4096,
    replicas: int = 8,
    tolerance: float = 0.05,
    dtype: str = "float32",
    coordinate_seeds: int = 4,
    fit_from: int = FIT_FROM,
    minutes: float = 4.0,
    seed: int = 0,
    workers: int = 1,
    progress: bool | None = None,
    limit_training: Training | None = None,
) -> Study:
    problem = replace(problem, probes=None, probe_targets=None)
    every = max(1, training.steps // RECORDS)
    limit = simulate(
        problem, network, limit_training or training, particles, replicas, seed=seed, record_every=every,
        joint_every=max(training.steps, 1), snapshots=sorted({0, training.steps}), workers=min(workers, replicas),
        progress=progress,
    )  # fmt: skip
    reference = _pool(limit)
    trained: dict[tuple[str, int, bool], xr.Dataset] = {}
    for n, dense in [*((n, True) for n in sorted(widths)), *((n, False) for n in sorted(matrix_free))]:
        block = Block(
            problem, network, training, n, dense, range(_seeds(seeds, n)), seed=seed, record_every=every, dtype=dtype,
            reference=reference, entries=max(POOLED // _seeds(seeds, n), 1),
        )  # fmt: skip
        trained["mup", n, dense] = _run(block, workers)
        last = max(training.steps, 1)
        for other in PARAMETRIZATIONS[:-1]:
            few = replace(
                block, parametrization=other, replicas=range(coordinate_seeds), reference=None, entries=0, record_every=last
            )
            trained[other, n, dense] = _run(few, workers)
    networks = {n: trained["mup", n, n in widths] for n in sorted({*widths, *matrix_free})}
    both = sorted({*widths} & {*matrix_free})
    agreements = [agreement(trained["mup", n, True], trained["mup", n, False]) for n in both]
    limits = {
        p: limit_sizes(problem, network, training, p, particles, replicas, seed) for p in PARAMETRIZATIONS[:-1]
    } | {"mup": sizes(limit)}
    check = coordinates(
        {p: {n: trained[p, n, n in widths] for n in networks} for p in PARAMETRIZATIONS}, limits
    )
    found = compare(limit, networks, tolerance, fit_from)
    return Study(
        thin(limit), networks, xr.merge([found, _distances(networks, reference, seed)]), check,
        xr.concat(agreements, xr.DataArray(both, dims="width", name="width")) if both else xr.Dataset(),
    )  # fmt: skip


def _pool(limit: xr.Dataset) -> Array:
    """(L, m, N) particles of Z^{h^l_T(xi_i)} of all replicas together."""
    particles = limit["Z_h"].isel(snapshot_step=-1).transpose("layer", "sample", "replica", "particle").values
    return particles.reshape(*particles.shape[:2], -1)


def _seeds(seeds: Seeds, width: int) -> int:
    if not isinstance(seeds, Mapping):
        return int(seeds)
    return int(seeds[max(first for first in seeds if first <= width)])


def _run(block: Block, workers: int) -> xr.Dataset:
    pieces = block.pieces()
    if workers == 1:
        found = [run(piece) for piece in pieces]
    else:
        with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
            found = joblib.Parallel(n_jobs=workers)(joblib.delayed(run)(piece) for piece in pieces)
    whole = xr.concat(found, "replica")
    whole.attrs = {"width": block.width, "dense": int(block.dense), "parametrization": block.parametrization}
    return whole


def _distances(networks: Mapping[int, xr.Dataset], reference: Array, seed: int) -> xr.Dataset:
    """Distances by width and layer, mean over networks and samples, and those of independent draws."""
    widths, layers = sorted(networks), range(1, len(reference) + 1)
    found = xr.Dataset()
    for name in ("w1", "ks"):
        values = [networks[n][name].mean("sample").dropna("replica").values for n in widths]
        found[name] = (("width", "layer"), [v.mean(axis=0) for v in values])
        found[f"{name}_se"] = (("width", "layer"), [v.std(axis=0, ddof=1) / np.sqrt(len(v)) for v in values])
    generator = np.random.default_rng([seed, 1])
    floor = np.array([[_floor(reference[l - 1], n, generator) for l in layers] for n in widths])
    found["w1_iid"], found["ks_iid"] = (("width", "layer"), floor[..., 0]), (("width", "layer"), floor[..., 1])
    return found.assign_coords(width=widths, layer=list(layers))


def _floor(particles: Array, size: int, generator: np.random.Generator) -> Array:
    draws = max(1, 8 // len(particles))
    return np.mean([distance_floor(sample, size, generator, draws).mean(axis=0) for sample in particles], axis=0)
