"""Findings in words: the table that is printed, and report.md."""

from __future__ import annotations

import math
import textwrap
from typing import Any

from tpsim.describe import duration

from .. import inputs, table_1
from ..claim import LEVEL, Claim, Verdict
from ..independence import Row
from .claims import Findings

WIDTH = 116  # characters of a line
STAR = "* a hypothesis of the theorems: that it fails refutes nothing, and alone does not set the exit code"


def text(findings: Findings) -> str:
    """Return the table of all claims, then what has to be known of each, then how many were resolved."""
    longest = max(len(claim.name) for claim in findings.claims)
    head = f"{'verdict':12}  {'estimate':>10}  {'reference':>10}  {'s.e.':>8}  {'resolved':>12}"
    lines = [f"  {'claim':{longest}}  {head}"]
    for claim in findings.claims:
        counted = f"{claim.resolved} of {claim.of}" if claim.of else "-"
        lines.append(
            f"  {claim.name:{longest}}  {_verdict(claim):12}  {_number(claim.estimate):>10}  "
            f"{_number(claim.reference):>10}  {_number(claim.error, 2):>8}  {counted:>12}"
        )
    if any(claim.hypothesis for claim in findings.claims):
        lines.append(f"  {STAR}")
    lines.append("")
    for claim in findings.claims:
        for k, note in enumerate((claim.statement, *claim.notes)):
            head = f"  {claim.name}: " if k == 0 else "    "
            lines += textwrap.wrap(note, WIDTH, initial_indent=head, subsequent_indent="    ")
    return "\n".join([*lines, "", f"  {count(findings)}"])


def count(findings: Findings) -> str:
    """Say how many claims passed, failed, and were not resolved."""
    claims = [claim for claim in findings.claims if not claim.hypothesis]
    tally = {verdict: sum(claim.verdict is verdict for claim in claims) for verdict in Verdict}
    resolved = len(claims) - tally[Verdict.NOT_RESOLVED]
    return (
        f"{resolved} of {len(claims)} claims resolved: {tally[Verdict.PASS]} PASS, {tally[Verdict.FAIL]} FAIL, "
        f"{tally[Verdict.NOT_RESOLVED]} NOT RESOLVED"
    )


def markdown(findings: Findings, facts: dict[str, Any], captions: dict[str, str]) -> str:
    """Return report.md.

    Parameters
    ----------
    findings : Findings
    facts : `plan` (text), `seconds`, and `notices`, as the command has them.
    captions : of the figures, by file name.
    """
    parts = [
        "# The claims of Chen et al. 2025 in the infinite-width limit of one dataset",
        "Global convergence and rich feature learning in L-layer infinite-width neural networks under muP (ICML 2025). "
        f"{count(findings)}. Runs and claims took {duration(facts['seconds'])}.",
        f"```\n{facts['plan']}\n```",
        "## Claims",
        _claims(findings.claims),
        *(_claim(claim) for claim in findings.claims),
        "## Theorem 4.5 by features and layer",
        "T: smallest eigenvalue of the Gram matrix over the largest one of an independent pilot, its minimum over the "
        f"recorded steps. All three lower bounds, with probability {LEVEL:g} each, have to exceed the floor.",
        _layers(findings.layers),
        "## Table 1 of the paper",
        table_1.table_text(findings.table_1),
        "## Assumption 4.1 on datasets",
        inputs.table_text(findings.datasets),
    ]
    if findings.controls:
        parts += ["## Negative controls", "What has to fail, and what must not.", _controls(findings.controls)]
    parts += ["## Figures", *(f"![{name}]({name})\n\n{caption}" for name, caption in captions.items())]
    if facts["notices"]:
        parts += ["## Notices", "\n".join(f"- {notice}" for notice in facts["notices"])]
    return "\n\n".join(parts) + "\n"


def record(claim: Claim) -> dict[str, Any]:
    """Return a claim as JSON takes it: None for what is not a number."""
    numbers = {name: getattr(claim, name) for name in ("estimate", "reference", "error")}
    return {
        "name": claim.name, "statement": claim.statement, "verdict": str(claim.verdict),
        **{name: float(value) if math.isfinite(value) else None for name, value in numbers.items()},
        "resolved": int(claim.resolved), "of": int(claim.of), "notes": list(claim.notes),
        "hypothesis": claim.hypothesis,
    }  # fmt: skip


def _claims(claims: list[Claim]) -> str:
    head = ["claim", "verdict", "estimate", "reference", "s.e.", "resolved"]
    body = [
        [c.name, _verdict(c), _number(c.estimate), _number(c.reference), _number(c.error, 2), f"{c.resolved} of {c.of}"]
        for c in claims
    ]
    return _table(head, body) + (f"\n\n\\{STAR}." if any(claim.hypothesis for claim in claims) else "")


def _claim(claim: Claim) -> str:
    notes = "".join(f"\n- {note}" for note in claim.notes)
    return f"**{claim.name}: {_verdict(claim)}.** {claim.statement}{chr(10) if notes else ''}{notes}"


def _layers(rows: list[Row]) -> str:
    head = ["features", "layer", "at M", "bound", "at 2M", "bound", "extrapolated", "s.e.", "bound", "floor", "verdict"]
    body = []
    for row in rows:
        at_m, at_2m, limit = row.certificate.small, row.certificate.large, row.certificate.limit
        numbers = (at_m.mean, at_m.low, at_2m.mean, at_2m.low, limit.mean, limit.error, limit.low, row.floor)
        body.append([row.kind, str(row.layer), *map(_number, numbers), str(row.verdict)])
    return _table(head, body)


def _controls(found: list[Any]) -> str:
    body = [
        [c.name, str(c.expected), str(c.claim.verdict), _number(c.claim.estimate), _number(c.claim.reference, 2), c.why]
        for c in found
    ]
    return _table(["control", "has to", "did", "estimate", "reference", "why"], body)


def _table(head: list[str], body: list[list[str]]) -> str:
    rows = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)


def _verdict(claim: Claim) -> str:
    return f"{claim.verdict}{'*' if claim.hypothesis else ''}"


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}g}" if math.isfinite(value) else "-"
