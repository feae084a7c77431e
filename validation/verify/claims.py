"""Every claim, measured on the evidence."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..agreement import agreement
from ..claim import Claim, Verdict
from ..controls import Control, controls, summary
from ..families import gaussian_families, joint_features
from ..good import assumption_4_3
from ..independence import by_layer, theorem_4_5
from ..inputs import assumption_4_1, dataset_table
from ..lemmas import lemmas
from ..stationary import corollary_4_6, update_identity
from ..table_1 import rows, table_1
from .evidence import Evidence, Say

NAN = float("nan")


@dataclass(frozen=True)
class Findings:
    """What was found: the claims in the order of the paper, and the tables behind them."""

    claims: list[Claim]
    layers: list[Any]
    datasets: list[Any]
    table_1: list[Any]
    controls: list[Control] = field(default_factory=list)

    @property
    def refuted(self) -> list[Claim]:
        """The claims that failed, hypotheses left out."""
        return [claim for claim in self.claims if claim.refuted]
