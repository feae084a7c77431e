"""Keyed streams. Oracles: bitwise identities, and the law of independent N(0, 1) numbers."""

import numpy as np
from numpy.testing import assert_array_equal
from scipy.stats import kstest

from tests.oracles.levels import ALPHA, critical, spend
from tpsim.core import TILE
from tpsim.core.noise import NormalSource, Stream

KEYS = [(1,), (1, 0), (0, 1), (0, 0, 1), (1, 1), (11,), (2**70,), (2**70 + 1,), (-1,)]


def test_a_stream_starts_anew_whatever_it_produced_before():
    """Oracle: bitwise identity with a stream that was never used, after numbers of every kind and an odd count."""
    used = Stream()
    for disturb in (
        lambda g: g.standard_normal(7),
        lambda g: g.integers(0, 9, 3, dtype=np.uint32),
        lambda g: g.random(1, dtype=np.float32),
    ):
        disturb(used.at((5, 1), 2))
        for key, tile in (((5, 1), 2), ((5, 2), 2), ((5, 1), 0)):
            assert_array_equal(used.at(key, tile).standard_normal(9), Stream().at(key, tile).standard_normal(9))


def test_tiles_are_stretches_of_one_sequence_that_cannot_overlap():
    """Oracle: tile k is the sequence of the key, 2^64 blocks of four numbers further on for each tile."""
    for tile in (1, 2, 63):
        there = Stream().at((3, 4))
        there.bit_generator.advance(tile << 64)
        assert_array_equal(Stream().at((3, 4), tile).random(8), there.random(8))


def test_keys_that_look_alike_have_different_streams():
    """Zeros at either end, digits that concatenate alike, more than 64 bits, signs; numpy integers are integers."""
    first = {Stream().at(key).integers(0, 2**63) for key in KEYS}
    assert len(first) == len(KEYS)
    assert_array_equal(Stream().at((np.int64(1), np.uint8(0))).random(3), Stream().at((1, 0)).random(3))


def test_draws_of_neighbouring_keys_and_tiles_are_independent_normals():
    """Oracle: N(0, I). Keys that differ in one entry by one, as a run's do. Level ALPHA in each part."""
    draws = [NormalSource(4 * TILE, (0, replica, 1)).pseudo_random((2, 0, step, i))
             for replica in range(2) for step in range(4) for i in range(8)]  # fmt: skip
    z = np.array(draws).reshape(-1, TILE)  # (256, TILE)
    assert kstest(z.ravel(), "norm").pvalue > ALPHA
    correlations = (z @ z.T / TILE)[np.triu_indices(len(z), 1)]
    assert np.abs(correlations).max() < critical(correlations.size) / np.sqrt(TILE)
    assert abs(np.mean(correlations**2) * TILE - 1) < critical() * np.sqrt(2 / correlations.size)
    # nothing is left of the pattern of neighbours: each lag of the tiles on its own
    for lag in (1, 4, 32, 128):
        c = (z[lag:] * z[:-lag]).mean()
        assert abs(c) < critical(4) / np.sqrt(z[lag:].size)
    spend(4 * ALPHA)


def test_sobol_points_of_different_roots_are_scrambled_independently():
    """Oracle: inequality for different roots, bitwise identity for equal ones."""
    z = [NormalSource(1024, (0, replica, 1), sobol=True).normal((1,)) for replica in range(8)]
    assert len({row.tobytes() for row in z}) == 8
    assert_array_equal(z[3], NormalSource(1024, (0, 3, 1), sobol=True).normal((1,)))
