"""Appendix B of Chen et al. 2025, one function per displayed equation, in the paper's order.

A Z-variable is an array over M particles, E[ab] = <a, b> := (1/M) sum_alpha a_alpha b_alpha, and every hidden layer has
its own particle space. Z^{Wx} = Zhat^{W x} + Zdot^{W x}: Gaussian part and response. The paper has s_l = 1 and one
rate; here Zhat carries s_l, Zdot carries s_l^2, and `moves` is eta_l chi_{s,j}, (t, m). Arrays over the past are
(t, m, M). The increments delta of (B.2) are summed over time. Where the paper misprints, the docstring says what is
printed.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from .gaussians import flat, mean_product

Array = np.ndarray

Mistake = Literal[
    "zdot_forward_dropped",  # item 4 without Zdot^{W x}
    "zdot_backward_dropped",  # (B.8) without Zdot^{W^T dh}
    "s_equals_t_dropped",  # (B.8)'s response sum as printed; defined where the Gaussian family is not degenerate
    "item4_as_printed",  # item 4's history sum as printed
    "fresh_noise",  # Zhat drawn independently of its family's past
    "chi_one_step_late",  # the update at step s uses chi_{s-1}
]


def history(moves: Array, carriers: Array, past: Array, now: Array) -> Array:
    """-eta sum_{s<t, j} chi_{s,j} Z^{carrier_{s,j}} E[Z^{past_{s,j}} Z^{now}], (m, M): W_t - W_0 applied to `now`."""
    return -(mean_product(now, flat(past)) * moves.ravel()) @ flat(carriers)


def first_layer(h_0: Array, inputs: Array, moves: Array, dh: Array) -> Array:
    """Item 3: Z^{h^1_t(xi)} = Z^{h^1_0(xi)} - sum_{s<t, i} eta chi_{s,i} xi_i'xi Z^{dh^1_s(xi_i)}, (m, M)."""
    return h_0 - np.einsum("ik,sk,skp->ip", inputs @ inputs.T, moves, dh, optimize=True)


def hidden_layer(zhat: Array, zdot: Array, moves: Array, dh: Array, x: Array, mistake: Mistake | None = None) -> Array:
    """Item 4: Z^{h_t} = Zhat^{W x_t} + Zdot^{W x_t} - eta sum_{s<t, i} chi_{s,i} Z^{dh_s} E[Z^{x_s} Z^{x_t}].

    The paper prints this sum over all of s < t as a part of *delta* h_t, which would add it once more at every step: it
    belongs to h_t. Here x is (t + 1, m, M'), x_0..x_t of the layer below.
    """
    t = len(x) - 1
    counted = range(1, t + 1) if mistake == "item4_as_printed" else (t,)
    return zhat + zdot + sum(history(moves[:r], dh[:r], x[:r], x[r]) for r in counted)


def last_layer(what_0: Array, moves: Array, x: Array) -> Array:
    """(B.4): Z^{What_t} = Z^{What_0} - eta sum_{s<t, i} chi_{s,i} Z^{x^L_s(xi_i)}, (M,)."""
    return what_0 - moves.ravel() @ flat(x)


def output(what: Array, x: Array) -> Array:
    """(B.5) summed over time: f_t(xi) = E[Z^{What_t} Z^{x^L_t(xi)}], (m,)."""
    return mean_product(x, what[None])[:, 0]


def gradient(dx: Array, slope: Array) -> Array:
    """(B.7): Z^{dh^l_t} = Z^{dx^l_t} phi'(Z^{h^l_t}), where (B.6) Z^{dx^L_t} = Z^{What_t}."""
    return dx * slope


def backward_layer(zhat: Array, zdot: Array, moves: Array, x: Array, dh: Array) -> Array:
    """(B.8): Z^{dx_t} = Zhat^{W^T dh_t} + Zdot^{W^T dh_t} - eta sum_{s<t, i} chi_{s,i} Z^{x_s} E[Z^{dh_s} Z^{dh_t}].

    The response sum in Zdot is printed up to s = t - 1. It includes s = t, because dh_t contains phi'(h_t), which
    depends on Zhat^{W x_t} itself. Here dh is (t + 1, m, M), dh_0..dh_t of the layer above.
    """
    return zhat + zdot + history(moves, x, dh[:-1], dh[-1])
