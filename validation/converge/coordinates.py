"""The coordinate check: how large features are, and how far they move, by layer, width and parametrization."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from tpsim import Network, Problem, Training, simulate

SIZES = ("size_h", "change_h", "size_x", "change_x")
PARAMETRIZATIONS = ("sp", "ntp", "ip", "mup")


def coordinates(
    networks: Mapping[str, Mapping[int, xr.Dataset]], limits: Mapping[str, xr.Dataset]
) -> xr.Dataset:
    """Return sizes of finite networks at the last step, and those of the limits they are to meet.

    Returns
    -------
    xarray.Dataset
        size_h, size_x (parametrization, width, layer): root mean square of the entries of h^l_T over samples, mean over
        networks; change_h, change_x: of h^l_T - h^l_0; all with _se. limit_size_h, ... (parametrization, layer): the
        same of the infinite-width limits.
    """
    widths = sorted({n for runs in networks.values() for n in runs})
    layers = next(iter(limits.values()))["layer"].values
    found = xr.Dataset(coords={"parametrization": list(networks), "width": widths, "layer": layers})
    for name in SIZES:
        mean = np.full((len(networks), len(widths), len(layers)), np.nan)
        error, exact = mean.copy(), np.full((len(networks), len(layers)), np.nan)
        for p, (parametrization, runs) in enumerate(networks.items()):
            exact[p] = limits[parametrization][name].mean("replica")
            for n, run in runs.items():
                values = run[name].dropna("replica").values
                if len(values):
                    mean[p, widths.index(n)] = values.mean(axis=0)
                if len(values) > 1:
                    error[p, widths.index(n)] = values.std(axis=0, ddof=1) / np.sqrt(len(values))
        dims = ("parametrization", "width", "layer")
        found[name], found[f"{name}_se"] = (dims, mean), (dims, error)
        found[f"limit_{name}"] = (("parametrization", "layer"), exact)
    return found


def limit_sizes(
    problem: Problem, network: Network, training: Training, parametrization: str, particles: int, replicas: int, seed: int
) -> xr.Dataset:
    """Return `sizes` of the infinite-width limit of a parametrization."""
    last = max(training.steps, 1)
    run = simulate(
        problem, network, training, min(particles, 4096), replicas, seed=seed, limit=parametrization,
        record_every=last, joint_every=last, progress=False, threads=1,
    )  # fmt: skip
    return sizes(run)


def sizes(run: xr.Dataset) -> xr.Dataset:
    """Return size_h, size_x, change_h, change_x (replica, layer) of a run at its last step.

    |Z_T - Z_0|^2 = |Z_T|^2 + |Z_0|^2 - 2 Z_0 . Z_T from the kernels: down to 1e-7 of the size, the rounding of that.
    """
    found = xr.Dataset(coords={"layer": run["layer"]})
    for field in "hx":
        squares = np.einsum("rslii->rsli", run[f"kernel_{field}"].values[:, [0, -1]]).mean(axis=-1)
        crossed = np.einsum("rlii->rli", run[f"kernel_{field}0"].values[:, -1]).mean(axis=-1)
        moved = np.maximum(squares[:, 0] + squares[:, 1] - 2 * crossed, 0.0)
        dims = ("replica", "layer")
        found[f"size_{field}"], found[f"change_{field}"] = (dims, np.sqrt(squares[:, 1])), (dims, np.sqrt(moved))
    return found
