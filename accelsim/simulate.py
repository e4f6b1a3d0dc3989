"""Simulation of a Program on an accelerator: time, traffic, energy and area, layer by layer.

The Program becomes a table of layers (`accelsim.layers`), that a schedule (`accelsim.schedule`), counts
(`accelsim.counting`) and times (`accelsim.memory`), all layers at once (`accelsim.passes`); counts are then priced
(`accelsim.cost`). Nothing here looks at a value, so a Program without values will do.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.activity import Activity, Event
from accelsim.codes import BY_OUTPUTS, MODE_CODES, machine_codes
from accelsim.config import Accelerator
from accelsim.cost import Machine, area_um2, energy_pj
from accelsim.layers import CONV, VECTOR, LayerTable, layer_table
from accelsim.notes import notes
from accelsim.passes import MEMORY_MODELS, STALLS, Model, Work, run_batch, totals
from accelsim.pe import built_widths, pe_type, too_wide
from accelsim.program import Program
from accelsim.result import TRAFFIC, LayerResult, Layers, Result
from accelsim.schedule import Schedule
from accelsim.technology import Technology, technology
from accelsim.tiling import ORDERS

__all__ = ["STALLS", "TRAFFIC", "LayerResult", "Result", "default_technology", "simulate"]

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
    memory: str = "recurrence",
    schedule: Schedule | None = None,
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
    memory
        ``recurrence``, or ``events`` for the event-driven model, which is slow, plays cores that share the channel, and
        keeps a timeline. Several cores get an equal share of the channel each under ``recurrence``.
    schedule
        Of an earlier result of the same network, to keep to its residency and tiles; chosen anew where ``None``.

    Raises
    ------
    ValueError
        If the mode does not exist on this machine, operands do not fit its PEs, not one fold of a layer fits its
        buffers, or a price is missing.
    """
    _check(accelerator, batch, memory)
    mode = _mode(accelerator, timing_mode)
    prices = default_technology(accelerator.node_nm) if technology is None else technology
    table = layer_table(program)
    machine = _machine(table, accelerator, prices)
    model = Model(machine_codes(accelerator, mode, batch), _pe_work(table, accelerator), memory, schedule)
    work = run_batch(table, model, batch)
    return _Report(table, machine, model, work, batch, mode).result()


def _check(accelerator: Accelerator, batch: int, memory: str) -> None:
    if batch < 1:
        raise ValueError(f"simulate: batch must be >= 1 (got {batch}); give the number of samples")
    if memory not in MEMORY_MODELS:
        raise ValueError(f"simulate: memory must be one of {', '.join(MEMORY_MODELS)} (got {memory!r})")


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


def _machine(table: LayerTable, accelerator: Accelerator, prices: Technology) -> Machine:
    """Size the PEs for the network; refuse operands that do not fit."""
    pairs = [pair for pair in table.pairs if pair[0]]
    if any(too_wide(accelerator, *pair) for pair in pairs):
        bad = [
            f"{name} ({too_wide(accelerator, *table.pairs[pair])})"
            for name, pair in zip(table.names, table.pair_of, strict=True)
            if too_wide(accelerator, *table.pairs[pair])
        ]
        raise ValueError(
            f"simulate: the PEs of {accelerator.name} are too narrow for {', '.join(bad[:4])}"
            f"{f' and {len(bad) - 4} more' if len(bad) > 4 else ''}; widen pe.weight_bits and pe.act_bits, or use "
            "pe.type native"
        )
    widest = (max((pair[0] for pair in pairs), default=2), max((pair[1] for pair in pairs), default=2))
    output = int(table.layers["requantized_bits"].max(initial=0)) or 8
    return Machine(accelerator, prices, built_widths(accelerator, *widest), output)


def _pe_work(table: LayerTable, accelerator: Accelerator) -> NDArray[np.int64]:
    """Return products and cycles of a PE operation, per layer."""
    pe = pe_type(accelerator)
    each = [
        (pe.products(accelerator, *pair), pe.cycles(accelerator, *pair)) if pair[0] else (1, 1) for pair in table.pairs
    ]
    return np.array(each, dtype=np.int64)[table.pair_of]


@dataclass(frozen=True, eq=False)
class _Report:
    """Turns counts and times into a result."""

    table: LayerTable
    machine: Machine
    model: Model
    work: Work
    batch: int
    mode: str

    def result(self) -> Result:
        """Return the whole network's figures; layers are made when looked at."""
        accelerator, prices = self.machine.accelerator, self.machine.technology
        everything = slice(0, len(self.table))
        times = totals(self.work.times)
        activity = self.activity(everything)
        traffic = self.traffic(everything)
        return Result(
            batch=self.batch,
            cycles=self.work.cycles,
            array_cycles=times["array"],
            busy_cycles=times["busy"],
            stall_cycles={cause: times[cause] for cause in STALLS},
            seconds=self.work.cycles / (accelerator.clock_mhz * 1e6),
            energy_pj=energy_pj(activity, self.machine),
            area_um2=area_um2(self.machine),
            weight_bytes=self.weight_bytes(everything),
            dram_bytes=sum(traffic.values()),
            dram_traffic=traffic,
            utilization=self.utilization(everything),
            folds=times["folds"],
            timing_mode=self.mode,
            technology=prices.name,
            node_nm=prices.node_nm,
            layers=Layers(len(self.table), self.layer),
            sources=prices.sources,
            notes=notes(self.table, self.machine, self.work, self.model.codes),
            band=BAND,
            activity=activity,
            schedule=self.work.first.schedule,
            spans=self.work.first.spans,
        )

    def layer(self, place: int) -> LayerResult:
        """Return one layer's figures."""
        row, times = self.table.layers[place], self.work.times[place]
        one = slice(place, place + 1)
        activity = self.activity(one)
        traffic = self.traffic(one)
        return LayerResult(
            name=self.table.names[place],
            kind=self.table.kinds[place],
            m=int(row["m"]),
            k=int(row["k"]),
            n=int(row["n"]),
            groups=int(row["groups"]),
            macs=int(self.work.counts["macs"][place]),
            weight_bits=int(row["weight_bits"]),
            act_bits=int(row["act_bits"]),
            splits=int(row["splits"]),
            folds=int(times["folds"]),
            array_cycles=int(times["array"]),
            busy_cycles=int(times["busy"]),
            cycles=int(times["busy"]) + sum(int(times[cause]) for cause in STALLS),
            stall_cycles={cause: int(times[cause]) for cause in STALLS},
            utilization=self.utilization(one),
            energy_pj=energy_pj(activity, self.machine),
            dram_bytes=sum(traffic.values()),
            dram_traffic=traffic,
            weight_bytes=self.weight_bytes(one),
            sram={
                f"{name}_{action}": activity.of(f"{name}_sram", action)
                for name in ("activation", "weight", "accumulator")
                for action in ("read", "write")
            },
            tiling=self.tiling(place),
        )

    def traffic(self, part: slice) -> dict[str, int]:
        """Return DRAM bytes by kind."""
        counts = totals(self.work.counts[part])
        return {name: counts[name] for name in TRAFFIC[:3]} | {"psum": counts["psum_out"] + counts["psum_in"]}

    def weight_bytes(self, part: slice) -> int:
        """Return the bytes of parameters, all cores together."""
        plan = self.work.first.schedule.plan[part]
        shares = plan["active"] if self.model.codes.split == BY_OUTPUTS else 1
        return int((plan["stored_bytes"] * shares).sum())

    def utilization(self, part: slice) -> float:
        """Return useful operations over those that all PEs had time for."""
        codes, work = self.model.codes, self.model.pe_work[part]
        possible = self.work.times["array"][part] * codes.array.rows * codes.array.cols * codes.cores
        total = int(possible.sum())
        return float((self.work.counts["macs"][part] * work[:, 1] / work[:, 0]).sum() / total) if total else 0.0

    def tiling(self, place: int) -> dict[str, Any]:
        """Return how a layer is cut."""
        plan, layer = self.work.first.schedule.plan[place], self.table.layers[place]
        on_chip = {"output_on_chip": bool(plan["output_kept"])}
        if layer["kind"] == VECTOR:
            return on_chip | {"input_on_chip": not plan["vector_bytes"], "trips": {"elements": int(plan["trips_m"])}}
        return on_chip | {
            "input_on_chip": bool(plan["act_kept"] and plan["second_kept"]),
            "order": ORDERS[plan["order"]],
            "tile": {name: int(plan[f"tile_{name}"]) for name in ("m", "k", "n", "groups")},
            "trips": {"m": int(plan["trips_m"]), "k": int(plan["trips_k"]), "n": int(plan["trips_n"])}
            | {"groups": int(plan["trips_g"])},
            "stream": int(plan["stream_tile"]),
            "psum_spilled": bool(plan["spilled"]),
            "samples_per_pass": self.work.first.samples,
            "weights_fetched": int(plan["again_w"]) if layer["kind"] == CONV else 0,
            "input_fetched": 0 if plan["act_kept"] else int(plan["again_a"]),
        }

    # --- activity ----------------------------------------------------------------------------------------------------

    def activity(self, part: slice) -> Activity:
        """Return what was counted in some layers, over all cores."""
        counts = self.work.counts[part]
        found = totals(counts)
        events = self._pe_events(part, found) | self._memory_events(found)
        for (bits, out, multiplier), number in self._requantized(part).items():
            events[Event("requantizer", "requantize", (bits, out, multiplier))] = number
        samples = self.batch
        for event, number in zip(self.table.events, self.table.lane_counts[part].sum(axis=0).tolist(), strict=True):
            events[event] = events.get(event, 0) + number * samples
        for action, number_of in (("copy", "copies"), ("shift", "halved")):
            if not found[number_of]:
                continue
            for bits in set(self.table.layers["copy_bits"][part][counts[number_of] > 0].tolist()):
                chosen = self.table.layers["copy_bits"][part] == bits
                event = Event("vector", action, (bits,))
                events[event] = events.get(event, 0) + int(counts[number_of][chosen].sum())
        times = totals(self.work.times[part])
        cycles = sum(times[name] for name in ("busy", *STALLS))
        return Activity(events | {Event("leakage", "cycle"): cycles})

    def _pe_events(self, part: slice, found: dict[str, int]) -> dict[Event, int]:
        built, codes = self.machine.built, self.model.codes
        operations = self.work.counts["operations"][part]
        events: dict[Event, int] = {}
        pair_of = self.table.pair_of[part]
        for pair in np.unique(pair_of[operations > 0]).tolist():
            event = Event("pe", "mac", (*self.table.pairs[pair], built.total))
            events[event] = int(operations[pair_of == pair].sum())
        active = int((operations * self.model.pe_work[part, 1]).sum())
        possible = int(self.work.times["array"][part].sum()) * codes.array.rows * codes.array.cols * codes.cores
        events[Event("pe", "idle", (built.weight, built.act, built.total))] = max(0, possible - active)
        if not self.machine.technology.mac_includes_registers:
            for width, name in ((built.weight, "weight"), (built.act, "act"), (built.total, "sum")):
                event = Event("register", "write", (width,))
                events[event] = events.get(event, 0) + found[f"{name}_register"]
        return events

    def _memory_events(self, found: dict[str, int]) -> dict[Event, int]:
        accelerator = self.machine.accelerator
        events: dict[Event, int] = {}
        for component, name in (("activation_sram", "act"), ("weight_sram", "weight"), ("accumulator_sram", "sums")):
            word = getattr(accelerator, component).word_bits
            for action in ("read", "write"):
                events[Event(component, action, (word,))] = found[f"{name}_{action}"]
        events[Event("dram", "read", (1,))] = 8 * (found["weights"] + found["ifmap"] + found["psum_in"])
        events[Event("dram", "write", (1,))] = 8 * (found["ofmap"] + found["psum_out"])
        events[Event("interconnect", "hop", (1,))] = found["hop_bits"]
        return events

    def _requantized(self, part: slice) -> dict[tuple[int, int, int], int]:
        layers, counts = self.table.layers[part], self.work.counts["requantized"][part]
        found: dict[tuple[int, int, int], int] = {}
        bits = self.machine.accelerator.accumulator.bits
        outputs, multipliers = layers["requantized_bits"].tolist(), layers["multiplier_bits"].tolist()
        for out, multiplier, number in zip(outputs, multipliers, counts.tolist(), strict=True):
            if number:
                key = (bits, out, multiplier)
                found[key] = found.get(key, 0) + number
        return found
