"""The verification ladder: each rung compares two independent routes to the same figure.

A rung passes, fails, or is skipped: what it needs is not there, and it says what.

A rung is a record; a new one is a function and its line in `RUNGS`.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from reports import rungs_array, rungs_memory, rungs_network, rungs_runtime
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
    images
        Samples that other runtimes are asked for; the rung's own number where ``None``.
    """

    tasks: tuple[Task, ...]
    seed: int = 0
    images: int | None = None


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
    def result(self) -> str:
        """``pass`` where something was compared and all agreed, ``skipped`` where nothing was for a reason."""
        if self.checks.failed == 0 and self.checks.compared > 0:
            return "pass"
        return "skipped" if self.checks.failed == 0 and self.checks.skipped else "fail"

    @property
    def passed(self) -> bool | None:
        """Whether it passed; ``None`` where it was skipped."""
        return None if self.result == "skipped" else self.result == "pass"

    def to_json(self) -> dict[str, Any]:
        """Return the record for ``verify --json``."""
        return {
            "rung": self.rung.number,
            "name": self.rung.name,
            "claim": self.rung.claim,
            "result": self.result,
            "passed": self.passed,
            "compared": self.checks.compared,
            "failed": self.checks.failed,
            "failures": self.checks.failures,
            "covered": self.checks.covered,
            "skipped": self.checks.skipped,
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
    rung, checks = outcome.rung, outcome.checks
    lines = [f"{rung.number}  {_VERDICTS[outcome.result]}  {rung.name}: {rung.claim}"]
    if checks.compared:
        covered = "; ".join(checks.covered)
        lines.append(f"         {grouped(checks.compared)} values compared, {outcome.seconds:.1f} s ({covered})")
    lines += [f"         not compared: {reason}" for reason in checks.skipped]
    lines += [f"         {failure}" for failure in checks.failures]
    if checks.failed > len(checks.failures):
        lines.append(f"         ... {checks.failed} comparisons failed in all")
    return "\n".join(lines)


_VERDICTS = {"pass": "pass", "fail": "FAIL", "skipped": "skip"}


def format_summary(outcomes: Sequence[Outcome]) -> str:
    """Return the closing table."""
    rows = [
        (
            str(o.rung.number),
            o.rung.name,
            _VERDICTS[o.result],
            grouped(o.checks.compared),
            str(o.checks.failed),
            f"{o.seconds:.1f}",
        )
        for o in outcomes
    ]
    return format_table(("rung", "name", "result", "compared", "failed", "s"), rows, left=(0, 1, 2))


def _rtl(setting: Setting) -> Checks:
    """Say where rung 8 is run: the Verilog belongs to the tests, which the package does not bring along."""
    return Checks(
        skipped=[
            "the Verilog of the arrays is part of the source tree: `make test` runs it under Icarus and Verilator "
            "(tests/accelsim/test_rtl.py); `accelsim export-vectors` writes vectors for another one"
        ]
    )


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
    Rung(
        7,
        "runtimes",
        "imported and exported networks = ONNX Runtime, LiteRT, torch",
        lambda s: rungs_runtime.check_runtimes(s.tasks, s.seed, s.images),
        on_networks=True,
    ),
    Rung(8, "RTL", "register engine = Verilog, every wire, every cycle", _rtl),
    Rung(
        9,
        "memory, random",
        "event-driven model = recurrence where nothing contends",
        lambda s: rungs_memory.check_random(s.seed),
    ),
    Rung(
        9,
        "memory, networks",
        "the same of whole networks, on every preset",
        lambda s: rungs_memory.check_networks(s.tasks, s.seed),
        on_networks=True,
    ),
)
