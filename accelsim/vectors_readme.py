"""The text that comes with golden vectors."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelsim.vectors import Stream, Vectors

_HOPS = (
    "Each fold loads a tile of {0} from the top (the row of ROWS - 1 first) and then streams {1} from the left; sums "
    "move down, one PE a cycle, and start at zero in the top row. The accumulator memory below adds the folds of an "
    "output in k order, starting from the bias."
)
_PLACES = "Row r of the array holds {0} of k = k0 + r * LANES + lane, column c those of {1} = {1}0 + c. "

TIMES = {
    "weight": _PLACES.format("weights", "n") + _HOPS.format("weights", "activations"),
    "input": _PLACES.format("activations", "m") + _HOPS.format("activations", "weights"),
    "output": (
        "Row r of the array adds up outputs of m = m0 + r, column c of n = n0 + c. Activations move right and weights "
        "down, LANES consecutive k a cycle; sums stay, starting from the bias, and then drain through the bottom row, "
        "that of row ROWS - 1 first."
    ),
}
"""What happens in an array, by what stays in it."""

_LEAVES = "The sum of an element that enters row 0 in cycle s leaves column c in line s + ROWS + c + DEPTH - 1."

LATENCY = {
    "weight": _LEAVES,
    "input": _LEAVES,
    "output": (
        "A fold whose last element enters row 0 in cycle s drains from column c in line s + ROWS + c + DEPTH - 1 and "
        "the ROWS - 1 lines after it."
    ),
}
"""When sums leave."""


def readme(vectors: "Vectors", origin: str) -> str:
    """Return the README of a folder of vectors; `origin` is a title and any paragraphs to follow it."""
    job, gemm = vectors.job, vectors.job.operands.gemm
    rules = job.accumulation
    stays = f"{vectors.dataflow.stationary}s stay"
    hops = "" if rules.fold_k is None else f"sums on the move {rules.psum_bits} bits, {rules.psum_overflow}; "
    parts = [
        f"# Golden vectors: {origin}",
        f"`result[{gemm.m}, {gemm.n}] = a[{gemm.m}, {gemm.k}] · w[{gemm.k}, {gemm.n}] + bias[{gemm.n}]` on an array "
        f"of {job.array.rows} × {job.array.cols} PEs in which {stays}, mode {job.mode}: {vectors.cycles} cycles. "
        f"Registers: {hops}accumulators {rules.acc_bits} bits, {rules.acc_overflow}; the rule acts after every "
        "addition and on the bias. Parameters are in `parameters.vh`.",
        TIMES[vectors.dataflow.stationary],
        "## Files",
        "Every `.memh` is for `$readmemh`: one word a line, field 0 in the lowest bits, two's complement. Fields of "
        "an edge are its rows or columns, product lanes of one row or column next to each other. `vectors.npz` holds "
        "the same numbers by the same names as integers, and the folds (ranges of m, k and n in order of execution).",
        *(_table(*item) for item in _chapters(vectors)),
        "Line t of a stream by cycle is cycle t, counted from the first load (or, where outputs stay, the first "
        "element): what the wires carry just before the clock edge that ends the cycle. All registers start at zero. "
        f"{LATENCY[vectors.dataflow.stationary]} There is one line more than there are cycles; in it nothing enters. "
        "Control bits enter at the left edge, in column 0, and hop one column to the right a cycle. "
        "A line is one step of the array: a clock cycle, or on bit-serial PEs the cycles of one operation. Control "
        "bits are those of the array these vectors were made with; one with other control compares operands, bottom "
        "and totals.",
    ]
    return "\n\n".join(parts) + "\n"


def _chapters(vectors: "Vectors") -> list[tuple[str, dict[str, "Stream"]]]:
    return [
        ("Before the run", vectors.operands),
        ("By cycle", vectors.per_cycle),
        ("After the run", vectors.results),
    ]


def _table(title: str, streams: dict[str, "Stream"]) -> str:
    rows = [
        f"| `{name}.memh` | {len(item.values)} | {item.fields} × {item.bits} | {item.meaning} |"
        for name, item in streams.items()
    ]
    head = ["| file | lines | fields × bits | what |", "|---|--:|--:|---|"]
    return "\n".join([f"### {title}", "", *head, *rows])
