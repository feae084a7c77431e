"""The coordinate check: how large features are, and how far they move, by layer, width and parametrization."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import xarray as xr

from tpsim import Network, Notice, Problem, Training, simulate

Array = np.ndarray

SIZES = ("size_h", "change_h", "size_x", "change_x")
OTHERS = ("sp", "ntp", "ip")  # than the one that is studied
PARTICLES = 4096  # of their limits: sizes need no more


def sizes(runs: Mapping[str, Array]) -> dict[str, Array]:
    """Return size_h, size_x, change_h, change_x (replica, layer) at the last step, from the kernels (replica, ...).

    Root mean squares over samples and entries of Z_T, and of Z_T - Z_0 by |Z_T|^2 + |Z_0|^2 - 2 Z_0 . Z_T: down to 1e-7
    of the size, the rounding of that.
    """
    found: dict[str, Array] = {}
    for field in "hx":
        squares = np.einsum("rslii->rsli", runs[f"kernel_{field}"][:, [0, -1]]).mean(axis=-1)
        crossed = np.einsum("rlii->rli", runs[f"kernel_{field}0"][:, -1]).mean(axis=-1)
        moved = np.maximum(squares[:, 0] + squares[:, 1] - 2 * crossed, 0.0)
        found |= {f"size_{field}": np.sqrt(squares[:, 1]), f"change_{field}": np.sqrt(moved)}
    return found


def limit_sizes(run: xr.Dataset) -> dict[str, Array]:
    """Return `sizes` of an infinite-width limit."""
    return sizes({name: run[name].values for name in ("kernel_h", "kernel_x", "kernel_h0", "kernel_x0")})


def simulate_limit(
    problem: Problem, network: Network, training: Training, parametrization: str, replicas: int, seed: int
) -> xr.Dataset:
    """Simulate the limit of a parametrization, as far as the coordinate check needs it."""
    last = max(training.steps, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # ratios to features that are zero
        return simulate(
            problem, network, training, PARTICLES, replicas, seed=seed, limit=parametrization, record_every=last,
            joint_every=last, progress=False, threads=1,
        )  # fmt: skip


def coordinates(networks: Mapping[str, Mapping[int, xr.Dataset]], limits: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Compare sizes of networks, {parametrization: {width: ...}}, with those of the limits, {parametrization: ...}.

    Returns
    -------
    xarray.Dataset
        size_h, size_x (parametrization, width, layer): root mean square of the entries of h^l_T, x^l_T, mean over
        networks; change_h, change_x: of h^l_T - h^l_0, x^l_T - x^l_0; all with _se. NaN where no network was trained or
        all diverged. limit_size_h, ... (parametrization, layer): the same in the infinite-width limits.
    """
    names, widths = list(networks), sorted({n for runs in networks.values() for n in runs})
    layers = limits[names[0]]["layer"].values
    found = xr.Dataset(coords={"parametrization": names, "width": widths, "layer": layers})
    dims = ("parametrization", "width", "layer")
    exact = {name: limit_sizes(limits[name]) for name in names}
    for size in SIZES:
        table = np.full((2, len(names), len(widths), len(layers)), np.nan)
        for p, name in enumerate(names):
            for n, run in networks[name].items():
                table[:, p, widths.index(n)] = _mean_and_error(run[size].dropna("replica").values)
        found[size], found[f"{size}_se"] = (dims, table[0]), (dims, table[1])
        found[f"limit_{size}"] = ((dims[0], dims[2]), [exact[name][size].mean(axis=0) for name in names])
    return found


def _mean_and_error(values: Array) -> Array:
    """(2, layer) from (replica, layer); NaN for what so few replicas do not give."""
    found = np.full((2, values.shape[1]), np.nan)
    if len(values):
        found[0] = values.mean(axis=0)
    if len(values) > 1:
        found[1] = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return found
