"""Comparing independent replicas with an exact value: critical value times standard error, and what that could miss."""

from __future__ import annotations

import numpy as np

from .levels import ALPHA, critical, detectable, spend

Array = np.ndarray
Measured = dict[str, tuple[Array, Array]]  # name -> (mean over replicas, its standard error)


def check_means(
    title: str,
    measured: Measured,
    reference: dict[str, Array],
    replicas: int,
    allowance: float = 0.0,
    alpha: float = ALPHA,
) -> None:
    """Assert |mean - reference| <= critical * error + allowance for every entry of every array in `measured`.

    Parameters
    ----------
    replicas : int
        The critical value is Student's at `replicas` - 1 degrees of freedom, two-sided, level alpha over all entries.
    allowance : float
        What is not statistical: rounding, and the error of the reference.

    Prints one line with the worst entry and the minimum detectable effect (at 90% power) per array.
    """
    entries = sum(mean.size for mean, _ in measured.values())
    most, seen = (value(entries, replicas - 1, alpha) for value in (critical, detectable))
    effects, failures, worst = [], [], 0.0
    for name, (mean, error) in measured.items():
        exact = np.asarray(reference[name])
        assert mean.shape == exact.shape, (name, mean.shape, exact.shape)
        off = np.abs(mean - exact)
        worst = max(worst, float((off / np.maximum(most * error + allowance, 1e-300)).max()))
        effects.append(f"{name} {np.max(seen * error + allowance):.1e}")
        bad = off > most * error + allowance
        if bad.any():
            at = tuple(int(k) for k in np.unravel_index(np.argmax(bad * off), off.shape))
            failures.append(
                f"{name}{at}: {mean[at]:.8g} against {exact[at]:.8g}, {off[at] / max(error[at], 1e-300):.1f} s.e., "
                f"{bad.sum()} of {bad.size} fail"
            )
    print(f"{title}: worst of {entries} at {worst:.2f} of the tolerance; minimum detectable effect", ", ".join(effects))
    assert not failures, f"{title} (critical {most:.2f} s.e. + {allowance:.1e}): " + "; ".join(failures)
    spend(alpha)


def mean_and_error(samples: Array) -> tuple[Array, Array]:
    """Mean over the leading (replica) axis and its standard error."""
    return samples.mean(axis=0), samples.std(axis=0, ddof=1) / np.sqrt(len(samples))


def richardson(coarse: Array, fine: Array, ratio: int = 2) -> tuple[Array, Array]:
    """(r E[fine] - E[coarse]) / (r - 1), free of a bias a / size if fine has r times the size; its standard error."""
    (low, low_error), (high, high_error) = mean_and_error(coarse), mean_and_error(fine)
    return (ratio * high - low) / (ratio - 1), np.hypot(ratio * high_error, low_error) / (ratio - 1)


def remove_controls(samples: Array, controls: Array, expected: Array) -> Array:
    """Return samples (R, ...) less their regression on controls (R, k), whose mean in the limit is `expected` (k,).

    The mean at size n keeps a bias a / n (another a); the spread falls. The coefficients come from the same replicas: a
    relative error k / R in the spread, so k << R.
    """
    flat = samples.reshape(len(samples), -1)
    slope = np.linalg.lstsq(controls - controls.mean(axis=0), flat - flat.mean(axis=0), rcond=1e-10)[0]
    return (flat - (controls - expected) @ slope).reshape(samples.shape)
