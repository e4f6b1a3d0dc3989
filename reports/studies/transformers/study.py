"""The runs behind the tables."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from quant.clip import CLIPS
from quant.ocs import SplitOutliers
from quant.recipe import Recipe
from quant.recipes import RECIPES, WEIGHT_BITS
from quant.smoothquant import SmoothQuant
from quant.transform import Transform
from reports.studies.common import Bench, Kept, Measured, difference, figures, measure, measure_all, quantize_all
from reports.studies.transformers.unsplit import quantize_affine
from reports.task import Task, evaluate

ACT_BITS, INNER_BITS = 8, 12
"""Of the language model: what enters the array, and what the vector unit alone sees."""

BERTS = ("bert-tiny-emotion", "bert-tiny-spam")
BERT_SAMPLES, BERT_CALIB = 1000, 256
BERT_BITS = (8, 4, 2)
FORMS = ("unsplit symmetric", "unsplit affine", "SplitQuant symmetric", "SplitQuant affine")

DRAWN, STORIES = "stories260k-sampled", "stories260k"
DRAWN_WINDOWS, LLAMA_CALIB = 16, 16

METHODS: dict[str, tuple[str, tuple[Transform, ...]]] = {
    "none": ("max", ()),
    "MSE": ("mse", ()),
    "ACIQ": ("aciq", ()),
    "OCS 0.02": ("max", (SplitOutliers(ratio=0.02),)),
    "OCS 0.05": ("max", (SplitOutliers(ratio=0.05),)),
    "OCS 0.05 + MSE": ("mse", (SplitOutliers(ratio=0.05),)),
    "SmoothQuant 0.5": ("max", (SmoothQuant(alpha=0.5),)),
}
"""Columns of the language model's table: weight clip rule and transforms."""


@dataclass(frozen=True)
class Place:
    """One place of a table: weights of `bits`, column."""

    bits: int
    column: str


Advance = Callable[[int], None]


def _silent(count: int) -> None:
    """Show nothing."""


# --- BERT-Tiny -------------------------------------------------------------------------------------------------------


def bert_recipe(place: Place) -> Recipe:
    """Return the recipe of a place; the affine unsplit one has that of the symmetric one (`quantize_affine`)."""
    how = {"SplitQuant symmetric": "symmetric", "SplitQuant affine": "affine"}.get(place.column, "none")
    return RECIPES[f"splitquant-w{place.bits}-{how}"]


def bert_places() -> list[Place]:
    """Return all places, neighbours alike in their transforms."""
    return [Place(bits, form) for form in FORMS for bits in BERT_BITS]


def bert_pairs() -> list[tuple[Place, Place]]:
    """Return the places that are compared: SplitQuant minus the unsplit network, with the same scales."""
    scales = ("symmetric", "affine")
    return [(Place(b, f"SplitQuant {s}"), Place(b, f"unsplit {s}")) for b in BERT_BITS for s in scales]


def run_bert(bench: Bench, kept: Kept, advance: Advance = _silent) -> dict[str, Any]:
    """Measure every place of one text classifier and return its part of the results: plain types."""
    places = bert_places()
    ordinary = [bert_recipe(place) for place in places if place.column != "unsplit affine"]
    found = measure_all(bench, ordinary, kept, advance)
    measured = {place: found[bert_recipe(place).name] for place in places if place.column != "unsplit affine"}
    for place in places:
        if place.column == "unsplit affine":
            measured[place] = _affine(bench, kept, bert_recipe(place))
            advance(1)
    return part_of(bench.task, measured, bert_pairs())


def _affine(bench: Bench, kept: Kept, recipe: Recipe) -> Measured:
    found = kept.find(recipe, "unsplit affine")
    if found is None:
        found = replace(measure(bench, quantize_affine(bench.task, recipe)), expansion=1.0)
        kept.keep(recipe, found, "unsplit affine")
    return found


# --- the language model ----------------------------------------------------------------------------------------------


def llama_recipe(place: Place) -> Recipe:
    """Return the recipe of a place."""
    clip, transforms = METHODS[place.column]
    return Recipe(
        name=f"llama-w{place.bits}-{place.column}",
        weight_bits=place.bits,
        act_bits=ACT_BITS,
        inner_bits=INNER_BITS,
        weight_clip=CLIPS[clip](),
        transforms=transforms,
    )


def llama_places() -> list[Place]:
    """Return all places, neighbours alike in their transforms."""
    return [Place(bits, column) for column in METHODS for bits in WEIGHT_BITS]


def llama_pairs() -> list[tuple[Place, Place]]:
    """Return the places that are compared, within one width."""
    firsts = [("OCS 0.02", "MSE"), ("OCS 0.05", "MSE"), ("OCS 0.02", "ACIQ"), ("OCS 0.05", "ACIQ")]
    firsts += [("OCS 0.05 + MSE", "MSE"), ("OCS 0.05 + MSE", "OCS 0.05"), ("OCS 0.05 + MSE", "ACIQ")]
    firsts += [(column, "none") for column in METHODS if column != "none"]
    return [(Place(bits, one), Place(bits, two)) for bits in WEIGHT_BITS for one, two in firsts]


def run_llama(bench: Bench, stories: Task, kept: Kept, advance: Advance = _silent) -> dict[str, Any]:
    """Measure every place on two texts: the same Programs, calibrated on the same sequences, run on both.

    Parameters
    ----------
    bench
        With the text drawn from the model, on which Programs are compared with the oracle.
    stories
        The same network with the sample text.
    kept, advance
        Where measurements are kept; called for every Program that is done.
    """
    drawn, told = {}, {}
    wanted = {llama_recipe(place).name: place for place in llama_places()}
    for recipe in map(llama_recipe, llama_places()):
        one, two = kept.find(recipe), kept.find(recipe, STORIES)
        if one is not None and two is not None:
            drawn[wanted[recipe.name]], told[wanted[recipe.name]] = one, two
            advance(1)
    for recipe, quantized in quantize_all(bench.task, _missing(wanted, drawn)):
        one = measure(bench, quantized)
        run = evaluate(stories, quantized, bench.accelerator, threads=bench.threads)
        over = sum(item.differing for item in run.overflow.values())
        two = replace(one, tallies=run.tallies, overflowed_outputs=over)
        kept.keep(recipe, one)
        kept.keep(recipe, two, STORIES)
        drawn[wanted[recipe.name]], told[wanted[recipe.name]] = one, two
        advance(1)
    return {
        DRAWN: part_of(bench.task, drawn, llama_pairs()),
        STORIES: part_of(stories, told, llama_pairs()),
    }


def _missing(wanted: Mapping[str, Place], found: Mapping[Place, Measured]) -> list[Recipe]:
    return [llama_recipe(place) for place in wanted.values() if place not in found]


# --- results ---------------------------------------------------------------------------------------------------------


def part_of(task: Task, measured: Mapping[Place, Measured], pairs: Iterable[tuple[Place, Place]]) -> dict[str, Any]:
    """Return one task's part of the results: plain types."""
    metric, real = task.metric, task.float_tallies
    return {
        "metric": metric.name,
        "samples": len(task.evaluated),
        "labels": int(real[:, 1].sum()),
        "calibration_samples": len(task.calibrated),
        "float": {"accuracy": metric.value(real), "standard_error": metric.standard_error(real)},
        "cells": [
            {"bits": place.bits, "column": place.column} | figures(metric, found, real)
            for place, found in measured.items()
        ],
        "comparisons": [_compared(task, measured, *pair) for pair in pairs],
    }


def _compared(task: Task, measured: Mapping[Place, Measured], first: Place, second: Place) -> dict[str, Any]:
    found = difference(task.metric, measured[first].tallies, measured[second].tallies)
    return {
        "bits": first.bits,
        "first": first.column,
        "second": second.column,
        "difference": found.value,
        "standard_error": found.error,
    }
