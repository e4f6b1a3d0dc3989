"""What a point is, as a digest of everything that decides its figures.

Names of machines and recipes are left out, and descriptions: renaming measures nothing again. Of a user's own price
tables the digest of their contents is in it.
"""

import functools
import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.program import NUMERICS_VERSION, Program
from accelsim.technology import Technology
from quant.graph import Graph
from quant.recipe import Recipe
from quant.recipe_options import QuantOptions, recipe_from_options
from quant.recipe_yaml import recipe_to_yaml
from reports.sweep.study import Point
from reports.task import Task, TaskOptions
from workloads import Samples

FIGURES_VERSION = 1
"""Raised when timing, counting or quantization change what equal inputs give."""

DIGITS = 32
"""Hexadecimal digits kept: 128 bits."""

_SAMPLES_AT_ONCE = 64
_WIDTHS = (2, 4, 8, 16)


def digest_of(value: Any) -> str:
    """Return the digest of plain values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def network_digest(task: Task, bit_exact_images: int, seed: int) -> str:
    """Return the digest of a network with its samples: weights, calibration and evaluation sets, labels, metric."""
    hasher = hashlib.sha256()
    if task.captured is not None:
        _add_graph(hasher, task.captured)
    else:
        assert task.integers is not None
        hasher.update(task.integers.program.digest().encode())
    hasher.update(f"{task.workload.metric}:{bit_exact_images}:{seed}".encode())
    for chosen in (task.calibrated, task.evaluated):
        _add_samples(hasher, task.samples, chosen)
    return hasher.hexdigest()[:DIGITS]


def _add_graph(hasher: Any, graph: Graph) -> None:
    hasher.update(repr((graph.inputs, graph.outputs)).encode())
    for node in graph.nodes:
        attrs = sorted((key, repr(value)) for key, value in node.attrs.items())
        hasher.update(repr((node.name, node.op, node.inputs, attrs)).encode())
        for name in sorted(node.params):
            _add_array(hasher, name, np.asarray(node.params[name]))


def _add_samples(hasher: Any, samples: Samples, chosen: NDArray[np.int64]) -> None:
    for start in range(0, len(chosen), _SAMPLES_AT_ONCE):
        part = chosen[start : start + _SAMPLES_AT_ONCE]
        _add_array(hasher, "x", samples.batch(part))
        _add_array(hasher, "y", np.asarray(samples.labels(part)))


def _add_array(hasher: Any, name: str, array: NDArray[Any]) -> None:
    array = np.ascontiguousarray(array)
    hasher.update(f"{name}:{array.dtype.str}:{array.shape}".encode())
    hasher.update(array.tobytes())


def recipe_text(options: QuantOptions | Recipe) -> str:
    """Return what options mean, the contents of recipe files included; a recipe means itself, whatever its name."""
    if isinstance(options, Recipe):
        return recipe_to_yaml(replace(options, name=Recipe().name))
    recipe = recipe_from_options(options, {} if options.needs_plan else None)
    planned = f"ocs: {options.ocs}, folds: {options.ocs_folds}, naive: {options.naive_split}"
    return recipe_text(recipe) + (planned if options.needs_plan else "")


_recipe_text = functools.lru_cache(maxsize=4096)(recipe_text)


def priced_digest(program: Program, options: TaskOptions) -> str:
    """Return the digest of a network that is priced only: of its plain Program, without values."""
    return digest_of([program.digest(), str(options.weights), options.seed, "priced"])


def point_digest(network: str, point: Point) -> str:
    """Return a point's digest; `network` is that of `network_digest` or `priced_digest`."""
    machine = point.machine.accelerator
    return digest_of(
        [
            FIGURES_VERSION,
            NUMERICS_VERSION,
            network,
            _recipe_text(point.options),
            machine.model_dump(mode="json", exclude={"name", "description"}),
            point.machine.equal_area_bits,
            _prices_text(point),
            point.batch,
            point.timing_mode,
        ]
    )


def unit_digest(network: str, options: QuantOptions | Recipe) -> str:
    """Return the digest of a network with a recipe: what one unit of work is."""
    return digest_of([network, _recipe_text(options)])


def _prices_text(point: Point) -> str:
    table = point.prices.table
    try:
        prices = point.prices.at(point.machine.accelerator)
        return technology_text(replace(prices, name=f"tables {table.digest}") if table else prices)
    except ValueError:  # the point will be refused for it
        return f"no prices: {point.prices}"


@functools.lru_cache(maxsize=256)
def technology_text(technology: Technology) -> str:
    """Return a technology's parameters with a sample of its prices, which shows a changed table."""
    low, high = technology.operand_bits
    widths = [bits for bits in _WIDTHS if low <= bits <= high]
    sums = max(32, technology.psum_bits[0])
    prices: list[Any] = [technology.mac_pj(w, a, sums) for w in widths for a in widths]
    prices += [technology.add_pj(32), technology.register_pj(32), technology.multiply_pj(8, 8)]
    return f"{technology!r} {prices}"
