"""What a rung of the verification ladder reports: how much was compared, and what did not agree."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

KEPT_FAILURES = 5


@dataclass
class Checks:
    """Collects comparisons; keeps the first few that failed.

    Parameters
    ----------
    compared
        Values compared so far.
    failed
        Comparisons (calls) that failed.
    failures
        The first of them, in words.
    covered
        What was covered, for the printed line.
    skipped
        What could not be compared, each with its reason.
    """

    compared: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    covered: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def skip(self, what: str) -> None:
        """Note what cannot be compared, and why."""
        self.skipped.append(what)

    def expect(self, holds: bool, what: str) -> None:
        """Count one comparison."""
        self.compared += 1
        if not holds:
            self._fail(what)

    def equal(self, ours: Any, theirs: Any, what: str) -> None:
        """Compare two arrays (or anything that numpy takes) element by element."""
        left, right = np.asarray(ours), np.asarray(theirs)
        self.compared += max(left.size, 1)
        if left.shape != right.shape:
            self._fail(f"{what}: shapes {left.shape} and {right.shape}")
            return
        different = np.argwhere(left != right)
        if len(different):
            place = tuple(int(i) for i in different[0])
            self._fail(f"{what}: at {list(place)} {left[place]} is not {right[place]} ({len(different)} differ)")

    def _fail(self, what: str) -> None:
        self.failed += 1
        if len(self.failures) < KEPT_FAILURES:
            self.failures.append(what)
