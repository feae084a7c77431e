"""What Figures 1-4 and 11-16 plot against width: feature change, diversity, joint diversity, and their powers of n."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.special import stdtrit

from tpsim.plot.read import finite, setting

from .eigen import eigenvalues
from .study import PARAMETRIZATIONS, Study

Array = np.ndarray

METRICS = ("change", "diversity", "joint")
ROUNDING = 1e-13  # of the largest eigenvalue: what is left of zero by single precision, squared, and by LAPACK
STABLE = 0.25  # a power of n between -this and this; feature changes of lazy networks have -1/2
OCTAVES = 4  # of the widths that a power is fitted to, the widest ones
SPARE = 4  # the least of them, in vectors of the Gram matrix: it is singular below one of these
LEAST = 3  # widths, and seeds, of a fit
LEFT = 0.9  # of its initial loss: networks whose median final loss is below have left their start


@dataclass(frozen=True)
class Curve:
    """One metric of one parametrization.

    Attributes
    ----------
    widths : (W,)
    values : (W, replica) of the networks, NaN where they diverged, 0 where an eigenvalue is only rounding.
    limit : (replica,) of the limit.
    vectors : of the Gram matrix, which is singular at widths below; 1 where there is none.
    undefined : whether `limit` is the root mean square of Z^{h_T}: relative to Z_0 = 0 there is no change.
    diverged : networks, of all widths.
    resolution : a limit that is not zero but below this is lost in what the tolerance drops.
    mixed : of the change of IP: whether some of the fitted widths have left their start, by `LEFT`, others not.
    """

    widths: Array
    values: Array
    limit: Array
    vectors: int
    undefined: bool
    diverged: int
    resolution: float = 0.0
    mixed: bool = False

    @property
    def divided(self) -> bool:
        """Whether values are eigenvalues of K/n, so that those of K have a power that is larger by 1."""
        return self.vectors > 1

    @property
    def resolved(self) -> bool:
        """Whether the limit is zero, or large enough for the tolerance of its run."""
        return not 0 < self.limit.mean() < self.resolution

    @property
    def zero(self) -> bool:
        """Whether a power would be fitted to nothing but zeros."""
        return bool(self.fitted.any() and (self.values[self.fitted] == 0).all())

    def spread(self) -> Array:
        """Median and the 16% and 84% quantiles over networks, (3, W); NaN where all diverged."""
        found = np.full((3, len(self.widths)), np.nan)
        for k, line in enumerate(self.values):
            if (kept := line[np.isfinite(line)]).size:
                found[:, k] = np.quantile(kept, (0.5, 0.16, 0.84))
        return found

    @property
    def bounds(self) -> tuple[float, float]:
        """Mean of the limit, and two standard errors (NaN for one replica)."""
        few = len(self.limit) < 2
        error = np.nan if few else 2 * float(self.limit.std(ddof=1)) / np.sqrt(len(self.limit))
        return float(self.limit.mean()), error

    @property
    def fitted(self) -> Array:
        """Which widths a power is fitted to."""
        least = max(self.widths.max() / 2**OCTAVES, SPARE * self.vectors if self.vectors > 1 else 1)
        return self.widths >= least

    def trend(self) -> Trend | None:
        """The power of n, from one straight line in logarithms for each seed; None with too few of either."""
        use = self.fitted
        kept = self.values[use]
        kept = kept[:, (np.isfinite(kept) & (kept > 0)).all(axis=0)]
        if use.sum() < LEAST or kept.shape[1] < LEAST:
            return None
        x = np.log(self.widths[use]) - np.log(self.widths[use]).mean()
        powers = x @ np.log(kept) / (x @ x)
        reach = float(stdtrit(len(powers) - 1, 0.975)) * float(powers.std(ddof=1)) / np.sqrt(len(powers))
        return Trend(float(powers.mean()), reach, int(self.widths[use].min()))

    @property
    def widest(self) -> Array:
        """The finite values (k,) of the widest networks."""
        return self.values[-1][np.isfinite(self.values[-1])]


class Trend(NamedTuple):
    """A power of n, the half width of its 95% interval over seeds, and the least width of the fit."""

    power: float
    reach: float
    least: int

    @property
    def decays(self) -> bool | None:
        """Whether the power is below -`STABLE`; None where its interval does not tell."""
        return _below(self.power + STABLE, self.reach)

    @property
    def stable(self) -> bool | None:
        """Whether the power is between -`STABLE` and `STABLE`."""
        grows = _below(STABLE - self.power, self.reach)
        return False if self.decays or grows else True if self.decays is False and grows is False else None

    @property
    def undivided(self) -> Trend:
        """That of eigenvalues of K, where this is that of K/n."""
        return self._replace(power=self.power + 1)


def _below(distance: float, reach: float) -> bool | None:
    return True if distance < -reach else False if distance > reach else None


def curves(study: Study, activation: str, metric: str, kind: str, layer: int) -> dict[str, Curve]:
    """Return a metric of `METRICS`, of h or x (`kind`) in a layer, for every parametrization, after training."""
    assert study.networks is not None
    networks = study.networks.sel(activation=activation, layer=layer)
    widths = networks["width"].values
    m = networks.sizes["sample"]
    found = {}
    for name in PARAMETRIZATIONS:
        own = networks.sel(parametrization=name)
        limit = study.limits[activation, name].sel(layer=layer)
        values = _metric(own, metric, kind).transpose("width", "replica").values
        there = _metric(limit, metric, kind).values
        if undefined := bool(np.isnan(there).all()):
            there = _size(limit, kind)
        diverged = int((own["diverged_at"] >= 0).sum())
        vectors = {"change": 1, "diversity": m, "joint": 2 * m}[metric]
        least = 0.0 if metric == "change" or layer == 1 else _resolution(limit, metric, kind)
        curve = Curve(widths, values, there, vectors, undefined, diverged, least)
        found[name] = replace(curve, mixed=(metric, name) == ("change", "ip") and _mixed(own, curve.fitted))
    return found


def _mixed(networks: xr.Dataset, fitted: Array) -> bool:
    """Whether the median loss of some of the fitted widths, and not of all, has fallen below `LEFT` of the initial."""
    first, last = finite(networks["loss"].isel(step=[0, -1])).median("replica").transpose("step", "width").values
    return bool((last < LEFT * first)[fitted].any() and (last >= LEFT * first)[fitted].any())


def _resolution(limit: xr.Dataset, metric: str, kind: str) -> float:
    """What one step may drop of an eigenvalue, tolerance^2 times the mean diagonal; layer 1 drops nothing."""
    gram = _gram(limit, metric, kind).transpose("replica", "sample", "sample2").values
    tolerance = float(setting(limit, "simulation", "tolerance", 0.0))
    return tolerance**2 * float(np.diagonal(gram, axis1=1, axis2=2).mean())


def loss(study: Study, activation: str) -> dict[str, Array]:
    """Return the median final loss (width,) over networks that did not diverge, for every parametrization."""
    assert study.networks is not None
    last = finite(study.networks["loss"].sel(activation=activation).isel(step=-1)).median("replica")
    return {name: last.sel(parametrization=name).values for name in PARAMETRIZATIONS}


def _metric(run: xr.Dataset, metric: str, kind: str) -> xr.DataArray:
    """A metric (..., replica) at the last step of a run at one layer."""
    if metric == "change":
        return finite(run[f"feature_change_{kind}"].isel(step=-1))
    values = eigenvalues(finite(_gram(run, metric, kind)))
    smallest = values.isel(index=-1)
    return smallest.where(~(smallest <= ROUNDING * values.isel(index=0)), 0.0)


def _gram(run: xr.Dataset, metric: str, kind: str) -> xr.DataArray:
    """The Gram matrix over n whose smallest eigenvalue is the diversity or the joint diversity."""
    kernel = run[f"kernel_{kind}"]
    gram = kernel.isel(step=-1, drop=True)
    if metric == "joint":
        mixed = run[f"kernel_{kind}0"]
        dim = "joint_step" if "joint_step" in mixed.dims else "step"
        return joint(kernel.isel(step=0, drop=True), mixed.isel({dim: -1}, drop=True), gram)
    return gram


def joint(first: xr.DataArray, mixed: xr.DataArray, last: xr.DataArray) -> xr.DataArray:
    """Return the Gram matrix [[K_00, K_0T], [K_0T', K_TT]] of the features before and after training together."""
    turned = mixed.rename(sample="sample2", sample2="sample")
    rows = [xr.concat(pair, "sample2") for pair in ((first, mixed), (turned, last))]
    return xr.concat([row.drop_vars(["sample", "sample2"], errors="ignore") for row in rows], "sample")


def _size(run: xr.Dataset, kind: str) -> Array:
    """Root mean square (replica,) over samples and particles of the features at the last step."""
    gram = run[f"kernel_{kind}"].isel(step=-1).transpose("replica", "sample", "sample2").values
    return np.sqrt(np.diagonal(gram, axis1=1, axis2=2).mean(axis=1))
