"""The engine against its slow twin: the M particles are the neurons of one dense network.

The final bases of a lazy matrix hold one fixed W_0 = s (U X' + D V') / M, (M, M): with `matched` noise every draw is
orthogonal to all that came before it, so that what was revealed later changes no earlier product. SGD from this W_0,
W^1_0 and What_0 is the trajectory of the engine, whatever the activation.

Oracle: plain numpy (`oracles.dense`), which is given the draws and shares the losses; it knows no lazy matrix, no
response, no fused pass. Every field of every layer and step, particle by particle, to rounding.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tests.oracles.dense import trajectory
from tests.oracles.problems import problem_of
from tpsim import Network, Problem, Training
from tpsim.core import GaussianMatrix
from tpsim.mlp import Settings, State, backward, forward, update
from tpsim.run import error_signal

Array = np.ndarray
PARTICLES = 320  # not a multiple of a block
ROUNDING = 1e-9  # 1e-12 of every argument is dropped, and errors grow over the steps

CASES = {
    "tanh": (Network(2, "tanh", [1.2, 1.1, 1.3]), Training(5, [0.3, 0.25, 0.2], reduction="mean")),
    "silu": (Network(3, "silu", [1.3, 1.2, 1.4, 1.1]), Training(5, [0.3, 0.2, 0.25, 0.15], reduction="mean")),
    "minibatch": (
        Network(3, "tanh", [1.1, 1.3, 1.2, 0.9]),
        Training(5, [0.2, 0.3, 0.25, 0.2], reduction="mean", batches=[[0, 2], [1], [0, 1, 2], [2], [0, 1]]),
    ),
}


def engine(problem: Problem, network: Network, training: Training, matrix: type[GaussianMatrix]) -> dict[str, Array]:
    """The engine's own trajectory and, as `weights`, the dense network that it has to be."""
    state = State(network, problem.inputs, Settings(PARTICLES, "matched", True, 1e-12, seed=3), 0)
    for l, w in state.hidden.items():
        state.hidden[l] = matrix(w.source, w.target, w.scale, w.tolerance, key=w.key)
    everyone = np.arange(problem.samples)
    kept: dict[str, list] = {"f": [], "Z_h": [], "Z_x": [], "Z_dh": []}
    for step, batch in enumerate([*training.batch_indices(problem.samples), everyone]):
        fields = forward(state, step, everyone)
        backward(state, fields)
        kept["f"].append(fields.f)
        for name, z in (("Z_h", fields.h), ("Z_x", fields.x), ("Z_dh", fields.dh)):
            kept[name].append(np.array(z[1:]))
        chi = error_signal(training, fields.f, problem.targets, np.isin(everyone, batch))
        if step < training.steps:
            update(state, fields, chi, training.rates(step, network.depth))
    return {name: np.array(rows) for name, rows in kept.items()} | {"weights": dense_weights(state)}


def dense_weights(state: State) -> list[Array]:
    """W^1_0 (M, d), W^l_0 (M, M), W^{L+1}_0 (M,)."""
    first, scales = state.first, state.network.scales
    hidden = [
        s * (W.U.array.T @ W.X.array + W.D.array.T @ W.V.array) / PARTICLES
        for s, W in zip(scales[1:], state.hidden.values(), strict=False)
    ]
    return [scales[0] * first.draws.array.T @ first.basis, *hidden, state.readout_0 / PARTICLES]


def check_twin(case: str, matrix: type[GaussianMatrix] = GaussianMatrix) -> None:
    (network, training), problem = CASES[case], problem_of(3, d=4, size=1.5)
    found = engine(problem, network, training, matrix)
    exact = trajectory(
        problem, network, training, found["weights"], (PARTICLES, 1.0, 1 / PARTICLES), gradient_scale=PARTICLES
    )
    assert np.abs(exact["f"][-1]).max() > 0.1 and np.isfinite(exact["f"]).all()  # it moves
    for name in ("f", "Z_h", "Z_x", "Z_dh"):
        assert_allclose(found[name], exact[name], rtol=0, atol=ROUNDING * np.abs(exact[name]).max(), err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_the_engine_is_a_dense_network(case: str) -> None:
    """f_t and Z^h, Z^x, Z^dh: forward, backward and update, responses and history."""
    check_twin(case)


class WithoutZdot(GaussianMatrix):
    """A wrong engine: no response terms."""

    def _coefficients(self, product):
        zhat, zdot, history = super()._coefficients(product)
        return zhat, np.zeros_like(zdot), history


def test_without_zdot_is_rejected() -> None:
    """Negative control of the comparison."""
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_twin("tanh", WithoutZdot)
