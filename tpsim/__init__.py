"""tpsim: what an infinitely wide network does when it is trained so that it learns features.

    from tpsim import Problem, Network, Training, simulate
    run = simulate(Problem(inputs, targets), Network(depth=3), Training(steps=200))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .errors import (
    CheckpointError,
    Diverged,
    FileError,
    InputError,
    Interrupted,
    Notice,
    RankError,
    ResourceError,
    RunStopped,
    TpsimError,
)

if TYPE_CHECKING:
    from . import core, data, plot, reference
    from .activations import Activation
    from .assumption import check_assumption
    from .losses import Loss
    from .problem import Network, Problem, Training
    from .results import load, save, standard_error, summary
    from .run import simulate

# Imported at the first use: numba, scipy and xarray take a second, which `tpsim --help` need not wait for.
_HOME = {
    "Activation": "activations", "check_assumption": "assumption", "Loss": "losses",
    "Network": "problem", "Problem": "problem", "Training": "problem",
    "load": "results", "save": "results", "standard_error": "results", "summary": "results", "simulate": "run",
}  # fmt: skip
_MODULES = ("core", "data", "plot", "reference")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "Activation",
    "CheckpointError",
    "Diverged",
    "FileError",
    "InputError",
    "Interrupted",
    "Loss",
    "Network",
    "Notice",
    "Problem",
    "RankError",
    "ResourceError",
    "RunStopped",
    "TpsimError",
    "Training",
    "check_assumption",
    "core",
    "data",
    "load",
    "plot",
    "reference",
    "save",
    "simulate",
    "standard_error",
    "summary",
]
