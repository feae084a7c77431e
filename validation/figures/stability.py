"""The largest stable learning rate: how it is looked for, and the data of figure "learning_rate"."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from tpsim.errors import RankError

from .runs import WIDTH, joined, limit_run, network_run, notices_of, seeds_of, training_of, width_of
from .study import PARAMETRIZATIONS, Progress, Settings

Array = np.ndarray

RATIO = 1.05  # resolution: smallest unstable over largest stable rate
DOUBLINGS = 12  # at most, either way from the rate that the user chose
BELOW = (1 / 8, 1 / 4, 1 / 2)  # of that rate: tried for the picture
PARTICLES, REPLICAS = 1024, 2  # of a run of the limit
FULL = "more arrays than half of its"  # words of the notice of a basis that is half full
SLACK = 1e-3  # relative: a loss this little above its start has not grown (IP networks that stand still)


class Bracket(NamedTuple):
    """The largest rate found stable and the smallest unstable one above it; 0 and inf where there is none."""

    low: float
    high: float


def bracket(stable: Callable[[float], bool | None], start: float, ratio: float = RATIO) -> Bracket:
    """Bracket the edge of stability down to high / low <= `ratio`.

    `stable` may leave a rate undecided, None: then `low` is the lower edge of the undecided rates and `high` the upper
    one. Finds one edge; where stable and unstable rates alternate there are more.
    """
    low, high = _edge(lambda rate: stable(rate) is True, start, ratio)
    if np.isfinite(high) and stable(high) is None:
        high = _edge(lambda rate: stable(rate) is not False, high, ratio).high
    return Bracket(low, high)


def _edge(below: Callable[[float], bool], start: float, ratio: float) -> Bracket:
    """Double or halve `start` until `below` changes, then bisect."""
    low = high = start
    if below(start):
        for _ in range(DOUBLINGS):
            high = 2 * low
            if not below(high):
                break
            low = high
        else:
            return Bracket(low, math.inf)
    else:
        for _ in range(DOUBLINGS):
            low = high / 2
            if below(low):
                break
            high = low
        else:
            return Bracket(0.0, high)
    while high / low > ratio:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if below(middle) else (low, middle)
    return Bracket(low, high)


class Trial(NamedTuple):
    """Losses (replica, step) at one rate, NaN from divergence on, whether they say what becomes of the run; notices."""

    losses: Array
    decided: bool = True
    notices: str = ""

    @property
    def share(self) -> float:
        """Of the runs, those whose loss at the end is not above its start; NaN where that is not decided."""
        fine = self.losses[:, -1] <= (1 + SLACK) * self.losses[:, 0]  # no comparison holds for NaN
        return float(fine.mean()) if self.decided else math.nan

    @property
    def alive(self) -> float:
        """Of the runs, those that did not diverge."""
        return float(np.isfinite(self.losses[:, -1]).mean()) if self.decided else math.nan


@dataclass
class Series:
    """The trials of one kind of run, by rate."""

    try_rate: Callable[[float], Trial]
    trials: dict[float, Trial] = field(default_factory=dict)

    def stable(self, rate: float) -> bool | None:
        """Whether more than half of the runs do not diverge and end with a loss that is not above its start."""
        if rate not in self.trials:
            self.trials[rate] = self.try_rate(rate)
        share = self.trials[rate].share
        return None if math.isnan(share) else share > 0.5

    def dataset(self, found: Bracket) -> xr.Dataset:
        """rate, loss at the end and shares by trial, rates ascending, and the bracket."""
        rates = sorted(self.trials)
        trials = [self.trials[rate] for rate in rates]
        ends = np.stack([trial.losses[:, -1] for trial in trials])
        return xr.Dataset(
            {"rate": ("trial", np.array(rates)), "loss": (("trial", "replica"), ends),
             "share": ("trial", np.array([trial.share for trial in trials])),
             "alive": ("trial", np.array([trial.alive for trial in trials])),
             "full": ("trial", np.array([float(FULL in trial.notices) for trial in trials])),
             "low": found.low, "high": found.high},
            {"trial": np.arange(len(rates)), "replica": np.arange(ends.shape[1])},
            {"notices": joined(trial.notices for trial in trials)},
        )  # fmt: skip


def rates_data(settings: Settings, progress: Progress = None) -> xr.Dataset:
    """Bracket the largest stable rate eta of the muP limit and of networks, in the constants of Appendix A.

    Returns
    -------
    Dataset over (series, trial, replica): `rate`, `loss` at the end (NaN: diverged), the shares of runs that are stable
    (`share`) and that did not diverge (`alive`), NaN where the bases of the limit filled up before; `full`, 1 where
    they came to more than half of what they hold; the bracket `low`, `high` and the `name` and `width` (0: the limit)
    of each series; `sharpness` (limit_trial, step) in the limit at each `limit_rate`, whose product with it is 2 at the
    edge of stability of a quadratic loss.
    """
    training: Any = training_of(settings)
    eta, sharp = float(training.learning_rate), dict[float, Array]()
    found = []
    for name, width in _series(settings):
        if width:
            series = Series(partial(_try_networks, settings, name, width))
        else:
            series = Series(partial(_try_limit, settings, progress, sharp))
        edge = bracket(series.stable, eta)
        for part in BELOW:
            series.stable(part * eta)
        found.append(series.dataset(edge).assign(name=name, width=width))
    rates = sorted(sharp)
    return (
        xr.concat(found, dim="series", join="outer")
        .assign(sharpness=(("limit_trial", "step"), np.stack([sharp[rate] for rate in rates])))
        .assign(limit_rate=("limit_trial", np.array(rates)))
        .assign_coords(step=np.arange(training.steps + 1))
        .assign_attrs(
            title="tpsim: learning_rate", eta=eta, steps=training.steps, notices=joined(map(notices_of, found)),
            particles=_particles(settings), replicas=REPLICAS, networks=seeds_of(settings),
        )
    )  # fmt: skip


def _particles(settings: Settings) -> int:
    return min(settings.particles, PARTICLES)


def _series(settings: Settings) -> list[tuple[str, int]]:
    """Parametrizations and widths: the limit (0) and three widths of muP, one of the others."""
    small = [n for n in settings.widths if n <= WIDTH] or [min(settings.widths)]
    others = [(name, width_of(settings)) for name in PARAMETRIZATIONS if name != "mup"]
    return [("mup", 0), *(("mup", n) for n in sorted(small)[::-2][:3][::-1]), *others]


def _try_limit(settings: Settings, progress: Progress, sharp: dict[float, Array], rate: float) -> Trial:
    """Run the limit, and leave its sharpness in `sharp`."""
    own = training_of(settings, learning_rate=rate)
    size = {"particles": _particles(settings), "replicas": REPLICAS}
    run, stopped = limit_run(settings, settings.network, own, progress, **size)
    sharp[rate] = sharpness(settings, run).mean(axis=0)
    return Trial(run["loss"].transpose("replica", "step").values, not isinstance(stopped, RankError), notices_of(run))


def _try_networks(settings: Settings, name: str, width: int, rate: float) -> Trial:
    own = training_of(settings, learning_rate=rate)
    run = network_run(settings, settings.network, own, width, name, (), record_every=max(own.steps, 1))
    return Trial(run["loss"].transpose("replica", "step").values)


def sharpness(settings: Settings, run: xr.Dataset) -> Array:
    """Largest eigenvalue of the Gauss-Newton matrix of the squared loss, c Theta_t with c = 2, or 2/m for `mean`.

    Theta_ij = sum_{l=1}^{L+1} E[Z^{dh^l}_i Z^{dh^l}_j] E[Z^{x^{l-1}}_i Z^{x^{l-1}}_j], the factors past the ends being
    1 and <xi_i, xi_j>: full-batch steps of rate eta for all layers then change f by -eta Theta chi to first order.
    Array (replica, step), NaN for another loss, for minibatches, and where the run had stopped.
    """
    problem, training = settings.problem, settings.training
    dims = ("replica", "step", "layer", "sample", "sample2")
    dh, x = (run[name].transpose(*dims).values for name in ("kernel_dh", "kernel_x"))
    found = np.full(x.shape[:2], np.nan)
    if training.criterion.name != "squared" or training.batches is not None:
        return found
    before = np.concatenate([np.broadcast_to(problem.inputs @ problem.inputs.T, x[:, :, :1].shape), x[:, :, :-1]], 2)
    with np.errstate(over="ignore", invalid="ignore"):  # on the way to divergence
        theta = (dh * before).sum(axis=2) + x[:, :, -1]
    fine = np.isfinite(theta).all(axis=(-1, -2))
    found[fine] = np.linalg.eigvalsh(theta[fine])[:, -1]
    return found * (2 / problem.samples if training.reduction == "mean" else 2)
