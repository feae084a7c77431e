"""Dense networks in torch: gradients, updates, laws at initialisation, and independence of how the work is split."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import finite
from finite.activations import in_torch
from finite.dense import backward, forward
from tests.oracles.compare import check_means, mean_and_error
from tpsim.activations import ACTIVATIONS, resolve_activation
from tpsim.errors import InputError, Notice
from tpsim.problem import Network, Problem, Training

Array = np.ndarray
ROUNDING = 1e-12  # float64, quantities of order one, a few hundred operations

RNG = np.random.default_rng(5)
PROBLEM = Problem(RNG.standard_normal((4, 3)), [1.0, -1.0, 1.0, -1.0], RNG.standard_normal((2, 3)))


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


def plain_sgd(weights: dict[int, Tensor], problem: Problem, training: Training, width: int, scale: float) -> Array:
    """SGD on the loss of one network by autograd, written apart from `finite`: f (T + 1, m)."""
    parameters = [w.clone().requires_grad_() for w in weights.values()]
    inputs, targets = torch.tensor(problem.inputs), torch.tensor(problem.targets)
    eta = np.asarray(training.learning_rate)
    rates = [eta[0] * width, *eta[1:-1], eta[-1] / width]
    outputs = []
    for batch in [*training.batches, None]:
        x = inputs.T
        for w in parameters[:-1]:
            x = torch.tanh(scale * (w @ x)) / scale
        f = (parameters[-1] @ x)[0]
        outputs.append(f.detach().numpy())
        if batch is not None:
            loss = torch.nn.functional.softplus(-targets[batch] * f[batch]).mean()
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for w, g, rate in zip(parameters, gradients, rates, strict=True):
                    w -= rate * g
    return np.stack(outputs)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_training_is_sgd_with_mup_rates(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: autograd at the rates eta n, eta, eta / n; unequal rates, minibatches, mean logistic loss, own phi.

    The weights at t = 0 are given, so that the two need not share a random stream.
    """
    width, seeds = 9, 3
    weights = random_weights(depth, width, seeds, 3)
    weights[depth + 1] /= width**0.5
    scale = 0.7
    own = (lambda h: np.tanh(scale * h) / scale, lambda h: 1 / np.cosh(scale * h) ** 2)
    rates = list(np.linspace(0.9, 0.4, depth + 1))
    training = Training(4, rates, loss="logistic", reduction="mean", batches=[[0, 1], [3], [1, 2, 3], [0, 2]])
    expected = [plain_sgd({k: w[b] for k, w in weights.items()}, PROBLEM, training, width, scale) for b in range(seeds)]
    monkeypatch.setattr("finite.run.draw", lambda *_: weights)
    run = finite.train(PROBLEM, Network(depth, own), training, width, seeds=seeds, batch_seeds=seeds)
    assert np.abs(run.f[:, -1] - run.f[:, 0]).max() > 0.1
    np.testing.assert_allclose(run.f, np.stack(expected), rtol=0, atol=ROUNDING)


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


def test_result_does_not_depend_on_how_seeds_are_grouped() -> None:
    """Network k depends on (seed, width, k) only: not on its block, on `seeds`, or on what is recorded."""
    network, training = Network(2, "silu"), Training(3, 0.2, batches={"size": 2, "seed": 1})
    plain = Problem(PROBLEM.inputs, PROBLEM.targets)
    reference = finite.train(PROBLEM, network, training, 10, seeds=5, seed=3)
    for options in ({"batch_seeds": 1}, {"batch_seeds": 3}, {"probe_every": 2}, {"quantities": ("f",)}):
        run = finite.train(PROBLEM, network, training, 10, seeds=5, seed=3, **options)
        np.testing.assert_allclose(run.f, reference.f, rtol=0, atol=ROUNDING)
    fewer = finite.train(plain, network, training, 10, seeds=2, seed=3)
    np.testing.assert_allclose(fewer.f, reference.f[:2], rtol=0, atol=ROUNDING)
    last = finite.train(plain, network, training, 10, seeds=2, seed=3, first_seed=3)
    np.testing.assert_allclose(last.f, reference.f[3:], rtol=0, atol=ROUNDING)
    assert last.replica.values.tolist() == [3, 4]
    other = finite.train(plain, network, training, 10, seeds=5, seed=4)
    assert np.abs(other.f - reference.f).min() > 0
    # the first rows of a wider network are not a narrower one
    wider = finite.train(plain, network, training, 11, seeds=5, seed=3).kernel_h[:, 0, 0] * 11
    assert (np.linalg.eigvalsh(wider - 10 * reference.kernel_h[:, 0, 0]).min(axis=-1) < -1e-3).any()


def test_result_follows_the_schema() -> None:
    """Dimensions, coordinates, and what follows from f: chi and loss of the full data, the batches."""
    batches = [[0, 1], [3], [2, 3], [0]]
    training = Training(4, 0.1, reduction="mean", batches=batches)
    quantities = ("f", "f_probe", "kernel_h", "kernel_x", "kernel_dh")
    run = finite.train(PROBLEM, Network(3, "erf"), training, 8, seeds=5, quantities=quantities, probe_every=3)
    assert run.f.dims == run.chi.dims == ("replica", "step", "sample")
    assert run.f_probe.dims == ("replica", "probe_step", "probe")
    assert run.probe_step.values.tolist() == [0, 3, 4] and run.step.values.tolist() == [0, 1, 2, 3, 4]
    assert run.kernel_dh.dims == ("replica", "step", "layer", "sample", "sample2")
    assert run.layer.values.tolist() == [1, 2, 3] and run.kernel_h.shape == (5, 5, 3, 4, 4)
    np.testing.assert_allclose(run.chi, (run.f - PROBLEM.targets) * 2 / 4)
    np.testing.assert_allclose(run.loss, ((run.f - PROBLEM.targets) ** 2).mean("sample"))
    assert [np.flatnonzero(row).tolist() for row in run.batch.values] == [*batches, []]


def test_a_probe_that_is_a_training_input_returns_its_output() -> None:
    problem = Problem(PROBLEM.inputs, PROBLEM.targets, PROBLEM.inputs[1:3])
    run = finite.train(problem, Network(2, "gelu"), Training(3, 0.2), 8, seeds=4)
    np.testing.assert_allclose(run.f_probe, run.f[:, :, 1:3], rtol=0, atol=ROUNDING)


def test_a_diverging_network_is_recorded_as_such() -> None:
    with pytest.warns(Notice, match="3 of 3 networks diverged"):
        run = finite.train(PROBLEM, Network(2, "identity"), Training(30, 9.0), 6, seeds=3)
    assert np.isfinite(run.f[:, 0]).all() and not np.isfinite(run.f[:, -1]).any()


@pytest.mark.parametrize(
    "options",
    [{"width": 0}, {"seeds": 0}, {"batch_seeds": 0}, {"probe_every": 0}, {"dtype": "float16"}, {"quantities": ("g",)}],
    ids=lambda options: next(iter(options)),
)
def test_bad_arguments_are_named(options: dict) -> None:
    arguments = {"width": 4, "seeds": 2} | options
    with pytest.raises(InputError, match=next(iter(options))):
        finite.train(PROBLEM, Network(2), Training(1), **arguments)
