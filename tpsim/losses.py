"""Losses and their error signals chi = dLoss/df (Definition 3.1, Remark 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .errors import InputError

Array = np.ndarray
ValueAndDerivative = tuple[Callable[[Array, Array], Array], Callable[[Array, Array], Array]]


@dataclass(frozen=True)
class Loss:
    """A per-sample loss and its derivative in f.

    Parameters
    ----------
    name : str
    value, derivative : callable of (f, y), arrays of equal shape, elementwise.
    """

    name: str
    value: Callable[[Array, Array], Array]
    derivative: Callable[[Array, Array], Array]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise InputError("name", self.name, "a string")
        for field, function in (("value", self.value), ("derivative", self.derivative)):
            if not callable(function):
                raise InputError(field, function, "an elementwise function of (f, y)")


def _sigmoid(a: Array) -> Array:
    e = np.exp(-np.abs(a))  # never overflows
    return np.where(a >= 0, 1.0, e) / (1.0 + e)


SQUARED = Loss("squared", lambda f, y: (f - y) ** 2, lambda f, y: 2.0 * (f - y))
# Remark 3.2: log(1 + exp(-y f)), chi = -y / (1 + exp(y f)); targets are +-1
LOGISTIC = Loss("logistic", lambda f, y: np.logaddexp(0.0, -y * f), lambda f, y: -y * _sigmoid(-y * f))

LOSSES = {loss.name: loss for loss in (SQUARED, LOGISTIC)}


def _try(part: str, function: Callable[[Array, Array], Array]) -> None:
    """Refuse a user's function of (f, y) that is not elementwise on real arrays of a few signs and sizes."""
    f, y = np.array([-1.5, -0.4, 0.0, 0.3, 0.9, 2.0]), np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    f.flags.writeable = y.flags.writeable = False
    field, allowed = f"loss {part}", "an elementwise function of (f, y), real arrays of equal shape"
    try:
        whole, one = np.asarray(function(f, y)), np.asarray(function(f[2:3], y[2:3]))
    except Exception as error:
        raise InputError(field, f"<{type(error).__name__}: {error}>", allowed) from error
    if whole.shape != f.shape or whole.dtype.kind != "f" or one.shape != (1,):
        raise InputError(field, f"<{whole.dtype} array of shape {whole.shape} for {f.shape}>", allowed)
    if not np.isfinite(whole).all() or not np.allclose(one, whole[2:3], rtol=1e-9, atol=0):
        raise InputError(field, "<values that depend on the other samples, or are not finite>", allowed)


def resolve_loss(loss: str | Loss | ValueAndDerivative) -> Loss:
    """Return the `Loss` that a name, a pair (value, derivative) or a `Loss` stands for.

    Raises
    ------
    InputError
        For an unknown name or something that is not a pair of callables.
    """
    if isinstance(loss, Loss):
        if loss not in LOSSES.values():
            _try("value", loss.value)
            _try("derivative", loss.derivative)
        return loss
    if isinstance(loss, str) and loss in LOSSES:
        return LOSSES[loss]
    if isinstance(loss, tuple) and len(loss) == 2 and all(callable(part) for part in loss):
        for part, function in zip(("value", "derivative"), loss, strict=True):
            _try(part, function)
        return Loss(getattr(loss[0], "__name__", "user"), *loss)
    raise InputError("loss", loss, f"one of {sorted(LOSSES)}, or a pair of callables (value, derivative)")
