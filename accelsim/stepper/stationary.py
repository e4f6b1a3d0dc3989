"""Trace of the weight- and input-stationary arrays: delay lines, load chains, hopping sums, accumulator memory."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from accelsim.arith import apply_overflow
from accelsim.dataflow import Dataflow, Job
from accelsim.stepper.base import Bools, Cycle, Ints, Lines, hop_down, hop_right, padded


@dataclass(frozen=True, eq=False)
class _Fold:
    """One fold: ``stream[t, R, L]``, ``still[R, C, L]``, ``bias[t, C]``, ``output[t, C]``; does k begin, end?"""

    stream: Ints
    still: Ints
    bias: Ints
    output: Ints
    first: bool
    final: bool


def _folds(dataflow: Dataflow, job: Job) -> list[_Fold]:
    array, operands, gemm = job.array, job.operands, job.operands.gemm
    (t, stream), (c, still) = ("m", operands.a), ("n", operands.w)
    if dataflow.stationary == "input":
        (t, stream), (c, still) = ("n", operands.w.T), ("m", operands.a.T)
    fold_k = array.rows * array.products_per_pe
    stream, still = padded(stream, 1, fold_k), padded(still, fold_k, array.cols)
    bias = np.zeros(gemm.n + array.cols, dtype=np.int64)
    bias[: gemm.n] = 0 if operands.bias is None else operands.bias
    found = []
    for fold in dataflow.folds(gemm, array, job.stream_tile):
        t0, t1, c0, c1, k0 = (int(fold[name]) for name in (f"{t}0", f"{t}1", f"{c}0", f"{c}1", "k0"))
        elements, columns = np.mgrid[t0:t1, c0 : c0 + array.cols]
        m, n = (elements, columns) if t == "m" else (columns, elements)
        block = still[k0 : k0 + fold_k, c0 : c0 + array.cols]
        found.append(
            _Fold(
                stream=stream[t0:t1, k0 : k0 + fold_k].reshape(t1 - t0, array.rows, array.products_per_pe),
                still=block.reshape(array.rows, array.products_per_pe, array.cols).transpose(0, 2, 1),
                bias=bias[n],
                output=np.where(columns < c1, m * gemm.n + n, -1),
                first=k0 == 0,
                final=int(fold["k1"]) == gemm.k,
            )
        )
    return found


class _Control:
    """Flip-flops that say what is loaded and what streams.

    `load` is the row of operands that enters the load chains in step `step`, `element` the one that enters the rows;
    both ``None`` in cycles where there is none.
    """

    def __init__(self, folds: list[_Fold], rows: int, banks: int) -> None:
        self._folds, self._rows, self._banks = folds, rows, banks
        self._loads, self._pending, self._steps = 0, False, rows
        self._fold, self._streaming, self._elements = 0, False, 0
        self.load_bank = 0

    def enter(self, collected: int) -> None:
        """Begin a cycle, given how many folds have left the array."""
        begin = self._pending and self._steps == self._rows and not self._streaming
        if begin:
            self._pending, self._streaming, self._elements = False, True, 0
        free = not self._pending if self._banks == 2 else self._loads == collected
        if self._loads < len(self._folds) and free:
            self._pending, self._steps, self.load_bank = True, 0, self._loads % self._banks
            self._loads += 1

    @property
    def select(self) -> int:
        return self._fold % self._banks

    @property
    def element(self) -> tuple[int, Ints] | None:
        """Serial number, counted through all folds, and values ``[R, L]``."""
        if not self._streaming:
            return None
        before = sum(len(fold.stream) for fold in self._folds[: self._fold])
        return before + self._elements, self._folds[self._fold].stream[self._elements]

    @property
    def load(self) -> tuple[int, Ints] | None:
        """Step and values ``[C, L]``."""
        if self._steps == self._rows:
            return None
        return self._steps, self._folds[self._loads - 1].still[self._rows - 1 - self._steps]

    def leave(self) -> None:
        """End a cycle."""
        self._steps = min(self._steps + 1, self._rows)
        if self._streaming:
            self._elements += 1
            if self._elements == len(self._folds[self._fold].stream):
                self._streaming, self._fold = False, self._fold + 1


class _Memory:
    """The accumulator memory: adds what leaves the columns, starting from the bias."""

    def __init__(self, job: Job, folds: list[_Fold]) -> None:
        self._rules, self._columns = job.accumulation, np.arange(job.array.cols)
        self._bias = np.concatenate([fold.bias for fold in folds])
        self._place = np.concatenate([np.arange(len(fold.stream)) for fold in folds])
        self._first = np.concatenate([np.full(len(fold.stream), fold.first) for fold in folds])
        self._final = np.concatenate([np.full(len(fold.stream), fold.final) for fold in folds])
        self._held = np.zeros((int(self._place.max()) + 1, job.array.cols), dtype=np.int64)

    def take(self, sums: Ints, serials: Ints) -> tuple[Ints, Bools, Bools, Bools]:
        """Add one sum per column, where its element's serial number is one: total, final, overflow, bias overflow."""
        bits, rule, valid = self._rules.acc_bits, self._rules.acc_overflow, serials >= 0
        place, first = self._place[serials], self._first[serials] & valid
        bias, bias_overflows = apply_overflow(self._bias[serials, self._columns], bits, rule)
        total, overflows = apply_overflow(np.where(first, bias, self._held[place, self._columns]) + sums, bits, rule)
        self._held[place[valid], self._columns[valid]] = total[valid]
        return np.where(valid, total, 0), valid & self._final[serials], valid & overflows, first & bias_overflows


class Stationary:
    """The registers of the array; iterating steps them. An operand travels with its select bit and serial number."""

    def __init__(self, dataflow: Dataflow, job: Job) -> None:
        """Reset."""
        self._weights_stay, self._job, shape = dataflow.stationary == "weight", job, job.array
        rows, cols, self._lanes = shape.rows, shape.cols, shape.products_per_pe
        folds = _folds(dataflow, job)
        self._lasts = np.cumsum([len(fold.stream) for fold in folds]) - 1
        self._outputs = np.concatenate([*(fold.output for fold in folds), np.full((1, cols), -1)])
        self._control, self._memory = _Control(folds, rows, job.banks), _Memory(job, folds)
        self._nothing = np.zeros((rows, self._lanes + 2), dtype=np.int64)
        self._nothing[:, -1] = -1
        self._row_lines = Lines(self._nothing)
        self._column_lines = Lines(np.zeros((cols, self._lanes), dtype=np.int64))
        self._moving = np.repeat(self._nothing[:, None], cols, axis=1)
        self._still = np.zeros((job.banks, rows, cols, self._lanes), dtype=np.int64)
        self._shifts = np.zeros((rows, cols), dtype=np.int64)
        self._load_banks = np.zeros((1, cols), dtype=np.int64)
        self._sums, self._serials = np.zeros((rows, cols), dtype=np.int64), np.full((rows, cols), -1)
        self._stages = deque([(self._sums, self._serials)] * (shape.pipeline_depth - 1))
        self._collected = 0

    def __iter__(self) -> Iterator[Cycle]:
        """Step until every sum has shown at the bottom."""
        index = 0
        while True:
            self._collected += int(np.isin(self._serials[-1, -1], self._lasts))
            yield self._cycle(index)
            if self._collected == len(self._lasts):
                return
            index += 1

    def _cycle(self, index: int) -> Cycle:
        """Pass one cycle."""
        self._control.enter(self._collected)
        left, top, shift = self._enter()
        control = {"select": left[:, -2], "shift": shift, "load_bank": np.array([self._control.load_bank])}
        moving, still, bottom = self._moving[None, :, :, : self._lanes], self._still, self._serials[-1]
        total, final, total_overflows, bias_overflows = self._memory.take(self._sums[-1], bottom)
        sums, columns = self._sums, np.arange(len(bottom))
        overflows = self._multiply_add(hop_right(left, self._moving))
        self._load(top, control)
        self._control.leave()
        return Cycle(
            index=index,
            left=left[:, : self._lanes],
            top=top,
            control=control,
            activations=moving if self._weights_stay else still,
            weights=still if self._weights_stay else moving,
            sums=sums[None],
            owners=self._outputs[self._serials, columns],
            overflows=overflows,
            bias_overflows=np.zeros_like(overflows),
            bottom=sums[-1],
            bottom_valid=bottom >= 0,
            output=self._outputs[bottom, columns],
            total=total,
            total_final=final,
            total_overflows=total_overflows,
            total_bias_overflows=bias_overflows,
        )

    def _enter(self) -> tuple[Ints, Ints, Ints]:
        """Return operands at the left (with select bit and serial number) and the top, and the shift bits."""
        rows, cols = self._sums.shape
        entering, loading = self._nothing.copy(), np.zeros((cols, self._lanes), dtype=np.int64)
        shift = np.zeros(rows, dtype=np.int64)
        entering[:, -2] = self._control.select
        if self._control.element is not None:
            entering[:, -1], entering[:, : self._lanes] = self._control.element
        if self._control.load is not None:
            step, loading = self._control.load
            shift[: step + 1] = 1
        return self._row_lines.put(entering), self._column_lines.put(loading), shift

    def _multiply_add(self, arriving: Ints) -> Bools:
        """Clock the moving and the sum registers; return which additions overflowed."""
        rules = self._job.accumulation
        chosen = np.take_along_axis(self._still, arriving[None, :, :, -2:-1], axis=0)[0]
        self._stages.append(((arriving[:, :, : self._lanes] * chosen).sum(axis=2), arriving[:, :, -1]))
        product, serials = self._stages.popleft()
        assert np.array_equal(serials[1:], self._serials[:-1]), "a product met a sum that it does not belong to"
        exact = hop_down(np.zeros(len(product[0]), dtype=np.int64), self._sums) + product
        self._moving, self._serials = arriving, serials
        self._sums, overflows = apply_overflow(exact, rules.psum_bits, rules.psum_overflow)
        return overflows

    def _load(self, top: Ints, control: dict[str, Ints]) -> None:
        """Clock the stationary registers and the bits that shift them."""
        self._shifts = hop_right(control["shift"], self._shifts)
        self._load_banks = hop_right(control["load_bank"], self._load_banks)
        banks = np.arange(len(self._still))[:, None, None]
        taking = self._shifts.astype(np.bool_) & (self._load_banks == banks)
        from_above = np.stack([hop_down(top, bank) for bank in self._still])
        self._still = np.where(taking[..., None], from_above, self._still)
