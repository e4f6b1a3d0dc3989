"""SCALE-Sim topology files: every spelling that is about, and what is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.topologies import (
    MAX_FILE_BYTES,
    MAX_LAYERS,
    ConvShape,
    GemmShape,
    Topology,
    parse_topology,
    read_topology,
)

CONV_HEADER = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,"
GEMM_HEADER = "Layer, M, N, K,"
CONV = ConvShape("Conv1", 224, 224, 3, (7, 7), (2, 2), 64)
CONV_ROW = "Conv1, 224, 224, 7, 7, 3, 64, 2,"
GEMM = GemmShape("G", 5, 6, 7)


def parse(text: str) -> Topology:
    return parse_topology(text, "net.csv", "net")


@pytest.mark.parametrize(
    "text",
    [
        f"{CONV_HEADER}\n{CONV_ROW}\n",
        f"{CONV_HEADER}\n{CONV_ROW}",
        f"{CONV_HEADER}\n{CONV_ROW.rstrip(',')}",  # of which the tool drops the stride
        f"{CONV_HEADER}\n\n\n{CONV_ROW}\n\n",
        f"{CONV_HEADER}\r\n{CONV_ROW}\r\n",
        f"{CONV_HEADER}\n\tConv1,224,224,7,7,3,64,2,\n",
        f"{CONV_HEADER}\n{CONV_ROW}#first\n# a remark\n",
        f"{CONV_HEADER}\n{CONV_ROW},,,\n",
        f"{CONV_HEADER}\nConv1, 224, 224, 7, 7, 3, 64, 2, 2,\n",
        f'{CONV_HEADER}\n"Conv1", "224", 224, 7, 7, 3, 64, 2,\n',
        f"{CONV_HEADER}\nConv1, 224.0, 224, 7, 7, 3, 64, 2,\n",
        "Layer, a, b, c, d, e, f, g\n" + CONV_ROW,  # told by the number of columns
        "Layer, IFMAP Width, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n" + CONV_ROW,
    ],
)
def test_a_convolution_is_read_however_it_is_written(text: str) -> None:
    assert parse(text).layers == (CONV,)


@pytest.mark.parametrize(
    "text",
    [
        f"{GEMM_HEADER}\nG, 5, 6, 7,\n",
        f"{GEMM_HEADER}\nG, 5, 6, 7",
        "Layer Name, M, N, K, Sparsity,\nG, 5, 6, 7, 1,\n",
        "layer,m,n,k\nG,5,6,7",
        "Layer, M, K, N,\nG, 5, 7, 6,\n",  # the header says which is which
        "a, b, c, d,\nG, 5, 6, 7,\n",
    ],
)
def test_a_matrix_product_is_read_however_it_is_written(text: str) -> None:
    topology = parse(text)
    assert topology.layers == (GEMM,)
    assert topology.layers[0].macs == 5 * 6 * 7


def test_a_file_without_header_is_read_and_said() -> None:
    topology = parse(f"{CONV_ROW}\nConv2, 58, 58, 3, 3, 64, 64, 1,")
    assert [layer.name for layer in topology.layers] == ["Conv1", "Conv2"]
    assert "no header" in topology.notes[0]


def test_depthwise_is_told_by_the_letters_in_the_name() -> None:
    one, plain, more = parse(
        f"{CONV_HEADER}\nDP1, 58, 58, 3, 3, 64, 1, 1\nConv_dw, 58, 58, 3, 3, 1, 1, 1\nmyDP, 9, 9, 3, 3, 4, 2, 1"
    ).layers
    assert (one.groups, one.filters, one.macs) == (64, 1, 56 * 56 * 9 * 64)
    assert plain.groups == 1
    assert (more.groups, more.filters, more.macs) == (4, 2, 49 * 9 * 4 * 2)


def test_filters_per_channel_of_a_depthwise_layer_are_said() -> None:
    note, *_ = parse(f"{CONV_HEADER}\nDP1, 9, 9, 3, 3, 4, 4, 1").notes
    assert "DP1 is depthwise with 4 filters for every channel" in note


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 9))
def test_windows_follow_each_other_until_the_map_is_covered(size: int, kernel: int, stride: int) -> None:
    size, count = max(size, kernel), 1
    while (count - 1) * stride + kernel < size:
        count += 1
    layer = ConvShape("x", size, size, 1, (kernel, kernel), (stride, stride), 1)
    assert layer.outputs == (count, count)
    assert layer.leaves == ((count - 1) * stride + kernel > size)


def test_windows_that_leave_the_map_are_said() -> None:
    (note,) = parse(f"{CONV_HEADER}\nConv1, 58, 58, 3, 3, 3, 4, 1\nConv2, 56, 56, 1, 1, 3, 4, 2").notes
    assert note.startswith("1 layer(s) have windows that leave the map")
    assert note.endswith("Conv2 the first")


def test_both_strides_and_sparsity() -> None:
    topology = parse(
        f"{CONV_HEADER}\na, 9, 8, 3, 2, 4, 4, 2, 1\nb, 9, 9, 3, 3, 4, 4, 1, 2:4\nc, 9, 9, 3, 3, 4, 4, 1, 4:4"
    )
    assert topology.layers[0].stride == (2, 1)
    assert topology.layers[0].outputs == (4, 7)
    assert topology.notes[0] == "structured sparsity (N:M) is priced dense"


def test_equal_names_are_told_apart() -> None:
    names = [layer.name for layer in parse(f"{GEMM_HEADER}\nfc,1,2,3\nfc,1,2,3\nfc,1,2,3").layers]
    assert names == ["fc", "fc (2)", "fc (3)"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "net.csv is empty"),
        ("\n\n", "net.csv is empty"),
        (CONV_HEADER, "has a header but no layers"),
        (f"{CONV_HEADER}\nConv1, 224, 224, 7, 7, 3\n", "line 2: Conv1 has 5 of 7 numbers"),
        (f"{GEMM_HEADER}\n\nG, 5, 6\n", "line 3: G has 2 of 3 numbers (m, n, k)"),
        ("x, y\nG, 5, 6, 7, 8, 9, 10\n", "line 2: 7 columns, where a convolution has 8"),
        (f"{GEMM_HEADER}\nG, 5, six, 7\n", "line 2: n must be a whole number (got 'six')"),
        (f"{GEMM_HEADER}\nG, 5, 6.5, 7\n", "n must be a whole number (got '6.5')"),
        (f"{GEMM_HEADER}\nG, 5, 0, 7\n", "n must be in 1.."),
        (f"{GEMM_HEADER}\nG, -5, 6, 7\n", "m must be in 1.."),
        (f"{GEMM_HEADER}\nG, 5, 1e9, 7\n", "n must be a whole number"),
        (f"{GEMM_HEADER}\nG, 5, {'9' * 400}, 7\n", "n must be a whole number"),
        (f"{GEMM_HEADER}\nG, 4194304, 4194304, 4194304\n", "the input of G has 17592186044416 values"),
        (f"{GEMM_HEADER}\nG, 65536, 65536, 65536\n", "G has 281474976710656 products"),
        (f"{GEMM_HEADER}\n, 5, 6, 7\n", "line 2: the layer has no name"),
        (f"{CONV_HEADER}\nConv1, 5, 5, 7, 7, 3, 64, 2,\n", "kernel height of 7 on a map of height 5"),
        (f"{CONV_HEADER}\nConv1, 9, 9, 7, 7, 3, 64, 0,\n", "stride must be in 1.."),
        (f"{CONV_HEADER}\n{CONV_ROW} 2, 7, extra\n", "has a column too many ('7')"),
        (f'{GEMM_HEADER}\n"G, 5, 6, 7\n', "line 2"),
        ("\0\0\0", "holds null bytes"),
        (f"{GEMM_HEADER}\n" + "G, 1, 1, 1\n" * (MAX_LAYERS + 1), f"at most {MAX_LAYERS} are read"),
    ],
    ids=lambda value: str(value)[-30:],
)
def test_a_bad_file_is_one_clear_line_with_its_place(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"^topology net\.csv ") as error:
        parse(text)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def read(text: str) -> Topology | ValueError:
    try:
        return parse(text)
    except ValueError as error:
        return error


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="abDP019,.:-#\"'\n\r\t xMNK\ufeff", max_size=120))
def test_any_text_is_a_topology_or_one_line(text: str) -> None:
    outcome = read(text)
    if isinstance(outcome, Topology):
        assert all(layer.macs > 0 for layer in outcome.layers)
    else:
        assert "\n" not in str(outcome)


def test_files_are_read_with_or_without_a_byte_order_mark(tmp_path) -> None:
    path = tmp_path / "net.csv"
    for encoding in ("utf-8", "utf-8-sig"):
        path.write_text(f"{CONV_HEADER}\n{CONV_ROW}\n", encoding=encoding)
        topology = read_topology(path)
        assert (topology.name, topology.layers) == ("net", (CONV,))


def test_files_that_are_no_text_are_refused(tmp_path) -> None:
    path = tmp_path / "net.csv"
    for content, words in (
        (b"\x89PNG\r\n\xff\xfe", "is no UTF-8 text"),
        (b"x" * (MAX_FILE_BYTES + 1), "is larger than"),
        (f"{CONV_HEADER}\n{CONV_ROW[:20]}".encode(), "has 3 of 7 numbers"),  # truncated
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=words):
            read_topology(path)
    with pytest.raises(ValueError, match="cannot be read"):
        read_topology(tmp_path)
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_topology(tmp_path / "none.csv")
