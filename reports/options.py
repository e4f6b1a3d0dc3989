"""Command-line options, and the values they stand for: the one place where names become objects."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the parser must be quick to build; what the options mean is imported when a command runs
    from accelsim.config import Accelerator
    from accelsim.technology import Technology
    from quant.recipe_options import QuantOptions
    from reports.run import Engine, Machinery
    from reports.task import TaskOptions

DATA_VARIABLE = "ACCELSIM_DATA"
"""Environment variable that stands for ``--data`` where that is not given."""

DEFAULT_ACCELERATOR = "edge-32x32"
DEFAULT_BIT_EXACT = 8

KERNEL_SETS = ("xnnpack", "builtin", "reference")
"""Keys of `quant.importers.tflite_kernels.KERNELS`."""

Parser = argparse.ArgumentParser


def add_output(parser: Parser) -> None:
    """Add what every command takes."""
    group = parser.add_argument_group("output")
    group.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    group.add_argument("--traceback", action="store_true", help="show where an error was raised")


def add_samples(parser: Parser, images: int | None = None) -> None:
    """Add the choice of weights and samples; `images` are evaluated where no number is asked for, or all."""
    group = parser.add_argument_group("network and samples")
    group.add_argument(
        "--data", type=Path, metavar="DIR|FILE.npz", help=f"real weights and samples (default: ${DATA_VARIABLE})"
    )
    group.add_argument(
        "--images", type=_whole, metavar="N", default=images, help=f"samples to evaluate ({images or 'all'})"
    )
    group.add_argument(
        "--calib",
        type=_whole,
        default=512,
        metavar="N",
        help="samples to calibrate on, two thirds of all at most (512)",
    )
    group.add_argument("--trust", action="store_true", help="load a .pt2 network, which can execute what is in it")
    group.add_argument(
        "--kernels", choices=KERNEL_SETS, default=KERNEL_SETS[0], help="whose rules a .tflite network follows (xnnpack)"
    )
    group.add_argument("--seed", type=_whole, default=0, metavar="S", help="seed of the choice of samples (0)")
    add_weights(group)


def add_weights(group: argparse._ArgumentGroup) -> None:
    """Add the choice of a checkpoint."""
    group.add_argument("--weights", type=Path, metavar="FILE", help="checkpoint in place of the network's own")
    group.add_argument(
        "--cache", type=Path, metavar="DIR", help="where networks trained on first use are kept (~/.cache/accelsim)"
    )


def add_machinery(parser: Parser) -> None:
    """Add machine, prices and timing."""
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--accelerator",
        default=DEFAULT_ACCELERATOR,
        metavar="NAME|FILE",
        help=f"preset, YAML file or SCALE-Sim .cfg ({DEFAULT_ACCELERATOR})",
    )
    group.add_argument(
        "--technology",
        default="google",
        metavar="NAME|FILE|DIR",
        help="price table, a YAML file with your own, or a folder that Accelergy wrote (google)",
    )
    group.add_argument("--node", type=float, metavar="NM", help="technology node (default: the accelerator's)")
    group.add_argument(
        "--scaling",
        choices=("google", "stillmaker"),
        help="move the technology's 45 nm prices to the node by this published scaling",
    )
    group.add_argument("--batch", type=_whole, default=1, metavar="B", help="samples per batch of every cost (1)")
    group.add_argument("--timing", metavar="MODE", help="isolated, overlapped or scalesim (default: the accelerator's)")
    group.add_argument("--trace", type=Path, metavar="FILE", help="write a timeline of the batch, for Perfetto")


def add_quantization(parser: Parser) -> None:
    """Add everything that makes a recipe."""
    group = parser.add_argument_group("quantization")
    group.add_argument("--recipe", metavar="NAME|FILE", help="a named recipe or a YAML file, in place of what follows")
    group.add_argument("--weight-bits", type=_whole, metavar="N", help="width of weights, 2..16 (8)")
    group.add_argument("--act-bits", type=_whole, metavar="N", help="width of activations, 2..16 (8)")
    group.add_argument("--per-channel", action="store_true", default=None, help="one weight scale per output channel")
    group.add_argument(
        "--first-last", choices=("8bit", "same"), help="first convolution and last linear: 8 bits, or as the rest"
    )
    group.add_argument("--clip", metavar="RULE", help="clip rule of weights: max percentile mse aciq kl (max)")
    group.add_argument("--act-clip", metavar="RULE", help="clip rule of activations (max)")
    group.add_argument("--percentile", type=float, metavar="P", help="of rule percentile (99.99)")
    group.add_argument("--ocs", metavar="R|fill", help="split outlier channels of weights by an expansion ratio")
    group.add_argument("--ocs-folds", type=_whole, metavar="N", help="split until N more folds are used")
    group.add_argument(
        "--naive-split", action="store_true", default=None, help="halve float weights, not integers (for comparison)"
    )
    group.add_argument("--act-ocs", type=float, metavar="R", help="split outlier channels of activations")
    group.add_argument("--splitquant", action="store_true", default=None, help="split weights by clusters")
    group.add_argument("--equalize", metavar="HOW", help="one-step, two-step or cross-layer")
    group.add_argument("--smoothquant", type=float, metavar="A", help="migration strength, 0..1")


def add_engine(parser: Parser) -> None:
    """Add how the Program is executed and proved."""
    group = parser.add_argument_group("execution")
    group.add_argument("--engine", choices=("functional", "register"), default="functional", help="(functional)")
    group.add_argument(
        "--toggles", type=_whole, default=0, metavar="N", help="price PEs by the register flips of N samples, too"
    )
    group.add_argument("--threads", type=_whole, metavar="N", help="of the functional engine (default: all cores)")
    group.add_argument(
        "--bit-exact-images",
        type=_whole_or_all,
        default=DEFAULT_BIT_EXACT,
        metavar="N|all",
        help=f"samples proved equal to the torch oracle, integer by integer ({DEFAULT_BIT_EXACT})",
    )


def _whole(text: str) -> int:
    """Read a whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number (got {text!r})") from None


def _whole_or_all(text: str) -> int:
    """Read a whole number, or ``all``."""
    return 2**62 if text == "all" else _whole(text)


def data_folder(args: argparse.Namespace) -> Path | None:
    """Return the folder of real data, or ``None``."""
    named = os.environ.get(DATA_VARIABLE)
    found: Path | None = args.data or (Path(named) if named else None)
    return found


def task_options(args: argparse.Namespace, network: str) -> "TaskOptions":
    """Return which network and samples are asked for."""
    from reports.task import TaskOptions

    return TaskOptions(
        network=network,
        data=data_folder(args),
        images=args.images,
        calib=args.calib,
        seed=args.seed,
        weights=args.weights,
        trust=args.trust,
        kernels=args.kernels,
        cache=args.cache or Path.home() / ".cache" / "accelsim",
    )


def technology_of(args: argparse.Namespace, accelerator: "Accelerator") -> "Technology":
    """Return the prices asked for, at the node asked for or the accelerator's."""
    from reports.prices import Prices

    return Prices.named(args.technology, node_nm=args.node, scaling=args.scaling).at(accelerator)


def machinery_of(args: argparse.Namespace) -> "Machinery":
    """Return machine, prices, batch and timing."""
    from accelsim.config import load_accelerator
    from reports.run import Machinery

    accelerator = load_accelerator(args.accelerator)
    return Machinery(
        accelerator=accelerator,
        technology=technology_of(args, accelerator),
        batch=args.batch,
        timing_mode=args.timing,
        trace=args.trace,
    )


def engine_of(args: argparse.Namespace) -> "Engine":
    """Return how to execute."""
    from reports.run import Engine

    threads = args.threads if args.threads is not None else os.cpu_count() or 1
    return Engine(name=args.engine, threads=threads, bit_exact_images=args.bit_exact_images, toggles=args.toggles)


def quant_options(args: argparse.Namespace) -> "QuantOptions":
    """Return the quantization options as given; `quant.recipe_options` makes a recipe of them."""
    from dataclasses import fields

    from quant.recipe_options import QuantOptions

    return QuantOptions(**{item.name: getattr(args, item.name) for item in fields(QuantOptions)})
