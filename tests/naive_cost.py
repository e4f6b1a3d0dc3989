"""Slow counts of what a schedule does: every tile and fold walked in plain Python integers.

The walk takes from a plan only what was chosen (tiles, order, stream chunk, what stays on chip) and derives the rest.
"""

from collections import Counter
from fractions import Fraction
from typing import Any

ORDERS = ("mnk", "mkn", "nmk", "nkm", "kmn", "knm")


def words(bits: int, word: int) -> int:
    return -(-bits // word)


def blocks(whole: int, size: int) -> list[int]:
    """Sizes of the parts of `whole`, the last the rest."""
    return [min(size, whole - start) for start in range(0, whole, size)]


def tiles(row: Any) -> list[tuple[int, dict[str, int], dict[str, int]]]:
    """Return (unit, index, size) of every tile of a product, in order of execution."""
    sizes = {name: blocks(int(row[name]), int(row[f"tile_{name}"])) for name in "mkn"}
    outer, middle, inner = ORDERS[row["order"]]
    found = []
    for unit in range(int(row["units"])):
        for first in range(len(sizes[outer])):
            for second in range(len(sizes[middle])):
                for third in range(len(sizes[inner])):
                    index = {outer: first, middle: second, inner: third}
                    found.append((unit, index, {name: sizes[name][at] for name, at in index.items()}))
    return found


def dram(row: Any, sum_bits: int) -> dict[str, Fraction]:
    """Return how often all weights and all second operands are fetched, and bytes of partial sums out and in.

    A block is fetched when the one before was another; sums leave when another block's sums are added to before they
    are complete.
    """
    fetched = {"weights": 0, "acts": 0, "out": 0, "in": 0}
    held = {"weights": None, "acts": None, "sums": None}
    begun: set[tuple[int, int, int]] = set()
    walk = tiles(row)
    parts_k = len(blocks(int(row["k"]), int(row["tile_k"])))
    for place, (unit, at, size) in enumerate(walk):
        groups = min(int(row["pack"]), int(row["groups"] - unit * row["pack"]))
        block = (unit, at["k"], at["n"])
        if held["weights"] != block:
            fetched["weights"] += size["k"] * size["n"]
        held["weights"] = block
        block = (unit, at["m"], at["k"])
        if held["acts"] != block:
            fetched["acts"] += size["m"] * size["k"]
        held["acts"] = block
        block = (unit, at["m"], at["n"])
        following = walk[place + 1] if place + 1 < len(walk) else None
        sums = size["m"] * size["n"] * groups
        if held["sums"] != block and block in begun:
            fetched["in"] += sums
        held["sums"] = block
        begun.add(block)
        stays = following is not None and (following[0], following[1]["m"], following[1]["n"]) == block
        if at["k"] < parts_k - 1 and not stays:
            fetched["out"] += sums
    units, m, k, n = (int(row[name]) for name in ("units", "m", "k", "n"))
    return {
        "weights": Fraction(fetched["weights"], units * k * n),
        "acts": Fraction(fetched["acts"], units * m * k),
        "out": Fraction(fetched["out"] * sum_bits, 8),
        "in": Fraction(fetched["in"] * sum_bits, 8),
    }


def folds(row: Any, codes: Any) -> list[dict[str, int]]:
    """Return every fold: groups in it, the parts of m, k and n, PE rows that k takes, and whether k begins."""
    array, lanes = codes.array, int(row["products"])
    flow = ("ws", "os", "is")[array.dataflow]
    found = []
    for groups in blocks(int(row["groups"]), int(row["pack"])):
        m, k, n = int(row["m"]), int(row["k"]), int(row["n"])
        stream = int(row["stream_tile"])
        if flow == "os":
            parts = (blocks(m, array.rows), [k], blocks(n, array.cols))
        elif flow == "ws":
            parts = (blocks(m, stream), blocks(k, array.rows * lanes), blocks(n, array.cols))
        else:
            parts = (blocks(m, array.cols), blocks(k, array.rows * lanes), blocks(n, stream))
        found += [
            {"groups": groups, "m": a, "k": b, "n": c, "depth": -(-b // lanes), "begins": int(at == 0)}
            for a in parts[0]
            for at, b in enumerate(parts[1])
            for c in parts[2]
        ]
    return found


def on_chip(row: Any, codes: Any) -> Counter[str]:
    """Return what the folds of a product do: operations, buffer words of operands and sums, PE register writes."""
    array, lanes = codes.array, int(row["products"])
    flow = ("ws", "os", "is")[array.dataflow]
    seen: Counter[str] = Counter()
    for fold in folds(row, codes):
        groups, m, k, n, depth = (fold[name] for name in ("groups", "m", "k", "n", "depth"))
        seen["folds"] += 1
        seen["macs"] += groups * m * k * n
        seen["operations"] += groups * m * depth * n
        seen["act_read"] += words(groups * m * k * int(row["act_bits"]), codes.act.word)
        seen["weight_read"] += words(groups * k * n * int(row["weight_bits"]), codes.weight.word)
        sums = words(groups * m * n * codes.sum_bits, codes.sums.word)
        seen["sums_write"] += sums
        seen["sums_read"] += sums  # the sums so far; in their place at the first fold what the requantizer reads
        for _ in range(groups):
            _registers(flow, array, lanes, (m, k, n, depth), seen)
    return seen


def _registers(flow: str, array: Any, lanes: int, size: tuple[int, int, int, int], seen: Counter[str]) -> None:
    m, k, n, depth = size
    if flow == "os":
        # Operands pass all PEs of their row or column; sums are shifted down and out below.
        seen["act_register"] += m * k * array.cols
        seen["weight_register"] += n * k * array.rows
        seen["sum_register"] += m * n * depth + n * sum(array.rows - 1 - at for at in range(m))
        return
    held, moving, columns, length = ("weight", "act", n, m) if flow == "ws" else ("act", "weight", m, n)
    # A held operand of row r is handed down through r + 1 PEs.
    seen[f"{held}_register"] += sum((place // lanes + 1) * columns for place in range(k))
    seen[f"{moving}_register"] += length * k * array.cols
    seen["sum_register"] += length * array.rows * columns
