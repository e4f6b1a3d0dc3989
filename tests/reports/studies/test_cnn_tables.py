"""The study of convolutional networks, on the digits network: cells, oracle, findings, page."""

from typing import Any

import numpy as np
import pytest

from accelsim.config import load_accelerator
from quant.pipeline import quantize_network
from reports.studies.cnn_tables import rows, study
from reports.studies.cnn_tables.findings import FINDINGS, judge_all
from reports.studies.cnn_tables.page import render
from reports.studies.cnn_tables.study import NETWORKS, Network, measure_oracle, planned, run_network, total
from reports.studies.common import Bench, Kept
from reports.task import TaskOptions, load_task, run_engine

DIGITS = Network(name="digits", images=32, calib=48, per_channel=True, oracle_batch=16)


@pytest.fixture(scope="module")
def bench() -> Bench:
    task = load_task(TaskOptions(network="digits", images=DIGITS.images, calib=DIGITS.calib))
    return Bench(task=task, accelerator=load_accelerator("edge-32x32"), exact_samples=2)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_every_cell_has_a_recipe_of_its_own(network: Network) -> None:
    cells = planned(network)
    assert len({c.recipe.name for c in cells}) == len(cells) < total(network)
    for c in cells:
        if c.table == "activations":
            assert c.recipe.act_bits == c.bits
        else:
            assert c.recipe.weight_bits == c.bits
        assert c.recipe.first_last == ("same" if c.table == "same" else "8bit")


def test_oracle_is_one_program_a_batch(bench: Bench) -> None:
    item = next(c for c in planned(DIGITS) if c.oracle_ratio == 0.0)
    found = measure_oracle(bench, item, 16)
    assert found.programs == 2
    assert found.bit_exact
    task, tallies = bench.task, []
    for start in (0, 16):
        part = task.evaluated[start : start + 16]
        x, y = task.samples.batch(part), task.samples.labels(part)
        quantized = quantize_network(task.graph, lambda x=x: [x], item.recipe)
        outputs = run_engine(quantized, x, bench.accelerator).outputs
        tallies.append(task.metric.tally(quantized.decode(outputs)[0], y))
    assert np.array_equal(found.tallies, np.concatenate(tallies))


@pytest.fixture(scope="module")
def part(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (rows, study):
            patch.setattr(module, "WEIGHT_BITS", (8, 7, 6, 5, 4))
        kept = Kept(tmp_path_factory.mktemp("kept"), {})
        seen: list[int] = []
        found = run_network(DIGITS, bench, kept, seen.append)
        assert sum(seen) == len(found["cells"]) == total(DIGITS)
        return found


@pytest.mark.slow
def test_whole_study_on_digits(part: dict[str, Any], bench: Bench) -> None:
    assert all(c["bit_exact"] for c in part["cells"])
    judged = judge_all(part)
    assert [item.finding for item in judged] == list(FINDINGS)
    setting = {"command": "python -m reports.studies.cnn_tables", "accelerator": "edge-32x32"}
    page = render({"setting": setting, "networks": {"digits": part}})
    for c in part["cells"]:
        assert f"{100 * c['accuracy']:.1f} (" in page
    assert all(finding.says in page for finding in FINDINGS)


@pytest.mark.slow
def test_combined_cells_take_the_best_clip(part: dict[str, Any]) -> None:
    accuracy = {(c["table"], c["bits"], c["column"]): c for c in part["cells"]}
    for bits in (8, 5, 4):
        best = max(("mse", "aciq", "kl"), key=lambda clip: accuracy["weights", bits, clip]["accuracy"])
        label = accuracy["weights", bits, "ocs 0.02 + clip"]["recipe"]
        assert f"{best} w" in label


def made_part(differences: dict[tuple[str, int, str, str], float], per_channel: bool = False) -> dict[str, Any]:
    """Return results in which every difference is as given, 0 where it is not, with an error of one point."""
    cells, comparisons = [], []
    columns = ("none", "mse", "aciq", "kl", "ocs 0.01", "ocs 0.02", "ocs 0.05")
    more = ("ocs 0.01 + clip", "ocs 0.02 + clip", "ocs 0.05 + clip", "oracle 0.02")
    for table in ("weights", "weights-per-channel", "activations", "qa"):
        for bits in (8, 7, 6, 5, 4, 3):
            for column in (*columns, *more, "qa 0.1", "naive 0.1", "qa 0.2", "naive 0.2"):
                cells.append({"table": table, "bits": bits, "column": column, "accuracy": 0.5})
                for other in (*columns, "naive 0.1", "naive 0.2"):
                    gap = differences.get((table, bits, column, other), 0.0)
                    comparisons.append(
                        {"table": table, "bits": bits, "first": column, "second": other,
                         "difference": gap, "standard_error": 0.01}
                    )  # fmt: skip
    return {"cells": cells, "comparisons": comparisons, "per_channel": per_channel, "float": {"accuracy": 0.8}}


def test_findings_follow_the_numbers() -> None:
    assert [item.verdict for item in judge_all(made_part({}))] == [
        "held", "undecided here", "undecided here", "undecided here", "held", "held", "undecided here",
    ]  # fmt: skip
    ahead = {("weights", bits, "ocs 0.02", clip): 0.03 for bits in (6, 5) for clip in ("mse", "aciq", "kl")}
    assert judge_all(made_part(ahead))[1].verdict == "held"
    assert judge_all(made_part(ahead | {("weights", 5, "ocs 0.02", "kl"): 0.01}))[1].verdict == "undecided here"
    assert judge_all(made_part({("weights", 7, "mse", "none"): 0.03}))[0].verdict == "not held"
    assert judge_all(made_part({("weights", 7, "mse", "none"): 0.03}, per_channel=True))[0].verdict == "held"
    assert judge_all(made_part({("activations", 6, "oracle 0.02", "mse"): -0.03}))[5].verdict == "not held"


def test_lost_accuracy_decides_nothing() -> None:
    part = made_part({("weights", 7, "mse", "none"): 0.03})
    for c in part["cells"]:
        c["accuracy"] = 0.1
    assert {item.verdict for item in judge_all(part)} == {"undecided here"}
    assert judge_all(part)[0].left_out == 6
