"""The price of a network on an accelerator, from shapes and widths alone: no sample is evaluated."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from accelsim.program import Program
from accelsim.simulate import Result, simulate
from quant.graph import Graph
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from quant.recipe_options import QuantOptions
from quant.splitquant_storage import as_stored
from reports.budget import budget_record, check_recipe, choose_recipe
from reports.files import Imported, network_file, read_module, read_network
from reports.run import RECORD_VERSION, Machinery
from reports.sources import find_workload
from reports.task import TaskOptions
from reports.timeline import write_timeline
from workloads import Workload, split

STAND_IN_SAMPLES = 8
"""Random samples in place of pictures: what is observed of them moves the widest sums by a bit or so, no more."""


def cost_network(options: TaskOptions, asked: Recipe | QuantOptions, machinery: Machinery) -> dict[str, Any]:
    """Price a network.

    Returns
    -------
    dict
        The keys of ``accelsim cost --json``. ``elapsed_s`` is the time of a second evaluation in this process, from the
        Program to all figures: imports, compilation and quantization are apart.
    """
    check_recipe(asked)
    path = network_file(options.network, options.data)
    network = None if path is None else read_network(path, options.kernels)
    if isinstance(network, Imported):
        if asked not in (Recipe(), QuantOptions()):
            raise ValueError(f"{options.network} came as integers; leave the quantization options out")
        record = price_program(network.program.without_values(), machinery, network.label) | budget_record(None)
        return record | {"notes": [*record["notes"], *network.remarks]}
    lower = lowering(options)
    recipe, plan = choose_recipe(asked, lower, machinery.accelerator)
    return price_program(lower(recipe), machinery, recipe.label()) | budget_record(plan)


def price_program(program: Program, machinery: Machinery, recipe: str) -> dict[str, Any]:
    """Price a Program under the keys of `cost_network`; `recipe` says how it was quantized."""
    write_timeline(program, machinery)
    _evaluate(program, machinery)
    start = time.perf_counter()
    result = _evaluate(program, machinery)
    elapsed_s = time.perf_counter() - start
    accelerator = machinery.accelerator
    record = {"record_version": RECORD_VERSION, "network": program.name} | result.to_json()
    record |= {
        "recipe": recipe,
        "accelerator": accelerator.name,
        "accelerator_description": accelerator.model_dump(mode="json"),
        "elapsed_s": elapsed_s,
    }
    if result.timing_mode == "scalesim":  # a formula of the array: it knows no memory
        record |= {"cycles": result.array_cycles}
    record["layers"] = record.pop("layers")
    return record


def _evaluate(program: Program, machinery: Machinery) -> Result:
    return simulate(
        program,
        machinery.accelerator,
        machinery.technology,
        batch=machinery.batch,
        timing_mode=machinery.timing_mode,
    )


def lowering(options: TaskOptions) -> Callable[[Recipe], Program]:
    """Return a function from recipes to a network's Program without values."""
    path = network_file(options.network, options.data)
    if path is not None:
        return _lowering_file(options, path)
    workload = find_workload(options.network, options.data, trust=options.trust)
    module = workload.build(options.data, options.seed, cache=options.cache, weights=options.weights)
    x = _calibration(workload, options)
    graph = read_module(module, torch.from_numpy(x[:2]), workload.name)
    if not isinstance(graph, Graph):
        return lambda recipe: graph.program.without_values()

    def lower(recipe: Recipe) -> Program:
        quantized = quantize_network(graph, lambda: [x], recipe, seed=options.seed)
        return replace(as_stored(quantized), name=workload.name).without_values()

    return lower


def _lowering_file(options: TaskOptions, path: Path) -> Callable[[Recipe], Program]:
    network = read_network(path, options.kernels)
    if not isinstance(network, Graph):
        return lambda recipe: network.program.without_values()
    x = _stand_ins(network.inputs[0].shape, options.seed)

    def lower(recipe: Recipe) -> Program:
        return as_stored(quantize_network(network, lambda: [x], recipe, seed=options.seed)).without_values()

    return lower


def _calibration(workload: Workload, options: TaskOptions) -> NDArray[Any]:
    """Return samples to observe ranges on: real ones where they are quick to get, else random ones."""
    if workload.needs_data and not workload.tokens:
        return _stand_ins(workload.input_shape, options.seed)
    samples = workload.samples(options.data, options.weights)
    chosen, _ = split(samples, options.images, options.calib, options.seed)
    return samples.batch(chosen)


def _stand_ins(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Return normal samples in place of pictures, whose decoding would take longer than everything else."""
    return np.random.default_rng(seed).standard_normal((STAND_IN_SAMPLES, *shape)).astype(np.float32)
