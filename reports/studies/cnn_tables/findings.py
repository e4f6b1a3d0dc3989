"""What the paper found, judged on one network's numbers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.studies.common import UNDECIDED, Difference, judge

CLIPS = ("mse", "aciq", "kl")
LOST = 0.25
"""Cases in which both sides keep less than this share of the float accuracy decide nothing."""

Part = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """A statement of the paper.

    Parameters
    ----------
    says
        In words.
    claim
        As `reports.studies.common.judge` takes it.
    bits
        Widths it is about.
    table
        Where its cases are; ``weights`` stands for the per-channel table where there is one.
    firsts
        Columns that are compared.
    seconds
        With which: names, or ``best`` for the clip rule with the best figure in the row.
    """

    says: str
    claim: str
    bits: tuple[int, ...]
    table: str
    firsts: tuple[str, ...]
    seconds: tuple[str, ...]


FINDINGS = (
    Finding("No clip is needed for weights of 8 and 7 bits", "not ahead", (8, 7), "weights", CLIPS, ("none",)),
    Finding(
        "OCS with r = 0.02 is ahead of every clip for weights of 6 and 5 bits",
        "ahead", (6, 5), "weights", ("ocs 0.02",), CLIPS,
    ),
    Finding(
        "OCS with r = 0.01 is ahead of every clip for weights of 6 and 5 bits",
        "ahead", (6, 5), "weights", ("ocs 0.01",), CLIPS,
    ),
    Finding(
        "OCS with the best clip is ahead of every clip for weights of 4 bits",
        "ahead", (4,), "weights", ("ocs 0.01 + clip", "ocs 0.02 + clip", "ocs 0.05 + clip"), CLIPS,
    ),
    Finding(
        "Activation OCS with a static choice is no better than the best clip",
        "not ahead", (8, 7, 6, 5, 4), "activations", ("ocs 0.01", "ocs 0.02", "ocs 0.05"), ("best",),
    ),
    Finding(
        "Activation OCS with the oracle's choice is as good as the best clip at 6 bits",
        "not behind", (6,), "activations", ("oracle 0.02",), ("best",),
    ),
    Finding(
        "Quantization-aware splitting is ahead of naive splitting at 4 and 3 bits with r of 0.1 and more",
        "ahead", (4, 3), "qa", ("qa 0.1", "qa 0.2"), ("naive",),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """A finding on one network, with the cases that it was judged by (bits, first, second, difference)."""

    finding: Finding
    verdict: str
    cases: tuple[tuple[int, str, str, Difference], ...]
    left_out: int

    def text(self) -> str:
        """Return the verdict with its numbers."""
        shown = "; ".join(f"{bits} bits {first} − {second} {d.text()}" for bits, first, second, d in self.cases)
        gone = f"; {self.left_out} cases left out, accuracy lost on both sides" if self.left_out else ""
        return f"{self.finding.says}: **{self.verdict}**" + (f" ({shown}{gone})" if shown or gone else "")


def judge_all(part: Part) -> list[Judged]:
    """Return every finding judged on one network's part of the results."""
    return [_judge(part, finding) for finding in FINDINGS]


def _judge(part: Part, finding: Finding) -> Judged:
    table = finding.table
    if table == "weights" and part["per_channel"]:
        table = "weights-per-channel"
    accuracy = {(c["table"], c["bits"], c["column"]): c["accuracy"] for c in part["cells"]}
    cases, left_out = [], 0
    for bits in finding.bits:
        for first, second in _places(accuracy, table, bits, finding):
            sides = (accuracy[table, bits, first], accuracy[table, bits, second])
            if max(sides) < LOST * part["float"]["accuracy"]:
                left_out += 1
                continue
            cases.append((bits, first, second, compared(part, table, bits, first, second)))
    verdict = judge([case[3] for case in cases], claim=finding.claim) if cases else UNDECIDED
    return Judged(finding, verdict, tuple(cases), left_out)


def _places(
    accuracy: Mapping[tuple[str, int, str], float], table: str, bits: int, finding: Finding
) -> Iterator[tuple[str, str]]:
    for first in finding.firsts:
        for second in finding.seconds:
            if second == "best":
                yield first, best_clip(accuracy, table, bits)
            elif second == "naive":
                yield first, first.replace("qa", "naive")
            else:
                yield first, second


def best_clip(accuracy: Mapping[tuple[str, int, str], float], table: str, bits: int) -> str:
    """Return the clip rule with the best figure in a row."""
    return max(CLIPS, key=lambda clip: accuracy[table, bits, clip])


def compared(part: Part, table: str, bits: int, first: str, second: str) -> Difference:
    """Return a difference of the results."""
    rows: Sequence[Mapping[str, Any]] = part["comparisons"]
    for row in rows:
        if (row["table"], row["bits"], row["first"], row["second"]) == (table, bits, first, second):
            return Difference(row["difference"], row["standard_error"])
    raise ValueError(f"study: {first} was not compared with {second} at {bits} bits of {table}; regenerate the results")
