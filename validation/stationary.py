"""Corollary 4.6: training stops only where every error signal has vanished.

The read-out's update is Z^{delta W_{t+1}} = -eta sum_i chi_i Z^{x^L_t(xi_i)}, so that with K = E[Z^{x^L} Z^{x^L}']

    E[(Z^{delta W_{t+1}})^2] = eta^2 chi' K chi >= eta^2 lambda_min(K) |chi|^2:

where K is non-singular the read-out alone keeps moving while chi is not zero, whatever the batch (its K is a principal
submatrix of K). Nothing is claimed of whether training converges.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.special import stdtrit

from tpsim.problem import Training

from .claim import Claim, Verdict, bounds, extrapolated
from .families import VANISHED
from .independence import nondegeneracy

Array = np.ndarray

CONVERGED = 1e-3  # a loss below this
SHARE = 0.1  # of its start: an error signal below this is on its way to zero
FALSE = 0.001  # how often the consistency check may reject what is true, all steps together
ROUNDING = 1e-12  # relative, of second moments


def corollary_4_6(pilot: xr.Dataset, small: xr.Dataset, large: xr.Dataset, training: Training) -> Claim:
    """Corollary 4.6: no stationary point with a non-zero error signal, and where training converges they all vanish.

    Two findings. (1) K^L is certified non-singular (`validation.independence`) at all recorded steps that have an error
    signal. This leaves no stationary point with chi != 0: an update that is zero up to rounding needs a lambda_min that
    is. (2) At the last recorded step the loss is below 1e-3, and max_i |chi_i| below a tenth of its start: upper bounds
    of the means over replicas, at M, at 2M and extrapolated.

    Parameters
    ----------
    pilot, small, large : runs of different seeds with the same recorded steps; M particles in `small`, 2M in `large`.
    training : what they were trained with.

    Returns a claim: PASS with both findings; FAIL where K^L is singular to rounding while chi != 0; NOT RESOLVED
    otherwise, above all where training does not converge within the run, or does not move the read-out. Estimate,
    reference and error are those of the certificate: lambda_min / scale and its floor.

    Source: Chen et al. 2025, Corollary 4.6 and its proof.
    """
    name, statement = "Corollary 4.6", "lambda_min / lambda_max(pilot) of K^L while there are error signals"
    if not any(training.rates(t, large.sizes["layer"])[-1] > 0 for t in range(training.steps)):
        why = "no step has a learning rate of the read-out above zero: nothing is claimed of where training stops"
        return Claim(name, statement, np.nan, np.nan, np.nan, Verdict.NOT_RESOLVED, 0, 2, (why,))
    largest = _largest_signal(large).max(axis=0)
    steps = large["step"].values[largest > VANISHED * max(1.0, largest.max())]
    if not steps.size:
        why = "no error signal at any step: there is nothing to converge"
        return Claim(name, statement, np.nan, np.nan, np.nan, Verdict.NOT_RESOLVED, 0, 2, (why,))
    certified = nondegeneracy(name, pilot, small, large, training, [("x", large.sizes["layer"])], list(steps))
    converged, says = _convergence(small, large, training)
    verdict = certified.verdict
    if verdict is Verdict.PASS and not converged:
        verdict = Verdict.NOT_RESOLVED
    return Claim(
        name, statement, certified.estimate, certified.reference, certified.error, verdict,
        int(certified.verdict is not Verdict.NOT_RESOLVED) + int(converged), 2,
        (*certified.notes, *says, _smallest_update(large, steps)),
    )  # fmt: skip


def _largest_signal(run: xr.Dataset) -> Array:
    """max_i |chi_i| of the whole data: (replica, step)."""
    return np.abs(run["chi"].transpose("replica", "step", "sample").values).max(axis=-1)


def _convergence(small: xr.Dataset, large: xr.Dataset, training: Training) -> tuple[bool, list[str]]:
    """Whether the loss ends below 1e-3 and the error signals below a tenth of their start, and what to say of it."""
    losses = [run["loss"].transpose("replica", "step").values for run in (small, large)]
    signals = [_largest_signal(run) for run in (small, large)]
    high = np.array([_high(losses[0][:, t], losses[1][:, t]) for t in range(losses[0].shape[1])])
    mean, last = losses[1].mean(axis=0), int(large["step"][-1])
    start, end = (float(signals[1][:, t].mean()) for t in (0, -1))
    vanishes = _high(*(signal[:, -1] for signal in signals)) < SHARE * start
    said = [f"max |chi| is {start:.2g} at step 0, {end:.2g} at step {last}"]
    if (allowed := _allowed(training, float(losses[1][:, -1].max()), large.sizes["sample"])) is not None:
        said[0] += f"; its loss allows {allowed:.2g}"
    if not vanishes:
        said.append(f"max |chi| does not end below {SHARE:g} of its start")
    said += _rise(mean, large["step"].values)
    above = np.flatnonzero(~(high < CONVERGED))
    if len(above) and above[-1] == len(high) - 1:
        return False, [f"the loss does not end below {CONVERGED:g}: {mean[-1]:.2g} at step {last}", *said]
    first = int(large["step"][above[-1] + 1 if len(above) else 0])
    return bool(vanishes), [f"loss below {CONVERGED:g} from step {first} on", *said]


def _rise(loss: Array, steps: Array) -> list[str]:
    """Say how far the loss rises again after its minimum, if it does."""
    least = int(np.argmin(loss))
    most = least + int(np.argmax(loss[least:]))
    if loss[most] <= loss[least] + ROUNDING * loss[0]:
        return []
    return [f"the loss rises from {loss[least]:.2g} at step {steps[least]} to {loss[most]:.2g} at step {steps[most]}"]


def _high(small: Array, large: Array) -> float:
    """The largest of the upper bounds on the mean: at M, at 2M and extrapolated."""
    return max(bounds(small).high, bounds(large).high, extrapolated(small, large).high)


def _allowed(training: Training, loss: float, samples: int) -> float | None:
    """The largest |chi_i| that a loss allows: 2 |f - y| squared, 1 - exp(-value) <= value logistic; None otherwise."""
    share = samples if training.reduction == "mean" else 1
    if training.criterion.name == "squared":
        return float(2 * np.sqrt(loss / share))
    return loss if training.criterion.name == "logistic" else None


def _smallest_update(run: xr.Dataset, steps: Array) -> str:
    """Say how small chi' K chi / (|chi|^2 lambda_max) gets: the update itself, without the worst case over chi."""
    here = run.sel(step=steps).transpose("replica", "step", "layer", "sample", "sample2", ...)
    chi, kernel = here["chi"].values, here["kernel_x"].values[:, :, -1]
    square = np.einsum("rti,rtij,rtj->rt", chi, kernel, chi) / (chi**2).sum(axis=-1)
    least = square / np.linalg.eigvalsh(kernel)[..., -1]
    return f"chi' K chi / (|chi|^2 lambda_max) is at least {least.min():.1e}"


def update_identity(run: xr.Dataset, training: Training) -> Claim:
    """Consistency check between different replicas: E[(Z^{delta W_{t+1}})^2] = eta^2 chi' K chi.

    The left side comes from particles of the first half of the replicas, the right side from K and chi of the second
    half. With snapshots at t and t + 1 and `parts`, the left side is the increment of What itself, and the check is one
    of the engine; with snapshots of Z^{x^L} alone it is eta^2 E[(sum_i chi_i Z^{x_i})^2], and says only that what is
    recorded is consistent.

    Parameters
    ----------
    run : of at least 4 replicas, with snapshots before the last step.
    training : what it was trained with; with minibatches chi is that of the batch.

    Returns a claim: estimate and error are the ratio of both sides at the step where they differ most, reference 1;
    FAIL where a difference exceeds its critical value times its standard error (two-sample t with pooled variance: both
    sides have one law; 0.001 for all steps together, Bonferroni).
    """
    name, statement = "Update of the read-out", "consistency check between different replicas: both sides of E[dW^2]"
    left, right, what = _two_sides(run, training)
    half = run.sizes["replica"] // 2
    if half < 2 or not left.shape[1]:
        why = "this takes 4 replicas and snapshots at steps with an update"
        return Claim(name, statement, np.nan, np.nan, np.nan, Verdict.NOT_RESOLVED, 0, left.shape[1], (why,))
    a, b = left[:half], right[half:]
    freedom = len(a) + len(b) - 2
    pooled = (a.var(axis=0) * len(a) + b.var(axis=0) * len(b)) / freedom
    error = np.sqrt(pooled * (1 / len(a) + 1 / len(b))) + ROUNDING * b.mean(axis=0)
    distance = np.abs(a.mean(axis=0) - b.mean(axis=0)) / error
    critical = float(stdtrit(freedom, 1 - FALSE / (2 * len(distance))))
    worst, mean = int(np.argmax(distance)), b.mean(axis=0)
    verdict = Verdict.PASS if distance[worst] < critical else Verdict.FAIL
    seen = critical * error / mean
    notes = (
        what,
        f"critical value {critical:.1f} standard errors: relative differences above {seen.min():.1e} (most sensitive "
        f"step) to {seen.max():.1e} (least) are seen",
    )
    return Claim(
        name, statement, float(a.mean(axis=0)[worst] / mean[worst]), 1.0, float(error[worst] / mean[worst]), verdict,
        len(distance), len(distance), notes,
    )  # fmt: skip


def _two_sides(run: xr.Dataset, training: Training) -> tuple[Array, Array, str]:
    """E[(Z^{delta W})^2] from particles and eta^2 chi' K chi, (replica, steps) each, and what the first one is."""
    depth, m = run.sizes["layer"], run.sizes["sample"]
    pictured = [] if "Z_x" not in run else [int(t) for t in run["snapshot_step"].values]
    actual = "Z_dx_parts" in run
    updated = run["batch"].any("sample")
    steps = [t for t in pictured if t in run["step"] and updated.sel(step=t) and (not actual or t + 1 in pictured)]
    left, right = np.zeros((2, run.sizes["replica"], len(steps)))
    for k, t in enumerate(steps):
        batch = run["batch"].sel(step=t).values
        share = m / batch.sum() if training.reduction == "mean" else 1.0
        weights = (
            training.rates(t, depth)[-1] * share * run["chi"].sel(step=t).transpose("replica", "sample").values * batch
        )
        if actual:
            delta = _accumulated(run, t + 1) - _accumulated(run, t)
        else:
            z = run["Z_x"].sel(snapshot_step=t, layer=depth).transpose("replica", "sample", "particle").values
            delta = np.einsum("ri,ria->ra", weights, z)
        kernel = run["kernel_x"].sel(step=t, layer=depth).transpose("replica", "sample", "sample2").values
        left[:, k], right[:, k] = (delta**2).mean(axis=-1), np.einsum("ri,rij,rj->r", weights, kernel, weights)
    moving = (right > 0).all(axis=0)
    return (
        left[:, moving],
        right[:, moving],
        "increments of What" if actual else "increments computed from snapshots of Z^x",
    )


def _accumulated(run: xr.Dataset, step: int) -> Array:
    """What_t - What_0 on particles, (replica, particle): the same for every sample."""
    parts = run["Z_dx_parts"].sel(snapshot_step=step, part="history").isel(layer=-1, sample=0)
    return np.asarray(parts.transpose("replica", "particle").values)
