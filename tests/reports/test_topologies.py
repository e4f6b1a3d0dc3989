"""Topology files on the command line: priced by shapes alone, and equal to what the formulas say."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.check import check
from accelsim.config import load_accelerator
from accelsim.program import gemm_view
from quant.recipe import Recipe
from quant.recipe_options import QuantOptions
from reports import cli
from reports.run import Machinery
from reports.topology import INDEPENDENT, cost_topology, topology_program
from workloads.topologies import ConvShape, GemmShape, Topology

NET = """Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,
Conv1, 230, 230, 7, 7, 3, 64, 2,

Conv2_1, 58, 58, 3, 3, 64, 64, 1,
DP3, 58, 58, 3, 3, 64, 1, 1
FC, 1, 1, 1, 1, 512, 1000, 1,#last
"""

CFG = """[architecture_presets]
ArrayHeight: 16
ArrayWidth: 8
IfmapSramSzkB: 64
FilterSramSzkB: 64
OfmapSramSzkB: 64
Dataflow: os
"""


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.csv"
    path.write_text(NET)
    return path


def printed(capsys, *arguments: object) -> tuple[int, str, str]:
    status = cli.main([str(argument) for argument in arguments])
    out = capsys.readouterr()
    return status, out.out, out.err


def test_a_topology_is_priced_from_the_command_line(net, tmp_path, capsys) -> None:
    file = tmp_path / "cost.json"
    status, out, _ = printed(capsys, "cost", net, "--weight-bits", 4, "--act-bits", 8, "--json", file)
    assert status == 0
    assert "net, w4a8" in out
    assert INDEPENDENT in out
    record = json.loads(file.read_text())
    assert record["network"] == "net"
    layers = {layer["name"]: layer for layer in record["layers"]}
    assert {(layer["weight_bits"], layer["act_bits"]) for layer in layers.values()} == {(4, 8)}
    assert [(name, x["m"], x["k"], x["n"], x["groups"]) for name, x in layers.items()] == [
        ("Conv1", 113 * 113, 147, 64, 1),
        ("Conv2_1", 3136, 576, 64, 1),
        ("DP3", 3136, 9, 1, 64),
        ("FC", 1, 512, 1000, 1),
    ]
    # Every layer's input comes from DRAM at least once and its output goes there.
    assert record["dram_traffic"]["ofmap"] >= 113 * 113 * 64 + 2 * 3136 * 64 + 1000
    assert record["dram_traffic"]["ifmap"] >= 230 * 230 * 3 + 2 * 58 * 58 * 64 + 512
    assert record["cycles"] > 0
    assert record["energy_pj"]["total"] > 0
    assert record["area_um2"]["total"] > 0


def test_a_scalesim_machine_file_gives_scalesims_cycles(net, tmp_path, capsys) -> None:
    machine, file = tmp_path / "small.cfg", tmp_path / "cost.json"
    machine.write_text(CFG)
    arguments = ("cost", net, "--weight-bits", 4, "--act-bits", 8, "--accelerator", machine)
    status, _, _ = printed(capsys, *arguments, "--timing", "scalesim", "--json", file)
    assert status == 0
    record = json.loads(file.read_text())
    shapes = {"Conv1": (113 * 113, 64, 147), "Conv2_1": (3136, 64, 576), "FC": (1, 1000, 512)}
    by_name = {layer["name"]: layer["array_cycles"] for layer in record["layers"]}
    for name, (m, n, k) in shapes.items():
        assert by_name[name] == math.ceil(m / 16) * math.ceil(n / 8) * (16 + 8 + k - 2) - 1
    assert record["accelerator"] == "small"


def test_a_machine_of_yaml_is_taken_too(net, tmp_path, capsys) -> None:
    machine = tmp_path / "it.yaml"
    machine.write_text(
        "name: it\narray: {rows: 8, cols: 8}\nactivation_sram: &b {bytes: 65536, word_bits: 64}\n"
        "weight_sram: *b\naccumulator_sram: {bytes: 65536, word_bits: 256}\n"
    )
    status, out, _ = printed(capsys, "cost", net, "--accelerator", machine)
    assert status == 0
    assert "accelerator   it" in out


def test_first_and_last_row_keep_wide_weights_where_asked(net) -> None:
    machinery = Machinery(accelerator=load_accelerator("edge-32x32"))
    widths = {}
    for asked in (None, "same", "8bit"):
        record = cost_topology(net, QuantOptions(weight_bits=4, first_last=asked), machinery)
        widths[asked] = [layer["weight_bits"] for layer in record["layers"]]
    assert widths == {None: [4, 4, 4, 4], "same": [4, 4, 4, 4], "8bit": [8, 4, 4, 8]}


def test_a_technology_moves_to_other_nodes_by_either_scaling(net, tmp_path, capsys) -> None:
    figures = {}
    for how in ("google", "stillmaker"):
        file = tmp_path / f"{how}.json"
        arguments = ("--technology", "nangate45", "--node", 22, "--scaling", how, "--json", file)
        assert printed(capsys, "cost", net, *arguments)[0] == 0
        record = json.loads(file.read_text())
        assert record["technology"] == f"nangate45>22nm-{how}"
        assert record["node_nm"] == 22
        assert "×/÷ 2" in record["band"]
        figures[how] = record["energy_pj"]["pe"]
    assert figures["stillmaker"] < figures["google"]
    status, _, err = printed(capsys, "cost", net, "--technology", "nangate45", "--accelerator", "gemmini-16x16")
    assert status == 2
    assert "give --node 45 (node_nm in a study) to price it there, or --scaling to move it" in err


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_fewer_bits_cost_less_energy_and_traffic(net, bits: int) -> None:
    machinery = Machinery(accelerator=load_accelerator("edge-32x32"))
    narrow, wide = (
        (cost_topology(net, QuantOptions(weight_bits=width, act_bits=8), machinery) for width in (bits, bits + 1))
        if bits < 8
        else (cost_topology(net, QuantOptions(weight_bits=8, act_bits=width), machinery) for width in (7, 8))
    )
    assert narrow["energy_pj"]["total"] < wide["energy_pj"]["total"]
    assert narrow["weight_bytes"] <= wide["weight_bytes"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--ocs", "0.05"), "--ocs must not be given with a topology"),
        (("--clip", "mse", "--smoothquant", "0.5"), "--clip, --smoothquant must not be given"),
        (("--recipe", "ocs"), "--recipe must not be given"),
        (("--weight-bits", "1"), "weight_bits"),
        (("--act-bits", "40"), "act_bits"),
        (("--batch", "0"), "batch must be >= 1"),
        (("--timing", "overlapped", "--accelerator", "eyeriss-12x14"), "needs a double-buffered array"),
        (("--weight-bits", "12"), "too narrow for"),
    ],
)
def test_what_needs_weights_or_contradicts_is_refused(net, capsys, arguments, words) -> None:
    status, out, err = printed(capsys, "cost", net, *arguments)
    assert (status, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "is no UTF-8 text"),
        (NET.encode()[:150], "line 4: Conv2_1 has 2 of 7 numbers"),
        (b"Layer,M,N,K,\nG,1,2,99999999999999999,\n", "k must be in 1.."),
        (b"Layer,M,N,K,\nG,32768,32768,32768,\n", "products"),
    ],
)
def test_hostile_files_are_one_line(content, words, tmp_path, capsys) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    status, out, err = printed(capsys, "cost", path)
    assert (status, out) == (2, "")
    assert "bad.csv" in err
    assert words in err
    assert err.count("\n") == 1


def test_the_largest_shapes_end_or_are_refused_in_one_line(tmp_path, capsys) -> None:
    path = tmp_path / "large.csv"
    path.write_text("Layer,M,N,K,\na,4194304,1024,1024,\nb,1,262144,65536,\nc,65536,1,65536,\n")
    for accelerator in ("edge-32x32", "tpu-v1-256x256"):
        status, _, err = printed(capsys, "cost", path, "--accelerator", accelerator)
        assert status == 0, err
    status, _, err = printed(capsys, "cost", path, "--accelerator", "eyeriss-12x14")
    assert status in (0, 2)
    assert err.count("\n") == (status == 2)


def test_a_missing_file_is_named(tmp_path, capsys) -> None:
    status, _, err = printed(capsys, "cost", tmp_path / "none.csv")
    assert status == 2
    assert "none.csv cannot be read: No such file" in err


sizes = st.integers(1, 20)


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, sizes, st.integers(1, 7), st.integers(1, 4), st.booleans(), sizes, sizes, sizes)
def test_programs_have_the_products_of_their_file(h, w, channels, kernel, stride, depthwise, m, n, k) -> None:
    window = (min(kernel, h), min(kernel, w))
    conv = ConvShape("conv", h, w, channels, window, (stride, stride + 1), 3, channels if depthwise else 1)
    program = topology_program(Topology("net", (conv, GemmShape("gemm", m, n, k))), Recipe(weight_bits=4))
    check(program)
    views = {op.name: gemm_view(program, op) for op in program.ops if op.kind == "conv"}
    assert views["conv"].macs == conv.macs
    assert (views["gemm"].m, views["gemm"].n, views["gemm"].k) == (m, n, k)
