"""Technology `bitfusion45`: the 45 nm synthesis of systolic arrays published with Bit Fusion (500 MHz, 105 designs).

Fixed and fused PEs, area, leakage and dynamic power at tool-default activity, which is low: energies stand 5x to 8x
under gate-level simulation with data (nangate45). Good for comparing PE types and widths; 45 nm only.
"""

from dataclasses import dataclass

from accelsim.technology.base import Technology, silicon_sram_um2_per_bit
from accelsim.technology.logic import Dataflow, Logic, loom_serial_area_factor, loom_serial_energy_factor
from accelsim.technology.source import Source
from accelsim.technology.sram import CACTI_SOURCE, SRAM_AREA_SOURCE, SRAM_LEAK_SOURCE, CactiSram
from accelsim.technology.wires import WIRE_SOURCES

NODE_NM = 45.0
_ARTIFACT = (
    "Bit Fusion artifact (Sharma et al., ISCA 2018), hsharma35/bitfusion 04ec1c8, results/systolic_array_synth.csv"
)

# Fixed PE of width b, one sixteenth of a 4 x 4 array, so a quarter of the column's edge accumulator is inside: fits by
# us. V/D
_ENERGY = (0.00161082, 0.01109818, 0.01208646)  # pJ/cycle: b^2, b, 1; 2, 4, 8, 16 bits, worst 0.3 %
_AREA = (4.9461345, 23.91259967, 13.7706727)  # um2, worst 2.1 %
_LEAKAGE = (0.00017958, 0.00066488, -0.00030728)  # mW, worst 2.5 %

# The fits know one width. b^2 becomes w a and b becomes (w + a)/2. Their partial sum is taken as w + a + 8 bits (A:
# with it, 0.639 times Horowitz' MAC plus 0.00046 pJ per register bit reproduces all four energies within 4.4 %); other
# sums pay per bit:
_PSUM_MARGIN_BITS = 8
_MAC_ALPHA = 0.639  # level of the synthesis over Horowitz. D
_REGISTER_PJ = 0.00046  # per clocked bit at the synthesis' activity. D
_ADD_PJ = _MAC_ALPHA * 0.00338115  # Horowitz' adder, 45 nm, per bit. S/D
_PSUM_PJ = _ADD_PJ + _REGISTER_PJ
# Adder and flip-flop per bit of partial sum, from our own synthesis (split PE, all widths): area, leakage. D
PSUM_UM2 = 10.36
PSUM_LEAK_MW = 206.7e-6

# Multiplier alone, quadratic through Horowitz' 0.2 pJ (8 bits) and 3.1 pJ (32 bits), at the level of the synthesis. S/D
_MULTIPLY = (0.00299479, 0.00104167)

# Fused PE (bricks of 2 bits) over fixed PE, 4 x 4 arrays. V
FUSED_ENERGY = {2: 1.0, 4: 1.43, 8: 2.26, 16: 3.51}
FUSED_AREA = {2: 1.0, 4: 1.85, 8: 3.40, 16: 5.26}

# Synthesised areas at 45 nm of the multiplier 282 um2 (8 bits) and 3495 (32), quadratic through both, and of the adder
# 137 um2 at 32 bits (36 at 8): Dally/Han tutorial table, TSMC 45 nm. R. Flip-flop 4.522 um2/bit: Nangate45, our
# synthesis. D
_MULTIPLIER_UM2 = (3.0819, 10.5948)
ADDER_UM2 = 4.3
REGISTER_UM2 = 4.522


def fixed_pe_area_um2(weight_bits: float, act_bits: float, psum_bits: float) -> float:
    """Return the synthesised area of a fixed PE at 45 nm, in um2."""
    return _shape(_AREA, weight_bits, act_bits) + PSUM_UM2 * _psum_excess(weight_bits, act_bits, psum_bits)


def fixed_pe_leakage_mw(weight_bits: float, act_bits: float, psum_bits: float) -> float:
    """Return the leakage of a fixed PE at 45 nm, in mW."""
    return _shape(_LEAKAGE, weight_bits, act_bits) + PSUM_LEAK_MW * _psum_excess(weight_bits, act_bits, psum_bits)


def multiplier_area_um2(weight_bits: float, act_bits: float) -> float:
    """Return the synthesised area of a multiplier at 45 nm, in um2."""
    return _MULTIPLIER_UM2[0] * weight_bits * act_bits + _MULTIPLIER_UM2[1] * (weight_bits + act_bits) / 2


def _shape(fit: tuple[float, float, float], weight_bits: float, act_bits: float) -> float:
    return fit[0] * weight_bits * act_bits + fit[1] * (weight_bits + act_bits) / 2 + fit[2]


def _psum_excess(weight_bits: float, act_bits: float, psum_bits: float) -> float:
    return psum_bits - (weight_bits + act_bits + _PSUM_MARGIN_BITS)


@dataclass(frozen=True)
class BitFusionLogic(Logic):
    """The closed forms; the dataflow makes no difference (one published PE, weight stationary)."""

    def multiply_pj(self, weight_bits: int, act_bits: int) -> float:
        """Return Horowitz' product at the synthesis' level."""
        quadratic, linear = _MULTIPLY
        return _MAC_ALPHA * (quadratic * weight_bits * act_bits + linear * (weight_bits + act_bits) / 2)

    def add_pj(self, bits: int) -> float:
        """Return Horowitz' adder at the synthesis' level."""
        return _ADD_PJ * bits

    def register_pj(self, bits: int) -> float:
        """Return 0.00046 pJ per bit."""
        return _REGISTER_PJ * bits

    def mac_pj(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow) -> float:
        """Return the fixed PE's energy per cycle."""
        return _shape(_ENERGY, weight_bits, act_bits) + _PSUM_PJ * _psum_excess(weight_bits, act_bits, psum_bits)

    def pe_area_um2(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow) -> float:
        """Return the fixed PE's area."""
        return fixed_pe_area_um2(weight_bits, act_bits, psum_bits)

    def pe_leakage_mw(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow) -> float:
        """Return the fixed PE's leakage."""
        return fixed_pe_leakage_mw(weight_bits, act_bits, psum_bits)

    def composable_energy_factor(self, max_bits: int) -> float | None:
        """Return fused over fixed, per array cycle."""
        return FUSED_ENERGY.get(max_bits)

    def composable_area_factor(self, max_bits: int) -> float | None:
        """Return fused over fixed."""
        return FUSED_AREA.get(max_bits)

    def serial_energy_factor(self, weight_bits: int, act_bits: int) -> float:
        """Return serial over fixed 8 x 8, by way of the fused array."""
        return loom_serial_energy_factor(weight_bits, act_bits, FUSED_ENERGY[8])

    def serial_area_factor(self) -> float:
        """Return serial over fixed 8 x 8, by way of the fused array."""
        return loom_serial_area_factor(FUSED_AREA[8])

    def multiplier_area_um2(self, weight_bits: int, act_bits: int) -> float:
        """Return the tutorial table's multiplier."""
        return multiplier_area_um2(weight_bits, act_bits)

    def adder_area_um2(self, bits: int) -> float:
        """Return the tutorial table's adder."""
        return ADDER_UM2 * bits

    def register_area_um2(self, bits: int) -> float:
        """Return Nangate45's flip-flop."""
        return REGISTER_UM2 * bits


def bitfusion45(node_nm: float = NODE_NM) -> Technology:
    """Return the technology; 45 nm is its only node."""
    if node_nm != NODE_NM:
        raise ValueError(
            f"bitfusion45: node_nm must be 45 (got {node_nm}); move it with scaled(bitfusion45(), node_nm, ...)"
        )
    return Technology(
        name="bitfusion45",
        node_nm=NODE_NM,
        sources=SOURCES,
        logic=BitFusionLogic(),
        sram=CactiSram(NODE_NM),
        mac_includes_registers=True,
        mac_contents=(
            "a whole synthesised PE per cycle at tool-default activity: multiplier, adder, activation, weight and "
            "partial-sum "
            "registers, a quarter of the column's accumulator; no leakage, no clock tree"
        ),
        operand_bits=(2, 17),
        psum_bits=(8, 64),
        sram_um2_per_bit=silicon_sram_um2_per_bit(NODE_NM),
    )


SURVEY_SOURCE = Source(
    "Ibrahim, Mei, Verhelst, TCAS-I 2022, arXiv:2108.04773, data of KULeuven-MICAS/PSMA-benchmark",
    "bit-serial MAC 0.992 pJ and 912 um2 per 8-bit slot against fused 1.157 pJ and 706 um2 (28 nm, 200 MHz); "
    "energy 0.01367 w a + 0.01901 (w+a)/2, worst 5.4 %; ratios only",
    "V/D",
)
TUTORIAL_AREA_SOURCE = Source(
    "Dally/Han tutorial table, Design Compiler, TSMC 45 nm",
    "multiplier 282 um2 (8 b) and 3495 um2 (32 b), adder 36 um2 (8 b) and 137 um2 (32 b); "
    "flip-flop 4.522 um2/bit is Nangate45's (D)",
    "R/D",
)
FUSED_SOURCE = Source(
    _ARTIFACT,
    "fused PE over fixed PE, energy per cycle 1.43 / 2.26 / 3.51 and area 1.85 / 3.40 / 5.26 at 4 / 8 / 16 bits",
    "V",
)

SOURCES = (
    Source(
        _ARTIFACT,
        "PE pJ/cycle 0.001611 wa + 0.011098 (w+a)/2 + 0.012086, 45 nm, 500 MHz; worst 0.3 % at 2..16 b",
        "V/D",
    ),
    Source(_ARTIFACT, "PE um2 4.946 wa + 23.91 (w+a)/2 + 13.77, synthesised; worst 2.1 % at 2..16 b", "V/D"),
    Source(_ARTIFACT, "PE leakage mW 0.00018 wa + 0.000665 (w+a)/2 - 0.000307; worst 2.5 %; charge per cycle", "V/D"),
    Source(
        "assumption",
        "partial sum of the published PE is w + a + 8 bits; other sums +-0.00262 pJ, 10.36 um2 per bit",
        "A/D",
    ),
    FUSED_SOURCE,
    SURVEY_SOURCE,
    Source("Horowitz, ISSCC 2014", "multiply and add alone: Horowitz 45 nm times 0.639 (fit to the synthesis)", "S/D"),
    TUTORIAL_AREA_SOURCE,
    CACTI_SOURCE,
    SRAM_AREA_SOURCE,
    SRAM_LEAK_SOURCE,
    *WIRE_SOURCES,
)
