"""SP, NTP, IP and muP: how initial variances and learning rates scale with the width n.

    W^l ~ N(0, (s_l n^-b_l)^2),    W^l -= eta_l n^-c_l dLoss/dW^l,    l = 1..L+1

`Network.init_scale` holds the constants s_l and `Training.learning_rate` the constants eta_l, whatever the exponents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .errors import InputError
from .problem import Network, Training, per_layer, positive_int

Array = np.ndarray
Three = tuple[float, float, float]


LARGEST_POWER = 8  # of the width; those of Table 2 are at most 1


def _is_power(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST_POWER


@dataclass(frozen=True)
class Parametrization:
    """Powers of the width n for the first (W^1), the hidden (W^2..W^L) and the last (W^{L+1}) matrices.

    Forward multipliers are absorbed in both, as the redundancy of abc-parametrizations (TP4, Sec. 3) allows.

    Parameters
    ----------
    name : str
    init : (first, hidden, last) exponents b.
    rate : (first, hidden, last) exponents c.
    """

    name: str
    init: Three
    rate: Three

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InputError("name", self.name, "a string that is not empty")
        for field, powers in (("init", self.init), ("rate", self.rate)):
            if not isinstance(powers, list | tuple) or len(powers) != 3 or not all(map(_is_power, powers)):
                raise InputError(field, powers, f"three numbers of size at most {LARGEST_POWER}")

    def init_std(self, scales: Array, width: int) -> Array:
        """Standard deviations s_l n^-b_l of the entries of W^1..W^{L+1}, an array (L+1,)."""
        return scales * width ** -_spread(self.init, len(scales))

    def rates(self, eta: Array, width: int) -> Array:
        """Learning rates eta_l n^-c_l of W^1..W^{L+1}, an array (L+1,)."""
        return eta * width ** -_spread(self.rate, len(eta))

    def gradient_scale(self, width: int) -> float:
        """The factor n^b_{L+1} that makes df/dh^l of size one: dh^l = n^b_{L+1} df/dh^l (n in muP and IP)."""
        return float(width ** self.init[2])


def _spread(exponents: Three, layers: int) -> Array:
    first, hidden, last = exponents
    return np.array([first, *[hidden] * (layers - 2), last])


# Chen et al. 2025, Table 2: variances n^-2b and rates eta n^-c, one row per parametrization.
#                             W^1  W^l  W^{L+1}        W^1  W^l  W^{L+1}
TABLE_2 = {
    row.name: row
    for row in (
        Parametrization("sp", init=(0.0, 0.5, 0.5), rate=(1.0, 1.0, 1.0)),
        Parametrization("ntp", init=(0.0, 0.5, 0.5), rate=(0.0, 1.0, 1.0)),
        Parametrization("ip", init=(0.0, 1.0, 1.0), rate=(-1.0, 0.0, 1.0)),
        Parametrization("mup", init=(0.0, 0.5, 1.0), rate=(-1.0, 0.0, 1.0)),
    )
}
MUP = TABLE_2["mup"]
TITLES = {"sp": "standard", "ntp": "neural tangent", "ip": "integrable", "mup": "maximal update"}


def resolve_parametrization(value: str | Parametrization) -> Parametrization:
    """Return a row of Table 2 by its name, or the user's own row as it is.

    Raises
    ------
    InputError
        An unknown name.
    """
    if isinstance(value, Parametrization):
        return value
    if not isinstance(value, str) or value not in TABLE_2:
        raise InputError("parametrization", value, f"one of {', '.join(TABLE_2)}, or a Parametrization")
    return TABLE_2[value]


@dataclass(frozen=True)
class Constants:
    """The constants of Appendix A in the units of this package: inputs xi = x / sqrt(d).

    Parameters
    ----------
    init_scale : s_l, the same for all l.
    rate_powers : (first, hidden, last) powers of the input dimension d in eta_l.
    """

    init_scale: float = math.sqrt(2.0)
    rate_powers: Three = (0.0, 0.0, 0.0)


# Appendix A: sigma_1 = sqrt(2/d), and eta_1 = eta/d (NTP), eta n/d (IP, muP) on x are s_1 = sqrt(2), eta_1 = eta on xi.
# SP's eta_1 = eta/n carries no 1/d, so that on xi it is eta d/n.
APPENDIX_A = {
    "sp": Constants(rate_powers=(1.0, 0.0, 0.0)),
    "ntp": Constants(),
    "ip": Constants(),
    "mup": Constants(),
}


def appendix_a(
    parametrization: str, network: Network, training: Training, dimension: int, learning_rate: float = 0.1
) -> tuple[Network, Training]:
    """Return the network and the training with the constants of Appendix A, for inputs divided by sqrt(d).

    Parameters
    ----------
    parametrization : a name of Table 2.
    network, training : whose init scales and learning rate are replaced.
    dimension : d
    learning_rate : eta, the paper's global learning rate.

    Raises
    ------
    InputError
        An unknown name, or a learning rate that is no number >= 0.
    """
    for value, kind in ((network, Network), (training, Training)):
        if not isinstance(value, kind):
            raise InputError(kind.__name__.lower(), value, f"a tpsim.{kind.__name__}")
    positive_int("dimension", dimension)
    name = resolve_parametrization(parametrization).name
    if name not in APPENDIX_A:
        raise InputError("parametrization", name, f"one of {', '.join(APPENDIX_A)}")
    row = APPENDIX_A[name]
    eta = float(per_layer("learning_rate", learning_rate, 0)[0])
    layers = network.depth + 1
    rates = eta * float(dimension) ** _spread(row.rate_powers, layers)
    return replace(network, init_scale=(row.init_scale,) * layers), replace(training, learning_rate=tuple(rates))


@dataclass(frozen=True)
class _Rescaled:
    """A learning rate, whatever its form, times one factor per layer."""

    training: Training
    factors: tuple[float, ...]

    def __call__(self, step: int) -> Array:
        return self.training.rates(step, len(self.factors) - 1) * np.array(self.factors)


def as_mup(
    parametrization: str | Parametrization, network: Network, training: Training, width: float
) -> tuple[Network, Training]:
    """Return the muP network and training that are, at width n, those of another parametrization.

        s_l -> s_l n^(b_muP - b),    eta_l -> eta_l n^(c_muP - c)

    Both describe the same initial law and the same updates of the same matrices, at this width only. `width=math.inf`
    gives the limit: of IP a network whose hidden matrices start at zero.

    Raises
    ------
    InputError
        An unknown name, or `math.inf` for a parametrization whose limit is not one of muP form (SP, NTP).
    """
    row = resolve_parametrization(parametrization)
    if row == MUP:
        return network, training
    scales = _powers(width, MUP.init, row.init, network.depth)
    factors = _powers(width, MUP.rate, row.rate, network.depth)
    if not (np.isfinite(scales).all() and np.isfinite(factors).all()):
        raise InputError("parametrization", row.name, "one whose limit has muP form (mup, ip)")
    own: Any = _Rescaled(training, tuple(factors))
    return replace(network, init_scale=tuple(network.scales * scales)), replace(training, learning_rate=own)


def _powers(width: float, ours: Three, theirs: Three, depth: int) -> Array:
    """width^(ours - theirs) for W^1..W^{L+1}; infinity to the power 0 is 1."""
    return np.float64(width) ** (_spread(ours, depth + 1) - _spread(theirs, depth + 1))


__all__ = [
    "APPENDIX_A",
    "MUP",
    "TABLE_2",
    "TITLES",
    "Constants",
    "Parametrization",
    "appendix_a",
    "as_mup",
    "resolve_parametrization",
]
