"""The call that prices a network: modes, errors, notes, plain JSON, a schedule kept."""

import json
import math

import pytest
from machines import endless, machine
from networks import Shapes, attention, mlp, mobilenet, resnet50

from accelsim import load_accelerator, simulate, technology
from accelsim.config import preset_names


@pytest.mark.parametrize("preset", preset_names())
@pytest.mark.parametrize("program", [resnet50(), mobilenet(), attention(), mlp(784, 100, 10)], ids=lambda p: p.name)
def test_every_preset_prices_every_network(preset, program):
    result = simulate(program, load_accelerator(preset))
    plain = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert len(plain["layers"]) == len(result.layers)
    assert plain["energy_pj"]["total"] > 0
    assert plain["cycles"] == result.busy_cycles + sum(result.stall_cycles.values())
    assert plain["band"]
    assert plain["technology"] == "google"
    assert all(source["citation"] for source in plain["sources"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, r"batch must be >= 1 \(got 0\)"),
        ({"memory": "magic"}, r"memory must be one of recurrence, events \(got 'magic'\)"),
        ({"timing_mode": "fast"}, r"timing_mode must be one of .* \(got 'fast'\)"),
    ],
)
def test_what_there_is_not_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        simulate(mlp(8, 8), machine(), **options)


def test_folds_overlap_only_on_a_double_buffered_array():
    single = machine(array__double_buffered=False)
    with pytest.raises(ValueError, match=r"'overlapped' needs a double-buffered array, plain's is not; use 'isolated'"):
        simulate(mlp(8, 8), single, timing_mode="overlapped")
    assert simulate(mlp(8, 8), single).timing_mode == "isolated"
    assert simulate(mlp(8, 8), machine()).timing_mode == "overlapped"


def test_operands_that_do_not_fit_the_pes_are_named():
    narrow = machine(pe={"type": "fixed", "weight_bits": 4, "act_bits": 8})
    with pytest.raises(ValueError, match=r"too narrow for fc0 \(weight operands of 8 bits on PEs of 4\); widen"):
        simulate(mlp(8, 8), narrow)


def test_native_pes_are_built_for_the_network():
    areas = [
        simulate(program, machine(pe={"type": "native"})).area_um2["pe"]
        for program in (net(2, 4), net(4, 4), net(8, 8), net(16, 16))
    ]
    assert areas == sorted(areas)
    assert len(set(areas)) == 4


def net(weight_bits, act_bits):
    shapes = Shapes(weight_bits, act_bits)
    shapes.conv("two", shapes.conv("one", shapes.input((4, 16)), 16), 16)
    return shapes.program("net")


def test_bit_serial_time_follows_the_bits_and_composable_pes_take_more_of_k_at_once():
    serial = endless(pe={"type": "bit_serial", "weight_bits": 8, "act_bits": 8})
    busy = [simulate(net(bits, 8), serial).busy_cycles for bits in (2, 3, 5, 8)]
    assert [cycles / busy[0] for cycles in busy] == [1.0, 1.5, 2.5, 4.0]
    fused = endless(pe={"type": "composable", "weight_bits": 8, "act_bits": 8})
    shapes = Shapes(2, 8)
    shapes.conv("one", shapes.input((4, 128)), 8)
    assert simulate(shapes.program("narrow"), fused).folds == math.ceil(128 / (8 * 4))


def test_a_schedule_is_kept_to_by_smaller_batches_too():
    program, accelerator = mlp(64, 64, 64, rows=8), machine(activation_sram__bytes=2048)
    one = simulate(program, accelerator, batch=6)
    again = simulate(program, accelerator, batch=6, schedule=one.schedule)
    assert (again.cycles, again.dram_traffic) == (one.cycles, one.dram_traffic)
    assert simulate(program, accelerator, batch=1, schedule=one.schedule).macs == one.macs // 6


def test_layers_are_a_sequence():
    result = simulate(mobilenet(), machine())
    assert [layer.name for layer in result.layers] == [layer.name for layer in result.layers[:]]
    assert result.layers[-1].name == "fc"
    with pytest.raises(IndexError):
        result.layers[len(result.layers)]


def test_notes_say_what_a_reader_must_know():
    spilling = machine(accumulator_sram={"bytes": 128, "word_bits": 64}, weight_sram__bytes=1024)
    result = simulate(mlp(4096, 64, rows=64), spilling)
    assert result.layers[0].tiling["psum_spilled"] == any("partial sums to DRAM" in note for note in result.notes)
    fast = simulate(mlp(8, 8), machine(clock_mhz=4000), technology("nangate45", 45))
    assert any("beyond the PE's critical path" in note for note in fast.notes)
    shared = simulate(mlp(64, 64), machine(cores=2))
    assert any("2 cores split the outputs" in note for note in shared.notes)
