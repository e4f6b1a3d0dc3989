"""Broken and hostile ONNX files: one clear line, bounded memory and time, nothing executed, nothing read elsewhere."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs onnx: install accelsim[onnx]")

import onnx
from onnx import TensorProto, helper
from onnx_nets import float_cnn, model_bytes

from quant.importers.onnx_import import import_onnx, import_onnx_bytes
from quant.importers.onnx_model import read_onnx

MEMORY_BYTES = 64 * 2**20


def refused(data: bytes, text: str = ".") -> str:
    """Import bytes that must be refused in one line and little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=text) as caught:
            import_onnx_bytes(data, "bad.onnx")
        assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 2000
    return message


def node(op: str, inputs: str, output: str, **attrs: Any) -> Any:
    return helper.make_node(op, inputs.split(), [output], **attrs)


def changed(change: Any) -> bytes:
    """Return a small sound model after a change to its protocol buffer."""
    weight = {"w": np.ones((2, 3), np.float32)}
    model = onnx.ModelProto.FromString(model_bytes([node("MatMul", "x w", "y")], {"x": (2,)}, ["y"], weight))
    change(model)
    return bytes(model.SerializeToString())


def test_files_that_are_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        import_onnx(tmp_path / "absent.onnx")
    with pytest.raises(ValueError, match="no such file"):
        import_onnx(tmp_path)
    for data in (b"", b"\x00" * 100, b"PK\x03\x04" + b"a" * 50, b"\x80\x04\x95pickle"):
        refused(data)


def test_every_truncation_is_refused_or_read_whole() -> None:
    data = float_cnn(1, "mobile")
    for cut in np.linspace(1, len(data) - 1, 60).astype(int):
        refused(data[:cut])


def test_200_fuzzed_mutations_are_read_or_refused_in_one_line() -> None:
    rng = np.random.default_rng(0)
    sources = [float_cnn(1, "residual", channels=2, size=6), float_cnn(1, "dense", channels=2, size=6)]
    outcomes: list[bool | None] = []
    tracemalloc.start()
    for trial in range(200):
        data = bytearray(sources[trial % 2])
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            data[place] = rng.integers(0, 256)
        if trial % 4 == 3:
            start = int(rng.integers(0, len(data)))
            data[start : start + int(rng.integers(1, 40))] = rng.bytes(int(rng.integers(0, 40)))
        try:
            import_onnx_bytes(bytes(data), "fuzzed.onnx")
            outcomes.append(None)
        except ValueError as error:
            outcomes.append("\n" in str(error))
    assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES
    tracemalloc.stop()
    assert True not in outcomes  # errors are of one line
    assert False in outcomes


def test_claims_of_two_gigabytes_in_a_small_file() -> None:
    def huge(model: Any) -> None:
        model.graph.initializer[0].dims[:] = [2**14, 2**15]

    def beyond(model: Any) -> None:
        model.graph.initializer[0].dims[:] = [2**40, 2**40]

    def negative(model: Any) -> None:
        model.graph.initializer[0].dims[:] = [-1, 3]

    refused(changed(huge), "claims 2147483648 bytes and holds 24")
    refused(changed(beyond), "claims .* elements")
    refused(changed(negative), "has shape")


def test_computed_constants_are_bounded() -> None:
    for op, constants in (
        ("ConstantOfShape", {"s": np.array([2**20, 2**20])}),
        ("Expand", {"s": np.array([2**20, 2**20]), "v": np.float32(1)}),
    ):
        inputs = "s" if op == "ConstantOfShape" else "v s"
        nodes = [node(op, inputs, "c"), node("Add", "x c", "y")]
        refused(model_bytes(nodes, {"x": (2,)}, ["y"], constants), "out of bounds")
    nodes = [node("Range", "a b c", "r"), node("Add", "x r", "y")]
    constants = {"a": np.array(0), "b": np.array(2**60), "c": np.array(1)}
    refused(model_bytes(nodes, {"x": (2,)}, ["y"], constants), "out of bounds")


def test_computed_constants_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quant.importers.onnx_walk.MAX_WORKED_OUT_BYTES", 2**20)
    weight = {"w": np.ones((2, 3), np.float32), "d0": np.ones(1024, np.float32)}
    grown = [node("Concat", f"d{i} d{i}", f"d{i + 1}", axis=0) for i in range(20)]
    text = refused(model_bytes([*grown, node("MatMul", "x w", "y")], {"x": (2,)}, ["y"], weight), "worked out to")
    assert "1040384 bytes" not in text  # seven doublings of 4096 bytes fit
    seven = model_bytes([*grown[:7], node("MatMul", "x w", "y")], {"x": (2,)}, ["y"], weight)
    assert import_onnx_bytes(seven, "good.onnx").outputs


def test_absurd_shapes() -> None:
    refused(model_bytes([node("Relu", "x", "y")], {"x": (2**20, 2**20)}, ["y"], {}), "elements")
    refused(model_bytes([node("Relu", "x", "y")], {"x": (0, 3)}, ["y"], {}), "elements are read")
    pads = np.array([0, 0, 0, 2**40])
    refused(model_bytes([node("Pad", "x p", "y")], {"x": (3,)}, ["y"], {"p": pads}))
    refused(model_bytes([node("Relu", "x", "y")], {"x": ("height", 3)}, ["y"], {}), "only the batch may be open")


def test_broken_structure() -> None:
    def twice(model: Any) -> None:
        model.graph.node.append(model.graph.node[0])

    def no_output(model: Any) -> None:
        model.graph.output[0].name = "nowhere"

    def unknown_type(model: Any) -> None:
        model.graph.initializer[0].data_type = 77

    refused(changed(twice), "written twice")
    refused(changed(no_output), "no operator gives the output")
    refused(changed(unknown_type), "type 77")
    refused(model_bytes([node("Add", "x ghost", "y")], {"x": (2,)}, ["y"], {}), "which nothing gives")


def test_cycles_are_found_and_disorder_is_not_one() -> None:
    cycle = [node("Add", "x b", "a"), node("Relu", "a", "b"), node("Relu", "b", "y")]
    refused(model_bytes(cycle, {"x": (2,)}, ["y"], {}), "in a cycle")
    backwards = [node("Relu", "a", "y"), node("Tanh", "x", "a")]
    model = read_onnx(model_bytes(backwards, {"x": (2,)}, ["y"], {}))
    assert [item.op for item in model.nodes] == ["Tanh", "Relu"]


def test_subgraphs_are_refused() -> None:
    inner = helper.make_graph([node("Relu", "x", "z")], "inner", [], [helper.make_empty_tensor_value_info("z")])
    refused(model_bytes([node("If", "x", "y", then_branch=inner)], {"x": (2,)}, ["y"], {}), "sub-graph")


def outside(location: str, **entries: str) -> bytes:
    def change(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            item = tensor.external_data.add()
            item.key, item.value = key, value

    return changed(change)


@pytest.mark.parametrize(
    "location", ["../secret.bin", "/etc/passwd", "a/../../secret.bin", "link.bin", "..\\secret.bin", "", "a\0b"]
)
def test_data_outside_the_folder_is_never_read(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(np.ones(6, np.float32).tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "net.onnx").write_bytes(outside(location))
    with pytest.raises(ValueError, match="outside the model's folder"):
        import_onnx(folder / "net.onnx")


def test_data_beside_the_model_is_read_and_held_against_its_claims(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"1234" + np.full(6, 2, np.float32).tobytes())
    (tmp_path / "net.onnx").write_bytes(outside("w.bin", offset="4", length="24"))
    graph = import_onnx(tmp_path / "net.onnx")
    np.testing.assert_array_equal(graph.nodes[0].params["weight"], np.full((3, 2), 2))  # type: ignore[union-attr]
    for entries in ({"offset": "8"}, {"length": "999999999999"}, {"offset": "-4"}, {"offset": "x"}):
        (tmp_path / "net.onnx").write_bytes(outside("w.bin", **entries))
        with pytest.raises(ValueError, match=r"w\.bin|offset"):
            import_onnx(tmp_path / "net.onnx")
    refused(outside("w.bin"), "lies in another file")


def test_four_bit_weights_are_unpacked() -> None:
    values = np.array([[-8, 7, 3], [0, -1, 5]], np.int8)
    packed = helper.make_tensor("w", TensorProto.INT4, [2, 3], values.ravel().tolist())

    def change(model: Any) -> None:
        del model.graph.initializer[:]
        model.graph.initializer.append(packed)

    model = read_onnx(changed(change))
    np.testing.assert_array_equal(model.constants["w"], values)
    assert model.widths == {"w": 4}
