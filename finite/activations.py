"""Elementwise nonlinearities and their derivatives in torch."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from tpsim.activations import Activation

Pair = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]


def _dtanh(h: Tensor) -> Tensor:
    return 1.0 - torch.tanh(h) ** 2


def _dsigmoid(h: Tensor) -> Tensor:
    p = torch.sigmoid(h)
    return p * (1.0 - p)


def _derf(h: Tensor) -> Tensor:
    return (2.0 / math.sqrt(math.pi)) * torch.exp(-(h**2))


def _dsilu(h: Tensor) -> Tensor:
    p = torch.sigmoid(h)
    return p * (1.0 + h * (1.0 - p))


def _gelu(h: Tensor) -> Tensor:
    return h * torch.special.ndtr(h)


def _dgelu(h: Tensor) -> Tensor:
    return torch.special.ndtr(h) + h * torch.exp(-(h**2) / 2) / math.sqrt(2 * math.pi)


def _softplus(h: Tensor) -> Tensor:
    return torch.logaddexp(h, torch.zeros((), dtype=h.dtype))


def _drelu(h: Tensor) -> Tensor:
    return (h > 0).to(h.dtype)


NATIVE: dict[str, Pair] = {
    "tanh": (torch.tanh, _dtanh),
    "sigmoid": (torch.sigmoid, _dsigmoid),
    "erf": (torch.erf, _derf),
    "silu": (functional.silu, _dsilu),
    "gelu": (_gelu, _dgelu),
    "softplus": (_softplus, torch.sigmoid),
    "relu": (torch.relu, _drelu),
    "identity": (torch.clone, torch.ones_like),
}


def in_torch(activation: Activation) -> Pair:
    """Return (phi, phi') on tensors: native for the built-in names, through numpy for a user's own pair."""
    if activation.builtin:
        return NATIVE[activation.name]
    return _through_numpy(activation.phi), _through_numpy(activation.dphi)


def _through_numpy(function: Callable) -> Callable[[Tensor], Tensor]:
    return lambda h: torch.from_numpy(function(h.double().numpy())).to(h)
