"""Negative controls: problems on which the certificate of Theorem 4.5 has to fail, and two that it must not reject.

Small problems, the same runs and the same code as for the theorem itself: what is checked is that the certificate can
tell dependent features from independent ones.
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
from .independence import KINDS, nondegeneracy, theorem_4_5

Array = np.ndarray

PARTICLES = 256  # M; 2M for the larger run
PILOTS = 2
TOLERANCE = 1e-8  # so that nothing is dropped that could be the reason of a failure


@dataclass(frozen=True)
class Control:
    """A problem with a known answer, and what the certificate said.

    Attributes
    ----------
    name, expected : the problem, and the verdict that its certificate has to have.
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


@dataclass(frozen=True)
class Case:
    """A control before it is run: L = `depth`, s_l = sqrt 2, `steps` full-batch steps at the rate .1 (`mean`)."""

    name: str
    expected: Verdict
    why: str
    inputs: Array
    activation: str = "silu"
    depth: int = 2
    steps: int = 3
    limit: str = "mup"
    targets: Array | None = None
    claim: Callable[[Runs], Claim] = lambda runs: theorem_4_5(*runs)


def controls(seed: int = 0) -> list[Control]:
    """Run all controls; a few seconds.

    Parameters
    ----------
    seed : of the inputs, of the random labels and of the particles.
    """
    return [
        Control(case.name, case.expected, case.claim(_simulate(case, (seed, k))), case.why)
        for k, case in enumerate(cases(seed))
    ]


def cases(seed: int = 0) -> list[Case]:
    """The problems: m = 4 to 6 Gaussian inputs of norm about 1, and what is done to them."""
    rng = np.random.default_rng([seed, 1])
    fail, ok = Verdict.FAIL, Verdict.PASS
    plane, dense = _inputs(rng, 5, 3), _inputs(rng, 4, 6)
    return [
        Case("a duplicated input", fail, "two features are the same", dense[[0, 1, 2, 0]]),
        Case("identity activation, m > d", fail, "a linear network has at most d independent features in each layer",
             plane, "identity"),
        Case("two inputs +-xi, tanh", fail, "an odd function of -h is minus that of h", dense[:3][[0, 1, 2, 0]]
             * np.array([[1.0], [1.0], [1.0], [-1.0]]), "tanh"),
        Case("m > rank(inputs): h of layer 1", fail, "h of layer 1 is linear in the input", plane,
             claim=lambda runs: _claim(runs, ("h", "h centred"), (1,))),
        Case("m > rank(inputs): all other features", ok, "the theorem, where it holds", plane),
        Case("IP, L = 2, t = 1: h of layer 2", fail, "one step from zero: multiples of one variable", dense,
             steps=1, limit="ip", claim=lambda runs: _claim(runs, ("h", "h centred"), (2,), 1)),
        Case("IP, L = 3, last step: layers 2 and 3", fail, "features are zero at every fixed step", dense, depth=3,
             limit="ip", claim=lambda runs: _claim(runs, KINDS, (2, 3), 3)),
        Case("NTP, features of first and last step together", fail, "features do not move: each is there twice", dense,
             limit="ntp", claim=lambda runs: _claim(_joint_runs(runs), KINDS, (1, 2))),
        Case("random labels", ok, "the theorem asks nothing of the labels", _inputs(rng, 6, 8), steps=5,
             targets=rng.permutation([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])),
    ]  # fmt: skip


def summary(found: list[Control]) -> Claim:
    """The claim that every control came out as it has to."""
    wrong = [control for control in found if not control.as_expected]
    notes = tuple(f"{c.name}: has to {c.expected}, did {c.claim.verdict}" for c in wrong)
    verdict = Verdict.FAIL if wrong else Verdict.PASS if found else Verdict.NOT_RESOLVED
    right = len(found) - len(wrong)
    return Claim(
        "Negative controls", "the certificate rejects dependent features and accepts independent ones",
        right, len(found), np.nan, verdict, right, len(found), notes,
    )  # fmt: skip


def joint(run: xr.Dataset) -> xr.Dataset:
    """Features of the first and the last step as 2m features: their kernels and means, as of a run of one step."""
    parts: dict[str, tuple[tuple[str, ...], Array]] = {}
    for z in ("h", "x"):
        kernel = run[f"kernel_{z}"].transpose("replica", "step", "layer", "sample", "sample2").values
        cross = run[f"kernel_{z}0"].transpose("replica", ..., "layer", "sample", "sample2").values[:, -1]
        mean = run[f"mean_{z}"].transpose("replica", "step", "layer", "sample").values
        both = np.block([[kernel[:, 0], cross], [np.swapaxes(cross, -1, -2), kernel[:, -1]]])
        parts[f"kernel_{z}"] = (("replica", "step", "layer", "sample", "sample2"), both[:, None])
        parts[f"mean_{z}"] = (("replica", "step", "layer", "sample"), np.concatenate([mean[:, :1], mean[:, -1:]], -1))
    coords = {"replica": run["replica"].values, "step": run["step"].values[-1:], "layer": run["layer"].values}
    return xr.Dataset(parts, coords)


def _joint_runs(runs: Runs) -> Runs:
    return runs._replace(pilot=joint(runs.pilot), small=joint(runs.small), large=joint(runs.large))


def _claim(runs: Runs, kinds: tuple[str, ...], layers: tuple[int, ...], step: int | None = None) -> Claim:
    """The certificate of Theorem 4.5 for some kinds, layers and steps only."""
    included = [(kind, l) for l in layers for kind in kinds]
    return nondegeneracy(
        "Theorem 4.5 in part", runs.pilot, runs.small, runs.large, runs.training, included,
        None if step is None else [step],
    )  # fmt: skip


def _simulate(case: Case, key: tuple[int, int]) -> Runs:
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
