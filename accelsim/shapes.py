"""Programs without values from layer shapes alone: what is priced where nobody has weights.

Every layer is a convolution (a linear layer is one of 1×1 on a row of pixels) whose sums are requantized. Layers are
either independent, each with an input and an output of its own in DRAM, or a chain, each reading what the one before it
wrote.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from accelsim.arith import bits_for, code_range
from accelsim.check import window_count
from accelsim.program import Blank, Conv, Op, Program, Requantize, Tensor, code_tensor

Shape = tuple[int, ...]

MAX_SUM_BITS = 63


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """A convolution without weights.

    Parameters
    ----------
    name
        Unique in its network.
    input
        ``(height, width, channels)``, or ``(pixels, channels)`` of a matrix product.
    outputs
        Output channels, all groups together.
    kernel, stride
        (rows, columns).
    padding
        (top, left, bottom, right).
    groups
        Of channels.
    weight_bits
        Of this layer, where not the network's.
    """

    name: str
    input: Shape
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    weight_bits: int | None = None

    @property
    def window(self) -> int:
        """Products of one sum: k of the layer's matrix product."""
        return self.kernel[0] * self.kernel[1] * self.input[-1] // self.groups

    @property
    def output(self) -> Shape:
        """Shape of the output."""
        if len(self.input) == 2:
            return (self.input[0], self.outputs)
        top, left, bottom, right = self.padding
        return (
            window_count(self.input[0], self.kernel[0], self.stride[0], (top, bottom), 1),
            window_count(self.input[1], self.kernel[1], self.stride[1], (left, right), 1),
            self.outputs,
        )


def shape_program(
    name: str,
    layers: Sequence[LayerShape],
    weight_bits: int = 8,
    act_bits: int = 8,
    *,
    chained: bool = False,
    per_channel: bool = False,
) -> Program:
    """Return a Program of these layers, without values.

    Parameters
    ----------
    name
        Of the network.
    layers
        In order.
    weight_bits, act_bits
        2..16; activations are unsigned, weights signed.
    chained
        Whether each layer reads the output of the one before it.
    per_channel
        Whether every output channel has a weight scale of its own.

    Raises
    ------
    ValueError
        If a width is out of range, names repeat, or chained layers do not fit together.
    """
    _check(name, layers, chained, weight_bits=weight_bits, act_bits=act_bits)
    tensors: dict[str, Tensor] = {}
    inputs: list[str] = []
    ops: list[Op] = []
    source = ""
    for layer in layers:
        if not (chained and source):
            source = f"{layer.name}.input"
            tensors[source] = code_tensor(source, layer.input, act_bits, signed=False)
            inputs.append(source)
        bits = weight_bits if layer.weight_bits is None else layer.weight_bits
        sums, output = _sums(layer, bits, act_bits), code_tensor(f"{layer.name}.output", layer.output, act_bits, False)
        tensors |= {sums.name: sums, output.name: output}
        ops += [_conv(layer, source, sums, bits), _requantize(layer, sums, output, per_channel)]
        source = output.name
    outputs = (source,) if chained else tuple(op.output for op in ops if isinstance(op, Requantize))
    return Program(name=name, tensors=tensors, inputs=tuple(inputs), outputs=outputs, ops=tuple(ops))


def _check(name: str, layers: Sequence[LayerShape], chained: bool, **widths: int) -> None:
    if not layers:
        raise ValueError(f"shape_program: {name} has no layers; give at least one")
    for width, bits in widths.items():
        if not 2 <= bits <= 16:
            raise ValueError(f"shape_program: {width} must be in 2..16 (got {bits})")
    names = [layer.name for layer in layers]
    repeated = next((item for item in names if names.count(item) > 1), None) if len(set(names)) < len(names) else None
    if repeated is not None:
        raise ValueError(f"shape_program: {name} has two layers called {repeated!r}; rename one")
    for before, after in itertools.pairwise(layers):
        if chained and before.output != after.input:
            raise ValueError(
                f"shape_program: {after.name} takes {after.input}, {before.name} before it gives {before.output}; "
                "correct the shapes, or do not chain them"
            )


def _sums(layer: LayerShape, weight_bits: int, act_bits: int) -> Tensor:
    """Return the tensor of exact sums, as wide as the widest of them."""
    reach = layer.window * (1 << (weight_bits - 1)) * ((1 << act_bits) - 1)
    bits = min(MAX_SUM_BITS, bits_for(-reach, reach))
    low, high = code_range(bits, True)
    return Tensor(
        name=f"{layer.name}.sums", shape=layer.output, bits=bits, signed=True, low=low, high=high, kind="accumulator"
    )


def _conv(layer: LayerShape, source: str, sums: Tensor, weight_bits: int) -> Conv:
    per_output = Blank((layer.outputs,))
    return Conv(
        name=layer.name,
        inputs=(source,),
        output=sums.name,
        weight=Blank((layer.outputs, *layer.kernel, layer.input[-1] // layer.groups)),
        bias=per_output,
        bound=per_output,
        weight_bits=weight_bits,
        storage_bits=weight_bits,
        stride=layer.stride,
        padding=layer.padding,
        groups=layer.groups,
    )


def _requantize(layer: LayerShape, sums: Tensor, output: Tensor, per_channel: bool) -> Requantize:
    return Requantize(
        name=f"{layer.name}.requantize",
        inputs=(sums.name,),
        output=output.name,
        multiplier=np.ones(layer.outputs if per_channel else 1),
        low=output.low,
        high=output.high,
    )
