"""The time of a tile table by discrete events: DMA engines, a shared DRAM channel, arrays, requantizers.

The rules are those of `accelsim.memory`. Every tile is played one by one, so this is the slow and plain form: the
definition for several cores that share the channel, the source of timelines, and the check of
`accelsim.memory_recurrence`, which it equals to the cycle for one core.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import simpy
from numpy.typing import NDArray

from accelsim.codes import MachineCodes
from accelsim.memory import DUPLICATION, ON_ARRAY
from accelsim.memory_recurrence import CAUSES, COPIES, DRAM, VECTOR_UNIT

Process = Generator[simpy.Event, Any, None]


class Span(NamedTuple):
    """What a unit did from `start` to `end`, in cycles: `what` for a layer, or the array waiting for a cause."""

    core: int
    unit: str
    what: str
    layer: int
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class Played:
    """What the event-driven model saw.

    Parameters
    ----------
    cycles
        End of the last result or store, over all cores.
    waits, ends
        As `accelsim.memory_recurrence.solve`, of the core that ends last.
    spans
        Timeline of all cores.
    """

    cycles: int
    waits: NDArray[np.int64]
    ends: NDArray[np.int64]
    spans: tuple[Span, ...]


class _Transfer(NamedTuple):
    """One entry of a DMA engine's list: what waits for it, what it waits for."""

    what: str
    layer: int
    cycles: int
    after: tuple[simpy.Event, ...]
    done: simpy.Event | None


class _Tile(NamedTuple):
    """One tile of the table, runs unrolled."""

    row: Any
    place: int
    first: bool


@dataclass
class _Core:
    """One core: its processes share these events."""

    env: simpy.Environment
    number: int
    tiles: list[_Tile]
    codes: MachineCodes
    channel: simpy.Resource
    waits: NDArray[np.int64]
    ends: NDArray[np.int64]
    spans: list[Span] = field(default_factory=list)
    left: int = 0
    finished: int = 0

    def __post_init__(self) -> None:
        env = self.env
        self.on_array = [env.event() for _ in self.tiles]
        self.results = [env.event() for _ in self.tiles]
        self.weights = {tile.place: env.event() for tile in self.tiles if tile.row["load_weights"]}
        self.acts = {tile.place: env.event() for tile in self.tiles if tile.row["load_acts"]}
        self.halves = simpy.Container(env, init=2 if self.codes.sums.double else 1)
        self.queue: simpy.Store = simpy.Store(env)

    @property
    def now(self) -> int:
        return int(self.env.now)

    def start(self) -> None:
        for process in (self._dma(), self._array(), self._vector()):
            self.env.process(process)

    def _log(self, unit: str, what: str, layer: int, start: int, end: int | None = None) -> None:
        until = self.now if end is None else end
        if until > start:
            self.spans.append(Span(self.number, unit, what, layer, start, until))

    # --- DMA ---------------------------------------------------------------------------------------------------------

    def _transfers(self) -> Iterator[_Transfer]:
        """Yield the transfers in the order of `accelsim.memory`."""
        weights = [tile for tile in self.tiles if tile.row["load_weights"]]
        fetched: set[int] = set()
        for tile in self.tiles:
            index, row = tile.place, tile.row
            done = (self.on_array[index - 1],) if index else ()
            left = (self.results[index - 1],) if index else ()
            if index and self.tiles[index - 1].row["store"]:
                before = self.tiles[index - 1].row
                yield _Transfer("store", int(before["layer"]), int(before["store"]), done + left, None)
            if row["load_acts"] and index not in fetched:
                yield self._load("activations", tile, done + left if tile.first else done)
            if row["load_weights"] and -index - 1 not in fetched:
                yield self._load("weights", tile, done)
            following = self._next_acts(tile)
            if self.codes.act.double and following is not None and (row["load_acts"] or tile.first):
                fetched.add(following.place)
                yield self._load("activations", following, done)
            while weights and weights[0].place <= index:
                weights.pop(0)
            if self.codes.weight.double and weights and (row["load_weights"] or not index):
                fetched.add(-weights[0].place - 1)
                yield self._load("weights", weights[0], done)
        if self.tiles and self.tiles[-1].row["store"]:
            row = self.tiles[-1].row
            yield _Transfer("store", int(row["layer"]), int(row["store"]), (self.on_array[-1], self.results[-1]), None)

    def _load(self, what: str, tile: _Tile, after: tuple[simpy.Event, ...]) -> _Transfer:
        column, events = ("load_weights", self.weights) if what == "weights" else ("load_acts", self.acts)
        return _Transfer(what, int(tile.row["layer"]), int(tile.row[column]), after, events[tile.place])

    def _next_acts(self, tile: _Tile) -> _Tile | None:
        for following in self.tiles[tile.place + 1 :]:
            if following.first:
                return None
            if following.row["load_acts"]:
                return following
        return None

    def _dma(self) -> Process:
        for transfer in self._transfers():
            yield from transfer.after
            with self.channel.request() as turn:
                yield turn
                start = self.now
                yield self.env.timeout(transfer.cycles)
                self._log("dram", transfer.what, transfer.layer, start)
            if transfer.done is not None:
                self.env.process(self._arrive(transfer.done))
            else:
                self.finished = max(self.finished, self.now)

    def _arrive(self, event: simpy.Event) -> Process:
        yield self.env.timeout(self.codes.latency)
        event.succeed()

    # --- array -------------------------------------------------------------------------------------------------------

    def _wait(self, event: simpy.Event, cause: int, layer: int) -> Process:
        start = self.now
        yield event
        self.waits[layer, cause] += self.now - start
        self._log("array", f"wait for {CAUSES[cause]}", layer, start)

    def _array(self) -> Process:
        for tile in self.tiles:
            index, row, layer = tile.place, tile.row, int(tile.row["layer"])
            if tile.first and index:
                yield from self._wait(self.results[index - 1], VECTOR_UNIT, layer)
            if row["load_acts"]:
                yield from self._wait(self.acts[index], DRAM, layer)
            if row["load_weights"]:
                yield from self._wait(self.weights[index], DRAM, layer)
            if row["kind"] == ON_ARRAY:
                yield from self._steps(tile)
            else:
                done = self.env.event()
                self.queue.put((int(row["vector"] + row["vector_rest"]), layer, done, False))
                yield from self._wait(done, COPIES if row["kind"] == DUPLICATION else VECTOR_UNIT, layer)
                self.results[index].succeed()
            self.on_array[index].succeed()
            self.ends[layer] = max(self.ends[layer], self.now)
            self.left = self.now
            self.finished = max(self.finished, self.now)
        if self.tiles:
            # The array is done; what is left of the vector unit's work and of the stores belongs to the last layer.
            self.env.process(self._close(self.now))

    def _steps(self, tile: _Tile) -> Process:
        row, layer = tile.row, int(tile.row["layer"])
        works = row["vector"] + row["vector_rest"] > 0
        for step in range(row["steps"]):
            yield from self._wait(self.halves.get(1), VECTOR_UNIT, layer)
            start = self.now
            yield self.env.timeout(int(row["array"] + (row["array_rest"] if step == 0 else 0)))
            self._log("array", "run", layer, start)
            last = step == row["steps"] - 1
            if not works:
                self.halves.put(1)
            else:
                rest = int(row["vector_rest"]) if last else 0
                self.queue.put((int(row["vector"]) + rest, layer, self.results[tile.place] if last else None, True))
        if not works:
            self.env.process(self._pass_on(tile.place))

    def _pass_on(self, index: int) -> Process:
        """A tile without results of its own is through when those before it are."""
        if index:
            yield self.results[index - 1]
        yield self.on_array[index]
        self.results[index].succeed()

    def _close(self, start: int) -> Process:
        yield self.results[-1]
        layer = int(self.tiles[-1].row["layer"])
        self.waits[layer, VECTOR_UNIT] += self.now - start
        self._log("array", f"wait for {CAUSES[VECTOR_UNIT]}", layer, start)
        self.left = max(self.left, self.now)
        self.finished = max(self.finished, self.now)

    # --- vector unit -------------------------------------------------------------------------------------------------

    def _vector(self) -> Process:
        while True:
            cycles, layer, done, frees = yield self.queue.get()
            start = self.now
            yield self.env.timeout(cycles)
            self._log("vector", "run", layer, start)
            self.ends[layer] = self.now
            if frees:
                yield self.halves.put(1)
            if done is not None:
                done.succeed()


def play(tiles: NDArray[Any], layers: int, codes: MachineCodes, cores: int = 1) -> Played:
    """Play a tile table on one or more equal cores that share the DRAM channel.

    Parameters
    ----------
    tiles
        dtype `accelsim.memory.TILE_DTYPE`, transfers in cycles of the whole channel.
    layers
        Number of layers.
    codes
        The machine: buffers and latency.
    cores
        How many play the same table.
    """
    env = simpy.Environment()
    channel = simpy.Resource(env, capacity=1)
    rows = [row for row in tiles for _ in range(row["repeat"])]
    unrolled = [_Tile(row, index, bool(row["first"])) for index, row in enumerate(rows)]
    players = [
        _Core(
            env, number, unrolled, codes, channel,
            np.zeros((layers, len(CAUSES)), dtype=np.int64), np.zeros(layers, dtype=np.int64),
        )
        for number in range(cores)
    ]  # fmt: skip
    for player in players:
        player.start()
    env.run()
    slowest = max(players, key=lambda player: player.finished)
    if tiles.size:  # the wait for the last store is the last layer's
        slowest.waits[int(tiles[-1]["layer"]), DRAM] += slowest.finished - slowest.left
    spans = sorted(span for player in players for span in player.spans)
    return Played(int(slowest.finished), slowest.waits, slowest.ends, tuple(spans))
