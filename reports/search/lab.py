"""Where a search's designs are measured: through the store, so that nothing that is known is executed again."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from accelsim.program import Program
from accelsim.simulate import simulate
from quant.recipe import Recipe
from quant.run import predict
from reports.search.explore import Judged
from reports.search.file import Search
from reports.search.guide import Probe, greedy_path, probes_of, start_designs
from reports.search.objectives import OBJECTIVES, accuracy_drop
from reports.search.space import Design
from reports.sweep.equal_area import equal_area
from reports.sweep.identity import digest_of, point_digest
from reports.sweep.measure import Unit, measure, quantized_by, task_of
from reports.sweep.store import DONE, Accuracy, NetworkRow, Row, Store
from reports.sweep.sweep import identify_network
from reports.task import CHUNK_OUTPUTS, run_engine

NOISE = "search noise"
"""Kind of the records of probes."""

AT_ONCE = 64


@dataclass(eq=False)
class Lab:
    """Measures the designs of one search with one store; knows what it has measured.

    Parameters
    ----------
    search, store
        What for, and where figures are kept.
    threads
        Of the engine; results do not depend on it.
    """

    search: Search
    store: Store
    threads: int = 1
    rows: dict[Design, Row] = field(default_factory=dict)
    executed: int = 0
    remark: str = ""
    """Why the search did not begin along the greedy path; empty where it did."""

    def __post_init__(self) -> None:
        torch.set_num_threads(self.threads)
        self.network, facts = identify_network(self.search.task, self.search.bit_exact_images)
        held = self.store.networks()
        if self.network not in held:
            tallies = task_of(self.search.task).float_tallies
            self.store.add(networks=[NetworkRow(digest=self.network, facts=facts, tallies=tallies)])
            held = self.store.networks()
        self.floats = held[self.network].tallies
        self.held = {row.digest: row for row in self.store.rows() if row.network == self.network}
        self.known: dict[str, Accuracy] = self.store.accuracies(self.network)
        self.noises = self.store.records(NOISE)

    # --- designs -----------------------------------------------------------------------------------------------------

    def lower(self, recipe: Recipe) -> Program:
        """Return a recipe's Program."""
        return quantized_by(self.search.task, recipe)[0].program

    def row(self, design: Design) -> Row:
        """Return a design's row, measured if the store has none."""
        if design not in self.rows:
            self.rows[design] = self._row(design)
        return self.rows[design]

    def _row(self, design: Design) -> Row:
        point = self.search.space.point(design, self.lower)
        digest = point_digest(self.network, point)
        if digest not in self.held:
            unit = Unit(
                task=self.search.task,
                options=point.options,
                network=self.network,
                points=((digest, point),),
                floats=self.floats,
                known=self.known,
                bit_exact_images=self.search.bit_exact_images,
                threads=self.threads,
            )
            outcome = measure(unit)
            self.store.add(outcome.rows, outcome.accuracies)
            for accuracy in outcome.accuracies:
                self.known[accuracy.key] = replace(accuracy, tallies=accuracy.tallies[:0])
                self.executed += 1
            self.held |= {row.digest: row for row in outcome.rows}
        return self.held[digest]

    def judge(self, design: Design) -> Judged | None:
        """Return a design's losses; ``None`` where it cannot be built."""
        row = self.row(design)
        if row.status != DONE:
            return None
        losses = tuple(OBJECTIVES[name].loss(row.figures) for name in self.search.objectives)
        return Judged(losses, self.search.budget.violations(row.figures))

    # --- the start ---------------------------------------------------------------------------------------------------

    def start(self) -> list[Design]:
        """Return the designs that the search begins with; where the budget limits accuracy they are judged by it."""
        count = self.search.start.designs
        if not count:
            return []
        try:
            probed = {design: self.probe(design) for design in probes_of(self.search.space)}
        except (ValueError, OverflowError) as error:
            self.remark = (
                f"began anywhere, {self.search.space.machine(self.search.space.widest).factors} fails: {error}"
            )
            return []
        path = greedy_path(self.search.space, probed)
        keeps = self._keeps if any(name == "accuracy" for name, _ in self.search.budget.limits) else None
        if keeps is not None:  # which measures what it proposes
            count = min(count, self.search.settings.trials)
        return start_designs(self.search.space, path, count, self._costs, keeps)

    def _keeps(self, design: Design) -> bool:
        row = self.row(design)
        return row.status == DONE and accuracy_drop(row.figures) <= dict(self.search.budget.limits)["accuracy"]

    def probe(self, design: Design) -> Probe:
        """Return a design's output noise on a few samples, and its cost on its machine."""
        costs = self._priced(design)
        return Probe(self._noise(design), costs[0])

    def _costs(self, design: Design) -> Sequence[float] | None:
        try:
            return self._priced(design)
        except (ValueError, OverflowError):
            return None

    def _priced(self, design: Design) -> list[float]:
        """Return the costs that are objectives, what is minimized first; what does not depend on values alone."""
        point = self.search.space.point(design, self.lower)
        assert isinstance(point.options, Recipe)
        _, program = quantized_by(self.search.task, point.options)
        prices = point.prices.at(point.machine.accelerator)
        accelerator = equal_area(point.machine, program, prices)
        result = simulate(program, accelerator, prices, batch=point.batch, timing_mode=point.timing_mode)
        figures: dict[str, Any] = {
            "energy_pj": result.energy_pj,
            "seconds": result.seconds,
            "area_um2": result.area_um2,
            "weight_bytes": result.weight_bytes,
            "energy_delay_pj_s": result.energy_pj["total"] * result.seconds,
        }
        names = dict.fromkeys((self.search.budget.minimize, *self.search.objectives))
        costs = [name for name in names if name != "accuracy"] or ["energy"]
        return [OBJECTIVES[name].loss(figures) for name in costs]

    def _noise(self, design: Design) -> float:
        point = self.search.space.point(design, self.lower)
        assert isinstance(point.options, Recipe)
        integers, _ = quantized_by(self.search.task, point.options)
        key = digest_of([self.network, integers.program.digest(), self.search.start.samples])
        if key not in self.noises:
            task = task_of(self.search.task)
            noise = power = 0.0
            outputs = int(np.prod(task.graph.shapes[task.graph.outputs[0]]))
            size = max(1, min(AT_ONCE, CHUNK_OUTPUTS // outputs))
            for start in range(0, len(self._sample), size):
                x = task.samples.batch(self._sample[start : start + size])
                run = run_engine(integers, x, None, threads=self.threads)
                real = np.asarray(predict(task.graph, x, size), dtype=np.float64)
                noise += float(np.square(integers.decode(run.outputs)[0] - real).sum())
                power += float(np.square(real).sum())
            self.noises[key] = {"noise": noise / power if power else 0.0}
            self.store.keep(NOISE, key, self.noises[key])
            self.executed += 1
        return float(self.noises[key]["noise"])

    @property
    def _sample(self) -> NDArray[np.int64]:
        """Samples of the probes: of the evaluated ones, so that none was calibrated on."""
        return task_of(self.search.task).evaluated[: self.search.start.samples]
