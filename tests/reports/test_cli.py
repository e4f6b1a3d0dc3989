"""The command line: what it prints and writes, and how it refuses."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import workloads
from accelsim.config import preset_names
from reports import cli, verify
from reports.checks import Checks

SHORT = ("--images", "40", "--calib", "32")
CHECKPOINT = resources.files("workloads") / "checkpoints" / "digits.safetensors"


def accelsim(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "reports.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def refused(capsys, monkeypatch):
    """Run the command; it must exit with 2 and one line on standard error, which is returned."""
    monkeypatch.delenv("ACCELSIM_DATA", raising=False)

    def run(*arguments: object) -> str:
        status = cli.main([str(a) for a in arguments])
        printed = capsys.readouterr()
        assert status == 2
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        assert printed.err.startswith("accelsim: ")
        assert "Traceback" not in printed.err
        return printed.err

    return run


# --- what works ------------------------------------------------------------------------------------------------------


def test_help():
    run = accelsim("--help")
    assert run.returncode == 0
    assert "verify" in run.stdout


def test_timeline_toggles_and_advice(tmp_path):
    trace, record, page = (tmp_path / name for name in ("trace.json", "run.json", "run.html"))
    options = ("--technology", "nangate45", "--toggles", 2, "--trace", trace, "--json", record, "--html", page)
    assert cli.main([str(a) for a in ("run", "digits", *SHORT, "--weight-bits", 4, *options)]) == 0
    found = json.loads(record.read_text())
    spans = [event for event in json.loads(trace.read_text())["traceEvents"] if event["ph"] == "X"]
    assert spans
    assert all(event["dur"] >= 0 and {"name", "ts", "pid", "tid"} <= set(event) for event in spans)
    assert max(event["ts"] + event["dur"] for event in spans) == pytest.approx(1e6 * found["seconds"], rel=1e-6)
    flipped = found["pe_toggle_energy_pj"]
    assert flipped["samples"] == 2
    assert flipped["total"] == pytest.approx(sum(flipped["layers"].values()))
    products = [layer for layer in found["layers"] if layer["m"]]
    for layer in products:
        advice = layer["accumulator_advice"]
        assert advice["seen_bits"] <= advice["bits"] == max(2, advice["bound"].bit_length() + 1)
    text = page.read_text()
    assert "Narrowest safe registers" in text
    assert all(layer["name"] in text for layer in products)


def test_parser_needs_no_heavy_package():
    code = "import sys, reports.cli as c; c.build_parser(); print(*(m for m in ('torch', 'numpy') if m in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_run_prints_and_writes_the_same_figures(tmp_path, capsys):
    record, page = tmp_path / "run.json", tmp_path / "run.html"
    arguments = ["run", "digits", *SHORT, "--weight-bits", "4", "--ocs", "0.05", "--json", str(record), "--html"]
    assert cli.main([*arguments, str(page)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    found = json.loads(record.read_text(encoding="utf-8"))
    assert found["images"] == 40
    assert found["recipe"] == "W4A8 + OCS 0.05"
    assert found["bit_exact"] is True
    assert f"{100 * found['accuracy']['integer']:.2f}" in printed.out
    assert "<h1>digits</h1>" in page.read_text(encoding="utf-8")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.html", "run.json"]


def test_run_on_the_register_engine_is_the_same(tmp_path, capsys):
    found = []
    for engine in ("functional", "register"):
        target = tmp_path / f"{engine}.json"
        assert cli.main(["run", "digits", *SHORT, "--engine", engine, "--json", str(target)]) == 0
        found.append(json.loads(target.read_text(encoding="utf-8")))
    same = set(found[0]) - {"engine", "executed_s", "layers"}
    assert {key: found[0][key] for key in same} == {key: found[1][key] for key in same}


def test_cost_needs_no_data_and_agrees_with_run(tmp_path, capsys, record):
    target = tmp_path / "cost.json"
    assert (
        cli.main(["cost", "digits", "--calib", "64", "--weight-bits", "4", "--ocs", "0.05", "--json", str(target)]) == 0
    )
    found = json.loads(target.read_text(encoding="utf-8"))
    assert found["elapsed_s"] > 0
    assert "accuracy" not in found
    for key in ("cycles", "array_cycles", "energy_pj", "area_um2", "weight_bytes", "dram_bytes", "folds"):
        assert found[key] == record[key], key
    shapes = ("name", "m", "k", "n", "groups", "splits", "folds", "cycles", "weight_bits", "act_bits")
    assert [[x[k] for k in shapes] for x in found["layers"]] == [[x[k] for k in shapes] for x in record["layers"]]


def test_cost_in_mode_scalesim_knows_no_memory(tmp_path, capsys):
    target = tmp_path / "cost.json"
    assert cli.main(["cost", "digits", "--timing", "scalesim", "--json", str(target)]) == 0
    found = json.loads(target.read_text(encoding="utf-8"))
    assert found["timing_mode"] == "scalesim"
    assert found["cycles"] == found["array_cycles"]


@pytest.mark.parametrize("what", ["networks", "accelerators", "methods", "technologies", "recipes"])
def test_lists_print_every_entry_with_its_source(what, tmp_path, capsys):
    target = tmp_path / "list.json"
    assert cli.main(["list", what, "--json", str(target)]) == 0
    printed = capsys.readouterr().out
    rows = json.loads(target.read_text(encoding="utf-8"))
    assert rows
    for row in rows:
        assert row["name"] in printed
    if what == "accelerators":
        assert {row["name"] for row in rows} == set(preset_names())
    if what == "technologies":
        assert all(source["citation"] for row in rows for source in row["sources"])


def test_verify_runs_the_rungs_that_are_asked_for(tmp_path, capsys):
    target = tmp_path / "verify.json"
    assert cli.main(["verify", "--rungs", "1,4", "--json", str(target)]) == 0
    found = json.loads(target.read_text(encoding="utf-8"))
    assert found["passed"] is True
    assert [rung["rung"] for rung in found["rungs"]] == [1, 4]
    assert all(rung["compared"] > 0 for rung in found["rungs"])


def test_verify_exits_with_1_where_a_rung_fails(capsys, monkeypatch, tmp_path):
    def broken(setting: verify.Setting) -> Checks:
        checks = Checks()
        checks.equal([1, 2], [1, 3], "two lists")
        return checks

    monkeypatch.setattr(verify, "RUNGS", (verify.Rung(1, "broken", "never holds", broken),))
    target = tmp_path / "verify.json"
    assert cli.main(["verify", "--json", str(target)]) == 1
    assert "two lists: at [1] 2 is not 3" in capsys.readouterr().out
    assert json.loads(target.read_text(encoding="utf-8"))["passed"] is False


# --- what is refused -------------------------------------------------------------------------------------------------


def test_unknown_networks_are_refused_with_close_names(refused):
    assert "did you mean cifar10-resnet20" in refused("run", "cifar-resnet20")
    assert "there are digits" in refused("cost", "qqqqqqqq")


def test_refusal_in_a_process_of_its_own_is_one_line_and_status_2(tmp_path):
    run = accelsim("run", "cifar-resnet20", "--json", tmp_path / "x.json")
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


FIVE_ERRORS = """
name: five
array: {rows: 0, cols: 99999, dataflow: xs}
activation_sram: {bytes: 1}
weight_sram: {bytes: 100000}
accumulator_sram: {bytes: 100000}
clock: 5
"""


def test_all_errors_of_an_accelerator_come_in_one_line(refused, tmp_path):
    path = tmp_path / "five.yaml"
    path.write_text(FIVE_ERRORS, encoding="utf-8")
    line = refused("run", "digits", "--accelerator", path)
    assert "5 error(s)" in line
    for field in ("array.rows", "array.cols", "array.dataflow", "activation_sram.bytes", "clock"):
        assert field in line


def test_files_that_are_no_accelerators_are_refused(refused, tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("array: {rows: [1\n", encoding="utf-8")
    assert "no valid YAML" in refused("cost", "digits", "--accelerator", path)
    assert "neither a preset" in refused("cost", "digits", "--accelerator", tmp_path / "none.yaml")


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return workloads.weights.read_state(Path(str(CHECKPOINT)))


def test_weights_that_are_nan_are_refused(refused, tmp_path, state):
    path = tmp_path / "nan.npz"
    arrays = {name: tensor.numpy().copy() for name, tensor in state.items()}
    arrays["stem.0.weight"][0] = np.nan
    np.savez(path, **arrays)
    line = refused("run", "digits", *SHORT, "--weights", path)
    assert "NaN" in line
    assert "stem.0.weight" in line


def test_truncated_checkpoints_are_refused(refused, tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(CHECKPOINT.read_bytes()[:1000])
    assert "truncated" in refused("run", "digits", "--weights", path)


class _Sorted(nn.Module):
    """A network with a layer that no quantizer here knows."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.sort(x.flatten(1), dim=1).values)


def test_unsupported_layers_are_refused_by_name(refused, monkeypatch):
    odd = replace(workloads.WORKLOADS["digits"], name="odd", model=lambda source: _Sorted())
    monkeypatch.setitem(workloads.WORKLOADS, "odd", odd)
    assert "sort" in refused("run", "odd", *SHORT)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--weight-bits", "1"), "2..16"),
        (("--act-bits", "17"), "2..16"),
        (("--weight-bits", "2.5"), "whole number"),
        (("--ocs", "2"), "0..1"),
        (("--ocs", "much"), "--ocs"),
        (("--clip", "nonsense"), "max"),
        (("--images", "0"), "images"),
        (("--calib", "0"), "calib"),
        (("--seed", "-1"), "seed"),
        (("--batch", "0"), "batch"),
        (("--threads", "0"), "threads"),
        (("--timing", "fast"), "isolated"),
        (("--technology", "nonsense"), "google"),
        (("--technology", "none.yaml"), "give a file or folder of Accelergy tables"),
        (("--technology", "reports"), "the folder must hold Accelergy's ERT.yaml"),
        (("--technology", "nangate45", "--node", "7"), "45"),
        (("--technology", "nangate45", "--accelerator", "gemmini-16x16"), "--node 45"),
        (("--recipe", "nonsense"), "recipe"),
        (("--no-such-option",), "--no-such-option"),
        (("--accelerator", "eyeriss-12x14", "--timing", "overlapped"), "double-buffered"),
    ],
)
def test_options_that_mean_nothing_are_refused(refused, arguments, words):
    small = () if {"--images", "--calib"} & set(arguments) else SHORT
    assert words in refused("run", "digits", *small, *arguments)


def test_accumulators_too_narrow_for_rule_error_name_the_layer_and_leave_nothing(refused, tmp_path):
    text = (resources.files("accelsim") / "presets" / "edge-32x32.yaml").read_text(encoding="utf-8")
    path = tmp_path / "narrow.yaml"
    path.write_text(
        text.replace(
            "psum_bits: 24, psum_overflow: saturate, bits: 32, overflow: saturate",
            "psum_bits: 10, psum_overflow: error, bits: 12, overflow: error",
        ),
        encoding="utf-8",
    )
    line = refused("run", "digits", *SHORT, "--accelerator", path, "--json", tmp_path / "x.json")
    assert "stem.0" in line
    assert "12 bits" in line
    assert [p.name for p in tmp_path.iterdir()] == ["narrow.yaml"]


def test_missing_data_folders_are_refused(refused, tmp_path):
    assert "--data DIR" in refused("run", "cifar10-resnet20")
    assert "must exist" in refused("run", "cifar10-resnet20", "--data", tmp_path / "none")
    assert "resnet20" in refused("cost", "cifar10-resnet20", "--data", tmp_path)


@pytest.mark.parametrize("command", [("run", "digits"), ("cost", "digits"), ("list", "networks"), ("verify",)])
def test_outputs_that_cannot_be_written_are_refused_before_any_work(refused, tmp_path, command, monkeypatch):
    assert "does not exist" in refused(*command, "--json", tmp_path / "none" / "x.json")
    assert "is a folder" in refused(*command, "--json", tmp_path)

    def unwritable(**options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cli.tempfile, "TemporaryFile", unwritable)
    assert "cannot be written" in refused(*command, "--json", tmp_path / "x.json")
    assert not list(tmp_path.iterdir())


def test_a_failing_write_leaves_the_old_file(refused, tmp_path, monkeypatch):
    target = tmp_path / "x.json"
    target.write_text("old", encoding="utf-8")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert "No space left" in refused("list", "networks", "--json", target)
    assert target.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_no_command_is_refused(refused):
    assert "COMMAND" in refused()
    assert "invalid choice" in refused("fly")


def test_traceback_is_shown_where_it_is_asked_for():
    with pytest.raises(ValueError, match="unknown network"):
        cli.main(["run", "nonsense", "--traceback"])
