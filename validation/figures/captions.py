"""Captions that judge: what the paper says of a figure, what was measured, and whether the two agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from .study import Settings, Study

VERDICTS = {True: "agrees", False: "does not agree", None: "not decided by these data"}


class Statement(NamedTuple):
    """A sentence of the paper and its test.

    Attributes
    ----------
    quoted : the paper's words.
    measure : study -> (what was measured, in words; whether it agrees, None where the data do not decide).
    """

    quoted: str
    measure: Callable[[Study], tuple[str, bool | None]]


def counted(count: int, noun: str) -> str:
    """As in "1 network" and "2 networks"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def activation(settings: Settings) -> str:
    """Name the activation of the figures that the paper does not have."""
    return f"activation {settings.network.phi.name}"


def judged(statements: Iterable[Statement], study: Study) -> str:
    """Return one line of a list for each statement, as in: - "...": agrees. <What was measured>."""
    parts = []
    for statement in statements:
        measured, agrees = statement.measure(study)
        parts.append(f'- "{statement.quoted}": {VERDICTS[agrees]}. {measured}')
    return "\n\n" + "\n".join(parts)
