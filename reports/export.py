"""Golden vectors of a layer of a trained, quantized network, for people who build the array: ``export-vectors``."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports import options

if TYPE_CHECKING:  # the parser must be quick to build
    from accelsim.config import Accelerator
    from accelsim.vectors import Vectors
    from accelsim.vectors_layer import Part
    from quant.recipe import Recipe
    from quant.recipe_options import QuantOptions
    from reports.task import TaskOptions

DEFAULT_IMAGES = 1
"""Samples whose activations are exported where no number is asked for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``export-vectors``."""
    parser.add_argument("network", metavar="NETWORK", help="a name of `accelsim list networks`")
    parser.add_argument("--layer", required=True, metavar="L", help="a convolution, linear layer or matrix product")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="a new or empty folder")
    part = parser.add_argument_group("part of the layer (default: its first product, all of it)")
    part.add_argument("--group", type=int, default=0, metavar="N", help="product of a grouped layer, from 0 on (0)")
    part.add_argument("--fold", type=int, metavar="N", help="only outputs that this fold adds to, over all of k")
    part.add_argument("--first-row", type=int, default=0, metavar="N", help="rows (pixels) to leave out before (0)")
    part.add_argument("--rows", type=int, metavar="N", help="at most so many rows")
    options.add_samples(parser, DEFAULT_IMAGES)
    options.add_quantization(parser)
    machine = parser.add_argument_group("machine")
    name = options.DEFAULT_ACCELERATOR
    machine.add_argument("--accelerator", default=name, metavar="NAME|FILE", help=f"preset or YAML file ({name})")
    machine.add_argument("--timing", metavar="MODE", help="isolated or overlapped (default: the accelerator's)")


def run_export(args: argparse.Namespace) -> dict[str, Any]:
    """Export as asked on the command line, and return the record."""
    from accelsim.config import load_accelerator
    from accelsim.vectors_layer import Part

    return export_layer(
        options.task_options(args, args.network),
        options.quant_options(args),
        Part(args.layer, args.group, args.fold, args.first_row, args.rows),
        load_accelerator(args.accelerator),
        args.out,
        mode=args.timing,
    )


def export_layer(
    asked: "TaskOptions",
    recipe: "Recipe | QuantOptions",
    part: "Part",
    accelerator: "Accelerator",
    out_dir: Path,
    *,
    mode: str | None = None,
) -> dict[str, Any]:
    """Quantize a network, step the array through one of its layers, and write what it saw.

    Parameters
    ----------
    asked, recipe
        Network, samples and how it is quantized; the evaluated samples are those exported.
    part, accelerator, out_dir, mode
        As `accelsim.vectors_layer.export_vectors`.

    Returns
    -------
    dict
        What was written, plain types only.

    Raises
    ------
    ValueError
        For anything that the user can put right, in one line.
    OverflowError
        Where an overflow rule is ``error`` and a sum leaves its register.
    """
    from accelsim.vectors_files import check_folder
    from accelsim.vectors_layer import array_mode, export_vectors
    from quant.pipeline import quantize_network
    from reports.budget import check_recipe, choose_recipe
    from reports.progress import progress_share
    from reports.task import load_task

    check_folder(out_dir)  # before the long work
    check_recipe(recipe)
    array_mode(accelerator, mode)
    task = load_task(asked)

    def quantize(chosen: "Recipe") -> Any:
        return quantize_network(task.graph, task.calibration, chosen, seed=asked.seed)

    chosen, _ = choose_recipe(recipe, lambda plain: quantize(plain).program, accelerator)
    quantized = quantize(chosen)
    codes = quantized.encode(task.samples.batch(task.evaluated))
    with progress_share(f"stepping {part.layer}") as share:
        vectors = export_vectors(
            quantized.program, codes, part, accelerator, out_dir, mode=mode, progress=lambda t, all_: share(t / all_)
        )
    return _record(asked.network, part, vectors, out_dir) | {
        "recipe": chosen.label(),
        "accelerator": accelerator.name,
        "images": len(task.evaluated),
        "program_digest": quantized.program.digest(),
    }


def _record(network: str, part: "Part", vectors: "Vectors", out_dir: Path) -> dict[str, Any]:
    job, gemm = vectors.job, vectors.job.operands.gemm
    files = sorted(path for path in out_dir.iterdir())
    return {
        "network": network,
        "layer": part.layer,
        "group": part.group,
        "fold": part.fold,
        "m": gemm.m,
        "k": gemm.k,
        "n": gemm.n,
        "dataflow": vectors.dataflow.name,
        "timing_mode": job.mode,
        "array_cycles": vectors.cycles,
        "folds": len(vectors.dataflow.folds(gemm, job.array, job.stream_tile)),
        "out": str(out_dir),
        "files": [path.name for path in files],
        "bytes": sum(path.stat().st_size for path in files),
    }


def export_summary(record: dict[str, Any]) -> str:
    """Return one line for the terminal."""
    return (
        f"{record['out']}: {len(record['files'])} files, {record['bytes'] / 1e6:.2f} MB; layer {record['layer']} of "
        f"{record['network']} ({record['recipe']}), m {record['m']}, k {record['k']}, n {record['n']}, on "
        f"{record['accelerator']} ({record['dataflow']}, {record['timing_mode']}): {record['array_cycles']} cycles, "
        f"{record['folds']} folds"
    )
