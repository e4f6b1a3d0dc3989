"""Tensors that keep extra bits because a layer halves some of their channels.

Splitting an activation's channel in two lets it be twice as large as the grid of its halves reaches. So whatever
produces the codes keeps them one bit wider, unclamped, down to the `duplicate` that halves them; ops in between that
only move codes hand them on as they are; every other reader gets them clamped to the narrow grid.
"""

from dataclasses import dataclass, field, replace

from quant.graph import Graph, Node
from quant.grid import Grid

HALVES = "halves"
"""Key of the note that marks a `duplicate` which halves channels (a `quant.ocs_activation.HalvesRecord`)."""

CLAMPING = frozenset({"relu", "relu6", "clamp", "clamp_channels"})
"""Operations that keep codes but for their ends; their producer often takes them over."""

MOVING = frozenset({"max_pool", "reshape", "flatten", "permute", "pad"})
"""Operations that keep their input's codes, all of them; a plain `duplicate` is one of them. (A slice is not: what is
left out may need a wider range.)"""

FEEDING_BACK = frozenset({"lstm"})
"""Producers that read their own output: they keep their grid, and the halves are cut from its codes rescaled."""


@dataclass(eq=False)
class WideChain:
    """A producer, the operations that hand its codes on, and the duplicates that halve them.

    Parameters
    ----------
    root
        Tensor whose producer chooses the grid.
    halved
        Names of the duplicates.
    depth
        Most halvings of one channel: the number of extra bits.
    fixed
        The root's grid is not to be changed.
    narrow
        Grid of the halves and of all other readers; set when the root's grid is chosen.
    """

    root: str
    halved: list[str] = field(default_factory=list)
    depth: int = 0
    fixed: bool = False
    narrow: Grid | None = None

    def wide(self) -> Grid:
        """Return the narrow grid with as many more codes as the halves need: same scale, same zero point."""
        assert self.narrow is not None, f"the grid of {self.root} is not chosen yet"
        zero = self.narrow.one_zero_point
        low = zero + (self.narrow.low - zero) * 2**self.depth
        high = zero + (self.narrow.high - zero) * 2**self.depth
        signed = self.narrow.signed or low < 0
        extra = self.depth + (1 if signed and not self.narrow.signed else 0)
        return replace(self.narrow, bits=self.narrow.bits + extra, signed=signed, low=low, high=high)


@dataclass(frozen=True, eq=False)
class WideTensors:
    """The chains of a graph.

    Parameters
    ----------
    chains
        By tensor: the root and every tensor that holds the same codes on the way to a halving duplicate.
    readers
        Nodes that read the wide codes: those on the way, and the halving duplicates.
    """

    chains: dict[str, WideChain]
    readers: frozenset[str]


def wide_tensors(graph: Graph) -> WideTensors:
    """Find the tensors that must keep extra bits."""
    chains: dict[str, WideChain] = {}
    readers: set[str] = set()
    for node in graph.nodes:
        if HALVES not in node.notes:
            continue
        path = _path(graph, node)
        readers.update(path[:-1], [node.name])
        root = graph.producer(path[-1])
        fixed = root is not None and root.op in FEEDING_BACK
        chain = chains.setdefault(path[-1], WideChain(path[-1], fixed=fixed))
        chains.update(dict.fromkeys(path, chain))
        chain.halved.append(node.name)
        chain.depth = max(chain.depth, node.notes[HALVES].depth)
    return WideTensors(chains, frozenset(readers))


def _path(graph: Graph, node: Node) -> list[str]:
    """Return the tensors from a halving duplicate's input up to the one whose producer chooses the codes.

    A clamp is passed only where nothing else reads what comes before it: these readers would need the codes that the
    clamp takes away.
    """
    path, kept = [node.inputs[0]], 0
    producer = graph.producer(path[-1])
    while producer is not None and (producer.op in MOVING | CLAMPING or _copies(producer)):
        kept = kept or (len(path) if producer.op in CLAMPING else 0)
        path.append(producer.inputs[0])
        if kept and graph.sole_consumer(path[-1]) is None:
            return path[:kept]
        producer = graph.producer(path[-1])
    return path


def _copies(node: Node) -> bool:
    return node.op == "duplicate" and HALVES not in node.notes
