"""SCALE-Sim: its printed cycles in mode ``scalesim``, its machine files, and what it gets wrong as negative tests."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import machine

from accelsim.check import check
from accelsim.config import Accelerator, build_accelerator, load_accelerator
from accelsim.result import Result
from accelsim.scalesim_cfg import scalesim_fields
from accelsim.shapes import LayerShape, shape_program
from accelsim.simulate import simulate

# Printed "Total Cycles" of versions 2 and 3, run for these products: (rows, cols), (m, n, k), os / ws / is.
VECTORS = [
    ((4, 4), (4, 4, 4), (9, 13, 13)),
    ((8, 4), (8, 4, 5), (14, 25, 43)),
    ((4, 8), (4, 8, 5), (14, 35, 43)),
    ((8, 8), (8, 8, 20), (33, 89, 89)),
    ((8, 8), (20, 20, 20), (305, 377, 377)),
    ((16, 8), (33, 17, 50), (647, 851, 1099)),
]
FLOWS = ("os", "ws", "is")


def product(m: int, n: int, k: int, **bits: int) -> Any:
    return shape_program("product", [LayerShape(name="gemm", input=(m, k), outputs=n)], **bits)


def array(flow: str, rows: int, cols: int, **changes: Any) -> Accelerator:
    ports = {"accumulator_sram__word_bits": 40, "activation_sram__word_bits": 8} | changes
    rooms = {f"{part}_sram__bytes": 1 << 20 for part in ("activation", "weight", "accumulator")}
    return machine(array__rows=rows, array__cols=cols, array__dataflow=flow, **(rooms | ports))


def words(result: Result, component: str, action: str) -> int:
    return result.layers[0].sram[f"{component}_{action}"]


@pytest.mark.parametrize(("size", "shape", "cycles"), VECTORS)
def test_the_printed_cycles_are_reproduced(size, shape, cycles) -> None:
    program = product(*shape)
    for flow, printed in zip(FLOWS, cycles, strict=True):
        result = simulate(program, array(flow, *size), timing_mode="scalesim")
        assert (result.array_cycles, result.cycles) == (printed, printed), flow


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 20), st.integers(2, 20), st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_isolated_folds_take_what_the_paper_says_whatever_the_dataflow(rows, cols, m, n, k) -> None:
    """2R + C + T - 2 a fold: versions 2 and 3 leave out the drain under os, and one cycle of every layer."""
    sizes = {"os": (m, n, k), "ws": (k, n, m), "is": (k, m, n)}
    for flow, (along, across, streamed) in sizes.items():
        folds = -(-along // rows) * -(-across // cols)
        accelerator = array(flow, rows, cols)
        isolated = simulate(product(m, n, k), accelerator, timing_mode="isolated")
        printed = simulate(product(m, n, k), accelerator, timing_mode="scalesim")
        assert isolated.array_cycles == folds * (2 * rows + cols + streamed - 2)
        missing = folds * rows if flow == "os" else 0
        assert isolated.array_cycles - printed.array_cycles == missing + 1


@pytest.mark.parametrize("n", [4, 8, 16])
def test_all_dataflows_agree_on_a_square_product(n: int) -> None:
    """4n - 2 on paper for all three, where the tool's versions print 3n - 1, 4n, 4n - 1 and 3n - 3, 4n - 3, 4n - 3."""
    cycles = {flow: simulate(product(n, n, n), array(flow, n, n), timing_mode="isolated") for flow in FLOWS}
    assert {result.array_cycles for result in cycles.values()} == {4 * n - 2}


@pytest.mark.parametrize("flow", FLOWS)
def test_every_output_is_written_once(flow: str) -> None:
    """20×20×20 on 8×8: the tool writes 544 outputs under os, and 1200 to DRAM under ws and is."""
    result = simulate(product(20, 20, 20, act_bits=8), array(flow, 8, 8, storage="byte"), timing_mode="scalesim")
    assert result.dram_traffic["ofmap"] == 400
    assert result.dram_traffic["psum"] == 0
    outputs = [count for event, count in result.activity if event.component == "requantizer"]
    assert outputs == [400]
    # The activation buffer takes the input from DRAM and every output, once each.
    assert words(result, "activation", "write") == 400 + 400
    folds_along_k = 1 if flow == "os" else 3
    assert words(result, "accumulator", "write") == folds_along_k * 400
    assert words(result, "accumulator", "read") == folds_along_k * 400


@pytest.mark.parametrize("flow", ["ws", "is"])
def test_partial_sums_stay_on_chip(flow: str) -> None:
    """A 3×3 layer of 64 channels on 56×56, 32×32 PEs: 0.2 M outputs, of which the tool writes 3.61 M to DRAM."""
    layer = LayerShape(name="conv", input=(58, 58, 64), outputs=64, kernel=(3, 3))
    sums = {"accumulator_sram__bytes": 1 << 22}
    accelerator = array(flow, 32, 32, activation_sram__word_bits=64, storage="byte", **sums)
    result = simulate(shape_program("resnet", [layer]), accelerator)
    assert result.dram_traffic["psum"] == 0
    assert result.dram_traffic["ofmap"] == 56 * 56 * 64


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("mode", ["isolated", "scalesim"])
def test_one_utilization_from_one_count_of_cycles(flow: str, mode: str) -> None:
    """The tool prints 23.5 % and 30.8 % for one run, by two counts of the same cycles."""
    result = simulate(product(20, 20, 20), array(flow, 8, 8), timing_mode=mode)
    assert result.utilization == pytest.approx(20**3 / (result.array_cycles * 64))
    assert result.layers[0].utilization == result.utilization


@pytest.mark.parametrize("flow", FLOWS)
def test_bytes_follow_the_width(flow: str) -> None:
    """The tool's word is one byte, whatever the operands."""
    traffic = {}
    for bits in (2, 4, 8, 16):
        result = simulate(product(64, 64, 64, weight_bits=bits, act_bits=bits), array(flow, 8, 8))
        traffic[bits] = result.dram_traffic["ifmap"]
    assert traffic == {bits: 64 * 64 * bits // 8 for bits in (2, 4, 8, 16)}


def test_batch_and_both_strides_are_expressible() -> None:
    layer = LayerShape(name="conv", input=(9, 11, 3), outputs=4, kernel=(3, 2), stride=(2, 3), padding=(1, 0, 1, 0))
    program = shape_program("net", [layer])
    check(program)
    assert program.tensors["conv.output"].shape == (5, 4, 4)
    one, four = (simulate(program, array("ws", 8, 8), batch=batch) for batch in (1, 4))
    assert four.macs == 4 * one.macs == 4 * 5 * 4 * 4 * 3 * 2 * 3


# --- machine files ---------------------------------------------------------------------------------------------------

GOOGLE = """[general]
run_name = GoogleTPU_v1_ws

[architecture_presets]
ArrayHeight:    256
ArrayWidth:     256
IfmapSramSzkB:    6144
FilterSramSzkB:   6144
OfmapSramSzkB:    2048
IfmapOffset:    0
FilterOffset:   10000000
OfmapOffset:    20000000
Dataflow : ws
Bandwidth : 10
MemoryBanks: 1

[run_presets]
InterfaceBandwidth: CALC
"""


def imported(text: str) -> Accelerator:
    return build_accelerator(scalesim_fields(text, "x.cfg", "x"), "x.cfg")


def test_a_machine_file_is_imported(tmp_path) -> None:
    path = tmp_path / "google.cfg"
    path.write_text(GOOGLE)
    accelerator = load_accelerator(path)
    assert accelerator.name == "GoogleTPU_v1_ws"
    assert (accelerator.array.rows, accelerator.array.cols, accelerator.array.dataflow) == (256, 256, "ws")
    assert accelerator.timing_mode == "isolated"
    assert accelerator.activation_sram.bytes == accelerator.weight_sram.bytes == 6144 * 1024
    assert accelerator.accumulator_sram.bytes == 2048 * 1024
    assert "never stalls" in accelerator.description
    result = simulate(product(33, 17, 50), accelerator, timing_mode="scalesim")
    assert result.array_cycles == 1 * (2 * 256 + 256 + 33 - 2) - 1


@pytest.mark.parametrize("flow", FLOWS)
def test_a_channel_that_never_stalls_leaves_the_arrays_cycles_alone(flow: str) -> None:
    accelerator = imported(GOOGLE.replace("256", "16").replace("Dataflow : ws", f"Dataflow : {flow}"))
    result = simulate(product(200, 64, 96), accelerator)
    assert result.stall_cycles["sram"] == 0
    assert result.stall_cycles["dram"] < 0.02 * result.cycles  # the first operands and the last results


def test_a_file_of_any_version_is_read() -> None:
    plain = imported(GOOGLE)
    first_version = GOOGLE.replace("SramSzkB", "SramSz").replace("[run_presets]\nInterfaceBandwidth: CALC\n", "")
    first_version = first_version.replace("Bandwidth : 10\n", "").replace("\n", "\r\n")
    assert imported("\ufeff" + first_version) == plain
    shouted = GOOGLE.upper().replace("GOOGLETPU_V1_WS", "GoogleTPU_v1_ws").replace("256\n", "256 ; PEs\n")
    assert imported(shouted) == plain
    with_sections = GOOGLE + "[layout]\nIfmapCustomLayout: True\n[sparsity]\nSparsitySupport : true\nSparseRep : csr\n"
    description = imported(with_sections).description
    assert "priced dense" in description
    assert "layout is left out" in description


def test_user_bandwidth_is_words_a_cycle() -> None:
    accelerator = imported(GOOGLE.replace("CALC", "USER").replace(": 10", ": 12, 3"))
    assert accelerator.dram.bandwidth_gb_per_s == pytest.approx(12 * accelerator.clock_mhz / 1000)
    assert "12 words" in accelerator.description


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["5 error(s)", "ArrayHeight is missing", "Dataflow must be os, ws or is"]),
        ("no ini", ["is no INI file"]),
        ("[a]\nx = 1\nx = 2", ["is no INI file", "x"]),
        (GOOGLE.replace("256\n", "-4\n"), ["ArrayHeight must be", "ArrayWidth must be", "'-4'"]),
        (GOOGLE.replace("6144", "lots"), ["IfmapSramSzkB must be", "FilterSramSzkB", "'lots'"]),
        (GOOGLE.replace(": ws", ": rs"), ["Dataflow must be os, ws or is (got 'rs')"]),
        (GOOGLE.replace("CALC", "MAYBE"), ["InterfaceBandwidth must be CALC or USER"]),
        (GOOGLE.replace("CALC", "USER").replace(": 10", ": 0"), ["Bandwidth must be words a cycle above 0"]),
        (GOOGLE.replace("CALC", "USER").replace(": 10", ": nan"), ["Bandwidth must be words a cycle above 0"]),
        (GOOGLE.replace("256\n", "99999\n"), ["array.rows", "array.cols", "4096"]),
        (GOOGLE.replace("2048", "1"), ["accumulator_sram.bytes=1024 holds no row of 256 sums"]),
    ],
)
def test_bad_machine_files_are_one_clear_line(text: str, words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"x\.cfg") as error:
        imported(text)
    assert "\n" not in str(error.value)
    for word in words if text else words[1:]:
        assert word in str(error.value)


def read(text: str) -> Accelerator | ValueError:
    try:
        return imported(text)
    except ValueError as error:
        return error


@given(st.text(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_text_is_a_machine_or_one_line(text: str) -> None:
    assert "\n" not in str(read(text))
