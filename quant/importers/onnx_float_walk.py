"""The float graph of an ONNX file as far as it is written."""

import math
from typing import Any

import numpy as np

from quant.graph import OPS, Input, Node
from quant.importers.onnx_model import MAX_ELEMENTS, OnnxModel, OnnxNode, require
from quant.importers.onnx_walk import Shape, Walk


class FloatWalk(Walk[str]):
    """The graph as far as it is written; `values` maps tensors of the file to those of the graph."""

    def __init__(self, model: OnnxModel) -> None:
        super().__init__(model)
        self.nodes: list[Node] = []
        self.shapes: dict[str, Shape] = {}
        self.inputs: list[Input] = []
        for i, item in enumerate(model.inputs):
            kind = "index" if item.dtype in ("int64", "int32") else "float"
            require(
                kind == "index" or item.dtype in ("float32", "float64", "float16"),
                f"{model.name}: input {item.name!r} is {item.dtype}; a float network takes float32 or int64",
            )
            self.inputs.append(Input(item.name, self.sample_shape(i), kind))
            self.shapes[item.name] = self.sample_shape(i)
            self.values[item.name] = item.name

    def shape(self, name: str) -> Shape:
        """Return a tensor's shape, batch included."""
        return (self.batch, *self.shapes[self.values[name]])

    def of(self, node: OnnxNode, place: int = 0) -> str:
        """Return the graph tensor that an operator reads; a constant becomes a node of its own."""
        name = node.inputs[place]
        if name in self.values:
            return self.values[name]
        require(name in self.constants, f"{node} reads {name!r}, which is not there")
        value = self.constants[name].astype(np.float32)
        self.emit(name, "constant", (), layer=node.name, params={"value": value})
        return name

    def rank(self, node: OnnxNode) -> int:
        """Return the number of axes of an operator's first input, batch included."""
        return len(self.shapes[self.of(node)]) + 1

    def emit(self, name: str, op: str, inputs: tuple[str, ...], layer: str = "", **parts: Any) -> str:
        """Append a node after working out its shape."""
        attrs = {key: parts.get("attrs", {}).get(key) for key in OPS[op].attrs}
        params = {key: value for key, value in parts.get("params", {}).items() if value is not None}
        node = Node(name, op, inputs, attrs, params, layer=layer or name)
        shape = OPS[op].shape(node, tuple(self.shapes[i] for i in inputs))
        require(math.prod(shape) <= MAX_ELEMENTS, f"{name!r} has shape {list(shape)}, beyond {MAX_ELEMENTS} elements")
        self.nodes.append(node)
        self.shapes[name] = shape
        self.values[name] = name
        return name

    def free(self, name: str) -> str:
        """Return a tensor name that is not taken."""
        tries = (name if i == 0 else f"{name}.{i}" for i in range(len(self.shapes) + 2))
        return next(found for found in tries if found not in self.shapes)

    def write(self, node: OnnxNode, op: str, *inputs: str, attrs: Any = None, params: Any = None) -> str:
        """Write an operator's result as one node."""
        sources = inputs or (self.of(node),)
        return self.emit(node.outputs[0], op, sources, node.name, attrs=attrs or {}, params=params or {})

    def same(self, node: OnnxNode) -> None:
        """Let an operator's result be its input."""
        self.values[node.outputs[0]] = self.of(node)


def widest(walk: FloatWalk, node: OnnxNode) -> int:
    """Return the sample rank that an operator's operands broadcast to."""
    ranks = [
        len(walk.shapes[walk.values[name]]) if name in walk.values else walk.constants[name].ndim - 1
        for name in node.inputs
    ]
    return max(ranks)


def with_rank(walk: FloatWalk, node: OnnxNode, place: int, rank: int) -> str:
    """Return an operand with `rank` axes behind the batch, as numpy's broadcasting lines them up."""
    name = node.inputs[place]
    if name not in walk.values:
        value = walk.constants[name].astype(np.float32)
        require(value.ndim <= rank or value.shape[0] == 1, f"adds a constant of shape {value.shape} to every sample")
        value = value.reshape(value.shape[value.ndim - rank :] if value.ndim > rank else value.shape)
        value = value.reshape((1,) * (rank - value.ndim) + value.shape)
        return walk.emit(f"{node.outputs[0]}.{place}", "constant", (), node.name, params={"value": value})
    shape = walk.shapes[walk.values[name]]
    require(len(shape) == rank, f"broadcasts samples of shape {shape} against {rank} axes, across the batch")
    return walk.values[name]
