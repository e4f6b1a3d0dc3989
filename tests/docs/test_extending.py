"""The examples of the guide do what it says: registered in the public dicts, they run the built-in network."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import naive
import numpy as np
import onnx_nets
import pytest
from gemm_jobs import bias_of, jobs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accelsim.config import Accelerator, load_accelerator
from accelsim.dataflow import DATAFLOWS
from accelsim.execute import execute
from accelsim.simulate import simulate
from quant import oracle
from quant.clip import CLIPS
from quant.clip_rule import ClipInput
from quant.fold import fold_batch_norm
from quant.graph import Graph
from quant.importers.onnx_import import import_onnx_bytes
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from quant.recipes import recipe_from_yaml, recipe_to_yaml
from quant.run import predict
from quant.transforms import TRANSFORMS
from reports import cli, listing, rungs_network
from reports.run import Engine, Machinery, RunOptions, run_task
from reports.task import Task, TaskOptions

EDGE = load_accelerator("edge-32x32")


def run(task: Task, recipe: Recipe, accelerator: Accelerator = EDGE) -> dict[str, Any]:
    """Run digits from the float network to the price; `bit_exact` is the torch oracle's word."""
    options = RunOptions(
        task=TaskOptions(network="digits"),
        recipe=recipe,
        machinery=Machinery(accelerator=accelerator),
        engine=Engine(bit_exact_images=2),
    )
    return run_task(task, options).to_json()


def test_nothing_stays_registered() -> None:
    assert "spread" not in CLIPS
    assert "power-of-two" not in TRANSFORMS
    assert "ws-mirrored" not in DATAFLOWS


@pytest.mark.parametrize("seed", range(4))
def test_clip_rule_gives_thresholds_within_range(examples: ModuleType, seed: int) -> None:
    values = np.random.default_rng(seed).standard_t(2, (5, 400))
    values[0] = 0
    absmax = np.abs(values).max(axis=1)
    (wide, narrow) = (CLIPS["spread"]().__class__(times)(ClipInput(values, absmax, 4)) for times in (1e9, 2.0))
    np.testing.assert_array_equal(wide, absmax)
    by_hand = [2 * sum(abs(x) for x in row) / len(row) for row in values.tolist()]
    np.testing.assert_allclose(narrow[1:], np.minimum(by_hand, absmax)[1:], rtol=1e-12)
    assert narrow[0] == 0


def test_clip_rule_is_known_to_yaml_and_runs(examples: ModuleType, digits: Task) -> None:
    recipe = recipe_from_yaml("{weight_bits: 4, weight_clip: {spread: {times: 4}}, act_clip: spread}")
    assert recipe_from_yaml(recipe_to_yaml(recipe)) == recipe
    record = run(digits, recipe)
    assert record["bit_exact"] is True
    assert record["recipe"] == "W4A8 + spread w + spread a"
    assert record["program_digest"] != run(digits, Recipe(weight_bits=4))["program_digest"]
    assert "spread" in {row["name"] for row in listing.list_methods()}


def test_transform_shifts_channels_and_keeps_the_function(examples: ModuleType, digits: Task) -> None:
    folded = fold_batch_norm(digits.graph)
    shifted = TRANSFORMS["power-of-two"]()(folded)
    ratios = []
    for node in folded.nodes:
        if node.op == "conv":
            old, new = (g.node(node.name).params["weight"].astype(np.float64) for g in (folded, shifted))
            some = np.abs(old) > 1e-12
            ratios.append(new[some] / old[some])
    ratio = np.concatenate(ratios)
    np.testing.assert_allclose(np.log2(ratio), np.rint(np.log2(ratio)), atol=1e-6)
    assert ratio.max() >= 2
    x = digits.samples.batch(digits.evaluated)
    np.testing.assert_allclose(predict(shifted, x), predict(folded, x), rtol=1e-4, atol=1e-4)


def test_transform_is_known_to_yaml_and_runs(examples: ModuleType, digits: Task) -> None:
    recipe = recipe_from_yaml("{weight_bits: 5, transforms: [{power-of-two: {most: 3}}, {ocs: {ratio: 0.05}}]}")
    record = run(digits, recipe)
    assert record["bit_exact"] is True
    assert record["recipe"] == "W5A8 + power of two up to 2^3 + OCS 0.05"


@pytest.mark.slow  # rung 5 runs every transform
def test_verify_picks_the_transform_up(examples: ModuleType, digits: Task) -> None:
    checks = rungs_network.check_transforms((digits,), 0)
    assert checks.failed == 0
    assert "power of two up to 2^4" in checks.covered


def test_pe_takes_two_cycles_and_changes_no_integer(examples: ModuleType, digits: Task) -> None:
    # The Literal of Pe.type is the third step; a copy is not validated, so it stands for that here.
    slow = EDGE.model_copy(update={"pe": EDGE.pe.model_copy(update={"type": "two_cycle"})})
    quantized = quantize_network(digits.graph, digits.calibration, Recipe(weight_bits=4))
    codes = quantized.encode(digits.samples.batch(digits.evaluated[:4]))
    for name, value in execute(quantized.program, codes, EDGE).outputs.items():
        np.testing.assert_array_equal(value, execute(quantized.program, codes, slow).outputs[name])
    once, twice = (simulate(quantized.program, machine) for machine in (EDGE, slow))
    assert twice.busy_cycles == 2 * once.busy_cycles
    assert twice.area_um2["pe"] == pytest.approx(0.6 * once.area_um2["pe"])
    assert twice.energy_pj["pe"] >= once.energy_pj["pe"]


def test_technology_is_known_to_the_command_line(
    examples: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    for name in ("google", "near-memory"):
        file = tmp_path / f"{name}.json"
        assert cli.main(["cost", "digits", "--calib", "32", "--technology", name, "--json", str(file)]) == 0
        found[name] = json.loads(file.read_text(encoding="utf-8"))
    near, far = found["near-memory"]["energy_pj"], found["google"]["energy_pj"]
    assert near["dram"] == pytest.approx(far["dram"] / 8)
    assert {key: value for key, value in near.items() if key not in ("dram", "total")} == {
        key: value for key, value in far.items() if key not in ("dram", "total")
    }
    assert found["near-memory"]["sources"][0]["citation"] == "example of the user guide"
    assert "near-memory" in {row["name"] for row in listing.list_technologies()}


def test_network_is_known_to_the_command_line(
    examples: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.json"
    arguments = ["run", "pixels", "--images", "200", "--calib", "64", "--weight-bits", "4", "--first-last", "same"]
    assert cli.main([*arguments, "--json", str(file)]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["bit_exact"] is True
    assert record["accuracy"]["float"] > 0.85
    assert [(layer["m"], layer["k"], layer["n"]) for layer in record["layers"] if layer["m"]] == [(1, 64, 10)]


def test_operator_is_imported(examples: ModuleType) -> None:
    from onnx import helper

    rng = np.random.default_rng(1)
    first, second = (rng.normal(size=size).astype(np.float32) for size in ((6, 5), (5, 3)))

    def net(alpha: float) -> bytes:
        nodes = [
            helper.make_node("MatMul", ["x", "w0"], ["h"]),
            helper.make_node("Swish", ["h"], ["a"], alpha=alpha),
            helper.make_node("MatMul", ["a", "w1"], ["y"]),
        ]
        return onnx_nets.model_bytes(nodes, {"x": (6,)}, ["y"], {"w0": first, "w1": second})

    graph = import_onnx_bytes(net(1.0), "net")
    assert isinstance(graph, Graph)
    x = rng.normal(size=(16, 6)).astype(np.float32)
    hidden = x.astype(np.float64) @ first
    by_hand = hidden / (1 + np.exp(-hidden)) @ second
    np.testing.assert_allclose(predict(graph, x), by_hand, rtol=1e-4, atol=1e-5)
    quantized = quantize_network(graph, lambda: [x], Recipe())
    codes = quantized.encode(x)
    (name,) = quantized.program.outputs
    proved = oracle.run(quantized.program, codes).values[name]
    np.testing.assert_array_equal(execute(quantized.program, codes).outputs[name], proved)
    with pytest.raises(ValueError, match=r"has alpha 0\.5; only 1 has an integer form"):
        import_onnx_bytes(net(0.5), "net")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_dataflow_keeps_the_record(examples: ModuleType, data: st.DataObject) -> None:
    """Registers against triple loops, closed forms against registers, folds that cover the product once."""
    job = data.draw(jobs("ws-mirrored"))
    dataflow, gemm = DATAFLOWS["ws-mirrored"], job.operands.gemm
    seen = dataflow.register(job, True)
    outputs, hops, sums = naive.gemm(job.operands.a.tolist(), job.operands.w.tolist(), bias_of(job), job.accumulation)
    np.testing.assert_array_equal(seen.outputs, outputs)
    np.testing.assert_array_equal(seen.hop_events, hops)
    np.testing.assert_array_equal(seen.accumulator_events, sums)
    assert seen.cycles == dataflow.cycles(gemm, job.array, job.mode, job.stream_tile)
    assert seen.counts == dataflow.counts(gemm, job.array, job.stream_tile)
    assert seen.toggles == dataflow.toggles(job)
    covered = np.zeros((gemm.m, gemm.k, gemm.n), dtype=int)
    for fold in dataflow.folds(gemm, job.array, job.stream_tile):
        covered[fold["m0"] : fold["m1"], fold["k0"] : fold["k1"], fold["n0"] : fold["n1"]] += 1
    assert (covered == 1).all()
