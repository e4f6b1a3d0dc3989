"""Accelerators for tests: one small plain machine, and strategies for odd ones."""

from typing import Any

from hypothesis import strategies as st
from networks import Shapes

from accelsim.config import Accelerator, build_accelerator

PLAIN: dict[str, Any] = {
    "name": "plain",
    "array": {"rows": 8, "cols": 8, "dataflow": "ws", "double_buffered": True},
    "pe": {"type": "fixed", "weight_bits": 16, "act_bits": 16},
    "accumulator": {"psum_bits": 32, "bits": 40},
    "vector_lanes": 8,
    "requantizer_lanes": 8,
    "activation_sram": {"bytes": 1 << 16, "word_bits": 64},
    "weight_sram": {"bytes": 1 << 16, "word_bits": 64},
    "accumulator_sram": {"bytes": 1 << 15, "word_bits": 320},
    "dram": {"type": "LPDDR4", "bandwidth_gb_per_s": 4, "latency_ns": 50, "page_efficiency": 0.75},
    "clock_mhz": 500,
    "node_nm": 45,
}


def machine(**changes: Any) -> Accelerator:
    """Return the plain machine with changes; keys with a double underscore reach into a part."""
    plain = {name: dict(value) if isinstance(value, dict) else value for name, value in PLAIN.items()}
    for key, value in changes.items():
        part, _, name = key.partition("__")
        if name:
            plain[part][name] = value
        else:
            plain[part] = value
    return build_accelerator(plain, "test")


def endless(**changes: Any) -> Accelerator:
    """Return the plain machine with buffers that hold anything."""
    rooms = {f"{part}_sram__bytes": 1 << 30 for part in ("activation", "weight", "accumulator")}
    return machine(**rooms, **changes)


@st.composite
def machines(
    draw: Any, dataflows: tuple[str, ...] = ("ws", "os", "is"), types: tuple[str, ...] = ("fixed",)
) -> Accelerator:
    """Odd small machines: any shape, small buffers, halves or not, slow or fast memory."""
    double = draw(st.booleans())
    kind = draw(st.sampled_from(types))
    widths = (
        {"weight_bits": 16, "act_bits": 16} if kind in ("fixed", "composable") else {"weight_bits": 18, "act_bits": 18}
    )
    return machine(
        array={
            "rows": draw(st.integers(1, 12)),
            "cols": draw(st.integers(1, 12)),
            "dataflow": draw(st.sampled_from(dataflows)),
            "double_buffered": double,
            "pipeline_depth": draw(st.integers(1, 3)),
            "groups": draw(st.sampled_from(("packed", "serial"))),
        },
        pe={"type": kind, **widths, "serial": draw(st.sampled_from(("weight", "activation", "both")))},
        vector_lanes=draw(st.integers(1, 20)),
        requantizer_lanes=draw(st.integers(1, 20)),
        activation_sram=draw(_srams(2_000, 60_000)),
        weight_sram=draw(_srams(4_000, 30_000)),
        accumulator_sram=draw(_srams(2_000, 20_000)),
        dram={
            "type": "DDR4",
            "bandwidth_gb_per_s": draw(st.sampled_from((0.5, 2.0, 10.0, 200.0))),
            "latency_ns": draw(st.sampled_from((0, 30, 200))),
            "page_efficiency": draw(st.sampled_from((0.5, 1.0))),
        },
        storage=draw(st.sampled_from(("packed", "pow2", "byte"))),
        duplication=draw(st.sampled_from(("on_read", "copy_pass"))),
    )


@st.composite
def _srams(draw: Any, low: int, high: int) -> dict[str, Any]:
    return {
        "bytes": draw(st.integers(low, high)),
        "word_bits": draw(st.sampled_from((16, 64, 256))),
        "banks": draw(st.integers(1, 4)),
        "double_buffered": draw(st.booleans()),
    }


@st.composite
def layer_shapes(draw: Any) -> Any:
    """Programs without values of one to four layers of many kinds, with and without duplicates."""
    net = Shapes(draw(st.integers(2, 16)), draw(st.integers(2, 16)))
    x = net.input((draw(st.integers(3, 14)), draw(st.integers(3, 14)), draw(st.integers(1, 20))))
    for place in range(draw(st.integers(1, 4))):
        channels = net.tensors[x].shape[-1]
        kind = draw(st.sampled_from(("conv", "conv", "depthwise", "pool", "add", "split")))
        name = f"l{place}"
        if kind == "conv":
            x = net.conv(name, x, draw(st.integers(1, 40)), draw(st.sampled_from((1, 3))), draw(st.integers(1, 2)))
        elif kind == "depthwise":
            x = net.conv(name, x, channels, 3, draw(st.integers(1, 2)), groups=channels)
        elif kind == "pool":
            x = net.max_pool(name, x, 3, draw(st.integers(1, 2)))
        elif kind == "add":
            x = net.add(name, net.conv(f"{name}.a", x, channels), x)
        else:
            x = net.conv(name, x, draw(st.integers(1, 40)), splits=draw(st.integers(1, channels)))
    net.conv("fc", x, draw(st.integers(1, 30)))
    return net.program("shapes")
