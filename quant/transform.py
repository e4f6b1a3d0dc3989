"""What a transform is, and what it may look at besides the graph.

A transform takes a float graph and a `Context` and returns a graph of the same float function. It is a frozen value:
its fields are its options, as a recipe's YAML and the command line give them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from quant.graph import Graph
from quant.observe import Batches, Stats, observe


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """What transforms may know besides the graph.

    Parameters
    ----------
    protected
        Layers whose channels are not split (see `quant.recipe.protected_layers`).
    calibration
        Gives the calibration batches anew at each call; ``None`` where there are none (cost-only work).
    seed
        Of the sample of values kept per tensor.
    """

    protected: frozenset[str] = frozenset()
    calibration: Callable[[], Batches] | None = None
    seed: int = 0

    def batches(self, wanted_by: str) -> Batches:
        """Return the calibration batches; `wanted_by` names the transform in the error.

        Raises
        ------
        ValueError
            Where there are none.
        """
        if self.calibration is None:
            raise ValueError(f"{wanted_by} looks at activations (got no calibration samples); give samples or drop it")
        return self.calibration()

    def stats(self, graph: Graph, wanted_by: str) -> Stats:
        """Observe every tensor of this very graph: runs the network over the calibration batches.

        Raises
        ------
        ValueError
            Where there are no calibration batches.
        """
        return observe(graph, self.batches(wanted_by), seed=self.seed)


NO_CONTEXT = Context()
"""No protected layers and no data."""


class Transform(Protocol):
    """A rewriting of the float graph that keeps its function.

    `name` is its key in `quant.recipes.TRANSFORMS`; `what` says in a line what it does, `source` where it comes from;
    `needs_data` tells whether it looks at activations.
    """

    name: ClassVar[str]
    what: ClassVar[str]
    source: ClassVar[str]
    needs_data: ClassVar[bool]

    @property
    def label(self) -> str:
        """Short description with options, e.g. ``OCS 0.02``."""
        ...

    def __call__(self, graph: Graph, context: Context) -> Graph:
        """Return a graph of the same float function."""
        ...
