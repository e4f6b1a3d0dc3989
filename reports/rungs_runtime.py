"""Rung 7 of the ladder: a network's integers = those of the runtime that it came from, or goes to.

A TensorFlow Lite file is compared with LiteRT under each of its kernel sets, a quantized ONNX file with ONNX Runtime,
a network that torch quantized with torch; a float network is quantized, exported, and compared with ONNX Runtime. What
cannot be compared is reported with the reason.
"""

import numpy as np
from numpy.typing import NDArray

from accelsim.config import Accelerator, load_accelerator
from quant.importers.onnx_import import OnnxNetwork
from quant.importers.pt2e import TorchNetwork
from quant.importers.tflite import TfliteNetwork, import_tflite
from quant.ocs import SplitOutliers
from quant.pipeline import quantize_network
from quant.recipe import Recipe
from reports.checks import Checks
from reports.files import Imported
from reports.options import DEFAULT_ACCELERATOR
from reports.task import Task
from reports.witness import NoWitness
from reports.witness_litert import RESOLVERS, check_litert, computed_tensors
from reports.witness_ort import RuntimeWitness, compare_exported, compare_imported
from reports.witness_torch import compare_torch

IMAGES = 8
"""Samples compared where no number is asked for."""

LAYER_IMAGES = 2
"""Of so many, LiteRT gives every tensor; of the others, the outputs."""

EXPORTED = (Recipe(), Recipe(weight_bits=6, per_channel=True, transforms=(SplitOutliers(ratio=0.05),)))
"""How float networks are quantized for export, by rule ``float32_rne``."""


def check_runtimes(tasks: tuple[Task, ...], seed: int, images: int | None) -> Checks:
    """Compare every network with the runtimes that can execute it, on the first evaluated samples."""
    checks = Checks()
    machine = load_accelerator(DEFAULT_ACCELERATOR)  # its folds are those that a difference's sums are told in
    for task in tasks:
        x = task.samples.batch(task.evaluated[: IMAGES if images is None else images])
        source = task.integers.source if isinstance(task.integers, Imported) else None
        if isinstance(source, TfliteNetwork):
            _check_tflite(checks, task, x, machine)
        elif isinstance(source, TorchNetwork):
            _add(checks, compare_torch(source, x, accelerator=machine), task.title)
        elif isinstance(source, OnnxNetwork):
            _check_onnx(checks, task, x, machine)
        else:
            _check_exported(checks, task, x, machine, seed)
    return checks


def _check_tflite(checks: Checks, task: Task, x: NDArray[np.generic], machine: Accelerator) -> None:
    assert isinstance(task.integers, Imported)
    path = task.integers.path
    for kernels in RESOLVERS:
        what = f"{task.title} = LiteRT ({kernels} kernels)"
        try:
            network = import_tflite(path, kernels)
            witness = check_litert(network, path, x, layer_images=LAYER_IMAGES, accelerator=machine)
        except NoWitness as error:
            checks.skip(f"{what}: {error}")
            continue
        tensors = computed_tensors(network).values()
        layers = sum(network.program.tensors[name].size for name in tensors) * witness.layer_images
        checks.compared += witness.outputs + layers - 1
        checks.expect(witness.bit_exact, f"{what}: {witness.difference}")
        checks.covered.append(
            f"{what}: outputs of {witness.images} samples, all {witness.tensors} tensors of {witness.layer_images}"
        )


def _check_onnx(checks: Checks, task: Task, x: NDArray[np.generic], machine: Accelerator) -> None:
    assert isinstance(task.integers, Imported)
    assert isinstance(task.integers.source, OnnxNetwork)
    try:
        witness = compare_imported(task.integers.path.read_bytes(), task.integers.source, x, accelerator=machine)
    except NoWitness as error:
        checks.skip(f"{task.title} = ONNX Runtime: {error}")
        return
    _add(checks, witness, task.title)


def _check_exported(checks: Checks, task: Task, x: NDArray[np.generic], machine: Accelerator, seed: int) -> None:
    for recipe in EXPORTED:
        what = f"{task.title} {recipe.label()}, exported"
        quantized = quantize_network(task.graph, task.calibration, recipe, seed=seed)
        try:
            _add(checks, compare_exported(quantized, x, accelerator=machine), what)
        except NoWitness as error:
            checks.skip(f"{what} = ONNX Runtime: {error}")


def _add(checks: Checks, witness: RuntimeWitness, what: str) -> None:
    what = f"{what} = {witness.runtime}"
    checks.compared += max(witness.values - 1, 0)
    checks.expect(witness.bit_exact, f"{what}: {witness.difference or 'no tensor of codes could be compared'}")
    text = f"{what}: {witness.tensors} tensors of {witness.samples} samples"
    if witness.tolerated:
        worst = max(most for _, most in witness.tolerated.values())
        count = sum(number for number, _ in witness.tolerated.values())
        text += f", {count} values behind float steps of the runtime off by at most {worst}"
    checks.covered.append(text)
