"""How often each numerical guard acted: a count per thread, for those who look, see docs/notation.md.

    with counting() as counts:  # {name: times}, every guard of `GUARDS`
        ...                     # whatever runs here says `count(name)` where a guard acts

What is counted depends on the numbers alone, never on threads or processes. `counted` and `restore` are for a run that
is interrupted and taken up again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

Counts = dict[str, int]

GUARDS = (
    "clamped_energy",
    "chosen_one_by_one",
    "second_projection",
    "further_pass",
    "nearly_parallel",
    "kept_in_span",
    "not_finite",
    "half_full",
    "input_in_span",
    "readout_rank",
    "probe_in_span",
    "static_increment",
    "clamped_residual",
    "undefined_ratio",
)


class _Local(threading.local):
    counts: Counts | None = None


_local = _Local()


@contextmanager
def counting() -> Iterator[Counts]:
    """Count what guards do in this thread while the block lasts; blocks inside another count for themselves."""
    before, _local.counts = _local.counts, dict.fromkeys(GUARDS, 0)
    try:
        yield _local.counts
    finally:
        _local.counts = before


def count(name: str, times: int = 1) -> None:
    """Note that a guard acted; nothing where nobody counts."""
    if _local.counts is not None:
        _local.counts[name] += int(times)


def counted() -> Counts:
    """Return a copy of the counts so far; empty where nobody counts."""
    return dict(_local.counts or {})


def restore(counts: Mapping[str, int]) -> None:
    """Go on from counts that `counted` returned."""
    if _local.counts is not None:
        _local.counts.update({name: int(times) for name, times in counts.items() if name in _local.counts})
