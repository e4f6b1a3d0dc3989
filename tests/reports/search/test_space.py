"""What a choice means: widths and splits of the Programs that designs become."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from accelsim.plan import fold_filling
from accelsim.program import Conv, Program
from quant.ocs import split_count
from quant.recipe import Recipe
from reports.search.file import Search, read_search
from reports.search.space import Design
from reports.sweep.identity import point_digest
from reports.sweep.measure import quantized_by
from reports.sweep.study import Point
from reports.task import TaskOptions

Build = Callable[..., Search]


def lowered(search: Search) -> Callable[[Recipe], Program]:
    return lambda recipe: quantized_by(search.task, recipe)[0].program


def design_of(search: Search, **chosen: Any) -> Design:
    """Return the widest design with some choices changed (names with _ for .)."""
    names = {re.sub(r"\W", "_", axis.name): place for place, axis in enumerate(search.space.axes)}
    design = list(search.space.widest)
    for name, value in chosen.items():
        design[names[name]] = search.space.axes[names[name]].choices.index(value)
    return tuple(design)


def point_of(search: Search, **chosen: Any) -> Point:
    return search.space.point(design_of(search, **chosen), lowered(search))


def program_of(search: Search, point: Point) -> Program:
    assert isinstance(point.options, Recipe)
    return lowered(search)(point.options)


def weights(program: Program) -> dict[str, tuple[int, int]]:
    """Return (width, input channels) by layer."""
    return {op.name: (op.weight_bits, op.weight.shape[-1]) for op in program.ops if isinstance(op, Conv)}


def test_widths_and_splits_reach_the_layers_of_their_group_alone(searched: Build) -> None:
    search = searched()
    plain = weights(program_of(search, point_of(search)))
    changed = weights(program_of(search, point_of(search, weight_bits_front=3, ocs_together=0.05)))
    splits = {"block1.conv1.0": 32, "block1.conv2.0": 32, "widen.0": 64, "block3.expand.0": 96, "block3.project.0": 96}
    for name, (bits, channels) in plain.items():
        assert bits == 8, name
        assert changed[name][0] == (3 if name.startswith("block1") else 8), name
        assert changed[name][1] - channels == split_count(0.05, splits.get(name, 0)), name


def test_fill_gives_each_group_the_plan_of_its_machine(searched: Build) -> None:
    search = searched(ocs={"front": ["fill"], "back": [0]})
    for rows in (16, 32):
        point = point_of(search, array_rows=rows)
        plain = point_of(searched(ocs=[]), array_rows=rows)
        plan = dict(fold_filling(program_of(search, plain), point.machine.accelerator).splits)
        assert isinstance(point.options, Recipe)
        expected = {name: count for name, count in plan.items() if name.startswith("block1")}
        transforms = point.options.transforms
        assert {name: n for t in transforms for name, n in t.splits} == expected  # type: ignore[attr-defined]


def test_widths_of_activations_reach_what_the_group_gives(searched: Build) -> None:
    search = searched(act_bits={"front": [5, 8]}, ocs=[])
    program = program_of(search, point_of(search, act_bits_front=5))
    bits = {name: tensor.bits for name, tensor in program.tensors.items()}
    narrow = {name for name, width in bits.items() if width == 5}
    assert narrow
    assert all(name.startswith("block1") for name in narrow), narrow
    plain = {name: t.bits for name, t in program_of(search, point_of(search)).tensors.items()}
    assert {name: 8 if name in narrow else bits[name] for name in plain if not name.endswith(".acc")} == {
        name: width for name, width in plain.items() if not name.endswith(".acc")
    }


def test_equal_programs_are_one_point(searched: Build) -> None:
    search = searched(ocs={"front": [0.01, 0.02], "back": [0]})  # one channel of 32 either way
    points = [point_of(search, ocs_front=ratio) for ratio in (0.01, 0.02)]
    assert len({point_digest("network", point) for point in points}) == 1
    assert len({str(point.factors) for point in points}) == 2


def test_the_order_of_groups_makes_no_other_point(searched: Build) -> None:
    groups = searched().space.groups
    patterns = {name: [layer.name for layer in layers] for name, layers in groups.items()}
    backwards = searched(groups=dict(reversed(patterns.items())))
    assert next(axis.name for axis in backwards.space.axes) == "weight_bits.back"
    points = [point_of(search, weight_bits_front=3, ocs_together=0.05) for search in (searched(), backwards)]
    assert len({point_digest("network", point) for point in points}) == 1


def test_every_layer_is_a_group_where_none_is_given_but_protected_ones(searched: Build) -> None:
    groups = searched(groups={}).space.groups
    assert "block1.conv1.0" in groups
    assert not {"stem.0", "linear"} & set(groups)
    assert {"stem.0", "linear"} <= set(searched(groups={}, recipe={"first_last": "same"}).space.groups)


def test_machines_that_are_no_grid_are_one_axis(searched: Build) -> None:
    machines = [{"base": "edge-32x32", "array.rows": 16, "array.cols": 8}, {"base": "edge-32x32"}, "tpu-v1-256x256"]
    space = searched(accelerators=machines).space
    assert [len(axis.choices) for axis in space.axes if not axis.group] == [3]
    rows = {space.machine(design).machine.accelerator.array.rows for design in space.designs()}
    assert rows == {16, 32, 256}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"weight_bits": [4, 99]}, "99"),
        ({"weight_bits": {"middle": [4]}}, "no such group"),
        ({"ocs": [0, 2]}, "within 0..1 or fill"),
        ({"groups": {"front": ["nothing*"]}}, "matches no layer"),
        ({"groups": {"a": ["block1.*"], "b": ["block1.conv1.*"]}}, "in group 'a' already"),
        ({"groups": {"together": ["block1.*"]}}, "names other than together"),
        ({"objectives": ["accuracy", "beauty"]}, "objectives: must be of"),
        ({"budget": {"max_joy": 1}}, "no such limit"),
        ({"budget": {"minimize": "area"}}, "must be one of the objectives"),
        ({"recipe": {"ocs": 0.02}}, "leave it out of one"),
        ({"recipe": {"weight_bits": [4, 8]}}, "must have no lists"),
        ({"sampler": "luck"}, "sampler: must be one of"),
        ({"trials": 0}, "trials"),
        ({"accelerators": ["edge-31x31"]}, "edge-31x31"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(searched: Build, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        searched(**changed)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_said(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        read_search(tmp_path / "none.yaml", TaskOptions(network=""))
