"""The L-hidden-layer MLP in the muP limit, written on the Tensor-Program core: one function per displayed equation.

Source: Chen, Yang, Zhao, Gu 2025, Appendix B, corrected where docs/algorithm.md says so. Every field carries particles
last and is Theta(1); sample indices i run over the rows. The limit is taken for all layers l = 1..L:

    Z^{h^l_t} = Zhat^{W_0 x_t} + Zdot + history       (B.2)-(B.3), the sum of all increments
    Z^{dx^l_t} = Zhat^{W_0' dh_t} + Zdot + history    (B.8)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .core import (
    BACKWARD,
    FORWARD,
    GaussianMatrix,
    Noise,
    ParticleSpace,
    Parts,
    Product,
    Rows,
    accumulate,
    backward_pass,
    count,
    expand,
    forward_pass,
    inner,
)
from .core.rows import aligned
from .core.saved import Saved, nested
from .problem import Network

Array = np.ndarray
Terms = tuple[Array, tuple[Rows, ...]]  # coefficients (k, r) and the r rows that they belong to

INPUT_IN_SPAN = 1e-12  # an input whose relative residual is below this lies in the span of the earlier ones
READOUT_RANK = 1e-10  # singular values of E[x^L_0 x^L_0'] below this share of the largest count as zero (`iid`)
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
    dtype: str = "float64"


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
        self.accumulated = Rows.of(np.zeros((len(self.basis), space.particles)), space.dtype)

    def terms(self, coordinates: Array) -> tuple[Array, tuple[Rows, Rows]]:
        """Z^{h^1_t(xi)} = Z^{W^1_t xi} for inputs with the given coordinates (m, r): coefficients, and rows."""
        return np.concatenate([self.scale * coordinates, coordinates], axis=1), (self.draws, self.accumulated)

    def update(self, weights: Array, dh: Array, coordinates: Array) -> None:
        """Z^{delta h^1(xi)} = -eta sum_i chi_i <xi_i, xi> Z^{dh^1(xi_i)}   (App. B, item 3; weights = -eta chi)."""
        accumulate(self.accumulated, weights[:, None] * coordinates, dh)

    def parts(self, coordinates: Array) -> Parts:
        """Zhat, Zdot (none: W^1 is never transposed) and history."""
        zhat = expand(self.scale * coordinates, self.draws)
        return Parts(zhat, np.zeros_like(zhat), expand(coordinates, self.accumulated))


@dataclass
class Fields:
    """Everything that one step computes; lists are indexed by the layer l (entry 0 unused).

    `samples` (k,) are the sample indices of the rows; h, x, slope = phi'(h), dh are (k, M) each, and overwritten by the
    step after the next one. kernel_h, kernel_x, kernel_dh are (k, k): E[Z^h Z^h'] and so on; mean_h, mean_x are (k,).
    """

    step: int
    samples: Array
    h: list[Array]
    x: list[Array]
    slope: list[Array]
    dh: list[Array]
    f: Array = field(default_factory=lambda: np.empty(0))
    forward: dict[int, Product] = field(default_factory=dict)
    backward: dict[int, Product] = field(default_factory=dict)
    kernel_h: dict[int, Array] = field(default_factory=dict)
    kernel_x: dict[int, Array] = field(default_factory=dict)
    kernel_dh: dict[int, Array] = field(default_factory=dict)
    mean_h: dict[int, Array] = field(default_factory=dict)
    mean_x: dict[int, Array] = field(default_factory=dict)


class State:
    """The network in the limit: spaces 1..L, W^1, the lazy W^2..W^L, and What^{L+1}."""

    def __init__(self, network: Network, inputs: Array, settings: Settings, replica: int) -> None:
        self.network, self.settings = network, settings
        self.phi = network.phi
        L, s, dtype = network.depth, network.scales, np.dtype(settings.dtype)
        self.space = {
            l: ParticleSpace(
                settings.particles,
                settings.noise,
                settings.sobol,
                seed=(settings.seed, replica, l),
                name=f"the particle space of layer {l}",
                dtype=dtype,
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
        self.readout_0: Array | None = None  # What_0, (M,), drawn after the forward pass of step 0
        self.readout = Rows(settings.particles, dtype)  # What_t: one row, once it is drawn
        self._memory: list[Array] = []  # of the fields of two steps

    @property
    def depth(self) -> int:
        return self.network.depth

    def fields(self, step: int, samples: Array) -> Fields:
        """Return empty fields of a step, in the memory of those of the step before the last one."""
        k, shape = len(samples), (4, self.depth, len(samples), self.settings.particles)
        if len(self._memory) < 2 or self._memory[0].shape[2] < k:
            older = self._memory[-1:]  # the last step's stay as they are, for those who hold them
            self._memory = [*older, *(aligned(shape) for _ in range(2 - len(older)))]
        self._memory.reverse()
        if self._memory[0].shape[2] < k:
            self._memory[0] = aligned(shape)
        none = np.empty(0)
        h, x, slope, dh = ([none, *(block[:k] for block in kind)] for kind in self._memory[0])
        return Fields(step, samples, h, x, slope, dh)

    def state(self) -> dict[str, Array]:
        """What `restore` takes: views of all arrays over particles, and everything that was counted."""
        parts: dict[str, dict[str, Array]] = {f"space/{l}": space.state() for l, space in self.space.items()}
        parts |= {f"matrix/{l}": matrix.state() for l, matrix in self.hidden.items()}
        parts |= {"accumulated": self.first.accumulated.state(), "readout": self.readout.state()}
        drawn = {} if self.readout_0 is None else {"readout_0": self.readout_0}
        return nested(parts) | drawn

    def restore(self, saved: Saved) -> None:
        """Become the state that `state` described, of the same network, inputs, settings and replica.

        Raises
        ------
        ValueError
            An array is missing, or has another form than this state's.
        """
        draws, r = self.first.draws, len(self.first.basis)
        for l, space in self.space.items():
            space.restore(saved.within(f"space/{l}"))
        for l, matrix in self.hidden.items():
            matrix.restore(saved.within(f"matrix/{l}"))
        self.first.accumulated.restore(saved.within("accumulated"))
        if not len(draws) == len(self.first.accumulated) == r:
            raise ValueError(f"W^1 has {len(draws)} draws and {len(self.first.accumulated)} updates, and not {r}")
        self.readout.restore(saved.within("readout"))
        drawn = "readout_0" in saved
        if len(self.readout) != drawn:
            raise ValueError(f"What has {len(self.readout)} rows, and not {int(drawn)}")
        if drawn:
            self.readout_0 = saved.take("readout_0", (self.settings.particles,), np.float64)


def forward(state: State, step: int, samples: Array, parts: bool = False, whole: bool = True) -> Fields:
    """Z^{h^l_t(xi_i)}, Z^{x^l_t(xi_i)} and f_t(xi_i) for the given samples.

    Unless the `whole` is wanted, h and means are left out, and of the kernels all but the diagonal.

    Source: (B.1)-(B.3) and item 4; the responses of item 4 enter as <V, x>, see `GaussianMatrix`.
    """
    fields, L = state.fields(step, samples), state.depth
    terms: Terms = state.first.terms(state.first.coordinates[samples])
    for l in range(1, L + 1):
        onto = state.hidden[l + 1].sides[FORWARD].onto if l < L else (state.readout,)
        # Z^h is the sum of its terms, Z^x = phi(Z^h)
        sums = forward_pass(*terms, state.phi.kernel, fields.h[l], fields.x[l], fields.slope[l], onto, whole)
        fields.kernel_h[l], fields.mean_h[l] = sums.kernel_h, sums.mean_h
        fields.kernel_x[l], fields.mean_x[l] = sums.kernel_x, sums.mean_x
        if l < L:
            product = state.hidden[l + 1].meet(
                FORWARD, fields.x[l], sums.inner, np.diag(sums.kernel_x), step, samples, parts
            )
            fields.forward[l + 1], terms = product, state.hidden[l + 1].terms(product)
    if state.readout_0 is None:
        draw_readout(state, fields.x[L])
        fields.f = output(state.readout, fields.x[L])
    else:
        fields.f = sums.inner[:, 0]  # f_t(xi_i) = E[Z^{What_t} Z^{x^L_t(xi_i)}], the sum of all increments (B.5)
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
        moments = space.inner(x, x)
        if np.isfinite(moments).all():  # else f_0 is not finite either, and the run ends
            coefficients, _, rank, _ = np.linalg.lstsq(moments, space.inner(x, draw), rcond=READOUT_RANK)
            count("readout_rank", len(x) - rank)
            draw = expand(-np.ascontiguousarray(coefficients.T), x, out=draw.copy())
    state.readout_0 = state.network.scales[-1] * draw[0]
    state.readout.append(state.readout_0)


def output(readout: Rows | Array, x: Array) -> Array:
    """f_t(xi_i) = E[Z^{What_t} Z^{x^L_t(xi_i)}], (k,)   (B.5), for What_t as one row."""
    return inner(x, readout)[:, 0]


def backward(state: State, fields: Fields, parts: bool = False, whole: bool = True) -> None:
    """Z^{dh^l_t(xi_i)} for l = L..1 (B.6)-(B.8), written into `fields`."""
    terms: Terms = np.ones((len(fields.samples), 1)), (state.readout,)  # (B.6) Z^{dx^L} = Z^{What_t}
    for l in range(state.depth, 0, -1):
        onto = state.hidden[l].sides[BACKWARD].onto if l > 1 else ()
        sums = backward_pass(*terms, fields.slope[l], fields.dh[l], onto, whole)  # (B.7) Z^dh = Z^dx phi'(Z^h)
        fields.kernel_dh[l] = sums.kernel_x
        if l > 1:
            # (B.8): its response sum runs to s = t, not t - 1 as printed, since dh_t depends on Zhat^{W x_t}
            product = state.hidden[l].meet(
                BACKWARD, fields.dh[l], sums.inner, np.diag(sums.kernel_x), fields.step, fields.samples, parts
            )
            fields.backward[l], terms = product, state.hidden[l].terms(product)


def update(state: State, fields: Fields, chi: Array, rates: Array) -> None:
    """One SGD step with error signals chi (k,), zero off the batch, and rates eta_1..eta_{L+1}.

    W^1 -= eta_1 sum chi dh xi';  W^l -= eta_l sum chi dh x' / n;  What -= eta_{L+1} sum chi x^L   (B.4)
    """
    L = state.depth
    state.first.update(-rates[0] * chi, fields.dh[1], state.first.coordinates[fields.samples])
    for l in range(2, L + 1):
        state.hidden[l].update(-rates[l - 1] * chi, fields.backward[l], fields.forward[l])
    accumulate(state.readout, (-rates[L] * chi)[:, None], fields.x[L])


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
        else:
            count("input_in_span")
    coordinates = inputs @ basis.T
    return basis, coordinates
