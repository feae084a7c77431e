r"""One step of training of a two-hidden-layer network, by low-dimensional quadrature.

Derivation (W = W_0^2, w_i = chi_{0,i} times the batch's indicator, g = Gram matrix of the inputs).

t = 0. Z^{h^1_0(xi_i)} = s_1 c_i . N, x^1_0 = phi(h^1_0). G0_i = Zhat^{W x^1_0(xi_i)} = Z^{h^2_0(xi_i)}, of covariance
s_2^2 E[x^1_0 x^1_0']; no dh precedes it, so no response. What_0 = s_3 a, a ~ N(0, 1) independent of G0; hence f_0 = 0
and chi_0 = dLoss/df(0, y). dh^2_0(xi_i) = What_0 phi'(G0_i). B0_i = Zhat^{W^T dh^2_0(xi_i)}, of covariance
s_2^2 E[dh^2_0 dh^2_0'], independent of h^1_0. The response of dx^1_0(xi_i) is
s_2^2 sum_j x^1_0(xi_j) E[d dh^2_0(xi_i) / d G0_j] = s_2^2 x^1_0(xi_i) E[What_0] E[phi''] = 0. So dh^1_0(xi_i) = phi'(h^1_0(xi_i)) B0_i.

t = 1, forward. h^1_1(xi_i) = h^1_0(xi_i) - eta_1 sum_j w_j g_ji dh^1_0(xi_j), x^1_1 = phi(h^1_1). With
G1_i = Zhat^{W x^1_1(xi_i)}, (G0, G1) of covariance s_2^2 E[(x_0, x_1)(x_0, x_1)'],
    h^2_1(xi_i) = G1_i + sum_j dh^2_0(xi_j) k_ji,
    k_ji = s_2^2 E[d x^1_1(xi_i) / d B0_j] - eta_2 w_j E[x^1_0(xi_j) x^1_1(xi_i)],
    d x^1_1(xi_i) / d B0_j = - phi'(h^1_1(xi_i)) eta_1 w_j g_ji phi'(h^1_0(xi_j)),
    What_1 = What_0 - eta_3 sum_j w_j phi(G0_j),   f_1(xi_i) = E[What_1 phi(h^2_1(xi_i))].

t = 1, backward. dh^2_1(xi_i) = What_1 phi'(h^2_1(xi_i)); (B0, B1) of covariance s_2^2 E[(dh_0, dh_1)(dh_0, dh_1)'];
    dx^1_1(xi_i) = B1_i + sum_j x^1_0(xi_j) (s_2^2 E[d dh^2_1(xi_i) / d G0_j] - eta_2 w_j E[dh^2_0(xi_j) dh^2_1(xi_i)])
                        + s_2^2 x^1_1(xi_i) E[d dh^2_1(xi_i) / d G1_i],
    d dh^2_1(xi_i) / d G0_j = - eta_3 w_j phi'(G0_j) phi'(h^2_1(xi_i))
                              + What_1 phi''(h^2_1(xi_i)) k_ji What_0 phi''(G0_j),
    d dh^2_1(xi_i) / d G1_i = What_1 phi''(h^2_1(xi_i)),   dh^1_1(xi_i) = phi'(h^1_1(xi_i)) dx^1_1(xi_i).

Layer 1 lives on (N, B0), of at most 2m dimensions (given them, B1 is Gaussian and enters dh^1_1 linearly), layer 2 on
(G0, G1, a), 2m + 1. The responses are pathwise derivatives here, where an engine may use Stein's lemma.
Source: Chen et al. 2025, App. B, with the response of dx_t up to s = t. Smooth phi, m <= 2. Error: of the rule.
"""

from __future__ import annotations

import numpy as np

from tpsim.problem import Network, Problem, Training

from .functions import Function, resolve
from .linear import batch_weights, input_coordinates
from .quadrature import product_rule, weighted_recorder
from .record import Recorder

Array = np.ndarray


def factor(covariance: Array) -> Array:
    """F of full column rank with F F^T = covariance; eigenvalues below 1e-13 of the largest count as zero."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-13 * values[-1]
    return vectors[:, kept] * np.sqrt(values[kept])


def one_step(
    problem: Problem,
    network: Network,
    training: Training,
    sizes: tuple[int, int] = (64, 64),
    rule: str = "trapezoid",
) -> dict[str, Array]:
    """The trajectory t = 0, 1 of a two-hidden-layer network in the limit; results as `deep_linear`'s.

    Parameters
    ----------
    sizes : nodes per dimension for layer 1 (rank of the inputs + m dimensions) and layer 2 (2m + 1 dimensions).
    """
    if network.depth != 2 or training.steps < 1:
        raise ValueError("only depth 2 and at least one step")
    function = resolve(network.activation)
    if function.ddphi is None:
        raise ValueError(f"{function.name}: phi'' is needed")
    m, scales, rates = problem.samples, network.scales, training.rates(0, 2)
    gram = problem.inputs @ problem.inputs.T
    w = training.criterion.derivative(np.zeros(m), problem.targets) * batch_weights(training, m)[0]

    # t = 0: h^1, and B0 whose covariance needs (G0, What_0) only
    coordinates = input_coordinates(problem.inputs)
    rank = coordinates.shape[1]
    grid, measure1 = product_rule(rank, sizes[0], rule)
    x = function.phi(scales[0] * coordinates @ grid)
    loading = scales[1] * factor((x * measure1) @ x.T)
    grid, measure = product_rule(loading.shape[1], sizes[1], rule)
    slopes = function.dphi(loading @ grid)
    b_loading = scales[1] * scales[2] * factor((slopes * measure) @ slopes.T)

    # layer 1 on (N, B0)
    grid, measure1 = product_rule(rank + b_loading.shape[1], sizes[0], rule)
    h0, b_nodes = scales[0] * coordinates @ grid[:rank], grid[rank:]
    h1 = h0 - rates[0] * (gram * w) @ (function.dphi(h0) * (b_loading @ b_nodes))
    x0, x1 = function.phi(h0), function.phi(h1)
    response = -rates[0] * w[:, None] * gram * ((function.dphi(h0) * measure1) @ function.dphi(h1).T)  # (j, i)
    k = scales[1] ** 2 * response - rates[1] * w[:, None] * ((x0 * measure1) @ x1.T)
    both = np.concatenate([x0, x1])
    covariance = scales[1] ** 2 * (both * measure1) @ both.T

    second = second_layer(function, covariance, k, w, scales, rates, sizes[1], rule)
    dh0 = function.dphi(h0) * (b_loading @ b_nodes)
    known, spread = _conditional(scales[1] ** 2 * second["joint_dh"], b_loading, b_nodes)
    dx1 = known + (scales[1] ** 2 * second["d_g0"] - rates[1] * w * second["dh1_dh0"]) @ x0
    dh1 = function.dphi(h1) * (dx1 + scales[1] ** 2 * second["d_g1"][:, None] * x1)
    first = weighted_recorder(measure1)
    first.add(np.zeros(m), [h0], [x0], [dh0])
    first.add(second["f1"], [h1], [x1], [dh1])
    result = {name: np.concatenate([a, second[name]], axis=1) for name, a in first.arrays().items() if name != "f"}
    slopes = function.dphi(h1)
    result["kernel_dh"][1, 0] += spread * ((slopes * measure1) @ slopes.T)
    return {"f": np.array([np.zeros(m), second["f1"]]), **result}


def second_layer(
    function: Function, covariance: Array, k: Array, w: Array, scales: Array, rates: Array, size: int, rule: str
) -> dict[str, Array]:
    """Layer 2 for (G0, G1) ~ N(0, covariance) (2m, 2m) and the coefficients k (m, m).

    Returns the recorded arrays (one layer) and f1; for layer 1's backward pass joint_dh = E[(dh_0, dh_1)(dh_0, dh_1)'],
    dh1_dh0 = E[dh_1(i) dh_0(j)], d_g0 = E[d dh_1(i) / d G0_j], d_g1 = E[d dh_1(i) / d G1_i]; and, tied to them by
    Stein's lemma, dh1_g = E[dh_1(i) (G0, G1)].
    """
    m = len(w)
    assert function.ddphi is not None
    loading = factor(covariance)
    grid, measure = product_rule(loading.shape[1] + 1, size, rule)
    g = loading @ grid[:-1]
    g0, what0 = g[:m], scales[2] * grid[-1]
    dphi0, what1 = function.dphi(g0), what0 - rates[2] * w @ function.phi(g0)
    dh0 = what0 * dphi0
    h1 = g[m:] + k.T @ dh0
    dphi1, curved = function.dphi(h1), what1 * function.ddphi(h1)
    dh1 = what1 * dphi1
    x1 = function.phi(h1)
    f1 = x1 @ (measure * what1)
    recorder: Recorder = weighted_recorder(measure)
    recorder.add(np.zeros(m), [g0], [function.phi(g0)], [dh0])
    recorder.add(f1, [h1], [x1], [dh1])
    bent = (curved * measure) @ (what0 * function.ddphi(g0)).T  # (i, j)
    joint = np.concatenate([dh0, dh1])
    return {
        **recorder.arrays(),
        "f1": f1,
        "joint_dh": (joint * measure) @ joint.T,
        "dh1_dh0": (dh1 * measure) @ dh0.T,
        "dh1_g": (dh1 * measure) @ g.T,
        "d_g0": -rates[2] * w * ((dphi1 * measure) @ dphi0.T) + k.T * bent,
        "d_g1": curved @ measure,
    }


def _conditional(covariance: Array, loading: Array, noise: Array) -> tuple[Array, Array]:
    """E[B1 | B0] on the nodes (m, nodes) and Cov[B1 | B0] (m, m), where B0 = loading noise."""
    m = len(loading)
    weights = covariance[m:, :m] @ np.linalg.pinv(loading).T  # E[B1 noise']
    return weights @ noise, covariance[m:, m:] - weights @ weights.T
