"""Patterns that networks spell out, put back together after capture.

Contract: graph in, graph out, float function unchanged up to rounding. What is recognized: padding with zeros before a
convolution; rotary position embedding (the half-split form); functions of one tensor (GELU, SiLU, h-swish ...) written
as products and sums, known by their values; root-mean-square, unit and layer norms; attention written as two products
around a softmax. What a pattern leaves unread is pruned.
"""

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np

from quant.capture_build import UnsupportedError
from quant.capture_sequence import mask_params
from quant.graph import UNARY, Graph, Input, Node, prune, replace_node
from quant.run import run

Match = Callable[[Graph, Node], Node | tuple[Node, ...] | None]

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
    matches: tuple[Match, ...] = (
        _padded_conv, _layer_norm, _rms_norm, _weighted_norm, _rotary, _attention, _known_function,
    )  # fmt: skip
    for match in matches:
        for node in graph.nodes:
            found = match(graph, node)
            if found is not None:
                nodes = found if isinstance(found, tuple) else _needed(graph, found, node)
                graph = replace_node(graph, node.name, *nodes)
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
    """Recognize x / sqrt(c · mean(x²) + e) along the last axis, whose c is a factor behind the norm."""
    for x, other in (node.inputs, node.inputs[::-1]) if node.op == "mul" else ():
        last = len(graph.shapes[x]) - 1
        found = _inverse_root(graph, other, x)
        if found is not None and found[0] == last:
            _, factor, eps = found
            size = graph.shapes[x][last]
            params = {} if factor == 1.0 else {"weight": np.full(size, factor**-0.5, np.float32)}
            return Node(node.name, "rms_norm", (x,), {"eps": eps / factor, "ndim": 1}, params, node.layer)
    return None


LEAST_NORM = 1e-6
"""Up to here a lower limit of a vector's length does the same as its square under the root."""


def _inverse_root(graph: Graph, name: str, x: str) -> tuple[int, float, float] | None:
    """Return the axis, c and e where a tensor is 1 / sqrt(c · mean(x², axis) + e)."""
    root, wanted, low = graph.producer(name), "rsqrt", 0.0
    if root is not None and root.op == "reciprocal":
        root, wanted = graph.producer(root.inputs[0]), "sqrt"
        if root is not None and root.op == "clamp" and root.attrs["hi"] == np.inf:
            low = root.attrs["lo"]
            root = graph.producer(root.inputs[0])
    if root is None or root.op != wanted or not 0 <= low <= LEAST_NORM:
        return None
    step, factor, eps = graph.producer(root.inputs[0]), 1.0, 0.0
    while step is not None and (numbers := _scalar(step)) is not None:
        factor, eps = factor * numbers[0], eps + factor * numbers[1]
        step = graph.producer(step.inputs[0])
    if step is None or step.op != "mean" or len(step.attrs["axes"]) != 1 or factor <= 0 or eps < 0:
        return None
    if not _squares(graph, step.inputs[0], x):
        return None
    return step.attrs["axes"][0], factor, max(eps, low**2, 1e-24)


def _squares(graph: Graph, name: str, x: str) -> bool:
    """Tell whether a tensor holds the squares of x, both moved alike."""
    node, same = graph.producer(name), graph.producer(x)
    if node is not None and node.op == "square":
        return _alike(graph, node.inputs[0], x)
    moved = node is not None and same is not None and node.op == same.op and node.op in ("reshape", "permute")
    if not moved or node is None or same is None or dict(node.attrs) != dict(same.attrs):
        return False
    return _squares(graph, node.inputs[0], same.inputs[0])


def _alike(graph: Graph, name: str, other: str) -> bool:
    """Tell whether two tensors are one, or are computed alike (without parameters) from the same ones."""
    first, second = graph.producer(name), graph.producer(other)
    if name == other or first is None or second is None:
        return name == other
    same = first.op == second.op in ("sub", "mean") and dict(first.attrs) == dict(second.attrs)
    return same and all(_alike(graph, a, b) for a, b in zip(first.inputs, second.inputs, strict=True))


def _layer_norm(graph: Graph, node: Node) -> tuple[Node, ...] | None:
    """Recognize d / sqrt(c · mean(d²) + e) with d = x - mean(x), along one axis, which is brought last."""
    for d, other in (node.inputs, node.inputs[::-1]) if node.op == "mul" else ():
        found, centred = _inverse_root(graph, other, d), graph.producer(d)
        mean = graph.producer(centred.inputs[1]) if centred is not None and centred.op == "sub" else None
        if found is None or centred is None or mean is None or mean.op != "mean":
            continue
        x, (axis, factor, eps) = centred.inputs[0], found
        if mean.inputs != (x,) or tuple(mean.attrs["axes"]) != (axis,):
            continue
        rank = len(graph.shapes[x])
        order = (*(i for i in range(rank) if i != axis), axis)
        size = graph.shapes[x][axis]
        params = {} if factor == 1.0 else {"weight": np.full(size, factor**-0.5, np.float32)}
        attrs = {"eps": eps / factor, "ndim": 1}
        if axis == rank - 1:
            return (Node(node.name, "layer_norm", (x,), attrs, params, node.layer),)
        names = [_free_name(graph, node.name, part) for part in ("last", "norm")]
        return (
            Node(names[0], "permute", (x,), {"order": order}, layer=node.layer),
            Node(names[1], "layer_norm", (names[0],), attrs, params, node.layer),
            Node(
                node.name, "permute", (names[1],), {"order": tuple(order.index(i) for i in range(rank))}, {}, node.layer
            ),
        )
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
