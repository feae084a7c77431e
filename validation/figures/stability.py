"""The largest stable learning rate: how it is looked for, and the data of figure "learning_rate"."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from tpsim.errors import Diverged

from .runs import WIDTH, limit_run, network_run, training_of, width_of
from .study import PARAMETRIZATIONS, Progress, Settings

Array = np.ndarray

RATIO = 1.05  # resolution: smallest unstable over largest stable rate
DOUBLINGS = 12  # at most, either way from the rate that the user chose
BELOW = (1 / 8, 1 / 4, 1 / 2)  # of that rate: tried for the picture
PARTICLES, REPLICAS = 1024, 2  # of a run of the limit
SLACK = 1e-3  # relative: a loss this little above its start has not grown (IP networks that stand still)


class Bracket(NamedTuple):
    """The largest rate found stable and the smallest unstable one above it; 0 and inf where there is none."""

    low: float
    high: float


def bracket(stable: Callable[[float], bool], start: float, ratio: float = RATIO) -> Bracket:
    """Double or halve `start` until stability changes, then bisect until high / low <= `ratio`.

    Finds one edge; where stable and unstable rates alternate there are more.
    """
    low = high = start
    if stable(start):
        for _ in range(DOUBLINGS):
            high = 2 * low
            if not stable(high):
                break
            low = high
        else:
            return Bracket(low, math.inf)
    else:
        for _ in range(DOUBLINGS):
            low = high / 2
            if stable(low):
                break
            high = low
        else:
            return Bracket(0.0, high)
    while high / low > ratio:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if stable(middle) else (low, middle)
    return Bracket(low, high)


def grew(loss: Array) -> Array:
    """Which trajectories of the loss (..., step) end above their start, or did not reach the end."""
    return ~(loss[..., -1] <= (1 + SLACK) * loss[..., 0])  # no comparison holds for NaN


@dataclass
class Series:
    """The trials of one kind of run: `try_rate` returns losses (replica, step), NaN from divergence on."""

    try_rate: Callable[[float], Array]
    trials: dict[float, Array] = field(default_factory=dict)

    def stable(self, rate: float) -> bool:
        """Whether more than half of the runs do not diverge and end with a loss that is not above its start."""
        if rate not in self.trials:
            self.trials[rate] = self.try_rate(rate)
        return bool(np.mean(grew(self.trials[rate])) < 0.5)

    def dataset(self, found: Bracket) -> xr.Dataset:
        """rate and loss at the end by trial, ascending, the share of stable runs, and the bracket."""
        rates = np.array(sorted(self.trials))
        ends = np.stack([self.trials[rate][:, -1] for rate in rates])
        share = np.array([1 - np.mean(grew(self.trials[rate])) for rate in rates])
        alive = np.isfinite(ends).mean(axis=1)
        return xr.Dataset(
            {"rate": ("trial", rates), "loss": (("trial", "replica"), ends), "share": ("trial", share),
             "alive": ("trial", alive), "low": found.low, "high": found.high},
            {"trial": np.arange(len(rates)), "replica": np.arange(ends.shape[1])},
        )  # fmt: skip


def rates_data(settings: Settings, progress: Progress = None) -> xr.Dataset:
    """Bracket the largest stable rate eta of the muP limit and of networks, in the constants of Appendix A.

    Returns
    -------
    Dataset over (series, trial, replica): `rate`, `loss` at the end (NaN: diverged), the shares of runs that are stable
    (`share`) and that did not diverge (`alive`); the bracket `low`, `high` and the `name` and `width` (0: the limit) of
    each series; `sharpness` (limit_trial, step) in the limit at each `limit_rate`, whose product with it is 2 at the
    edge of stability of a quadratic loss.
    """
    training: Any = training_of(settings)
    eta, every = float(training.learning_rate), max(training.steps, 1)
    sharp: dict[float, Array] = {}

    def limit(rate: float) -> Array:
        own = training_of(settings, learning_rate=rate)
        size = {"particles": min(settings.particles, PARTICLES), "replicas": REPLICAS}
        run, stopped = limit_run(settings, settings.network, own, progress, **size)
        sharp[rate] = sharpness(settings, run).mean(axis=0)
        loss = run["loss"].transpose("replica", "step").values
        return loss if isinstance(stopped, Diverged) or stopped is None else _as_far(loss)

    def networks(rate: float, name: str, width: int) -> Array:
        own = training_of(settings, learning_rate=rate)
        run = network_run(settings, settings.network, own, width, name, (), record_every=every)
        return run["loss"].transpose("replica", "step").values

    tried: list[tuple[str, int, Callable[[float], Array]]] = [("mup", 0, limit)]
    small = [n for n in settings.widths if n <= WIDTH] or [min(settings.widths)]
    for name in PARAMETRIZATIONS:
        for width in sorted(small[::-2][:3]) if name == "mup" else [width_of(settings)]:
            tried.append((name, width, partial(networks, name=name, width=width)))
    found = []
    for name, width, run_at in tried:
        series = Series(run_at)
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
        .assign_attrs(title="tpsim: learning_rate", eta=eta, steps=training.steps, ratio=RATIO)
    )


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


def _as_far(loss: Array) -> Array:
    """Losses of a run whose bases filled up: what it reached stands for its end."""
    last = int(np.flatnonzero(np.isfinite(loss).all(axis=0))[-1])
    return loss[:, : last + 1]
