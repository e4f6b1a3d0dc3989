"""Staircases, rooflines and maps against simulations of their own."""

from dataclasses import replace

import pytest

from accelsim.program import Conv
from accelsim.simulate import simulate
from quant.lower import lower
from quant.ocs import SplitOutliers
from quant.pipeline import observe_for, prepare
from quant.recipe import Recipe
from reports.charts import Stair, free_until, levels
from reports.page import heat, roofline, stairs
from reports.page.fronts import all_fronts
from reports.page.machines import closed_form, layer_rows, machine_of, peaks
from reports.task import TaskOptions, load_task


@pytest.fixture(scope="module")
def network(loaded):
    return loaded.networks[0]


@pytest.fixture(scope="module")
def task():
    return load_task(TaskOptions(network="digits", images=64, calib=32))


def test_the_closed_form_gives_what_every_point_stored(network):
    checked = 0
    for design in network.designs:
        for layer in layer_rows(design):
            if layer["macs"]:
                assert closed_form(design, layer, layer["k"]) == (layer["folds"], layer["array_cycles"])
                checked += 1
    assert checked > 500


def test_a_window_is_what_a_channel_adds_to_k(network, task):
    ready = prepare(task.graph, Recipe(weight_bits=4), task.calibration)
    program = lower(ready, observe_for(ready, task.calibration), Recipe(weight_bits=4)).program
    windows = {op.name: op.weight.shape[1] * op.weight.shape[2] for op in program.ops if isinstance(op, Conv)}
    channels = {op.name: op.weight.shape[3] * op.groups for op in program.ops if isinstance(op, Conv)}
    machine = stairs.machines(network, network.settings[0])[0]
    assert {layer.name: layer.window for layer in machine.layers} == windows
    assert {layer.name: layer.channels for layer in machine.layers} == channels


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_curve_passes_through_a_ratio_that_was_not_swept(network, task, place):
    """Split, lower and simulate at another ratio: folds and array cycles lie on the curve."""
    machine = stairs.machines(network, network.settings[0])[place]
    assert machine.exact
    recipe = Recipe(weight_bits=4, transforms=(SplitOutliers(ratio=0.08),))
    ready = prepare(task.graph, recipe, task.calibration)
    program = lower(ready, observe_for(ready, task.calibration), recipe).program
    design = machine.designs[0]
    result = simulate(program, machine_of(design), timing_mode=design.setting.timing_mode)
    for which, figure in ((0, result.folds), (1, result.array_cycles)):
        unsplit = sum(layer.at(0)[which] for layer in machine.layers)
        stair = stairs._network_stair(machine, which)
        assert any(y == pytest.approx(figure / unsplit, rel=1e-12) for y in stair.y)


def test_measured_designs_lie_on_the_curves_where_one_ratio_splits_all_layers(network):
    for machine in stairs.machines(network, network.settings[0]):
        stair = stairs._network_stair(machine, 1)
        curve = {round(x, 9): y for x, y in zip(stair.x, stair.y, strict=True)}
        ratios = [d for d in machine.designs if isinstance(d.factors.get("ocs"), float)]
        assert ratios
        for design in ratios:
            x = round(design.figures["weight_expansion"] - 1, 9)
            assert curve[x] == pytest.approx(design.figures["array_cycles"] / stairs._unsplit(machine, 1), rel=1e-12)


def test_filled_designs_are_free_of_array_cycles_under_ws(network):
    found = 0
    for machine in stairs.machines(network, network.settings[0]):
        for design in machine.designs:
            if design.factors.get("ocs") == "fill" and machine.name.startswith("ws"):
                assert design.figures["array_cycles"] == stairs._unsplit(machine, 1)
                found += design.figures["weight_expansion"] > 1
    assert found


def test_no_curve_where_the_closed_form_gives_something_else(network):
    design = network.designs[0]
    layer = next(row for row in layer_rows(design) if row["macs"])
    assert stairs._layer([design], [layer]).at is not None
    assert stairs._layer([design], [layer | {"array_cycles": layer["array_cycles"] + 1}]).at is None
    assert stairs._layer([design], [layer | {"folds": layer["folds"] + 1}]).at is None


def test_a_machine_without_a_curve_still_shows_its_designs(network):
    machine = stairs.machines(network, network.settings[0])[0]
    broken = replace(machine, layers=tuple(replace(layer, at=None) for layer in machine.layers))
    found = stairs.network_stairs(network, [broken])
    assert machine.layers[0].name in found.notes[0]
    assert len(found.cycles.stairs[0].measured) == len(stairs._network_stair(machine, 1).measured)
    assert len(found.cycles.stairs[0].x) == 1


def test_levels_are_where_nothing_is_added():
    stair = Stair("one", (0, 1, 2, 3, 4, 5), (1, 1, 2, 2, 2, 3))
    assert levels(stair) == [(0, 1, 1), (2, 4, 2)]
    assert free_until(stair) == 1
    assert free_until(Stair("two", (0, 1), (1, 2))) == 0


def test_no_design_lies_above_its_roof(network):
    roofs = [roofline.design_roof(design) for design in network.designs]
    assert all(roof is not None and 0 < roof.reached <= min(1.0, roof.balance) for roof in roofs)


def test_the_roof_of_a_fixed_machine_is_one_product_per_pe(network):
    limits = peaks(network.designs[0])
    array = machine_of(network.designs[0]).array
    dram = machine_of(network.designs[0]).dram
    assert limits.macs_per_cycle(4, 8) == array.rows * array.cols
    seconds = 1 / (machine_of(network.designs[0]).clock_mhz * 1e6)
    assert limits.bytes_per_cycle == pytest.approx(dram.bandwidth_gb_per_s * 1e9 * dram.page_efficiency * seconds)


def test_no_layer_does_more_than_the_peak(network):
    for design in network.designs:
        limits = peaks(design)
        for one in layer_rows(design):
            if one["macs"]:
                peak = limits.macs_per_cycle(one["weight_bits"], one["act_bits"])
                assert one["macs"] <= peak * one["cycles"]


def test_maps_hold_the_stored_layers(network):
    found = heat.heat(network, all_fronts(network))
    assert {chart.title.split(": ")[1] for chart in found.maps} >= {"utilization of the array, %", "channels added"}
    for chart in found.maps:
        key = {"u": "utilization", "o": "overflowed_outputs", "c": "splits"}[chart.title.split(": ")[1][0]]
        for i, name in enumerate(chart.rows):
            for j, design in enumerate(found.designs):
                stored = dict(zip(design.row.layers["name"], design.row.layers[key], strict=True))
                assert chart.values[i][j] == stored[name]
