"""Networks of many widths beside the infinite-width limit, trained on the same data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr

from tpsim import InputError, Network, Problem, ResourceError, Training, simulate
from tpsim.output import thin
from tpsim.problem import positive_int

from .coordinates import OTHERS, coordinates, simulate_limit
from .crew import Crew
from .measure import agreement, compare, distances_to_limit
from .networks import Block

Array = np.ndarray
Seeds = int | Mapping[int, int]
Trained = dict[tuple[str, int, bool], xr.Dataset]  # by parametrization, width, and whether dense

RECORDS = 20  # recorded steps, about
COMPARED = 64  # networks without matrices where there are dense ones, at most
POOLED = 16384  # entries of h^l_T(xi_i), all networks of a width together, that are kept for pictures


@dataclass(frozen=True)
class Study:
    """Finite networks against the limit.

    Attributes
    ----------
    limit : dataset of `simulate`, with snapshots of 16384 particles at the first and the last step.
    networks : by width; the variables of `converge.networks.run`. Attribute `dense`: 1, or 0 without matrices.
    rates : errors and their rates by quantity and width (`converge.measure.compare`), and distances by width and layer
        (`converge.measure.distances_to_limit`).
    coordinate : the coordinate check (`converge.coordinates.coordinates`).
    agreement : where dense and matrix-free networks of one width were compared (`converge.measure.agreement`).
    skipped : widths that were left out, with the reason.
    seconds : by width and whether dense.
    """

    limit: xr.Dataset
    networks: dict[int, xr.Dataset]
    rates: xr.Dataset
    coordinate: xr.Dataset
    agreement: xr.Dataset
    skipped: list[tuple[int, str]] = field(default_factory=list)
    seconds: dict[tuple[int, bool], float] = field(default_factory=dict)


def study(
    problem: Problem,
    network: Network,
    training: Training,
    *,
    widths: Sequence[int] = (16, 32, 64, 128, 256, 512, 1024, 2048),
    matrix_free: Sequence[int] = (64, 1024, 4096, 8192, 16384, 32768, 65536, 131072),
    seeds: Seeds = 8,
    particles: int = 4096,
    replicas: int = 8,
    tolerance: float = 0.05,
    dtype: str = "float32",
    coordinate_seeds: int = 4,
    fit_from: int = 32,
    minutes: float = 4.0,
    seed: int = 0,
    record_every: int = 1,
    workers: int = 1,
    progress: bool | None = None,
    simulation: Mapping[str, Any] | None = None,
    limit: xr.Dataset | None = None,
) -> Study:
    """Train networks of many widths, and measure how they approach the limit.

    Parameters
    ----------
    problem, network, training : as for `tpsim.simulate`; probes are left aside.
    widths, matrix_free : of dense networks, and of networks without matrices (`noise="width"`), each at least 2. Where
        both have a width, dense networks count, and the others are compared with them.
    seeds : networks of a width, or {first width: networks from that width on}.
    particles, replicas, seed : of the limit; `simulation` has further arguments of `simulate`.
    tolerance : a network is near the limit where the error is at most this part of the limit's size.
    dtype : of the weights of dense networks.
    coordinate_seeds : networks of a width in SP, NTP and IP, for the coordinate check.
    fit_from : slopes are fitted to widths from here on; narrower networks are not yet on a power law.
    minutes : a width is left out if it is predicted to end later than this after the limit is done.
    record_every : recorded steps are at least T / 20 apart.
    workers, progress : as for `simulate`; results do not depend on them.
    limit : a run of `simulate` to compare with, instead of a new one; it needs the same recorded steps and snapshots of
        the first and the last one.

    Raises
    ------
    InputError
        An argument out of range.
    Diverged, RankError
        Of the limit; networks that diverge are counted, and left out.

    Error: every standard error comes from independent networks and independent replicas of the limit.
    Cost: that of the networks. Dense ones: seeds (6 m T + 10)(L-1) n^2 flops; the others O(m^2 T^2 n).
    """
    counts = _seeds(seeds, sorted({*widths, *matrix_free}))
    _check(tolerance, minutes, dtype)
    positive_int("replicas", replicas, 3)
    for name, value in (("coordinate_seeds", coordinate_seeds), ("fit_from", fit_from), ("workers", workers)):
        positive_int(name, value)
    problem = replace(problem, probes=None, probe_targets=None)
    every = max(positive_int("record_every", record_every), training.steps // RECORDS)
    if limit is None:
        limit = simulate(
            problem, network, training, particles, replicas, seed=seed, record_every=every,
            joint_every=max(training.steps, 1), snapshots=sorted({0, training.steps}),
            workers=min(workers, replicas), progress=progress, **(simulation or {}),
        )  # fmt: skip
    _check_limit(limit, problem, network, training, every)
    limits = {name: simulate_limit(problem, network, training, name, limit.sizes["replica"], seed) for name in OTHERS}
    reference = _particles(limit)
    block = Block(
        problem, network, training, 0, True, range(0), seed=seed, record_every=every, dtype=dtype, reference=reference
    )
    plans = _plans(block, widths, matrix_free, counts, coordinate_seeds)
    trained: Trained = {}
    with Crew(workers, minutes, progress, sum(len(each.pieces()) for blocks in plans for each in blocks)) as crew:
        for blocks in plans:
            for each, run in zip(blocks, crew.train(blocks) or (), strict=False):
                trained[each.parametrization, each.width, each.dense] = run
    if not trained:
        raise ResourceError("no width fits: " + "; ".join(f"{n}: {reason}" for n, reason in crew.skipped))
    networks = {name: _by_width(trained, name) for name in (*OTHERS, "mup")}
    sized = coordinates(networks, limits | {"mup": limit})
    found = compare(limit, networks["mup"], tolerance, fit_from)
    found = found.merge(distances_to_limit(networks["mup"], reference))
    both = {n: (trained["mup", n, True], trained["mup", n, False]) for n in networks["mup"]
            if {("mup", n, True), ("mup", n, False)} <= set(trained)}  # fmt: skip
    return Study(thin(limit), networks["mup"], found, sized, agreement(both), crew.skipped, crew.seconds)


def _plans(
    block: Block, widths: Sequence[int], matrix_free: Sequence[int], counts: Mapping[int, int], few: int
) -> list[list[Block]]:
    """The blocks of every width and kind, in the order in which they are run: muP, and few of the others once."""
    plans = []
    for n, dense in [*((n, True) for n in sorted({*widths})), *((n, False) for n in sorted({*matrix_free}))]:
        alone = dense or n not in widths
        count = counts[n] if alone else min(counts[n], COMPARED)
        blocks = [replace(block, width=n, dense=dense, replicas=range(count), entries=max(POOLED // count, 1))]
        if alone:
            other = replace(blocks[0], replicas=range(few), reference=None, entries=0)
            other = replace(other, record_every=max(block.training.steps, 1))
            blocks += [replace(other, parametrization=name) for name in OTHERS]
        plans.append(blocks)
    return plans


def _by_width(trained: Trained, parametrization: str) -> dict[int, xr.Dataset]:
    """The networks of each width, dense ones where there are such."""
    found: dict[int, xr.Dataset] = {}
    for (name, n, dense), run in sorted(trained.items(), key=lambda item: item[0][1]):
        if name == parametrization and (dense or n not in found):
            found[n] = run
    return found


def _particles(limit: xr.Dataset) -> Array:
    """(L, m, N) particles of Z^{h^l_T(xi_i)} of all replicas together, sorted."""
    particles = limit["Z_h"].isel(snapshot_step=-1).transpose("layer", "sample", "replica", "particle").values
    return np.sort(particles.reshape(*particles.shape[:2], -1), axis=-1)


def _seeds(seeds: Seeds, widths: Sequence[int]) -> dict[int, int]:
    """Networks of each width."""
    table = dict(seeds) if isinstance(seeds, Mapping) else {0: seeds}
    for value in table.values():
        positive_int("seeds", value, 3)
    if not widths:
        raise InputError("widths", widths, "at least one width, dense or matrix-free")
    for n in widths:
        positive_int("widths", n, 2)
        if not any(first <= n for first in table):
            raise InputError("seeds", seeds, f"a table that begins at the smallest width, {min(widths)}, or below")
    return {n: table[max(first for first in table if first <= n)] for n in widths}


def _check(tolerance: float, minutes: float, dtype: str) -> None:
    for name, value in (("tolerance", tolerance), ("minutes", minutes)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise InputError(name, value, "a number > 0")
    if dtype not in ("float32", "float64"):
        raise InputError("dtype", dtype, '"float32" or "float64"')


def _check_limit(limit: xr.Dataset, problem: Problem, network: Network, training: Training, every: int) -> None:
    """Refuse a run that recorded other steps, samples or layers than the networks will."""
    steps, T = [*range(0, training.steps, every), training.steps], training.steps
    if (
        limit.sizes["replica"] < 3 or limit.sizes["sample"] != problem.samples or limit.sizes["layer"] != network.depth
        or limit["step"].values.tolist() != steps or "Z_h" not in limit or limit["snapshot_step"].values[-1] != T
    ):  # fmt: skip
        allowed = f"a run of at least 3 replicas on this data, with record_every={every} and snapshots=(0, {T})"
        raise InputError("limit", "<xarray.Dataset>", allowed)
