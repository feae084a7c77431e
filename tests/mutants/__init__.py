"""Bugs that are planted in the engine, one at a time, to see that the tests find each: `make mutants`.

    python -m tests.mutants [--only TEXT ...] [--list]

`core` and `network` are the tables, `runner` plants a bug in a copy of the package and runs its tests there, `page`
writes docs/reliability.md from what was found. pytest collects nothing of this folder.
"""

from . import core, network
from .mutant import ROOT, Mutant, Stale

MUTANTS: tuple[Mutant, ...] = (*core.MUTANTS, *network.MUTANTS)

__all__ = ["MUTANTS", "ROOT", "Mutant", "Stale"]
