"""The Gaussian families (C.1), (C.2) over space and time (Chen et al. 2025, Section 5.3 and Appendix C).

{Zhat^{W_0^l delta x^{l-1}_s(xi_i)}} and {Zhat^{W_0^l' dh^l_s(xi_i)}}, over samples i and steps s <= t, have the
covariances E[Z^{delta x} Z^{delta x}'] and E[Z^dh Z^dh'] (Lemma C.1), whose determinants are products over steps of
those of Schur complements. The innovation of a step, the smallest singular value of all its P_perp z_i / |z_i|
together, is positive for every step iff the family is non-degenerate. It has to be taken against *all* the past:
with the tolerance of an ordinary run the basis of the past is thinned, and what is off it overstates what is new.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from tpsim import InputError, Network, Problem, Training, simulate

from .claim import Claim, Verdict, bounds

Array = np.ndarray

WHOLE = 1e-12  # the tolerance that keeps the whole past: above the rounding of a basis, 1e-15, and of its products
LARGEST = 1e-6  # of a tolerance that still counts as that
ENOUGH = 5  # steps, from the first one on, that have to be resolved
MARGIN = 10.0  # of the floor over what the tolerance can have left out
VANISHED = 1e-12  # an error signal below this times max(1, the largest of the run) is rounding


def families(
    problem: Problem, network: Network, training: Training, particles: int = 2048, replicas: int = 8, seed: int = 0,
    steps: int = 25, progress: Any = None, workers: int = 1,
) -> xr.Dataset:  # fmt: skip
    """The first steps of a run whose bases keep the whole past, for `gaussian_families`.

    Parameters
    ----------
    problem, network, training, particles, replicas, seed, progress, workers : as of `tpsim.simulate`.
    steps : int
        At most so many; fewer where training is shorter, or where a space would hold more arrays than half its
        particles: it gets up to 2 m a step, 4 m with three or more hidden layers.

    Returns a run of `simulate`. Its attributes say how many steps and particles it had.

    Raises
    ------
    InputError, ResourceError, RunStopped
        As of `simulate`.

    Cost: O(M m^2 t^2) for t steps: the ranks do not saturate.
    """
    fixed, each = _arrays(problem.samples, network.depth)
    room = (particles // 2 - fixed) // each - 1
    short = replace(training, steps=max(min(steps, training.steps, room), 0))
    return simulate(
        problem, network, short, particles, replicas, tolerance=WHOLE, seed=seed, progress=progress, workers=workers
    )


def _arrays(samples: int, depth: int) -> tuple[int, int]:
    """How many arrays a space holds whatever the steps, and at most how many more for each step, step 0 included."""
    return 2 * samples + 3, 2 * samples * (2 if depth > 2 else 1)


def gaussian_families(run: xr.Dataset) -> Claim:
    """(C.1), (C.2): new randomness enters at every step with an error signal, in every W^l and in both directions.

    The innovation of every step, W^l, direction and replica is compared with a floor that was fixed beforehand. What
    the tolerance left out of x and dh has at most the size sqrt(m) tolerance over all samples; delta x is smaller than
    x, so that

        floor = 10 sqrt(m) tolerance / min_i (|delta x_i| / |x_i|)   forward,   10 sqrt(m) tolerance   backward.

    The margin covers rounding (1e-15 per array, grown by 2^t where t steps extrapolate). As long as nothing sank below
    the floor nothing was left out either, so that the past is whole. Few particles make innovations smaller on average,
    which is the careful side: a minimum over coefficients has at most the expectation that the limit's give.

    Parameters
    ----------
    run : of `families`.

    Returns a claim: PASS if all are above the floor in each of the first 5 steps; FAIL if one of step 0 is not, where
    the theory needs no training at all; NOT RESOLVED otherwise, also where an array vanishes and has no innovation (a
    zero input, What_0 = 0: the theory excludes them). Estimate and reference: innovation and floor where they are
    closest within these 5 steps, means over replicas. Resolved: steps from 0 on that are above the floor, of those up
    to the first one that no error signal precedes.

    Raises
    ------
    InputError
        A run with a thinned past (tolerance above 1e-6), or without innovations, as those of NTP and SP.
    """
    name, statement = "Gaussian families (C.1), (C.2)", "smallest innovation of the first steps against all the past"
    if run.sizes["layer"] == 1:
        note = "one hidden layer has no W^l between hidden layers, and so no such family"
        return Claim(name, statement, np.nan, np.nan, np.nan, Verdict.NOT_RESOLVED, 0, 0, (note,))
    values, floors = innovations(run)
    steps = _steps_with_signal(run)
    above = (values > floors).all(dim=("direction", "replica", "layer")).values[:steps]
    resolved = int(np.cumprod(above).sum())
    failed = bool((values <= floors).isel(step=0).any())  # not those that are not a number
    verdict = Verdict.FAIL if failed else Verdict.PASS if resolved >= ENOUGH else Verdict.NOT_RESOLVED
    closest = _closest((values / floors).isel(step=slice(min(ENOUGH, steps))))
    smallest, bar = bounds(values.isel(closest).values), float(floors.isel(closest).mean())
    notes = (_what_ran(run), _until(run, values, floors, resolved, steps), _lengths(values, floors, steps))
    return Claim(name, statement, smallest.mean, bar, smallest.error, verdict, resolved, steps, notes)


def innovations(run: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """Innovations and their floors, (direction, replica, step, layer) with layer 2..L; see `gaussian_families`."""
    tolerance = json.loads(run.attrs.get("config", "{}")).get("simulation", {}).get("tolerance", np.inf)
    if "innovation_forward" not in run or tolerance > LARGEST:
        raise InputError("run", f"<tolerance {tolerance}>", f"a run with innovations and tolerance <= {LARGEST}")
    hidden = run.sel(layer=slice(2, None))
    directions = ("forward", "backward")
    values = xr.concat([hidden[f"innovation_{name}"] for name in directions], dim="direction")
    increment = hidden["increment_forward"].min("sample", skipna=False)
    bar = MARGIN * np.sqrt(run.sizes["sample"]) * tolerance
    floors = xr.concat([bar / increment.where(increment > 0), xr.full_like(increment, bar)], dim="direction")
    order = ("direction", "replica", "step", "layer")
    return tuple(array.transpose(*order).assign_coords(direction=list(directions)) for array in (values, floors))  # type: ignore[return-value]


def _steps_with_signal(run: xr.Dataset) -> int:
    """How many steps, from 0 on, have all followed an update with a non-zero error signal; step 0 needs none."""
    used = (abs(run["chi"]) * run["batch"]).max("sample").transpose("replica", "step").values
    moving = np.min(used, axis=0)[:-1] > VANISHED * max(1.0, float(abs(run["chi"]).max()))
    return 1 + int(np.cumprod(moving).sum())


def _what_ran(run: xr.Dataset) -> str:
    return (
        f"{run.sizes['step'] - 1} steps, {run.attrs['particles']} particles, {run.sizes['replica']} replicas; "
        f"the past is whole (tolerance {json.loads(run.attrs['config'])['simulation']['tolerance']:.0e})"
    )


def _until(run: xr.Dataset, values: xr.DataArray, floors: xr.DataArray, resolved: int, steps: int) -> str:
    """Say from which step on, and where, the new randomness is below the floor, or why there are no more steps."""
    if resolved == steps:
        few = f"; {ENOUGH} are asked for: {_more(run, steps)}" if steps < ENOUGH else ""
        return f"above the floor at all of the {steps} steps{few}"
    where = values.isel(_closest((values / floors).isel(step=[resolved])) | {"step": resolved})
    l, direction = int(where["layer"]), where["direction"].item()
    z = f"delta x^{l - 1}" if direction == "forward" else f"dh^{l}"
    gone = f" undefined: z = {z} vanishes for some sample" if where.isnull().any() else " below the floor"
    return f"not resolved from step {int(where['step'])} on: {direction} innovation of W^{l}{gone}"


def _more(run: xr.Dataset, steps: int) -> str:
    """Say what it takes to resolve more steps than there are."""
    if steps < run.sizes["step"]:
        return f"the error signals vanish at step {steps - 1}"
    fixed, each = _arrays(run.sizes["sample"], run.sizes["layer"])
    needed = 2 * (fixed + ENOUGH * each)
    short = run.attrs["particles"] < needed
    return f"take at least {needed} particles" if short else f"train for at least {ENOUGH - 1} steps"


def _closest(ratio: xr.DataArray) -> dict[str, int]:
    """Indices (direction, step, layer) of the smallest mean over replicas; NaN comes after what is below the floor."""
    mean = ratio.mean("replica", skipna=False).fillna(1.0)
    return dict(zip(mean.dims, map(int, np.unravel_index(int(np.argmin(mean.values)), mean.shape)), strict=True))  # type: ignore[arg-type]


def _lengths(values: xr.DataArray, floors: xr.DataArray, steps: int) -> str:
    """Say for how many steps each direction and W^l is above the floor."""
    above = (values > floors).all("replica").isel(step=slice(steps)).cumprod("step").sum("step")
    each = (
        f"W^{int(l)} {direction} {int(above.sel(layer=l, direction=direction))}"
        for l in above["layer"].values
        for direction in above["direction"].values
    )
    return f"steps above the floor: {', '.join(each)}"
