"""Prices of a simulation as Accelergy tables, read back, and as a technology of their own."""

import pytest
from machines import machine

from accelsim.config import load_accelerator
from accelsim.price_tables import price_tables, table_key
from accelsim.shapes import LayerShape, shape_program
from accelsim.simulate import simulate
from accelsim.technology import TECHNOLOGIES, Role, from_tables, technology
from accelsim.technology.accelergy import VERSIONS, parse

PROGRAM = shape_program("net", [LayerShape(name="conv", input=(9, 9, 16), outputs=24, kernel=(3, 3))], 4, 8)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", list(TECHNOLOGIES))
def test_exported_tables_give_the_energy_and_area_of_the_result(name: str, version: str) -> None:
    accelerator, prices = machine(cores=2), technology(name, 45)
    result = simulate(PROGRAM, accelerator, prices)
    ert, art = price_tables(result, accelerator, prices, version)
    table = parse(("ert", ert), ("art", art))
    assert table.warnings == ()
    total = sum(count * table.price_pj(*table_key(event)) for event, count in result.activity)
    assert total == pytest.approx(result.energy_pj["total"], rel=1e-12)
    assert table.total_area_um2() == pytest.approx(result.area_um2["total"], rel=1e-12)
    assert table.instances["pe"] == 2 * 64


def test_an_exported_table_comes_back_as_a_technology() -> None:
    """Levels of one technology on the shape of another: at the table's widths the price is the table's."""
    accelerator, ours = load_accelerator("edge-32x32"), technology("nangate45", 45)
    program = shape_program("net", [LayerShape(name="gemm", input=(64, 64), outputs=64)])
    result = simulate(program, accelerator, ours)
    ert, art = price_tables(result, accelerator, ours)
    text = ert.replace(
        "- name: mac\n      arguments:\n        bits:\n        - 8\n        - 8\n        - 24", "- name: compute"
    )
    table = parse(("ert", text), ("art", art))
    roles = {"mac": Role("pe", (8, 8, 24))}
    imported = from_tables(table, technology("google", 45), roles, "ours", fill=True)
    assert imported.mac_pj(8, 8, 24) == pytest.approx(ours.mac_pj(8, 8, 24))
    assert imported.pe_area_um2(8, 8, 24) == pytest.approx(ours.pe_area_um2(8, 8, 24))
    again = simulate(program, accelerator, imported)
    assert again.energy_pj["pe"] > 0
    assert again.energy_pj["dram"] == pytest.approx(simulate(program, accelerator).energy_pj["dram"])
