"""Imported networks with one wrong number, for the tests of what is said of it."""

from dataclasses import replace

import numpy as np

from accelsim.program import Conv, Op, Program


def convolutions(program: Program) -> list[Conv]:
    return [op for op in program.ops if isinstance(op, Conv)]


def exchanged(program: Program, old: Op, new: Op) -> Program:
    """Return a Program with another op, whose output may be any 32-bit number."""
    tensors = dict(program.tensors)
    tensors[old.output] = replace(tensors[old.output], bits=32, low=-(2**31), high=2**31 - 1, signed=True)
    return replace(program, tensors=tensors, ops=tuple(new if op is old else op for op in program.ops))


def with_bias(program: Program, layer: Conv, channel: int, more: int) -> Program:
    bias = np.asarray(layer.bias).astype(np.int64)
    bias[channel] += more
    return exchanged(program, layer, replace(layer, bias=bias, bound=np.asarray(layer.bound) + abs(more)))


def with_weight(program: Program, layer: Conv, place: tuple[int, ...], more: int) -> Program:
    weight = np.asarray(layer.weight).astype(np.int64)
    weight[place] += more
    return exchanged(program, layer, replace(layer, weight=weight, bound=np.asarray(layer.bound) + 256 * abs(more)))
