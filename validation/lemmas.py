r"""Lemmas C.1-C.3 of Chen et al. 2025 on random Gaussian families, and on degenerate ones, where they have to fail.

g = F z with z ~ N(0, I): a family is its factor F (K, r), degenerate if its rank is below K.

C.1  E[u_i u_j] = E[v_i v_j] for all i, j: sum_k alpha_k u_k = 0 exactly if sum_k alpha_k v_k = 0.
C.2  P(sum_i a_i phi(g_i) = C) > 0 only if all a_i = 0.
C.3  (c_1 + sum_i a_i phi(g_i)) (c_2 + sum_i b_i phi'(g_i)) = C only if all a_i = 0 or all b_i = 0.

C.2 and C.3 follow where functions of g are linearly independent and have no atoms. Measured is the smallest singular
value of the functions' values on N samples, each function divided by its size on an independent pilot. It is the root
of the smallest eigenvalue of a Gram matrix, so concave in that matrix: its mean over samples is at most its limit
(Jensen). What depends almost surely does so on every sample, to 1e-16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.special import wrightomega

from tpsim.activations import Activation, resolve_activation

from .claim import REPLICAS, Claim, Verdict, bounds, worst
from .gaussians import (
    SAMPLES,
    gaussian_like,
    largest_atom,
    null_combinations,
    random_families,
    root_mean_square,
    samples,
    scaled,
    smallest_singular_value,
    weakest_combination,
)
from .good import DEPENDENT, AnyActivation, product
from .regularity import level_sets, smoothness

Array = np.ndarray

ATOM = 0.01  # share of samples with one value: an atom smaller than this is not seen
TIE = 1e-13  # values this close, in units of the functions' sizes, are one value
RANDOM = "random Gaussian families"


def lemmas(activation: AnyActivation, seed: int = 0) -> list[Claim]:
    """Check C.1, C.2 and C.3, and that the degenerate families fail.

    Parameters
    ----------
    activation : name, Activation or pair (phi, phi')
    seed : of the families and of the samples.

    Raises
    ------
    InputError
        An unknown activation.

    Cost: about a second on one core.
    """
    return [lemma_c1(seed), lemma_c2(activation, seed), lemma_c3(activation, seed), degenerate(controls(seed))]


def lemma_c1(seed: int = 0) -> Claim:
    """C.1 between nonlinear fields u on particles, two of them combinations of the others, and Gaussians v.

    E is the mean over the particles of u, so that second moments agree exactly.
    """
    pairs = []
    for replica in range(REPLICAS):
        rng = np.random.default_rng([seed, 1, replica])
        pairs.append((u := _fields(rng), gaussian_like(u, rng)))
    return _same_combinations("random fields with two planted dependencies", pairs)


def lemma_c2(activation: AnyActivation, seed: int = 0) -> Claim:
    """C.2 on random families: smallest singular value of the centred phi(g_i), and atoms of their combinations.

    A hypothesis, and no refutation, where phi has an interval as a level set.
    """
    chosen = resolve_activation(activation)
    return replace(c2_on(chosen, random_families(seed), RANDOM, seed), hypothesis=not level_sets(chosen).holds)


def lemma_c3(activation: AnyActivation, seed: int = 0) -> Claim:
    """C.3 on random families: smallest singular value of 1, phi(g_i), phi'(g_j) and phi(g_i) phi'(g_j), all i and j.

    Their independence suffices. Where it fails, the lemma fails if 1 and the phi(g_i) are dependent, or 1 and the
    phi'(g_j), or if (r1 + phi)(r2 + phi') is constant; otherwise it is NOT RESOLVED. A hypothesis, and no refutation,
    where phi violates Assumption 4.3.
    """
    chosen = resolve_activation(activation)
    assumed = product(chosen).holds and smoothness(chosen).holds and level_sets(chosen).holds
    return replace(c3_on(chosen, random_families(seed), RANDOM, seed), hypothesis=not assumed)


def controls(seed: int = 0) -> list[Claim]:
    """What has to FAIL: moments that differ, level sets with an interval, (b) of GOOD violated, degenerate families."""
    opposite, duplicate = [np.array([[1.0], [-1.0]])], [np.array([[1.0], [1.0]])]
    twice = [np.array([[1.0], [-1.0], [2.0], [-2.0]])]  # phi(g) - phi(-g) = g for SiLU
    sound, where = random_families(seed)[:1], "a random Gaussian family"
    omega = Activation("Wright omega", wrightomega, lambda h: wrightomega(h) / (1.0 + wrightomega(h)))
    cases: list[tuple[Callable[..., Claim], str | Activation, list[Array], str]] = [
        (c2_on, "relu", sound, where), (c2_on, "silu", duplicate, "g_2 = g_1"), (c2_on, "tanh", opposite, "g_2 = -g_1"),
        (c2_on, "silu", twice, "g, -g, 2g, -2g"), (c3_on, "relu", sound, where), (c3_on, "identity", sound, where),
        (c3_on, omega, sound, where), (c3_on, "tanh", opposite, "g_2 = -g_1"),
    ]  # fmt: skip
    found = [on(resolve_activation(phi), factors, where, seed) for on, phi, factors, where in cases]
    return [*_moments_that_differ(np.random.default_rng([seed, 2])), *found]


def degenerate(found: list[Claim]) -> Claim:
    """The claim that every control FAILs."""
    failed = sum(claim.verdict is Verdict.FAIL for claim in found)
    notes = tuple(f"{claim.verdict}: {claim.name}, {claim.statement}" for claim in found)
    return Claim(
        "Lemmas C.1-C.3: degenerate families", "each lemma fails where its hypothesis does", failed, len(found),
        np.nan, Verdict.PASS if 0 < failed == len(found) else Verdict.FAIL, failed, len(found), notes,
    )  # fmt: skip


def c2_on(chosen: Activation, factors: list[Array], where: str, seed: int = 0) -> Claim:
    """C.2 for families with the given factors (K, r).

    Values that coincide make a FAIL only where phi has an interval as a level set: those of a phi that saturates
    coincide by rounding, NOT RESOLVED.
    """
    verdicts, smallest, largest = [], [], 0.0
    flat = not level_sets(chosen).holds
    for k, factor in enumerate(factors):
        pilot, *replicas = samples(factor, np.random.SeedSequence([seed, 3, k]), 1 + REPLICAS)
        sizes = _evaluate(chosen.phi, pilot).std(axis=1)
        a = np.random.default_rng([seed, 4, k]).standard_normal(len(factor))
        found = [_spread_and_atom(scaled(_evaluate(chosen.phi, g), sizes), a) for g in replicas]
        spreads, shares = np.array(found).T
        spread, atom = bounds(spreads), bounds(shares)
        verdict = Verdict.PASS if spread.low > DEPENDENT and atom.high < ATOM else Verdict.NOT_RESOLVED
        if spread.high < DEPENDENT or (atom.low > ATOM and flat):
            verdict = Verdict.FAIL
        verdicts.append(verdict)
        smallest.append(spreads)
        largest = max(largest, atom.mean)
    notes = (
        f"largest share of samples with one value of sum a_i phi(g_i): {largest:.2g}",
        "the printed proof ends with prod a_i = 0; its first step, with g_k in the place of g_1, gives every a_k = 0",
    )
    return _claim(
        "Lemma C.2", f"{chosen.name} on {where}: 1, phi(g_i) independent, no atoms", verdicts, smallest, notes
    )


def c3_on(chosen: Activation, factors: list[Array], where: str, seed: int = 0) -> Claim:
    """C.3 for families with the given factors (K, r)."""
    verdicts, smallest, examples = [], [], []
    for k, factor in enumerate(factors):
        pilot, *replicas = samples(factor, np.random.SeedSequence([seed, 5, k]), 1 + REPLICAS)
        sizes = root_mean_square(_products(chosen, pilot))
        value = np.array([smallest_singular_value(scaled(_products(chosen, g), sizes)) for g in replicas])
        size, example = bounds(value), ""
        if size.high < DEPENDENT:
            example = _counter_example(chosen, pilot)
        verdict = Verdict.PASS if size.low > DEPENDENT else Verdict.NOT_RESOLVED
        verdicts.append(Verdict.FAIL if example else verdict)
        smallest.append(value)
        examples += [example] if example else []
    notes = (
        *dict.fromkeys(examples),
        "C = 0, as printed, needs that not all a_i and b_i vanish: otherwise C = c_1 c_2",
    )
    statement = f"{chosen.name} on {where}: 1, phi(g_i), phi'(g_j), phi(g_i) phi'(g_j) independent"
    return _claim("Lemma C.3", statement, verdicts, smallest, notes)


def _fields(rng: np.random.Generator) -> Array:
    """Four nonlinear functions of three Gaussians and two combinations of them, (6, N)."""
    g = rng.standard_normal((3, SAMPLES))
    u = np.array([g[0], np.tanh(g[0] + g[1]), g[1] ** 2, 1.0 + np.cos(g[2])])
    return np.concatenate([u, rng.standard_normal((2, 4)) @ u])


def _moments_that_differ(rng: np.random.Generator) -> list[Claim]:
    """C.1 where its hypothesis fails: covariances in the place of second moments; one second moment off by 1e-6."""
    u = _fields(rng)[:4]
    shifted = np.array([*u, u[0] + 1.0])
    planted = np.array([*u, u[0] - u[1]])
    moved = np.array([*u, u[0] - u[1] + 1e-6 * u[2]])
    centred = gaussian_like(shifted - shifted.mean(axis=1, keepdims=True), rng)
    return [
        _same_combinations("covariances in the place of second moments", [(shifted, centred)]),
        _same_combinations("second moments that differ by 1e-6", [(planted, gaussian_like(moved, rng))]),
    ]


def _same_combinations(where: str, pairs: list[tuple[Array, Array]]) -> Claim:
    """The claim that u and v of each pair have the same null combinations, by what those of one leave of the other."""
    off, verdicts = [], []
    for u, v in pairs:
        sizes = root_mean_square(u)
        a, b = scaled(u, sizes), scaled(v, sizes)
        leaks = [root_mean_square(null_combinations(a) @ b), root_mean_square(null_combinations(b) @ a)]
        off.append(float(np.concatenate(leaks).max(initial=-np.inf)))  # -inf: nothing null, nothing compared
        verdict = Verdict.PASS if off[-1] < DEPENDENT else Verdict.FAIL
        verdicts.append(verdict if np.isfinite(off[-1]) else Verdict.NOT_RESOLVED)
    return Claim(
        "Lemma C.1", f"{where}: what is null for u is null for v, and the reverse", max(off), DEPENDENT, np.nan,
        worst(verdicts), int(np.isfinite(off).sum()), len(off),
    )  # fmt: skip


def _claim(name: str, statement: str, verdicts: list[Verdict], smallest: list[Array], notes: tuple[str, ...]) -> Claim:
    mean, error, _, _ = bounds(np.min(smallest, axis=0))
    resolved = sum(verdict is not Verdict.NOT_RESOLVED for verdict in verdicts)
    return Claim(name, statement, mean, DEPENDENT, error, worst(verdicts), resolved, len(verdicts), notes)


def _counter_example(chosen: Activation, g: Array) -> str:
    """Why C.3 itself fails on this family, in words; empty if that is not seen."""
    one = np.ones((1, g.shape[1]))
    for name, function in (("c_1 + sum a_i phi(g_i)", chosen.phi), ("c_2 + sum b_i phi'(g_i)", chosen.dphi)):
        values = np.concatenate([one, _evaluate(function, g)])
        if smallest_singular_value(scaled(values, root_mean_square(values))) < DEPENDENT:
            return f"{name} = 0 with coefficients that are not all zero"
    found = product(chosen)
    return "" if found.holds else found.found


def _products(chosen: Activation, g: Array) -> Array:
    """1, phi(g_i), phi'(g_j) and phi(g_i) phi'(g_j): (1 + 2K + K^2, N)."""
    phi, slope = _evaluate(chosen.phi, g), _evaluate(chosen.dphi, g)
    both = (phi[:, None] * slope).reshape(-1, g.shape[1])
    return np.concatenate([np.ones((1, g.shape[1])), phi, slope, both])


def _spread_and_atom(values: Array, direction: Array) -> tuple[float, float]:
    """Least standard deviation of a combination of functions (K, N), and the largest share of samples with one value.

    The latter of each function, of their combination in `direction`, and of the one that is nearest to a constant.
    """
    spread, weakest = weakest_combination(values)
    combinations = np.concatenate([np.eye(len(values)), [direction / np.linalg.norm(direction), weakest]])
    return spread, largest_atom(combinations @ values, TIE)


def _evaluate(function: Callable[[Array], Array], g: Array) -> Array:
    with np.errstate(all="ignore"):
        return function(g)
