"""PE types on the array: what they compute, how fast, and how often registers toggle. Prices are tested elsewhere."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import machine
from programs import conv_program, random_inputs

from accelsim import reference
from accelsim.arith import Accumulation
from accelsim.config import Accelerator
from accelsim.dataflow import DATAFLOWS, Operands, make_job
from accelsim.execute import accumulations, execute, layer_groups, operand_bits
from accelsim.pe import PE_TYPES, built_widths, pe_type, serial_steps, sum_bits, too_wide
from accelsim.program import Conv, Program
from accelsim.register import array_shape, execute_register

ONE = st.sampled_from((1, 1, 2, 3, 5, 8))


def accelerator_of(
    kind: str, dataflow: str, rule: str, array: tuple[int, int, int], sums: tuple[int, int]
) -> Accelerator:
    rows, cols, depth = array
    psum, bits = sums
    width = {"fixed": 9, "native": 18, "composable": 8, "bit_serial": 16}[kind]
    return machine(
        array={"rows": rows, "cols": cols, "dataflow": dataflow, "double_buffered": True, "pipeline_depth": depth},
        pe={"type": kind, "weight_bits": width, "act_bits": width},
        accumulator={"psum_bits": psum, "bits": bits, "psum_overflow": rule, "overflow": rule},
        accumulator_sram__word_bits=4096,
        weight_sram__word_bits=4096,
        activation_sram__word_bits=4096,
    )


@st.composite
def layers(draw: Any) -> Program:
    """Convolutions of ragged shapes: m, k, n from 1 on, groups, depthwise, 2 to 8 bits."""
    groups = draw(st.sampled_from((1, 1, 1, 2, 5)))
    inputs, outputs = (1, 1) if groups == 5 else (draw(ONE), draw(ONE))
    kernel = draw(st.sampled_from((1, 1, 2, 3)))
    bits = draw(st.sampled_from((2, 3, 4, 7, 8)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    half = 1 << (bits - 1)
    weight = rng.integers(1 - half, half, (outputs * groups, kernel, kernel, inputs))
    bias = rng.integers(-200, 200, outputs * groups)
    shape = (draw(st.integers(kernel, kernel + 2)), draw(st.integers(kernel, kernel + 2)), inputs * groups)
    low, high = draw(st.sampled_from(((-half, half - 1), (0, 2 * half - 1))))
    return conv_program(weight, bias, shape, low, high, groups=groups)


def _sums(draw: Any, wide: bool) -> tuple[int, int]:
    psum = 32 if wide else draw(st.integers(6, 16))
    return psum, psum + (8 if wide else draw(st.integers(0, 4)))


@pytest.mark.parametrize(("kind", "dataflow", "rule"), [*product(PE_TYPES, DATAFLOWS, ("wrap", "saturate"))])
@settings(max_examples=8)
@given(data=st.data())
def test_every_pe_on_every_array_gives_the_references_integers(
    kind: str, dataflow: str, rule: str, data: st.DataObject
) -> None:
    program = data.draw(layers())
    array = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3)))
    accelerator = accelerator_of(kind, dataflow, rule, array, _sums(data.draw, False))
    inputs, rules = random_inputs(program, 2, data.draw(st.integers(0, 9))), accumulations(program, accelerator)
    expected = reference.run(program, inputs, rules)
    mode = data.draw(st.sampled_from(("isolated", "overlapped")))
    seen = execute_register(program, inputs, accelerator, mode=mode, toggles=True)
    np.testing.assert_array_equal(seen.outputs["y"], expected.values["y"])
    met, mine = expected.overflow.get("layer"), seen.overflow.get("layer")
    assert (met.differing if met else 0) == (mine.differing if mine else 0)
    assert (int(met.events.sum()) if met else 0) == (int(mine.events.sum()) if mine else 0)
    np.testing.assert_array_equal(execute(program, inputs, accelerator).outputs["y"], expected.values["y"])
    _check_closed_forms(program, inputs, accelerator, mode, seen.runs["layer"])


def _check_closed_forms(program: Program, inputs: Any, accelerator: Accelerator, mode: str, runs: Any) -> None:
    op = program.ops[0]
    assert isinstance(op, Conv)
    widths, dataflow = operand_bits(program, op), DATAFLOWS[accelerator.array.dataflow]
    shape, rules = array_shape(accelerator, *widths), accelerator.accumulation(*widths)
    groups = layer_groups(op, [inputs["x"]])
    assert len(groups) == len(runs) == op.groups
    for (rows, columns, bias), run in zip(groups, runs, strict=True):
        operands = Operands(rows, columns, bias, act_bits=widths[1], weight_bits=widths[0])
        assert run.cycles == dataflow.cycles(operands.gemm, shape, mode, None)
        assert run.toggles == dataflow.toggles(make_job(dataflow, operands, shape, rules, mode))
        assert run.counts.macs == operands.gemm.m * operands.gemm.k * operands.gemm.n


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@settings(max_examples=20)
@given(data=st.data())
def test_the_type_of_pe_changes_no_result_where_sums_fit(dataflow: str, data: st.DataObject) -> None:
    program = data.draw(layers())
    inputs = random_inputs(program, 1, 0)
    array = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3)))
    results = [
        execute_register(program, inputs, accelerator_of(kind, dataflow, "error", array, (32, 40))).outputs["y"]
        for kind in PE_TYPES
    ]
    exact = reference.run(program, inputs).values["y"]
    for result in results:
        np.testing.assert_array_equal(result, exact)


@pytest.mark.parametrize(("kind", "dataflow"), [*product(PE_TYPES, DATAFLOWS)])
@settings(max_examples=10)
@given(data=st.data())
def test_rule_error_raises_where_the_reference_overflows(kind: str, dataflow: str, data: st.DataObject) -> None:
    program = data.draw(layers())
    inputs = random_inputs(program, 1, 1)
    array = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 2)))
    sums = _sums(data.draw, False)
    tolerant = accelerator_of(kind, dataflow, "wrap", array, sums)
    met = reference.run(program, inputs, accumulations(program, tolerant)).overflow.get("layer")
    strict = accelerator_of(kind, dataflow, "error", array, sums)
    if met is not None and met.events.any():
        with pytest.raises(OverflowError, match="layer 'layer'"):
            execute_register(program, inputs, strict)
    else:
        exact = reference.run(program, inputs).values["y"]
        np.testing.assert_array_equal(execute_register(program, inputs, strict).outputs["y"], exact)


@pytest.mark.parametrize("dataflow", ["ws", "is"])
@settings(max_examples=30)
@given(data=st.data())
def test_groups_packed_on_the_diagonal_are_the_groups_one_by_one(dataflow: str, data: st.DataObject) -> None:
    """Depthwise, packed: several groups in one fold, zeros off the diagonal, give each group's sums and overflows."""
    groups, k, n, m = (data.draw(st.integers(low, high)) for low, high in ((2, 4), (1, 4), (1, 2), (1, 4)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    a, w = rng.integers(-8, 8, (groups, m, k)), rng.integers(-8, 8, (groups, k, n))
    flow, columns = DATAFLOWS[dataflow], n if dataflow == "ws" else m
    accelerator = machine(array__rows=groups * k, array__cols=groups * columns, array__dataflow=dataflow)
    shape = array_shape(accelerator, 4, 4)
    rules = Accumulation(fold_k=groups * k, psum_bits=data.draw(st.integers(5, 12)), psum_overflow="saturate")
    alone = [flow.register(make_job(flow, Operands(a[g], w[g], None, 4, 4), shape, rules), True) for g in range(groups)]
    packed_a, packed_w = np.concatenate(a, axis=1), np.zeros((groups * k, groups * n), dtype=np.int64)
    if dataflow == "is":
        packed_a, packed_w = np.zeros((groups * m, groups * k), dtype=np.int64), np.concatenate(w, axis=0)
    for g in range(groups):
        if dataflow == "ws":
            packed_w[g * k : (g + 1) * k, g * n : (g + 1) * n] = w[g]
        else:
            packed_a[g * m : (g + 1) * m, g * k : (g + 1) * k] = a[g]
    together = flow.register(make_job(flow, Operands(packed_a, packed_w, None, 4, 4), shape, rules), True)
    axis = 1 if dataflow == "ws" else 0
    np.testing.assert_array_equal(together.outputs, np.concatenate([run.outputs for run in alone], axis=axis))
    np.testing.assert_array_equal(together.hop_events, np.concatenate([run.hop_events for run in alone], axis=axis))
    assert together.cycles == alone[0].cycles


PRODUCTS = {
    (8, 8): 1,
    (5, 8): 1,
    (4, 8): 2,
    (4, 4): 4,
    (3, 4): 4,
    (3, 3): 4,
    (2, 8): 4,
    (2, 4): 8,
    (2, 2): 16,
    (9, 9): 1,
}


@pytest.mark.parametrize(("widths", "products"), [*PRODUCTS.items()])
def test_composable_pes_round_odd_widths_up_to_bricks(widths: tuple[int, int], products: int) -> None:
    accelerator = machine(pe={"type": "composable", "weight_bits": 8, "act_bits": 8, "brick_bits": 2})
    assert pe_type(accelerator).products(accelerator, *widths) == products
    assert array_shape(accelerator, *widths).products_per_pe == products
    coarse = machine(pe={"type": "composable", "weight_bits": 8, "act_bits": 8, "brick_bits": 4})
    at_least_a_brick = tuple(max(4, bits) for bits in widths)
    assert pe_type(coarse).products(coarse, *widths) == accelerator.products_per_pe(*at_least_a_brick)


@pytest.mark.parametrize(("serial", "steps"), [("weight", 5), ("activation", 3), ("both", 15)])
def test_bit_serial_pes_take_a_cycle_a_bit(serial: str, steps: int) -> None:
    accelerator = machine(pe={"type": "bit_serial", "weight_bits": 8, "act_bits": 8, "serial": serial})
    assert serial_steps(accelerator, 5, 3) == steps
    assert pe_type(accelerator).cycles(accelerator, 5, 3) == steps


@pytest.mark.parametrize("kind", ["fixed", "native", "composable"])
def test_other_pes_take_one_cycle_whatever_the_width(kind: str) -> None:
    accelerator = machine(pe={"type": kind, "weight_bits": 8, "act_bits": 8})
    for widths in product((2, 5, 8), repeat=2):
        assert pe_type(accelerator).cycles(accelerator, *widths) == 1
        assert kind == "composable" or pe_type(accelerator).products(accelerator, *widths) == 1


def test_only_native_pes_are_built_as_the_network_needs() -> None:
    for kind in PE_TYPES:
        accelerator = machine(pe={"type": kind, "weight_bits": 8, "act_bits": 8})
        built = built_widths(accelerator, 4, 9)
        assert (built.weight, built.act) == ((4, 9) if kind == "native" else (8, 9))
        assert built.total == sum_bits(accelerator) == 32
        assert bool(too_wide(accelerator, 10, 8)) == (kind != "native")
        assert not too_wide(accelerator, 9, 9), "a zero point's bit goes through"
    assert too_wide(machine(pe__weight_bits=8), 8, 18) == "activation operands of 18 bits on PEs of 16"


def test_the_sum_of_a_pe_is_the_accumulator_under_os() -> None:
    assert sum_bits(machine(array__dataflow="os")) == 40
    assert sum_bits(machine(array__dataflow="ws")) == 32
