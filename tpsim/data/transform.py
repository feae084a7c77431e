"""What the sources share: scaling, standardisation, and the choice of two balanced classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from ..errors import InputError
from ..problem import Problem, positive_int

Array = np.ndarray
Samples = tuple[Any, Any]  # inputs and targets, or two Nones
NO_SAMPLES: Samples = (None, None)
Scale = Literal["none", "sqrt_d"] | float
Standardise = Literal["none", "feature", "sample"]
STANDARDISATIONS = {
    "none": "not standardised",
    "feature": "each feature standardised by the training inputs",
    "sample": "each input standardised by itself",
}


def scale_factor(scale: Any, dimension: int) -> float:
    """Return the number that inputs of dimension d are multiplied by: 1, 1/sqrt(d), or `scale` itself.

    Raises
    ------
    InputError
        Anything but "none", "sqrt_d" or a finite number > 0.
    """
    if isinstance(scale, str) and scale in ("none", "sqrt_d"):
        return 1.0 if scale == "none" else 1.0 / math.sqrt(dimension)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not (math.isfinite(scale) and scale > 0):
        raise InputError("scale", scale, '"none", "sqrt_d" or a number > 0')
    return float(scale)


def make_problem(train: Samples, probes: Samples, scale: Any, standardise: Any) -> Problem:
    """Standardise, then scale, with the statistics of the training inputs alone.

    Raises
    ------
    InputError
        An unknown option, or data that `Problem` refuses.
    """
    raw = Problem(*train, *probes)  # shapes and finiteness before any arithmetic
    check_standardise(standardise)
    factor = scale_factor(scale, raw.inputs.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):  # `Problem` refuses what overflows
        change = _standardiser(raw.inputs, standardise)
        scaled = change(raw.inputs) * factor
        scaled_probes = None if raw.probes is None else change(raw.probes) * factor
    return Problem(scaled, raw.targets, scaled_probes, raw.probe_targets)


def check_standardise(standardise: Any) -> None:
    """Raise `InputError` for anything but "none", "feature" or "sample"."""
    if not isinstance(standardise, str) or standardise not in STANDARDISATIONS:
        raise InputError("standardise", standardise, '"none", "feature" or "sample"')


def _standardiser(train: Array, standardise: Any) -> Callable[[Array], Array]:
    if standardise == "none":
        return lambda x: x
    if standardise == "feature":
        mean, deviation = _statistics(train, axis=0)
        return lambda x: (x - mean) / deviation
    return _standardise_each


def _standardise_each(x: Array) -> Array:
    mean, deviation = _statistics(x, axis=1)
    return (x - mean[:, None]) / deviation[:, None]


def _statistics(x: Array, axis: int) -> tuple[Array, Array]:
    """Return mean and standard deviation (divisor m); where all values are equal, that value and 1: only centred."""
    low = x.min(axis=axis)
    constant = low == x.max(axis=axis)
    mean, deviation = np.where(constant, low, x.mean(axis=axis)), np.where(constant, 1.0, x.std(axis=axis))
    if not (np.isfinite(mean) & np.isfinite(deviation) & (deviation > 0)).all():
        size = f"<values up to {np.abs(x).max():.3g}>"
        raise InputError("inputs", size, "values whose squares neither overflow nor vanish, to be standardised")
    return mean, deviation


def two_classes(classes: Any, names: Sequence[str]) -> tuple[int, int]:
    """Return the indices of two different classes, given as indices or names.

    Raises
    ------
    InputError
        Not two different entries of `names`.
    """
    allowed = f"two different classes of 0..{len(names) - 1}"
    if names[0] != "0":
        allowed += f" or {', '.join(names)}"
    if isinstance(classes, str) or not isinstance(classes, Sequence) or len(classes) != 2:
        raise InputError("classes", classes, allowed)
    found = [names.index(c) if isinstance(c, str) and c in names else c for c in classes]
    if any(isinstance(c, bool) or not isinstance(c, int | np.integer) or not 0 <= c < len(names) for c in found):
        raise InputError("classes", classes, allowed)
    if found[0] == found[1]:
        raise InputError("classes", classes, allowed)
    return int(found[0]), int(found[1])


def balanced(labels: Array, classes: tuple[int, int], count: Any, probes: Any, seed: Any) -> tuple[Array, Array]:
    """Return disjoint indices (train, probes), each balanced between two classes (the first gets the odd one).

    Each class is permuted once; training samples come from the front and probes follow them, so the training set does
    not depend on the number of probes. Both lists are then shuffled.

    Raises
    ------
    InputError
        More samples asked for than there are.
    """
    for field, value, minimum in (("count", count, 1), ("probes", probes, 0), ("seed", seed, 0)):
        positive_int(field, value, minimum)
    streams = [np.random.default_rng([seed, k]) for k in range(4)]
    train, rest = [], []
    for k, label in enumerate(classes):
        members = streams[k].permutation(np.flatnonzero(labels == label))
        first, second = ((total + 1 - k) // 2 for total in (count, probes))
        if first + second > len(members):
            room = f"class {label} has {len(members)} samples, training and probes together take {first + second}"
            raise InputError(*(("count", count) if first > len(members) else ("probes", probes)), f"fewer: {room}")
        train.append(members[:first])
        rest.append(members[first : first + second])
    return streams[2].permutation(np.concatenate(train)), streams[3].permutation(np.concatenate(rest))


def signs(labels: Array, classes: tuple[int, int]) -> Array:
    """Return the targets: -1 for the first class, +1 for the second."""
    return np.where(labels == classes[0], -1.0, 1.0)
