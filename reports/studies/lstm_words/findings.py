"""What the paper's Table 6 says, judged on one network's numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.studies.common import HELD, UNDECIDED, Difference, judge, minus
from reports.studies.lstm_words.published import CLIPS, RATIOS
from reports.studies.lstm_words.study import Cell

Part = Mapping[str, Any]

_CLIPPED = CLIPS[1:]
_SPLIT = RATIOS[1:]


@dataclass(frozen=True)
class Finding:
    """A statement of the paper.

    Parameters
    ----------
    says
        In words.
    claim
        As `verdict` takes it.
    cases
        Pairs of cells, the second ``None`` for the float network.
    """

    says: str
    claim: str
    cases: tuple[tuple[Cell, Cell | None], ...]


def _plain(bits: int) -> Cell:
    return Cell(bits, 0.0, "none")


def _against_plain(bits: tuple[int, ...], ratios: tuple[float, ...]) -> tuple[tuple[Cell, Cell], ...]:
    return tuple((Cell(b, ratio, "none"), _plain(b)) for b in bits for ratio in ratios)


FINDINGS = (
    Finding(
        "Clipping alone does not help, at 6 and 5 bits",
        "not ahead", tuple((Cell(b, 0.0, clip), _plain(b)) for b in (6, 5) for clip in _CLIPPED),
    ),
    Finding("OCS is ahead of no OCS at 5 bits, with every r", "ahead", _against_plain((5,), _SPLIT)),
    Finding("OCS with r = 0.05 is ahead of no OCS at 6 bits", "ahead", _against_plain((6,), (0.05,))),
    Finding(
        "With more channels split OCS is better at 5 bits: r = 0.05 is ahead of r = 0.01",
        "ahead", ((Cell(5, 0.05, "none"), Cell(5, 0.01, "none")),),
    ),
    Finding(
        "OCS without a clip is ahead of OCS with one, at 6 and 5 bits, with every r and every clip",
        "ahead",
        tuple((Cell(b, r, "none"), Cell(b, r, clip)) for b in (6, 5) for r in _SPLIT for clip in _CLIPPED),
    ),
    Finding(
        "With r = 0.05, weights of 5 bits are as good as the float network",
        "not behind", ((Cell(5, 0.05, "none"), None),),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """A finding on one network, with the differences that it was judged by."""

    finding: Finding
    verdict: str
    cases: tuple[tuple[Cell, Cell | None, Difference], ...]

    def text(self) -> str:
        """Return the verdict with its numbers: all of them, or how many are which."""
        if len(self.cases) <= 3:
            shown = "; ".join(f"{_name(one)} − {_name(two)} {d.text(1, 3)}" for one, two, d in self.cases)
        else:
            ahead, behind = (sum(getattr(d, how) for *_, d in self.cases) for how in ("ahead", "behind"))
            shown = (
                f"of {len(self.cases)} comparisons the first is decidedly better in {ahead}, worse in {behind}, "
                f"{len(self.cases) - ahead - behind} undecided"
            )
        return minus(f"{self.finding.says}: **{self.verdict}** ({shown}).")


def _name(cell: Cell | None) -> str:
    if cell is None:
        return "float"
    return f"{cell.bits} bits r {cell.ratio:g} {cell.clip}"


def verdict(differences: Sequence[Difference], claim: str) -> str:
    """Judge as `reports.studies.common.judge` does, but leave undecided what leans against a claim without deciding it.

    That something is no better, or no worse, is held where every difference is zero or on the claim's side.
    """
    found = judge(differences, claim=claim)
    lost = {"not ahead": 1, "not behind": -1}.get(claim, 0)
    leans = any(lost * (item.value if item.better else -item.value) > 0 for item in differences)
    return UNDECIDED if found == HELD and leans else found


def judge_all(part: Part) -> list[Judged]:
    """Return every finding judged on one network's part of the results."""
    found = []
    for finding in FINDINGS:
        cases = tuple((one, two, compared(part, one, two)) for one, two in finding.cases)
        found.append(Judged(finding, verdict([case[2] for case in cases], finding.claim), cases))
    return found


def cell_of(part: Part, cell: Cell) -> Mapping[str, Any]:
    """Return the results of one cell."""
    found: Mapping[str, Any] = next(row for row in part["cells"] if cell.plain().items() <= row.items())
    return found


def compared(part: Part, first: Cell, second: Cell | None) -> Difference:
    """Return a difference of the results; less is better in all metrics of this study."""
    if second is None:
        row = cell_of(part, first)
        return Difference(row["minus_float"], row["minus_float_standard_error"], better=False)
    keys = {f"first_{k}": v for k, v in first.plain().items()} | {f"second_{k}": v for k, v in second.plain().items()}
    row = next(row for row in part["comparisons"] if keys.items() <= row.items())
    return Difference(row["difference"], row["standard_error"], better=False)
