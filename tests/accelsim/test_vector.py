"""The vector unit: lane operations and cycles of ops against a slow count over elements."""

import math
from collections import Counter

import pytest
from machines import endless, machine
from networks import Shapes, mobilenet, resnet50
from program_builder import Seeded
from program_ops import BUILDERS
from programs import one_op

from accelsim import simulate, technology
from accelsim.activity import Event
from accelsim.vector import lane_work

FREE = ("conv", "matmul", "reshape", "requantize", "constant")


def work_of(program, name):
    return lane_work(program, next(op for op in program.ops if op.name == name))


def counted(work):
    return Counter({(event.action, event.bits): count for event, count in work.events})


@pytest.mark.parametrize("kind", sorted(BUILDERS))
def test_every_op_has_its_place(kind):
    """An op is free for a stated reason, or touches every element it gives and takes a cycle at least for each."""
    for seed in range(4):
        program = one_op(kind, Seeded(seed))
        op = next(op for op in program.ops if op.kind == kind)
        work = lane_work(program, op)
        if kind in FREE:
            assert work.events == ()
            assert work.lane_cycles == 0
            continue
        size = program.tensors[op.output].size
        assert work.lane_cycles >= size
        assert all(event.component == "vector" and count > 0 for event, count in work.events)


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 1), (3, 2)])
def test_a_max_pool_compares_every_window_element_by_element(kernel, stride):
    net = Shapes()
    net.max_pool("pool", net.input((9, 9, 5)), kernel, stride)
    out = net.tensors["pool.out"].shape
    comparisons = 0
    for _ in range(math.prod(out)):
        best = None
        for _ in range(kernel * kernel):
            comparisons += best is not None
            best = 0
    work = work_of(net.program("pool"), "pool")
    assert counted(work) == {("max", (8,)): comparisons}
    assert work.lane_cycles == comparisons


def test_an_add_scales_both_operands_adds_and_clamps():
    net = Shapes()
    x = net.input((4, 4, 3))
    net.add("sum", x, x)
    work, size = work_of(net.program("add"), "sum"), 48
    assert counted(work) == {("multiply", (8, 24)): 2 * size, ("add", (24,)): 2 * size, ("max", (8,)): 2 * size}
    assert work.lane_cycles == 2 * size  # its multiplier, adder and comparator overlap


def test_a_mean_adds_all_pixels():
    net = Shapes()
    net.mean("mean", net.input((7, 5, 6)))
    work = work_of(net.program("mean"), "mean")
    assert counted(work)["add", (8 + math.ceil(math.log2(35)),)] == 35 * 6
    assert work.lane_cycles == 35 * 6


@pytest.mark.parametrize("lanes", [1, 7, 16])
def test_cycles_are_the_lanes_share_of_the_work(lanes):
    net = Shapes()
    net.max_pool("pool", net.input((9, 9, 5)), 3, 1)
    program = net.program("pool")
    result = simulate(program, endless(vector_lanes=lanes, dram__bandwidth_gb_per_s=1e5, dram__latency_ns=0))
    work = math.ceil(9 * 9 * 5 * 8 / lanes)
    assert result.stall_cycles["vector"] == work
    assert result.cycles >= work
    assert result.busy_cycles == result.array_cycles == 0


def test_energy_of_the_vector_unit_is_its_operations_at_their_prices():
    net = Shapes()
    x = net.input((6, 6, 4))
    net.add("sum", net.max_pool("pool", x, 3, 1), x)
    batch, prices = 3, technology("google", 45)
    result = simulate(net.program("both"), machine(), prices, batch=batch)
    size = 6 * 6 * 4
    multiply = prices.multiply_pj(8, 24) + prices.register_pj(32)
    one = size * (2 * multiply + 2 * prices.vector_op_pj("add", 24) + (8 + 2) * prices.vector_op_pj("max", 8))
    assert result.energy_pj["vector"] == pytest.approx(batch * one)


def test_products_cost_the_vector_unit_nothing_but_their_requantization():
    result = simulate(mobilenet(), machine())
    actions = {(event.component, event.action) for event, count in result.activity if count}
    assert ("vector", "copy") not in actions
    requantized = sum(
        math.prod(mobilenet().tensors[op.output].shape) for op in mobilenet().ops if op.kind == "requantize"
    )
    assert result.activity.of("requantizer") == requantized


def test_lane_operations_of_a_network_are_those_of_its_ops():
    program = resnet50()
    expected = Counter()
    for op in program.ops:
        if op.kind not in FREE:
            expected.update(counted(lane_work(program, op)))
    result = simulate(program, machine(activation_sram__bytes=1 << 20), batch=2)
    seen = {(event.action, event.bits): count for event, count in result.activity if event.component == "vector"}
    assert seen == {key: 2 * count for key, count in expected.items()}
    assert result.activity[Event("vector", "nothing", (8,))] == 0
