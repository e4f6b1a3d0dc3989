"""What both ONNX importers share: going through the operators, with constants and shapes worked out on the way."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from quant.importers.onnx_fold import FOLDS, MAX_WORKED_OUT_BYTES, fold
from quant.importers.onnx_model import OnnxModel, OnnxNode, require

Array = NDArray[Any]
Shape = tuple[int, ...]

T = TypeVar("T")


class Walk(ABC, Generic[T]):
    """The state of one import: constants by name, and what stands for every other tensor.

    Axis 0 of every tensor that is no constant is the batch; where the file leaves it open it counts as 1, so that
    shapes which the file computes are those of one sample.
    """

    def __init__(self, model: OnnxModel) -> None:
        self.model = model
        self.constants: dict[str, Array] = dict(model.constants)
        self.values: dict[str, T] = {}
        self.worked_out_bytes = 0
        held = sum(array.nbytes for array in model.constants.values())
        self.most_worked_out_bytes = max(MAX_WORKED_OUT_BYTES, 4 * held)
        batches = {item.shape[0] for item in model.inputs} - {None}
        require(len(batches) <= 1, f"{model.name}: its inputs have batches of {sorted(map(int, batches))}")  # type: ignore[arg-type]
        self.batch = next(iter(batches), None) or 1
        for item in model.inputs:
            open_axes = [i for i, d in enumerate(item.shape) if d is None and i > 0]
            require(
                not open_axes,
                f"{model.name}: input {item.name!r} has open sizes on axes {open_axes}; only the batch may be open: "
                "export with fixed sizes",
            )

    @abstractmethod
    def shape(self, name: str) -> Shape:
        """Return a tensor's shape, batch included."""

    def sample_shape(self, index: int) -> Shape:
        """Return the shape of one sample of a network input."""
        return tuple(int(d) for d in self.model.inputs[index].shape[1:] if d is not None)

    def constant(self, node: OnnxNode, place: int, default: Any = None) -> Array:
        """Return an input that must be a constant.

        Raises
        ------
        ValueError
            If it is computed, or missing without a default.
        """
        name = node.inputs[place] if place < len(node.inputs) else ""
        if not name:
            require(default is not None, f"{self.model.name}: {node} lacks input {place}")
            return np.asarray(default)
        require(
            name in self.constants, f"{self.model.name}: {node} needs a constant as input {place} ({name!r} is none)"
        )
        return self.constants[name]

    def optional(self, node: OnnxNode, place: int) -> Array | None:
        """Return a constant input, or ``None`` where it is left out."""
        return self.constant(node, place) if place < len(node.inputs) and node.inputs[place] else None

    def is_constant(self, node: OnnxNode, place: int) -> bool:
        """Tell whether an input is there and constant."""
        return place < len(node.inputs) and node.inputs[place] in self.constants

    def constant_inputs(self, node: OnnxNode) -> list[Array | None]:
        """Return the inputs that are constants; ``None`` for all others."""
        return [self.constants.get(name) for name in node.inputs]

    def go(self, rules: Mapping[str, Callable[[Any, OnnxNode], None]], what: str) -> None:
        """Apply the rule of each operator in turn.

        Raises
        ------
        ValueError
            Listing every operator without a rule; or from a rule, with the model's name in front.
        """
        self._require_known(rules, what)
        for node in self.model.nodes:
            if node.op in ("Shape", "Size"):
                try:
                    self._fold_shape(node)
                except ValueError as error:
                    raise ValueError(f"{self.model.name}: {node}: {error}") from None
                continue
            ready = all(name in self.constants or not name for name in node.inputs)
            if ready and len(node.outputs) == 1:
                value = fold(node, self.constant_inputs(node), self.model.opset)
                if value is not None:
                    self._keep(node, value)
                    continue
            try:
                rules[node.op](self, node)
            except ValueError as error:
                text = str(error).splitlines()[0]
                named = text.startswith(self.model.name)
                raise ValueError(text if named else f"{self.model.name}: {node}: {text}") from None
            except (KeyError, IndexError, TypeError, AttributeError, OverflowError, AssertionError) as error:
                raise ValueError(f"{self.model.name}: {node} is malformed ({type(error).__name__}: {error})") from None

    def _keep(self, node: OnnxNode, value: Array) -> None:
        """Take a worked-out constant in, unless it and those before it are too large together."""
        self.worked_out_bytes += value.nbytes
        if self.worked_out_bytes > self.most_worked_out_bytes:
            raise ValueError(
                f"{self.model.name}: {node} brings the constants that are worked out to {self.worked_out_bytes} bytes "
                f"(at most {self.most_worked_out_bytes}); fold them when exporting"
            )
        self.constants[node.outputs[0]] = value

    def _require_known(self, rules: Mapping[str, object], what: str) -> None:
        constant = set(self.constants)
        unknown: dict[str, int] = {}
        for node in self.model.nodes:
            from_constants = all(not name or name in constant for name in node.inputs)
            if node.op in ("Shape", "Size") or (from_constants and node.op in FOLDS):
                constant.update(node.outputs)
            elif node.op not in rules:
                unknown[node.op] = unknown.get(node.op, 0) + 1
        listed = ", ".join(f"{op} ({count})" for op, count in sorted(unknown.items()))
        require(not unknown, f"{self.model.name}: no {what} form for {listed}; known are {', '.join(sorted(rules))}")

    def _fold_shape(self, node: OnnxNode) -> None:
        name = node.inputs[0]
        shape = self.constants[name].shape if name in self.constants else self.shape(name)
        whole = np.array(shape, dtype=np.int64)
        if node.op == "Size":
            self.constants[node.outputs[0]] = whole.prod()
            return
        self.constants[node.outputs[0]] = whole[slice(node.attrs.get("start", 0), node.attrs.get("end"))]


def axis_of(axis: int, rank: int, what: str = "axis") -> int:
    """Return an axis of a tensor of `rank` axes, batch included, counted without the batch.

    Raises
    ------
    ValueError
        If it is the batch axis or none at all.
    """
    require(-rank <= axis < rank, f"{what} {axis} is none of a tensor of {rank} axes")
    require(axis % rank > 0, f"{what} {axis} is the batch axis, which stays as it is")
    return axis % rank - 1


def keeps_batch(shape: Shape, batch: int) -> Shape:
    """Return a shape without its batch axis.

    Raises
    ------
    ValueError
        If its first axis is no longer the batch.
    """
    require(len(shape) >= 1 and shape[0] == batch, f"gives shape {list(shape)}, which mixes the batch of {batch}")
    return shape[1:]
