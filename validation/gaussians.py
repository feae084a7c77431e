"""Gaussian families, and the linear dependence of functions known by their values on N samples, (k, N)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

Array = np.ndarray

SAMPLES = 4096  # N
NULL = 1e-12  # singular value relative to the largest: exact dependence comes out at 1e-16


def random_families(seed: int, sizes: tuple[int, ...] = (2, 3, 4)) -> list[Array]:
    """Factors F (K, K) of g = F z, one for each K: correlated, standard deviations between 0.7 and 1.5."""
    rng = np.random.default_rng([seed, 0])
    factors = [np.eye(K) + 0.5 * rng.standard_normal((K, K)) for K in sizes]
    return [F / np.linalg.norm(F, axis=1, keepdims=True) * rng.uniform(0.7, 1.5, (len(F), 1)) for F in factors]


def samples(factor: Array, seeds: np.random.SeedSequence, times: int) -> Iterator[Array]:
    """Independent samples (K, N) of g = F z, z ~ N(0, I), F (K, r)."""
    for seed in seeds.spawn(times):
        yield factor @ np.random.default_rng(seed).standard_normal((factor.shape[1], SAMPLES))


def gaussian_like(u: Array, rng: np.random.Generator) -> Array:
    """N samples of Gaussians v (K, N) with E[v_i v_j] = <u_i, u_j>.

    v = R' z with u' / sqrt(N) = Q R: u is not squared, so that what is null stays so to rounding.
    """
    factor: Array = np.linalg.qr(u.T / np.sqrt(u.shape[1]))[1]
    return factor.T @ rng.standard_normal((len(factor), SAMPLES))


def root_mean_square(values: Array) -> Array:
    """Sizes (k,) in L^2."""
    return np.sqrt(np.mean(values**2, axis=-1))


def scaled(values: Array, sizes: Array) -> Array:
    """The functions divided by their sizes; those of size zero as they are."""
    return values / np.where(sizes > 0.0, sizes, 1.0)[:, None]


def smallest_singular_value(values: Array) -> float:
    """Least L^2 norm of a combination with coefficients of norm 1: the root of the Gram matrix's least eigenvalue."""
    return float(np.linalg.svd(values / np.sqrt(values.shape[1]), compute_uv=False)[-1])


def null_combinations(values: Array) -> Array:
    """Orthonormal coefficients (n, k) of the combinations that vanish to rounding."""
    left, singular, _ = np.linalg.svd(values / np.sqrt(values.shape[1]), full_matrices=False)
    return left.T[singular < NULL * singular[0]]


def weakest_combination(values: Array) -> tuple[float, Array]:
    """Smallest standard deviation of a combination with coefficients of norm 1, and these coefficients (k,)."""
    centred = values - values.mean(axis=1, keepdims=True)
    left, singular, _ = np.linalg.svd(centred / np.sqrt(centred.shape[1]), full_matrices=False)
    return float(singular[-1]), left[:, -1]


def largest_atom(values: Array, width: float) -> float:
    """The largest share of samples with one value, up to `width`, over the functions."""
    ordered = np.sort(values, axis=1)
    runs = [np.searchsorted(y, y + width, "right") - np.arange(y.size) for y in ordered]
    return float(max(run.max() for run in runs)) / values.shape[1]
