r"""Items 1, 2 and 4 of Assumption 4.3 (Chen et al. 2025), seen on grids: smoothness, bounds, level sets.

1. phi is twice continuously differentiable. As delta falls, the largest difference quotient of phi' must not grow
   (where phi' jumps it grows like 1/delta), and the largest second difference of phi' over delta, the modulus of
   continuity of phi'', must fall (where phi'' jumps it stays).
2. phi' and phi'' are bounded: their maxima over |x| <= 1e2, 1e4, 1e6 must level off.
4. No interval on which phi or phi' is constant. Rounding makes intervals too, where a function saturates; a saturating
   function leaves its limit gradually, and one with a kink at once (`_abrupt`).

What is narrower than 1e-3, or further out than 8 (item 1), 1e6 (item 2) or 40 (item 4), is not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tpsim.activations import Activation, Pointwise, resolve_activation

Array = np.ndarray
AnyActivation = str | Activation | tuple[Pointwise, Pointwise]

COARSE, FINE = 2.0**-9, 2.0**-15  # the two delta of item 1, on [-8, 8]
FLAT = 0.25  # shortest interval that counts as a level set
RADII = 1e2, 1e4, 1e6


@dataclass(frozen=True)
class Part:
    """One item of the assumption: its name, whether no counter-example was found, and what was found, in words."""

    name: str
    holds: bool
    found: str


def smoothness(activation: AnyActivation) -> Part:
    """Items 1 and 2, in that order: phi in C^2, phi' and phi'' bounded. Cost: a million evaluations of phi'."""
    slope = resolve_activation(activation).dphi
    with np.errstate(all="ignore"):
        found = _jump(slope) or _growth("phi'", slope)
        found = found or _growth("phi''", lambda x: (slope(x + 1e-6) - slope(x)) / 1e-6)
    return Part("smoothness", not found, found or "no jump of phi' or phi'' found, both bounded")


def level_sets(activation: AnyActivation) -> Part:
    """Item 4: intervals of [-40, 40] on which phi or phi' is constant other than by saturation."""
    chosen = resolve_activation(activation)
    x = np.arange(-40.0, 40.0, 2.0**-8)
    found = []
    with np.errstate(all="ignore"):
        for name, function in (("phi", chosen.phi), ("phi'", chosen.dphi)):
            y = function(x)
            at, y = x[np.isfinite(y)], y[np.isfinite(y)]
            for first, last in _flat_runs(at, y):
                if _abrupt(y, first, last):
                    found.append(f"{name} = {y[first] + 0.0:.6g} on [{at[first]:.3g}, {at[last]:.3g}]")
    return Part("level sets", not found, "; ".join(found) or "no interval found on which phi or phi' is constant")


def _jump(slope: Pointwise) -> str:
    """Where phi' or phi'' jumps, in words; empty if nowhere.

    Between the two grids a jump of phi' raises the difference quotient 64-fold, a smooth phi' does not: 4 divides
    them. The modulus of phi'' falls 64-fold where phi''' exists and not at all at a jump; 1/2 leaves room for a
    Hoelder exponent of 1/6. Below 1e-9 it is rounding.
    """
    before, modulus_before, *_ = _differences(slope, COARSE)
    quotient, modulus, at_1, at_2 = _differences(slope, FINE)
    if quotient > 4 * before:
        return f"phi' jumps near x = {at_1:.3g}"
    if modulus > max(modulus_before / 2, 1e-9 * (1 + quotient)):
        return f"phi'' jumps near x = {at_2:.3g}"
    return ""


def _differences(slope: Pointwise, delta: float) -> tuple[float, float, float, float]:
    """max |phi'(x + delta) - phi'(x)| / delta, the same of the second difference, and where they are."""
    x = np.arange(-8.0, 8.0, delta)
    first = np.abs(np.diff(y := slope(x))) / delta
    second = np.abs(np.diff(y, 2)) / delta
    i, j = int(np.argmax(first)), int(np.argmax(second))
    return float(first[i]), float(second[j]), round(float(x[i]), 3) + 0.0, round(float(x[j + 1]), 3) + 0.0


def _growth(name: str, function: Pointwise) -> str:
    """Whether the maximum over |x| <= R still grows at R = 1e6, in words; empty if not.

    Per two decades a bounded function gains less and less, a logarithm the same; 1/2 divides them. Gains below 1e-3
    of the maximum are the grid's.
    """
    half = np.geomspace(1e-2, RADII[-1], 8000)
    x = np.concatenate([-half[::-1], [0.0], half])
    size = np.abs(function(x))
    if np.isinf(size).any():
        return f"{name} is unbounded: it overflows near x = {x[np.argmax(size)]:.3g}"
    small, middle, large = (float(np.nanmax(size[np.abs(x) <= radius])) for radius in RADII)
    if large - middle > max((middle - small) / 2, 1e-3 * large, 1e-6):
        return f"{name} is unbounded: {small:.3g}, {middle:.3g}, {large:.3g} on |x| <= 1e2, 1e4, 1e6"
    return ""


def _flat_runs(x: Array, y: Array) -> list[tuple[int, int]]:
    """First and last index of every stretch of length `FLAT` or more on which y changes by rounding at most."""
    same = np.abs(np.diff(y)) <= 8 * np.finfo(float).eps * np.abs(y[1:])
    edges = np.flatnonzero(np.diff(np.concatenate([[0], same.astype(int), [0]])))
    return [(int(i), int(j)) for i, j in edges.reshape(-1, 2) if x[j] - x[i] >= FLAT]


def _abrupt(y: Array, first: int, last: int) -> bool:
    """Whether a flat stretch ends at once on some side, or never.

    Walking away from its middle, let the distance from its value pass p_1 = 1e-12 (or what rounding allows), p_2 and
    p_3 = 1e-3 of the largest at x_1, x_2, x_3, with log p_2 at 5/9 of the way from p_1 to p_3. A tail exp(-x^p) has
    (x_2 - x_1) / (x_3 - x_1) = .56, .48 for p = 1, 2 and more than .39 for all p, as has exp(-e^x); the end of x^p has
    less than .16 for all p <= 5, that of exp(-1/x) .24. The limit 0.3 is free of scales.
    """
    middle = (first + last) // 2
    rounding = 16 * np.finfo(float).eps * abs(y[middle])
    sides = (np.abs(side - y[middle]) for side in (y[middle::-1], y[middle:]))
    ends = [side for side in sides if side.max() > rounding]
    for distance in ends:
        lowest = max(1e-12, rounding / distance.max())
        passes = lowest, lowest ** (4 / 9) * 1e-3 ** (5 / 9), 1e-3
        x_1, x_2, x_3 = (int(np.argmax(distance > part * distance.max())) for part in passes)
        if lowest < 1e-3 and x_2 - x_1 <= 0.3 * (x_3 - x_1):
            return True
    return not ends
