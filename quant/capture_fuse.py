"""Patterns that networks spell out, put back together after capture.

Contract: graph in, graph out, float function unchanged up to rounding. What is recognized: padding with zeros before a
convolution; rotary position embedding (the half-split form); functions of one tensor (GELU, SiLU, h-swish ...) written
as products and sums, known by their values; root-mean-square norms; attention written as two products around a softmax.
What a pattern leaves unread is pruned.
"""

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np

from quant.capture_build import UnsupportedError
from quant.capture_sequence import mask_params
from quant.graph import UNARY, Graph, Input, Node, prune, replace_node
from quant.run import run

Match = Callable[[Graph, Node], Node | None]

_GRID = np.concatenate([np.linspace(-9.0, 9.0, 721), np.linspace(-0.5, 0.5, 41)]).astype(np.float32)[:, None]
"""Arguments at which functions are compared; the two GELUs differ by 5e-4 here."""

_KNOWN: tuple[tuple[str, dict[str, str]], ...] = (
    ("gelu", {"approximate": "none"}),
    ("gelu", {"approximate": "tanh"}),
    ("silu", {}),
    ("hardswish", {}),
    ("hardsigmoid", {}),
    ("mish", {}),
)


def fuse(graph: Graph) -> Graph:
    """Return the graph with all patterns recognized."""
    for match in (_padded_conv, _rms_norm, _weighted_norm, _rotary, _attention, _known_function):
        for node in graph.nodes:
            found = match(graph, node)
            if found is not None:
                graph = replace_node(graph, node.name, *_needed(graph, found, node))
        graph = prune(graph)
    return graph


def _needed(graph: Graph, found: Node, old: Node) -> tuple[Node, ...]:
    """Return the replacement, preceded by the permutations it asks for (``tensor>1,0,2``)."""
    nodes, inputs = [], []
    for name in found.inputs:
        tensor, _, order = name.partition(">")
        if order:
            label = _free_name(graph, old.layer, "permute")
            attrs = {"order": tuple(map(int, order.split(",")))}
            nodes.append(Node(label, "permute", (tensor,), attrs, layer=old.layer))
            tensor = label
        inputs.append(tensor)
    found = found.with_inputs(*inputs)
    if old.name.rpartition(".")[2].rstrip("_0123456789") == old.op and found.op != old.op:
        found = dataclasses.replace(found, name=_free_name(graph, old.layer, found.op))
    return (*nodes, found)


def _free_name(graph: Graph, layer: str, op: str) -> str:
    """Return ``layer.op``, numbered where that is taken."""
    name = f"{layer}.{op}" if layer else op
    taken = (f"{name}_{i}" if i else name for i in itertools.count())
    return next(label for label in taken if label not in graph.shapes)


def _padded_conv(graph: Graph, node: Node) -> Node | None:
    pad = graph.producer(node.inputs[0]) if node.op == "conv" else None
    if pad is None or pad.op != "pad" or pad.attrs["value"] != 0 or pad.attrs["before"][0] or pad.attrs["after"][0]:
        return None
    added = (*pad.attrs["before"][1:], *pad.attrs["after"][1:])
    padding = tuple(p + q for p, q in zip(node.attrs["padding"], added, strict=True))
    return node.with_attrs(padding=padding).with_inputs(pad.inputs[0])


def _scalar(node: Node | None) -> tuple[float, float] | None:
    """Return factor and offset of a scale or affine by single numbers."""
    if node is None or node.op not in ("scale", "affine") or any(p.size != 1 for p in node.params.values()):
        return None
    return float(node.params["weight"][0]), float(node.params["bias"][0]) if "bias" in node.params else 0.0


def _elementary(node: Node) -> bool:
    return node.op in UNARY or node.op in ("add", "sub", "mul") or _scalar(node) is not None


def _known_function(graph: Graph, node: Node) -> Node | None:
    """Recognize a product, or a scaled one, of functions of one tensor by its values."""
    if node.op != "mul" and _scalar(node) is None:
        return None
    cone: dict[str, Node] = {}
    frontier = {node.name}
    order = {n.name: i for i, n in enumerate(graph.nodes)}
    while frontier:
        latest = max(frontier, key=lambda name: order.get(name, -1))
        source = graph.producer(latest)
        if len(frontier) == 1 and cone and (len(cone) > 1 or node.op == "mul"):
            found = _recognized(graph, node, cone, latest)
            if found is not None:
                return found
        if source is None or not _elementary(source) or len(cone) > 12:
            return None
        frontier = (frontier - {latest}) | set(source.inputs)
        cone[latest] = source
    return None


def _recognized(graph: Graph, node: Node, cone: dict[str, Node], tensor: str) -> Node | None:
    if graph.shapes[tensor] != graph.shapes[node.name]:
        return None
    probe = Graph("probe", (Input(tensor, (1,)),), tuple(reversed(cone.values())), (node.name,))
    values = run(probe, _GRID)[node.name]
    for op, attrs in _KNOWN:
        known = Node("known", op, (tensor,), attrs)
        wanted = run(Graph("known", probe.inputs, (known,), ("known",)), _GRID)["known"]
        if bool((values - wanted).abs().max() < 2e-5):
            return Node(node.name, op, (tensor,), attrs, layer=node.layer)
    return None


def _rms_norm(graph: Graph, node: Node) -> Node | None:
    """Recognize x * rsqrt(mean(x^2) + eps) along the last axis."""
    if node.op != "mul":
        return None
    for x, other in (node.inputs, node.inputs[::-1]):
        root = graph.producer(other)
        if root is not None and root.op == "reciprocal":
            root = graph.producer(root.inputs[0])
            wanted = "sqrt"
        else:
            wanted = "rsqrt"
        shift = graph.producer(root.inputs[0]) if root is not None and root.op == wanted else None
        numbers = _scalar(shift)
        mean = graph.producer(shift.inputs[0]) if shift is not None and numbers is not None else None
        if mean is None or numbers is None or mean.op != "mean" or numbers[0] != 1.0 or numbers[1] <= 0:
            continue
        square = graph.producer(mean.inputs[0])
        last = len(graph.shapes[x]) - 1
        if square is not None and square.op == "square" and square.inputs == (x,) and mean.attrs["axes"] == (last,):
            return Node(node.name, "rms_norm", (x,), {"eps": numbers[1], "ndim": 1}, layer=node.layer)
    return None


def _weighted_norm(graph: Graph, node: Node) -> Node | None:
    """Put the scale after a bare norm into it, whose weight it is."""
    norm = graph.producer(node.inputs[0]) if node.op == "scale" else None
    if norm is None or norm.op != "rms_norm" or norm.params or norm.attrs["ndim"] != 1:
        return None
    size = graph.shapes[norm.name][-1]
    fits = node.params["weight"].shape == (size,) and node.attrs["axis"] == len(graph.shapes[norm.name]) - 1
    if not fits or graph.sole_consumer(norm.name) is None:
        return None
    return Node(node.name, "rms_norm", norm.inputs, norm.attrs, {"weight": node.params["weight"]}, node.layer)


def _rotary(graph: Graph, node: Node) -> Node | None:
    """Recognize x cos + concat(-x2, x1) sin, with x1 and x2 the halves of x along the last axis."""
    if node.op != "add" or len(graph.shapes[node.name]) != 3:
        return None
    for first, second in (node.inputs, node.inputs[::-1]):
        straight, turned = _times_constant(graph, first), _times_constant(graph, second)
        if straight is None or turned is None:
            continue
        x, join = straight[0], graph.producer(turned[0])
        if join is None or join.op != "concat" or join.attrs["axis"] != 2 or len(join.inputs) != 2:
            continue
        minus = graph.producer(join.inputs[0])
        half, size = graph.shapes[x][2] // 2, graph.shapes[x][2]
        halves = None if minus is None or minus.op != "neg" else (minus.inputs[0], join.inputs[1])
        if halves and _is_part(graph, halves[0], x, half, size) and _is_part(graph, halves[1], x, 0, half):
            params = {"cos": straight[1], "sin": turned[1]}
            return Node(node.name, "rotary", (x,), {}, params, node.layer)
    return None


def _times_constant(graph: Graph, name: str) -> tuple[str, np.ndarray] | None:
    """Return x and c where the tensor is x times a stored constant c."""
    node = graph.producer(name)
    constant = graph.producer(node.inputs[1]) if node is not None and node.op == "mul" else None
    if node is None or constant is None or constant.op != "constant":
        return None
    return node.inputs[0], constant.params["value"]


def _is_part(graph: Graph, name: str, x: str, start: int, stop: int) -> bool:
    """Return whether a tensor is columns start..stop of another one."""
    node = graph.producer(name)
    if node is None or node.op != "slice" or node.inputs != (x,):
        return False
    heads, time, _ = graph.shapes[x]
    want = ((0, 0, start), (heads, time, stop), (1, 1, 1))
    return (node.attrs["start"], node.attrs["stop"], node.attrs["step"]) == want


def _attention(graph: Graph, node: Node) -> Node | None:
    """Recognize softmax(q k' * scale + mask) v."""
    soft = graph.producer(node.inputs[0]) if node.op == "matmul" else None
    rank = len(graph.shapes[node.name])
    if soft is None or soft.op != "softmax" or rank != 3 or soft.attrs["axis"] != 2:
        return None
    scale = 1.0
    mask: np.ndarray = np.zeros((1, 1, 1), np.float32)
    step = graph.producer(soft.inputs[0])
    while step is not None and step.op != "matmul":
        numbers = _scalar(step)
        constant = graph.producer(step.inputs[-1]) if step.op == "add" else None
        if numbers is not None and numbers[1] == 0:
            scale *= numbers[0]
        elif constant is not None and constant.op == "constant":
            mask = mask + np.float32(scale) * constant.params["value"]
        else:
            return None
        step = graph.producer(step.inputs[0])
    if step is None:
        return None
    q, keys = step.inputs
    heads, time, past = graph.shapes[step.name]
    try:
        causal, params = mask_params(mask if mask.any() else None, (heads, time, past), False)
    except UnsupportedError:
        return None
    attrs = {"causal": causal, "scale": scale}
    return Node(node.name, "attention", (q, _transposed(graph, keys), node.inputs[1]), attrs, params, node.layer)


def _transposed(graph: Graph, name: str) -> str:
    """Name the tensor with its last two axes swapped: what a permutation was made from, or a permutation to add."""
    made = graph.producer(name)
    order, source = (
        (made.attrs["order"], made.inputs[0]) if made is not None and made.op == "permute" else ((0, 1, 2), name)
    )
    swapped = (order[0], order[2], order[1])
    return source if swapped == (0, 1, 2) else f"{source}>{','.join(map(str, swapped))}"
