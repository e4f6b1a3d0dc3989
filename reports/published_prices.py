"""Published prices: multiply-accumulates and memories in silicon, synthesised PEs."""

from accelsim.config import build_accelerator
from accelsim.cost import Machine, area_um2
from accelsim.pe import Widths, pe_type
from accelsim.technology import Dataflow, Technology, technology
from accelsim.technology.google import google
from reports.published_point import Point

MIB = 1 << 20

KELLER = "Keller et al., VLSI 2022 and JSSC 2023 (NVIDIA, 5 nm, measured)"
NVDLA = "NVDLA primer (nvdla/doc 31f5740), 16 nm, peak power over seven configurations"
TPU_V4I = "Jouppi et al., ISCA 2021 (TPUv4i), as in AccelForge's tpu_v4i.yaml"
TPU_V1 = "Jouppi et al., ISCA 2017"
BIT_FUSION = "Bit Fusion artifact (Sharma et al., ISCA 2018), hsharma35/bitfusion 04ec1c8, systolic_array_synth.csv"
OURS = "synthesis of this project (yosys, ABC, Nangate45 typical, gate-level simulation with realistic operands)"


def mac_energies() -> list[Point]:
    """Return ratios and levels of MAC energy."""
    at_7, at_16 = technology("google", 7), technology("google", 16)
    bare_28, bare_7 = google(28, kappa_energy=1.0), google(7, kappa_energy=1.0)
    ratio = at_7.mac_pj(8, 8, 24) / at_7.mac_pj(4, 4, 24)
    logic = "logic alone (kappa_energy 1): the published figure is that of multipliers and adders"
    return [
        Point(
            name="Keller: INT8 over INT4 energy per MAC",
            unit="ratio",
            published=51.15 / 21.95,
            model=ratio,
            source=KELLER,
            status="S",
            assumptions=("technology google at 7 nm, its smallest node", "fixed PEs of 8x8 and 4x4 bits, 24-bit sums"),
        ),
        Point(
            name="NVDLA: marginal energy per INT8 MAC",
            unit="pJ",
            published=0.337,
            model=at_16.mac_pj(8, 8, 24),
            source=NVDLA,
            status="V",
            assumptions=("technology google at 16 nm, 24-bit sums", "peak power at 1 GHz is one MAC per cycle and PE"),
            fitted=True,
        ),
        Point(
            name="TPU v1: busy less idle power",
            unit="W",
            published=12.0,
            model=65536 * bare_28.mac_pj(8, 8, 32) * 0.7e9 * 1e-12,
            source=TPU_V1,
            status="R",
            assumptions=(
                "technology google at 28 nm, 32-bit sums, kappa_energy 1: clock and registers run when idle too",
                "every PE multiplies in every cycle at 700 MHz; buffers and DRAM left out",
            ),
        ),
        Point(
            name="TPUv4i: INT8 MAC",
            unit="pJ",
            published=0.084,
            model=bare_7.mac_pj(8, 8, 32),
            source=TPU_V4I,
            status="S",
            assumptions=("technology google at 7 nm, 32-bit sums", logic),
        ),
    ]


def memories() -> list[Point]:
    """Return read energies of large on-chip memories."""
    at_7 = technology("google", 7)
    assumption = "technology google at 7 nm, one bank read 64 bits at a time"
    beyond = "beyond the 1 MB that the published table ends at"
    return [
        Point(
            name=f"TPUv4i: {mib} MB memory, read",
            unit="pJ/bit",
            published=published,
            model=at_7.sram_read_pj(mib * MIB, 64) / 64,
            source=TPU_V4I,
            status="S",
            assumptions=(assumption, beyond),
        )
        for mib, published in ((4, 0.249), (128, 1.88))
    ]


# --- Bit Fusion ------------------------------------------------------------------------------------------------------

# Area in um2 and power in mW of 4x4 arrays at 500 MHz: PE type, width, area, power.
_ARRAYS = (
    ("fixed", 2, 1297.0, 0.353),
    ("fixed", 4, 3066.0, 0.744),
    ("fixed", 8, 8172.0, 1.885),
    ("fixed", 16, 26870.0, 5.734),
    ("composable", 4, 5670.0, 1.117),
    ("composable", 8, 27753.0, 4.623),
    ("composable", 16, 141302.0, 21.63),
)


def bit_fusion_arrays() -> list[Point]:
    """Return area and power of the 4×4 arrays."""
    prices, points = technology("bitfusion45", 45), []
    for kind, bits, area, power in _ARRAYS:
        machine = small_array(kind, bits, prices)
        one, mhz = pe_type(machine.accelerator), machine.accelerator.clock_mhz
        dynamic = one.energy_pj(prices, machine.accelerator, machine.built, bits, bits) * mhz / 1e3
        leakage = one.leakage_mw(prices, machine.accelerator, machine.built)
        for what, unit, published, model in (
            ("area", "um2", area, area_um2(machine)["pe"]),
            ("power", "mW", power, 16 * (dynamic + leakage)),
        ):
            points.append(
                Point(
                    name=f"{kind} {bits}-bit PEs: {what}",
                    unit=unit,
                    published=published,
                    model=model,
                    source=BIT_FUSION,
                    status="V",
                    assumptions=(
                        "sums of 2b + 8 bits; a PE is a sixteenth of the array, edge accumulators included",
                        "power: one operation of full width per PE and cycle, plus leakage; that of composable PEs "
                        "follows their area",
                    ),
                    fitted=True,
                )
            )
    return points


def small_array(kind: str, bits: int, prices: Technology) -> Machine:
    """Return a 4×4 array of PEs of a type and width, sums of 2b + 8 bits, at 500 MHz and 45 nm."""
    psum = 2 * bits + 8
    buffer = {"bytes": 4096, "word_bits": 64}
    accelerator = build_accelerator(
        {
            "name": f"{kind}-{bits}",
            "array": {"rows": 4, "cols": 4},
            "pe": {"type": kind, "weight_bits": bits, "act_bits": bits},
            "accumulator": {"psum_bits": psum, "bits": 64},
            "activation_sram": buffer,
            "weight_sram": buffer,
            "accumulator_sram": buffer,
        },
        "4x4 array",
    )
    return Machine(accelerator, prices, Widths(bits, bits, psum))


# --- our own synthesis -----------------------------------------------------------------------------------------------

# Weight-stationary split PE, and output-stationary PE: weight, activation, sum bits; area um2; realistic pJ per cycle.
_WS = (
    (2, 2, 16, 205.0, 0.374),
    (4, 4, 20, 350.0, 0.651),
    (4, 8, 24, 477.0, 0.926),
    (8, 8, 28, 760.0, 1.41),
    (16, 16, 32, 2062.0, 3.52),
)
_OS = ((2, 2, 32, 457.0, 0.347), (4, 4, 32, 581.0, 0.531), (8, 8, 32, 840.0, 1.18), (16, 16, 32, 1997.0, 3.38))
# Fused weight-stationary PE: weight, activation, sum bits; critical path ns.
_PATHS = ((2, 2, 16, 0.89), (4, 4, 20, 1.05), (8, 8, 28, 1.63), (16, 16, 32, 1.83))
# Requantizer of 32-bit sums to 8 bits: multiplier bits, area um2, realistic pJ.
_REQUANTIZERS = ((16, 4777.0, 8.16), (32, 8446.0, 14.5))


def own_synthesis() -> list[Point]:
    """Return PEs, their timing and the requantizer as synthesised beside the closed forms."""
    prices = technology("nangate45", 45)
    rows: list[tuple[str, str, float, float]] = []
    flows: tuple[tuple[Dataflow, tuple[tuple[int, int, int, float, float], ...]], ...] = (("ws", _WS), ("os", _OS))
    for flow, table in flows:
        for w, a, p, area, energy in table:
            name = f"{flow} PE {w}x{a}, {p}-bit sums"
            rows.append((f"{name}: area", "um2", area, prices.pe_area_um2(w, a, p, flow)))
            rows.append((f"{name}: energy", "pJ", energy, prices.mac_pj(w, a, p, flow)))
    for w, a, p, path in _PATHS:
        model = prices.pe_critical_path_ns(w, a, p)
        assert model is not None
        rows.append((f"ws PE {w}x{a}, {p}-bit sums: critical path", "ns", path, model))
    for bits, area, energy in _REQUANTIZERS:
        rows.append(
            (f"requantizer, {bits}-bit multiplier: area", "um2", area, prices.requantizer_area_um2(32, 8, bits))
        )
        rows.append((f"requantizer, {bits}-bit multiplier: energy", "pJ", energy, prices.requantize_pj(32, 8, bits)))
    return [_own(*row) for row in rows]


def _own(name: str, unit: str, published: float, model: float) -> Point:
    return Point(
        name=name,
        unit=unit,
        published=published,
        model=model,
        source=OURS,
        status="D",
        assumptions=(
            "closed forms over all synthesised widths; no placement, no clock tree",
            "energy of Laplace-distributed weights and half of the activations zero, at 500 MHz and 1.1 V",
        ),
        fitted=True,
    )
