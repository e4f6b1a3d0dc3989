"""SplitQuant (Song & Lin, arXiv:2501.12428): a layer as the sum of three, each holding one cluster of its weights.

Graph in, graph out. Weights are clustered by value; the lower, middle and upper cluster go into three layers of the
original shape with zeros elsewhere, whose outputs are added: the float function is unchanged, and each layer's range is
narrower, so each has finer steps. That holds for affine scales; symmetric ones must still span the outermost weight.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import ThreadpoolController

from quant.graph import Graph, Node, replace_node
from quant.remarks import UNCLUSTERED
from quant.transform import NO_CONTEXT, Context

BRANCH = "splitquant"
"""Key of the note on a branch: its `Branch`."""

SUM = "splitquant_sum"
"""Key of the note on the additions: the layer that they put together."""

PARTS = ("lower", "middle", "upper")

MOST_CLUSTERED = 1 << 14
"""Values that k-means looks at: of more, so many evenly spaced quantiles, which bound its cost and hardly move it."""

ELEMENTWISE = frozenset(
    {
        "relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "mish", "softplus", "tanh", "sigmoid", "hardswish",
        "hardsigmoid",
    }
)  # fmt: skip
"""Functions that may be applied to chunks of a tensor; softmax may not, as its results depend on each other."""

CHUNKS = 3

CLUSTER_BITS = 2
"""What says which of three clusters a weight is in, where that is stored beside its code."""


@dataclass(frozen=True)
class Branch:
    """One of a layer's three parts.

    Parameters
    ----------
    layer
        Name of the layer that was split.
    part
        One of `PARTS`.
    members
        Weights of this cluster; all others of the branch are zero because they are elsewhere.
    scales
        Grid of the weights: ``affine`` or ``symmetric``.
    splits
        Channels that had been duplicated before.
    """

    layer: str
    part: str
    members: int
    scales: Literal["affine", "symmetric"]
    splits: int = 0


@cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()


def boundaries(values: NDArray[Any], seed: int = 0) -> tuple[float, float]:
    """Return the two midpoints between three neighbouring cluster centres.

    Centres are those of k-means (scikit-learn: k-means++ start, one run) on the sorted values, hence independent of
    their order. Fewer than three different values are their own centres.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=None)
    distinct = np.unique(ordered)
    if distinct.size <= 3:
        centres = np.concatenate([distinct, np.repeat(distinct[-1:], 3 - distinct.size)])
    else:
        if ordered.size > MOST_CLUSTERED:
            ordered = ordered[np.linspace(0, ordered.size - 1, MOST_CLUSTERED).round().astype(np.int64)]
        unit = float(np.abs(ordered).max())
        means = KMeans(3, init="k-means++", n_init=1, random_state=seed)
        # One thread: several add in an order of the machine's, and on a busy one wait for each other ten times as long.
        with warnings.catch_warnings(), _threads().limit(limits=1):
            # Values that differ by less than k-means resolves share a centre; equal boundaries are dealt with.
            warnings.simplefilter("ignore", ConvergenceWarning)
            centres = np.sort(means.fit((ordered / unit)[:, None]).cluster_centers_.ravel()) * unit
    return float(centres[0] + centres[1]) / 2, float(centres[1] + centres[2]) / 2


def labels(values: NDArray[Any], seed: int = 0) -> NDArray[np.int8]:
    """Return each value's cluster: 0 up to the lower boundary, 2 from the upper one on, 1 between; never two."""
    low, high = boundaries(values, seed)
    wide = np.asarray(values, dtype=np.float64)
    return np.where(wide <= low, 0, np.where(wide < high, 1, 2)).astype(np.int8)


def weight_labels(node: Node, seed: int = 0) -> NDArray[np.int8]:
    """Return the clusters of a layer's weights: one clustering per matrix, for a convolution one per filter."""
    weight = node.params["weight"]
    if node.op == "conv":
        return np.stack([labels(kernel, seed) for kernel in weight])
    return labels(weight, seed)


def parts(values: NDArray[np.float32], clusters: NDArray[np.int8]) -> tuple[NDArray[np.float32], ...]:
    """Return the values of each cluster, zero elsewhere; they sum to `values` bit for bit."""
    return tuple(np.where(clusters == part, values, np.float32(0)) for part in range(len(PARTS)))


@dataclass(frozen=True, kw_only=True)
class SplitQuant:
    """Transform: each convolution and linear layer becomes the sum of three, by clusters of its weights.

    Weights that outlier splitting has halved before are clustered as they are, and rounded one by one. The matrices of
    an LSTM stay whole, with a remark (`quant.remarks`), as do embeddings.

    Parameters
    ----------
    scales
        Grids of the branches: ``affine``, with an integer zero point, so that zero is exact; or ``symmetric``, with
        which one branch at least keeps the unsplit layer's steps.
    activations
        Cut element-wise functions into three chunks along the first axis (batch apart), each with its own scale, too.
    seed
        Of k-means.
    storage
        What is priced (`quant.splitquant_storage`): three ``dense`` matrices, or one ``coded`` by clusters.
    """

    name: ClassVar[str] = "splitquant"
    what: ClassVar[str] = "replace a layer by the sum of three, one for each cluster of its weights"
    source: ClassVar[str] = "Song & Lin, arXiv:2501.12428"
    needs_data: ClassVar[bool] = False

    scales: Literal["affine", "symmetric"] = "affine"
    activations: bool = False
    seed: int = 0
    storage: Literal["dense", "coded"] = "dense"

    def __post_init__(self) -> None:
        """Refuse scales, storage and seeds that do not exist."""
        if self.storage not in ("dense", "coded"):
            raise ValueError(f"splitquant storage must be dense or coded (got {self.storage!r}); dense is usual")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"splitquant seed must be within 0..2**32 - 1 (got {self.seed}); 0 is usual")
        if self.scales not in ("affine", "symmetric"):
            raise ValueError(f"splitquant scales must be affine or symmetric (got {self.scales!r}); affine is usual")

    @property
    def label(self) -> str:
        """Return a short description, e.g. ``SplitQuant affine``."""
        parts = (self.scales, "+ activations" * self.activations, "coded" * (self.storage == "coded"))
        return f"SplitQuant {' '.join(part for part in parts if part)}"

    def __call__(self, graph: Graph, context: Context = NO_CONTEXT) -> Graph:
        """Return the graph with its layers split, protected ones apart.

        Raises
        ------
        ValueError
            Where a layer is split already.
        """
        for node in graph.nodes:
            if BRANCH in node.notes:
                raise ValueError(f"splitquant: layer {node.name!r} is a branch already; list splitquant once")
            if node.op == "lstm":
                left = node.with_notes(**{UNCLUSTERED: "the sums of an LSTM's two matrices have one scale"})
                graph = replace_node(graph, node.name, left)
            elif node.op in ("conv", "linear") and node.name not in context.protected:
                graph = self._split(graph, node)
            elif self.activations and node.op in ELEMENTWISE and graph.shapes[node.name][:1] >= (CHUNKS,):
                graph = in_chunks(graph, node)
        return graph

    def _split(self, graph: Graph, node: Node) -> Graph:
        clusters = weight_labels(node, self.seed)
        weights = parts(node.params["weight"], clusters)
        bias = node.params.get("bias")
        biases = None if bias is None else parts(bias, labels(bias, self.seed))
        record = node.notes.get("ocs")
        notes = {key: value for key, value in node.notes.items() if key != "ocs"}
        branches = []
        for place, part in enumerate(PARTS):
            members = int(np.count_nonzero(clusters == place))
            branch = Branch(node.name, part, members, self.scales, len(record.splits) if record else 0)
            params = {"weight": weights[place]} | ({} if biases is None else {"bias": biases[place]})
            name = f"{node.name}.{part}"
            branches.append(Node(name, node.op, node.inputs, node.attrs, params, node.layer, notes | {BRANCH: branch}))
        partial = Node(
            f"{node.name}.partial", "add", (branches[0].name, branches[1].name), layer=node.layer,
            notes={SUM: node.name},
        )  # fmt: skip
        whole = Node(node.name, "add", (partial.name, branches[2].name), layer=node.layer, notes={SUM: node.name})
        return replace_node(graph, node.name, *branches, partial, whole, result=node.name)


def in_chunks(graph: Graph, node: Node) -> Graph:
    """Return the graph with an element-wise function applied to three chunks of near-equal size, joined again.

    Raises
    ------
    ValueError
        For a function whose results depend on each other.
    """
    if node.op not in ELEMENTWISE:
        raise ValueError(f"splitquant: {node.op} {node.name!r} must be element-wise to be cut into chunks; leave it")
    shape = graph.shapes[node.name]
    ends = np.cumsum([len(chunk) for chunk in np.array_split(np.arange(shape[0]), CHUNKS)]).tolist()
    rest = (0,) * (len(shape) - 1)
    made: list[Node] = []
    for i, (start, stop) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        cut = {"start": (start, *rest), "stop": (stop, *shape[1:]), "step": (1,) * len(shape)}
        made.append(Node(f"{node.name}.slice{i}", "slice", node.inputs, cut, layer=node.layer))
        made.append(Node(f"{node.name}.chunk{i}", node.op, (made[-1].name,), node.attrs, node.params, node.layer))
    joined = Node(node.name, "concat", tuple(n.name for n in made[1::2]), {"axis": 0}, layer=node.layer)
    return replace_node(graph, node.name, *made, joined, result=node.name)


def stored_bits(members: Sequence[int], bits: int, form: Literal["dense", "coded"] = "dense") -> int:
    """Return the bits that a split layer's weights take in memory, scales and zero points apart.

    Parameters
    ----------
    members
        Weights of each cluster.
    bits
        Of a weight's code.
    form
        ``dense``: three tensors of the layer's shape. ``coded``: one code per weight, and its cluster in two bits.
    """
    weights = sum(members)
    return len(members) * weights * bits if form == "dense" else weights * (bits + CLUSTER_BITS)
