"""Studies from YAML: grids, files beside them, and everything that is wrong with one at once."""

import itertools
import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sweeps import BASE, SMALL, study_of

from quant.recipe import Recipe
from reports.sweep import study as study_module
from reports.sweep.identity import point_digest, unit_digest
from reports.sweep.study import MAX_COMBINATIONS, build_study, read_study

FOLDER = Path(__file__).parents[3] / "reports" / "studies"
MINIMAL: dict[str, Any] = {"name": "x", "networks": ["digits"], "recipes": [{}], "accelerators": ["edge-32x32"]}


# --- what a study means ----------------------------------------------------------------------------------------------


def test_points_are_all_combinations_in_order():
    points = study_of(technologies=["google", "nangate45"], batch=[1, 4], timing=[None, "isolated"]).points
    assert len(points) == 4 * 4 * 2 * 2 * 2
    assert len({json.dumps(dict(p.factors), sort_keys=True) for p in points}) == len(points)
    neighbours = [unit_digest("network", p.options) for p in points]
    assert len(set(neighbours)) == 1 + sum(a != b for a, b in itertools.pairwise(neighbours))


def test_zipped_axes_are_one_axis():
    points = study_of(
        MINIMAL, accelerators=[{"base": "edge-32x32", "array.rows, array.cols": [[8, 16], [32, 4]]}]
    ).points
    arrays = [(p.machine.accelerator.array.rows, p.machine.accelerator.array.cols) for p in points]
    assert arrays == [(8, 16), (32, 4)]
    assert [(p.factors["array.rows"], p.factors["array.cols"]) for p in points] == arrays


def test_minimal_study_takes_the_defaults():
    (point,) = study_of(MINIMAL).points
    assert point.factors == {
        "network": "digits", "accelerator": "edge-32x32", "technology": "google", "batch": 1, "timing": None,
    }  # fmt: skip
    assert (point.batch, point.timing_mode, point.machine.equal_area_bits) == (1, None, None)


def test_duplicates_are_one_point():
    recipes = [{"weight_bits": [8, 8]}, {}, {"weight_bits": 8, "per_channel": False}, {"ocs": 0}, {"ocs": "0.0"}]
    points = study_of(MINIMAL, recipes=recipes, technologies=["google", {"name": "google"}]).points
    assert len(points) == 12
    assert len({point_digest("network", point) for point in points}) == 1


def test_files_beside_the_study(tmp_path, monkeypatch):
    folder = tmp_path / "studies"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    (folder / "mine.yaml").write_text("name: mine\nweight_bits: 5\n")
    (folder / "machine.yaml").write_text("name: own\narray: {rows: 4, cols: 8}\nbase: edge-32x32\n")
    preset = yaml.safe_load((Path(study_module.__file__).parents[2] / "accelsim/presets/edge-32x32.yaml").read_text())
    (folder / "machine.yaml").write_text(yaml.safe_dump(preset | {"name": "own", "array": {"rows": 4, "cols": 8}}))
    (folder / "w.safetensors").write_bytes(b"")
    (folder / "net.onnx").write_bytes(b"")
    plain = MINIMAL | {
        "networks": [{"name": "digits", "weights": "w.safetensors"}, "net.onnx"],
        "recipes": ["mine.yaml"],
        "accelerators": ["machine.yaml"],
    }
    (folder / "s.yaml").write_text(yaml.safe_dump(plain))
    first, second = read_study(Path("studies/s.yaml"), BASE).points
    assert first.task.weights == Path("studies/w.safetensors")
    assert second.task.network == "studies/net.onnx"
    assert isinstance(first.options, Recipe)
    assert first.options.weight_bits == 5
    assert first.machine.accelerator.array.cols == 8
    assert first.factors["recipe"] == "mine.yaml"


def test_recipe_files_are_read_once_and_travel_as_values(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("weight_bits: 5\n")
    before = study_of(MINIMAL, recipes=[{"recipe": str(file), "act_bits": 6}]).points[0]
    file.write_text("weight_bits: 4\n")
    after = study_of(MINIMAL, recipes=[{"recipe": str(file), "act_bits": 6}]).points[0]
    assert (before.options.weight_bits, before.options.act_bits) == (5, 6)
    assert point_digest("n", before) != point_digest("n", after)
    file.unlink()
    assert point_digest("n", before) != point_digest("n", after)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("**/*.yaml")), ids=lambda path: str(path.relative_to(FOLDER)))
def test_committed_studies_are_valid(path):
    plain = yaml.safe_load(path.read_text())
    if {"networks", "accelerators", "recipes"} <= set(plain):
        assert read_study(path, BASE).points


# --- what is wrong ---------------------------------------------------------------------------------------------------


def said(plain: object, **changes: Any) -> str:
    with pytest.raises(ValueError) as caught:
        study_of(plain, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_all_errors_at_once():
    text = said(
        MINIMAL,
        networks=[{"nam": "digits"}, {"name": "digits", "images": "many"}, {"name": "digits", "seed": -1}],
        recipes=[{"weight_bits": [1, 99]}, {"clip": "hard"}, "no-such-recipe", {"ocs": 3}],
        accelerators=["nope", {"base": "edge-32x32", "array.rows": 0, "array.wings": 2}, {"array.rows": 4}],
        technologies=["copper", {"name": "google", "node_nm": "small"}, {"name": "google", "scaling": "moore"}],
        batch=[1, 0],
        timing=["fast"],
        skip=[{"colour": "red"}, {"weight_bits": "< few"}, {}],
    )
    assert "has 20 error(s)" in text
    for words in (
        "nam: there is no such field", "images: must be a whole number", "seed must be >= 0", "weight_bits", "got 1)",
        "got 99)", "--clip", "no-such-recipe", "ocs ratio", "nope", "array.rows", "wings", "base: must be given",
        "copper", "node_nm: must be a number", "scaling: must be one of", "batch: must be >= 1",
        "timing: must be one of", "skip[0]", "skip[1]", "skip[2]",
    ):  # fmt: skip
        assert words in text, words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"networks": []}, "networks"),
        ({"batch": []}, "batch"),
        ({"timing": []}, "timing"),
        ({"batch": True}, "batch"),
        ({"bit_exact_images": -1}, "bit_exact_images"),
        ({"colour": 1}, "colour"),
        ({"name": ""}, "name"),
        ({"name": 5}, "name"),
        ({"networks": "digits"}, "networks"),
        ({"recipes": [None]}, "recipes"),
        ({"recipes": [{1: 2}]}, "recipes"),
        ({"recipes": [{"weight_bits": []}]}, "weight_bits: must list at least one value"),
        ({"accelerators": [{"base": "edge-32x32", "array.rows, array.cols": [[1, 2, 3]]}]}, "lists of 2 values"),
        ({"accelerators": [{"base": "edge-32x32", "array.rows, array.cols": 5}]}, "lists of 2 values"),
        ({"accelerators": [{"base": "edge-32x32", "array.rows.x": 5}]}, "array.rows.x: there is no such field"),
        ({"accelerators": [{"base": "edge-32x32", "equal_area_bits": 40}]}, "within 2..18"),
        ({"recipes": [{"per_channel": "no"}]}, "per_channel: must be true or false"),
        ({"recipes": [{"ocs": True}]}, "ocs: must be text or a number"),
        ({"recipes": [{"smoothquant": "0.5"}]}, "smoothquant: must be a number"),
        ({"recipes": [{"ocs": [float("nan")]}]}, "ocs: must be finite"),
        ({"recipes": [{"weight_bits": 4.0}]}, "weight_bits: must be a whole number"),
        ({"recipes": [{"recipe": 5}]}, "recipe: must be text"),
        ({"technologies": [{"name": "google", "node_nm": True}]}, "node_nm: must be a number"),
        ({"networks": [{"name": "x" * 5000, "images": "1"}]}, "images"),
        ({"skip": [{"network": "digits"}]}, "no points left"),
    ],
)  # fmt: skip
def test_what_is_refused(changes, words):
    assert words in said(MINIMAL, **changes)


def test_one_entry_with_many_problems_names_some():
    text = said(MINIMAL, recipes=[{"weight_bits": list(range(100, 140))}])
    assert "has 6 error(s)" in text
    assert "and 35 more" in text


@pytest.mark.parametrize("name", ["\0", "x" * 5000, "", ".", "/"])
def test_names_that_no_file_has(name):
    study_of(MINIMAL, networks=[name])  # refused, with the closest names, when it is loaded
    for what in ("recipes", "accelerators"):
        said(MINIMAL, **{what: [name]})


JUNK = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.just(10**400), st.floats(), st.text(max_size=5),
        st.sampled_from(["fill", "digits", "edge-32x32", "google", "mse", "< 3", "ws", "\0"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=4,
)  # fmt: skip
PLACES: dict[str, list[str]] = {
    "networks": list(study_module.NETWORK_FIELDS),
    "recipes": list(study_module.RECIPE_FIELDS),
    "accelerators": ["base", "name", "equal_area_bits", "array", "array.rows", "pe.type", "array.rows, array.cols", ""],
    "technologies": list(study_module.PRICE_FIELDS),
}
NEEDED = {"networks": "name", "accelerators": "base", "technologies": "name"}
VALID = {"networks": "digits", "accelerators": "edge-32x32", "technologies": "google"}


def _one_line(error: ValueError) -> None:
    assert "\n" not in str(error)


def _is_study_or_error(make: Callable[[], Any]) -> None:
    try:
        study = make()
    except ValueError as error:
        _one_line(error)
        return
    for point in study.points[:50]:
        point_digest("network", point)
        json.dumps(dict(point.factors), allow_nan=False)


@given(st.data())
def test_wrong_types_anywhere_are_an_error_in_one_line(data):
    section = data.draw(st.sampled_from(sorted(PLACES)))
    entry = {NEEDED[section]: VALID[section]} if section in NEEDED else {}
    entry |= data.draw(st.dictionaries(st.sampled_from(PLACES[section]), JUNK, min_size=1, max_size=2))
    _is_study_or_error(lambda: study_of(MINIMAL, **{section: [entry]}))


@given(st.dictionaries(st.sampled_from(sorted(study_module.StudyFile.model_fields)), JUNK, min_size=1, max_size=3))
def test_wrong_sections_are_an_error_in_one_line(changes):
    _is_study_or_error(lambda: study_of(MINIMAL, **changes))


@pytest.mark.parametrize(
    "content", [b"", b"- 1\n", b"a: [\n", b"\xff\xfe\x00", b"name: x\nname: y\n", b"42", b"a: &a [*a]"]
)
def test_files_that_are_no_study(tmp_path, content):
    file = tmp_path / "s.yaml"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="study"):
        read_study(file, BASE)


def test_missing_files(tmp_path):
    for path in (tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(ValueError, match="does not exist"):
            read_study(path, BASE)


def test_too_large_a_study_is_refused_before_it_is_made():
    rows, images = list(range(1, 4001)), list(range(1, 3001))
    huge = SMALL | {
        "networks": [{"name": "digits", "images": images, "calib": images}],
        "accelerators": [{"base": "edge-32x32", "array.rows": rows, "array.cols": rows}],
    }
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(ValueError, match=f"at most {MAX_COMBINATIONS} combinations") as caught:
            build_study(huge, BASE)
        spent, (_, most) = time.process_time() - start, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert f"got {4 * 3000**2 * 4000**2}" in str(caught.value)
    assert most < 20e6, f"{most / 1e6:.0f} MB, {spent:.1f} s"
