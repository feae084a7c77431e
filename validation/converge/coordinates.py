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


def sizes(run: xr.Dataset) -> xr.Dataset:
    """Return size_h, size_x, change_h, change_x (replica, layer) of a run at its last step.

    Root mean squares over samples and entries of Z_T, and of Z_T - Z_0 by |Z_T|^2 + |Z_0|^2 - 2 Z_0 . Z_T from the
    kernels: down to 1e-7 of the size, the rounding of that.
    """
    found = xr.Dataset(coords={"layer": run["layer"]})
    for field in "hx":
        squares = np.einsum("rslii->rsli", run[f"kernel_{field}"].values[:, [0, -1]]).mean(axis=-1)
        crossed = np.einsum("rlii->rli", run[f"kernel_{field}0"].values[:, -1]).mean(axis=-1)
        moved = np.maximum(squares[:, 0] + squares[:, 1] - 2 * crossed, 0.0)
        dims = ("replica", "layer")
        found[f"size_{field}"], found[f"change_{field}"] = (dims, np.sqrt(squares[:, 1])), (dims, np.sqrt(moved))
    return found


def limit_sizes(
    problem: Problem, network: Network, training: Training, parametrization: str, replicas: int, seed: int
) -> xr.Dataset:
    """Return `sizes` of the infinite-width limit of a parametrization."""
    last = max(training.steps, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # ratios to features that are zero
        run = simulate(
            problem, network, training, PARTICLES, replicas, seed=seed, limit=parametrization, record_every=last,
            joint_every=last, progress=False, threads=1,
        )  # fmt: skip
    return sizes(run)


def coordinates(networks: Mapping[str, Mapping[int, xr.Dataset]], limits: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Compare sizes of networks, {parametrization: {width: `sizes`}}, with those of the limits, {parametrization: ...}.

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
    for size in SIZES:
        table = np.full((2, len(names), len(widths), len(layers)), np.nan)
        for p, name in enumerate(names):
            for n, run in networks[name].items():
                table[:, p, widths.index(n)] = _mean_and_error(run[size].dropna("replica").values)
        found[size], found[f"{size}_se"] = (dims, table[0]), (dims, table[1])
        exact = np.array([limits[name][size].mean("replica").values for name in names])
        found[f"limit_{size}"] = ((dims[0], dims[2]), exact)
    return found


def _mean_and_error(values: Array) -> Array:
    """(2, layer) from (replica, layer); NaN for what so few replicas do not give."""
    found = np.full((2, values.shape[1]), np.nan)
    if len(values):
        found[0] = values.mean(axis=0)
    if len(values) > 1:
        found[1] = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return found
