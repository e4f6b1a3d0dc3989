"""Running a sweep: units of work to an executor, rows to the store as they come, in any order and as often as needed.

A point that the store has is not measured again, so that running the same command again goes on where the last one
ended, however that ended.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from accelsim.program import NUMERICS_VERSION
from quant.recipe import Recipe
from quant.recipe_options import QuantOptions
from reports.cost import lowering
from reports.progress import progress
from reports.sweep.identity import network_digest, point_digest, priced_digest, unit_digest
from reports.sweep.measure import Outcome, Unit, float_tallies, forget, measure, task_of
from reports.sweep.own_prices import keep_sources
from reports.sweep.store import REFUSED, NetworkRow, Store
from reports.sweep.study import Point, Study
from reports.sweep.workers import Here, executor_of, quietly
from reports.task import TaskOptions

TRIES = 3
"""A unit whose worker dies so often while nothing else is at work is given up, and reported."""

IN_FLIGHT = 2
"""Units handed to each worker: one at work, one waiting."""


@dataclass(frozen=True, kw_only=True)
class How:
    """How a sweep is worked on; its results do not depend on it.

    Parameters
    ----------
    workers
        Local processes; 1 works in this one.
    executor
        Works on the units in place of local processes; `workers` says how many it works on at once.
    shard
        (i, n): every n-th unit, from the i-th (1..n).
    threads
        Of the engine in each worker; all cores shared out where ``None``.
    """

    workers: int = 1
    executor: Executor | None = None
    shard: tuple[int, int] = (1, 1)
    threads: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.workers < 1:
            raise ValueError(f"workers must be >= 1 (got {self.workers})")
        place, count = self.shard
        if not 1 <= place <= count:
            raise ValueError(f"shard must be i/n with 1 <= i <= n (got {place}/{count})")

    @property
    def engine_threads(self) -> int:
        """Threads of the engine in each worker."""
        return self.threads or max(1, (os.cpu_count() or 1) // self.workers)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a sweep did.

    Parameters
    ----------
    digests
        Of the study's points (of this shard's), each once.
    measured, kept
        Measured now, and found in the store.
    refused
        Points in the store that cannot be built or priced.
    failures
        What went wrong with units that are not in the store, one line each.
    """

    digests: frozenset[str]
    measured: int
    kept: int
    refused: int
    failures: tuple[str, ...] = ()

    @property
    def points(self) -> int:
        """Number of points."""
        return len(self.digests)


def run_sweep(study: Study, path: Path, how: How | None = None) -> Summary:
    """Measure every point of a study that a store does not have.

    Raises
    ------
    ValueError
        For networks that cannot be loaded and stores that cannot be used. A point that cannot be built or priced is no
        error: it is stored with the reason.
    """
    how = how or How()
    with Store(path, create=True) as store:
        todo = _Plan.of(study, store, how)
        keep_sources(store, study.points)
        with progress(study.name, todo.points, unit="point") as advance:
            advance(todo.kept)
            failures = _work(todo, store, how, advance) if todo.units else []
        refused = sum(row.status == REFUSED for row in store.rows() if row.digest in todo.digests)
        measured = len(todo.digests & store.digests()) - todo.kept
    return Summary(digests=todo.digests, measured=measured, kept=todo.kept, refused=refused, failures=tuple(failures))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Plan:
    """What is to be done: units, the networks that still need their float figures, and all points' digests."""

    units: list[Unit]
    floats: dict[str, TaskOptions]
    facts: dict[str, dict[str, Any]]
    digests: frozenset[str]
    kept: int

    @property
    def points(self) -> int:
        return len(self.digests)

    @staticmethod
    def of(study: Study, store: Store, how: How) -> "_Plan":
        """Identify all points and leave out those that are known."""
        forget()
        networks: dict[TaskOptions, str] = {}
        facts: dict[str, dict[str, Any]] = {}
        seen = store.digests()
        held = store.networks()
        digests: set[str] = set()
        groups: dict[tuple[TaskOptions, QuantOptions | Recipe], dict[str, Point]] = {}
        for point in study.points:
            if point.task not in networks:
                identify = identify_network if study.accuracy else _identify_priced
                digest, found = identify(point.task, study.bit_exact_images)
                networks[point.task], facts[digest] = digest, found
            network = networks[point.task]
            digest = point_digest(network, point)
            if digest not in digests and _in_shard(unit_digest(network, point.options), how.shard):
                digests.add(digest)
                groups.setdefault((point.task, point.options), {})[digest] = point
        units, floats = [], {}
        for (task, options), points in groups.items():
            left = tuple((digest, point) for digest, point in points.items() if digest not in seen)
            network = networks[task]
            if not left:
                continue
            if network not in held:
                floats[network] = task
            units.append(
                Unit(
                    task=task,
                    options=options,
                    network=network,
                    points=left,
                    floats=held[network].tallies if network in held else None,
                    known={},
                    bit_exact_images=study.bit_exact_images,
                    threads=how.engine_threads,
                    accuracy=study.accuracy,
                )
            )
        units.sort(key=_alike)
        return _Plan(units=units, floats=floats, facts=facts, digests=frozenset(digests), kept=len(digests & seen))


def _alike(unit: Unit) -> tuple[str, str]:
    """Sort units whose networks are transformed alike side by side: a worker then observes them once."""
    if isinstance(unit.options, Recipe):
        return unit.network, repr((unit.options.transforms, unit.options.first_last))
    plain = replace(unit.options, weight_bits=None, act_bits=None, clip=None, act_clip=None, percentile=None)
    return unit.network, repr(plain)


def _in_shard(digest: str, shard: tuple[int, int]) -> bool:
    place, count = shard
    return int(digest, 16) % count == place - 1


def identify_network(options: TaskOptions, bit_exact_images: int) -> tuple[str, dict[str, Any]]:
    """Return a network's digest and the facts that a report states."""
    task = task_of(options)
    digest = network_digest(task, bit_exact_images, options.seed)
    return digest, {
        "network": task.workload.name,
        "description": task.workload.description,
        "origin": task.workload.origin,
        "metric": task.metric.name,
        "higher_is_better": task.metric.higher_is_better,
        "images": len(task.evaluated),
        "calibration_images": len(task.calibrated),
        "seed": options.seed,
        "executed": True,
        "float": task.integers is None,
        "numerics_version": NUMERICS_VERSION,
    }


def _identify_priced(options: TaskOptions, bit_exact_images: int) -> tuple[str, dict[str, Any]]:
    """Return the same for a network that is not executed."""
    program = lowering(options)(Recipe())
    facts = {"network": program.name, "seed": options.seed, "numerics_version": NUMERICS_VERSION, "images": 0}
    return priced_digest(program, options), facts | {"metric": None, "executed": False, "float": False}


# --- working ---------------------------------------------------------------------------------------------------------


def _work(plan: _Plan, store: Store, how: How, advance: Callable[[int], None]) -> list[str]:
    jobs = _Jobs(plan, store, advance)
    while jobs.suspects or jobs.waiting or jobs.running:
        with executor_of(how.executor, how.workers) as executor:
            try:
                jobs.run(executor, 1 if isinstance(executor, Here) else how.workers * IN_FLIGHT)
            except BrokenExecutor as error:
                if how.executor is not None:
                    raise ValueError(
                        f"the executor's workers died ({error}); what was measured is stored: run the same again"
                    ) from error
                jobs.crashed()
    return jobs.failures


@dataclass
class _Jobs:
    """Jobs that wait, run and failed; the one place of a sweep that changes."""

    plan: _Plan
    store: Store
    advance: Callable[[int], None]
    waiting: list[Unit | TaskOptions] = field(default_factory=list)
    running: dict["Future[Any]", Unit | TaskOptions] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    crashes: Counter[str] = field(default_factory=Counter)
    blocked: list[Unit] = field(default_factory=list)
    suspects: list[Unit | TaskOptions] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.of_network = {task: digest for digest, task in self.plan.floats.items()}
        self.held = self.store.networks()
        self.known = {network: self.store.accuracies(network) for network in {u.network for u in self.plan.units}}
        for digest in self.plan.floats:
            if not self.plan.facts[digest]["float"]:  # there is no float network to measure
                self._network(digest, None)
        self.blocked = [unit for unit in self.plan.units if unit.network not in self.held]
        self.waiting = [task for digest, task in self.plan.floats.items() if digest not in self.held]
        ready = [unit for unit in self.plan.units if unit.network in self.held]  # maybe by another sweep
        self.waiting += [replace(unit, floats=self.held[unit.network].tallies) for unit in ready]

    def run(self, executor: Executor, most: int) -> None:
        """Work until nothing is left to do."""
        while self.suspects or self.waiting or self.running:
            self._hand_out(executor, most)
            for future in wait(self.running, return_when=FIRST_COMPLETED).done:
                job = self.running[future]
                try:
                    found = future.result()
                except BrokenExecutor:
                    raise
                except Exception as error:  # one unit's fault, whatever it is, leaves the others alone
                    self.failures.append(f"{_said(job)}: {type(error).__name__}: {' '.join(str(error).split())}")
                    self._give_up(job)
                else:
                    self._finish(job, found)
                del self.running[future]

    def _hand_out(self, executor: Executor, most: int) -> None:
        """Give the executor work, suspects one at a time; a job leaves its line once the executor has it."""
        line, most = (self.suspects, 1) if self.suspects else (self.waiting, most)
        while line and len(self.running) < most:
            self.running[self._submit(executor, line[0])] = line[0]
            del line[0]

    def _submit(self, executor: Executor, job: Unit | TaskOptions) -> "Future[Any]":
        if isinstance(job, Unit):
            return executor.submit(quietly, measure, replace(job, known=self._light(job.network)))
        return executor.submit(quietly, float_tallies, job, self.of_network[job])

    def _light(self, network: str) -> Mapping[str, Any]:
        return dict(self.known[network])

    def _finish(self, job: Unit | TaskOptions, found: Any) -> None:
        if not isinstance(job, Unit):
            self._network(self.of_network[job], found)
            return
        outcome: Outcome = found
        self.store.add(outcome.rows, outcome.accuracies)
        for accuracy in outcome.accuracies:
            self.known[job.network][accuracy.key] = replace(accuracy, tallies=accuracy.tallies[:0])
        self.advance(len(outcome.rows))
        if outcome.left is not None:
            self.waiting.insert(0, replace(outcome.left, known={}))

    def _network(self, digest: str, tallies: Any) -> None:
        """Store a network, and let its units go."""
        self.store.add(networks=[NetworkRow(digest=digest, facts=self.plan.facts[digest], tallies=tallies)])
        self.held = self.store.networks()
        free = [unit for unit in self.blocked if unit.network == digest]
        self.waiting += [replace(unit, floats=tallies) for unit in free]
        self.blocked = [unit for unit in self.blocked if unit.network != digest]

    def _give_up(self, job: Unit | TaskOptions) -> None:
        if not isinstance(job, Unit):
            self.blocked = [unit for unit in self.blocked if unit.network != self.of_network[job]]

    def crashed(self) -> None:
        """Put what was at work when a worker died back in line, alone from now on, and not for ever."""
        alone = len(self.running) == 1
        for future, job in self.running.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                self._finish(job, future.result())
                continue
            self.crashes[_said(job)] += alone
            if self.crashes[_said(job)] < TRIES:
                self.suspects.append(job)
            else:
                self.failures.append(f"{_said(job)}: its worker died {TRIES} times; see whether memory is short")
                self._give_up(job)
        self.running = {}


def _said(job: Unit | TaskOptions) -> str:
    if not isinstance(job, Unit):
        return f"{job.network}, float"
    factors = job.points[0][1].factors
    given = [f"{k}={v}" for k, v in vars(job.options).items() if v is not None]
    return f"{factors['network']} {' '.join(given)}"
