"""How far features moved and how rich they are, from the kernels of a run; and how that goes with the width n.

    change   (1/m sum_i E|Z_T(i) - Z_0(i)|^2)^(1/2), absolute: Z_0 = 0 does not make it undefined
    size     (1/m sum_i E Z_T(i)^2)^(1/2)
    ratio    lambda_min / lambda_max of E[Z_T(i) Z_T(j)], 0 where Z_T = 0

of Z^h and Z^x in each layer. For networks of width n the expectation is the mean over neurons, and what falls or stays
as n grows is told by the slope over log n of

    log change / Loss_0^(1/2),    log size / size(x^1_0),    log ratio / ratio(x^1_0).

The three denominators have a limit that is not zero under every parametrization, so they change no power of n. They
take out what is common: f_0 is random and of size one in SP and NTP and drives all changes, and lambda_min of n
neurons is below that of the limit by about (1 - (m/n)^(1/2))^2, in layer 1 at the start as anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.special import stdtrit

Array = np.ndarray

LEVEL = 0.95  # of the intervals of powers
ROUNDING = 1e-12  # relative; a change or a ratio below it is zero in float64
TINY = 1e-150  # in the place of 0 before a logarithm


@dataclass(frozen=True)
class Features:
    """What is said of R replicas at the last recorded step, fields in the order h^1, h^2, .., x^1, x^2, ...

    Attributes
    ----------
    change : (R, 2 L), of every layer.
    initial : (R, 2 L), sizes at step 0.
    size, ratio : (R, 2 L - 2), of layers l >= 2.
    first_size, first_ratio : (R,) of x^1_0.
    loss : (R, 2), at step 0 and at the last step.
    """

    change: Array
    initial: Array
    size: Array
    ratio: Array
    first_size: Array
    first_ratio: Array
    loss: Array


def features(run: xr.Dataset) -> Features:
    """Measure a run of `simulate` or `finite.train`, recorded at step 0 and at the last step at least.

    Parameters
    ----------
    run : with kernel_h, kernel_x, feature_change_h, feature_change_x, loss; finite values only.
    """
    order = ("replica", "step", "layer", "sample", "sample2")
    ends = run.isel(step=[0, -1])
    kernel = np.stack([ends[f"kernel_{z}"].transpose(*order).values for z in "hx"], axis=2)  # (R, step, kind, L, m, m)
    relative = np.stack([ends[f"feature_change_{z}"].transpose(*order[:3]).values[:, 1] for z in "hx"], axis=1)
    size = np.sqrt(np.trace(kernel, axis1=-2, axis2=-1) / kernel.shape[-1])
    change = np.where(size[:, 0] > 0, relative * size[:, 0], size[:, 1])  # from Z_0 = 0 the change is Z_T
    last, replicas = kernel[:, 1, :, 1:], len(kernel)
    return Features(
        change.reshape(replicas, -1), size[:, 0].reshape(replicas, -1), size[:, 1, :, 1:].reshape(replicas, -1),
        _ratio(last).reshape(replicas, -1), size[:, 0, 1, 0], _ratio(kernel[:, 0, 1, 0]),
        ends["loss"].transpose(*order[:2]).values,
    )  # fmt: skip


def _ratio(kernel: Array) -> Array:
    """lambda_min / lambda_max of (..., m, m)."""
    values = np.linalg.eigvalsh(kernel.astype(float))
    largest = values[..., -1]
    return np.divide(values[..., 0], largest, out=np.zeros_like(largest), where=largest > 0)


def resolution(networks: xr.Dataset) -> float:
    """A ratio below this is zero in the arithmetic of the networks (attribute `dtype`)."""
    single = networks.attrs.get("dtype") == "float32"
    return 16 * networks.sizes["sample"] * float(np.finfo(np.float32).eps) if single else ROUNDING


class Power(NamedTuple):
    """Exponents of n of several quantities, with two-sided intervals; an array each."""

    estimate: Array
    low: Array
    high: Array

    def below(self, value: float) -> bool:
        """Whether all of them are, for certain."""
        return bool((self.high < value).all())

    def above(self, value: float) -> bool:
        """Whether all of them are, for certain."""
        return bool((self.low > value).all())

    def __str__(self) -> str:
        least, most = float(self.estimate.min()), float(self.estimate.max())
        return f"n^{least:.2f}" if f"{least:.2f}" == f"{most:.2f}" else f"n^{least:.2f} to n^{most:.2f}"


def power(widths: Sequence[int], values: Array, level: float = LEVEL) -> Power:
    """Fit log value = a + p log n to values (width, R, k) of independent networks; Student intervals over R >= 2.

    The k-th network of one width is independent of that of another, so that each k gives an independent slope.
    """
    x = np.log(np.asarray(widths, dtype=float))
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    slopes = np.tensordot(weights, np.log(np.maximum(values, TINY)), axes=1)
    R = len(slopes)
    mean, error = slopes.mean(axis=0), slopes.std(axis=0, ddof=1) / np.sqrt(R)
    reach = float(stdtrit(R - 1, (1 + level) / 2)) * error
    return Power(mean, mean - reach, mean + reach)
