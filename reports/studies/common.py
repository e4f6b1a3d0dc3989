"""What studies share: Programs made from few observations, measurements kept on disk, verdicts, tables.

A study measures recipes on one task, keeps each measurement as soon as it is known and writes a page whose words follow
from the numbers.
"""

import hashlib
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.config import Accelerator
from accelsim.program import Conv
from accelsim.store import write_atomically
from quant.lower import Quantized, lower
from quant.pipeline import observe_for, prepare, quantize_network
from quant.recipe import Recipe
from quant.recipe_yaml import recipe_to_yaml
from reports.task import Task, evaluate
from reports.witness import check_bit_exact
from workloads import Metric

Tallies = NDArray[np.float64]

DEVIATIONS = 1.96
"""A difference of fewer paired standard errors is called undecided."""


@dataclass(frozen=True, eq=False)
class Measured:
    """One recipe on all evaluated samples.

    Parameters
    ----------
    tallies
        Of the metric, ``[samples, 2]``.
    bit_exact
        Whether every integer of `exact_samples` samples was equal to the torch oracle's.
    exact_samples, exact_batches
        Samples that were compared, and the batches they came in.
    overflowed_outputs
        Accumulators that left their registers.
    expansion
        Weights stored, over those of the network as it was.
    programs
        Programs executed; more than one only for oracles that know their batch.
    """

    tallies: Tallies
    bit_exact: bool
    exact_samples: int
    exact_batches: int
    overflowed_outputs: int
    expansion: float
    programs: int = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """What all recipes of a study are measured with.

    Parameters
    ----------
    task, accelerator
        The network with its samples; whose accumulators add up.
    threads
        Of the engine.
    exact_samples
        Samples proved equal to the oracle, per Program, in two batches.
    """

    task: Task
    accelerator: Accelerator
    threads: int = 1
    exact_samples: int = 8


def quantize_all(task: Task, recipes: Iterable[Recipe]) -> Iterator[tuple[Recipe, Quantized]]:
    """Yield every recipe's integers; neighbours with equal transforms share one observation.

    Equal to `quant.pipeline.quantize_network` of each alone, whatever the order.
    """
    for (transforms, policy, corrected), group in groupby(recipes, _preparation):
        if corrected:
            for recipe in group:
                yield recipe, quantize_network(task.graph, task.calibration, recipe)
            continue
        ready = prepare(task.graph, Recipe(transforms=transforms, first_last=policy), task.calibration)
        stats = observe_for(ready, task.calibration)
        for recipe in group:
            yield recipe, lower(ready, stats, recipe)


def _preparation(recipe: Recipe) -> tuple[Any, ...]:
    return recipe.transforms, recipe.first_last, recipe.bias_correction


def measure(bench: Bench, quantized: Quantized) -> Measured:
    """Execute one Program on all evaluated samples and compare the first of them with the torch oracle."""
    exact = min(bench.exact_samples, len(bench.task.evaluated))
    run = evaluate(bench.task, quantized, bench.accelerator, threads=bench.threads, first=exact)
    at_once = max(1, exact // 2)
    witness = check_bit_exact(bench.task, quantized, bench.accelerator, run, images=exact, at_once=at_once)
    return Measured(
        tallies=run.tallies,
        bit_exact=witness.bit_exact,
        exact_samples=exact,
        exact_batches=math.ceil(exact / at_once),
        overflowed_outputs=sum(item.differing for item in run.overflow.values()),
        expansion=expansion(bench.task, quantized),
    )


def expansion(task: Task, quantized: Quantized) -> float:
    """Return the weights that the Program's layers store over those of the network as captured."""
    layers = [node for node in task.graph.nodes if node.op in ("conv", "linear", "lstm")]
    before = sum(value.size for node in layers for key, value in node.params.items() if key.startswith("weight"))
    after = sum(op.weight.size for op in quantized.program.ops if isinstance(op, Conv) and not op.shares)
    return after / before if before else 1.0


class Kept:
    """Measurements on disk, one file each, written whole or not at all, found again by what they measured."""

    def __init__(self, folder: Path, setting: dict[str, Any]) -> None:
        """Keep the measurements of one setting (plain values) in a folder."""
        self.folder, self.setting = folder, setting

    def path(self, recipe: Recipe, extra: str = "") -> Path:
        """Return where a recipe's measurement is kept."""
        text = json.dumps([self.setting, recipe_to_yaml(recipe), extra], sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.npz"

    def find(self, recipe: Recipe, extra: str = "", *, proved: int = 0) -> Measured | None:
        """Return a kept measurement of which at least `proved` samples were compared with the oracle, if there is."""
        path = self.path(recipe, extra)
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as file:
            values = {item.name: file[item.name] for item in fields(Measured)}
        plain = {name: value if name == "tallies" else value.item() for name, value in values.items()}
        return Measured(**plain) if plain["exact_samples"] >= proved else None

    def keep(self, recipe: Recipe, measured: Measured, extra: str = "") -> None:
        """Write a measurement."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{item.name: getattr(measured, item.name) for item in fields(Measured)})
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path(recipe, extra), buffer.getvalue())


def kept_setting(bench: Bench, seed: int) -> dict[str, Any]:
    """Return what a measurement depends on besides its recipe, as plain values."""
    return {
        "network": bench.task.workload.name,
        "images": len(bench.task.evaluated),
        "calib": len(bench.task.calibrated),
        "seed": seed,
        "accelerator": bench.accelerator.model_dump(mode="json"),
    }


def measure_all(
    bench: Bench, recipes: Sequence[Recipe], kept: Kept, advance: Callable[[int], None] = lambda _: None
) -> dict[str, Measured]:
    """Return all recipes' measurements by recipe name; those that are kept are not made again."""
    proved = min(bench.exact_samples, len(bench.task.evaluated))
    found = {recipe.name: kept.find(recipe, proved=proved) for recipe in recipes}
    advance(sum(item is not None for item in found.values()))
    for recipe, quantized in quantize_all(bench.task, [r for r in recipes if found[r.name] is None]):
        measured = measure(bench, quantized)
        kept.keep(recipe, measured)
        found[recipe.name] = measured
        advance(1)
    return {name: item for name, item in found.items() if item is not None}


@dataclass(frozen=True)
class Difference:
    """A figure minus another one, on the same samples.

    Parameters
    ----------
    value, error
        The difference, and its paired standard error.
    better
        Whether more is better.
    """

    value: float
    error: float
    better: bool = True

    @property
    def ahead(self) -> bool:
        """Whether the first is decidedly better."""
        return self._signed > DEVIATIONS * self.error

    @property
    def behind(self) -> bool:
        """Whether the first is decidedly worse."""
        return -self._signed > DEVIATIONS * self.error

    @property
    def _signed(self) -> float:
        return self.value if self.better else -self.value

    def text(self, factor: float = 100.0, digits: int = 1) -> str:
        """Return ``value ± error``; in points by default."""
        return minus(f"{factor * self.value:+.{digits}f} ± {factor * self.error:.{digits}f}")


def difference(metric: Metric, first: Tallies, second: Tallies) -> Difference:
    """Return the first figure minus the second with its paired standard error."""
    return Difference(
        metric.value(first) - metric.value(second), metric.paired_error(first, second), metric.higher_is_better
    )


def figures(metric: Metric, measured: Measured, real: Tallies) -> dict[str, Any]:
    """Return a measurement as plain values, beside the float network's tallies."""
    against = difference(metric, measured.tallies, real)
    return {
        "accuracy": metric.value(measured.tallies),
        "standard_error": metric.standard_error(measured.tallies),
        "minus_float": against.value,
        "minus_float_standard_error": against.error,
        "bit_exact": measured.bit_exact,
        "bit_exact_samples": measured.exact_samples,
        "bit_exact_batches": measured.exact_batches,
        "overflowed_outputs": measured.overflowed_outputs,
        "weight_expansion": measured.expansion,
        "programs": measured.programs,
    }


HELD, NOT_HELD, UNDECIDED = "held", "not held", "undecided here"


def judge(differences: Sequence[Difference], *, claim: str) -> str:
    """Return whether a claim about differences holds.

    Parameters
    ----------
    differences
        First minus second, one for each case that the claim is about.
    claim
        ``ahead``: the first is better, held if decidedly so everywhere, not held if decidedly worse anywhere;
        ``not behind``: the first is at least as good, not held if decidedly worse anywhere;
        ``not ahead``: the first is no better, not held if decidedly better anywhere.
    """
    if claim == "ahead":
        if any(item.behind for item in differences):
            return NOT_HELD
        return HELD if differences and all(item.ahead for item in differences) else UNDECIDED
    wrong = {"not behind": "behind", "not ahead": "ahead"}[claim]
    return NOT_HELD if any(getattr(item, wrong) for item in differences) else HELD


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    """Return the lines of a table, its first `left` columns to the left, the others to the right."""
    rule = [":--" if place < left else "--:" for place in range(len(header))]
    return ["| " + " | ".join(cells) + " |" for cells in (header, rule, *rows)]


def percent(share: float, digits: int = 1) -> str:
    """Return a share in percent, without the sign."""
    return f"{100 * share:.{digits}f}"


def minus(text: str) -> str:
    """Return a number's text with a true minus sign."""
    return text.replace("-", "−")
