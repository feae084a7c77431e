"""Lemmas C.1-C.3. Oracles: closed-form Gaussian kernels, quadrature, and families dependent by construction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import wrightomega

from tests.oracles.functions import resolve
from tests.oracles.kernels import kernel_matrix
from tests.oracles.quadrature import product_rule
from tpsim.activations import Activation, resolve_activation
from validation.claim import Claim, Verdict
from validation.gaussians import gaussian_like, null_combinations, random_families, smallest_singular_value
from validation.good import DEPENDENT
from validation.lemmas import c2_on, c3_on, controls, degenerate, lemma_c1, lemma_c2, lemma_c3, lemmas

Array = np.ndarray

CRITICAL = 6.0  # standard errors, plus SIZES for what the pilot's 4096 samples leave open in each function's size
SIZES = 0.1  # relative: four times kurtosis^1/2 / 4096^1/2 for a kurtosis of 3
SMOOTH = ("sigmoid", "tanh", "silu", "gelu", "erf", "softplus")
CONTROLS = controls()


def sech2(h: Array) -> Array:
    return 1.0 / np.cosh(np.clip(h, -300.0, 300.0)) ** 2


NEARLY_LINEAR = (lambda h: h + 1e-6 * np.tanh(h), lambda h: 1.0 + 1e-6 * sech2(h))
OMEGA = Activation("omega", wrightomega, lambda h: wrightomega(h) / (1.0 + wrightomega(h)))


@pytest.mark.parametrize("name", SMOOTH)
def test_lemmas_hold(name):
    """Oracle: their proofs, for activations without a counter-example to Assumption 4.3."""
    for claim in (lemma_c2(name), lemma_c3(name)):
        assert claim.verdict is Verdict.PASS and not claim.hypothesis
        assert (claim.resolved, claim.of) == (3, 3)


def test_all_lemmas_and_their_controls():
    """Four claims, each with its verdict; another seed has other families and the same verdicts."""
    for seed in (0, 1):
        found = lemmas("silu", seed)
        assert [claim.name for claim in found[:3]] == ["Lemma C.1", "Lemma C.2", "Lemma C.3"]
        assert all(claim.verdict is Verdict.PASS for claim in found)
    assert lemma_c2("silu", 0).estimate != lemma_c2("silu", 1).estimate


@pytest.mark.parametrize("control", CONTROLS, ids=lambda claim: f"{claim.name}, {claim.statement.partition(':')[0]}")
def test_degenerate_families_are_rejected(control):
    """Oracle: their construction."""
    assert control.verdict is Verdict.FAIL


def test_controls_that_pass_are_noticed():
    """One control that does not fail, and none at all."""
    sound = lemma_c1()
    assert degenerate(CONTROLS).verdict is Verdict.PASS
    assert degenerate([*CONTROLS, sound]).verdict is Verdict.FAIL
    assert degenerate([]).verdict is Verdict.FAIL


def test_controls_fail_for_the_reason_they_were_chosen_for():
    """relu by its atom of 1/2 and not by dependence; the products by the constants that GOOD (b) excludes."""
    by_name = {claim.statement.partition(":")[0]: claim for claim in CONTROLS if claim.name == "Lemma C.2"}
    relu = by_name["relu on a random Gaussian family"]
    assert relu.estimate > 0.1 and "0.5" in relu.notes[0]
    assert by_name["silu on g, -g, 2g, -2g"].estimate < DEPENDENT
    words = " ".join(note for claim in CONTROLS if claim.name == "Lemma C.3" for note in claim.notes)
    for found in ("phi (phi' - 1) = 0", "(phi + 1) (phi' - 1) = -1", "c_2 + sum b_i phi'(g_i) = 0"):
        assert found in words


def test_c2_against_the_arcsine_kernel():
    """erf: E[phi(g_i) phi(g_j)] in closed form and mean zero; the smallest standard deviation over three families."""
    exact = []
    for factor in random_families(0):
        covariance = kernel_matrix(resolve("erf"), factor @ factor.T)
        size = np.sqrt(np.diag(covariance))
        exact.append(np.sqrt(np.linalg.eigvalsh(covariance / np.outer(size, size))[0]))
    claim = lemma_c2("erf", 0)
    assert abs(claim.estimate - min(exact)) < CRITICAL * claim.error + SIZES * min(exact)


@pytest.mark.parametrize("name", ["tanh", "silu"])
def test_c3_against_quadrature(name):
    """K = 2, nine functions: their Gram matrix by Gauss-Hermite quadrature, 60 nodes a side."""
    chosen, factor = resolve_activation(name), random_families(0)[0]
    z, weights = product_rule(2, 60, "hermite")
    phi, slope = chosen.phi(factor @ z), chosen.dphi(factor @ z)
    functions = np.array([np.ones_like(z[0]), *phi, *slope, *(a * b for a in phi for b in slope)])
    gram = (functions * weights) @ functions.T
    size = np.sqrt(np.diag(gram))
    exact = np.sqrt(np.linalg.eigvalsh(gram / np.outer(size, size))[0])
    claim = c3_on(chosen, [factor], "one family")
    assert abs(claim.estimate - exact) < CRITICAL * claim.error + SIZES * exact


def test_gaussians_have_the_second_moments_of_the_fields():
    """Oracle: Var(v_i v_j) = G_ii G_jj + G_ij^2 of Gaussians. Largest |z| of 6 entries below 5.5: 2e-7."""
    rng = np.random.default_rng(3)
    g = rng.standard_normal((2, 4096))
    u = np.array([g[0], 1.0 + np.tanh(g[0] + g[1]), g[0] ** 2])
    v = gaussian_like(u, rng)
    gram = u @ u.T / u.shape[1]
    error = np.sqrt((np.outer(np.diag(gram), np.diag(gram)) + gram**2) / v.shape[1])
    assert np.abs((v @ v.T / v.shape[1] - gram) / error).max() < 5.5


def test_planted_dependencies_are_seen_and_kept():
    """u_3 = u_1 - 2 u_2 and its Gaussians: one null combination, (1, -2, -1) up to its length, to rounding (1e-13)."""
    rng = np.random.default_rng(4)
    u = np.tanh(rng.standard_normal((2, 4096)))
    u = np.array([*u, u[0] - 2.0 * u[1]])
    for family in (u, gaussian_like(u, rng)):
        (found,) = null_combinations(family)
        assert np.allclose(found / found[0], [1.0, -2.0, -1.0], rtol=0, atol=1e-13)
    assert smallest_singular_value(u[:2]) > 0.1


def test_atoms_by_saturation_are_not_resolved():
    """tanh(20 g) is +-1 to rounding for |g| > 0.95, a third of all samples, and has no level set with an interval."""
    steep = Activation("steep", lambda h: np.tanh(20.0 * h), lambda h: 20.0 * sech2(20.0 * h))
    claim = c2_on(steep, random_families(0), "random families")
    assert claim.verdict is Verdict.NOT_RESOLVED and claim.estimate > 0.1


def test_near_dependence_is_not_failed():
    """x + 1e-6 tanh(x): phi(g) phi'(g) is 1e-6 away from phi(g)."""
    claim = lemma_c3(NEARLY_LINEAR)
    assert claim.verdict is Verdict.PASS and DEPENDENT < claim.estimate < 1e-6


def test_exp_is_not_resolved():
    """phi' = phi: the sufficient condition fails, but a_i b_j + a_j b_i = 0 for all i, j gives a = 0 or b = 0."""
    claim = lemma_c3((np.exp, np.exp))
    assert claim.verdict is Verdict.NOT_RESOLVED and claim.resolved == 0 and claim.hypothesis


def test_wright_omega_breaks_c3_but_not_its_use_in_step_3():
    """(1 + phi)(phi' - 1) = -1. With c_2 = 0, as in step 3 of the proof, 1, phi'(g_j), phi(g_i) phi'(g_j) suffice."""
    claim = lemma_c3(OMEGA)
    assert claim.verdict is Verdict.FAIL and claim.hypothesis and not claim.refuted
    z, weights = product_rule(2, 60, "hermite")
    g = random_families(0)[0] @ z
    phi, slope = OMEGA.phi(g), OMEGA.dphi(g)
    functions = np.array([np.ones_like(z[0]), *slope, *(a * b for a in phi for b in slope)]) * np.sqrt(weights)
    values = np.linalg.svd(functions / np.linalg.norm(functions, axis=1, keepdims=True), compute_uv=False)
    assert values[-1] > 1e-4 > DEPENDENT


def test_violated_hypotheses_refute_nothing():
    """relu fails both lemmas, whose hypotheses it does not satisfy."""
    for claim in (lemma_c2("relu"), lemma_c3("relu")):
        assert isinstance(claim, Claim)
        assert claim.verdict is Verdict.FAIL and claim.hypothesis and not claim.refuted
