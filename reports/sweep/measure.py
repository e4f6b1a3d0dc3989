"""The work of a sweep: one Program made, executed and proved once, then priced on every machine that asks for it.

`measure` is a function of values alone, so that it runs in any process: here, in a pool, or on another computer. One
call executes at most one Program under one way of adding up; what is left of a unit comes back and is handed in again,
so that nothing that is known waits for what is not.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from accelsim.config import Accelerator
from accelsim.execute import accumulations, may_overflow
from accelsim.program import Conv, Program
from accelsim.simulate import simulate
from quant.graph import Graph
from quant.lower import lower
from quant.observe import Stats
from quant.pipeline import observe_for, prepare, quantize_network
from quant.recipe import Recipe
from quant.recipe_options import QuantOptions
from quant.splitquant_storage import as_stored
from reports.budget import choose_recipe
from reports.cost import lowering
from reports.run import accuracy_figures, overflow_record
from reports.studies.common import expansion
from reports.sweep.equal_area import equal_area
from reports.sweep.identity import digest_of
from reports.sweep.store import DONE, REFUSED, Accuracy, Row
from reports.sweep.study import Point
from reports.task import Integers, Task, TaskOptions, evaluate, load_task
from reports.witness import check_bit_exact

PROVED_AT_ONCE = 8

LAYER_COLUMNS = (
    "name", "kind", "m", "k", "n", "groups", "macs", "weight_bits", "act_bits", "splits", "folds", "array_cycles",
    "cycles", "utilization", "dram_bytes", "weight_bytes",
)  # fmt: skip
"""Kept of every layer as it is; its energy and stalls are kept as totals, its overflow beside them."""

APART = ("layers", "sources", "notes", "batch", "band", "activity")


@dataclass(frozen=True, kw_only=True, eq=False)
class Unit:
    """One network under one set of quantization options, on some machines.

    Parameters
    ----------
    task, options
        Network with samples, and recipe or options that become one.
    network
        Digest of the network.
    points
        (digest, point) of what is to be measured.
    floats
        Tallies of the float network; ``None`` where there is none.
    known
        Accuracies that need not be measured again, by key.
    bit_exact_images
        Samples proved equal to the torch oracle.
    threads
        Of the engine.
    accuracy
        Whether to execute at all.
    """

    task: TaskOptions
    options: QuantOptions | Recipe
    network: str
    points: tuple[tuple[str, Point], ...]
    floats: NDArray[np.float64] | None
    known: Mapping[str, Accuracy]
    bit_exact_images: int
    threads: int = 1
    accuracy: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What a call measured, and the unit that is left to do."""

    rows: tuple[Row, ...]
    accuracies: tuple[Accuracy, ...] = ()
    left: Unit | None = None


def float_tallies(options: TaskOptions, network: str, threads: int = 1) -> NDArray[np.float64]:
    """Return the tallies of the float network on the evaluated samples; `network` is its digest."""
    torch.set_num_threads(threads)
    _renew(options, network)
    return _task(options).float_tallies


def measure(unit: Unit) -> Outcome:
    """Measure the first point of a unit, and all others that its Program and way of adding up serve."""
    torch.set_num_threads(unit.threads)
    _renew(unit.task, unit.network)
    if not unit.accuracy:
        return _priced(unit)
    task = _task(unit.task)
    machine = unit.points[0][1].machine.accelerator
    try:
        recipe = _recipe_on(task, unit, machine)
        made = _made(unit.task, recipe)
    except (ValueError, OverflowError) as error:
        # without a plan the machine plays no part: no other one will do better
        same = unit.points[:1] if _planned(unit.options) else unit.points
        return _outcome(unit, tuple(_refused(unit, digest, point, error) for digest, point in same), ())
    key = _key(unit.network, made.integers.program, machine)
    try:
        accuracy = unit.known.get(key) or _measured(task, unit, made, (key, machine))
    except OverflowError as error:  # a rule that takes overflow for an error
        return _outcome(unit, (_refused(unit, *unit.points[0], error),), ())
    served = [
        (digest, point)
        for digest, point in unit.points
        if _recipe_on(task, unit, point.machine.accelerator) == recipe
        and _key(unit.network, made.integers.program, point.machine.accelerator) == key
    ]
    rows = tuple(_row(unit, _Priced.of(made), accuracy, digest, point) for digest, point in served)
    return _outcome(unit, rows, () if key in unit.known else (accuracy,))


def _priced(unit: Unit) -> Outcome:
    """Price all points of a unit from shapes and widths alone."""
    rows = []
    plain = max(1, _weights(_shapes(unit.task, Recipe())))
    for digest, point in unit.points:
        try:
            recipe = _shape_recipe(unit.task, unit.options, point.machine.accelerator)
            program = _shapes(unit.task, recipe)
        except (ValueError, OverflowError) as error:
            rows.append(_refused(unit, digest, point, error))
            continue
        rows.append(_row(unit, _Priced(program, recipe.label(), _weights(program) / plain), None, digest, point))
    return _outcome(unit, tuple(rows), ())


def _outcome(unit: Unit, rows: tuple[Row, ...], accuracies: tuple[Accuracy, ...]) -> Outcome:
    done = {row.digest for row in rows}
    left = tuple((digest, point) for digest, point in unit.points if digest not in done)
    return Outcome(rows=rows, accuracies=accuracies, left=replace(unit, points=left) if left else None)


# --- Programs --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Made:
    """A network's integers, what is priced of them, and the weights stored over those before."""

    integers: Integers
    priced: Program
    expansion: float


_loaded: dict[TaskOptions, str] = {}
"""Digests of the networks that what is cached was made of."""


def forget() -> None:
    """Drop all that is kept from call to call: files may have changed."""
    _loaded.clear()
    for cached in (_task, _came, _lowering, _shapes, _shape_recipe, _recipe, _quantized, _observed):
        cached.cache_clear()


def _renew(options: TaskOptions, network: str) -> None:
    """Forget what was made of another network under the same options: a worker may outlive a file's contents."""
    if _loaded.setdefault(options, network) != network:
        forget()
        _loaded[options] = network


@functools.lru_cache(maxsize=2)
def _task(options: TaskOptions) -> Task:
    return load_task(options)


def _recipe_on(task: Task, unit: Unit, accelerator: Accelerator) -> Recipe | None:
    """Return the recipe that options stand for on a machine; ``None`` for a network that came as integers."""
    if task.integers is None:
        return _recipe(unit.task, unit.options, accelerator)
    if unit.options not in (QuantOptions(), Recipe()):
        raise ValueError(f"{task.workload.name} came as integers; leave the quantization options out")
    return None


def _made(task: TaskOptions, recipe: Recipe | None) -> _Made:
    return _came(task) if recipe is None else _quantized(task, recipe)


@functools.lru_cache(maxsize=2)
def _lowering(task: TaskOptions) -> Callable[[Recipe], Program]:
    return lowering(task)


@functools.lru_cache(maxsize=4)
def _shapes(task: TaskOptions, recipe: Recipe) -> Program:
    return _lowering(task)(recipe)


@functools.lru_cache(maxsize=256)
def _shape_recipe(task: TaskOptions, options: QuantOptions | Recipe, accelerator: Accelerator) -> Recipe:
    return choose_recipe(options, lambda plain: _shapes(task, plain), accelerator)[0]


def _weights(program: Program) -> int:
    return sum(math.prod(op.weight.shape) for op in program.ops if isinstance(op, Conv) and not op.shares)


def task_of(options: TaskOptions) -> Task:
    """Return a task, which is kept for the next call."""
    return _task(options)


def quantized_by(options: TaskOptions, recipe: Recipe) -> tuple[Integers, Program]:
    """Return a network's integers under a recipe, and the Program that is priced; kept for the next calls."""
    made = _quantized(options, recipe)
    return made.integers, made.priced


@functools.lru_cache(maxsize=2)
def _came(options: TaskOptions) -> _Made:
    integers = _task(options).integers
    assert integers is not None
    return _Made(integers, integers.program, 1.0)


def _planned(options: QuantOptions | Recipe) -> bool:
    """Tell whether the splits depend on the machine."""
    return isinstance(options, QuantOptions) and options.needs_plan


@functools.lru_cache(maxsize=256)
def _recipe(task: TaskOptions, options: QuantOptions | Recipe, accelerator: Accelerator) -> Recipe:
    return choose_recipe(options, lambda plain: _quantized(task, plain).integers.program, accelerator)[0]


@functools.lru_cache(maxsize=3)
def _quantized(options: TaskOptions, recipe: Recipe) -> _Made:
    task = _task(options)
    if recipe.bias_correction:
        quantized = quantize_network(task.graph, task.calibration, recipe, seed=options.seed)
    else:
        ready, stats = _observed(options, recipe.transforms, recipe.first_last)
        quantized = lower(ready, stats, recipe)
    return _Made(quantized, as_stored(quantized), expansion(task, quantized))


@functools.lru_cache(maxsize=2)
def _observed(options: TaskOptions, transforms: tuple[Any, ...], first_last: Any) -> tuple[Graph, Stats]:
    task = _task(options)
    ready = prepare(
        task.graph, Recipe(transforms=transforms, first_last=first_last), task.calibration, seed=options.seed
    )
    return ready, observe_for(ready, task.calibration, options.seed)


# --- accuracy --------------------------------------------------------------------------------------------------------


def _key(network: str, program: Program, accelerator: Accelerator) -> str:
    """Return the key of an accuracy: where no sum can leave its register every machine gives the same integers."""
    rules = may_overflow(program, accumulations(program, accelerator))
    added = {name: repr(rule) for name, rule in rules.items()}
    return digest_of([network, _digest(program), added])


@functools.lru_cache(maxsize=8)
def _digest(program: Program) -> str:
    return program.digest()


def _measured(task: Task, unit: Unit, made: _Made, at: tuple[str, Accelerator]) -> Accuracy:
    key, accelerator = at
    proved = min(unit.bit_exact_images, len(task.evaluated))
    run = evaluate(task, made.integers, accelerator, threads=unit.threads, first=proved)
    witness = check_bit_exact(task, made.integers, accelerator, run, images=proved, at_once=PROVED_AT_ONCE)
    overflow = {name: overflow_record(item) for name, item in run.overflow.items() if item.differing}
    figures = accuracy_figures(task.metric, run.tallies, unit.floats) | {
        "images": len(task.evaluated),
        "bit_exact": witness.bit_exact if proved else None,
        "bit_exact_images": witness.images,
        "bit_exact_difference": witness.difference,
        "overflowed_outputs": sum(item.differing for item in run.overflow.values()),
        "overflow_excluded": not run.overflow,
        "program_digest": _digest(made.integers.program),
    }
    return Accuracy(key=key, network=unit.network, figures=figures, layers=overflow, tallies=run.tallies)


# --- rows ------------------------------------------------------------------------------------------------------------


def _refused(unit: Unit, digest: str, point: Point, error: Exception) -> Row:
    return Row(
        digest=digest,
        network=unit.network,
        status=REFUSED,
        reason=" ".join(str(error).split()),
        factors=point.factors,
        figures={},
        layers={},
    )


@dataclass(frozen=True, eq=False)
class _Priced:
    """What is priced: a Program, how it was quantized, and its weights over those before."""

    program: Program
    label: str
    expansion: float

    @staticmethod
    def of(made: _Made) -> "_Priced":
        return _Priced(made.priced, made.integers.label, made.expansion)


NOT_EXECUTED = {"metric": None, "accuracy": None, "standard_error": None, "images": 0, "bit_exact": None}


def _row(unit: Unit, made: _Priced, accuracy: Accuracy | None, digest: str, point: Point) -> Row:
    accelerator = point.machine.accelerator
    try:
        prices = point.prices.at(accelerator)
        accelerator = equal_area(point.machine, made.program, prices)
        result = simulate(made.program, accelerator, prices, batch=point.batch, timing_mode=point.timing_mode)
    except (ValueError, OverflowError) as error:
        return _refused(unit, digest, point, error)
    plain = result.to_json()
    figures = {
        "recipe": made.label,
        "accelerator": accelerator.name,
        "accelerator_description": accelerator.model_dump(mode="json"),
        "rows": accelerator.array.rows,
        "cols": accelerator.array.cols,
        "dataflow": accelerator.array.dataflow,
        "pe": accelerator.pe.type,
        "weight_expansion": made.expansion,
        "batch": point.batch,
        "macs": result.macs,
        "notes": list(result.notes),
    }
    figures |= {name: value for name, value in plain.items() if name not in APART}
    figures["energy_delay_pj_s"] = result.energy_pj["total"] * result.seconds
    columns = _columns(plain["layers"], {} if accuracy is None else accuracy.layers)
    executed = NOT_EXECUTED if accuracy is None else accuracy.figures
    columns["window"] = _windows(made.program, columns["name"])
    return Row(
        digest=digest,
        network=unit.network,
        status=DONE,
        factors=point.factors,
        accuracy_key=None if accuracy is None else accuracy.key,
        figures=dict(executed) | figures,
        layers=columns,
    )


def _windows(program: Program, names: list[str]) -> list[int]:
    """Return what a channel adds to k in each layer (kh·kw); 0 where there is no window."""
    windows = {op.name: op.weight.shape[1] * op.weight.shape[2] for op in program.ops if isinstance(op, Conv)}
    return [windows.get(name, 0) for name in names]


def _columns(layers: list[dict[str, Any]], overflow: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the layers column by column, which is a third of the size."""
    found: dict[str, list[Any]] = {name: [layer[name] for layer in layers] for name in LAYER_COLUMNS}
    found["utilization"] = [round(value, 6) for value in found["utilization"]]
    found["energy_pj"] = [float(f"{layer['energy_pj']['total']:.6g}") for layer in layers]
    found["stall_cycles"] = [sum(layer["stall_cycles"].values()) for layer in layers]
    found["overflowed_outputs"] = [
        overflow[layer["name"]]["overflowed_outputs"] if layer["name"] in overflow else 0 for layer in layers
    ]
    return found
