"""Inputs that are only looked at, evaluated by replay: training never knows of them.

At the wanted steps a `Frame` keeps what training has changed. After training every probe is sent through the network
with the FINAL bases of each lazy matrix (W_0 is one fixed matrix: what was revealed later was always there) and the
update core of the frame's step. What a probe's feature has outside the final basis meets a part of W_0 that nothing
has touched:

    Z^{h*} = s (U c + D b) + D S_t c + s rho Z,    rho^2 = |x*|^2 - |c|^2,    Z ~ N(0, 1) fresh, one for all t.

Below the last layer Z is sampled, in antithetic pairs; in the last layer it is integrated by Gauss-Hermite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .core import FORWARD, GaussianMatrix, Rows, count, expand, forward_pass
from .core.passes import Sums, smoothed_output
from .core.saved import Saved
from .core.stack import buffer
from .mlp import State, Terms

Array = np.ndarray

SMOOTH, KINKED = 8, 40  # Gauss-Hermite nodes; a kink makes the error fall like 1 / nodes only
RESOLVED = 1e-7  # relative residual of a probe's feature, below which it is rounding
CHUNK = 64  # probes handled at once: bounds memory at CHUNK (L + 3) arrays
_PROBE = 1 << 22  # first key entry that training does not use


@dataclass(frozen=True)
class Frame:
    """What training has changed by one step: the accumulated updates of W^1, of W^2..W^L and What_t."""

    step: int
    first: Array  # (r, M)
    cores: dict[int, Array]  # S_t, (q, p)
    readout: Array  # (M,)

    @classmethod
    def of(cls, state: State, step: int) -> Frame:
        """Return copies of what `state` has accumulated by `step`."""
        return cls(
            step,
            state.first.accumulated.array,
            {l: matrix.S.copy() for l, matrix in state.hidden.items()},
            state.readout.array[0],
        )

    def state(self) -> dict[str, Array]:
        """What `restored` takes."""
        return {"first": self.first, "readout": self.readout} | {f"core/{l}": S for l, S in self.cores.items()}

    @classmethod
    def restored(cls, saved: Saved, step: int, state: State) -> Frame:
        """Return the frame of a step from what its `state` was; `state` is the network's, at a later step."""
        M, r = state.settings.particles, len(state.first.basis)
        cores = {l: saved.take(f"core/{l}", (None, None), np.float64) for l in state.hidden}
        for l, S in cores.items():
            if S.shape[0] > len(state.hidden[l].D) or S.shape[1] > len(state.hidden[l].X):
                raise ValueError(f"a core of shape {S.shape} for ranks {state.hidden[l].ranks}")
        return cls(step, saved.take("first", (r, M), np.float64), cores, saved.take("readout", (M,), np.float64))


def replay(state: State, frames: list[Frame], probes: Array, look: Callable[[], None] = lambda: None) -> Array:
    """Return f_t(xi*) for the steps of `frames` and the probe inputs, shape (frames, p).

    Parameters
    ----------
    state : State after training; it is not changed.
    frames : what was kept at the wanted steps.
    probes : (p, d)
    look : called before each frame; may raise.

    Error: as f on the training samples, plus the sampling of Z below the last layer, O(M^-1/2) in the antithetic odd
    part only; a probe that is a training input returns that sample's f up
    to what the tolerance dropped.
    Cost: for each frame and sign a forward pass over p rows at the final ranks.
    """
    out = np.empty((len(frames), len(probes)))
    signs = (1.0,) if state.settings.noise == "width" or state.depth == 1 else (1.0, -1.0)
    for start in range(0, len(probes), CHUNK):
        block = slice(start, min(start + CHUNK, len(probes)))
        noise = _residual_noise(state, range(block.start, block.stop))
        for k, frame in enumerate(frames):
            look()
            out[k, block] = np.mean([_evaluate(state, frame, probes[block], noise, sign) for sign in signs], axis=0)
    return out


def _residual_noise(state: State, indices: range) -> dict[int, Rows]:
    """Z of every layer where it is sampled: l < L, and l = L in `width` mode, where the law itself is wanted."""
    last = state.depth if state.settings.noise == "width" else state.depth - 1
    return {
        l: Rows.of(
            state.space[l].sample([(_PROBE, i) for i in indices], complement=state.hidden[l].D if l > 1 else None),
            state.space[l].dtype,
        )
        for l in range(1, last + 1)
    }


def _evaluate(state: State, frame: Frame, probes: Array, noise: dict[int, Rows], sign: float) -> Array:
    """f_t of a block of probes for one sign of the residual noise, (k,)."""
    first, L, tolerance = state.first, state.depth, state.settings.tolerance
    h, x, slope = (_buffers(state, len(probes))[i] for i in range(3))
    c = probes @ first.basis.T
    terms: Terms = np.concatenate([first.scale * c, c], axis=1), (first.draws, Rows.of(frame.first, first.draws.dtype))
    rho = first.scale * _residual_norm((probes**2).sum(axis=1), c, tolerance)
    readout = Rows.of(frame.readout[None], first.draws.dtype)
    for l in range(1, L + 1):
        if l not in noise:  # the last layer: Z is integrated
            h[...] = 0.0
            expand(*terms, out=h)
            return smoothed_output(state.phi.kernel, h, rho, frame.readout, SMOOTH if state.phi.smooth else KINKED)
        coefficients, basis = terms
        onto = state.hidden[l + 1].sides[FORWARD].onto if l < L else (readout,)
        with_noise = np.concatenate([coefficients, np.diag(sign * rho)], axis=1)
        sums = forward_pass(with_noise, (*basis, noise[l]), state.phi.kernel, h, x, slope, onto)
        if l < L:
            terms, rho = _through(state.hidden[l + 1], frame.cores[l + 1], sums, tolerance)
    return sums.inner[:, 0]


def _through(matrix: GaussianMatrix, core: Array, sums: Sums, tolerance: float) -> tuple[Terms, Array]:
    """W^l_t x with the final bases: the known part, and the size s rho of the unknown one (k,)."""
    c, b = np.split(sums.inner, [len(matrix.X)], axis=1)
    history = np.zeros((len(c), len(matrix.D)))
    history[:, : core.shape[0]] = c[:, : core.shape[1]] @ core.T  # S_t padded with zeros
    known = np.concatenate([matrix.scale * c, matrix.scale * b + history], axis=1)
    return (known, (matrix.U, matrix.D)), matrix.scale * _residual_norm(np.diag(sums.kernel_x), c, tolerance)


def _buffers(state: State, k: int) -> Array:
    """Room for three fields of k probes, kept from call to call."""
    return buffer("probes", (3, k, state.settings.particles))


def _residual_norm(square: Array, c: Array, tolerance: float) -> Array:
    """sqrt(|x|^2 - |c|^2), zero where training, too, would have taken x to lie in the span."""
    energy = square - (c**2).sum(axis=1)
    # RESOLVED is the rounding of the difference of two squares, whatever smaller tolerance is asked for
    within = energy <= max(tolerance, RESOLVED) ** 2 * square
    count("probe_in_span", (within & (square > 0.0)).sum())
    return np.sqrt(np.where(within, 0.0, energy))  # NaN stays NaN, and is seen in f_probe
