"""What a technology's logic must be able to say. Each answer is pJ, um2, mW or ns, or None where there is no data.

`accelsim.technology.base.Technology` checks the widths and turns a None into an error that names the event, so a
Logic is formulas only.
"""

from dataclasses import dataclass
from typing import Literal

Dataflow = Literal["ws", "os", "is"]


@dataclass(frozen=True)
class Toggles:
    """Register activity of a run, summed over PEs and cycles.

    Parameters
    ----------
    pe_cycles : float
        Clocked PE-cycles.
    held, streamed : float
        Bit flips of the held operand's register (the weight under "ws", the activation under "is") and of the streamed
        one's.
    psum_in : float
        Bit flips of the partial sum as it enters each PE, that is of the register of the PE above (0 in the top row).
    """

    pe_cycles: float
    held: float
    streamed: float
    psum_in: float


@dataclass(frozen=True)
class Logic:
    """Prices of gates. This one knows none; a technology's logic overrides what it has data for."""

    def multiply_pj(self, weight_bits: int, act_bits: int) -> float | None:
        """Return the energy of one weight_bits x act_bits integer product, in pJ."""
        return None

    def add_pj(self, bits: int) -> float | None:
        """Return the energy of one integer addition, in pJ."""
        return None

    def register_pj(self, bits: int) -> float | None:
        """Return the energy of one clocked write of `bits` flip-flops, in pJ."""
        return None

    def mac_pj(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow) -> float | None:
        """Return the energy of one multiply-accumulate in a PE of exactly these widths, in pJ."""
        return None

    def mac_idle_pj(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow) -> float:
        """Return the energy of a clocked PE without operand change, in pJ; 0 where the data do not tell."""
        return 0.0

    def toggle_pj(
        self, weight_bits: int, act_bits: int, psum_bits: int, toggles: Toggles, dataflow: Dataflow
    ) -> float | None:
        """Return the energy of counted register activity, in pJ."""
        return None

    def pe_area_um2(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow) -> float | None:
        """Return the area of one PE, in um2."""
        return None

    def pe_leakage_mw(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow) -> float | None:
        """Return the leakage of one PE, in mW."""
        return None

    def pe_critical_path_ns(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow) -> float | None:
        """Return the register-to-register delay of one PE without pipelining inside, in ns."""
        return None

    def composable_energy_factor(self, max_bits: int) -> float | None:
        """Return composable over fixed PE of max_bits, energy per array cycle."""
        return None

    def composable_area_factor(self, max_bits: int) -> float | None:
        """Return composable over fixed PE of max_bits, area."""
        return None

    def serial_energy_factor(self, weight_bits: int, act_bits: int) -> float | None:
        """Return the energy of one bit-serial MAC over that of an 8 x 8 MAC in a fixed PE."""
        return None

    def serial_area_factor(self) -> float | None:
        """Return the area of the bit-serial lanes that make one 8 x 8 MAC per cycle, over a fixed 8 x 8 PE."""
        return None

    def multiplier_area_um2(self, weight_bits: int, act_bits: int) -> float | None:
        """Return the area of a combinational multiplier, in um2."""
        return None

    def adder_area_um2(self, bits: int) -> float | None:
        """Return the area of an adder, in um2."""
        return None

    def register_area_um2(self, bits: int) -> float | None:
        """Return the area of `bits` flip-flops, in um2."""
        return None


def loom_serial_energy_factor(weight_bits: int, act_bits: int, composable_energy_8: float) -> float:
    """Return the energy of one bit-serial MAC over that of an 8 x 8 MAC in a fixed PE, from published synthesis.

    Loom-like arrays: `0.01367 w a + 0.01901 (w + a)/2` pJ (28 nm, 200 MHz; our fit, worst 5.4 %), 0.992 pJ at 8 x 8
    where a BitFusion-like array of the same survey needs 1.157 (Ibrahim, Mei, Verhelst, TCAS-I 2022, arXiv:2108.04773;
    status V, fit D). Only ratios are used: serial/fused of the survey times fused/fixed at 8 bits of the Bit Fusion
    synthesis.
    """
    shape = (0.01367 * weight_bits * act_bits + 0.01901 * (weight_bits + act_bits) / 2) / (0.01367 * 64 + 0.01901 * 8)
    return shape * (0.992 / 1.157) * composable_energy_8


def loom_serial_area_factor(composable_area_8: float) -> float:
    """Return the area of one 8 x 8-MAC-per-cycle slot of a bit-serial array over a fixed 8 x 8 PE.

    912 um2 (Loom-like) over 706 um2 (BitFusion-like) per 8-bit slot at 28 nm and 200 MHz, same survey, times
    fused/fixed.
    """
    return 912 / 706 * composable_area_8
