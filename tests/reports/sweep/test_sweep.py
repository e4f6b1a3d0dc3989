"""Sweeps in one process: their figures against whole runs, what is done once, what is refused, what goes wrong."""

import json
from collections import Counter
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sweeps import contents, rows_of, study_of

from accelsim.cost import Machine as Priced
from accelsim.cost import area_um2
from accelsim.execute import accumulations, may_overflow
from accelsim.pe import built_widths
from accelsim.plan import fold_filling
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from reports.run import Engine, Machinery, RunOptions, run_task
from reports.sweep import measure as measure_module
from reports.sweep import sweep as sweep_module
from reports.sweep.identity import network_digest, point_digest
from reports.sweep.store import DONE, REFUSED, Row, Store
from reports.sweep.study import Point, Study, changed
from reports.sweep.sweep import How, run_sweep
from reports.task import Task, load_task

CHECKPOINT = resources.files("workloads") / "checkpoints" / "digits.safetensors"
NETWORK = {"name": "digits", "images": 24, "calib": 32}

RECIPES: list[dict[str, Any]] = [
    {}, {"weight_bits": 4, "clip": "aciq"},
    {"weight_bits": 3, "act_bits": 6, "per_channel": True, "first_last": "same"},
    {"weight_bits": 4, "ocs": 0.05, "naive_split": True, "act_clip": "mse"}, {"weight_bits": 5, "act_ocs": 0.05},
    {"weight_bits": 4, "splitquant": True}, {"weight_bits": 4, "equalize": "two-step", "ocs": 0.02},
    {"smoothquant": 0.5, "weight_bits": 4}, {"weight_bits": 4, "ocs_folds": 1, "per_channel": True},
    {"weight_bits": 3, "ocs": "fill", "clip": "percentile", "percentile": 99.5},
]  # fmt: skip


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(study_of().points[0].task)


def run_of(task: Task, point: Point, images: int = 0) -> dict[str, Any]:
    """Return the record of a whole run of one point."""
    machinery = Machinery(
        accelerator=point.machine.accelerator,
        technology=point.prices.at(point.machine.accelerator),
        batch=point.batch,
        timing_mode=point.timing_mode,
    )
    options = RunOptions(
        task=point.task, recipe=point.options, machinery=machinery, engine=Engine(bit_exact_images=images)
    )
    return run_task(task, options).to_json()


def check_against_run(row: Row, run: dict[str, Any]) -> None:
    found = dict(row.figures)
    for name, value in run["accuracy"].items():
        assert found["accuracy" if name == "integer" else name] == value, name
    same = (
        "bit_exact", "bit_exact_images", "overflowed_outputs", "images", "cycles", "array_cycles", "stall_cycles",
        "seconds", "energy_pj", "area_um2", "weight_bytes", "dram_bytes", "utilization", "folds", "timing_mode",
        "technology", "recipe", "accelerator", "program_digest", "batch",
    )  # fmt: skip
    assert {name: found[name] for name in same} == {name: run[name] for name in same}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    layers = run["layers"]
    for name in ("name", "m", "k", "n", "splits", "folds", "cycles", "dram_bytes", "overflowed_outputs"):
        assert row.layers[name] == [layer[name] for layer in layers], name
    assert row.layers["stall_cycles"] == [sum(layer["stall_cycles"].values()) for layer in layers]
    assert np.allclose(row.layers["energy_pj"], [layer["energy_pj"]["total"] for layer in layers], rtol=1e-5)


def rows_by_digest(study: Study, task: Task, path: Path) -> list[tuple[Point, Row]]:
    network = network_digest(task, study.bit_exact_images, study.points[0].task.seed)
    rows = {row.digest: row for row in rows_of(path)}
    return [(point, rows[point_digest(network, point)]) for point in study.points]


def test_figures_are_those_of_whole_runs(task, small_store):
    pairs = rows_by_digest(study_of(), task, small_store)
    assert len(pairs) == 16
    for point, row in pairs[1::7]:
        check_against_run(row, run_of(task, point))
    assert any(row.figures["overflowed_outputs"] for _, row in pairs)


def test_integers_are_proved_where_asked(task, tmp_path):
    study = study_of(recipes=[{"weight_bits": 4, "ocs": 0.05}], bit_exact_images=2)
    run_sweep(study, tmp_path / "s.db")
    point, row = rows_by_digest(study, task, tmp_path / "s.db")[1]
    check_against_run(row, run_of(task, point, images=2))
    assert row.figures["bit_exact"] is True


@pytest.mark.parametrize("recipes", [RECIPES[3:4], pytest.param(RECIPES, marks=pytest.mark.slow)], ids=["one", "all"])
def test_every_kind_of_recipe_gives_what_a_whole_run_gives(task, tmp_path, recipes):
    study = study_of(
        recipes=recipes,
        accelerators=[{"base": "edge-32x32", "array.rows": 20, "accumulator.bits, accumulator.psum_bits": [[17, 16]]}],
        technologies=["nangate45"],
        batch=3,
        timing="isolated",
    )
    summary = run_sweep(study, tmp_path / "s.db")
    assert (summary.measured, summary.refused, summary.failures) == (len(recipes), 0, ())
    for point, row in rows_by_digest(study, task, tmp_path / "s.db"):
        check_against_run(row, run_of(task, point))


# --- once ------------------------------------------------------------------------------------------------------------


def test_programs_are_executed_once_and_again_only_where_sums_may_overflow(task, tmp_path, monkeypatch):
    executed: Counter[str] = Counter()
    evaluate = measure_module.evaluate

    def counted(task: Task, integers: Any, accelerator: Any, **how: Any) -> Any:
        rules = may_overflow(integers.program, accumulations(integers.program, accelerator))
        executed[f"{integers.program.digest()} {sorted(rules.items(), key=str)}"] += 1
        return evaluate(task, integers, accelerator, **how)

    monkeypatch.setattr(measure_module, "evaluate", counted)
    study = study_of(batch=[1, 2], technologies=["google", "nangate45"])
    assert run_sweep(study, tmp_path / "s.db").measured == 64
    assert set(executed.values()) == {1}
    wanted = set()
    programs = {
        bits: quantize_network(task.graph, task.calibration, Recipe(weight_bits=bits)).program for bits in (3, 8)
    }
    for point in study.points:
        program = programs[point.options.weight_bits]
        accelerator = point.machine.accelerator
        filled = point.options.ocs == "fill" and bool(fold_filling(program, accelerator).splits)
        narrow = accelerator.accumulator.bits == 16
        wanted.add((point.options.weight_bits, filled, accelerator.array.dataflow if narrow else "wide"))
    assert len(executed) == len(contents(tmp_path / "s.db")["accuracies"]) == len(wanted)


def test_what_is_known_is_not_measured_again(tmp_path, monkeypatch, small_store):
    path = tmp_path / "s.db"
    path.write_bytes(small_store.read_bytes())
    before = contents(path)
    monkeypatch.setattr(sweep_module, "measure", None)
    summary = run_sweep(study_of(), path)
    assert (summary.points, summary.measured, summary.kept) == (16, 0, 16)
    assert contents(path) == before


def test_a_larger_study_takes_what_a_smaller_one_knows(tmp_path, small_store):
    path = tmp_path / "s.db"
    path.write_bytes(small_store.read_bytes())
    summary = run_sweep(study_of(batch=[1, 2]), path)
    assert (summary.points, summary.measured, summary.kept) == (32, 16, 16)
    with Store(path) as store:
        assert len(store.accuracies()) == len(contents(small_store)["accuracies"])


def test_points_that_mean_the_same_are_measured_once(tmp_path, monkeypatch):
    recipes = [{"weight_bits": [4, 4]}, {"weight_bits": 4, "act_bits": 8}, {"weight_bits": 4, "ocs": 0}]
    calls: list[int] = []
    measure = measure_module.measure
    monkeypatch.setattr(sweep_module, "measure", lambda unit: calls.append(len(unit.points)) or measure(unit))
    summary = run_sweep(study_of(recipes=recipes, accelerators=["edge-32x32", "edge-32x32"]), tmp_path / "s.db")
    assert (summary.points, summary.measured, calls) == (1, 1, [1])


def test_files_that_change_are_noticed_in_one_session(tmp_path):
    weights = tmp_path / "w.safetensors"
    tensors = load_file(str(CHECKPOINT))
    save_file(tensors, str(weights))
    study = study_of(
        networks=[NETWORK | {"weights": str(weights)}], recipes=[{"weight_bits": 4}], accelerators=["edge-32x32"]
    )
    path = tmp_path / "s.db"
    assert run_sweep(study, path).measured == 1
    save_file({name: array * np.float32(0.5) for name, array in tensors.items()}, str(weights))
    assert run_sweep(study, path).measured == 1
    fresh = run_of(load_task(study.points[0].task), study.points[0])
    found = {row.figures["program_digest"]: row for row in rows_of(path)}
    assert len(found) == 2
    check_against_run(found[fresh["program_digest"]], fresh)


# --- machines --------------------------------------------------------------------------------------------------------


def test_filling_is_planned_for_each_array(task, tmp_path):
    study = study_of(
        recipes=[{"weight_bits": 4, "ocs": "fill", "first_last": "same"}],
        accelerators=[{"base": "edge-32x32", "array.dataflow": ["ws", "os"], "array.rows": [16, 20, 24, 64]}],
    )
    run_sweep(study, tmp_path / "s.db")
    plain = quantize_network(task.graph, task.calibration, Recipe(weight_bits=4, first_last="same")).program
    plans = set()
    for point, row in rows_by_digest(study, task, tmp_path / "s.db"):
        plan = dict(fold_filling(plain, point.machine.accelerator).splits)
        splits = {name: count for name, count in zip(row.layers["name"], row.layers["splits"], strict=True) if count}
        assert splits == {name: count for name, count in plan.items() if count}
        plans.add(tuple(sorted(splits.items())))
    assert len(plans) == 4


@pytest.mark.parametrize("reference", [4, 8, 16])
def test_equal_area_fits_and_one_column_more_would_not(task, tmp_path, reference):
    study = study_of(
        recipes=[{"weight_bits": [2, 4, 8], "first_last": "same"}],
        accelerators=[{"base": "edge-32x32", "pe.type": "native", "equal_area_bits": reference}],
        technologies=["nangate45"],
    )
    run_sweep(study, tmp_path / "s.db")
    columns = []
    for point, row in rows_by_digest(study, task, tmp_path / "s.db"):
        machine, prices = point.machine.accelerator, point.prices.at(point.machine.accelerator)
        asked = area_um2(Priced(machine, prices, built_widths(machine, reference, reference), 8))["pe"]
        assert row.figures["area_um2"]["pe"] <= asked * (1 + 1e-9)
        wider = replace(point.machine, equal_area_bits=None)
        wider = replace(wider, accelerator=changed(machine, {"array.cols": row.figures["cols"] + 1}))
        run = run_of(task, replace(point, machine=wider))
        assert run["area_um2"]["pe"] > asked
        columns.append(row.figures["cols"])
    assert columns == sorted(columns, reverse=True)
    assert reference != 8 or columns[-1] == 32 < columns[0]


def test_what_cannot_be_built_or_priced_is_stored_with_its_reason_and_not_tried_again(tmp_path, monkeypatch):
    study = study_of(
        recipes=[{"weight_bits": [4, 8], "first_last": "same"}],
        accelerators=[
            {"base": "edge-32x32", "pe.weight_bits": [4, 8]},
            {"base": "edge-32x32", "accumulator.bits, accumulator.psum_bits, accumulator.overflow": [[10, 9, "error"]]},
            {"base": "edge-32x32", "node_nm": 65.0},
        ],
        technologies=["nangate45"],
    )
    summary = run_sweep(study, tmp_path / "s.db")
    rows = {(r.factors["weight_bits"], *_of(r)): r for r in rows_of(tmp_path / "s.db")}
    refused = {key for key, row in rows.items() if row.status == REFUSED}
    assert summary.failures == ()
    assert refused == {(8, 4, None, None)} | {(b, None, *of) for b in (4, 8) for of in ((10, None), (None, 65.0))}
    assert summary.refused == len(refused)
    assert all(rows[key].reason and "\n" not in rows[key].reason and not rows[key].figures for key in refused)
    assert "65 nm" in rows[4, None, None, 65.0].reason
    assert all(row.status == DONE and not row.reason for key, row in rows.items() if key not in refused)
    monkeypatch.setattr(sweep_module, "measure", None)
    again = run_sweep(study, tmp_path / "s.db")
    assert (again.measured, again.kept, again.refused) == (0, len(rows), len(refused))


def _of(row: Row) -> tuple[Any, ...]:
    return tuple(row.factors.get(name) for name in ("pe.weight_bits", "accumulator.bits", "node_nm"))


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_one_units_error_leaves_the_others_alone(tmp_path, monkeypatch, small_store):
    measure = measure_module.measure

    def sometimes(unit: Any) -> Any:
        if unit.options.weight_bits == 3 and unit.options.ocs is None:
            raise RuntimeError("a line\nand another")
        return measure(unit)

    path = tmp_path / "s.db"
    with monkeypatch.context() as patch:
        patch.setattr(sweep_module, "measure", sometimes)
        summary = run_sweep(study_of(), path)
    assert (summary.points, summary.measured) == (16, 12)
    assert len(summary.failures) == 1
    assert "weight_bits=3" in summary.failures[0]
    assert summary.failures[0].endswith("RuntimeError: a line and another")
    summary = run_sweep(study_of(), path)
    assert (summary.measured, summary.kept, summary.failures) == (4, 12, ())
    assert contents(path) == contents(small_store)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_an_interrupted_sweep_keeps_what_it_has(tmp_path, monkeypatch, small_store, error):
    measure = measure_module.measure
    calls: list[int] = []

    def interrupted(unit: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise error
        return measure(unit)

    path = tmp_path / "s.db"
    with monkeypatch.context() as patch:
        patch.setattr(sweep_module, "measure", interrupted)
        if error is MemoryError:
            assert len(run_sweep(study_of(), path).failures) == 1
        else:
            with pytest.raises(error):
                run_sweep(study_of(), path)
    kept = contents(path)["points"]
    assert 0 < len(kept) < 16
    assert run_sweep(study_of(), path).kept == len(kept)
    assert contents(path) == contents(small_store)


def test_networks_that_cannot_be_loaded_stop_the_sweep(tmp_path):
    with pytest.raises(ValueError, match="digitz"):
        run_sweep(study_of(networks=["digitz"]), tmp_path / "s.db")
    with pytest.raises(ValueError, match="images"):
        run_sweep(study_of(networks=[NETWORK | {"images": 0}]), tmp_path / "s.db")


@pytest.mark.parametrize("how", [{"workers": 0}, {"shard": (0, 2)}, {"shard": (3, 2)}, {"shard": (1, 0)}])
def test_ways_that_cannot_be(how):
    with pytest.raises(ValueError, match="must be"):
        How(**how)
