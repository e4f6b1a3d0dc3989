"""What the papers say, judged on the numbers of one text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reports.studies.common import Difference, minus
from reports.studies.lstm_words.findings import verdict
from reports.studies.transformers.study import Place

Part = Mapping[str, Any]
FLOAT = "float"


@dataclass(frozen=True)
class Finding:
    """A statement, and the comparisons that decide it.

    Parameters
    ----------
    says
        In words, with where it is from.
    claim
        As `reports.studies.lstm_words.findings.verdict` takes it.
    bits, firsts, seconds
        Each first against each second at each width; ``float`` stands for the float network.
    """

    says: str
    claim: str
    bits: tuple[int, ...]
    firsts: tuple[str, ...]
    seconds: tuple[str, ...]


BERT_FINDINGS = (
    Finding(
        "SplitQuant's paper: with weights of 2 bits SplitQuant is ahead (affine scales)",
        "ahead", (2,), ("SplitQuant affine",), ("unsplit affine",),
    ),
    Finding(
        "SplitQuant's paper: with SplitQuant, weights of 2 bits are as good as the float network (affine scales)",
        "not behind", (2,), ("SplitQuant affine",), (FLOAT,),
    ),
    Finding(
        "Our expectation: symmetric scales leave one branch its old range, so SplitQuant does not help at 2 bits",
        "not ahead", (2,), ("SplitQuant symmetric",), ("unsplit symmetric",),
    ),
    Finding(
        "Weights of 8 bits are as good as the float network without SplitQuant",
        "not behind", (8,), ("unsplit symmetric", "unsplit affine"), (FLOAT,),
    ),
)  # fmt: skip

LLAMA_FINDINGS = (
    Finding(
        "OCS's paper: no clip is needed for weights of 8 and 7 bits",
        "not ahead", (8, 7), ("MSE", "ACIQ"), ("none",),
    ),
    Finding(
        "OCS's paper: OCS is ahead of every clip for weights of 6 and 5 bits",
        "ahead", (6, 5), ("OCS 0.02", "OCS 0.05"), ("MSE", "ACIQ"),
    ),
    Finding(
        "OCS's paper: OCS with a clip is ahead of the clip alone for weights of 4 bits",
        "ahead", (4,), ("OCS 0.05 + MSE",), ("MSE", "ACIQ"),
    ),
    Finding(
        "OCS is ahead of no OCS for weights of 4 and 3 bits", "ahead", (4, 3), ("OCS 0.02", "OCS 0.05"), ("none",),
    ),
    Finding(
        "SmoothQuant's paper: it is ahead of plain quantization at 8 bits",
        "ahead", (8,), ("SmoothQuant 0.5",), ("none",),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """A finding on one text, with the differences that it was judged by."""

    finding: Finding
    verdict: str
    cases: tuple[tuple[Place, str, Difference], ...]

    def text(self, factor: float, digits: int) -> str:
        """Return the verdict with its numbers."""
        shown = "; ".join(
            f"{one.bits} bits {one.column} − {two} {d.text(factor, digits)}" for one, two, d in self.cases
        )
        return minus(f"{self.finding.says}: **{self.verdict}** ({shown}).")


def judge_all(part: Part, findings: tuple[Finding, ...]) -> list[Judged]:
    """Return every finding judged on one part of the results."""
    found = []
    for finding in findings:
        places = [(Place(b, one), two) for b in finding.bits for one in finding.firsts for two in finding.seconds]
        cases = tuple((place, other, compared(part, place, other)) for place, other in places)
        found.append(Judged(finding, verdict([case[2] for case in cases], finding.claim), cases))
    return found


def cell_of(part: Part, place: Place) -> Mapping[str, Any]:
    """Return the results of one place."""
    found: Mapping[str, Any] = next(
        row for row in part["cells"] if (row["bits"], row["column"]) == (place.bits, place.column)
    )
    return found


def compared(part: Part, first: Place, second: str) -> Difference:
    """Return a difference of the results, from another column of the same width or from the float network."""
    better = part["metric"] == "top1"
    if second == FLOAT:
        row = cell_of(part, first)
        return Difference(row["minus_float"], row["minus_float_standard_error"], better)
    wanted = (first.bits, first.column, second)
    row = next(row for row in part["comparisons"] if (row["bits"], row["first"], row["second"]) == wanted)
    return Difference(row["difference"], row["standard_error"], better)
