"""The plainest statement of a matrix product on a machine with narrow registers: loops over Python integers."""

from collections.abc import Sequence
from dataclasses import dataclass

from accelsim.arith import Accumulation

Matrix = Sequence[Sequence[int]]


@dataclass
class Sum:
    """A register and the number of additions that left its range."""

    bits: int
    rule: str
    value: int = 0
    events: int = 0

    def add(self, term: int) -> None:
        """Add a term and bring the sum into range."""
        self.value += term
        low, high = -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1
        if low <= self.value <= high:
            return
        self.events += 1
        if self.rule == "saturate":
            self.value = low if self.value < low else high
        else:
            self.value = (self.value - low) % 2**self.bits + low


def dot(x: Sequence[int], y: Sequence[int], bias: int, rules: Accumulation) -> tuple[int, int]:
    """Return one output and its overflow events, products added in the machine's order."""
    total = Sum(rules.acc_bits, rules.acc_overflow)
    total.add(bias)
    hop = rules.products_per_hop
    for fold in range(0, len(x), rules.fold_k or hop):
        end = min(fold + (rules.fold_k or hop), len(x))
        moving = Sum(64 if rules.fold_k is None else rules.psum_bits, rules.psum_overflow)
        for k in range(fold, end, hop):
            moving.add(sum(x[i] * y[i] for i in range(k, min(k + hop, end))))
        total.events += moving.events
        total.add(moving.value)
    return total.value, total.events


def gemm(a: Matrix, w: Matrix, bias: Sequence[int], rules: Accumulation) -> tuple[list[list[int]], list[list[int]]]:
    """Return outputs ``[m][n]`` and overflow events ``[m][n]`` of ``a[m][k] @ w[k][n] + bias[n]``."""
    columns = list(zip(*w, strict=True))
    results = [[dot(row, columns[n], bias[n], rules) for n in range(len(bias))] for row in a]
    return [[r[0] for r in row] for row in results], [[r[1] for r in row] for row in results]
