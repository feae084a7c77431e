"""The L-hidden-layer MLP in the muP limit, written on the Tensor-Program core: one function per displayed equation.

Source: Chen, Yang, Zhao, Gu 2025, Appendix B, corrected where docs/algorithm.md says so. Every field carries particles
last and is Theta(1); sample indices i run over the rows. The limit is taken for all layers l = 1..L:

    Z^{h^l_t} = Zhat^{W_0 x_t} + Zdot + history       (B.2)-(B.3), the sum of all increments
    Z^{dx^l_t} = Zhat^{W_0' dh_t} + Zdot + history    (B.8)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .core import GaussianMatrix, Noise, ParticleSpace, Parts, Product, expand, inner
from .problem import Network

Array = np.ndarray

INPUT_IN_SPAN = 1e-12  # an input whose relative residual is below this lies in the span of the earlier ones
_FIRST, _READOUT = 1 << 20, 1 << 21  # first key entries that no hidden matrix uses


@dataclass(frozen=True)
class Settings:
    """How the limit is simulated (everything that is neither data, network nor training)."""

    particles: int
    noise: Noise
    sobol: bool
    tolerance: float
    seed: int
    max_rank: int | None = None


class FirstLayer:
    """W^1_t = s_1 N E' + A E' on an orthonormal basis E of the training inputs: (r, d), r = rank of the inputs.

    Parameters
    ----------
    space : ParticleSpace of layer 1
    inputs : (m, d); the basis is Gram-Schmidt in order of appearance.
    scale : s_1
    """

    def __init__(self, space: ParticleSpace, inputs: Array, scale: float) -> None:
        self.scale = scale
        self.basis, self.coordinates = _gram_schmidt(inputs)
        self.draws = space.family()
        space.draw(self.draws, [(_FIRST, k) for k in range(len(self.basis))])
        self.accumulated = np.zeros((len(self.basis), space.particles))

    def product(self, coordinates: Array) -> Array:
        """Z^{h^1_t(xi)} = Z^{W^1_t xi}, (m, M), for inputs with the given coordinates (m, r)."""
        return expand(self.scale * coordinates, self.draws.array, out=expand(coordinates, self.accumulated))

    def update(self, weights: Array, dh: Array, coordinates: Array) -> None:
        """Z^{delta h^1(xi)} = -eta sum_i chi_i <xi_i, xi> Z^{dh^1(xi_i)}   (App. B, item 3; weights = -eta chi)."""
        expand(np.ascontiguousarray((weights[:, None] * coordinates).T), dh, out=self.accumulated)

    def parts(self, coordinates: Array) -> Parts:
        """Zhat, Zdot (none: W^1 is never transposed) and history."""
        zhat = expand(self.scale * coordinates, self.draws.array)
        return Parts(zhat, np.zeros_like(zhat), expand(coordinates, self.accumulated))


@dataclass
class Fields:
    """Everything that one step computes; lists are indexed by the layer l (entry 0 unused).

    `samples` (k,) are the sample indices of the rows; h, x, slope = phi'(h), dh are (k, M) each.
    """

    step: int
    samples: Array
    h: list[Array] = field(default_factory=lambda: [np.empty(0)])
    x: list[Array] = field(default_factory=lambda: [np.empty(0)])
    slope: list[Array] = field(default_factory=lambda: [np.empty(0)])
    dh: list[Array] = field(default_factory=lambda: [np.empty(0)])
    f: Array = field(default_factory=lambda: np.empty(0))
    forward: dict[int, Product] = field(default_factory=dict)
    backward: dict[int, Product] = field(default_factory=dict)


class State:
    """The network in the limit: spaces 1..L, W^1, the lazy W^2..W^L, and What^{L+1}."""

    def __init__(self, network: Network, inputs: Array, settings: Settings, replica: int) -> None:
        self.network, self.settings = network, settings
        self.phi = network.phi
        L, s = network.depth, network.scales
        self.space = {
            l: ParticleSpace(
                settings.particles,
                settings.noise,
                settings.sobol,
                seed=(settings.seed, replica, l),
                name=f"the particle space of layer {l}",
            )
            for l in range(1, L + 1)
        }
        self.first = FirstLayer(self.space[1], inputs, s[0])
        self.hidden = {
            l: GaussianMatrix(
                self.space[l - 1], self.space[l], s[l - 1], settings.tolerance, settings.max_rank, key=(l,)
            )
            for l in range(2, L + 1)
        }
        self.readout_0: Array | None = None  # What_0, drawn after the forward pass of step 0
        self.readout: Array = np.empty(0)  # What_t, (M,)

    @property
    def depth(self) -> int:
        return self.network.depth


def forward(state: State, step: int, samples: Array, parts: bool = False) -> Fields:
    """Z^{h^l_t(xi_i)}, Z^{x^l_t(xi_i)} and f_t(xi_i) for the given samples.

    Source: (B.1)-(B.3) and item 4; the responses of item 4 enter as <V, x>, see `GaussianMatrix`.
    """
    fields = Fields(step, samples)
    h = state.first.product(state.first.coordinates[samples])
    for l in range(1, state.depth + 1):
        if l > 1:
            fields.forward[l] = state.hidden[l].product(fields.x[l - 1], step, samples, parts)
            h = fields.forward[l].value
        x, slope = np.empty_like(h), np.empty_like(h)
        state.phi.evaluate(h, x, slope)  # Z^x = phi(Z^h)
        fields.h.append(h)
        fields.x.append(x)
        fields.slope.append(slope)
    if state.readout_0 is None:
        draw_readout(state, fields.x[state.depth])
    fields.f = output(state.readout, fields.x[state.depth])
    return fields


def draw_readout(state: State, x: Array) -> None:
    """What_0 ~ N(0, s_{L+1}^2), independent of every x^L_0, so that f_0 = E[What_0 x^L_0] = 0.

    Drawn after the forward pass of step 0 and made orthogonal to its x^L_0, except in `width` mode, where f_0 is that
    of a network of M neurons.
    """
    space, settings = state.space[state.depth], state.settings
    space.keep(x)
    draw = space.draw(space.family(), [(_READOUT,)])
    if settings.noise == "iid":
        coefficients = np.linalg.lstsq(space.inner(x, x), space.inner(x, draw), rcond=1e-10)[0]
        draw = expand(-np.ascontiguousarray(coefficients.T), x, out=draw.copy())
    state.readout_0 = state.network.scales[-1] * draw[0]
    state.readout = state.readout_0.copy()


def output(readout: Array, x: Array) -> Array:
    """f_t(xi_i) = E[Z^{What_t} Z^{x^L_t(xi_i)}], (k,); the sum of all increments (B.5)."""
    return inner(x, readout[None])[:, 0]


def backward(state: State, fields: Fields, parts: bool = False) -> None:
    """Z^{dh^l_t(xi_i)} for l = L..1 (B.6)-(B.8), written into `fields`."""
    L = state.depth
    fields.dh = [np.empty(0)] * (L + 1)
    dx = np.broadcast_to(state.readout, fields.h[L].shape)  # (B.6) Z^{dx^L} = Z^{What_t}
    for l in range(L, 0, -1):
        fields.dh[l] = dx * fields.slope[l]  # (B.7)
        if l > 1:
            # (B.8): its response sum runs to s = t, not t - 1 as printed, since dh_t depends on Zhat^{W x_t}
            fields.backward[l] = state.hidden[l].transposed(fields.dh[l], fields.step, fields.samples, parts)
            dx = fields.backward[l].value


def update(state: State, fields: Fields, chi: Array, rates: Array) -> None:
    """One SGD step with error signals chi (k,), zero off the batch, and rates eta_1..eta_{L+1}.

    W^1 -= eta_1 sum chi dh xi';  W^l -= eta_l sum chi dh x' / n;  What -= eta_{L+1} sum chi x^L   (B.4)
    """
    L = state.depth
    state.first.update(-rates[0] * chi, fields.dh[1], state.first.coordinates[fields.samples])
    for l in range(2, L + 1):
        state.hidden[l].update(-rates[l - 1] * chi, fields.backward[l], fields.forward[l])
    expand((-rates[L] * chi)[None], fields.x[L], out=state.readout[None])


def _gram_schmidt(inputs: Array) -> tuple[Array, Array]:
    """Return an orthonormal basis (r, d) of the inputs, in order of appearance, and their coordinates (m, r)."""
    basis = np.empty((0, inputs.shape[1]))
    for xi in inputs:
        norm = np.linalg.norm(xi)
        residual = xi - (basis @ xi) @ basis
        size = np.linalg.norm(residual)
        if size > INPUT_IN_SPAN * norm:
            residual /= size
            residual -= (basis @ residual) @ basis
            basis = np.vstack([basis, residual / np.linalg.norm(residual)])
    coordinates = inputs @ basis.T
    return basis, coordinates
