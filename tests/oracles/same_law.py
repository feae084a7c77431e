"""Two sets of independent replicas: do they have the same mean and the same standard deviation?"""

from __future__ import annotations

import numpy as np

from .compare import mean_and_error
from .levels import ALPHA, critical, detectable, spend

Array = np.ndarray
Samples = dict[str, Array]  # name -> (replicas, ...)


def check_same_law(title: str, first: Samples, second: Samples) -> None:
    """Assert that mean and standard deviation of every entry of every array agree, at the level ALPHA over all of them.

    The statistics are the difference of the means, and of the logarithms of the standard deviations. Their standard
    errors are those of the two samples (Welch); that of log std is `log_std_and_error`'s, which needs no normality.
    Prints the worst entry, and of every array the median and the largest minimum detectable effect, at 90% power.
    """
    entries = 2 * sum(array[0].size for array in first.values())
    most, needed = critical(entries), detectable(entries)
    effects, failures, worst = [], [], 0.0
    for name in first:
        for what, moment in (("mean", mean_and_error), ("log std", log_std_and_error)):
            (a, a_error), (b, b_error) = moment(first[name]), moment(second[name])
            off, error = a - b, np.hypot(a_error, b_error)
            z = np.abs(off) / error
            worst = max(worst, float(z.max()))
            if (z > most).any():
                at = tuple(int(k) for k in np.unravel_index(np.argmax(z), z.shape))
                failures.append(f"{what} of {name}{at}: {a[at]:.4g} against {b[at]:.4g}, {z[at]:.1f} s.e.")
            effects.append(f"{what} of {name} {needed * np.median(error):.1g}..{needed * error.max():.1g}")
    print(
        f"{title}: worst of {entries} statistics {worst:.2f} s.e., critical {most:.2f}; "
        f"minimum detectable effect: {', '.join(effects)}"
    )
    assert not failures, f"{title}: " + "; ".join(failures)
    spend(ALPHA)


def log_std_and_error(x: Array) -> tuple[Array, Array]:
    """log of the standard deviation over replicas and its standard error, by the infinitesimal jackknife.

    The influence of replica r on log s is ((x_r - mean)^2 / s^2 - 1) / 2, so that the squared error is
    (kurtosis - 1) / (4 R): 1 / (2 R) for a normal law, more with heavy tails.
    """
    centred = x - x.mean(axis=0)
    variance = (centred**2).sum(axis=0) / (len(x) - 1)
    influence = (centred**2 / variance - 1) / 2
    return np.log(variance) / 2, influence.std(axis=0, ddof=1) / np.sqrt(len(x))
