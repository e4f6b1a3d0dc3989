"""Networks that a user brings: ``module:callable`` of their own code, or a program saved by torch.export.

Both execute what is in them: the first is asked for by its name, the second only with the user's word that the file is
trusted.
"""

import contextlib
import functools
import importlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from workloads.arrays import array_samples, read_samples
from workloads.base import Samples, Source, Workload
from workloads.weights import load_into, read_state


def user_workload(name: str, data: Path | None) -> Workload:
    """Return the network that a callable of the user's code gives.

    Parameters
    ----------
    name
        ``package.module:callable``, found from the current folder or where Python finds modules. The callable takes
        nothing and returns a `torch.nn.Module`, a pair of it and an example input (batch first), or a `Workload`.
    data
        An npz file with ``x`` and ``y`` (see `workloads.arrays`); tells the shape of inputs where there is no example.

    Raises
    ------
    ValueError
        If there is no such module or callable, or it returns something else.
    """
    made = _call(name)
    if isinstance(made, Workload):
        return replace(made, name=name)
    module, example = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"{name} must return a torch.nn.Module, a pair of it and an example input, or a Workload (got "
            f"{type(module).__name__}); return one of them"
        )
    return module_workload(name, module, example, data)


def _call(name: str) -> Any:
    place, _, attribute = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = _find(name, place, attribute)
        try:
            return found()
        except (Exception, SystemExit) as error:  # the user's code raises what it likes
            raise ValueError(
                f"{name} must return a network when it is called without arguments (it raised {_reason(error)}); mend "
                "it; --traceback shows where"
            ) from error
    finally:
        sys.path.remove(str(Path.cwd()))


def _find(name: str, place: str, attribute: str) -> Callable[[], Any]:
    try:
        found: Any = importlib.import_module(place)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # importing executes the user's code, too
        raise ValueError(
            f"{name} must name a callable without arguments ({_reason(error)}); give package.module:callable"
        ) from error
    if not callable(found):
        raise ValueError(
            f"{name} must name a callable without arguments (got {type(found).__name__}); write a function that "
            "returns the network"
        )
    return found


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def module_workload(name: str, module: nn.Module, example: Any, data: Path | None) -> Workload:
    """Return a module as a workload whose samples come from an npz file.

    Raises
    ------
    ValueError
        If there is neither an example nor such a file.
    """
    arrays = read_samples(data) if data is not None or example is None else None
    one = np.asarray(example if arrays is None else arrays["x"])
    if one.ndim < 2:
        raise ValueError(f"{name}: the example must have a batch axis (got shape {one.shape}); give it one sample")
    labelled = arrays is not None and "y" in arrays
    metric = "top1" if labelled else "agreement"
    if labelled and arrays is not None and arrays["y"].ndim == 2:
        metric = "perplexity"
    return Workload(
        name=name,
        description=f"{type(module).__name__} of {name}",
        origin=f"the user's {name}",
        metric=metric,
        input_shape=tuple(one.shape[1:]),
        model=functools.partial(_module, module),
        data=functools.partial(_samples, module, name),
        tokens=one.dtype.kind in "iu",
        needs_data=True,
    )


def _module(module: nn.Module, source: Source) -> nn.Module:
    return module if source.weights is None else load_into(module, read_state(source.weights), source.weights)


def _samples(module: nn.Module, name: str, source: Source) -> Samples:
    return array_samples(read_samples(source.data), module.eval(), name)


def exported_workload(path: Path, data: Path | None, *, trusted: bool) -> Workload:
    """Return a network saved with ``torch.export.save``.

    Raises
    ------
    ValueError
        If the user does not vouch for it: loading such a file can execute what is in it.
    """
    if not trusted:
        raise ValueError(
            f"{path} can execute code when it is loaded, so it must be trusted; give --trust if you know where it is "
            "from, or save an ONNX file instead"
        )
    if not path.is_file():
        raise ValueError(f"network file {path} must exist; check the path")
    with contextlib.suppress(ImportError):  # defines the operations of quantized programs
        importlib.import_module("torch.ao.quantization.fx._decomposed")
    try:
        program = torch.export.load(path)
    except Exception as error:  # damaged bytes make the reader raise nearly anything
        reason = " ".join(str(error).split())[:100]
        raise ValueError(f"network file {path} must be a program of torch.export ({reason}); save it again") from None
    name = program.graph_signature.user_inputs[0]
    shape = next(node.meta["val"].shape for node in program.graph.nodes if node.name == name)
    if not shape or isinstance(shape[0], int):
        raise ValueError(
            f"network file {path} must take batches of any size (got a fixed shape {tuple(shape)}); export it with "
            "dynamic_shapes=({0: torch.export.Dim('batch')},)"
        )
    example = program.example_inputs[0][0] if program.example_inputs else None
    return module_workload(path.stem, _Frozen(program.module()), example, data)


class _Frozen(nn.Module):
    """An exported program as a module in evaluation mode, which it cannot leave."""

    def __init__(self, inner: Callable[..., Any]) -> None:
        super().__init__()
        self.inner = inner
        for module in self.modules():
            module.training = False

    def train(self, mode: bool = True) -> "_Frozen":
        """Return the module as it is: what training mode would change was fixed when it was exported."""
        return self

    def forward(self, *args: torch.Tensor) -> Any:
        """Return what the program computes."""
        return self.inner(*args)
