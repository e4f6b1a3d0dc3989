"""Splits that fill the array's last fold: the room by a slow count, and that filling adds no array cycle."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import endless
from networks import Shapes

from accelsim import simulate
from accelsim.plan import fold_filling

ARRAYS = [(8, 8), (12, 14), (32, 16), (64, 64), (256, 256)]


def net(channels, kernel, splits=0, bits=8, groups=1):
    shapes = Shapes(bits, bits)
    shapes.conv("conv", shapes.input((9, 9, channels)), 24 if groups == 1 else channels, kernel, 1, groups, splits)
    return shapes.program("net")


def folds_along_k(rows_eff, k):
    """Count folds by laying products down one by one."""
    folds, free = 0, 0
    for _ in range(k):
        if not free:
            folds, free = folds + 1, rows_eff
        free -= 1
    return folds, free


@settings(max_examples=100)
@given(st.integers(1, 90), st.sampled_from((1, 3, 5)), st.sampled_from(ARRAYS), st.integers(0, 3), st.integers(2, 8))
def test_the_fill_is_what_the_last_fold_has_room_for(channels, kernel, array, more, bits):
    rows, cols = array
    for kind in ("fixed", "composable"):
        widths = {"weight_bits": 8, "act_bits": 8}
        accelerator = endless(array={"rows": rows, "cols": cols, "dataflow": "ws"}, pe={"type": kind, **widths})
        program = net(channels, kernel, bits=bits)
        (layer,) = fold_filling(program, accelerator, more).layers
        act = program.tensors["input"].bits
        rows_eff = rows * accelerator.products_per_pe(bits, act)
        k = channels * kernel**2
        folds, free = folds_along_k(rows_eff, k)
        assert (layer.k, layer.folds, layer.rows_eff, layer.idle) == (k, folds, rows_eff, free)
        splits = 0
        while splits < channels and folds_along_k(rows_eff, k + (splits + 1) * kernel**2)[0] <= folds + more:
            splits += 1
        assert layer.splits == splits
        assert layer.added_folds == folds_along_k(rows_eff, k + splits * kernel**2)[0] - folds
        assert bool(layer.reason) == (splits == 0)


@settings(max_examples=40)
@given(
    st.integers(1, 60),
    st.sampled_from((1, 3)),
    st.sampled_from(ARRAYS),
    st.sampled_from(("ws", "is")),
    st.sampled_from(("isolated", "overlapped")),
)
def test_filling_adds_no_array_cycle_and_one_more_channel_adds_a_fold(channels, kernel, array, dataflow, mode):
    rows, cols = array
    accelerator = endless(array={"rows": rows, "cols": cols, "dataflow": dataflow})
    plan = fold_filling(net(channels, kernel), accelerator)
    splits = dict(plan.splits).get("conv", 0)
    before, after, beyond = (
        simulate(net(channels, kernel, number), accelerator, timing_mode=mode) for number in (0, splits, splits + 1)
    )
    assert after.array_cycles == before.array_cycles
    assert after.folds == before.folds
    if splits:
        assert after.weight_bytes > before.weight_bytes
    if splits < channels:
        assert beyond.folds > before.folds
        assert beyond.array_cycles > before.array_cycles


def test_the_example_of_a_64_row_array():
    accelerator = endless(array={"rows": 64, "cols": 64, "dataflow": "ws"})
    assert fold_filling(net(64, 1), accelerator).splits == ()
    assert fold_filling(net(64, 1), accelerator, folds=1).splits == (("conv", 64),)
    (layer,) = fold_filling(net(64, 3), accelerator).layers
    assert layer.reason == "the last fold has room for 0 of the 9 products that a channel adds"
    assert fold_filling(net(63, 1), accelerator).splits == (("conv", 1),)
    assert fold_filling(net(60, 3), accelerator).splits == (("conv", (9 * 64 - 540) // 9),)


def test_under_os_nothing_is_free_and_the_plan_says_why():
    (layer,) = fold_filling(net(60, 3), endless(array__dataflow="os"), folds=2).layers
    assert layer.splits == 0
    assert "k is time under os" in layer.reason


def test_grouped_layers_are_left_alone_with_a_reason():
    (layer,) = fold_filling(net(12, 3, groups=12), endless()).layers
    assert layer.splits == 0
    assert "grouped" in layer.reason


def test_layers_that_share_parameters_are_planned_once():
    program = net(6, 1)
    (conv, requantize) = program.ops
    again = replace(conv, name="again", shares="conv", output="again.acc")
    tensors = program.tensors | {"again.acc": replace(program.tensors[conv.output], name="again.acc")}
    shared = replace(program, ops=(conv, requantize, again), tensors=tensors)
    assert [layer.name for layer in fold_filling(shared, endless()).layers] == ["conv"]


def test_negative_folds_are_refused():
    with pytest.raises(ValueError, match=r"folds must be >= 0 \(got -1\)"):
        fold_filling(net(6, 1), endless(), -1)
