"""A user's own price tables: real shapes of Accelergy's files, roles said or worked out, broken ones in one line."""

import pickle
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from machines import machine

from accelsim.config import load_accelerator
from accelsim.price_tables import price_tables
from accelsim.shapes import LayerShape, shape_program
from accelsim.simulate import simulate
from accelsim.technology import TECHNOLOGIES, read_tables, technology
from accelsim.technology.accelergy import MAX_BYTES, parse
from accelsim.technology.google import google

ERT = """
ERT:
  version: '0.4'
  tables:
  - name: top.DRAM[1..1]
    actions:
    - {name: write, arguments: {global_cycle_seconds: 1e-09, action_latency_cycles: 1}, energy: 512.0}
    - {name: read, arguments: {global_cycle_seconds: 1e-09, action_latency_cycles: 1}, energy: 512.0}
    - {name: leak, arguments: {}, energy: 0.0}
  - name: top.glb[1..1]
    actions: [{name: write, arguments: {}, energy: 26.1}, {name: read, arguments: {}, energy: 32.3}]
  - name: top.spad[1..256]
    actions: [{name: write, arguments: {}, energy: 1.5}, {name: read, arguments: {}, energy: 0.68}]
  - name: top.mac[1..256]
    actions: [{name: compute, arguments: {}, energy: 0.315}, {name: leak, arguments: {}, energy: 0.0036}]
"""
ART = """
ART:
  version: '0.4'
  tables: [{name: 'top.mac[1..256]', area: 332.25}, {name: 'top.glb[1..1]', area: 917810.0}]
"""
ARCHITECTURE = """
architecture:
  version: '0.4'
  local:
  - {name: 'top.DRAM[1..1]', class: DRAM, attributes: {type: LPDDR4, width: 64, datawidth: 16, technology: SET ME}}
  - {name: 'top.glb[1..1]', class: smartbuffer_SRAM,
     attributes: {depth: 16384, width: 64, n_banks: 32, datawidth: 16, technology: 45nm}}
  - {name: 'top.inter_PE[1..1]', class: dummy_storage, attributes: {width: 1, depth: 1, technology: -1}}
  - {name: 'top.spad[1..256]', class: storage, subclass: smartbuffer_SRAM, attributes: {depth: 192, width: 16}}
  - {name: 'top.mac[1..256]', class: intmac, attributes: {multiplier_width: 8, adder_width: 16, technology: 45nm}}
"""
ROLES = """
node_nm: 45
roles:
  mac: {component: top.mac, bits: [8, 8, 16]}
  sram: {component: top.glb, bits: 64, capacity_bytes: 4096, banks: 32}
  dram: {component: top.DRAM, bits: 64}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a run of Timeloop leaves, the parts that matter."""
    made = tmp_path / "out"
    made.mkdir()
    for name, text in (("ERT", ERT), ("ART", ART), ("flattened_architecture", ARCHITECTURE)):
        (made / f"timeloop-mapper.{name}.yaml").write_text(text)
    (made / "timeloop-mapper.ERT_summary.yaml").write_text("ERT_summary: {version: '0.4', table_summary: []}")
    (made / "timeloop-mapper.stats.txt").write_text("Utilization: 100 %")
    return made


def written(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


# --- real shapes -----------------------------------------------------------------------------------------------------


def test_a_folder_of_timeloop_needs_nothing_else(folder: Path) -> None:
    table = read_tables(folder)
    prices = table.at(45)
    assert prices.mac_pj(8, 8, 16) == pytest.approx(0.315)
    assert prices.pe_area_um2(8, 8, 16) == pytest.approx(332.25)
    assert prices.sram_read_pj(16384 * 64 / 8 / 32, 64) == pytest.approx(32.3)
    assert prices.sram_write_pj(4096, 64) == pytest.approx(26.1)
    assert 32 * prices.sram_area_um2(4096, 64) == pytest.approx(917810.0)
    assert prices.dram_pj_per_bit("hbm2") == 512 / 64
    assert table.nodes_nm == (45.0, 45.0)
    assert prices.name.startswith("out@")
    assert table.digest[:16] in prices.sources[0].citation


def test_roles_in_a_file_say_the_same_as_the_architecture(folder: Path, tmp_path: Path) -> None:
    listed = written(
        folder, f"name: mine\ntables: [timeloop-mapper.ERT.yaml, timeloop-mapper.ART.yaml]\n{ROLES}", "own.yaml"
    )
    inline = written(tmp_path, ERT + ART + ROLES)
    worked_out = read_tables(folder)
    for file in (listed, inline):
        table = read_tables(file)
        assert (dict(table.prices), table.roles, table.areas_um2) == (
            dict(worked_out.prices), worked_out.roles, worked_out.areas_um2,
        )  # fmt: skip


def test_an_architecture_of_version_0_3_says_one_width(tmp_path: Path) -> None:
    """Names and attributes of `intmac` and `smartbuffer_SRAM` as Accelergy 0.3 wrote them, ranges from 0."""
    written(
        tmp_path,
        """
ERT:
  version: 0.3
  tables:
  - {name: 'sys.PE[0..191].mac', actions: [{name: mac_random, arguments: null, energy: 2.2}, {name: idle, energy: 0.1}]}
  - {name: sys.glb, actions: [
      {name: write, arguments: {address_delta: 0, data_delta: 1}, energy: 43.4},
      {name: write, arguments: {address_delta: 2, data_delta: 1}, energy: 44.6},
      {name: read, arguments: {address_delta: 2, data_delta: 1}, energy: 44.0}]}
  - {name: sys.DRAM, actions: [{name: read, arguments: null, energy: 512}]}
""",
        "ERT.yaml",
    )
    written(
        tmp_path,
        """
architecture:
  version: 0.3
  local:
  - {name: 'sys.PE[0..191].mac', class: intmac, attributes: {datawidth: 16, technology: 40nm}}
  - {name: sys.glb, class: smartbuffer_SRAM, attributes: {memory_depth: 16384, memory_width: 64, n_banks: 32}}
  - {name: sys.DRAM, class: DRAM, attributes: {width: 64, technology: 65nm}}
""",
        "flattened_architecture.yaml",
    )
    table = read_tables(tmp_path)
    assert dict(table.roles)["mac"].bits == (16, 16, 16)
    assert table.node_nm == 40.0
    prices = table.at(40)
    assert prices.mac_pj(16, 16, 16) == pytest.approx(2.2)
    assert prices.sram_write_pj(4096, 64) == pytest.approx(44.6)
    with pytest.raises(ValueError, match="has prices for 40 nm only"):
        table.at(45)


V2 = """
ERT:
  version: 0.2
  tables:
    sys.PE.mac:
      idle: {arguments: null, energy: 0}
      mac_random: {arguments: null, energy: 1.207}
    sys.GLB:
      fill:
      - {arguments: {address_delta: 0, data_delta: 0}, energy: 3}
      - {arguments: {address_delta: 1, data_delta: 1}, energy: 7}
      read:
      - {arguments: {address_delta: 1, data_delta: 1}, energy: 8}
"""


def test_a_table_of_version_0_2_maps_names_where_later_ones_list_them() -> None:
    table = parse(("v2", V2 + "ART: {version: 0.2, tables: {sys.GLB: 11}}"))
    assert table.price_pj("sys.PE.mac", "compute") == 1.207
    assert (table.price_pj("sys.GLB", "write"), table.price_pj("sys.GLB", "read")) == (7, 8)
    assert table.areas_um2 == {"sys.GLB": 11}
    assert table.warnings == ()


def test_a_range_that_one_table_leaves_out_is_taken_from_the_other() -> None:
    energy = "ERT: {tables: [{name: 'a[0..1].mac[0..1]', actions: [{name: mac_random, energy: 1}]}]}"
    table = parse(("e", energy), ("a", "ART: {tables: [{name: a.mac, area: 3}]}"))
    assert table.total_area_um2() == 12
    assert "one table alone has a range" in table.warnings[0]
    with pytest.raises(ValueError, match=r"has 4 instances in the ERT and 3 in the ART"):
        parse(("e", energy), ("a", "ART: {tables: [{name: 'a.mac[1..3]', area: 3}]}"))


def test_what_the_tables_say_and_the_technology_does_not_use_is_named(folder: Path) -> None:
    """Each PE leaks 0.0036 pJ in every cycle of the 1 ns that the DRAM's actions name."""
    prices = read_tables(folder).at(45)
    what = prices.sources[0].what
    assert prices.pe_leakage_mw(8, 8, 16) == pytest.approx(0.0036)
    assert "not in the tables, so of google at 45 nm: leakage of SRAM" in what
    assert "actions not used: top.DRAM.write" in what
    assert "without a role, so not used: top.spad" in what


@pytest.mark.parametrize("base", list(TECHNOLOGIES))
def test_tables_of_a_node_that_the_base_lacks_keep_it_with_the_base_at_the_nearest(base: str, tmp_path: Path) -> None:
    nearest = technology(base, 45)
    table = read_tables(written(tmp_path, ERT + ROLES.replace("45", "65") + f"base: {base}"))
    prices = table.at(65)
    assert (prices.node_nm, table.nodes_nm) == (65, (65, 65))
    assert prices.mac_pj(8, 8, 16) == pytest.approx(0.315)
    assert prices.mac_pj(4, 4, 16) / 0.315 == pytest.approx(nearest.mac_pj(4, 4, 16) / nearest.mac_pj(8, 8, 16))
    assert prices.pe_area_um2(8, 8, 16) == nearest.pe_area_um2(8, 8, 16)
    what = prices.sources[0].what
    assert f"{base} has no 65 nm, so it is taken at the nearest that it has, 45 nm" in what
    assert f"not in the tables, so of {base} at 45 nm: area of PEs, area of SRAM, leakage of SRAM" in what


def test_an_architecture_of_a_node_that_the_base_lacks_needs_nothing_else(folder: Path) -> None:
    (folder / "timeloop-mapper.flattened_architecture.yaml").write_text(ARCHITECTURE.replace("45nm", "65nm"))
    assert read_tables(folder).at(65).node_nm == 65
    (folder / "timeloop-mapper.flattened_architecture.yaml").write_text(ARCHITECTURE.replace("45nm", "5nm"))
    assert "the nearest that it has, 7 nm" in read_tables(folder).at(5).sources[0].what


def test_tables_without_a_node_are_taken_for_any_that_is_asked_for(tmp_path: Path) -> None:
    table = read_tables(written(tmp_path, ERT + ROLES.replace("node_nm: 45", "")))
    assert table.nodes_nm == (7, 45)
    assert table.at(65).node_nm == 65


def test_roles_name_components_as_the_ert_does(tmp_path: Path) -> None:
    ranged = ROLES.replace("top.mac", "'top.mac[1..256]'").replace("top.DRAM", "'top.DRAM[1..1]'")
    plain, same = (read_tables(written(tmp_path, ERT + roles)) for roles in (ROLES, ranged))
    assert (same.roles, same.prices, same.remarks) == (plain.roles, plain.prices, plain.remarks)


# --- round trip ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(TECHNOLOGIES))
def test_exported_tables_come_back_with_their_prices(name: str, tmp_path: Path) -> None:
    accelerator, ours = load_accelerator("edge-32x32"), technology(name, 45)
    program = shape_program("net", [LayerShape(name="gemm", input=(64, 64), outputs=64)])
    result = simulate(program, accelerator, ours)
    ert, art = price_tables(result, accelerator, ours)
    assert "compute" in {action["name"] for row in yaml.safe_load(ert)["ERT"]["tables"] for action in row["actions"]}
    sram = accelerator.activation_sram
    bank = sram.bytes // sram.banks
    roles = f"""
base: {name}
node_nm: 45
roles:
  mac: {{component: pe, bits: [8, 8, 24]}}
  sram: {{component: activation_sram, bits: {sram.word_bits}, capacity_bytes: {bank}, banks: {sram.banks}}}
  dram: {{component: dram, bits: 1}}
"""
    again = simulate(program, accelerator, read_tables(written(tmp_path, ert + art + roles)).at(45))
    for component, energy in result.energy_pj.items():
        if component not in ("requantizer", "vector", "register"):  # these follow the MAC's level
            assert again.energy_pj[component] == pytest.approx(energy, rel=1e-9), component
    assert again.area_um2["pe"] == pytest.approx(result.area_um2["pe"])


def test_tables_that_were_written_with_the_action_mac_are_read(tmp_path: Path) -> None:
    accelerator = machine()
    program = shape_program("net", [LayerShape(name="gemm", input=(8, 8), outputs=8)])
    ert, _ = price_tables(simulate(program, accelerator, google(45)), accelerator, google(45))
    new, old = parse(("new", ert)), parse(("old", ert.replace("name: compute", "name: mac")))
    bits = next(bits for component, action, bits in new.prices_pj if (component, action) == ("pe", "compute"))
    assert old.price_pj("pe", "compute", bits) == new.price_pj("pe", "compute", bits) == new.price_pj("pe", "mac", bits)


# --- a value ---------------------------------------------------------------------------------------------------------


def test_what_was_read_is_a_value_that_travels(folder: Path, tmp_path: Path) -> None:
    table = read_tables(folder)
    assert pickle.loads(pickle.dumps(table)) == table
    assert hash(table) == hash(read_tables(folder))
    renamed = folder.rename(tmp_path / "moved")
    assert read_tables(renamed).digest == table.digest
    art = renamed / "timeloop-mapper.ART.yaml"
    art.write_text(ART + "# checked\n")
    assert read_tables(renamed).digest != table.digest


# --- refused ---------------------------------------------------------------------------------------------------------

LETTERS = "abcdefghijklmnop"
BOMB = "ERT_summary:\n  a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"  {new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in pairwise(LETTERS)
)
COMPUTE = "ERT: {tables: [{name: m, actions: [{name: compute, energy: *p}]}]}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ERT, "roles must say which component is mac and sram and dram"),
        (ERT, "top.DRAM, top.glb, top.mac, top.spad"),
        (ERT + "rolls: {}", "unknown key 'rolls'"),
        (ERT + ROLES + "base: copper", r"base must be one of google, .*\(got 'copper'\)"),
        (ERT + ROLES + "base: [google]", r"base must be one of google, .*\(got list\)"),
        (ERT + ROLES.replace("45", "forty"), "node_nm must be a number of nanometres"),
        (ERT + ROLES + "tables: ERT.yaml", "tables must be a list of at most 16 file names"),
        (ERT + ROLES + "tables: [gone.yaml]", "cannot read .*gone.yaml: there is no such file"),
        (ERT + ROLES + "name: [x]", "name must be a str"),
        (ERT + "roles: [mac]", "roles must be a mapping of mac, register, sram, dram"),
        (ERT + ROLES.replace("dram:", "noc:"), "roles must be a mapping of mac, register, sram, dram"),
        (ERT + ROLES.replace("top.glb", "top.buffer"), "role sram: component 'top.buffer' is not in the tables"),
        (ERT + ROLES.replace("bits: 64, capacity_bytes: 4096", "bits: 64"), "sram must have capacity_bytes > 0"),
        (ERT + ROLES.replace("4096", "-1"), "role sram: capacity_bytes must be whole numbers > 0"),
        (ERT + ROLES.replace("[8, 8, 16]", "[8, 8]"), r"mac: bits must be 3 widths, of weight, activation and partial"),
        (ERT + ROLES.replace("[8, 8, 16]", "eight"), "role mac: bits must be whole numbers > 0"),
        (ERT + ROLES.replace("component: top.mac", "name: top.mac"), "role mac must have component and bits"),
        (ERT + ROLES.replace("banks", "blanks"), "role sram: unknown key 'blanks'"),
        (ERT.replace("compute", "leak2") + ROLES, r"no price for top\.mac\.compute"),
        (ERT.replace("0.315", "0"), "roles must say"),
        (ERT.replace("0.315", "0") + ROLES, r"top\.mac\.compute must be > 0"),
        (BOMB + "ERT: {tables: [{name: *p, actions: []}]}", r"a table must have a name \(got list\)"),
        (BOMB + COMPUTE, r"finite number >= 0 \(got list\)"),
        (BOMB + "ERT: {tables: [{name: m, actions: [{name: *p, energy: 1}]}]}", r"must have a name \(got list\)"),
        (BOMB + "roles: {mac: {component: x, bits: *p}}", r"role mac: bits must be whole numbers > 0 \(got list\)"),
        (ERT + "ERT: {}", "key 'ERT' is given twice"),
        ("ERT: {tables: {a: {}, a: {}}}", "key 'a' is given twice"),
        ("[1, 2]", r"must be a mapping \(got list\)"),
        ("architecture: 3\n" + ERT, "architecture must have a list `local`"),
        ("architecture: {local: [3]}\n" + ERT, "architecture.local must hold mappings"),
        (ERT + ARCHITECTURE.replace("multiplier_width: 8", "multiplier_width: wide"), "attribute multiplier_width or"),
        (ERT + ARCHITECTURE.replace("intmac", "fpmac"), "the architecture has not exactly one component of a kind"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_line_that_names_the_file(text: str, words: str, tmp_path: Path) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ValueError, match=words) as error:
        read_tables(file)
    assert "mine.yaml" in str(error.value) or "gone.yaml" in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 800


def test_large_files_and_what_is_no_file_are_refused_at_once(tmp_path: Path) -> None:
    large = written(tmp_path, "#" * (10 * 2**20))
    with pytest.raises(ValueError, match=f"must be at most {MAX_BYTES} bytes"):
        read_tables(large)
    with pytest.raises(ValueError, match="there is no such file"):
        read_tables(Path("/dev/zero"))
    with pytest.raises(ValueError, match=r"the folder must hold Accelergy's ERT\.yaml"):
        read_tables(tmp_path)


def test_a_folder_of_two_designs_is_ambiguous(folder: Path) -> None:
    written(folder, ERT, "other.ERT.yaml")
    with pytest.raises(ValueError, match=r"must hold one ERT \(has other\.ERT\.yaml and timeloop-mapper\.ERT\.yaml\)"):
        read_tables(folder)
