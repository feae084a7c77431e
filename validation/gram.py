"""Gram matrices of the features of a run, their spectra, and how small the smallest eigenvalue is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

Array = np.ndarray

KINDS = ("h", "x", "h centred", "x centred")


def grams(run: xr.Dataset) -> dict[str, Array]:
    """Gram matrices (replica, step, layer, m, m) by kind: E[Z_i Z_j] of Z^h and Z^x, and less E[Z_i] E[Z_j]."""
    kinds: dict[str, Array] = {}
    for z in ("h", "x"):
        order = ("replica", "step", "layer", "sample")
        kernel = run[f"kernel_{z}"].transpose(*order, "sample2").values
        mean = run[f"mean_{z}"].transpose(*order).values
        kinds |= {z: kernel, f"{z} centred": kernel - mean[..., :, None] * mean[..., None, :]}
    return kinds


def spectra(run: xr.Dataset) -> xr.DataArray:
    """All eigenvalues of `grams`, descending: (kind, replica, step, layer, eigenvalue). NaN where a run has none."""
    kinds = grams(run)
    values = np.stack([_eigenvalues(kinds[kind]) for kind in KINDS])
    coords = {"kind": list(KINDS)} | {name: run[name].values for name in ("replica", "step", "layer")}
    return xr.DataArray(values, coords, ("kind", "replica", "step", "layer", "eigenvalue"))


def _eigenvalues(kernel: Array) -> Array:
    """Eigenvalues of symmetric matrices (..., m, m), descending; NaN for one that is not finite."""
    finite = np.isfinite(kernel).all(axis=(-2, -1))
    values = np.linalg.eigvalsh(np.where(finite[..., None, None], kernel, 0.0))[..., ::-1]
    return np.where(finite[..., None], values, np.nan)


def relative(run: xr.Dataset, pilot: xr.Dataset) -> xr.DataArray:
    """`spectra` / scale, the pilot's lambda_max of the same kind, step and layer; 0 where its features vanish.

    Parameters
    ----------
    run : with kernel_h, kernel_x, mean_h and mean_x.
    pilot : an independent run (another seed) with the same steps and layers; any number of replicas.
    """
    values, scale = spectra(run), _scale(pilot)
    zero = scale == 0.0
    return (values / scale.where(~zero, 1.0)).where(~zero, 0.0).transpose(*values.dims)


def _scale(pilot: xr.Dataset) -> xr.DataArray:
    """lambda_max of the mean over replicas: (kind, step, layer)."""
    kinds = grams(pilot)
    values = np.stack([_eigenvalues(kinds[kind].mean(axis=0))[..., 0] for kind in KINDS])
    coords = {"kind": list(KINDS), "step": pilot["step"].values, "layer": pilot["layer"].values}
    return xr.DataArray(values, coords, ("kind", "step", "layer"))


def smallest(
    run: xr.Dataset, pilot: xr.Dataset, kinds: Sequence[str] = KINDS, layers: Sequence[int] | None = None
) -> Array:
    """T_r (replica,): the least lambda_min / scale over recorded steps, the given kinds and layers (1..L; all)."""
    values = relative(run, pilot).isel(eigenvalue=-1).sel(kind=list(kinds))
    values = values if layers is None else values.sel(layer=list(layers))
    return values.min(("kind", "step", "layer"), skipna=False).values


def relative_trace(pilot: xr.Dataset) -> xr.DataArray:
    """trace(K) / scale, of K that is not centred: (kind, step, layer); 0 where the features vanish."""
    kinds, scale = grams(pilot), _scale(pilot)
    traces = np.stack([np.trace(kinds[kind[0]].mean(axis=0), axis1=-2, axis2=-1) for kind in KINDS])
    return scale.copy(data=np.divide(traces, scale.values, out=np.zeros_like(traces), where=scale.values > 0))
