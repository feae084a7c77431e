"""Dense networks in torch: gradients, updates, the four parametrizations, laws at t = 0."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import finite
from finite.activations import in_torch
from finite.dense import Layers, backward, draw, forward
from tests.oracles import table2
from tests.oracles.compare import check_means, mean_and_error
from tpsim.activations import ACTIVATIONS, resolve_activation
from tpsim.parametrization import TABLE_2, appendix_a, as_mup
from tpsim.problem import Network, Problem, Training

Array = np.ndarray
ROUNDING = 1e-12  # float64, quantities of order one, a few hundred operations

RNG = np.random.default_rng(5)
PROBLEM = Problem(RNG.standard_normal((4, 3)), [1.0, -1.0, 1.0, -1.0])
BATCHES = [[0, 1], [3], [1, 2, 3]]
SCALES, ETA = (1.1, 1.3, 0.9, 1.2), (0.1, 0.08, 0.06, 0.12)  # of L = 3: all different
VISIBLE = 1e6 * ROUNDING


def assert_same(values: object, expected: object) -> None:
    """Equal within ROUNDING of the largest entry, or of one."""
    one, other = np.asarray(values), np.asarray(expected)
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= ROUNDING * max(1.0, float(np.abs(other).max()))


@pytest.fixture
def matrices(monkeypatch: pytest.MonkeyPatch) -> list[Layers]:
    """The weights of every block: drawn by the library, and trained in place when `finite.train` is done."""
    blocks: list[Layers] = []

    def draw_and_keep(*arguments: object) -> Layers:
        blocks.append(draw(*arguments))  # type: ignore[arg-type]
        return blocks[-1]

    monkeypatch.setattr("finite.run.draw", draw_and_keep)
    return blocks


def random_weights(depth: int, width: int, seeds: int, inputs: int) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(depth)
    shapes = {1: (width, inputs)} | {k: (width, width) for k in range(2, depth + 1)} | {depth + 1: (1, width)}
    return {
        k: torch.randn(seeds, *shape, generator=generator, dtype=torch.float64) / shape[1] ** 0.5
        for k, shape in shapes.items()
    }


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_gradients_are_those_of_autograd(name: str, depth: int) -> None:
    """Oracle: torch autograd of f_i in every matrix; by hand it is (df_i/dh^l_i) (x^{l-1}_i)^T."""
    weights = {k: w.requires_grad_() for k, w in random_weights(depth, 7, 2, 3).items()}
    phi, dphi = in_torch(resolve_activation(name))
    h, x, f = forward(weights, phi, torch.tensor(PROBLEM.inputs))
    dh = backward(weights, dphi, h)
    for i in range(PROBLEM.samples):
        exact = torch.autograd.grad(f[:, i].sum(), list(weights.values()), retain_graph=True)
        by_hand = [dh[k][:, i, :, None] * x[k - 1][:, i, None, :] for k in range(1, depth + 1)] + [x[depth][:, i, None]]
        for a, b in zip(exact, by_hand, strict=True):
            torch.testing.assert_close(b, a, rtol=0, atol=ROUNDING)


def by_table_2(
    name: str, activation: str, loss: str, width: int, replica: int, mean: bool = True
) -> tuple[Array, list[Array]]:
    """f and the last matrices of L = 3 with SCALES, ETA and BATCHES: Table 2's variances and rates, and autograd."""
    places = (0, 1, 1, 2)
    normals = table2.standard_normals(3, width, replica, 3, 3)
    stds = [s * table2.VARIANCES[name](width)[p] ** 0.5 for s, p in zip(SCALES, places, strict=True)]
    rates = [eta * table2.RATES[name](width)[p] for eta, p in zip(ETA, places, strict=True)]
    weights = [std * z for std, z in zip(stds, normals, strict=True)]
    return table2.train(weights, rates, PROBLEM.inputs, PROBLEM.targets, activation, loss, BATCHES, mean)


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("name", table2.NAMES)
def test_training_is_sgd_as_table_2_says(name: str, activation: str, loss: str, matrices: list[Layers]) -> None:
    """Oracle: `tests.oracles.table2`: f at every step and all matrices after three minibatches of unequal sizes."""
    width, mean = 9, loss == "logistic"
    training = Training(3, ETA, loss, "mean" if mean else "sum", BATCHES)
    run = finite.train(PROBLEM, Network(3, activation, SCALES), training, width, name, 2, seed=3, progress=False)
    for replica in range(2):
        outputs, weights = by_table_2(name, activation, loss, width, replica, mean)
        assert_same(run.f[replica], outputs)
        for l in range(1, 5):
            assert_same(matrices[0][l][replica].numpy(), weights[l - 1])


@pytest.mark.parametrize("name", table2.NAMES)
def test_a_wrong_exponent_or_constant_is_seen(name: str) -> None:
    """Control: half a power of n = 9 in any of the six exponents, or a tenth in any of the eight constants."""
    row, (outputs, _) = TABLE_2[name], by_table_2(name, "tanh", "logistic", 9, 0)
    wrong = []
    for place in range(3):
        shifted = np.zeros(3)
        shifted[place] = 0.5
        wrong += [replace(row, init=tuple(row.init + shifted)), replace(row, rate=tuple(row.rate + shifted))]
    tenth = [tuple(c * (1.1 if k == l else 1.0) for k, c in enumerate(SCALES)) for l in range(4)]
    slower = [tuple(c * (1.1 if k == l else 1.0) for k, c in enumerate(ETA)) for l in range(4)]
    cases = [(other, SCALES, ETA) for other in wrong]
    cases += [(row, scales, ETA) for scales in tenth] + [(row, SCALES, eta) for eta in slower]
    for other, scales, eta in [(row, SCALES, ETA), *cases]:
        training = Training(3, eta, "logistic", "mean", BATCHES)
        run = finite.train(PROBLEM, Network(3, "tanh", scales), training, 9, other, 1, seed=3, progress=False)
        far = np.abs(run.f[0].values - outputs).max() > VISIBLE
        assert far == ((other, scales, eta) != (row, SCALES, ETA)), (other, scales, eta)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", table2.NAMES)
def test_appendix_a_is_that_of_the_paper(name: str, steps: int) -> None:
    """Oracle: the printed sigma_l and eta_l on raw inputs x; ours on x / sqrt(d), with W^1 sqrt(d) times theirs.

    SP's eta_1 = eta / n has no 1/d.
    """
    n, d, L = 24, 5, 3
    raw = np.random.default_rng(1).uniform(0.0, 1.0, (4, d))
    network, training = appendix_a(name, Network(L, "silu"), Training(steps, 1.0, reduction="mean"), d)
    problem = Problem(raw / np.sqrt(d), PROBLEM.targets)
    run = finite.train(problem, network, training, n, name, 2, seed=1, progress=False)
    sigma, eta = table2.appendix_a(name, n, d, L)
    for replica in range(2):
        weights = [s * z for s, z in zip(sigma, table2.standard_normals(1, n, replica, d, L), strict=True)]
        batches = [range(4)] * steps
        outputs, _ = table2.train(weights, eta, raw, problem.targets, "silu", "squared", batches, mean=True)
        assert_same(run.f[replica], outputs)
    assert np.abs(run.f[:, -1] - run.f[:, 0]).max() > VISIBLE


@pytest.mark.parametrize("name", ["sp", "ntp", "ip"])
def test_as_mup_is_the_same_network_at_that_width(name: str, matrices: list[Layers]) -> None:
    """Oracle: the parametrization itself: matrices at t = 0 and T, and f, of three steps with unequal rates."""
    network, training = Network(3, "gelu", SCALES), Training(3, lambda t: np.array(ETA) / (1 + t), reduction="mean")
    own = finite.train(PROBLEM, network, training, 12, name, 2, seed=3, progress=False)
    mup = finite.train(PROBLEM, *as_mup(name, network, training, 12), 12, "mup", 2, seed=3, progress=False)
    assert_same(mup.f, own.f)
    for l in range(1, 5):
        assert_same(matrices[1][l], matrices[0][l])
    assert np.abs(own.f[:, -1] - own.f[:, 0]).max() > VISIBLE


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations_equal_their_numpy_twins(name: str) -> None:
    """Oracle: the numpy callables of the library, which are tested against mpmath."""
    activation = resolve_activation(name)
    own = in_torch(resolve_activation((activation.phi, lambda h: activation.dphi(h))))
    h = torch.cat([torch.linspace(-40, 40, 2001, dtype=torch.float64), torch.tensor([0.0, 1e3, -1e3]).double()])
    for native, twin in zip(in_torch(activation), own, strict=True):
        torch.testing.assert_close(native(h), twin(h), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_initial_laws(dtype: str) -> None:
    """Oracle: identities that hold at every width, for the means over seeds at t = 0.

    E f_0 = 0;  E kernel_h^1 = s_1^2 <xi, xi'>;  E kernel_h^l = s_l^2 E kernel_x^{l-1};
    n E f_0 f_0' = s_{L+1}^2 E kernel_x^L;  for tanh, kernel_dh^L of zero inputs is |What|^2 / n, of mean s_{L+1}^2.
    """
    width, scales = 12, [1.3, 0.8, 1.1, 0.6]
    problem = Problem(np.vstack([PROBLEM.inputs[:2], np.zeros(3)]), np.zeros(3))
    quantities = ("kernel_h", "kernel_x", "kernel_dh")
    run = finite.train(
        problem, Network(3, "tanh", scales), Training(0), width, seeds=4000, dtype=dtype, quantities=quantities
    )
    f, kernel_h, kernel_x = (run[name].values[:, 0] for name in ("f", "kernel_h", "kernel_x"))
    measured = {
        "f": mean_and_error(f),
        "kernel_h of layer 1": mean_and_error(kernel_h[:, 0]),
        "kernel_h of layers 2, 3, less theirs": mean_and_error(
            kernel_h[:, 1:] - np.square(scales[1:3])[:, None, None] * kernel_x[:, :-1]
        ),
        "outputs' covariance, less its": mean_and_error(
            width * f[:, :, None] * f[:, None, :] - scales[3] ** 2 * kernel_x[:, -1]
        ),
        "kernel_dh": mean_and_error(run.kernel_dh.values[:, 0, -1, -1, -1]),
    }
    expected = {name: np.zeros(mean.shape) for name, (mean, _) in measured.items()}
    expected["kernel_h of layer 1"] = scales[0] ** 2 * problem.inputs @ problem.inputs.T
    expected["kernel_dh"] = np.array(scales[3] ** 2)
    check_means("networks at t = 0", measured, expected, replicas=4000, allowance=1e-6)
