"""The table of layers against the Program it is made of."""

import math

import pytest
from networks import Shapes, attention, mobilenet, resnet50
from programs import seeded_program

from accelsim.layers import CONV, MATMUL, VECTOR, layer_table
from accelsim.program import Program


@pytest.mark.parametrize("program", [resnet50(4, 8, 0.05), mobilenet(), attention()], ids=lambda p: p.name)
def test_products_have_the_sizes_of_their_ops(program):
    table, ops = layer_table(program), {op.name: op for op in program.ops}
    for name, row in zip(table.names, table.layers, strict=True):
        op = ops[name]
        if row["kind"] == CONV:
            out, kh, kw, channels = op.weight.shape
            assert row["k"] == kh * kw * channels
            assert row["n"] * row["groups"] == out
            assert row["m"] == math.prod(program.tensors[op.output].shape[:-1])
            assert (row["weight_bits"], row["act_bits"]) == (op.weight_bits, program.tensors[op.inputs[0]].bits)
        elif row["kind"] == MATMUL:
            sizes = row["groups"] * row["m"] * row["n"]
            assert sizes == program.tensors[op.output].size
        else:
            assert row["kind"] == VECTOR
            assert row["k"] == 0
    assert sum(table.products) == sum(op.kind in ("conv", "matmul") for op in program.ops)


@pytest.mark.parametrize("seed", range(24))
def test_every_op_is_in_one_layer_or_is_another_name(seed):
    program = seeded_program(seed)
    table = layer_table(program)
    inside = [name for sequence in table.sequences for name in sequence]
    assert len(inside) == len(set(inside))
    assert set(inside) == {op.name for op in program.ops if op.kind != "reshape"}


@pytest.mark.parametrize("seed", range(24))
def test_tensors_are_made_before_they_are_read(seed):
    table = layer_table(seeded_program(seed))
    for place, row in enumerate(table.layers):
        for source in table.reads[row["reads_from"] : row["reads_to"]]:
            assert table.tensors[source]["made_by"] < place
            assert table.tensors[source]["last_read"] >= place


def test_a_duplicate_belongs_to_the_layer_behind_it():
    net = Shapes()
    net.conv("conv", net.input((4, 4, 6)), 8, 3, splits=2)
    table = layer_table(net.program("split"))
    (row,) = table.layers
    assert table.sequences == (("conv.duplicate", "conv", "conv.requantize"),)
    assert (row["splits"], row["copies"], row["halved"]) == (2, 2 * 16, 0)
    assert row["gather_bits"] == 2 * 3  # two indices of six channels
    assert row["k"] == 9 * 8


def test_the_table_is_made_once_per_program():
    program = mobilenet()
    assert layer_table(program) is layer_table(program)
    assert layer_table(mobilenet()) is not layer_table(program)


def test_an_empty_program_is_refused():
    program = Program(name="none", tensors={}, inputs=(), outputs=(), ops=())
    with pytest.raises(ValueError, match="has no ops; there is nothing to simulate"):
        layer_table(program)
