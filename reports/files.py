"""Networks from files: float ONNX becomes a graph, quantized ONNX and TensorFlow Lite become integers as they are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from accelsim.program import Program
from quant.capture import capture
from quant.graph import Graph
from quant.importers.onnx_import import OnnxNetwork, import_onnx
from quant.importers.pt2e import import_pt2e_module
from quant.importers.pt2e_model import is_quantized_module
from quant.importers.tflite import TfliteNetwork, import_tflite
from quant.run import predict
from workloads import Samples, Source, Workload
from workloads.arrays import read_samples
from workloads.forward import forward
from workloads.tinyml import TINY_TASKS

SUFFIXES = (".onnx", ".tflite")
BATCH = 64
"""Samples per float run where labels are the float network's own answers."""


@dataclass(frozen=True, eq=False)
class Imported:
    """A network that came as integers, under its runtime's rules.

    Parameters
    ----------
    program
        Checked.
    label
        Whose rules it has.
    encoder, decoder
        From samples to codes by Program input; from the Program's outputs to real values, one array per output.
    source
        What the importer made of the file.
    path
        The file.
    remarks
        Where the runtime takes float steps that the Program does not follow to the bit.
    """

    program: Program
    label: str
    encoder: Callable[..., dict[str, NDArray[Any]]]
    decoder: Callable[[Mapping[str, NDArray[Any]]], list[NDArray[np.float64]]]
    source: OnnxNetwork | TfliteNetwork
    path: Path
    remarks: tuple[str, ...] = ()

    def encode(self, *inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return codes by Program input for samples."""
        return self.encoder(*inputs)

    def decode(self, outputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float64]]:
        """Return real outputs."""
        return self.decoder(outputs)


def is_network_file(name: str) -> bool:
    """Tell whether a name is that of a network file."""
    return Path(name).suffix.lower() in SUFFIXES


def network_file(name: str, data: Path | None) -> Path | None:
    """Return the file that a name stands for: itself, or that of a quantized network with a name; ``None`` if neither.

    Raises
    ------
    ValueError
        If the file of a network with a name is not in the data folder.
    """
    if name in TINY_TASKS:
        return TINY_TASKS[name].model_path(data)
    return Path(name) if is_network_file(name) else None


def read_network(path: Path, kernels: str = "xnnpack") -> Graph | Imported:
    """Return the network of a file; nothing in it is executed.

    Parameters
    ----------
    path
        ``.onnx`` or ``.tflite``.
    kernels
        Of TensorFlow Lite: the kernel set whose rules count.

    Raises
    ------
    ValueError
        If the file is missing, damaged, or has operators without an integer form, all of them named.
    """
    if not path.is_file():
        raise ValueError(f"network file {path} must exist; check the path")
    if path.suffix.lower() == ".tflite":
        return _from_tflite(import_tflite(path, kernels), path)
    found = import_onnx(path)
    return found if isinstance(found, Graph) else _from_onnx(found, path)


def read_module(module: nn.Module, example: torch.Tensor, name: str) -> Graph | Imported:
    """Return a torch network: captured, or its integers where torch or torchao quantized it (PT2E).

    Raises
    ------
    ValueError
        If the network does not take the example, or has operations that cannot be captured.
    """
    forward(module, example.numpy(), name)  # tells what does not fit more plainly than tracing does
    if is_quantized_module(module):
        return _from_onnx(import_pt2e_module(module, example, name), Path(name))
    return capture(module, example, name)


def _from_tflite(network: TfliteNetwork, path: Path) -> Imported:
    def decode(outputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float64]]:
        return [network.decode(outputs[port.tensor], place) for place, port in enumerate(network.outputs)]

    label = f"LiteRT's rules ({network.kernels})"
    return Imported(network.program, label, network.encode, decode, network, path, network.remarks)


def _from_onnx(network: OnnxNetwork, path: Path) -> Imported:
    def decode(outputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float64]]:
        return list(network.decode(outputs))

    label = f"{network.runtime.name}'s rules"
    return Imported(network.program, label, network.encode, decode, network, path, network.remarks)


def file_workload(path: Path, network: Graph | Imported, data: Path | None) -> Workload:
    """Return what a file's network is judged by: the samples ``x`` and labels ``y`` of an npz file.

    A float network without labels is judged by the agreement with its own answers.

    Raises
    ------
    ValueError
        If there is no such file, it has no labels for a network of integers, or the network has several inputs.
    """
    inputs = network.inputs if isinstance(network, Graph) else network.program.inputs
    if len(inputs) != 1:
        raise ValueError(f"{path} must have one input to be run on samples (got {len(inputs)}); use it from Python")
    arrays = read_samples(data)
    if isinstance(network, Imported):
        _check_codes(network, arrays["x"], data)
    if "y" not in arrays and not isinstance(network, Graph):
        raise ValueError(f"data file {data} must have labels y beside x, because {path} came as integers; save both")

    def samples(source: Source) -> Samples:
        labels = arrays["y"] if "y" in arrays else _answers(network, arrays["x"])
        return Samples(x=arrays["x"], y=labels)

    def no_module(source: Source) -> Any:
        raise ValueError(f"{path} has no torch module")

    metric = "agreement" if "y" not in arrays else "perplexity" if arrays["y"].ndim > 1 else "top1"
    return Workload(
        name=path.stem,
        description=f"network of {path.name}",
        origin=f"the user's {path.name}",
        metric=metric,
        input_shape=tuple(arrays["x"].shape[1:]),
        model=no_module,
        data=samples,
        tokens=arrays["x"].dtype == np.int64 and isinstance(network, Graph),
    )


def _check_codes(network: Imported, x: NDArray[Any], data: Path | None) -> None:
    """Refuse whole numbers that LiteRT would take for codes, and that are none."""
    if not isinstance(network.source, TfliteNetwork) or x.dtype.kind == "f":
        return
    tensor = network.program.tensors[network.program.inputs[0]]
    if x.min() < tensor.low or x.max() > tensor.high:
        raise ValueError(
            f"data file {data}: whole numbers are codes, which {network.path} takes from {tensor.low} to {tensor.high} "
            f"(got {x.min()}..{x.max()}); save real values as float32"
        )


def _answers(network: Graph | Imported, x: NDArray[Any]) -> NDArray[np.int64]:
    assert isinstance(network, Graph)
    found: NDArray[np.int64] = np.argmax(predict(network, x, BATCH), axis=-1).astype(np.int64)
    return found
