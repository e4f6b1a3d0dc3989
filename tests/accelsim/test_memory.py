"""Memory time: the recurrence against the event-driven model, and what must hold of stalls and shared channels."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from machines import layer_shapes, machine, machines
from networks import Shapes, attention, mlp, mobilenet, resnet50

from accelsim import simulate, tiling
from accelsim.codes import machine_codes
from accelsim.layers import layer_table
from accelsim.memory import TILE_DTYPE, tile_table
from accelsim.memory_events import play
from accelsim.memory_recurrence import solve
from accelsim.passes import Model, _evaluate
from accelsim.schedule import make_schedule

PE_KINDS = ("fixed", "native", "composable", "bit_serial")


def simulated(program, accelerator, **options):
    """Simulate, or give the example up where the machine is too small for the network."""
    try:
        return simulate(program, accelerator, **options)
    except ValueError as error:
        assume("fits the buffers" not in str(error))
        raise


@st.composite
def tile_tables(draw):
    """Tables that no schedule need give: any kinds, loads, stores and repeats."""
    rows = draw(st.integers(1, 8))
    tiles = np.zeros(rows, dtype=TILE_DTYPE)
    layer = -1
    small, some = st.integers(0, 12), st.sampled_from((0, 0, 1, 3, 10))
    for row in tiles:
        first = layer < 0 or draw(st.booleans())
        layer += first
        row["layer"], row["first"], row["repeat"] = layer, first, 1 if first else draw(st.integers(1, 9))
        row["kind"] = draw(st.sampled_from((0, 0, 0, 1, 2)))
        row["steps"] = draw(st.integers(1, 12)) if row["kind"] == 0 else 1
        for name in ("load_weights", "load_acts", "store"):
            row[name] = draw(some)
        if row["kind"] == 0:
            row["array"], row["array_rest"] = draw(st.integers(1, 12)), draw(small)
        row["vector"], row["vector_rest"] = draw(some), draw(some)
    return tiles, layer + 1


@settings(max_examples=150)
@given(tile_tables(), st.tuples(*[st.booleans()] * 3), st.integers(0, 9))
def test_the_recurrence_is_the_event_model_on_any_table(table, double, latency):
    tiles, layers = table
    codes = machine_codes(
        machine(
            weight_sram__double_buffered=double[0],
            activation_sram__double_buffered=double[1],
            accumulator_sram__double_buffered=double[2],
        ),
        "overlapped",
        1,
    )._replace(latency=latency)
    cycles, waits, ends = solve(tiles, layers, codes)
    played = play(tiles, layers, codes)
    assert cycles == played.cycles
    np.testing.assert_array_equal(waits, played.waits)
    np.testing.assert_array_equal(ends, played.ends)


@settings(max_examples=80)
@given(tile_tables(), st.tuples(*[st.booleans()] * 3), st.integers(0, 9))
def test_collapsed_runs_are_the_runs_tile_by_tile(table, double, latency):
    tiles, layers = table
    tiles["repeat"] = tiles["repeat"] ** 2
    tiles["steps"] = np.where(tiles["kind"] == 0, tiles["steps"] ** 2, 1)
    unrolled = np.repeat(tiles, tiles["repeat"])
    unrolled["repeat"] = 1
    codes = machine_codes(
        machine(
            weight_sram__double_buffered=double[0],
            activation_sram__double_buffered=double[1],
            accumulator_sram__double_buffered=double[2],
        ),
        "overlapped",
        1,
    )._replace(latency=latency)
    collapsed, plain = solve(tiles, layers, codes), solve(unrolled, layers, codes)
    assert collapsed[0] == plain[0]
    np.testing.assert_array_equal(collapsed[1], plain[1])
    np.testing.assert_array_equal(collapsed[2], plain[2])


@settings(max_examples=80)
@given(layer_shapes(), machines(types=PE_KINDS), st.integers(1, 3))
def test_networks_take_the_same_time_under_both_models(program, accelerator, batch):
    fast = simulated(program, accelerator, batch=batch)
    slow = simulate(program, accelerator, batch=batch, memory="events")
    assert fast.cycles == slow.cycles
    assert fast.stall_cycles == slow.stall_cycles
    assert fast.dram_bytes == slow.dram_bytes


@settings(max_examples=60)
@given(layer_shapes(), machines(types=PE_KINDS), st.sampled_from(("recurrence", "events")), st.integers(1, 3))
def test_busy_and_stalls_are_all_cycles(program, accelerator, memory, batch):
    result = simulated(program, accelerator, batch=batch, memory=memory)
    assert result.busy_cycles + sum(result.stall_cycles.values()) == result.cycles
    assert min(result.stall_cycles.values()) >= 0
    array_stalls = sum(result.stall_cycles[cause] for cause in ("fill_drain", "weight_load"))
    assert result.array_cycles == result.busy_cycles + array_stalls
    waits = sum(result.stall_cycles[cause] for cause in ("sram", "dram", "vector", "duplicate"))
    assert waits == result.cycles - result.array_cycles
    assert sum(layer.cycles for layer in result.layers) == result.cycles


def test_an_output_that_leaves_no_room_for_a_fold_goes_to_dram():
    """12 of 24 KB kept for the output of `a` would leave 12; a fold of 64 pixels has nine input rows of 1 KB, twice."""
    net = Shapes(8, 8)
    net.conv("b", net.conv("a", net.input((32, 32, 32)), 48, 3, 2), 8)
    table = layer_table(net.program("tight"))
    kept = {}
    for size in (24 << 10, 128 << 10):
        accelerator = machine(array={"rows": 64, "cols": 64, "dataflow": "is"}, activation_sram__bytes=size)
        codes = machine_codes(accelerator, accelerator.timing_mode, 1)
        schedule = make_schedule(table, codes, np.ones((len(table), 2), dtype=np.int64), 1)
        assert schedule.plan["fits"].all()
        kept[size] = schedule.plan["output_kept"][0]
    assert kept == {24 << 10: 0, 128 << 10: 1}
    with pytest.raises(ValueError, match="not one fold of a fits"):
        simulate(
            net.program("tight"),
            machine(array={"rows": 64, "cols": 64, "dataflow": "is"}, activation_sram__bytes=16 << 10),
        )


@settings(max_examples=30)
@given(layer_shapes(), machines(), st.integers(2, 4))
def test_cores_that_share_the_channel_are_never_faster_than_one_with_all_of_it(program, accelerator, cores):
    table = layer_table(program)
    work = np.ones((len(table), 2), dtype=np.int64)
    codes = machine_codes(accelerator, accelerator.timing_mode, 1)
    try:
        one = _evaluate(table, Model(codes, work, "events"), 1)
    except ValueError:
        assume(False)
    tiles = tile_table(table.layers, one.schedule.plan, codes, tiling.PLACES)
    shared = play(tiles, len(table), codes, cores)
    assert shared.cycles >= one.cycles
    assert max(span.core for span in shared.spans) == cores - 1


@pytest.mark.parametrize("program", [attention(), mlp(200, 300, 50, rows=3), mobilenet()], ids=lambda p: p.name)
@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_small_networks_take_the_same_time_under_both_models(program, dataflow):
    accelerator = machine(array__dataflow=dataflow)
    assert simulate(program, accelerator).cycles == simulate(program, accelerator, memory="events").cycles


@pytest.mark.slow
@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_resnet50_takes_the_same_time_under_both_models(dataflow):
    program = resnet50(4, 8, 0.02)
    accelerator = machine(array={"rows": 64, "cols": 64, "dataflow": dataflow}, duplication="copy_pass")
    fast, slow = simulate(program, accelerator), simulate(program, accelerator, memory="events")
    assert (fast.cycles, fast.stall_cycles) == (slow.cycles, slow.stall_cycles)
