"""Every event that can be counted has a price that rises with its widths, with the PEs' and with the node."""

from itertools import pairwise, product

import pytest
from machines import machine

from accelsim.activity import Event
from accelsim.cost import PRICES, Machine, area_um2, leakage_mw
from accelsim.pe import PE_TYPES, Widths
from accelsim.technology import TECHNOLOGIES, VECTOR_KINDS, Technology, scaled, technology

WIDTHS = (2, 3, 4, 7, 8, 16)
SUMS = (16, 24, 40)

BUFFER = [
    Event(f"{name}_sram", action, (64,))
    for name in ("activation", "weight", "accumulator")
    for action in ("read", "write")
]
PLAIN = [*BUFFER, Event("dram", "read", (1,)), Event("dram", "write", (1,)), Event("interconnect", "hop", (1,))]
PLAIN += [Event("leakage", "cycle"), Event("pe", "idle", (8, 8, 32))]
ONE_WIDTH = [("register", "write"), *(("vector", kind) for kind in VECTOR_KINDS if kind != "mul")]

AT_45 = [technology(name, 45) for name in TECHNOLOGIES]
MOVED = [scaled(prices, 14, how) for prices in AT_45 for how in ("google", "stillmaker")]
EVERY = [pytest.param(prices, id=prices.name) for prices in AT_45 + MOVED]


def built(prices: Technology, kind: str = "fixed", bits: int = 16, sums: int = 32) -> Machine:
    pe = {"type": kind, "weight_bits": bits, "act_bits": bits}
    return Machine(machine(pe=pe, accumulator={"psum_bits": sums, "bits": 40}), prices, Widths(bits, bits, sums))


def rising(figures: list[float]) -> bool:
    return all(low <= high * (1 + 1e-12) for low, high in pairwise(figures))


def test_every_component_is_covered() -> None:
    named = {event.component for event in PLAIN} | {name for name, _ in ONE_WIDTH} | {"pe", "requantizer", "vector"}
    assert named == set(PRICES)


@pytest.mark.parametrize("prices", EVERY)
def test_events_of_one_width_rise_with_it(prices: Technology) -> None:
    plain = built(prices)
    for component, action in ONE_WIDTH:
        assert rising([plain.price_pj(Event(component, action, (bits,))) for bits in WIDTHS]), action
    for other in WIDTHS:
        assert rising([plain.price_pj(Event("vector", "multiply", (bits, other))) for bits in WIDTHS])
        assert rising([plain.price_pj(Event("vector", "multiply", (other, bits))) for bits in WIDTHS])
    for acc, out, multiplier in product((24, 32), (4, 8), (24, 32)):
        at = plain.price_pj(Event("requantizer", "requantize", (acc, out, multiplier)))
        for wider in ((acc + 8, out, multiplier), (acc, out + 4, multiplier), (acc, out, multiplier + 8)):
            assert at <= plain.price_pj(Event("requantizer", "requantize", wider))


@pytest.mark.parametrize("kind", list(PE_TYPES))
@pytest.mark.parametrize("prices", EVERY)
def test_an_operation_of_a_pe_rises_with_the_data_and_with_the_pe(prices: Technology, kind: str) -> None:
    """Per operation: a composable PE does more products in one at narrow widths, for no more energy."""
    machines = [built(prices, kind, bits) for bits in (8, 16)]
    for held in (2, 4, 8):
        for at in machines:
            assert rising([at.price_pj(Event("pe", "mac", (bits, held, 32))) for bits in (2, 4, 8)])
            assert rising([at.price_pj(Event("pe", "mac", (held, bits, 32))) for bits in (2, 4, 8)])
    assert rising([at.price_pj(Event("pe", "mac", (8, 8, 32))) for at in machines])
    for sums in (built(prices, kind, 8, width) for width in SUMS):
        assert sums.price_pj(Event("pe", "mac", (8, 8, 40))) > 0
    for figure in (lambda at: area_um2(at)["pe"], lambda at: area_um2(at)["total"], leakage_mw):
        assert rising([figure(at) for at in machines])
        assert rising([figure(built(prices, kind, 8, width)) for width in SUMS])


@pytest.mark.parametrize("kind", list(PE_TYPES))
def test_every_event_falls_with_the_node(kind: str) -> None:
    nodes = (7, 14, 28, 45)
    ways = [[technology("google", node) for node in nodes]]
    ways += [[scaled(prices, node, how) for node in nodes] for prices in AT_45 for how in ("google", "stillmaker")]
    events = [*PLAIN, Event("pe", "mac", (8, 8, 32)), Event("requantizer", "requantize", (32, 8, 24))]
    events += [Event(component, action, (8,)) for component, action in ONE_WIDTH]
    for way in ways:
        at = [built(prices, kind, 8) for prices in way]
        for event in events:
            assert rising([one.price_pj(event) for one in at]), (way[0].name, str(event))
        assert rising([area_um2(one)["total"] for one in at])


def test_both_scalings_are_published_and_differ() -> None:
    for prices in AT_45:
        ours = {
            how: scaled(prices, 7, how).mac_pj(8, 8, 32) / prices.mac_pj(8, 8, 32) for how in ("google", "stillmaker")
        }
        assert ours["google"] == pytest.approx(0.36, abs=0.01)
        assert ours["stillmaker"] == pytest.approx(0.10, abs=0.01)
