"""Lowering of what multiplies no weights: pools, adds, activations, and everything that only moves codes."""

from dataclasses import replace

import numpy as np

from accelsim.program import (
    Add,
    AvgPool,
    Clamp,
    Concat,
    Duplicate,
    MaxPool,
    Pad,
    Reshape,
    Slice,
)
from quant.build import MAP_LAYOUT, Builder, Value
from quant.graph import Node
from quant.grid import quantize
from quant.lower_linear import activation_limits, clamp_codes, fused_activation, output_grid


def _passed_on(builder: Builder, node: Node, value: Value, layout: tuple[int, ...]) -> str:
    """Declare the output of an op that keeps its input's codes; return its name."""
    source = builder.tensors[value.name]
    name = node.name
    builder.tensors[name] = replace(source, name=name, shape=builder.shape(name, layout))
    builder.set(node, name, value.grid, layout)
    return name


def lower_activation(builder: Builder, node: Node) -> None:
    """Clamp codes in place of a ReLU-like activation that no layer took over."""
    value = builder.value(node.inputs[0])
    grid = value.on
    low, high = clamp_codes(grid, activation_limits(node))
    source = builder.tensors[value.name]
    low, high = max(low, source.low), max(max(low, source.low), min(high, source.high))
    builder.tensors[node.name] = replace(source, name=node.name, low=low, high=high)
    builder.emit(Clamp(name=node.name, inputs=(value.name,), output=node.name, low=low, high=high))
    builder.set(node, node.name, grid, value.layout)


def lower_clamp_channels(builder: Builder, node: Node) -> None:
    """Clamp codes channel by channel: the limits are rounded onto the input's grid, the channels' axis comes last."""
    value, axis = builder.value(node.inputs[0]), node.attrs["axis"]
    if value.layout[-1] != axis:
        value = builder.in_layout(value, (*(a for a in sorted(value.layout) if a != axis), axis))
    source = builder.tensors[value.name]
    low, high = (np.clip(quantize(node.params[end], value.on), source.low, source.high) for end in ("lo", "hi"))
    builder.tensors[node.name] = replace(source, name=node.name, low=int(low.min()), high=int(high.max()))
    narrow = np.result_type(*(np.min_scalar_type(int(end)) for end in (low.min(), high.max())))
    low, high = (np.broadcast_to(limit, source.shape[-1:]).astype(narrow) for limit in (low, high))
    builder.emit(Clamp(name=node.name, inputs=(value.name,), output=node.name, low=low, high=high))
    builder.set(node, node.name, value.grid, value.layout)


def lower_add(builder: Builder, node: Node) -> None:
    """Add or subtract two codes on their own grids, with the ReLU that follows."""
    first, second = (builder.value(name) for name in node.inputs)
    second = builder.in_layout(second, first.layout)
    target, limits = fused_activation(builder, node)
    grid = output_grid(builder, target)
    low, high = clamp_codes(grid, limits)
    builder.code_tensor(target.name, builder.shape(node.name, first.layout), grid, low, high)
    builder.emit(
        Add(
            name=node.name,
            inputs=(first.name, second.name),
            output=target.name,
            multipliers=(first.on.one_scale / grid.one_scale, second.on.one_scale / grid.one_scale),
            zero_points=(first.on.one_zero_point, second.on.one_zero_point),
            zero_out=grid.one_zero_point,
            low=low,
            high=high,
            signs=(1, -1 if node.op == "sub" else 1),
        )
    )
    builder.set(target, target.name, grid, first.layout)


def lower_concat(builder: Builder, node: Node) -> None:
    """Join tensors after bringing them onto one grid."""
    grid = builder.act_grid(node.name)
    values = [builder.value(name) for name in node.inputs]
    layout = values[0].layout
    parts = [
        builder.on_grid(builder.in_layout(value, layout), grid, f"{node.name}.in{i}") for i, value in enumerate(values)
    ]
    builder.code_tensor(node.name, builder.shape(node.name, layout), grid)
    axis = layout.index(node.attrs["axis"])
    builder.emit(Concat(name=node.name, inputs=tuple(p.name for p in parts), output=node.name, axis=axis))
    builder.set(node, node.name, grid, layout)


def _two(values: tuple[int, ...], fill: int) -> tuple[int, int]:
    return (values[0], values[1]) if len(values) == 2 else (fill, values[0])


def _pool_geometry(builder: Builder, node: Node) -> dict[str, tuple[int, ...]]:
    """Return kernel, stride and padding in two dimensions, with what ceil mode adds at the end put into the padding."""
    attrs = node.attrs
    kernel, stride = _two(attrs["kernel"], 1), _two(attrs["stride"], 1)
    half = len(attrs["padding"]) // 2
    before, after = _two(attrs["padding"][:half], 0), list(_two(attrs["padding"][half:], 0))
    sizes, outs = (_two(builder.graph.shapes[n][1:], 1) for n in (node.inputs[0], node.name))
    dilation = _two(attrs.get("dilation", (1,) * half), 1)
    for i in range(2):
        covered = (outs[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1
        after[i] = max(after[i], covered - sizes[i] - before[i])
    return {"kernel": kernel, "stride": stride, "padding": (*before, *after), "dilation": dilation}


def _as_map(builder: Builder, name: str) -> Value:
    value = builder.value(name)
    rank = len(value.layout)
    return builder.in_layout(value, MAP_LAYOUT if rank == 3 else (*range(1, rank), 0))


def lower_max_pool(builder: Builder, node: Node) -> None:
    """Pool maxima: codes keep their grid."""
    value = _as_map(builder, node.inputs[0])
    geometry = _pool_geometry(builder, node)
    name = _passed_on(builder, node, value, value.layout)
    builder.emit(MaxPool(name=node.name, inputs=(value.name,), output=name, **geometry))  # type: ignore[arg-type]


def lower_avg_pool(builder: Builder, node: Node) -> None:
    """Pool means onto the output's own grid; a global mean is one window over the whole map."""
    value = _as_map(builder, node.inputs[0])
    if node.op == "mean":
        shape = builder.tensors[value.name].shape
        geometry = {"kernel": shape[:2], "stride": (1, 1), "padding": (0, 0, 0, 0)}
        counts = True
    else:
        geometry = {k: v for k, v in _pool_geometry(builder, node).items() if k != "dilation"}
        counts = node.attrs["count_include_pad"]
        if node.attrs["ceil_mode"] and counts and geometry["padding"] != _declared_padding(node):
            raise ValueError(
                f"layer {node.name!r}: avg_pool with ceil_mode counts a partly outer window by its own rule; "
                "pad the input explicitly instead"
            )
    grid, source = value.on, builder.tensors[value.name]
    target, limits = fused_activation(builder, node)
    out = output_grid(builder, target)
    low, high = clamp_codes(out, limits)
    builder.code_tensor(target.name, builder.shape(node.name, value.layout), out, low, high)
    builder.emit(
        AvgPool(
            name=node.name,
            inputs=(source.name,),
            output=target.name,
            count_padding=counts,
            multiplier=grid.one_scale / out.one_scale,
            zero_in=grid.one_zero_point,
            zero_out=out.one_zero_point,
            low=low,
            high=high,
            **geometry,  # type: ignore[arg-type]
        )
    )
    builder.set(target, target.name, out, value.layout)


def _declared_padding(node: Node) -> tuple[int, ...]:
    half = len(node.attrs["padding"]) // 2
    return (*_two(node.attrs["padding"][:half], 0), *_two(node.attrs["padding"][half:], 0))


def lower_mean(builder: Builder, node: Node) -> None:
    """Lower a mean over the whole of a map as one pooling window.

    Raises
    ------
    ValueError
        For a mean over other axes.
    """
    shape = builder.graph.shapes[node.inputs[0]]
    if len(shape) != 3 or sorted(node.attrs["axes"]) != [1, 2]:
        raise ValueError(
            f"layer {node.name!r}: a mean over axes {node.attrs['axes']} of {shape} has no integer form here"
        )
    lower_avg_pool(builder, node)


def lower_reshape(builder: Builder, node: Node) -> None:
    """Reshape or flatten, in the float graph's order of axes."""
    value = builder.value(node.inputs[0])
    before, after = builder.graph.shapes[node.inputs[0]], builder.graph.shapes[node.name]
    vector = sum(size > 1 for size in before) <= 1
    value = value if vector else builder.plain(value)
    layout = tuple(range(len(after)))
    name = _passed_on(builder, node, value, layout)
    builder.emit(Reshape(name=node.name, inputs=(value.name,), output=name, shape=builder.shape(node.name, layout)))


def lower_permute(builder: Builder, node: Node) -> None:
    """Permute axes: only the layout changes, codes move when an op needs them otherwise."""
    value = builder.value(node.inputs[0])
    order = node.attrs["order"]
    builder.set(node, value.name, value.grid, tuple(order.index(axis) for axis in value.layout))


def lower_slice(builder: Builder, node: Node) -> None:
    """Take a strided part."""
    value = builder.value(node.inputs[0])
    start, stop, step = (tuple(node.attrs[k][axis] for axis in value.layout) for k in ("start", "stop", "step"))
    name = _passed_on(builder, node, value, value.layout)
    builder.emit(Slice(name=node.name, inputs=(value.name,), output=name, start=start, stop=stop, step=step))


def lower_pad(builder: Builder, node: Node) -> None:
    """Put a constant border around a map; the constant is rounded onto the input's grid."""
    value = builder.value(node.inputs[0])
    code = int(quantize(np.array([node.attrs["value"]]), value.on)[0])
    widths = tuple((node.attrs["before"][axis], node.attrs["after"][axis]) for axis in value.layout)
    name = _passed_on(builder, node, value, value.layout)
    source = builder.tensors[name]
    builder.tensors[name] = replace(source, low=min(source.low, code), high=max(source.high, code))
    builder.emit(Pad(name=node.name, inputs=(value.name,), output=name, widths=widths, value=code))


def lower_duplicate(builder: Builder, node: Node) -> None:
    """Duplicate channels: a gather along the channel axis, which is brought last."""
    value = builder.value(node.inputs[0])
    if value.layout[-1] != node.attrs["axis"]:
        rest = tuple(axis for axis in sorted(value.layout) if axis != node.attrs["axis"])
        value = builder.in_layout(value, (*rest, node.attrs["axis"]))
    source = builder.tensors[value.name]
    channels = np.array(node.attrs["src"], dtype=np.int64)
    zeros = np.zeros_like(channels)
    name = _passed_on(builder, node, value, value.layout)
    builder.emit(
        Duplicate(
            name=node.name,
            inputs=(value.name,),
            output=name,
            source=channels,
            offset=zeros,
            shift=zeros,
            low=source.low,
            high=source.high,
        )
    )
