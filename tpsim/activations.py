"""Activations phi and their derivatives: built-in (one fused kernel each) or the user's own pair of NumPy callables."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import erf, expit, ndtr

from .core import elementwise
from .errors import InputError

Array = np.ndarray
Pointwise = Callable[[Array], Array]


@dataclass(frozen=True)
class Activation:
    """An elementwise nonlinearity.

    Parameters
    ----------
    name : str
    phi, dphi : callable
        phi and phi', each of one array, elementwise, returning a float64 array of the same shape. Of a built-in
        activation these are the slow twins of its kernel.
    smooth : bool
        False where phi' jumps (relu): Gauss-Hermite quadrature then needs more nodes.
    """

    name: str
    phi: Pointwise
    dphi: Pointwise
    smooth: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise InputError("name", self.name, "a string")
        for field, function in (("phi", self.phi), ("dphi", self.dphi)):
            if not callable(function):
                raise InputError(field, function, "an elementwise function of arrays")
        if not isinstance(self.smooth, bool | np.bool_):
            raise InputError("smooth", self.smooth, "True or False")

    @property
    def builtin(self) -> bool:
        """Whether this is the library's activation of that name, which has a kernel."""
        return ACTIVATIONS.get(self.name) == self

    @property
    def kernel(self) -> str | Callable[[Array, Array, Array], None]:
        """What a pass over the particles takes: the name of a kernel, or a function that writes phi and phi'."""
        return self.name if self.builtin else self.evaluate

    def evaluate(self, h: Array, x: Array, slope: Array) -> None:
        """Write x = phi(h) and slope = phi'(h).

        Parameters
        ----------
        h, x, slope : (vectors, M) float64, C-contiguous, particles last; x and slope are overwritten.

        Raises
        ------
        InputError
            Arrays of other shapes; a user's function that returns a wrong shape or something else than float64.

        Error: built-in, 1e-15 max(1, |phi|), bit-identical for any number of threads. Cost: one pass.
        """
        if h.ndim != 2 or not h.shape == x.shape == slope.shape:
            raise InputError("h, x, slope", f"<shapes {h.shape}, {x.shape}, {slope.shape}>", "one shape (vectors, M)")
        if self.builtin:
            getattr(elementwise, self.name)(h, x, slope)
        else:
            x[...] = _checked("phi", self.phi, h)
            slope[...] = _checked("phi'", self.dphi, h)


def _checked(part: str, function: Pointwise, h: Array) -> Array:
    view = h.view()
    view.flags.writeable = False  # the user's function must not change the fields
    try:
        value = function(view)
    except Exception as error:  # whatever the user's function raises
        raise InputError("activation", f"<{part} raised {error!r}>", "an elementwise function of arrays") from error
    if not isinstance(value, np.ndarray) or value.shape != h.shape:
        raise InputError(
            "activation", f"<{part} gave {_kind(value)} for shape {h.shape}>", "an array of the argument's shape"
        )
    if value.dtype != np.float64:
        raise InputError("activation", f"<{part} gave {_kind(value)}>", "real float64 values")
    return value


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}, {value.dtype}"
    return f"a {type(value).__name__}"


def _logistic_slope(h: Array) -> Array:
    e = np.exp(-np.abs(h))  # even in h: never overflows
    return e / (1.0 + e) ** 2


def _dtanh(h: Array) -> Array:
    return 4.0 * _logistic_slope(2.0 * np.clip(h, -1e3, 1e3))


def _derf(h: Array) -> Array:
    return 2.0 / np.sqrt(np.pi) * np.exp(-(np.clip(h, -40.0, 40.0) ** 2))


def _silu(h: Array) -> Array:
    return np.maximum(h, -800.0) * expit(h)


def _dsilu(h: Array) -> Array:
    return expit(h) + np.clip(h, -800.0, 800.0) * _logistic_slope(h)


def _gelu(h: Array) -> Array:
    return np.maximum(h, -50.0) * ndtr(h)


def _dgelu(h: Array) -> Array:
    z = np.clip(h, -50.0, 50.0)
    return ndtr(h) + z * np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)


def _softplus(h: Array) -> Array:
    return np.maximum(h, 0.0) + np.log1p(np.exp(-np.abs(h)))


def _relu(h: Array) -> Array:
    return np.maximum(h, 0.0)


def _drelu(h: Array) -> Array:
    return np.heaviside(h, 0.0)  # phi'(0) = 0


def _identity(h: Array) -> Array:
    return np.array(h, dtype=np.float64)


ACTIVATIONS: dict[str, Activation] = {
    activation.name: activation
    for activation in (
        Activation("tanh", np.tanh, _dtanh),
        Activation("sigmoid", expit, _logistic_slope),
        Activation("erf", erf, _derf),
        Activation("silu", _silu, _dsilu),
        Activation("gelu", _gelu, _dgelu),
        Activation("softplus", _softplus, expit),
        Activation("relu", _relu, _drelu, smooth=False),
        Activation("identity", _identity, np.ones_like),
    )
}


def resolve_activation(activation: str | Activation | tuple[Pointwise, Pointwise]) -> Activation:
    """Return the `Activation` that a name, a pair (phi, phi') or an `Activation` stands for.

    Raises
    ------
    InputError
        An unknown name, something that is not a pair of callables, or a pair that does not map a float64 array to a
        float64 array of the same shape.
    """
    if isinstance(activation, str) and activation in ACTIVATIONS:
        return ACTIVATIONS[activation]
    if isinstance(activation, Activation):
        own = activation
    elif isinstance(activation, tuple) and len(activation) == 2 and all(callable(part) for part in activation):
        own = Activation("user:" + getattr(activation[0], "__name__", "phi"), *activation)
    else:
        allowed = f"one of {sorted(ACTIVATIONS)}, an Activation, or a pair of callables (phi, derivative)"
        raise InputError("activation", activation, allowed)
    if not own.builtin:
        _try("phi", own.phi)
        _try("phi'", own.dphi)
    return own


def _try(part: str, function: Pointwise) -> None:
    grid = np.linspace(-2.0, 2.0, 6).reshape(2, 3)
    with np.errstate(all="ignore"):
        whole, corner = _checked(part, function, grid), _checked(part, function, grid[1:, 1:])
    if not np.allclose(whole[1:, 1:], corner, rtol=1e-9, atol=1e-12, equal_nan=True):
        allowed = "an elementwise, deterministic function"
        raise InputError("activation", f"<{part} changes with the rest of the array>", allowed)


def fingerprint(*functions: Callable[..., Array], targets: Array | None = None) -> str:
    """Return 16 hexadecimal digits that tell functions apart by their values, to nine digits, on a fixed grid.

    Parameters
    ----------
    functions : callable
        E.g. phi, phi', or a loss and its derivative.
    targets : (m,), optional
        What a loss has as its second argument; the grid is 257 points of [-8, 8].
    """
    grid = np.linspace(-8.0, 8.0, 257)
    points: tuple[Array, ...] = (grid,)
    if targets is not None:
        seconds = np.unique(targets)
        points = np.repeat(grid, seconds.size), np.tile(seconds, grid.size)
    digest = hashlib.sha256()
    for function in functions:
        with np.errstate(all="ignore"):
            values = np.broadcast_to(np.asarray(function(*points), dtype=np.float64), points[0].shape)
        values = np.where(np.abs(values) < 1e-12, 0.0, values)  # rounding noise of another machine
        digest.update(" ".join(f"{value:.8e}" for value in values).encode())
    return digest.hexdigest()[:16]
