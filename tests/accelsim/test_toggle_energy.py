"""PE energy from flips: the register engine's count priced by the published coefficients, and what data does to it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import machine
from programs import conv_program, random_inputs

from accelsim import execute_register, technology
from accelsim.toggle_energy import toggle_energy


def small(dataflow="ws", **changes):
    return machine(
        array={"rows": 4, "cols": 3, "dataflow": dataflow},
        pe={"type": "fixed", "weight_bits": 8, "act_bits": 8},
        accumulator={"psum_bits": 24, "bits": 32},
        **changes,
    )


def layer(seed, channels=9, out=5):
    weight = np.random.default_rng(seed).integers(-128, 128, (out, 1, 1, channels))
    weight[0, 0, 0, 0] = -128  # so that operands are 8 bits wide
    return conv_program(weight, np.zeros(out, dtype=np.int64), (3, 3, channels))


def held_flips(weight, x, dataflow):
    """Flips at every PE's held operand from fold to fold, in Python integers, on 4 x 3 PEs."""
    rows, weights = x.reshape(-1, x.shape[-1]).tolist(), weight.reshape(len(weight), -1).tolist()
    held = weights if dataflow == "ws" else rows  # [column of the array][k]
    state, total = {}, 0
    order = [(k, column) for k in range(0, len(held[0]), 4) for column in range(0, len(held), 3)]
    order.sort(key=lambda at: (at[1], at[0]))
    for k, column in order:
        for r in range(4):
            for c in range(3):
                inside = k + r < len(held[0]) and column + c < len(held)
                now = held[column + c][k + r] if inside else 0
                total += ((now ^ state.get((r, c), 0)) & 0xFF).bit_count()
                state[r, c] = now
    return total


@settings(max_examples=20)
@given(st.integers(0, 999), st.sampled_from(("ws", "is")))
def test_energy_is_the_register_engines_flips_at_the_synthesised_prices(seed, dataflow):
    program, accelerator = layer(seed), small(dataflow)
    inputs = random_inputs(program, 1, seed)
    (found,) = toggle_energy(program, inputs, accelerator, technology("nangate45", 45))
    stepped = execute_register(program, inputs, accelerator, toggles=True)
    seen = stepped.toggles("layer")
    held = held_flips(program.ops[0].weight, inputs["x"], dataflow)
    streamed = seen.activation_register_toggles if dataflow == "ws" else seen.weight_register_toggles
    clocked = 12 * stepped.cycles("layer") * (2 * 8 + 8 + 24)
    # Our synthesis, fJ: clock per flip-flop, flips of sums, of the streamed operand and of the held one per bit.
    femto = 8.147 * clocked + 39 * seen.psum_register_toggles + 21.8 * 8 * streamed + 198 * 8 * held
    assert found.energy_pj == pytest.approx(femto / 1000, rel=2e-3)


def test_quiet_data_costs_less_than_noisy_data_and_the_clock_is_always_paid():
    program, accelerator = layer(1), small()
    prices = technology("nangate45", 45)
    noisy = random_inputs(program, 1, 3)
    quiet = {"x": np.zeros_like(noisy["x"])}
    (loud,), (still,) = (toggle_energy(program, inputs, accelerator, prices) for inputs in (noisy, quiet))
    assert still.toggles.pe_cycles == loud.toggles.pe_cycles
    assert still.toggles.streamed == still.toggles.psum_in == 0
    assert still.toggles.held == loud.toggles.held > 0
    assert 0 < still.energy_pj < loud.energy_pj


def test_two_samples_flip_more_than_one():
    program, accelerator = layer(2), small()
    prices, inputs = technology("nangate45", 45), random_inputs(program, 2, 3)
    (both,) = toggle_energy(program, inputs, accelerator, prices)
    (one,) = toggle_energy(program, {"x": inputs["x"][:1]}, accelerator, prices)
    assert both.energy_pj > one.energy_pj


@pytest.mark.parametrize(
    ("accelerator", "name", "message"),
    [
        (small("os"), "nangate45", "no price"),
        (small(), "google", "no price.*nangate45"),
        (machine(pe={"type": "bit_serial"}), "nangate45", "use pe.type fixed or native"),
    ],
)
def test_what_no_model_covers_is_refused(accelerator, name, message):
    program = layer(1)
    with pytest.raises(ValueError, match=message):
        toggle_energy(program, random_inputs(program, 1, 1), accelerator, technology(name, 45))
