"""Quantized ONNX files: every integer equal to ONNX Runtime's, element by element, on 64 samples."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnx", reason="needs onnx: install accelsim[onnx]")
pytest.importorskip("onnxruntime", reason="needs onnxruntime: install accelsim[oracle]")

from onnx import helper
from onnx_nets import float_cnn, model_bytes, quantized, session

from accelsim import reference
from accelsim.execute import execute
from accelsim.program import Conv, Softmax
from quant import oracle
from quant.importers.onnx_import import OnnxNetwork, import_onnx_bytes, in_file_order

Array = NDArray[Any]
SAMPLES = 64


def network(data: bytes) -> OnnxNetwork:
    found = import_onnx_bytes(data, "net")
    assert isinstance(found, OnnxNetwork)
    return found


def assert_equal_integers(data: bytes, x: Array, exact: bool = True) -> OnnxNetwork:
    """Compare every quantized tensor of a file with ONNX Runtime's, and our three executors with each other."""
    found = network(data)
    names = [name for name in found.tensors if not (found.tensors[name].name in found.inexact and exact is False)]
    run = session(data, *names)
    theirs = dict(zip([o.name for o in run.get_outputs()], run.run(None, {run.get_inputs()[0].name: x}), strict=True))
    codes = found.encode(x)
    ours = reference.run(found.program, codes).values
    for name in names:
        held = found.tensors[name]
        mine = in_file_order(ours[held.name], held.layout)
        np.testing.assert_array_equal(mine, theirs[name].reshape(mine.shape), err_msg=name)
    few = {name: array[:4] for name, array in codes.items()}
    every = {op.output for op in found.program.ops}
    fast = execute(found.program, few, keep=every).outputs
    torch = oracle.run(found.program, few, keep=every).values
    for name in every:
        np.testing.assert_array_equal(fast[name], ours[name][:4], err_msg=name)
        np.testing.assert_array_equal(torch[name], ours[name][:4], err_msg=name)
    assert exact is False or not found.remarks
    return found


def samples(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(0, 1, (SAMPLES, *shape)).astype(np.float32)


CASES = [
    ("residual", "QDQ", "uint8", "int8", False),
    ("residual", "QDQ", "int8", "int8", True),
    ("residual", "QOperator", "uint8", "uint8", False),
    ("mobile", "QDQ", "int8", "int8", False),
    ("mobile", "QOperator", "uint8", "int8", True),
    ("dense", "QDQ", "uint8", "int8", True),
    ("dense", "QOperator", "int8", "int8", True),
]


@pytest.mark.parametrize(("kind", "form", "activations", "weights", "per_channel"), CASES)
def test_networks_of_onnxruntime_quantization(
    kind: str, form: str, activations: str, weights: str, per_channel: bool, tmp_path: Path
) -> None:
    options = {"activations": activations, "weights": weights, "per_channel": per_channel}
    data = quantized(float_cnn(3, kind), tmp_path, samples(5, 3, 10, 10)[:32], form=form, **options)
    found = assert_equal_integers(data, samples(6, 3, 10, 10))
    assert sum(isinstance(op, Conv) for op in found.program) >= 3


def test_the_integers_behind_a_float_output_are_the_outputs(tmp_path: Path) -> None:
    data = quantized(float_cnn(4, "residual"), tmp_path, samples(5, 3, 10, 10)[:16])
    found, x = network(data), samples(8, 3, 10, 10)
    ours = found.decode(execute(found.program, found.encode(x)).outputs)[0]
    np.testing.assert_allclose(ours, session(data).run(None, {"x": x})[0], rtol=1e-6)


# --- operators one by one --------------------------------------------------------------------------------------------


def n(op: str, inputs: str, output: str = "y", **attrs: Any) -> Any:
    domain = "com.microsoft" if op in MICROSOFT else ""
    return helper.make_node(op, inputs.split(), output.split(), name=f"n_{output}", domain=domain, **attrs)


MICROSOFT = {
    "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearAveragePool", "QLinearGlobalAveragePool",
    "QLinearConcat", "QGemm",
}  # fmt: skip
MAP = (4, 6, 7)


def grids(rng: np.random.Generator, dtype: type[Any], *names: str, dyadic: bool = False) -> dict[str, Array]:
    """Return a scale and a zero point for each name."""
    limits, found = np.iinfo(dtype), {}
    for name in names:
        scale = 2.0 ** rng.integers(-5, -2) if dyadic else rng.uniform(0.01, 0.1)
        found[f"s{name}"] = np.float32(scale)
        found[f"z{name}"] = dtype(rng.integers(limits.min // 2, limits.max // 2 + 1))
    return found


OPERATORS: dict[str, tuple[list[Any], dict[str, Array]]] = {
    "add": ([n("QLinearAdd", "a sa za b sb zb sy zy")], {}),
    "mul": ([n("QLinearMul", "a sa za b sb zb sy zy")], {}),
    "add of a stored row": ([n("QLinearAdd", "a sa za k sb zb sy zy")], {"k": np.arange(7)}),
    "add of stored channels": ([n("QLinearAdd", "a sa za k sb zb sy zy")], {"k": np.arange(4).reshape(4, 1, 1)}),
    "stored channels first": ([n("QLinearAdd", "k sb zb a sa za sy zy")], {"k": np.arange(4).reshape(4, 1, 1)}),
    "add of one number": ([n("QLinearAdd", "a sa za k sb zb sy zy")], {"k": np.array([9])}),
    "mul by one number": ([n("QLinearMul", "a sa za k sb zb sy zy")], {"k": np.array([9])}),
    "gate": ([n("QLinearGlobalAveragePool", "a sa za sb zb", "g"), n("QLinearMul", "a sa za g sb zb sy zy")], {}),
    "sigmoid": ([n("QLinearSigmoid", "a sa za sy zy")], {}),
    "leaky relu": ([n("QLinearLeakyRelu", "a sa za sy zy", alpha=0.3)], {}),
    "average": ([n("QLinearAveragePool", "a sa za sy zy", kernel_shape=[2, 3], strides=[1, 2])], {}),
    "average, padded": ([n("QLinearAveragePool", "a sa za sy zy", kernel_shape=[3, 3], pads=[1, 0, 1, 1])], {}),
    "average, padding counted": (
        [n("QLinearAveragePool", "a sa za sy zy", kernel_shape=[3, 3], pads=[1, 0, 1, 1], count_include_pad=1)], {},
    ),
    "average on one grid": ([n("QLinearAveragePool", "a sa za sa za", kernel_shape=[2, 2], strides=[2, 2])], {}),
    "global average": ([n("QLinearGlobalAveragePool", "a sa za sy zy")], {}),
    "concat": ([n("QLinearConcat", "sy zy a sa za b sb zb a sy zy", axis=1)], {}),
    "tanh": ([n("DequantizeLinear", "a sa za", "r"), n("Tanh", "r", "t"), n("QuantizeLinear", "t sy zy")], {}),
    "hard swish": (
        [n("DequantizeLinear", "a sa za", "r"), n("HardSwish", "r", "t"), n("QuantizeLinear", "t sy zy")], {},
    ),
    "chain": (
        [n("DequantizeLinear", "a sa za", "r"), n("Relu", "r", "t"), n("HardSigmoid", "t", "u", alpha=0.3),
         n("Sqrt", "u", "v"), n("QuantizeLinear", "v sy zy")], {},
    ),
    "max pool and moves": (
        [n("MaxPool", "a", "p", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1),
         n("Transpose", "p", "t", perm=[0, 2, 3, 1]), n("Slice", "t st en ax", "c"), n("Flatten", "c", "f"),
         n("DequantizeLinear", "f sa za", "r"), n("QuantizeLinear", "r sy zy")],
        {"st": np.array([1]), "en": np.array([99]), "ax": np.array([1])},
    ),
    "split, pad and gather": (
        [n("Split", "a", "u v", axis=1), n("Gather", "u ix", "g", axis=1), n("Pad", "v pd za", "w"),
         n("MaxPool", "w", "m", kernel_shape=[1, 1], strides=[2, 1]), n("DequantizeLinear", "m sa za", "r"),
         n("QuantizeLinear", "r sy zy", "y"), n("QLinearLeakyRelu", "g sa za sy zy", "y2", alpha=0.5)],
        {"ix": np.array([1, 0, 1]), "pd": np.array([0, 0, 1, 2, 0, 0, 0, 1])},
    ),
    "function, then pool": (
        [n("DequantizeLinear", "a sa za", "r"), n("HardSwish", "r", "t"),
         n("MaxPool", "t", "p", kernel_shape=[2, 2], strides=[2, 2]), n("Flatten", "p", "f"),
         n("QuantizeLinear", "f sy zy")], {},
    ),
    "shape of a sum": (
        [n("DequantizeLinear", "a sa za", "r"), n("DequantizeLinear", "b sb zb", "q"), n("Add", "r q", "t"),
         n("Shape", "t", "s"), n("Slice", "s zero one", "first"), n("Concat", "first rest", "to", axis=0),
         n("QuantizeLinear", "t sy zy", "u"), n("Reshape", "u to")],
        {"zero": np.array([0]), "one": np.array([1]), "rest": np.array([-1])},
    ),
    "product of tensors": (
        [n("Transpose", "b", "t", perm=[0, 1, 3, 2]), n("QLinearMatMul", "a sa za t sb zb sy zy")], {},
    ),
    "integer product of tensors": ([n("Transpose", "b", "t", perm=[0, 1, 3, 2]), n("MatMulInteger", "a t za zb")], {}),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("name", OPERATORS)
def test_operators_on_codes(name: str, dtype: type[Any]) -> None:
    nodes, constants = OPERATORS[name]
    limits = np.iinfo(dtype)
    for seed in range(2):
        rng = np.random.default_rng(seed)
        extra = {k: v.astype(dtype) if k == "k" else v for k, v in constants.items()}
        numbers = grids(rng, dtype, "a", "b", "y", dyadic=seed == 1) | extra
        used = {i for node in nodes for i in node.input}
        given = {i: MAP for i in ("a", "b") if i in used}
        outputs = [o for o in ("y", "y2") if any(o in node.output for node in nodes)]
        data = model_bytes(
            nodes, given, outputs, {k: v for k, v in numbers.items() if k in used}, dtype=2 if dtype == np.uint8 else 3
        )
        found = network(data)
        assert not found.remarks
        feeds = {i: rng.integers(limits.min, limits.max + 1, (SAMPLES, *MAP)).astype(dtype) for i in given}
        theirs = session(data).run(None, feeds)
        run = reference.run(found.program, found.encode(*feeds.values())).values
        for port, expected in zip(found.outputs, theirs, strict=True):
            np.testing.assert_array_equal(in_file_order(run[port.tensor], port.layout), expected)


@pytest.mark.parametrize("kind", ["conv", "conv1d", "gemm", "matmul"])
def test_layers_with_weight_zero_points(kind: str) -> None:
    rng = np.random.default_rng(4)
    numbers = grids(rng, np.uint8, "a", "y") | {"sw": rng.uniform(0.001, 0.02, 5).astype(np.float32)}
    bias = rng.integers(-3000, 3000, 5).astype(np.int32)
    shape, zero = {"conv": (4, 6, 6), "conv1d": (4, 9)}.get(kind, (6,)), rng.integers(90, 160, 5)
    if kind.startswith("conv"):
        weight = rng.integers(0, 256, (5, 2, *(3,) * (len(shape) - 1)))
        nodes = [n("QLinearConv", "a sa za w sw zw sy zy b", group=2, pads=[1] * 2 * (len(shape) - 1))]
        nodes[0].attribute.append(helper.make_attribute("strides", [2] * (len(shape) - 1)))
        weight, zero = weight[:4], np.full(4, 117)
        numbers["sw"], bias = numbers["sw"][:4], bias[:4]
    else:
        weight = rng.integers(0, 256, (6, 5))
        nodes = [n("QGemm" if kind == "gemm" else "QLinearMatMul", "a sa za w sw zw sy zy")]
        if kind == "gemm":
            nodes = [n("QGemm", "a sa za w sw zw b sy zy")]
    numbers |= {"w": weight.astype(np.uint8), "zw": zero.astype(np.uint8)} | ({"b": bias} if kind != "matmul" else {})
    data = model_bytes(nodes, {"a": shape}, ["y"], numbers, dtype=2)
    found = network(data)
    layer = next(op for op in found.program if isinstance(op, Conv))
    assert (layer.storage_bits, layer.weight_bits) == (8, 9)
    x = rng.integers(0, 256, (SAMPLES, *shape)).astype(np.uint8)
    run = reference.run(found.program, found.encode(x)).values
    port = found.outputs[0]
    np.testing.assert_array_equal(in_file_order(run[port.tensor], port.layout), session(data).run(None, {"a": x})[0])


@pytest.mark.parametrize("kind", ["conv", "matmul"])
def test_integer_operators_give_their_sums(kind: str) -> None:
    rng = np.random.default_rng(5)
    shape = (3, 5, 5) if kind == "conv" else (4, 6)
    weight = rng.integers(-128, 128, (4, 3, 3, 3) if kind == "conv" else (6, 4)).astype(np.int8)
    bias = rng.integers(-999, 999, (4, 1, 1) if kind == "conv" else (4,)).astype(np.int32)
    op = n("ConvInteger", "a w za", "s", pads=[1] * 4) if kind == "conv" else n("MatMulInteger", "a w za", "s")
    data = model_bytes(
        [op, n("Add", "s b")], {"a": shape}, ["y"], {"w": weight, "b": bias, "za": np.uint8(77)}, dtype=2
    )
    found, x = network(data), rng.integers(0, 256, (SAMPLES, *shape)).astype(np.uint8)
    run = reference.run(found.program, found.encode(x)).values
    port = found.outputs[0]
    np.testing.assert_array_equal(in_file_order(run[port.tensor], port.layout), session(data).run(None, {"a": x})[0])


def test_sums_scaled_in_float_are_remarked_upon() -> None:
    rng = np.random.default_rng(6)
    nodes = [
        n("MatMulInteger", "a w za", "s"),
        n("Cast", "s", "f", to=1),
        n("Mul", "f m", "g"),
        n("Add", "g c", "h"),
        n("Relu", "h", "r"),
        n("QuantizeLinear", "r sy zy"),
    ]
    constants = grids(rng, np.uint8, "y") | {"za": np.uint8(9), "w": rng.integers(-99, 99, (6, 4)).astype(np.int8)}
    constants |= {"m": np.float32(0.001), "c": rng.normal(0, 1, 4).astype(np.float32)}
    data = model_bytes(nodes, {"a": (6,)}, ["y"], constants, dtype=2)
    found, x = network(data), rng.integers(0, 256, (SAMPLES, 6)).astype(np.uint8)
    assert found.inexact == {"y"}
    assert "fewer roundings" in found.remarks[0]
    run = session(data, "s")
    theirs = dict(zip([o.name for o in run.get_outputs()], run.run(None, {"a": x}), strict=True))
    ours = reference.run(found.program, found.encode(x)).values
    np.testing.assert_array_equal(ours[found.tensors["s"].name], theirs["s"])
    assert np.abs(ours["y"] - theirs["y"]).max() <= 1


def test_softmax_is_imported_with_a_remark() -> None:
    nodes = [n("DequantizeLinear", "a sa za", "r"), n("Softmax", "r", "t", axis=-1), n("QuantizeLinear", "t sy zy")]
    constants = {"sa": np.float32(0.1), "za": np.uint8(100), "sy": np.float32(1 / 256), "zy": np.uint8(0)}
    data = model_bytes(nodes, {"a": (3, 10)}, ["y"], constants, dtype=2)
    found, x = network(data), np.random.default_rng(1).integers(0, 256, (SAMPLES, 3, 10)).astype(np.uint8)
    assert "softmax of float32" in found.remarks[0]
    assert any(isinstance(op, Softmax) for op in found.program)
    ours = reference.run(found.program, found.encode(x)).values["y"]
    assert np.abs(ours - session(data).run(None, {"a": x})[0].astype(int)).max() <= 1


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8, 12, 16])
def test_qonnx_quant_nodes_of_any_width(bits: int) -> None:
    """No runtime is at hand for these: the definition in real numbers, whose sums are exact here, is the witness."""
    rng = np.random.default_rng(bits)
    weight = rng.normal(0, 0.3, (5, 3, 3, 3)).astype(np.float32)
    quant = {"domain": "qonnx.custom_op.general", "narrow": 1, "rounding_mode": "ROUND"}
    nodes = [
        helper.make_node("Quant", ["x", "sx", "zero", "bits"], ["q"], signed=0, **quant | {"narrow": 0}),
        helper.make_node("Quant", ["w", "sw", "zero", "bits"], ["wq"], signed=1, **quant),
        helper.make_node("Conv", ["q", "wq"], ["c"], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Quant", ["r", "sy", "zero", "bits"], ["y"], signed=0, **quant | {"narrow": 0}),
    ]
    top = 2 ** (bits - 1) - 1
    scales = {"sx": 2.0 ** (1 - bits), "sw": 2.0**-bits, "sy": 2.0 ** (3 - bits)}
    constants = {k: np.float32(v) for k, v in scales.items()} | {"zero": np.float32(0), "bits": np.float32(bits)}
    found = network(model_bytes(nodes, {"x": (3, 5, 5)}, ["y"], constants | {"w": weight}))
    layer = next(op for op in found.program if isinstance(op, Conv))
    assert layer.storage_bits == bits
    x = rng.uniform(-1, 3, (4, 3, 5, 5)).astype(np.float32)
    ours = found.decode(execute(found.program, found.encode(x)).outputs)[0]
    held = np.clip(np.rint(x / scales["sx"]), 0, 2**bits - 1)
    kernel = np.clip(np.rint(weight / scales["sw"]), -top, top)
    padded = np.pad(held, ((0, 0), (0, 0), (1, 1), (1, 1)))
    sums = sum(
        np.einsum("nchw,oc->nohw", padded[:, :, i : i + 5, j : j + 5], kernel[:, :, i, j])
        for i in range(3)
        for j in range(3)
    )
    real = np.maximum(sums * scales["sx"] * scales["sw"], 0)
    np.testing.assert_array_equal(ours, np.clip(np.rint(real / scales["sy"]), 0, 2**bits - 1) * scales["sy"])


def test_dynamic_quantization_is_refused() -> None:
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])]
    with pytest.raises(ValueError, match="scales are computed while it runs"):
        import_onnx_bytes(model_bytes(nodes, {"x": (4,)}, ["q"], {}))


@pytest.mark.parametrize(
    ("constants", "text"),
    [
        ({"sa": np.float32(-1.0)}, "positive number"),
        ({"sa": np.float32(np.nan)}, "positive number"),
        ({"za": np.float32(0)}, "quantizes to float32"),
        ({"sa": np.ones(3, np.float32)}, "one is known"),
    ],
)
def test_bad_grids_are_named(constants: dict[str, Array], text: str) -> None:
    given = {"sa": np.float32(0.1), "za": np.uint8(3)} | constants
    with pytest.raises(ValueError, match=text):
        import_onnx_bytes(model_bytes([n("QuantizeLinear", "x sa za")], {"x": (4,)}, ["y"], given))
