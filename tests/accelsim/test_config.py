"""Accelerators: what is refused, with rule and remedy and all at once; hostile files; presets."""

from copy import deepcopy
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import machine
from pydantic import ValidationError

from accelsim.config import (
    Accelerator,
    Sram,
    build_accelerator,
    load_accelerator,
    parse_accelerator,
    preset_names,
)
from accelsim.plain_yaml import MAX_CHARACTERS
from accelsim.shapes import LayerShape, shape_program
from accelsim.simulate import simulate
from accelsim.technology import TECHNOLOGIES, technology

PARTS = ("array", "pe", "accumulator", "activation_sram", "weight_sram", "accumulator_sram", "dram")


PRESET = load_accelerator("edge-32x32").model_dump()


def plain(**changes: Any) -> dict[str, Any]:
    """Return the description of a valid machine with changes; a double underscore reaches into a part."""
    found = deepcopy(PRESET)
    for key, value in changes.items():
        part, _, name = key.partition("__")
        if name:
            found[part][name] = value
        else:
            found[part] = value
    return found


def refusal(description: dict[str, Any]) -> str:
    with pytest.raises(ValueError, match=r"^accelerator it has \d+ error\(s\): ") as error:
        build_accelerator(description, "it")
    line = str(error.value)
    assert "\n" not in line
    return line


# --- one thing wrong -------------------------------------------------------------------------------------------------

WRONG = [
    # contradictions between fields
    ({"accumulator__psum_bits": 40}, "accumulator: psum_bits=40 exceeds bits=32", "widen bits or narrow psum_bits"),
    ({"weight_sram__bytes": 1024}, "weight_sram.bytes=1024 is smaller than one fold of 1024 bytes", "single-buffer it"),
    (
        {"array__dataflow": "is", "activation_sram__bytes": 1024},
        "activation_sram.bytes=1024 is smaller than one fold of 1024 bytes",
        "enlarge it",
    ),
    ({"accumulator_sram__bytes": 128}, "holds no row of 32 sums (128 bytes)", "enlarge it"),
    (
        {"activation_sram__bytes": 64, "activation_sram__word_bits": 1024},
        "holds no word of 1024 bits",
        "narrow the word",
    ),
    ({"activation_sram__bytes": 64, "activation_sram__banks": 1024}, "in each of 1024 bank(s)", "enlarge it"),
    # bricks are powers of two, and so are PEs made of them
    ({"pe__type": "composable", "pe__weight_bits": 6}, "composable PEs are 4, 8 or 16 bits wide", "use type fixed"),
    (
        {"pe__type": "composable", "pe__weight_bits": 2, "pe__act_bits": 4, "pe__brick_bits": 4},
        "at least one brick wide",
        "narrow the bricks",
    ),
    ({"pe__brick_bits": 3}, "pe.brick_bits: must be 2 or 4", "got 3"),
    # out of range
    ({"dram__bandwidth_gb_per_s": 0.0}, "dram.bandwidth_gb_per_s: must be greater than 0", "sustained bandwidth"),
    ({"dram__bandwidth_gb_per_s": float("nan")}, "dram.bandwidth_gb_per_s: must be", "sustained bandwidth"),
    ({"dram__page_efficiency": 1.5}, "dram.page_efficiency: must be less than or equal to 1", "at most 1"),
    ({"dram__latency_ns": -1.0}, "dram.latency_ns: must be greater than or equal to 0", "0 for none"),
    ({"dram__type": "LPDDR9"}, "unknown DRAM 'LPDDR9'", "choose one of"),
    ({"array__rows": 0}, "array.rows: must be greater than or equal to 1 (got 0)", "number of PE rows"),
    ({"array__cols": -32}, "array.cols: must be greater than or equal to 1 (got -32)", "number of PE columns"),
    ({"array__rows": 10**9}, "array.rows: must be less than or equal to 4096", "number of PE rows"),
    ({"array__pipeline_depth": 0}, "array.pipeline_depth: must be greater", "1 for one"),
    ({"weight_sram__bytes": -5}, "weight_sram.bytes: must be greater than or equal to 64", "capacity of the buffer"),
    ({"clock_mhz": float("inf")}, "clock_mhz: must be", "give the clock in MHz"),
    ({"clock_mhz": 0}, "clock_mhz: must be greater than 0", "give the clock in MHz"),
    ({"node_nm": 1}, "node_nm: must be greater than or equal to 3", "technology node"),
    ({"cores": 0}, "cores: must be greater", "1 for one"),
    ({"accumulator__psum_bits": 2}, "accumulator.psum_bits: must be greater", "moving sum"),
    # of another type
    ({"array__rows": "32"}, "array.rows: must be a valid integer (got '32')", "number of PE rows"),
    ({"array__rows": True}, "array.rows: must be a valid integer (got True)", "number of PE rows"),
    ({"array__rows": 32.5}, "array.rows: must be a valid integer (got 32.5)", "number of PE rows"),
    ({"array__double_buffered": "perhaps"}, "array.double_buffered: must be", "boolean"),
    ({"array": 5}, "array: must be", "give rows, cols and dataflow"),
    ({"array": None}, "array: must be", "give rows, cols and dataflow"),
    ({"array__dataflow": "rs"}, "array.dataflow: must be 'ws', 'os' or 'is' (got 'rs')", ""),
    ({"accumulator__overflow": "round"}, "accumulator.overflow: must be", "'saturate'"),
    ({"name": ""}, "name: must be", "give a name"),
    # not a field
    ({"array__colums": 3}, "array.colums: there is no such field", "did you mean cols?"),
    ({"array__x": 3}, "array.x: there is no such field", "remove it"),
    ({"clock_mz": 500}, "clock_mz: there is no such field", "did you mean clock_mhz?"),
    (
        {"sram__bytes": 5} and {"weight_sram__byte": 5},
        "weight_sram.byte: there is no such field",
        "did you mean bytes?",
    ),
]


@pytest.mark.parametrize(("changes", "rule", "remedy"), WRONG, ids=[" ".join(change) for change, _, _ in WRONG])
def test_a_wrong_description_is_refused_with_rule_and_remedy(changes, rule, remedy) -> None:
    line = refusal(plain(**changes))
    assert rule in line
    assert remedy in line
    assert line.startswith("accelerator it has 1 error(s): ")


def test_what_is_required_is_said_with_its_remedy() -> None:
    line = refusal({"name": "x"})
    assert line.startswith("accelerator it has 4 error(s): array: is required; give rows, cols and dataflow")
    for part in ("activation", "weight", "accumulator"):
        assert f"{part}_sram: is required; give its bytes" in line


# --- several things wrong --------------------------------------------------------------------------------------------


def test_all_errors_come_at_once_contradictions_included() -> None:
    """Rules between sound parts are held although other parts are wrong."""
    line = refusal(
        plain(
            accumulator__psum_bits=40,
            weight_sram__bytes=640,
            dram__bandwidth_gb_per_s=0,
            dram__type="LPDDR9",
            clock_mhz="fast",
            colour="red",
        )
    )
    assert line.startswith("accelerator it has 6 error(s): ")
    for part in ("psum_bits=40 exceeds", "smaller than one fold", "bandwidth", "LPDDR9", "clock_mhz", "colour"):
        assert part in line


def test_both_buffers_that_are_too_small_are_named() -> None:
    line = refusal(plain(weight_sram__bytes=640, accumulator_sram__bytes=128))
    assert "weight_sram.bytes=640" in line
    assert "accumulator_sram.bytes=128" in line


# One error per part, none of which needs a second part to be seen.
ALONE = {
    "accumulator": ({"accumulator__psum_bits": 40}, "psum_bits=40 exceeds"),
    "dram": ({"dram__type": "LPDDR9"}, "unknown DRAM"),
    "array": ({"array__rows": 0}, "array.rows: must be"),
    "activation_sram": ({"activation_sram__banks": -1}, "activation_sram.banks: must be"),
    "pe": ({"pe__type": "composable", "pe__weight_bits": 6}, "composable PEs are"),
    "clock_mhz": ({"clock_mhz": -1}, "clock_mhz: must be"),
    "color": ({"color": "red"}, "color: there is no such field"),
}


@settings(max_examples=30, deadline=None)
@given(st.sets(st.sampled_from(sorted(ALONE)), min_size=1))
def test_errors_of_different_parts_do_not_hide_each_other(chosen: set[str]) -> None:
    line = refusal(plain(**{key: value for part in chosen for key, value in ALONE[part][0].items()}))
    assert f"has {len(chosen)} error(s)" in line
    assert all(ALONE[part][1] in line for part in chosen)


# --- what needs a network or a technology ----------------------------------------------------------------------------

SMALL = shape_program("small", [LayerShape(name="gemm", input=(64, 64), outputs=64)])


def test_overlapped_folds_need_a_double_buffered_array() -> None:
    single = machine(array__double_buffered=False)
    assert simulate(SMALL, single).timing_mode == "isolated"
    with pytest.raises(ValueError, match=r"'overlapped' needs a double-buffered array.*use 'isolated' or set"):
        simulate(SMALL, single, timing_mode="overlapped")


def test_operands_wider_than_the_pes_are_refused_by_layer() -> None:
    narrow = machine(pe__weight_bits=4, pe__act_bits=8)
    with pytest.raises(ValueError, match=r"too narrow for gemm .*widen pe\.weight_bits.*or use pe\.type native"):
        simulate(SMALL, narrow)


@pytest.mark.parametrize("name", list(TECHNOLOGIES))
@pytest.mark.parametrize("flow", ["ws", "os", "is"])
def test_a_clock_beyond_the_critical_path_is_flagged_at_its_depth(name: str, flow: str) -> None:
    prices = technology(name, 45)
    path = technology("nangate45", 45).pe_critical_path_ns(8, 8, 32, flow)
    assert path is not None
    limit = 1000 / path

    def flagged(clock_mhz: float, depth: int = 1) -> bool:
        fast = machine(
            clock_mhz=clock_mhz,
            array__pipeline_depth=depth,
            array__dataflow=flow,
            accumulator__bits=32,
            pe__weight_bits=8,
            pe__act_bits=8,
        )
        return any("critical path" in note for note in simulate(SMALL, fast, prices).notes)

    assert not flagged(0.99 * limit)
    assert flagged(1.01 * limit)
    assert not flagged(1.99 * limit, depth=2)
    assert flagged(2.01 * limit, depth=2)


def test_a_clock_that_a_smaller_node_may_reach_is_flagged_as_untimed() -> None:
    fast = machine(clock_mhz=1000, node_nm=22, pe__weight_bits=8, pe__act_bits=8)
    (note,) = (note for note in simulate(SMALL, fast).notes if "critical path" in note)
    assert "at 45 nm; google has no timing at 22 nm" in note


# --- hostile files ---------------------------------------------------------------------------------------------------

NESTED_ALIASES = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{this}: &{this} [{','.join([f'*{last}'] * 9)}]\n" for last, this in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be a mapping of fields (got NoneType)"),
        ("[1, 2]", "must be a mapping of fields (got list)"),
        ("just text", "must be a mapping of fields (got str)"),
        ("a: b: c", "is no valid YAML"),
        ("!!python/object/apply:os.system ['true']", "is no valid YAML"),
        ("name: !!python/name:os.system", "is no valid YAML"),
        ("name: !include /etc/passwd", "is no valid YAML"),
        ("\x00", "is no valid YAML"),
        ("name: 2001-99-99", "is no valid YAML"),
        ("name: x\nname: y", "key 'name' is given twice (line 2)"),
        ("array: {rows: 3, rows: 4}", "key 'rows' is given twice"),
        ("? [1, 2]\n: 3", "is no valid YAML"),
        ("5: 3", "5: a field name must be text"),
        ("clock_mhz: " + "9" * 5000, "is no valid YAML"),
        ("{" * 500, "nested deeper than 32 levels"),
        ("a: &a {x: 1}\nb: {<<: *a}", "merge keys (<<) are not read"),
        ("a: &a 1\nb: [" + "*a," * 65 + "]", "more than 64 aliases"),
        (NESTED_ALIASES + "name: *g\narray: *g\n", "name: must be a valid string"),
        ("name: &n [*n]", "name: must be a valid string"),
        ("# " + "x" * MAX_CHARACTERS, f"is larger than {MAX_CHARACTERS}"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_hostile_files_are_one_short_line(text: str, words: str) -> None:
    with pytest.raises(ValueError, match="accelerator it ") as error:
        parse_accelerator(text, "it")
    line = str(error.value)
    assert words in line
    assert "\n" not in line
    assert len(line) < 5000


def read(text: str) -> Accelerator | ValueError:
    try:
        return parse_accelerator(text, "it")
    except ValueError as error:
        return error


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_a_machine_or_one_line(text: str) -> None:
    assert "\n" not in str(read(text))


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.lists(st.integers()))


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(PARTS), st.data())
def test_any_value_in_any_field_is_a_machine_or_one_line(part: str, data: st.DataObject) -> None:
    description = plain()
    name = data.draw(st.sampled_from(sorted(description[part])))
    description[part][name] = data.draw(scalars)
    try:
        outcome: Any = build_accelerator(description, "it")
    except ValueError as error:
        outcome = error
    assert "\n" not in str(outcome)


def test_files_that_cannot_be_read_are_named(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"'none' is neither a preset \(edge-32x32, .*\) nor a YAML file"):
        load_accelerator("none")
    for content, words in ((b"\xff\xfe\x00", "is no UTF-8 text"), (b"#" * (MAX_CHARACTERS + 1), "is larger than")):
        path = tmp_path / "it.yaml"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=words):
            load_accelerator(path)


# --- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", preset_names())
def test_presets_say_where_they_come_from_and_survive_yaml(name: str) -> None:
    accelerator = load_accelerator(name)
    assert accelerator.name == name
    assert len(accelerator.description) > 40
    text = yaml.safe_dump(accelerator.model_dump(mode="json"))
    assert parse_accelerator(text, "again") == accelerator
    assert simulate(SMALL, accelerator).cycles > 0


def test_numbers_are_read_as_people_write_them() -> None:
    text = yaml.safe_dump(plain()).replace("clock_mhz: 500.0", "clock_mhz: 1e3")
    assert parse_accelerator(text, "it").clock_mhz == 1000
    text = yaml.safe_dump(plain()).replace("clock_mhz: 500.0", "clock_mhz: 500")
    assert parse_accelerator("\ufeff" + text, "it").clock_mhz == 500


def test_anchors_may_stand_for_equal_buffers() -> None:
    lines = [line for line in yaml.safe_dump(plain(), default_flow_style=None).splitlines() if "_sram:" not in line]
    buffer = "{bytes: 131072, word_bits: 256}"
    lines += [f"activation_sram: &sram {buffer}", "weight_sram: *sram", "accumulator_sram: *sram"]
    accelerator = parse_accelerator("\n".join(lines), "it")
    assert accelerator.weight_sram == accelerator.activation_sram == Sram(bytes=131072, word_bits=256)


def test_a_description_does_not_change() -> None:
    accelerator = load_accelerator("edge-32x32")
    with pytest.raises(ValidationError, match="frozen"):
        accelerator.clock_mhz = 1.0
