"""Estimators of spread, bias and slopes. Oracles: synthetic laws whose answer is known, scipy, and the definitions.

Rates of coverage and of false positives are counted over many synthetic studies; what a correct estimator may show is
the binomial law of the count, at a probability of 1e-3 to fail.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import binom, chi2, ks_2samp, linregress, norm, wasserstein_distance
from scipy.stats import t as student

from validation import rates
from validation.rates import bias, control_variates, distance_floor, distances, error, fit_slope, spread, width_within

Array = np.ndarray
ENTRIES = 24
DIRECTIONS = 4  # of the noise: the entries of a replica are strongly dependent


def mixing(seed: int) -> Array:
    """(4, 24): noise along four directions, the last ten times weaker than the first."""
    strengths = np.geomspace(1.0, 0.1, DIRECTIONS)[:, None]
    return strengths * np.random.default_rng(seed).standard_normal((DIRECTIONS, ENTRIES))


def replicas(generator: np.random.Generator, count: int, mixed: Array, offset: Array | float = 0.0) -> Array:
    return generator.standard_normal((count, len(mixed))) @ mixed + offset


def skewed(generator: np.random.Generator, count: int, mixed: Array) -> Array:
    """Of mean zero: a normal variable and part of its square."""
    z = generator.standard_normal((count, len(mixed)))
    return (z + 0.3 * (z**2 - 1)) @ mixed


def rms(array: Array) -> float:
    return float(np.sqrt(np.mean(array**2)))


def at_least(nominal: float, repetitions: int) -> float:
    """The smallest share that counts of this probability show but once in a thousand."""
    return float(binom.ppf(1e-3, repetitions, nominal) / repetitions)


def at_most(nominal: float, repetitions: int) -> float:
    return float(binom.ppf(1 - 1e-3, repetitions, nominal) / repetitions)


# Spread


def test_spread_is_the_pooled_standard_deviation() -> None:
    """Oracle: numpy, and the delete-one jackknife done by leaving out."""
    values = replicas(np.random.default_rng(0), 7, mixing(0)).reshape(7, 4, 6)

    def pooled(some: Array) -> float:
        return float(np.sqrt(np.var(some, axis=0, ddof=1).mean()))

    left_out = np.array([np.log(pooled(np.delete(values, r, axis=0))) for r in range(7)])
    exact = pooled(values) * np.sqrt(6 / 7 * np.sum((left_out - left_out.mean()) ** 2))
    assert_allclose(spread(values), (pooled(values), exact), rtol=1e-12)


@pytest.mark.parametrize("draw", [replicas, skewed])
def test_interval_of_the_spread_covers(draw: Callable[..., Array]) -> None:
    """Oracle: the construction. Nominal 95% of +-1.96 s.e. of the logarithm; 90% is asked for, at 64 replicas."""
    generator, mixed, repetitions = np.random.default_rng(1), mixing(1), 600
    exact = rms(mixed) * np.sqrt(DIRECTIONS) * (1.0 if draw is replicas else np.sqrt(1 + 2 * 0.3**2))
    found = np.array([spread(draw(generator, 64, mixed)) for _ in range(repetitions)])
    covered = np.mean(np.abs(np.log(found[:, 0] / exact)) < 1.96 * found[:, 1] / found[:, 0])
    assert at_least(0.90, repetitions) <= covered <= at_most(0.99, repetitions)


def test_spread_of_what_does_not_vary() -> None:
    """Oracle: the definition; of one odd replica out of many nothing can be said, and two have no jackknife."""
    assert spread(np.full((5, 3), 2.0)) == (0.0, 0.0)
    odd = np.zeros((5, 3))
    odd[2] = 1.0
    assert spread(odd).value > 0.0 and np.isnan(spread(odd).error)
    assert np.isnan(spread(np.zeros((2, 3)))).all()


# Bias


def test_bias_is_its_definition() -> None:
    """Oracle: the formula of the docstring, entry by entry, with replicas of the reference and with an exact one."""
    generator, mixed = np.random.default_rng(2), mixing(2)
    values, limit = (
        replicas(generator, 40, mixed, 0.5).reshape(40, 4, 6),
        replicas(generator, 8, mixed).reshape(8, 4, 6),
    )
    se, refse = (x.var(axis=0, ddof=1) / len(x) for x in (values, limit))
    off = values.mean(axis=0) - limit.mean(axis=0)
    assert_allclose(bias(values, limit).value, np.sqrt(np.mean(off**2 - se - refse)), rtol=1e-12)
    off = values.mean(axis=0) - limit[0]
    assert_allclose(bias(values, limit[0]).value, np.sqrt(np.mean(off**2 - se)), rtol=1e-12)


def test_error_of_the_bias_is_the_jackknife() -> None:
    """Oracle: leaving out one replica of the networks, or of the limit, at a time; and 2 tr C^2 of the mean's noise."""
    generator, mixed = np.random.default_rng(3), mixing(3)
    values, limit = replicas(generator, 12, mixed, 3.0), replicas(generator, 5, 0.3 * mixed)
    squares = [
        np.array([bias(np.delete(values, r, axis=0), limit).value ** 2 for r in range(12)]),
        np.array([bias(values, np.delete(limit, r, axis=0)).value ** 2 for r in range(5)]),
    ]
    covariance = np.cov(values.T) / 12 + np.cov(limit.T) / 5
    variance = sum((len(s) - 1) / len(s) * np.sum((s - s.mean()) ** 2) for s in squares)
    variance += 2 * np.trace(covariance @ covariance) / ENTRIES**2
    found = bias(values, limit)
    assert found.resolved
    assert_allclose(found.error, np.sqrt(variance) / (2 * found.value), rtol=1e-9)


@pytest.mark.parametrize("size", [0.8, 3.0])
def test_interval_of_the_bias_covers(size: float) -> None:
    """Oracle: the construction, 200 networks and 8 replicas of the limit. Nominal 95%; 90% is asked for."""
    generator, mixed, repetitions = np.random.default_rng(4), mixing(4), 600
    direction = np.random.default_rng(5).standard_normal(ENTRIES)
    offset = size * rms(mixed) * direction / rms(direction)  # rms(mixed) is half of one spread
    found = [
        bias(replicas(generator, 200, mixed, offset), replicas(generator, 8, 0.1 * mixed)) for _ in range(repetitions)
    ]
    assert all(one.resolved for one in found)
    covered = np.mean([abs(one.value - rms(offset)) < 1.96 * one.error for one in found])
    assert at_least(0.90, repetitions) <= covered <= at_most(0.99, repetitions)


@pytest.mark.parametrize(("networks", "draw", "allowed"), [
    (8, replicas, 0.003), (100, replicas, 0.003), (8, skewed, 0.015), (1000, skewed, 0.005),
])  # fmt: skip
def test_bias_is_seldom_resolved_where_there_is_none(networks: int, draw: Callable, allowed: float) -> None:
    """Oracle: the construction. The rate of false positives is that of the docstring; 5% at p < 0.05, if careful."""
    repetitions = 2000 if networks < 1000 else 500
    generator, mixed = np.random.default_rng(6), mixing(6)
    found = [bias(draw(generator, networks, mixed), replicas(generator, 8, 0.1 * mixed)) for _ in range(repetitions)]
    assert np.mean([one.resolved for one in found]) <= at_most(allowed, repetitions)
    if draw is replicas:
        assert np.mean([one.p < 0.05 for one in found]) <= at_most(0.055, repetitions)
    assert all(one.error > 0 for one in found)


def test_entries_taken_as_independent_are_rejected() -> None:
    """Negative control: chi-square with one degree of freedom for each entry calls far too much resolved."""
    generator, mixed, repetitions = np.random.default_rng(7), mixing(7), 500
    false = 0
    for _ in range(repetitions):
        values = replicas(generator, 100, mixed)
        square = np.sum(values.mean(axis=0) ** 2 / (values.var(axis=0, ddof=1) / len(values)))
        false += chi2.sf(square, ENTRIES) < 0.05
    assert false / repetitions > at_most(0.055, repetitions) + 0.05


def test_noise_that_is_not_removed_is_rejected() -> None:
    """Negative control: |mean - reference| alone is not zero where there is no bias; what is reported is, or noise."""
    generator, mixed = np.random.default_rng(8), mixing(8)
    samples = [replicas(generator, 16, mixed) for _ in range(400)]
    naive = np.mean([np.mean(values.mean(axis=0) ** 2) for values in samples])
    found = [bias(values, np.zeros(ENTRIES)) for values in samples]
    assert_allclose(naive, 4 * rms(mixed) ** 2 / 16, rtol=0.3)
    assert np.median([one.value for one in found]) == 0.0
    assert np.mean([one.value < 2 * one.error for one in found]) > 0.9


def test_bias_of_three_standard_errors_is_resolved() -> None:
    """Oracle: power. A bias along the strongest direction of the noise, of a third of one spread, 200 networks."""
    generator, mixed = np.random.default_rng(9), mixing(9)
    found = [bias(replicas(generator, 200, mixed, mixed[0] / 3), np.zeros(ENTRIES)) for _ in range(100)]
    assert np.mean([one.resolved for one in found]) > 0.8
    print(
        f"bias of 200 networks: minimum detectable effect {rms(mixed[0]) / 3:.2g} at a spread of {rms(mixed) * 2:.2g}"
    )


def test_exact_agreement_and_exact_difference() -> None:
    """Oracle: without any noise every difference is real."""
    assert bias(np.ones((4, 3)), np.ones((4, 3))) == (0.0, 0.0, 1.0, False)
    found = bias(np.ones((4, 3)), np.zeros(3))
    assert found == (1.0, 0.0, 0.0, True)


# Error


def test_error_is_spread_and_bias_together() -> None:
    """Oracle: E |q - ref|^2 = bias^2 + spread^2; the interval covers as a normal one does."""
    generator, mixed, repetitions = np.random.default_rng(10), mixing(10), 400
    exact = np.hypot(rms(mixed) * 2, 0.7)
    found = np.array([error(replicas(generator, 100, mixed, 0.7), np.zeros(ENTRIES)) for _ in range(repetitions)])
    covered = np.mean(np.abs(found[:, 0] - exact) < 1.96 * found[:, 1])
    assert at_least(0.90, repetitions) <= covered <= at_most(0.99, repetitions)
    assert error(np.ones((3, 2)), np.ones(2)) == (0.0, 0.0)


# Control variates


def test_control_variates_keep_the_mean_and_lose_the_noise() -> None:
    """Oracle: a linear law. What is left is the noise that the controls do not carry; the mean stays where it was."""
    generator, k = np.random.default_rng(11), 3
    loadings = generator.standard_normal((k, ENTRIES))
    means, sizes = [], []
    for _ in range(300):
        controls = 0.7 + generator.standard_normal((100, k))
        values = 2.0 + (controls - 0.7) @ loadings + 0.1 * generator.standard_normal((100, ENTRIES))
        quiet = control_variates(values, controls, 0.7)
        means.append(quiet.mean(axis=0) - 2.0)
        sizes.append(spread(quiet).value)
    z = np.mean(means, axis=0) / (np.std(means, axis=0, ddof=1) / np.sqrt(300))
    assert np.abs(z).max() < 4.5
    assert rms(np.array(means)) < 1.1 * 0.1 / 10
    assert_allclose(np.mean(sizes), 0.1, rtol=0.01)


def test_intervals_with_control_variates_cover() -> None:
    """Oracle: a linear law with as many controls as are allowed: their coefficients are paid for."""
    generator, k, repetitions = np.random.default_rng(12), 4, 600
    loadings, p = generator.standard_normal((k, 1)), []
    for _ in range(repetitions):
        controls = generator.standard_normal((16 * k, k))
        values = controls @ loadings + generator.standard_normal((16 * k, 1))
        p.append(bias(control_variates(values, controls), np.zeros(1)).p)
    assert np.mean(np.array(p) < 0.05) <= at_most(0.06, repetitions)


def test_control_of_a_wrong_mean_is_rejected() -> None:
    """Negative control: controls whose mean is not the one given bring a bias, which is resolved."""
    generator = np.random.default_rng(13)
    controls = generator.standard_normal((400, 2))
    values = controls + 0.1 * generator.standard_normal((400, 2))
    assert not bias(control_variates(values, controls, 0.0), np.zeros(2)).resolved
    assert bias(control_variates(values, controls, 0.1), np.zeros(2)).resolved


def test_controls_are_used_as_far_as_there_are_replicas() -> None:
    """Oracle: one control for 16 replicas, the first ones first; none for fewer."""
    generator = np.random.default_rng(14)
    controls = generator.standard_normal((40, 5))
    values = controls @ generator.standard_normal((5, 3))
    assert (control_variates(values[:15], controls[:15]) == values[:15]).all()
    assert_allclose(control_variates(values, controls), control_variates(values, controls[:, :2]), rtol=1e-13)


# Slopes


WIDTHS = 2 ** np.arange(5, 12)


def test_exact_powers_are_recovered() -> None:
    """Oracle: the power; the interval that the errors alone give."""
    values = 3.0 * WIDTHS**-0.7
    found = fit_slope(WIDTHS, values, 0.1 * values)
    half = 1.959964 * 0.1 / np.sqrt(np.sum((np.log(WIDTHS) - np.log(WIDTHS).mean()) ** 2))
    assert_allclose(found, (-0.7, -0.7 - half, -0.7 + half), rtol=1e-6)


def test_slope_needs_three_points() -> None:
    """Oracle: the definition; points that are zero, undefined or without error are none."""
    values = np.array([1.0, 0.5, 0.25, 0.0, np.nan, 0.1, 0.1])
    errors = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.0, np.nan])
    assert np.isfinite(fit_slope(WIDTHS, values, errors)).all()
    values[2] = np.inf
    assert np.isnan(fit_slope(WIDTHS, values, errors)).all()


@pytest.mark.parametrize("seeds", [8, 64])
def test_interval_of_the_slope_of_the_spread_covers(seeds: int) -> None:
    """Oracle: the construction, n^-1/2 at seven widths. Nominal 95%; between 90% and 99% is asked for."""
    generator, mixed, repetitions = np.random.default_rng(15), mixing(15), 500
    inside, slopes = 0, []
    for _ in range(repetitions):
        found = np.array([spread(replicas(generator, seeds, mixed / np.sqrt(n))) for n in WIDTHS])
        estimate, low, high = fit_slope(WIDTHS, *found.T)
        inside += low <= -0.5 <= high
        slopes.append(estimate)
    assert at_least(0.90, repetitions) <= inside / repetitions <= at_most(0.99, repetitions)
    assert abs(np.mean(slopes) + 0.5) < 4.5 * np.std(slopes, ddof=1) / np.sqrt(repetitions)


def test_interval_of_the_slope_of_the_bias_covers() -> None:
    """Oracle: the construction, bias 6 / n and noise n^-1/2, 400 networks, at four widths where it is resolved."""
    generator, mixed, widths, repetitions = np.random.default_rng(16), mixing(16), WIDTHS[:4], 400
    offset = 6 * rms(mixed) * np.ones(ENTRIES)
    inside = 0
    for _ in range(repetitions):
        networks = [replicas(generator, 400, mixed / np.sqrt(n), offset / n) for n in widths]
        found = [bias(values, np.zeros(ENTRIES)) for values in networks]
        assert all(one.resolved for one in found)
        _, low, high = fit_slope(widths, np.array([b.value for b in found]), np.array([b.error for b in found]))
        inside += low <= -1.0 <= high
    assert at_least(0.90, repetitions) <= inside / repetitions <= at_most(0.995, repetitions)


def test_another_power_is_rejected() -> None:
    """Negative control: a spread that falls like n^-0.4 is not taken for n^-1/2, nor a constant bias for n^-1."""
    generator, mixed = np.random.default_rng(17), mixing(17)
    found = np.array([spread(replicas(generator, 256, mixed * n**-0.4)) for n in WIDTHS])
    assert fit_slope(WIDTHS, *found.T).low > -0.5
    same = [bias(replicas(generator, 256, mixed / np.sqrt(n), 0.3), np.zeros(ENTRIES)) for n in WIDTHS]
    assert fit_slope(WIDTHS, np.array([b.value for b in same]), np.array([b.error for b in same])).low > -0.5


def test_scatter_beyond_the_errors_widens_the_interval() -> None:
    """Oracle: ordinary least squares, whose interval knows of the scatter only."""
    values = WIDTHS**-0.5 * np.exp(0.3 * (-1.0) ** np.arange(7))
    found = fit_slope(WIDTHS, values, 1e-3 * values)
    fit = linregress(np.log(WIDTHS), np.log(values))
    half = student.ppf(0.975, 5) * fit.stderr
    assert_allclose(found, (fit.slope, fit.slope - half, fit.slope + half), rtol=1e-9)


# Widths and distances


def test_width_within() -> None:
    """Oracle: by hand. A width counts only if all wider ones are within too; what is undefined is not."""
    assert width_within((16, 32, 64, 128), np.array([0.3, 0.04, 0.06, 0.05]), 0.05) == 128
    assert width_within((16, 32), np.array([0.3, 0.06]), 0.05) is None
    assert width_within((16, 32), np.array([0.01, 0.02]), 0.05) == 16
    assert width_within((16, 32), np.array([np.nan, 0.02]), 0.05) == 32
    assert width_within((16, 32), np.array([0.01, np.nan]), 0.05) is None


@pytest.mark.parametrize("ties", [False, True])
def test_distances_are_those_of_scipy(ties: bool) -> None:
    """Oracle: scipy, with and without ties, and the Wasserstein distance of a shift."""
    generator = np.random.default_rng(18)
    for size, other in ((1, 7), (37, 1000), (1000, 37)):
        a, b = generator.standard_normal(size), 0.3 + generator.standard_normal(other)
        if ties:
            a, b = a.round(), b.round()
        exact = wasserstein_distance(a, b), ks_2samp(a, b).statistic
        assert_allclose(distances(a, b), exact, rtol=1e-12, atol=1e-14)
        assert_allclose(distances(a, np.sort(b)), exact, rtol=1e-12, atol=1e-14)
    assert_allclose(distances(a, a + 0.25)[0], 0.25, rtol=1e-12)
    assert distances(a, a) == (0.0, 0.0)


@pytest.mark.parametrize("size", [16, 400])
def test_floor_is_that_of_independent_draws(size: int) -> None:
    """Oracle: normal draws against 200001 quantiles of the normal law, 5 standard errors and 5% of the formula."""
    generator = np.random.default_rng(19)
    law = norm.ppf((np.arange(200001) + 0.5) / 200001)
    found = np.array([distances(generator.standard_normal(size), law) for _ in range(100)])
    off = np.abs(found.mean(axis=0) - distance_floor(law, size))
    assert (off < 5 * found.std(axis=0, ddof=1) / 10 + 0.05 * found.mean(axis=0)).all()


def test_ratio_of_spreads() -> None:
    """Oracle: error propagation by hand; nothing to divide by is undefined."""
    found = rates.ratio(rates.Estimate(2.0, 0.2), rates.Estimate(4.0, 0.8))
    assert_allclose(found, (0.5, 0.5 * np.hypot(0.1, 0.2)), rtol=1e-14)
    assert np.isnan(rates.ratio(rates.Estimate(1.0, 0.1), rates.Estimate(0.0, 0.0))).all()
