"""What a simulation gives: figures of a network and of its layers.

`Result` and `LayerResult` hold plain numbers in units that their names state; `to_json` gives them under stable keys.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, overload

from accelsim.activity import Activity
from accelsim.memory_events import Span
from accelsim.schedule import Schedule
from accelsim.technology import Source

TRAFFIC = ("weights", "ifmap", "ofmap", "psum")
"""Kinds of DRAM traffic: parameters, activations in and out, partial sums in and out."""


@dataclass(frozen=True, eq=False)
class LayerResult:
    """One layer's figures, for the whole batch; what `Result` has is meant as there.

    Parameters
    ----------
    name, kind
        Of the op.
    m, k, n, groups
        The matrix product of one sample; 0 where the layer has none.
    macs
        Multiply-accumulates of the batch.
    weight_bits, act_bits
        Operand widths at the PE; 0 where the layer has no product.
    splits
        Channels that a duplicate in front of the layer adds.
    folds
        Loads of the held operand (``os``: groups of outputs), stream chunks and passes counted apart, over all cores.
    sram
        Words read and written, by buffer.
    tiling
        How the layer is cut: loop order, tile sizes and trips, stream chunk, what stays on chip.
    """

    name: str
    kind: str
    m: int
    k: int
    n: int
    groups: int
    macs: int
    weight_bits: int
    act_bits: int
    splits: int
    folds: int
    array_cycles: int
    busy_cycles: int
    cycles: int
    stall_cycles: dict[str, int]
    utilization: float
    energy_pj: dict[str, float]
    dram_bytes: int
    dram_traffic: dict[str, int]
    weight_bytes: int
    sram: dict[str, int]
    tiling: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return plain types under stable keys."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


class Layers(Sequence[LayerResult]):
    """The layers of a result, each made when it is first looked at."""

    def __init__(self, count: int, make: Callable[[int], LayerResult]) -> None:
        self._make = make
        self._made: list[LayerResult | None] = [None] * count

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self._made)

    @overload
    def __getitem__(self, place: int) -> LayerResult: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[LayerResult, ...]: ...

    def __getitem__(self, place: int | slice) -> LayerResult | tuple[LayerResult, ...]:
        """Return one layer, or several as a tuple."""
        if isinstance(place, slice):
            return tuple(self[item] for item in range(*place.indices(len(self))))
        place = range(len(self))[place]
        found = self._made[place]
        if found is None:
            found = self._made[place] = self._make(place)
        return found

    def __iter__(self) -> Iterator[LayerResult]:
        """Iterate in order of execution."""
        return (self[place] for place in range(len(self)))


@dataclass(frozen=True, eq=False)
class Result:
    """Figures of a network for one batch.

    Parameters
    ----------
    batch
        Samples.
    cycles
        End to end: until the last result is stored. Under `timing_mode` ``scalesim`` the array's alone.
    array_cycles
        Of the array alone, closed form of `timing_mode`, on the core that does most.
    busy_cycles
        Cycles in which operands stream through the array.
    stall_cycles
        All other cycles by cause; ``busy_cycles + Σ stall_cycles = cycles``. ``fill_drain``: the skew fills or empties,
        sums are shifted out. ``weight_load``: the held operand is loaded while nothing streams. ``sram``: a buffer's
        port is too narrow to feed the array. ``dram``: the array waits for off-chip transfers. ``vector``: it waits for
        the requantizer, or the vector unit works. ``duplicate``: duplicated channels are written (``copy_pass``).
    seconds
        At the accelerator's clock.
    energy_pj, area_um2
        By component and ``total``.
    weight_bytes
        Parameters as stored: weights, biases, scales, zero points, gather lists, tables.
    dram_bytes, dram_traffic
        Total, and by kind (`TRAFFIC`).
    utilization
        Useful multiply-accumulates over what all PEs could do at these widths in the array's own cycles.
    folds
        See `LayerResult`.
    timing_mode, technology, node_nm
        What the figures were computed with.
    layers
        Every layer, products and others.
    sources
        Where the prices come from.
    notes
        What a reader must know: clock beyond the critical path, widths rounded up, spilled sums, passes of a batch.
    band
        How far figures may be off.
    activity
        What was counted, over all layers and cores.
    schedule
        Residency and tiles; give it to `simulate` to keep to them.
    spans
        Timeline of one pass, where the event-driven model ran.
    """

    batch: int
    cycles: int
    array_cycles: int
    busy_cycles: int
    stall_cycles: dict[str, int]
    seconds: float
    energy_pj: dict[str, float]
    area_um2: dict[str, float]
    weight_bytes: int
    dram_bytes: int
    dram_traffic: dict[str, int]
    utilization: float
    folds: int
    timing_mode: str
    technology: str
    node_nm: float
    layers: Sequence[LayerResult]
    sources: tuple[Source, ...]
    notes: tuple[str, ...]
    band: str
    activity: Activity
    schedule: Schedule
    spans: tuple[Span, ...] = ()

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of the batch."""
        return sum(layer.macs for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Return plain types under stable keys."""
        apart = ("layers", "sources", "notes", "activity", "schedule", "spans")
        plain = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in apart}
        plain["notes"] = list(self.notes)
        plain["layers"] = [layer.to_json() for layer in self.layers]
        plain["sources"] = [
            {"citation": source.citation, "what": source.what, "status": source.status} for source in self.sources
        ]
        return plain
