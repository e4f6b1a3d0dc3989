"""The price of a network on an accelerator, from shapes and widths alone: no sample is evaluated."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from accelsim.program import Program
from accelsim.simulate import Result, simulate
from quant.capture import capture
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from quant.recipe_options import QuantOptions
from reports.run import RECORD_VERSION, Machinery, as_recipe
from reports.task import TaskOptions, find_workload

STAND_IN_SAMPLES = 8
"""Samples that the widths of ranges are observed on; no cost depends on them."""


def cost_network(options: TaskOptions, asked: Recipe | QuantOptions, machinery: Machinery) -> dict[str, Any]:
    """Price a network.

    Returns
    -------
    dict
        The keys of ``accelsim cost --json``. ``elapsed_s`` is the time of a second evaluation in this process, from the
        Program to all figures: imports, compilation and quantization are apart.
    """
    recipe = as_recipe(asked)
    program = shapes_of(options, recipe)
    _evaluate(program, machinery)
    start = time.perf_counter()
    result = _evaluate(program, machinery)
    elapsed_s = time.perf_counter() - start
    accelerator = machinery.accelerator
    record = {"record_version": RECORD_VERSION, "network": options.network} | result.to_json()
    record |= {
        "recipe": recipe.label(),
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


def shapes_of(options: TaskOptions, recipe: Recipe) -> Program:
    """Return a network's Program without values."""
    workload = find_workload(options.network)
    if workload.tokens or not workload.needs_data:
        samples = workload.samples(options.data)
        x = samples.batch(np.arange(min(STAND_IN_SAMPLES, len(samples))))
    else:
        x = _stand_ins(workload.input_shape, options.seed)
    module = workload.build(options.data, options.seed, cache=options.cache, weights=options.weights)
    graph = capture(module, torch.from_numpy(x[:2]), workload.name)
    quantized = quantize_network(graph, lambda: [x], recipe, seed=options.seed)
    return replace(quantized.program, name=workload.name).without_values()


def _stand_ins(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Return normal samples in place of pictures, whose decoding would take longer than everything else."""
    return np.random.default_rng(seed).standard_normal((STAND_IN_SAMPLES, *shape)).astype(np.float32)
