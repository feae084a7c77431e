"""Every claim, measured on the evidence."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..claim import Claim, Verdict
from ..controls import Control, controls, summary
from ..families import gaussian_families
from ..good import assumption_4_3
from ..independence import Row, by_layer, theorem_4_5
from ..inputs import assumption_4_1
from ..joint import joint_features
from ..lemmas import lemmas
from ..stationary import corollary_4_6, update_identity
from ..table_1 import rows, table_1
from .evidence import Evidence, Say

NAN = float("nan")
OUTSIDE = "a hypothesis of the theorems fails here: they do not speak of this case, and are not refuted by it"


@dataclass(frozen=True)
class Findings:
    """What was found.

    Attributes
    ----------
    claims : in the order of the paper.
    layers : Theorem 4.5 by kind of features and layer (`validation.independence.by_layer`).
    datasets : Assumption 4.1 on datasets (`validation.inputs.dataset_table`).
    table_1 : feature learning and richness (`validation.table_1.rows`).
    controls : what has to fail, and what it did; empty if they were not run.
    """

    claims: list[Claim]
    layers: list[Row]
    datasets: list[Any]
    table_1: list[Any]
    controls: list[Control]

    @property
    def refuted(self) -> list[Claim]:
        """The claims that failed, hypotheses left out."""
        return [claim for claim in self.claims if claim.refuted]


def measure(
    evidence: Evidence, name: str = "the data", datasets: Sequence[Any] = (), with_controls: bool = True,
    progress: bool | None = None, say: Say = lambda stage: None,
) -> Findings:  # fmt: skip
    """Measure every claim of the paper.

    Parameters
    ----------
    evidence : the runs.
    name : of the dataset, in sentences.
    datasets : the table of Assumption 4.1 (`validation.inputs.dataset_table`), if there is one.
    with_controls : also run the negative controls.
    progress, say : as of `gather`.
    """
    s, limits = evidence.settings, evidence.limits
    pair = (evidence.pilot, evidence.small, evidence.large)
    say("hypotheses: Assumptions 4.1 and 4.3")
    claims = [assumption_4_1(s.problem, name), assumption_4_3(s.network.phi, seed=s.seed)]
    say("the limit against finite networks")
    claims.append(_agreement(evidence, progress))
    say("claims")
    claims += [
        theorem_4_5(*pair, s.training, s.problem.inputs),
        gaussian_families(evidence.short[-1]),
        joint_features(*evidence.short, s.training, s.problem.inputs),
        corollary_4_6(*pair, s.training),
        update_identity(evidence.small, s.training),
        *lemmas(s.network.phi, seed=s.seed),
        table_1(limits, evidence.networks),
    ]
    found: list[Control] = []
    if with_controls:
        say("negative controls")
        found = controls(s.seed)
        claims.append(summary(found))
    if any(claim.hypothesis and claim.verdict is Verdict.FAIL for claim in claims):
        claims = [replace(claim, notes=(*claim.notes, OUTSIDE)) if claim.refuted else claim for claim in claims]
    layers = by_layer(*pair, s.training, s.problem.inputs)
    return Findings(claims, layers, list(datasets), rows(limits, evidence.networks), found)


def _agreement(evidence: Evidence, progress: bool | None) -> Claim:
    """The limit against dense networks, where there is torch to train them."""
    s = evidence.settings
    if not s.widths or importlib.util.find_spec("torch") is None:
        why = "no finite networks were asked for" if not s.widths else "torch is not installed"
        return Claim(
            "Limit of finite networks", "the simulated limit is that of dense networks", NAN, NAN, NAN,
            Verdict.NOT_RESOLVED, 0, 0,
            (f"not measured: {why}; no other claim tells whether the simulated recursion is the right one",),
        )  # fmt: skip
    from ..agreement import agreement

    return agreement(
        s.problem, s.network, s.training, particles=s.particles // 2, replicas=s.replicas, seed=s.seed,
        progress=progress, workers=s.workers or 1,
    )  # fmt: skip
