"""Attributes that ONNX files of different age write differently: limits, lengths, borders."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.importers.onnx_model import OnnxNode, require
from quant.importers.onnx_walk import Walk


def clip_limits(walk: Walk[Any], node: OnnxNode) -> tuple[float, float]:
    """Return a Clip's limits, which older files have as attributes and newer ones as inputs."""
    found = []
    for place, key, default in ((1, "min", -math.inf), (2, "max", math.inf)):
        given = walk.optional(node, place)
        found.append(float(node.attrs.get(key, default)) if given is None else float(given.item()))
    require(found[0] <= found[1], f"clips to {found[0]}..{found[1]}")
    return found[0], found[1]


def split_sizes(walk: Walk[Any], node: OnnxNode, length: int) -> list[int]:
    """Return the lengths that a Split gives its outputs.

    Raises
    ------
    ValueError
        If they do not add up to the axis's length.
    """
    given = walk.optional(node, 1)
    sizes = [int(d) for d in (node.attrs.get("split", ()) if given is None else given.ravel())]
    if not sizes:
        part = -(-length // len(node.outputs))
        sizes = [min(part, length - part * i) for i in range(len(node.outputs))]
    fits = len(sizes) == len(node.outputs) and sum(sizes) == length and min(sizes) > 0
    require(fits, f"splits {length} into {sizes} for {len(node.outputs)} outputs")
    return sizes


def _number(walk: Walk[Any], node: OnnxNode, place: int) -> NDArray[Any] | None:
    """Return a constant input, or the real numbers of one that the file keeps as codes."""
    held = walk.values.get(node.inputs[place]) if place < len(node.inputs) else None
    real = getattr(held, "real", None)
    return walk.optional(node, place) if real is None else np.asarray(real())


def pad_widths(walk: Walk[Any], node: OnnxNode, rank: int) -> tuple[tuple[int, ...], tuple[int, ...], float]:
    """Return a Pad's (before, after, value), batch left out."""
    require(node.attrs.get("mode", "constant") == "constant", f"pads by {node.attrs.get('mode')}; constants are known")
    given = walk.optional(node, 1)
    pads = [int(p) for p in (node.attrs["pads"] if given is None else given.ravel())]
    value = _number(walk, node, 2)
    axes = walk.optional(node, 3)
    if axes is not None:
        spread = [0] * (2 * rank)
        for i, axis in enumerate(int(a) % rank for a in axes.ravel()):
            spread[axis], spread[rank + axis] = pads[i], pads[axes.size + i]
        pads = spread
    require(len(pads) == 2 * rank and pads[0] == pads[rank] == 0, f"pads {pads} for {rank} axes; the batch has none")
    number = float(node.attrs.get("value", 0.0)) if value is None else float(value.item())
    return tuple(pads[1:rank]), tuple(pads[rank + 1 :]), number


def read_beyond(mode: str, places: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return what a Pad reads at places in front of and behind a line of `size` elements."""
    if mode == "edge":
        return np.clip(places, 0, size - 1)
    if mode == "wrap":
        return places % size
    require(mode == "reflect", f"pads by {mode}; constant, edge, reflect and wrap are known")
    return np.asarray(size - 1 - np.abs(size - 1 - np.abs(places)))
