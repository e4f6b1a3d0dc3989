"""What follows from both sides' figures, in plain words, and what does not."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reports.studies.cnn_tables.findings import LOST
from reports.studies.common import HELD, NOT_HELD, UNDECIDED, Difference, minus
from reports.studies.paper_tables.claims import CLAIMS, NO_CASE, cell_of, difference_of, judge_claim, kept
from reports.studies.paper_tables.study import BITS, OURS, PAPER

Part = Mapping[str, Any]

BROKEN = 5.0
"""Points of loss from which a width is said to cost accuracy."""

LIMITS = (
    "No network is the same. The paper's VGG16-BN, ResNet-50, DenseNet-121 and Inception-V3 need weights and images "
    "that we do not have; ours are two small residual networks, a MobileNet and a small Darknet. What differs between "
    "the sides is networks, weights, images and code at once: where they disagree, the tables do not say why. Only "
    "Table 1 has the same architecture, with other trained weights.",
    "The images differ: 50,000 of ImageNet there; here a few hundred ImageNet-labelled pictures, and CIFAR-10 images "
    "after JPEG compression, which costs the float networks about ten points.",
    "The papers print no standard errors, no number of runs and no seeds. On 50,000 images an unpaired error is about "
    "0.2 points; how much of it pairing removes cannot be known.",
    "First and last layers: the authors leave the first convolution and the classifier in float; here both have 8-bit "
    "weights and are not split. The text classifiers have all layers at the same width.",
    "Activations: the authors' code takes the scale of each layer's output from the batch and always signs; here grids "
    "are static, and unsigned after ReLU. Their clamp reaches one step further on the negative side. Our ACIQ is the "
    "exact optimum, not the paper's constants.",
    "MobileNet has one weight scale per output channel here, the paper's networks one per layer: its columns show what "
    "OCS adds on top of that, another question than the paper's.",
    "OCS with a clip: the paper chooses the rule that won for the model and width; so do we, among MSE, ACIQ and KL. "
    "Choosing on the evaluated images favours the best clip and the combination on both sides.",
    "The oracle: the paper's batches are shuffled images of ImageNet; ours come in their order, of 128 or 32, and the "
    "ranges are taken from the batch too.",
    "Table 5 counts ResNet-50 whole; ours counts stored weights of each network. Its activations have no counterpart.",
    "LSTMs: ours has the paper's shape but was trained on the small validation part of WikiText-2 for three passes, "
    "with a smaller vocabulary, and judged on 60 windows; it is far from the paper's perplexity, and may be robust "
    "because it has learned little. Activations have 16 bits here, floats there.",
    "SplitQuant: of its table by width only the gains at 2 bits were at hand. Its models are pre-trained and tuned on "
    "word pieces, ours trained from nothing on words; it judges the spam task on texts that were trained on.",
    "Meller et al.: only ranges over networks were at hand, second-hand, not the table. ACIQ: figures of the authors' "
    "README, for one network, with scales per channel unless said otherwise.",
    "Nothing is corrected for the number of comparisons: of a hundred that are truly equal, about five are called "
    "decided.",
)


def findings(results: Part) -> Iterator[str]:
    """Yield what follows from the figures."""
    for part in (
        _tally,
        _widths,
        _splits,
        _combined,
        _activations,
        _oracle,
        _qa,
        _lstm,
        _overhead,
        _equalized,
        _splitquant,
    ):
        yield part(results)


def _tally(results: Part) -> str:
    found: Counter[str] = Counter()
    for claim in CLAIMS:
        judged = judge_claim(results, claim)
        found.update(judged[network["name"]].verdict for network in results["networks"] if network["whose"] == OURS)
    return (
        f"Of the {len(CLAIMS)} claims of the OCS paper's Tables 1 to 4, each on our networks: {found[HELD]} held, "
        f"{found[NOT_HELD]} not held, {found[UNDECIDED]} undecided, {found[NO_CASE]} without a case."
    )


def _sides(results: Part) -> Iterator[tuple[str, list[Part]]]:
    for whose in (PAPER, OURS):
        yield whose, [network for network in results["networks"] if network["whose"] == whose]


def _widths(results: Part) -> str:
    parts = []
    for whose, networks in _sides(results):
        found = []
        for network in networks:
            lost = [bits for bits in BITS if cell_of(network, "weights", bits, "none")["drop"] < -BROKEN]
            found.append(f"{network['name']} {f'from {lost[0]}' if lost else f'not down to {BITS[-1]}'}")
        parts.append(f"{whose}: {', '.join(found)}")
    return (
        f"Weights without clip or split lose more than {BROKEN:g} points at these bits and below ({'; '.join(parts)})."
    )


def _splits(results: Part) -> str:
    return (
        f"OCS alone (r = 0.02) over the best clip for weights: {_over_clip(results, 'weights', (6, 5), ('ocs 0.02',))}."
    )


def _combined(results: Part) -> str:
    found = _over_clip(results, "weights", (5, 4), ("ocs 0.05 + clip",))
    return f"OCS with a clip (r = 0.05) over the best clip for weights: {found}."


def _activations(results: Part) -> str:
    found = _over_clip(results, "activations", (6, 5), ("ocs 0.01", "ocs 0.02", "ocs 0.05"))
    return f"Static OCS (every r) over the best clip for activations: {found}."


def _over_clip(results: Part, table: str, widths: Sequence[int], columns: Sequence[str]) -> str:
    """Return the range of OCS's gain over the best clip on both sides, and how often ours is decided."""
    parts = []
    ahead = behind = 0
    for bits in widths:
        words = []
        for whose, networks in _sides(results):
            rows = [
                difference_of(network, table, bits, column, "best")
                for network in networks
                for column in columns
                if kept(network, table, bits, column, "best") >= LOST
            ]
            words.append(f"{whose} {_span([row['value'] for row in rows])}")
            if whose == OURS:
                known = [Difference(row["value"], row["error"]) for row in rows]
                better, worse = sum(d.ahead for d in known), sum(d.behind for d in known)
                words[-1] += f" ({better} decidedly better, {worse} worse, of {len(known)} cases)"
                ahead, behind = ahead + better, behind + worse
        parts.append(f"{bits} bits {', '.join(words)}")
    return f"**{_lead(ahead, behind)}** on our networks. {'; '.join(parts)}"


def _lead(ahead: int, behind: int) -> str:
    if ahead and behind:
        return "a gain in some cases, a loss in others"
    return "a gain" if ahead else "a loss" if behind else "undecided"


def _span(values: Sequence[float]) -> str:
    return f"{_value(min(values), None)} to {_value(max(values), None)}" if values else "lost everywhere"


def _oracle(results: Part) -> str:
    words = []
    for network in results["oracle"]:
        row = network["batches"][-1]
        words.append(f"{network['name']} {_value(row['minus_best'], row['error'])} (batch {row['batch']})")
    return f"Activation OCS with the oracle minus the best clip, 6 bits: {', '.join(words)}."


def _qa(results: Part) -> str:
    theirs = {(row["bits"], row["ratio"]): row["value"] for row in results["qa"][0]["rows"]}
    mine = results["qa"][1]
    known = [(theirs[row["bits"], row["ratio"]], Difference(row["value"], row["error"])) for row in mine["rows"]]
    decided = [(value, found) for value, found in known if found.ahead or found.behind]
    same = sum(value * found.value > 0 for value, found in decided)
    return (
        f"On the architecture that both sides have ({mine['name']}, {mine['images']} images), quantization-aware minus "
        f"naive splitting is decided in {len(decided)} of {len(known)} places; in {same} of these the paper has the "
        f"same sign."
    )


def _lstm(results: Part) -> str:
    _, *mine = results["lstm"]
    words = []
    for network in mine:
        plain = {(c["bits"], c["ratio"], c["clip"]): c["more_bits"] for c in network["cells"]}
        count = Counter(network["judged"])
        cost = minus(f"{plain[5, 0.0, 'none']:+.3f}")
        words.append(
            f"{network['name']} {count[HELD]} held, {count[NOT_HELD]} not held, {count[UNDECIDED]} undecided (without "
            f"OCS and clip, weights of 5 bits cost {cost} bits per {network['symbol']})"
        )
    return f"Of the {len(mine[0]['judged'])} claims of Table 6 on LSTMs: {'; '.join(words)}."


def _overhead(results: Part) -> str:
    _, *mine = results["overhead"]
    parts = []
    for ratio in mine[0]["weights"]:
        values = [network["weights"][ratio] for network in mine]
        parts.append(f"r = {ratio}: {min(values):.3f} to {max(values):.3f}")
    return f"Stored weights of ours grow by the factors {'; '.join(parts)}; the paper's ResNet-50 by 1 + r."


def _equalized(results: Part) -> str:
    words = []
    for network in results["equalized"]:
        steps = ", ".join(f"{_value(*network[name])} {name}" for name in ("none", "one-step", "two-step"))
        words.append(f"{network['name']} {steps}")
    return f"Equalization at 8 bits, one scale per layer, against float: {'; '.join(words)}."


def _splitquant(results: Part) -> str:
    words = []
    for task in results["splitquant"]:
        gains = ", ".join(f"{_value(*row['gain'])} with {row['scales']} scales" for row in task["rows"])
        words.append(f"{task['name']} {gains}")
    return f"SplitQuant's gain at 2 bits: {'; '.join(words)}."


def _value(value: float, error: float | None) -> str:
    return minus(f"{value:+.1f}") if error is None else Difference(value, error).text(1, 1)
