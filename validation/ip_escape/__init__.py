r"""When do networks of the integrable parametrization (IP) begin to learn? At L = 3 after a time that grows like log n.

    python -m validation.ip_escape [--quick] [--output DIR]

In the limit they never do: for L >= 3 and phi(0) = 0, f_t = 0 at every fixed t (`simulate(limit="ip")`). A network of
width n leaves that saddle all the same, because its initial hidden weights, of size 1/n, are not zero.

Mechanism, L = 3. Near the start h^2_i and g = n (W^4 W^3)' have entries of size n^-1/2, h^3 of size 1/n, f of size
n^-3/2; W^1, W^4 and chi = -2y/m stand still. With a = phi'(0) and u = sum_i chi_i h^2_i one step of SGD is linear,

    u <- u - eta_2 a^2 (chi' K chi) g,       g <- g - eta_3 a^2 s_4^2 u,        K = E[Z^{x^1_0} Z^{x^1_0}'],

whose growing mode has the rate lambda = a^2 s_4 sqrt(eta_2 eta_3 chi' K chi), the same at every width. The output is a
product of both, sum_i chi_i f_i = a^2 <g, u>, and for s_2 = s_3 = s, eta_2 = eta_3 = eta

    1 - Loss_t / Loss_0 ~ (lambda s^2 / 2 eta n) [(1 + lambda)^2t - (1 - lambda)^2t].

This begins at 1/n and has to become of size one: t_escape = a + b log n with b = 1 / (2 log(1 + lambda)); the passage
from small to large does not depend on n and is part of a. At L = 2 nothing small multiplies anything and t_escape is
bounded; from L = 4 on the rate is itself a product of small amplitudes, and t_escape ~ n^((L-3)/2).

The escape time is where the training loss falls below half of its initial value, log-linear between two steps. Widths
up to a few hundred are dense networks, the others have the same law without their matrices (`noise="width"`); both are
compared at one width.

Source: none; what it says of Chen et al. 2025, Table 1: IP's tick for feature learning is about finite widths.
"""

from .claims import Claim, claims
from .networks import Result, Study, escape_time, measure, studies

__all__ = ["Claim", "Result", "Study", "claims", "escape_time", "measure", "studies"]
