"""IP networks, dense and matrix-free, from the start until they escape; and what the linear theory says of them."""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr

import finite
from tpsim import Network, Notice, Problem, Training, simulate

from ..growth import Growth, Times, estimate

Array = np.ndarray
Losses = dict[int, list[Array]]  # n -> one trajectory per seed, (steps,)

ESCAPED = 0.5  # of the initial loss
SEEN = 0.25  # of the initial loss: there matrix-free networks stop
TOLERANCE = 1e-3  # of matrix-free networks: moves their escape times by less than .1 steps
FITTED = 128  # the smallest width of the fits: means have a relative bias of about 1/n besides
LINEAR = 1.5, 4e-4  # the growing mode is alone, and small, where 1.5/n < 1 - Loss_t / Loss_0 < 4e-4


@dataclass(frozen=True)
class Study:
    """Networks of one depth and learning rate, otherwise with Appendix A's constants.

    Attributes
    ----------
    name, depth, rate : depth L and eta of all layers.
    dense, matrix_free : {width: seeds}
    steps : (p, q, r): after r n^p (log n)^q steps a typical network has escaped.
    law : verdict of `growth.estimate` that theory expects.
    power : the exponent that goes with it, if it has one.
    seed : studies draw apart, so that each is evidence of its own.
    """

    name: str
    depth: int
    rate: float
    dense: dict[int, int]
    matrix_free: dict[int, int]
    steps: tuple[float, float, float]
    law: str
    power: float | None
    seed: int

    @property
    def network(self) -> Network:
        return Network(self.depth, "silu", np.sqrt(2.0))

    def training(self, width: int) -> Training:
        """Enough steps for a network that is slower than a typical one by five standard deviations 1.4 n^-1/2."""
        p, q, r = self.steps
        return Training(int(r * width**p * np.log(width) ** q * (1 + 7 / np.sqrt(width))), self.rate, reduction="mean")


@dataclass(frozen=True)
class Result:
    """What the networks of a study did.

    Attributes
    ----------
    dense, matrix_free : losses of every network.
    rate : lambda of the linear theory (L = 3).
    limit : largest |f_t| of the limit over as many steps.
    """

    study: Study
    dense: Losses
    matrix_free: Losses
    rate: float
    limit: float

    @property
    def kinds(self) -> dict[str, Losses]:
        return {"dense": self.dense, "matrix-free": self.matrix_free}

    @cached_property
    def losses(self) -> Losses:
        """Of all networks of a width, the dense ones first."""
        widths = sorted({*self.dense, *self.matrix_free})
        return {n: [*self.dense.get(n, []), *self.matrix_free.get(n, [])] for n in widths}

    @cached_property
    def times(self) -> Times:
        """Escape times by width."""
        return {n: np.array([escape_time(loss) for loss in losses]) for n, losses in self.losses.items()}

    @cached_property
    def growth(self) -> Growth:
        return estimate({n: t for n, t in self.times.items() if n >= FITTED})

    @property
    def slope(self) -> float:
        """b of the linear theory."""
        return 1 / (2 * np.log1p(self.rate))


def studies(quick: bool = False) -> list[Study]:
    """L = 3 with Appendix A's rate, and with ten times it, which is cheaper and goes further; L = 2 and 4 beside it."""
    if quick:
        dense, free = {32: 8, 64: 16, 128: 16, 256: 12}, {256: 8, 1024: 6, 4096: 2, 16384: 1}
        return [Study("L=3, eta=1", 3, 1.0, dense, free, (0, 1, 6.5), "logarithm", 0.0, seed=2)]
    dense, few = {32: 16, 64: 24, 128: 24, 256: 16, 512: 8}, {32: 16, 64: 16, 128: 16, 256: 8}
    slow, fast = {512: 8, 1024: 8, 4096: 4, 16384: 2}, {512: 16, 1024: 16, 4096: 8, 16384: 4, 65536: 2}
    return [
        Study("L=3, eta=0.1", 3, 0.1, dense, slow, (0, 1, 65), "logarithm", 0.0, seed=1),
        Study("L=3, eta=1", 3, 1.0, dense, fast, (0, 1, 6.5), "logarithm", 0.0, seed=2),
        Study("L=2, eta=1", 2, 1.0, few, {256: 8, 1024: 4, 4096: 4, 16384: 2}, (0, 0, 20), "bounded", None, seed=3),
        Study("L=4, eta=1", 4, 1.0, few, {256: 8, 512: 4, 1024: 4, 2048: 2}, (0.5, 0, 20), "power", 0.5, seed=4),
    ]


def measure(study: Study, problem: Problem) -> Result:
    """Train every network, and run the limit for as many steps as the widest one may take."""
    dense = {n: dense_losses(study, problem, n, seeds) for n, seeds in study.dense.items()}
    free = {n: [matrix_free_loss(study, problem, n, k) for k in range(r)] for n, r in study.matrix_free.items()}
    limit = limit_of(problem, study.network, study.training(max(free)))
    return Result(study, dense, free, growth_rate(study, problem), float(np.abs(limit.f).max()))


def limit_of(problem: Problem, network: Network, training: Training, particles: int = 1024) -> xr.Dataset:
    """The limit of IP, one replica."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # ratios to Z^{h_0} = 0 are undefined
        return simulate(problem, network, training, particles, 1, limit="ip", progress=False)


def dense_losses(study: Study, problem: Problem, width: int, seeds: int) -> list[Array]:
    """Loss at every step of dense IP networks, one array per seed."""
    run = finite.train(
        problem, study.network, study.training(width), width=width, seeds=seeds, parametrization="ip",
        dtype="float32", quantities=("f",), seed=study.seed, progress=False,
    )  # fmt: skip
    return list(run.loss.values)


def matrix_free_loss(study: Study, problem: Problem, width: int, seed: int) -> Array:
    """Loss at every step of one network without its matrices, until it falls below `SEEN` of the first."""
    losses: list[float] = []

    class Enough(Exception):
        pass

    def see(step: int, replica: int, loss: float) -> None:
        losses.append(loss)
        if loss < SEEN * losses[0]:
            raise Enough

    training = study.training(width)
    with suppress(Enough):
        simulate(
            problem, study.network, training, width, 1, noise="width", limit="ip", tolerance=TOLERANCE,
            seed=1000 * study.seed + seed, record_every=training.steps, joint_every=training.steps, progress=see,
        )  # fmt: skip
    return np.array(losses)


def growth_rate(study: Study, problem: Problem) -> float:
    """lambda = a^2 s_4 sqrt(eta_2 eta_3 chi' K chi), K = E[Z^{x^1_0} Z^{x^1_0}'] from 16384 particles (error 1e-4)."""
    network = study.network
    run = limit_of(problem, network, Training(0, study.rate, reduction="mean"), 16384)
    chi, kernel = run.chi.values[0, 0], run.kernel_x.values[0, 0, 0]
    value, slope = np.empty((1, 1)), np.empty((1, 1))
    network.phi.evaluate(np.zeros((1, 1)), value, slope)
    return float(slope[0, 0] ** 2 * network.scales[-1] * study.rate * np.sqrt(chi @ kernel @ chi))


def escape_time(loss: Array) -> float:
    """Where the loss falls below half of its initial value, log-linear between two steps; NaN where it does not."""
    below = np.flatnonzero(loss < ESCAPED * loss[0])
    if not below.size:
        return float("nan")
    k = below[0]
    return float(k - np.log(ESCAPED * loss[0] / loss[k]) / np.log(loss[k - 1] / loss[k]))


def signal(loss: Array) -> Array:
    """1 - Loss_t / Loss_0."""
    return 1 - loss / loss[0]


def measured_rates(losses: Losses) -> dict[int, Array]:
    """Growth of the signal per step, log(1 + lambda), of every network of a width where `LINEAR` spans two octaves."""
    low, high = LINEAR
    return {n: np.array([_rate(signal(x), low / n, high) for x in losses[n]]) for n in losses if 4 * low / n <= high}


def _rate(values: Array, low: float, high: float) -> float:
    """Half the slope of log(values) between `low` and `high`."""
    steps = np.arange(np.flatnonzero(values > low)[0], np.flatnonzero(values > high)[0])
    return float(np.polyfit(steps, np.log(values[steps]), 1)[0]) / 2
