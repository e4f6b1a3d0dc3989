"""Arrays of PEs as Python objects, stepped one by one: the oracle of cycles and toggles for tiny arrays.

Each PE sets what its registers are about to take from what its neighbours hold; then all registers are clocked.
"""

from dataclasses import dataclass, field

from naive import Matrix, brought_into_range

from accelsim.arith import Accumulation
from accelsim.dataflow import Job


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


@dataclass(frozen=True)
class Held:
    """What one PE's registers hold in a cycle: operands by lane, stationary ones by bank and lane, sums by bank."""

    left: list[int]
    top: list[int]
    still: list[list[int]]
    sums: list[int]


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

    def held(self) -> "Held":
        """What the registers hold."""
        banks = [[register.value for register in bank] for bank in self.still]
        values = ([register.value for register in registers] for registers in (self.left, self.top, self.sums))
        left, top, sums = values
        return Held(left, top, banks, sums)

    def clock(self) -> None:
        still = [register for bank in self.still for register in bank]
        for register in [*self.left, *self.top, *still, *self.sums]:
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


class Grid:
    """PEs in rows and columns, a clock, and the cycles in which folds began."""

    def __init__(self, machine: Machine, rules: Accumulation, stationary: bool) -> None:
        self.machine, self.rules, self.cycle = machine, rules, 0
        left, other, total = machine.bits
        lanes, banks = range(machine.lanes), range(machine.banks)
        self.pes = {
            (r, c): Pe(
                left=[Register(left) for _ in lanes],
                top=[] if stationary else [Register(other) for _ in lanes],
                still=[[Register(other) for _ in lanes] for _ in banks] if stationary else [],
                sums=[Register(total) for _ in (range(1) if stationary else banks)],
                pipe=[0] * (machine.depth - 1),
            )
            for r in range(machine.rows)
            for c in range(machine.cols)
        }
        self.outputs: dict[tuple[int, int], int] = {}
        self.history: list[dict[tuple[int, int], Held]] = []

    def clock(self) -> None:
        self.history.append({place: pe.held() for place, pe in self.pes.items()})
        for pe in self.pes.values():
            pe.clock()
        self.cycle += 1

    def seen(self) -> Stepped:
        pes = self.pes.values()
        others = [register for pe in pes for registers in [pe.top, *pe.still] for register in registers]
        return Stepped(
            self.cycle,
            self.outputs,
            sum(_toggles(pe.left) for pe in pes),
            _toggles(others),
            sum(_toggles(pe.sums) for pe in pes),
        )


class Stationary(Grid):
    """still[k][c] stays in the PEs, stream[t][k] passes; outputs are sums from zero, by (t, c)."""

    def __init__(self, stream: Matrix, still: Matrix, tile: int, machine: Machine, rules: Accumulation) -> None:
        super().__init__(machine, rules, stationary=True)
        self.stream, self.still = stream, still
        self.folds = [
            (t0, min(tile, len(stream) - t0), k0, c0)
            for c0 in range(0, len(still[0]), machine.cols)
            for t0 in range(0, len(stream), tile)
            for k0 in range(0, len(still), machine.rows * machine.lanes)
        ]
        self.loaded: list[int] = []
        self.streamed: list[int] = []
        self.missing = [length * machine.cols for _, length, _, _ in self.folds]

    def run(self) -> Stepped:
        while any(self.missing):
            self._control()
            for place in self.pes:
                self._pass(*place)
                self._load(*place)
            self.clock()
            self._collect()
        return self.seen()

    def _control(self) -> None:
        f = len(self.streamed)
        edge_free = f == 0 or self.cycle >= self.streamed[-1] + self.folds[f - 1][1]
        if f < len(self.loaded) and self.cycle >= self.loaded[f] + self.machine.rows and edge_free:
            self.streamed.append(self.cycle)
        f = len(self.loaded)
        free = f == len(self.streamed) if self.machine.banks == 2 else not any(self.missing[:f])
        if f < len(self.folds) and free:
            self.loaded.append(self.cycle)

    def _arriving(self, r: int, c: int, lane: int) -> int:
        if c:
            return self.pes[r, c - 1].left[lane].value
        for (t0, length, k0, _), start in zip(self.folds, self.streamed, strict=False):
            if 0 <= self.cycle - start - r < length:
                return _at(self.stream, t0 + self.cycle - start - r, k0 + r * self.machine.lanes + lane)
        return 0

    def _pass(self, r: int, c: int) -> None:
        pe = self.pes[r, c]
        for f, start in enumerate(self.streamed):
            pe.bank = f % self.machine.banks if self.cycle == start + r + c else pe.bank
        arriving = [self._arriving(r, c, lane) for lane in range(self.machine.lanes)]
        for register, x in zip(pe.left, arriving, strict=True):
            register.coming = x
        product = sum(x * kept.value for x, kept in zip(arriving, pe.still[pe.bank], strict=True))
        above = self.pes[r - 1, c].sums[0].value if r else 0
        exact = above + pe.delayed(product)
        pe.sums[0].coming = brought_into_range(exact, self.rules.psum_bits, self.rules.psum_overflow)[0]

    def _load(self, r: int, c: int) -> None:
        for f, start in enumerate(self.loaded):
            step, bank = self.cycle - start - c, f % self.machine.banks
            if 0 <= step < self.machine.rows and r <= step:
                for lane, register in enumerate(self.pes[r, c].still[bank]):
                    k = self.folds[f][2] + (self.machine.rows - 1 - step) * self.machine.lanes + lane
                    above = (
                        self.pes[r - 1, c].still[bank][lane].value if r else _at(self.still, k, self.folds[f][3] + c)
                    )
                    register.coming = above

    def _collect(self) -> None:
        bottom = self.machine.rows - 1
        for f, start in enumerate(self.streamed):
            for c in range(self.machine.cols):
                t = self.cycle - 1 - start - bottom - c - (self.machine.depth - 1)
                if 0 <= t < self.folds[f][1]:
                    place = self.folds[f][0] + t, self.folds[f][3] + c
                    exact = self.outputs.get(place, 0) + self.pes[bottom, c].sums[0].value
                    self.outputs[place] = brought_into_range(exact, self.rules.acc_bits, self.rules.acc_overflow)[0]
                    self.missing[f] -= 1


class OutputStationary(Grid):
    """Sums stay; a[m][k] enters at the left, w[k][n] at the top; outputs by (m, n)."""

    def __init__(self, a: Matrix, w: Matrix, bias: list[int], machine: Machine, rules: Accumulation) -> None:
        super().__init__(machine, rules, stationary=False)
        self.a, self.w, self.bias = a, w, bias
        self.folds = [(m0, n0) for n0 in range(0, len(bias), machine.cols) for m0 in range(0, len(a), machine.rows)]
        self.length = -(-len(w) // machine.lanes)
        self.started: list[int] = []
        self.missing = machine.rows * machine.cols * len(self.folds)

    def run(self) -> Stepped:
        while self.missing:
            self._control()
            for place in self.pes:
                self._pass(*place)
            self._drain()
            self.clock()
        return self.seen()

    def _control(self) -> None:
        f, size = len(self.started), self.machine.rows * self.machine.cols
        busy = f and self.cycle < self.started[-1] + max(self.length, self.machine.rows)
        free = not busy if self.machine.banks == 2 else self.missing == size * (len(self.folds) - f)
        if f < len(self.folds) and free:
            self.started.append(self.cycle)

    def _arriving(self, r: int, c: int, lane: int) -> tuple[int, int]:
        x = self.pes[r, c - 1].left[lane].value if c else 0
        y = self.pes[r - 1, c].top[lane].value if r else 0
        for (m0, n0), start in zip(self.folds, self.started, strict=False):
            if c == 0 and 0 <= self.cycle - start - r < self.length:
                x = _at(self.a, m0 + r, (self.cycle - start - r) * self.machine.lanes + lane)
            if r == 0 and 0 <= self.cycle - start - c < self.length:
                y = _at(self.w, (self.cycle - start - c) * self.machine.lanes + lane, n0 + c)
        return x, y

    def _pass(self, r: int, c: int) -> None:
        pe = self.pes[r, c]
        arriving = [self._arriving(r, c, lane) for lane in range(self.machine.lanes)]
        for left, top, (x, y) in zip(pe.left, pe.top, arriving, strict=True):
            left.coming, top.coming = x, y
        arrived = pe.delayed(sum(x * y for x, y in arriving))
        for f, start in enumerate(self.started):
            age = self.cycle - start - r - c - (self.machine.depth - 1)
            if 0 <= age < self.length:
                register = pe.sums[f % self.machine.banks]
                base = self._loaded_bias(self.folds[f][1] + c) if age == 0 else register.value
                register.coming = self._in_range(base + arrived)

    def _loaded_bias(self, n: int) -> int:
        return self._in_range(self.bias[n] if n < len(self.bias) else 0)

    def _in_range(self, exact: int) -> int:
        return brought_into_range(exact, self.rules.acc_bits, self.rules.acc_overflow)[0]

    def _drain(self) -> None:
        bottom = self.machine.rows - 1
        for f, start in enumerate(self.started):
            bank = f % self.machine.banks
            for c in range(self.machine.cols):
                step = self.cycle - start - self.length - bottom - c - (self.machine.depth - 1)
                if 0 <= step <= bottom:
                    leaving = self.pes[bottom, c].sums[bank].value
                    self.outputs[self.folds[f][0] + bottom - step, self.folds[f][1] + c] = leaving
                    self.missing -= 1
                    for r in range(step + 1, bottom + 1):
                        self.pes[r, c].sums[bank].coming = self.pes[r - 1, c].sums[bank].value


def build(name: str, job: Job) -> "Stationary | OutputStationary":
    """Return the array of a dataflow; under WS and IS without the bias."""
    a, w = job.operands.a.tolist(), job.operands.w.tolist()
    array, rules, operands = job.array, job.accumulation, job.operands
    last = rules.acc_bits if name == "os" else rules.psum_bits
    left, top = (operands.weight_bits, operands.act_bits) if name == "is" else (operands.act_bits, operands.weight_bits)
    lanes, depth = array.products_per_pe, array.pipeline_depth
    machine = Machine(array.rows, array.cols, lanes, depth, job.banks, (left, top, last))
    if name == "os":
        bias = [0] * len(w[0]) if operands.bias is None else operands.bias.tolist()
        return OutputStationary(a, w, bias, machine, rules)
    if name == "is":
        a, w = [list(x) for x in zip(*w, strict=True)], [list(x) for x in zip(*a, strict=True)]
    return Stationary(a, w, job.stream_tile or len(a), machine, rules)


def history(name: str, job: Job) -> list[dict[tuple[int, int], Held]]:
    """What every PE holds in every cycle of a run, just before the clock edge that ends it."""
    array = build(name, job)
    array.run()
    return array.history
