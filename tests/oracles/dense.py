"""Dense muP networks of width n in plain numpy: what the oracles themselves are compared with."""

from __future__ import annotations

import numpy as np

from tpsim.problem import Network, Problem, Training

from .functions import resolve
from .linear import batch_weights
from .record import Recorder

Array = np.ndarray


def dense(problem: Problem, network: Network, training: Training, width: int, seed: int) -> dict[str, Array]:
    """Train one network: W^1 ~ N(0, s_1^2), W^l ~ N(0, s_l^2 / n), What = n W^{L+1} ~ N(0, s_{L+1}^2).

    The rates of W^1, W^l and W^{L+1} are eta_1 n, eta_l and eta_{L+1} / n.
    Returns what `deep_linear` returns, with means over neurons in the place of expectations. E f_0 = 0, f_0 is not.
    """
    rng = np.random.default_rng([seed, width])
    depth, scales, function = network.depth, network.scales, resolve(network.activation)
    weights = batch_weights(training, problem.samples)
    first = scales[0] * rng.standard_normal((problem.inputs.shape[1], width))
    hidden = [scales[k] / np.sqrt(width) * rng.standard_normal((width, width)) for k in range(1, depth)]
    output = scales[depth] * rng.standard_normal(width)
    recorder = Recorder(lambda a, b: a @ b.T / width, lambda a: a.mean(axis=1))
    for step in range(training.steps + 1):
        h = [problem.inputs @ first]
        x = [function.phi(h[0])]
        for matrix in hidden:
            h.append(x[-1] @ matrix.T)
            x.append(function.phi(h[-1]))
        f = x[-1] @ output / width
        dh = [output * function.dphi(h[-1])]
        for k in range(depth - 1, 0, -1):
            dh.insert(0, dh[0] @ hidden[k - 1] * function.dphi(h[k - 1]))
        recorder.add(f, h, x, dh)
        if step < training.steps:
            signal = training.criterion.derivative(f, problem.targets) * weights[step]
            rates = training.rates(step, depth)
            first = first - rates[0] * (problem.inputs.T * signal) @ dh[0]
            for k, matrix in enumerate(hidden):
                matrix -= rates[k + 1] / width * (dh[k + 1].T * signal) @ x[k]
            output = output - rates[depth] * signal @ x[-1]
    return recorder.arrays()
