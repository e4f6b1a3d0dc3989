"""Prices against the points that were published or synthesised, with the residuals that the fits leave."""

import math

import pytest

from accelsim.technology import (
    DRAM_TYPES,
    NODE_RANGES_NM,
    TECHNOLOGIES,
    VECTOR_KINDS,
    Technology,
    Toggles,
    absolute_band,
    describe,
    dram_type,
    ratio_band,
    ratio_share,
    scaled,
    technology,
)
from accelsim.technology.bitfusion45 import bitfusion45
from accelsim.technology.google import google
from accelsim.technology.nangate45 import nangate45
from accelsim.technology.scaling import area_factor, google_energy_factor, stillmaker_energy_factor
from accelsim.technology.source import Source
from accelsim.technology.sram import CactiSram, raw_grid

ALL = [TECHNOLOGIES[name](NODE_RANGES_NM[name][0]) for name in TECHNOLOGIES]


def off(model: float, published: float) -> float:
    return model / published - 1


@pytest.mark.parametrize(
    ("node", "event", "bits", "published", "residual"),
    [
        (45, "multiply", 8, 0.2, 0.0),
        (45, "multiply", 32, 3.1, 0.0),
        (7, "multiply", 8, 0.07, 0.117),
        (7, "multiply", 32, 1.48, -0.155),
        (45, "add", 8, 0.03, -0.098),
        (45, "add", 32, 0.1, 0.082),
        (7, "add", 8, 0.007, 0.033),
        (7, "add", 32, 0.03, -0.036),
    ],
)
def test_google_logic_misses_its_published_points_by_the_stated_residuals(
    node: float, event: str, bits: int, published: float, residual: float
) -> None:
    prices = google(node)
    model = prices.multiply_pj(bits, bits) if event == "multiply" else prices.add_pj(bits)
    assert off(model, published) == pytest.approx(residual, abs=0.001)


@pytest.mark.parametrize(
    ("node", "kib", "published", "residual"),
    [
        (45, 8, 10, 0.016),
        (45, 32, 20, -0.021),
        (45, 1024, 100, 0.008),
        (7, 8, 7.5, 0.021),
        (7, 32, 8.5, -0.026),
        (7, 1024, 14, 0.004),
    ],
)
def test_google_sram_misses_its_published_points_by_the_stated_residuals(
    node: float, kib: int, published: float, residual: float
) -> None:
    assert off(google(node).sram_read_pj(kib * 1024, 64), published) == pytest.approx(residual, abs=0.001)


def test_int8_over_int4_energy_is_within_five_percent_of_keller_silicon() -> None:
    prices = google(7)
    ratio = prices.mac_pj(8, 8, 24) / prices.mac_pj(4, 4, 24)
    assert abs(off(ratio, 2.33)) < 0.05
    assert 2.33 in ratio_band(ratio, 8, 4)


def test_keller_chip_needs_the_documented_overhead_over_bare_logic() -> None:
    bare = google(7, kappa_energy=1.0)
    volts = (0.46 / 0.75) ** 2
    assert 0.05115 / (bare.mac_pj(8, 8, 24) * volts) == pytest.approx(1.36, abs=0.01)
    assert 0.02195 / (bare.mac_pj(4, 4, 24) * volts) == pytest.approx(1.41, abs=0.01)


@pytest.mark.parametrize(
    ("what", "model", "published", "low", "high"),
    [
        ("NVDLA 16 nm marginal pJ/MAC", google(16).mac_pj(8, 8, 24), 0.337, -0.07, -0.05),
        ("TPU v1 busy minus idle W", 65536 * google(28, 1.0).mac_pj(8, 8, 32) * 0.7e9 * 1e-12, 12, -0.11, -0.09),
        ("TPUv4i int8 MAC pJ", google(7, 1.0).mac_pj(8, 8, 32), 0.084, 0.26, 0.29),
        ("TPUv4i 4 MB read pJ/bit", google(7).sram_read_pj(2**22, 64) / 64, 0.249, 0.31, 0.33),
        ("TPUv4i 128 MB read pJ/bit", google(7).sram_read_pj(2**27, 64) / 64, 1.88, -0.29, -0.27),
        ("TPUv4i CMEM mm2", google(7).sram_area_um2(2**27, 64) / 1e6, 112, -0.05, -0.03),
        ("Gemmini 16x16 array um2", 256 * google(22).pe_area_um2(8, 8, 32), 116000, -0.01, 0.01),
        ("Gemmini scratchpad um2", google(22).sram_area_um2(2**18, 64), 544000, 0.21, 0.23),
        ("Gemmini accumulator um2", google(22).sram_area_um2(2**16, 64), 146000, 0.12, 0.14),
        ("NVDLA 28 nm um2/KB", google(28).sram_area_um2(1024, 64), 3246, 0.0, 0.02),
        ("TPU v1 unified buffer mm2", google(28).sram_area_um2(24 * 2**20, 64) / 1e6, 96, -0.17, -0.15),
    ],
)
def test_google_against_designs_stays_at_the_stated_error(
    what: str, model: float, published: float, low: float, high: float
) -> None:
    assert low <= off(model, published) <= high, what
    assert published in absolute_band(model)


@pytest.mark.parametrize(
    ("bits", "energy", "area", "leakage"),
    [
        (2, 0.040702, 81.067, 1.74e-3),
        (4, 0.082425, 191.63, 5.31e-3),
        (8, 0.203437, 510.73, 16.1e-3),
        (16, 0.602688, 1679.4, 57.0e-3),
    ],
)
def test_bitfusion_pe_equals_its_synthesis_within_the_fit(
    bits: int, energy: float, area: float, leakage: float
) -> None:
    prices = bitfusion45()
    psum = 2 * bits + 8
    assert abs(off(prices.mac_pj(bits, bits, psum), energy)) < 0.004
    assert abs(off(prices.pe_area_um2(bits, bits, psum), area)) < 0.022
    assert abs(off(prices.pe_leakage_mw(bits, bits, psum), leakage)) < 0.027


@pytest.mark.parametrize(
    ("weight_bits", "act_bits", "psum_bits", "energy", "area"),
    [
        (8, 8, 28, 1.41, 760),
        (6, 8, 26, 1.24, 622),
        (4, 8, 24, 0.926, 477),
        (4, 4, 20, 0.651, 350),
        (2, 8, 22, 0.661, 354),
        (2, 2, 16, 0.374, 205),
        (16, 16, 32, 3.52, 2062),
        (16, 4, 32, 1.82, 878),
    ],
)
def test_nangate_pe_equals_its_synthesis_within_the_fit(
    weight_bits: int, act_bits: int, psum_bits: int, energy: float, area: float
) -> None:
    prices = nangate45()
    assert abs(off(prices.mac_pj(weight_bits, act_bits, psum_bits), energy)) < 0.105
    assert abs(off(prices.pe_area_um2(weight_bits, act_bits, psum_bits), area)) < 0.036


def test_nangate_keeps_the_synthesised_ratio_of_4x4_over_8x8() -> None:
    prices = nangate45()
    assert abs(off(prices.mac_pj(4, 4, 20) / prices.mac_pj(8, 8, 28), 0.651 / 1.41)) < 0.05


def test_nangate_output_stationary_pe_leakage_and_path_equal_the_synthesis() -> None:
    prices = nangate45()
    assert abs(off(prices.mac_pj(8, 8, 28, "os"), 1.19)) < 0.1
    assert abs(off(prices.pe_area_um2(8, 8, 28, "os"), 807)) < 0.065
    assert abs(off(prices.pe_leakage_mw(8, 8, 28, "os"), 16234e-6)) < 0.071
    assert abs(off(prices.pe_critical_path_ns(8, 8, 28, "os") or 0.0, 1.51)) < 0.22
    assert abs(off(prices.pe_critical_path_ns(8, 8, 28) or 0.0, 1.63)) < 0.17
    assert abs(off(prices.pe_leakage_mw(8, 8, 28), 15.4e-3)) < 0.045


def test_nangate_input_stationary_pe_holds_the_activation() -> None:
    prices = nangate45()
    for method in (prices.mac_pj, prices.mac_idle_pj, prices.pe_area_um2, prices.pe_leakage_mw):
        assert method(4, 8, 24, "is") == method(8, 4, 24, "ws") != method(4, 8, 24, "ws")


def test_nangate_requantizer_composed_of_parts_equals_the_synthesised_one() -> None:
    prices = nangate45()
    for multiplier_bits, energy, area in ((16, 8.156, 4777.1), (32, 14.53, 8446.3)):
        assert abs(off(prices.requantize_pj(32, 8, multiplier_bits), energy)) < 0.05
        assert abs(off(prices.requantizer_area_um2(32, 8, multiplier_bits), area)) < 0.02


def test_nangate_composable_and_serial_units_equal_their_synthesis() -> None:
    prices = nangate45()
    mac, area = prices.mac_pj(8, 8, 32), prices.pe_area_um2(8, 8, 32)
    assert prices.composable_energy_factor(8) * mac == pytest.approx(2.7771)
    assert prices.composable_area_factor(8) * area == pytest.approx(2374.6)
    for weight_bits, act_bits, energy in ((8, 8, 1.71), (8, 4, 0.939), (4, 8, 1.10), (2, 8, 0.668), (2, 2, 0.216)):
        assert abs(off(prices.serial_energy_factor(weight_bits, act_bits) * mac, energy)) < 0.082
    assert prices.serial_area_factor() * area == pytest.approx(2102.7 / 2)


def test_nangate_toggle_model_reproduces_its_formula_and_its_random_operand_energy() -> None:
    prices = nangate45()
    only_clock = Toggles(pe_cycles=10, held=0, streamed=0, psum_in=0)
    assert prices.toggle_pj(8, 8, 28, only_clock) == pytest.approx(10 * prices.mac_idle_pj(8, 8, 28))
    assert prices.mac_idle_pj(8, 8, 28) == pytest.approx(0.424, rel=0.002)
    # Uniform random operands flip half of each register per cycle, the weight once in 32 cycles; simulated: 1.90 pJ.
    random = Toggles(pe_cycles=32, held=4, streamed=32 * 4, psum_in=32 * 14)
    assert abs(off(prices.toggle_pj(8, 8, 28, random) / 32, 1.90)) < 0.075
    # Under "is" the held operand is the activation, so its flips pay the weight's width.
    held = Toggles(pe_cycles=0, held=1, streamed=0, psum_in=0)
    assert prices.toggle_pj(4, 8, 24, held, "is") == pytest.approx(0.198 * 4)
    assert prices.toggle_pj(4, 8, 24, held, "ws") == pytest.approx(0.198 * 8)


@pytest.mark.parametrize("prices", ALL, ids=lambda t: t.name)
def test_a_4_bit_mac_costs_less_than_an_8_bit_mac_and_the_partial_sum_matters(prices: Technology) -> None:
    wide, narrow = prices.mac_pj(8, 8, 32), prices.mac_pj(4, 4, 32)
    assert 1.5 < wide / narrow < 4
    assert prices.mac_pj(8, 8, 20) < 0.96 * wide
    assert prices.pe_area_um2(8, 8, 20) < 0.9 * prices.pe_area_um2(8, 8, 32)
    assert prices.pe_area_um2(4, 4, 20) < 0.6 * prices.pe_area_um2(8, 8, 28)


@pytest.mark.parametrize("prices", ALL, ids=lambda t: t.name)
def test_narrow_data_on_a_wide_pe_costs_between_the_narrow_and_the_wide_pe(prices: Technology) -> None:
    narrow, wide = prices.mac_pj(4, 4, 32), prices.mac_pj(8, 8, 32)
    assert prices.fixed_mac_pj(4, 4, 32, 8, 8) == pytest.approx(narrow + 0.3 * (wide - narrow))
    assert prices.fixed_mac_pj(8, 8, 32, 8, 8) == wide
    with pytest.raises(ValueError, match=r"fixed_mac_pj: operands 8x9 must fit the PE 8x8"):
        prices.fixed_mac_pj(8, 9, 32, 8, 8)


def test_composable_pes_break_even_with_fixed_ones_only_at_two_bits_in_bitfusion_synthesis() -> None:
    prices = bitfusion45()
    fused = prices.composable_energy_factor(8) * prices.mac_pj(8, 8, 24)
    assert fused == pytest.approx(0.4592, rel=0.01)
    assert fused / 4 / prices.mac_pj(4, 4, 16) == pytest.approx(1.39, rel=0.02)
    assert fused / 16 / prices.mac_pj(2, 2, 12) == pytest.approx(0.71, rel=0.02)
    assert [prices.composable_area_factor(b) for b in (2, 4, 8, 16)] == [1.0, 1.85, 3.40, 5.26]


def test_serial_mac_energy_follows_the_survey() -> None:
    prices = bitfusion45()
    at_8 = prices.serial_energy_factor(8, 8)
    assert at_8 == pytest.approx(0.992 / 1.157 * 2.26, rel=1e-3)
    for weight_bits, act_bits, loom in ((8, 4, 0.559), (8, 2, 0.332), (4, 4, 0.298), (2, 2, 0.0895)):
        assert abs(off(prices.serial_energy_factor(weight_bits, act_bits) / at_8, loom / 0.992)) < 0.09


@pytest.mark.parametrize("node", [22.0, 32.0, 45.0, 65.0, 90.0])
def test_cacti_prices_equal_the_sweep_within_the_monotone_correction(node: float) -> None:
    model = CactiSram(node)
    points = {key[1:]: energies for key, energies in raw_grid().items() if key[0] == node}
    assert len(points) >= 35
    for (capacity, width), (read, write) in points.items():
        assert abs(off(model.read_pj(capacity, width), read)) < 0.06
        assert abs(off(model.write_pj(capacity, width), write)) < 0.07


def test_sram_continues_by_the_closed_form_beyond_the_grid() -> None:
    model = CactiSram(45.0)
    assert model.read_pj(2**24, 64) / model.read_pj(2**22, 64) == pytest.approx(4**0.561)
    assert model.write_pj(2**24, 64) / model.write_pj(2**22, 64) == pytest.approx(4**0.463)
    assert model.read_pj(2**16, 4) / model.read_pj(2**16, 8) == pytest.approx(0.5**0.574)
    assert model.read_pj(2**16, 1024) / model.read_pj(2**16, 512) == pytest.approx(2.0)


@pytest.mark.parametrize("prices", ALL, ids=lambda t: t.name)
def test_below_512_bytes_memories_fall_to_registers_without_a_jump(prices: Technology) -> None:
    at, just_below = prices.sram_read_pj(512, 32), prices.sram_read_pj(511.999, 32)
    assert just_below == pytest.approx(at, rel=1e-3)
    assert prices.sram_read_pj(4, 32) == pytest.approx(prices.register_pj(32))
    assert prices.sram_read_pj(4, 32) < at


@pytest.mark.parametrize("prices", ALL, ids=lambda t: t.name)
def test_every_price_is_finite_and_positive_over_the_whole_promised_range(prices: Technology) -> None:
    found = []
    for weight_bits in range(2, 17):
        for act_bits in range(2, 17):
            for psum_bits in (8, 9, 16, 24, 32, 48, 64):
                for dataflow in ("ws", "os", "is"):
                    widths = (weight_bits, act_bits, psum_bits, dataflow)
                    mac = prices.mac_pj(*widths)
                    assert prices.mac_idle_pj(*widths) < mac
                    found += [mac, prices.pe_area_um2(*widths), prices.pe_leakage_mw(*widths)]
    for bits in (1, 2, 3, 8, 16, 32, 64):
        found += [prices.vector_op_pj(kind, bits) for kind in VECTOR_KINDS if kind != "table" or bits <= 16]
        found += [
            prices.requantize_pj(bits, 8),
            prices.requantizer_area_um2(bits, 8),
            prices.vector_lane_area_um2(bits),
        ]
    found += [prices.sram_leakage_mw(1024), prices.wire_pj_per_bit_mm()]
    assert all(math.isfinite(price) and price > 0 for price in found)


def test_google_leakage_share_of_a_busy_8_bit_pe_is_as_measured() -> None:
    prices = google(45)
    dynamic_mw = prices.mac_pj(8, 8, 24) * 0.5  # pJ x GHz
    leakage = prices.pe_leakage_mw(8, 8, 24)
    assert 0.08 < leakage / (leakage + dynamic_mw) < 0.16


def test_vector_operations_are_the_stated_constructions() -> None:
    prices = google(16)
    add, register = prices.add_pj(8), prices.register_pj(8)
    assert prices.vector_op_pj("add", 8) == prices.vector_op_pj("max", 8) == add + register
    assert prices.vector_op_pj("mul", 8) == prices.multiply_pj(8, 8) + prices.register_pj(16)
    assert prices.vector_op_pj("table", 8) == prices.sram_read_pj(256, 8) + register
    assert prices.vector_op_pj("div", 8) == pytest.approx(2 * prices.vector_op_pj("sqrt", 8))
    assert prices.vector_op_pj("div", 8) == pytest.approx(8 * (add + prices.register_pj(16)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: technology("intel4", 7), r"unknown name 'intel4'; choose one of google, bitfusion45, nangate45"),
        (lambda: technology("google", 5), r"google: node_nm must be in 7\.\.45 \(got 5\)"),
        (lambda: technology("nangate45", 28), r"nangate45: node_nm must be 45 \(got 28\); move it with scaled"),
        (lambda: technology("bitfusion45", math.nan), r"bitfusion45: node_nm must be 45"),
        (lambda: google(45).mac_pj(1, 8, 32), r"google\.mac_pj: weight_bits must be in 2\.\.32 \(got 1\)"),
        (lambda: nangate45().mac_pj(8, 8, 7), r"nangate45\.mac_pj: psum_bits must be in 8\.\.64 \(got 7\)"),
        (lambda: nangate45().pe_area_um2(8, 18, 32), r"nangate45\.pe_area_um2: act_bits must be in 2\.\.17"),
        (lambda: google(7).composable_energy_factor(6), r"google\.composable_energy_factor\(max_bits=6\) has no price"),
        (lambda: google(7).toggle_pj(8, 8, 32, Toggles(1, 0, 0, 0)), r"google\.toggle_pj has no price.*nangate45"),
        (lambda: nangate45().toggle_pj(8, 8, 32, Toggles(1, 0, 0, 0), "os"), r"nangate45\.toggle_pj has no price"),
        (lambda: google(7).vector_op_pj("gelu", 8), r"vector_op_pj: kind must be one of add, .* \(got 'gelu'\)"),
        (lambda: google(7).vector_op_pj("table", 17), r"vector_op_pj\('table'\): bits must be in 1\.\.16 \(got 17\)"),
        (lambda: google(7).sram_read_pj(0, 64), r"google\.sram_read_pj: capacity_bytes must be in"),
        (lambda: google(7).sram_read_pj(math.nan, 64), r"capacity_bytes must be in"),
        (lambda: google(7).sram_read_pj(1024, 0), r"google\.sram_read_pj: word_bits must be in 1\.\.4096"),
        (lambda: google(7).dram_pj_per_bit("ddr9"), r"unknown DRAM 'ddr9'; choose one of ddr3,"),
        (lambda: google(7, kappa_energy=0), r"GoogleLogic\.kappa_energy must be in 0\.1\.\.100 \(got 0\)"),
        (lambda: ratio_share(0, 4), r"ratio_share: widths must be > 0"),
        (lambda: CactiSram(16.0), r"CactiSram\.node_nm must be in 22\.\.90 \(got 16\.0\)"),
    ],
)
def test_a_price_that_does_not_exist_is_one_clear_error(call, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_only_nangate_has_timing_and_a_clocked_idle_pe() -> None:
    assert nangate45().pe_critical_path_ns(8, 8, 32) is not None
    for prices in (google(45), bitfusion45()):
        assert prices.pe_critical_path_ns(8, 8, 32) is None
        assert prices.mac_idle_pj(8, 8, 32) == 0


def test_dram_types_are_listed_with_their_sources() -> None:
    assert dram_type("LPDDR4").pj_per_bit == 8.0
    assert google(7).dram_pj_per_bit("hbm2") == 7.03
    for name, kind in DRAM_TYPES.items():
        assert name == kind.name
        assert 3 < kind.pj_per_bit < 41
        assert 10 < kind.peak_gb_per_s < 1300
        assert Source(kind.citation, kind.unit, kind.status)


def test_bands_are_those_of_the_design() -> None:
    assert (absolute_band(3.0).low, absolute_band(3.0).high) == (1.5, 6.0)
    assert ratio_share(8, 4) == ratio_share(2, 16) == ratio_share(8, 8) == 0.05
    assert ratio_share(5, 4) == ratio_share(4, 5) == 0.15
    assert (ratio_band(2.0, 8, 4).low, ratio_band(2.0, 8, 4).high) == (1.9, 2.1)
    assert 1.24 not in ratio_band(1.0, 5, 4)


@pytest.mark.parametrize("prices", ALL, ids=lambda t: t.name)
def test_a_technology_describes_itself_with_cited_rows(prices: Technology) -> None:
    rows = describe(prices)
    assert len(rows) == len(prices.sources) + 1
    assert all(row["technology"] == prices.name and row["what"] for row in rows)
    assert all(row["citation"] and row["status"] for row in rows[1:])
    assert prices.mac_contents in rows[0]["what"]


def test_published_scaling_factors_between_nodes() -> None:
    assert [area_factor(n) for n in (130, 45, 32, 7)] == [6.4, 1.0, 0.46, 0.059]
    assert stillmaker_energy_factor(7) == pytest.approx(0.1024, abs=1e-4)
    assert stillmaker_energy_factor(7, 0.8) == pytest.approx(0.0774, abs=1e-4)
    assert stillmaker_energy_factor(130) == pytest.approx(3.1675, abs=1e-3)
    # The interpolation between listed nodes must run the right way: 40 nm lies between 32 and 45 nm and nearer to 45.
    assert stillmaker_energy_factor(32) < stillmaker_energy_factor(40) < 1
    assert stillmaker_energy_factor(44.9) == pytest.approx(1, abs=0.01)
    assert google_energy_factor("mac", 7) == pytest.approx(
        google(7).mac_pj(8, 8, 24) / google(45).mac_pj(8, 8, 24), 1e-3
    )


def test_scaling_moves_every_price_and_says_so() -> None:
    base = nangate45()
    for name, multiply, mac in (("google", 0.391, 0.355), ("stillmaker", 0.1024, 0.1024)):
        moved = scaled(base, 7, name)
        assert moved.multiply_pj(8, 8) / base.multiply_pj(8, 8) == pytest.approx(multiply, rel=0.01)
        assert moved.mac_pj(8, 8, 32) / base.mac_pj(8, 8, 32) == pytest.approx(mac, rel=0.01)
        assert moved.pe_area_um2(8, 8, 32) / base.pe_area_um2(8, 8, 32) == pytest.approx(0.059)
        assert moved.sram_area_um2(1024, 8) / base.sram_area_um2(1024, 8) == pytest.approx(7 / 45)
        assert moved.pe_critical_path_ns(8, 8, 32) is None
        assert moved.composable_area_factor(8) == base.composable_area_factor(8)
        assert name in moved.name
        assert len(moved.sources) > len(base.sources)
        assert moved.toggle_pj(8, 8, 32, Toggles(1, 1, 1, 1)) < base.toggle_pj(8, 8, 32, Toggles(1, 1, 1, 1))


@pytest.mark.parametrize(
    ("node", "scaling", "message"),
    [
        (5, "google", r"node_nm must be in 7\.\.45"),
        (65, "google", r"use scaling 'stillmaker'"),
        (180, "stillmaker", r"node_nm must be in 7\.\.130"),
        (7, "dennard", r"scaling must be one of google, stillmaker \(got 'dennard'\)"),
    ],
)
def test_a_scaling_outside_its_range_is_an_error(node: float, scaling, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scaled(nangate45(), node, scaling)
