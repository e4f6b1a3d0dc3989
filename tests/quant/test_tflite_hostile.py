"""Damaged and hostile TensorFlow Lite files: a ValueError in one line or a valid Program, in bounded memory."""

import pickle
import struct
import time
import tracemalloc

import numpy as np
import pytest
from tflite_cases import CASES, case_file
from tflite_files import O, T, Table, Vector, _Out, numbers, text, tflite

from accelsim.check import check
from quant.importers.tflite import import_tflite_bytes
from quant.importers.tflite_reader import parse_tflite

MEMORY_BYTES = 2**26
"""What reading any of these files of a few KiB may take at most."""

CONV = {"padding": 0, "stride_h": 1, "stride_w": 1, "activation": 0, "dilation_h": 1, "dilation_w": 1}
POOL = {"padding": 1, "stride_h": 1, "stride_w": 1, "filter_h": 4, "filter_w": 4, "activation": 0}


def small_network(rng: np.random.Generator) -> bytes:
    """Return a convolution, a pool, a residual add, a linear layer and a softmax."""
    w = T((4, 3, 3, 4), "int8", np.full(4, 0.01), 0, rng.integers(-127, 128, (4, 3, 3, 4)), 0)
    fc = T((5, 4), "int8", 0.02, 0, rng.integers(-127, 128, (5, 4)))
    tensors = [
        T((1, 4, 4, 4), "int8", 0.05, 1), w, T((4,), "int32", 0.0005, 0, [1, 2, 3, 4]),
        T((1, 4, 4, 4), "int8", 0.3, -3),
        T((1, 4, 4, 4), "int8", 0.3, 5), T((1, 1, 1, 4), "int8", 0.3, 5), T((2,), "int32", None, 0, [1, 4]),
        T((1, 4), "int8", 0.3, 5), fc, T((1, 5), "int8", 0.4, 2), T((1, 5), "int8", 1 / 256, -128),
    ]  # fmt: skip
    ops = [
        O("conv_2d", (0, 1, 2), (3,), CONV), O("add", (0, 3), (4,), {"activation": 1}),
        O("average_pool_2d", (4,), (5,), POOL), O("reshape", (5, 6), (7,)),
        O("fully_connected", (7, 8), (9,), {"activation": 0}), O("softmax", (9,), (10,), {"beta": 1.0}),
    ]  # fmt: skip
    return tflite(tensors, ops, [0], [10])


def attempt(data: bytes) -> bool:
    """Import bytes; return whether it worked. Anything but a Program or a one-line ValueError is a failure."""
    try:
        network = import_tflite_bytes(data, "hostile.tflite")
    except ValueError as error:
        message = str(error)
        assert "\n" not in message
        assert len(message) < 600
        return False
    check(network.program)
    return True


@pytest.fixture
def bounded():
    """Fail where a test takes more memory than such files can need."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MEMORY_BYTES


@pytest.mark.usefixtures("bounded")
def test_every_truncation_is_refused(rng: np.random.Generator) -> None:
    data = small_network(rng)
    assert attempt(data)
    start = time.process_time()
    last = max(i for i, byte in enumerate(data) if byte)  # what follows is the padding of the last value
    for end in range(0, last + 1, 7):
        assert not attempt(data[:end]), end
    assert time.process_time() - start < 60  # a hang, not a speed


@pytest.mark.parametrize("part", range(5))
def test_mutated_files_are_refused_or_valid(part: int) -> None:
    rng = np.random.default_rng(part)
    files = [small_network(rng), *(case_file(name, part) for name in CASES if name != "depthwise_conv_2d")]
    refused = 0
    for turn in range(80):
        data = bytearray(files[turn % len(files)])
        for _ in range(int(rng.integers(1, 6))):
            place = int(rng.integers(len(data)))
            data[place] = int(rng.choice([0, 1, 127, 128, 255, data[place] ^ (1 << int(rng.integers(8)))]))
        refused += not attempt(bytes(data))
    assert refused > 10


def test_words_of_the_head_replaced_by_extremes_are_refused_or_valid(rng: np.random.Generator) -> None:
    data = small_network(rng)
    for place in range(0, len(data) - 4, 20):
        for word in (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, len(data), 0):
            attempt(data[:place] + struct.pack("<I", word) + data[place + 4 :])


@pytest.mark.parametrize(
    "data",
    [b"", b"TFL3", pickle.dumps({"w": 1}), bytes(1000), b"\0\0\0\0TFL3", b"PK\3\4" + bytes(60)],
    ids=["empty", "short", "pickle", "zeros", "head", "zip"],
)  # fmt: skip
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"hostile\.tflite"):
        import_tflite_bytes(data, "hostile.tflite")


# --- what a file claims ----------------------------------------------------------------------------------------------


def blob(content: bytes, count: int | None = None) -> list[Table]:
    return [Table(), Table({0: Vector(content, len(content) if count is None else count)})]


def file_of(graph: Table, blobs: list[Table], codes: list[Table] | None = None) -> bytes:
    out = _Out()
    codes = [Table({0: ("i8", 19)})] if codes is None else codes
    out.link(0, Table({0: ("u32", 3), 1: codes, 2: [graph], 4: blobs}))
    return bytes(out.data)


def tensor(shape: list[int], blob: int = 0, dtype: int = 9) -> Table:
    quantization = Table({2: numbers([1.0], "<f4"), 3: numbers([0], "<i8")})
    return Table({0: numbers(shape, "<i4"), 1: ("i8", dtype), 2: ("u32", blob), 3: text("t"), 4: quantization})


def relu(inputs: list[int], outputs: list[int]) -> Table:
    return Table({0: ("u32", 0), 1: numbers(inputs, "<i4"), 2: numbers(outputs, "<i4")})


def graph(tensors: list[Table], ops: list[Table], inputs: list[int], outputs: list[int]) -> Table:
    return Table({0: tensors, 1: numbers(inputs, "<i4"), 2: numbers(outputs, "<i4"), 3: ops})


CUSTOM = Table({0: ("i8", 32), 1: text("evil")})


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (file_of(graph([tensor([1, 2**30, 2**30])], [], [0], [0]), [Table()]), "2\\*\\*31 in all"),
        (file_of(graph([tensor([1, -5])], [], [0], [0]), [Table()]), "has shape"),
        (file_of(graph([tensor([1, 0])], [], [0], [0]), [Table()]), "has shape"),
        (file_of(graph([tensor([1] * 7)], [], [0], [0]), [Table()]), "up to 6 axes"),
        (file_of(graph([tensor([1, 2**30], 1)], [], [0], [0]), blob(b"abc")), "holds 3 bytes"),
        (file_of(graph([tensor([1, 4], 1)], [], [0], [0]), blob(b"abc", 2**31)), "claims 2147483648"),
        (file_of(graph([tensor([1, 4], 9)], [], [0], [0]), [Table()]), "names buffer 9 of 1"),
        (file_of(graph([tensor([1, 4], 1, 5)], [], [0], [0]), blob(b"abcd")), "tensor type 5"),
        (file_of(graph([tensor([1, 4])] * 2, [relu([0], [1])], [7], [1]), [Table()]), "names a tensor outside"),
        (file_of(graph([tensor([1, 4])] * 2, [relu([5], [1])], [0], [1]), [Table()]), "names a tensor outside"),
        (file_of(graph([tensor([1, 4])] * 2, [relu([0], [1])], [0], []), [Table()]), "1 inputs and 0 outputs"),
        (file_of(graph([tensor([4])], [], [0], [0]), [Table()]), "does not keep the batch"),
        (file_of(graph([tensor([])], [], [0], [0]), [Table()]), "has no batch axis"),
        (file_of(graph([tensor([1, 4])] * 2, [relu([0], [1])], [0], [1]), [Table()], [CUSTOM]), "custom 'evil' × 1"),
    ],
)  # fmt: skip
def test_absurd_claims_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        import_tflite_bytes(data, "hostile.tflite")


def test_cycles_and_double_writers_are_refused() -> None:
    four = [tensor([1, 4]) for _ in range(4)]
    loop = graph(four, [relu([2], [1]), relu([1], [2])], [0], [2])
    with pytest.raises(ValueError, match="before it is computed; operators must come in order, without cycles"):
        import_tflite_bytes(file_of(loop, [Table()]), "hostile.tflite")
    twice = graph(four, [relu([0], [1]), relu([1], [1])], [0], [1])
    with pytest.raises(ValueError, match="computed twice"):
        import_tflite_bytes(file_of(twice, [Table()]), "hostile.tflite")
    back = graph(four, [relu([0], [0])], [0], [0])
    with pytest.raises(ValueError, match="computed twice"):
        import_tflite_bytes(file_of(back, [Table()]), "hostile.tflite")


@pytest.mark.usefixtures("bounded")
def test_overlapping_vectors_do_not_multiply_the_work() -> None:
    """Thousands of tables that are all one table, each with the same long vector."""
    ones = np.ones(4000)
    quantization = Table({2: numbers(ones, "<f4"), 3: numbers(ones, "<i8"), 6: ("i32", 1)})
    one = Table({0: numbers([1, 4000], "<i4"), 1: ("i8", 9), 3: text("t"), 4: quantization})
    data = file_of(graph([one] * 5000, [], [0], [0]), [Table()])
    assert len(data) < 200_000
    with pytest.raises(ValueError, match="vectors overlap"):
        import_tflite_bytes(data, "hostile.tflite")


def test_offsets_of_large_files_are_checked(rng: np.random.Generator) -> None:
    outside = Table({1: ("u32", 2**31), 2: ("u32", 0)})
    data = file_of(graph([tensor([1, 4], 1)], [], [0], [0]), [Table(), outside])
    with pytest.raises(ValueError, match=r"lie outside its|lies outside its"):
        parse_tflite(data, "hostile.tflite")


def test_strides_and_windows_of_absurd_size_are_refused() -> None:
    x, y = T((1, 4, 4, 1), "int8"), T((1, 1, 1, 1), "int8")
    for change in ({"stride_h": 0}, {"filter_h": -1}, {"stride_w": -(2**31)}, {"padding": 3}, {"filter_w": 2**31 - 1}):
        data = tflite([x, y], [O("average_pool_2d", (0,), (1,), POOL | change)], [0], [1])
        assert not attempt(data), change
