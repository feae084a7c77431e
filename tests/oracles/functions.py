"""The activations with two derivatives, written down a second time: the oracles share no formula with the library."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import erf, expit

from tpsim.problem import Network

Array = np.ndarray
Map = Callable[[Array], Array]


class Function(NamedTuple):
    """phi, phi' and, where known, phi''."""

    name: str
    phi: Map
    dphi: Map
    ddphi: Map | None = None


def _density(h: Array) -> Array:
    return np.exp(-(h**2) / 2) / np.sqrt(2 * np.pi)


def _dsigmoid(h: Array) -> Array:
    return expit(h) * expit(-h)


FUNCTIONS = {
    f.name: f
    for f in (
        Function("identity", lambda h: h, np.ones_like, np.zeros_like),
        Function("tanh", np.tanh, lambda h: 1 - np.tanh(h) ** 2, lambda h: -2 * np.tanh(h) * (1 - np.tanh(h) ** 2)),
        Function("sigmoid", expit, _dsigmoid, lambda h: -_dsigmoid(h) * np.tanh(h / 2)),
        Function(
            "erf",
            erf,
            lambda h: 2 / np.sqrt(np.pi) * np.exp(-(h**2)),
            lambda h: -4 * h / np.sqrt(np.pi) * np.exp(-(h**2)),
        ),
        Function(
            "silu",
            lambda h: h * expit(h),
            lambda h: expit(h) + h * _dsigmoid(h),
            lambda h: _dsigmoid(h) * (2 - h * np.tanh(h / 2)),
        ),
        Function(
            "gelu",
            lambda h: h * (1 + erf(h / np.sqrt(2))) / 2,
            lambda h: (1 + erf(h / np.sqrt(2))) / 2 + h * _density(h),
            lambda h: (2 - h**2) * _density(h),
        ),
        Function("softplus", lambda h: np.logaddexp(0, h), expit, _dsigmoid),
        Function("relu", lambda h: np.maximum(h, 0), lambda h: (h > 0) * 1.0),
        Function("sin", np.sin, np.cos, lambda h: -np.sin(h)),
        Function("cos", np.cos, lambda h: -np.sin(h), lambda h: -np.cos(h)),
    )
}


def resolve(activation: object) -> Function:
    """Return the `Function` of a name, or of a pair (phi, dphi) or an `Activation` of the user's."""
    if isinstance(activation, str):
        return FUNCTIONS[activation]
    chosen = Network(activation=activation).phi  # type: ignore[arg-type]
    return Function(getattr(chosen, "name", "user"), chosen.phi, chosen.dphi)
