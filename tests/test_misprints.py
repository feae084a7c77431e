"""Statements of the paper that hold only in the form docs/algorithm.md gives. Oracle: exact linear dependence.

Which form of the recursion (item 4, (B.8)) is right is decided by finite networks, in tests/test_wrong_engines.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.datasets import load_digits

from tests.oracles.levels import ALPHA, critical, spend
from tpsim import Network, Problem, Training, simulate, standard_error
from tpsim.assumption import check_assumption
from tpsim.reference import simulate_reference

Array = np.ndarray
ROUNDING = 1e-12  # of a Gram matrix of a few samples, relative to its largest eigenvalue: 1e-15 per operation


def smallest(gram: Array) -> Array:
    """Smallest eigenvalue relative to the largest, of matrices (..., m, m)."""
    values = np.linalg.eigvalsh(gram)
    return values[..., 0] / values[..., -1]


def train(inputs: list[list[float]], targets: list[float]):
    network, training = Network(3, "tanh"), Training(12, 0.2)
    return simulate(Problem(inputs, targets), network, training, particles=2048, replicas=1, progress=False)


def test_preactivations_of_layer_1_are_dependent_where_samples_exceed_the_rank():
    """Theorem 4.5, item 1, at l = 1: h^1_t = W^1_t xi is linear in xi at every t. Everything else is independent."""
    inputs = [[1.0, 0.2], [-0.3, 0.9], [0.7, 0.6]]
    assert check_assumption(inputs).holds_needed
    run = train(inputs, [1.0, -1.0, 0.5])
    assert float(run.feature_change_h.isel(step=-1).min()) > 0.1  # the network has learned
    h, x = (smallest(run[name].values[0]) for name in ("kernel_h", "kernel_x"))  # (step, layer)
    print(f"smallest relative eigenvalue of the layer-1 kernels: h {np.abs(h[:, 0]).max():.1e}, x {x[:, 0].min():.1e}")
    assert np.abs(h[:, 0]).max() < ROUNDING
    assert h[:, 1:].min() > 1e3 * ROUNDING
    assert x.min() > 1e3 * ROUNDING


@pytest.mark.filterwarnings("ignore:Assumption 4.1:tpsim.Notice")
def test_opposite_inputs_satisfy_the_printed_assumption_and_break_the_theorem():
    """Assumption 4.1 as printed says nothing about two points; tanh is odd, hence so are all features."""
    report = check_assumption([[1.0, 0.2], [-1.0, -0.2]])
    assert report.holds_printed and not report.holds_needed
    run = train([[1.0, 0.2], [-1.0, -0.2]], [1.0, 0.5])
    for name in ("kernel_h", "kernel_x"):
        assert np.abs(smallest(run[name].values[0])).max() < ROUNDING


def test_share_of_digit_subsets_with_ties():
    """Integer-valued pixels tie: Assumption 4.1 fails on a positive share of ten-image subsets, not on a null set."""
    pixels, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    subsets = [np.concatenate([rng.choice(np.flatnonzero(labels == k), 5, False) for k in (0, 1)]) for _ in range(1000)]
    reports = [check_assumption(pixels[subset]) for subset in subsets]
    printed, needed = np.mean([[not r.holds_printed, not r.holds_needed] for r in reports], axis=0)
    error = np.sqrt(printed * (1 - printed) / len(reports))
    print(f"Assumption 4.1 fails on {printed:.3f} +- {error:.3f} of the subsets as printed, on {needed:.3f} as needed")
    assert 5 * error < printed <= needed


@pytest.mark.parametrize("mistake", ["item4_as_printed", "s_equals_t_dropped"])
def test_the_printed_recursions_part_at_the_second_step(mistake):
    """Paired replicas: f_1 is the same, f_2 is not.

    At step 0 the missing response of (B.8) is zero in the limit, of size M^-1/2 on particles: f_1 is equal in mean.
    """
    problem = Problem([[1.0, 0.0], [0.5, 1.0], [-0.3, 0.8]], [1.0, -1.0, 0.5])
    arguments = problem, Network(2, "tanh", 1.3), Training(2, 0.4)
    right, wrong = (simulate_reference(*arguments, 1024, 16, mistake=m).f for m in (None, mistake))
    off, error = (wrong - right).mean("replica").values, standard_error(wrong - right).values
    print(f"f_2 {right.mean('replica').values[2].round(4)}, {mistake}: {off[2].round(4)} +- {error[2].round(4)} off")
    assert (np.abs(off[:2]) <= critical(3, 15) * error[:2]).all()  # f_0 = 0 exactly
    assert (np.abs(off[2]) > critical(3, 15) * error[2]).any()
    spend(ALPHA)


def test_the_product_of_proposition_d2():
    """(D.3): (r1 + s)(r2 + s') with s' = s - s^2 has the further terms s^2 - s^3 that are not printed."""
    s, (r1, r2) = expit(np.linspace(-4.0, 4.0, 41)), (0.3, -0.7)
    product = (r1 + s) * (r2 + s * (1 - s))
    printed = r1 * r2 + r2 * s + r1 * s * (1 - s)
    assert np.allclose(product, printed + s**2 - s**3, rtol=0, atol=1e-15)
    assert np.abs(product - printed).max() > 0.1
