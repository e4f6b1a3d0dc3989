"""Quantized ONNX files of 16-bit activations, with zero points anywhere on the grid, against ONNX Runtime."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("onnx", reason="needs onnx: install accelsim[onnx]")
pytest.importorskip("onnxruntime", reason="needs onnxruntime: install accelsim[oracle]")

from onnx import TensorProto, helper
from onnx_nets import model_bytes, session

from accelsim import reference
from accelsim.execute import execute
from accelsim.program import Requantize, Softmax, Table, Tensor
from quant import oracle
from quant.importers.onnx_import import OnnxNetwork, import_onnx_bytes, in_file_order
from quant.importers.onnx_rescale import is_rescaled, rescaled
from quant.importers.onnx_rules import dequantize, quantize

Array = NDArray[Any]

MAP = (3, 5, 4)
KINDS = {"int8": TensorProto.INT8, "uint16": TensorProto.UINT16, "int16": TensorProto.INT16}
SLOPES = np.float32([-0.7, 0.2, 1.6]).reshape(3, 1, 1)
NORMAL = {
    "w": np.float32([1.2, -0.5, 0.4]), "b": np.float32([0.1, -2, 0.3]), "m": np.float32([0.5, 0, -1]),
    "v": np.float32([0.6, 1, 2]),
}  # fmt: skip


def n(op: str, inputs: list[str], output: str = "t", **attrs: Any) -> Any:
    return helper.make_node(op, inputs, [output], name=f"n_{output}", **attrs)


def resized(sizes: list[float], **attrs: Any) -> tuple[list[Any], dict[str, Array], str]:
    return [n("Resize", ["r", "", "k"], mode="linear", **attrs)], {"k": np.float32(sizes)}, "a"


CASES: dict[str, tuple[list[Any], dict[str, Array], str]] = {
    "linear": resized([1, 1, 2, 1.6]),
    "linear, corners": resized([1, 1, 1.7, 3], coordinate_transformation_mode="align_corners"),
    "linear, smaller": resized([1, 1, 0.5, 1]),
    "sum": ([n("Add", ["r", "q"])], {}, "ab"),
    "difference": ([n("Sub", ["r", "q"])], {}, "ab"),
    "product": ([n("Mul", ["r", "q"])], {}, "ab"),
    "joined": ([n("Concat", ["r", "q"], axis=1)], {}, "ab"),
    "larger": ([n("Max", ["r", "q"])], {}, "ab"),
    "smaller": ([n("Min", ["r", "q"])], {}, "ab"),
    "relu": ([n("Relu", ["r"])], {}, "a"),
    "sigmoid": ([n("Sigmoid", ["r"])], {}, "a"),
    "slopes": ([n("PRelu", ["r", "k"])], {"k": SLOPES}, "a"),
    "batch norm": ([n("BatchNormalization", ["r", *"wbmv"])], NORMAL, "a"),
    "mean": ([n("AveragePool", ["r"], kernel_shape=[2, 3], strides=[1, 1], pads=[0, 1, 1, 0])], {}, "a"),
    "whole mean": ([n("GlobalAveragePool", ["r"])], {}, "a"),
    "mean of channels": ([n("ReduceMean", ["r", "k"])], {"k": np.array([1])}, "a"),
    "flipped": ([n("ReduceMax", ["r", "k"])], {"k": np.array([1])}, "a"),
}  # fmt: skip


def model(name: str, dtype: str, zeros: dict[str, int], span: float) -> bytes:
    """Return a model of one case; every grid spans so much, with its own zero point."""
    nodes, constants, names = CASES[name]
    kind = np.dtype(dtype)
    step = span / (2.0 ** (8 * kind.itemsize) - 1)
    scales = {"a": step, "b": step * 1.3, "y": step * 0.9}
    grids: dict[str, Array] = {f"s{x}": np.array(scale, np.float32) for x, scale in scales.items()}
    grids |= {f"z{x}": np.array(zero, kind) for x, zero in zeros.items()}
    around = [n("DequantizeLinear", [x, f"s{x}", f"z{x}"], "r" if x == "a" else "q") for x in names]
    whole = [*around, *nodes, n("QuantizeLinear", ["t", "sy", "zy"], "y")]
    used = {i for node in whole for i in node.input}
    kept = {k: v for k, v in (grids | constants).items() if k in used}
    return model_bytes(whole, dict.fromkeys(names, MAP), ["y"], kept, dtype=KINDS[dtype], opset=21)


def imported(data: bytes) -> OnnxNetwork:
    found = import_onnx_bytes(data, "net")
    assert isinstance(found, OnnxNetwork)
    return found


def extreme(dtype: str, names: str, seed: int) -> dict[str, Array]:
    """Return samples of all codes, of both ends, and of either."""
    limits, rng = np.iinfo(dtype), np.random.default_rng(seed)
    feeds = {x: rng.integers(limits.min, limits.max + 1, (4, *MAP)) for x in names}
    for array in feeds.values():
        array[0], array[1] = limits.min, limits.max
        array[2] = rng.choice([limits.min, limits.max], MAP)
    return {x: array.astype(dtype) for x, array in feeds.items()}


def zero_points(dtype: str) -> Any:
    limits = np.iinfo(dtype)
    return st.sampled_from([limits.min, limits.max]) | st.integers(limits.min, limits.max)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", KINDS)
@settings(max_examples=3, deadline=None)
@given(data=st.data(), span=st.sampled_from([0.3, 4.0, 50.0]), seed=st.integers(0, 99))
def test_codes_of_any_zero_point_are_within_one_of_onnx_runtime(
    name: str, dtype: str, data: Any, span: float, seed: int
) -> None:
    zeros = {x: data.draw(zero_points(dtype)) for x in "aby"}
    file = model(name, dtype, zeros, span)
    found, feeds = imported(file), extreme(dtype, CASES[name][2], seed)
    theirs = session(file).run(None, feeds)[0].astype(np.int64)
    codes = found.encode(*feeds.values())
    port = found.outputs[0]
    ours = reference.run(found.program, codes).values[port.tensor]
    apart = np.abs(in_file_order(ours, port.layout) - theirs)
    assert apart.max() <= 1
    assert port.tensor in found.inexact or not apart.any()
    every = {op.output for op in found.program.ops}
    fast = execute(found.program, codes, keep=every).outputs[port.tensor]
    torch = oracle.run(found.program, codes, keep=every).values[port.tensor]
    np.testing.assert_array_equal(fast, ours)
    np.testing.assert_array_equal(torch, ours)


# --- requantizations in place of tables ------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    ratio=st.floats(2.0**-9, 2.0**-7),
    scale=st.sampled_from([2.0**-16, 1e-4, 0.0371]),
    zero=zero_points("uint16"),
    zero_out=st.integers(0, 255),
)
def test_a_requantization_to_8_bits_equals_the_table_but_near_ties(
    ratio: float, scale: float, zero: int, zero_out: int
) -> None:
    tensor = Tensor(name="x", shape=(1,), bits=16, signed=False, low=0, high=2**16 - 1)
    scale, out = float(np.float32(scale)), float(np.float32(scale / ratio))
    entries = quantize(dequantize(np.arange(2**16), scale, zero), out, zero_out, 0, 255)
    found = rescaled(tensor, (zero, zero_out), scale / out, (0, 255))
    assert np.abs(found - entries).max() <= 1
    assert (found != entries).mean() < 0.001


def softmax_model(dtype: str) -> bytes:
    kind = np.dtype(dtype)
    bits = 8 * kind.itemsize
    low = np.iinfo(kind).min
    constants = {"sa": np.float32(8 / 2**bits), "za": np.array(low + 2 ** (bits - 1) + 3, kind)}
    constants |= {"sy": np.float32(2.0**-bits), "zy": np.array(low, kind)}
    nodes = [
        n("DequantizeLinear", ["a", "sa", "za"], "r"),
        n("Softmax", ["r"]),
        n("QuantizeLinear", ["t", "sy", "zy"], "y"),
    ]
    return model_bytes(nodes, {"a": MAP}, ["y"], constants, dtype=KINDS[dtype], opset=21)


@pytest.mark.parametrize("dtype", KINDS)
def test_a_softmax_ends_in_no_table(dtype: str) -> None:
    file, feeds = softmax_model(dtype), extreme(dtype, "a", 7)
    found = imported(file)
    assert not any(isinstance(op, Table) for op in found.program.ops)
    assert any(isinstance(op, Softmax) for op in found.program.ops)
    port = found.outputs[0]
    ours = reference.run(found.program, found.encode(*feeds.values())).values[port.tensor]
    theirs = session(file).run(None, feeds)[0].astype(np.int64)
    apart = np.abs(in_file_order(ours, port.layout) - theirs)
    assert port.tensor in found.inexact
    assert apart.max() <= 1


@pytest.mark.parametrize("name", ["relu", "joined", "larger", "smaller"])
def test_clips_and_other_grids_of_wide_codes_are_no_tables(name: str) -> None:
    found = imported(model(name, "int16", {"a": 5, "b": -900, "y": -32768}, 4.0))
    kinds = [type(op) for op in found.program.ops]
    assert Table not in kinds
    assert Requantize in kinds


def test_a_function_of_wide_codes_is_a_table() -> None:
    found = imported(model("sigmoid", "uint16", {"a": 32768, "b": 0, "y": 0}, 9.0))
    table = next(op for op in found.program.ops if isinstance(op, Table))
    assert not is_rescaled(table.entries, np.clip(table.entries + 2, 0, 65535))
    assert table.entries.size == 65536


def test_what_joins_tables_and_clips_of_one_tensor_is_one_function() -> None:
    """x / (1 + relu(x)) with the relu quantized in between, which is a requantization by then."""
    constants = {"sa": np.float32(1e-4), "za": np.int16(100), "one": np.float32(1), "sy": np.float32(1e-4)}
    constants |= {"zy": np.int16(-7)}
    nodes = [
        n("DequantizeLinear", ["a", "sa", "za"], "r"), n("Relu", ["r"], "p"),
        n("QuantizeLinear", ["p", "sa", "za"], "c"),
        n("DequantizeLinear", ["c", "sa", "za"], "d"), n("Add", ["d", "one"], "e"), n("Div", ["r", "e"]),
        n("QuantizeLinear", ["t", "sy", "zy"], "y"),
    ]  # fmt: skip
    file = model_bytes(nodes, {"a": MAP}, ["y"], constants, dtype=TensorProto.INT16, opset=21)
    found, feeds = imported(file), extreme("int16", "a", 3)
    port = found.outputs[0]
    ours = reference.run(found.program, found.encode(*feeds.values())).values[port.tensor]
    theirs = session(file).run(None, feeds)[0].astype(np.int64)
    np.testing.assert_array_equal(in_file_order(ours, port.layout), theirs)
