"""Negative controls: problems on which a claim has to fail, and some beside them on which it must not.

Small problems, and the same functions as for the claims themselves: what is checked is that Theorem 4.5, the Gaussian
families, the joint features and Corollary 4.6 are told from their opposites.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr

from tpsim import Network, Notice, Problem, Training, simulate

from .claim import REPLICAS, Claim, Verdict
from .families import gaussian_families
from .independence import KINDS, nondegeneracy, theorem_4_5
from .joint import joint_features
from .stationary import corollary_4_6

Array = np.ndarray

PARTICLES = 256  # M; 2M for the larger run
PILOTS = 2
TOLERANCE = 1e-9  # so that nothing is dropped that could be the reason of a failure


@dataclass(frozen=True)
class Control:
    """A problem with a known answer, and what was said of it.

    Attributes
    ----------
    name, expected : the problem, and the verdict that it has to have.
    claim : what was measured.
    why : why the answer is known.
    """

    name: str
    expected: Verdict
    claim: Claim
    why: str

    @property
    def as_expected(self) -> bool:
        return self.claim.verdict is self.expected


class Runs(NamedTuple):
    """The arguments of `theorem_4_5`."""

    pilot: xr.Dataset
    small: xr.Dataset
    large: xr.Dataset
    training: Training
    inputs: Array


class Check(NamedTuple):
    """What a claim has to say of a case, and why that is known."""

    name: str
    expected: Verdict
    why: str
    claim: Callable[[Runs], Claim] = lambda runs: theorem_4_5(*runs)


@dataclass(frozen=True)
class Case:
    """A problem and its checks: L = `depth`, s_l = sqrt 2, `steps` full-batch steps at the rate .1 (`mean`)."""

    inputs: Array
    checks: tuple[Check, ...]
    activation: str = "silu"
    depth: int = 2
    steps: int = 3
    limit: str = "mup"
    targets: Array | None = None


def controls(seed: int = 0) -> list[Control]:
    """Run all controls; a few seconds.

    Parameters
    ----------
    seed : of the inputs, of the random labels and of the particles.
    """
    return [found for k, case in enumerate(cases(seed)) for found in judged(case, simulated(case, (seed, k)))]


def judged(case: Case, runs: Runs) -> list[Control]:
    """What the claims say of the runs of a case."""
    return [Control(check.name, check.expected, check.claim(runs), check.why) for check in case.checks]


def cases(seed: int = 0) -> list[Case]:
    """The problems: m = 4 to 6 Gaussian inputs of norm about 1, and what is done to them."""
    rng = np.random.default_rng([seed, 1])
    fail, ok = Verdict.FAIL, Verdict.PASS
    plane, dense = _inputs(rng, 5, 3), _inputs(rng, 4, 6)
    opposite = np.vstack([dense[:3], -dense[0]])
    return [
        Case(dense[[0, 1, 2, 0]], (
            Check("a duplicated input", fail, "two features are the same"),
            Check("a duplicated input: Gaussian families", fail, "two arrays are the same at every step", _gaussian),
            Check("a duplicated input, two labels: Corollary 4.6", fail, "error signals (a, -a) move nothing",
                  lambda runs: corollary_4_6(*runs[:4])),
        )),
        Case(plane, (
            Check("identity activation, m > d", fail,
                  "a linear network has at most d independent features in each layer"),
            Check("identity activation: Gaussian families", fail, "dh does not depend on the input", _gaussian),
        ), "identity"),
        Case(opposite, (
            Check("two inputs +-xi, tanh", fail, "an odd function of -h is minus that of h"),
        ), "tanh"),
        Case(opposite, (
            Check("two inputs +-xi, sigmoid: x centred of layer 1", fail, "phi(h) + phi(-h) = 1 is constant",
                  _part(("x centred",), (1,))),
            Check("two inputs +-xi, sigmoid: x of layer 1", ok, "only the constant depends on them",
                  _part(("x",), (1,))),
        ), "sigmoid"),
        Case(plane, (
            Check("m > rank(inputs): h of layer 1", fail, "h of layer 1 is linear in the input",
                  _part(("h", "h centred"), (1,))),
            Check("m > rank(inputs): all other features", ok, "the theorem, where it holds"),
        )),
        Case(dense, (
            Check("IP, L = 2, t = 1: h of layer 2", fail, "one step from zero: multiples of one variable",
                  _part(("h", "h centred"), (2,), 1)),
        ), steps=1, limit="ip"),
        Case(dense, (
            Check("IP, L = 3, last step: layers 2 and 3", fail, "features are zero at every fixed step",
                  _part(KINDS, (2, 3), 3)),
        ), depth=3, limit="ip"),
        Case(dense, (
            Check("NTP, features of first and last step together", fail,
                  "features do not move: each is there twice", _joint),
        ), limit="ntp"),
        Case(_inputs(rng, 6, 16), (
            Check("random labels", ok, "the theorem asks nothing of the labels"),
            Check("random labels: Gaussian families", ok, "nor does its proof", _gaussian),
            Check("random labels, features of first and last step together", ok, "features move", _joint),
        ), steps=5, targets=rng.permutation([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])),
    ]  # fmt: skip


def summary(found: list[Control]) -> Claim:
    """The claim that every control came out as it has to."""
    wrong = [control for control in found if not control.as_expected]
    notes = tuple(f"{c.name}: has to {c.expected}, did {c.claim.verdict}" for c in wrong)
    verdict = Verdict.FAIL if wrong else Verdict.PASS if found else Verdict.NOT_RESOLVED
    right = len(found) - len(wrong)
    return Claim(
        "Negative controls", "claims are rejected where they are false and accepted where they are true",
        right, len(found), np.nan, verdict, right, len(found), notes,
    )  # fmt: skip


def _gaussian(runs: Runs) -> Claim:
    return gaussian_families(runs.large)


def _joint(runs: Runs) -> Claim:
    return joint_features(*runs)


def _part(kinds: tuple[str, ...], layers: tuple[int, ...], step: int | None = None) -> Callable[[Runs], Claim]:
    """The certificate of Theorem 4.5 for some kinds, layers and steps only."""
    included = [(kind, l) for l in layers for kind in kinds]
    steps = None if step is None else [step]
    return lambda runs: nondegeneracy("Theorem 4.5 in part", *runs[:4], included, steps)


def simulated(case: Case, key: tuple[int, int]) -> Runs:
    """A pilot, M and 2M particles; `key` seeds them."""
    m = len(case.inputs)
    targets = np.where(np.arange(m) % 2, -1.0, 1.0) if case.targets is None else case.targets
    problem = Problem(case.inputs, targets)
    network, training = Network(case.depth, case.activation, np.sqrt(2.0)), Training(case.steps, 0.1, reduction="mean")
    seeds = np.random.SeedSequence(key).generate_state(3).tolist()
    sizes = ((PARTICLES, PILOTS), (PARTICLES, REPLICAS), (2 * PARTICLES, REPLICAS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # of zero denominators, which IP has by construction
        runs = [
            simulate(
                problem, network, training, particles, replicas, tolerance=TOLERANCE, seed=seed, progress=False,
                limit=case.limit, threads=1,
            )
            for seed, (particles, replicas) in zip(seeds, sizes, strict=True)
        ]  # fmt: skip
    return Runs(runs[0], runs[1], runs[2], training, case.inputs)


def _inputs(rng: np.random.Generator, m: int, d: int) -> Array:
    return rng.standard_normal((m, d)) / np.sqrt(d)
