"""Float ONNX files as graphs: the same real numbers as ONNX Runtime's, and errors that name what is missing."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnx", reason="needs onnx: install accelsim[onnx]")
pytest.importorskip("onnxruntime", reason="needs onnxruntime: install accelsim[oracle]")

from onnx import helper
from onnx_nets import float_cnn, model_bytes, session

from quant.graph import Graph
from quant.importers.onnx_import import import_onnx_bytes
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from quant.run import predict

Array = NDArray[Any]


def graph_of(data: bytes) -> Graph:
    found = import_onnx_bytes(data, "net")
    assert isinstance(found, Graph)
    return found


def assert_same_function(data: bytes, x: Array, tol: float = 2e-5) -> None:
    run = session(data)
    theirs = run.run(None, {run.get_inputs()[0].name: x})[0]
    ours = predict(graph_of(data), x)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=tol, atol=tol)


@pytest.mark.parametrize("kind", ["residual", "mobile", "dense"])
def test_networks_compute_what_onnx_runtime_computes(kind: str) -> None:
    x = np.random.default_rng(1).normal(0, 1, (3, 3, 10, 10)).astype(np.float32)
    assert_same_function(float_cnn(2, kind), x)


MAP = (4, 6, 6)
W = np.random.default_rng(7).normal(0, 0.5, (4, 4, 3, 3)).astype(np.float32)
V = np.random.default_rng(8).normal(0, 0.5, 4).astype(np.float32)
POSITIVE = np.abs(V) + np.float32(0.5)


def n(op: str, inputs: str = "x", outputs: str = "y", **attrs: Any) -> Any:
    return helper.make_node(op, inputs.split(), outputs.split(), **attrs)


ONE_OP: dict[str, tuple[list[Any], dict[str, Array]]] = {
    "conv same": ([n("Conv", "x w", auto_pad="SAME_UPPER", strides=[2, 2])], {"w": W}),
    "conv lower": ([n("Conv", "x w", auto_pad="SAME_LOWER", strides=[2, 2])], {"w": W[:, :, :2, :2]}),
    "conv dilated": ([n("Conv", "x w b", dilations=[2, 2], pads=[2, 1, 0, 2])], {"w": W, "b": V}),
    "conv grouped": ([n("Conv", "x w", group=4, pads=[1] * 4)], {"w": W[:, :1]}),
    "batch norm": ([n("BatchNormalization", "x s b m v", epsilon=1e-3)], {"s": V, "b": V, "m": V, "v": POSITIVE}),
    "leaky": ([n("LeakyRelu", alpha=0.2)], {}),
    "prelu": ([n("PRelu", "x w")], {"w": V.reshape(4, 1, 1)}),
    "clip": ([n("Clip", "x lo hi")], {"lo": np.float32(-0.5), "hi": np.float32(1.5)}),
    "relu6": ([n("Clip", "x lo hi")], {"lo": np.float32(0), "hi": np.float32(6)}),
    "sigmoid": ([n("Sigmoid")], {}),
    "tanh": ([n("Tanh")], {}),
    "hard swish": ([n("HardSwish")], {}),
    "hard sigmoid": ([n("HardSigmoid", alpha=0.3, beta=0.4)], {}),
    "hard sigmoid of torch": ([n("HardSigmoid", alpha=1 / 6)], {}),
    "erf": ([n("Erf")], {}),
    "elu": ([n("Elu", alpha=0.7)], {}),
    "add of channels": ([n("Add", "x w")], {"w": V.reshape(4, 1, 1)}),
    "add of a map": ([n("Add", "x w")], {"w": np.random.default_rng(1).normal(0, 1, MAP).astype(np.float32)}),
    "constant less x": ([n("Sub", "w x")], {"w": V.reshape(1, 4, 1, 1)}),
    "mul": ([n("Mul", "x w")], {"w": np.float32(0.3)}),
    "div": ([n("Div", "x w")], {"w": POSITIVE.reshape(4, 1, 1)}),
    "div of tensors": ([n("Exp", "x", "e"), n("Div", "x e")], {}),
    "sum": ([n("Relu", "x", "r"), n("Sum", "x r x")], {}),
    "concat": ([n("Relu", "x", "r"), n("Concat", "x r x", axis=-3)], {}),
    "max pool": ([n("MaxPool", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1])], {}),
    "max pool, ceiling": ([n("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)], {}),
    "average pool": ([n("AveragePool", kernel_shape=[3, 3], pads=[1] * 4)], {}),
    "average pool, padding counted": ([n("AveragePool", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)], {}),
    "global average": ([n("GlobalAveragePool")], {}),
    "mean": ([n("ReduceMean", axes=[2, 3], keepdims=0)], {}),
    "flatten": ([n("Flatten")], {}),
    "reshape": ([n("Reshape", "x s")], {"s": np.array([0, 2, -1])}),
    "shape computed": (
        [
            n("Shape", "x", "s"),
            n("Gather", "s zero", "b"),
            n("Unsqueeze", "b zeros", "u"),
            n("Concat", "u rest", "t", axis=0),
            n("Reshape", "x t"),
        ],
        {"zero": np.array(0), "zeros": np.array([0]), "rest": np.array([-1])},
    ),
    "transpose": ([n("Transpose", perm=[0, 2, 3, 1])], {}),
    "squeeze": ([n("GlobalAveragePool", "x", "g"), n("Squeeze", "g a")], {"a": np.array([2, 3])}),
    "unsqueeze": ([n("Unsqueeze", "x a")], {"a": np.array([1])}),
    "pad": ([n("Pad", "x p v")], {"p": np.array([0, 1, 0, 2, 0, 0, 1, 1]), "v": np.float32(0.5)}),
    "softmax": ([n("Softmax", axis=1)], {}),
    "layer norm": (
        [n("LayerNormalization", "x s b", epsilon=1e-4)], {"s": np.ones(6, np.float32), "b": np.zeros(6, np.float32)},
    ),
    "slice": (
        [n("Slice", "x s e a t")],
        {"s": np.array([1, -5]), "e": np.array([9, -1]), "a": np.array([1, 3]), "t": np.array([1, 2])},
    ),
    "split": ([n("Split", "x", "p q", axis=1), n("Sub", "p q")], {}),
    "matmul": ([n("MatMul", "x w")], {"w": np.random.default_rng(5).normal(0, 1, (6, 5)).astype(np.float32)}),
    "matmul of tensors": ([n("Transpose", "x", "t", perm=[0, 1, 3, 2]), n("MatMul", "x t")], {}),
    "gather": ([n("Gather", "x i", axis=1)], {"i": np.array([2, 0, -1, 2])}),
    "gather one": ([n("Gather", "x i", axis=2)], {"i": np.array(3)}),
    "power": ([n("Pow", "x e")], {"e": np.float32(2)}),
    "transposed conv": (
        [n("ConvTranspose", "x w b", strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 0])], {"w": W, "b": V},
    ),
    "transposed conv, groups": (
        [n("ConvTranspose", "x w", strides=[3, 1], group=2, dilations=[1, 2], pads=[2, 0, 0, 1])], {"w": W[:, :2]},
    ),
    "transposed conv, same": ([n("ConvTranspose", "x w", strides=[2, 2], auto_pad="SAME_UPPER")], {"w": W}),
    "depth to space": ([n("DepthToSpace", blocksize=2)], {}),
    "depth to space, columns first": ([n("DepthToSpace", blocksize=2, mode="CRD")], {}),
    "space to depth": ([n("SpaceToDepth", blocksize=3)], {}),
    "instance norm": ([n("InstanceNormalization", "x w b")], {"w": POSITIVE, "b": V}),
    "largest of three": ([n("Neg", "x", "m"), n("Max", "x m w")], {"w": np.float32(0.3)}),
    "smallest": ([n("Neg", "x", "m"), n("Min", "x m")], {}),
    "largest along": ([n("ReduceMax", axes=[1, 3], keepdims=0)], {}),
    "smallest along": ([n("ReduceMin", axes=[2])], {}),
    "sum along": ([n("ReduceSum", "x a", keepdims=0)], {"a": np.array([2, 3])}),
    "length": ([n("ReduceL2", axes=[1])], {}),
    "global max": ([n("GlobalMaxPool")], {}),
    "log softmax": ([n("LogSoftmax", axis=1)], {}),
    "celu": ([n("Celu", alpha=0.6)], {}),
    "selu": ([n("Selu")], {}),
    "thresholded": ([n("ThresholdedRelu", alpha=0.4)], {}),
    "sine": ([n("Sin", "x", "s"), n("Cos", "s")], {}),
    "tile": ([n("Tile", "x r")], {"r": np.array([1, 2, 1, 3])}),
    "expand": ([n("GlobalAveragePool", "x", "g"), n("Expand", "g s")], {"s": np.array([1, 4, 2, 3])}),
    "odd power": ([n("Pow", "x e")], {"e": np.float32(3)}),
    "pad by reflection": ([n("Pad", "x p", mode="reflect")], {"p": np.array([0, 0, 2, 1, 0, 0, 1, 3])}),
    "pad by the edge": ([n("Pad", "x p", mode="edge")], {"p": np.array([0, 0, 2, 1, 0, 0, 1, 3])}),
    "dropout": ([n("Dropout", "x", "d"), n("Identity", "d")], {}),
    "weights worked out": (
        [n("Transpose", "w", "t", perm=[1, 0]), n("MatMul", "x t")], {"w": np.ones((5, 6), np.float32)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE_OP)
def test_operators_compute_what_onnx_runtime_computes(name: str) -> None:
    nodes, constants = ONE_OP[name]
    x = np.random.default_rng(3).normal(0, 2, (2, *MAP)).astype(np.float32)
    assert_same_function(model_bytes(nodes, {"x": MAP}, ["y"], constants), x, 1e-4)


RESIZED: list[tuple[str, str, dict[str, Any]]] = [
    ("nearest", "asymmetric", {"nearest_mode": "floor"}),
    ("nearest", "half_pixel", {}),
    ("nearest", "align_corners", {"nearest_mode": "round_prefer_ceil"}),
    ("nearest", "asymmetric", {"nearest_mode": "ceil"}),
    ("linear", "half_pixel", {}),
    ("linear", "align_corners", {}),
    ("linear", "pytorch_half_pixel", {}),
    ("linear", "asymmetric", {}),
    ("cubic", "half_pixel", {}),
    ("cubic", "align_corners", {"cubic_coeff_a": -0.5}),
]


@pytest.mark.parametrize(("mode", "way", "attrs"), RESIZED)
def test_resizing_reads_where_onnx_runtime_reads(mode: str, way: str, attrs: dict[str, Any]) -> None:
    x = np.random.default_rng(3).normal(0, 2, (2, *MAP)).astype(np.float32)
    attrs = {"mode": mode, "coordinate_transformation_mode": way} | attrs
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], **attrs)
    data = model_bytes([node], {"x": MAP}, ["y"], {"scales": np.float32([1, 1, 2, 1.5])})
    assert_same_function(data, x, 1e-4)
    nodes = [  # to sizes, the batch being the input's
        n("Shape", "x", "whole"),
        n("Slice", "whole zero one", "batch"),
        n("Concat", "batch rest", "sizes", axis=0),
        helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **attrs),
    ]
    constants = {"zero": np.array([0]), "one": np.array([1]), "rest": np.array([4, 11, 4])}
    assert_same_function(model_bytes(nodes, {"x": MAP}, ["y"], constants), x, 1e-4)


def test_gelu_and_1d_convolutions() -> None:
    w = np.random.default_rng(0).normal(0, 1, (5, 4, 3)).astype(np.float32)
    nodes = [n("Conv", "x w", "c", strides=[2], pads=[1, 2]), n("Gelu", "c", approximate="tanh")]
    x = np.random.default_rng(3).normal(0, 2, (2, 4, 9)).astype(np.float32)
    assert_same_function(model_bytes(nodes, {"x": (4, 9)}, ["y"], {"w": w}, opset=20), x)


def test_embeddings_take_indices() -> None:
    table = np.random.default_rng(0).normal(0, 1, (11, 4)).astype(np.float32)
    data = model_bytes([n("Gather", "t x")], {"x": (3,)}, ["y"], {"t": table}, dtype=7)
    graph = graph_of(data)
    assert graph.inputs[0].kind == "index"
    index = np.random.default_rng(1).integers(0, 11, (2, 3))
    np.testing.assert_array_equal(predict(graph, index), table[index])


def test_operators_without_a_form_are_listed_all_at_once() -> None:
    nodes = [n("Det", "x", "a"), n("LRN", "a", "b", size=3), n("Det", "b", "c"), n("Relu", "c")]
    with pytest.raises(ValueError, match=r"no float form for Det \(2\), LRN \(1\); known are"):
        import_onnx_bytes(model_bytes(nodes, {"x": MAP}, ["y"], {}))


@pytest.mark.parametrize(
    ("nodes", "constants", "text"),
    [
        ([n("Transpose", perm=[1, 0, 2, 3])], {}, "the batch among them"),
        ([n("Reshape", "x s")], {"s": np.array([-1, 6])}, "mixes the batch"),
        ([n("Concat", "x x", axis=0)], {}, "batch axis"),
        ([n("Conv", "x w")], {"w": np.ones((2, 4, 9, 9), np.float32)}, "window must fit"),
        ([n("Conv", "x w")], {"w": np.ones((2, 3, 1, 1), np.float32)}, "must have 3 channels"),
        ([n("Relu", "x", "y"), n("Conv", "y w", "z")], {"w": np.full((2, 4, 1, 1), np.nan, np.float32)}, "finite"),
        ([n("MaxPool", "x", "y i", kernel_shape=[2, 2])], {}, "indices of maxima"),
    ],
)
def test_errors_say_what_does_not_fit(nodes: list[Any], constants: dict[str, Array], text: str) -> None:
    last = nodes[-1].output[0]
    with pytest.raises(ValueError, match=text) as caught:
        import_onnx_bytes(model_bytes(nodes, {"x": MAP}, [last], constants))
    assert "\n" not in str(caught.value)


def test_an_imported_network_is_quantized_like_a_captured_one() -> None:
    x = np.random.default_rng(1).normal(0, 1, (16, 3, 10, 10)).astype(np.float32)
    graph = graph_of(float_cnn(2, "residual"))
    found = quantize_network(graph, lambda: [x], Recipe())
    assert [layer.name for layer in found.layers][:2] == ["c1", "c2"]
