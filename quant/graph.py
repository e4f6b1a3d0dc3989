"""The float graph: what a network computes, before any quantization.

Contract: frozen and torch-free. Nodes are in topological order; each produces one tensor that bears its name; every
tensor is batch-first, and shapes and axis numbers leave the batch axis out. Transforms take a graph and return a new
one. `check` holds for every graph that leaves a function of this package. Operations: see `quant.graph_ops`.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from quant.graph_ops import OPS, UNARY, OpSpec, Shape

__all__ = [
    "OPS", "UNARY", "Graph", "Input", "Node", "OpSpec", "Shape", "channel_axes", "insert_after", "insert_before",
    "prune", "remove_node", "replace_node",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Node:
    """One operation and the tensor it produces.

    Parameters
    ----------
    name
        Name of the node and of its output tensor. Layers bear their module's path, e.g. ``layer1.0.conv1``.
    op
        Key of `OPS`.
    inputs
        Names of the tensors read.
    attrs
        Plain numbers, strings and tuples of them.
    params
        Arrays, float32 in torch's layouts. Kept as read-only views.
    layer
        Path of the module the node comes from, for reports; empty where there is none.
    notes
        What transforms record for the lowering (splits, cluster scales); no part of the float function.
    """

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, np.ndarray] = field(default_factory=dict)
    layer: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze attributes, parameters and notes."""
        object.__setattr__(self, "notes", MappingProxyType(dict(self.notes)))
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "attrs", MappingProxyType(dict(self.attrs)))
        views = {key: np.asarray(value, dtype=np.float32).view() for key, value in self.params.items()}
        for view in views.values():
            view.flags.writeable = False
        object.__setattr__(self, "params", MappingProxyType(views))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy through the constructor, as mapping proxies cannot be."""
        fields = (self.name, self.op, self.inputs, dict(self.attrs), dict(self.params), self.layer, dict(self.notes))
        return Node, fields

    def with_params(self, **params: np.ndarray | None) -> "Node":
        """Return the node with parameters replaced, added, or (None) left out."""
        merged = {**self.params, **params}
        return dataclasses.replace(self, params={k: v for k, v in merged.items() if v is not None})

    def with_attrs(self, **attrs: Any) -> "Node":
        """Return the node with attributes replaced or added."""
        return dataclasses.replace(self, attrs={**self.attrs, **attrs})

    def with_notes(self, **notes: Any) -> "Node":
        """Return the node with notes replaced or added."""
        return dataclasses.replace(self, notes={**self.notes, **notes})

    def with_inputs(self, *inputs: str) -> "Node":
        """Return the node reading other tensors."""
        return dataclasses.replace(self, inputs=inputs)


@dataclass(frozen=True)
class Input:
    """A tensor the network is given: its name, shape without batch, and kind ("float" or "index")."""

    name: str
    shape: Shape
    kind: str = "float"

    def __post_init__(self) -> None:
        """Check the kind."""
        if self.kind not in ("float", "index"):
            raise ValueError(f'Input.kind must be "float" or "index" (got "{self.kind}"); name one of the two')


@dataclass(frozen=True, eq=False)
class Graph:
    """A network as inputs, nodes in topological order, and the names of its outputs."""

    name: str
    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the four fields only; what is derived is computed again."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    @cached_property
    def _by_name(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _readers(self) -> Mapping[str, tuple[Node, ...]]:
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in readers.items()}

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Shape of every tensor, batch excluded, derived from the operations' shape rules."""
        shapes = {item.name: item.shape for item in self.inputs}
        for node in self.nodes:
            try:
                shapes[node.name] = OPS[node.op].shape(node, tuple(shapes[name] for name in node.inputs))
            except ValueError as error:
                raise ValueError(f"{self.name}: {node.op} {node.name}: {error}") from None
        return MappingProxyType(shapes)

    def node(self, name: str) -> Node:
        """Return the node of that name."""
        if name not in self._by_name:
            raise ValueError(f"{self.name} must have the node asked for (got {name}); see Graph.nodes for the names")
        return self._by_name[name]

    def producer(self, name: str) -> Node | None:
        """Return the node that produces a tensor, or None for a network input."""
        return self._by_name.get(name)

    def consumers(self, name: str) -> tuple[Node, ...]:
        """Return the nodes that read a tensor, each once, in order."""
        return self._readers.get(name, ())

    def sole_consumer(self, name: str) -> Node | None:
        """Return the one node that reads a tensor; None where there are several or it is also an output."""
        readers = self.consumers(name)
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def check(self) -> "Graph":
        """Return the graph if it is well-formed.

        Raises
        ------
        ValueError
            On a duplicate name, a tensor read before it is produced, an unknown operation, wrong numbers of inputs,
            missing or unknown parameters and attributes, shapes that do not fit, NaN or infinite parameters.
        """
        known = {item.name for item in self.inputs}
        if len(known) != len(self.inputs) or not self.inputs:
            raise ValueError(f"{self.name}: inputs must have unique names (got {self.inputs}); name each differently")
        for node in self.nodes:
            _check_node(self.name, node, known)
            known.add(node.name)
        missing = [name for name in self.outputs if name not in known]
        if missing or not self.outputs:
            raise ValueError(f"{self.name}: outputs must be produced (got {self.outputs}); {missing} are not")
        _ = self.shapes
        return self


def _check_node(graph: str, node: Node, known: set[str]) -> None:
    """Check one node but for its shapes; `known` are the tensors produced before it."""
    where = f"{graph}: {node.op} {node.name}"
    if node.op not in OPS:
        raise ValueError(f"{where}: op must be one of OPS (got {node.op}); see quant.graph_ops")
    spec = OPS[node.op]
    if node.name in known:
        raise ValueError(f"{where}: name must be unique (got {node.name} twice); rename one")
    unknown = [name for name in node.inputs if name not in known]
    if unknown:
        raise ValueError(f"{where}: inputs must be produced before they are read (got {unknown}); reorder the nodes")
    if (len(node.inputs) < 1) if spec.arity < 0 else (len(node.inputs) != spec.arity):
        raise ValueError(f"{where}: must read {spec.arity} tensors (got {len(node.inputs)}); fix the inputs")
    allowed = {*spec.params, *spec.optional_params}
    if not set(spec.params) <= set(node.params) or not set(node.params) <= allowed:
        raise ValueError(
            f"{where}: params must be {spec.params} and may be {spec.optional_params} (got {list(node.params)})"
        )
    if set(node.attrs) != set(spec.attrs):
        raise ValueError(f"{where}: attrs must be {spec.attrs} (got {tuple(node.attrs)}); give each of them")
    for key, value in node.params.items():
        bad = int(value.size - np.isfinite(value).sum())
        if bad:
            raise ValueError(
                f"{node.name}.{key} must be finite (got {bad} NaN or infinite values of {value.size}); "
                "load an intact checkpoint"
            )


def replace_node(graph: Graph, name: str, *nodes: Node, result: str | None = None) -> Graph:
    """Return the graph with one node replaced by others, in its place.

    Parameters
    ----------
    graph, name
        Where, and which node.
    nodes
        The replacement, in topological order; none removes the node.
    result
        Tensor that the old node's readers read from now on; default: the last new node.
    """
    if result is None:
        if not nodes:
            raise ValueError("replace_node: result must be named where no node is given (got None); name a tensor")
        result = nodes[-1].name
    graph.node(name)
    out: list[Node] = []
    for node in graph.nodes:
        if node.name == name:
            out.extend(nodes)
        elif name in node.inputs and result != name:
            out.append(node.with_inputs(*(result if i == name else i for i in node.inputs)))
        else:
            out.append(node)
    outputs = tuple(result if o == name else o for o in graph.outputs)
    return dataclasses.replace(graph, nodes=tuple(out), outputs=outputs)


def insert_before(graph: Graph, consumer: str, node: Node, tensor: str | None = None) -> Graph:
    """Return the graph with `node` put between `tensor` (default: the first input) and one consumer of it."""
    reader = graph.node(consumer)
    tensor = reader.inputs[0] if tensor is None else tensor
    rewired = reader.with_inputs(*(node.name if i == tensor else i for i in reader.inputs))
    return replace_node(graph, consumer, node, rewired)


def insert_after(graph: Graph, tensor: str, node: Node, outputs: bool = True) -> Graph:
    """Return the graph with `node`, which reads `tensor`, put between it and all its readers (and `outputs`)."""
    names = [item.name for item in graph.inputs] + [n.name for n in graph.nodes]
    place = max(0, names.index(tensor) + 1 - len(graph.inputs))
    rest = tuple(n.with_inputs(*(node.name if i == tensor else i for i in n.inputs)) for n in graph.nodes[place:])
    outs = tuple(node.name if outputs and o == tensor else o for o in graph.outputs)
    return dataclasses.replace(graph, nodes=(*graph.nodes[:place], node, *rest), outputs=outs)


def remove_node(graph: Graph, name: str) -> Graph:
    """Return the graph without one node, whose readers read its first input instead."""
    return replace_node(graph, name, result=graph.node(name).inputs[0])


def prune(graph: Graph) -> Graph:
    """Return the graph without the nodes that no output depends on."""
    needed = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.inputs)
    return dataclasses.replace(graph, nodes=tuple(n for n in graph.nodes if n.name in needed))


_FIRST = frozenset({"conv", "batch_norm", "max_pool", "avg_pool", "prelu"})
_LAST = frozenset({"linear", "layer_norm", "rms_norm", "lstm", "embedding", "attention", "matmul"})


def channel_axes(graph: Graph) -> dict[str, int]:
    """Return, for every tensor, the axis (batch excluded) that channels run along.

    A convolution's input and output have channels on axis 0, a linear layer's on the last; a consumer's view wins over
    the producer's; other operations hand their input's axis on. Tensors of rank 0 have axis 0.
    """
    axes: dict[str, int] = {}
    for item in graph.inputs:
        axes[item.name] = 0 if len(item.shape) == 3 else max(0, len(item.shape) - 1)
    for node in graph.nodes:
        axes[node.name] = _own_axis(node, [axes[i] for i in node.inputs], graph.shapes)
    for node in graph.nodes:
        for name in node.inputs:
            if node.op in _FIRST:
                axes[name] = 0
            elif node.op in _LAST:
                axes[name] = max(0, len(graph.shapes[name]) - 1)
    return axes


def _own_axis(node: Node, inputs: Sequence[int], shapes: Mapping[str, Shape]) -> int:
    last = max(0, len(shapes[node.name]) - 1)
    if node.op in _FIRST:
        return 0
    if node.op in _LAST or not inputs:
        return last
    if node.op == "permute":
        return int(node.attrs["order"].index(inputs[0]))
    if node.op in ("scale", "affine", "duplicate") and len(shapes[node.name]) > 1 and not _uniform(node):
        return int(node.attrs["axis"])
    if node.op in ("flatten", "reshape"):
        return last
    widest = max(range(len(inputs)), key=lambda i: int(np.prod(shapes[node.inputs[i]])))
    return min(inputs[widest], last)


def _uniform(node: Node) -> bool:
    return any(p.size == 1 for p in node.params.values())


def layers(graph: Graph, ops: Iterable[str] = ("conv", "linear", "lstm")) -> tuple[Node, ...]:
    """Return the nodes whose operation is one of `ops`: by default those with weight matrices, in order."""
    wanted = frozenset(ops)
    return tuple(node for node in graph.nodes if node.op in wanted)
