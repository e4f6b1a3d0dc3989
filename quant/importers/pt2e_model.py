"""A program of torch.export with quantize and dequantize pairs (PT2E) as the plain operators of `onnx_model`.

Contract: nothing is computed but what depends on stored tensors alone; every operation of the program becomes an
operator that the integer walk knows, or is refused by name. Dimension 0 of every computed tensor is the batch.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from quant.capture_build import numbers
from quant.importers.onnx_model import OnnxInput, OnnxModel, OnnxNode, require

Array = NDArray[Any]
Bound = Mapping[str, Any]

DECOMPOSED = "quantized_decomposed"
OPSET = 21


def is_quantized_program(program: torch.export.ExportedProgram) -> bool:
    """Tell whether any operation of a program quantizes or dequantizes."""
    return any(_is_decomposed(node) for node in program.graph.nodes)


def is_quantized_module(module: torch.nn.Module) -> bool:
    """Tell whether a module is, or wraps, a torch graph that quantizes or dequantizes."""
    graphs = (part.graph for part in module.modules() if isinstance(part, fx.GraphModule))
    return any(_is_decomposed(node) for graph in graphs for node in graph.nodes)


def _is_decomposed(node: fx.Node) -> bool:
    return getattr(node.target, "namespace", "") == DECOMPOSED


def op_name(node: fx.Node) -> str:
    """Return the operation's name without overload and without the mark of in-place variants."""
    return getattr(getattr(node.target, "overloadpacket", None), "__name__", str(node.target)).rstrip("_")


class Translation:
    """One walk over a program; `names` tells what each torch node that is a tensor is called."""

    def __init__(self, program: torch.export.ExportedProgram, name: str) -> None:
        self.program, self.name = program, name
        self.nodes: list[OnnxNode] = []
        self.constants: dict[str, Array] = {}
        self.stored: dict[fx.Node, Any] = {}
        self.unknown: dict[str, int] = {}
        signature = program.graph_signature
        self.arguments = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.arguments |= signature.inputs_to_lifted_tensor_constants
        given = [node for node in program.graph.nodes if node.name in set(signature.user_inputs)]
        firsts = {str(node.meta["val"].shape[0]) for node in given if node.meta["val"].ndim}
        require(
            len(firsts) == 1, f"{name}: its inputs have batches of {sorted(firsts)}; give them one batch axis first"
        )
        self.first = firsts.pop()
        self.inputs = tuple(self._input(node) for node in given)
        self.batch = self.inputs[0].shape[0] or 1

    def _input(self, node: fx.Node) -> OnnxInput:
        value = node.meta["val"]
        first, *rest = value.shape
        whole = all(isinstance(size, int) for size in rest)
        require(whole, f"{self.name}: input {node.name!r} has open sizes {tuple(rest)}; only the batch may be open")
        dtype = str(value.dtype).removeprefix("torch.")
        return OnnxInput(node.name, dtype, (first if isinstance(first, int) else None, *map(int, rest)))

    def model(self) -> OnnxModel:
        """Walk the program and return its operators."""
        outputs: list[str] = []
        for node in self.program.graph.nodes:
            if node.op == "output":
                wanted = set(self.program.graph_signature.user_outputs)
                leaves = torch.utils._pytree.tree_leaves(node.args)
                outputs = [leaf.name for leaf in leaves if isinstance(leaf, fx.Node) and leaf.name in wanted]
            else:
                self._node(node)
        listed = ", ".join(f"{op} ({count}x)" for op, count in sorted(self.unknown.items()))
        require(not self.unknown, f"{self.name}: no integer form for {listed}; known are {', '.join(sorted(HANDLERS))}")
        return OnnxModel(self.name, self.inputs, tuple(outputs), tuple(self.nodes), self.constants, OPSET)

    def _node(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            if node.name in self.arguments:
                key = self.arguments[node.name]
                held = self.program.state_dict if key in self.program.state_dict else self.program.constants
                self.stored[node] = held[key].detach()
            return
        if node.op == "get_attr":
            self.stored[node] = operator.attrgetter(str(node.target))(self.program.graph_module)
            return
        sources, op = node.all_input_nodes, op_name(node)
        if not isinstance(node.meta.get("val"), torch.Tensor | tuple | list) or op.startswith("_assert"):
            return  # sizes and checks
        if all(source in self.stored for source in sources) and not op.startswith("dequantize"):
            self._evaluate(node)
        elif node.target is operator.getitem:
            self._item(node)
        elif op not in HANDLERS:
            self.unknown[op] = self.unknown.get(op, 0) + 1
        else:
            try:
                HANDLERS[op](self, node, self._bind(node))
            except ValueError as error:
                raise ValueError(f"{self.name}: {op} {node.name!r}: {error}") from None

    def _evaluate(self, node: fx.Node) -> None:
        args, kwargs = (fx.map_arg(part, lambda n: self.stored[n]) for part in (node.args, node.kwargs))
        with torch.no_grad():
            self.stored[node] = node.target(*args, **kwargs)  # type: ignore[operator, arg-type]

    def _item(self, node: fx.Node) -> None:
        """Name one of several results; the first of a pool with indices is its only one."""
        source, index = node.args
        assert isinstance(source, fx.Node)
        pool = op_name(source).startswith("max_pool")
        self.emit("Identity", (source.name if pool and index == 0 else f"{source.name}.{index}",), node.name)

    def _bind(self, node: fx.Node) -> dict[str, Any]:
        """Return the arguments by schema name, defaults filled in."""
        schema = node.target._schema  # type: ignore[union-attr]
        bound = {arg.name: arg.default_value for arg in schema.arguments if arg.has_default_value()}
        bound |= dict(zip([arg.name for arg in schema.arguments], node.args, strict=False))
        return bound | node.kwargs

    # --- what handlers use -------------------------------------------------------------------------------------------

    def emit(self, op: str, inputs: Sequence[str], output: str, **attrs: Any) -> None:
        """Append an operator that bears its output's name."""
        outputs = tuple(attrs.pop("outputs", (output,)))
        self.nodes.append(OnnxNode(output, op, tuple(inputs), outputs, attrs))

    def at(self, value: Any, what: str = "operand") -> str:
        """Return the name of an argument: a computed tensor, or a stored one or a number, which become constants."""
        if isinstance(value, fx.Node) and value not in self.stored:
            return value.name
        array = self.array(value, what)
        name = value.name if isinstance(value, fx.Node) else f"number.{len(self.constants)}"
        self.constants[name] = array
        return name

    def array(self, value: Any, what: str) -> Array:
        """Return a stored tensor or a number as an array."""
        if isinstance(value, fx.Node):
            require(value in self.stored, f"its {what} is computed while it runs; quantize the network statically")
            value = self.stored[value]
        if isinstance(value, torch.Tensor):
            real = value.detach().float() if value.dtype in (torch.bfloat16, torch.float16) else value.detach()
            return real.cpu().numpy()
        return np.asarray(value, dtype=np.float32 if isinstance(value, float) else None)

    def shape(self, node: Any) -> tuple[int, ...]:
        """Return a tensor's shape, an open batch as 1.

        Raises
        ------
        ValueError
            If the batch is elsewhere than in dimension 0, or part of one.
        """
        sizes = node.meta["val"].shape
        require(bool(sizes) and str(sizes[0]) == self.first, f"gives shape {tuple(sizes)}, whose batch is not first")
        rest = tuple(sizes[1:])
        require(all(isinstance(d, int) for d in rest), f"gives shape {tuple(sizes)}, which mixes the batch in")
        return (self.batch, *(int(d) for d in rest))


Handler = Callable[[Translation, fx.Node, Bound], None]


# --- on and off a grid -----------------------------------------------------------------------------------------------


def _quantize(t: Translation, node: fx.Node, a: Bound) -> None:
    scale, zero = (t.array(a[key], key) for key in ("scale", "zero_point"))
    dtype = str(a["dtype"]).removeprefix("torch.")
    low, high = (int(t.array(a[key], key)) for key in ("quant_min", "quant_max"))
    limits = {"dtype": dtype, "low": low, "high": high}
    real = float(a["scale"]) if isinstance(a["scale"], float) else float(scale)
    t.emit("QuantizeLinear", (t.at(a["input"]),), node.name, scale=real, zero=int(zero), **limits)


def _quantize_channels(t: Translation, node: fx.Node, a: Bound) -> None:
    raise ValueError(
        "has a grid for each channel of a computed tensor; a Program's tensors have one: quantize per tensor"
    )


def _dequantize(t: Translation, node: fx.Node, a: Bound) -> None:
    inputs = [t.at(a["input"])]
    inputs.append(t.at(t_number(t, a["scale"], "scale", np.float32)))
    inputs.append(t.at(t_number(t, a["zero_point"], "zero point", np.int64)))
    t.emit("DequantizeLinear", inputs, node.name)


def t_number(t: Translation, value: Any, what: str, dtype: Any) -> torch.Tensor:
    """Return one number of an argument as a stored tensor."""
    return torch.from_numpy(np.asarray(t.array(value, what), dtype=dtype).reshape(1).copy())


def _dequantize_channels(t: Translation, node: fx.Node, a: Bound) -> None:
    scales = t.array(a["scales"], "scales")
    zeros = np.zeros(scales.shape) if a["zero_points"] is None else t.array(a["zero_points"], "zero points")
    require(bool(np.all(zeros == np.rint(zeros))), "has zero points that are no whole numbers")
    numbers_of = [torch.from_numpy(scales.astype(np.float32)), torch.from_numpy(zeros.astype(np.int64))]
    t.emit("DequantizeLinear", (t.at(a["input"]), *map(t.at, numbers_of)), node.name, axis=int(a["axis"]))


# --- layers and windows ----------------------------------------------------------------------------------------------


def _conv(t: Translation, node: fx.Node, a: Bound) -> None:
    require(not a.get("transposed", False), "is transposed; write it as an upsampling and a convolution")
    rank = len(t.shape(node)) - 2
    padding = a["padding"]
    pads: dict[str, Any] = {}
    if isinstance(padding, str):
        # torch pads the odd place behind, as SAME_UPPER does
        pads["auto_pad"] = {"same": "SAME_UPPER", "valid": "VALID"}[padding]
    else:
        pads["pads"] = list(numbers(padding, rank)) * 2
    inputs = [t.at(a["input"]), t.at(a["weight"])] + ([] if a["bias"] is None else [t.at(a["bias"])])
    sizes = {"strides": list(numbers(a["stride"], rank)), "dilations": list(numbers(a["dilation"], rank))}
    t.emit("Conv", inputs, node.name, group=int(a["groups"]), **sizes, **pads)


def _linear(t: Translation, node: fx.Node, a: Bound) -> None:
    inputs = [t.at(a["input"]), t.at(a["weight"])] + ([] if a["bias"] is None else [t.at(a["bias"])])
    t.emit("Gemm", inputs, node.name, transB=1)


def _matmul(t: Translation, node: fx.Node, a: Bound) -> None:
    t.emit("MatMul", (t.at(a["self"]), t.at(a.get("other", a.get("mat2")))), node.name)


def _pool(op: str) -> Handler:
    def handler(t: Translation, node: fx.Node, a: Bound) -> None:
        rank = len(t.shape(a["self"])) - 2
        kernel = numbers(a["kernel_size"], rank)
        attrs: dict[str, Any] = {
            "kernel_shape": list(kernel),
            "strides": list(numbers(a["stride"], rank) if a["stride"] else kernel),
            "pads": list(numbers(a["padding"], rank)) * 2,
            "ceil_mode": int(a["ceil_mode"]),
        }
        if op == "MaxPool":
            attrs["dilations"] = list(numbers(a["dilation"], rank))
        else:
            require(a.get("divisor_override") is None, "divides by a number of its own")
            attrs["count_include_pad"] = int(a["count_include_pad"])
        t.emit(op, (t.at(a["self"]),), node.name, **attrs)

    return handler


def _global_pool(t: Translation, node: fx.Node, a: Bound) -> None:
    sizes = numbers(a["output_size"], len(t.shape(a["self"])) - 2)
    require(set(sizes) == {1}, f"gives {sizes} places; one is known: pool by a fixed window")
    t.emit("GlobalAveragePool", (t.at(a["self"]),), node.name)


def _mean(t: Translation, node: fx.Node, a: Bound) -> None:
    dims = [int(d) for d in a["dim"] or range(1, len(t.shape(a["self"])))]
    t.emit("ReduceMean", (t.at(a["self"]),), node.name, axes=dims, keepdims=int(a["keepdim"]))


# --- element by element ----------------------------------------------------------------------------------------------


def _function(t: Translation, node: fx.Node, a: Bound) -> None:
    """Keep torch's own function, to be taken of every code."""
    target: Any = node.target
    rest = {key: value for key, value in a.items() if key not in ("self", "input")}

    def call(values: Array) -> Array:
        with torch.no_grad():
            found: Array = target(torch.from_numpy(np.ascontiguousarray(values, np.float32)), **rest).numpy()
        return found

    t.emit("Function", (t.at(a["self"]),), node.name, function=call)


def _clip(low: str, high: str) -> Handler:
    def handler(t: Translation, node: fx.Node, a: Bound) -> None:
        ends = {"relu": (0.0, None), "relu6": (0.0, 6.0)}.get(op_name(node)) or (a.get(low), a.get(high))
        names = ["" if end is None else t.at(torch.tensor(float(end))) for end in ends]
        t.emit("Clip", (t.at(a["self"]), *names), node.name)

    return handler


def _binary(op: str) -> Handler:
    def handler(t: Translation, node: fx.Node, a: Bound) -> None:
        require(a.get("alpha", 1) == 1, f"has the factor alpha = {a.get('alpha')}; scale in an operation of its own")
        require(a.get("rounding_mode") is None, "rounds its quotient")
        both = (a["other"], a["self"]) if op_name(node) == "rsub" else (a["self"], a["other"])
        parts = [torch.tensor(float(v)) if isinstance(v, int | float) else v for v in both]
        t.emit(op, [t.at(part) for part in parts], node.name)

    return handler


def _softmax(t: Translation, node: fx.Node, a: Bound) -> None:
    t.emit("Softmax", (t.at(a["self"]),), node.name, axis=int(a["dim"]))


# --- moving codes ----------------------------------------------------------------------------------------------------


def _same(t: Translation, node: fx.Node, a: Bound) -> None:
    require(a.get("dtype") in (None, torch.float32), f"converts to {a.get('dtype')}")
    t.emit("Identity", (t.at(a.get("self", a.get("input"))),), node.name)


def _reshape(t: Translation, node: fx.Node, a: Bound) -> None:
    target = torch.tensor(t.shape(node), dtype=torch.int64)
    t.emit("Reshape", (t.at(a["self"]), t.at(target)), node.name)


def _permute(t: Translation, node: fx.Node, a: Bound) -> None:
    order = list(range(len(t.shape(a["self"]))))
    if "dims" in a:
        order = [int(d) % len(order) for d in a["dims"]]
    else:
        first, second = a["dim0"], a["dim1"]
        order[first], order[second] = order[second], order[first]
    t.emit("Transpose", (t.at(a["self"]),), node.name, perm=tuple(order))


def _cat(t: Translation, node: fx.Node, a: Bound) -> None:
    t.emit("Concat", [t.at(part) for part in a["tensors"]], node.name, axis=int(a["dim"]))


def _slice(t: Translation, node: fx.Node, a: Bound) -> None:
    end = 2**62 if a["end"] is None else a["end"]
    parts = [torch.tensor([int(v)]) for v in (a["start"] or 0, end, a["dim"], a["step"])]
    t.emit("Slice", (t.at(a["self"]), *map(t.at, parts)), node.name)


def _split(t: Translation, node: fx.Node, a: Bound) -> None:
    dim = int(a["dim"])
    sizes = torch.tensor([int(part.shape[dim]) for part in node.meta["val"]])
    names = [f"{node.name}.{i}" for i in range(len(sizes))]
    t.emit("Split", (t.at(a.get("self", a.get("tensor"))), t.at(sizes)), node.name, axis=dim, outputs=names)


def _pad(t: Translation, node: fx.Node, a: Bound) -> None:
    require(a.get("mode", "constant") == "constant", f"pads by {a.get('mode')}; constants are known")
    rank, pairs = len(t.shape(a["self"])), [int(p) for p in a["pad"]]
    before, after = [0] * rank, [0] * rank
    for i in range(len(pairs) // 2):  # torch counts from the last dimension
        before[rank - 1 - i], after[rank - 1 - i] = pairs[2 * i : 2 * i + 2]
    given = [torch.tensor(before + after), torch.tensor(float(a["value"] or 0))]
    t.emit("Pad", (t.at(a["self"]), *map(t.at, given)), node.name)


_FUNCTIONS = (
    "sigmoid", "tanh", "hardswish", "hardsigmoid", "silu", "gelu", "leaky_relu", "elu", "softplus", "mish", "exp",
    "erf", "neg", "abs", "sqrt", "rsqrt", "log", "celu", "selu", "hardshrink", "softshrink", "log_sigmoid", "square",
    "pow",
)  # fmt: skip

HANDLERS: dict[str, Handler] = {
    "quantize_per_tensor": _quantize, "dequantize_per_tensor": _dequantize,
    "quantize_per_channel": _quantize_channels, "dequantize_per_channel": _dequantize_channels,
    **dict.fromkeys(("conv1d", "conv2d", "convolution"), _conv), "linear": _linear,
    **dict.fromkeys(("matmul", "bmm"), _matmul),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool2d_with_indices"), _pool("MaxPool")),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d"), _pool("AveragePool")),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d"), _global_pool), "mean": _mean,
    **dict.fromkeys(_FUNCTIONS, _function),
    **dict.fromkeys(("relu", "relu6", "clamp"), _clip("min", "max")), "hardtanh": _clip("min_val", "max_val"),
    "add": _binary("Add"), **dict.fromkeys(("sub", "rsub"), _binary("Sub")), "mul": _binary("Mul"),
    "div": _binary("Div"), "softmax": _softmax,
    **dict.fromkeys(("contiguous", "clone", "dropout", "detach", "alias", "lift_fresh_copy", "to", "_to_copy"), _same),
    **dict.fromkeys(("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze"), _reshape),
    "permute": _permute, "transpose": _permute, "cat": _cat, "slice": _slice, "pad": _pad, "constant_pad_nd": _pad,
    **dict.fromkeys(("split", "split_with_sizes", "chunk"), _split),
}  # fmt: skip
"""By the name of torch's operation without overload."""


def translate(program: torch.export.ExportedProgram, name: str) -> OnnxModel:
    """Return a quantized program's operators.

    Raises
    ------
    ValueError
        Listing every operation without an integer form; or where the batch is not dimension 0.
    """
    return Translation(program, name).model()
