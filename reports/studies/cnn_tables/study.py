"""The runs behind the tables: every cell of every network, kept as soon as it is measured."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.execute import accumulations
from quant.lower import Quantized
from quant.ocs_oracle import quantize_per_batch
from quant.recipes import CLIP_COLUMNS, WEIGHT_BITS
from reports.studies.cnn_tables.rows import Cell, act_cells, combined_cells, extreme_cells, same_cells, weight_cells
from reports.studies.common import Bench, Kept, Measured, difference, expansion, figures, measure_all
from reports.task import run_engine
from reports.witness import first_difference

Advance = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Network:
    """One network of the study.

    Parameters
    ----------
    name
        A key of `workloads.WORKLOADS`.
    images, calib
        To evaluate and to calibrate on.
    per_channel
        Whether the tables that vary something else than weight scales have one weight scale per channel, because with
        one per layer nothing is left to compare; the weight table is then given both ways.
    oracle_batch
        Images that the oracle sees at once.
    exact
        Images proved equal to the torch oracle per Program, in two batches.
    """

    name: str
    images: int
    calib: int
    per_channel: bool = False
    oracle_batch: int = 128
    exact: int = 8


NETWORKS = (
    Network(name="cifar10-resnet20", images=4000, calib=512),
    Network(name="cifar10-resnet56", images=1000, calib=256, exact=4),
    Network(name="mobilenet-v1-075", images=400, calib=64, per_channel=True, oracle_batch=32, exact=2),
    Network(name="tiny-darknet", images=300, calib=64, oracle_batch=32, exact=2),
)


def planned(network: Network) -> list[Cell]:
    """Return the cells that need no choice between measured ones, neighbours alike in their transforms."""
    cells = [*weight_cells("weights", False)]
    if network.per_channel:
        cells += weight_cells("weights-per-channel", True)
    cells += extreme_cells(network.per_channel)
    cells += act_cells(network.per_channel)
    cells += same_cells(network.per_channel)
    return cells


def chosen(network: Network, bench: Bench, measured: Mapping[str, Measured]) -> list[Cell]:
    """Return the cells that combine OCS with the best clip rule of the same width."""
    cells = [*combined_cells("weights", False, best_clips(bench, measured, "weights"))]
    if network.per_channel:
        best = best_clips(bench, measured, "weights-per-channel")
        cells += combined_cells("weights-per-channel", True, best)
    return cells


def best_clips(bench: Bench, measured: Mapping[str, Measured], table: str) -> dict[int, str]:
    """Return the clip rule with the best figure without OCS, by weight width."""
    metric = bench.task.metric
    return {
        bits: max(CLIP_COLUMNS, key=lambda clip: metric.value(measured[f"{table}-{bits}-{clip}"].tallies))
        for bits in WEIGHT_BITS
    }


def total(network: Network) -> int:
    """Return how many cells a network has."""
    names = dict.fromkeys(WEIGHT_BITS, CLIP_COLUMNS[0])
    tables = 1 + network.per_channel
    return len(planned(network)) + tables * len(list(combined_cells("weights", False, names)))


def run_network(network: Network, bench: Bench, kept: Kept, advance: Advance) -> dict[str, Any]:
    """Measure every cell of one network and return its part of the results: plain types."""
    cells = planned(network)
    measured = _measure(bench, kept, cells, network, advance)
    more = chosen(network, bench, measured)
    measured |= _measure(bench, kept, more, network, advance)
    metric, real = bench.task.metric, bench.task.float_tallies
    return {
        "images": len(bench.task.evaluated),
        "calibration_images": len(bench.task.calibrated),
        "oracle_batch": network.oracle_batch,
        "per_channel": network.per_channel,
        "float": {"accuracy": metric.value(real), "standard_error": metric.standard_error(real)},
        "cells": [
            {"table": c.table, "bits": c.bits, "column": c.column, "recipe": c.recipe.label()}
            | _against_none(bench, measured, c)
            | figures(metric, measured[c.recipe.name], real)
            for c in (*cells, *more)
        ],
        "comparisons": _comparisons(bench, measured, [*cells, *more]),
    }


def _measure(
    bench: Bench, kept: Kept, cells: Iterable[Cell], network: Network, advance: Advance
) -> dict[str, Measured]:
    ordinary = [c.recipe for c in cells if c.oracle_ratio is None]
    found = measure_all(bench, ordinary, kept, advance)
    for item in cells:
        if item.oracle_ratio is not None:
            extra = f"oracle {item.oracle_ratio} batch {network.oracle_batch}"
            measured = kept.find(item.recipe, extra) or measure_oracle(bench, item, network.oracle_batch)
            kept.keep(item.recipe, measured, extra)
            found[item.recipe.name] = measured
            advance(1)
    return found


def measure_oracle(bench: Bench, item: Cell, batch: int) -> Measured:
    """Measure the experiment that makes a Program for every batch; its first two are compared with the torch oracle."""
    task, tallies, overflowed, grown = bench.task, [], 0, []
    exact: list[str] = []
    ratio = item.oracle_ratio or 0.0
    batches = list(_batches(bench, batch))
    programs = quantize_per_batch(task.graph, (x for x, _ in batches), item.recipe, ratio)
    half = max(1, bench.exact_samples // 2)
    for (quantized, x), (_, labels) in zip(programs, batches, strict=True):
        run = run_engine(quantized, x, bench.accelerator, threads=bench.threads)
        tallies.append(task.metric.tally(quantized.decode(run.outputs)[0], labels))
        overflowed += sum(found.differing for found in run.overflow.values())
        grown.append(expansion(task, quantized))
        if len(exact) < 2:
            exact.append(_differs(bench, quantized, x[:half]))
    return Measured(
        tallies=np.concatenate(tallies),
        bit_exact=not any(exact),
        exact_samples=sum(min(half, len(x)) for x, _ in batches[:2]),
        exact_batches=len(exact),
        overflowed_outputs=overflowed,
        expansion=float(np.mean(grown)),
        programs=len(batches),
    )


def _differs(bench: Bench, quantized: Quantized, x: NDArray[Any]) -> str:
    tensors = [op.output for op in quantized.program.ops]
    run = run_engine(quantized, x, bench.accelerator, keep=tensors)
    rules = accumulations(quantized.program, bench.accelerator)
    return first_difference(quantized.program, quantized.encode(x), run, rules)


def _batches(bench: Bench, size: int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    places = bench.task.evaluated
    for start in range(0, len(places), size):
        part = places[start : start + size]
        yield bench.task.samples.batch(part), bench.task.samples.labels(part)


def _against_none(bench: Bench, measured: Mapping[str, Measured], item: Cell) -> dict[str, Any]:
    base = measured.get(f"{item.table}-{item.bits}-none")
    if base is None:
        return {}
    against = difference(bench.task.metric, measured[item.recipe.name].tallies, base.tallies)
    return {"minus_none": against.value, "minus_none_standard_error": against.error}


def _comparisons(bench: Bench, measured: Mapping[str, Measured], cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """Return the differences that the findings are about."""
    metric, rows = bench.task.metric, []
    by_place = {(c.table, c.bits, c.column): measured[c.recipe.name].tallies for c in cells}
    for table, bits in dict.fromkeys((table, bits) for table, bits, _ in by_place):
        columns = [column for t, b, column in by_place if (t, b) == (table, bits)]
        for first, second in _pairs(columns):
            against = difference(metric, by_place[table, bits, first], by_place[table, bits, second])
            row = {"table": table, "bits": bits, "first": first, "second": second}
            rows.append(row | {"difference": against.value, "standard_error": against.error})
    return rows


def _pairs(columns: Sequence[str]) -> Iterator[tuple[str, str]]:
    for clip in (column for column in columns if column in CLIP_COLUMNS):
        yield clip, "none"
        for column in columns:
            if column.startswith(("ocs", "oracle")):
                yield column, clip
    for column in columns:
        if column.startswith("qa "):
            yield column, column.replace("qa", "naive")
