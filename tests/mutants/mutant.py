"""A planted bug: one replacement in one file, and the tests that have to find it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


class Stale(ValueError):
    """The source no longer has the text that a mutant replaces, or has it more than once."""


@dataclass(frozen=True)
class Mutant:
    """A bug that the tests have to find.

    Parameters
    ----------
    name : of the mutant, unique.
    bug : what is wrong, in a table's words.
    file : the file that has it, from the root of the repository.
    old, new : the text that is replaced, which occurs exactly once, and what replaces it.
    tests : pytest node ids; the first that fails kills the mutant.
    """

    name: str
    bug: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str:
        """Return the text of the file with the bug.

        Raises
        ------
        Stale
            `old` does not occur exactly once.
        """
        count = text.count(self.old)
        if count != 1:
            raise Stale(f"{self.name}: its old text occurs {count} times in {self.file}, not once")
        return text.replace(self.old, self.new)
