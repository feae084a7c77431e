r"""The conventions table of the README. Oracle: each source's own network, trained by autograd from its own definition.

Two conventions say the same iff networks that start from equal weights stay equal at finite width, to rounding: 12
float64 steps of a stable run, hence 1e-12. A wrong factor anywhere would show at least 10^6 times that (the last test).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from finite import MUP
from finite.dense import backward, forward, update
from tpsim import Network, Problem, Training

Array = np.ndarray
L, N, D, P, STEPS = 3, 24, 7, 4, 12
ETA = 1.0
TOLERANCE = 1e-12


def draw(*stds: float) -> list[Tensor]:
    """W^1 .. W^{L+1} of a source: iid N(0, std^2) entries."""
    rng = np.random.default_rng(5)
    shapes = [(N, D), *[(N, N)] * (L - 1), (1, N)]
    return [torch.tensor(std * rng.standard_normal(shape)) for std, shape in zip(stds, shapes, strict=True)]


RNG = np.random.default_rng(3)
RAW = RNG.uniform(-2.0, 2.0, (P, D))  # inputs in a source's own, unscaled units
TARGETS = np.array([1.0, -1.0, 1.0, -1.0])


def theirs(
    weights: list[Tensor],
    multipliers: list[float],
    rates: list[float],
    loss: Callable[[Tensor], Tensor],
) -> dict[str, Array]:
    """SGD on effective matrices W^l = multiplier_l w^l by autograd. Returns f (T+1, P), h, df_i/dh (T+1, L, P, N)."""
    weights = [w.clone().requires_grad_() for w in weights]
    kept: dict[str, list[Array]] = {"f": [], "h": [], "gradient": []}
    for _ in range(STEPS + 1):
        h = [torch.tensor(RAW) @ (multipliers[0] * weights[0]).T]
        for l in range(1, L):
            h.append(torch.tanh(h[-1]) @ (multipliers[l] * weights[l]).T)
        f = (torch.tanh(h[-1]) @ (multipliers[L] * weights[L]).T)[:, 0]
        features = torch.autograd.grad(f.sum(), h, retain_graph=True)
        kept["f"].append(f.detach().numpy().copy())
        kept["h"].append(np.stack([z.detach().numpy() for z in h]))
        kept["gradient"].append(np.stack([g.numpy() for g in features]))
        gradients = torch.autograd.grad(loss(f), weights)
        with torch.no_grad():
            for w, g, rate in zip(weights, gradients, rates, strict=True):
                w -= rate * g
    return {name: np.stack(values) for name, values in kept.items()}


def ours(weights: list[Tensor], problem: Problem, training: Training) -> dict[str, Array]:
    """The library's dense network from the given W^1 .. W^{L+1}. Returns f, h and dh = n df/dh."""
    matrices = {l: w.clone()[None] for l, w in enumerate(weights, start=1)}
    kept: dict[str, list[Array]] = {"f": [], "h": [], "dh": []}
    for step in range(STEPS + 1):
        h, x, f = forward(matrices, torch.tanh, torch.tensor(problem.inputs))
        dh = backward(matrices, lambda z: 1 - torch.tanh(z) ** 2, h)
        kept["f"].append(f[0].numpy().copy())
        kept["h"].append(np.stack([h[l][0].numpy() for l in range(1, L + 1)]))
        kept["dh"].append(N * np.stack([dh[l][0].numpy() for l in range(1, L + 1)]))
        chi = training.criterion.derivative(f.numpy(), problem.targets)
        chi = chi / P if training.reduction == "mean" else chi
        update(matrices, MUP.rates(training.rates(step, L), N), torch.tensor(chi), x, dh)
    return {name: np.stack(values) for name, values in kept.items()}


def assert_equal(one: Array, other: Array) -> None:
    assert np.abs(one - other).max() <= TOLERANCE * max(1.0, np.abs(other).max())


def assert_learns(run: dict[str, Array]) -> None:
    """The comparison means something: outputs and features of every layer move by much more than the tolerance."""
    assert np.abs(run["f"][-1] - run["f"][0]).max() > 0.1
    assert (np.abs(run["h"][-1] - run["h"][0]).max(axis=(1, 2)) > 0.05).all()


def per_layer(first: float, hidden: float, last: float) -> list[float]:
    return [first, *[hidden] * (L - 1), last]


def squared(f: Tensor) -> Tensor:
    return ((f - torch.tensor(TARGETS)) ** 2).mean()


def dmft(gamma: float, centred: bool = False) -> tuple[dict[str, Array], list[Tensor]]:
    """Bordelon & Pehlevan: h^1 = W^0 x / sqrt(D), h^{l+1} = W^l phi(h^l) / sqrt(N), f = w . phi(h^L) / (N gamma_0).

    All entries N(0, 1), loss (1 / 2P) sum (f - y)^2, or (f - f_0 - y)^2, rate eta gamma_0^2 N on every array.
    """
    weights = draw(*per_layer(1.0, 1.0, 1.0))
    multipliers = per_layer(1 / math.sqrt(D), 1 / math.sqrt(N), 1 / (N * gamma))
    start = theirs(weights, multipliers, [0.0] * (L + 1), squared)["f"][0] if centred else np.zeros(P)
    targets = torch.tensor(TARGETS + start)
    run = theirs(weights, multipliers, [ETA * gamma**2 * N] * (L + 1), lambda f: 0.5 * ((f - targets) ** 2).mean())
    return run, [weights[0], *(w / math.sqrt(N) for w in weights[1:L]), weights[L] / (N * gamma)]


@pytest.mark.parametrize("gamma", [1.0, 0.7, 1.6])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_dmft(gamma, reduction):
    """xi = x / sqrt(D); s = (1, .., 1, 1/gamma_0); rates eta gamma_0^2 / 2 and eta / 2 (mean), 1/P of that (sum)."""
    run, weights = dmft(gamma)
    eta = ETA / 2 / (P if reduction == "sum" else 1)
    training = Training(STEPS, per_layer(eta * gamma**2, eta * gamma**2, eta), "squared", reduction)
    same = ours(weights, Problem(RAW / math.sqrt(D), TARGETS), training)
    assert_equal(same["f"], run["f"])
    assert_equal(same["h"], run["h"])
    g = math.sqrt(N) * gamma * math.sqrt(N) * run["gradient"]  # g = sqrt(N) dh^{L+1}/dh, h^{L+1} = gamma_0 sqrt(N) f
    assert_equal(gamma * same["dh"], g)
    assert_learns(run)


def test_dmft_half_square():
    """With the half square as the user's own loss, chi = f - y, the rate is theirs over P."""
    run, weights = dmft(0.7)
    half = (lambda f, y: 0.5 * (f - y) ** 2, lambda f, y: f - y)
    eta = ETA / P
    training = Training(STEPS, per_layer(eta * 0.7**2, eta * 0.7**2, eta), half, "sum")
    assert_equal(ours(weights, Problem(RAW / math.sqrt(D), TARGETS), training)["f"], run["f"])


def test_dmft_centred():
    """f - f_0 in their loss is a shift of the targets at finite width, and nothing in the limit, where f_0 = 0."""
    run, weights = dmft(0.7, centred=True)
    start = run["f"][0]
    assert np.abs(start).max() > 1e-3
    eta = ETA / 2
    training = Training(STEPS, per_layer(eta * 0.7**2, eta * 0.7**2, eta), "squared", "mean")
    assert_equal(ours(weights, Problem(RAW / math.sqrt(D), TARGETS + start), training)["f"], run["f"])


def test_standard_deviations():
    """The mapped initial entries have the standard deviations that s = (1, .., 1, 1/gamma_0) means in `Network`."""
    gamma = 1.6
    scales = Network(L, "tanh", per_layer(1.0, 1.0, 1 / gamma)).scales
    assert np.allclose(MUP.init_std(scales, N), per_layer(1.0, 1 / math.sqrt(N), 1 / (N * gamma)), rtol=1e-15)


def test_appendix_a():
    """Appendix A, muP: sigma = sqrt(2/d), sqrt(2/n), sqrt(2)/n and eta n/d, eta, eta/n on unscaled inputs.

    Ours: xi = x / sqrt(d), s = sqrt(2), eta.
    """
    weights = draw(*per_layer(math.sqrt(2 / D), math.sqrt(2 / N), math.sqrt(2) / N))
    run = theirs(weights, [1.0] * (L + 1), per_layer(ETA * N / D, ETA, ETA / N), squared)
    mapped = [math.sqrt(D) * weights[0], *weights[1:]]
    same = ours(mapped, Problem(RAW / math.sqrt(D), TARGETS), Training(STEPS, ETA, "squared", "mean"))
    assert_equal(same["f"], run["f"])
    assert_equal(same["h"], run["h"])
    assert_learns(run)
    scales = Network(L, "tanh", math.sqrt(2)).scales
    std = MUP.init_std(scales, N)
    std[0] /= math.sqrt(D)
    assert np.allclose(std, per_layer(math.sqrt(2 / D), math.sqrt(2 / N), math.sqrt(2) / N), rtol=1e-15)


def test_tp4_abc():
    """TP4: W^l = n^{-a_l} w^l, w^l ~ N(0, n^{-2b}), rate eta n^{-c}; muP: a = (-1/2, 0, .., 0, 1/2), b = 1/2, c = 0."""
    weights = draw(*[N**-0.5] * (L + 1))
    multipliers = per_layer(N**0.5, 1.0, N**-0.5)
    run = theirs(weights, multipliers, [ETA / D] * (L + 1), squared)
    mapped = [a * w for a, w in zip(multipliers, weights, strict=True)]
    same = ours(mapped, Problem(RAW, TARGETS), Training(STEPS, ETA / D, "squared", "mean"))
    assert_equal(same["f"], run["f"])


@pytest.mark.parametrize("layer", [0, 1, L])
def test_a_wrong_factor_is_seen(layer):
    """Negative control: one rate off by a tenth, less than any factor of the table."""
    run, weights = dmft(1.0)
    rates = per_layer(ETA / 2, ETA / 2, ETA / 2)
    rates[layer] *= 1.1
    problem = Problem(RAW / math.sqrt(D), TARGETS)
    wrong = ours(weights, problem, Training(STEPS, rates, "squared", "mean"))
    assert np.abs(wrong["f"] - run["f"]).max() > 1e6 * TOLERANCE
