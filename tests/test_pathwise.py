"""Zdot as the engine forms it, by the score function, against Zdot by pathwise derivatives.

Oracle: the definition. E[dZ^x / dZhat] is a derivative of the function that maps the Gaussian draws at one particle to
x at that particle, with all expectations held fixed. torch runs the same recursion with the draws as leaves and
differentiates it; nothing of tpsim but the draws enters. Both estimate one limit, and two particle counts take out the
bias O(1/M).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from tests.oracles.compare import check_means, richardson
from tests.oracles.linear import input_coordinates
from tpsim import Network, Problem, Training
from tpsim.core import BACKWARD, FORWARD, GaussianMatrix
from tpsim.mlp import Settings, State, backward, forward, update

Array = np.ndarray
Tensor = torch.Tensor
REPLICAS = 16
PHI = {"tanh": torch.tanh, "silu": lambda h: h * torch.sigmoid(h)}


# The oracle -----------------------------------------------------------------------------------------------------------


@dataclass
class PathwiseMatrix:
    """W_t on what touched it; U, V are the draws (leaves), X and D are functions of the draws of their space."""

    scale: float
    U: Tensor
    V: Tensor
    X: list[Tensor] = field(default_factory=list)
    D: list[Tensor] = field(default_factory=list)
    updates: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)  # weights, y, x

    def product(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Z^{W_t x} and its Zdot = s sum_k D_k E[dx / dV_k]."""
        history = sum((weights * mean(x, right)) @ left for weights, left, right in self.updates)
        return self._combine(x, self.X, self.U, self.D, self.V, history)

    def transposed(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Z^{W_t' y} and its Zdot = s sum_k X_k E[dy / dU_k]."""
        history = sum((weights * mean(y, left)) @ right for weights, left, right in self.updates)
        return self._combine(y, self.D, self.V, self.X, self.U, history)

    def _combine(self, x, basis, images, others, leaves, history) -> tuple[Tensor, Tensor]:
        coordinates = extend(basis, x)
        zdot = self.scale * responses(x, leaves)[:, : len(others)] @ torch.stack(others) if others else 0 * x
        return self.scale * coordinates @ images[: len(basis)] + zdot + history, zdot


def mean(a: Tensor, b: Tensor) -> Tensor:
    """E[a_i b_j], a constant."""
    return (a.detach() @ b.detach().T) / a.shape[1]


def responses(x: Tensor, leaves: Tensor) -> Tensor:
    """E[dx_i / dleaf_k]: x_i(alpha) depends on the leaves at alpha alone, so the gradient of its sum has them all."""
    rows = [torch.autograd.grad(row.sum(), leaves, retain_graph=True, allow_unused=True)[0] for row in x]
    return torch.stack(
        [torch.zeros(len(leaves), dtype=torch.float64) if row is None else row.mean(dim=1) for row in rows]
    )


def extend(basis: list[Tensor], x: Tensor) -> Tensor:
    """Gram-Schmidt with constant coefficients: append every x_i to the basis and return all coordinates."""
    for row in x:
        for _ in range(2):
            row = row - sum(mean(row[None], e[None])[0, 0] * e for e in basis)
        basis.append(row / mean(row[None], row[None])[0, 0].sqrt())
    return mean(x, torch.stack(basis))


def pathwise_run(problem: Problem, network: Network, training: Training, state: State) -> dict[str, Tensor]:
    """Appendix B on the draws of `state`; the Zdot fields by name, and the bases in which to compare them."""
    L, s = network.depth, network.scales
    phi = PHI[network.phi.name]

    def leaf(array: Array) -> Tensor:
        return torch.tensor(array, requires_grad=True)

    N, readout = leaf(state.first.draws.array), leaf(state.readout_0)
    W = {l: PathwiseMatrix(s[l - 1], leaf(w.U.array), leaf(w.V.array)) for l, w in state.hidden.items()}
    coordinates = torch.tensor(input_coordinates(problem.inputs))
    first: list[tuple[Tensor, Tensor]] = []
    zdot: dict[str, Tensor] = {}
    for t in range(training.steps + 1):
        h = s[0] * coordinates @ N + sum((w * (coordinates @ coordinates.T)) @ dh for w, dh in first)
        hs, xs = [h], [phi(h)]
        for l in range(2, L + 1):
            h, zdot[f"h{l}_{t}"] = W[l].product(xs[-1])
            hs.append(h)
            xs.append(phi(h))
        f = mean(xs[-1], readout[None])[:, 0].numpy()
        rates = torch.tensor(training.rates(t, L))
        chi = torch.tensor(training.criterion.derivative(f, problem.targets)) / len(f)
        dx = readout.expand_as(h)
        for l in range(L, 0, -1):
            (slope,) = torch.autograd.grad(xs[l - 1].sum(), hs[l - 1], create_graph=True)
            dh = dx * slope
            if l > 1:
                dx, zdot[f"dx{l - 1}_{t}"] = W[l].transposed(dh)
                W[l].updates.append((-rates[l - 1] * chi, dh, xs[l - 2]))
        first.append((-rates[0] * chi, dh))
        readout = readout - rates[L] * chi @ xs[-1]
    bases = {f"h{l}": torch.stack(w.D) for l, w in W.items()} | {f"dx{l - 1}": torch.stack(w.X) for l, w in W.items()}
    return {name: field.detach() for name, field in (zdot | bases).items()}


# The engine -----------------------------------------------------------------------------------------------------------


class WithoutZdot(GaussianMatrix):
    """A wrong engine: no response terms."""

    def _coefficients(self, product):
        zhat, zdot, history = super()._coefficients(product)
        return zhat, np.zeros_like(zdot), history


class WithoutCurrentStep(GaussianMatrix):
    """A wrong engine: the response of W'dh_t to W x_s is summed to s = t-1, as (B.8) is printed."""

    def meet(self, direction, *rest):
        if direction == FORWARD:
            self.before = len(self.X)
        return super().meet(direction, *rest)

    def _coefficients(self, product):
        zhat, zdot, history = super()._coefficients(product)
        if product.direction == BACKWARD:
            zdot = np.where(np.arange(zdot.shape[1]) < self.before, zdot, 0.0)
        return zhat, zdot, history


def engine_run(
    problem: Problem, network: Network, training: Training, particles: int, seed: int, matrix: type[GaussianMatrix]
) -> tuple[State, dict[str, Array]]:
    """The Zdot parts of every product of a run."""
    state = State(network, problem.inputs, Settings(particles, "matched", True, 1e-12, seed), 0)
    for l, w in state.hidden.items():
        state.hidden[l] = matrix(w.source, w.target, w.scale, w.tolerance, key=w.key)
    zdot, everyone = {}, np.arange(problem.samples)
    for t in range(training.steps + 1):
        fields = forward(state, t, everyone, parts=True)
        backward(state, fields, parts=True)
        for l in state.hidden:
            zdot[f"h{l}_{t}"] = fields.forward[l].parts.Zdot
            zdot[f"dx{l - 1}_{t}"] = fields.backward[l].parts.Zdot
            assert len(state.hidden[l].X) == len(state.hidden[l].D) == (t + 1) * problem.samples
        chi = training.criterion.derivative(fields.f, problem.targets) / problem.samples
        update(state, fields, chi, training.rates(t, network.depth))
    return state, zdot


CASES = {
    "L=2 tanh m=2": (2, 3, Network(2, "tanh", [1.2, 1.1, 1.3])),
    "L=3 silu m=1": (1, 3, Network(3, "silu", [1.3, 1.2, 1.4, 1.1])),
}


def coefficients(case: str, particles: int, matrix: type[GaussianMatrix]) -> tuple[dict[str, Array], dict[str, Array]]:
    """<Zdot, e_k> (replica, sample, k) of the engine and of the oracle; e: the oracle's basis, in which Zdot lies."""
    m, steps, network = CASES[case]
    inputs = 1.3 * np.random.default_rng(7).standard_normal((m, 3)) / np.sqrt(3)
    problem = Problem(inputs, np.array([1.0, -0.7])[:m])
    training = Training(steps, list(np.linspace(0.5, 0.3, network.depth + 1)), reduction="mean")
    engine: dict[str, list[Array]] = {}
    oracle: dict[str, list[Array]] = {}
    for seed in range(REPLICAS):
        state, zdot = engine_run(problem, network, training, particles, particles + seed, matrix)
        exact = pathwise_run(problem, network, training, state)
        for name, field_ in zdot.items():
            basis = exact[name.split("_")[0]]
            engine.setdefault(name, []).append(mean(torch.tensor(field_), basis).numpy())
            oracle.setdefault(name, []).append(mean(exact[name], basis).numpy())
    return {name: np.array(v) for name, v in engine.items()}, {name: np.array(v) for name, v in oracle.items()}


def check_fields(case: str, matrix: type[GaussianMatrix]) -> None:
    differences = []
    for particles in (512, 2048):
        engine, oracle = coefficients(case, particles, matrix)
        differences.append({name: engine[name] - oracle[name] for name in engine})
    largest = max(float(np.abs(v.mean(0)).max()) for v in oracle.values())
    assert largest > 0.1  # there is something to compare
    measured = {name: richardson(differences[0][name], differences[1][name], 4) for name in engine}
    zeros = {name: np.zeros_like(value) for name, (value, _) in measured.items()}
    check_means(f"Zdot, {case}, largest coefficient {largest:.2f}", measured, zeros, REPLICAS, allowance=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_score_function_fields_are_pathwise_derivatives(case: str) -> None:
    """Every Zdot of every layer, step and sample, coordinate by coordinate, both directions."""
    check_fields(case, GaussianMatrix)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("wrong", [WithoutZdot, WithoutCurrentStep])
def test_wrong_engines_are_rejected(case: str, wrong: type[GaussianMatrix]) -> None:
    """Negative controls of the comparison above."""
    with pytest.raises(AssertionError, match="fail"):
        check_fields(case, wrong)
