"""Eigenvalues of Gram matrices, and the spectra that Figures 5-10 compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr

from .study import Study

Array = np.ndarray
End = Literal["first", "last"]  # before and after training


def eigenvalues(kernel: xr.DataArray) -> xr.DataArray:
    """Eigenvalues (..., index), largest first, of matrices (..., sample, sample2); NaN where one is not finite.

    Those within the rounding of m eps of the largest are zero, and said to be.
    """
    kernel = kernel.transpose(..., "sample", "sample2")
    fine = np.isfinite(kernel.values).all(axis=(-1, -2))
    found = np.linalg.eigvalsh(np.where(fine[..., None, None], kernel.values, 0.0))[..., ::-1]
    found = np.where(found > found.shape[-1] * np.finfo(float).eps * found[..., :1], found, 0.0)
    dims = (*kernel.dims[:-2], "index")
    coordinates = {name: values for name, values in kernel.coords.items() if set(values.dims) <= set(dims)}
    return xr.DataArray(np.where(fine[..., None], found, np.nan), dims=dims, coords=coordinates)


def smallest(kernel: xr.DataArray) -> xr.DataArray:
    """The smallest eigenvalue of matrices (..., sample, sample2)."""
    return eigenvalues(kernel).isel(index=-1)


class Spread(NamedTuple):
    """Mean and edges of a band, each (m,)."""

    mean: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class Spectra:
    """Spectra of K/n of one layer and kind, of the widest networks and of the limits.

    Attributes
    ----------
    width, steps : n and T.
    finite, limits : (parametrization, end) -> (replica, m), largest first; networks that diverged are left out.
    diverged : parametrization -> number of networks.
    """

    width: int
    steps: int
    finite: dict[tuple[str, End], Array]
    limits: dict[tuple[str, End], Array]
    diverged: dict[str, int]

    @property
    def samples(self) -> int:
        return next(iter(self.finite.values())).shape[1]

    @property
    def percentiles(self) -> Array:
        """0 for the largest, 100 for the smallest."""
        return 100.0 * np.arange(self.samples) / max(self.samples - 1, 1)

    def network_spread(self, name: str, end: End) -> Spread:
        """Mean over the networks, and their 16% and 84% quantiles."""
        values = self.finite[name, end]
        if not len(values):
            return Spread(*np.full((3, self.samples), np.nan))
        return Spread(values.mean(axis=0), *np.quantile(values, (0.16, 0.84), axis=0))

    def limit_spread(self, name: str, end: End) -> Spread:
        """Mean +- 2 s.e. over replicas of the limit; no band for one replica."""
        values = self.limits[name, end]
        error = 2 * values.std(axis=0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.zeros(self.samples)
        return Spread(values.mean(axis=0), values.mean(axis=0) - error, values.mean(axis=0) + error)

    def zero(self, name: str, end: End) -> Array:
        """Which eigenvalues (m,) of a limit are zero, up to rounding."""
        return (self.limits[name, end] == 0).all(axis=0)


def spectra_of(study: Study, activation: str, layer: int, kind: str) -> Spectra:
    """Spectra of the kernels of `kind` "h" or "x" of one layer, at the first and the last step."""
    assert study.networks is not None
    variable = f"kernel_{kind}"
    networks = study.networks.sel(activation=activation).isel(width=-1)
    finite, limits, diverged = {}, {}, {}
    ends: tuple[tuple[End, int], ...] = (("first", 0), ("last", -1))
    for name in map(str, networks["parametrization"].values):
        for end, step in ends:
            own = networks[variable].sel(parametrization=name, layer=layer).isel(step=step)
            values = eigenvalues(own).transpose("replica", "index").values
            finite[name, end] = values[np.isfinite(values).all(axis=1)]
            ours = study.limits[activation, name][variable].sel(layer=layer).isel(step=step)
            limits[name, end] = eigenvalues(ours).transpose("replica", "index").values
        diverged[name] = int((networks["diverged_at"].sel(parametrization=name) >= 0).sum())
    return Spectra(int(networks["width"]), int(networks["step"][-1]), finite, limits, diverged)
