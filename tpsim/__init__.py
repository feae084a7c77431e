"""tpsim: what an infinitely wide network does when it is trained so that it learns features.

    from tpsim import Problem, Network, Training, simulate
    run = simulate(Problem(inputs, targets), Network(depth=3), Training(steps=200))
"""

from .activations import Activation
from .errors import Diverged, FileError, InputError, Notice, RankError, ResourceError, RunStopped, TpsimError
from .losses import Loss
from .problem import Network, Problem, Training
from .results import load, save, standard_error, summary
from .run import simulate

__all__ = [
    "Activation",
    "Diverged",
    "FileError",
    "InputError",
    "Loss",
    "Network",
    "Notice",
    "Problem",
    "RankError",
    "ResourceError",
    "RunStopped",
    "TpsimError",
    "Training",
    "load",
    "save",
    "simulate",
    "standard_error",
    "summary",
]
