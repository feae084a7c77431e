"""Networks of finite width by torch autograd, from the formulas of Table 2 and of Appendix A written out by hand.

Source: Chen et al. 2025, Table 2 (variances and rates "up to constants": times s_l^2 and eta_l) and Appendix A.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Array = np.ndarray
LayerRule = Callable[[int], tuple[float, float, float]]  # of n: of W^1, of W^2..W^L, of W^{L+1}

VARIANCES: dict[str, LayerRule] = {
    "sp": lambda n: (1, 1 / n, 1 / n),
    "ntp": lambda n: (1, 1 / n, 1 / n),
    "ip": lambda n: (1, 1 / n**2, 1 / n**2),
    "mup": lambda n: (1, 1 / n, 1 / n**2),
}
RATES: dict[str, LayerRule] = {
    "sp": lambda n: (1 / n, 1 / n, 1 / n),
    "ntp": lambda n: (1, 1 / n, 1 / n),
    "ip": lambda n: (n, 1, 1 / n),
    "mup": lambda n: (n, 1, 1 / n),
}
NAMES = tuple(VARIANCES)

PHI: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "erf": torch.erf,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "softplus": functional.softplus,
    "relu": functional.relu,
    "identity": lambda h: 1.0 * h,
}
LOSS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "squared": lambda f, y: (f - y) ** 2,
    "logistic": lambda f, y: functional.softplus(-y * f),
}


def appendix_a(name: str, n: int, d: int, L: int, eta: float = 0.1) -> tuple[list[float], list[float]]:
    """Return sigma_l and eta_l, l = 1..L+1, on raw inputs, as printed in Appendix A (there for L = 3)."""
    fan_in = [d, *[n] * L]  # n_{l-1}
    if name == "sp":
        return [(2 / k) ** 0.5 for k in fan_in], [eta / n for _ in fan_in]
    if name == "ntp":
        return [(2 / k) ** 0.5 for k in fan_in], [eta / k for k in fan_in]
    rates = [eta * n / d, *[eta] * (L - 1), eta / n]
    if name == "ip":
        return [(2 / d) ** 0.5, *[2**0.5 / n] * L], rates
    return [(2 / d) ** 0.5, *[(2 / n) ** 0.5] * (L - 1), 2**0.5 / n], rates


def standard_normals(seed: int, width: int, replica: int, inputs: int, depth: int) -> list[Array]:
    """What network `replica` of this seed and width draws, in order: (n, d), (n, n), ..., (1, n)."""
    stream = np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, width, replica])))
    shapes = [(width, inputs), *[(width, width)] * (depth - 1), (1, width)]
    return [stream.standard_normal(shape) for shape in shapes]


def train(
    weights: Sequence[Array], rates: Sequence[float], inputs: Array, targets: Array, activation: str, loss: str,
    batches: Sequence[Sequence[int]], mean: bool,
) -> tuple[Array, list[Array]]:  # fmt: skip
    """SGD on the loss of one network. Returns f (T+1, m), and the matrices after the last step."""
    parameters = [torch.tensor(w).requires_grad_() for w in weights]
    X, y = torch.tensor(inputs), torch.tensor(targets)
    outputs = []
    for batch in [*batches, None]:
        x = X
        for w in parameters[:-1]:
            x = PHI[activation](x @ w.T)
        f = (x @ parameters[-1].T)[:, 0]
        outputs.append(f.detach().numpy().copy())
        if batch is not None:
            values = LOSS[loss](f[batch], y[batch])
            gradients = torch.autograd.grad(values.mean() if mean else values.sum(), parameters)
            with torch.no_grad():
                for w, gradient, rate in zip(parameters, gradients, rates, strict=True):
                    w -= rate * gradient
    return np.stack(outputs), [w.detach().numpy() for w in parameters]
