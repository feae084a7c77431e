"""Figure "training": logistic loss and minibatches beside the squared loss of the full batch, in the muP limit."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from tpsim.plot.read import Band, band
from tpsim.plot.style import BLUE, PAGE, VERMILLION, band_key, curve, finish, finish_page, line_key, page, whole_numbers

from .axes import scale_positive
from .captions import activation, counted
from .eigen import smallest
from .runs import joined, limit_run, notices_of, training_of
from .study import Figure, Progress, Settings, Study

LOSSES = {"squared": BLUE, "logistic": VERMILLION}


def training_data(settings: Settings, progress: Progress = None) -> xr.Dataset:
    """Simulate the muP limit with each loss, with full batches and with batches of half the samples.

    Returns
    -------
    Dataset over (variant, replica, step, layer): smallest eigenvalues and feature changes; the loss over all samples
    (variant, replica, step); `share` of samples on the right side of 0, of targets +-1. `variant` is "squared, full"
    and so on; without targets +-1 there is no logistic one. NaN from where a run had to stop.
    """
    problem = settings.problem
    signs = bool(np.isin(problem.targets, (-1.0, 1.0)).all())
    batch = max(problem.samples // 2, 1)
    found, notices = [], []
    for loss in LOSSES if signs else ("squared",):
        for name, batches in (("full", None), ("minibatches", {"size": batch, "seed": settings.seed})):
            training = training_of(settings, loss=loss, batches=batches)
            run, _ = limit_run(settings, settings.network, training, progress)
            notices.append(notices_of(run))
            found.append(_measure(run, signs).assign_coords(variant=f"{loss}, {name}"))
    attributes = {"title": "tpsim: training", "batch": batch, "notices": joined(notices)}
    return xr.concat(found, dim="variant").assign_attrs(attributes)


def _measure(run: xr.Dataset, signs: bool) -> xr.Dataset:
    margin = run["f"] * run["targets"]
    right = (margin > 0).mean("sample").where(margin.notnull().all("sample") & signs)
    return xr.Dataset(
        {f"eigenvalue_{kind}": smallest(run[f"kernel_{kind}"]) for kind in "hx"}
        | {name: run[name] for name in ("feature_change_h", "feature_change_x", "loss")}
        | {"share": right}
    )


def training_figure(study: Study, figure: Any = None) -> Any:
    """Draw loss, smallest eigenvalue over all layers and largest feature change against t for every variant."""
    data = study.extras["training"]
    panels = {
        "loss": data["loss"],
        r"smallest $\lambda_\min$ of $h^l$": data["eigenvalue_h"].min("layer", skipna=False),
        r"smallest $\lambda_\min$ of $x^l$": data["eigenvalue_x"].min("layer", skipna=False),
        "largest feature change of $h^l$": data["feature_change_h"].max("layer", skipna=False),
    }
    with page(figure, (PAGE, 4.4)) as figure:
        axes = figure.subplots(2, 2, sharex=True)
        keys = []
        for variant in map(str, data["variant"].values):
            style = {"linestyle": "--" if "mini" in variant else "-", "linewidth": 1.0}
            for ax, values in zip(axes.flat, panels.values(), strict=True):
                _curve(ax, values.sel(variant=variant), LOSSES[variant.split(",")[0]], style)
            keys.append(line_key(LOSSES[variant.split(",")[0]], variant, **style))
        for ax, label in zip(axes.flat, panels, strict=True):
            whole_numbers(ax, data["step"].values)
            finish(ax, "", "training step $t$" if ax in axes[1] else "", label)
        for ax in axes.flat[:3]:
            scale_positive(ax)
        keys.append(band_key(data.sizes["replica"]))
        finish_page(figure, rf"$\mu$P limit: losses and batches (minibatches of {data.attrs['batch']})", keys)
    return figure


def _curve(ax: Any, values: xr.DataArray, colour: Any, style: dict[str, Any]) -> Any:
    shown: Band = band(values.transpose("replica", "step"))
    if np.isfinite(shown.mean).any():
        curve(ax, values["step"].values, shown, colour, **style)


def training_caption(study: Study) -> str:
    """Say what is drawn and where each variant ends."""
    data = study.extras["training"]
    words = []
    for variant in map(str, data["variant"].values):
        own = data.sel(variant=variant).mean("replica", skipna=False)
        done = own.dropna("step", subset=["loss"])
        if not done.sizes["step"]:
            words.append(f"{variant}: stopped at once")
            continue
        low = float(xr.concat([done["eigenvalue_h"], done["eigenvalue_x"]], "kind").min())
        end = done.isel(step=-1)
        text = f"{variant}: loss {float(end.loss):.2g}, smallest eigenvalue {low:.2g}, feature change of h up to "
        text += f"{float(end.feature_change_h.max()):.2g}"
        if np.isfinite(end["share"]):
            text += f", {100 * float(end['share']):.0f}% of the signs right"
        stop = int(done["step"][-1])
        words.append(text if stop == int(data["step"][-1]) else f"{text}; stopped after step {stop}")
    kept = "" if any("logistic" in word for word in words) else " The logistic loss needs targets +-1."
    return (
        f"The muP limit ({activation(study.settings)}) with the squared and the logistic loss, with full "
        f"batches and minibatches of {data.attrs['batch']} in shuffled epochs (the same in all replicas): loss over "
        "all samples, smallest eigenvalue of the Gram matrices of h and of x over all layers, and largest feature "
        f"change. Mean over {counted(data.sizes['replica'], 'replica')} with bands of +-2 standard errors. At the end "
        f"(eigenvalues: over all steps), {'; '.join(words)}.{kept}"
    )


FIGURE = Figure("Losses and batches", training_figure, training_caption, extra="training")
