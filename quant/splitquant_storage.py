"""What memory holds of the layers that SplitQuant split, for pricing.

``dense``: three matrices of the layer's shape. ``coded``: one matrix, of each weight its code and its cluster; the
three passes of the array read it one after the other, and in each the weights of the other clusters count as zero.
The integers are the same; the decoder between memory and array has no price.
"""

from dataclasses import replace

from accelsim.program import Conv, Program, Tensor
from quant.lower import Quantized
from quant.splitquant import CLUSTER_BITS, PARTS, SplitQuant


def as_stored(quantized: Quantized) -> Program:
    """Return the Program to be priced: the network's own, or that of its coded weights, without values."""
    coded = any(isinstance(t, SplitQuant) and t.storage == "coded" for t in quantized.recipe.transforms)
    layers = dict.fromkeys(info.part_of for info in quantized.layers if info.part_of)
    program = quantized.program
    if not coded or not layers:
        return program
    program = program.without_values()
    for layer in layers:
        program = _coded(program, layer)
    return program


def _coded(program: Program, layer: str) -> Program:
    """Let the middle and upper part read what the lower one stores, which is as wide as a code and a cluster."""
    parts = [program.op(f"{layer}.{part}") for part in PARTS]
    widest = max((program.tensors[op.output] for op in parts), key=lambda tensor: tensor.high)
    tensors: dict[str, Tensor] = dict(program.tensors)
    changed = {}
    for place, op in enumerate(parts):
        assert isinstance(op, Conv)
        bits = op.storage_bits + CLUSTER_BITS
        changed[op.name] = replace(op, storage_bits=bits, shares=parts[0].shares or (parts[0].name if place else ""))
        tensors[op.output] = replace(tensors[op.output], bits=widest.bits, low=widest.low, high=widest.high)
    return replace(program, tensors=tensors, ops=tuple(changed.get(op.name, op) for op in program.ops))
