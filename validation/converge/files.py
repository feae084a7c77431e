"""The folder that a study leaves: data as netCDF, the table as csv, a summary, and the figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from tpsim.output import SUMMARY, write_folder
from tpsim.results import save, versions

from . import report
from .study import Study

TABLE = "table.csv"
TITLES = {"networks": "finite networks", "rates": "finite networks against the limit", "coordinate": "coordinate check"}


def write(folder: Path, study: Study, facts: dict[str, Any], config: str) -> dict[str, Any]:
    """Write everything into `folder`, at once; return the summary with the names of the files.

    limit.nc; networks.nc (`flatten`); rates.nc, with the comparison of dense and matrix-free networks; coordinate.nc;
    table.csv; summary.json, with `facts`; config.toml; the figures. `tpsim.load` reads every netCDF file.

    Raises
    ------
    FileError
        Nothing can be written there; what was there is left as it was.
    """
    summary = facts | summarise(study)

    def fill(temporary: Path) -> list[str]:
        from .figures import save_figures  # matplotlib takes half a second to import

        figures = save_figures(study, temporary)
        datasets = {
            "limit": study.limit,
            "networks": flatten(study.networks),
            "rates": with_agreement(study),
            "coordinate": study.coordinate,
        }
        for name, dataset in datasets.items():
            save(_titled(dataset, study, name), temporary / f"{name}.nc")
        (temporary / TABLE).write_text(report.to_csv(report.rows(study.rates)), encoding="utf-8")
        names = [TABLE, *(f"{name}.nc" for name in datasets), SUMMARY, "config.toml"]
        return [*names, *(path.name for path in figures)]

    paths = write_folder(folder, fill, summary, config)
    return summary | {"files": [path.name for path in paths]}


def flatten(networks: Mapping[int, xr.Dataset]) -> xr.Dataset:
    """Return the networks of all widths as one dataset over the dimension `network`.

    Coordinates width, dense and replica (network) tell them apart: of width 64 they are
    `networks.isel(network=networks.width == 64)`. Entries of h that are kept for pictures are left out.
    """
    parts = []
    for n, run in networks.items():
        part = run.drop_vars("h", errors="ignore").rename_dims(replica="network")
        replica, size = run["replica"].values, run.sizes["replica"]
        part = part.drop_vars("replica").assign_coords(
            replica=("network", replica), width=("network", np.full(size, n)),
            dense=("network", np.full(size, run.attrs["dense"])),
        )  # fmt: skip
        parts.append(part)
    return xr.concat(parts, "network", combine_attrs="drop")


def with_agreement(study: Study) -> xr.Dataset:
    """Return the rates with agreement_p, agreement_spread_ratio and its _se, NaN where there is one kind only."""
    found = study.agreement
    if not found.sizes:
        return study.rates
    names = {name: f"agreement_{name}" for name in found.data_vars}
    return study.rates.merge(found.rename(names).reindex(width=study.rates["width"]))


def summarise(study: Study) -> dict[str, Any]:
    """Return the numbers of a study, ready for JSON."""
    rates = study.rates
    columns = [rates[name].values.tolist() for name in ("width", "seeds", "diverged", "dense")]
    networks = [
        dict(zip(("width", "seeds", "diverged", "dense"), row, strict=True)) for row in zip(*columns, strict=True)
    ]
    return {
        "tolerance": rates.attrs["tolerance"],
        "fit_from": rates.attrs["fit_from"],
        "table": report.rows(rates),
        "networks": networks,
        "agreement": _records(study.agreement),
        "skipped": [{"width": n, "reason": reason} for n, reason in study.skipped],
    }


def _records(found: xr.Dataset) -> list[dict[str, Any]]:
    """One dictionary for every width and quantity."""
    records = []
    for n in found.get("width", ()):
        for q in found["quantity"].values:
            numbers = {str(name): float(value) for name, value in found.sel(width=n, quantity=q).items()}
            kept = {name: value if np.isfinite(value) else None for name, value in numbers.items()}
            records.append({"width": int(n), "quantity": str(q)} | kept)
    return records


def _titled(dataset: xr.Dataset, study: Study, name: str) -> xr.Dataset:
    if name == "limit":
        return dataset
    shared = {key: study.limit.attrs[key] for key in ("config", "seed")}
    title = {
        "networks": "finite networks",
        "rates": "finite networks against the limit",
        "coordinate": "coordinate check",
    }
    return dataset.assign_attrs(title=f"tpsim: {title[name]}", versions=json.dumps(versions()), **shared)
