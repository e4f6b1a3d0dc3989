"""Float steps between DequantizeLinear and QuantizeLinear: functions of a code exactly, others within one code."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnx", reason="needs onnx: install accelsim[onnx]")
pytest.importorskip("onnxruntime", reason="needs onnxruntime: install accelsim[oracle]")

from onnx import helper
from onnx_nets import model_bytes, session

from accelsim import reference
from accelsim.program import Conv
from quant.importers.onnx_import import OnnxNetwork, import_onnx_bytes, in_file_order

Array = NDArray[Any]

MAP = (4, 6, 5)
SAMPLES = 8
RNG = np.random.default_rng(0)
V = RNG.normal(0, 0.6, 4).astype(np.float32)
POSITIVE = np.abs(V) + np.float32(0.5)


def n(op: str, inputs: str, output: str = "t", **attrs: Any) -> Any:
    return helper.make_node(op, inputs.split(), output.split(), name=f"n_{output}", **attrs)


def between(nodes: list[Any], constants: dict[str, Array], dtype: type[Any], names: str = "a") -> bytes:
    """Return a model that dequantizes its inputs (a to r, b to q), takes steps to t, and quantizes t."""
    grids = {"sa": np.float32(0.037), "sb": np.float32(0.051), "sy": np.float32(0.043)}
    middle = 128 if dtype == np.uint8 else 0
    grids |= {"za": dtype(middle - 9), "zb": dtype(middle + 13), "zy": dtype(middle + 4)}
    around = [n("DequantizeLinear", f"{x} s{x} z{x}", "r" if x == "a" else "q") for x in names]
    whole = [*around, *nodes, n("QuantizeLinear", "t sy zy", "y")]
    used = {i for node in whole for i in node.input}
    kept = {k: v for k, v in (grids | constants).items() if k in used}
    return model_bytes(whole, dict.fromkeys(names, MAP), ["y"], kept, dtype=2 if dtype == np.uint8 else 3)


def differences(data: bytes, names: str, dtype: type[Any]) -> tuple[OnnxNetwork, Array]:
    """Return the network, and by how many codes every output differs from ONNX Runtime's."""
    found = import_onnx_bytes(data, "net")
    assert isinstance(found, OnnxNetwork)
    limits, rng = np.iinfo(dtype), np.random.default_rng(1)
    feeds = {x: rng.integers(limits.min, limits.max + 1, (SAMPLES, *MAP)).astype(dtype) for x in names}
    theirs = session(data).run(None, feeds)[0].astype(int)
    run = reference.run(found.program, found.encode(*feeds.values())).values
    port = found.outputs[0]
    assert len(np.unique(theirs)) > 4
    return found, in_file_order(run[port.tensor], port.layout) - theirs


PADS = np.array([0, 0, 1, 0, 0, 0, 2, 1])
ONE = {"one": np.float32(1)}

EXACT: dict[str, tuple[list[Any], dict[str, Array], str]] = {
    "softsign": ([n("Abs", "r", "b1"), n("Add", "b1 one", "c"), n("Div", "r c")], ONE, "a"),
    "shrink": ([n("Tanh", "r", "h"), n("Sub", "r h")], {}, "a"),
    "choice": ([n("Greater", "r k", "g"), n("Mul", "r k", "m"), n("Where", "g r m")], {"k": np.float32(0.3)}, "a"),
    "cast of a comparison": (
        [n("Less", "r k", "g"), n("Cast", "g", "f", to=1), n("Mul", "f r")], {"k": np.float32(1)}, "a",
    ),
    "one less": ([n("Sub", "one r", "s"), n("Div", "s k")], ONE | {"k": np.float32(1.7)}, "a"),
    "limits": ([n("Max", "r k", "m"), n("Min", "m one")], ONE | {"k": np.float32(-0.4)}, "a"),
    "steps": (
        [n("Floor", "r", "f"), n("Ceil", "r", "c"), n("Sub", "c f", "d"), n("Sign", "r", "s"), n("Add", "d s", "e"),
         n("Add", "e f")], {}, "a",
    ),
    "square": ([n("Pow", "r k")], {"k": np.float32(2)}, "a"),
    "cube": ([n("Pow", "r k")], {"k": np.float32(3)}, "a"),
    "function of what is moved": ([n("Tanh", "r", "h"), n("Flatten", "h", "f"), n("Abs", "f")], {}, "a"),
    "function of what is padded": (
        [n("Tanh", "r", "h"), n("Pad", "h p", "u"), n("Relu", "u")], {"p": PADS}, "a",
    ),
    "one slope": ([n("PRelu", "r k")], {"k": np.float32([[[0.2]]])}, "a"),
    "thresholded": ([n("ThresholdedRelu", "r", alpha=0.3)], {}, "a"),
    "larger of two": ([n("Max", "r q")], {}, "ab"),
    "smaller of two": ([n("Min", "r q")], {}, "ab"),
    "largest along": ([n("ReduceMax", "r", axes=[1, 3], keepdims=0)], {}, "a"),
    "global max": ([n("GlobalMaxPool", "r")], {}, "a"),
    "nearest": ([helper.make_node("Resize", ["r", "", "k"], ["t"])], {"k": np.float32([1, 1, 2, 1.6])}, "a"),
    "depth to space": ([n("DepthToSpace", "r", blocksize=2)], {}, "a"),
    "space to depth": ([n("Transpose", "r", "u", perm=[0, 3, 2, 1]), n("SpaceToDepth", "u", blocksize=2)], {}, "a"),
    "backwards": ([n("Slice", "r s e x i")],
                  {"s": np.array([-1]), "e": np.array([-99]), "x": np.array([2]), "i": np.array([-1])}, "a"),
    "reflected": ([n("Pad", "r p", mode="reflect")], {"p": np.array([0, 0, 2, 1, 0, 0, 0, 3])}, "a"),
    "padded before it is quantized": ([n("Tanh", "r", "h"), n("Pad", "h p")], {"p": PADS}, "a"),
    "tiled": ([n("Tile", "r k")], {"k": np.array([1, 1, 2, 1])}, "a"),
    "rows by a table of places": ([n("Gather", "r k", axis=2)], {"k": np.array([[0, 2], [-1, 2]])}, "a"),
    "one row": ([n("Gather", "r k", axis=3)], {"k": np.array(2)}, "a"),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("name", EXACT)
def test_functions_of_codes_and_moves_equal_onnx_runtime(name: str, dtype: type[Any]) -> None:
    nodes, constants, names = EXACT[name]
    found, apart = differences(between(nodes, constants, dtype, names), names, dtype)
    assert not found.remarks
    assert not apart.any()


NORMAL = {"w": POSITIVE, "b": V, "m": V[::-1].copy(), "v": POSITIVE}

NEAR: dict[str, tuple[list[Any], dict[str, Array], str]] = {
    "slopes": ([n("PRelu", "r k")], {"k": V.reshape(4, 1, 1)}, "a"),
    "batch norm": ([n("BatchNormalization", "r w b m v")], NORMAL | {"w": V}, "a"),
    "layer norm": (
        [n("LayerNormalization", "r w b")],
        {"w": np.float32([1, -2, 0.5, 3, 1]), "b": np.float32([0, 1, 0, -1, 0])}, "a",
    ),
    "layer norm of maps": ([n("LayerNormalization", "r w", axis=1)], {"w": np.ones(MAP, np.float32)}, "a"),
    "instance norm": ([n("InstanceNormalization", "r w b")], NORMAL, "a"),
    "linear": (
        [helper.make_node("Resize", ["r", "", "k"], ["t"], mode="linear")], {"k": np.float32([1, 1, 2, 1.6])}, "a",
    ),
    "mean of channels": ([n("ReduceMean", "r", axes=[1])], {}, "a"),
    "mean of rows": ([n("ReduceMean", "r", axes=[2], keepdims=0)], {}, "a"),
    "elu": ([n("Elu", "r", alpha=0.4)], {}, "a"),
    "logarithm": ([n("Abs", "r", "b1"), n("Add", "b1 one", "c"), n("Log", "c")], ONE, "a"),
    "mean of a function": ([n("HardSwish", "r", "h"), n("GlobalAveragePool", "h")], {}, "a"),
    "product of functions": ([n("Tanh", "r", "h"), n("Sigmoid", "q", "s"), n("Mul", "h s")], {}, "ab"),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("name", NEAR)
def test_float_steps_are_within_one_code_and_remarked_upon(name: str, dtype: type[Any]) -> None:
    nodes, constants, names = NEAR[name]
    found, apart = differences(between(nodes, constants, dtype, names), names, dtype)
    assert found.remarks
    assert found.outputs[0].tensor in found.inexact
    assert np.abs(apart).max() <= 1
    assert (apart != 0).mean() < 0.02


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions_are_sums_that_are_shuffled(groups: int) -> None:
    rng = np.random.default_rng(3)
    weight = rng.integers(-128, 128, (4, 6 // groups, 3, 4)).astype(np.int8)
    scales = rng.uniform(0.002, 0.01, 6).astype(np.float32) if groups == 1 else np.float32(0.004)
    constants = {
        "k": weight,
        "sk": scales,
        "zk": np.zeros(scales.shape, np.int8),
        "c": rng.normal(0, 1, 6).astype(np.float32),
    }
    nodes = [
        n("DequantizeLinear", "k sk zk", "w", **({"axis": 1} if groups == 1 else {})),
        n("ConvTranspose", "r w c", "z", strides=[2, 3], pads=[1, 0, 0, 2], output_padding=[1, 0], group=groups),
        n("Relu", "z"),
    ]
    found, apart = differences(between(nodes, constants, np.uint8), "a", np.uint8)
    layer = next(op for op in found.program if isinstance(op, Conv))
    assert layer.weight.shape == (36, 2, 2, 4 // groups)
    assert np.abs(apart).max() <= 1
    assert (apart != 0).mean() < 0.002


def test_rows_of_a_quantized_table() -> None:
    rng = np.random.default_rng(4)
    constants = {"k": rng.integers(0, 256, (9, 5)).astype(np.uint8), "s": np.float32(0.02), "z": np.uint8(120)}
    constants |= {"sy": np.float32(0.03), "zy": np.uint8(99)}
    nodes = [n("DequantizeLinear", "k s z", "w"), n("Gather", "w x", "t"), n("QuantizeLinear", "t sy zy", "y")]
    data = model_bytes(nodes, {"x": (3,)}, ["y"], constants, dtype=7)
    found = import_onnx_bytes(data)
    assert isinstance(found, OnnxNetwork)
    x = rng.integers(0, 9, (4, 3))
    run = reference.run(found.program, found.encode(x)).values
    np.testing.assert_array_equal(run[found.outputs[0].tensor], session(data).run(None, {"x": x})[0])


REFUSED = {
    "quotient": ([n("Div", "r q")], {}, "ab", "quantizes what Div 'n_t' gives, which has no integer form"),
    "cubic": (
        [helper.make_node("Resize", ["r", "", "k"], ["t"], mode="cubic")],
        {"k": np.float32([1, 1, 2, 2])}, "a", "resizes by cubic; nearest and linear are known",
    ),
    "padding off the grid": (
        [n("Pad", "r p v")], {"p": PADS, "v": np.float32(0.5)}, "a", "on no code of its grid",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_form_is_refused_in_one_line(name: str) -> None:
    nodes, constants, names, text = REFUSED[name]
    with pytest.raises(ValueError, match=text) as caught:
        import_onnx_bytes(between(nodes, constants, np.uint8, names), "net")
    assert "\n" not in str(caught.value)
