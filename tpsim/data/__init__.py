"""Where a `Problem` comes from: digits, CIFAR-10, CIFAR-100, MNIST (IDX), csv, npz, a Gaussian mixture.

Every source returns inputs that are used exactly as they are; what was done to the raw numbers is in two options that
all sources share, and in nothing else:

- `standardise`: "none", "feature" (each feature centred and divided by its standard deviation over the *training*
  inputs, probes included) or "sample" (each input centred and divided by its own standard deviation);
- `scale`, after that: "none", "sqrt_d" (each input divided by sqrt(d)), or a positive factor.
"""

from .images import cifar10, cifar100, digits, mnist
from .registry import SOURCES, Source, describe, explain, load, resolve_options
from .tables import csv, gaussian_mixture, npz

__all__ = [
    "SOURCES",
    "Source",
    "cifar10",
    "cifar100",
    "csv",
    "describe",
    "digits",
    "explain",
    "gaussian_mixture",
    "load",
    "mnist",
    "npz",
    "resolve_options",
]
