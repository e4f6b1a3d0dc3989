"""Lowering: from a float graph, what was observed of it and a recipe, to an integer Program.

Everything before keeps the float function; here, and only here, values are rounded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.check import check
from accelsim.program import Program, Tensor
from quant import lower_mul as mul
from quant import lower_plain as plain
from quant.build import MAP_LAYOUT, Builder, LayerInfo, Value
from quant.graph import Graph, Node
from quant.grid import Grid, quantize
from quant.inner import TABLES
from quant.lower_attention import lower_attention, lower_softmax
from quant.lower_constant import lower_constant
from quant.lower_halves import lower_duplicate
from quant.lower_linear import lower_product
from quant.lower_lstm import lower_lstm
from quant.lower_norm import lower_norm
from quant.lower_split import lower_branch, lower_branch_sum
from quant.lower_tables import lower_function, lower_prelu
from quant.observe import Stats
from quant.recipe import Recipe, protected_layers
from quant.splitquant import BRANCH, SUM

LOWER: dict[str, Callable[[Builder, Node], None]] = {
    "conv": lower_product,
    "linear": lower_product,
    "relu": plain.lower_activation,
    "relu6": plain.lower_activation,
    "clamp": plain.lower_activation,
    "clamp_channels": plain.lower_clamp_channels,
    "add": plain.lower_add,
    "sub": plain.lower_add,
    "concat": plain.lower_concat,
    "max_pool": plain.lower_max_pool,
    "avg_pool": plain.lower_avg_pool,
    "mean": mul.lower_mean,
    "flatten": plain.lower_reshape,
    "reshape": plain.lower_reshape,
    "permute": plain.lower_permute,
    "slice": plain.lower_slice,
    "pad": plain.lower_pad,
    "duplicate": lower_duplicate,
    "mul": mul.lower_mul,
    "square": mul.lower_mul,
    "neg": mul.lower_neg,
    "scale": mul.lower_scale,
    "affine": mul.lower_affine,
    "matmul": mul.lower_matmul,
    "rotary": mul.lower_rotary,
    "embedding": mul.lower_embedding,
    "constant": lower_constant,
    "prelu": lower_prelu,
    "softmax": lower_softmax,
    "attention": lower_attention,
    "layer_norm": lower_norm,
    "rms_norm": lower_norm,
    "lstm": lower_lstm,
    **dict.fromkeys(TABLES, lower_function),
}

NOTED: dict[str, Callable[[Builder, Node], None]] = {BRANCH: lower_branch, SUM: lower_branch_sum}
"""Rules by the key of a note that a transform left; they come before those by operation."""


@dataclass(frozen=True, eq=False)
class Quantized:
    """A quantized network: its Program, and the way in and out of it.

    Parameters
    ----------
    program
        The integers.
    graph
        The float graph it was lowered from, after all transforms.
    recipe
        What it was quantized with.
    layers
        What happened to each layer, in order.
    inputs, outputs
        Program value of every network input and output, in the network's order.
    """

    program: Program
    graph: Graph
    recipe: Recipe
    layers: tuple[LayerInfo, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]

    @property
    def label(self) -> str:
        """The recipe's."""
        return self.recipe.label()

    def encode(self, *samples: NDArray[Any]) -> dict[str, NDArray[np.int64]]:
        """Return the Program's input codes for real samples ``[batch, ...]`` in the network's own layout.

        Raises
        ------
        ValueError
            If a sample is NaN or infinite, or the number of inputs is wrong.
        """
        if len(samples) != len(self.inputs):
            raise ValueError(f"{self.program.name} takes {len(self.inputs)} inputs (got {len(samples)})")
        codes = {}
        for value, batch in zip(self.inputs, samples, strict=True):
            if value.grid is None:
                codes[value.name] = self._indices(value.name, np.asarray(batch))
                continue
            if not np.isfinite(batch).all():
                raise ValueError(f"{self.program.name}: input {value.name!r} holds NaN or infinity; check the samples")
            moved = np.asarray(batch).transpose(0, *(axis + 1 for axis in value.layout))
            codes[value.name] = quantize(moved, value.on)
        return codes

    def _indices(self, name: str, batch: NDArray[Any]) -> NDArray[np.int64]:
        limit = self.program.tensors[name].high
        if batch.dtype.kind not in "iu" or (batch.size and not 0 <= int(batch.min()) <= int(batch.max()) <= limit):
            raise ValueError(
                f"{self.program.name}: input {name!r} must hold whole numbers 0..{limit} "
                f"(got {batch.dtype} {batch.min(initial=0)}..{batch.max(initial=0)}); give token ids of this network"
            )
        return batch.astype(np.int64)

    def decode(self, outputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float64]]:
        """Return real outputs in the network's own layout from the Program's outputs."""
        decoded = []
        for value in self.outputs:
            tensor = self.program.tensors[value.name]
            codes = outputs[value.name].astype(np.float64) - tensor.zero_point
            real = codes * np.asarray(tensor.scale, dtype=np.float64)
            order = tuple(value.layout.index(axis) + 1 for axis in sorted(value.layout))
            decoded.append(real.transpose(0, *order))
        return decoded


def lower(graph: Graph, stats: Stats, recipe: Recipe) -> Quantized:
    """Lower a float graph to integers.

    Parameters
    ----------
    graph
        Batch norms folded, transforms applied.
    stats
        Observed on this very graph.
    recipe
        Widths, clip rules, grids, rounding.

    Returns
    -------
    Quantized
        With a checked Program.

    Raises
    ------
    ValueError
        Listing every node that has no integer form.
    """
    missing = sorted({f"{node.op} ({node.layer or node.name})" for node in graph.nodes if node.op not in LOWER})
    if missing:
        raise ValueError(
            f"{graph.name}: no integer form for {', '.join(missing)}; supported are {', '.join(sorted(LOWER))}"
        )
    builder = Builder(graph, stats, recipe, protected_layers(graph, recipe))
    for item in graph.inputs:
        _lower_input(builder, item.name, item.shape, item.kind)
    for node in graph.nodes:
        if node.name not in builder.values:
            builder.current = node.name
            rule = next((NOTED[key] for key in node.notes if key in NOTED), LOWER[node.op])
            rule(builder, node)
    builder.current = ""
    for name in graph.outputs:
        value = builder.value(name)
        if value.grid is not None:
            builder.values[name] = builder.plain(value)
    program = builder.program()
    check(program)
    return Quantized(
        program=program,
        graph=graph,
        recipe=recipe,
        layers=tuple(builder.layers),
        inputs=tuple(builder.values[item.name] for item in graph.inputs),
        outputs=tuple(builder.values[name] for name in graph.outputs),
    )


def _rows(graph: Graph, name: str) -> list[int]:
    """Return the sizes of the embeddings that a tensor of indices reaches."""
    found = []
    for node in graph.consumers(name):
        found += [len(node.params["weight"])] if node.op == "embedding" else _rows(graph, node.name)
    return found


def _lower_input(builder: Builder, name: str, shape: tuple[int, ...], kind: str) -> None:
    if kind == "index":
        last = min(_rows(builder.graph, name), default=2**31) - 1
        builder.tensors[name] = Tensor(
            name=name, shape=shape, bits=max(1, last.bit_length()), signed=False, low=0, high=last, kind="index"
        )
        builder.set(name, name, None, tuple(range(len(shape))))
        return
    grid: Grid = builder.act_grid(name, builder.recipe.input_bits)
    layout = MAP_LAYOUT if len(shape) == 3 else tuple(range(len(shape)))
    builder.code_tensor(name, tuple(shape[axis] for axis in layout), grid)
    builder.set(name, name, grid, layout)
