"""Errors of finite networks against the limit, by quantity and width, with their rates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from validation import rates

from .quantities import controls, healthy, quantities

Array = np.ndarray

ERRORS = ("spread", "spread_se", "bias", "bias_se", "bias_p", "bias_resolved", "error", "error_se")


def compare(limit: xr.Dataset, networks: Mapping[int, xr.Dataset], tolerance: float, fit_from: int) -> xr.Dataset:
    """Return the errors of networks at each width, (quantity, width), and what follows from them, (quantity).

    Returns
    -------
    xarray.Dataset
        scale, limit_se (quantity): rms of the limit over its entries, and of the standard error of its mean.
        spread, bias, error (quantity, width), with _se: rms over entries of the standard deviation over networks, of
        the mean less the limit (both noises removed; with `controls` as control variates), and over networks too of the
        deviation from the limit. bias_p, bias_resolved: see `validation.rates.bias`.
        spread_slope, bias_slope (quantity, bound): exponents of the width from `fit_from` on, where the bias is
        resolved; NaN where that leaves fewer than 3 widths.
        width_within (quantity): the smallest width from which on error <= tolerance scale; NaN if there is none.
        seeds, diverged, dense (width).
    """
    widths, exact = sorted(networks), quantities(limit)
    found = xr.Dataset(coords={"quantity": list(exact), "width": widths, "bound": ["estimate", "low", "high"]})
    kept = {n: healthy(run) for n, run in networks.items()}
    expected = controls(limit).mean(axis=0)
    table = [_all_errors(kept[n], exact, expected) for n in widths]
    for key in ERRORS:
        found[key] = (("quantity", "width"), [[column[name][key] for column in table] for name in exact])
    found["scale"] = ("quantity", [float(np.sqrt(np.mean(v.mean(axis=0) ** 2))) for v in exact.values()])
    found["limit_se"] = ("quantity", [rates.spread(v).value / np.sqrt(len(v)) for v in exact.values()])
    found["seeds"] = ("width", [networks[n].sizes["replica"] for n in widths])
    found["diverged"] = ("width", [networks[n].sizes["replica"] - kept[n].sizes["replica"] for n in widths])
    found["dense"] = ("width", [bool(networks[n].attrs["dense"]) for n in widths])
    found.attrs = {"tolerance": tolerance, "fit_from": fit_from}
    return _with_rates(found)


def _all_errors(run: xr.Dataset, limit: Mapping[str, Array], expected: Array) -> dict[str, dict[str, float]]:
    off = controls(run) - expected
    return {name: _errors(values, off, limit[name]) for name, values in quantities(run).items()}


def _errors(values: Array, off: Array, limit: Array) -> dict[str, float]:
    if len(values) < 3 or len(limit) < 3:
        return dict.fromkeys(ERRORS, np.nan) | {"bias_resolved": False}
    spread, bias = rates.spread(values), rates.bias(rates.control_variates(values, off), limit)
    error = rates.error(values, limit.mean(axis=0))
    return {
        "spread": spread.value, "spread_se": spread.error,
        "bias": bias.value, "bias_se": bias.error, "bias_p": bias.p, "bias_resolved": bias.resolved,
        "error": error.value, "error_se": error.error,
    }  # fmt: skip


def _with_rates(found: xr.Dataset) -> xr.Dataset:
    widths = found["width"].values
    late = widths >= found.attrs["fit_from"]
    spreads, biases, within = [], [], []
    for name in found["quantity"].values:
        row = found.sel(quantity=name)
        spreads.append(rates.fit_slope(widths[late], row["spread"].values[late], row["spread_se"].values[late]))
        use = bias_fitted(row.assign_attrs(found.attrs))
        biases.append(rates.fit_slope(widths[use], row["bias"].values[use], row["bias_se"].values[use]))
        first = rates.width_within(widths, row["error"].values, found.attrs["tolerance"] * float(row["scale"]))
        within.append(np.nan if first is None else first)
    found["spread_slope"], found["bias_slope"] = (("quantity", "bound"), spreads), (("quantity", "bound"), biases)
    found["width_within"] = ("quantity", within)
    return found


def bias_fitted(row: xr.Dataset) -> Array:
    """Where (bool, by width) the bias of one quantity is fitted: as long as it is resolved, no lucky ones beyond."""
    late = row["width"].values >= row.attrs["fit_from"]
    use = late.copy()
    use[late] = np.logical_and.accumulate(row["bias_resolved"].values[late])
    return use


def agreement(both: Mapping[int, tuple[xr.Dataset, xr.Dataset]]) -> xr.Dataset:
    """Compare two sets of networks at each width.

    Returns
    -------
    xarray.Dataset
        p (width, quantity): probability of as large a difference of the means of all entries if there is none.
        spread_ratio, spread_ratio_se (width, quantity): of the first spread over the second. Empty without widths.
    """
    found = []
    for one, two in both.values():
        first, second = quantities(healthy(one)), quantities(healthy(two))
        found.append(xr.Dataset(coords={"quantity": list(first)}))
        spreads = [(rates.spread(first[name]), rates.spread(second[name])) for name in first]
        ratios = [rates.ratio(*pair) for pair in spreads]
        found[-1]["p"] = ("quantity", [rates.bias(first[name], second[name]).p for name in first])
        found[-1]["spread_ratio"] = ("quantity", [ratio.value for ratio in ratios])
        found[-1]["spread_ratio_se"] = ("quantity", [ratio.error for ratio in ratios])
    return xr.concat(found, xr.DataArray(list(both), dims="width", name="width")) if found else xr.Dataset()


def distances_to_limit(networks: Mapping[int, xr.Dataset], reference: Array) -> xr.Dataset:
    """Distances of the entries of h^l_T(xi_i) in one network to the particles `reference` (L, m, N) of Z^{h^l_T(xi_i)}.

    Returns
    -------
    xarray.Dataset
        w1, ks (width, layer), with _se: Wasserstein-1 and Kolmogorov-Smirnov, means over samples and networks.
        w1_iid, ks_iid (width, layer): of n independent draws from the law of the particles to this law. The particles
        have an error of their own, which is part of w1 and ks.
    """
    widths, layers = sorted(networks), np.arange(1, len(reference) + 1)
    found = xr.Dataset(coords={"width": widths, "layer": layers})
    floors = [[[rates.distance_floor(z, n) for z in samples] for samples in reference] for n in widths]
    floor = np.array(floors).mean(axis=2)
    for k, name in enumerate(("w1", "ks")):
        values = [networks[n][name].mean("sample").dropna("replica").values for n in widths]
        found[name] = (("width", "layer"), [v.mean(axis=0) if len(v) else np.full(layers.size, np.nan) for v in values])
        errors = [
            np.sqrt(v.var(axis=0, ddof=1) / len(v)) if len(v) > 1 else np.full(layers.size, np.nan) for v in values
        ]
        found[f"{name}_se"], found[f"{name}_iid"] = (("width", "layer"), errors), (("width", "layer"), floor[..., k])
    return found
