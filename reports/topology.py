"""The price of a SCALE-Sim topology: layer shapes and widths, no weights.

Every layer stands by itself, its input read from DRAM and its output written there: the format does not say which layer
feeds which.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelsim.program import Program
from accelsim.shapes import LayerShape, shape_program
from quant.recipe import Recipe
from quant.recipe_options import QuantOptions, recipe_from_options
from reports.cost import price_program
from reports.run import Machinery
from workloads.topologies import ConvShape, GemmShape, Topology, read_topology

FIRST_LAST_BITS = 8
"""Weights of the first and the last layer under ``--first-last 8bit``."""

_USED = ("weight_bits", "act_bits", "per_channel", "first_last")

INDEPENDENT = "the file does not say which layer feeds which: every layer reads its input from DRAM and writes there"


def is_topology(network: str) -> bool:
    """Tell a file name from the name of a network."""
    return Path(network).suffix.lower() == ".csv"


def cost_topology(path: Path | str, asked: QuantOptions, machinery: Machinery) -> dict[str, Any]:
    """Price a topology file.

    Parameters
    ----------
    path
        Of the CSV.
    asked
        Widths, granularity and whether the first and last row keep 8-bit weights; by default they do not, since the
        file does not say that they are a network's first and last.
    machinery
        Machine, prices, batch and timing.

    Returns
    -------
    dict
        As `reports.cost.cost_network` gives.

    Raises
    ------
    ValueError
        If the file is no topology, or options ask for what needs weights.
    """
    recipe = _recipe(asked)
    topology = read_topology(path)
    widened = asked.first_last == "8bit"
    record = price_program(topology_program(topology, recipe, widened), machinery, _label(recipe, widened))
    return record | {"notes": [INDEPENDENT, *topology.notes, *record["notes"]], "layers": record["layers"]}


def topology_program(topology: Topology, recipe: Recipe, first_last: bool = False) -> Program:
    """Return a topology as a Program without values, at the widths of a recipe.

    Parameters
    ----------
    topology
        As read.
    recipe
        Its widths and granularity are taken.
    first_last
        Whether first and last row keep weights of `FIRST_LAST_BITS`.
    """
    ends = (0, len(topology.layers) - 1) if first_last else ()
    layers = [
        _layer(shape, max(FIRST_LAST_BITS, recipe.weight_bits) if place in ends else None)
        for place, shape in enumerate(topology.layers)
    ]
    return shape_program(topology.name, layers, recipe.weight_bits, recipe.act_bits, per_channel=recipe.per_channel)


def _layer(shape: ConvShape | GemmShape, weight_bits: int | None) -> LayerShape:
    if isinstance(shape, GemmShape):
        return LayerShape(name=shape.name, input=(shape.m, shape.k), outputs=shape.n, weight_bits=weight_bits)
    # The last window may leave the map: what it needs beyond is padding.
    reach = [(n - 1) * step + size for n, step, size in zip(shape.outputs, shape.stride, shape.kernel, strict=True)]
    return LayerShape(
        name=shape.name,
        input=(shape.height, shape.width, shape.channels),
        outputs=shape.filters * shape.groups,
        kernel=shape.kernel,
        stride=shape.stride,
        padding=(0, 0, max(0, reach[0] - shape.height), max(0, reach[1] - shape.width)),
        groups=shape.groups,
        weight_bits=weight_bits,
    )


def _recipe(asked: QuantOptions) -> Recipe:
    """Return the recipe of the options; refuse those that look at values."""
    given = [key for key, value in asdict(asked).items() if value is not None and value is not False]
    beyond = [f"--{key.replace('_', '-')}" for key in given if key not in _USED]
    if beyond:
        raise ValueError(
            f"{', '.join(beyond)} must not be given with a topology, which has shapes and no weights; price a network "
            "of `accelsim list networks`, or leave it out"
        )
    return recipe_from_options(asked)


def _label(recipe: Recipe, first_last: bool) -> str:
    label = f"w{recipe.weight_bits}a{recipe.act_bits}{' per channel' if recipe.per_channel else ''}"
    return f"{label}, first and last row {FIRST_LAST_BITS}-bit weights" if first_last else label
