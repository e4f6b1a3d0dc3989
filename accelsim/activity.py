"""What happened on the machine, counted: events by component, action and widths. Nothing here knows a joule.

Scheduling and execution return an `Activity`; `accelsim.cost` prices it. Components and their actions:

=====================  =================  =================================================  ===========================
component              action             widths                                             one count is
=====================  =================  =================================================  ===========================
``pe``                 ``mac``            weight, activation, partial sum                    one PE doing its work for
                                                                                             one operand pair (all of a
                                                                                             composable PE's products)
``pe``                 ``idle``           weight, activation, partial sum                    one clocked PE without work
                                                                                             for one cycle
``register``           ``write``          width                                              one register write in a PE
                                                                                             (only for technologies
                                                                                             whose MAC excludes them)
``activation_sram`` …  ``read, write``    word                                               one word of one bank
``requantizer``        ``requantize``     accumulator, output, multiplier                    one sum brought onto a grid
``vector``             a lane operation   width, or both widths of ``scale``                 one operation on one lane
``dram``               ``read, write``    1                                                  one bit
``interconnect``       ``hop``            1                                                  one bit to the next core
``leakage``            ``cycle``          none                                               one cycle of the whole chip
=====================  =================  =================================================  ===========================
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Event(NamedTuple):
    """A kind of thing that costs energy: who, what, and at which widths in bits."""

    component: str
    action: str
    bits: tuple[int, ...] = ()

    def __str__(self) -> str:
        """Return it as errors name it, for example ``pe.mac[8x8x32]``."""
        widths = "x".join(str(width) for width in self.bits)
        return f"{self.component}.{self.action}" + (f"[{widths}]" if widths else "")


@dataclass(frozen=True)
class Activity:
    """Counts of events; an immutable mapping that adds up.

    Parameters
    ----------
    counts
        How often each event happened; non-negative.
    """

    counts: Mapping[Event, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot have been counted."""
        for event, count in self.counts.items():
            assert count >= 0, f"Activity: {event} counted {count} times"

    def __iter__(self) -> Iterator[tuple[Event, int]]:
        """Iterate over (event, count)."""
        return iter(self.counts.items())

    def __getitem__(self, event: Event) -> int:
        """Return the count of an event, 0 where it never happened."""
        return self.counts.get(event, 0)

    def __add__(self, other: "Activity") -> "Activity":
        """Return both together."""
        return merged((self, other))

    def of(self, component: str, action: str | None = None) -> int:
        """Return the counts of a component, or of one of its actions, over all widths."""
        return sum(
            count
            for event, count in self.counts.items()
            if event.component == component and action in (None, event.action)
        )


def merged(parts: Iterable[Activity]) -> Activity:
    """Return the sum of activities."""
    total: dict[Event, int] = {}
    for part in parts:
        for event, count in part:
            total[event] = total.get(event, 0) + count
    return Activity(total)
