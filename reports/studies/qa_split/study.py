"""The runs behind the table: every width and ratio, split both ways, on the same images."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.config import Accelerator
from quant.ocs import SplitOutliers
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from reports.studies.qa_split.published import BITS, RATIOS, published
from reports.task import Task, evaluate
from reports.witness import check_bit_exact

Tallies = NDArray[np.float64]

DEVIATIONS = 1.96
"""A difference of fewer paired standard errors is called undecided."""


@dataclass(frozen=True)
class Measured:
    """One Program on all images.

    Parameters
    ----------
    tallies
        Of the metric, ``[samples, 2]``.
    bit_exact, overflowed_outputs
        Against the torch oracle; accumulators that left their registers.
    """

    tallies: Tallies
    bit_exact: bool
    overflowed_outputs: int


def recipes() -> list[Recipe]:
    """Return all recipes: 8 bits, and every width plain and split."""
    found = [Recipe(weight_bits=8)]
    for bits in BITS:
        found.append(Recipe(weight_bits=bits))
        for ratio in RATIOS:
            found += [_split(bits, ratio, naive) for naive in (False, True)]
    return found


def _split(bits: int, ratio: float, naive: bool) -> Recipe:
    return Recipe(weight_bits=bits, transforms=(SplitOutliers(ratio=ratio, naive=naive),))


def measure(task: Task, accelerator: Accelerator, *, threads: int, images: int) -> Iterator[tuple[str, Measured]]:
    """Execute every recipe's Program, yielding each by its label as it is done.

    Parameters
    ----------
    task, accelerator
        The network with its samples; whose accumulators add up.
    threads
        Of the engine.
    images
        Samples proved equal to the oracle, per Program.
    """
    for recipe in recipes():
        quantized = quantize_network(task.graph, task.calibration, recipe)
        evaluation = evaluate(task, quantized, accelerator, threads=threads, first=images)
        witness = check_bit_exact(task, quantized, accelerator, evaluation, images=images)
        overflowed = sum(item.differing for item in evaluation.overflow.values())
        yield recipe.label(), Measured(evaluation.tallies, witness.bit_exact, overflowed)


def results(task: Task, measured: dict[str, Measured]) -> dict[str, Any]:
    """Return the table: plain types, shares from 0 to 1."""
    rows = [_row(task, measured, bits, ratio) for bits in BITS for ratio in RATIOS]
    return {
        "float": _figure(task, task.float_tallies),
        "unsplit": {str(r.weight_bits): _one(task, measured, r) for r in recipes() if not r.transforms},
        "rows": rows,
    }


def _figure(task: Task, tallies: Tallies) -> dict[str, float]:
    return {"accuracy": task.metric.value(tallies), "standard_error": task.metric.standard_error(tallies)}


def _one(task: Task, measured: dict[str, Measured], recipe: Recipe) -> dict[str, Any]:
    found = measured[recipe.label()]
    drop = task.metric.value(found.tallies) - task.metric.value(task.float_tallies)
    return _figure(task, found.tallies) | {
        "minus_float": drop,
        "minus_float_standard_error": task.metric.paired_error(found.tallies, task.float_tallies),
        "bit_exact": found.bit_exact,
        "overflowed_outputs": found.overflowed_outputs,
    }


def _row(task: Task, measured: dict[str, Measured], bits: int, ratio: float) -> dict[str, Any]:
    qa, naive, plain = (
        measured[recipe.label()]
        for recipe in (_split(bits, ratio, False), _split(bits, ratio, True), Recipe(weight_bits=bits))
    )
    metric = task.metric
    difference = metric.value(qa.tallies) - metric.value(naive.tallies)
    error = metric.paired_error(qa.tallies, naive.tallies)
    theirs = published(bits, ratio)
    return {
        "weight_bits": bits,
        "ratio": ratio,
        "qa": _one(task, measured, _split(bits, ratio, False)),
        "naive": _one(task, measured, _split(bits, ratio, True)),
        "qa_minus_naive": difference,
        "qa_minus_naive_standard_error": error,
        "verdict": verdict(difference, error),
        "qa_minus_unsplit": metric.value(qa.tallies) - metric.value(plain.tallies),
        "qa_minus_unsplit_standard_error": metric.paired_error(qa.tallies, plain.tallies),
        "published_qa": theirs[0],
        "published_naive": theirs[1],
    }


def verdict(difference: float, error: float) -> str:
    """Return who is ahead: ``QA``, ``naive``, or ``undecided`` within the error."""
    if abs(difference) <= DEVIATIONS * error or difference == 0:
        return "undecided"
    return "QA" if difference > 0 else "naive"
