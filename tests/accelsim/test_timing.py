"""Array time of layers against the closed forms of `accelsim.dataflow`, which the register engine proves."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from machines import endless, machine, machines
from networks import Shapes, mobilenet

from accelsim import simulate
from accelsim.codes import array_codes
from accelsim.dataflow import DATAFLOWS, ArrayShape, Gemm
from accelsim.timing import array_cycles, lay, packed_groups

MODES = ("isolated", "overlapped", "scalesim")


def one_layer(m, k, n, groups=1, bits=8):
    net = Shapes(bits, bits)
    net.conv("fc", net.input((m, k * groups)), n * groups, groups=groups)
    return net.program("one")


@settings(max_examples=80)
@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70), st.integers(1, 70)),
    st.tuples(st.integers(1, 17), st.integers(1, 17), st.integers(1, 3)),
    st.sampled_from(("ws", "os", "is")),
    st.sampled_from(MODES),
)
def test_one_product_takes_the_closed_form(size, array, dataflow, mode):
    rows, cols, depth = array
    depth = 1 if mode == "scalesim" else depth
    accelerator = endless(
        array={"rows": rows, "cols": cols, "dataflow": dataflow, "pipeline_depth": depth},
        activation_sram__word_bits=8192, weight_sram__word_bits=8192, accumulator_sram__word_bits=8192,
    )  # fmt: skip
    result = simulate(one_layer(*size), accelerator, timing_mode=mode)
    shape = ArrayShape(rows, cols, pipeline_depth=depth)
    stall = result.stall_cycles
    assert stall["sram"] == 0
    assert result.array_cycles == DATAFLOWS[dataflow].cycles(Gemm(*size), shape, mode, None)


@settings(max_examples=80)
@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90), st.integers(1, 90)),
    machines(types=("fixed", "composable")),
    st.sampled_from(MODES[:2]),
)
def test_a_cut_layer_takes_the_closed_form_at_its_stream_chunk(size, accelerator, mode):
    """Cutting into tiles adds no folds and no cycles but those of the stream chunks."""
    assume(accelerator.array.double_buffered or mode == "isolated")
    try:
        result = simulate(one_layer(*size), accelerator, timing_mode=mode)
    except ValueError as error:
        assume("fits the buffers" not in str(error))
        raise
    row = result.schedule.plan[0]
    shape = ArrayShape(
        accelerator.array.rows,
        accelerator.array.cols,
        products_per_pe=int(row["products"]),
        pipeline_depth=accelerator.array.pipeline_depth,
    )
    chunk = int(row["stream_tile"]) or None
    expected = DATAFLOWS[accelerator.array.dataflow].cycles(Gemm(*size), shape, mode, chunk)
    assert result.array_cycles == expected
    assert result.folds == len(DATAFLOWS[accelerator.array.dataflow].folds(Gemm(*size), shape, chunk))


@pytest.mark.parametrize("mode", MODES[:2])
@pytest.mark.parametrize("k", [700, 3001])
def test_outputs_that_stay_are_drained_once_however_k_is_cut(mode, k):
    accelerator = machine(array__dataflow="os", weight_sram__bytes=4000, activation_sram__bytes=3000)
    result = simulate(one_layer(20, k, 20), accelerator, timing_mode=mode)
    assert result.layers[0].tiling["trips"]["k"] > 1
    assert result.array_cycles == DATAFLOWS["os"].cycles(Gemm(20, k, 20), ArrayShape(8, 8), mode, None)
    assert result.folds == 9
    assert result.dram_traffic["psum"] == 0


@settings(max_examples=100)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 20), st.integers(1, 20)),
    st.integers(1, 9),
    machines(types=("fixed", "bit_serial")),
    st.sampled_from(MODES[:2]),
)
def test_groups_and_serial_operands_take_the_closed_form(size, groups, accelerator, mode):
    assume(accelerator.array.double_buffered or mode == "isolated")
    try:
        result = simulate(one_layer(*size, groups), accelerator, timing_mode=mode)
    except ValueError as error:
        assume("fits the buffers" not in str(error))
        raise
    row, array = result.schedule.plan[0], array_codes(accelerator, mode)
    pack = packed_groups(array, *size, groups, int(row["products"]))
    mapping = lay(array, size, groups, int(row["products"]), int(row["stream_tile"]), pack)
    folds, cycles, busy, *_ = array_cycles(array, mapping, int(row["steps"]))
    assert (result.array_cycles, result.busy_cycles) == (cycles, busy)
    assert result.folds == folds


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_packed_depthwise_layers_take_fewer_folds_and_do_the_same_work(dataflow):
    program = mobilenet()
    packed, serial = (
        simulate(program, endless(array={"rows": 32, "cols": 32, "dataflow": dataflow, "groups": how}))
        for how in ("packed", "serial")
    )
    for one, other in zip(packed.layers, serial.layers, strict=True):
        assert (one.macs, one.weight_bytes) == (other.macs, other.weight_bytes)
        if one.name.startswith("dw"):
            side_by_side = {"ws": 32 // 9, "is": 1, "os": 1}[dataflow]
            channels = one.groups
            assert other.folds % channels == 0
            assert one.folds == -(-channels // side_by_side) * other.folds // channels
        else:
            assert one.folds == other.folds
