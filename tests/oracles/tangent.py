r"""NTP and SP at infinite width, in closed form, for samples and probes together.

    Cov(f_0) = s_{L+1}^2 K^L
    T^1 = eta_1 K^0 (SP: 0),    T^{l+1} = s_{l+1}^2 Kdot^l T^l + eta_{l+1} K^l  (elementwise),    l = 1..L

T^{L+1} is the tangent kernel: the recursion of Jacot et al. 2018, which meets the layers in the order opposite to that
of back-propagation. Closed forms for relu (arc-cosine kernels of degree 1 and 0) and erf; quadrature for smooth phi.
"""

from __future__ import annotations

import numpy as np

from tpsim.problem import Network, Problem, Training

from .functions import resolve
from .kernels import kernel_matrix

Array = np.ndarray


def all_inputs(problem: Problem) -> Array:
    """Samples, then probes."""
    return problem.inputs if problem.probes is None else np.vstack([problem.inputs, problem.probes])


def tangent_kernels(inputs: Array, network: Network, rates: Array, first: bool) -> tuple[Array, Array]:
    """Cov(f_0) and the tangent kernel, (N, N) each; `first` says whether W^1 learns."""
    function, scales = resolve(network.activation), network.scales
    K = inputs @ inputs.T
    tangent = rates[0] * K * first
    for scale_in, scale_out, rate in zip(scales[:-1], scales[1:], rates[1:], strict=True):
        covariance = scale_in**2 * K
        K = kernel_matrix(function, covariance)
        tangent = scale_out**2 * kernel_matrix(function, covariance, derivative=True) * tangent + rate * K
    return scales[-1] ** 2 * K, tangent


def law(covariance: Array, tangent: Array, problem: Problem, training: Training) -> tuple[Array, Array]:
    """Mean (T+1, N) and covariance (T+1, N, N) of f_t: squared loss, full batch, rates that do not change.

    With G = 2 (or 2 / m) and A = I - G Theta on the samples, f_t = f_0 - G Theta(., samples) sum_{s<t} A^s (f_0 - y).
    """
    m, N = problem.samples, len(covariance)
    G = 2.0 / (m if training.reduction == "mean" else 1)
    A, total = np.eye(m) - G * tangent[:m, :m], np.zeros((m, m))
    means, covariances = [], []
    for step in range(training.steps + 1):
        flow = np.eye(N)
        flow[:, :m] -= G * tangent[:, :m] @ total
        means.append(G * tangent[:, :m] @ total @ problem.targets)
        covariances.append(flow @ covariance @ flow.T)
        total = total + np.linalg.matrix_power(A, step)
    return np.array(means), np.array(covariances)
