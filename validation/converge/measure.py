"""Errors of finite networks against the limit, by quantity and width, with their rates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from validation import rates

from .quantities import healthy, quantities

Array = np.ndarray
Slopes = dict[str, list[rates.Slope]]

MEASURES = (
    "spread", "spread_se", "bias", "bias_se", "bias_p", "bias_resolved", "error", "error_se", "limit", "limit_se",
)  # fmt: skip


def compare(limit: xr.Dataset, networks: Mapping[int, xr.Dataset], tolerance: float, fit_from: int) -> xr.Dataset:
    """Return the errors of networks at each width, (quantity, width), and what follows from them, (quantity).

    Returns
    -------
    xarray.Dataset
        scale, limit_se (quantity): rms of the limit over its entries, and of the standard error of its mean.
        spread, bias, error (quantity, width), with _se: rms over entries of the standard deviation over networks, of
        the mean less the limit (both noises removed; of f with f_0 as control variate), and over networks too of
        the deviation from the limit. bias_p, bias_resolved: see `validation.rates.bias`.
        spread_slope, bias_slope (quantity, bound): exponents of the width from `fit_from` on, where the bias is
        resolved; NaN where that leaves fewer than 3 widths.
        width_within (quantity): the smallest width from which on error <= tolerance scale; NaN if there is none.
        seeds, diverged, dense (width).
    """
    widths = sorted(networks)
    exact = quantities(limit)
    rows = {name: {key: [] for key in _KEYS} for name in exact}
    for n in widths:
        for name, values in quantities(healthy(networks[n])).items():
            for key, value in _errors(name, values, exact[name], networks[n].sizes["sample"]).items():
                rows[name][key].append(value)
    found = xr.Dataset(coords={"quantity": list(exact), "width": widths, "bound": ["estimate", "low", "high"]})
    for key in _KEYS:
        found[key] = (("quantity", "width"), np.array([row[key] for row in rows.values()]))
    found["scale"] = ("quantity", [float(np.sqrt(np.mean(v.mean(axis=0) ** 2))) for v in exact.values()])
    found["limit_se"] = ("quantity", [_limit_error(v) for v in exact.values()])
    found["seeds"] = ("width", [networks[n].sizes["replica"] for n in widths])
    found["diverged"] = found["seeds"] - xr.DataArray([healthy(networks[n]).sizes["replica"] for n in widths], dims="width")
    found["dense"] = ("width", [bool(networks[n].attrs["dense"]) for n in widths])
    found.attrs["fit_from"] = fit_from
    return _with_rates(found, tolerance, fit_from)


_KEYS = ("spread", "spread_se", "bias", "bias_se", "bias_p", "bias_resolved", "error", "error_se")


def _errors(name: str, values: Array, limit: Array, samples: int) -> dict[str, float]:
    if len(values) < 3 or len(limit) < 3:
        return dict.fromkeys(_KEYS, np.nan) | {"bias_resolved": False}
    spread = rates.spread(values)
    quiet = rates.control_variates(values, values[:, :samples]) if name == "f" else values  # entries of f start with f_0
    bias = rates.bias(quiet, limit)
    error = rates.error(values, limit.mean(axis=0))
    return {
        "spread": spread.value, "spread_se": spread.error,
        "bias": bias.value, "bias_se": bias.error, "bias_p": bias.p, "bias_resolved": bias.resolved,
        "error": error.value, "error_se": error.error,
    }  # fmt: skip


def _limit_error(values: Array) -> float:
    return float(np.sqrt(np.mean(np.var(values, axis=0, ddof=1)) / len(values))) if len(values) > 1 else np.nan


def _with_rates(found: xr.Dataset, tolerance: float, fit_from: int) -> xr.Dataset:
    widths = found["width"].values
    late = widths >= fit_from
    spreads, biases, within = [], [], []
    for name in found["quantity"].values:
        row = found.sel(quantity=name)
        spreads.append(rates.fit_slope(widths[late], row["spread"].values[late], row["spread_se"].values[late]))
        use = late & row["bias_resolved"].values
        biases.append(rates.fit_slope(widths[use], row["bias"].values[use], row["bias_se"].values[use]))
        first = rates.width_within(widths, row["error"].values, tolerance * float(row["scale"]))
        within.append(np.nan if first is None else first)
    found["spread_slope"], found["bias_slope"] = (("quantity", "bound"), spreads), (("quantity", "bound"), biases)
    found["width_within"] = ("quantity", within)
    return found


def agreement(dense: xr.Dataset, free: xr.Dataset) -> xr.Dataset:
    """Compare two sets of networks of one width, by quantity.

    Returns
    -------
    xarray.Dataset
        p (quantity): probability of as large a difference of the means of the entries if there is none.
        spread_ratio, spread_ratio_se (quantity): of the first spread over the second.
    """
    one, two = quantities(healthy(dense)), quantities(healthy(free))
    found = xr.Dataset(coords={"quantity": list(one)})
    spreads = [(rates.spread(one[name]), rates.spread(two[name])) for name in one]
    ratio = np.array([a.value / b.value if b.value > 0 else np.nan for a, b in spreads])
    error = np.array([np.hypot(a.error / a.value, b.error / b.value) if a.value * b.value > 0 else np.nan for a, b in spreads])
    found["p"] = ("quantity", [rates.bias(one[name], two[name]).p for name in one])
    found["spread_ratio"], found["spread_ratio_se"] = ("quantity", ratio), ("quantity", ratio * error)
    return found
