"""Two designs, two groups of designs, or two stores side by side: differences with verdicts.

A group is chosen by conditions on factors; its designs are paired with those of the other group that are equal in every
factor that neither names. Designs of two stores are paired by all factors.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.charts import BEHIND, UNDECIDED, Lines, Mark, Scale, Series
from reports.page.decide import AHEAD, COSTS, EQUAL, cost_verdict
from reports.page.designs import Design, Loaded, Network
from reports.studies.common import difference
from reports.summary import SHARES, difference_text, metric_text
from reports.sweep.conditions import check_condition, matches
from reports.units import significant
from workloads.metrics import METRICS

DIGEST = re.compile(r"[0-9a-f]{4,32}")
SHOWN = 200
"""Pairs in the table."""

Chosen = tuple[Network, Design]


@dataclass(frozen=True, eq=False)
class Line:
    """One figure of a pair: words, both values, the second against the first, verdict of the first."""

    name: str
    first: str
    second: str
    change: str
    verdict: str


@dataclass(frozen=True, eq=False)
class Pair:
    """Two designs of one network with what differs between their factors."""

    network: Network
    first: Design
    second: Design
    lines: tuple[Line, ...]

    @property
    def shared(self) -> str:
        """What both have in common, of what varies in the sweep."""
        one, other = self.first.factors, self.second.factors
        names = [name for name in self.network.varying if one.get(name) == other.get(name)]
        parts = [f"{name} {one[name]}" for name in names if one.get(name) is not None]
        return ", ".join([self.network.name, *parts])


@dataclass(frozen=True, eq=False)
class Versus:
    """A comparison: what A and B are, their pairs, and designs without a partner."""

    first: str
    second: str
    pairs: tuple[Pair, ...]
    alone: tuple[int, int]

    def tally(self) -> list[dict[str, Any]]:
        """Return for every figure how often A is ahead, behind, undecided, equal."""
        names = dict.fromkeys(line.name for pair in self.pairs for line in pair.lines)
        found = []
        for name in names:
            counted = Counter(line.verdict for pair in self.pairs for line in pair.lines if line.name == name)
            found.append({"name": name} | {verdict: counted[verdict] for verdict in (AHEAD, EQUAL, UNDECIDED, BEHIND)})
        return found


def compare_designs(loaded: Loaded, first: str, second: str) -> Versus:
    """Compare what two texts choose, each a digest's beginning or conditions such as ``weight_bits=4,ocs=0.05``.

    Raises
    ------
    ValueError
        If a text chooses nothing or is no condition, or nothing of one has a partner in the other.
    """
    one, named_one = _choose(loaded, first)
    other, named_other = _choose(loaded, second)
    if len(one) == len(other) == 1:
        return _versus((first, second), [(one[0], other[0])], (0, 0))
    return _paired((first, second), (one, other), named_one | named_other)


def compare_stores(first: Loaded, second: Loaded) -> Versus:
    """Compare the designs that two stores have in common, by network and factors."""
    sides = [[(n, d) for n in loaded.networks for d in n.designs] for loaded in (first, second)]
    names = (", ".join(first.stores), ", ".join(second.stores))
    return _paired(names, (sides[0], sides[1]), set())


def _choose(loaded: Loaded, text: str) -> tuple[list[Chosen], set[str]]:
    everything = [(network, design) for network in loaded.networks for design in network.designs]
    if DIGEST.fullmatch(text):
        found = [(n, d) for n, d in everything if d.row.digest.startswith(text)]
        if len(found) != 1:
            raise ValueError(f"--compare: {text} must begin one measured point's digest (got {len(found)} such points)")
        return found, set()
    condition = read_condition(text)
    known = dict.fromkeys(name for _, design in everything for name in design.factors)
    problems = check_condition(condition, list(known))
    if problems:
        raise ValueError(f"--compare {text}: {'; '.join(problems)}")
    found = [(n, d) for n, d in everything if matches(condition, d.factors)]
    if not found:
        raise ValueError(f"--compare: no measured point fulfils {text}; the factors are {', '.join(known)}")
    return found, set(condition)


def read_condition(text: str) -> dict[str, Any]:
    """Return conditions from ``name=value`` or ``name<number``, with commas between; ``none`` is no value.

    >>> read_condition("weight_bits=4,ocs=none,batch>=2")
    {'weight_bits': 4, 'ocs': None, 'batch': '>= 2'}

    Raises
    ------
    ValueError
        For a part that is none of these.
    """
    found: dict[str, Any] = {}
    for part in text.split(","):
        parts = re.fullmatch(r"\s*([^<>=!\s]+)\s*(<=|>=|!=|<|>|=)\s*(\S.*?)\s*", part)
        if parts is None:
            raise ValueError(f"--compare: {part!r} must look like weight_bits=4, or be a digest (got {text!r})")
        name, sign, value = parts.groups()
        found[name] = _value(value) if sign == "=" else f"{sign} {value}"
    return found


def _value(text: str) -> Any:
    if text.lower() in ("none", "null"):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _paired(names: tuple[str, str], sides: tuple[list[Chosen], list[Chosen]], named: Collection[str]) -> Versus:
    grouped: list[dict[str, list[Chosen]]] = []
    for side in sides:
        found: dict[str, list[Chosen]] = {}
        for network, design in side:
            rest = {name: value for name, value in design.factors.items() if name not in named and value is not None}
            key = json.dumps([network.facts["network"], network.digest if named else "", rest], sort_keys=True)
            found.setdefault(key, []).append((network, design))
        grouped.append(found)
    one, other = grouped
    several = next((key for key in one if key in other and (len(one[key]) > 1 or len(other[key]) > 1)), None)
    if several is not None:
        raise ValueError(
            f"--compare: {names[0]} and {names[1]} choose several designs that are equal in all other factors (say "
            f"{one[several][0][1].label} and {[*one[several], *other[several]][-1][1].label}); narrow the conditions"
        )
    both = [(one[key][0], other[key][0]) for key in one if key in other]
    if not both:
        raise ValueError(f"--compare: no design of {names[0]} has a partner of {names[1]} that is equal otherwise")
    return _versus(names, both, (len(one) - len(both), len(other) - len(both)))


def _versus(names: tuple[str, str], both: Sequence[tuple[Chosen, Chosen]], alone: tuple[int, int]) -> Versus:
    pairs = []
    for (network, first), (others, second) in both:
        if network.name != others.name:
            raise ValueError(f"--compare: must stay within one network (got {network.name} and {others.name})")
        pairs.append(Pair(network, first, second, _lines((network, first), (others, second))))
    return Versus(*names, tuple(pairs), alone)


def _lines(one: Chosen, other: Chosen) -> tuple[Line, ...]:
    first, second = one[1], other[1]
    lines = [_accuracy_line(one, other)] if one[0].executed and other[0].executed else []
    for cost in COSTS.values():
        a, b = cost.of(first), cost.of(second)
        change = f"× {significant(a / b, 4)}" if b else "–"
        lines.append(Line(cost.name, cost.text(a), cost.text(b), change, cost_verdict(first, second, cost)))
    return tuple(lines)


def _accuracy_line(one: Chosen, other: Chosen) -> Line:
    (network, first), (others, second) = one, other
    metric = METRICS[network.metric]
    ours = network.tallies[first.row.accuracy_key or ""]
    theirs = others.tallies[second.row.accuracy_key or ""]
    values = metric_text(network.metric, first.accuracy), metric_text(network.metric, second.accuracy)
    if ours.shape != theirs.shape or _samples(network) != _samples(others):
        return Line(network.metric_words, *values, "not on the same samples", UNDECIDED)
    found = difference(metric, ours, theirs)
    if first.row.accuracy_key == second.row.accuracy_key:
        verdict = EQUAL
    else:
        verdict = AHEAD if found.ahead else BEHIND if found.behind else UNDECIDED
    return Line(network.metric_words, *values, difference_text(network.metric, found.value, found.error), verdict)


def _samples(network: Network) -> tuple[Any, ...]:
    return tuple(network.facts.get(name) for name in ("images", "calibration_images", "seed"))


def chart(versus: Versus) -> Lines | None:
    """Return accuracy gained against energy spent, one mark a pair: A over B."""
    marks: dict[str, list[Mark]] = {}
    if len(versus.pairs) < 2 or not all(pair.network.executed for pair in versus.pairs):
        return None
    for pair in versus.pairs:
        energy = COSTS["energy"]
        ratio = energy.of(pair.first) / energy.of(pair.second)
        gain = pair.first.accuracy - pair.second.accuracy
        verdicts = {pair.lines[0].verdict, next(line.verdict for line in pair.lines if line.name == energy.name)}
        kind = UNDECIDED if verdicts <= {UNDECIDED, EQUAL} else "decided in one or both"
        title = (
            f"{pair.first.label} against {pair.second.label}: {pair.lines[0].change}, energy × {significant(ratio, 4)}"
        )
        marks.setdefault(kind, []).append(Mark(ratio, gain, title))
    styles = {UNDECIDED: ("rings", 8), "decided in one or both": ("dots", 1)}
    network = versus.pairs[0].network
    percent, unit = (100, ", points") if network.metric in SHARES else (1, "")
    text: Callable[[float], str] = lambda value: f"{percent * value:+.3g}".replace("-", "−")  # noqa: E731
    return Lines(
        "Accuracy gained against energy spent, A over B",
        Scale("energy of A / energy of B", significant),
        Scale(f"{network.metric_words}, A minus B{unit}", text),
        tuple(Series(kind, styles[kind][0], tuple(found), styles[kind][1]) for kind, found in marks.items()),
    )


def context(versus: Versus) -> Mapping[str, Any]:
    """Return what the template shows."""
    return {
        "first": versus.first,
        "second": versus.second,
        "count": len(versus.pairs),
        "alone": versus.alone,
        "tally": versus.tally(),
        "pairs": [
            {"shared": pair.shared, "first": pair.first.label, "second": pair.second.label, "lines": pair.lines,
             "digests": (pair.first.row.digest[:8], pair.second.row.digest[:8])}
            for pair in versus.pairs[:SHOWN]
        ],
        "left_out": max(0, len(versus.pairs) - SHOWN),
    }  # fmt: skip
