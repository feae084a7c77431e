r"""Claim: an activation satisfies Assumption 4.3 of Chen et al. 2025, of which GOOD (Definition 4.2) is item 3.

GOOD (a): sum_i a_i phi(b_i x + c_i) is not constant where some a_k b_k != 0 and all |b_i| differ.
GOOD (b): (r1 + phi)(r2 + phi') is not constant for any r1, r2.

A counter-example refutes either; no search proves them. What the search covers:

- K <= 4 terms. A change of variable x -> (x - c_1) / b_1 leaves constants constant, so the term of smallest |b| is
  phi(x), without loss; the others have |b| growing by factors of 1.25 to 3, either sign, and |c| <= 4. A term with
  b = 0 is a constant, and the constant is always among the columns.
- x in [-1e4, 1e4], dense at 0: what is linear to twelve digits there counts as linear, whatever it does beyond.

Items 1, 2 and 4 of the assumption are in `regularity`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import product as all_of

import numpy as np
from scipy.optimize import least_squares

from tpsim.activations import Activation, Pointwise, resolve_activation
from tpsim.errors import InputError

from .claim import Claim, Verdict
from .regularity import Part, level_sets, smoothness

Array = np.ndarray
AnyActivation = str | Activation | tuple[Pointwise, Pointwise]

DEPENDENT = 1e-12  # relative: exact relations come out at 1e-16, and the square of this would be the Gram matrix's
RATIOS = 1.25, 3.0  # of successive |b_i|
SHIFT = 4.0  # largest |c_i|
STARTS = {2: 4, 3: 8, 4: 12}  # random starts by the number of terms
EVALUATIONS = 40  # of each start's local search
_HALF = np.geomspace(1e-4, 1e4, 180)
GRID = np.concatenate([-_HALF[::-1], [0.0], _HALF])


@dataclass(frozen=True)
class Relation:
    """sum_i a_i phi(b_i x + c_i) = constant, for all x; a, b, c are (K,)."""

    a: Array
    b: Array
    c: Array
    constant: float

    def left(self, phi: Pointwise, x: Array) -> Array:
        """The left-hand side at the points x (N,)."""
        return self.a @ phi(np.multiply.outer(self.b, x) + self.c[:, None])

    def __str__(self) -> str:
        text = ""
        for a, b, c in zip(self.a, self.b, self.c, strict=True):
            over, _, under = _number(abs(a)).partition("/")
            term = f"{'' if over == '1' else over + ' '}phi({_times(b)}x{f' {_signed(c)}' if c else ''})"
            text += (" - " if a < 0 else " + ") + term + (f"/{under}" if under else "")
        return f"{text.removeprefix(' + ')} = {_number(self.constant)}"


@dataclass(frozen=True)
class Combination(Part):
    """GOOD (a): the smallest relative singular value that was met, and the relation where it is zero."""

    smallest: float
    relation: Relation | None


@dataclass(frozen=True)
class Product(Part):
    """GOOD (b): distance of phi phi' from span{1, phi, phi'}; r1, r2 and the constant where it is zero, else NaN."""

    distance: float
    r1: float
    r2: float
    constant: float


def assumption_4_3(activation: AnyActivation, seed: int = 0) -> Claim:
    """Search for counter-examples to the four items of Assumption 4.3.

    Parameters
    ----------
    activation : name, Activation or pair (phi, phi')
    seed : int
        Of the random starts.

    Returns
    -------
    Claim
        FAIL with the counter-example in the notes. PASS means that none was found and proves nothing. The estimate is
        the smallest relative singular value of GOOD (a).

    Raises
    ------
    InputError
        An unknown activation; one that is not finite on [-1, 1].

    Source: Chen et al. 2025, Assumption 4.3, Definition 4.2, App. D. Cost: one to three seconds on one core.
    """
    chosen = resolve_activation(activation)
    with np.errstate(all="ignore"):
        near = np.array([chosen.phi(GRID[np.abs(GRID) <= 1]), chosen.dphi(GRID[np.abs(GRID) <= 1])])
    if not np.isfinite(near).all():
        raise InputError("activation", chosen.name, "finite phi and phi' on [-1, 1]")
    found = combination(chosen, seed)
    parts = (found, product(chosen), smoothness(chosen), level_sets(chosen))
    verdict = Verdict.PASS if all(part.holds for part in parts) else Verdict.FAIL
    return Claim(
        "Assumption 4.3",
        f"{chosen.name}: search for counter-examples to GOOD (K <= 4 terms), smoothness and countable level sets; PASS "
        "says that none was found, and is no proof",
        found.smallest, DEPENDENT, float("nan"), verdict, len(parts), len(parts),
        tuple(f"{part.name}: {part.found}" for part in parts), hypothesis=True,
    )  # fmt: skip


def combination(activation: AnyActivation, seed: int = 0) -> Combination:
    """GOOD (a): look for K <= 4 terms and a constant that are linearly dependent.

    Columns 1 and phi(b_i x + c_i) on `GRID`, each row divided by its largest entry (which no relation notices, and
    fast growth is then no dependence), each column by its norm; the measure is their smallest singular value over
    the largest. The columns themselves are decomposed: their Gram matrix would resolve 1e-8 where they resolve 1e-16.
    First c = 0 and geometric b, fewest terms first; then local searches from random starts, seeded.
    """
    phi = resolve_activation(activation).phi
    smallest = np.inf
    with np.errstate(all="ignore"):
        for b, c in _candidates(phi, np.random.default_rng(seed)):
            value, relation = _dependence(phi, b, c, GRID)
            if value < DEPENDENT:  # also where each term changes, lest a steep phi passes for a step
                own = ((GRID - shift) / factor for factor, shift in zip(b, c, strict=True))
                value, relation = _dependence(phi, b, c, np.concatenate([GRID, *own]))
            smallest = min(smallest, value)
            if value < DEPENDENT:
                return Combination("GOOD (a)", False, str(relation), value, relation)
    found = f"no counter-example found; smallest relative singular value {smallest:.1e}"
    return Combination("GOOD (a)", True, found, smallest, None)


def product(activation: AnyActivation) -> Product:
    """GOOD (b), by linear least squares.

    (r1 + phi)(r2 + phi') = C is phi phi' = (C - r1 r2) - r2 phi - r1 phi', and C is free: some r1, r2, C exist exactly
    if phi phi' lies in the span of 1, phi and phi', whatever its coefficients.
    """
    chosen = resolve_activation(activation)
    with np.errstate(all="ignore"):
        phi, slope = chosen.phi(GRID), chosen.dphi(GRID)
        columns, norms = _balanced(np.array([np.ones_like(GRID), phi, slope, phi * slope]))
    weights = np.linalg.lstsq(columns[:, :3], columns[:, 3])[0]
    distance = float(np.linalg.norm(columns[:, 3] - columns[:, :3] @ weights))
    if distance >= DEPENDENT:
        found = f"no counter-example; phi phi' is {distance:.1e} of its norm away from span(1, phi, phi')"
        return Product("GOOD (b)", True, found, distance, np.nan, np.nan, np.nan)
    alpha, gamma, delta = (float(w) for w in weights * norms[3] / norms[:3])
    r1, r2, constant = -delta, -gamma, alpha + gamma * delta
    found = " ".join([_factor("phi", r1), _factor("phi'", r2), "=", _number(constant)])
    return Product("GOOD (b)", False, found, distance, r1, r2, constant)


def _number(value: float) -> str:
    """A fraction of denominator at most 64 where that is the number to nine digits, else six digits."""
    near = Fraction(value).limit_denominator(64)
    return str(near) if abs(near - value) <= 1e-9 * max(1.0, abs(value)) else f"{value:.6g}"


def _signed(value: float) -> str:
    return f"{'-' if value < 0 else '+'} {_number(abs(value))}"


def _factor(name: str, r: float) -> str:
    return name if _number(r) == "0" else f"({name} {_signed(r)})"


def _times(b: float) -> str:
    text = _number(b)
    return {"1": "", "-1": "-"}.get(text, f"({text})" if "/" in text else text)


def _candidates(phi: Pointwise, rng: np.random.Generator) -> Iterator[tuple[Array, Array]]:
    """Yield b, c (K,): geometric b without shifts, then where local searches end."""
    for terms in range(1, 5):
        for ratio in (2.0, 1.25, 3.0):
            for signs in all_of((1.0, -1.0), repeat=terms - 1):
                yield np.array([1.0, *signs]) * ratio ** np.arange(terms), np.zeros(terms)
    for terms, starts in STARTS.items():
        for _ in range(starts):
            yield _local_search(phi, terms, rng)


def _local_search(phi: Pointwise, terms: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Minimise |columns v| over b and c, v the unit vector that makes it least; its zeros are found to rounding."""
    signs = np.concatenate([[1.0], rng.choice([-1.0, 1.0], terms - 1)])
    low = np.repeat([np.log(RATIOS[0]), -SHIFT], terms - 1)
    high = np.repeat([np.log(RATIOS[1]), SHIFT], terms - 1)

    def parameters(theta: Array) -> tuple[Array, Array]:
        logs, shifts = np.split(theta, 2)
        return signs * np.exp(np.concatenate([[0.0], np.cumsum(logs)])), np.concatenate([[0.0], shifts])

    def residual(theta: Array) -> Array:
        columns, _ = _columns(phi, *parameters(theta), GRID)
        v = np.linalg.svd(columns, full_matrices=False)[2][-1]
        sized = np.zeros(GRID.size)  # rows that overflow drop out, and the search wants one length
        sized[: len(columns)] = columns @ (v * np.sign(v[np.argmax(np.abs(v))]))
        return sized

    start = rng.uniform(low, high)
    tight = 1e-15
    end = least_squares(
        residual, start, bounds=(low, high), x_scale=0.3, xtol=tight, ftol=tight, gtol=tight, max_nfev=EVALUATIONS
    )
    return parameters(end.x)


def _dependence(phi: Pointwise, b: Array, c: Array, x: Array) -> tuple[float, Relation]:
    """Smallest over largest singular value, and the combination that comes nearest to a constant."""
    columns, norms = _columns(phi, b, c, x)
    _, values, right = np.linalg.svd(columns, full_matrices=False)
    weights = right[-1] / norms
    kept = np.abs(right[-1][1:]) > 1e-9
    a = weights[1:][kept]
    first = a[0] if a.size else 1.0
    return float(values[-1] / values[0]), Relation(a / first, b[kept], c[kept], float(-weights[0] / first))


def _columns(phi: Pointwise, b: Array, c: Array, x: Array) -> tuple[Array, Array]:
    return _balanced(np.concatenate([np.ones((1, x.size)), phi(np.multiply.outer(b, x) + c[:, None])]))


def _balanced(functions: Array) -> tuple[Array, Array]:
    """Values (K, N) as columns (n, K) of unit norm, n finite rows each divided by its largest entry; and the norms."""
    rows = functions.T[np.isfinite(functions).all(axis=0)]
    rows = rows / np.maximum(1.0, np.abs(rows).max(axis=1, keepdims=True))
    norms = np.linalg.norm(rows, axis=0)
    norms[norms == 0.0] = 1.0
    return rows / norms, norms
