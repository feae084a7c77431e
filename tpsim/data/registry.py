"""The data sources by name, as the [data] section of a configuration asks for them."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from ..problem import Problem
from . import images, tables
from .transform import STANDARDISATIONS, check_standardise, scale_factor

Array = np.ndarray
MAX_CLASSES = 20


@dataclass(frozen=True)
class Source:
    """A function that returns a `Problem`, and the units of its raw numbers (before `standardise` and `scale`)."""

    read: Callable[..., Problem]
    units: str

    @property
    def options(self) -> dict[str, Any]:
        """Option names with their defaults; `inspect.Parameter.empty` where there is none."""
        return {name: option.default for name, option in inspect.signature(self.read).parameters.items()}


SOURCES = {
    "digits": Source(images.digits, "pixels / 16, in [0, 1]"),
    "cifar10": Source(images.cifar10, "pixels / 255, in [0, 1]"),
    "cifar100": Source(images.cifar100, "pixels / 255, in [0, 1]"),
    "mnist": Source(images.mnist, "bytes / 255, in [0, 1]; other IDX types as they are"),
    "csv": Source(tables.csv, "numbers as in the file"),
    "npz": Source(tables.npz, "numbers as in the file"),
    "gaussian_mixture": Source(tables.gaussian_mixture, "unit variance around the two means"),
}


def resolve_options(source: str, **options: Any) -> dict[str, Any]:
    """Return all options of a source, the defaults filled in.

    Raises
    ------
    InputError
        An unknown source or option, or a required option that is missing; the message names what is allowed.
    """
    if not isinstance(source, str) or source not in SOURCES:
        raise InputError("data.source", source, f"one of {', '.join(SOURCES)}")
    known = SOURCES[source].options
    for name, value in options.items():
        if name not in known:
            raise InputError(f"data.{name}", value, f"source {source} takes {', '.join(known)}")
    resolved = {**known, **options}
    for name, value in resolved.items():
        if value is inspect.Parameter.empty:
            raise InputError(f"data.{name}", "<nothing>", f"source {source} needs it")
    return resolved


def load(source: str, **options: Any) -> Problem:
    """Return the problem that a source and its options describe: `SOURCES[source].read(**options)`.

    Raises
    ------
    InputError, FileError
        An unknown source or option, a value out of range, a missing or damaged file.
    """
    resolved = resolve_options(source, **options)
    return SOURCES[source].read(**resolved)


def explain(source: str, **options: Any) -> str:
    """Return one line that says what is done to the raw numbers of a source."""
    resolved = resolve_options(source, **options)
    check_standardise(resolved["standardise"])
    factor = scale_factor(resolved["scale"], 1)
    scale = "divided by sqrt(d)" if resolved["scale"] == "sqrt_d" else f"times {factor:g}"
    return f"{source}: {SOURCES[source].units}; {STANDARDISATIONS[resolved['standardise']]}; {scale}"


def describe(problem: Problem) -> dict[str, Any]:
    """Return m, d, p, the class counts, and the sha256 of the C-ordered little-endian float64 bytes of each array.

    `classes` is {target: count}, or None where the targets take more than 20 values.
    """
    if not isinstance(problem, Problem):
        raise InputError("problem", problem, "a tpsim.Problem")
    report: dict[str, Any] = {
        "m": len(problem.inputs),
        "d": problem.inputs.shape[1],
        "p": 0 if problem.probes is None else len(problem.probes),
    }
    for name in ("inputs", "targets", "probes", "probe_targets"):
        array = getattr(problem, name)
        if array is not None:
            report[f"sha256_{name}"] = hashlib.sha256(np.ascontiguousarray(array, "<f8").tobytes()).hexdigest()
    values, counts = np.unique(problem.targets, return_counts=True)
    few = len(values) <= MAX_CLASSES
    report["classes"] = {float(v): int(c) for v, c in zip(values, counts, strict=True)} if few else None
    return report
