"""The machine as kernels take it: storage widths, rounding and rates against their definitions."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import machine

from accelsim.codes import (
    BY_BATCH,
    BY_OUTPUTS,
    STORAGE_CODES,
    WHOLE,
    bytes_per_cycle,
    machine_codes,
    rounded_bits,
    stored_bits,
    transfer_cycles,
)


@pytest.mark.parametrize("bits", range(1, 65))
def test_a_stored_value_is_as_wide_as_its_format_says(bits):
    assert stored_bits(bits, STORAGE_CODES["packed"]) == bits
    assert stored_bits(bits, STORAGE_CODES["byte"]) == 8 * math.ceil(bits / 8)
    assert stored_bits(bits, STORAGE_CODES["pow2"]) == min(2**power for power in range(8) if 2**power >= bits)


@given(st.integers(1, 9), st.integers(1, 40), st.integers(2, 16), st.sampled_from((8, 64, 320)))
def test_every_line_is_rounded_up_to_words(lines, length, bits, word):
    total = 0
    for _ in range(lines):
        free = 0
        for _ in range(length * bits):
            if not free:
                total, free = total + word, word
            free -= 1
    assert rounded_bits(lines, length, bits, word) == total


def test_the_channel_moves_its_bandwidth_less_page_losses():
    assert bytes_per_cycle(machine()) == pytest.approx(4e9 * 0.75 / 500e6)
    assert transfer_cycles(0, 6.0) == 0
    assert transfer_cycles(13, 6.0) == 3


def test_latency_is_whole_cycles_and_cores_share_the_channel():
    codes = machine_codes(machine(dram__latency_ns=51, cores=4), "overlapped", 1)
    assert codes.latency == 26
    assert codes.bytes_per_cycle == pytest.approx(6 / 4)


@pytest.mark.parametrize(
    ("cores", "batch", "split"),
    [(1, 1, WHOLE), (1, 9, WHOLE), (4, 1, BY_OUTPUTS), (4, 3, BY_OUTPUTS), (4, 4, BY_BATCH), (4, 9, BY_BATCH)],
)
def test_cores_split_outputs_until_the_batch_is_as_large_as_their_number(cores, batch, split):
    assert machine_codes(machine(cores=cores), "overlapped", batch).split == split


def test_a_tile_fills_half_of_a_buffer_whose_halves_alternate():
    codes = machine_codes(machine(weight_sram__double_buffered=False), "overlapped", 1)
    assert (codes.weight.room, codes.weight.double) == (1 << 16, 0)
    assert (codes.sums.room, codes.sums.double) == (1 << 14, 1)
