"""Energy and area: sums over components, what narrower data saves at fixed tiles, errors that name the event."""

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from machines import layer_shapes, machine, machines
from networks import Shapes, mlp, resnet50

from accelsim import simulate, technology
from accelsim.activity import Activity, Event
from accelsim.cost import COMPONENTS, Machine, area_um2, energy_pj, leakage_mw
from accelsim.pe import built_widths


def net(weight_bits, act_bits, out_bits=8):
    shapes = Shapes(weight_bits, act_bits)
    x = shapes.input((12, 12, 16))
    for place in range(3):
        x = shapes.conv(f"l{place}", x, 24, 3)
    shapes.conv("fc", x, out_bits)
    return shapes.program("net")


@settings(max_examples=40)
@given(
    machines(types=("fixed", "native", "composable", "bit_serial")),
    st.tuples(st.integers(2, 16), st.integers(2, 16)),
    st.integers(0, 6),
    st.booleans(),
)
def test_fewer_bits_never_cost_more_at_the_same_tiles(accelerator, widths, less, of_weights):
    """Composable PEs take several k at once at narrow widths and so other tiles: they keep their products a cycle."""
    weight, act = widths
    narrow = (max(2, weight - less), act) if of_weights else (weight, max(2, act - less))
    if accelerator.pe.type == "composable":
        assume(accelerator.products_per_pe(*widths) == accelerator.products_per_pe(*narrow))
    try:
        wide = simulate(net(*widths), accelerator)
    except ValueError as error:
        assume("fits the buffers" not in str(error))
        raise
    less_wide = simulate(net(*narrow), accelerator, schedule=wide.schedule)
    assert less_wide.cycles <= wide.cycles
    assert less_wide.dram_bytes <= wide.dram_bytes
    assert less_wide.weight_bytes <= wide.weight_bytes
    assert less_wide.energy_pj["total"] <= wide.energy_pj["total"] * (1 + 1e-12)
    assert less_wide.area_um2["total"] <= wide.area_um2["total"]


@settings(max_examples=25)
@given(layer_shapes(), machines(), st.integers(1, 2))
def test_layers_add_up_to_the_network(program, accelerator, batch):
    try:
        result = simulate(program, accelerator, batch=batch)
    except ValueError as error:
        assume("fits the buffers" not in str(error))
        raise
    for name in (*COMPONENTS, "total"):
        found = sum(layer.energy_pj[name] for layer in result.layers)
        assert found == pytest.approx(result.energy_pj[name], rel=1e-9, abs=1e-6)
    assert sum(layer.dram_bytes for layer in result.layers) == result.dram_bytes
    assert sum(layer.weight_bytes for layer in result.layers) == result.weight_bytes
    assert sum(layer.array_cycles for layer in result.layers) == result.array_cycles
    assert result.seconds == pytest.approx(result.cycles / (accelerator.clock_mhz * 1e6))
    parts = {name: value for name, value in result.area_um2.items() if name != "total"}
    assert sum(parts.values()) == pytest.approx(result.area_um2["total"])


def priced(**changes):
    accelerator = machine(**changes)
    return Machine(accelerator, technology("google", 45), built_widths(accelerator, 8, 8))


def test_every_event_is_priced_once():
    one = priced()
    word = one.accelerator.activation_sram.word_bits
    events = {
        Event("activation_sram", "read", (word,)): 3,
        Event("dram", "write", (1,)): 5,
        Event("leakage", "cycle"): 7,
    }
    energy = energy_pj(Activity(events), one)
    prices = one.technology
    assert energy["activation_sram"] == pytest.approx(3 * prices.sram_read_pj(1 << 16, word))
    assert energy["dram"] == pytest.approx(5 * prices.dram_pj_per_bit("LPDDR4"))
    assert energy["leakage"] == pytest.approx(7 * leakage_mw(one) * 1e-3 / (500e6) * 1e12)
    assert energy["total"] == pytest.approx(sum(energy[name] for name in COMPONENTS))
    assert energy["pe"] == 0


def test_banks_are_smaller_memories_read_by_the_word():
    whole, banked = priced(), priced(activation_sram__banks=4)
    event = Event("activation_sram", "read", (64,))
    assert banked.price_pj(event) < whole.price_pj(event)
    assert banked.price_pj(event) == pytest.approx(banked.technology.sram_read_pj(1 << 14, 64))


def test_an_event_without_a_price_is_named_with_its_count():
    with pytest.raises(ValueError, match=r"no price for flux\.compensate\[8\] \(counted 3 times\)"):
        energy_pj(Activity({Event("flux", "compensate", (8,)): 3}), priced())


def test_area_grows_with_everything_there_is_more_of():
    base = area_um2(priced())
    for changes, part in (
        ({"array__rows": 16}, "pe"),
        ({"activation_sram__bytes": 1 << 17}, "activation_sram"),
        ({"vector_lanes": 16}, "vector"),
        ({"requantizer_lanes": 16}, "requantizer"),
    ):
        grown = area_um2(priced(**changes))
        assert grown[part] > base[part]
        assert {name for name in grown if grown[name] != base[name]} == {part, "total"}
    doubled = area_um2(priced(cores=2))
    assert all(doubled[name] == pytest.approx(2 * base[name]) for name in base)


def test_useful_operations_are_a_share_of_all():
    result = simulate(mlp(16, 8, rows=64), machine())
    macs, cycles = 64 * 16 * 8, result.array_cycles
    assert result.utilization == pytest.approx(macs / (cycles * 64))
    assert result.activity.of("pe", "mac") == macs
    assert result.activity.of("pe", "idle") == cycles * 64 - macs


@pytest.mark.parametrize("mode", ["isolated", "overlapped", "scalesim"])
def test_resnet50_has_every_figure_in_every_mode(mode):
    result = simulate(resnet50(4, 8, 0.02), machine(activation_sram__bytes=1 << 20), timing_mode=mode)
    assert result.timing_mode == mode
    assert all(value > 0 for name, value in result.energy_pj.items() if name not in ("register", "interconnect"))
    assert math.isfinite(result.energy_pj["total"])
    assert result.cycles > 0
    assert 0 < result.utilization <= 1
