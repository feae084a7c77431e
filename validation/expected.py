"""What theory says of Table 1 of Chen et al. 2025 in the limit: who learns features, and whose are rich.

SP and NTP: frozen and rich, their features are those of step 0. muP: learns (TP4, Sec. 5) and is rich (Chen et al.
2025, Theorem 4.5). IP: hidden matrices start at zero. With L = 2 it learns, by functions of the readout alone. With
L >= 3 every update of a hidden matrix has a zero factor while all hidden matrices are zero, if phi(0) = 0 or the error
signals cancel: -eta_l sum_i chi_i dh^l_i (x^{l-1}_i)' has dh^l = 0 for l < L, and x^{l-1} = phi(0) for l >= 3. So
nothing ever moves, and Z^{h^l} = 0 for l >= 2.
"""

from __future__ import annotations

import json

import numpy as np
import xarray as xr

from .features import ROUNDING

PAPER = {"sp": ("frozen", "rich"), "ntp": ("frozen", "rich"), "ip": ("learns", "low"), "mup": ("learns", "rich")}


def stands_still(run: xr.Dataset) -> bool:
    """Whether the limit of IP stays where it is: L >= 3, and phi(0) = 0 or error signals that cancel at every step."""
    x_2 = run["kernel_x"].isel(step=0, sample=0, sample2=0).sel(layer=min(2, run.sizes["layer"])).values
    chi = run["chi"].isel(step=0).values
    balanced = (np.abs(chi.sum(axis=-1)) <= ROUNDING * np.abs(chi).sum(axis=-1)).all()
    full = bool(run["batch"].isel(step=0).all())
    return run.sizes["layer"] >= 3 and bool((x_2 == 0).all() or (balanced and full))


def expected(name: str, run: xr.Dataset) -> tuple[str | None, str | None]:
    """What theory says of a limit; nothing where nothing was trained, or where matrices or rates are zero."""
    config, depth, steps = json.loads(run.attrs["config"]), run.sizes["layer"], int(run["step"].values[-1])
    rates = np.atleast_2d(config["training"]["learning_rate"]).max(axis=0)
    ordinary = (rates > 0).all() and min(config["network"]["init_scale"]) > 0 and steps > 0
    if not ordinary or depth < 2 or not run["chi"].isel(step=0).values.any():
        return None, None
    if name != "ip":
        return PAPER[name][0], PAPER[name][1]
    if stands_still(run):
        return "frozen", "none"
    return ("learns" if steps >= depth and bool(run["batch"].isel(step=0).all()) else None), None
