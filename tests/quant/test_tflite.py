"""TensorFlow Lite files as Programs: three executors agree, and the codes stand for what the operators mean."""

import math

import numpy as np
import pytest
import torch
from tflite_cases import CASES, case_file
from tflite_cases import READ as CASES_READ
from tflite_files import O, T, tflite
from tflite_more_networks import MORE_NETWORKS
from torch.nn import functional as F

from accelsim import load_accelerator, load_program, reference, save_program, simulate
from accelsim.execute import execute
from accelsim.program import Conv, Program
from quant import oracle
from quant.importers.tflite import TfliteNetwork, import_tflite, import_tflite_bytes
from quant.importers.tflite_kernels import KERNELS
from quant.importers.tflite_ops import OPERATORS
from quant.importers.tflite_schema import OPERATORS as READ
from quant.importers.tflite_schema import operator_name
from quant.importers.tflite_shapes import FOLDS
from quant.importers.tflite_softmax import fixed_exponentials, float_exponentials

CONV = {"padding": 0, "stride_h": 1, "stride_w": 1, "activation": 0, "dilation_h": 1, "dilation_w": 1}


def random_codes(program: Program, seed: int, batch: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    tensors = {name: program.tensors[name] for name in program.inputs}
    return {n: rng.integers(t.low, t.high, (batch, *t.shape), endpoint=True) for n, t in tensors.items()}


def test_what_is_read_is_converted() -> None:
    assert {name for name, _, _ in READ.values()} == set(OPERATORS) | set(FOLDS)
    assert all(operator_name(code).lower() == entry[0] for code, entry in READ.items())


@pytest.mark.parametrize(("name", "kernels"), CASES_READ)
def test_both_executors_and_the_oracle_agree(name: str, kernels: str) -> None:
    for seed in range(2):
        program = import_tflite_bytes(case_file(name, seed), name, kernels).program
        codes = random_codes(program, seed)
        slow = reference.run(program, codes).values
        fast = execute(program, codes, keep=program.tensors).outputs
        theirs = oracle.run(program, codes, keep=set(program.tensors)).values
        for tensor in program.tensors:
            np.testing.assert_array_equal(slow[tensor], fast[tensor], err_msg=tensor)
            np.testing.assert_array_equal(slow[tensor], theirs[tensor], err_msg=tensor)


@pytest.mark.parametrize("kernels", ["xnnpack", "builtin"])
@pytest.mark.parametrize("name", MORE_NETWORKS)
def test_executors_agree_on_networks(name: str, kernels: str) -> None:
    program = import_tflite_bytes(MORE_NETWORKS[name](np.random.default_rng(5), "int8"), name, kernels).program
    codes = random_codes(program, 5)
    slow, fast = reference.run(program, codes).values, execute(program, codes, keep=program.tensors).outputs
    theirs = oracle.run(program, codes, keep=set(program.tensors)).values
    for tensor in program.tensors:
        np.testing.assert_array_equal(slow[tensor], fast[tensor], err_msg=tensor)
        np.testing.assert_array_equal(slow[tensor], theirs[tensor], err_msg=tensor)


# --- the codes stand for what the operator means ---------------------------------------------------------------------


def real(tensor: T, codes: np.ndarray | None = None) -> torch.Tensor:
    """Return the real values of codes, or of a constant, in float64."""
    values = np.asarray(tensor.data if codes is None else codes, dtype=np.float64)
    scales = np.asarray(tensor.scale, dtype=np.float32).astype(np.float64)
    if scales.size > 1:
        scales = scales.reshape([-1 if i == tensor.axis else 1 for i in range(values.ndim)])
    return torch.from_numpy((values - np.asarray(tensor.zero, dtype=np.float64)) * scales)


def same_padding(x: torch.Tensor, op: O, kernel: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return (left, right, top, bottom): Keras' SAME."""
    pads = []
    for axis, side in ((2, "w"), (1, "h")):
        reach = (kernel[axis - 1] - 1) * op.options.get(f"dilation_{side}", 1) + 1
        stride = op.options[f"stride_{side}"]
        total = max((math.ceil(x.shape[axis] / stride) - 1) * stride + reach - x.shape[axis], 0)
        pads += [total // 2, total - total // 2]
    return tuple(pads) if op.options["padding"] == 0 else (0, 0, 0, 0)


def convolve(x: torch.Tensor, w: T, bias: torch.Tensor, op: O) -> torch.Tensor:
    """Add a convolution up tap by tap; depthwise weights ``[1, kh, kw, out]`` meet repeated channels."""
    weight, depthwise = real(w), op.kind == "depthwise_conv_2d"
    kernel = (int(weight.shape[1]), int(weight.shape[2]))
    left, right, top, bottom = same_padding(x, op, kernel)
    padded = F.pad(x, (0, 0, left, right, top, bottom))
    stride, dilation = ((op.options[f"{n}_h"], op.options[f"{n}_w"]) for n in ("stride", "dilation"))
    rows, columns = (
        (padded.shape[1 + a] - dilation[a] * (kernel[a] - 1) - 1) // stride[a] + 1 for a in (0, 1)
    )  # fmt: skip
    total = bias.expand(x.shape[0], rows, columns, -1).clone()
    for i, j in np.ndindex(*kernel):
        down, right_of = i * dilation[0], j * dilation[1]
        seen = padded[:, down : down + stride[0] * (rows - 1) + 1 : stride[0]]
        seen = seen[:, :, right_of : right_of + stride[1] * (columns - 1) + 1 : stride[1]]
        if depthwise:
            total += seen.repeat_interleave(weight.shape[3] // x.shape[3], dim=3) * weight[0, i, j]
        else:
            total += torch.from_numpy(seen.numpy() @ weight[:, i, j].numpy().T)
    return total


def average(x: torch.Tensor, op: O) -> torch.Tensor:
    kernel, stride = ((op.options[f"{n}_h"], op.options[f"{n}_w"]) for n in ("filter", "stride"))
    pads = same_padding(x, op, kernel)
    maps = [F.pad(v.permute(0, 3, 1, 2), pads) for v in (x, torch.ones_like(x))]
    sums = [F.avg_pool2d(v, kernel, stride) for v in maps]
    return (sums[0] / sums[1]).permute(0, 2, 3, 1)


def expected(tensors: list[T], op: O, codes: list[np.ndarray]) -> torch.Tensor:
    """Return what an operator means, on real numbers."""
    operands = [real(tensors[i], code) for i, code in zip(op.inputs, codes, strict=False)]
    x = operands[0]
    if op.kind in ("conv_2d", "depthwise_conv_2d"):
        y = convolve(x, tensors[op.inputs[1]], real(tensors[op.inputs[2]]), op)
    elif op.kind == "fully_connected":
        bias = real(tensors[op.inputs[2]]) if len(op.inputs) > 2 else 0.0
        y = x @ real(tensors[op.inputs[1]]).T + bias
    elif op.kind in ("add", "sub"):
        y = operands[0] + operands[1] if op.kind == "add" else operands[0] - operands[1]
    elif op.kind == "average_pool_2d":
        y = average(x, op)
    elif op.kind == "mean":
        y = x.mean(dim=(1, 2), keepdim=op.options["keep_dims"])
    elif op.kind == "softmax":
        y = torch.softmax(op.options["beta"] * x, dim=-1)
    elif op.kind == "concatenation":
        y = torch.cat(operands, dim=op.options["axis"])
    else:
        y = x
    low, high = {1: (0, np.inf), 2: (-1, 1), 3: (0, 6)}.get(op.options.get("activation", 0), (-np.inf, np.inf))
    return y.clamp(low, high)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    "name",
    ["conv_2d", "depthwise_conv_2d", "fully_connected", "add", "sub", "average_pool_2d", "mean", "softmax", "quantize",
     "concatenation"],
)  # fmt: skip
def test_codes_are_within_one_of_the_real_result(name: str, kernels: str) -> None:
    for seed in range(4):
        tensors, (op,), inputs, outputs = CASES[name](np.random.default_rng(seed))
        network = import_tflite_bytes(case_file(name, seed), name, kernels)
        codes = random_codes(network.program, seed)
        y = tensors[outputs[0]]
        exact = expected(list(tensors), op, [codes[port.tensor] for port in network.inputs])
        grid = (exact / float(np.float32(y.scale).item()) + y.zero).numpy()
        low, high = (-128, 127) if y.dtype == "int8" else (0, 255)
        found = execute(network.program, codes).outputs[network.outputs[0].tensor]
        assert np.abs(found - np.clip(grid, low, high)).max() <= 1.05, (name, seed)
        assert [port.index for port in network.inputs] == list(inputs)


# --- particulars -----------------------------------------------------------------------------------------------------


def linear(dtype: str = "int8", **changes: object) -> bytes:
    """Return a small linear layer's file."""
    w = T((3, 4), dtype, 0.01, 0 if dtype == "int8" else 7, np.arange(12).reshape(3, 4))
    tensors = [T((1, 4), dtype, 0.1, 5), w, T((3,), "int32", 0.001, 0, [1, 2, 3]), T((1, 3), dtype, 0.2, 9)]
    for name, value in changes.items():
        setattr(tensors[1], name, value)
    return tflite(tensors, [O("fully_connected", (0, 1, 2), (3,))], [0], [3])


def test_zero_points_fold_into_the_bias_and_widen_the_weights() -> None:
    program = import_tflite_bytes(linear("uint8"), "x").program
    conv = program.ops[0]
    assert isinstance(conv, Conv)
    operands = np.arange(12).reshape(3, 1, 1, 4) - 7
    np.testing.assert_array_equal(conv.weight, operands)
    np.testing.assert_array_equal(conv.bias, np.array([1, 2, 3]) - 5 * operands.sum((1, 2, 3)))
    assert (conv.weight_bits, conv.storage_bits) == (9, 8)
    assert import_tflite_bytes(linear(), "x").program.ops[0].weight_bits == 8


def test_real_samples_are_brought_onto_the_grid_half_away() -> None:
    network = import_tflite_bytes(linear(), "x")
    (codes,) = network.encode(np.array([[0.05, -0.05, 0.0, 100.0]])).values()
    assert codes.tolist() == [[6, 4, 5, 127]]
    assert network.decode(np.array([9, 10])).tolist() == pytest.approx([0.0, 0.2])
    assert (network.inputs[0].dtype, network.inputs[0].shape) == ("int8", (4,))
    with pytest.raises(ValueError, match="takes samples of shape"):
        network.encode(np.zeros((1, 5)))


def test_real_ends_of_a_file_become_the_codes_behind_them() -> None:
    network = import_tflite_bytes(case_file("float_ends", 0), "x")
    assert [port.dtype for port in (*network.inputs, *network.outputs)] == ["float32", "float32"]
    assert [op.kind for op in network.program.ops] == ["conv", "requantize"]


def test_tails_of_vectors_have_a_rule_of_their_own() -> None:
    x, y = T((1, 4, 4, 11), "int8", 0.125, 0), T((1, 4, 4, 11), "int8", 0.5, 0)
    w = T((1, 1, 1, 11), "int8", 1.0, 0, np.ones((1, 1, 1, 11)))
    op = O("depthwise_conv_2d", (0, 1, 2), (3,), CONV | {"multiplier": 1})
    data = tflite([x, w, T((11,), "int32", 0.125, 0, np.zeros(11)), y], [op], [0], [3])
    network = import_tflite_bytes(data, "x", "builtin")
    codes = np.full((1, 4, 4, 11), -2)  # a quarter of it is a tie, -1/2: up in vectors of eight, else away from zero
    found = execute(network.program, {network.inputs[0].tensor: codes}).outputs[network.outputs[0].tensor]
    assert found[0, 0, 0].tolist() == [0] * 8 + [-1] * 3


def test_tensors_of_one_name_or_none_stay_apart() -> None:
    tensors = [T((1, 4), "int8", 1.0, 0, name=name) for name in ("a", "a", "")]
    network = import_tflite_bytes(tflite(tensors, [O("relu", (0,), (1,)), O("relu", (1,), (2,))], [0], [2]), "x")
    assert len(set(network.tensors.values())) == 3


@pytest.mark.parametrize(("scale", "beta"), [(0.1, 1.0), (0.015, 1.0), (1.5, 0.5), (1e-4, 1.0)])
def test_tables_of_exponentials_are_near_the_real_ones(scale: float, beta: float) -> None:
    fixed, floats = fixed_exponentials(scale, beta), float_exponentials(scale, beta)
    wanted = np.exp(-scale * beta * np.arange(256))
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats, wanted, rtol=1e-5, atol=1e-38)
    np.testing.assert_allclose(fixed[:-1] / 2**31, wanted[: fixed.size - 1], rtol=1e-4, atol=1e-6)
    assert fixed[-1] == 0
    assert wanted[fixed.size - 1 :].max(initial=0) < 1e-9 or fixed.size == 257


def test_the_kernels_are_named() -> None:
    with pytest.raises(ValueError, match="kernels must be one of xnnpack, builtin, reference"):
        import_tflite_bytes(linear(), "x", "fast")


def network_of(tensors: list[T], ops: list[O], inputs: list[int], outputs: list[int]) -> TfliteNetwork:
    return import_tflite_bytes(tflite(tensors, ops, inputs, outputs), "net.tflite")


GRID = ("int8", 0.1, 3)
X, Y = T((1, 4), *GRID), T((1, 4), *GRID)


@pytest.mark.parametrize(
    ("tensors", "ops", "message"),
    [
        ([X, Y], [O("floor", (0,), (1,))], "operators that are not read: FLOOR × 1; leave them out"),
        ([X, T((1, 4), "int16", 0.2, 0)], [O("quantize", (0,), (1,))], "16-bit activations; quantize to int8"),
        ([X, T((4, 1), *GRID)], [O("reshape", (0,), (1,))], "does not keep the batch"),
        ([X, T((1, 5), *GRID)], [O("reshape", (0,), (1,))], "brings samples of 4 values into"),
        ([X, T((1, 4), "int8", 1 / 128, -128)], [O("softmax", (0,), (1,), {"beta": 1.0})], "the kernels give 1/256"),
        ([X, T((1, 4), "int8", 1 / 256, -128)], [O("softmax", (0,), (1,), {"beta": 0.0})], "has beta 0.0"),
        ([X, T((1, 8), "int8", 0.2, 3)], [O("concatenation", (0, 0), (1,), {"axis": 1})], "must share it"),
        ([X, T((2, 4), *GRID)], [O("concatenation", (0, 0), (1,), {"axis": 0})], "axes behind the batch"),
        ([X, T((1, 4), "uint8", 0.1, 3)], [O("add", (0, 0), (1,), {"activation": 0})], "mixes int8 and uint8"),
        ([X, Y], [O("add", (0, 0), (1,), {"activation": 4})], "has fused activation 4"),
        ([X, Y], [O("add", (0,), (1,), {"activation": 0})], "has no input 1"),
        ([X, T((1, 4), "float32")], [O("dequantize", (0,), (1,)), O("relu", (1,), (1,))], "holds no 8-bit codes"),
        ([T((1, 4), "float32"), T((1, 4), "float32")], [O("relu", (0,), (1,))], "holds no 8-bit codes"),
    ],
)
def test_what_is_not_read_is_refused_in_one_line(tensors: list[T], ops: list[O], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        network_of(tensors, ops, [0], [1])
    assert "\n" not in str(error.value)
    assert "net.tflite" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": None}, "needs int8 or uint8 constants as input 1"),
        ({"scale": None}, "with 0 scales"),
        ({"zero": 3}, "must be symmetric"),
        ({"shape": (4, 3), "data": np.zeros((4, 3))}, "has 3 columns of weights for samples of 4 values"),
        ({"shape": (2, 4), "data": np.zeros((2, 4))}, "but its output is declared"),
        ({"scale": np.full(4, 0.1), "axis": 1}, "scales along axis 1"),
    ],
)
def test_weights_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        import_tflite_bytes(linear(**changes), "x")


def test_a_built_in_add_that_would_wrap_is_refused_but_the_reference_one_is_read() -> None:
    data = tflite(
        [T((1, 4), "int8", 1.0), T((1, 4), "int8", 1 / 300)], [O("add", (0, 0), (1,), {"activation": 0})], [0], [1]
    )
    with pytest.raises(ValueError, match="wraps at 16 bits"):
        import_tflite_bytes(data, "x", "builtin")
    assert import_tflite_bytes(data, "x", "reference").program.ops[0].kind == "add"


def test_files_that_cannot_be_read_are_named(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"none\.tflite: cannot be read"):
        import_tflite(tmp_path / "none.tflite")
    with pytest.raises(ValueError, match="cannot be read"):
        import_tflite(tmp_path)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    "name",
    [
        "add",
        "average_pool_2d",
        "depthwise_conv_2d",
        "mean",
        "prelu",
        "quantize",
        "resize_bilinear",
        "softmax",
        "squeeze_excite",
        "tied_add",
        "transpose_conv",
    ],
)
def test_every_rule_has_a_price_with_and_without_values(name: str, kernels: str) -> None:
    program = import_tflite_bytes(case_file(name, 1), name, kernels).program
    edge = load_accelerator("edge-32x32")
    result = simulate(program, edge)
    assert result.cycles > 0
    assert result.to_json()["energy_pj"]["total"] > 0
    bare = simulate(program.without_values(), edge)
    assert (bare.cycles, bare.to_json()["energy_pj"]) == (result.cycles, result.to_json()["energy_pj"])


def test_programs_of_files_are_saved_and_loaded(tmp_path) -> None:
    for name in ("add", "mean", "softmax", "average_pool_2d"):
        for kernels in KERNELS:
            program = import_tflite_bytes(case_file(name, 2), name, kernels).program
            save_program(program, tmp_path / "p.npz")
            assert load_program(tmp_path / "p.npz").digest() == program.digest()


def test_a_file_for_a_batch_gives_a_program_of_one_sample() -> None:
    tensors = [T((4, 3, 6), *GRID), T((4, 18), *GRID)]
    network = network_of(tensors, [O("reshape", (0,), (1,))], [0], [1])
    assert (network.inputs[0].shape, network.outputs[0].shape) == ((3, 6), (18,))
    rounded = [T((4, 19), *GRID), T((4, 19), "uint8", 0.3, 3)]
    with pytest.raises(ValueError, match="run across its batch of 4"):
        network_of(rounded, [O("quantize", (0,), (1,))], [0], [1])
