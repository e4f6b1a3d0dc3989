"""Oracles that are obviously right: matrix products as triple loops over Python integers.

Nothing here is shared with the package but the record `Accumulation`, which is what both sides are told.
"""

from accelsim.arith import Accumulation

Matrix = list[list[int]]


def brought_into_range(value: int, bits: int, rule: str) -> tuple[int, int]:
    """What a register holds after an addition, and whether (1) or not (0) the exact sum was out of range."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    if low <= value <= high:
        return value, 0
    if rule == "saturate":
        return (low if value < low else high), 1
    while value < low:
        value += 2**bits
    while value > high:
        value -= 2**bits
    return value, 1


def gemm(a: Matrix, w: Matrix, bias: list[int], rules: Accumulation) -> tuple[Matrix, Matrix, Matrix]:
    """Outputs, hop overflows and accumulator overflows, each [m][n], by definition."""
    outputs, hops, accumulators = [], [], []
    for row in a:
        results = [_dot(row, [w_k[n] for w_k in w], bias[n], rules) for n in range(len(bias))]
        outputs.append([r[0] for r in results])
        hops.append([r[1] for r in results])
        accumulators.append([r[2] for r in results])
    return outputs, hops, accumulators


def _dot(x: list[int], y: list[int], bias: int, rules: Accumulation) -> tuple[int, int, int]:
    hop_events = 0
    total, acc_events = brought_into_range(bias, rules.acc_bits, rules.acc_overflow)
    fold_k = rules.products_per_hop if rules.fold_k is None else rules.fold_k
    for fold in range(0, len(x), fold_k):
        moving = 0
        for k in range(fold, min(fold + fold_k, len(x)), rules.products_per_hop):
            moving += sum(x[i] * y[i] for i in range(k, min(k + rules.products_per_hop, len(x))))
            if rules.fold_k is not None:
                moving, event = brought_into_range(moving, rules.psum_bits, rules.psum_overflow)
                hop_events += event
        total, event = brought_into_range(total + moving, rules.acc_bits, rules.acc_overflow)
        acc_events += event
    return total, hop_events, acc_events
