"""Rungs 7 to 9: every kind of network is compared, what cannot be is reported with the reason, and wrong ones fail."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corrupt import convolutions, with_bias

from accelsim.config import preset_names
from accelsim.execute import execute
from accelsim.layers import layer_table
from quant.exporters.onnx_export import export_onnx
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from reports import cli, rungs_memory, rungs_network, rungs_runtime, stand_ins, verify, witness_litert, witness_ort
from reports.files import Imported
from reports.stand_ins import load_subject
from reports.task import Task, TaskOptions
from reports.witness import NoWitness
from workloads.zoo import zoo_names

pytest.importorskip("onnx", reason="onnx is not installed (extra onnx)")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra oracle)")

needs_litert = pytest.mark.skipif(not witness_litert.installed(), reason="LiteRT is not installed (extra oracle)")


def outcome_of(task: Task, number: int = 7) -> verify.Outcome:
    rung = next(rung for rung in verify.RUNGS if rung.number == number and rung.on_networks)
    (found,) = verify.run_ladder(verify.Setting(tasks=(task,), images=4), [rung])
    return found


@pytest.fixture(scope="module")
def file(digits: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quantized ONNX file of digits."""
    path = tmp_path_factory.mktemp("rungs") / "digits8.onnx"
    path.write_bytes(export_onnx(quantize_network(digits.graph, digits.calibration, Recipe()), ends="codes"))
    return path


def broken(task: Task) -> Task:
    """Return a task whose third convolution starts at another bias."""
    imported = task.integers
    assert isinstance(imported, Imported)
    program = with_bias(imported.program, convolutions(imported.program)[2], 1, 5000)
    return replace(task, integers=replace(imported, source=replace(imported.source, program=program)))


# --- rung 7 ----------------------------------------------------------------------------------------------------------


def test_a_float_network_is_exported_by_every_recipe(digits: Task) -> None:
    found = outcome_of(digits)
    assert found.result == "pass"
    assert len(found.checks.covered) == len(rungs_runtime.EXPORTED)
    assert "W8A8, exported = ONNX Runtime" in found.checks.covered[0]
    assert "4 samples" in found.checks.covered[0]


def test_a_quantized_file_is_compared_on_random_samples(file: Path) -> None:
    task = load_subject(TaskOptions(network=str(file), images=4))
    found = outcome_of(task)
    assert found.result == "pass"
    assert "digits8 on random samples = ONNX Runtime" in found.checks.covered[0]
    assert found.checks.compared > 10_000


def test_a_wrong_file_fails_and_its_layer_is_named(file: Path) -> None:
    task = broken(load_subject(TaskOptions(network=str(file), images=4)))
    found = outcome_of(task)
    assert found.result == "fail"
    assert "explained by the bias being 5" in found.checks.failures[0] or "channel 1" in found.checks.failures[0]


def test_a_missing_runtime_is_a_skip_with_its_reason(
    digits: Task, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed
    found = outcome_of(digits)
    assert (found.result, found.passed) == ("skipped", None)
    assert all("ONNX Runtime is not installed; install accelsim[oracle]" in text for text in found.checks.skipped)
    target = tmp_path / "verify.json"
    assert cli.main(["verify", str(file), "--rungs", "7", "--json", str(target)]) == 0
    printed = capsys.readouterr().out
    assert "7  skip" in printed
    assert "not compared: digits8 on random samples = ONNX Runtime: ONNX Runtime is not installed" in printed
    record = json.loads(target.read_text())
    assert record["passed"] is True
    (rung,) = record["rungs"]
    assert (rung["result"], rung["passed"], rung["compared"]) == ("skipped", None, 0)
    assert "is not installed" in rung["skipped"][0]


def test_a_network_without_a_form_in_onnx_is_a_skip(digits: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> bytes:
        raise ValueError("digits: ONNX has no integer form for norm")

    monkeypatch.setattr(witness_ort, "export_tensors", refuse)
    found = outcome_of(digits)
    assert found.result == "skipped"
    assert "it has no form in ONNX: digits: ONNX has no integer form for norm" in found.checks.skipped[0]


@needs_litert
@pytest.mark.parametrize("name", ["tiny-kws", "tiny-ad"])
def test_tflite_networks_are_compared_under_every_kernel_set(name: str, data_dir: Path) -> None:
    found = outcome_of(load_subject(TaskOptions(network=name, data=data_dir)))
    assert found.result == "pass"
    assert [text.split(" kernels")[0] for text in found.checks.covered] == [
        f"{name} = LiteRT ({kernels}" for kernels in witness_litert.RESOLVERS
    ]


@needs_litert
def test_a_kernel_set_that_litert_refuses_is_a_skip(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right: Callable[..., object] = rungs_runtime.check_litert

    def refusing(network: object, *arguments: object, **options: object) -> object:
        if network.kernels == "builtin":  # type: ignore[attr-defined]
            raise NoWitness("LiteRT refuses the file: for a test")
        return right(network, *arguments, **options)

    monkeypatch.setattr(rungs_runtime, "check_litert", refusing)
    found = outcome_of(load_subject(TaskOptions(network="tiny-kws", data=data_dir)))
    assert found.result == "pass"  # the others were compared
    assert found.checks.skipped == ["tiny-kws = LiteRT (builtin kernels): LiteRT refuses the file: for a test"]
    assert "not compared: tiny-kws = LiteRT (builtin kernels)" in verify.format_outcome(found)


# --- the other rungs on networks that came as integers ---------------------------------------------------------------


def test_transforms_are_skipped_for_integers(file: Path) -> None:
    found = outcome_of(load_subject(TaskOptions(network=str(file))), 5)
    assert found.result == "skipped"
    assert "came as integers: there is no float function to keep" in found.checks.skipped[0]


@pytest.mark.slow
def test_integers_are_those_of_the_oracle(file: Path) -> None:
    found = outcome_of(load_subject(TaskOptions(network=str(file))), 6)
    assert found.result == "pass", found.checks.failures
    assert "ONNX Runtime's rules" in found.checks.covered


def test_large_networks_are_compared_with_the_oracle_alone(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = load_subject(TaskOptions(network=str(file), images=2))
    assert task.integers is not None
    products = rungs_network._products(task.integers.program)
    table = layer_table(task.integers.program).layers
    assert products == int((table["m"] * table["k"] * table["n"] * table["groups"]).sum())
    monkeypatch.setattr(rungs_network, "MOST_PRODUCTS", products - 1)
    checks = rungs_network.check_oracle_networks((task,), 0)
    assert (checks.failed, len(checks.skipped)) == (0, 1)
    assert "the register engine, the numpy reference and other registers were not" in checks.skipped[0]
    program = task.integers.program
    assert checks.compared == 2 * sum(program.tensors[op.output].size for op in program.ops)
    wrong = with_bias(program, convolutions(program)[0], 2, 1)
    monkeypatch.setattr(rungs_network, "execute", lambda _, *rest, **named: execute(wrong, *rest, **named))
    checks = rungs_network.check_oracle_networks((task,), 0)
    assert checks.failed == 1
    assert "explained by the bias being 1 more in engine" in checks.failures[0]


def test_the_rtl_rung_says_where_it_is_run() -> None:
    rung = next(rung for rung in verify.RUNGS if rung.number == 8)
    (found,) = verify.run_ladder(verify.Setting(tasks=()), [rung])
    assert found.result == "skipped"
    assert "make test" in found.checks.skipped[0]


# --- rung 9 ----------------------------------------------------------------------------------------------------------


def test_networks_take_the_same_time_under_both_memory_models(digits: Task) -> None:
    found = outcome_of(digits, 9)
    assert found.result == "pass"
    assert len(found.checks.covered) == 1 + len(preset_names())


@pytest.mark.parametrize("part", ["cycles", "dram_bytes"])
def test_a_wrong_memory_model_fails(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = rungs_memory.simulate

    class Wrong:
        def __init__(self, result: object) -> None:
            self.result = result

        def __getattr__(self, name: str) -> object:
            value = getattr(self.result, name)
            return value + 1 if name == part else value

    def wrong(*arguments: object, memory: str = "recurrence", **options: object) -> object:
        found = right(*arguments, memory=memory, **options)  # type: ignore[arg-type]
        return Wrong(found) if memory == "events" else found

    monkeypatch.setattr(rungs_memory, "simulate", wrong)
    monkeypatch.setattr(rungs_memory, "EXAMPLES", 2)
    checks = rungs_memory.check_random(0)
    assert checks.failed == 2
    assert "random network 0 of seed 0, batch" in checks.failures[0]


# --- samples ---------------------------------------------------------------------------------------------------------


def test_samples_may_come_without_labels(file: Path, tmp_path: Path) -> None:
    shape = load_subject(TaskOptions(network=str(file))).workload.input_shape
    x = np.random.default_rng(0).integers(0, 3, (5, *shape))
    np.savez(tmp_path / "x.npz", x=x)
    task = load_subject(TaskOptions(network=str(file), data=tmp_path / "x.npz"))
    np.testing.assert_array_equal(task.samples.batch(task.evaluated), x)
    assert not task.stand_ins


def test_random_samples_reach_all_codes_and_depend_on_the_seed(file: Path) -> None:
    first, again, other = (load_subject(TaskOptions(network=str(file), images=6, seed=s)) for s in (1, 1, 2))
    x = first.samples.batch(first.evaluated)
    np.testing.assert_array_equal(x, again.samples.batch(again.evaluated))
    assert (x != other.samples.batch(other.evaluated)).any()
    assert first.integers is not None
    codes = next(iter(first.integers.encode(x).values()))
    tensor = first.integers.program.tensors[first.integers.program.inputs[0]]
    assert tensor.low <= codes.min() < codes.max() <= tensor.high
    assert codes.max() - codes.min() > 0.9 * (tensor.high - tensor.low)


def test_networks_of_torchvision_need_no_data_to_be_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    if not zoo_names():
        pytest.skip("torchvision is not installed (extra vision)")
    task = load_subject(TaskOptions(network="mobilenet_v2", calib=2, images=1))
    assert task.title == "mobilenet_v2 on random samples"
    assert (len(task.calibrated), len(task.evaluated)) == (2, 1)
    monkeypatch.setattr(stand_ins, "zoo_names", lambda: ())
    with pytest.raises(ValueError, match=r"unknown network 'no_such'"):
        load_subject(TaskOptions(network="no_such"))
