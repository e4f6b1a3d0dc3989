"""The machine: a frozen, validated description of an accelerator, from YAML or from Python.

Every field carries its unit in its name. A description is valid for its whole life: all errors of a file are reported
at once, contradictions between fields included.
"""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from accelsim.arith import Accumulation, Overflow
from accelsim.config_errors import error_lines
from accelsim.plain_yaml import MAX_CHARACTERS, plain_mapping
from accelsim.scalesim_cfg import scalesim_fields
from accelsim.technology import dram_type


class _Part(BaseModel):
    # Strict: 32 and not "32" or true, so that a slip in a file is no silent change of meaning.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Array(_Part):
    """The grid of processing elements.

    Parameters
    ----------
    rows, cols
        Number of PEs down and across.
    dataflow
        Which operand stays in the PE: ``ws`` weights, ``os`` outputs, ``is`` inputs.
    double_buffered
        Whether a PE has a shadow register for the stationary operand, so that folds overlap.
    pipeline_depth
        Cycles from operands to product sum inside a PE.
    groups
        How grouped and depthwise layers use the array: ``packed``, several small groups side by side on the diagonal,
        or ``serial``, one after the other.
    """

    rows: int = Field(ge=1, le=4096)
    cols: int = Field(ge=1, le=4096)
    dataflow: Literal["ws", "os", "is"] = "ws"
    double_buffered: bool = True
    pipeline_depth: int = Field(default=1, ge=1, le=16)
    groups: Literal["packed", "serial"] = "packed"


class Pe(_Part):
    """The processing element.

    Parameters
    ----------
    type
        ``fixed``: one width, narrower data takes the same time. ``native``: built for the network's widest operands.
        ``composable``: bricks of `brick_bits` fused to the width of the data, several products a cycle at narrow
        widths. ``bit_serial``: cycles in proportion to the bits of `serial`.
    weight_bits, act_bits
        Widest operands. ``native`` takes the network's instead.
    brick_bits
        Smallest width of a composable PE.
    serial
        Which operand of a bit-serial PE comes bit by bit.
    """

    type: Literal["fixed", "native", "composable", "bit_serial"] = "fixed"
    weight_bits: int = Field(default=8, ge=2, le=18)
    act_bits: int = Field(default=8, ge=2, le=18)
    brick_bits: Literal[2, 4] = 2
    serial: Literal["weight", "activation", "both"] = "weight"

    @model_validator(mode="after")
    def _bricks(self) -> Self:
        if self.type == "composable" and min(self.weight_bits, self.act_bits) < self.brick_bits:
            raise ValueError(
                f"composable PEs are at least one brick wide (got {self.weight_bits}×{self.act_bits} of "
                f"brick_bits={self.brick_bits}); narrow the bricks"
            )
        if self.type == "composable" and not {self.weight_bits, self.act_bits} <= {4, 8, 16}:
            raise ValueError(
                f"composable PEs are 4, 8 or 16 bits wide (got {self.weight_bits}×{self.act_bits}); "
                "use type fixed or native"
            )
        return self


class Accumulator(_Part):
    """Widths and overflow rules of the sums.

    Parameters
    ----------
    psum_bits, psum_overflow
        Of the partial sum that moves from PE to PE; unused by ``os``.
    bits, overflow
        Of the accumulator memory, or of the PE's register under ``os``.
    """

    psum_bits: int = Field(default=32, ge=4, le=64)
    psum_overflow: Overflow = "saturate"
    bits: int = Field(default=32, ge=4, le=64)
    overflow: Overflow = "saturate"

    @model_validator(mode="after")
    def _widths(self) -> Self:
        if self.psum_bits > self.bits:
            raise ValueError(
                f"psum_bits={self.psum_bits} exceeds bits={self.bits}; an accumulator narrower than its partial sums "
                "loses them: widen bits or narrow psum_bits"
            )
        return self


class Sram(_Part):
    """One on-chip buffer: its capacity, the width of a bank's word, its banks, and whether halves alternate."""

    bytes: int = Field(ge=64, le=1 << 33)
    word_bits: int = Field(default=64, ge=8, le=8192)
    banks: int = Field(default=1, ge=1, le=1024)
    double_buffered: bool = True

    @property
    def tile_bytes(self) -> int:
        """Bytes that one tile may fill: half where halves alternate."""
        return self.bytes // 2 if self.double_buffered else self.bytes

    @model_validator(mode="after")
    def _word(self) -> Self:
        if 8 * self.bytes < self.banks * self.word_bits:
            raise ValueError(
                f"bytes={self.bytes} holds no word of {self.word_bits} bits in each of {self.banks} bank(s); enlarge "
                "it, or narrow the word"
            )
        return self


class Dram(_Part):
    """Off-chip memory: kind (priced per bit), sustained bandwidth and latency of a burst.

    Parameters
    ----------
    type
        A key of the technology's DRAM table.
    bandwidth_gb_per_s
        10**9 bytes a second, shared by all cores.
    latency_ns
        Of the first word of a transfer.
    page_efficiency
        Share of the bandwidth that page misses and refresh leave.
    """

    type: str = "LPDDR4"
    bandwidth_gb_per_s: float = Field(default=12.8, gt=0, le=1e5)
    latency_ns: float = Field(default=100.0, ge=0, le=1e6)
    page_efficiency: float = Field(default=0.8, gt=0, le=1)

    @field_validator("type")
    @classmethod
    def _known(cls, kind: str) -> str:
        dram_type(kind)
        return kind


class Accelerator(_Part):
    """A whole machine.

    Parameters
    ----------
    name, description
        For reports; `description` carries the source of a preset.
    array, pe, accumulator
        The compute side.
    vector_lanes
        Element-wise operations per cycle beside the array: pooling, adds, tables, norms.
    vector_bits
        Width of a vector lane's datapath, which decides its area (32 holds a float32 significand and its sums).
    requantizer_lanes
        Accumulators requantized per cycle.
    activation_sram, weight_sram, accumulator_sram
        Buffers; the accumulator buffer holds sums at the accumulator's width.
    dram
        Off-chip memory.
    storage
        How a value of b bits lies in memory: ``packed`` in b bits, ``pow2`` in the next power of two, ``byte`` in
        whole bytes.
    duplication
        ``on_read``: the feeder reads a duplicated channel again. ``copy_pass``: duplicates are written and stored.
    clock_mhz
        Of everything on the chip.
    node_nm
        Default node of the technology.
    cores
        Arrays with their buffers, sharing one DRAM.
    """

    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=4000)
    array: Array
    pe: Pe = Pe()
    accumulator: Accumulator = Accumulator()
    vector_lanes: int = Field(default=16, ge=1, le=65536)
    vector_bits: int = Field(default=32, ge=8, le=64)
    requantizer_lanes: int = Field(default=16, ge=1, le=65536)
    activation_sram: Sram
    weight_sram: Sram
    accumulator_sram: Sram
    dram: Dram = Dram()
    storage: Literal["packed", "pow2", "byte"] = "packed"
    duplication: Literal["on_read", "copy_pass"] = "on_read"
    clock_mhz: float = Field(default=500.0, gt=0, le=1e5)
    node_nm: float = Field(default=45.0, ge=3, le=180)
    cores: int = Field(default=1, ge=1, le=256)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """Refuse buffers that do not hold what the array takes at once."""
        problems = contradictions({name: getattr(self, name) for name in type(self).model_fields})
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def timing_mode(self) -> Literal["isolated", "overlapped"]:
        """Default timing: folds overlap exactly where the stationary operand is double-buffered."""
        return "overlapped" if self.array.double_buffered else "isolated"

    def products_per_pe(self, weight_bits: int, act_bits: int) -> int:
        """Products that one PE of this machine multiplies in a cycle at these widths; 1 but for composable PEs."""
        if self.pe.type != "composable":
            return 1
        return (self.pe.weight_bits // self._brick(weight_bits, self.pe.weight_bits)) * (
            self.pe.act_bits // self._brick(act_bits, self.pe.act_bits)
        )

    def _brick(self, bits: int, widest: int) -> int:
        width: int = self.pe.brick_bits
        while width < bits and width < widest:
            width *= 2
        return width

    def accumulation(self, weight_bits: int, act_bits: int) -> Accumulation:
        """Return how this machine adds products of these widths up."""
        products = self.products_per_pe(weight_bits, act_bits)
        return Accumulation(
            fold_k=None if self.array.dataflow == "os" else self.array.rows * products,
            products_per_hop=products,
            psum_bits=self.accumulator.psum_bits,
            psum_overflow=self.accumulator.psum_overflow,
            acc_bits=self.accumulator.bits,
            acc_overflow=self.accumulator.overflow,
        )


def contradictions(parts: Mapping[str, Any]) -> list[str]:
    """Return which parts of an accelerator contradict each other; parts that are missing contradict nothing."""
    return [problem for check in (_held_fits, _sums_fit) if (problem := check(parts))]


def _held_fits(parts: Mapping[str, Any]) -> str:
    """Check one fold of held operands at the PE's widths; ``native`` PEs have none before there is a network."""
    array, pe = parts.get("array"), parts.get("pe")
    if array is None or pe is None or array.dataflow == "os" or pe.type == "native":
        return ""
    name, bits = ("weight_sram", pe.weight_bits) if array.dataflow == "ws" else ("activation_sram", pe.act_bits)
    sram: Sram | None = parts.get(name)
    fold = -(-array.rows * array.cols * bits // 8)
    if sram is None or sram.tile_bytes >= fold:
        return ""
    half = "half of " if sram.double_buffered else ""
    return (
        f"{half}{name}.bytes={sram.bytes} is smaller than one fold of {fold} bytes ({array.rows}×{array.cols} PEs "
        f"of {bits} bits); enlarge it{', single-buffer it' if half else ''} or shrink the array"
    )


def _sums_fit(parts: Mapping[str, Any]) -> str:
    """Check that the accumulator buffer holds one row of sums."""
    array, accumulator, sram = (parts.get(name) for name in ("array", "accumulator", "accumulator_sram"))
    if array is None or accumulator is None or sram is None:
        return ""
    row = -(-array.cols * accumulator.bits // 8)
    if sram.tile_bytes >= row:
        return ""
    half = "half of " if sram.double_buffered else ""
    return f"{half}accumulator_sram.bytes={sram.bytes} holds no row of {array.cols} sums ({row} bytes); enlarge it"


REMEDIES = {
    "rows": "give the number of PE rows",
    "cols": "give the number of PE columns",
    "bandwidth_gb_per_s": "give the sustained bandwidth of the channel in 10**9 bytes a second",
    "page_efficiency": "give the share of the bandwidth that is left, at most 1",
    "clock_mhz": "give the clock in MHz",
    "bytes": "give the capacity of the buffer in bytes",
    "cores": "give the number of arrays, 1 for one",
}
"""What to do about a field that is missing or out of range, where the rule alone does not say it."""


def preset_names() -> list[str]:
    """Return the accelerators that come with the package."""
    folder = resources.files("accelsim") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_accelerator(name_or_path: str | Path) -> Accelerator:
    """Return a preset by name, or read a YAML file.

    Raises
    ------
    ValueError
        If there is no such preset or file, or the description is invalid; all its errors are listed.
    """
    if str(name_or_path) in preset_names():
        text = (resources.files("accelsim") / "presets" / f"{name_or_path}.yaml").read_text(encoding="utf-8")
        return parse_accelerator(text, str(name_or_path))
    path = Path(name_or_path)
    if not path.is_file():
        raise ValueError(
            f"accelerator {str(name_or_path)!r} is neither a preset ({', '.join(preset_names())}) nor a YAML file"
        )
    if path.stat().st_size > MAX_CHARACTERS:
        raise ValueError(f"accelerator {path} is larger than {MAX_CHARACTERS} bytes; a description is a page of YAML")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"accelerator {path} is no UTF-8 text: {error}") from None
    if path.suffix.lower() == ".cfg":
        return build_accelerator(scalesim_fields(text, str(path), path.stem), str(path))
    return parse_accelerator(text, str(path))


def parse_accelerator(text: str, origin: str) -> Accelerator:
    """Build an accelerator from YAML text; `origin` names it in errors."""
    return build_accelerator(plain_mapping(text, f"accelerator {origin}"), origin)


def build_accelerator(plain: dict[str, Any], origin: str) -> Accelerator:
    """Build an accelerator from a mapping, listing every error in one line.

    Raises
    ------
    ValueError
        With all errors, each as field: rule (got value); remedy.
    """
    try:
        return Accelerator.model_validate(plain)
    except ValidationError as error:
        lines = error_lines(error, Accelerator, plain, contradictions)
        raise ValueError(f"accelerator {origin} has {len(lines)} error(s): " + "; ".join(lines)) from None
