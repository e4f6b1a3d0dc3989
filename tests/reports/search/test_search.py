"""Whole searches: figures against a second route, the store, stopping and going on, the words of the summary."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from accelsim.simulate import simulate
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from reports.cli import main
from reports.search.file import Search
from reports.search.guide import Probe, greedy_path, probes_of, start_designs
from reports.search.lab import Lab
from reports.search.objectives import Budget
from reports.search.record import SEARCH
from reports.search.result import search_summary
from reports.search.run import Found, run_search
from reports.search.space import Design
from reports.sweep.measure import task_of
from reports.sweep.store import Store
from reports.task import evaluate

Build = Callable[..., Search]


@pytest.fixture(scope="module")
def finished(searched: Build, tmp_path_factory: pytest.TempPathFactory) -> tuple[Search, Path, Found]:
    search, path = searched(), tmp_path_factory.mktemp("search") / "store.db"
    return search, path, run_search(search, path)


def rows_of(path: Path) -> dict[str, Any]:
    with Store(path) as store:
        return {row.digest: (row.figures, row.layers) for row in store.rows(layers=True)}


def test_figures_of_a_design_are_those_of_quantizing_executing_and_pricing_it_alone(
    finished: tuple[Search, Path, Found],
) -> None:
    search, _, found = finished
    entry = next(e for e in found.record["front"] if e["design"]["weight_bits.back"] == 3)
    design = tuple(axis.choices.index(entry["design"][axis.name]) for axis in search.space.axes)
    task = task_of(search.task)
    point = search.space.point(design, lambda recipe: pytest.fail("no plan is needed"))
    assert isinstance(point.options, Recipe)
    alone = quantize_network(task.graph, task.calibration, point.options, seed=search.task.seed)
    machine = point.machine.accelerator
    run = evaluate(task, alone, machine)
    assert entry["accuracy"] == task.metric.value(run.tallies)
    priced = simulate(alone.program, machine, point.prices.at(machine))
    assert entry["losses"]["energy"] == priced.energy_pj["total"]
    drop = task.metric.value(task.float_tallies) - task.metric.value(run.tallies)
    assert entry["losses"]["accuracy"] == pytest.approx(drop, abs=1e-12)
    assert entry["accuracy_drop_standard_error"] == task.metric.paired_error(run.tallies, task.float_tallies)
    assert entry["bit_exact"] is True


def test_again_it_executes_nothing_and_finds_the_same(finished: tuple[Search, Path, Found]) -> None:
    search, path, found = finished
    before = rows_of(path)
    again = run_search(search, path)
    assert found.executed > 0
    assert again.executed == 0
    assert again.record == found.record
    assert rows_of(path) == before


def test_stopped_anywhere_and_run_again_it_ends_alike(
    finished: tuple[Search, Path, Found], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, path, found = finished
    judge = Lab.judge

    def stop_at(limit: int) -> Callable[[Lab, Design], Any]:
        def stopping(self: Lab, design: Design) -> Any:
            if len(self.rows) >= limit:
                raise KeyboardInterrupt
            return judge(self, design)

        return stopping

    executed = 0
    for limit in (0, 1, 4):
        monkeypatch.setattr(Lab, "judge", stop_at(limit))
        with pytest.raises(KeyboardInterrupt):
            run_search(search, tmp_path / "store.db")
        with Store(tmp_path / "store.db") as store:
            executed = len(store.accuracies())
    monkeypatch.undo()
    last = run_search(search, tmp_path / "store.db")
    assert last.record == found.record
    assert rows_of(tmp_path / "store.db") == rows_of(path)
    assert 0 < last.executed < found.executed - executed + 1


def test_the_record_is_in_the_store_and_goes_along_when_stores_are_merged(
    finished: tuple[Search, Path, Found], tmp_path: Path
) -> None:
    search, path, found = finished
    with Store(tmp_path / "other.db", create=True) as other:
        assert other.records(SEARCH) == {}
        other.merge(path)
        assert other.records(SEARCH) == {search.name: json.loads(json.dumps(found.record))}
        assert other.digests() >= set(found.record["trials"])


def test_the_front_is_that_of_the_designs_judged(finished: tuple[Search, Path, Found]) -> None:
    _, path, found = finished
    with Store(path) as store:
        rows = {row.digest: row.figures for row in store.rows()}
    losses = {d: (-rows[d]["difference"], rows[d]["energy_pj"]["total"]) for d in found.record["trials"]}
    front = {d for d, a in losses.items() if not any(b != a and b[0] <= a[0] and b[1] <= a[1] for b in losses.values())}
    assert {losses[entry["digest"]] for entry in found.record["front"]} == {losses[d] for d in front}
    kept = [d for d in losses if losses[d][0] <= 0.02]
    best = found.record["best"]["measured"]
    assert best["losses"]["energy"] == min(losses[d][1] for d in kept)


def test_what_samples_leave_open_is_called_undecided(finished: tuple[Search, Path, Found]) -> None:
    search, path, found = finished
    with Store(path) as store:
        known = store.accuracies(tallies=True)
        keys = {row.digest: row.accuracy_key for row in store.rows()}
    metric = task_of(search.task).metric
    for entry in found.record["front"]:
        cheaper = [
            other
            for other in found.record["front"]
            if other["losses"]["energy"] <= entry["losses"]["energy"] and other["accuracy"] <= entry["accuracy"]
        ]
        tallies = {item["digest"]: known[keys[item["digest"]]].tallies for item in cheaper}
        ours = tallies.pop(entry["digest"])
        open_ = {
            digest
            for digest, theirs in tallies.items()
            if metric.value(ours) - metric.value(theirs) <= 1.96 * metric.paired_error(ours, theirs)
        }
        assert (entry["undecided_against"] in open_) == bool(open_)
        assert (entry["undecided_against"] is None) == (not open_)


@pytest.mark.parametrize(
    ("drop", "error", "verdict"),
    [(0.0, 0.001, "within"), (0.009, 0.002, "undecided"), (0.011, 0.002, "undecided"), (0.03, 0.002, "beyond"),
     (0.01, 0.0, "within")],
)  # fmt: skip
@pytest.mark.parametrize("higher", [True, False])
def test_verdicts_on_the_budget(drop: float, error: float, verdict: str, higher: bool) -> None:
    budget = Budget(limits=(("accuracy", 0.01), ("energy", 5.0)), minimize="energy")
    figures = {"difference": -drop if higher else drop, "higher_is_better": higher, "difference_standard_error": error}
    assert budget.verdict(figures | {"energy_pj": {"total": 4.0}}) == verdict
    assert budget.verdict(figures | {"energy_pj": {"total": 6.0}}) == "beyond"


def test_the_summary_says_what_is_proved_and_what_is_open(finished: tuple[Search, Path, Found]) -> None:
    search, _, found = finished
    text = search_summary(found.record, found.executed)
    front = found.record["front"]
    assert f"{len(front)} of {len(front)} designs of the front bit-exact" in text
    assert f"6 of {search.space.size} designs judged" in text
    nothing = found.record | {"best": dict.fromkeys(("measured", "decided", "possible"))}
    assert "no design within the budget" in search_summary(nothing, 0)


# --- the start -------------------------------------------------------------------------------------------------------


def test_the_greedy_path_takes_the_least_harmful_step_first(searched: Build) -> None:
    space = searched(weight_bits=[2, 4, 8]).space
    front, back = (place for place, axis in enumerate(space.axes) if axis.what == "weight_bits")
    noise = {0: {2: 0.0, 1: 0.1, 0: 9.0}, 1: {2: 0.0, 1: 0.5, 0: 1.0}}  # by group, by choice

    def probe(design: Design) -> Probe:
        return Probe(noise[0][design[front]] + noise[1][design[back]], 10.0 + design[front] + design[back])

    probed = {design: probe(design) for design in probes_of(space)}
    assert len(probed) == 5
    path = [(design[front], design[back]) for design in greedy_path(space, probed)]
    assert path == [(2, 2), (1, 2), (1, 1), (1, 0), (0, 0)]


def test_the_start_takes_the_machines_that_are_cheapest_in_some_way(searched: Build) -> None:
    space = searched().space
    place = next(place for place, axis in enumerate(space.axes) if not axis.group)
    path = [space.widest, tuple(0 for _ in space.axes)]
    costs = {0: (1.0, 9.0), 1: (5.0, 2.0)}
    found = start_designs(space, path, 4, lambda design: costs[design[place]])
    assert {design[place] for design in found} == {0, 1}
    assert found[0][:place] == space.widest[:place]
    assert start_designs(space, path, 4, lambda design: None) == []


def test_within_a_budget_the_start_closes_in_on_it(searched: Build) -> None:
    space = searched(weight_bits={"front": [2, 3, 4, 5, 6, 8]}, ocs={"together": [0, 0.05]}).space
    width, split = (next(at for at, axis in enumerate(space.axes) if axis.what == w) for w in ("weight_bits", "ocs"))
    probed = {design: Probe(0.01 * (9 - design[width]), float(design[width])) for design in probes_of(space)}
    path = greedy_path(space, probed)
    narrowest = {0: 3, 1: 1}  # with splits the limit is kept by narrower codes
    found = start_designs(space, path, 99, lambda design: (1.0,), lambda d: d[width] >= narrowest[d[split]])
    last_kept = {(d[split], d[width]) for d in found} & {(0, 3), (1, 1)}
    assert last_kept == {(0, 3), (1, 1)}
    assert {(0, 2), (1, 0)} <= {(d[split], d[width]) for d in found}
    assert len(found) <= 2 * 3
    short, long = (start_designs(space, path, count, lambda design: (1.0,), lambda d: True) for count in (2, 99))
    assert short == long[:2]


def test_probes_measure_narrower_as_noisier_and_are_kept(searched: Build, tmp_path: Path) -> None:
    search = searched(weight_bits=[2, 8])
    with Store(tmp_path / "store.db", create=True) as store:
        lab = Lab(search, store)
        widest, *narrow = (lab.probe(design) for design in probes_of(search.space))
        assert all(probe.noise > 2 * widest.noise for probe in narrow)
        assert all(probe.cost < widest.cost for probe in narrow)
        again = Lab(search, store)
        assert again.probe(search.space.widest) == widest
        assert (lab.executed, again.executed) == (3, 0)


def test_where_the_widest_cannot_be_built_it_begins_anywhere_and_says_so(searched: Build, tmp_path: Path) -> None:
    search = searched(weight_bits=[4, 16], trials=3)  # PEs of edge-32x32 take 8 bits
    found = run_search(search, tmp_path / "store.db")
    assert "began anywhere" in found.record["start_remark"]
    assert found.record["start_remark"] in search_summary(found.record, found.executed)
    with Store(tmp_path / "store.db") as store:
        reasons = {row.digest: row.reason for row in store.rows()}
    assert found.record["refused"] == sum("too narrow" in reasons[digest] for digest in found.record["trials"])


# --- the command -----------------------------------------------------------------------------------------------------


def test_command(
    finished: tuple[Search, Path, Found],
    plain_search: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, path, found = finished
    file = tmp_path / "search.yaml"
    file.write_text(yaml.safe_dump(plain_search | {"trials": 2}, sort_keys=False))
    record = tmp_path / "record.json"
    assert main(["search", str(file), "--store", str(path), "--trials", "6", "--json", str(record)]) == 0
    assert "0 Programs executed now" in capsys.readouterr().out
    assert json.loads(record.read_text()) == json.loads(json.dumps(found.record))
    assert main(["search", str(file), "--store", str(path), "--trials", "0"]) == 2
    assert "--trials must be >= 1" in capsys.readouterr().err


def test_without_optuna_it_says_what_to_install(
    searched: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"accelsim\[dse\]"):
        run_search(replace(searched()), tmp_path / "store.db")
    assert not (tmp_path / "store.db").exists()
