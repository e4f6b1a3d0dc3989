"""A torch network as a float graph, through torch.export.

Contract: the module is not changed; the graph computes what it computes in evaluation mode, for every batch size, and
that is checked on the example. Layers keep their module's path as name. Whatever does not depend on the input is
evaluated and stored. All operations that the graph cannot hold are reported in one error.
"""

import contextlib
import io
import logging
import operator
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

from quant.capture_axes import Dim, Value, stored
from quant.capture_build import Builder, UnsupportedError
from quant.capture_fuse import fuse
from quant.capture_maps import PLACES
from quant.capture_ops import HANDLERS
from quant.capture_sequence import Missing
from quant.capture_spell import spelled_out
from quant.capture_views import VIEWS, Stack, joined
from quant.graph import Graph, Input, prune
from quant.graph_hoist import hoist
from quant.run import run
from quant.tied import mark_tied

Example = torch.Tensor | np.ndarray | Sequence[torch.Tensor | np.ndarray] | Mapping[str, torch.Tensor | np.ndarray]

TRACE_BATCHES = (211, 337, 463, 601, 743, 1009, 2003, 4001)
"""Primes to choose the trace's batch size from."""

TOLERANCE = 1e-4
"""Largest relative difference allowed between module and graph on the example: float32 sums in another order."""


_FILLS = {"new_zeros": 0, "zeros_like": 0, "new_ones": 1, "ones_like": 1, "new_full": 0, "full_like": 0}
"""Operations that take nothing but shape and type from their input, with the value they fill in."""


class _Broken:
    """Result of an operation that was reported already."""


def capture(module: torch.nn.Module, example: Example, name: str = "network", check: bool = True) -> Graph:
    """Return the float graph of a torch network.

    Parameters
    ----------
    module
        Network in evaluation mode, float32 on the CPU.
    example
        One input, several in order, or by name; batch first, of any batch size >= 1. Integer inputs are indices.
    name
        Name of the graph.
    check
        Whether to run the example through both and compare.

    Raises
    ------
    ValueError
        In training mode, on operations that are not supported (all named at once, with their modules and numbers), and
        on parameters that are NaN or infinite.
    """
    training = [path or name for path, m in module.named_modules() if m.training]
    if training:
        raise ValueError(
            f"{name}: module must be in evaluation mode (got training mode in {training[0]}); call .eval()"
        )
    args, kwargs = _as_arguments(example)
    batch = _trace_batch(module, args, kwargs)
    program = _export(module, (args, kwargs), batch, name)
    graph = _Capture(module, program, batch, name).graph()
    if check:
        _compare(module, graph, args, kwargs)
    return graph


def _as_arguments(example: Example) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    if isinstance(example, Mapping):
        return (), {key: torch.as_tensor(value) for key, value in example.items()}
    listed = (example,) if isinstance(example, torch.Tensor | np.ndarray) else tuple(example)
    return tuple(torch.as_tensor(value) for value in listed), {}


def _trace_batch(module: torch.nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]) -> int:
    """Return a batch size to trace with that divides no size in sight: its multiples show where the batch is."""
    tensors = [*args, *kwargs.values(), *module.parameters(), *module.buffers()]
    sizes = {size for x in tensors for size in x.shape}
    return next(prime for prime in TRACE_BATCHES if not any(size and size % prime == 0 for size in sizes))


def _export(
    module: torch.nn.Module,
    given: tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]],
    batch: int,
    name: str,
) -> torch.export.ExportedProgram:
    """Export with the trace's batch size; in-place operations are replaced by pure ones."""

    def widened(x: torch.Tensor) -> torch.Tensor:
        if x.ndim == 0 or x.shape[0] == 0:
            raise ValueError(f"{name}: example inputs must have a batch axis (got shape {tuple(x.shape)}); add one")
        return torch.empty(batch, *x.shape[1:], dtype=x.dtype)  # never read: the trace runs on shapes only

    wide = tuple(widened(x) for x in given[0]), {key: widened(x) for key, x in given[1].items()}
    with _quiet():
        try:
            program = torch.export.export(module, wide[0], kwargs=wide[1], strict=False)
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            raise ValueError(
                f"{name}: torch.export must be able to trace the module (got {text}); simplify it"
            ) from error
        if not all(_pure(node) for node in program.graph.nodes):
            program = program.run_decompositions({})
        program = spelled_out(program)
    return program


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's own deprecations, notes and dumps of half-traced graphs from the user's terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _pure(node: fx.Node) -> bool:
    """Return whether a node changes nothing that is read after it, so that in-place is as good as a new tensor."""
    if not isinstance(node.target, torch._ops.OpOverload) or not node.target._schema.is_mutable:
        return True
    changed = node.args[0]
    if not isinstance(changed, fx.Node) or changed.op != "call_function" or _aliases(changed):
        return False
    return all(user is node or (user < node and not _aliases(user)) for user in changed.users)


def _aliases(node: fx.Node) -> bool:
    """Return whether a node's result may be memory of its input (an in-place operation apart)."""
    return node.target is operator.getitem or _op_name(node) in VIEWS


def _op_name(node: fx.Node) -> str:
    """Return the operation's name without overload and without the mark of in-place variants."""
    name = getattr(getattr(node.target, "overloadpacket", None), "__name__", str(node.target))
    return name.rstrip("_") if isinstance(node.target, torch._ops.OpOverload) else name


def _compare(
    module: torch.nn.Module, graph: Graph, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]
) -> None:
    """Raise AssertionError where graph and module differ on the example."""
    with torch.no_grad():
        flat = [v for v in torch.utils._pytree.tree_leaves(module(*args, **kwargs)) if isinstance(v, torch.Tensor)]
    found = run(graph, kwargs if kwargs else args)
    for name, want in zip(graph.outputs, flat, strict=True):
        got = found[name].reshape(want.shape)
        if not bool(torch.isfinite(want).all()):
            raise ValueError(
                f"{graph.name}: output on the example must be finite (got NaN or infinity); give other data"
            )
        error = float((got - want).abs().max()) / max(1e-6, float(want.abs().max()))
        if not error <= TOLERANCE:
            raise AssertionError(f"{graph.name}.{name} differs from the module by {error:.2g} relative")


class _Capture:
    """One walk over an exported program."""

    def __init__(self, module: torch.nn.Module, program: torch.export.ExportedProgram, batch: int, name: str) -> None:
        self.name, self.program, self.batch = name, program, batch
        signature = program.graph_signature
        self.arguments = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.arguments |= signature.inputs_to_lifted_tensor_constants
        given = set(signature.user_inputs)
        self.inputs = tuple(self._input(n) for n in program.graph.nodes if n.name in given)
        self.builder = Builder(self.inputs, dict(module.named_modules()), batch)
        self.values: dict[fx.Node, Any] = {}
        self.troubles: Counter[tuple[str, str, str]] = Counter()

    def _input(self, node: fx.Node) -> Input:
        meta = node.meta["val"]
        shape = tuple(int(n) for n in meta.shape[1:])
        return Input(node.name, shape, "float" if meta.dtype.is_floating_point else "index")

    def graph(self) -> Graph:
        """Walk the program and return the checked graph."""
        outputs: list[str] = []
        for node in self.program.graph.nodes:
            if node.op == "output":
                outputs = self._outputs(node)
            else:
                self.values[node] = self._value(node)
        if self.troubles:
            raise ValueError(f"{self.name}: {self._report()}")
        graph = Graph(self.name, self.inputs, tuple(self.builder.nodes), tuple(outputs))
        return fuse(hoist(mark_tied(prune(graph)))).check()

    def _report(self) -> str:
        places: dict[tuple[str, str], list[str]] = {}
        counts: Counter[tuple[str, str]] = Counter()
        for (op, path, reason), count in self.troubles.items():
            places.setdefault((op, reason), []).append(path or "the network itself")
            counts[op, reason] += count
        lines = [
            f"{op} ({counts[op, reason]}x in {', '.join(paths)}{': ' + reason if reason else ''})"
            for (op, reason), paths in places.items()
        ]
        return f"operations must be among the supported ones (got {'; '.join(lines)}); replace them"

    def _value(self, node: fx.Node) -> Any:
        """Return a node's result: a view, a constant, a tuple of them, or _Broken."""
        if node.op == "placeholder":
            return self._placeholder(node)
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.program.graph_module)
        if node.target is operator.getitem:
            source, index = self.values[node.all_input_nodes[0]], node.args[1]
            return source if isinstance(source, _Broken) else source[index]
        read = [self.values[n] for n in node.all_input_nodes]
        if any(isinstance(v, _Broken) for v in read):
            return _Broken()
        if not any(isinstance(v, Value | Stack | Missing) for v in read):
            return self._evaluate(node)
        return self._compute(node)

    def _placeholder(self, node: fx.Node) -> Any:
        if node.name in self.arguments:
            key = self.arguments[node.name]
            source = self.program.state_dict if key in self.program.state_dict else self.program.constants
            return source[key].detach() if isinstance(source[key], torch.Tensor) else source[key]
        for item in self.inputs:
            if item.name == node.name:
                return stored(item.name, item.shape)
        return None  # an argument the module was given as None

    def _evaluate(self, node: fx.Node) -> Any:
        """Run an operation whose inputs are all constant."""
        args = fx.map_arg(node.args, lambda n: self.values[n])
        kwargs = fx.map_arg(node.kwargs, lambda n: self.values[n])
        with torch.no_grad():
            return node.target(*args, **kwargs)  # type: ignore[operator]

    def _compute(self, node: fx.Node) -> Any:
        """Add an operation to the graph."""
        op = _op_name(node)
        if op.startswith("_assert"):
            return None
        if op in _FILLS:
            meta, given = node.meta["val"], self._bind(node)
            return torch.full(meta.shape, given.get("fill_value", _FILLS[op]), dtype=meta.dtype)
        path = self._module_path(node)
        try:
            if op not in HANDLERS:
                raise UnsupportedError(self._why(node))
            self._check_type(node, op)
            if any(isinstance(self.values[n], Missing) for n in node.all_input_nodes):
                raise UnsupportedError(
                    "it reads an LSTM's cell state, or the places of maxima, which the graph has not"
                )
            self.builder.path, self.builder.weight_name = path, self._weight_name(node)
            return HANDLERS[op](self.builder, self._bind(node))
        except UnsupportedError as error:
            self.troubles[f"{op}", path, str(error)] += 1
            return _Broken()

    def _why(self, node: fx.Node) -> str:
        """Return what can be said about an unknown operation on indices; nothing about others."""
        dtypes = {getattr(n.meta.get("val"), "dtype", torch.float32) for n in node.all_input_nodes}
        if any(dtype.is_floating_point for dtype in dtypes):
            return ""
        return (
            "it computes masks or positions from indices while it runs; give these as constants, such as position_ids"
        )

    def _check_type(self, node: fx.Node, op: str) -> None:
        metas = node.meta.get("val")
        first = metas[:1] if isinstance(metas, tuple | list) and op in PLACES else metas
        for meta in first if isinstance(first, tuple | list) else (first,):
            dtype = getattr(meta, "dtype", torch.float32)
            if dtype != torch.float32 and (op not in VIEWS or dtype.is_floating_point):
                raise UnsupportedError(f"it computes in {str(dtype).removeprefix('torch.')}, not float32")

    def _bind(self, node: fx.Node) -> dict[str, Any]:
        """Return the arguments by schema name, defaults filled in, with values for nodes."""
        schema = node.target._schema  # type: ignore[union-attr]
        bound = {arg.name: arg.default_value for arg in schema.arguments if arg.has_default_value()}
        bound |= dict(zip([arg.name for arg in schema.arguments], node.args, strict=False))
        bound |= node.kwargs
        bound = {key: fx.map_arg(value, lambda n: self.values[n]) for key, value in bound.items()}
        bound = {
            k: joined(self.builder, v) if isinstance(v, Stack) and "index" not in bound else v for k, v in bound.items()
        }
        meta = node.meta.get("val")
        if isinstance(meta, torch.Tensor):
            bound["result_dims"] = [self._dim(int(size)) for size in meta.shape]
        return bound

    def _dim(self, size: int) -> Dim:
        return (size // self.batch, True) if size % self.batch == 0 else (size, False)

    def _module_path(self, node: fx.Node) -> str:
        stack = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values() if not path.startswith("_empty")]
        return stack[-1].split("@")[0] if stack else ""

    def _weight_name(self, node: fx.Node) -> str:
        """Return the path of the layer that the node's weight belongs to, from the parameter's name."""
        for source in node.all_input_nodes:
            key = self.arguments.get(source.name, "")
            if key.endswith("weight"):
                return key.removesuffix("weight").rstrip("._")
        return ""

    def _outputs(self, node: fx.Node) -> list[str]:
        wanted = set(self.program.graph_signature.user_outputs)
        names: list[str] = []
        for item in torch.utils._pytree.tree_leaves(node.args):
            if not isinstance(item, fx.Node) or item.name not in wanted:
                continue
            value = self.values[item]
            value = joined(self.builder, value) if isinstance(value, Stack) else value
            try:
                if not isinstance(value, _Broken):
                    if not isinstance(value, Value):
                        raise UnsupportedError("it does not depend on the input")
                    self.builder.path, self.builder.weight_name = self._module_path(item), ""
                    names.append(self.builder.plain(value, value.rank - 1))
            except UnsupportedError as error:
                self.troubles["output", item.name, str(error)] += 1
        return names
