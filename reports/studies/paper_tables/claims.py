"""What the OCS paper says of its Tables 1 to 4, counted on its own figures and judged on ours."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from reports.studies.cnn_tables.findings import LOST
from reports.studies.common import Difference
from reports.studies.lstm_words.findings import verdict
from reports.studies.paper_tables.study import COMBINED, SPLITS, on_side

Part = Mapping[str, Any]

NO_CASE = "no case"
WORDS = {"rule": "best rule", "best": "best clip"}


@dataclass(frozen=True)
class Claim:
    """A statement of the paper.

    Parameters
    ----------
    says
        In words.
    claim
        As `reports.studies.lstm_words.findings.verdict` takes it.
    table
        ``weights``, ``activations``, ``oracle`` or ``qa``.
    bits
        Widths that it is about.
    pairs
        Columns that are compared, of `study.PAIRS`; with ``qa`` expansion ratios, with ``oracle`` none.
    backwards
        The second is claimed to be the better one.
    """

    says: str
    claim: str
    table: str
    bits: tuple[int, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    backwards: bool = False


CLAIMS = (
    Claim(
        "The best rule is no better than no clip for weights of 8 and 7 bits",
        "not ahead", "weights", (8, 7), (("rule", "none"),),
    ),
    Claim(
        "Splitting 1 % of the channels is ahead of not splitting for weights of 6 and 5 bits",
        "ahead", "weights", (6, 5), (("ocs 0.01", "none"),),
    ),
    Claim(
        "OCS with r = 0.02 is ahead of the best clip for weights of 6 and 5 bits",
        "ahead", "weights", (6, 5), (("ocs 0.02", "best"),),
    ),
    Claim(
        "The best clip is ahead of OCS alone with r = 0.01 and 0.02 for weights of 4 bits",
        "ahead", "weights", (4,), (("ocs 0.01", "best"), ("ocs 0.02", "best")), backwards=True,
    ),
    Claim(
        "OCS with a clip is ahead of the best clip for weights of 5 and 4 bits, with every r",
        "ahead", "weights", (5, 4), tuple((name, "best") for name in COMBINED),
    ),
    Claim(
        "OCS with a clip is ahead of OCS alone for weights of 4 bits, with every r",
        "ahead", "weights", (4,), tuple(zip(COMBINED, SPLITS, strict=True)),
    ),
    Claim(
        "The best rule is ahead of no clip for activations of 6, 5 and 4 bits",
        "ahead", "activations", (6, 5, 4), (("rule", "none"),),
    ),
    Claim(
        "OCS with a static choice is no better than the best clip for activations of 7 to 4 bits",
        "not ahead", "activations", (7, 6, 5, 4), tuple((name, "best") for name in SPLITS),
    ),
    Claim("OCS with the oracle's choice is as good as the best clip for activations of 6 bits",
          "not behind", "oracle", (6,)),
    Claim(
        "Quantization-aware splitting is ahead of naive splitting for weights of 4 and 3 bits with r of 0.1 and 0.2",
        "ahead", "qa", (4, 3), (("0.1", ""), ("0.2", "")),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One comparison that a claim is judged by, in points; better is more."""

    name: str
    value: float
    error: float | None

    @property
    def difference(self) -> Difference:
        """The case with its error, 0 where none is known."""
        return Difference(self.value, self.error or 0.0)


@dataclass(frozen=True)
class Judged:
    """A claim on one network."""

    claim: Claim
    cases: tuple[Case, ...]
    left_out: int

    @property
    def verdict(self) -> str:
        """``held``, ``not held`` or ``undecided here`` for figures with errors; `NO_CASE` where accuracy is lost."""
        return verdict([case.difference for case in self.cases], self.claim.claim) if self.cases else NO_CASE

    @property
    def on_side(self) -> int:
        """Cases whose sign is the claim's, whatever their errors."""
        return sum(on_side(self.claim.claim, case.value) for case in self.cases)


def judge_claim(results: Part, claim: Claim) -> dict[str, Judged]:
    """Return a claim judged on every network that has its figures, by the network's name."""
    found: dict[str, Judged] = {}
    kind = claim.table if claim.table in ("qa", "oracle") else "networks"
    for network in results[kind]:
        cases, gone = [], 0
        for case, share in _cases(network, claim):
            if share < LOST:
                gone += 1
                continue
            cases.append(Case(case.name, -case.value, case.error) if claim.backwards else case)
        found[network["name"]] = Judged(claim, tuple(cases), gone)
    return found


def _cases(network: Part, claim: Claim) -> Iterator[tuple[Case, float]]:
    """Yield a claim's cases with the share of the float accuracy that the better side keeps."""
    if claim.table == "oracle":
        last = network["batches"][-1]
        yield Case(f"6 bits, batch {last['batch']}", last["minus_best"], last["error"]), 1.0
    elif claim.table == "qa":
        ratios = [float(ratio) for ratio, _ in claim.pairs]
        for row in network["rows"]:
            if row["bits"] in claim.bits and row["ratio"] in ratios:
                yield Case(f"{row['bits']} bits r {row['ratio']:g}", row["value"], row["error"]), row.get("kept", 1.0)
    else:
        for bits in claim.bits:
            for first, second in claim.pairs:
                row = difference_of(network, claim.table, bits, first, second)
                name = f"{bits} bits {WORDS.get(first, first)} − {WORDS.get(second, second)}"
                yield Case(name, row["value"], row["error"]), kept(network, claim.table, bits, first, second)


def difference_of(network: Part, table: str, bits: int, first: str, second: str) -> Part:
    """Return a difference of a network's results."""
    found: Part = next(
        row
        for row in network["differences"]
        if (row["table"], row["bits"], row["first"], row["second"]) == (table, bits, first, second)
    )
    return found


def kept(network: Part, table: str, bits: int, *columns: str) -> float:
    """Return the share of the float accuracy that the better of some columns keeps."""
    meant = {"rule": "best"}
    found = [cell_of(network, table, bits, meant.get(column, column))["accuracy"] for column in columns]
    return float(max(found) / network["float"])


def cell_of(network: Part, table: str, bits: int, column: str) -> Part:
    """Return a cell of a network's results."""
    wanted = (table, bits, column)
    found: Part = next(c for c in network["cells"] if (c["table"], c["bits"], c["column"]) == wanted)
    return found


ORDERED = {"none": "none", "rule": "clip", "ocs 0.05": "OCS", "ocs 0.05 + clip": "OCS + clip"}
"""Methods that are put in order at each width, and what they are called."""


def order(network: Part, table: str, bits: int) -> str:
    """Return methods from best to worst; ``≈`` between neighbours that are not decidedly different, or equal."""
    names = [name for name in ORDERED if table == "weights" or name != "ocs 0.05 + clip"]
    accuracy = {name: _accuracy(network, table, bits, name) for name in names}
    if max(accuracy.values()) < LOST * network["float"]:
        return "all lost"
    ordered = sorted(names, key=lambda name: -accuracy[name])
    words = ORDERED[ordered[0]]
    for first, second in pairwise(ordered):
        words += f" {_sign(network, table, bits, first, second)} {ORDERED[second]}"
    return words


def _accuracy(network: Part, table: str, bits: int, name: str) -> float:
    if name != "rule":
        return float(cell_of(network, table, bits, name)["accuracy"])
    none = float(cell_of(network, table, bits, "none")["accuracy"])
    return none + float(difference_of(network, table, bits, "rule", "none")["value"])


def _sign(network: Part, table: str, bits: int, first: str, second: str) -> str:
    rows = [
        row
        for row in network["differences"]
        if (row["table"], row["bits"]) == (table, bits) and {row["first"], row["second"]} == {first, second}
    ]
    found = Difference(rows[0]["value"], rows[0]["error"] or 0.0)
    return ">" if found.ahead or found.behind else "≈"
