"""Assumption 4.1 on one dataset, and how often it holds: on digits, MNIST, CIFAR-10, CIFAR-100 and subsets of them.

As printed, three different inputs have |<x_i, x_j>| != |<x_i, x_k>|, and no product of two is zero. Step 1 of the proof
of Theorem 4.5 needs k = i (and so pairs) as well. With c_v the number of entries |<x_i, x_j>| = v of row i, and K of
them in all (j != i as printed, any j as needed), the row violates sum_{v>0} C(c_v, 2) + C(K, 2) - C(K - c_0, 2) of its
C(K, 2) triples (i; {j, k}). Raw pixels are integers, so that all of this is exact.

A reviewer asked for a check on datasets. The authors answered with 5,000 random triples of each; `table_text` sets
beside it what such a sample can tell. A theorem about training on S needs the assumption on all triples of S.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
from tqdm import tqdm

from tpsim import Problem
from tpsim.assumption import BLOCK, check_assumption
from tpsim.data.images import Images, training_images
from tpsim.errors import FileError, InputError
from tpsim.problem import positive_int

from .claim import Claim, Verdict

Array = np.ndarray

TITLES = {"mnist": "MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "digits": "digits"}
TRIPLES = 5000  # in the authors' reply, all of which satisfy the printed version on MNIST, CIFAR-10 and CIFAR-100
SMALLEST = {"mnist": 2.74e-6, "cifar10": 3.08e-5, "cifar100": 1.51e-5}  # the smallest distance that they found
SUBSETS, PER_CLASS, SEED = 400, 5, 0  # random training sets as in the paper's experiments: 10 images of two classes


@dataclass(frozen=True)
class Version:
    """One version of the assumption, as printed or as needed, on one dataset.

    Attributes
    ----------
    violations : as `tpsim.check_assumption` counts them.
    rows : share of the images i with a violation in their row.
    triples : share of the triples (i; {j, k}) that violate it.
    subsets, error : share of random balanced two-class subsets that satisfy it, and its binomial standard error.
    """

    violations: int
    rows: float
    triples: float
    subsets: float
    error: float


@dataclass(frozen=True)
class Row:
    """Assumption 4.1 on one dataset.

    Attributes
    ----------
    source : "digits", "mnist", "cifar10" or "cifar100".
    images, dimension : how many images were used, the first ones, and their pixels.
    duplicates : images that are equal to an earlier one.
    gap : smallest relative gap, as of `tpsim.check_assumption`.
    sampled : violations of the printed version in `TRIPLES` random triples of ours.
    printed, needed : Version
    """

    source: str
    images: int
    dimension: int
    duplicates: int
    gap: float
    sampled: int
    printed: Version
    needed: Version


def assumption_4_1(problem: Problem | Any, name: str) -> Claim:
    """Whether a dataset satisfies Assumption 4.1 in the version that the proof needs: a hypothesis, no claim.

    Parameters
    ----------
    problem : Problem, or inputs (m, d).
    name : of the dataset, for the sentence.

    Raises
    ------
    InputError
        As of `tpsim.check_assumption`.
    """
    report = check_assumption(problem.inputs if isinstance(problem, Problem) else problem)
    notes = [
        f"as printed (three different inputs): {_holds(report.printed_violations)}; as the proof needs it "
        f"(<x_i, x_j> against <x_i, x_i> too): {_holds(report.needed_violations)}",
        f"smallest relative gap {report.smallest_gap:.2g}; {report.arithmetic}, all triples",
    ]
    if report.needed_examples:
        named, total = len(report.needed_examples), report.needed_violations
        which = "" if named == total else f" (the first {named} of {total})"
        notes.append(f"violations{which}: {', '.join(map(str, report.needed_examples))}")
    return Claim(
        "Assumption 4.1",
        f"{name}, {report.samples} input{'s' if report.samples > 1 else ''} of dimension {report.dimension}: each row "
        "of the Gram matrix has distinct, positive absolute values; counted: violations",
        float(report.needed_violations), 0.0, np.nan, Verdict.PASS if report.holds_needed else Verdict.FAIL, 1, 1,
        tuple(notes), hypothesis=True,
    )  # fmt: skip


def _holds(violations: int) -> str:
    return "holds" if violations == 0 else f"{violations} violation{'s' if violations > 1 else ''}"


def dataset_table(paths: Mapping[str, str], images: int, progress: bool | None = None) -> list[Row]:
    """Check Assumption 4.1 on the image sets whose files are given, and on all 1797 digits.

    Parameters
    ----------
    paths : "mnist", "cifar10", "cifar100" -> local files; any of them, or none.
    images : how many training images of each are used, from the first on.
    progress : None (a bar on a terminal), True or False.

    Raises
    ------
    InputError, FileError
        Another source; files that are missing, damaged, or hold no integers.

    Cost: O(m^2 d); 2000 images of CIFAR take some seconds, all 50 000 an hour.
    """
    positive_int("images", images, 3)
    if other := set(paths) - set(SMALLEST):
        raise InputError("datasets", sorted(other)[0], f"one of {', '.join(SMALLEST)}")
    found = []
    for source in TITLES:
        if source in paths:
            found.append(measure(source, training_images(source, paths[source]), images, progress))
    everything = training_images("digits")
    return [*found, measure("digits", everything, len(everything.labels), progress)]


def measure(source: str, data: Images, images: int, progress: bool | None = False) -> Row:
    """Check the first `images` images of one dataset; FileError unless their pixels are integers."""
    x, labels = data.pixels[:images].astype(float), data.labels[:images]
    m, d = x.shape
    if m < 3 or not (x == np.rint(x)).all() or d * float(np.abs(x).max()) ** 2 > 2**53:
        raise FileError(f"{TITLES[source]}: {m} images of {d} values; allowed: at least 3, of integers such as bytes")
    rng = np.random.default_rng(SEED)
    counts, gap = _tally(x, TITLES[source], progress)
    alone = int((x == 0).all(axis=1).sum())  # <x_i, x_i> = 0; all other zeros are met twice
    versions = [
        Version(
            violations=int(ties.sum() + (zeros.sum() + same) // 2), rows=float((violating > 0).mean()),
            triples=float(violating.sum()) / (m * comb(entries, 2)), subsets=share, error=error,
        )
        for (ties, violating, zeros), same, entries, (share, error) in zip(
            counts, (0, alone), (m - 1, m), _subsets(x, labels, rng), strict=True
        )
    ]  # fmt: skip
    duplicates = m - len({image.tobytes() for image in x})
    return Row(source, m, d, duplicates, gap, _sample(x, rng), *versions)


def _tally(x: Array, title: str, progress: bool | None) -> tuple[Array, float]:
    """Return (version, count, row): ties, violating triples and zeros, as printed and as needed; and the gap."""
    m, norms = len(x), np.sqrt((x**2).sum(axis=1))
    counts, gap = np.zeros((2, 3, m), dtype=np.int64), np.inf
    with tqdm(total=m, desc=f"Assumption 4.1: {title}", disable=None if progress is None else not progress) as bar:
        for start in range(0, m, BLOCK):
            block = np.abs(x[start : start + BLOCK] @ x.T)
            for i, row in enumerate(block, start):
                counts[:, :, i] = _count(np.delete(row, i)), _count(row)
                scale = norms[i] * norms.max()
                gap = min(gap, float(np.diff(np.sort(row), prepend=0).min() / scale) if scale else 0.0)
            bar.update(len(block))
    return counts, gap


def _count(entries: Array) -> tuple[int, int, int]:
    """Ties, violating triples and zeros among some entries of a row of |Gram|."""
    values, counts = np.unique(entries, return_counts=True)
    zeros, k = int(counts[values == 0].sum()), len(entries)
    ties = int((counts * (counts - 1) // 2).sum())
    return ties, ties - comb(zeros, 2) + comb(k, 2) - comb(k - zeros, 2), zeros


def _subsets(x: Array, labels: Array, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Shares, with errors, of random subsets that satisfy each version; NaN without two classes of enough images."""
    members = [index for c in np.unique(labels) if len(index := np.flatnonzero(labels == c)) >= PER_CLASS]
    if len(members) < 2:
        return [(np.nan, np.nan)] * 2
    good = np.zeros(2)
    for _ in range(SUBSETS):
        pair = rng.choice(len(members), 2, replace=False)
        chosen = x[np.concatenate([rng.choice(members[k], PER_CLASS, replace=False) for k in pair])]
        report = check_assumption(chosen)
        good += report.holds_printed, report.holds_needed
    return [(float(p), float(np.sqrt(p * (1 - p) / SUBSETS))) for p in good / SUBSETS]


def _sample(x: Array, rng: np.random.Generator) -> int:
    """How many of `TRIPLES` random triples of different images violate the printed version."""
    triples = np.array([rng.choice(len(x), 3, replace=False) for _ in range(TRIPLES)])
    first, second = (np.abs(np.einsum("ta,ta->t", x[triples[:, 0]], x[triples[:, k]])) for k in (1, 2))
    return int(np.count_nonzero((first == second) | (first == 0) | (second == 0)))


def table_text(rows: list[Row]) -> str:
    """Both versions by dataset as markdown, and what the authors' reply can and cannot tell."""
    head = [
        "dataset", "images (duplicates)", "d", "version", "violations", "share of images", "share of triples",
        "smallest relative gap", f"share of {2 * PER_CLASS}-subsets that satisfy it",
    ]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        for name, version in (("printed", row.printed), ("needed", row.needed)):
            cells = [
                TITLES[row.source], f"{row.images} ({row.duplicates})", f"{row.dimension}", name,
                f"{version.violations}", f"{version.rows:.3g}", f"{version.triples:.3g}",
                f"{row.gap:.2g}" if name == "needed" else "", f"{version.subsets:.3f} +- {version.error:.3f}",
            ]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
    bound = 1 - 0.05 ** (1 / TRIPLES)
    lines += [
        "",
        f"Printed: three different images; needed: with <x_i, x_j> against <x_i, x_i>. Subsets: {SUBSETS} random ones, "
        f"{PER_CLASS} images of each of two classes, seed {SEED}. Asked for a check on datasets, the authors replied "
        f"that {TRIPLES:,} random triples of each of MNIST, CIFAR-10 and CIFAR-100 all satisfy the printed version. "
        f"That bounds the share of violating triples by {bound:.1e} (95%), and says nothing of all triples:",
        "",
        *(f"- {_reply(row)}" for row in rows),
    ]
    return "\n".join(lines)


def _reply(row: Row) -> str:
    """What a random sample of triples of this dataset would have shown."""
    title, share = TITLES[row.source], row.printed.triples
    theirs = f"; smallest distance in the reply {SMALLEST[row.source]:g}" if row.source in SMALLEST else ""
    if row.printed.violations == 0:
        return f"{title}: no triple of these {row.images} images violates the printed version{theirs}."
    seen = 1 - (1 - share) ** TRIPLES
    return (
        f"{title}: {TRIPLES * share:.2g} violations are to be expected in {TRIPLES:,} triples, and at least one with "
        f"probability {seen:.2g} (ours had {row.sampled}), while these {row.images} images have "
        f"{row.printed.violations} in all{theirs}."
    )
