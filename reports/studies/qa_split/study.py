"""The runs behind the table: every width and ratio, split both ways, on the same images."""

from typing import Any

from quant.ocs import SplitOutliers
from quant.recipe import Recipe
from reports.studies.common import Difference, Measured, difference, figures
from reports.studies.qa_split.published import BITS, RATIOS, published
from reports.task import Task


def recipes() -> list[Recipe]:
    """Return all recipes: 8 bits, and every width plain and split; neighbours alike in their splits."""
    found = [_plain(bits) for bits in (8, *BITS)]
    return found + [_split(bits, ratio, naive) for ratio in RATIOS for naive in (False, True) for bits in BITS]


def _plain(bits: int) -> Recipe:
    return Recipe(name=f"w{bits}", weight_bits=bits)


def _split(bits: int, ratio: float, naive: bool) -> Recipe:
    name = f"w{bits}-{'naive' if naive else 'qa'}-{ratio:g}"
    return Recipe(name=name, weight_bits=bits, transforms=(SplitOutliers(ratio=ratio, naive=naive),))


def results(task: Task, measured: dict[str, Measured]) -> dict[str, Any]:
    """Return the table: plain types, shares from 0 to 1."""
    real, metric = task.float_tallies, task.metric
    rows = [_row(task, measured, bits, ratio) for bits in BITS for ratio in RATIOS]
    return {
        "float": {"accuracy": metric.value(real), "standard_error": metric.standard_error(real)},
        "unsplit": {str(r.weight_bits): _one(task, measured, r) for r in recipes() if not r.transforms},
        "rows": rows,
    }


def _one(task: Task, measured: dict[str, Measured], recipe: Recipe) -> dict[str, Any]:
    return figures(task.metric, measured[recipe.name], task.float_tallies)


def _row(task: Task, measured: dict[str, Measured], bits: int, ratio: float) -> dict[str, Any]:
    qa, naive, plain = (
        measured[recipe.name].tallies
        for recipe in (_split(bits, ratio, False), _split(bits, ratio, True), _plain(bits))
    )
    between, gained = difference(task.metric, qa, naive), difference(task.metric, qa, plain)
    theirs = published(bits, ratio)
    return {
        "weight_bits": bits,
        "ratio": ratio,
        "qa": _one(task, measured, _split(bits, ratio, False)),
        "naive": _one(task, measured, _split(bits, ratio, True)),
        "qa_minus_naive": between.value,
        "qa_minus_naive_standard_error": between.error,
        "verdict": verdict(between),
        "qa_minus_unsplit": gained.value,
        "qa_minus_unsplit_standard_error": gained.error,
        "published_qa": theirs[0],
        "published_naive": theirs[1],
    }


def verdict(between: Difference) -> str:
    """Return who is ahead: ``QA``, ``naive``, or ``undecided`` within the error."""
    return "QA" if between.ahead else "naive" if between.behind else "undecided"
