"""Assumption 4.1. Oracle: an O(m^3) twin in Python's integers, on data with planted ties."""

import itertools

import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import numpy as np
import pytest

from tpsim.assumption import Violation, check_assumption
from tpsim.data import digits
from tpsim.data.images import DEMO_SEED
from tpsim.errors import InputError


def brute_force(inputs):
    """Every violation, printed and needed, one triple at a time: the assumption as it is written."""
    m = len(inputs)
    rows = [[int(v) for v in row] for row in inputs]
    gram = [[abs(sum(a * b for a, b in zip(x, y, strict=True))) for y in rows] for x in rows]
    printed, needed = set(), set()
    for i, j, k in itertools.product(range(m), repeat=3):
        if j < k and gram[i][j] == gram[i][k]:
            needed.add((i, j, k))
            if i not in (j, k):
                printed.add((i, j, k))
    for i, j in itertools.combinations_with_replacement(range(m), 2):
        if gram[i][j] == 0:
            needed.add((i, j, None))
            if i != j:
                printed.add((i, j, None))
    return printed, needed


def assert_same(inputs, report):
    printed, needed = brute_force(inputs)
    assert (report.printed_violations, report.needed_violations) == (len(printed), len(needed))
    assert set(report.printed_examples) <= printed and len(set(report.printed_examples)) == min(20, len(printed))
    assert set(report.needed_examples) <= needed and len(set(report.needed_examples)) == min(20, len(needed))
    assert (report.holds_printed, report.holds_needed) == (not printed, not needed)
    assert (report.smallest_gap == 0) == bool(needed)


small_integers = hypothesis.extra.numpy.arrays(
    np.int64, st.tuples(st.integers(1, 8), st.integers(1, 4)), elements=st.integers(-4, 4)
)


@hypothesis.given(small_integers, st.sampled_from([1.0, 1 / 16, 1 / 3, 1 / (16 * np.sqrt(5)), 1e-200, 1e150]))
@hypothesis.settings(max_examples=300)
def test_counts_equal_the_brute_force_twin(integers, scale):
    """Small integers are full of ties, opposite and zero rows and orthogonal pairs, at any common scale."""
    report = check_assumption(integers * scale)
    assert report.arithmetic.startswith("exact integers")
    assert_same(integers, report)


def test_larger_random_integers_over_several_blocks():
    """Twin again, with ties that cross the blocks in which the Gram matrix is computed."""
    integers = np.random.default_rng(0).integers(-3, 4, size=(30, 6))
    repeated = np.concatenate([integers, np.ones((270, 6), int) * np.arange(40, 310)[:, None]])
    report = check_assumption(repeated)
    gram = np.abs(repeated @ repeated.T)
    ties = sum(int((c * (c - 1) // 2).sum()) for row in gram for c in [np.unique(row, return_counts=True)[1]])
    assert report.needed_violations == ties + np.count_nonzero(gram[np.triu_indices(300)] == 0)
    assert_same(integers, check_assumption(integers))


@pytest.mark.parametrize(
    ("inputs", "printed", "needed"),
    [
        ([[1.0, 2.0]], True, True),
        ([[0.0, 0.0]], True, False),  # a zero input alone: <x,x> = 0
        ([[1.0, 2.0], [-1.0, -2.0]], True, False),  # +-x: holds as printed, breaks the proof
        ([[1.0, 0.0], [1.0, 1.0]], True, False),  # |<x_0,x_1>| = <x_0,x_0>, m = 2
        ([[1.0, 0.0], [0.0, 1.0]], False, False),
        ([[1.0, 2.0], [3.0, 2.0]], True, True),
        ([[1.0, 2.0], [0.0, 0.0]], False, False),
        ([[1.0, 0.5], [3.0, 1.0], [-3.0, -1.0]], False, False),
        ([[4.0, 0.0], [1.0, 5.0], [1.0, -2.0]], False, False),  # a tie of different points only
    ],
)
def test_named_cases(inputs, printed, needed):
    """Oracle: by hand."""
    report = check_assumption(inputs)
    assert (report.holds_printed, report.holds_needed) == (printed, needed)


def test_opposite_inputs_hold_as_printed_and_fail_as_needed():
    """The gap in the printed assumption: it never compares <x_i,x_j> with <x_i,x_i>."""
    x = np.random.default_rng(1).standard_normal((2, 5))
    report = check_assumption([x[0], -x[0]])
    assert report.holds_printed and not report.holds_needed
    assert report.needed_examples[0] == Violation(0, 0, 1)
    assert "|<x[0],x[0]>| = |<x[0],x[1]>|" in str(report) and "as printed: holds" in str(report)


def test_generic_data_hold_and_the_gap_is_that_of_the_gram_matrix():
    """Oracle: all differences of each row of |Gram| with 0 adjoined, one by one."""
    x = np.random.default_rng(2).standard_normal((12, 7))
    report = check_assumption(x)
    assert report.holds_printed and report.holds_needed and report.arithmetic.startswith("float64, rounding bound")
    gram, norms = np.abs(x @ x.T), np.linalg.norm(x, axis=1)
    gaps = [
        abs(a - b) / (norms[i] * norms.max()) for i in range(12) for a, b in itertools.combinations([0, *gram[i]], 2)
    ]
    assert report.smallest_gap == pytest.approx(min(gaps), rel=1e-9)


@pytest.mark.parametrize("exponent", [-1000, -300, 0, 300, 1000])
def test_ties_hidden_by_rounding_are_found_at_any_scale(exponent):
    """A rotation keeps every tie in exact arithmetic; in float64 only the rounding bound can still see them."""
    rng = np.random.default_rng(3)
    integers = rng.integers(-2, 3, size=(9, 6)).astype(float)
    rotation = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    report = check_assumption(np.ldexp(integers @ rotation, exponent))
    printed, needed = brute_force(integers)
    assert report.arithmetic.startswith("float64") and len(needed) > 20
    # The bound is gamma_14 |x_i| |x_j|; the product costs gamma_6 and the two rotated inputs about 2u each in norm.
    assert (report.printed_violations, report.needed_violations) == (len(printed), len(needed))
    assert set(report.needed_examples) <= needed


def test_rounding_bound_is_sharp_enough_to_separate():
    """A difference of 1e-12 at d = 3072 is far above the bound; one of 1e-16 is not."""
    x = np.random.default_rng(4).standard_normal((3, 3072))
    q = np.linalg.qr(x.T)[0].T
    for difference, holds in ((1e-11, True), (1e-16, False)):
        third = q[0] * (0.5 + difference) + 2.0 * q[2] + 0.3 * q[1]
        assert check_assumption([q[0], 0.5 * q[0] + q[1], third]).holds_needed is holds


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_pixels_are_recognised_as_integers(dtype):
    """pixels / 255, then 1/sqrt(d), rounded in float64 or float32, keep the exact ties of the pixels."""
    pixels = np.random.default_rng(5).integers(3, 256, size=(40, 20))
    pixels[7] = pixels[11, ::-1]
    pixels[3] = 5
    inputs = (pixels / dtype(255)).astype(dtype).astype(float) / np.sqrt(20)
    report = check_assumption(inputs)
    assert report.arithmetic.startswith("exact integers: inputs = ")
    assert ("float32" in report.arithmetic) == (dtype is np.float32)
    assert report.needed_violations == len(brute_force(pixels)[1]) > 0


def test_large_integers_fall_back_to_float():
    """d max|x|^2 > 2^53: the Gram matrix may round, so the report must not claim exactness."""
    big = np.random.default_rng(6).integers(2**40, 2**41, size=(5, 30)).astype(float)
    report = check_assumption(big)
    assert report.arithmetic.startswith("float64") and report.holds_needed


def test_demo_seed_is_the_smallest_that_satisfies_the_needed_form():
    """Oracle: the twin, on the pixels themselves."""
    for seed in range(DEMO_SEED + 1):
        pixels = np.rint(digits(seed=seed).inputs * 16 * 8).astype(int)
        printed, needed = brute_force(pixels)
        report = check_assumption(digits(seed=seed).inputs)
        assert (report.printed_violations, report.needed_violations) == (len(printed), len(needed))
        assert report.arithmetic.startswith("exact integers")
        assert report.holds_needed == (seed == DEMO_SEED)


@pytest.mark.parametrize("bad", [[], [[]], [1.0, 2.0], [[np.nan]], [["a"]], [[np.inf, 1.0]]])
def test_bad_input(bad):
    with pytest.raises(InputError, match="inputs"):
        check_assumption(bad)
