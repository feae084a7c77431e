"""The matrices of dense networks, many networks at a time: initial law, forward and backward pass, update in place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tpsim.parametrization import Parametrization
from tpsim.problem import Network

Array = np.ndarray
Layers = dict[int, Tensor]  # by the paper's layer index, 1..L or 1..L+1
Pointwise = Callable[[Tensor], Tensor]


def draw(
    network: Network, dimension: int, width: int, parametrization: Parametrization, dtype: torch.dtype, seed: int,
    replicas: range,
) -> Layers:  # fmt: skip
    """Return W^1..W^{L+1} at t = 0, of shapes (B, n, d), (B, n, n), (B, 1, n) (items 1-2 of Appendix B).

    Network k of width n draws standard normal numbers from `SeedSequence([seed, n, k])`, the same for every
    parametrization, and multiplies those of W^l by s_l n^-b_l.
    """
    n, depth = width, network.depth
    shapes = {1: (n, dimension)} | {l: (n, n) for l in range(2, depth + 1)} | {depth + 1: (1, n)}
    real = np.float64 if dtype == torch.float64 else np.float32
    arrays = {l: np.empty((len(replicas), *shape), dtype=real) for l, shape in shapes.items()}
    for row, replica in enumerate(replicas):
        generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, n, replica])))
        for array in arrays.values():
            generator.standard_normal(out=array[row], dtype=real)
    std = parametrization.init_std(network.scales, n)
    return {l: torch.from_numpy(array).mul_(float(std[l - 1])) for l, array in arrays.items()}


def forward(weights: Layers, phi: Pointwise, inputs: Tensor) -> tuple[Layers, Layers, Tensor]:
    """Return h^l, x^l as {l: (B, m, n)} and f (B, m) at the inputs (m, d); x^0 stands for the inputs. (B.1)"""
    depth = len(weights) - 1
    h: Layers = {}
    x: Layers = {0: inputs.expand(len(weights[1]), -1, -1)}
    for l in range(1, depth + 1):
        h[l] = torch.bmm(x[l - 1], weights[l].mT)
        x[l] = phi(h[l])
    return h, x, torch.bmm(x[depth], weights[depth + 1].mT)[..., 0]


def backward(weights: Layers, dphi: Pointwise, h: Layers) -> Layers:
    """Return df_i/dh^l_i as {l: (B, m, n)}; dh^l is `Parametrization.gradient_scale(n)` times it. (B.6)-(B.8)"""
    depth = len(weights) - 1
    dh: Layers = {}
    dx = weights[depth + 1]  # (B, 1, n): the same for all samples
    for l in range(depth, 0, -1):
        dh[l] = dx * dphi(h[l])
        if l > 1:
            dx = torch.bmm(dh[l], weights[l])
    return dh


def update(weights: Layers, rates: Array, chi: Tensor, x: Layers, dh: Layers) -> None:
    """Move every matrix in place: W^l -= rate_l sum_i chi_i (df_i/dh^l) (x^{l-1}_i)^T, chi (B, m)."""
    depth = len(weights) - 1
    if chi.dtype == torch.float32:
        with np.errstate(over="ignore"):  # infinite where it overflows, which torch refuses to do: the network diverges
            rates = rates.astype(np.float32)
    for l in range(1, depth + 1):
        weights[l].baddbmm_((chi[..., None] * dh[l]).mT, x[l - 1], alpha=-float(rates[l - 1]))
    weights[depth + 1].baddbmm_(chi[:, None, :], x[depth], alpha=-float(rates[depth]))
