"""Dense networks of width n in plain numpy: what the oracles, and the networks in torch, are compared with."""

from __future__ import annotations

import numpy as np

from tpsim.problem import Network, Problem, Training

from .functions import resolve
from .linear import batch_weights
from .record import Recorder

Array = np.ndarray


def dense(problem: Problem, network: Network, training: Training, width: int, seed: int) -> dict[str, Array]:
    """Train one muP network: W^1 ~ N(0, s_1^2), W^l ~ N(0, s_l^2 / n), W^{L+1} ~ N(0, s_{L+1}^2 / n^2).

    The rates of W^1, W^l and W^{L+1} are eta_1 n, eta_l and eta_{L+1} / n, and dh = n df/dh.
    Returns what `deep_linear` returns, with means over neurons in the place of expectations. E f_0 = 0, f_0 is not.
    """
    rng = np.random.default_rng([seed, width])
    depth, scales = network.depth, network.scales
    weights = [scales[0] * rng.standard_normal((problem.inputs.shape[1], width)).T]
    weights += [scales[k] / np.sqrt(width) * rng.standard_normal((width, width)) for k in range(1, depth)]
    weights += [scales[depth] / width * rng.standard_normal(width)]
    run = trajectory(problem, network, training, weights, (width, 1.0, 1.0 / width), width)
    return {name: value for name, value in run.items() if not name.startswith("Z_")}


def trajectory(
    problem: Problem,
    network: Network,
    training: Training,
    weights: list[Array],
    factors: tuple[float, float, float],
    gradient_scale: float,
) -> dict[str, Array]:
    """Train one network from W^1 (n, d), W^l (n, n) and W^{L+1} (n,) and return everything at every step.

    The rates of the first, the hidden and the last matrices are eta_l times `factors`; dh = `gradient_scale` df/dh.
    Returns what `dense` returns, and Z_h, Z_x, Z_dh (step, layer, sample, neuron).
    """
    first, *hidden, last = (w.copy() for w in weights)
    depth, width, function = network.depth, len(last), resolve(network.activation)
    signals = batch_weights(training, problem.samples)
    recorder = Recorder(lambda a, b: a @ b.T / width, lambda a: a.mean(axis=1))
    kept: dict[str, list[Array]] = {"Z_h": [], "Z_x": [], "Z_dh": []}
    for step in range(training.steps + 1):
        h = [problem.inputs @ first.T]
        x = [function.phi(h[0])]
        for matrix in hidden:
            h.append(x[-1] @ matrix.T)
            x.append(function.phi(h[-1]))
        f = x[-1] @ last
        gradients = [last * function.dphi(h[-1])]
        for k in range(depth - 1, 0, -1):
            gradients.insert(0, gradients[0] @ hidden[k - 1] * function.dphi(h[k - 1]))
        dh = [gradient_scale * gradient for gradient in gradients]
        recorder.add(f, h, x, dh)
        for name, fields in zip(kept, (h, x, dh), strict=True):
            kept[name].append(np.array(fields))
        if step < training.steps:
            signal = training.criterion.derivative(f, problem.targets) * signals[step]
            rates = training.rates(step, depth) * np.array([factors[0], *[factors[1]] * (depth - 1), factors[2]])
            first -= rates[0] * (gradients[0].T * signal) @ problem.inputs
            for k, matrix in enumerate(hidden):
                matrix -= rates[k + 1] * (gradients[k + 1].T * signal) @ x[k]
            last -= rates[depth] * signal @ x[-1]
    return recorder.arrays() | {name: np.array(rows) for name, rows in kept.items()}
