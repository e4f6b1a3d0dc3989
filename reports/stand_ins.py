"""Networks to be verified: with their own samples where there are any, else with random ones.

Whether integers are equal does not depend on what a sample shows, so a network file alone can be verified.
"""

from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from quant.capture import capture
from quant.graph import Graph
from quant.importers.onnx_import import OnnxNetwork, in_file_order
from reports.files import Imported, network_file, read_network
from reports.sources import find_workload
from reports.task import Task, TaskOptions, load_task
from workloads import WORKLOADS, Samples, Source, Workload, split
from workloads.arrays import read_samples
from workloads.tinyml import TINY_TASKS
from workloads.zoo import zoo_names

IMAGES = 8
"""Random samples to evaluate where no number is asked for."""


def load_subject(options: TaskOptions) -> Task:
    """Load a network as `reports.task.load_task` does, but ask for no labels, and for samples only where it must.

    Files of networks may come with an npz file that has ``x`` alone; files without one, and networks of torchvision
    without a data folder, get random samples.

    Raises
    ------
    ValueError
        As `load_task`.
    """
    path = network_file(options.network, options.data)
    if path is None:
        alone = options.data is None and options.network not in WORKLOADS and options.network in zoo_names()
        return _from_zoo(options) if alone else load_task(options)
    own = options.data is not None and options.data.suffix == ".npz"
    if options.network in TINY_TASKS:
        return load_task(options)
    network = read_network(path, options.kernels)
    if isinstance(network, Graph) and own:
        return load_task(options)
    _check_one_input(network, path)
    x = read_samples(options.data)["x"] if own else _random(network, options)
    return _task(network, path.stem, x, options, stand_ins=not own)


def _check_one_input(network: Graph | Imported, path: Path) -> None:
    inputs = network.inputs if isinstance(network, Graph) else network.program.inputs
    if len(inputs) != 1:
        raise ValueError(f"{path} must have one input to be verified (got {len(inputs)}); use it from Python")


def _count(options: TaskOptions) -> int:
    return options.calib + (IMAGES if options.images is None else options.images)


def _from_zoo(options: TaskOptions) -> Task:
    workload = find_workload(options.network)
    module = workload.build(None, options.seed, weights=options.weights)
    x = _normal(workload.input_shape, _count(options), options.seed)
    graph = capture(module, torch.from_numpy(x[:2]), workload.name)
    return _task(graph, workload.name, x, options, stand_ins=True)


def _task(network: Graph | Imported, name: str, x: NDArray[Any], options: TaskOptions, *, stand_ins: bool) -> Task:
    def no_module(source: Source) -> NoReturn:
        raise ValueError(f"{name} has no torch module")

    kept_back = options.calib if stand_ins and isinstance(network, Graph) else 0
    samples = Samples(x=x, y=np.zeros(len(x), dtype=np.int64), evaluable=len(x) - kept_back)
    workload = Workload(
        name=name,
        description=f"{name}, without labels",
        origin="the user's" if not stand_ins else "random samples",
        metric="top1",
        input_shape=x.shape[1:],
        model=no_module,
        data=lambda source: samples,
        tokens=x.dtype == np.int64 and isinstance(network, Graph),
    )
    if isinstance(network, Graph):
        chosen = split(samples, options.images, options.calib, options.seed)
        return Task(workload, network, samples, *chosen, stand_ins=stand_ins)
    places = np.arange(len(x))
    return Task(workload, None, samples, places[:0], places[: options.images or len(x)], network, stand_ins)


# --- random samples --------------------------------------------------------------------------------------------------


def _normal(shape: tuple[int, ...], count: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def _random(network: Graph | Imported, options: TaskOptions) -> NDArray[Any]:
    """Return samples as the network takes them; all codes of its input grid are as likely."""
    if isinstance(network, Graph):
        if network.inputs[0].kind == "index":
            raise ValueError(f"{options.network} reads tokens (got no samples); give --data FILE.npz with x")
        return _normal(network.inputs[0].shape, _count(options), options.seed)
    tensor = network.program.tensors[network.program.inputs[0]]
    count = IMAGES if options.images is None else options.images
    rng = np.random.default_rng(options.seed)
    codes = rng.integers(tensor.low, tensor.high, (count, *tensor.shape), endpoint=True)
    if not isinstance(network.source, OnnxNetwork):
        return codes
    port = network.source.inputs[0]
    placed = in_file_order(codes, port.layout)
    if port.scale is None:
        return placed
    return ((placed - port.zero_point) * float(port.scale[0])).astype(np.float32)
