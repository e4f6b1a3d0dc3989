"""Whole runs: accuracy, proof, price, and what the record says about them."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from accelsim.execute import Execution, accumulations, execute
from accelsim.program import Conv
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from reports.run import Engine, Machinery, run_network, run_task
from reports.sources import find_workload
from reports.task import TaskOptions, evaluate, load_task
from reports.witness import check_bit_exact, first_difference

KEYS = {
    "network", "images", "accuracy", "bit_exact", "bit_exact_images", "overflowed_outputs", "batch", "cycles",
    "array_cycles", "stall_cycles", "seconds", "energy_pj", "area_um2", "weight_bytes", "dram_bytes", "utilization",
    "folds", "timing_mode", "technology", "layers",
}  # fmt: skip
LAYER_KEYS = {
    "name", "m", "k", "n", "groups", "weight_bits", "act_bits", "splits", "folds", "cycles", "array_cycles",
    "stall_cycles", "energy_pj", "weight_bytes", "dram_bytes", "utilization", "overflow_events", "overflowed_outputs",
}  # fmt: skip


def test_record_has_every_key_of_the_design_and_is_plain_json(record):
    assert set(record) >= KEYS
    assert all(set(layer) >= LAYER_KEYS for layer in record["layers"])
    assert {"metric", "higher_is_better", "float", "integer", "standard_error"} <= set(record["accuracy"])
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_record_agrees_with_itself(record):
    assert record["images"] == 96
    assert 0 <= record["accuracy"]["integer"] <= 1
    assert record["accuracy"]["difference"] == record["accuracy"]["integer"] - record["accuracy"]["float"]
    assert record["energy_pj"]["total"] == pytest.approx(sum(v for k, v in record["energy_pj"].items() if k != "total"))
    assert record["busy_cycles"] + sum(record["stall_cycles"].values()) == record["cycles"]
    assert sum(layer["folds"] for layer in record["layers"]) == record["folds"]
    assert sum(layer["splits"] for layer in record["layers"]) > 0


def test_accuracy_is_that_of_the_executed_integers(digits, record, options):
    quantized = quantize_network(digits.graph, digits.calibration, options().recipe)
    x, y = digits.samples.batch(digits.evaluated), digits.samples.labels(digits.evaluated)
    outputs = execute(quantized.program, quantized.encode(x), options().machinery.accelerator).outputs
    right = (quantized.decode(outputs)[0].argmax(axis=1) == y).mean()
    assert record["accuracy"]["integer"] == pytest.approx(right)
    assert record["program_digest"] == quantized.program.digest()


def test_calibrated_samples_are_never_evaluated(digits):
    assert not set(digits.calibrated) & set(digits.evaluated)


def test_both_engines_give_the_same_record(digits, record, options):
    stepped = run_task(digits, options(name="register")).to_json()
    same = set(record) - {"engine", "executed_s", "layers"}
    assert {key: stepped[key] for key in same} == {key: record[key] for key in same}


def test_threads_do_not_change_anything(digits, record, options):
    assert run_task(digits, options(threads=3)).to_json()["accuracy"] == record["accuracy"]


def test_run_proves_bit_exactness_also_where_sums_leave_their_registers(overflowing):
    assert overflowing["overflowed_outputs"] > 0
    assert overflowing["bit_exact"] is True
    assert overflowing["bit_exact_images"] == 8
    assert overflowing["accuracy"]["integer"] < overflowing["accuracy"]["float"]
    layers = {layer["name"]: layer for layer in overflowing["layers"]}
    assert layers["stem.0"]["overflow_excluded"] is False
    assert sum(layers["stem.0"]["overflow_channels"].values()) == layers["stem.0"]["overflow_events"] > 0
    assert sum(layer["overflowed_outputs"] for layer in layers.values()) == overflowing["overflowed_outputs"]


def test_proof_can_be_left_out_or_cover_every_sample(digits, options):
    assert run_task(digits, options(bit_exact_images=0)).to_json()["bit_exact"] is None
    whole = run_task(digits, options(bit_exact_images=10**9)).to_json()
    assert (whole["bit_exact"], whole["bit_exact_images"]) == (True, 96)


@pytest.fixture(scope="module")
def eight_bits(digits):
    return quantize_network(digits.graph, digits.calibration, Recipe())


def _corrupted(run: Execution, name: str) -> Execution:
    codes = run.outputs[name].astype(np.int64).copy()
    codes[1].flat[7] += 1
    return dataclasses.replace(run, outputs={**run.outputs, name: codes})


@pytest.mark.parametrize("name", ["stem.0.acc", "block2.relu1", "linear.acc"])
def test_oracle_names_the_first_tensor_that_differs(digits, eight_bits, name, options):
    program, machine = eight_bits.program, options().machinery.accelerator
    codes = eight_bits.encode(digits.samples.batch(digits.evaluated[:3]))
    run = execute(program, codes, machine, keep=[op.output for op in program.ops])
    rules = accumulations(program, machine)
    assert first_difference(program, codes, run, rules) == ""
    found = first_difference(program, codes, _corrupted(run, name), rules, offset=40)
    op = next(op for op in program.ops if op.output == name)
    assert repr(op.name) in found
    assert "sample 41" in found
    assert "1 of" in found


def test_a_changed_weight_is_found_in_its_layer(digits, eight_bits, options):
    program, machine = eight_bits.program, options().machinery.accelerator
    codes = eight_bits.encode(digits.samples.batch(digits.evaluated[:2]))
    ops = []
    for op in program.ops:
        if isinstance(op, Conv) and op.name == "block2.conv1.0":
            weight = np.array(op.weight)
            weight[3, 1, 1, 2] += 1
            op = dataclasses.replace(op, weight=weight)
        ops.append(op)
    wrong = dataclasses.replace(program, ops=tuple(ops))
    run = execute(wrong, codes, machine, keep=[op.output for op in program.ops])
    assert "'block2.conv1.0'" in first_difference(program, codes, run, accumulations(program, machine))


def test_outputs_that_accuracy_was_counted_on_must_be_those_that_are_proved(digits, eight_bits, options):
    machine = options().machinery.accelerator
    evaluation = evaluate(digits, eight_bits, machine, first=4)
    name = eight_bits.program.outputs[0]
    wrong = {name: evaluation.first_outputs[name] + 1}
    witness = check_bit_exact(
        digits, eight_bits, machine, dataclasses.replace(evaluation, first_outputs=wrong), images=4
    )
    assert not witness.bit_exact
    assert "changes with the batch" in witness.difference


def test_unknown_networks_are_answered_with_close_names():
    with pytest.raises(ValueError, match="did you mean cifar10-resnet20"):
        find_workload("cifar-resnet20")


@pytest.mark.parametrize("bad", [{"threads": 0}, {"bit_exact_images": -1}])
def test_engines_that_cannot_run_are_refused(bad):
    with pytest.raises(ValueError, match="must be >="):
        Engine(**bad)


@pytest.mark.parametrize("bad", [{"batch": 0}, {"timing_mode": "fast"}])
def test_machinery_that_cannot_be_simulated_is_refused(bad, options):
    with pytest.raises(ValueError, match="must be"):
        Machinery(accelerator=options().machinery.accelerator, **bad)


@pytest.mark.slow
def test_resnet20_in_eight_bits_is_within_half_a_point_of_float(data_dir: Path, options):
    task = TaskOptions(network="cifar10-resnet20", data=data_dir, images=2000)
    asked = dataclasses.replace(options(weight_bits=8, ratio=0), task=task)
    record = run_network(asked).to_json()
    assert abs(record["accuracy"]["difference"]) <= 0.005
    assert record["bit_exact"] is True


def test_task_chunks_cover_the_evaluated_samples_in_order(digits, options):
    labels = np.concatenate([y for _, y in digits.chunks()])
    assert np.array_equal(labels, digits.samples.labels(digits.evaluated))
    assert len(load_task(options().task).evaluated) == len(labels)
