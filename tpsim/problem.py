"""What the user gives: the data, the network, and how it is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .activations import Activation, resolve_activation
from .errors import InputError
from .losses import Loss, resolve_loss

Array = np.ndarray


def _matrix(field: str, value: Any, ndim: int, columns: int | None = None) -> Array:
    shape = {1: "(m,)", 2: "(m, d)"}[ndim]
    try:
        if np.iscomplexobj(value) or np.ma.isMaskedArray(value):
            raise TypeError
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, MemoryError, RecursionError, RuntimeError):
        raise InputError(field, f"<{type(value).__name__}>", f"a plain real array of shape {shape}") from None
    if array.ndim != ndim:
        raise InputError(field, f"<array of shape {array.shape}>", f"an array of shape {shape}")
    if array.size == 0:
        raise InputError(field, f"<array of shape {array.shape}>", "at least one sample and one feature")
    if columns is not None and array.shape[1] != columns:
        raise InputError(field, f"<array of shape {array.shape}>", f"{columns} columns, as inputs has")
    if not np.isfinite(array).all():
        where = tuple(int(k) for k in np.argwhere(~np.isfinite(array))[0])
        raise InputError(field, f"<{array[where]} at {where}>", "finite numbers only")
    array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class Problem:
    """A dataset, used exactly as given: no hidden scaling.

    Parameters
    ----------
    inputs : (m, d) training inputs xi_i.
    targets : (m,) targets y_i (+-1 for the logistic loss).
    probes : (p, d), optional
        Inputs that are only looked at: training is bit-identical with and without them.
    probe_targets : (p,), optional
        Targets of the probes, used for reports only.

    Raises
    ------
    InputError
        Wrong shapes, empty sets, NaN or infinite values.
    """

    inputs: Array
    targets: Array
    probes: Array | None = None
    probe_targets: Array | None = None

    def __post_init__(self) -> None:
        inputs = _matrix("inputs", self.inputs, 2)
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "targets", _matrix("targets", self.targets, 1))
        if len(self.targets) != len(inputs):
            raise InputError("targets", f"<{len(self.targets)} values>", f"{len(inputs)} values, one per input")
        if self.probes is not None:
            object.__setattr__(self, "probes", _matrix("probes", self.probes, 2, columns=inputs.shape[1]))
        if self.probe_targets is not None:
            if self.probes is None:
                raise InputError("probe_targets", "<array>", "only together with probes")
            object.__setattr__(self, "probe_targets", _matrix("probe_targets", self.probe_targets, 1))
            if len(self.probe_targets) != len(self.probes):
                raise InputError(
                    "probe_targets", f"<{len(self.probe_targets)} values>", f"{len(self.probes)} values, one per probe"
                )

    @property
    def samples(self) -> int:
        return len(self.inputs)


def positive_int(field: str, value: Any, minimum: int = 1) -> int:
    """Return `value` as an int >= minimum, or raise `InputError`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not minimum <= value < 2**63:
        large = isinstance(value, int) and value >= 2**63
        raise InputError(field, value, f"an integer >= {minimum}" + (" and below 2^63" if large else ""))
    return int(value)


def per_layer(field: str, value: Any, depth: int) -> Array:
    """Return a scalar or L+1 values as an array (L+1,): entry l-1 belongs to W^l."""
    try:
        if np.iscomplexobj(value) or np.ma.isMaskedArray(value):
            raise TypeError
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, MemoryError, RecursionError, RuntimeError):
        raise InputError(field, value, f"a number >= 0, or {depth + 1} of them") from None
    if array.ndim == 0:
        try:
            array = np.full(depth + 1, float(array))
        except (MemoryError, ValueError, OverflowError):
            raise InputError("depth", depth, "fewer layers: one number for each does not fit into memory") from None
    if array.shape != (depth + 1,):
        raise InputError(field, value, f"a scalar or {depth + 1} values, one per weight matrix W^1..W^{depth + 1}")
    if not np.isfinite(array).all() or (array < 0).any():
        raise InputError(field, value, "finite numbers >= 0")
    return array


@dataclass(frozen=True, eq=False)
class Network:
    """An L-hidden-layer MLP with scalar output (B.1).

    Parameters
    ----------
    depth : int
        L >= 1, the number of hidden layers.
    activation : str, Activation or (phi, dphi)
        The nonlinearity; a pair of elementwise numpy callables is the user's own.
    init_scale : float or L+1 floats
        s_l: W^1 ~ N(0, s_1^2), W^l ~ N(0, s_l^2 / n) for l = 2..L, n W^{L+1} ~ N(0, s_{L+1}^2).
    """

    depth: int = 3
    activation: str | Activation | tuple[Callable[[Array], Array], Callable[[Array], Array]] = "silu"
    init_scale: float | Sequence[float] = 1.0

    def __post_init__(self) -> None:
        positive_int("depth", self.depth)
        resolve_activation(self.activation)
        per_layer("init_scale", self.init_scale, self.depth)

    @property
    def phi(self) -> Activation:
        """The resolved activation."""
        return resolve_activation(self.activation)

    @property
    def scales(self) -> Array:
        """s_1 .. s_{L+1} as an array (L+1,)."""
        return per_layer("init_scale", self.init_scale, self.depth)


Batches = None | Sequence[Sequence[int]] | dict[str, int]


@dataclass(frozen=True, eq=False)
class Training:
    """SGD for a number of steps.

    Parameters
    ----------
    steps : int
        T >= 0.
    learning_rate : float, L+1 floats, or a callable of the step that returns either
        eta_l in muP units: the rates of W^1, W^l and W^{L+1} are eta_1 n, eta_l and eta_{L+1} / n.
    loss : "squared" (chi = 2(f - y)), "logistic" (targets +-1), or a pair (value, derivative) of callables of (f, y).
    reduction : "sum" (the paper's equations) or "mean" (divides by the batch's size).
    batches : None (full batch), one index list per step, or {"size": b, "seed": k} (shuffled epochs).
    """

    steps: int = 200
    learning_rate: float | Sequence[float] | Callable[[int], Any] = 0.1
    loss: str | Loss | tuple[Callable[..., Array], Callable[..., Array]] = "squared"
    reduction: Literal["sum", "mean"] = "sum"
    batches: Batches = None

    def __post_init__(self) -> None:
        positive_int("steps", self.steps, 0)
        resolve_loss(self.loss)
        if not isinstance(self.reduction, str) or self.reduction not in ("sum", "mean"):
            raise InputError("reduction", self.reduction, "'sum' or 'mean'")
        if not callable(self.learning_rate):
            rate = self.learning_rate
            size = max(len(rate) - 1, 0) if hasattr(rate, "__len__") and np.shape(rate[:1]) == (1,) else 0  # type: ignore[index]
            per_layer("learning_rate", rate, size)
        self._check_batches()

    def _check_batches(self) -> None:
        batches = self.batches
        if batches is None:
            return
        if isinstance(batches, dict):
            if set(batches) - {"size", "seed"} or "size" not in batches:
                raise InputError("batches", batches, 'a table with "size" and optionally "seed"')
            positive_int("batches.size", batches["size"])
            positive_int("batches.seed", batches.get("seed", 0), 0)
            return
        listed = isinstance(batches, Sequence | np.ndarray) and not isinstance(batches, str)
        if not listed or getattr(batches, "ndim", None) == 0 or len(batches) < self.steps:
            allowed = f"None, a {{size, seed}} table, or at least steps={self.steps} index lists"
            raise InputError("batches", batches, allowed)

    @property
    def criterion(self) -> Loss:
        """The resolved loss."""
        return resolve_loss(self.loss)

    def evaluate(self, f: Array, y: Array) -> tuple[Any, Array]:
        """Return the loss over the last axis of f and y, (...,), and its derivative in f, (..., m)."""
        value, derivative = self.criterion.value(f, y), self.criterion.derivative(f, y)
        if self.reduction == "mean":
            return value.mean(axis=-1), derivative / f.shape[-1]
        return value.sum(axis=-1), derivative

    def rates(self, step: int, depth: int) -> Array:
        """eta_1 .. eta_{L+1} at `step`, an array (L+1,)."""
        value = self._asked(step) if callable(self.learning_rate) else self.learning_rate
        return per_layer("learning_rate", value, depth)

    def _asked(self, step: int) -> Any:
        """What the user's function says."""
        try:
            return self.learning_rate(step)  # type: ignore[operator]
        except Exception as error:
            what = f"<{type(error).__name__}: {error} at step {step}>"
            raise InputError("learning_rate", what, "a function of the step that returns a number, or L+1") from error

    def batch_indices(self, samples: int) -> Iterator[Array]:
        """Yield B_0, B_1, ...: sorted sample indices, one array per step (Definition 3.1).

        Raises
        ------
        InputError
            An index outside 0..m-1, a repeated index, an empty batch, or a size larger than m.
        """
        if self.batches is None:
            for _ in range(self.steps):
                yield np.arange(samples)
        elif isinstance(self.batches, dict):
            yield from _shuffled_epochs(samples, self.batches["size"], self.batches.get("seed", 0), self.steps)
        else:
            for step in range(self.steps):
                yield _index_list(self.batches[step], step, samples)


def _shuffled_epochs(samples: int, size: int, seed: int, steps: int) -> Iterator[Array]:
    if size > samples:
        raise InputError("batches.size", size, f"at most the number of samples, {samples}")
    per_epoch = math.ceil(samples / size)
    for step in range(steps):
        epoch, position = divmod(step, per_epoch)
        if position == 0:  # every sample once per epoch; the last batch may be smaller
            order = np.random.default_rng([seed, epoch]).permutation(samples)
        yield np.sort(order[position * size : (position + 1) * size])


def _index_list(batch: Any, step: int, samples: int) -> Array:
    field = f"batches[{step}]"
    try:
        index = np.atleast_1d(np.asarray(batch))
    except ValueError:
        index = np.empty(0)
    if index.ndim != 1 or index.size == 0 or index.dtype.kind not in "iu":
        raise InputError(field, batch, "a non-empty list of sample indices")
    if index.min() < 0 or index.max() >= samples:
        raise InputError(field, batch, f"indices 0..{samples - 1}")
    if len(np.unique(index)) != index.size:
        raise InputError(field, batch, "each index at most once")
    return np.sort(index)
