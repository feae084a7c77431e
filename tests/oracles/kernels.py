r"""Gaussian kernels E[phi(u) phi(v)] and the kernels of a deep network at t = 0.

(u, v) ~ N(0, [[a, c], [c, b]]). Closed forms where they are known, otherwise quadrature in two dimensions (smooth phi).

    erf    (2/pi) arcsin(2c / sqrt((1+2a)(1+2b)))       (Williams 1997)
    relu   sqrt(ab)/(2 pi) (sin t + (pi - t) cos t),    cos t = c / sqrt(ab)       (Cho & Saul 2009)
    sin    exp(-(a+b)/2) sinh c,    cos   exp(-(a+b)/2) cosh c
"""

from __future__ import annotations

import numpy as np
from scipy.special import roots_hermitenorm

from tpsim.problem import Network, Problem

from .functions import Function, Map, resolve

Array = np.ndarray


def nodes(size: int, rule: str = "hermite") -> tuple[Array, Array]:
    """Symmetric nodes and weights (size,) for E g(Z), Z ~ N(0, 1).

    "hermite": exact for polynomials of degree < 2 size; error exp(-2 d sqrt(size)) for g analytic in |Im z| < d.
    "trapezoid": equidistant nodes on +-(2 pi size)^(1/3), error exp(-(2 pi d size)^(2/3) / 2) or so for d near 1:
    better than "hermite" from about 20 nodes on.
    """
    if rule == "hermite":
        z, weight = roots_hermitenorm(size)
    elif rule == "trapezoid":
        half = min((2 * np.pi * size) ** (1 / 3), 9.0)
        z = np.linspace(-half, half, size)
        weight = np.exp(-(z**2) / 2)
    else:
        raise ValueError(rule)
    return (z - z[::-1]) / 2, weight / weight.sum()


def _angle(a: float, c: float, b: float) -> float:
    return float(np.arccos(np.clip(c / np.sqrt(a * b), -1.0, 1.0))) if a * b > 0 else np.pi / 2


def _erf(a: float, c: float, b: float) -> float:
    return 2 / np.pi * float(np.arcsin(2 * c / np.sqrt((1 + 2 * a) * (1 + 2 * b))))


def _relu(a: float, c: float, b: float) -> float:
    angle = _angle(a, c, b)
    return float(np.sqrt(a * b) / (2 * np.pi) * (np.sin(angle) + (np.pi - angle) * np.cos(angle)))


def _sin(a: float, c: float, b: float) -> float:
    return float(np.exp(-(a + b) / 2) * np.sinh(c))


def _cos(a: float, c: float, b: float) -> float:
    return float(np.exp(-(a + b) / 2) * np.cosh(c))


def _derf(a: float, c: float, b: float) -> float:
    return 4 / np.pi / float(np.sqrt((1 + 2 * a) * (1 + 2 * b) - 4 * c**2))


KERNELS = {"erf": _erf, "relu": _relu, "sin": _sin, "cos": _cos, "identity": lambda a, c, b: c}
DERIVATIVE_KERNELS = {  # E[phi'(u) phi'(v)]
    "erf": _derf,
    "relu": lambda a, c, b: (np.pi - _angle(a, c, b)) / (2 * np.pi),
    "sin": _cos,
    "cos": _sin,
    "identity": lambda a, c, b: 1.0,
}
MEANS = {  # E[phi(u)]
    "erf": lambda a: 0.0,
    "relu": lambda a: float(np.sqrt(a / (2 * np.pi))),
    "sin": lambda a: 0.0,
    "cos": lambda a: float(np.exp(-a / 2)),
    "identity": lambda a: 0.0,
}


def quadrature_kernel(g: Map, a: float, c: float, b: float, size: int = 160, rule: str = "trapezoid") -> float:
    """E[g(u) g(v)] by a product rule of size^2 nodes; smooth g only."""
    z, weight = nodes(size, rule)
    slope = c / np.sqrt(a) if a > 0 else 0.0
    rest = np.sqrt(max(b - slope**2, 0.0))
    v = slope * z[:, None] + rest * z[None, :]
    return float(weight * g(np.sqrt(a) * z) @ (g(v) @ weight))


def quadrature_mean(g: Map, a: float, size: int = 160, rule: str = "trapezoid") -> float:
    """E[g(u)] by a rule of `size` nodes; smooth g only."""
    z, weight = nodes(size, rule)
    return float(weight @ g(np.sqrt(a) * z))


def gaussian_kernel(function: Function, a: float, c: float, b: float, derivative: bool = False) -> float:
    """E[phi(u) phi(v)], or of phi' with `derivative`: closed form if there is one, else quadrature."""
    table = DERIVATIVE_KERNELS if derivative else KERNELS
    if function.name in table:
        return float(table[function.name](a, c, b))
    return quadrature_kernel(function.dphi if derivative else function.phi, a, c, b)


def gaussian_mean(function: Function, a: float) -> float:
    """E[phi(u)], u ~ N(0, a)."""
    return MEANS[function.name](a) if function.name in MEANS else quadrature_mean(function.phi, a)


def kernel_matrix(function: Function, covariance: Array, derivative: bool = False) -> Array:
    """E[phi(u_i) phi(u_j)] (or of phi') for u ~ N(0, covariance), (m, m)."""
    m = len(covariance)
    result = np.empty((m, m))
    for i in range(m):
        for j in range(i, m):
            a, c, b = covariance[i, i], covariance[i, j], covariance[j, j]
            result[i, j] = result[j, i] = gaussian_kernel(function, a, c, b, derivative)
    return result


def initial_kernels(problem: Problem, network: Network) -> dict[str, Array]:
    """The kernels of a deep network at t = 0, in the limit.

    K_h^1 = s_1^2 <xi_i, xi_j>, K_x^l = E[phi phi'] under N(0, K_h^l), K_h^{l+1} = s_{l+1}^2 K_x^l; backward
    K_dh^L = s_{L+1}^2 E[phi' phi'], K_dh^l = s_{l+1}^2 K_dh^{l+1} E[phi' phi'] (no response: E[What_0 phi''] = 0).

    Returns
    -------
    dict of arrays
        kernel_h, kernel_x, kernel_dh (layer, sample, sample2), mean_h (zero) and mean_x (layer, sample).
    """
    function, scales, depth = resolve(network.activation), network.scales, network.depth
    kernel = scales[0] ** 2 * problem.inputs @ problem.inputs.T
    h, x, mean = [], [], []
    for layer in range(depth):
        h.append(kernel)
        x.append(kernel_matrix(function, kernel))
        mean.append([gaussian_mean(function, variance) for variance in np.diag(kernel)])
        kernel = scales[layer + 1] ** 2 * x[-1]
    back = np.ones_like(kernel)
    dh: list[Array] = []
    for layer in range(depth - 1, -1, -1):
        back = scales[layer + 1] ** 2 * back * kernel_matrix(function, h[layer], derivative=True)
        dh.insert(0, back)
    return {
        "kernel_h": np.array(h),
        "kernel_x": np.array(x),
        "kernel_dh": np.array(dh),
        "mean_h": np.zeros((depth, problem.samples)),
        "mean_x": np.array(mean),
    }
