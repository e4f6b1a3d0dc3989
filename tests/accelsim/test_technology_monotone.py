"""More bits, more bytes or an older node never cost less: for every technology of the registry, and scaled ones."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.technology import NODE_RANGES_NM, TECHNOLOGIES, VECTOR_KINDS, Technology, Toggles, scaled
from accelsim.technology.sram import CactiSram
from accelsim.technology.wires import wire_pj_per_bit_mm

# At every node of the range's ends and a few between; then each technology moved by both scalings.
AT_NODES = [
    factory(node)
    for name, factory in TECHNOLOGIES.items()
    for node in sorted({*NODE_RANGES_NM[name], *np.linspace(*NODE_RANGES_NM[name], 4).tolist()})
]
MOVED = [scaled(TECHNOLOGIES[name](45.0), 14, scaling) for name in TECHNOLOGIES for scaling in ("google", "stillmaker")]
EVERY = [pytest.param(prices, id=f"{prices.name}@{prices.node_nm:g}") for prices in AT_NODES + MOVED]

PE_PRICES = ("mac_pj", "mac_idle_pj", "pe_area_um2", "pe_leakage_mw", "pe_critical_path_ns")


def pairs(low: float, high: float) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(int(low), int(high)), st.integers(int(low), int(high))).map(lambda p: (min(p), max(p)))


operands, sums, words = pairs(2, 16), pairs(8, 64), pairs(1, 2048)
capacities = st.tuples(st.floats(0, 28), st.floats(0, 28)).map(lambda p: (2.0 ** min(p), 2.0 ** max(p)))
nodes = st.tuples(st.floats(7, 45), st.floats(7, 45)).map(sorted)


def rises(low: float | None, high: float | None) -> bool:
    """Whether low <= high up to rounding; absent figures are absent together."""
    if low is None or high is None:
        return low is high
    return low <= high * (1 + 1e-12)


@pytest.mark.parametrize("prices", EVERY)
@given(weight=operands, act=operands, psum=sums, dataflow=st.sampled_from(["ws", "os", "is"]))
def test_pe_prices_rise_with_every_width(prices: Technology, weight, act, psum, dataflow) -> None:
    for name in PE_PRICES:
        price: Callable[..., float | None] = getattr(prices, name)
        low = price(weight[0], act[0], psum[0], dataflow)
        assert rises(low, price(weight[1], act[0], psum[0], dataflow)), name
        assert rises(low, price(weight[0], act[1], psum[0], dataflow)), name
        assert rises(low, price(weight[0], act[0], psum[1], dataflow)), name


@pytest.mark.parametrize("prices", EVERY)
@given(one=pairs(1, 64), other=pairs(1, 64), multiplier=pairs(1, 64))
def test_primitives_requantizer_and_vector_unit_rise_with_every_width(prices, one, other, multiplier) -> None:
    for price in (prices.add_pj, prices.register_pj, prices.vector_lane_area_um2):
        assert rises(price(one[0]), price(one[1]))
    assert rises(prices.multiply_pj(one[0], other[0]), prices.multiply_pj(one[1], other[0]))
    assert rises(prices.multiply_pj(one[0], other[0]), prices.multiply_pj(one[0], other[1]))
    for price in (prices.requantize_pj, prices.requantizer_area_um2):
        low = price(one[0], other[0], multiplier[0])
        assert rises(low, price(one[1], other[0], multiplier[0]))
        assert rises(low, price(one[0], other[1], multiplier[0]))
        assert rises(low, price(one[0], other[0], multiplier[1]))
    for kind in VECTOR_KINDS:
        cap = 16 if kind == "table" else 64
        assert rises(prices.vector_op_pj(kind, min(one[0], cap)), prices.vector_op_pj(kind, min(one[1], cap))), kind


@pytest.mark.parametrize("prices", EVERY)
@given(capacity=capacities, word=words)
def test_memory_prices_rise_with_capacity_and_word(prices: Technology, capacity, word) -> None:
    for price in (prices.sram_read_pj, prices.sram_write_pj, prices.sram_area_um2):
        assert rises(price(capacity[0], word[0]), price(capacity[1], word[0]))
        assert rises(price(capacity[0], word[0]), price(capacity[0], word[1]))
    assert rises(prices.sram_leakage_mw(capacity[0]), prices.sram_leakage_mw(capacity[1]))


@pytest.mark.parametrize("prices", EVERY)
@given(weight=operands, act=operands)
def test_pe_type_factors_rise_with_the_width(prices: Technology, weight, act) -> None:
    for factor in (prices.composable_energy_factor, prices.composable_area_factor):
        values = [factor(bits) for bits in (2, 4, 8, 16)]
        assert values == sorted(values)
        assert values[0] == 1
    low = prices.serial_energy_factor(weight[0], act[0])
    assert rises(low, prices.serial_energy_factor(weight[1], act[0]))
    assert rises(low, prices.serial_energy_factor(weight[0], act[1]))


@pytest.mark.parametrize("name", [name for name, (low, high) in NODE_RANGES_NM.items() if low < high])
@given(node=nodes, weight=operands, act=operands, psum=sums, capacity=capacities, word=words)
def test_prices_rise_with_the_node(name: str, node, weight, act, psum, capacity, word) -> None:
    new, old = (TECHNOLOGIES[name](n) for n in node)
    widths, memory = (weight[0], act[0], psum[0]), (capacity[0], word[0])
    for price in PE_PRICES:
        assert rises(getattr(new, price)(*widths), getattr(old, price)(*widths)), price
    for price in ("sram_read_pj", "sram_write_pj", "sram_area_um2"):
        assert rises(getattr(new, price)(*memory), getattr(old, price)(*memory)), price
    assert rises(new.multiply_pj(weight[0], act[0]), old.multiply_pj(weight[0], act[0]))
    assert rises(new.add_pj(psum[0]), old.add_pj(psum[0]))
    assert rises(new.register_pj(psum[0]), old.register_pj(psum[0]))
    assert rises(new.requantize_pj(32, weight[0]), old.requantize_pj(32, weight[0]))
    assert rises(new.vector_lane_area_um2(weight[0]), old.vector_lane_area_um2(weight[0]))
    assert rises(new.wire_pj_per_bit_mm(), old.wire_pj_per_bit_mm())
    assert new.dram_pj_per_bit("ddr4") == old.dram_pj_per_bit("ddr4")


@pytest.mark.parametrize("name", list(TECHNOLOGIES))
@given(node=nodes, scaling=st.sampled_from(["google", "stillmaker"]))
def test_scaled_prices_rise_with_the_node(name: str, node, scaling) -> None:
    new, old = (scaled(TECHNOLOGIES[name](45.0), n, scaling) for n in node)
    for price in ("mac_pj", "pe_area_um2", "pe_leakage_mw"):
        assert rises(getattr(new, price)(8, 8, 32), getattr(old, price)(8, 8, 32)), price
    assert rises(new.sram_read_pj(65536, 64), old.sram_read_pj(65536, 64))
    assert rises(new.sram_area_um2(65536, 64), old.sram_area_um2(65536, 64))
    assert rises(new.requantize_pj(32, 8), old.requantize_pj(32, 8))


@given(
    node=st.tuples(st.floats(22, 90), st.floats(22, 90)).map(sorted),
    capacity=st.floats(9, 28).map(lambda e: 2.0**e),
    word=words,
)
def test_cacti_prices_rise_with_the_node(node, capacity, word) -> None:
    new, old = CactiSram(node[0]), CactiSram(node[1])
    assert rises(new.read_pj(capacity, word[0]), old.read_pj(capacity, word[0]))
    assert rises(new.write_pj(capacity, word[0]), old.write_pj(capacity, word[0]))


@given(node=st.tuples(st.floats(3, 130), st.floats(3, 130)).map(sorted))
def test_wire_energy_rises_with_the_node(node) -> None:
    assert rises(wire_pj_per_bit_mm(node[0]), wire_pj_per_bit_mm(node[1]))


@given(
    flips=st.tuples(*[st.floats(0, 1e9)] * 4),
    more=st.tuples(*[st.floats(0, 1e9)] * 4),
    which=st.integers(0, 3),
    dataflow=st.sampled_from(["ws", "is"]),
)
def test_toggle_energy_rises_with_every_count(flips, more, which, dataflow) -> None:
    prices = TECHNOLOGIES["nangate45"](45.0)
    raised = tuple(flip + (more[i] if i == which else 0) for i, flip in enumerate(flips))
    low = prices.toggle_pj(4, 8, 24, Toggles(*flips), dataflow)
    assert rises(low, prices.toggle_pj(4, 8, 24, Toggles(*raised), dataflow))
