"""Accelergy ERT/ART: other tools' tables are read, ours read back, broken ones are refused in one line."""

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from accelsim.technology import Role, Technology, from_tables
from accelsim.technology.accelergy import MAX_BYTES, MAX_ENTRIES, PriceTable, export_art, export_ert, load, parse
from accelsim.technology.google import google

V3 = """
ERT:
  version: 0.3
  tables:
  - name: system.chip.PE[0..7].mac
    actions:
    - {name: mac_random, arguments: null, energy: 2.2}
    - {name: mac_gated, arguments: null, energy: 0.1}
    - {name: idle, arguments: null, energy: 0.06}
  - name: system.chip.buffer
    actions:
    - {name: read, arguments: {address_delta: 0, data_delta: 0}, energy: 0.05}
    - {name: read, arguments: {address_delta: 1, data_delta: 1}, energy: 49.7}
    - {name: read, arguments: {address_delta: 1, data_delta: 0}, energy: 14.9}
    - {name: update, energy: 89.3}
    - {name: refresh, energy: 3}
    - {name: refresh, energy: 4}
  - name: system.DRAM
    actions: [{name: read, energy: 512}, {name: leak, energy: 0}]
ERT_summary:
  version: 0.3
  table_summary: []
"""
V4 = """
ART:
  version: '0.4'
  tables:
  - {name: 'system_top_level.mac[1..168]', area: 332.25}
  - {name: 'system_top_level.column[1..14].row[0..2].spad', area: 1.5e+3}
  - {name: 'system_top_level.inter_PE_spatial[1..14]', area: 1.0}
"""


def ert(action: str) -> str:
    return f"ERT: {{version: '0.4', tables: [{{name: a, actions: [{action}]}}]}}"


def test_a_v3_table_of_another_tool_is_read_with_ranges_synonyms_and_the_dearest_toggling() -> None:
    table = parse(("v3", V3))
    assert table.price_pj("system.chip.PE.mac", "compute") == 2.2
    assert table.price_pj("system.chip.PE.mac", "mac_gated") == 0.1
    assert table.instances["system.chip.PE.mac"] == 8
    assert table.price_pj("system.chip.buffer", "read") == 49.7
    assert table.price_pj("system.chip.buffer", "write") == 89.3
    assert table.price_pj("system.DRAM", "leak") == 0


def test_an_unknown_action_is_ignored_with_one_warning() -> None:
    table = parse(("v3", V3))
    assert len(table.warnings) == 1
    assert "'refresh' (first at system.chip.buffer) is not known" in table.warnings[0]


def test_areas_count_every_instance_and_dummy_networks_are_dropped() -> None:
    table = parse(("v4", V4))
    assert table.areas_um2 == {"system_top_level.mac": 332.25, "system_top_level.column.row.spad": 1500.0}
    assert table.instances["system_top_level.column.row.spad"] == 14 * 3
    assert table.total_area_um2() == pytest.approx(168 * 332.25 + 42 * 1500)
    assert len(table.warnings) == 1
    assert "inter_PE_spatial" in table.warnings[0]


def test_a_price_that_the_table_lacks_names_what_it_has() -> None:
    table = parse(("v3", V3))
    with pytest.raises(ValueError, match=r"no price for system\.DRAM\.write.*\(leak, read\)"):
        table.price_pj("system.DRAM", "write")
    with pytest.raises(ValueError, match=r"no such component; it has system\.DRAM, "):
        table.price_pj("glb", "read")


names = st.from_regex(r"[a-z][a-z_]{0,8}(\.[a-z]{1,6})?", fullmatch=True)
bits = st.one_of(st.none(), st.integers(1, 64), st.tuples(st.integers(1, 16), st.integers(1, 16), st.integers(8, 64)))
energies = st.floats(0, 1e6, allow_nan=False)
known = st.sampled_from(["read", "write", "compute", "leak"])


@given(
    prices=st.dictionaries(st.tuples(names, known, bits), energies, min_size=1, max_size=20),
    count=st.integers(1, 400),
    version=st.sampled_from(["0.2", "0.3", "0.4"]),
)
def test_exported_energies_and_areas_read_back_exactly(prices, count: int, version: str) -> None:
    components = {component for component, _, _ in prices}
    instances = dict.fromkeys(components, count)
    areas = {component: float(len(component)) + 0.1 for component in components}
    table = parse(("ert", export_ert(prices, instances, version)), ("art", export_art(areas, instances, version)))
    assert dict(table.prices_pj) == prices
    assert dict(table.areas_um2) == areas
    assert dict(table.instances) == instances
    assert table.warnings == ()


def test_an_export_keeps_actions_of_ours_by_their_bits_argument() -> None:
    prices = {("array", "mac", (4, 8, 24)): 0.3, ("array", "mac", (8, 8, 24)): 0.5, ("vector", "table", 8): 1e-7}
    text = export_ert(prices)
    assert yaml.safe_load(text)["ERT"]["version"] == "0.4"
    assert dict(parse(("ours", text)).prices_pj) == prices


def test_files_are_merged_and_unreadable_ones_named(tmp_path) -> None:
    first, second = tmp_path / "ERT.yaml", tmp_path / "ART.yaml"
    first.write_text(V3)
    second.write_text(V4)
    table = load(first, second)
    assert table.total_area_um2() > 0
    assert "system.DRAM" in table.components()
    with pytest.raises(ValueError, match=r"cannot read .*none\.yaml"):
        load(tmp_path / "none.yaml")
    second.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"cannot read .*ART\.yaml"):
        load(second)
    second.write_text("#" * (MAX_BYTES + 1))
    with pytest.raises(ValueError, match=r"ART\.yaml must be at most"):
        load(second)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"x must be a mapping \(got NoneType\)"),
        ("[1, 2]", r"x must be a mapping \(got list\)"),
        ("a: b: c", r"x is not valid YAML"),
        ("!!python/object/apply:os.getcwd []", r"x is not valid YAML"),
        ("\x00", r"x is not valid YAML"),
        ("energy: 3", r"x must have a top-level key ERT or ART \(has energy\)"),
        ("ERT: 3", r"x: ERT must be a mapping \(got int\)"),
        ("ERT: {version: 9, tables: []}", r"version must be one of 0\.2, 0\.3, 0\.4 \(got '9'\)"),
        ("ERT: {version: 0.4}", r"x: ERT must have a list `tables` \(got NoneType\)"),
        ("ERT: {tables: [3]}", r"tables entry must be a mapping \(got int\)"),
        ("ERT: {tables: [{actions: []}]}", r"a table must have a name \(got None\)"),
        ("ERT: {tables: [{name: a}]}", r"x: ERT a must have a list `actions`"),
        ("ERT: {tables: [{name: 'a[3..1]', actions: []}]}", r"range \[3\.\.1\] is empty"),
        ("ERT: {tables: [{name: a, actions: []}, {name: a, actions: []}]}", r"a is listed twice"),
        ("ART: {tables: [{name: a, area: 2}, {name: a, area: 3}]}", r"a is listed twice"),
        ("ART: {tables: [{name: a, area: 2}, {name: 'a[0..1]', area: 3}]}", r"a has 2 and 1 instances"),
        ("ART: {tables: [{name: a, area: -2}]}", r"area must be a finite number >= 0 \(got -2\)"),
        ("ART: {tables: [{name: a}]}", r"area must be a finite number >= 0 \(got None\)"),
        (ert("{name: read, energy: .nan}"), r"x: ERT a\.read: energy must be a finite number"),
        (ert("{name: read, energy: .inf}"), r"energy must be a finite number"),
        (ert("{name: read, energy: lots}"), r"energy must be a finite number >= 0 \(got 'lots'\)"),
        (ert("{name: read, energy: true}"), r"energy must be a finite number"),
        (ert("{name: read, energy: [1]}"), r"energy must be a finite number"),
        (ert("{energy: 1}"), r"an action must have a name \(got None\)"),
        (ert("5"), r"actions entry must be a mapping \(got int\)"),
        (ert("{name: read, arguments: {bits: 0}, energy: 1}"), r"argument bits must be positive integers"),
        (ert("{name: read, arguments: {bits: [8, x]}, energy: 1}"), r"argument bits must be positive integers"),
        ("[" * 5000, r"nested deeper than 32 levels"),
        ("a: &a {x: 1}\nb: {<<: *a}", r"uses a YAML merge key"),
    ],
)
def test_a_malformed_table_is_one_clear_error(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        parse(("x", text))
    assert "\n" not in str(error.value)


def test_a_small_text_that_refers_to_itself_many_times_is_bounded() -> None:
    actions = ", ".join(["{name: read, energy: 1}"] * 1000)
    rows = "\n".join(f"  - {{name: c{i}, actions: *a}}" for i in range(MAX_ENTRIES // 1000 + 1))
    with pytest.raises(ValueError, match=rf"more than {MAX_ENTRIES} entries"):
        parse(("bomb", f"list: &a [{actions}]\nERT:\n  tables:\n{rows}\n"))


def test_text_numbers_in_exponent_form_are_numbers() -> None:
    assert parse(("x", ert("{name: read, energy: 1e-3}"))).price_pj("a", "read") == 1e-3


@pytest.mark.parametrize("figure", [math.nan, math.inf, -1.0])
def test_no_table_is_written_with_a_figure_that_could_not_be_read(figure: float) -> None:
    with pytest.raises(ValueError, match="energy must be a finite number"):
        export_ert({("a", "read", None): figure})
    with pytest.raises(ValueError, match="area must be a finite number"):
        export_art({"a": figure})
    with pytest.raises(ValueError, match=r"version must be one of 0\.2, 0\.3, 0\.4"):
        export_ert({("a", "read", None): 1.0}, version="1")


ROLES = {
    "mac": Role("mac", (8, 8, 32)),
    "sram": Role("glb", (64,), capacity_bytes=65536),
    "dram": Role("dram", (64,)),
}
TABLE = PriceTable(
    {
        ("mac", "compute", None): 0.8,
        ("glb", "read", None): 30.0,
        ("glb", "update", None): 33.0,
        ("dram", "read", None): 512.0,
        ("regs", "write", None): 0.5,
    },
    {"mac": 900.0, "glb": 250000.0},
)


def test_an_imported_technology_has_the_tables_prices_at_its_widths_and_the_bases_shape_elsewhere() -> None:
    base = google(45)
    made = from_tables(TABLE, base, {**ROLES, "register": Role("regs", (32,))}, "mine")
    assert made.name == "mine"
    assert made.mac_pj(8, 8, 32) == pytest.approx(0.8)
    assert made.mac_pj(4, 4, 32) / 0.8 == pytest.approx(base.mac_pj(4, 4, 32) / base.mac_pj(8, 8, 32))
    assert made.pe_area_um2(8, 8, 32) == pytest.approx(900)
    assert made.sram_read_pj(65536, 64) == pytest.approx(30)
    assert made.sram_write_pj(65536, 64) == pytest.approx(33)
    assert made.sram_area_um2(65536, 64) == pytest.approx(250000)
    assert made.dram_pj_per_bit("hbm3") == 8.0
    assert made.register_pj(32) == pytest.approx(0.5)
    assert made.sources[0].citation == "imported ERT/ART"
    assert made.requantize_pj(32, 8) > 0


def test_an_imported_technology_without_a_register_follows_the_macs_level() -> None:
    base = google(45)
    made = from_tables(TABLE, base, ROLES, "mine")
    level = 0.8 / base.mac_pj(8, 8, 32)
    assert made.register_pj(8) / base.register_pj(8) == pytest.approx(level)
    assert made.pe_leakage_mw(8, 8, 32) == base.pe_leakage_mw(8, 8, 32)


def test_roles_that_are_missing_are_an_error_unless_filled_from_the_base() -> None:
    base = google(45)
    with pytest.raises(ValueError, match=r"missing sram, dram\); or set fill=True"):
        from_tables(TABLE, base, {"mac": ROLES["mac"]}, "mine")
    made = from_tables(TABLE, base, {"mac": ROLES["mac"]}, "mine", fill=True)
    assert made.sram_read_pj(65536, 64) == base.sram_read_pj(65536, 64)
    assert made.dram_pj_per_bit("ddr4") == base.dram_pj_per_bit("ddr4")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"noc": Role("noc", (8,))}, r"roles must be of mac, register, sram, dram \(got noc\)"),
        (
            {"mac": Role("mac", (8, 8))},
            r"bits must be 3 widths, of weight, activation and partial sum, each > 0 \(got \[8, 8\]",
        ),
        ({"mac": Role("alu", (8, 8, 32))}, r"no price for alu\.compute"),
        ({"dram": Role("glb", ())}, r"role dram: bits must be 1 width, of one access"),
    ],
)
def test_a_role_that_does_not_fit_the_table_is_an_error(changed, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_tables(TABLE, google(45), {**ROLES, **changed}, "mine")


def leaking(*leaks: tuple[str, float], cycle_ns: float | None = 2.0) -> PriceTable:
    prices = {(component, "leak", None): energy for component, energy in leaks}
    return PriceTable({**TABLE.prices_pj, **prices}, TABLE.areas_um2, cycle_ns=cycle_ns)


def test_leakage_of_a_table_that_names_its_cycle_replaces_the_bases() -> None:
    """4 and 6 pJ in each cycle of 2 ns are 2 and 3 mW, the SRAM's for all its banks."""
    base, roles = google(45), {**ROLES, "sram": Role("glb", (64,), capacity_bytes=65536, banks=4)}
    made = from_tables(leaking(("mac", 4.0), ("glb", 6.0)), base, roles, "mine")
    assert made.pe_leakage_mw(8, 8, 32) == pytest.approx(2)
    assert made.pe_leakage_mw(4, 4, 32) / 2 == pytest.approx(
        base.pe_leakage_mw(4, 4, 32) / base.pe_leakage_mw(8, 8, 32)
    )
    assert 4 * made.sram_leakage_mw(65536) == pytest.approx(3)
    assert "leakage of PEs, sram, area of SRAM, leakage of SRAM" in made.sources[0].what
    assert "leak of" not in made.sources[0].what
    others = [source.what for source in made.sources[1:]]
    assert not any("SRAM leakage" in what for what in others)
    assert any(what.startswith("only the shape in the widths") for what in others if "PE leakage" in what)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (leaking(("mac", 4.0), cycle_ns=None), "leak of mac: not used, the tables name no one global_cycle_seconds"),
        (leaking(("glb", 0.0), ("mac", 0.0)), "leak of glb, mac: not used, it is 0; leakage stays google's"),
        (leaking(("dram", 1.0)), "leak of dram: not used, only PEs and SRAM have leakage of their own"),
        (leaking(("regs", 1.0)), "without a role, so not used: regs"),
    ],
)
def test_leakage_that_is_not_used_is_named_and_stays_the_bases(table: PriceTable, words: str) -> None:
    base = google(45)
    made = from_tables(table, base, ROLES, "mine")
    assert words in made.sources[0].what
    assert "of google at 45 nm: leakage of PEs, leakage of SRAM" in made.sources[0].what
    assert made.pe_leakage_mw(8, 8, 32) == base.pe_leakage_mw(8, 8, 32)
    assert made.sram_leakage_mw(65536) == base.sram_leakage_mw(65536)


def test_the_cycle_of_leakage_is_the_one_that_all_actions_name() -> None:
    def row(name: str, seconds: str) -> str:
        return f"{{name: {name}, arguments: {{global_cycle_seconds: {seconds}}}, energy: 1}}"

    assert parse(("x", ert("{name: leak, energy: 1}"))).cycle_ns is None
    assert parse(("x", ert(f"{row('read', '5e-9')}, {{name: leak, energy: 1}}"))).cycle_ns == pytest.approx(5)
    assert parse(("x", ert(f"{row('read', '5e-9')}, {row('leak', '1e-9')}"))).cycle_ns is None
    with pytest.raises(ValueError, match=r"a\.leak: global_cycle_seconds must be a finite number"):
        parse(("x", ert(row("leak", "soon"))))


def test_a_constant_whose_level_the_table_replaces_says_what_it_still_sets() -> None:
    def lines(made: Technology, word: str) -> list[str]:
        return [source.what for source in made.sources if word in source.what]

    made = from_tables(TABLE, google(45), ROLES, "mine")
    other = from_tables(TABLE, google(45, kappa_energy=1.0), ROLES, "mine")
    assert made.mac_pj(4, 4, 32) == pytest.approx(other.mac_pj(4, 4, 32))
    assert made.requantize_pj(32, 8) < other.requantize_pj(32, 8)
    assert made.pe_leakage_mw(8, 8, 32) > other.pe_leakage_mw(8, 8, 32)
    (line,) = lines(made, "kappa_energy 2.0")
    assert line.startswith("not in the MAC's price, which is the tables'; sets what other logic costs")
    assert "kappa_energy" not in made.mac_contents
    assert lines(google(45), "SRAM area")
    assert not lines(made, "SRAM area 0.01434")
    filled = from_tables(TABLE, google(45), {"dram": ROLES["dram"]}, "mine", fill=True)
    assert filled.sources[1:] == google(45).sources
    assert "kappa_energy" in filled.mac_contents


def test_a_role_names_its_component_with_ranges_or_without() -> None:
    ranged = from_tables(TABLE, google(45), {**ROLES, "mac": Role("mac[1..256]", (8, 8, 32))}, "mine")
    assert ranged == from_tables(TABLE, google(45), ROLES, "mine")


def test_a_zero_price_cannot_calibrate() -> None:
    free = PriceTable({**TABLE.prices_pj, ("mac", "compute", None): 0.0}, {})
    with pytest.raises(ValueError, match=r"mac\.compute must be > 0 to calibrate on"):
        from_tables(free, google(45), ROLES, "mine")
