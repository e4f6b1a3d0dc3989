"""Small random ONNX networks, float and quantized by onnxruntime, for the tests of importers and exporters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def model_bytes(
    nodes: Sequence[Any],
    inputs: dict[str, tuple[Any, ...]],
    outputs: Sequence[str],
    constants: dict[str, Array],
    *,
    dtype: int = 1,
    opset: int = 17,
) -> bytes:
    """Return a model of nodes with constants; the first axis of every input is an open batch."""
    from onnx import helper, numpy_helper

    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info(name, dtype, ["batch", *shape]) for name, shape in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()  # type: ignore[no-any-return]


def session(data: bytes, *outputs: str, threads: int = 1) -> Any:
    """Return an ONNX Runtime session; further tensors are made outputs."""
    import onnx
    import onnxruntime

    model = onnx.ModelProto.FromString(data)
    known = {item.name for item in model.graph.output}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in outputs if n not in known)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.qdqisint8allowed", "1")  # else some int8 layers are left in float32
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def float_cnn(seed: int, kind: str = "residual", channels: int = 8, size: int = 10) -> bytes:
    """Return a float network of one of several kinds."""
    from onnx import helper

    rng = np.random.default_rng(seed)
    c, nodes, constants = channels, [], {}

    def node(op: str, inputs: list[str], output: str, **attrs: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [output], name=f"n_{output}", **attrs))
        return output

    def weight(name: str, *shape: int) -> str:
        fan = int(np.prod(shape[1:])) if len(shape) > 1 else 4
        constants[name] = rng.normal(0, 1 / np.sqrt(fan), shape).astype(np.float32)
        return name

    def conv(x: str, out: str, m: int, n: int, k: int = 3, **attrs: Any) -> str:
        attrs.setdefault("pads", [k // 2] * 4)
        groups = attrs.get("group", 1)
        names = [x, weight(f"{out}.w", n, m // groups, k, k), weight(f"{out}.b", n)]
        return node("Conv", names, out, kernel_shape=[k, k], **attrs)

    x = node("Relu", [conv("x", "c1", 3, c)], "r1")
    if kind == "residual":
        y = node("Relu", [conv(x, "c2", c, c)], "r2")
        y = conv(y, "c3", c, c)
        x = node("Relu", [node("Add", [y, conv(x, "skip", c, c, 1)], "sum")], "r3")
        x = node("MaxPool", [x], "p", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        x = node("Add", [conv(x, "c4", c, c), x], "sum2")
    elif kind == "mobile":
        x = node("Clip", [conv(x, "dw", c, c, group=c, strides=[2, 2]), "zero", "six"], "r6")
        constants["zero"], constants["six"] = np.float32(0), np.float32(6)
        x = conv(x, "pw", c, 2 * c, 1)
        gate = node("GlobalAveragePool", [x], "squeeze")
        gate = node("Sigmoid", [conv(gate, "gate", 2 * c, 2 * c, 1)], "open")
        x = node("Mul", [x, gate], "gated")
        c = 2 * c
    elif kind == "dense":
        y = conv(x, "grow", c, c)
        x = node("Concat", [x, y], "cat", axis=1)
        x = conv(x, "mix", 2 * c, c, 1)
        x = node("AveragePool", [x], "avg", kernel_shape=[2, 2], strides=[2, 2])
        x = node("LeakyRelu", [x], "leak", alpha=0.1)
        x = node("AveragePool", [x], "avg2", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
        x = node("Sigmoid", [x], "bent")
    x = node("GlobalAveragePool", [x], "gap")
    x = node("Flatten", [x], "flat", axis=1)
    if kind == "dense":
        x = node("MatMul", [x, weight("fc.w", c, 5)], "y")
    else:
        x = node("Gemm", [x, weight("fc.w", 5, c), weight("fc.b", 5)], "y", transB=1)
    return model_bytes(nodes, {"x": (3, size, size)}, [x], constants)


class Reader:
    """Calibration batches for onnxruntime.quantization."""

    def __init__(self, batches: list[dict[str, Array]]) -> None:
        self.batches = iter(batches)

    def get_next(self) -> dict[str, Array] | None:
        return next(self.batches, None)


def quantized(data: bytes, folder: Path, sample: Array, *, form: str = "QDQ", **options: Any) -> bytes:
    """Return a network quantized by onnxruntime.quantization.quantize_static."""
    import logging

    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    source, target = folder / "float.onnx", folder / "quantized.onnx"
    source.write_bytes(data)
    types = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
    logging.disable(logging.WARNING)
    try:
        quantize_static(
            str(source),
            str(target),
            Reader([{"x": sample[i : i + 8]} for i in range(0, len(sample), 8)]),  # type: ignore[arg-type]
            quant_format=getattr(QuantFormat, form),
            activation_type=types[options.pop("activations", "uint8")],
            weight_type=types[options.pop("weights", "int8")],
            **options,
        )
    finally:
        logging.disable(logging.NOTSET)
    return target.read_bytes()
