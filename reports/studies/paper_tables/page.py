"""The study's page: both sides' tables, what held, and what cannot be compared."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reports.studies.common import DEVIATIONS, Difference, markdown_table, minus
from reports.studies.lstm_words.findings import FINDINGS as LSTM_FINDINGS
from reports.studies.lstm_words.published import CLIPS, RATIOS
from reports.studies.lstm_words.published import FLOAT as LSTM_FLOAT
from reports.studies.paper_tables import published
from reports.studies.paper_tables.claims import CLAIMS, WORDS, Judged, cell_of, difference_of, judge_claim, order
from reports.studies.paper_tables.findings import LIMITS, findings
from reports.studies.paper_tables.study import BITS, COMBINED, OURS, PAPER, RULES, SPLITS

Part = Mapping[str, Any]

ROWS = {"weights": ("none", *RULES, *SPLITS, *COMBINED), "activations": ("none", *RULES, *SPLITS)}

FIGURES = {
    "drop_weights": "Loss of top-1 against the width of weights, the paper's networks and ours",
    "drop_activations": "Loss of top-1 against the width of activations, the paper's networks and ours",
    "gain_weights": "OCS against the best clip, by network and width",
}


def render(results: Part) -> str:
    """Return the page in Markdown."""
    lines = [
        "# The published tables beside ours",
        "",
        "What the papers print, beside what our studies measured in integers on other networks and other images. "
        "Nothing is measured here: ours comes from the results of "
        + ", ".join(f"[{name}](../{name}/README.md)" for name in results["setting"]["studies"])
        + ".",
        "",
        f"    {results['setting']['command']}",
        "",
        *_reading(),
        "",
        "## Findings",
        "",
        *[f"* {line}" for line in findings(results)],
        "",
        *[line for name, words in FIGURES.items() for line in (f"![{words}]({name}.png)", "")],
        "## What the OCS paper says, on its networks and on ours",
        "",
        *_claims(results),
        "",
    ]
    for section in (_weights, _activations, _oracle, _qa, _lstm, _overhead, _splitquant, _equalized, _aciq):
        lines += [*section(results), ""]
    lines += ["## What cannot be compared", "", *[f"* {line}" for line in LIMITS], ""]
    lines += ["## Sources", "", *_sources(results), ""]
    return "\n".join(lines)


def _reading() -> list[str]:
    return [
        "Figures are differences from each network's own float accuracy on the same images, in points of top-1, unless "
        "said otherwise: levels of different networks on different images say nothing about each other. ± is one "
        f"standard error of paired samples; what is within {DEVIATIONS} of them is undecided. The papers print no "
        "errors, so on their side only signs are counted, and a difference of a few tenths may be chance. *Best clip* "
        "is the paper's: the best of no clip, MSE, ACIQ and KL in each row; *best rule* leaves out no clip. Both are "
        "chosen on the evaluated images, there and here, which favours them."
    ]


# --- claims ----------------------------------------------------------------------------------------------------------


def _claims(results: Part) -> Iterator[str]:
    names = [n["name"] for n in results["networks"] if n["whose"] == OURS]
    rows = []
    for claim in CLAIMS:
        judged = judge_claim(results, claim)
        theirs = [item for name, item in judged.items() if name not in names]
        total = sum(len(item.cases) for item in theirs)
        agree = sum(item.on_side for item in theirs)
        rows.append((claim.says, f"{agree} of {total}", *(_verdict(judged[name]) for name in names)))
    yield from markdown_table(("claim", "paper's cases on its side", *names), rows, left=1)
    yield ""
    yield (
        "In brackets our cases: in how many the first named is decidedly better, decidedly worse, of all. *Held*: "
        "decidedly better in every case, or, for *no better* and *as good as*, on the claim's side in every case; *not "
        "held*: decidedly against it somewhere; all else *undecided* (cnn_tables calls *no better* held wherever "
        "nothing is decidedly better, and its best clip is always a rule). Cases in which neither side of the "
        "comparison keeps a quarter of the float accuracy are left out, the paper's and ours; *no case* where none "
        "remains. The differences are in the tables below."
    )


def _verdict(judged: Judged) -> str:
    if not judged.cases:
        return judged.verdict
    better = sum(case.difference.ahead for case in judged.cases)
    worse = sum(case.difference.behind for case in judged.cases)
    return f"{judged.verdict.removesuffix(' here')} ({better} better, {worse} worse, of {len(judged.cases)})"


# --- convolutional networks ------------------------------------------------------------------------------------------


def _weights(results: Part) -> Iterator[str]:
    yield "## Weights: Table 2"
    yield ""
    yield (
        "Activations of 8 bits. One weight scale per layer, but for "
        + ", ".join(n["name"] for n in results["networks"] if n["per_channel"])
        + ", whose depthwise layers leave nothing to compare with one scale per layer (see *Equalization*) and which "
        "has one per output channel here."
    )
    yield from _drop_tables(results, "weights")
    yield "### Differences between methods, weights"
    yield ""
    yield from _gain_table(results, "weights")
    yield ""
    yield "### Order of methods, weights"
    yield ""
    yield (
        "From best to worst: none, the best rule (clip), OCS with r = 0.05, and both. `>` where neighbours differ "
        f"decidedly (on the paper's side: as printed), `≈` where not. {BOUND}"
    )
    yield ""
    yield from _order_table(results, "weights")


BOUND = (
    "Where two columns of ours were not compared on the samples, their error is bounded from above by their errors "
    "against a third, which calls more undecided than a paired error would."
)


def _activations(results: Part) -> Iterator[str]:
    yield "## Activations: Table 3"
    yield ""
    yield "Weights of 8 bits; channels to split are chosen once, from calibration images."
    yield from _drop_tables(results, "activations")
    yield "### Differences between methods, activations"
    yield ""
    yield from _gain_table(results, "activations")
    yield ""
    yield "### Order of methods, activations"
    yield ""
    yield from _order_table(results, "activations")


def _drop_tables(results: Part, table: str) -> Iterator[str]:
    networks: Sequence[Part] = results["networks"]
    yield ""
    yield (
        "Float: "
        + ", ".join(_level(network) for network in networks)
        + ". Published networks to the left, ours to the right."
    )
    yield ""
    for bits in BITS:
        rows = [
            (_name(column), *(_drop(cell_of(network, table, bits, column)) for network in networks))
            for column in ROWS[table]
        ]
        yield from markdown_table((f"{bits} bits", *(n["name"] for n in networks)), rows)
        yield ""


def _level(network: Part) -> str:
    if network["whose"] == PAPER:
        return f"{network['name']} {network['float']:.1f}"
    return f"{network['name']} {network['float']:.1f} ± {network['float_error']:.1f} on {network['images']} images"


def _name(column: str) -> str:
    return column.upper() if column in RULES else column.replace("ocs", "OCS")


def _drop(cell: Part) -> str:
    return _number(cell["drop"], cell["error"])


def _number(value: float, error: float | None, digits: int = 1) -> str:
    if error is None:
        return minus(f"{value:+.{digits}f}")
    return Difference(value, error).text(1, digits)


SHOWN = {
    "weights": (
        ("rule", "none"),
        ("ocs 0.01", "none"),
        *((name, "best") for name in (*SPLITS, *COMBINED)),
        *zip(COMBINED, SPLITS, strict=True),
    ),
    "activations": (("rule", "none"), *((name, "best") for name in SPLITS)),
}
"""Differences that the claims are about."""


def _gain_table(results: Part, table: str) -> list[str]:
    """Return differences between methods, ✓ and ✗ where ours are decided."""
    networks = results["networks"]
    rows = []
    for bits in BITS:
        for pair in SHOWN[table]:
            found = [difference_of(network, table, bits, *pair) for network in networks]
            one, two = (WORDS.get(column, _name(column)) for column in pair)
            rows.append((str(bits), f"{one} − {two}", *(_marked(row) for row in found)))
    return markdown_table(("bits", "difference", *(n["name"] for n in networks)), rows, left=2)


def _marked(row: Part) -> str:
    text = _number(row["value"], row["error"])
    if row["error"] is None:
        return text
    found = Difference(row["value"], row["error"])
    return text + (" ✓" if found.ahead else " ✗" if found.behind else "")


def _order_table(results: Part, table: str) -> Iterator[str]:
    for whose in (PAPER, OURS):
        networks = [network for network in results["networks"] if network["whose"] == whose]
        rows = [(str(bits), *(order(network, table, bits) for network in networks)) for bits in BITS]
        yield from markdown_table(("bits", *(n["name"] for n in networks)), rows, left=1 + len(networks))
        yield ""


def _oracle(results: Part) -> Iterator[str]:
    yield "## Activations with the oracle: Table 4"
    yield ""
    yield (
        "Activations of 6 bits, r = 0.02, channels chosen on the very batch that is judged. Our oracle also calibrates "
        "its ranges on the batch; *ranges alone* is that without splits, which the paper does not separate. In "
        "brackets the difference to the best clip."
    )
    yield ""
    batches = sorted({row["batch"] for network in results["oracle"] for row in network["batches"]})
    rows = []
    for network in results["oracle"]:
        cells = {
            row["batch"]: f"{_number(row['drop'], None)} ({_number(row['minus_best'], row['error'])})"
            for row in network["batches"]
        }
        alone = _number(network["ranges_alone"], None) if "ranges_alone" in network else ""
        plain = [_number(network[name], None) for name in ("none", "best")]
        rows.append((network["name"], *plain, alone, *(cells.get(batch, "") for batch in batches)))
    yield from markdown_table(("network", "none", "best clip", "ranges alone", *(f"batch {b}" for b in batches)), rows)


def _qa(results: Part) -> Iterator[str]:
    yield "## Quantization-aware minus naive splitting: Table 1"
    yield ""
    images = ", ".join(f"{n['name']} {n['images']}" for n in results["qa"] if n["whose"] == OURS)
    yield (
        f"Images: {images}. The float accuracy of the paper's ResNet-20 was not at hand, so only the two ways of "
        "splitting are compared. Networks other than ResNet-20 were measured at 4 and 3 bits with r from 0.05 alone; "
        "*lost* where neither way keeps a quarter of the float accuracy."
    )
    yield ""
    places = [(row["bits"], row["ratio"]) for row in results["qa"][0]["rows"]]
    rows = []
    for bits, ratio in places:
        cells = [_qa_cell(network, bits, ratio) for network in results["qa"]]
        rows.append((str(bits), f"{ratio:g}", *cells))
    header = ("bits", "r", *(f"{n['name']} ({n['whose']})" for n in results["qa"]))
    yield from markdown_table(header, rows, left=0)


def _qa_cell(network: Part, bits: int, ratio: float) -> str:
    row = next((r for r in network["rows"] if (r["bits"], r["ratio"]) == (bits, ratio)), None)
    if row is None:
        return ""
    return "lost" if row.get("kept", 1.0) < 0.25 else _marked(row)


# --- sequences -------------------------------------------------------------------------------------------------------


def _lstm(results: Part) -> Iterator[str]:
    networks = results["lstm"]
    yield "## Weights of LSTMs: Table 6"
    yield ""
    yield (
        f"Perplexities of different texts and vocabularies are not comparable (the paper's float network has "
        f"{LSTM_FLOAT}). Below: bits per symbol (word or character) more than the float network needs, that is the "
        "logarithm of the ratio of perplexities; less is better."
    )
    for network in networks:
        yield ""
        yield f"{network['name']} ({network['whose']}), bits per {network['symbol']}:"
        yield ""
        cells = {(c["bits"], c["ratio"], c["clip"]): c for c in network["cells"]}
        rows = []
        for bits in (6, 5):
            for ratio in RATIOS:
                row = [cells[bits, ratio, clip] for clip in CLIPS]
                rows.append((str(bits), f"{ratio:g}", *(_number(c["more_bits"], c["error"], 3) for c in row)))
        yield from markdown_table(("bits", "r", *(_name(clip) for clip in CLIPS)), rows, left=0)
    yield ""
    theirs, *mine = networks
    rows = [
        (
            finding.says,
            f"{theirs['judged'][place][0]} of {theirs['judged'][place][1]}",
            *(n["judged"][place] for n in mine),
        )
        for place, finding in enumerate(LSTM_FINDINGS)
    ]
    yield from markdown_table(("claim", "paper's cases on its side", *(n["name"] for n in mine)), rows)


# --- the rest --------------------------------------------------------------------------------------------------------


def _overhead(results: Part) -> Iterator[str]:
    yield "## Size overhead: Table 5"
    yield ""
    yield (
        "Weights stored over those of the network. A layer of C channels gets ⌈rC⌉ more, so narrow networks grow by "
        "more than r; layers that are not split (first, last, depthwise) grow by nothing."
    )
    yield ""
    ratios = list(results["overhead"][0]["weights"])
    rows = [(n["name"], *(_factor(n, r) for r in ratios)) for n in results["overhead"]]
    yield from markdown_table(("weights", *(f"r = {r}" for r in ratios)), rows)
    yield ""
    theirs = results["overhead"][0]
    cells = ", ".join(f"{theirs['activations'][r]:g} at r = {r}" for r in ratios)
    yield f"Activations, {theirs['name']} (paper): {cells}. Ours were not recorded: copies are read, not stored."


def _factor(network: Part, ratio: str) -> str:
    return f"{network['weights'][ratio]:g}" if network["whose"] == PAPER else f"{network['weights'][ratio]:.3f}"


def _splitquant(results: Part) -> Iterator[str]:
    yield "## SplitQuant"
    yield ""
    gains = " and ".join(f"{gain:+.1f}" for gain in published.SPLITQUANT_GAINS)
    yield (
        f"Published: {gains} points over the same 2-bit quantizer on two BERT-Tiny models, near the float accuracy. "
        f"SplitQuantV2: {published.SPLITQUANT_V2_GAIN:+.2f} points over linear quantization, weights of 4 bits, Llama "
        "3.2 1B Instruct on ARC; we measured no SplitQuant on a language model. Ours, weights of 2 bits, one scale a "
        "layer or branch:"
    )
    yield ""
    rows = []
    for task in results["splitquant"]:
        for row in task["rows"]:
            cells = [Difference(*row[name]).text(1, 1) for name in ("unsplit", "drop", "gain")]
            rows.append((task["name"], row["scales"], *cells, f"{row['expansion']:.2g}"))
    yield from markdown_table(
        ("network", "scales", "unsplit", "SplitQuant", "gain", "weights stored, times"), rows, left=2
    )
    yield ""
    says = ("ahead of the unsplit network", "as good as the float network")
    for place, words in enumerate(says):
        verdicts = ", ".join(f"{task['judged'][place]} on {task['name']}" for task in results["splitquant"])
        yield f"* With affine scales SplitQuant is {words}: {verdicts}."


def _equalized(results: Part) -> Iterator[str]:
    yield "## Equalization"
    yield ""
    low, high = published.EQUALIZED_MOBILENET
    yield (
        "Weights and activations of 8 bits, one weight scale per layer. Published are ranges over networks; for "
        f"MobileNet the paper gives −{high:.2f} to −{low:.2f} for two steps with tuned biases, which we do not tune. "
        "Cross-layer equalization is of another paper and has no published column here."
    )
    yield ""
    ranges = [f"−{high:.2f} to −{low:.2f}" for low, high in published.EQUALIZED.values()]
    rows = [("five ImageNet networks (paper)", *ranges, "")]
    for network in results["equalized"]:
        names = (*published.EQUALIZED, "cross-layer")
        rows.append((network["name"], *(Difference(*network[name]).text(1, 1) for name in names)))
    yield from markdown_table(("network", *published.EQUALIZED, "cross-layer"), rows)


def _aciq(results: Part) -> Iterator[str]:
    yield "## ACIQ"
    yield ""
    yield (
        "Published by its authors, top-1 of ResNet-50; no study here narrows weights and activations to 4 bits at "
        "once or allots bits to channels, so nothing of ours stands beside it. What ACIQ's clip does alone is in the "
        "ACIQ rows of the tables above."
    )
    yield ""
    yield from markdown_table(("setting", "top-1"), [(name, f"{top1:.3f}") for name, top1 in published.ACIQ.items()])


def _sources(results: Part) -> Iterator[str]:
    for source in results["sources"]:
        yield f"* {source['paper']}, arXiv:{source['arxiv']}, {source['table']}: {source['holds']}."
    yield ""
    yield "Ours:"
    yield ""
    for name, command in results["setting"]["studies"].items():
        yield f"* {name}: `{command}`"
