"""Digests: whatever decides a figure changes them, names do not, and every process finds the same."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sweeps import BASE, study_of

from quant.recipe import Recipe
from quant.recipe_options import QuantOptions
from reports.sweep import identity
from reports.sweep.identity import network_digest, point_digest, technology_text, unit_digest
from reports.sweep.study import Point, changed
from reports.task import Task, TaskOptions, load_task
from workloads import Samples

ONE: dict[str, Any] = {
    "name": "one",
    "networks": [{"name": "digits", "images": 24, "calib": 32}],
    "recipes": [{"weight_bits": 4, "clip": "mse", "ocs": 0.05}],
    "accelerators": ["edge-32x32"],
    "technologies": ["google"],
}
OPTIONS = TaskOptions(network="digits", images=24, calib=32)


def point(**changes: Any) -> Point:
    (found,) = study_of(ONE, **changes).points
    return found


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(OPTIONS)


MACHINE_FIELDS = {
    "array.rows": 31, "array.cols": 31, "array.dataflow": "os", "array.double_buffered": False,
    "array.pipeline_depth": 2, "array.groups": "serial", "pe.type": "native", "accumulator.bits": 31,
    "accumulator.psum_bits": 30, "accumulator.overflow": "wrap", "accumulator.psum_overflow": "wrap",
    "weight_sram.bytes": 65536 * 3, "activation_sram.bytes": 65536 * 5, "accumulator_sram.bytes": 65536 * 7,
    "dram.bandwidth_gb_per_s": 3.25, "clock_mhz": 123.0, "node_nm": 40.0, "equal_area_bits": 8,
}  # fmt: skip


@pytest.mark.parametrize(("field", "value"), MACHINE_FIELDS.items(), ids=str)
def test_a_field_of_the_machine_changes_it(field, value):
    assert point_digest("n", point(accelerators=[{"base": "edge-32x32", field: value}])) != point_digest("n", point())


RECIPES: list[dict[str, Any]] = [
    {"weight_bits": 5}, {"act_bits": 7}, {"per_channel": True}, {"first_last": "same"}, {"clip": "aciq"}, {"ocs": 0.06},
    {"act_clip": "mse"}, {"naive_split": True}, {"act_ocs": 0.01}, {"splitquant": True}, {"equalize": "one-step"},
    {"smoothquant": 0.5}, {"ocs": "fill"}, {"ocs": None, "ocs_folds": 1}, {"ocs": "fill", "naive_split": True},
]  # fmt: skip


def test_every_recipe_is_another():
    digests = {unit_digest("n", point(recipes=[ONE["recipes"][0] | given]).options) for given in [{}, *RECIPES]}
    assert len(digests) == 1 + len(RECIPES)


@pytest.mark.parametrize(
    "changes",
    [
        {"technologies": ["nangate45"]},
        {"technologies": [{"name": "google", "node_nm": 40.0}]},
        {"technologies": [{"name": "google", "node_nm": 22, "scaling": "stillmaker"}]},
        {"batch": 2},
        {"timing": "isolated"},
    ],
    ids=str,
)
def test_prices_batch_and_timing_change_it(changes):
    assert point_digest("n", point(**changes)) != point_digest("n", point())


def test_versions_and_the_network_change_it(monkeypatch):
    digests = {point_digest("n", point()), point_digest("m", point())}
    for name in ("NUMERICS_VERSION", "FIGURES_VERSION"):
        with monkeypatch.context() as patch:
            patch.setattr(identity, name, 1000)
            digests.add(point_digest("n", point()))
    assert len(digests) == 4


def test_prices_change_the_technologys_text():
    prices = point().prices.at(point().machine.accelerator)
    texts = {technology_text(prices)}
    for change in (
        {"node_nm": 44.0}, {"area_overhead": 2.0}, {"narrow_residue": 0.4}, {"sram_um2_per_bit": 0.7},
        {"sram_leak_factor": 2.0}, {"dram_pj_per_bit_fixed": 4.0}, {"mac_includes_registers": False},
        {"logic": replace(prices.logic, kappa_energy=2.5)}, {"sram": replace(prices.sram, write_factor=1.5)},
    ):  # fmt: skip
        texts.add(technology_text(replace(prices, **change)))
    assert len(texts) == 10


def test_names_and_descriptions_do_not_change_it():
    given = {"base": "edge-32x32", "name": "mine", "description": "of my own"}
    other = point(accelerators=[given])
    assert other.machine.accelerator.name == "mine"
    assert point_digest("n", other) == point_digest("n", point())
    assert point_digest("n", point(name="other", description="words")) == point_digest("n", point())


def test_a_recipes_name_does_not_change_it():
    """A named recipe, the same by another name, and the options that mean it are one point."""
    given = point(recipes=[{"weight_bits": 4}])
    digests = {
        point_digest("n", replace(given, options=options))
        for options in (QuantOptions(weight_bits=4), *(Recipe(name=n, weight_bits=4) for n in ("custom", "mine")))
    }
    assert len(digests) == 1
    assert unit_digest("n", Recipe(name="mine")) == unit_digest("n", QuantOptions())
    assert digests != {point_digest("n", replace(given, options=Recipe(weight_bits=5)))}


TABLES = """
ERT:
  tables:
  - {name: mac, actions: [{name: compute, energy: 0.9}]}
  - {name: glb, actions: [{name: read, energy: 14.0}, {name: write, energy: 12.0}]}
  - {name: dram, actions: [{name: read, energy: 512.0}]}
roles:
  mac: {component: mac, bits: [8, 8, 24]}
  sram: {component: glb, bits: 64, capacity_bytes: 65536}
  dram: {component: dram, bits: 64}
"""


def test_tables_of_a_user_are_in_it_by_their_contents(tmp_path):
    def digest(name, text):
        (tmp_path / name).write_text(text)
        return point_digest("n", point(technologies=[str(tmp_path / name)]))

    first = digest("first.yaml", TABLES)
    assert digest("second.yaml", TABLES) == first
    changed_prices = [digest("first.yaml", TABLES.replace(old, new)) for old, new in (("0.9", "0.91"), ("512", "513"))]
    commented = digest("first.yaml", TABLES + "# measured again\n")
    assert len({first, *changed_prices, commented, point_digest("n", point())}) == 5


def test_a_point_keeps_the_tables_that_were_read(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(TABLES)
    one = point(technologies=[str(file)])
    before = point_digest("n", one)
    file.unlink()
    assert point_digest("n", one) == before
    assert one.prices.at(one.machine.accelerator).mac_pj(8, 8, 24) == pytest.approx(0.9)


def test_a_refusal_has_a_digest_that_does_not_depend_on_names():
    where = {"technologies": ["nangate45"], "accelerators": [{"base": "edge-32x32", "node_nm": 65.0}]}
    first = point(**where)
    renamed = replace(
        first, machine=replace(first.machine, accelerator=changed(first.machine.accelerator, {"name": "other"}))
    )
    assert point_digest("n", first) == point_digest("n", renamed)
    assert point_digest("n", first) != point_digest("n", point(**where | {"technologies": ["bitfusion45"]}))


# --- networks --------------------------------------------------------------------------------------------------------


def test_one_weight_one_pixel_or_one_label_changes_the_network(task):
    original = network_digest(task, 2, 0)
    assert original == network_digest(load_task(OPTIONS), 2, 0)
    digests = {original}
    for changed_task in (
        *[replace(task, captured=graph) for graph in _graphs(task)],
        replace(task, samples=_touched(task, "x", task.calibrated[3])),
        replace(task, samples=_touched(task, "x", task.evaluated[3])),
        replace(task, samples=_touched(task, "y", task.evaluated[5])),
        replace(task, evaluated=task.evaluated[:-1]),
        replace(task, calibrated=task.calibrated[:-1]),
        replace(task, workload=replace(task.workload, metric="agreement")),
    ):
        digests.add(network_digest(changed_task, 2, 0))
    digests |= {network_digest(task, 3, 0), network_digest(task, 2, 1)}
    assert len(digests) == 1 + 2 + 6 + 2


def _graphs(task: Task) -> list[Any]:
    """Return the graph with the last bit of one weight changed, and with one attribute changed."""
    nodes = list(task.graph.nodes)
    place = max(i for i, node in enumerate(nodes) if "weight" in node.params)
    weight = np.array(nodes[place].params["weight"])
    weight.flat[7] = np.nextafter(weight.flat[7], np.float32(9))
    one = replace(nodes[place], params=dict(nodes[place].params) | {"weight": weight})
    where = next(i for i, node in enumerate(nodes) if "padding" in node.attrs)
    other = replace(nodes[where], attrs=dict(nodes[where].attrs) | {"padding": (3, 1)})
    return [
        _with_nodes(task.graph, [*nodes[:place], one, *nodes[place + 1 :]]),
        _with_nodes(task.graph, [*nodes[:where], other, *nodes[where + 1 :]]),
    ]


def _with_nodes(graph: Any, nodes: list[Any]) -> Any:
    class Changed:  # the digest reads these alone
        inputs, outputs = graph.inputs, graph.outputs

    Changed.nodes = tuple(nodes)
    return Changed()


def _touched(task: Task, what: str, index: int) -> Samples:
    everything = np.arange(len(task.samples))
    arrays = {"x": np.array(task.samples.batch(everything)), "y": np.array(task.samples.labels(everything))}
    arrays[what].reshape(len(everything), -1)[index, 0] += 1
    return Samples(x=arrays["x"], y=arrays["y"])


def test_another_process_finds_the_same(task):
    code = (
        "from reports.sweep.study import *\nfrom reports.sweep.identity import *\nfrom reports.task import load_task\n"
        f"study = build_study({ONE!r}, TaskOptions(network=''))\n"
        "point = study.points[0]; network = network_digest(load_task(point.task), 2, 0)\n"
        "print(network, point_digest(network, point))"
    )
    environment = dict(os.environ) | {"PYTHONHASHSEED": "4711"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, timeout=300,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    network = network_digest(task, 2, 0)
    assert run.stdout.split() == [network, point_digest(network, point())]
    assert BASE.network == ""
