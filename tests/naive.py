"""Oracles that are obviously right: triple loops over Python integers, and arrays of PEs stepped one by one.

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
            moving += sum(x[i] * y[i] for i in range(k, min(k + rules.products_per_hop, len(x))))
            if rules.fold_k is not None:
                moving, event = brought_into_range(moving, rules.psum_bits, rules.psum_overflow)
                hop_events += event
        total, event = brought_into_range(total + moving, rules.acc_bits, rules.acc_overflow)
        acc_events += event
    return total, hop_events, acc_events


@dataclass
class Register:
    """A register that takes `coming` at a clock edge, if anything is coming, and counts its toggles."""

    bits: int
    value: int = 0
    coming: int | None = None
    toggles: int = 0

    def clock(self) -> None:
        if self.coming is not None:
            self.toggles += ((self.value ^ self.coming) % 2**self.bits).bit_count()
            self.value, self.coming = self.coming, None


@dataclass
class Pe:
    """The registers of one PE: operands by lane, a stationary operand or sum by bank, and products in the MAC."""

    left: list[Register] = field(default_factory=list)
    top: list[Register] = field(default_factory=list)
    still: list[list[Register]] = field(default_factory=list)
    sums: list[Register] = field(default_factory=list)
    pipe: list[int] = field(default_factory=list)
    bank: int = 0

    def delayed(self, product: int) -> int:
        """The product that reaches the adder now that `product` leaves the multiplier."""
        self.pipe.append(product)
        return self.pipe.pop(0)

    def clock(self) -> None:
        for register in [*self.left, *self.top, *sum(self.still, []), *self.sums]:
            register.clock()


@dataclass(frozen=True)
class Machine:
    """An array: size, lanes per PE, MAC depth, banks, and the widths of left, top or stationary, and sum registers."""

    rows: int
    cols: int
    lanes: int
    depth: int
    banks: int
    bits: tuple[int, int, int]


@dataclass
class Stepped:
    """What stepping saw."""

    cycles: int
    outputs: dict[tuple[int, int], int]
    left_toggles: int
    other_toggles: int
    sum_toggles: int


def _toggles(registers: list[Register]) -> int:
    return sum(register.toggles for register in registers)


def _at(matrix: Matrix, i: int, j: int) -> int:
    return matrix[i][j] if 0 <= i < len(matrix) and 0 <= j < len(matrix[0]) else 0


def step_stationary(stream: Matrix, still: Matrix, tile: int, machine: Machine, rules: Accumulation) -> Stepped:
    """Step an array with still[k][c] in its PEs and stream[t][k] passing; outputs are sums from zero, by (t, c)."""
    rows, cols, lanes, depth = machine.rows, machine.cols, machine.lanes, machine.depth
    left, kept, total = machine.bits
    grid = [
        [
            Pe(
                left=[Register(left) for _ in range(lanes)],
                still=[[Register(kept) for _ in range(lanes)] for _ in range(machine.banks)],
                sums=[Register(total)],
                pipe=[0] * (depth - 1),
            )
            for _ in range(cols)
        ]
        for _ in range(rows)
    ]
    folds = [
        (t0, min(tile, len(stream) - t0), k0, c0)
        for c0 in range(0, len(still[0]), cols)
        for t0 in range(0, len(stream), tile)
        for k0 in range(0, len(still), rows * lanes)
    ]
    loaded, streamed, collected = [], [], [0] * len(folds)
    outputs: dict[tuple[int, int], int] = {}
    cycle = 0
    while sum(collected) < sum(length * cols for _, length, _, _ in folds):
        f = len(streamed)
        if f < len(loaded) and cycle >= loaded[f] + rows and (f == 0 or cycle >= streamed[-1] + folds[f - 1][1]):
            streamed.append(cycle)
        f = len(loaded)
        ready = f == len(streamed) if machine.banks == 2 else all(collected[i] == folds[i][1] * cols for i in range(f))
        if f < len(folds) and ready:
            loaded.append(cycle)
        for r in range(rows):
            for c in range(cols):
                pe = grid[r][c]
                for f, start in enumerate(streamed):
                    pe.bank = f % machine.banks if cycle == start + r + c else pe.bank
                product = 0
                for lane in range(lanes):
                    x = grid[r][c - 1].left[lane].value if c else 0
                    for (t0, length, k0, _), start in zip(folds, streamed, strict=False):
                        if c == 0 and 0 <= cycle - start - r < length:
                            x = _at(stream, t0 + cycle - start - r, k0 + r * lanes + lane)
                    pe.left[lane].coming = x
                    product += x * pe.still[pe.bank][lane].value
                above = grid[r - 1][c].sums[0].value if r else 0
                exact = above + pe.delayed(product)
                pe.sums[0].coming = brought_into_range(exact, rules.psum_bits, rules.psum_overflow)[0]
                for f, start in enumerate(loaded):
                    step = cycle - start - c
                    if 0 <= step < rows and r <= step:
                        for lane in range(lanes):
                            k = folds[f][2] + (rows - 1 - step) * lanes + lane
                            bank = f % machine.banks
                            taken = grid[r - 1][c].still[bank][lane].value if r else _at(still, k, folds[f][3] + c)
                            pe.still[bank][lane].coming = taken
        for pe in (pe for row in grid for pe in row):
            pe.clock()
        for f, start in enumerate(streamed):
            for c in range(cols):
                t = cycle - start - (rows - 1) - c - (depth - 1)
                if 0 <= t < folds[f][1]:
                    place = folds[f][0] + t, folds[f][3] + c
                    exact = outputs.get(place, 0) + grid[rows - 1][c].sums[0].value
                    outputs[place] = brought_into_range(exact, rules.acc_bits, rules.acc_overflow)[0]
                    collected[f] += 1
        cycle += 1
    pes = [pe for row in grid for pe in row]
    return Stepped(
        cycle,
        outputs,
        sum(_toggles(pe.left) for pe in pes),
        sum(_toggles(bank) for pe in pes for bank in pe.still),
        sum(_toggles(pe.sums) for pe in pes),
    )


def step_output_stationary(a: Matrix, w: Matrix, bias: list[int], machine: Machine, rules: Accumulation) -> Stepped:
    """Step an array that keeps sums: a[m][k] enters at the left, w[k][n] at the top; outputs by (m, n)."""
    rows, cols, lanes, depth, banks = machine.rows, machine.cols, machine.lanes, machine.depth, machine.banks
    left, top, total = machine.bits
    grid = [
        [
            Pe(
                left=[Register(left) for _ in range(lanes)],
                top=[Register(top) for _ in range(lanes)],
                sums=[Register(total) for _ in range(banks)],
                pipe=[0] * (depth - 1),
            )
            for _ in range(cols)
        ]
        for _ in range(rows)
    ]
    folds = [(m0, n0) for n0 in range(0, len(bias), cols) for m0 in range(0, len(a), rows)]
    length, lag = -(-len(w) // lanes), depth - 1
    started: list[int] = []
    outputs: dict[tuple[int, int], int] = {}
    left_over, cycle = rows * cols * len(folds), 0
    while left_over:
        f = len(started)
        waited = f == 0 or (cycle >= started[-1] + length and cycle >= started[-1] + rows)
        if f < len(folds) and (waited if banks == 2 else left_over == rows * cols * (len(folds) - f)):
            started.append(cycle)
        for r in range(rows):
            for c in range(cols):
                pe = grid[r][c]
                product = 0
                for lane in range(lanes):
                    x = grid[r][c - 1].left[lane].value if c else 0
                    y = grid[r - 1][c].top[lane].value if r else 0
                    for (m0, n0), start in zip(folds, started, strict=False):
                        if c == 0 and 0 <= cycle - start - r < length:
                            x = _at(a, m0 + r, (cycle - start - r) * lanes + lane)
                        if r == 0 and 0 <= cycle - start - c < length:
                            y = _at(w, (cycle - start - c) * lanes + lane, n0 + c)
                    pe.left[lane].coming, pe.top[lane].coming = x, y
                    product += x * y
                arrived = pe.delayed(product)
                for f, start in enumerate(started):
                    if 0 <= cycle - start - r - c - lag < length:
                        register = pe.sums[f % banks]
                        base = register.value
                        if cycle == start + r + c + lag:
                            loaded = bias[folds[f][1] + c] if folds[f][1] + c < len(bias) else 0
                            base = brought_into_range(loaded, rules.acc_bits, rules.acc_overflow)[0]
                        register.coming = brought_into_range(base + arrived, rules.acc_bits, rules.acc_overflow)[0]
        for f, start in enumerate(started):
            for c in range(cols):
                step = cycle - start - length - (rows - 1) - c - lag
                if 0 <= step < rows:
                    outputs[folds[f][0] + rows - 1 - step, folds[f][1] + c] = grid[rows - 1][c].sums[f % banks].value
                    left_over -= 1
                    for r in range(step + 1, rows):
                        grid[r][c].sums[f % banks].coming = grid[r - 1][c].sums[f % banks].value
        for pe in (pe for row in grid for pe in row):
            pe.clock()
        cycle += 1
    pes = [pe for row in grid for pe in row]
    return Stepped(
        cycle,
        outputs,
        sum(_toggles(pe.left) for pe in pes),
        sum(_toggles(pe.top) for pe in pes),
        sum(_toggles(pe.sums) for pe in pes),
    )
