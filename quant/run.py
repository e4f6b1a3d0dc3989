"""Float execution of a graph in torch: the definition of every operation's float meaning.

Contract: float32, batch first, inference mode, nothing kept between calls. An intermediate is dropped as soon as its
last reader has run. Operations that hide tensors a quantizer must know hand them to the observer under the name
``node:part`` (see `PARTS`).
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from quant.graph import Graph, Node

Observer = Callable[[str, Tensor], None]
Arrays = np.ndarray | Tensor
Params = Mapping[str, Mapping[str, Tensor]]
FloatOp = Callable[[Node, Mapping[str, Tensor], Sequence[Tensor], Observer | None], Tensor]

PARTS: dict[str, tuple[str, ...]] = {"lstm": ("fed", "gates", "cell"), "attention": ("scores", "probs")}
"""Inner tensors by operation: what the input adds to LSTM gates and the gates before their functions [T, 4h], and cell
states [T, h]; attention scores after scale and bias with masked places at 0, and probabilities, both [heads, T, S]."""


MOST_VALUES = 1 << 30
"""Values of a network's largest tensor, all samples of a batch together, that are computed at once: 4 GiB."""


def load_params(graph: Graph) -> Params:
    """Return every node's parameters as torch tensors (copies), to be given to several runs."""
    return {n.name: {k: torch.tensor(v) for k, v in n.params.items()} for n in graph.nodes if n.params}


def as_inputs(graph: Graph, x: Arrays | Sequence[Arrays] | Mapping[str, Arrays]) -> dict[str, Tensor]:
    """Return the network's inputs by name, as float32 or int64 tensors of checked shape.

    Raises
    ------
    ValueError
        Where the number of inputs, a shape, or the number of samples (0, or differing) does not fit.
    """
    if isinstance(x, Mapping):
        values = [x[item.name] for item in graph.inputs if item.name in x]
    else:
        values = [x] if isinstance(x, np.ndarray | Tensor) else list(x)
    if len(values) != len(graph.inputs):
        names = [item.name for item in graph.inputs]
        raise ValueError(f"{graph.name}: inputs must be {names} (got {len(values)} arrays); give one array for each")
    out: dict[str, Tensor] = {}
    for item, value in zip(graph.inputs, values, strict=True):
        dtype = torch.float32 if item.kind == "float" else torch.int64
        tensor = value.to(dtype) if isinstance(value, Tensor) else torch.tensor(np.asarray(value), dtype=dtype)
        if tuple(tensor.shape[1:]) != item.shape or tensor.ndim != len(item.shape) + 1:
            raise ValueError(
                f"{graph.name}.{item.name}: shape must be [samples, {', '.join(map(str, item.shape))}] "
                f"(got {tuple(tensor.shape)}); reshape or resize the data"
            )
        out[item.name] = tensor
    counts = {t.shape[0] for t in out.values()}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"{graph.name}: samples must be >= 1 and alike (got {sorted(counts)}); give more samples")
    return out


def run(
    graph: Graph,
    x: Arrays | Sequence[Arrays] | Mapping[str, Arrays],
    keep: Collection[str] = (),
    observer: Observer | None = None,
    params: Params | None = None,
) -> dict[str, Tensor]:
    """Run a batch in float32.

    Parameters
    ----------
    graph, x
        Network, and its input (one array, or one for each input in order or by name), samples first.
    keep
        Names of further tensors to return (``node:part`` too).
    observer
        Called with name and value of every tensor, inputs included, in order; it must not change or keep the value.
    params
        Result of `load_params`, where several batches are run.

    Returns
    -------
    dict
        The network's outputs and the tensors of `keep` by name, samples first.
    """
    held = dict.fromkeys((*graph.outputs, *keep), 0)
    inner = {name for name in keep if ":" in name}
    unknown = sorted(set(keep) - set(graph.shapes) - inner)
    if unknown:
        raise ValueError(f"{graph.name}: keep must name tensors of the graph (got {unknown}); see Graph.shapes")
    params = load_params(graph) if params is None else params
    last = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    kept: dict[str, Tensor] = {}

    def emit(name: str, value: Tensor) -> None:
        if observer is not None:
            observer(name, value)
        if name in inner:
            kept[name] = value

    with torch.inference_mode():
        live = as_inputs(graph, x)
        for name, value in live.items():
            emit(name, value)
        for i, node in enumerate(graph.nodes):
            parts = emit if node.op in PARTS and (observer is not None or inner) else None
            value = FLOAT_OPS[node.op](node, params.get(node.name, {}), [live[n] for n in node.inputs], parts)
            emit(node.name, value)
            live[node.name] = value
            for name in {*node.inputs, node.name}:
                if last.get(name, -1) <= i and name not in held:
                    del live[name]
        return {**{name: live[name] for name in held if name in live}, **kept}


def fitting(graph: Graph, batch_size: int) -> int:
    """Return the batch size, or the most samples whose largest tensor has `MOST_VALUES`, if that is less.

    Raises
    ------
    ValueError
        If one sample has more, naming the tensor.
    """
    name, largest = max(((n, math.prod(shape)) for n, shape in graph.shapes.items()), key=lambda item: item[1])
    if largest > MOST_VALUES:
        raise ValueError(
            f"{graph.name}.{name}: a tensor must have at most {MOST_VALUES} values a sample (got {largest}, shape "
            f"{list(graph.shapes[name])}); make the network's input smaller"
        )
    return max(1, min(batch_size, MOST_VALUES // max(1, largest)))


def batched(x: Arrays | Sequence[Arrays], batch_size: int) -> Iterator[tuple[Arrays, ...]]:
    """Yield consecutive batches of one array, or of several in step."""
    arrays = (x,) if isinstance(x, np.ndarray | Tensor) else tuple(x)
    for start in range(0, len(arrays[0]), batch_size):
        yield tuple(a[start : start + batch_size] for a in arrays)


def predict(graph: Graph, x: Arrays | Sequence[Arrays], batch_size: int = 128) -> np.ndarray:
    """Return the first output for all samples as a float32 array, running at most `batch_size` samples at a time."""
    params, size = load_params(graph), fitting(graph, batch_size)
    parts = [run(graph, part, params=params)[graph.outputs[0]].numpy() for part in batched(x, size)]
    if not parts:
        raise ValueError(f"{graph.name}: samples must be >= 1 (got 0); give at least one")
    return np.concatenate(parts)


def _along(value: Tensor, axis: int, ndim: int) -> Tensor:
    """Shape a per-channel vector to broadcast along an axis (batch excluded) of an ndim-axis tensor."""
    return value.reshape([-1 if i == axis + 1 else 1 for i in range(ndim)])


def _padded(x: Tensor, pads: Sequence[int], value: float, most: Sequence[int]) -> tuple[Tensor, tuple[int, ...]]:
    """Return the input and torch's symmetric padding; pads that differ at the ends or exceed `most` are put in here."""
    nd = len(pads) // 2
    if tuple(pads[:nd]) == tuple(pads[nd:]) and all(p <= m for p, m in zip(pads, most, strict=False)):
        return x, tuple(pads[:nd])
    flat = [p for i in reversed(range(nd)) for p in (pads[i], pads[nd + i])]
    return F.pad(x, flat, value=value), (0,) * nd


def _half(kernel: Sequence[int]) -> list[int]:
    """Return the most padding that torch's pools take."""
    return [k // 2 for k in kernel]


def _conv(node: Node, p: Mapping[str, Tensor], x: Sequence[Tensor], emit: Observer | None) -> Tensor:
    a = node.attrs
    data, padding = _padded(x[0], a["padding"], 0.0, a["padding"])
    conv = F.conv2d if p["weight"].ndim == 4 else F.conv1d
    return conv(data, p["weight"], p.get("bias"), a["stride"], padding, a["dilation"], a["groups"])


def _batch_norm(node: Node, p: Mapping[str, Tensor], x: Sequence[Tensor], emit: Observer | None) -> Tensor:
    return F.batch_norm(x[0], p["mean"], p["var"], p["weight"], p["bias"], False, 0.0, node.attrs["eps"])


def _affine(node: Node, p: Mapping[str, Tensor], x: Sequence[Tensor], emit: Observer | None) -> Tensor:
    axis, ndim = node.attrs["axis"], x[0].ndim
    out = x[0] * _along(p["weight"], axis, ndim)
    return out + _along(p["bias"], axis, ndim) if "bias" in p else out


def _max_pool(node: Node, p: Mapping[str, Tensor], x: Sequence[Tensor], emit: Observer | None) -> Tensor:
    a = node.attrs
    data, padding = _padded(x[0], a["padding"], -math.inf, _half(a["kernel"]))
    pool = F.max_pool2d if len(a["kernel"]) == 2 else F.max_pool1d
    return pool(data, a["kernel"], a["stride"], padding, a["dilation"], a["ceil_mode"])


def _avg_pool(node: Node, p: Mapping[str, Tensor], x: Sequence[Tensor], emit: Observer | None) -> Tensor:
    a = node.attrs
    pool = F.avg_pool2d if len(a["kernel"]) == 2 else F.avg_pool1d
    data, padding = _padded(x[0], a["padding"], 0.0, _half(a["kernel"]))
    if data is x[0]:
        return pool(data, a["kernel"], a["stride"], padding, a["ceil_mode"], a["count_include_pad"])
    mean = pool(data, a["kernel"], a["stride"])
    if a["count_include_pad"]:
        return mean
    inside, _ = _padded(torch.ones_like(x[0][:1, :1]), a["padding"], 0.0, (-1, -1))
    return mean / pool(inside, a["kernel"], a["stride"])


def _slice(node: Node, p: Mapping[str, Tensor], x: Sequence[Tensor], emit: Observer | None) -> Tensor:
    a = node.attrs
    parts = (slice(*abc) for abc in zip(a["start"], a["stop"], a["step"], strict=True))
    return x[0][(slice(None), *parts)]


def _pad(node: Node, p: Mapping[str, Tensor], x: Sequence[Tensor], emit: Observer | None) -> Tensor:
    a = node.attrs
    flat = [n for pair in zip(reversed(a["before"]), reversed(a["after"]), strict=True) for n in pair]
    return F.pad(x[0], flat, value=a["value"])


def _duplicate(node: Node, p: Mapping[str, Tensor], x: Sequence[Tensor], emit: Observer | None) -> Tensor:
    axis = node.attrs["axis"]
    out = x[0].index_select(axis + 1, torch.tensor(node.attrs["src"], dtype=torch.int64))
    return out * _along(p["weight"], axis, out.ndim) if "weight" in p else out


def _norm(node: Node, p: Mapping[str, Tensor], x: Sequence[Tensor], emit: Observer | None) -> Tensor:
    shape = x[0].shape[-node.attrs["ndim"] :]
    if node.op == "rms_norm":
        return F.rms_norm(x[0], shape, p.get("weight"), node.attrs["eps"])
    return F.layer_norm(x[0], shape, p.get("weight"), p.get("bias"), node.attrs["eps"])


def _lstm(node: Node, p: Mapping[str, Tensor], x: Sequence[Tensor], emit: Observer | None) -> Tensor:
    """Step one LSTM layer over time (torch's equations and gate order i, f, g, o)."""
    batch, hidden = x[0].shape[0], node.attrs["hidden"]
    h = p["h0"].expand(batch, -1) if "h0" in p else x[0].new_zeros(batch, hidden)
    c = p["c0"].expand(batch, -1) if "c0" in p else x[0].new_zeros(batch, hidden)
    fed = F.linear(x[0], p["weight_ih"], p.get("bias"))
    gates, outs, cells = [], [], []
    for t in range(x[0].shape[1]):
        pre = fed[:, t] + F.linear(h, p["weight_hh"])
        i, f, g, o = pre.chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        outs.append(h)
        if emit is not None:
            gates.append(pre)
            cells.append(c)
    if emit is not None:
        emit(f"{node.name}:fed", fed)
        emit(f"{node.name}:gates", torch.stack(gates, 1))
        emit(f"{node.name}:cell", torch.stack(cells, 1))
    return torch.stack(outs, 1)


def _rotary(node: Node, p: Mapping[str, Tensor], x: Sequence[Tensor], emit: Observer | None) -> Tensor:
    first, second = x[0].chunk(2, -1)
    return x[0] * p["cos"] + torch.cat((-second, first), -1) * p["sin"]


def _attention(node: Node, p: Mapping[str, Tensor], x: Sequence[Tensor], emit: Observer | None) -> Tensor:
    q, k, v = x
    runs = q.shape[1] // k.shape[1]
    scores = torch.matmul(q, k.repeat_interleave(runs, 1).transpose(2, 3)) * node.attrs["scale"]
    if "bias" in p:
        scores = scores + p["bias"]
    attend = p["mask"] > 0 if "mask" in p else torch.ones(1, q.shape[2], k.shape[2], dtype=torch.bool)
    if node.attrs["causal"]:
        attend = attend & torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril()
    probs = torch.softmax(scores.masked_fill(~attend, -math.inf), -1)
    if emit is not None:
        emit(f"{node.name}:scores", scores.masked_fill(~attend, 0.0))
        emit(f"{node.name}:probs", probs)
    return torch.matmul(probs, v.repeat_interleave(runs, 1))


def _unary(function: Callable[[Tensor], Tensor]) -> FloatOp:
    return lambda node, p, x, emit: function(x[0])


def _shaped(node: Node, p: Mapping[str, Tensor], x: Sequence[Tensor], emit: Observer | None) -> Tensor:
    return x[0].flatten(1) if node.op == "flatten" else x[0].reshape(-1, *node.attrs["shape"])


FLOAT_OPS: dict[str, FloatOp] = {
    "conv": _conv,
    "linear": lambda n, p, x, e: F.linear(x[0], p["weight"], p.get("bias")),
    "batch_norm": _batch_norm,
    "scale": _affine,
    "affine": _affine,
    "clamp_channels": lambda n, p, x, e: x[0].clamp(_along(p["lo"], n.attrs["axis"], x[0].ndim),
                                                    _along(p["hi"], n.attrs["axis"], x[0].ndim)),
    "prelu": lambda n, p, x, e: F.prelu(x[0], p["weight"]),
    "embedding": lambda n, p, x, e: F.embedding(x[0], p["weight"]),
    "constant": lambda n, p, x, e: p["value"][None],
    "add": lambda n, p, x, e: x[0] + x[1],
    "sub": lambda n, p, x, e: x[0] - x[1],
    "mul": lambda n, p, x, e: x[0] * x[1],
    "matmul": lambda n, p, x, e: torch.matmul(x[0], x[1]),
    "concat": lambda n, p, x, e: torch.cat([t.expand(max(y.shape[0] for y in x), *t.shape[1:]) for t in x],
                                           n.attrs["axis"] + 1),
    "relu": _unary(F.relu),
    "relu6": _unary(F.relu6),
    "sigmoid": _unary(torch.sigmoid),
    "tanh": _unary(torch.tanh),
    "silu": _unary(F.silu),
    "hardswish": _unary(F.hardswish),
    "hardsigmoid": _unary(F.hardsigmoid),
    "exp": _unary(torch.exp),
    "log": _unary(torch.log),
    "neg": _unary(torch.neg),
    "abs": _unary(torch.abs),
    "erf": _unary(torch.erf),
    "sqrt": _unary(torch.sqrt),
    "rsqrt": _unary(torch.rsqrt),
    "square": _unary(torch.square),
    "reciprocal": _unary(torch.reciprocal),
    "softplus": _unary(F.softplus),
    "mish": _unary(F.mish),
    "sin": _unary(torch.sin),
    "cos": _unary(torch.cos),
    "pow": lambda n, p, x, e: x[0] ** n.attrs["exponent"],
    "threshold": lambda n, p, x, e: F.threshold(x[0], n.attrs["threshold"], n.attrs["value"]),
    "clamp": lambda n, p, x, e: x[0].clamp(n.attrs["lo"], n.attrs["hi"]),
    "leaky_relu": lambda n, p, x, e: F.leaky_relu(x[0], n.attrs["slope"]),
    "elu": lambda n, p, x, e: F.elu(x[0], n.attrs["alpha"]),
    "gelu": lambda n, p, x, e: F.gelu(x[0], approximate=n.attrs["approximate"]),
    "softmax": lambda n, p, x, e: torch.softmax(x[0], n.attrs["axis"] + 1),
    "layer_norm": _norm,
    "rms_norm": _norm,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "mean": lambda n, p, x, e: x[0].mean([a + 1 for a in n.attrs["axes"]], keepdim=True),
    "flatten": _shaped,
    "reshape": _shaped,
    "permute": lambda n, p, x, e: x[0].permute(0, *(a + 1 for a in n.attrs["order"])),
    "slice": _slice,
    "pad": _pad,
    "duplicate": _duplicate,
    "lstm": _lstm,
    "rotary": _rotary,
    "attention": _attention,
}  # fmt: skip
