"""Technology `nangate45`: our own PEs, synthesised for a 45 nm library and simulated gate by gate.

Nangate45, typical corner, 1.1 V, 25 C, 500 MHz. Closed forms in weight, activation and partial-sum width (relative
least squares); realistic operands (Laplace weights, half of the activations zero). Weight-stationary PE: the split
design (multiplier and adder apart), whose energies are smooth and whose width ratios the fit keeps (4x4 over 8x8 within
3 %; the fused design's fit misses by 14 %). Its timing is the fused design's (rms 6 %): the split fit is not monotone,
and the fused PE is what one would build for speed, at equal energy and 2 % more area. Not placed: no clock tree, areas
are cells only (divide by 0.7 for a placed one). 45 nm only.
"""

import math
from dataclasses import dataclass

from accelsim.technology.base import Technology, silicon_sram_um2_per_bit
from accelsim.technology.bitfusion45 import FUSED_AREA, FUSED_ENERGY, FUSED_SOURCE
from accelsim.technology.logic import Dataflow, Logic, Toggles
from accelsim.technology.source import Source
from accelsim.technology.sram import CACTI_SOURCE, SRAM_AREA_SOURCE, SRAM_LEAK_SOURCE, CactiSram
from accelsim.technology.wires import WIRE_SOURCES

NODE_NM = 45.0
_OURS = "synthesis of this project (yosys 0.23 + ABC, Nangate45 typical, own gate-level simulation of 8192 cycles)"

# Coefficients of 1, w a, w, a, p. n = 117 designs each of 2..16 x 2..16 bits, p 16..32; every one D.
_WS_ENERGY = (-0.1466, 0.009455, 0.02763, 0.008224, 0.0252)  # pJ, rms 3.5 %, worst 10.5 %
_WS_AREA = (-15.63, 5.575, 11.93, 3.617, 10.36)  # um2, rms 1.0 %, worst 3.4 %
_WS_LEAKAGE = (-340.2, 106.4, 250.4, 98.57, 206.7)  # nW, rms 1.2 %, worst 4.4 %
_WS_PATH = (0.1732, 0.1635, 0.03255)  # ns: 1, log2(min(w, a)), p; fused PE, rms 6.3 %, worst 16.1 %
# Output-stationary PE, n = 34.
_OS_ENERGY = (-0.03963, 0.01279, 0.009225, 0.0007316, 0.009917)  # pJ, rms 4.0 %, worst 9.8 %
_OS_AREA = (-18.72, 6.248, 0.002186, 0.1134, 14.43)  # um2, rms 2.6 %, worst 6.4 %
_OS_LEAKAGE = (-480.3, 123.6, -20.67, -16.83, 308.4)  # nW, rms 2.9 %, worst 7.0 %
_OS_PATH = (0.1234, 0.1487, 0.0415)  # ns, rms 8.7 %, worst 21.6 %

# Clock alone, pJ per flip-flop and cycle (rms 0.0 %). WS: weight twice (shadow), activation, partial sum; OS: weight
# once.
_IDLE_PJ = 0.008147
# One formula for all widths, pJ per flip: 8.147 fJ (2w + a + p) + 39 HD(psum in) + 21.8 w HD(a) + 198 a HD(w) fJ;
# leave-one-width-out on held-out operand sets rms 6.4 %, worst 15.5 %.
_TOGGLE_PSUM, _TOGGLE_STREAMED, _TOGGLE_HELD = 0.039, 0.0218, 0.198

# Building blocks, new operands every cycle: multiplier of realistic operands (rms 18 %, worst 49 % at 2 x 16), adder,
# register.
_MULTIPLY = (0.004805, 0.008217, -0.00866)  # pJ: 1, w a, w + a
_ADD = (-0.03004, 0.0171)  # pJ: 1, b; rms 3.7 %
_REGISTER = (-0.002481, 0.01403)  # pJ: 1, b; rms 0.8 %
_MULTIPLIER_UM2 = (-9.124, 5.592, -1.457)  # rms 4.0 %
_ADDER_UM2 = (-6.818, 6.047)  # rms 3.1 %
_REGISTER_UM2 = 4.522  # rms 0.0 %

# Composable PE (bricks of 2, up to 8 x 8, 32-bit sum): 2.7771 pJ per 8 x 8 cycle, 2374.6 um2; narrower products per
# cycle 2.6..3.1 pJ.
_COMPOSABLE_8 = (2.7771, 2374.6)
# Bit-serial unit, 16 lanes, activations serial, one accumulator for all lanes: pJ per MAC, 1, w a, w, a; n = 9, rms 4.4
# %, worst 8.1 %.
_SERIAL = (0.04225, 0.0208, 0.01227, 0.03713)
_SERIAL_LANES, _SERIAL_UM2_8 = 16, 2102.7


def _linear(fit: tuple[float, ...], weight_bits: float, act_bits: float, psum_bits: float = 0.0) -> float:
    terms = (1.0, weight_bits * act_bits, weight_bits, act_bits, psum_bits)
    return sum(c * t for c, t in zip(fit, terms, strict=False))


@dataclass(frozen=True)
class NangateLogic(Logic):
    """The closed forms. Under "is" the PE holds the activation: weight and activation change places."""

    def multiply_pj(self, weight_bits: int, act_bits: int) -> float:
        """Return the bare multiplier's energy; a 1-bit operand is priced as 2 bits, where the fit begins."""
        w, a = max(weight_bits, 2), max(act_bits, 2)
        return _MULTIPLY[0] + _MULTIPLY[1] * w * a + _MULTIPLY[2] * (w + a)

    def add_pj(self, bits: int) -> float:
        """Return the adder's energy; 1 bit is priced as 2."""
        return _ADD[0] + _ADD[1] * max(bits, 2)

    def register_pj(self, bits: int) -> float:
        """Return the energy of writing random data."""
        return _REGISTER[0] + _REGISTER[1] * bits

    def mac_pj(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow) -> float:
        """Return the whole PE's energy per cycle with realistic operands."""
        if dataflow == "os":
            return _linear(_OS_ENERGY, weight_bits, act_bits, psum_bits)
        return _linear(_WS_ENERGY, *_held_first(weight_bits, act_bits, dataflow), psum_bits)

    def mac_idle_pj(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow) -> float:
        """Return the clock's energy in the PE's flip-flops."""
        held, streamed = _held_first(weight_bits, act_bits, dataflow)
        return _IDLE_PJ * (held * (1 if dataflow == "os" else 2) + streamed + psum_bits)

    def toggle_pj(
        self, weight_bits: int, act_bits: int, psum_bits: int, toggles: Toggles, dataflow: Dataflow
    ) -> float | None:
        """Return clock energy plus energy per flip; no model was measured for the output-stationary PE."""
        if dataflow == "os":
            return None
        held_bits, streamed_bits = _held_first(weight_bits, act_bits, dataflow)
        return (
            self.mac_idle_pj(weight_bits, act_bits, psum_bits, dataflow) * toggles.pe_cycles
            + _TOGGLE_PSUM * toggles.psum_in
            + _TOGGLE_STREAMED * held_bits * toggles.streamed
            + _TOGGLE_HELD * streamed_bits * toggles.held
        )

    def pe_area_um2(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow) -> float:
        """Return the cell area of the PE."""
        if dataflow == "os":
            return _linear(_OS_AREA, weight_bits, act_bits, psum_bits)
        return _linear(_WS_AREA, *_held_first(weight_bits, act_bits, dataflow), psum_bits)

    def pe_leakage_mw(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow) -> float:
        """Return the leakage of the PE."""
        if dataflow == "os":
            return 1e-6 * _linear(_OS_LEAKAGE, weight_bits, act_bits, psum_bits)
        return 1e-6 * _linear(_WS_LEAKAGE, *_held_first(weight_bits, act_bits, dataflow), psum_bits)

    def pe_critical_path_ns(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow) -> float:
        """Return the delay of the PE without placement, MAC unpipelined."""
        one, narrow, psum = _OS_PATH if dataflow == "os" else _WS_PATH
        return one + narrow * math.log2(min(weight_bits, act_bits)) + psum * psum_bits

    def composable_energy_factor(self, max_bits: int) -> float | None:
        """Return the measured 8-bit ratio; other widths keep Bit Fusion's ratio to 8 bits."""
        return _composable(FUSED_ENERGY, max_bits, _COMPOSABLE_8[0] / self.mac_pj(8, 8, 32, "ws"))

    def composable_area_factor(self, max_bits: int) -> float | None:
        """Return the measured 8-bit ratio; other widths keep Bit Fusion's ratio to 8 bits."""
        return _composable(FUSED_AREA, max_bits, _COMPOSABLE_8[1] / self.pe_area_um2(8, 8, 32, "ws"))

    def serial_energy_factor(self, weight_bits: int, act_bits: int) -> float:
        """Return the synthesised unit's energy per MAC (serial over the activation) over the fixed 8 x 8 PE's."""
        return _linear(_SERIAL, weight_bits, act_bits) / self.mac_pj(8, 8, 32, "ws")

    def serial_area_factor(self) -> float:
        """Return eight of sixteen lanes (8-bit weights) over the fixed 8 x 8 PE."""
        return _SERIAL_UM2_8 * 8 / _SERIAL_LANES / self.pe_area_um2(8, 8, 32, "ws")

    def multiplier_area_um2(self, weight_bits: int, act_bits: int) -> float:
        """Return the bare multiplier's area; a 1-bit operand is priced as 2 bits."""
        w, a = max(weight_bits, 2), max(act_bits, 2)
        return _MULTIPLIER_UM2[0] + _MULTIPLIER_UM2[1] * w * a + _MULTIPLIER_UM2[2] * (w + a)

    def adder_area_um2(self, bits: int) -> float:
        """Return the adder's area; 1 bit is priced as 2."""
        return _ADDER_UM2[0] + _ADDER_UM2[1] * max(bits, 2)

    def register_area_um2(self, bits: int) -> float:
        """Return the flip-flops' area."""
        return _REGISTER_UM2 * bits


def _held_first(weight_bits: int, act_bits: int, dataflow: Dataflow) -> tuple[int, int]:
    return (act_bits, weight_bits) if dataflow == "is" else (weight_bits, act_bits)


def _composable(published: dict[int, float], max_bits: int, measured_at_8: float) -> float | None:
    if max_bits not in published:
        return None
    # Above a width of 2 the published factors exceed 1, so the overhead over 1 is what keeps its proportion.
    return 1 + (published[max_bits] - 1) / (published[8] - 1) * (measured_at_8 - 1)


def nangate45(node_nm: float = NODE_NM) -> Technology:
    """Return the technology; 45 nm is its only node."""
    if node_nm != NODE_NM:
        raise ValueError(
            f"nangate45: node_nm must be 45 (got {node_nm}); move it with scaled(nangate45(), node_nm, ...)"
        )
    return Technology(
        name="nangate45",
        node_nm=NODE_NM,
        sources=SOURCES,
        logic=NangateLogic(),
        sram=CactiSram(NODE_NM),
        mac_includes_registers=True,
        mac_contents=(
            "a whole synthesised PE per cycle with realistic operands: multiplier, adder, activation, double "
            "weight and partial-sum registers "
            "with their clock pins; no leakage, no clock tree"
        ),
        operand_bits=(2, 17),
        psum_bits=(8, 64),
        sram_um2_per_bit=silicon_sram_um2_per_bit(NODE_NM),
    )


SOURCES = (
    Source(
        _OURS,
        "WS PE pJ/MAC -0.147 + 0.00946 wa + 0.0276 w + 0.0082 a + 0.0252 p; 117 designs, rms 3.5 %, worst 10.5 %; "
        "p fitted 16..32",
        "D",
    ),
    Source(_OURS, "WS PE um2 -15.6 + 5.58 wa + 11.9 w + 3.62 a + 10.4 p; rms 1.0 %, worst 3.4 %; cells only", "D"),
    Source(_OURS, "WS PE leakage nW -340 + 106 wa + 250 w + 98.6 a + 207 p; rms 1.2 %, worst 4.4 %", "D"),
    Source(
        _OURS,
        "WS PE critical path ns 0.173 + 0.164 log2 min(w,a) + 0.0326 p (fused design); rms 6.3 %, worst 16 %",
        "D",
    ),
    Source(_OURS, "OS PE: own fits over 34 designs; energy rms 4.0 %, area 2.6 %, leakage 2.9 %, path 8.7 %", "D"),
    Source(
        _OURS,
        "clock 8.147 fJ per flip-flop and cycle; toggles 39 fJ psum, 21.8 w fJ activation, 198 a fJ weight; rms 6 %",
        "D",
    ),
    Source(
        _OURS,
        "composable 8..2 PE 2.78 pJ per 8x8 cycle, 2375 um2; other widths in proportion to Bit Fusion's overheads",
        "D/A",
    ),
    Source(
        _OURS,
        "bit-serial unit of 16 lanes: pJ/MAC 0.042 + 0.0208 wa + 0.0123 w + 0.0371 a, rms 4.4 %; 2103 um2 at 8-bit "
        "weights",
        "D",
    ),
    Source(
        _OURS,
        "multiplier, adder and register alone; requantizer composed of them within 5 % of four synthesised ones",
        "D",
    ),
    FUSED_SOURCE,
    CACTI_SOURCE,
    SRAM_AREA_SOURCE,
    SRAM_LEAK_SOURCE,
    *WIRE_SOURCES,
)
