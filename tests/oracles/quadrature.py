r"""One hidden layer, trained for any number of steps, by deterministic quadrature (mean field).

At L = 1 no Gaussian matrix stands between the fields: with (w_1..w_r, a) ~ N(0, 1) and the inputs' Gram-Schmidt
coordinates c (m, r),

    Z^{h_0(xi_i)} = s_1 sum_k c_ik w_k,   Z^{What_0} = s_2 a,   Z^{dh_t(xi_i)} = Z^{What_t} phi'(Z^{h_t(xi_i)}),
    Z^{h_{t+1}(xi_i)} = Z^{h_t(xi_i)} - eta_1 sum_j chi_{t,j} <xi_j, xi_i> Z^{dh_t(xi_j)},
    Z^{What_{t+1}}    = Z^{What_t}    - eta_2 sum_j chi_{t,j} Z^{x_t(xi_j)},           f_t = E[Z^{What_t} Z^{x_t}],

so that the nodes of a product rule on (w, a) are weighted particles. The rule is symmetric: f_0 = 0 to rounding.
Source: Chen et al. 2025, App. B at L = 1. Smooth phi only. Error: of the rule, to be seen in its convergence.
"""

from __future__ import annotations

import numpy as np

from tpsim.problem import Network, Problem, Training

from .functions import resolve
from .kernels import nodes
from .linear import batch_weights, input_coordinates
from .record import Recorder

Array = np.ndarray


def product_rule(dimensions: int, size: int, rule: str) -> tuple[Array, Array]:
    """Nodes (dimensions, size^dimensions) and weights (size^dimensions,) for N(0, I)."""
    z, weight = nodes(size, rule)
    grid = np.array([axis.ravel() for axis in np.meshgrid(*[z] * dimensions, indexing="ij")])
    weights = np.ones(1)
    for _ in range(dimensions):
        weights = np.multiply.outer(weights, weight).ravel()
    return grid.reshape(dimensions, -1), weights


def weighted_recorder(weights: Array) -> Recorder:
    """A `Recorder` whose expectations are weighted sums over nodes."""
    return Recorder(lambda a, b: (a * weights) @ b.T, lambda a: a @ weights)


def mean_field(
    problem: Problem, network: Network, training: Training, size: int = 48, rule: str = "trapezoid"
) -> dict[str, Array]:
    """Train a one-hidden-layer network in the limit on size^(rank + 1) nodes, rank(inputs) <= 2.

    Returns what `deep_linear` returns.
    """
    if network.depth != 1:
        raise ValueError(f"depth {network.depth}: only 1")
    function, scales, targets = resolve(network.activation), network.scales, problem.targets
    coordinates, gram = input_coordinates(problem.inputs), problem.inputs @ problem.inputs.T
    grid, measure = product_rule(coordinates.shape[1] + 1, size, rule)
    h = scales[0] * coordinates @ grid[:-1]
    output = scales[1] * grid[-1]
    weights = batch_weights(training, problem.samples)
    recorder = weighted_recorder(measure)
    for step in range(training.steps + 1):
        x = function.phi(h)
        dh = output * function.dphi(h)
        f = x @ (measure * output)
        recorder.add(f, [h], [x], [dh])
        if step < training.steps:
            signal = training.criterion.derivative(f, targets) * weights[step]
            rates = training.rates(step, 1)
            h = h - rates[0] * (gram * signal) @ dh
            output = output - rates[1] * signal @ x
    return recorder.arrays()
