"""A study in words and numbers: the table, what is printed beside it, and what is written as csv and JSON."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import numpy as np
import xarray as xr

from .study import Study

WIDE = 30  # characters of a quantity's name


def rows(rates: xr.Dataset) -> list[dict[str, Any]]:
    """Return the table, one row for each quantity; None for what is undefined or not resolved.

    quantity; scale and limit_se of the limit; spread_slope and bias_slope with _low and _high; spread and error at the
    widest networks, over scale; the widths at which the bias is resolved; the width from which on error <= tolerance
    scale.
    """
    found = []
    for name in rates["quantity"].values:
        one = rates.sel(quantity=name)
        scale, last = float(one["scale"]), one.isel(width=-1)
        row: dict[str, Any] = {"quantity": str(name), "scale": _number(scale), "limit_se": _number(one["limit_se"])}
        for slope in ("spread_slope", "bias_slope"):
            estimate, low, high = (_number(one[slope].sel(bound=bound)) for bound in ("estimate", "low", "high"))
            row |= {slope: estimate, f"{slope}_low": low, f"{slope}_high": high}
        for size in ("spread", "error"):
            row[f"{size}_at_{int(last['width'])}"] = _number(last[size] / scale) if scale > 0 else None
        row["bias_resolved_at"] = " ".join(str(n) for n in one["width"].values[one["bias_resolved"].values])
        within = _number(one["width_within"])
        row["width_within"] = None if within is None else int(within)
        found.append(row)
    return found


def to_csv(table: list[dict[str, Any]]) -> str:
    """Return the rows as csv: numbers with all their digits, empty fields for None."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def text(study: Study) -> str:
    """Return what the command line prints of a study."""
    rates = study.rates
    parts = [_rates(rates), _networks(study), _agreement(study.agreement), _distances(rates), _coordinates(study)]
    parts.append("\n".join(f"  left out: n = {n}: {reason}" for n, reason in study.skipped))
    return "\n\n".join(part for part in parts if part)


def _rates(rates: xr.Dataset) -> str:
    tolerance, first, last = rates.attrs["tolerance"], rates.attrs["fit_from"], int(rates["width"][-1])
    lines = [
        f"  {'':{WIDE}}{'size in':>9}  {'spread:':22}{'bias:':22}{'error at':>10}  {'within':>7}",
        f"  {'':{WIDE}}{'the limit':>9}  {'power of n [95%]':22}{'power of n [95%]':22}{f'n = {last}':>10}  "
        f"{f'{100 * tolerance:g}%':>7} from",
    ]
    for row in rows(rates):
        error, within = row[f"error_at_{last}"], row["width_within"]
        size = "undefined" if row["scale"] is None else f"{row['scale']:.3g}"
        lines.append(
            f"  {row['quantity']:{WIDE}}{size:>9}  {_slope(row, 'spread_slope', '-'):22}"
            f"{_slope(row, 'bias_slope', 'not resolved'):22}{'-' if error is None else f'{100 * error:.2g}%':>10}  "
            f"{'n = ' + str(within) if within else 'nowhere':>7}"
        )
    notes = [
        "sizes are root mean squares over recorded steps, samples and pairs of samples; spread: of one network about",
        "the mean of its width; bias: of that mean about the limit, both noises removed; error: of one network about",
        f"the limit, over its size in the limit. Theory: n^-0.5, n^-1. Fits use n >= {first}, of the bias as long as",
        "it is resolved (not resolved: at fewer than three widths); at the last of them chance favours large ones, so",
        "that these powers lean towards 0. Intervals are of the noise: narrow networks need not follow a power law",
    ]
    return "\n".join([*lines, *(f"  {note}" for note in notes)])


def _networks(study: Study) -> str:
    rates, lines = study.rates, ["  networks"]
    for n in rates["width"].values:
        one = rates.sel(width=n)
        kind, diverged = "dense" if bool(one["dense"]) else "without matrices", int(one["diverged"])
        seconds = study.seconds.get((int(n), bool(one["dense"])))
        note = f"; {diverged} diverged and are left out: what follows is of the others" if diverged else ""
        time = "" if seconds is None else f", {seconds:.1f} s"
        lines.append(f"    n = {n:<8}{int(one['seeds']):>5} {kind}{time}{note}")
    return "\n".join(lines)


def _agreement(found: xr.Dataset) -> str:
    if not found.sizes:
        return ""
    lines, count = ["  dense networks against those without matrices"], found.sizes["quantity"]
    for n in found["width"].values:
        one = found.sel(width=n)
        least = int(np.nanargmin(one["p"].values))
        ratio = one["spread_ratio"]
        lines += [
            f"    n = {n:<6} means: the smallest p of {count} is {float(one['p'][least]):.2g} "
            f"({found['quantity'].values[least]})",
            f"    {'':10} spreads: ratio {_ratio(one.sel(quantity='f'))} for f, {float(ratio.min()):.2f} to "
            f"{float(ratio.max()):.2f} for all",
        ]
    return "\n".join(lines)


def _distances(rates: xr.Dataset) -> str:
    layers, last = rates["layer"].values, int(rates["layer"][-1])
    names = {"w1": "Wasserstein-1", "ks": "Kolmogorov-Smirnov"}
    lines = [
        f"  entries of h^{last} after training against the particles of Z^h^{last}, one network (independent draws)",
        f"    {'':12}" + "".join(f"{name:26}" for name in names.values()).rstrip(),
    ]
    for n in rates["width"].values:
        one = rates.sel(width=n, layer=last)
        cells = (f"{float(one[k]):.2g} +- {float(one[f'{k}_se']):.1g} ({float(one[f'{k}_iid']):.2g})" for k in names)
        lines.append(f"    n = {n:<8}" + "".join(f"{cell:26}" for cell in cells).rstrip())
    return "\n".join(lines) if len(layers) else ""


def _coordinates(study: Study) -> str:
    check, last = study.coordinate, int(study.coordinate["width"][-1])
    lines = [f"  coordinate check: root mean square of h^l after training, and of its change, at n = {last} (limit)"]
    for name in check["parametrization"].values:
        one = check.sel(parametrization=name, width=last)
        for l in check["layer"].values:
            here = one.sel(layer=l)
            cells = (f"{float(here[k]):.3g} ({float(here[f'limit_{k}']):.3g})" for k in ("size_h", "change_h"))
            lines.append(
                f"    {str(name) if l == 1 else '':5}l = {l}   " + "".join(f"{cell:22}" for cell in cells).rstrip()
            )
    return "\n".join(lines)


def _ratio(one: xr.Dataset) -> str:
    return f"{float(one['spread_ratio']):.2f} +- {float(one['spread_ratio_se']):.2f}"


def _slope(row: dict[str, Any], name: str, otherwise: str) -> str:
    if row[name] is None:
        return otherwise
    return f"{row[name]:.2f} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"


def _number(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
