"""The register engine on whole Programs: same integers as the reference, cycles and toggles as the closed forms say."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import machine as plain_machine
from program_builder import Builder, Seeded
from programs import conv_program, random_inputs, seeded_program

from accelsim import reference
from accelsim.config import Accelerator, load_accelerator
from accelsim.dataflow import DATAFLOWS, Gemm
from accelsim.execute import accumulations, operand_bits
from accelsim.program import Conv, Duplicate, Program, gemm_view
from accelsim.register import array_shape, execute_register


def machine(dataflow: str, rule: str, psum_bits: int = 8, bits: int = 9) -> Accelerator:
    """Return a small accelerator."""
    plain = load_accelerator("edge-32x32").model_dump()
    plain["array"] |= {"rows": 4, "cols": 3, "dataflow": dataflow}
    plain["accumulator"] = {"psum_bits": psum_bits, "bits": bits, "psum_overflow": rule, "overflow": rule}
    plain["pe"] |= {"weight_bits": 16, "act_bits": 16}
    return Accelerator(**plain)


def closed_form_cycles(program: Program, accelerator: Accelerator, mode: str, batch: int) -> dict[str, int]:
    """Return array cycles by layer from the closed forms: one product per group, m = batch · pixels."""
    cycles = {}
    for op in program.ops:
        view = gemm_view(program, op)
        if view is None:
            continue
        shape = array_shape(accelerator, *operand_bits(program, op))
        many = batch if op.kind == "matmul" else 1
        gemm = Gemm(view.m * (1 if op.kind == "matmul" else batch), view.k, view.n)
        one = DATAFLOWS[accelerator.array.dataflow].cycles(gemm, shape, mode, None)
        cycles[op.name] = one * view.groups * many
    return cycles


@pytest.mark.parametrize("dataflow", list(DATAFLOWS))
@pytest.mark.parametrize("rule", ["wrap", "saturate"])
@pytest.mark.parametrize("mode", ["isolated", "overlapped"])
def test_random_programs_give_the_references_integers_and_closed_form_cycles(
    dataflow: str, rule: str, mode: str
) -> None:
    accelerator, events = machine(dataflow, rule), 0
    for seed in range(18):
        program = seeded_program(seed, length=3)
        inputs = random_inputs(program, 2, seed)
        expected = reference.run(program, inputs, accumulations(program, accelerator))
        got = execute_register(program, inputs, accelerator, mode=mode)
        for name in program.outputs:
            assert np.array_equal(got.outputs[name], expected.values[name])
        for name, seen in expected.overflow.items():
            mine = got.overflow.get(name)
            assert seen.events.sum() == (mine.events.sum() if mine else 0)
            assert seen.differing == (mine.differing if mine else 0)
            events += int(seen.events.sum())
        assert {name: got.cycles(name) for name in got.runs} == closed_form_cycles(program, accelerator, mode, 2)
    assert events > 0


def test_toggles_are_summed_over_groups(rng: np.random.Generator) -> None:
    program = conv_program(rng.integers(-7, 8, (4, 1, 1, 3)), np.zeros(4, dtype=np.int64), (2, 3, 6), groups=2)
    run = execute_register(program, random_inputs(program, 2, 0), machine("ws", "wrap", 24, 32), toggles=True)
    parts = [part.toggles for part in run.runs["layer"]]
    total = run.toggles("layer")
    assert total is not None
    assert len(parts) == 2
    assert total.activation_register_toggles == sum(part.activation_register_toggles for part in parts if part)
    assert total.activation_register_toggles > 0


def test_rule_error_names_the_layer() -> None:
    program = conv_program(np.full((1, 1, 1, 4), 100), np.zeros(1, dtype=np.int64), (4,), low=0, high=100)
    with pytest.raises(OverflowError, match="layer 'layer'"):
        execute_register(program, {"x": np.full((2, 4), 100)}, machine("ws", "error", 14, 16))


def split(codes: np.ndarray, splits: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Halve random input channels of ``[out, kh, kw, in]``, halves of halves among them; return pieces and sources."""
    pieces, sources = list(np.moveaxis(codes, -1, 0)), list(range(codes.shape[-1]))
    for _ in range(splits):
        place = int(rng.integers(len(pieces)))
        low = pieces[place] >> 1
        pieces.append(pieces[place] - low)
        sources.append(sources[place])
        pieces[place] = low
    return np.stack(pieces, axis=-1), np.array(sources)


def layer_program(weight: np.ndarray, bias: np.ndarray, shape: tuple[int, ...], sources: np.ndarray | None) -> Program:
    """Return a convolution of an input of 4 bits, its channels duplicated first where sources are given."""
    builder = Builder(Seeded(1))
    x = builder.input(shape, bits=4, signed=True)
    if sources is not None:
        plain: dict[str, Any] = {"offset": np.zeros(len(sources), np.int64), "shift": np.zeros(len(sources), np.int64)}
        x = builder.emit(Duplicate, [x], (x.low, x.high), source=sources, low=x.low, high=x.high, **plain)
    bound = np.abs(weight).reshape(len(weight), -1).sum(axis=1) * 8 + np.abs(bias)
    reach = int(bound.max()) + 1
    own = {"weight": weight, "bias": bias, "weight_bits": 9, "storage_bits": 9, "bound": bound, "padding": (1, 1, 1, 1)}
    y = builder.emit(Conv, [x], (-reach, reach), kind="accumulator", **own)
    return builder.program("layer", (y.name,))


@pytest.mark.parametrize("dataflow", list(DATAFLOWS))
@pytest.mark.parametrize("clip", [None, 7, 2], ids=["no piece clamped", "clamped at 7", "clamped at 2"])
@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 5), st.sampled_from([1, 3]))
def test_an_expanded_layer_is_the_unsplit_layer_of_the_sums_of_its_clamped_pieces(
    dataflow: str, clip: int | None, seed: int, channels: int, splits: int, kernel: int
) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(-60, 61, (3, kernel, kernel, channels))
    pieces, sources = split(codes, splits, rng)
    held = pieces if clip is None else np.clip(pieces, -clip - 1, clip)
    sums = np.zeros_like(codes)
    for place, source in enumerate(sources):
        sums[..., source] += held[..., place]
    assert clip is not None or np.array_equal(sums, codes)
    bias = rng.integers(-50, 50, 3)
    accelerator = plain_machine(
        array={
            "rows": int(rng.integers(1, 9)),
            "cols": int(rng.integers(1, 5)),
            "dataflow": dataflow,
            "double_buffered": bool(rng.integers(2)),
            "pipeline_depth": int(rng.integers(1, 3)),
        },
        accumulator={"psum_bits": 24, "bits": 32, "psum_overflow": "error", "overflow": "error"},
    )
    shape = (3, 2, channels)
    expanded, unsplit = layer_program(held, bias, shape, sources), layer_program(sums, bias, shape, None)
    inputs = random_inputs(unsplit, 2, seed % 1000)
    runs = [execute_register(program, inputs, accelerator) for program in (expanded, unsplit)]
    got, want = (run.outputs[program.outputs[0]] for run, program in zip(runs, (expanded, unsplit), strict=True))
    np.testing.assert_array_equal(got, want)
    assert got.any()
    layers = [next(iter(run.runs)) for run in runs]
    more, fewer = (run.runs[layer][0].counts.macs for run, layer in zip(runs, layers, strict=True))
    assert more * channels == fewer * (channels + splits)
