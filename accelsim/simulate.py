"""Simulation of a Program on an accelerator: time, traffic, energy and area, layer by layer.

Counting comes first, pricing second. Nothing here looks at a value, so a Program without values will do.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.activity import Activity, Event, merged
from accelsim.codes import MODE_CODES, STORAGE_CODES, array_codes
from accelsim.codes import stored_bits as _stored
from accelsim.config import Accelerator
from accelsim.cost import Machine, area_um2, energy_pj
from accelsim.layers import LayerTable, layer_table
from accelsim.pe import Widths, built_widths, pe_type, too_wide
from accelsim.program import Program
from accelsim.technology import Source, Technology, absolute_band, technology
from accelsim.timing import array_cycles, lay

STALLS = ("fill_drain", "weight_load", "sram", "dram", "vector", "duplicate")
"""Why the array did not stream operands, see `Result.stall_cycles`."""

TRAFFIC = ("weights", "ifmap", "ofmap", "psum")


@dataclass(frozen=True, eq=False)
class LayerResult:
    """One layer's figures, for the whole batch; fields as in `Result`.

    Parameters
    ----------
    name, kind
        Of the op.
    m, k, n, groups
        The matrix product of one sample; 0 where the layer has none.
    macs
        Multiply-accumulates of the batch.
    weight_bits, act_bits
        Operand widths at the PE.
    splits
        Channels that a duplicate in front of the layer adds.
    folds
        Loads of the held operand (``os``: groups of outputs), stream chunks counted apart.
    sram
        Words read and written, by buffer.
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

    def to_json(self) -> dict[str, Any]:
        """Return plain types under stable keys."""
        return dict(self.__dict__)


@dataclass(frozen=True, eq=False)
class Result:
    """Figures of a network for one batch; see the fields of the JSON in the design.

    Parameters
    ----------
    batch
        Samples.
    cycles
        End to end.
    array_cycles
        Of the array alone, closed form of `timing_mode`.
    busy_cycles
        Cycles in which operands stream through the array.
    stall_cycles
        All other cycles by cause; with `busy_cycles` they sum up to `cycles`. ``fill_drain`` skew and shifting out;
        ``weight_load`` the held operand is loaded; ``sram`` a buffer is too narrow to feed the array; ``dram`` the
        array waits for off-chip transfers; ``vector`` it waits for requantizer or vector unit; ``duplicate`` for the
        copies of ``copy_pass``.
    energy_pj, area_um2
        By component and ``total``.
    weight_bytes
        All parameters as stored: weights, biases, scales, zero points, gather lists, tables.
    dram_bytes, dram_traffic
        Total, and by kind.
    utilization
        Useful multiply-accumulates over what the array could do at these widths in its own cycles.
    sources
        Where the prices come from.
    notes
        Facts a reader must know: clock beyond the critical path, widths rounded up, spills.
    band
        How far figures may be off.
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
    layers: tuple[LayerResult, ...]
    sources: tuple[Source, ...]
    notes: tuple[str, ...]
    band: str
    activity: Activity

    def to_json(self) -> dict[str, Any]:
        """Return plain types under stable keys."""
        plain = {name: value for name, value in self.__dict__.items() if name not in ("activity", "layers", "sources")}
        plain["notes"] = list(self.notes)
        plain["layers"] = [layer.to_json() for layer in self.layers]
        plain["sources"] = [
            {"citation": source.citation, "what": source.what, "status": source.status} for source in self.sources
        ]
        return plain


def stored_bits(bits: NDArray[np.int64], storage: str) -> NDArray[np.int64]:
    """Array form of `accelsim.codes.stored_bits`."""
    return np.array([_stored(int(b), STORAGE_CODES[storage]) for b in bits], dtype=np.int64)


BAND = "ratios within one technology 5 % (widths a factor 2 apart) to 15 % (neighbouring widths); absolute values ×/÷ 2"


@lru_cache(maxsize=16)
def default_technology(node_nm: float) -> Technology:
    """Return the technology used where none is given: ``google`` at the accelerator's node."""
    return technology("google", node_nm)


def simulate(
    program: Program,
    accelerator: Accelerator,
    technology: Technology | None = None,
    *,
    batch: int = 1,
    timing_mode: str | None = None,
) -> Result:
    """Simulate one batch of a network.

    Parameters
    ----------
    program
        With or without values.
    accelerator
        The machine.
    technology
        Prices; ``google`` at the accelerator's node where ``None``.
    batch
        Samples per batch.
    timing_mode
        ``isolated``, ``overlapped`` or ``scalesim``; the accelerator's own where ``None``.

    Raises
    ------
    ValueError
        If the mode does not exist on this machine, operands do not fit its PEs, or a price is missing.
    """
    if batch < 1:
        raise ValueError(f"simulate: batch must be >= 1 (got {batch}); give the number of samples")
    mode = _mode(accelerator, timing_mode)
    prices = default_technology(accelerator.node_nm) if technology is None else technology
    table = layer_table(program)
    _check_widths(table, accelerator)
    machine = _machine(table, accelerator, prices)
    layers, activities = _layers(table, machine, batch, mode)
    return _result(machine, batch, mode, layers, merged(activities))


def _mode(accelerator: Accelerator, timing_mode: str | None) -> str:
    mode = accelerator.timing_mode if timing_mode is None else timing_mode
    if mode not in MODE_CODES:
        raise ValueError(f"simulate: timing_mode must be one of {', '.join(MODE_CODES)} (got {mode!r})")
    if mode == "overlapped" and not accelerator.array.double_buffered:
        raise ValueError(
            f"simulate: timing_mode 'overlapped' needs a double-buffered array, {accelerator.name}'s is not; "
            "use 'isolated' or set array.double_buffered"
        )
    return mode


def _check_widths(table: LayerTable, accelerator: Accelerator) -> None:
    bad = [
        f"{name}: {reason}"
        for name, row in zip(table.names, table.layers, strict=True)
        if row["m"] and (reason := too_wide(accelerator, int(row["weight_bits"]), int(row["act_bits"])))
    ]
    if bad:
        raise ValueError(
            f"simulate: {accelerator.name} has too narrow PEs for {'; '.join(bad)}; widen pe.weight_bits / "
            "pe.act_bits or use type native"
        )


def _machine(table: LayerTable, accelerator: Accelerator, prices: Technology) -> Machine:
    rows = table.layers[table.products]
    widest = (int(rows["weight_bits"].max(initial=2)), int(rows["act_bits"].max(initial=2)))
    output = int(table.layers["requantized_bits"].max(initial=0)) or 8
    return Machine(accelerator, prices, built_widths(accelerator, *widest), output)


def _layers(
    table: LayerTable, machine: Machine, batch: int, mode: str
) -> tuple[tuple[LayerResult, ...], list[Activity]]:
    accelerator = machine.accelerator
    sizes = _tensor_bytes(table, accelerator) * batch
    kept = _kept(table, sizes, accelerator.activation_sram.bytes)
    results, activities = [], []
    for place in range(len(table)):
        result, activity = _layer(table, machine, place, batch, mode, sizes, kept)
        results.append(result)
        activities.append(activity)
    return tuple(results), activities


def _tensor_bytes(table: LayerTable, accelerator: Accelerator) -> NDArray[np.int64]:
    """Return what each tensor takes in memory for one sample: lines of values, rounded up to the word."""
    tensors = table.tensors
    bits = np.where(tensors["sum"] == 1, accelerator.accumulator.bits, tensors["bits"])
    word = accelerator.activation_sram.word_bits
    line = -(-tensors["row_elements"] * stored_bits(bits, accelerator.storage) // word) * word
    return np.asarray(tensors["rows"] * line // 8)


def _kept(table: LayerTable, sizes: NDArray[np.int64], capacity: int) -> NDArray[np.bool_]:
    """Tell which tensors stay on chip: those that fit beside what is live when they are made."""
    tensors = table.tensors
    kept = np.zeros(len(tensors), dtype=np.bool_)
    for layer, row in enumerate(table.layers):
        made = int(row["output"])
        live = kept & (tensors["last_read"] >= layer) & (tensors["made_by"] < layer)
        if not tensors["output"][made] and int(sizes[live].sum()) + int(sizes[made]) <= capacity:
            kept[made] = True
    return kept


def _weight_bytes(row: Any, accelerator: Accelerator) -> int:
    """Return a layer's parameters as stored, in bytes; weights by filter or by k, whichever packs tighter."""
    word = accelerator.weight_sram.word_bits
    total = int(row["biases"]) * accelerator.accumulator.bits + int(row["scale_bits"]) + int(row["table_bits"])
    total += int(row["gather_bits"])
    if row["kind"] == 0:
        bits = int(stored_bits(np.array([row["weight_stored"]]), accelerator.storage)[0])
        outputs, k = int(row["n"] * row["groups"]), int(row["k"])
        by_filter = outputs * (-(-k * bits // word) * word)
        by_k = k * (-(-outputs * bits // word) * word)
        total += min(by_filter, by_k)
    total += int(row["rows_stored"]) * (-(-int(row["row_elements"] * row["row_bits"]) // word) * word)
    return -(-total // 8)


def _layer(
    table: LayerTable, machine: Machine, place: int, batch: int, mode: str, sizes: Any, kept: Any
) -> tuple[LayerResult, Activity]:
    accelerator, row = machine.accelerator, table.layers[place]
    events: dict[Event, int] = {}

    def count(component: str, action: str, number: int, *bits: int) -> None:
        event = Event(component, action, bits)
        events[event] = events.get(event, 0) + int(number)

    inputs = [int(item) for item in table.reads[row["reads_from"] : row["reads_to"]]]
    weight_bytes = _weight_bytes(row, accelerator)
    loaded = weight_bytes if not row["rows_stored"] else weight_bytes * int(row["rows_read"]) // int(row["rows_stored"])
    traffic = {
        "weights": loaded,
        "ifmap": sum(int(sizes[item]) for item in inputs if not kept[item]),
        "ofmap": 0 if kept[row["output"]] else int(sizes[row["output"]]),
        "psum": 0,
    }
    folds = array = busy = load = fill = macs = operations = 0
    w, a = int(row["weight_bits"]), int(row["act_bits"])
    pe = pe_type(accelerator)
    peak = 1.0
    word_w, word_a, word_s = (
        sram.word_bits for sram in (accelerator.weight_sram, accelerator.activation_sram, accelerator.accumulator_sram)
    )
    if row["kind"] != 2:
        m = int(row["m"]) * (batch if row["kind"] == 0 else 1)
        groups = int(row["groups"]) * (1 if row["kind"] == 0 else batch)
        products, steps = pe.products(accelerator, w, a), pe.cycles(accelerator, w, a)
        room = accelerator.accumulator_sram.bytes * 8 // (accelerator.array.cols * accelerator.accumulator.bits)
        codes = array_codes(accelerator, mode)
        mapping = lay(codes, m, int(row["k"]), int(row["n"]), groups, products, room)
        folds, array, busy, load, fill = array_cycles(codes, mapping, steps)
        macs = m * int(row["k"]) * int(row["n"]) * groups
        operations = mapping.operations * groups
        peak = products / steps
        pes = accelerator.array.rows * accelerator.array.cols
        count("pe", "mac", operations, w, a, machine.built.total)
        count("pe", "idle", max(0, pes * array - operations * steps), w, a, machine.built.total)
        act_bits = int(stored_bits(np.array([row["act_stored"]]), accelerator.storage)[0])
        w_bits = int(stored_bits(np.array([row["weight_stored"]]), accelerator.storage)[0])
        k, n = int(row["k"]), int(row["n"])
        flow = accelerator.array.dataflow
        act_again = mapping.chunks if flow == "is" else -(-n // accelerator.array.cols)
        weight_again = mapping.chunks if flow == "ws" else -(-m // accelerator.array.cols)
        if flow == "os":
            weight_again = -(-m // accelerator.array.rows)
        count("activation_sram", "read", -(-m * k * groups * act_bits // word_a) * act_again, word_a)
        count("weight_sram", "read", -(-k * n * groups * w_bits // word_w) * weight_again, word_w)
        sums = -(-m * n * groups * accelerator.accumulator.bits // word_s)
        passes = 1 if flow == "os" else mapping.row_folds
        count("accumulator_sram", "write", sums * passes, word_s)
        count("accumulator_sram", "read", sums * passes, word_s)
    requantized = int(row["requantized"]) * batch
    if requantized:
        bits = (accelerator.accumulator.bits, int(row["requantized_bits"]), int(row["multiplier_bits"]))
        count("requantizer", "requantize", requantized, *bits)
    for event, number in zip(table.events, table.lane_counts[place], strict=True):
        count(event.component, event.action, int(number) * batch, *event.bits)
    if row["kind"] == 2:
        count("activation_sram", "read", sum(-(-int(sizes[i]) * 8 // word_a) for i in inputs), word_a)
    count("activation_sram", "write", -(-int(sizes[row["output"]]) * 8 // word_a), word_a)
    copies = 0
    if accelerator.duplication == "copy_pass" and row["copies"]:
        copies = int(row["copies"]) * batch
        count("vector", "copy", copies, int(row["copy_bits"]))
        words = -(-copies * int(row["copy_bits"]) // word_a)
        count("activation_sram", "read", words, word_a)
        count("activation_sram", "write", words, word_a)
    count("weight_sram", "write", -(-loaded * 8 // word_w), word_w)
    count("activation_sram", "write", -(-traffic["ifmap"] * 8 // word_a), word_a)
    count("activation_sram", "read", -(-traffic["ofmap"] * 8 // word_a), word_a)
    count("dram", "read", (traffic["weights"] + traffic["ifmap"]) * 8, 1)
    count("dram", "write", traffic["ofmap"] * 8, 1)

    per_cycle = accelerator.dram.bandwidth_gb_per_s * 1e3 * accelerator.dram.page_efficiency / accelerator.clock_mhz
    dram_bytes = sum(traffic.values())
    dram = int(np.ceil(dram_bytes / per_cycle)) if mode != "scalesim" else 0
    vector = -(-requantized // accelerator.requantizer_lanes) + -(
        -int(row["lane_cycles"]) * batch // accelerator.vector_lanes
    )
    duplicate = -(-copies // accelerator.vector_lanes)
    overlapped = accelerator.weight_sram.double_buffered and accelerator.activation_sram.double_buffered
    stalls = dict.fromkeys(STALLS, 0) | {"fill_drain": fill, "weight_load": load, "duplicate": duplicate}
    if mode == "scalesim":
        vector = duplicate = 0
        stalls["duplicate"] = 0
    if overlapped:
        longest = max(array, dram, vector)
        stalls["dram" if dram >= vector else "vector"] += longest - array
    else:
        stalls["dram"], stalls["vector"] = dram, vector
    cycles = busy + sum(stalls.values())
    count("leakage", "cycle", cycles)
    activity = Activity(events)
    pes = accelerator.array.rows * accelerator.array.cols
    return (
        LayerResult(
            name=table.names[place],
            kind=table.kinds[place],
            m=int(row["m"]),
            k=int(row["k"]),
            n=int(row["n"]),
            groups=int(row["groups"]),
            macs=macs,
            weight_bits=w,
            act_bits=a,
            splits=int(row["splits"]),
            folds=folds,
            array_cycles=array,
            busy_cycles=busy,
            cycles=cycles,
            stall_cycles=stalls,
            utilization=macs / (pes * array * peak) if array else 0.0,
            energy_pj=energy_pj(activity, machine),
            dram_bytes=dram_bytes,
            dram_traffic=traffic,
            weight_bytes=weight_bytes,
            sram={
                f"{name}_{action}": activity.of(f"{name}_sram", action)
                for name in ("activation", "weight", "accumulator")
                for action in ("read", "write")
            },
        ),
        activity,
    )


def _result(machine: Machine, batch: int, mode: str, layers: tuple[LayerResult, ...], activity: Activity) -> Result:
    accelerator, prices = machine.accelerator, machine.technology
    cycles = sum(layer.cycles for layer in layers)
    peak = sum(layer.utilization * layer.array_cycles for layer in layers)
    array = sum(layer.array_cycles for layer in layers)
    return Result(
        batch=batch,
        cycles=cycles,
        array_cycles=array,
        busy_cycles=sum(layer.busy_cycles for layer in layers),
        stall_cycles={cause: sum(layer.stall_cycles[cause] for layer in layers) for cause in STALLS},
        seconds=cycles / (accelerator.clock_mhz * 1e6),
        energy_pj=energy_pj(activity, machine),
        area_um2=area_um2(machine),
        weight_bytes=sum(layer.weight_bytes for layer in layers),
        dram_bytes=sum(layer.dram_bytes for layer in layers),
        dram_traffic={kind: sum(layer.dram_traffic[kind] for layer in layers) for kind in TRAFFIC},
        utilization=peak / array if array else 0.0,
        folds=sum(layer.folds for layer in layers),
        timing_mode=mode,
        technology=prices.name,
        node_nm=prices.node_nm,
        layers=layers,
        sources=prices.sources,
        notes=(),
        band=BAND,
        activity=activity,
    )
