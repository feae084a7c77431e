"""What theory says of Table 1 of Chen et al. 2025 in the limit: who learns features, and whose are rich.

SP and NTP: frozen and rich, their features are those of step 0. muP: learns (TP4, Sec. 5) and is rich (Chen et al.
2025, Theorem 4.5). IP: hidden matrices start at zero, and so do Z^{h^l}, l >= 2. It learns but for two reasons to stay
where it is:

* phi'(0) = 0: dh^l has the factor phi'(h^l) = 0 for l >= 2, so that no hidden matrix moves and no error signal
  reaches W^1.
* L >= 3, and phi(0) = 0 or error signals that cancel: every update -eta_l sum_i chi_i dh^l_i (x^{l-1}_i)' of a hidden
  matrix has dh^l = 0 for l < L, and x^{l-1} = phi(0) for l >= 3.

With L = 2 what it learns are functions of the readout alone.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
import xarray as xr

from .families import VANISHED
from .features import ROUNDING

PAPER = {"sp": ("frozen", "rich"), "ntp": ("frozen", "rich"), "ip": ("learns", "low"), "mup": ("learns", "rich")}

SADDLE = (
    "with L >= 3 and phi(0) = 0 (or classes that cancel) every update has a factor zero, so f = 0 and Z^{h^l} = 0, "
    "l >= 2, at every fixed step. Networks leave that saddle by their initial weights of size 1/n, at L = 3 after "
    "about log n / (2 log(1 + lambda)) steps more than a constant: the tick is about finite widths "
    "(docs/algorithm.md, section 4; validation/ip_escape)"
)
FLAT = (
    "Z^{h^l} = 0, l >= 2, and phi'(0) = 0 (of relu by convention), so that no error signal reaches a hidden matrix and "
    "no feature moves, at every fixed step. The pre-activations of a network are not exactly zero: it may learn"
)


class Theory(NamedTuple):
    """What is expected (None: anything), why nothing is, and why IP stays where it is."""

    learning: str | None = None
    richness: str | None = None
    silent: str = ""
    still: str = ""


def expected(name: str, run: xr.Dataset) -> Theory:
    """What theory says of a limit of L >= 2; nothing where nothing was trained, or where matrices or rates are zero."""
    if silent := _untrained(run):
        return Theory(silent=silent)
    if name != "ip":
        return Theory(*PAPER[name])
    if still := _stands_still(run):
        return Theory("frozen", "none", still=still)
    if int(run["step"].values[-1]) >= run.sizes["layer"] and _full_batch(run):
        return Theory("learns")
    return Theory(silent="IP with fewer steps than layers, or with minibatches, need not have moved in all layers")


def _untrained(run: xr.Dataset) -> str:
    """Why there is nothing to expect, if so; an error signal below rounding is none."""
    config = json.loads(run.attrs["config"])
    if int(run["step"].values[-1]) == 0:
        return "no step of training"
    if not (np.atleast_2d(config["training"]["learning_rate"]).max(axis=0) > 0).all():
        return "a learning rate of zero"
    if min(config["network"]["init_scale"]) == 0:
        return "initial weights of scale zero"
    signal = float(np.abs(run["chi"].isel(step=0)).max())
    return "" if signal > VANISHED * max(1.0, float(np.abs(run["targets"]).max())) else "no error signal at step 0"


def _stands_still(run: xr.Dataset) -> str:
    """Why the limit of IP stays where it is, if it does: by dh^L, x^2 and chi of step 0."""
    start, readout = run.isel(step=0), json.loads(run.attrs["config"])["network"]["init_scale"][-1]
    if float(np.abs(start["kernel_dh"].isel(layer=-1)).max()) <= (ROUNDING * readout) ** 2:
        return FLAT
    x, chi = start["kernel_x"], start["chi"].transpose("replica", "sample").values
    no_features = float(x.sel(layer=2).max()) <= ROUNDING**2 * float(x.sel(layer=1).max())
    balanced = bool((np.abs(chi.sum(axis=-1)) <= ROUNDING * np.abs(chi).sum(axis=-1)).all())
    return SADDLE if run.sizes["layer"] >= 3 and (no_features or (balanced and _full_batch(run))) else ""


def _full_batch(run: xr.Dataset) -> bool:
    return bool(run["batch"].isel(step=0).all())
