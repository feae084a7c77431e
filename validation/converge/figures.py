"""The figures of `tpsim converge`, with their captions: every number drawn is one of the study."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from tpsim.errors import FileError, InputError
from tpsim.plot.files import FORMATS
from tpsim.plot.particles import density
from tpsim.plot.read import band, classes, finite, layers_of, setting
from tpsim.plot.style import (
    BLUE,
    COLUMN,
    GREY,
    STYLE,
    band_key,
    colours,
    compress,
    curve,
    finish,
    finish_page,
    line_key,
    page,
    page_width,
    scale_values,
    whole_numbers,
)

from .scaling import bars, coordinate_figure, log_axes, rates_figure

if TYPE_CHECKING:
    from .study import Study

Array = np.ndarray

MAX_SAMPLES = 4  # whose outputs are drawn
COLUMNS = 3
SPREAD = (0.16, 0.84)  # quantiles over seeds: one standard deviation to either side of a normal variable
TINT = 0.35  # strength of a shaded area's colour on white
DASHES: Any = (0, (4, 1.5))
DISTANCES = {"w1": "Wasserstein-1 distance", "ks": "Kolmogorov-Smirnov distance"}


def curves_figure(study: Study, figure: Any = None) -> Any:
    """Draw f_t of up to four samples, and the loss, by width, and the limit on top."""
    limit, networks = study.limit, study.networks
    samples, targets = _samples(limit["targets"].values), limit["targets"].values
    rows, columns = -(-(len(samples) + 1) // COLUMNS), min(len(samples) + 1, COLUMNS)
    with page(figure, (page_width(2.3 * columns), 0.75 + 1.7 * rows)) as figure:
        grid = figure.add_gridspec(rows, columns)
        for k, i in enumerate(samples):
            ax = figure.add_subplot(grid[divmod(k, columns)])
            _fan(ax, {n: run["f"].isel(sample=i) for n, run in networks.items()}, limit["f"].isel(sample=i))
            reach = max(1.0, abs(float(targets[i])))
            compress(ax, max(float(np.nanmax(np.abs(line.get_ydata()), initial=0.0)) for line in ax.lines), reach)
            if setting(limit, "training", "loss") != "logistic":
                view = ax.get_ylim()
                ax.axhline(targets[i], color="black", linestyle=":", linewidth=0.8)
                ax.set_ylim(view)  # a target far from what was learnt would press the curves together
            finish(ax, f"$\\xi_{{{i}}}$, target $y={targets[i]:+.3g}$", "training step $t$", f"$f_t(\\xi_{{{i}}})$")
        row, column = divmod(len(samples), columns)
        ax = figure.add_subplot(grid[row, column:])
        _fan(ax, {n: run["loss"] for n, run in networks.items()}, limit["loss"])
        scale_values(ax, np.concatenate([line.get_ydata() for line in ax.lines]))
        finish(ax, "training loss", "training step $t$", "loss")
        keys = [*_width_keys(networks), *_fan_keys(limit.sizes["replica"])]
        finish_page(figure, "Training curves by width, and the limit", keys)
    return figure


def densities_figure(study: Study, figure: Any = None) -> Any:
    """Draw the law of the entries of h^l_T by width against that of Z^{h^l_T}, and their distances against width."""
    layers, step = layers_of(study.limit, None), int(study.limit["snapshot_step"].values[-1])
    networks = {n: run for n, run in study.networks.items() if "h" in run}
    with page(figure, (page_width(0.7 + 1.9 * len(layers)), 5.6)) as figure:
        axes = figure.subplots(3, len(layers), squeeze=False)
        for ax, l in zip(axes[0], layers, strict=True):
            for run, colour in zip(networks.values(), colours(len(networks)), strict=True):
                _density(ax, _pooled(run["h"].sel(layer=l)), color=colour, linewidth=0.9)
            particles = _pooled(study.limit["Z_h"].sel(layer=l).isel(snapshot_step=-1))
            _density(ax, particles, color="black", linestyle=DASHES)
            _view(ax, particles)
            finish(ax, f"layer {l}", f"entries of $h^{{{l}}}_{{{step}}}(\\xi_0)$", "density")
        for row, (name, label) in zip(axes[1:], DISTANCES.items(), strict=True):
            for ax, l in zip(row, layers, strict=True):
                _distance(ax, study.rates.sel(layer=l), name)
                finish(ax, "", "width $n$", label)
        for ax in axes[:, 1:].flat:
            ax.set_ylabel("")
        keys = [*_width_keys(networks), line_key("black", "$Z^{h^l}$", linestyle=DASHES)]
        keys += [line_key(BLUE, "networks", marker="o", linestyle="none")]
        keys += [line_key(GREY, "independent draws of $Z^{h^l}$", linestyle="--")]
        finish_page(figure, "Entries of $h^l$ after training against $Z^{h^l}$", keys)
    return figure


def _samples(targets: Array) -> list[int]:
    """All samples if they are few; else the first of up to four distinct targets, the outermost included."""
    if len(targets) <= MAX_SAMPLES:
        return list(range(len(targets)))
    groups = classes(targets)
    picked = np.linspace(0, len(groups) - 1, min(len(groups), MAX_SAMPLES)).round().astype(int)
    return sorted(int(groups[k][1][0]) for k in picked)


def _fan(ax: Any, networks: dict[int, xr.DataArray], limit: xr.DataArray) -> None:
    """Draw mean and spread (replica, step) by width, the widest on top, and the limit above all."""
    steps = limit["step"].values
    for level, (values, colour) in enumerate(zip(networks.values(), colours(len(networks)), strict=True)):
        kept = finite(values).transpose("replica", "step").values
        kept = kept[np.isfinite(kept).all(axis=1)]
        if len(kept) > 1:
            tint = 1 - TINT * (1 - np.array(colour[:3]))
            ax.fill_between(steps, *np.quantile(kept, SPREAD, axis=0), color=tint, linewidth=0, zorder=1 + level / 1000)
        mark = {"marker": "o"} if len(steps) == 1 else {}
        if len(kept):
            ax.plot(steps, kept.mean(axis=0), color=colour, linewidth=0.9, zorder=2 + level / 1000, **mark)
    curve(ax, steps, band(limit.transpose("replica", "step")), "black", zorder=3)
    whole_numbers(ax, steps)


def _width_keys(networks: dict[int, xr.Dataset]) -> list[tuple[Any, str]]:
    """Legend entries of all widths, with the number of networks where some diverged."""
    keys = []
    for (n, run), colour in zip(networks.items(), colours(len(networks)), strict=True):
        kept, all_ = int(np.isfinite(run["loss"]).all("step").sum()), run.sizes["replica"]
        keys.append(line_key(colour, f"$n={n}$" + (f" ({kept} of {all_})" if kept < all_ else "")))
    return keys


def _fan_keys(replicas: int) -> list[tuple[Any, str]]:
    from matplotlib.patches import Patch

    shade = Patch(color=1 - TINT * (1 - np.array(colours(1)[0][:3])), linewidth=0)
    return [(shade, "16% to 84% of the seeds"), line_key("black", "limit"), band_key(replicas)]


def _pooled(entries: xr.DataArray) -> Array:
    """Entries of the first sample, of all replicas that did not diverge."""
    values = finite(entries.isel(sample=0)).values.ravel()
    return values[np.isfinite(values)]


def _density(ax: Any, z: Array, **line: Any) -> None:
    if z.size and z.std() > 1e-12 * abs(z.mean()):
        ax.plot(*density(z), **line)
    elif z.size:  # a point mass
        ax.axvline(z.mean(), **line)


def _view(ax: Any, z: Array) -> None:
    """Look at where the limit lives: networks on their way to overflow are elsewhere."""
    ax.set_ylim(bottom=0)
    if z.size and z.std() > 0:
        reach = 1.2 * np.abs(z - z.mean()).max()
        ax.set_xlim(z.mean() - reach, z.mean() + reach)


def _distance(ax: Any, rates: xr.Dataset, name: str) -> None:
    """Draw one distance of one layer against width, and what independent entries would show."""
    n, value, error = rates["width"].values, rates[name].values, rates[f"{name}_se"].values
    use = np.isfinite(value) & (value > 0)
    ax.plot(n, rates[f"{name}_iid"], color=GREY, linestyle="--")
    ax.errorbar(
        n[use], value[use], bars(value[use], error[use]), color=BLUE, marker="o", linestyle="none", elinewidth=0.7
    )
    log_axes(ax, n)


FIGURES: dict[str, Callable[..., Any]] = {
    "curves": curves_figure,
    "rates": rates_figure,
    "densities": densities_figure,
    "coordinate_check": coordinate_figure,
}
CAPTIONS = {
    "curves": "Outputs on training samples and the training loss. Coloured lines are means over the seeds of one width, "
    "shaded areas reach from the 16% to the 84% quantile over seeds, and wider networks lie on top of narrower ones. "
    "Black: the limit, mean over replicas with a band of +-2 standard errors; dotted: the target, where it is in view. "
    "Networks that diverged are left out; the legend then counts the others.",
    "rates": "Errors of finite networks, root mean square over steps and samples (and pairs of samples), divided by the "
    "size of the limit. Filled: standard deviation of one network over seeds (spread). Open: distance of the mean over "
    "seeds from the limit, noise removed (bias), where it is resolved; arrows: where it is not, two standard errors "
    "above the estimate of its square. Squares are networks without matrices. Bars are +-2 standard errors of the "
    "logarithm. Lines are weighted fits of a power of n; each legend gives the exponents with their 95% intervals. "
    "Grey: theory's powers, spread n^-1/2 and bias n^-1. Dotted: the standard error of the limit itself.",
    "densities": "Entries of the pre-activations h^l of the first sample after training, all seeds of a width pooled, "
    "against the particles of Z^{h^l} (dashed): Gaussian kernel density estimates. Below: their Wasserstein-1 and "
    "Kolmogorov-Smirnov distances for one network, mean over seeds with bars of +-2 standard errors of the logarithm. "
    "The grey line is what as many independent draws from the limit would show, so that no network need be below it.",
    "coordinate_check": "Root mean square of the entries of h^l after training, and of their change, over samples: mean "
    "over seeds with bars of +-2 standard errors of the logarithm. Dashed: the limit of infinite width, where it is not "
    "zero. In muP every layer must meet its line, and the change of no layer vanishes; in SP and NTP the change falls "
    "towards zero; in IP what starts at zero falls with width until training moves it.",
}


def save_figures(study: Study, directory: str | os.PathLike[str], formats: Sequence[str] = ("png",)) -> list[Path]:
    """Write every figure in every format, and `figures.md` with their captions; return the paths.

    The same study gives the same files, byte for byte.

    Raises
    ------
    InputError
        An unknown format (png, pdf and svg are known).
    FileError
        The directory cannot be created or written.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    for kind in formats:
        if kind not in FORMATS:
            raise InputError("formats", kind, f"any of {sorted(FORMATS)}")
    folder, written = Path(directory), []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, draw in FIGURES.items():
            with mpl.rc_context(STYLE):
                figure = draw(study, Figure(figsize=COLUMN, layout="constrained"))  # no pyplot: nothing to close
                for kind in formats:
                    written.append(folder / f"{name}.{kind}")
                    figure.savefig(written[-1], metadata=FORMATS[kind])
        written.append(folder / "figures.md")
        written[-1].write_text(_report(study, formats), encoding="utf-8")
    except OSError as error:
        raise FileError(f"{directory}: cannot be written: {error}") from error
    return written


def _report(study: Study, formats: Sequence[str]) -> str:
    parts = ["# Finite networks against the limit"]
    for number, (name, caption) in enumerate(CAPTIONS.items(), start=1):
        picture = f"![{name}]({name}.{formats[0]})\n\n" if formats else ""
        parts.append(f"{picture}**Figure {number}.** {caption}")
    parts += [f"Not run: width {width}, {reason}." for width, reason in study.skipped]
    return "\n\n".join(parts) + "\n"
