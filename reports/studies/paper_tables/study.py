"""Both sides in one shape: the published figures, and ours from the results of the other studies."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reports.studies.lstm_words import findings as lstm_findings
from reports.studies.lstm_words import published as lstm_published
from reports.studies.paper_tables import published
from reports.studies.qa_split import published as qa_published
from reports.studies.transformers.findings import BERT_FINDINGS, judge_all

Part = Mapping[str, Any]

PAPER, OURS = "paper", "ours"
RULES = ("mse", "aciq", "kl")
PLAIN = ("none", *RULES)
SPLITS = ("ocs 0.01", "ocs 0.02", "ocs 0.05")
COMBINED = tuple(f"{name} + clip" for name in SPLITS)
BITS = (8, 7, 6, 5, 4)
RATIOS = (0.01, 0.02, 0.05, 0.1)

PAIRS = {
    "weights": (
        ("rule", "none"),
        *((first, second) for first in (*SPLITS, *COMBINED) for second in ("none", "rule", "best")),
        *zip(COMBINED, SPLITS, strict=True),
    ),
    "activations": (("rule", "none"), *((first, second) for first in SPLITS for second in ("none", "rule", "best"))),
    "oracle": (("oracle 0.02", "best"),),
}
"""What is compared: columns, ``rule`` for the best of the three clip rules, ``best`` for that or no clip."""

STUDIES = ("cnn_tables", "qa_split", "lstm_words", "transformers")


def collect(folder: Path) -> dict[str, Any]:
    """Return both sides' figures: plain types, accuracies and differences in points.

    Parameters
    ----------
    folder
        Of the studies, each with its ``results.json``.

    Raises
    ------
    ValueError
        If a result that is to be compared is not there.
    """
    read = {name: json.loads((folder / name / "results.json").read_text(encoding="utf-8")) for name in STUDIES}
    ours = [_our_network(name, part) for name, part in read["cnn_tables"]["networks"].items()]
    return {
        "setting": {
            "command": "python -m reports.studies.paper_tables",
            "studies": {name: found["setting"]["command"] for name, found in read.items()},
        },
        "sources": [asdict(source) for source in published.SOURCES],
        "networks": [*(_published_network(name) for name in published.FLOAT), *ours],
        "qa": [_published_qa(), _our_qa(read["qa_split"]), *_more_qa(read)],
        "oracle": [*_published_oracles(), *(_our_oracle(*item) for item in read["cnn_tables"]["networks"].items())],
        "overhead": [_published_overhead(), *(_overhead(*item) for item in read["cnn_tables"]["networks"].items())],
        "lstm": [_published_lstm(), *(_our_lstm(*item) for item in read["lstm_words"]["networks"].items())],
        "splitquant": [_gains(*item) for item in read["transformers"]["tasks"].items() if _is_bert(item[1])],
        "equalized": [_equalized(*item) for item in read["cnn_tables"]["networks"].items()],
    }


# --- convolutional networks ------------------------------------------------------------------------------------------


def _published_network(name: str) -> dict[str, Any]:
    real = published.FLOAT[name]
    tables = {"weights": published.WEIGHTS[name], "activations": published.ACTIVATIONS[name]}
    cells = []
    for table, rows in tables.items():
        for bits, row in rows.items():
            for column, accuracy in zip(published.COLUMNS[table], row, strict=True):
                cells.append(_cell(table, bits, column, accuracy, round(accuracy - real, 4), None))
    return {"name": name, "whose": PAPER, "images": None, "per_channel": False, "float": real} | {
        "cells": cells,
        "differences": list(_differences(cells, None)),
    }


def _our_network(name: str, part: Part) -> dict[str, Any]:
    weights = "weights-per-channel" if part["per_channel"] else "weights"
    kept = {"weights": weights, "activations": "activations"}
    columns = {"weights": (*PLAIN, *SPLITS, *COMBINED), "activations": (*PLAIN, *SPLITS)}
    cells = []
    for table, source in kept.items():
        for item in part["cells"]:
            if item["table"] == source and item["bits"] in BITS and item["column"] in columns[table]:
                drop, error = 100 * item["minus_float"], 100 * item["minus_float_standard_error"]
                cells.append(_cell(table, item["bits"], item["column"], 100 * item["accuracy"], drop, error))
    cells += [_best(cells, table, bits) for table in kept for bits in BITS]
    return {
        "name": name,
        "whose": OURS,
        "images": part["images"],
        "per_channel": part["per_channel"],
        "float": _points(part["float"]["accuracy"]),
        "float_error": _points(part["float"]["standard_error"]),
        "cells": cells,
        "differences": list(_differences(cells, (part, kept))),
    }


def _cell(table: str, bits: int, column: str, accuracy: float, drop: float, error: float | None) -> dict[str, Any]:
    return {
        "table": table,
        "bits": bits,
        "column": column,
        "accuracy": accuracy,
        "drop": drop,
        "error": error,
    }


def _best(cells: Sequence[Part], table: str, bits: int) -> dict[str, Any]:
    """Return the best clip as the paper means it: of the three rules and no clip."""
    row = [cell for cell in cells if (cell["table"], cell["bits"]) == (table, bits) and cell["column"] in PLAIN]
    return dict(max(row, key=lambda cell: cell["accuracy"])) | {"column": "best"}


def _differences(cells: Sequence[Part], ours: tuple[Part, Mapping[str, str]] | None) -> Iterator[dict[str, Any]]:
    """Yield `PAIRS` at every width; with their errors where there are samples behind them."""
    accuracy = {(cell["table"], cell["bits"], cell["column"]): cell["accuracy"] for cell in cells}
    for table in ("weights", "activations"):
        for bits in BITS:
            for first, second in PAIRS[table]:
                one, two = (_meant(accuracy, table, bits, column) for column in (first, second))
                names = {"table": table, "bits": bits, "first": first, "second": second}
                if ours is None:
                    value = accuracy[table, bits, one] - accuracy[table, bits, two]
                    yield names | {"value": round(value, 4), "error": None, "paired": False}
                else:
                    part, sources = ours
                    yield names | compared(part, sources[table], bits, one, two)


def _meant(accuracy: Mapping[tuple[str, int, str], float], table: str, bits: int, column: str) -> str:
    choices = {"rule": RULES, "best": PLAIN}.get(column)
    if choices is None:
        return column
    if column == "best" and (table, bits, "best") in accuracy:
        printed = accuracy[table, bits, "best"]
        return next((name for name in choices if accuracy[table, bits, name] == printed), "best")
    return max(choices, key=lambda name: accuracy[table, bits, name])


def compared(part: Part, table: str, bits: int, first: str, second: str) -> dict[str, Any]:
    """Return a difference of our results in points, with its paired standard error or a bound of it.

    Where a pair was not compared on the samples, its error is at most the sum of the two errors against any third
    column of the same images (the triangle inequality of standard deviations): the least such sum is taken.
    """
    cells = {item["column"]: item for item in part["cells"] if (item["table"], item["bits"]) == (table, bits)}
    errors = _errors(part, table, bits)
    value = cells[first]["accuracy"] - cells[second]["accuracy"]
    if first == second:
        return {"value": 0.0, "error": 0.0, "paired": True}
    if (first, second) in errors:
        return {"value": _points(value), "error": _points(errors[first, second]), "paired": True}
    thirds = {third for one, third in errors if one == first} & {third for one, third in errors if one == second}
    if not thirds:
        raise ValueError(f"{first} and {second} at {bits} bits of {table} have no comparison; regenerate cnn_tables")
    bound = min(errors[first, third] + errors[second, third] for third in thirds)
    return {"value": _points(value), "error": _points(bound), "paired": False}


def _errors(part: Part, table: str, bits: int) -> dict[tuple[str, str], float]:
    """Return the paired standard errors at hand, each both ways."""
    found = {}
    for item in part["cells"]:
        if (item["table"], item["bits"]) == (table, bits):
            found[item["column"], "float"] = item["minus_float_standard_error"]
            if "minus_none_standard_error" in item:
                found[item["column"], "none"] = item["minus_none_standard_error"]
    for row in part["comparisons"]:
        if (row["table"], row["bits"]) == (table, bits):
            found[row["first"], row["second"]] = row["standard_error"]
    return found | {(two, one): error for (one, two), error in found.items()}


def _points(share: float) -> float:
    return 100 * share


# --- oracle, quantization-aware splitting, overhead, equalization ----------------------------------------------------


def _published_oracles() -> Iterator[dict[str, Any]]:
    place = {name: index for index, name in enumerate(published.COLUMNS["activations"])}
    for name, row in published.ORACLE.items():
        printed = published.ACTIVATIONS[name][6]
        real, best = published.FLOAT[name], printed[place["best"]]
        yield {
            "name": name,
            "whose": PAPER,
            "bits": 6,
            "none": round(printed[place["none"]] - real, 4),
            "best": round(best - real, 4),
            "batches": [
                {"batch": batch, "drop": round(value - real, 4), "minus_best": round(value - best, 4), "error": None}
                for batch, value in zip(published.ORACLE_BATCHES, row, strict=True)
            ],
        }


def _our_oracle(name: str, part: Part) -> dict[str, Any]:
    cells = {c["column"]: c for c in part["cells"] if (c["table"], c["bits"]) == ("activations", 6)}
    best = max(PLAIN, key=lambda column: cells[column]["accuracy"])
    found = compared(part, "activations", 6, "oracle 0.02", best)
    return {
        "name": name,
        "whose": OURS,
        "bits": 6,
        "none": _points(cells["none"]["minus_float"]),
        "best": _points(cells[best]["minus_float"]),
        "ranges_alone": _points(cells["oracle 0"]["minus_float"]),
        "batches": [
            {
                "batch": part["oracle_batch"],
                "drop": _points(cells["oracle 0.02"]["minus_float"]),
                "minus_best": found["value"],
                "error": found["error"],
            }
        ],
    }


def _published_qa() -> dict[str, Any]:
    rows = []
    for bits in qa_published.BITS:
        for ratio in qa_published.RATIOS:
            qa, naive = qa_published.published(bits, ratio)
            rows.append({"bits": bits, "ratio": ratio, "value": round(_points(qa - naive), 4), "error": None})
    return {"name": "ResNet-20", "whose": PAPER, "images": None, "rows": rows}


def _our_qa(found: Part) -> dict[str, Any]:
    rows = [
        {
            "bits": row["weight_bits"],
            "ratio": row["ratio"],
            "value": _points(row["qa_minus_naive"]),
            "error": _points(row["qa_minus_naive_standard_error"]),
        }
        for row in found["rows"]
    ]
    return {"name": found["setting"]["network"], "whose": OURS, "images": found["setting"]["images"], "rows": rows}


def _more_qa(read: Mapping[str, Part]) -> Iterator[dict[str, Any]]:
    """Yield the networks that the study of the paper's own one does not have."""
    for name, part in read["cnn_tables"]["networks"].items():
        if name == read["qa_split"]["setting"]["network"]:
            continue
        kept = {(c["bits"], c["column"]): c["accuracy"] for c in part["cells"] if c["table"] == "qa"}
        rows = [
            {
                "bits": row["bits"],
                "ratio": float(row["first"].removeprefix("qa ")),
                "value": _points(row["difference"]),
                "error": _points(row["standard_error"]),
                "kept": max(kept[row["bits"], row[side]] for side in ("first", "second")) / part["float"]["accuracy"],
            }
            for row in part["comparisons"]
            if row["table"] == "qa"
        ]
        yield {"name": name, "whose": OURS, "images": part["images"], "rows": rows}


def _published_overhead() -> dict[str, Any]:
    rows = {f"{ratio:g}": published.OVERHEAD[ratio] for ratio in RATIOS}
    return {
        "name": "ResNet-50",
        "whose": PAPER,
        "weights": {ratio: row[0] for ratio, row in rows.items()},
        "activations": {ratio: row[1] for ratio, row in rows.items()},
    }


def _overhead(name: str, part: Part) -> dict[str, Any]:
    columns = {f"{ratio:g}": f"ocs {ratio:g}" if ratio < 0.1 else f"qa {ratio:g}" for ratio in RATIOS}
    grown = {c["column"]: c["weight_expansion"] for c in part["cells"] if c["table"] in ("weights", "qa")}
    return {"name": name, "whose": OURS, "weights": {r: round(grown[column], 4) for r, column in columns.items()}}


def _equalized(name: str, part: Part) -> dict[str, Any]:
    cells = {c["column"]: c for c in part["cells"] if (c["table"], c["bits"]) == ("weights", 8)}
    columns = ("none", "one-step", "two-step", "cross-layer")
    return {"name": name} | {
        column: [_points(cells[column][key]) for key in ("minus_float", "minus_float_standard_error")]
        for column in columns
    }


# --- sequences -------------------------------------------------------------------------------------------------------


def _published_lstm() -> dict[str, Any]:
    real = lstm_published.FLOAT
    cells = [
        {"bits": bits, "ratio": ratio, "clip": clip, "more_bits": round(math.log2(value / real), 5), "error": None}
        for (bits, ratio), row in lstm_published.PERPLEXITY.items()
        for clip, value in zip(lstm_published.CLIPS, row, strict=True)
    ]
    return {"name": "LSTM of 650 cells", "whose": PAPER, "symbol": "word", "cells": cells, "judged": _on_side()}


def _on_side() -> list[list[int]]:
    """Return, for every finding of `lstm_words`, in how many of its cases the printed figures are on its side."""
    found = []
    for finding in lstm_findings.FINDINGS:
        values = []
        for one, two in finding.cases:
            other = lstm_published.FLOAT if two is None else lstm_published.published(two.bits, two.ratio, two.clip)
            values.append(other - lstm_published.published(one.bits, one.ratio, one.clip))
        found.append([sum(on_side(finding.claim, value) for value in values), len(values)])
    return found


def on_side(claim: str, better_by: float) -> bool:
    """Return whether a printed difference, without an error, is on a claim's side; see `common.judge`."""
    return {"ahead": better_by > 0, "not ahead": better_by <= 0, "not behind": better_by >= 0}[claim]


def _our_lstm(name: str, part: Part) -> dict[str, Any]:
    """Return what quantization costs in bits per symbol; errors of perplexities by their derivative."""
    words, real = part["metric"] == "perplexity", part["float"]["accuracy"]
    cells = []
    for item in part["cells"]:
        if item["bits"] in lstm_published.BITS:
            value, error = item["minus_float"], item["minus_float_standard_error"]
            if words:
                value, error = math.log2(1 + value / real), error / item["accuracy"] / math.log(2)
            place = {key: item[key] for key in ("bits", "ratio", "clip")}
            cells.append(place | {"more_bits": round(value, 5), "error": round(error, 5)})
    judged = [item.verdict for item in lstm_findings.judge_all(part)]
    return {"name": name, "whose": OURS, "symbol": "word" if words else "character", "cells": cells, "judged": judged}


def _is_bert(part: Part) -> bool:
    return any(cell["column"].startswith("SplitQuant") for cell in part["cells"])


def _gains(name: str, part: Part) -> dict[str, Any]:
    drops = {c["column"]: c for c in part["cells"] if c["bits"] == 2}
    rows: list[dict[str, Any]] = []
    for scales in ("symmetric", "affine"):
        first, second = f"SplitQuant {scales}", f"unsplit {scales}"
        row = next(r for r in part["comparisons"] if (r["bits"], r["first"], r["second"]) == (2, first, second))
        split = drops[first]
        rows.append(
            {
                "scales": scales,
                "gain": [_points(row["difference"]), _points(row["standard_error"])],
                "drop": [_points(split["minus_float"]), _points(split["minus_float_standard_error"])],
                "unsplit": [_points(drops[second][key]) for key in ("minus_float", "minus_float_standard_error")],
                "expansion": split["weight_expansion"],
            }
        )
    judged = [item.verdict for item in judge_all(part, BERT_FINDINGS)[:2]]
    return {"name": name, "samples": part["samples"], "rows": rows, "judged": judged}
