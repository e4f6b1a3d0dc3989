"""The runs behind the tables: every width, expansion ratio and clip rule of Table 6, on each network."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from accelsim.config import Accelerator, load_accelerator
from quant.recipe import Recipe
from quant.recipes import FLOAT_BITS, RECIPES
from reports.studies.common import Bench, Kept, Measured, difference, figures, measure_all
from reports.studies.lstm_words.published import BITS, CLIPS, RATIOS

SUM_BITS = 48
"""Width of partial sums and accumulators: 16-bit activations stand for the paper's floats, and need more than 32."""

WIDER = (16, 8)
"""Widths without OCS and clipping that show what the activations' rounding costs, and where weights begin to cost."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """One network of the study.

    Parameters
    ----------
    name
        A key of `workloads.WORKLOADS`.
    windows, calib
        Windows of text to evaluate and to calibrate on.
    """

    name: str
    windows: int
    calib: int


NETWORKS = (Network(name="char-lstm", windows=500, calib=128), Network(name="wikitext2-lstm", windows=60, calib=64))


@dataclass(frozen=True)
class Cell:
    """One place of the table: weights of `bits`, expansion ratio, clip rule."""

    bits: int
    ratio: float
    clip: str

    @property
    def recipe(self) -> Recipe:
        """The named recipe of the paper's table."""
        if self.bits in WIDER:
            return Recipe(name=f"lstm-w{self.bits}", weight_bits=self.bits, act_bits=FLOAT_BITS)
        return RECIPES[f"ocs-table6-w{self.bits}-ocs{self.ratio:g}-{self.clip}"]

    def plain(self) -> dict[str, Any]:
        """Return the place as plain values."""
        return {"bits": self.bits, "ratio": self.ratio, "clip": self.clip}


def cells() -> list[Cell]:
    """Return all cells; those that share their splits are neighbours, so that they share one observation."""
    wide = [Cell(bits, 0.0, "none") for bits in WIDER]
    return wide + [Cell(bits, ratio, clip) for ratio in RATIOS for bits in BITS for clip in CLIPS]


def pairs() -> Iterator[tuple[Cell, Cell]]:
    """Yield the cells that are compared, on the same windows: first minus second."""
    for bits in BITS:
        plain = Cell(bits, 0.0, "none")
        yield from (
            (Cell(bits, ratio, clip), plain) for ratio in RATIOS for clip in CLIPS if (ratio, clip) != (0, "none")
        )
        for ratio in RATIOS[1:]:
            yield from ((Cell(bits, ratio, "none"), Cell(bits, ratio, clip)) for clip in CLIPS[1:])
        yield Cell(bits, RATIOS[-1], "none"), Cell(bits, RATIOS[1], "none")


def machine(name: str) -> Accelerator:
    """Return an accelerator whose sums are wide enough for activations of 16 bits."""
    found = load_accelerator(name)
    wide = found.accumulator.model_copy(update={"psum_bits": SUM_BITS, "bits": SUM_BITS})
    return found.model_copy(update={"name": f"{name} with {SUM_BITS}-bit sums", "accumulator": wide})


def run_network(bench: Bench, kept: Kept, advance: Callable[[int], None] = lambda _: None) -> dict[str, Any]:
    """Measure every cell of one network and return its part of the results: plain types."""
    task = bench.task
    measured = measure_all(bench, [cell.recipe for cell in cells()], kept, advance)
    metric, real = task.metric, task.float_tallies
    return {
        "metric": metric.name,
        "windows": len(task.evaluated),
        "labels": int(real[:, 1].sum()),
        "calibration_windows": len(task.calibrated),
        "float": {"accuracy": metric.value(real), "standard_error": metric.standard_error(real)},
        "cells": [
            cell.plain() | {"recipe": cell.recipe.label()} | figures(metric, measured[cell.recipe.name], real)
            for cell in cells()
        ],
        "comparisons": [_compared(bench, measured, first, second) for first, second in pairs()],
    }


def _compared(bench: Bench, measured: Mapping[str, Measured], first: Cell, second: Cell) -> dict[str, Any]:
    one, two = (measured[cell.recipe.name].tallies for cell in (first, second))
    found = difference(bench.task.metric, one, two)
    ends = chain(
        ((f"first_{k}", v) for k, v in first.plain().items()), ((f"second_{k}", v) for k, v in second.plain().items())
    )
    return dict(ends) | {"difference": found.value, "standard_error": found.error}
