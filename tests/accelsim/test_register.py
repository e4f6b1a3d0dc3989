"""The register engine on whole Programs: same integers as the reference, cycles and toggles as the closed forms say."""

import numpy as np
import pytest
from programs import conv_program, random_inputs, seeded_program

from accelsim import reference
from accelsim.config import Accelerator, load_accelerator
from accelsim.dataflow import DATAFLOWS, Gemm
from accelsim.execute import accumulations, operand_bits
from accelsim.program import Program, gemm_view
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
