"""Oracles that are obviously right: triple loops over Python integers, and PEs as Python objects stepped one by one.

Nothing here is shared with the package but the record `Accumulation`, which is what both sides are told.
"""

from dataclasses import dataclass, field

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
            group = range(k, min(k + rules.products_per_hop, len(x)))
            moving += sum(x[i] * y[i] for i in group)
            if rules.fold_k is not None:
                moving, event = brought_into_range(moving, rules.psum_bits, rules.psum_overflow)
                hop_events += event
        total, event = brought_into_range(total + moving, rules.acc_bits, rules.acc_overflow)
        acc_events += event
    return total, hop_events, acc_events


def ones(value: int, bits: int) -> int:
    """Ones of a value in two's complement of a width."""
    return (value % 2**bits).bit_count()


@dataclass
class Register:
    """A register of `bits` that counts its toggles."""

    bits: int
    value: int = 0
    coming: int | None = None
    toggles: int = 0

    def clock(self) -> None:
        """Take what was set for this edge, if anything."""
        if self.coming is not None:
            self.toggles += ones(self.value, self.bits) ^ 0 if False else ones(self.value ^ self.coming, self.bits)
            self.value, self.coming = self.coming, None


@dataclass
class Stepped:
    """What stepping saw."""

    cycles: int
    outputs: Matrix
    still_toggles: int
    moving_toggles: int
    sum_toggles: int
    extra: dict[str, int] = field(default_factory=dict)


class StationaryPe:
    """One PE of a weight- or input-stationary array, single-cycle or pipelined MAC."""

    def __init__(self, lanes: int, banks: int, depth: int, bits: tuple[int, int, int]) -> None:
        moving_bits, still_bits, sum_bits = bits
        self.moving = [Register(moving_bits) for _ in range(lanes)]
        self.still = [[Register(still_bits) for _ in range(lanes)] for _ in range(banks)]
        self.sum = Register(sum_bits)
        self.pipe = [0] * (depth - 1)
        self.bank = 0

    def registers(self) -> list[Register]:
        return [*self.moving, *(r for bank in self.still for r in bank), self.sum]


@dataclass
class Fold:
    """One fold: x[t][row][lane] streams, y[row][lane][column] stays, both with zeros where the fold is not full."""

    x: list[Matrix]
    y: list[Matrix]
    first: int
    column: int


def cut(stream: Matrix, still: Matrix, rows: int, cols: int, lanes: int, tile: int) -> list[Fold]:
    """Folds of stream[t][k] @ still[k][c], in the order that the arrays keep."""
    length, size, width = len(stream), len(still), len(still[0])

    def at(matrix: Matrix, i: int, j: int) -> int:
        return matrix[i][j] if i < len(matrix) and j < len(matrix[0]) else 0

    result = []
    for c0 in range(0, width, cols):
        for t0 in range(0, length, tile):
            for k0 in range(0, size, rows * lanes):
                x = [
                    [[at(stream, t, k0 + r * lanes + i) for i in range(lanes)] for r in range(rows)]
                    for t in range(t0, min(t0 + tile, length))
                ]
                y = [
                    [[at(still, k0 + r * lanes + i, c0 + c) for c in range(cols)] for i in range(lanes)]
                    for r in range(rows)
                ]
                result.append(Fold(x, y, t0, c0))
    return result
