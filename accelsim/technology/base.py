"""A technology: a table of prices for the events an accelerator counts. It knows no program and no accelerator.

Every method is a pure function of widths (bits) and capacities (bytes), non-decreasing in each of them, and of the node
(nm) for technologies that have several. Energies are dynamic, in pJ per event; areas in um2; leakage in mW, to be
charged for every cycle. A price that the technology does not have is a ValueError that names the event and the
technology.
"""

from dataclasses import dataclass, field
from typing import Literal

from accelsim.technology.dram import dram_type
from accelsim.technology.logic import Dataflow, Logic, Toggles
from accelsim.technology.source import Source
from accelsim.technology.sram import MIN_SRAM_BYTES, SRAM_LEAK_MW_PER_BIT, SRAM_UM2_PER_BIT_NM, SramModel
from accelsim.technology.wires import wire_pj_per_bit_mm

VectorKind = Literal["add", "max", "mul", "shift", "copy", "table", "div", "sqrt"]
VECTOR_KINDS: tuple[VectorKind, ...] = ("add", "max", "mul", "shift", "copy", "table", "div", "sqrt")

# Which technologies have what few have, so that an error can name the remedy.
_ELSEWHERE = {"toggle_pj": "nangate45 (dataflows ws, is)", "pe_critical_path_ns": "nangate45"}

# Requantizer = multiplier + stages over its full product width (rounding adder, barrel shifter, clamp). Fitted to our
# four synthesised requantizers (32-bit accumulator, 16- and 32-bit multipliers, Nangate45): energy -5 %..+2 %, area -2
# %..+1 %. D
_REQUANTIZE_ENERGY_STAGES = 3
_REQUANTIZE_AREA_STAGES = 4

# A table operation reads one entry of 2**bits; beyond 16 bits that is no table any more.
_MAX_TABLE_BITS = 16


@dataclass(frozen=True, kw_only=True)
class Technology:
    """One self-consistent set of prices.

    Parameters
    ----------
    name : str
        As listed in `TECHNOLOGIES`, with the node where it was chosen.
    node_nm : float
        Node label.
    sources : tuple of Source
        Every citation behind the figures.
    logic, sram : Logic, SramModel
        The formulas.
    mac_includes_registers : bool
        Whether `mac_pj` already holds the partial-sum, activation and weight registers of the PE. Where True, counting
        register writes inside the PE as well would count them twice; registers outside the PEs are still separate.
    mac_contents : str
        What `mac_pj` holds, in words.
    operand_bits, psum_bits : tuple of int
        Widths (lowest, highest) which the PE prices cover.
    area_overhead : float
        Placed over synthesised area of the requantizer and the vector lanes (1 where the technology's areas are bare
        synthesis).
    narrow_residue : float
        g of `fixed_mac_pj`: share of the difference between wide and narrow MAC energy that narrow data on a wide PE
        still pays.
    sram_um2_per_bit : float
        Area of SRAM, whole macro over its bits.
    sram_leak_factor : float
        Multiplies the low-standby-power SRAM leakage (a high-performance cell at 360 K leaks 60000 times as much).
    dram_pj_per_bit_fixed : float or None
        Given by an imported table: replaces the DRAM types' own figures.
    """

    name: str
    node_nm: float
    sources: tuple[Source, ...] = field(repr=False)
    logic: Logic
    sram: SramModel
    mac_includes_registers: bool
    mac_contents: str = field(repr=False)
    operand_bits: tuple[int, int]
    psum_bits: tuple[int, int]
    area_overhead: float = 1.0
    # A: no published curve was readable (Camus et al., JETCAS 2019, has one); register and clock share suggests 0.2 to
    # 0.5.
    narrow_residue: float = 0.3
    sram_um2_per_bit: float
    sram_leak_factor: float = 1.0
    dram_pj_per_bit_fixed: float | None = None

    # -- primitives ------------------------------------------------------------------------------------------------

    def multiply_pj(self, weight_bits: int, act_bits: int) -> float:
        """Return the energy of one integer product, in pJ (widths 1..64)."""
        self._check("multiply_pj", (1, 64), weight_bits=weight_bits, act_bits=act_bits)
        return self._priced("multiply_pj", self.logic.multiply_pj(weight_bits, act_bits))

    def add_pj(self, bits: int) -> float:
        """Return the energy of one integer addition (or subtraction, or comparison), in pJ (widths 1..128)."""
        self._check("add_pj", (1, 128), bits=bits)
        return self._priced("add_pj", self.logic.add_pj(bits))

    def register_pj(self, bits: int) -> float:
        """Return the energy of one clocked write of new data into `bits` flip-flops, in pJ (widths 1..4096)."""
        self._check("register_pj", (1, 4096), bits=bits)
        return self._priced("register_pj", self.logic.register_pj(bits))

    # -- processing elements ---------------------------------------------------------------------------------------

    def mac_pj(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow = "ws") -> float:
        """Return the energy of one MAC in a PE of exactly these widths, in pJ; `mac_contents` says what that holds."""
        self._check_pe("mac_pj", weight_bits, act_bits, psum_bits)
        return self._priced("mac_pj", self.logic.mac_pj(weight_bits, act_bits, psum_bits, dataflow))

    def mac_idle_pj(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow = "ws") -> float:
        """Return the energy per cycle of a clocked PE whose operands stay, in pJ; 0 where the data do not tell."""
        self._check_pe("mac_idle_pj", weight_bits, act_bits, psum_bits)
        return self.logic.mac_idle_pj(weight_bits, act_bits, psum_bits, dataflow)

    def fixed_mac_pj(
        self,
        weight_bits: int,
        act_bits: int,
        psum_bits: int,
        pe_weight_bits: int,
        pe_act_bits: int,
        dataflow: Dataflow = "ws",
    ) -> float:
        """Return the energy of a narrow MAC on a wider fixed PE, in pJ: `E(b) + g (E(B) - E(b))`, g = `narrow_residue`.

        Raises
        ------
        ValueError
            If the data are wider than the PE.
        """
        if weight_bits > pe_weight_bits or act_bits > pe_act_bits:
            raise ValueError(
                f"{self.name}.fixed_mac_pj: operands {weight_bits}x{act_bits} must fit the PE "
                f"{pe_weight_bits}x{pe_act_bits}; give a PE at least as wide"
            )
        narrow = self.mac_pj(weight_bits, act_bits, psum_bits, dataflow)
        wide = self.mac_pj(pe_weight_bits, pe_act_bits, psum_bits, dataflow)
        return narrow + self.narrow_residue * (wide - narrow)

    def toggle_pj(
        self, weight_bits: int, act_bits: int, psum_bits: int, toggles: Toggles, dataflow: Dataflow = "ws"
    ) -> float:
        """Return the energy of counted register toggles, PEs and their registers included, in pJ.

        It stands in place of `mac_pj` and `mac_idle_pj`, not beside them.
        """
        self._check_pe("toggle_pj", weight_bits, act_bits, psum_bits)
        return self._priced("toggle_pj", self.logic.toggle_pj(weight_bits, act_bits, psum_bits, toggles, dataflow))

    def pe_area_um2(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow = "ws") -> float:
        """Return the area of one fixed PE of these widths, in um2."""
        self._check_pe("pe_area_um2", weight_bits, act_bits, psum_bits)
        return self._priced("pe_area_um2", self.logic.pe_area_um2(weight_bits, act_bits, psum_bits, dataflow))

    def pe_leakage_mw(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow = "ws") -> float:
        """Return the leakage of one fixed PE of these widths, in mW."""
        self._check_pe("pe_leakage_mw", weight_bits, act_bits, psum_bits)
        return self._priced("pe_leakage_mw", self.logic.pe_leakage_mw(weight_bits, act_bits, psum_bits, dataflow))

    def pe_critical_path_ns(
        self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow = "ws"
    ) -> float | None:
        """Return the delay of one unpipelined PE in ns, or None where the technology has no timing data."""
        self._check_pe("pe_critical_path_ns", weight_bits, act_bits, psum_bits)
        return self.logic.pe_critical_path_ns(weight_bits, act_bits, psum_bits, dataflow)

    def composable_energy_factor(self, max_bits: int) -> float:
        """Return the energy per array cycle of a composable PE of max_bits (2, 4, 8, 16) over a fixed one."""
        factor = self.logic.composable_energy_factor(max_bits)
        return self._priced(f"composable_energy_factor(max_bits={max_bits})", factor)

    def composable_area_factor(self, max_bits: int) -> float:
        """Return the area of a composable PE of max_bits (2, 4, 8 or 16; bricks of 2) over a fixed one."""
        factor = self.logic.composable_area_factor(max_bits)
        return self._priced(f"composable_area_factor(max_bits={max_bits})", factor)

    def serial_energy_factor(self, weight_bits: int, act_bits: int) -> float:
        """Return the energy of one whole bit-serial MAC of these widths over `mac_pj(8, 8, psum_bits)`."""
        self._check("serial_energy_factor", (1, 32), weight_bits=weight_bits, act_bits=act_bits)
        return self._priced("serial_energy_factor", self.logic.serial_energy_factor(weight_bits, act_bits))

    def serial_area_factor(self) -> float:
        """Return the area of bit-serial lanes that make one 8 x 8 MAC per cycle over `pe_area_um2(8, 8, psum_bits)`.

        A PE that takes n cycles for an 8 x 8 MAC is 1/n of such a slot.
        """
        return self._priced("serial_area_factor", self.logic.serial_area_factor())

    # -- memories and wires ----------------------------------------------------------------------------------------

    def sram_read_pj(self, capacity_bytes: float, word_bits: int) -> float:
        """Return the energy of reading one whole physical word from one bank of capacity_bytes, in pJ.

        Below 512 bytes there is no SRAM to price: a register file, falling in proportion to its capacity (its
        multiplexer and word lines do; Interstellar's 28 nm register files double with capacity) down to the price of
        the flip-flops themselves.
        """
        self._check_memory("sram_read_pj", capacity_bytes, word_bits)
        at = max(capacity_bytes, MIN_SRAM_BYTES)
        return self._small_memory_pj(self.sram.read_pj(at, word_bits), capacity_bytes, word_bits)

    def sram_write_pj(self, capacity_bytes: float, word_bits: int) -> float:
        """Return the energy of writing one whole physical word to one bank of capacity_bytes, in pJ."""
        self._check_memory("sram_write_pj", capacity_bytes, word_bits)
        at = max(capacity_bytes, MIN_SRAM_BYTES)
        return self._small_memory_pj(self.sram.write_pj(at, word_bits), capacity_bytes, word_bits)

    def sram_area_um2(self, capacity_bytes: float, word_bits: int) -> float:
        """Return the area of an SRAM with its periphery, in um2 (a line through silicon, whatever the word)."""
        self._check_memory("sram_area_um2", capacity_bytes, word_bits)
        return self.sram_um2_per_bit * 8 * capacity_bytes

    def sram_leakage_mw(self, capacity_bytes: float) -> float:
        """Return the leakage of an SRAM, in mW: 2.44e-9 a bit (CACTI 7, LSTP, 300 K) x `sram_leak_factor`."""
        self._check_memory("sram_leakage_mw", capacity_bytes, 1)
        return SRAM_LEAK_MW_PER_BIT * self.sram_leak_factor * 8 * capacity_bytes

    def dram_pj_per_bit(self, kind: str) -> float:
        """Return the access energy of a DRAM type of `accelsim.technology.dram.DRAM_TYPES`, in pJ/bit."""
        known = dram_type(kind)
        return known.pj_per_bit if self.dram_pj_per_bit_fixed is None else self.dram_pj_per_bit_fixed

    def wire_pj_per_bit_mm(self) -> float:
        """Return the energy of moving one random bit over one millimetre of repeated on-chip wire, in pJ."""
        return wire_pj_per_bit_mm(self.node_nm)

    # -- composed: requantizer and vector unit ---------------------------------------------------------------------

    def requantize_pj(self, acc_bits: int, out_bits: int, multiplier_bits: int = 24) -> float:
        """Return the energy of requantizing one accumulator, in pJ.

        `multiply(acc, m) + 3 (add(acc + m) + register(acc + m)) + register(out)`; m = 24 is the significand of a
        float32 multiplier (rule float32_rne), 32 the fixed-point multiplier of gemmlowp and ruy.
        """
        self._check("requantize_pj", (1, 64), acc_bits=acc_bits, out_bits=out_bits, multiplier_bits=multiplier_bits)
        wide = acc_bits + multiplier_bits
        stages = _REQUANTIZE_ENERGY_STAGES * (self.add_pj(wide) + self.register_pj(wide))
        return self.multiply_pj(acc_bits, multiplier_bits) + stages + self.register_pj(out_bits)

    def requantizer_area_um2(self, acc_bits: int, out_bits: int, multiplier_bits: int = 24) -> float:
        """Return the area of one requantizer lane, in um2: multiplier, 4 x (adder, register), output register."""
        event = "requantizer_area_um2"
        self._check(event, (1, 64), acc_bits=acc_bits, out_bits=out_bits, multiplier_bits=multiplier_bits)
        wide = acc_bits + multiplier_bits
        stages = _REQUANTIZE_AREA_STAGES * (self._adder_um2(event, wide) + self._register_um2(event, wide))
        bare = self._multiplier_um2(event, acc_bits, multiplier_bits) + stages + self._register_um2(event, out_bits)
        return self.area_overhead * bare

    def vector_op_pj(self, kind: str, bits: int) -> float:
        """Return the energy of one element of a vector-unit operation on `bits`-wide data, in pJ.

        add, max: one add (a comparison is a subtraction) and a register; mul: one product and its 2b-bit register;
        shift: one add (a barrel shifter has about its gates) and a register; copy: a register; table: one read of a
        memory of 2**b b-bit entries and a register (b <= 16); div: b, sqrt: b/2 iterations of subtract and a 2b-bit
        remainder register.
        """
        self._check("vector_op_pj", (1, 64), bits=bits)
        if kind in ("add", "max", "shift"):
            return self.add_pj(bits) + self.register_pj(bits)
        if kind == "mul":
            return self.multiply_pj(bits, bits) + self.register_pj(2 * bits)
        if kind == "copy":
            return self.register_pj(bits)
        if kind == "table":
            self._check("vector_op_pj('table')", (1, _MAX_TABLE_BITS), bits=bits)
            return self.sram_read_pj(2**bits * bits / 8, bits) + self.register_pj(bits)
        if kind in ("div", "sqrt"):
            iterations = bits if kind == "div" else bits / 2
            return iterations * (self.add_pj(bits) + self.register_pj(2 * bits))
        raise ValueError(
            f"{self.name}.vector_op_pj: kind must be one of {', '.join(VECTOR_KINDS)} (got {kind!r}); "
            "build other operations of these"
        )

    def vector_lane_area_um2(self, bits: int) -> float:
        """Return the area of a vector lane, in um2: b x b multiplier, 2b-bit adder, b-bit comparator, 6b-bit registers.

        Its table is a memory and is counted with `sram_area_um2`.
        """
        event = "vector_lane_area_um2"
        self._check(event, (1, 64), bits=bits)
        adders = self._adder_um2(event, 2 * bits) + self._adder_um2(event, bits)
        bare = self._multiplier_um2(event, bits, bits) + adders + self._register_um2(event, 6 * bits)
        return self.area_overhead * bare

    # -- helpers ---------------------------------------------------------------------------------------------------

    def _small_memory_pj(self, at_least_512_bytes: float, capacity_bytes: float, word_bits: int) -> float:
        if capacity_bytes >= MIN_SRAM_BYTES:
            return at_least_512_bytes
        flip_flops = min(self.register_pj(word_bits), at_least_512_bytes)
        return max(at_least_512_bytes * capacity_bytes / MIN_SRAM_BYTES, flip_flops)

    def _multiplier_um2(self, event: str, weight_bits: int, act_bits: int) -> float:
        return self._priced(event, self.logic.multiplier_area_um2(weight_bits, act_bits))

    def _adder_um2(self, event: str, bits: int) -> float:
        return self._priced(event, self.logic.adder_area_um2(bits))

    def _register_um2(self, event: str, bits: int) -> float:
        return self._priced(event, self.logic.register_area_um2(bits))

    def _priced(self, event: str, price: float | None) -> float:
        if price is None:
            where = _ELSEWHERE.get(event)
            remedy = f"technologies which have it: {where}" if where else "choose another technology or import a table"
            raise ValueError(f"{self.name}.{event} has no price: the technology has no data for it; {remedy}")
        return price

    def _check(self, event: str, allowed: tuple[int, int], **widths: float) -> None:
        low, high = allowed
        for width, value in widths.items():
            if not low <= value <= high:
                raise ValueError(
                    f"{self.name}.{event}: {width} must be in {low}..{high} (got {value}); "
                    "the technology has no price outside this range"
                )

    def _check_pe(self, event: str, weight_bits: int, act_bits: int, psum_bits: int) -> None:
        self._check(event, self.operand_bits, weight_bits=weight_bits, act_bits=act_bits)
        self._check(event, self.psum_bits, psum_bits=psum_bits)

    def _check_memory(self, event: str, capacity_bytes: float, word_bits: int) -> None:
        # 1 GiB and 4096 bits: far beyond any bank, so what lies outside is a slip in the caller's units.
        self._check(event, (1, 4096), word_bits=word_bits)
        if not 0 < capacity_bytes <= 2**30:
            raise ValueError(
                f"{self.name}.{event}: capacity_bytes must be in (0, 2**30] (got {capacity_bytes}); give bytes of "
                "one bank"
            )


def silicon_sram_um2_per_bit(node_nm: float) -> float:
    """Return the area of SRAM macros in um2/bit by a straight line through silicon: 0.01434 times the node label."""
    return SRAM_UM2_PER_BIT_NM * node_nm


def describe(technology: Technology) -> list[dict[str, str]]:
    """Return rows for a listing: a summary, then what each figure is, with its citation and status."""
    summary = {
        "technology": technology.name,
        "node_nm": f"{technology.node_nm:g}",
        "what": f"mac_pj holds: {technology.mac_contents}",
        "citation": "",
        "status": "",
    }
    rows = [
        {
            "technology": technology.name,
            "node_nm": f"{technology.node_nm:g}",
            "what": source.what,
            "citation": source.citation,
            "status": source.status,
        }
        for source in technology.sources
    ]
    return [summary, *rows]
