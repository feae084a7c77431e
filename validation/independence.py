"""Theorem 4.5: the features of every layer are linearly independent at every step, certified on the limit.

Z_1..Z_m are linearly independent iff their Gram matrix K_ij = E[Z_i Z_j] is non-singular, and independent of each
other and of the constant iff the centred one is. So the number that decides is, for each replica r,

    T_r = min over kinds (h, x, centred or not), layers and recorded steps of   lambda_min(K_r) / scale,

where the scale of each cell is the largest eigenvalue of an independent pilot's mean K: the T_r are independent and
identically distributed, so that a Student bound on their mean holds.

* Why the mean of minima: lambda_min and minima are concave, so E T_r <= min lambda_min(E K_r) / scale (Jensen). The
  downward bias of a smallest eigenvalue, and that of taking a minimum, can only make the certificate more careful.
* Why M, 2M and their extrapolation: E K_r of M particles differs from the limit's K by O(1/M), in either direction.
  The bounds at M and at 2M and that for 2 T(2M) - T(M), free of this bias to first order, all have to exceed the floor.
* The floor: what the tolerance of the simulation has dropped could at most have changed, and rounding; see `floor`.
* What refutes: eigenvalues that are zero to rounding, in cells that truncation has not touched, behind a gap. Those of
  many samples under a smooth activation decay into rounding one after the other and are independent all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import xarray as xr

from tpsim.problem import Training

from .claim import REPLICAS, Bounds, Claim, Verdict, bounds, extrapolated
from .gram import KINDS, grams, relative, relative_trace, smallest, spectra
from .truncation import accumulated, truncation, unsteady

__all__ = [
    "KINDS", "ROUNDING", "Certificate", "Row", "by_layer", "certify", "floor", "grams", "groups", "nondegeneracy",
    "rank", "relative", "smallest", "spectra", "theorem_4_5", "truncation",
]  # fmt: skip

Array = np.ndarray
Group = tuple[str, int]  # (kind, layer)

AMPLIFIED = 10.0  # times the accounted truncation where the loss rises again: up to 6.7 times was seen
ROUNDING = 1e-12  # of lambda_min / scale in float64: sums over M particles and the centring cost about 1e-15 each
GAP = 1e-6  # an eigenvalue between ROUNDING and this tells of a spectrum that decays


class Certificate(NamedTuple):
    """A verdict on "the mean exceeds the floor", and the bounds at M, at 2M and extrapolated that it rests on."""

    verdict: Verdict
    small: Bounds
    large: Bounds
    limit: Bounds

    @property
    def low(self) -> float:
        """The least of the three lower bounds, which is compared with the floor."""
        return min(self.small.low, self.large.low, self.limit.low)


class Row(NamedTuple):
    """The certificate of one kind of features in one layer, and the floor that its bounds were compared with."""

    kind: str
    layer: int
    certificate: Certificate
    floor: float

    @property
    def verdict(self) -> Verdict:
        return self.certificate.verdict


def certify(small: Array, large: Array, floor: float) -> Certificate:
    """Decide from independent values (R,) at M and (S,) at 2M whether their mean in the limit exceeds `floor`.

    PASS if the lower bounds at M, at 2M and extrapolated all do, with at least `REPLICAS` replicas each. FAIL if both
    upper bounds are below `ROUNDING`: singular to rounding, which no larger M would change (whether there is another
    reason is left to the caller). NOT RESOLVED otherwise, and where a value is not a number.
    """
    at_m, at_2m, limit = bounds(small), bounds(large), extrapolated(small, large)
    verdict = Verdict.NOT_RESOLVED
    if max(at_m.high, at_2m.high) < ROUNDING:
        verdict = Verdict.FAIL
    elif min(len(small), len(large)) >= REPLICAS and all(b.low > floor for b in (at_m, at_2m, limit)):
        verdict = Verdict.PASS
    return Certificate(verdict, at_m, at_2m, limit)


def floor(pilot: xr.Dataset, small: xr.Dataset, large: xr.Dataset, training: Training) -> float:
    """a^2 max trace(K) / scale + `ROUNDING`, with a the largest accumulated truncation of any replica.

    If the features that were simulated are H and the true ones H + E, then sigma_min(H + E) >= sigma_min(H) - |E| and
    |E|^2 <= a^2 trace(K): a lambda_min above a^2 trace(K) cannot come from truncation. Centring is a projection, which
    does not enlarge E, so that the trace of the kernel that is not centred serves for both. Where the loss rises again
    what was dropped is amplified, and is taken `AMPLIFIED` times.
    """
    dropped = max(float(truncation(run, training).max()) for run in (small, large))
    if unsteady(small) is not None or unsteady(large) is not None:
        dropped *= AMPLIFIED
    return dropped**2 * float(relative_trace(pilot).max()) + ROUNDING


@dataclass(frozen=True)
class _Measured:
    """lambda_min / scale (kind, replica, step, layer) at M and at 2M, the floor, and which cells may refute."""

    small: xr.DataArray
    large: xr.DataArray
    floor: float
    telling: xr.DataArray  # (kind, step, layer): truncation is below rounding, and no eigenvalue lies in the gap

    def certificate(self, included: Sequence[Group]) -> Certificate:
        """PASS by all cells of the given (kind, layer); FAIL by the telling ones alone.

        A feature that the tolerance drops makes the next layer singular to rounding, which refutes nothing.
        """
        decided = certify(_least(self.small, included), _least(self.large, included), self.floor)
        if decided.verdict is Verdict.PASS:
            return decided
        at_m, at_2m = (_least(values.where(self.telling, 1.0), included) for values in (self.small, self.large))
        failed = certify(at_m, at_2m, ROUNDING).verdict is Verdict.FAIL
        return decided._replace(verdict=Verdict.FAIL if failed else Verdict.NOT_RESOLVED)

    def rows(self, included: Sequence[Group]) -> list[Row]:
        return [Row(*group, self.certificate([group]), self.floor) for group in included]


def _measure(
    pilot: xr.Dataset, small: xr.Dataset, large: xr.Dataset, training: Training, steps: Sequence[int] | None = None
) -> _Measured:
    at = large["step"].values if steps is None else list(steps)
    at_m, at_2m = (relative(run, pilot).sel(step=at) for run in (small, large))
    dropped = xr.concat([accumulated(run, training) for run in (small, large)], dim="replica").max("replica")
    telling = (dropped**2 * relative_trace(pilot)).sel(step=at) < ROUNDING
    for values in (at_m, at_2m):
        telling &= ~((values > ROUNDING) & (values < GAP)).any(("replica", "eigenvalue"))
    at_m, at_2m = at_m.isel(eigenvalue=-1), at_2m.isel(eigenvalue=-1)
    return _Measured(at_m, at_2m, floor(pilot, small, large, training), telling)


def rank(inputs: Array) -> int:
    """Numerical rank of the inputs (m, d): singular values above max(m, d) eps times the largest one."""
    values = np.linalg.svd(inputs, compute_uv=False)
    return int((values > max(inputs.shape) * np.finfo(float).eps * values.max()).sum())


def groups(depth: int, inputs: Array) -> list[Group]:
    """(kind, layer) that Theorem 4.5 holds for: all, but for h at l = 1 where the inputs are linearly dependent.

    Z^{h^1_t(xi)} = Z^{W^1_t} xi is linear in xi at every step, so that item 1 of the theorem fails at l = 1 as soon as
    m > rank(inputs). Its proof covers W^l, l >= 2, and with them x^1.
    """
    independent = rank(inputs) == len(inputs)
    return [(kind, l) for l in range(1, depth + 1) for kind in KINDS if l > 1 or kind[0] == "x" or independent]


def theorem_4_5(pilot: xr.Dataset, small: xr.Dataset, large: xr.Dataset, training: Training, inputs: Array) -> Claim:
    """Theorem 4.5: Z^{h^l_t} and Z^{x^l_t} are linearly independent over the samples, centred and not.

    Parameters
    ----------
    pilot, small, large : runs of different seeds, with the same recorded steps; M particles in `small`, 2M in `large`.
    training : what they were trained with.
    inputs : (m, d); where they are dependent, h at l = 1 is left out and reported as a correction to the theorem.

    Returns a claim: estimate and error of the extrapolated mean of T_r, the floor as reference, and how many (kind,
    layer) are settled by a certificate of their own.

    Source: Chen et al. 2025, Theorem 4.5, corrected at l = 1.
    Error: see the top of this file; the estimate has a bias O(M^-2) and Jensen's, which lowers it.
    """
    depth = large.sizes["layer"]
    included = groups(depth, inputs)
    claim = nondegeneracy("Theorem 4.5", pilot, small, large, training, included)
    notes = list(claim.notes)
    if (step := unsteady(large)) is not None:
        notes.append(f"the loss rises at step {step}: truncation counts {AMPLIFIED:g} times in the floor")
    if ("h", 1) in included:
        return replace(claim, notes=tuple(notes))
    least = float(smallest(large, pilot, ["h"], [1]).max())
    notes.append(
        f"correction to the theorem: h of layer 1 is linear in the input, and the {len(inputs)} inputs have rank "
        f"{rank(inputs)}: lambda_min / scale is at most {least:.1e} there, and does not count"
    )
    return replace(claim, notes=tuple(notes))


def nondegeneracy(
    name: str, pilot: xr.Dataset, small: xr.Dataset, large: xr.Dataset, training: Training,
    included: Sequence[Group], steps: Sequence[int] | None = None,
) -> Claim:  # fmt: skip
    """The claim that the features of the given (kind, layer) are non-degenerate at the given steps (all recorded).

    `theorem_4_5` is this for `groups`; the parameters are those.
    """
    measured = _measure(pilot, small, large, training, steps)
    decided, rows = measured.certificate(included), measured.rows(included)
    dropped = max(float(truncation(run, training).max()) for run in (small, large))
    notes = [f"smallest: {_where(measured.large, included)}", _bounds_in_words(decided)]
    notes.append(f"accumulated truncation: at most {dropped:.1e}")
    if decided.verdict is Verdict.NOT_RESOLVED and decided.limit.mean < measured.floor:
        smaller = "a smaller tolerance" if measured.floor > 2 * ROUNDING else "fewer samples"
        notes.append(f"below the floor, from where independent features cannot be told: take {smaller}")
    if (replicas := min(run.sizes["replica"] for run in (small, large))) < REPLICAS:
        notes.append(f"{replicas} replicas are too few: a certificate needs {REPLICAS} at each number of particles")
    count = measured.large.sizes["step"]
    return Claim(
        name, f"lambda_min / lambda_max(pilot) of features over {count} steps, {len(rows)} kinds and layers",
        decided.limit.mean, measured.floor, decided.limit.error, decided.verdict,
        sum(row.verdict is not Verdict.NOT_RESOLVED for row in rows), len(rows), tuple(notes),
    )  # fmt: skip


def _bounds_in_words(found: Certificate) -> str:
    each = (("M", found.small), ("2M", found.large), ("extrapolated", found.limit))
    return "T " + "; ".join(f"at {name}: {b.mean:.3g}, bound {b.low:.3g}" for name, b in each).replace("at ex", "ex")


def by_layer(pilot: xr.Dataset, small: xr.Dataset, large: xr.Dataset, training: Training, inputs: Array) -> list[Row]:
    """A certificate for each (kind, layer) of its own, also for h of layer 1 where `theorem_4_5` leaves it out."""
    every = [(kind, l) for l in range(1, large.sizes["layer"] + 1) for kind in KINDS]
    return _measure(pilot, small, large, training).rows(every)


def _least(values: xr.DataArray, included: Sequence[Group]) -> Array:
    """Least value of each replica over the steps and the given (kind, layer): (replica,)."""
    cells = [values.sel(kind=kind, layer=l).min("step", skipna=False).values for kind, l in included]
    return np.asarray(np.min(cells, axis=0))


def _where(values: xr.DataArray, included: Sequence[Group]) -> str:
    """Say which cell has the smallest mean."""
    means = {group: values.sel(kind=group[0], layer=group[1]).mean("replica") for group in included}
    kind, layer = min(means, key=lambda group: float(means[group].min()))
    step = int(values["step"][int(np.argmin(means[kind, layer].values))])
    return f"{kind} of layer {layer} at step {step}"
