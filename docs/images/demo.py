"""The picture of the README: four panels of the demo.

    make demo                                                    # writes limit.nc into its output folder
    .venv/bin/python docs/images/demo.py tpsim-output/limit.nc docs/images/demo.png
"""

from __future__ import annotations

import sys
from typing import Any

import xarray as xr

import tpsim
from tpsim import plot


def figure(run: xr.Dataset) -> Any:
    """Loss, f_t of every sample, spectra of the last layer before and after, and the ranks that stay flat."""
    from matplotlib.figure import Figure

    page = Figure(figsize=(10, 7), layout="constrained")
    axes = page.subplots(2, 2)
    plot.loss(run, ax=axes[0, 0])
    plot.outputs(run, ax=axes[0, 1])
    plot.spectra(run, "x", ax=axes[1, 0])
    plot.ranks(run, ax=axes[1, 1])
    return page


if __name__ == "__main__":
    figure(tpsim.load(sys.argv[1])).savefig(sys.argv[2], dpi=110)
