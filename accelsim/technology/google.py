"""Technology `google`: Horowitz' 45 nm table and Google's 7 nm table, and every node between by log-log interpolation.

The default. Its SRAM is the same tables' (one self-consistent source), not CACTI's. PE energy is MAC logic times
`kappa_energy`, PE area the published 45 nm synthesis times `kappa_area` times the area factor of the node.
"""

import math
from dataclasses import dataclass

from accelsim.technology.base import Technology, silicon_sram_um2_per_bit
from accelsim.technology.bitfusion45 import (
    ADDER_UM2,
    FUSED_AREA,
    FUSED_ENERGY,
    FUSED_SOURCE,
    REGISTER_UM2,
    SURVEY_SOURCE,
    TUTORIAL_AREA_SOURCE,
    fixed_pe_area_um2,
    fixed_pe_leakage_mw,
    multiplier_area_um2,
)
from accelsim.technology.logic import Dataflow, Logic, loom_serial_area_factor, loom_serial_energy_factor
from accelsim.technology.scaling import area_factor
from accelsim.technology.source import Source
from accelsim.technology.sram import SRAM_AREA_SOURCE, SRAM_LEAK_SOURCE
from accelsim.technology.wires import WIRE_SOURCES

_OLD_NM, _NEW_NM = 45.0, 7.0
_HOROWITZ = "Horowitz, ISSCC 2014, Fig. 1.1.9 (45 nm, 0.9 V)"
_JOUPPI = "Jouppi et al., ISCA 2021, Table 2 (7 nm), doi:10.1109/ISCA52012.2021.00010"

# pJ per bit^2 and per bit; exact on 0.2 pJ (8 b) and 3.1 pJ (32 b), the curve that QKeras ships. S
_MULTIPLY_45 = (0.00299479, 0.00104167)
# pJ per bit^2, relative least squares on 0.07 pJ (8 b) and 1.48 pJ (32 b): +11.7 %, -15.5 %. The exact curve through
# both is negative under 2.4 bits, so it is not used. S/D
_MULTIPLY_7 = 0.00122177
# pJ per bit on 0.03 (8 b) and 0.1 (32 b): -9.8 %, +8.2 %; on 0.007 (R) and 0.03: +3.3 %, -3.6 %. S/D
_ADD_45, _ADD_7 = 0.00338115, 0.0009041
# Flip-flop write at full activity, 0.009 pJ/bit at 40 nm (Aladdin, accelergy-aladdin-plug-in 5e2e126, V), carried over
# nodes as the adder (A).
_REGISTER_40 = 0.009

# 64-bit access: 10, 20, 100 pJ at 8 KB, 32 KB, 1 MB and 45 nm; worst error 2.2 %. S/D
_SRAM_45 = (10.16, 0.473)
# 64-bit access: 7.5, 8.5, 14 pJ at 7 nm; worst error 2.6 %. S/D
_SRAM_7 = (7.036, 0.00242)
_SRAM_SMALLEST_BITS = 65536.0
# Exponent of the width within one 64-bit bank, from the CACTI sweep. D
_WIDTH_EXPONENT = 0.57

# Clock, pipeline registers and control on top of MAC logic in a dense array. NVDLA (16 nm, marginal power) 2.14; Keller
# et al. (5 nm chip) 1.36..1.41; Eyeriss' remainder bounds it by 1.8 on datapath and memory. D, band 1.3..2.2.
KAPPA_ENERGY = 2.0
# Placed array over bare synthesised PEs (with their partial sum): Gemmini 16 x 16 int8, 32-bit sums, Intel 22FFL,
# 116000 um2 (DAC 2021, S) gives 3.05 and is the calibration; TPU v1 at most 5.5 (24 % of <= 331 mm2, R); NVDLA 8..9
# with all its non-MAC logic (V). D, band 1..6.
KAPPA_AREA = 3.05
# Synthesised to placed area at 70 % utilisation, for logic outside the array. A
_PLACED = 1 / 0.7


def _between(at_45: float, at_7: float, node_nm: float) -> float:
    share = math.log(_OLD_NM / node_nm) / math.log(_OLD_NM / _NEW_NM)
    return float(at_45 * (at_7 / at_45) ** share)


@dataclass(frozen=True)
class GoogleLogic(Logic):
    """The closed forms at one node.

    Parameters
    ----------
    node_nm : float
        7..45.
    kappa_energy : float
        Multiplies MAC logic to give PE energy. 1 is bare logic.
    kappa_area : float
        Multiplies synthesised PE area to give placed array area. 1 is bare synthesis.
    """

    node_nm: float
    kappa_energy: float = KAPPA_ENERGY
    kappa_area: float = KAPPA_AREA

    def __post_init__(self) -> None:
        for name, kappa in (("kappa_energy", self.kappa_energy), ("kappa_area", self.kappa_area)):
            if not 0.1 <= kappa <= 100:
                raise ValueError(f"GoogleLogic.{name} must be in 0.1..100 (got {kappa}); 1 means no overhead")

    def multiply_pj(self, weight_bits: int, act_bits: int) -> float:
        """Return the product's energy, interpolated between 45 and 7 nm."""
        product = weight_bits * act_bits
        at_45 = _MULTIPLY_45[0] * product + _MULTIPLY_45[1] * (weight_bits + act_bits) / 2
        return _between(at_45, _MULTIPLY_7 * product, self.node_nm)

    def add_pj(self, bits: int) -> float:
        """Return the adder's energy, interpolated between 45 and 7 nm."""
        return bits * _between(_ADD_45, _ADD_7, self.node_nm)

    def register_pj(self, bits: int) -> float:
        """Return the flip-flops' energy."""
        return bits * _REGISTER_40 * self._add_factor() / (_between(_ADD_45, _ADD_7, 40.0) / _ADD_45)

    def mac_pj(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow) -> float:
        """Return kappa_energy (multiply + add of the partial-sum width)."""
        return self.kappa_energy * (self.multiply_pj(weight_bits, act_bits) + self.add_pj(psum_bits))

    def pe_area_um2(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow) -> float:
        """Return kappa_area times the 45 nm synthesis times the node's area factor."""
        return self.kappa_area * area_factor(self.node_nm) * fixed_pe_area_um2(weight_bits, act_bits, psum_bits)

    def pe_leakage_mw(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow) -> float:
        """Return kappa_energy times the 45 nm synthesis, falling with the node as the adder does.

        10 % of the power of an 8 x 8 PE at 500 MHz and 45 nm, inside the 8 to 16 % measured there; the share at smaller
        nodes is an assumption.
        """
        return self.kappa_energy * self._add_factor() * fixed_pe_leakage_mw(weight_bits, act_bits, psum_bits)

    def composable_energy_factor(self, max_bits: int) -> float | None:
        """Return fused over fixed of the 45 nm synthesis."""
        return FUSED_ENERGY.get(max_bits)

    def composable_area_factor(self, max_bits: int) -> float | None:
        """Return fused over fixed of the 45 nm synthesis."""
        return FUSED_AREA.get(max_bits)

    def serial_energy_factor(self, weight_bits: int, act_bits: int) -> float:
        """Return serial over fixed 8 x 8, by way of the fused array."""
        return loom_serial_energy_factor(weight_bits, act_bits, FUSED_ENERGY[8])

    def serial_area_factor(self) -> float:
        """Return serial over fixed 8 x 8, by way of the fused array."""
        return loom_serial_area_factor(FUSED_AREA[8])

    def multiplier_area_um2(self, weight_bits: int, act_bits: int) -> float:
        """Return the tutorial table's multiplier times the area factor."""
        return multiplier_area_um2(weight_bits, act_bits) * area_factor(self.node_nm)

    def adder_area_um2(self, bits: int) -> float:
        """Return the tutorial table's adder times the area factor."""
        return ADDER_UM2 * bits * area_factor(self.node_nm)

    def register_area_um2(self, bits: int) -> float:
        """Return a 45 nm flip-flop times the area factor."""
        return REGISTER_UM2 * bits * area_factor(self.node_nm)

    def _add_factor(self) -> float:
        return _between(_ADD_45, _ADD_7, self.node_nm) / _ADD_45


@dataclass(frozen=True)
class GoogleSram:
    """SRAM of the same two tables: `E64(C)` at 45 and at 7 nm, log-log between.

    Width: `(w/64)^0.57` up to 64 bits, linear beyond (banks side by side). Under 8 KB the 7 nm table is silent and its
    law would rise above 45 nm's, so the ratio 7 nm over 45 nm of 8 KB (0.75) is kept: monotone in capacity and in the
    node. Write energy is read energy times `write_factor`: the tables give one figure per access; compilers and CACTI
    1.0 to 1.5 (A).
    """

    node_nm: float
    write_factor: float = 1.25

    def read_pj(self, capacity_bytes: float, word_bits: int) -> float:
        """Return pJ for reading one word."""
        bits = 8 * capacity_bytes
        at_45 = _sram_45(bits)
        at_7 = _sram_7(max(bits, _SRAM_SMALLEST_BITS))
        if bits < _SRAM_SMALLEST_BITS:
            at_7 *= at_45 / _sram_45(_SRAM_SMALLEST_BITS)
        words = word_bits / 64
        return _between(at_45, at_7, self.node_nm) * (words**_WIDTH_EXPONENT if words < 1 else words)

    def write_pj(self, capacity_bytes: float, word_bits: int) -> float:
        """Return pJ for writing one word."""
        return self.write_factor * self.read_pj(capacity_bytes, word_bits)


def _sram_45(bits: float) -> float:
    return float(_SRAM_45[0] * (bits / 65536) ** _SRAM_45[1])


def _sram_7(bits: float) -> float:
    return _SRAM_7[0] + _SRAM_7[1] * math.sqrt(bits)


def google(node_nm: float, kappa_energy: float = KAPPA_ENERGY, kappa_area: float = KAPPA_AREA) -> Technology:
    """Return the technology at a node of 7..45 nm."""
    if not _NEW_NM <= node_nm <= _OLD_NM:
        raise ValueError(
            f"google: node_nm must be in 7..45 (got {node_nm}); scaled(google(45), node_nm, 'stillmaker') reaches 130"
        )
    return Technology(
        name="google",
        node_nm=node_nm,
        sources=SOURCES,
        logic=GoogleLogic(node_nm, kappa_energy, kappa_area),
        sram=GoogleSram(node_nm),
        mac_includes_registers=True,
        mac_contents=(
            f"(multiply + add of the partial-sum width) x kappa_energy {kappa_energy:g}, which stands for the PE's "
            "registers, clock and "
            "control; no leakage"
        ),
        operand_bits=(2, 32),
        psum_bits=(8, 96),
        area_overhead=_PLACED,
        sram_um2_per_bit=silicon_sram_um2_per_bit(node_nm),
    )


SOURCES = (
    Source(_HOROWITZ, "int multiply 0.2 / 3.1 pJ (8 / 32 b): 0.002995 wa + 0.001042 (w+a)/2, exact", "S"),
    Source(_JOUPPI, "int multiply 0.07 / 1.48 pJ (8 / 32 b): 0.001222 wa, +11.7 % / -15.5 %", "S/D"),
    Source(_HOROWITZ, "int add 0.03 / 0.1 pJ (8 / 32 b): 0.003381 b, -9.8 % / +8.2 %", "S/D"),
    Source(_JOUPPI, "int add 0.007 (R) / 0.03 pJ (8 / 32 b): 0.000904 b, +3.3 % / -3.6 %", "S/R/D"),
    Source(
        "this project", "nodes between 45 and 7 nm: log-log interpolation (multiply ~ node^0.50, add ~ node^0.71)", "D"
    ),
    Source(
        "NVDLA primer (nvdla/doc 31f5740); Keller et al., VLSI 2022; Eyeriss, JSSC 2017",
        "kappa_energy 2.0: clock, pipeline registers and control over MAC logic; evidence 2.14, 1.36-1.41, <= 1.8",
        "D",
        level="mac",
    ),
    Source(
        "Gemmini, DAC 2021, Fig. 6 (Intel 22FFL)",
        "kappa_area 3.05: placed 16x16 int8 array of 116000 um2 over bare synthesised PEs; TPU v1 <= 5.5 (R), "
        "NVDLA core 8-9 (V)",
        "S/D",
        level="mac area",
    ),
    Source(
        "Bit Fusion artifact, hsharma35/bitfusion 04ec1c8; area factors of Stillmaker and Baas 2017",
        "PE area: 45 nm synthesis",
        "V/D",
    ),
    Source(
        "Bit Fusion artifact, hsharma35/bitfusion 04ec1c8",
        "PE leakage: 45 nm synthesis x kappa_energy, and with the node as the adder's energy (A)",
        "V/D/A",
        level="mac leakage",
    ),
    Source(
        "Aladdin (Shao et al., ISCA 2014) via accelergy-aladdin-plug-in 5e2e126",
        "flip-flop write 0.009 pJ/bit at 40 nm",
        "V",
    ),
    Source(_HOROWITZ, "SRAM 64 b: 10 / 20 / 100 pJ at 8 KB / 32 KB / 1 MB: 10.16 (C/65536)^0.473, worst 2.2 %", "S/D"),
    Source(_JOUPPI, "SRAM 64 b: 7.5 / 8.5 / 14 pJ at 8 KB / 32 KB / 1 MB: 7.036 + 0.00242 sqrt(C), worst 2.6 %", "S/D"),
    Source(
        "this project",
        "SRAM write = 1.25 x read; width (w/64)^0.57 within a 64-bit bank (CACTI sweep), linear beyond",
        "A/D",
    ),
    FUSED_SOURCE,
    SURVEY_SOURCE,
    TUTORIAL_AREA_SOURCE,
    SRAM_AREA_SOURCE,
    SRAM_LEAK_SOURCE,
    *WIRE_SOURCES,
)
