"""A network as we quantized it, as an ONNX file, and whether ONNX Runtime makes the same integers of it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports import options

if TYPE_CHECKING:  # the parser must be quick to build
    from numpy.typing import NDArray

    from accelsim.config import Accelerator
    from quant.exporters.onnx_export import Ends
    from quant.lower import Quantized
    from quant.recipe import Recipe
    from quant.recipe_options import QuantOptions
    from reports.task import TaskOptions

DEFAULT_IMAGES = 8
"""Samples on which the file is compared with ONNX Runtime where no number is asked for."""

ENDS = ("real", "codes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``export-onnx``."""
    parser.add_argument("network", metavar="NETWORK", help="a float network, as `accelsim run` takes it")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the .onnx file to write")
    parser.add_argument(
        "--ends", choices=ENDS, default=ENDS[0], help="the file takes and gives real values, or integer codes (real)"
    )
    options.add_samples(parser, DEFAULT_IMAGES)
    options.add_quantization(parser)
    machine = parser.add_argument_group("machine, for splits that fill its folds")
    name = options.DEFAULT_ACCELERATOR
    machine.add_argument("--accelerator", default=name, metavar="NAME|FILE", help=f"preset or YAML file ({name})")


def run_export_onnx(args: argparse.Namespace) -> dict[str, Any]:
    """Export as asked on the command line, and return the record."""
    from accelsim.config import load_accelerator

    return export_network(
        options.task_options(args, args.network),
        options.quant_options(args),
        load_accelerator(args.accelerator),
        args.out,
        ends=args.ends,
    )


def export_network(
    asked: "TaskOptions",
    recipe: "Recipe | QuantOptions",
    accelerator: "Accelerator",
    path: Path,
    *,
    ends: "Ends" = "real",
) -> dict[str, Any]:
    """Quantize a network, write it as an ONNX file, and run that with ONNX Runtime on the evaluated samples.

    Parameters
    ----------
    asked, recipe
        Network, samples and how it is quantized.
    accelerator
        Whose folds splits fill, where they are to.
    path
        File to write; it appears whole or not at all.
    ends
        As `quant.exporters.onnx_export.export_onnx`.

    Returns
    -------
    dict
        What was written and compared, plain types only; ``bit_exact`` is None where nothing could be compared.

    Raises
    ------
    ValueError
        For anything that the user can put right, in one line; for a width, rule or operation that ONNX has no
        integers for.
    """
    from accelsim.store import write_atomically
    from quant.exporters.onnx_export import export_onnx
    from quant.pipeline import quantize_network
    from reports.budget import check_recipe, choose_recipe
    from reports.task import load_task

    check_recipe(recipe)  # before the long work
    task = load_task(asked)

    def quantize(chosen: "Recipe") -> "Quantized":
        return quantize_network(task.graph, task.calibration, chosen, seed=asked.seed)

    chosen, _ = choose_recipe(recipe, lambda plain: quantize(plain).program, accelerator)
    quantized = quantize(chosen)
    data = export_onnx(quantized, ends=ends)
    write_atomically(path, data)
    return {
        "network": asked.network,
        "recipe": chosen.label(),
        "file": str(path),
        "bytes": len(data),
        "ends": ends,
        "calibration_images": len(task.calibrated),
        "program_digest": quantized.program.digest(),
    } | _compared(quantized, task.samples.batch(task.evaluated), accelerator, ends)


def _compared(quantized: "Quantized", x: "NDArray[Any]", accelerator: "Accelerator", ends: "Ends") -> dict[str, Any]:
    from reports.witness import NoWitness
    from reports.witness_ort import compare_exported

    try:
        found = compare_exported(quantized, x, accelerator=accelerator, ends=ends)
    except NoWitness as reason:
        return {"bit_exact": None, "not_compared": str(reason)}
    return {
        "bit_exact": found.bit_exact,
        "runtime": found.runtime,
        "images": found.samples,
        "tensors": found.tensors,
        "values": found.values,
        "difference": found.difference,
    }


def export_onnx_summary(record: dict[str, Any]) -> str:
    """Return two lines for the terminal: the file, and what ONNX Runtime makes of it."""
    file = f"{record['file']}: {record['network']} ({record['recipe']}), {record['bytes'] / 1e6:.2f} MB"
    if record["bit_exact"] is None:
        return f"{file}\nnot compared with ONNX Runtime: {record['not_compared']}"
    compared = f"{record['values']} values of {record['tensors']} tensors on {record['images']} samples"
    if record["bit_exact"]:
        return f"{file}\n{record['runtime']} gives the same integers: {compared}"
    return f"{file}\n{record['runtime']} gives other integers: {record['difference']}"
