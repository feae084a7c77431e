"""Assumption 4.3 of an activation. Oracle: functions whose answer is known by algebra, checked off the grids."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import fresnel, wrightomega

from tpsim.activations import resolve_activation
from tpsim.errors import InputError
from validation.claim import Verdict
from validation.good import DEPENDENT, RATIOS, Relation, assumption_4_3, combination, product
from validation.regularity import level_sets, smoothness

Array = np.ndarray

APPENDIX_D = ("sigmoid", "tanh", "silu", "gelu")
SMOOTH = (*APPENDIX_D, "erf", "softplus")
OFF_GRID = np.random.default_rng(0).uniform(-50.0, 50.0, 200)


def clipped(h: Array) -> Array:
    return np.clip(h, -1.0, 1.0)


def sech2(h: Array) -> Array:
    return 1.0 / np.cosh(np.clip(h, -300.0, 300.0)) ** 2


def omega_slope(h: Array) -> Array:
    return wrightomega(h) / (1.0 + wrightomega(h))


REJECTED = {
    "relu": "relu",
    "identity": "identity",
    "square": (np.square, lambda h: 2.0 * h),
    "cubic": (lambda h: h**3 + h, lambda h: 3.0 * h**2 + 1.0),
    "modulus": (np.abs, np.sign),
    "leaky relu": (lambda h: np.maximum(h, 0.1 * h), lambda h: np.where(h > 0, 1.0, 0.1)),
    "hard tanh": (clipped, lambda h: (np.abs(h) < 1).astype(float)),
    "constant": (lambda h: np.full_like(h, 2.0), np.zeros_like),
}
RELATIONS = {
    "relu": "phi(x) - phi(2x)/2 = 0",
    "identity": "phi(x) - phi(2x)/2 = 0",
    "square": "phi(x) - phi(2x)/4 = 0",
    "cubic": "phi(x) - 5 phi(2x)/8 + phi(4x)/16 = 0",
    "modulus": "phi(x) - phi(2x)/2 = 0",
    "leaky relu": "phi(x) - phi(2x)/2 = 0",
    "constant": "phi(x) = 2",
}
NEARLY_LINEAR = (lambda h: h + 1e-6 * np.tanh(h), lambda h: 1.0 + 1e-6 * sech2(h))
STEEP = (lambda h: np.tanh(100.0 * h), lambda h: 100.0 * sech2(100.0 * h))
OMEGA = (wrightomega, omega_slope)


def functions(activation):
    chosen = resolve_activation(activation)
    return chosen.phi, chosen.dphi


@pytest.mark.parametrize("name", REJECTED)
def test_violators_are_rejected_with_their_relation(name):
    """Oracle: the relation itself at points the search has not seen, to the rounding of its largest term (1e-9)."""
    claim, found = assumption_4_3(REJECTED[name]), combination(REJECTED[name])
    assert claim.verdict is Verdict.FAIL and claim.hypothesis and not claim.refuted
    assert claim.estimate < DEPENDENT and any(str(found.relation) in note for note in claim.notes)
    relation, phi = found.relation, functions(REJECTED[name])[0]
    terms = np.abs(relation.a[:, None] * phi(np.multiply.outer(relation.b, OFF_GRID) + relation.c[:, None])).max()
    assert np.abs(relation.left(phi, OFF_GRID) - relation.constant).max() < 1e-9 * terms
    sizes = np.sort(np.abs(relation.b))
    assert len(sizes) <= 4 and (sizes[1:] / sizes[:-1] > RATIOS[0] - 1e-9).all()  # all |b_i| differ
    assert (np.abs(relation.a) > 1e-3).all() and (sizes > 0).all()  # not the trivial combination


@pytest.mark.parametrize("name", RELATIONS)
def test_relations_are_printed_in_simple_numbers(name):
    """Oracle: phi(2x) = 2^p phi(x); of x^3 + x, sum a_k b_k = sum a_k b_k^3 = 0 by hand."""
    assert str(combination(REJECTED[name]).relation) == RELATIONS[name]


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_activations_have_no_counter_example(name):
    """Oracle: tails, whose exponents differ with |b_i| (Appendix D, and likewise for c_i != 0, erf and softplus)."""
    claim = assumption_4_3(name)
    assert claim.verdict is Verdict.PASS and claim.estimate > DEPENDENT
    assert (claim.resolved, claim.of) == (4, 4)
    print(f"{name}: smallest relative singular value met {claim.estimate:.1e}")


def test_near_dependence_is_not_failed():
    """x + 1e-6 tanh(x): no relation, but 2 phi(x) - phi(2x) is below 2e-6. The search has to come that near."""
    claim = assumption_4_3(NEARLY_LINEAR)
    assert claim.verdict is Verdict.PASS
    assert DEPENDENT < claim.estimate < 1e-6


def test_a_steep_activation_is_not_taken_for_a_step():
    """tanh(100 x): steps of different |b| at one point between two grid points look like one; on finer points not."""
    assert combination(STEEP).holds


def test_search_is_deterministic():
    """Oracle: itself; of hard tanh, 2/|b_1| = 2/|b_2| + 2/|b_3| has many solutions, and another seed finds another."""
    first, again, other = (combination(REJECTED["hard tanh"], seed).found for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("name", ["silu", "gelu", "softplus"])
def test_equal_moduli_have_to_be_excluded(name):
    """phi(x) - phi(-x) = x for these three: without |b_i| != |b_j| none of them would be GOOD."""
    b = np.array([1.0, -1.0, 2.0, -2.0])
    relation = Relation(np.array([1.0, -1.0, -0.5, 0.5]), b, np.zeros(4), 0.0)
    assert str(relation) == "phi(x) - phi(-x) - phi(2x)/2 + phi(-2x)/2 = 0"
    assert np.abs(relation.left(functions(name)[0], OFF_GRID)).max() < 1e-12


@pytest.mark.parametrize("name, r1, r2, constant", [("relu", 0, -1, 0), ("identity", 0, -1, 0), (OMEGA, 1, -1, -1)])
def test_constant_products_are_found(name, r1, r2, constant):
    """GOOD (b). relu phi' = phi phi'; omega + log omega = x gives omega' = omega / (1 + omega)."""
    found = product(name)
    assert not found.holds
    assert np.allclose([found.r1, found.r2, found.constant], [r1, r2, constant], rtol=0, atol=1e-9)


def test_constant_product_of_a_stretched_wright_omega():
    """phi = 2 omega(x/2 + 1) + 0.3: (phi + 1.7)(phi' - 1) = 2 (1 + omega) (-1 / (1 + omega)) = -2. Rest is GOOD."""
    found = product((lambda h: 2.0 * wrightomega(h / 2 + 1.0) + 0.3, lambda h: omega_slope(h / 2 + 1.0)))
    assert np.allclose([found.r1, found.r2, found.constant], [1.7, -1.0, -2.0], rtol=0, atol=1e-8)
    assert smoothness(OMEGA).holds and level_sets(OMEGA).holds


def test_products_that_are_not_constant():
    """exp has phi phi' = e^2x; of |x| and leaky relu each half line needs another r2; omega is left by 1e-6 tanh."""
    near = (lambda h: wrightomega(h) + 1e-6 * np.tanh(h), lambda h: omega_slope(h) + 1e-6 * sech2(h))
    for activation in ((np.exp, np.exp), REJECTED["modulus"], REJECTED["leaky relu"], near):
        found = product(activation)
        assert found.holds and np.isnan(found.r1)


@pytest.mark.parametrize(
    "slope, word",
    [
        (functions("relu")[1], "phi' jumps near x = 0"),
        (lambda h: np.where(h > 0.3, 2.0, 1.0), "phi' jumps near x = 0.3"),
        (lambda h: np.exp(np.minimum(h, 0.0)), "phi'' jumps near x = 0"),  # elu
        (lambda h: 1.0 / (1.0 + np.abs(h)) ** 2, "phi'' jumps near x = 0"),  # softsign
        (lambda h: 2.0 * h, "phi' is unbounded"),
        (lambda h: np.log1p(h * h), "phi' is unbounded"),  # as slowly as a logarithm
        (np.exp, "phi' is unbounded: it overflows"),
        (lambda h: np.cos(h * h), "phi'' is unbounded"),  # phi a Fresnel integral
    ],
)
def test_rough_or_unbounded_derivatives_are_rejected(slope, word):
    """Items 1 and 2. Oracle: each function's derivative by hand."""
    found = smoothness((lambda h: fresnel(h)[1], slope))  # phi is not looked at
    assert not found.holds and word in found.found


@pytest.mark.parametrize("activation", [(np.sin, np.cos), STEEP, (np.arcsinh, lambda h: 1.0 / np.sqrt(1.0 + h * h))])
def test_smooth_bounded_derivatives_are_accepted(activation):
    """Oscillating, steep, and with a slow tail."""
    assert smoothness(activation).holds


def _onset(h: Array) -> Array:
    return np.where(h > 0, np.exp(-1.0 / np.maximum(h, 1e-300)), 0.0)


@pytest.mark.parametrize(
    "function, word",
    [
        (functions("relu")[0], "phi = 0 on [-40, 0]"),
        (clipped, "phi = 1 on [1, 40]"),
        (lambda h: clipped(h) - 2 / 3 * clipped(h) ** 3 + clipped(h) ** 5 / 5, "on [1, 40]"),  # in C^2
        (_onset, "phi = 0 on [-40, "),  # in C^infinity
    ],
)
def test_level_sets_with_an_interval_are_found(function, word):
    """Item 4. Oracle: by construction, with contact of order 0, 0, 2 and infinity at the end of the interval."""
    found = level_sets((function, np.cos))
    assert not found.holds and word in found.found


@pytest.mark.parametrize(
    "activation", [STEEP, NEARLY_LINEAR, (lambda h: np.exp(-np.exp(np.minimum(-h, 7.0))), np.cos), (np.sin, np.cos)]
)
def test_saturation_is_no_level_set(activation):
    """Constant to rounding from some point on, by tails exp(-200 x), 1e-6 exp(-2x) and exp(-e^x)."""
    assert level_sets(activation).holds


def test_flat_derivative_is_found():
    """elu: phi' = 1 for x > 0, although phi has no interval as a level set."""
    found = level_sets((lambda h: np.maximum(h, np.expm1(np.minimum(h, 0.0))), lambda h: np.exp(np.minimum(h, 0.0))))
    assert not found.holds and found.found == "phi' = 1 on [0, 40]"


def test_more_than_four_terms_are_not_searched():
    """A function with two unequal kinks has a relation of five terms and none of four; its level sets betray it.

    Kinks at 0 and 1, terms with kinks at two of the points 0, 1, 4, 6 and all b > 0: four kinks have to cancel.
    """
    bent = (lambda h: np.maximum(h, 0.0) - np.maximum(h - 1.0, 0.0) / 2, lambda h: (h > 0) - 0.5 * (h > 1))
    ends = np.array([(0, 1), (4, 6), (1, 4), (0, 4), (0, 6)])
    b = 1.0 / np.diff(ends, axis=1)
    terms = bent[0](b * (OFF_GRID - ends[:, :1]))
    values = np.linalg.svd(terms / np.linalg.norm(terms, axis=1, keepdims=True), compute_uv=False)
    assert values[-1] < 1e-14 < 1e-4 < values[-2]
    assert combination(bent).holds
    assert not level_sets(bent).holds and not smoothness(bent).holds


def test_printed_d3_would_allow_a_constant_product():
    """(D.3) without sigma^2 - sigma^3 is r1 r2 + (r1 + r2) s - r1 s^2, which is constant at r1 = r2 = 0."""
    s, slope = (function(OFF_GRID) for function in functions("sigmoid"))
    printed = 0.0 * 0.0 + (0.0 + 0.0) * s - 0.0 * s**2
    assert np.ptp(printed) == 0.0 and np.ptp(s * slope) > 0.1
    assert product("sigmoid").holds


def test_unusable_activations_are_refused():
    """A name that does not exist; a pole."""
    with pytest.raises(InputError, match="activation"):
        assumption_4_3("swoosh")
    with pytest.raises(InputError, match="finite"), np.errstate(divide="ignore"):
        assumption_4_3((lambda h: 1.0 / h, lambda h: -1.0 / h**2))
