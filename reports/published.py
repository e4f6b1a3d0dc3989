"""Published points: what others measured or synthesised, beside what this model says: the error, and what is assumed.

Nothing is fitted to a point here. A point that a price was fitted to elsewhere is marked as such, and so is a machine
that differs too much for its figure to be a check. Each group of points is a function in `GROUPS`.
"""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from reports import published_machines, published_prices, published_tpu
from reports.published_point import Point
from reports.terminal import format_table

TEXT_WIDTH = 110

LEGEND = (
    "error: model over published, less 1; of shares in %, model less published in points (pt)\n"
    "source: V read in the primary source, S quoted in a secondary one, R recalled, D derived here, A assumption\n"
    "fitted: prices were fitted to this point, so its error is a residual; other machine: named for orientation alone"
)


@dataclass(frozen=True)
class Group:
    """Points of one source or kind.

    Parameters
    ----------
    title
        Heading.
    points
        Computes them.
    """

    title: str
    points: Callable[[], Sequence[Point]]


GROUPS: dict[str, Group] = {
    "tpu_applications": Group("TPU v1: six applications (256x256, 700 MHz, 34 GB/s)", published_tpu.applications),
    "tpu_fragmentation": Group("TPU v1: one 600x600 matrix on 256x256 and on 512x512", published_tpu.fragmentation),
    "mac_energy": Group("energy of multiply-accumulates in silicon", published_prices.mac_energies),
    "bit_fusion": Group("Bit Fusion: synthesised 4x4 arrays, 45 nm, 500 MHz", published_prices.bit_fusion_arrays),
    "areas": Group("areas of Gemmini, TPUv4i, TPU v1 and NVDLA", published_machines.areas),
    "memory_energy": Group("energy of on-chip memory", published_prices.memories),
    "own_synthesis": Group("this project's own synthesis, Nangate 45 nm", published_prices.own_synthesis),
    "eyeriss": Group("Eyeriss: another dataflow, for orientation", published_machines.eyeriss),
}


def published_points() -> dict[str, list[Point]]:
    """Return all points by group; takes a second or so, and needs no data."""
    return {name: list(group.points()) for name, group in GROUPS.items()}


def published_record(points: dict[str, list[Point]]) -> list[dict[str, Any]]:
    """Return points as plain types under stable keys."""
    return [{"group": group} | point.to_json() for group, found in points.items() for point in found]


def format_points(points: dict[str, list[Point]]) -> str:
    """Return a table per group with the assumptions below it."""
    return "\n\n".join([_format_group(GROUPS[name].title, found) for name, found in points.items()] + [LEGEND])


def _format_group(title: str, points: Sequence[Point]) -> str:
    headers = ("point", "published", "model", "unit", "error", "", "source")
    rows = [
        (p.name, f"{p.published:.4g}", f"{p.model:.4g}", p.unit, p.error_text, _remark(p), p.status) for p in points
    ]
    texts = ["source: " + "; ".join(dict.fromkeys(p.source for p in points))]
    texts += [f"assumed: {assumption}" for assumption in dict.fromkeys(a for p in points for a in p.assumptions)]
    return "\n".join([title, format_table(headers, rows, left=(0, 3, 5, 6), indent="  "), *map(_wrapped, texts)])


def _remark(point: Point) -> str:
    return "other machine" if not point.comparable else "fitted" if point.fitted else ""


def _wrapped(text: str) -> str:
    return textwrap.fill(text, TEXT_WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
