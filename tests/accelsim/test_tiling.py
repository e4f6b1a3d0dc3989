"""Tiles with the least DRAM traffic against all tiles there are; what a tile reads against the pixels it touches."""

import naive_cost
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from machines import machine
from networks import Shapes

from accelsim import simulate, tiling
from accelsim.codes import machine_codes
from accelsim.layers import layer_table
from accelsim.schedule import make_schedule


def scheduled(program, accelerator):
    table = layer_table(program)
    codes = machine_codes(accelerator, accelerator.timing_mode, 1)
    work = np.ones((len(table), 2), dtype=np.int64)
    try:
        return table, codes, make_schedule(table, codes, work, 1)
    except ValueError:
        assume(False)
        raise


def steps(row, codes):
    """Return the sizes that tiles of m, k and n are multiples of."""
    array = codes.array
    return {
        0: (1, array.rows, array.cols),
        1: (array.rows, int(row["k"]), array.cols),
        2: (array.cols, array.rows, 1),
    }[array.dataflow]


def fits(layer, row, codes, tile):
    """Tell whether a tile fits all three buffers."""
    m, k, n = tile
    if tiling.weight_tile_bytes(row, k, n) > codes.weight.room:
        return False
    if tiling.staged_bytes(layer, row, codes, m, k, n) > row["free_bytes"]:
        return False
    flow = codes.array.dataflow
    if k == row["k"] and flow != 1:
        # Tiles are whole stream chunks, that fill at least half of the accumulator buffer, or all there is.
        length, whole = (m, row["m"]) if flow == 0 else (n, row["n"])
        room = 8 * codes.sums.room // (codes.array.cols * codes.sum_bits)
        return length in (whole, *range(room + 1)) or any(
            length % chunk == 0 for chunk in range(-(-room // 2), room + 1)
        )
    if flow != 1:
        return m * max(n, steps(row, codes)[2]) * codes.sum_bits <= 8 * codes.sums.room
    return True


def moved(layer, row, codes, tile, order):
    """Return the DRAM bytes of a layer, by a walk over its tiles."""
    sizes = dict(zip("mkn", tile, strict=True))
    walked = {name: int(row[name]) for name in ("m", "k", "n", "groups", "pack", "units")}
    walked |= {f"tile_{name}": size for name, size in sizes.items()} | {"order": order}
    seen = naive_cost.dram(walked, codes.sum_bits)
    total = row["weight_bytes"] * seen["weights"] + seen["out"] + seen["in"]
    if not row["act_kept"]:
        total += seen["acts"] * tiling.pass_bytes(layer, row, tile[0], tile[1]) * int(row["units"])
    return float(total)


def least(layer, row, codes):
    """Return the least traffic over all tiles and orders."""
    best = None
    whole = [int(row[name]) for name in "mkn"]
    choices = [
        sorted({min(size, limit) for size in range(step, limit + step, step)})
        for step, limit in zip(steps(row, codes), whole, strict=True)
    ]
    for m in choices[0]:
        for k in choices[1]:
            for n in choices[2]:
                if not fits(layer, row, codes, (m, k, n)):
                    continue
                for order in range(len(naive_cost.ORDERS)):
                    found = moved(layer, row, codes, (m, k, n), order)
                    best = found if best is None or found < best else best
    return best


@st.composite
def cut_layers(draw):
    """A linear layer or a convolution, and buffers too small for it."""
    net = Shapes(draw(st.sampled_from((2, 4, 8))), draw(st.sampled_from((4, 8))))
    if draw(st.booleans()):
        net.conv("fc", net.input((draw(st.integers(1, 12)), draw(st.integers(1, 30)))), draw(st.integers(1, 20)))
    else:
        side = draw(st.integers(2, 4))
        net.conv("conv", net.input((side, side, draw(st.integers(1, 3)))), draw(st.integers(1, 12)), 3)
    accelerator = machine(
        array={
            "rows": draw(st.integers(4, 12)),
            "cols": draw(st.integers(4, 12)),
            "dataflow": draw(st.sampled_from(("ws", "os", "is"))),
        },
        pe={"type": "native"},
        activation_sram={"bytes": draw(st.integers(64, 300)), "word_bits": 8, "double_buffered": draw(st.booleans())},
        weight_sram={"bytes": draw(st.integers(64, 300)), "word_bits": 8, "double_buffered": draw(st.booleans())},
        accumulator_sram={"bytes": draw(st.integers(256, 800)), "word_bits": 8},
    )
    return net.program("cut"), accelerator


@settings(max_examples=5)
@given(cut_layers())
def test_the_tiles_chosen_are_the_least_of_all(case):
    check_least(case)


@pytest.mark.slow
@settings(max_examples=60)
@given(cut_layers())
def test_the_tiles_chosen_are_the_least_of_all_in_many_layers(case):
    check_least(case)


def check_least(case):
    table, codes, schedule = scheduled(*case)
    layer, row = table.layers[0], schedule.plan[0]
    tile = tuple(int(row[f"tile_{name}"]) for name in "mkn")
    best = least(layer, row, codes)
    if best is None:
        assert codes.array.dataflow == 1  # outputs that do not fit with all of k: k is cut within a fold
        assert tile[1] < row["k"]
        return
    assert fits(layer, row, codes, tile)
    assert moved(layer, row, codes, tile, int(row["order"])) <= best + 1e-9


def test_a_machine_too_small_for_one_fold_is_refused_by_name():
    net = Shapes()
    net.conv("wide", net.input((4, 3000)), 8)
    with pytest.raises(ValueError, match=r"not one fold of wide fits the buffers .* enlarge them or shrink the array"):
        simulate(net.program("wide"), machine(pe={"type": "native"}, weight_sram={"bytes": 64, "word_bits": 8}))


def lines_touched(start, stop, width, kernel, stride):
    """Input lines that outputs start..stop of a map of `width` outputs a line need, no padding."""
    return {row * stride + tap for row in {at // width for at in range(start, stop)} for tap in range(kernel)}


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_tile_of_whole_lines_reads_the_lines_it_touches(kernel, stride):
    net = Shapes()
    net.conv("conv", net.input((23, 23, 4)), 8, kernel, stride)
    table, _, schedule = scheduled(net.program("map"), machine(activation_sram__word_bits=8))
    layer, row = table.layers[0], schedule.plan[0]
    width, height = int(layer["line_outputs"]), int(row["m"]) // int(layer["line_outputs"])
    line = int(row["act_bytes"]) // 23
    for lines in range(1, height):
        touched = len(lines_touched(0, lines * width, width, kernel, stride))
        spanned = max(touched, lines * stride)  # lines that a stride skips are fetched too
        assert tiling.footprint(layer, row, lines * width, int(row["k"])) == line * min(spanned, 23)
    assert tiling.footprint(layer, row, int(row["m"]), int(row["k"])) == row["act_bytes"]
