"""Trace of the output-stationary array: two moving operands, resident sums, bias wires, drain chains."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from accelsim.arith import apply_overflow
from accelsim.dataflow import Dataflow, Job
from accelsim.stepper.base import Bools, Cycle, Ints, Lines, hop_down, hop_right, padded

FIRST, BANK, FOLD = -3, -2, -1
"""Where the bits that travel with an activation stand behind its lanes; the fold's number is -1 beside nothing."""


@dataclass(frozen=True, eq=False)
class _Fold:
    """One fold: ``x[t, R, L]``, ``w[t, C, L]``, ``bias[C, 2]`` (in range; whether it was not), ``output[R, C]``."""

    x: Ints
    w: Ints
    bias: Ints
    output: Ints


def _folds(dataflow: Dataflow, job: Job) -> list[_Fold]:
    array, operands, gemm, rules = job.array, job.operands, job.operands.gemm, job.accumulation
    lanes = array.products_per_pe
    x, w = padded(operands.a, array.rows, lanes), padded(operands.w, lanes, array.cols)
    bias = np.zeros(w.shape[1], dtype=np.int64)
    bias[: gemm.n] = 0 if operands.bias is None else operands.bias
    biases = np.stack(apply_overflow(bias, rules.acc_bits, rules.acc_overflow), axis=1).astype(np.int64)
    found = []
    for fold in dataflow.folds(gemm, array, job.stream_tile):
        m0, n0 = int(fold["m0"]), int(fold["n0"])
        m, n = np.mgrid[m0 : m0 + array.rows, n0 : n0 + array.cols]
        found.append(
            _Fold(
                x=x[m0 : m0 + array.rows].reshape(array.rows, -1, lanes).transpose(1, 0, 2),
                w=w[:, n0 : n0 + array.cols].reshape(-1, lanes, array.cols).transpose(0, 2, 1),
                bias=biases[n0 : n0 + array.cols],
                output=np.where((m < gemm.m) & (n < gemm.n), m * gemm.n + n, -1),
            )
        )
    return found


class _Control:
    """Flip-flops that say what enters and what drains.

    `drain` is (fold, step) of column 0; ``None``, as `element`, in cycles where there is none.
    """

    def __init__(self, folds: list[_Fold], rows: int, banks: int, depth: int) -> None:
        self._folds, self._rows, self._banks = folds, rows, banks
        self._begun, self._entered, self._wires_busy, self._elements = 0, 0, 0, 0
        self._drained, self._steps = 0, rows
        self._last = deque([False] * (rows + depth - 1))

    def enter(self, left: int) -> None:
        """Begin a cycle, given how many folds have left the array."""
        free = self._wires_busy == 0 if self._banks == 2 else left == self._begun
        if self._begun < len(self._folds) and self._begun == self._entered and free:
            self._begun, self._wires_busy, self._elements = self._begun + 1, self._rows, 0
        if self._last.popleft():
            self._steps = 0

    @property
    def bank(self) -> int:
        return self._entered % self._banks

    @property
    def element(self) -> tuple[int, int] | None:
        """Fold and place in it."""
        return (self._entered, self._elements) if self._begun > self._entered else None

    @property
    def drain_bank(self) -> int:
        return self._drained % self._banks

    @property
    def drain(self) -> tuple[int, int] | None:
        return (self._drained, self._steps) if self._steps < self._rows else None

    def leave(self) -> None:
        """End a cycle."""
        self._wires_busy = max(self._wires_busy - 1, 0)
        last = self._begun > self._entered and self._elements + 1 == len(self._folds[self._entered].x)
        self._elements += 1
        self._entered += last
        self._last.append(last)
        self._drained += self._steps == self._rows - 1
        self._steps = min(self._steps + 1, self._rows)


class OutputStationary:
    """The registers of the array; iterating steps them."""

    def __init__(self, dataflow: Dataflow, job: Job) -> None:
        """Reset."""
        shape, self._job = job.array, job
        rows, cols, self._lanes = shape.rows, shape.cols, shape.products_per_pe
        self._folds = _folds(dataflow, job)
        self._outputs = np.stack([*(fold.output for fold in self._folds), np.full((rows, cols), -1)])
        self._control = _Control(self._folds, rows, job.banks, shape.pipeline_depth)
        self._nothing = np.zeros((rows, self._lanes + 3), dtype=np.int64)
        self._nothing[:, FOLD] = -1
        self._row_lines, self._column_lines = Lines(self._nothing), Lines(np.zeros((cols, self._lanes), dtype=np.int64))
        self._bias_lines = Lines(np.zeros((cols, 3), dtype=np.int64), shape.pipeline_depth - 1)
        self._bias = np.zeros((cols, 2), dtype=np.int64)
        self._x = np.repeat(self._nothing[:, None], cols, axis=1)
        self._w = np.zeros((rows, cols, self._lanes), dtype=np.int64)
        self._sums = np.zeros((job.banks, rows, cols), dtype=np.int64)
        self._drains = np.zeros((rows, cols), dtype=np.int64)
        # beside the drain bits: drain bank, fold (-1: none) and step
        self._leaving = np.tile(np.array([0, -1, 0]), (1, cols, 1))
        self._stages = deque([(np.zeros((rows, cols), dtype=np.int64), self._x)] * (shape.pipeline_depth - 1))
        self._left = 0

    def __iter__(self) -> Iterator[Cycle]:
        """Step until every sum has left, and one cycle more."""
        index = 0
        while True:
            over = self._left == len(self._folds)
            yield self._cycle(index)
            if over:
                return
            index += 1

    def _cycle(self, index: int) -> Cycle:
        """Pass one cycle."""
        self._control.enter(self._left)
        left, top, bias, drain, leaving = self._enter()
        control = {
            "first": left[:, FIRST],
            "bank": left[:, BANK],
            "drain": drain,
            "drain_bank": leaving[0, 0, :1],
            "bias": bias[:, 0],
            "bias_overflow": bias[:, 1],
        }
        columns = np.arange(len(top))
        bank, fold, step = leaving[0].T
        bottom = self._sums[bank, -1, columns]
        output = self._outputs[fold, len(left) - 1 - step, columns]
        before = {"activations": self._x[None, :, :, : self._lanes], "weights": self._w[None], "sums": self._sums}
        owners, overflows, bias_overflows = self._clock(left, top, bias, hop_right(drain, self._drains), bank)
        self._leaving = leaving
        self._left += int(fold[-1] >= 0 and step[-1] == len(left) - 1)
        self._control.leave()
        return Cycle(
            index=index,
            left=left[:, : self._lanes],
            top=top,
            control=control,
            **before,
            owners=owners,
            overflows=overflows,
            bias_overflows=bias_overflows,
            bottom=bottom,
            bottom_valid=fold >= 0,
            output=output,
            total=np.where(fold >= 0, bottom, 0),
            total_final=fold >= 0,
            total_overflows=np.zeros(len(top), dtype=np.bool_),
            total_bias_overflows=np.zeros(len(top), dtype=np.bool_),
        )

    def _enter(self) -> tuple[Ints, Ints, Ints, Ints, Ints]:
        """Return what enters: activations with their bits, weights, biases, drain bits, and what leaves by column."""
        rows, cols = self._drains.shape
        entering, weights = self._nothing.copy(), np.zeros((cols, self._lanes), dtype=np.int64)
        bias, drain, leaving = np.zeros((cols, 3), dtype=np.int64), np.zeros(rows, dtype=np.int64), np.array([0, -1, 0])
        entering[:, BANK] = self._control.bank
        if self._control.element is not None:
            fold, t = self._control.element
            entering[:, : self._lanes], weights = self._folds[fold].x[t], self._folds[fold].w[t]
            entering[:, FIRST], entering[:, FOLD] = t == 0, fold
            if t == 0:
                bias[:, 0], bias[:, 1:] = 1, self._folds[fold].bias
        leaving[0] = self._control.drain_bank
        if self._control.drain is not None:
            leaving[1:] = self._control.drain
            drain[leaving[2] + 1 :] = 1
        delayed = self._bias_lines.put(bias)
        self._bias = np.where(delayed[:, :1] == 1, delayed[:, 1:], self._bias)
        left, top = self._row_lines.put(entering), self._column_lines.put(weights)
        return left, top, self._bias, drain, hop_right(leaving[None], self._leaving)

    def _clock(self, left: Ints, top: Ints, bias: Ints, draining: Ints, drain_bank: Ints) -> tuple[Ints, Bools, Bools]:
        """Clock operands and sums; return owners, overflows and biases out of range, by PE."""
        rules, banks = self._job.accumulation, np.arange(self._job.banks)[:, None, None]
        x, w = hop_right(left, self._x), hop_down(top, self._w)
        self._stages.append(((x[:, :, : self._lanes] * w).sum(axis=2), x))
        product, beside = self._stages.popleft()
        first, bank, fold = beside[:, :, FIRST] == 1, beside[:, :, BANK], beside[:, :, FOLD]
        held = np.take_along_axis(self._sums, bank[None], axis=0)[0]
        exact = np.where(first, bias[:, 0], held) + product
        added, overflows = apply_overflow(exact, rules.acc_bits, rules.acc_overflow)
        from_above = np.stack([hop_down(np.zeros_like(top[:, 0]), copy) for copy in self._sums])
        shifts = draining.astype(np.bool_) & (drain_bank == banks)
        self._sums = np.where(shifts, from_above, np.where(bank == banks, added, self._sums))
        self._x, self._w, self._drains = x, w, draining
        rows, columns = np.indices(fold.shape)
        return self._outputs[fold, rows, columns], overflows, first & (bias[:, 1] == 1)
