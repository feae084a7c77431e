"""How initial variances and learning rates of a dense network scale with its width."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Parametrization:
    """Powers of the width n for the first (W^1), the hidden (W^2..W^L) and the last (W^{L+1}) matrices.

    Entries of W^l are drawn from N(0, (s_l n^-b)^2) and W^l moves along its gradient at the rate eta_l n^-c.
    Forward multipliers are absorbed in both, as the redundancy of abc-parametrizations (TP4) allows.

    Parameters
    ----------
    name : str
    init : (first, hidden, last) exponents b.
    rate : (first, hidden, last) exponents c.
    """

    name: str
    init: tuple[float, float, float]
    rate: tuple[float, float, float]

    def init_std(self, scales: Array, width: int) -> Array:
        """Standard deviations of the entries of W^1..W^{L+1} for the scales s_1..s_{L+1}, an array (L+1,)."""
        return scales * width ** -_spread(self.init, len(scales))

    def rates(self, eta: Array, width: int) -> Array:
        """Learning rates of W^1..W^{L+1} for the rates eta_1..eta_{L+1}, an array (L+1,)."""
        return eta * width ** -_spread(self.rate, len(eta))


def _spread(exponents: tuple[float, float, float], layers: int) -> Array:
    first, hidden, last = exponents
    return np.array([first, *[hidden] * (layers - 2), last])


# Appendix B, items 1-2, with the rates eta n, eta, eta / n (TP4, Table 1)
MUP = Parametrization("mup", init=(0.0, 0.5, 1.0), rate=(-1.0, 0.0, 1.0))
