"""Assumption 4.1 as a claim, and over datasets. Oracle: every triple in Python's fractions, on planted ties."""

import itertools
import struct
from fractions import Fraction

import numpy as np
import pytest

from tpsim import check_assumption
from tpsim.data import digits
from tpsim.data.images import Images
from tpsim.errors import FileError, InputError
from validation.claim import Verdict
from validation.inputs import PER_CLASS, SUBSETS, assumption_4_1, dataset_table, measure, table_text


def brute_force(inputs, needed):
    """Share of violating triples (i; {j, k}) and share of rows with one."""
    rows = [[Fraction(int(v)) for v in row] for row in inputs]
    gram = [[abs(sum(a * b for a, b in zip(x, y, strict=True))) for y in rows] for x in rows]
    m, bad, bad_rows = len(rows), 0, set()
    triples = [(i, j, k) for i in range(m) for j, k in itertools.combinations(range(m), 2)]
    triples = [t for t in triples if needed or t[0] not in t[1:]]
    for i, j, k in triples:
        if gram[i][j] == gram[i][k] or gram[i][j] == 0 or gram[i][k] == 0:
            bad += 1
            bad_rows.add(i)
    return Fraction(bad, len(triples)), Fraction(len(bad_rows), m)


@pytest.mark.parametrize("seed", range(6))
def test_shares_equal_the_brute_force_over_all_triples(seed):
    """Oracle: fractions. Small integers with ties, orthogonal pairs, a duplicate, an opposite pair and a zero input."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 4, (11, 4))
    if seed % 2:
        x[3], x[7], x[9] = x[5], -x[2], 0
    row = measure("digits", Images(x, np.zeros(11), 1.0), 11)
    report = check_assumption(x)
    assert (row.printed.violations, row.needed.violations) == (report.printed_violations, report.needed_violations)
    for version, needed in ((row.printed, False), (row.needed, True)):
        triples, rows = brute_force(x, needed)
        assert (version.triples, version.rows) == (pytest.approx(float(triples), abs=1e-15), float(rows))
    assert row.gap == pytest.approx(report.smallest_gap, abs=1e-15)
    assert row.duplicates == 11 - len({tuple(image) for image in x})
    assert np.isnan(row.needed.subsets)  # one class only


def test_a_dataset_that_holds_has_no_violation_anywhere():
    """Oracle: d = 1 and x_i = 2^i, so that every product is another power of two in its row."""
    x = 2.0 ** np.arange(20)[:, None]
    row = measure("digits", Images(x, np.arange(20) % 2, 1.0), 20)
    for version in (row.printed, row.needed):
        assert (version.violations, version.rows, version.triples) == (0, 0.0, 0.0)
        assert (version.subsets, version.error) == (1.0, 0.0)
    assert row.sampled == 0 and row.gap > 0 and "no triple of these 20 images" in table_text([row])


def test_planted_opposite_and_duplicated_inputs_are_counted():
    """Oracle: by hand. Inputs 1, 3, -1: rows (1, 3, 1), (3, 9, 3), (1, 3, 1), of which the second has no k = i."""
    row = measure("digits", Images(np.array([[1.0], [3.0], [-1.0]]), np.zeros(3), 1.0), 3)
    assert (row.printed.violations, row.needed.violations) == (1, 3)
    twice = np.repeat(2.0 ** np.arange(12)[:, None], 2, axis=0)
    row = measure("digits", Images(twice, np.arange(24) % 2, 1.0), 24)
    assert row.duplicates == 12 and row.printed.rows == 1.0
    # row i: of the 11 other pairs of equal images each is one tie; its own pair is one more as needed
    assert (row.printed.violations, row.needed.violations) == (24 * 11, 24 * 12)


def test_subsets_are_balanced_between_two_classes():
    """Oracle: only classes 0 and 1 together have a violation: every x of class 0 is also one of class 1.

    Classes 0, 1, 2 of 5 images each: the whole class is drawn, so a subset violates iff it is the pair (0, 1), a share
    1/3 of all; 4.9 standard errors of 400 draws are 0.115 (a false alarm has probability 1e-6).
    """
    odd = 2 * np.arange(10) + 1
    x = np.concatenate([2.0 ** odd[:5], 2.0 ** odd[:5], 2.0 ** odd[5:]])[:, None]
    row = measure("digits", Images(x, np.repeat([0, 1, 2], PER_CLASS), 1.0), 15)
    for version in (row.printed, row.needed):
        assert abs(version.subsets - 2 / 3) < 4.9 * np.sqrt(2 / 9 / SUBSETS)
        assert version.error == pytest.approx(np.sqrt(version.subsets * (1 - version.subsets) / SUBSETS))


def test_the_digits_and_what_random_triples_show():
    """Oracle: `check_assumption` for the counts; the binomial law for the sample of 5,000 triples.

    Share p = 6.4e-4: 3.2 expected violations; more than 14 or a share off by 6 standard errors has probability 1e-6.
    """
    row = dataset_table({}, 3, progress=False)[-1]
    assert (row.source, row.images, row.dimension, row.duplicates) == ("digits", 1797, 64, 0)
    assert row.printed.rows == row.needed.rows == 1.0 and row.gap == 0.0
    assert row.printed.violations < row.needed.violations
    assert row.printed.triples * 1797 * 1796 * 1795 / 2 == pytest.approx(row.printed.violations)  # no zero product
    assert row.sampled <= 14 and 0.5 < row.needed.subsets <= row.printed.subsets < 1
    text = table_text([row])
    assert "| digits | 1797 (0) | 64 | printed |" in text and "3.2 violations are to be expected in 5,000" in text


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">I", n) for n in array.shape) + array.tobytes()


def test_local_files_are_read_and_the_first_images_used(tmp_path):
    """Oracle: the pixels that the test wrote; `check_assumption` on the first 30 of them."""
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (40, 28, 28), dtype=np.uint8), (np.arange(40) % 3).astype(np.uint8)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(pixels))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels))
    colours = rng.integers(0, 256, (40, 3072), dtype=np.uint8)
    colours[7] = colours[3]
    rows = (bytes([0, k]) + image.tobytes() for k, image in zip(labels, colours, strict=True))
    (tmp_path / "train.bin").write_bytes(b"".join(rows))
    mnist, cifar, digit = dataset_table({"cifar100": str(tmp_path), "mnist": str(tmp_path)}, 30, progress=False)
    assert [row.source for row in (mnist, cifar, digit)] == ["mnist", "cifar100", "digits"]
    for row, raw in ((mnist, pixels.reshape(40, -1)), (cifar, colours)):
        report = check_assumption(raw[:30].astype(float))
        assert (row.images, row.dimension) == (30, raw.shape[1])
        assert (row.printed.violations, row.needed.violations) == (report.printed_violations, report.needed_violations)
    # the duplicate ties in each of the other 28 rows; in its own two as needed
    assert cifar.duplicates == 1 and cifar.needed.violations >= 30 and cifar.printed.violations >= 28
    text = table_text([mnist, cifar, digit])
    assert "smallest distance in the reply 2.74e-06" in text and "| CIFAR-100 | 30 (1) | 3072 | needed |" in text


def test_what_cannot_be_read_is_one_clear_error(tmp_path):
    with pytest.raises(FileError, match="train-images-idx3-ubyte"):
        dataset_table({"mnist": str(tmp_path / "missing")}, 10, progress=False)
    with pytest.raises(InputError, match="datasets: got 'imagenet'; allowed: one of mnist, cifar10, cifar100"):
        dataset_table({"imagenet": str(tmp_path)}, 10, progress=False)
    with pytest.raises(InputError, match="images: got 2"):
        dataset_table({}, 2, progress=False)
    with pytest.raises(FileError, match="MNIST: 4 images of 2 values; allowed: .* integers"):
        measure("mnist", Images(np.full((4, 2), 0.5), np.zeros(4), 1.0), 4)


def test_the_claim_is_a_hypothesis():
    """Oracle: the demo's subset was chosen to satisfy it; that of seed 0 has one tie."""
    claim = assumption_4_1(digits(), "digits")
    assert claim.verdict is Verdict.PASS and claim.estimate == 0.0 and not claim.refuted
    assert "holds; as the proof needs it" in claim.notes[0] and "exact integers" in claim.notes[1]
    claim = assumption_4_1(digits(seed=0), "digits")
    assert (claim.verdict, claim.estimate, claim.hypothesis, claim.refuted) == (Verdict.FAIL, 1.0, True, False)
    assert claim.notes[-1] == "violations: |<x[9],x[7]>| = |<x[9],x[8]>|"
    many = assumption_4_1(np.ones((9, 3)), "ones")
    assert "the first 20 of 324" in many.notes[-1] and many.notes[-1].count("= |") == 20
    assert assumption_4_1(np.ones((1, 3)), "one").statement.startswith("one, 1 input of dimension 3:")
    rounded = assumption_4_1(np.random.default_rng(0).standard_normal((6, 4)), "Gaussian inputs")
    assert rounded.verdict is Verdict.PASS and "rounding bound" in rounded.notes[1]
