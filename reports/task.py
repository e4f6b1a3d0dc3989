"""A task: a captured network, the samples it is calibrated on and those it is judged by.

Everything that a run of a network has in common with the next run of it: made once, quantized many times.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from accelsim.config import Accelerator
from accelsim.execute import Execution, execute
from accelsim.program import Program
from accelsim.reference import OverflowMap
from accelsim.register import execute_register
from quant.graph import Graph
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from quant.run import predict
from reports.files import Imported, file_workload, network_file, read_module, read_network
from reports.progress import progress, progress_share
from reports.sources import find_workload
from workloads import METRICS, Metric, Samples, Workload, split
from workloads.tinyml import TINY_TASKS

CALIBRATION_BATCH = 128
"""Samples per float run while calibrating and while measuring the float network."""

CHUNK_VALUES = 1 << 21
"""Input values that are decoded, encoded and executed together, so that memory stays bounded."""

CHUNK_OUTPUTS = 1 << 26
"""Output values that are decoded together: 512 MB (a language model has one for every word at every position)."""

ENGINES = ("functional", "register")


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """Which network and which of its samples.

    Parameters
    ----------
    network
        What `reports.sources.find_workload` takes.
    data
        Folder of real weights and samples.
    images
        Samples to evaluate; ``None`` for all.
    calib
        Samples to calibrate on, never evaluated.
    seed
        Of the choice of samples.
    weights
        A checkpoint in place of the network's own.
    cache
        Folder for networks that are trained on first use.
    trust
        The user vouches for a network file that can execute code when it is loaded.
    kernels
        Whose rules a TensorFlow Lite file follows, a key of `quant.importers.tflite_kernels.KERNELS`.
    """

    network: str
    data: Path | None = None
    images: int | None = None
    calib: int = 512
    seed: int = 0
    weights: Path | None = None
    cache: Path | None = None
    trust: bool = False
    kernels: str = "xnnpack"

    def __post_init__(self) -> None:
        """Refuse a seed that no generator takes, and numbers of samples below 1."""
        for name, count in (("images", self.images), ("calib", self.calib)):
            if count is not None and count < 1:
                raise ValueError(f"{name} must be >= 1 (got {count}); give a number of samples")
        if self.seed < 0:
            raise ValueError(f"seed must be >= 0 (got {self.seed}); any whole number from 0 on will do")


@dataclass(frozen=True, eq=False)
class Task:
    """A captured network with chosen samples.

    Parameters
    ----------
    workload
        Where it comes from.
    captured
        Float graph; ``None`` for a network that came as integers.
    samples
        All samples there are.
    calibrated, evaluated
        Indices into `samples`; no sample is in both.
    integers
        A network that came as integers.
    stand_ins
        The samples are random ones.
    """

    workload: Workload
    captured: Graph | None
    samples: Samples
    calibrated: NDArray[np.int64]
    evaluated: NDArray[np.int64]
    integers: "Integers | None" = None
    stand_ins: bool = False

    @property
    def title(self) -> str:
        """The network's name, and what its samples are where they are not its own."""
        return self.workload.name + " on random samples" * self.stand_ins

    def as_integers(self, seed: int) -> "Integers":
        """Return the network as it came where that is integers, else quantized to 8 bits."""
        if self.integers is not None:
            return self.integers
        return quantize_network(self.graph, self.calibration, Recipe(), seed=seed)

    @property
    def graph(self) -> Graph:
        """The float graph.

        Raises
        ------
        ValueError
            For a network that came as integers.
        """
        if self.captured is None:
            raise ValueError(f"{self.workload.name} came as integers (got no float network); give a float one")
        return self.captured

    @property
    def metric(self) -> Metric:
        """What the network is judged by."""
        return METRICS[self.workload.metric]

    def calibration(self) -> Iterable[NDArray[np.generic]]:
        """Return the calibration samples in batches, anew at each call."""
        return [self.samples.batch(part) for part in _parts(self.calibrated, CALIBRATION_BATCH)]

    def chunks(self) -> Iterator[tuple[NDArray[np.generic], NDArray[np.generic]]]:
        """Yield the evaluated (inputs, labels) in order, few enough at a time to fit in memory."""
        graph = self.captured
        outputs = 1 if graph is None else int(np.prod(graph.shapes[graph.outputs[0]]))
        size = max(1, min(512, CHUNK_VALUES // int(np.prod(self.workload.input_shape)), CHUNK_OUTPUTS // outputs))
        for part in _parts(self.evaluated, size):
            yield self.samples.batch(part), self.samples.labels(part)

    @cached_property
    def float_tallies(self) -> NDArray[np.float64]:
        """Tally of the metric for every evaluated sample, float network, ``[samples, 2]``."""
        tallies = []
        with progress("float", len(self.evaluated)) as advance:
            for x, y in self.chunks():
                tallies.append(self.metric.tally(predict(self.graph, x, CALIBRATION_BATCH), y))
                advance(len(y))
        return np.concatenate(tallies)


class Integers(Protocol):
    """A network as integers, quantized by us or before: what executing and judging it needs."""

    @property
    def program(self) -> Program:
        """What is executed."""
        ...

    @property
    def label(self) -> str:
        """How it was quantized, in short."""
        ...

    def encode(self, *inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return codes by Program input for real samples."""
        ...

    def decode(self, outputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float64]]:
        """Return real outputs from the Program's."""
        ...


def _load_file(options: TaskOptions, path: Path) -> Task:
    if options.weights is not None:
        raise ValueError(f"{path} holds its own weights (got --weights {options.weights}); leave that out")
    network = read_network(path, options.kernels)
    named = TINY_TASKS.get(options.network)
    workload = file_workload(path, network, options.data) if named is None else named.workload()
    samples = workload.samples(options.data)
    if isinstance(network, Graph):
        return Task(workload, network, samples, *split(samples, options.images, options.calib, options.seed))
    return _integer_task(options, workload, samples, network)


def _integer_task(options: TaskOptions, workload: Workload, samples: Samples, network: Imported) -> Task:
    """Return a task without calibration: all samples may be evaluated."""
    places = np.arange(len(samples))
    chosen = places if options.images is None else np.random.default_rng(options.seed).permutation(places)
    return Task(workload, None, samples, places[:0], np.sort(chosen[: options.images]), network)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an integer network did on all evaluated samples.

    Parameters
    ----------
    tallies
        Of the metric, ``[samples, 2]``.
    overflow
        Of the ops where overflow is not excluded, all samples together.
    first_outputs
        The Program's output codes of the first samples, by name, to be compared with a witness.
    """

    tallies: NDArray[np.float64]
    overflow: Mapping[str, OverflowMap]
    first_outputs: Mapping[str, NDArray[np.generic]]


def load_task(options: TaskOptions) -> Task:
    """Build, capture and choose samples.

    Raises
    ------
    ValueError
        For an unknown network (the closest names are listed), missing or damaged files, no samples to evaluate, NaN
        weights, or operations that cannot be captured.
    """
    path = network_file(options.network, options.data)
    if path is not None:
        return _load_file(options, path)
    workload = find_workload(options.network, options.data, trust=options.trust)
    with progress_share(f"training {workload.name}") as share:
        module = workload.build(
            options.data, options.seed, cache=options.cache, weights=options.weights, progress=share
        )
    samples = workload.samples(options.data, options.weights)
    network = read_module(module, torch.from_numpy(samples.batch(np.arange(min(2, len(samples))))), workload.name)
    if not isinstance(network, Graph):
        return _integer_task(options, workload, samples, network)
    return Task(workload, network, samples, *split(samples, options.images, options.calib, options.seed))


def evaluate(
    task: Task,
    quantized: Integers,
    accelerator: Accelerator | None,
    *,
    engine: str = "functional",
    threads: int = 1,
    first: int = 0,
) -> Evaluation:
    """Execute the integer network on all evaluated samples.

    Parameters
    ----------
    task, quantized
        The network, as captured and as integers.
    accelerator
        Whose accumulators add up; unbounded sums where ``None``.
    engine
        One of `ENGINES`.
    threads
        Of the functional engine.
    first
        Number of samples whose output codes are kept.
    """
    tallies, kept, held = [], [], 0
    overflow: dict[str, OverflowMap] = {}
    with progress(quantized.label, len(task.evaluated)) as advance:
        for x, y in task.chunks():
            run = run_engine(quantized, x, accelerator, engine=engine, threads=threads, advance=advance)
            tallies.append(task.metric.tally(quantized.decode(run.outputs)[0], y))
            if held < first:
                kept.append({name: codes[: first - held] for name, codes in run.outputs.items()})
                held += len(y)
            overflow = merged_overflow(overflow, run.overflow)
    firsts = {name: np.concatenate([part[name] for part in kept]) for name in (kept[0] if kept else ())}
    return Evaluation(np.concatenate(tallies), overflow, firsts)


def run_engine(
    quantized: Integers,
    x: NDArray[np.generic],
    accelerator: Accelerator | None,
    *,
    engine: str = "functional",
    threads: int = 1,
    keep: Iterable[str] = (),
    advance: Callable[[int], None] | None = None,
) -> Execution:
    """Encode a batch of real samples and execute it with an engine."""
    codes = quantized.encode(x)
    if engine == "functional":
        return execute(quantized.program, codes, accelerator, keep=keep, threads=threads, progress=advance)
    if engine != "register":
        raise ValueError(f"engine must be one of {', '.join(ENGINES)} (got {engine!r})")
    if accelerator is None:
        raise ValueError("engine register steps an array: give an accelerator")
    run = execute_register(quantized.program, codes, accelerator, keep=keep)
    if advance is not None:
        advance(len(x))
    return run


def merged_overflow(first: Mapping[str, OverflowMap], second: Mapping[str, OverflowMap]) -> dict[str, OverflowMap]:
    """Add two overflow maps of one Program up; an op that is in one only keeps its own."""
    merged = dict(first)
    for name, item in second.items():
        seen = merged.get(name)
        merged[name] = item if seen is None else OverflowMap(seen.events + item.events, seen.differing + item.differing)
    return merged


def _parts(indices: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(indices), size):
        yield indices[start : start + size]
