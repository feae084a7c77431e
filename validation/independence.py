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
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import xarray as xr

from tpsim.problem import Training

from .claim import REPLICAS, Bounds, Claim, Verdict, bounds, extrapolated
from .truncation import truncation

Array = np.ndarray
Group = tuple[str, int]  # (kind, layer)

KINDS = ("h", "x", "h centred", "x centred")
ROUNDING = 1e-12  # of lambda_min / scale in float64: sums over M particles and the centring cost about 1e-15 each


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
    """The certificate of one kind of features in one layer; mean and error are extrapolated."""

    kind: str
    layer: int
    mean: float
    error: float
    low: float
    floor: float
    verdict: Verdict


def certify(small: Array, large: Array, floor: float) -> Certificate:
    """Decide from independent values (R,) at M and (S,) at 2M whether their mean in the limit exceeds `floor`.

    PASS if the lower bounds at M, at 2M and extrapolated all do, with at least `REPLICAS` replicas each. FAIL if both
    upper bounds are below `ROUNDING`: singular to rounding, which no larger M would change. NOT RESOLVED otherwise, and
    where a value is not a number.
    """
    at_m, at_2m, limit = bounds(small), bounds(large), extrapolated(small, large)
    verdict = Verdict.NOT_RESOLVED
    if at_m.high < ROUNDING and at_2m.high < ROUNDING:
        verdict = Verdict.FAIL
    elif min(len(small), len(large)) >= REPLICAS and all(b.low > floor for b in (at_m, at_2m, limit)):
        verdict = Verdict.PASS
    return Certificate(verdict, at_m, at_2m, limit)


def grams(run: xr.Dataset) -> dict[str, Array]:
    """Gram matrices (replica, step, layer, m, m) by kind: E[Z_i Z_j] of Z^h and Z^x, and less E[Z_i] E[Z_j]."""
    kinds: dict[str, Array] = {}
    for z in ("h", "x"):
        order = ("replica", "step", "layer", "sample")
        kernel = run[f"kernel_{z}"].transpose(*order, "sample2").values
        mean = run[f"mean_{z}"].transpose(*order).values
        kinds |= {z: kernel, f"{z} centred": kernel - mean[..., :, None] * mean[..., None, :]}
    return kinds


def spectra(run: xr.Dataset) -> xr.DataArray:
    """All eigenvalues of `grams`, descending: (kind, replica, step, layer, eigenvalue). NaN where a run has none."""
    kinds = grams(run)
    values = np.stack([_eigenvalues(kinds[kind]) for kind in KINDS])
    coords = {"kind": list(KINDS)} | {name: run[name].values for name in ("replica", "step", "layer")}
    return xr.DataArray(values, coords, ("kind", "replica", "step", "layer", "eigenvalue"))


def _eigenvalues(kernel: Array) -> Array:
    """Eigenvalues of symmetric matrices (..., m, m), descending; NaN for one that is not finite."""
    finite = np.isfinite(kernel).all(axis=(-2, -1))
    values = np.linalg.eigvalsh(np.where(finite[..., None, None], kernel, 0.0))[..., ::-1]
    return np.where(finite[..., None], values, np.nan)


def relative(run: xr.Dataset, pilot: xr.Dataset) -> xr.DataArray:
    """lambda_min / scale of each cell: (kind, replica, step, layer); 0 where the pilot's features vanish.

    Parameters
    ----------
    run : with kernel_h, kernel_x, mean_h, mean_x.
    pilot : an independent run (another seed) with the same steps and layers; any number of replicas.
    """
    smallest, scale = spectra(run).isel(eigenvalue=-1), _scale(pilot)
    zero = scale == 0.0
    return (smallest / scale.where(~zero, 1.0)).where(~zero, 0.0).transpose(*smallest.dims)


def _scale(pilot: xr.Dataset) -> xr.DataArray:
    """lambda_max of the mean over replicas: (kind, step, layer)."""
    kinds = grams(pilot)
    values = np.stack([_eigenvalues(kinds[kind].mean(axis=0))[..., 0] for kind in KINDS])
    coords = {"kind": list(KINDS), "step": pilot["step"].values, "layer": pilot["layer"].values}
    return xr.DataArray(values, coords, ("kind", "step", "layer"))


def smallest(
    run: xr.Dataset, pilot: xr.Dataset, kinds: Sequence[str] = KINDS, layers: Sequence[int] | None = None
) -> Array:
    """T_r (replica,): the least lambda_min / scale over recorded steps, the given kinds and layers (1..L; all)."""
    values = relative(run, pilot).sel(kind=list(kinds))
    values = values if layers is None else values.sel(layer=list(layers))
    return values.min(("kind", "step", "layer"), skipna=False).values


def floor(pilot: xr.Dataset, small: xr.Dataset, large: xr.Dataset, training: Training) -> float:
    """a^2 max trace(K) / scale + `ROUNDING`, with a the largest accumulated truncation of any replica.

    If the features that were simulated are H and the true ones H + E, then sigma_min(H + E) >= sigma_min(H) - |E| and
    |E|^2 <= a^2 trace(K): a lambda_min above a^2 trace(K) cannot come from truncation. Centring is a projection, which
    does not enlarge E, so that the trace of the kernel that is not centred serves for both.
    """
    accumulated = max(float(truncation(run, training).max()) for run in (small, large))
    kinds = grams(pilot)
    trace = np.stack([np.trace(kinds[kind[0]].mean(axis=0), axis1=-2, axis2=-1) for kind in KINDS])
    scale = _scale(pilot).values
    return accumulated**2 * float(np.divide(trace, scale, out=np.zeros_like(scale), where=scale > 0).max()) + ROUNDING


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
    if ("h", 1) in included:
        return claim
    least = float(smallest(large, pilot, ["h"], [1]).max())
    correction = (
        f"correction to the theorem: h of layer 1 is linear in the input, and the {len(inputs)} inputs have rank "
        f"{rank(inputs)}: lambda_min / scale is at most {least:.1e} there, and does not count"
    )
    return replace(claim, notes=(*claim.notes, correction))


def nondegeneracy(
    name: str, pilot: xr.Dataset, small: xr.Dataset, large: xr.Dataset, training: Training,
    included: Sequence[Group], steps: Sequence[int] | None = None,
) -> Claim:  # fmt: skip
    """The claim that the features of the given (kind, layer) are non-degenerate at the given steps (all recorded).

    `theorem_4_5` is this for `groups`; the parameters are those.
    """
    bar = floor(pilot, small, large, training)
    at = large["step"].values if steps is None else list(steps)
    at_m, at_2m = (relative(run, pilot).sel(step=at) for run in (small, large))
    decided = certify(_least(at_m, included), _least(at_2m, included), bar)
    rows = _rows(at_m, at_2m, included, bar)
    dropped = max(float(truncation(run, training).max()) for run in (small, large))
    notes = [f"smallest: {_where(at_2m, included)}", f"accumulated truncation: at most {dropped:.1e}"]
    if (replicas := min(run.sizes["replica"] for run in (small, large))) < REPLICAS:
        notes.append(f"{replicas} replicas are too few: a certificate needs {REPLICAS} at each number of particles")
    return Claim(
        name, f"lambda_min / lambda_max(pilot) of features over {len(at)} steps, {len(rows)} kinds and layers",
        decided.limit.mean, bar, decided.limit.error, decided.verdict,
        sum(row.verdict is not Verdict.NOT_RESOLVED for row in rows), len(rows), tuple(notes),
    )  # fmt: skip


def by_layer(pilot: xr.Dataset, small: xr.Dataset, large: xr.Dataset, training: Training, inputs: Array) -> list[Row]:
    """A certificate for each (kind, layer) of its own, also for those that `theorem_4_5` leaves out."""
    every = [(kind, l) for l in range(1, large.sizes["layer"] + 1) for kind in KINDS]
    return _rows(relative(small, pilot), relative(large, pilot), every, floor(pilot, small, large, training))


def _rows(small: xr.DataArray, large: xr.DataArray, included: Sequence[Group], bar: float) -> list[Row]:
    rows = []
    for group in included:
        one = certify(_least(small, [group]), _least(large, [group]), bar)
        rows.append(Row(*group, one.limit.mean, one.limit.error, one.low, bar, one.verdict))
    return rows


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
