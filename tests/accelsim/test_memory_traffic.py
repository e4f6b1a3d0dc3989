"""Counts of traffic, buffers and registers against a slow walk over tiles and folds."""

import math

import naive_cost
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from machines import endless, layer_shapes, machine, machines
from networks import Shapes, attention, mlp, mobilenet, resnet50

from accelsim import simulate, tiling
from accelsim.codes import machine_codes
from accelsim.layers import CONV, VECTOR, layer_table
from accelsim.memory import tile_table
from accelsim.passes import Model, _evaluate
from accelsim.simulate import _pe_work

PE_KINDS = ("fixed", "native", "composable", "bit_serial")


def evaluated(program, accelerator, batch=1):
    """Return the table, machine codes and one pass, or give the example up where the machine is too small."""
    table = layer_table(program)
    codes = machine_codes(accelerator, accelerator.timing_mode, batch)
    try:
        return table, codes, _evaluate(table, Model(codes, _pe_work(table, accelerator)), batch)
    except ValueError as error:
        assume("fits the buffers" not in str(error))
        raise


@st.composite
def grouped(draw):
    """One product of several small groups."""
    groups = draw(st.integers(1, 9))
    net = Shapes(draw(st.integers(2, 16)), draw(st.integers(2, 16)))
    x = net.input((draw(st.integers(1, 30)), groups * draw(st.integers(1, 7))))
    net.conv("fc", x, groups * draw(st.integers(1, 5)), groups=groups)
    return net.program("grouped")


@settings(max_examples=120)
@given(st.one_of(layer_shapes(), grouped()), machines(types=PE_KINDS), st.integers(1, 2))
def test_what_folds_do_is_a_walk_over_them(program, accelerator, batch):
    table, codes, found = evaluated(program, accelerator, batch)
    for place, row in enumerate(found.schedule.plan):
        if row["kind"] == VECTOR:
            assert found.counts["macs"][place] == 0
            continue
        seen, counts = naive_cost.on_chip(row, codes), found.counts[place]
        layer = table.layers[place]
        assert seen["macs"] == layer["m"] * layer["k"] * layer["n"] * layer["groups"] * batch
        for name in ("macs", "operations", "weight_register", "act_register", "sum_register"):
            assert counts[name] == seen[name], name
        assert found.times["folds"][place] == seen["folds"]
        _check_buffers(row, codes, counts, seen)


@pytest.mark.parametrize("groups", [5, 6, 7])
@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_the_last_pack_of_groups_may_be_smaller(groups, dataflow):
    net = Shapes()
    net.conv("fc", net.input((3, 2 * groups)), 3 * groups, groups=groups)
    accelerator = endless(array__dataflow=dataflow, weight_sram__word_bits=16, activation_sram__word_bits=16)
    _, codes, found = evaluated(net.program("groups"), accelerator)
    row = found.schedule.plan[0]
    assert row["pack"] == 2
    _check_buffers(row, codes, found.counts[0], naive_cost.on_chip(row, codes))


def _check_buffers(row, codes, counts, seen):
    word = naive_cost.words
    second = int(row["second_bytes"]) if not row["second_kept"] else 0
    loaded = int(counts["ifmap"]) - second * int(row["again_w"])
    copies = word(int(row["copy_bytes"]) * 8, codes.act.word)
    stored = word(int(counts["ofmap"]) * 8, codes.act.word)
    moved = word(int(row["second_bytes"]) * 8, codes.act.word) if row["second_kept"] and row["second_bytes"] else 0
    assert counts["act_read"] == seen["act_read"] + stored + copies + moved
    written = word(int(row["output_bytes"]) * 8, codes.act.word) + word(loaded * 8, codes.act.word) + copies
    assert counts["act_write"] == written
    loads = {0: -(-int(row["m"]) // max(1, int(row["stream_tile"]))), 1: -(-int(row["m"]) // codes.array.rows)}
    loads[2] = -(-int(row["m"]) // codes.array.cols)
    biases = word(int(row["biases"]) * codes.sum_bits, codes.weight.word) * loads[codes.array.dataflow]
    assert counts["weight_read"] == seen["weight_read"] + biases
    passing = int(counts["weights"]) + second * int(row["again_w"])
    moved = word(int(row["second_bytes"]) * 8, codes.weight.word) if row["second_kept"] and row["second_bytes"] else 0
    assert counts["weight_write"] == word(passing * 8, codes.weight.word) + moved
    spilled = word(int(counts["psum_out"]) * 8, codes.sums.word)
    assert counts["sums_read"] == seen["sums_read"] + spilled
    assert counts["sums_write"] == seen["sums_write"] + spilled


@settings(max_examples=100)
@given(layer_shapes(), machines(types=PE_KINDS))
def test_traffic_is_a_walk_over_tiles(program, accelerator):
    _, codes, found = evaluated(program, accelerator)
    for row, counts in zip(found.schedule.plan, found.counts, strict=True):
        if row["kind"] == VECTOR:
            continue
        seen = naive_cost.dram(row, codes.sum_bits)
        assert counts["weights"] - row["fetch_weights"] == row["weight_bytes"] * seen["weights"]
        assert abs(float(seen["out"]) - counts["psum_out"]) <= row["trips_k"]
        assert abs(float(seen["in"]) - counts["psum_in"]) <= row["trips_k"]
        if not row["act_kept"]:
            fetched = int(counts["ifmap"] - row["fetch_first"])
            assert row["again_a"] == seen["acts"]
            whole = row["act_bytes"] * row["again_a"]
            assert fetched >= whole
            if row["trips_m"] * row["trips_k"] == 1:
                assert fetched == whole


@settings(max_examples=60)
@given(layer_shapes(), machines(types=PE_KINDS), st.integers(1, 2))
def test_tiles_of_the_time_model_move_what_is_counted(program, accelerator, batch):
    """Transfers are rounded up to cycles and shares of tiles to bytes; beyond that nothing is lost or added."""
    table, codes, found = evaluated(program, accelerator, batch)
    codes = codes._replace(bytes_per_cycle=1.0)
    tiles = tile_table(table.layers, found.schedule.plan, codes, tiling.PLACES)
    for place, counts in enumerate(found.counts):
        rows = tiles[tiles["layer"] == place]
        number = int(rows["repeat"].sum())
        loaded = int(((rows["load_weights"] + rows["load_acts"]) * rows["repeat"]).sum())
        stored = int((rows["store"] * rows["repeat"]).sum())
        row = found.schedule.plan[place]
        slack = 3 * number + 3 * int(row["units"])
        assert abs(loaded - int(counts["weights"] + counts["ifmap"] + counts["psum_in"])) <= slack
        assert abs(stored - int(counts["ofmap"] + counts["psum_out"])) <= slack


# --- compulsory traffic ----------------------------------------------------------------------------------------------


def stored(bits, storage):
    return {"packed": bits, "byte": 8 * math.ceil(bits / 8), "pow2": 2 ** math.ceil(math.log2(bits))}[storage]


def compulsory(program, accelerator, batch=1):
    """Return bytes of weights, network input and output as they lie in memory, from the Program alone."""
    storage, accumulator = accelerator.storage, accelerator.accumulator.bits
    act_word, weight_word = accelerator.activation_sram.word_bits, accelerator.weight_sram.word_bits

    def lines(count, length, bits, word):
        return count * math.ceil(length * stored(bits, storage) / word) * word

    weights = 0
    for op in program.ops:
        bits = 0
        if op.kind == "conv":
            out, k = op.weight.shape[0], math.prod(op.weight.shape[1:])
            bits += min(lines(out, k, op.storage_bits, weight_word), lines(k, out, op.storage_bits, weight_word))
            bits += out * accumulator
            after = next(item for item in program.ops if op.output in item.inputs)
            bits += 32 * (after.multiplier.size + 2)
            before = [item for item in program.ops if item.output == op.inputs[0] and item.kind == "duplicate"]
            for item in before:
                channels = program.tensors[item.inputs[0]].shape[-1]
                bits += (item.source.size - channels) * max(1, math.ceil(math.log2(channels)))
        weights += math.ceil(bits / 8)

    def tensor(name):
        item = program.tensors[name]
        line = math.prod(item.shape[-2:]) if len(item.shape) >= 3 else item.shape[-1]
        return batch * lines(math.prod(item.shape) // line, line, item.bits, act_word) // 8

    ends = [sum(tensor(name) for name in names) for names in (program.inputs, program.outputs)]
    return weights, ends[0], ends[1]


@settings(max_examples=60)
@given(
    layer_shapes(),
    st.sampled_from(("ws", "os", "is")),
    st.sampled_from(("packed", "pow2", "byte")),
    st.sampled_from(("on_read", "copy_pass")),
    st.integers(1, 3),
)
def test_endless_buffers_move_what_is_compulsory_and_no_more(program, dataflow, storage, duplication, batch):
    accelerator = endless(array__dataflow=dataflow, storage=storage, duplication=duplication)
    result = simulate(program, accelerator, batch=batch)
    weights, given_in, given_out = compulsory(program, accelerator, batch)
    assert result.dram_traffic == {"weights": weights, "ifmap": given_in, "ofmap": given_out, "psum": 0}
    assert result.weight_bytes == weights
    assert result.dram_bytes == weights + given_in + given_out


@settings(max_examples=60)
@given(layer_shapes(), machines(types=PE_KINDS), st.integers(1, 3))
def test_no_machine_moves_less_than_what_is_compulsory(program, accelerator, batch):
    try:
        result = simulate(program, accelerator, batch=batch)
    except ValueError as error:
        assume("fits the buffers" not in str(error))
        raise
    weights, given_in, given_out = compulsory(program, accelerator, batch)
    assert result.dram_traffic["weights"] >= weights
    assert result.dram_traffic["ifmap"] >= given_in
    assert result.dram_traffic["ofmap"] >= given_out


# --- what stays on chip ----------------------------------------------------------------------------------------------


def two_layers():
    net = Shapes()
    x = net.conv("one", net.input((16, 16, 16)), 16, 3)
    net.conv("two", x, 16, 3)
    return net.program("two")


def test_outputs_stay_on_chip_where_they_and_the_next_layer_fit():
    size = 16 * 16 * 16
    roomy, tight = (machine(activation_sram__bytes=room) for room in (4 * size, size))
    kept, moved = simulate(two_layers(), roomy), simulate(two_layers(), tight)
    assert (kept.dram_traffic["ifmap"], kept.dram_traffic["ofmap"]) == (size, size)
    assert kept.layers[0].dram_traffic["ofmap"] == 0
    assert kept.layers[1].dram_traffic["ifmap"] == 0
    assert moved.layers[0].dram_traffic["ofmap"] == size
    assert moved.layers[1].dram_traffic["ifmap"] >= size
    assert moved.dram_traffic["ofmap"] == 2 * size
    assert kept.layers[0].tiling["output_on_chip"]
    assert not moved.layers[0].tiling["output_on_chip"]


@pytest.mark.parametrize("dataflow", ["ws", "is"])
def test_partial_sums_leave_the_chip_only_where_they_do_not_fit(dataflow):
    program = mlp(4096, 64, rows=64)
    kept = simulate(program, machine(array__dataflow=dataflow))
    assert kept.dram_traffic["psum"] == 0
    assert not kept.layers[0].tiling["psum_spilled"]
    small = machine(
        array__dataflow=dataflow, accumulator_sram__bytes=128, weight_sram__bytes=1200, activation_sram__bytes=1500
    )
    spilled = simulate(program, small)
    trips = spilled.layers[0].tiling["trips"]["k"]
    if spilled.layers[0].tiling["psum_spilled"]:
        assert spilled.dram_traffic["psum"] == 2 * (trips - 1) * 64 * 64 * 40 // 8
    assert spilled.dram_bytes > kept.dram_bytes


def test_a_copy_pass_writes_and_reads_the_copies_and_reading_twice_does_not():
    net = Shapes()
    x = net.conv("one", net.input((16, 16, 16)), 16, 3)
    net.conv("two", x, 16, 3, splits=4)
    program = net.program("split")
    read, copied = (simulate(program, machine(duplication=how)) for how in ("on_read", "copy_pass"))
    assert read.stall_cycles["duplicate"] == 0
    assert copied.stall_cycles["duplicate"] == math.ceil(16 * 16 * 4 / 8)
    extra = 16 * 16 * 4 * 8 // 64
    for action in ("read", "write"):
        assert copied.activity.of("activation_sram", action) - read.activity.of("activation_sram", action) == extra
    assert copied.activity.of("vector", "copy") == 16 * 16 * 4
    assert read.activity.of("vector", "copy") == 0
    assert read.weight_bytes == copied.weight_bytes > simulate(two_layers(), machine()).weight_bytes


# --- batch and cores -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", [mobilenet(), attention(), resnet50(8, 8, 0.05)], ids=lambda program: program.name)
@pytest.mark.parametrize("cores", [2, 3])
def test_cores_do_the_work_of_one_together(program, cores):
    one, many = simulate(program, machine(activation_sram__bytes=1 << 22)), None
    for batch in (1, cores, 2 * cores + 1):
        many = simulate(program, machine(activation_sram__bytes=1 << 22, cores=cores), batch=batch)
        assert sum(layer.macs for layer in many.layers) == batch * one.macs
        assert many.activity.of("pe", "mac") == batch * one.activity.of("pe", "mac")
        assert many.activity.of("requantizer") == batch * one.activity.of("requantizer")
        assert many.area_um2["total"] == pytest.approx(cores * one.area_um2["total"])
        if batch == 1:
            assert many.activity.of("interconnect") > 0
        else:
            assert many.activity.of("interconnect") == 0


@pytest.mark.parametrize("cores", [1, 2, 4])
def test_a_batch_shares_its_weights(cores):
    accelerator = endless(cores=cores)
    one, eight = simulate(two_layers(), accelerator, batch=cores), simulate(two_layers(), accelerator, batch=8 * cores)
    assert eight.dram_traffic["weights"] == one.dram_traffic["weights"]
    assert eight.dram_traffic["ifmap"] == 8 * one.dram_traffic["ifmap"]


def test_a_batch_in_several_passes_is_the_sum_of_its_passes():
    program, accelerator = two_layers(), machine(activation_sram__bytes=3 * 16 * 16 * 16)
    result = simulate(program, accelerator, batch=5)
    size = result.schedule.samples
    parts = [size] * (5 // size) + ([5 % size] if 5 % size else [])
    passes = [simulate(program, accelerator, batch=part, schedule=result.schedule) for part in parts]
    assert sum(item.dram_bytes for item in passes) <= simulate(program, accelerator, batch=1).dram_bytes * 5
    assert sum(layer.macs for layer in result.layers) == 5 * simulate(program, accelerator).macs


def test_products_of_a_network_are_counted_once():
    program = resnet50()
    convs = [op for op in program.ops if op.kind == "conv"]
    expected = sum(math.prod(program.tensors[op.output].shape) * math.prod(op.weight.shape[1:]) for op in convs)
    result = simulate(program, machine(activation_sram__bytes=1 << 20))
    assert result.macs == expected == sum(np.asarray([layer.macs for layer in result.layers]))
    assert layer_table(program).layers["kind"].tolist().count(CONV) == len(convs) == 54
