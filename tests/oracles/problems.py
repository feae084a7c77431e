"""The problems that oracles and engine are both run on, and the oracles' error there (asserted by their tests)."""

from __future__ import annotations

import numpy as np
import pytest

from tpsim.problem import Network, Problem, Training

MEAN_FIELD_ERROR = 1e-4  # mean_field on its default nodes: every array of every `mean_field_case`
ONE_STEP_ERROR = {1: 1e-8, 2: 3e-4}  # one_step with the case's sizes, by m


def problem_of(m: int, d: int = 5, size: float = 1.0, seed: int = 0, probes: int = 0) -> Problem:
    """Gaussian inputs of norm about `size`, targets of alternating sign."""
    rng = np.random.default_rng(seed)
    inputs = size * rng.standard_normal((m + probes, d)) / np.sqrt(d)
    return Problem(inputs[:m], np.where(np.arange(m) % 2, -1.0, 1.0), inputs[m:] if probes else None)


def mean_field_case(activation: str, minibatch: bool) -> tuple[Problem, Network, Training]:
    """L = 1, ten steps, unequal scales and rates, mean reduction."""
    rates, batches = ([0.2, 0.15], {"size": 1, "seed": 3}) if minibatch else ([0.4, 0.3], None)
    training = Training(10, rates, reduction="mean", batches=batches)
    return problem_of(2), Network(1, activation, [1.2, 1.3]), training


# activation and m of `one_step_case`: each once, the other half is slow
ONE_STEP = [("tanh", 1), ("silu", 2), ("erf", 2), ("gelu", 1)]
ONE_STEP += [pytest.param(activation, 3 - m, marks=pytest.mark.slow) for activation, m in ONE_STEP]


def one_step_case(activation: str, m: int) -> tuple[Problem, Network, Training, tuple[int, int, int, int]]:
    """L = 2, one step that moves f by up to .85, unequal scales and rates; and the nodes for `one_step`."""
    network = Network(2, activation, [1.2, 1.3, 1.1])
    sizes = (64, 64, 48, 16) if m == 1 else (28, 44, 28, 6)
    return problem_of(m, size=1.5), network, Training(1, [0.4, 0.3, 0.35], reduction="mean"), sizes
