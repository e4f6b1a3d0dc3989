"""The verification ladder: each rung compares two independent routes to the same figure.

A rung is a record; a new one is a function and its line in `RUNGS`.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from reports import rungs_array, rungs_network
from reports.checks import Checks
from reports.task import Task
from reports.terminal import format_table
from reports.units import grouped


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a ladder is run on.

    Parameters
    ----------
    tasks
        The networks.
    seed
        Of all random operands.
    """

    tasks: tuple[Task, ...]
    seed: int = 0


@dataclass(frozen=True)
class Rung:
    """One step of the ladder.

    Parameters
    ----------
    number
        Of DESIGN section 7.
    name, claim
        What it is called, and what it shows when it holds.
    run
        Makes the comparisons.
    on_networks
        Whether it looks at the networks of the setting.
    """

    number: int
    name: str
    claim: str
    run: Callable[[Setting], Checks]
    on_networks: bool = False


@dataclass(frozen=True)
class Outcome:
    """A rung that was run, what it compared and how long it took."""

    rung: Rung
    checks: Checks
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether everything agreed, and something was compared."""
        return self.checks.compared > 0 and self.checks.failed == 0

    def to_json(self) -> dict[str, Any]:
        """Return the record for ``verify --json``."""
        return {
            "rung": self.rung.number,
            "name": self.rung.name,
            "claim": self.rung.claim,
            "passed": self.passed,
            "compared": self.checks.compared,
            "failed": self.checks.failed,
            "failures": self.checks.failures,
            "covered": self.checks.covered,
            "seconds": self.seconds,
        }


def run_ladder(setting: Setting, rungs: Sequence[Rung] | None = None) -> Iterator[Outcome]:
    """Run the rungs in order, yielding each as it is done; a failure does not stop the others."""
    for rung in RUNGS if rungs is None else rungs:
        start = time.perf_counter()
        checks = rung.run(setting)
        yield Outcome(rung, checks, time.perf_counter() - start)


def format_outcome(outcome: Outcome) -> str:
    """Return the lines printed for one rung."""
    verdict = "pass" if outcome.passed else "FAIL"
    lines = [
        f"{outcome.rung.number}  {verdict}  {outcome.rung.name}: {outcome.rung.claim}",
        f"         {grouped(outcome.checks.compared)} values compared, {outcome.seconds:.1f} s "
        f"({'; '.join(outcome.checks.covered)})",
    ]
    lines += [f"         {failure}" for failure in outcome.checks.failures]
    if outcome.checks.failed > len(outcome.checks.failures):
        lines.append(f"         ... {outcome.checks.failed} comparisons failed in all")
    return "\n".join(lines)


def format_summary(outcomes: Sequence[Outcome]) -> str:
    """Return the closing table."""
    rows = [
        (
            str(o.rung.number),
            o.rung.name,
            "pass" if o.passed else "FAIL",
            grouped(o.checks.compared),
            str(o.checks.failed),
            f"{o.seconds:.1f}",
        )
        for o in outcomes
    ]
    return format_table(("rung", "name", "result", "compared", "failed", "s"), rows, left=(0, 1, 2))


RUNGS: tuple[Rung, ...] = (
    Rung(1, "arith", "array arithmetic = Python integers", lambda s: rungs_array.check_arithmetic(s.seed)),
    Rung(2, "products", "every product in the PEs = Python's", lambda s: rungs_array.check_products(s.seed)),
    Rung(3, "sums", "register engine = naive loops = reference", lambda s: rungs_array.check_sums(s.seed)),
    Rung(
        4,
        "closed forms",
        "cycles, accesses, toggles in closed form = stepped",
        lambda s: rungs_array.check_closed_forms(s.seed),
    ),
    Rung(
        5,
        "transforms",
        "every transform keeps the float function",
        lambda s: rungs_network.check_transforms(s.tasks, s.seed),
        on_networks=True,
    ),
    Rung(6, "oracle, ops", "reference = torch oracle, every op", lambda s: rungs_network.check_oracle_ops(s.seed)),
    Rung(
        6,
        "oracle, networks",
        "reference = torch oracle = both engines, whole networks",
        lambda s: rungs_network.check_oracle_networks(s.tasks, s.seed),
        on_networks=True,
    ),
)
