"""What a schedule does to PEs and memories, counted per layer in closed form.

Buffers are read and written in whole words. The loader lays operands out in the order in which the array takes them, so
a fold reads ``ceil(elements * stored bits / word)`` words of each operand, and what passes through DRAM is written and
read once more in the buffer. Sums are written in the accumulator buffer once per fold, and read by every fold but the
first of an output (which takes the bias from the weight buffer), by the requantizer, and once more where they are
spilled. The requantizer writes the activation buffer. Vector ops read every input and write every output once.

Registers of PEs are those of `accelsim.dataflow.Counts`: clock edges at which a register takes an operand or sum of the
layer.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accelsim.codes import BY_OUTPUTS, IS, OS, WS, MachineCodes, ceil_div
from accelsim.layers import VECTOR
from accelsim.timing import Mapping, lay

COUNT_DTYPE = np.dtype(
    [
        (name, np.int64)
        for name in (
            "macs", "operations", "act_read", "act_write", "weight_read", "weight_write", "sums_read", "sums_write",
            "requantized", "copies", "halved", "weight_register", "act_register", "sum_register",
            # bytes over DRAM by kind; bits to other cores
            "weights", "ifmap", "ofmap", "psum_out", "psum_in", "hop_bits",
        )
    ]
)  # fmt: skip
"""Counts of one layer on one core."""


def count(
    layers: NDArray[Any],
    tensors: NDArray[Any],
    reads: NDArray[np.int64],
    plan: NDArray[Any],
    codes: MachineCodes,
    sizes: NDArray[np.int64],
) -> NDArray[Any]:
    """Return the counts of a plan, dtype `COUNT_DTYPE`; `sizes` are the tensors' bytes."""
    counts = np.zeros(len(plan), dtype=COUNT_DTYPE)
    _count(layers, reads, plan, codes, sizes, counts)
    return counts


@njit(cache=True)
def _count(
    layers: Any, reads: NDArray[np.int64], plan: Any, codes: MachineCodes, sizes: NDArray[np.int64], counts: Any
) -> None:
    for place in range(layers.size):
        layer, row, out = layers[place], plan[place], counts[place]
        _count_traffic(layer, row, codes, out)
        out.requantized, out.copies, out.halved = row.requantized, row.copies, row.halved
        out.hop_bits = row.broadcast_bits
        if layer.kind != VECTOR:
            size = (row.m, row.k, row.n)
            mapping = lay(codes.array, size, row.groups, row.products, row.stream_tile, row.pack)
            out.macs = row.m * row.k * row.n * row.groups
            out.operations = mapping.operations * row.groups
            last_pack = row.groups - (mapping.group_folds - 1) * row.pack
            _count_buffers(row, codes, mapping, (row.pack, mapping.group_folds - 1), out)
            _count_buffers(row, codes, mapping, (last_pack, 1), out)
            _count_biases(row, codes, mapping, out)
            _count_registers(row, codes, mapping, out)
            if row.second_kept and row.second_bytes > 0:
                # The second operand moves from the activation to the weight buffer.
                out.act_read += ceil_div(row.second_bytes * 8, codes.act.word)
                out.weight_write += ceil_div(row.second_bytes * 8, codes.weight.word)
        else:
            for item in range(layer.reads_from, layer.reads_to):
                read = sizes[reads[item]]
                if codes.split == BY_OUTPUTS:
                    read = ceil_div(read, codes.cores)
                out.act_read += ceil_div(read * 8, codes.act.word)
            out.weight_read += ceil_div(row.param_bytes * 8, codes.weight.word)
        out.act_write += ceil_div(row.output_bytes * 8, codes.act.word)
        copied = ceil_div(row.copy_bytes * 8, codes.act.word)
        out.act_read += copied
        out.act_write += copied


@njit(cache=True)
def _count_traffic(layer: Any, row: Any, codes: MachineCodes, out: Any) -> None:
    """Count DRAM traffic and its passage through the buffers."""
    out.weights = row.weight_bytes * row.again_w + row.fetch_weights
    out.ifmap = row.fetch_first + row.vector_bytes
    second = 0
    if layer.kind != VECTOR:
        if not row.act_kept:
            whole = row.pass_bytes == ceil_div(row.act_bytes, row.units)
            out.ifmap += row.again_a * (row.act_bytes if whole else row.pass_bytes * row.units)
        if not row.second_kept:
            second = row.second_bytes * row.again_w
    out.ofmap = row.output_bytes if row.store_output else 0
    if row.copy_bytes > 0 and not row.copies_kept:
        out.ofmap += row.copy_bytes
    out.act_write += ceil_div(out.ifmap * 8, codes.act.word)
    out.act_read += ceil_div(out.ofmap * 8, codes.act.word)
    out.weight_write += ceil_div((out.weights + second) * 8, codes.weight.word)
    out.ifmap += second
    if row.spilled:
        sums = row.m * row.n * row.groups
        out.psum_out = (row.trips_k - 1) * ceil_div(sums * codes.sum_bits, 8)
        out.psum_in = out.psum_out
        words = ceil_div(out.psum_out * 8, codes.sums.word)
        out.sums_read += words
        out.sums_write += words


@njit(cache=True)
def _words(full: int, count: int, last: int, factor: int, word: int) -> int:
    """Return the words of `count` folds of `full * factor` bits, the last of which has `last * factor`."""
    return (count - 1) * ceil_div(full * factor, word) + ceil_div(last * factor, word)


@njit(cache=True)
def _count_buffers(row: Any, codes: MachineCodes, mapping: Mapping, packs: tuple[int, int], out: Any) -> None:
    """Count the words of operands and sums of all folds with a number of groups; `packs` is groups and how often."""
    pack, groups = packs
    _count_operands(row, codes, mapping, pack, groups, out)
    _count_sums(row, codes, mapping, pack, groups, out)


@njit(cache=True)
def _count_operands(row: Any, codes: MachineCodes, mapping: Mapping, pack: int, groups: int, out: Any) -> None:
    """Count buffer reads of both operands, fold by fold."""
    array, lanes = codes.array, row.products
    last_rows = mapping.row_size - (mapping.row_folds - 1) * array.rows
    last_cols = mapping.column_size - (mapping.column_folds - 1) * array.cols
    if array.dataflow == OS:
        acts = _words(array.rows, mapping.row_folds, last_rows, row.k * pack * row.act_bits, codes.act.word)
        weights = _words(array.cols, mapping.column_folds, last_cols, row.k * pack * row.weight_bits, codes.weight.word)
        out.act_read += groups * mapping.column_folds * acts
        out.weight_read += groups * mapping.row_folds * weights
        return
    full_k = array.rows * lanes
    last_k = row.k - (mapping.row_folds - 1) * full_k
    if array.dataflow == WS:
        moving, moving_word, still, still_word = row.act_bits, codes.act.word, row.weight_bits, codes.weight.word
    else:
        moving, moving_word, still, still_word = row.weight_bits, codes.weight.word, row.act_bits, codes.act.word
    streamed = (mapping.chunks - 1) * _words(
        full_k, mapping.row_folds, last_k, mapping.chunk * pack * moving, moving_word
    ) + _words(full_k, mapping.row_folds, last_k, mapping.last_chunk * pack * moving, moving_word)
    held = (mapping.row_folds - 1) * _words(
        array.cols, mapping.column_folds, last_cols, full_k * pack * still, still_word
    ) + _words(array.cols, mapping.column_folds, last_cols, last_k * pack * still, still_word)
    streamed *= groups * mapping.column_folds
    held *= groups * mapping.chunks
    if array.dataflow == WS:
        out.act_read += streamed
        out.weight_read += held
    else:
        out.weight_read += streamed
        out.act_read += held


@njit(cache=True)
def _count_sums(row: Any, codes: MachineCodes, mapping: Mapping, pack: int, groups: int, out: Any) -> None:
    """Count the accumulator buffer's words: written by every fold, read by every other and by the requantizer."""
    array, word, bits = codes.array, codes.sums.word, codes.sum_bits * pack
    last_cols = mapping.column_size - (mapping.column_folds - 1) * array.cols
    if array.dataflow == OS:
        last_rows = mapping.row_size - (mapping.row_folds - 1) * array.rows
        words = (mapping.row_folds - 1) * _words(array.cols, mapping.column_folds, last_cols, array.rows * bits, word)
        words += _words(array.cols, mapping.column_folds, last_cols, last_rows * bits, word)
        passes = 1
    else:
        words = (mapping.chunks - 1) * _words(array.cols, mapping.column_folds, last_cols, mapping.chunk * bits, word)
        words += _words(array.cols, mapping.column_folds, last_cols, mapping.last_chunk * bits, word)
        passes = mapping.row_folds
    out.sums_write += groups * words * passes
    out.sums_read += groups * words * passes


@njit(cache=True)
def _count_biases(row: Any, codes: MachineCodes, mapping: Mapping, out: Any) -> None:
    """Count the loads of all biases: one for every block of m that sums are kept of."""
    if codes.array.dataflow == OS:
        loads = mapping.row_folds
    else:
        loads = mapping.column_folds if codes.array.dataflow == IS else mapping.chunks
    out.weight_read += ceil_div(row.biases * codes.sum_bits, codes.weight.word) * loads


@njit(cache=True)
def _count_registers(row: Any, codes: MachineCodes, mapping: Mapping, out: Any) -> None:
    """Count register writes in PEs."""
    array, lanes, groups = codes.array, row.products, row.groups
    if array.dataflow == OS:
        out.act_register = groups * row.m * row.k * array.cols * mapping.column_folds
        out.weight_register = groups * row.n * row.k * array.rows * mapping.row_folds
        last_rows = row.m - (mapping.row_folds - 1) * array.rows
        shifts = (mapping.row_folds - 1) * array.rows * (array.rows - 1) // 2
        shifts += last_rows * (array.rows - 1) - last_rows * (last_rows - 1) // 2
        out.sum_register = groups * (mapping.operations + row.n * shifts)
        return
    full_k = array.rows * lanes
    last = row.k - (mapping.row_folds - 1) * full_k
    whole, rest = last // lanes, last % lanes
    hops = (mapping.row_folds - 1) * lanes * array.rows * (array.rows + 1) // 2
    hops += lanes * whole * (whole + 1) // 2 + rest * (whole + 1)
    still = groups * hops * mapping.column_size * mapping.chunks
    moving = groups * mapping.length * row.k * array.cols * mapping.column_folds
    out.sum_register = groups * mapping.length * array.rows * mapping.column_size * mapping.row_folds
    if array.dataflow == WS:
        out.weight_register, out.act_register = still, moving
    else:
        out.weight_register, out.act_register = moving, still
