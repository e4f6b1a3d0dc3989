"""A whole run: a trained network in; its integer accuracy, proof of bit-exactness and price on one accelerator out."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.config import Accelerator
from accelsim.dataflow import MODES
from accelsim.execute import accumulations, layer_bound
from accelsim.program import Conv, MatMul
from accelsim.reference import OverflowMap
from accelsim.simulate import simulate
from accelsim.technology import Technology
from quant.lower import Quantized
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from quant.recipe_options import QuantOptions
from quant.splitquant_storage import as_stored
from reports.advice import advice_records
from reports.budget import budget_record, check_recipe, choose_recipe
from reports.notes import integer_notes
from reports.task import Evaluation, Integers, Task, TaskOptions, evaluate, load_task
from reports.timeline import write_timeline
from reports.toggles import toggle_record
from reports.witness import Witness, check_bit_exact
from workloads import Metric

RECORD_VERSION = 1
"""Raised when a key of the JSON changes its meaning; keys are only ever added."""


@dataclass(frozen=True, kw_only=True)
class Machinery:
    """What a Program is executed on and priced with.

    Parameters
    ----------
    accelerator
        The machine.
    technology
        Prices; the default of `accelsim.simulate` where ``None``.
    batch
        Samples per batch of every cost figure.
    timing_mode
        The accelerator's own where ``None``.
    trace
        File that gets the timeline of a batch, as `reports.timeline` writes it; none where ``None``.
    """

    accelerator: Accelerator
    technology: Technology | None = None
    batch: int = 1
    timing_mode: str | None = None
    trace: Path | None = None

    def __post_init__(self) -> None:
        """Refuse before any work what `simulate` would refuse after it."""
        if self.batch < 1:
            raise ValueError(f"batch must be >= 1 (got {self.batch}); give the number of samples per batch")
        if self.timing_mode is not None and self.timing_mode not in MODES:
            raise ValueError(f"timing mode must be one of {', '.join(MODES)} (got {self.timing_mode!r})")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How a Program is executed and proved.

    Parameters
    ----------
    name
        One of `reports.task.ENGINES`.
    threads
        Of the functional engine; results do not depend on it.
    bit_exact_images
        Samples on which every integer is compared with the oracle's; 0 leaves the proof out.
    toggles
        Samples whose register flips price the PEs, beside the price per MAC; 0 for none.
    """

    name: str = "functional"
    threads: int = 1
    bit_exact_images: int = 8
    toggles: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        if self.threads < 1:
            raise ValueError(f"threads must be >= 1 (got {self.threads})")
        if self.bit_exact_images < 0:
            raise ValueError(f"bit-exact images must be >= 0 (got {self.bit_exact_images}); 0 leaves the proof out")
        if self.toggles < 0:
            raise ValueError(f"toggles must be >= 0 samples (got {self.toggles}); 0 counts none")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Everything that decides a run; the recipe as a value, or as options that become one."""

    task: TaskOptions
    recipe: Recipe | QuantOptions
    machinery: Machinery
    engine: Engine = field(default_factory=Engine)


@dataclass(frozen=True, eq=False)
class RunReport:
    """A finished run: `record` has the keys of ``accelsim run --json``, plain types only."""

    record: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the record."""
        return dict(self.record)


def run_network(options: RunOptions) -> RunReport:
    """Quantize, execute, prove and price a network.

    Raises
    ------
    ValueError
        For anything that the user can put right, in one line.
    OverflowError
        Where an overflow rule is ``error`` and a sum leaves its register.
    """
    check_recipe(options.recipe)  # before the long work
    return run_task(load_task(options.task), options)


def run_task(task: Task, options: RunOptions, quantized: Quantized | None = None) -> RunReport:
    """Run an already captured network, or one that was quantized before (by the same recipe)."""
    machinery, engine = options.machinery, options.engine
    budget = None
    integers: Integers | None = quantized or task.integers
    if task.integers is not None and options.recipe != QuantOptions():
        raise ValueError(f"{task.workload.name} came as integers; leave the quantization options out")
    if integers is None:
        seed = options.task.seed

        def quantize(recipe: Recipe) -> Quantized:
            return quantize_network(task.graph, task.calibration, recipe, seed=seed)

        recipe, budget = choose_recipe(
            options.recipe, lambda plain: quantize(plain).program, options.machinery.accelerator
        )
        integers = quantized = quantize(recipe)
    program = integers.program
    cost = simulate(
        program if quantized is None else as_stored(quantized),
        machinery.accelerator,
        machinery.technology,
        batch=machinery.batch,
        timing_mode=machinery.timing_mode,
    ).to_json()
    write_timeline(program, machinery)
    start = time.perf_counter()
    evaluation = evaluate(
        task,
        integers,
        machinery.accelerator,
        engine=engine.name,
        threads=engine.threads,
        first=engine.bit_exact_images,
    )
    executed_s = time.perf_counter() - start
    witness = check_bit_exact(
        task, integers, machinery.accelerator, evaluation, images=engine.bit_exact_images, engine=engine.name
    )
    layers = _layers(cost.pop("layers"), integers, machinery.accelerator, evaluation)
    advice = advice_records(task, integers, machinery.accelerator)
    layers = [layer | {"accumulator_advice": advice.get(layer["name"])} for layer in layers]
    record = (
        {"record_version": RECORD_VERSION, "network": task.workload.name, "images": len(task.evaluated)}
        | {"accuracy": accuracy_record(task, evaluation)}
        | _witness_record(witness)
        | {"overflowed_outputs": sum(item.differing for item in evaluation.overflow.values())}
        | cost
        | describe_setting(options, integers)
        | budget_record(budget)
        | {"calibration_images": len(task.calibrated), "origin": task.workload.origin}
        | toggle_record(task, integers, machinery.accelerator, machinery.technology, engine.toggles)
        | {"notes": [*cost["notes"], *integer_notes(integers)], "executed_s": executed_s, "layers": layers}
    )
    return RunReport(record)


def accuracy_record(task: Task, evaluation: Evaluation) -> dict[str, Any]:
    """Return float and integer figures of the metric on the same samples, with standard errors.

    ``difference`` is integer minus float, its error that of paired samples; ``None`` where there is no float network.
    """
    floats = None if task.integers is not None else task.float_tallies
    figures = accuracy_figures(task.metric, evaluation.tallies, floats)
    return {"integer" if name == "accuracy" else name: value for name, value in figures.items()}


def accuracy_figures(
    metric: Metric, tallies: NDArray[np.float64], floats: NDArray[np.float64] | None
) -> dict[str, Any]:
    """Return figures of a metric from the tallies of an integer network, and of the float one where there is one."""
    accuracy = metric.value(tallies)
    record = {"metric": metric.name, "higher_is_better": metric.higher_is_better, "float": None, "accuracy": accuracy}
    record |= {"standard_error": metric.standard_error(tallies), "float_standard_error": None}
    record |= {"difference": None, "difference_standard_error": None}
    if floats is None:
        return record
    real = metric.value(floats)
    return record | {
        "float": real,
        "float_standard_error": metric.standard_error(floats),
        "difference": accuracy - real,
        "difference_standard_error": metric.paired_error(tallies, floats),
    }


def describe_setting(options: RunOptions, integers: Integers) -> dict[str, Any]:
    """Return what identifies a run: recipe, machine, samples, Program."""
    return {
        "recipe": integers.label,
        "accelerator": options.machinery.accelerator.name,
        "accelerator_description": options.machinery.accelerator.model_dump(mode="json"),
        "engine": options.engine.name,
        "seed": options.task.seed,
        "program_digest": integers.program.digest(),
    }


def _witness_record(witness: Witness) -> dict[str, Any]:
    return {
        "bit_exact": witness.bit_exact if witness.images else None,
        "bit_exact_images": witness.images,
        "bit_exact_tensors": witness.tensors,
        "bit_exact_difference": witness.difference,
    }


def _layers(
    priced: list[dict[str, Any]], integers: Integers, accelerator: Accelerator, evaluation: Evaluation
) -> list[dict[str, Any]]:
    """Add to every priced layer what happened in its registers and to its weights."""
    program = integers.program
    rules = accumulations(program, accelerator)
    info = {layer.name: layer for layer in integers.layers} if isinstance(integers, Quantized) else {}
    ops = {op.name: op for op in program.ops}
    for layer in priced:
        op, seen = ops.get(layer["name"]), evaluation.overflow.get(layer["name"])
        excluded = isinstance(op, Conv | MatMul) and rules[op.name].excludes_overflow(layer_bound(op))
        layer["overflow_excluded"] = excluded if isinstance(op, Conv | MatMul) else None
        layer |= overflow_record(seen)
        known = info.get(layer["name"])
        layer["clamped_weights"] = known.clamped if known else 0
        layer["alpha"] = known.alpha if known else None
        layer["remark"] = known.remark if known else ""
    return priced


def overflow_record(seen: OverflowMap | None) -> dict[str, Any]:
    """Return how often and where a layer's sums left their registers, over all evaluated samples.

    ``overflow_channels`` maps output channels (last axis) to events, those without any left out.
    """
    if seen is None:
        return {"overflow_events": 0, "overflowed_outputs": 0, "overflow_places": 0, "overflow_channels": {}}
    by_channel: NDArray[np.int64] = seen.events.reshape(-1, seen.events.shape[-1]).sum(axis=0)
    return {
        "overflow_events": int(seen.events.sum()),
        "overflowed_outputs": seen.differing,
        "overflow_places": int((seen.events > 0).sum()),
        "overflow_channels": {str(c): int(by_channel[c]) for c in np.flatnonzero(by_channel)},
    }
