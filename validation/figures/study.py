"""What the figures are drawn from: networks of finite width and the limit, in the constants of Appendix A."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import xarray as xr

from tpsim.problem import Network, Problem, Training

PARAMETRIZATIONS = ("mup", "ip", "ntp", "sp")
Progress = None | bool


@dataclass(frozen=True, eq=False)
class Settings:
    """Everything that the user chose.

    Parameters
    ----------
    problem : inputs divided by sqrt(d), as the constants of Appendix A expect.
    network : its depth and activation; the initial scales are those of Appendix A.
    training : its `learning_rate` is the number eta of Appendix A.
    widths, seeds : of the finite networks of each activation and parametrization.
    activations : names; figures of others than these are left out.
    depths : of the figure over depths.
    dtype : of the finite networks.
    particles, replicas, seed : of the limit; `seed` is that of the networks too.
    simulation : other arguments of `tpsim.simulate` (noise, sobol, tolerance, max_rank, threads).
    workers : processes.
    """

    problem: Problem
    network: Network
    training: Training
    widths: tuple[int, ...]
    seeds: int
    activations: tuple[str, ...] = ("silu", "tanh", "relu")
    depths: tuple[int, ...] = (2, 3, 4, 5, 6)
    dtype: str = "float32"
    particles: int = 4096
    replicas: int = 8
    seed: int = 0
    simulation: dict[str, Any] = field(default_factory=dict)
    workers: int = 1


@dataclass(frozen=True, eq=False)
class Study:
    """What was computed.

    Attributes
    ----------
    settings : Settings
    networks : dataset over (activation, parametrization, width, replica, ...) as of `finite.sweep`; None where no
        figure needs networks.
    limits : (activation, parametrization) -> dataset of `tpsim.simulate`.
    extras : name -> dataset, of figures that need data of their own.
    """

    settings: Settings
    networks: xr.Dataset | None = None
    limits: dict[tuple[str, str], xr.Dataset] = field(default_factory=dict)
    extras: dict[str, xr.Dataset] = field(default_factory=dict)


class Figure(NamedTuple):
    """One figure.

    Attributes
    ----------
    title : str
    draw : (study, figure) -> draws on a matplotlib figure, or on a new one for None.
    caption : study -> text, every number of it measured.
    activations : those whose networks and limits it needs; () for none.
    extra : name of the entry of `Study.extras` that it needs.
    """

    title: str
    draw: Callable[[Study, Any], Any]
    caption: Callable[[Study], str]
    activations: tuple[str, ...] = ()
    extra: str | None = None
