r"""One step of training of a two-hidden-layer network, by low-dimensional quadrature.

Derivation (W = W_0^2, w_i = chi_{0,i} times the batch's indicator, g = Gram matrix of the inputs).

t = 0. Z^{h^1_0(xi_i)} = s_1 c_i . N, x^1_0 = phi(h^1_0). G0_i = Zhat^{W x^1_0(xi_i)} = Z^{h^2_0(xi_i)}, of covariance
s_2^2 E[x^1_0 x^1_0']; no dh precedes it, so no response. What_0 = s_3 a, a ~ N(0, 1) independent of G0; hence f_0 = 0
and chi_0 = dLoss/df(0, y). dh^2_0(xi_i) = What_0 phi'(G0_i). B0_i = Zhat^{W^T dh^2_0(xi_i)}, of covariance
s_2^2 E[dh^2_0 dh^2_0'], independent of h^1_0. The response of dx^1_0(xi_i) vanishes:
s_2^2 sum_j x^1_0(xi_j) E[d dh^2_0(xi_i) / d G0_j] = s_2^2 x^1_0(xi_i) E[What_0] E[phi''] = 0.
So dh^1_0(xi_i) = phi'(h^1_0(xi_i)) B0_i.

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
(G0, a) and the small residual of G1 given G0, 2m + 1 dimensions. The responses are pathwise derivatives here, where an
engine may use Stein's lemma.
Source: Chen et al. 2025, App. B, with the response of dx_t up to s = t. Smooth phi, m <= 2. Error: of the rule.
"""

from __future__ import annotations

import numpy as np

from tpsim.problem import Network, Problem, Training

from .functions import Function, resolve
from .kernels import nodes
from .linear import batch_weights, input_coordinates
from .quadrature import product_rule, weighted_recorder

Array = np.ndarray


def factor(covariance: Array) -> Array:
    """F of full column rank with F F^T = covariance; eigenvalues below 1e-13 of the largest count as zero."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-13 * max(values[-1], 1e-300)
    return vectors[:, kept] * np.sqrt(values[kept])


def one_step(
    problem: Problem,
    network: Network,
    training: Training,
    sizes: tuple[int, int, int, int],
    rule: str = "trapezoid",
) -> dict[str, Array]:
    """The trajectory t = 0, 1 of a two-hidden-layer network in the limit; results as `deep_linear`'s.

    Parameters
    ----------
    sizes : nodes per dimension of (N, B0), of G0, of a, and of the residual of G1 given G0.
    rule : the rule for the first three; the last is always Gauss-Hermite.
    """
    if network.depth != 2 or training.steps < 1:
        raise ValueError("only depth 2 and at least one step")
    function = resolve(network.activation)
    m, scales, rates = problem.samples, network.scales, training.rates(0, 2)
    gram = problem.inputs @ problem.inputs.T
    w = training.criterion.derivative(np.zeros(m), problem.targets) * batch_weights(training, m)[0]

    # t = 0: h^1, and B0 whose covariance needs (G0, What_0) only
    coordinates = input_coordinates(problem.inputs)
    rank = coordinates.shape[1]
    grid, measure = product_rule(rank, sizes[0], rule)
    x = function.phi(scales[0] * coordinates @ grid)
    loading = scales[1] * factor((x * measure) @ x.T)
    grid, measure = product_rule(loading.shape[1], sizes[1], rule)
    slopes = function.dphi(loading @ grid)
    b_loading = scales[1] * scales[2] * factor((slopes * measure) @ slopes.T)

    # layer 1 on (N, B0)
    grid, measure = product_rule(rank + b_loading.shape[1], sizes[0], rule)
    h0, b_nodes = scales[0] * coordinates @ grid[:rank], grid[rank:]
    dh0 = function.dphi(h0) * (b_loading @ b_nodes)
    h1 = h0 - rates[0] * (gram * w) @ dh0
    x0, x1, slopes = function.phi(h0), function.phi(h1), function.dphi(h1)
    response = -rates[0] * w[:, None] * gram * ((function.dphi(h0) * measure) @ slopes.T)  # (j, i)
    k = scales[1] ** 2 * response - rates[1] * w[:, None] * ((x0 * measure) @ x1.T)
    both = np.concatenate([x0, x1])
    covariance = scales[1] ** 2 * (both * measure) @ both.T

    second = second_layer(function, covariance, k, w, scales, rates, sizes[1:], rule)
    known, spread = _conditional(scales[1] ** 2 * second["joint_dh"], b_loading, b_nodes)
    dx1 = known + (scales[1] ** 2 * second["d_g0"] - rates[1] * w * second["dh1_dh0"]) @ x0
    dh1 = slopes * (dx1 + scales[1] ** 2 * second["d_g1"][:, None] * x1)
    first = weighted_recorder(measure)
    first.add(np.zeros(m), [h0], [x0], [dh0])
    first.add(second["f1"], [h1], [x1], [dh1])
    result = {name: np.concatenate([a, second[name]], axis=1) for name, a in first.arrays().items() if name != "f"}
    result["kernel_dh"][1, 0] += spread * ((slopes * measure) @ slopes.T)
    return {"f": np.array([np.zeros(m), second["f1"]]), **result}


def second_layer(
    function: Function,
    covariance: Array,
    k: Array,
    w: Array,
    scales: Array,
    rates: Array,
    sizes: tuple[int, ...],
    rule: str,
) -> dict[str, Array]:
    """Layer 2 for (G0, G1) ~ N(0, covariance) (2m, 2m) and the coefficients k (m, m).

    Returns the recorded arrays (one layer) and f1; for layer 1's backward pass joint_dh = E[(dh_0, dh_1)(dh_0, dh_1)'],
    dh1_dh0 = E[dh_1(i) dh_0(j)], d_g0 = E[d dh_1(i) / d G0_j], d_g1 = E[d dh_1(i) / d G1_i]; and, tied to them by
    Stein's lemma, dh1_g = E[dh_1(i) (G0, G1)].
    """
    if function.ddphi is None:
        raise ValueError(f"{function.name}: phi'' is needed")
    m = len(w)
    g, measure = _gaussian_pair(covariance, m, sizes, rule)
    g0, g1 = g[:m], g[m:]
    phi0, dphi0, ddphi0 = function.phi(g0), function.dphi(g0), function.ddphi(g0)
    count = 8 * m + 2
    moments, mixed = np.zeros((count, count)), np.zeros((2 * m + m, m))
    for a, weight in zip(*nodes(sizes[1], rule), strict=True):  # one node of What_0 at a time: little memory
        what0 = scales[2] * a
        what1 = what0 - rates[2] * w @ phi0
        h1 = g1 + k.T @ (what0 * dphi0)
        x1, dphi1, curved = function.phi(h1), function.dphi(h1), what1 * function.ddphi(h1)
        one = np.ones((1, g.shape[1]))
        fields = np.concatenate([g0, h1, phi0, x1, what0 * dphi0, what1 * dphi1, g, what1[None], one])
        moments += weight * (fields * measure) @ fields.T
        mixed[:m] += weight * (curved * measure) @ (what0 * ddphi0).T
        mixed[m : 2 * m] += weight * (dphi1 * measure) @ dphi0.T
        mixed[2 * m :] += weight * np.diag(curved @ measure)
    bent, sloped, d_g1 = mixed[:m], mixed[m : 2 * m], np.diag(mixed[2 * m :])
    dh = slice(4 * m, 6 * m)
    return {
        **_recorded(moments, m),
        "f1": moments[3 * m : 4 * m, 8 * m],
        "joint_dh": moments[dh, dh],
        "dh1_dh0": moments[5 * m : 6 * m, 4 * m : 5 * m],
        "dh1_g": moments[5 * m : 6 * m, 6 * m : 8 * m],
        "d_g0": -rates[2] * w * sloped + k.T * bent,
        "d_g1": d_g1,
    }


def _gaussian_pair(covariance: Array, m: int, sizes: tuple[int, ...], rule: str) -> tuple[Array, Array]:
    """Nodes (2m, nodes) and weights of (G0, G1): sizes[0] per axis of G0, sizes[2] per axis of the residual of G1."""
    loading = factor(covariance[:m, :m])
    slope = covariance[m:, :m] @ np.linalg.pinv(loading).T
    rest = factor(covariance[m:, m:] - slope @ slope.T)
    outer, weight = product_rule(loading.shape[1], sizes[0], rule)
    inner, inner_weight = product_rule(rest.shape[1], sizes[2], "hermite")
    g1 = (slope @ outer)[:, :, None] + (rest @ inner)[:, None, :]
    g0 = np.broadcast_to((loading @ outer)[:, :, None], g1.shape)
    return np.concatenate([g0, g1]).reshape(2 * m, -1), np.multiply.outer(weight, inner_weight).ravel()


def _recorded(moments: Array, m: int) -> dict[str, Array]:
    """A `Recorder`'s arrays (step, one layer, ...) from the moments of (h_0, h_1, x_0, x_1, dh_0, dh_1, .., 1)."""
    block = [[moments[i * m : (i + 1) * m, j * m : (j + 1) * m] for j in range(6)] for i in range(6)]
    result = {"kernel_dh": np.array([[block[4][4]], [block[5][5]]])}
    for name, start in (("h", 0), ("x", 2)):
        first, second, joint = block[start][start], block[start + 1][start + 1], block[start][start + 1]
        moved = np.trace(first + second - 2 * joint) / np.trace(first)
        result["kernel_" + name] = np.array([[first], [second]])
        result["kernel_" + name + "0"] = np.array([[first], [joint]])
        result["mean_" + name] = moments[-1, start * m : (start + 2) * m].reshape(2, 1, m)
        result["feature_change_" + name] = np.array([[0.0], [np.sqrt(moved)]])
    return result


def _conditional(covariance: Array, loading: Array, noise: Array) -> tuple[Array, Array]:
    """E[B1 | B0] on the nodes (m, nodes) and Cov[B1 | B0] (m, m), where B0 = loading noise."""
    m = len(loading)
    weights = covariance[m:, :m] @ np.linalg.pinv(loading).T  # E[B1 noise']
    return weights @ noise, covariance[m:, m:] - weights @ weights.T
