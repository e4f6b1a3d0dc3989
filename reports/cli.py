"""The command ``accelsim``: thin over the Python API.

On bad input every command writes one line on standard error and exits with status 2; files appear whole or not at all.
Commands import what they need when they run, so that ``--help`` is quick.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from reports import export, export_onnx, options
from reports.page import command as report_command
from reports.search import command as search_command
from reports.sweep import command as sweep_command

BAD_INPUT = 2
FAILED = 1
INTERRUPTED = 130

VERIFY_CALIB = 64
"""Samples that `accelsim verify` calibrates on where none are asked for: the comparisons do not need good ranges."""

NETWORK_HELP = "a name of `accelsim list networks` or of torchvision, package.module:callable, or a file"

USER_ERRORS = (ValueError, OSError, OverflowError)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise, so that `main` prints the line."""
        raise ValueError(f"{message} (see {self.prog} --help)")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(
        prog="accelsim",
        description="Quantize a trained network, execute its integers on a simulated systolic array, and price it.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    run = _command(commands, "run", _run, "quantize, execute bit-accurately, prove and price a network")
    run.add_argument("network", metavar="NETWORK", help=NETWORK_HELP)
    for add in (options.add_samples, options.add_quantization, options.add_machinery, options.add_engine):
        add(run)
    run.add_argument("--html", type=Path, metavar="FILE", help="write a self-contained report")
    cost = _command(commands, "cost", _cost, "price a network on an accelerator, from shapes and widths alone")
    cost.add_argument("network", metavar="NETWORK", help=f"{NETWORK_HELP}, or a SCALE-Sim topology (.csv)")
    for add in (options.add_samples, options.add_quantization, options.add_machinery):
        add(cost)
    verify = _command(commands, "verify", _verify, "compare every engine with an independent second route")
    verify.add_argument("networks", nargs="*", metavar="NETWORK", help="networks or files of the upper rungs (digits)")
    options.add_samples(verify)
    verify.set_defaults(calib=VERIFY_CALIB)
    verify.add_argument("--published", action="store_true", help="print published points with their errors instead")
    verify.add_argument("--rungs", type=_rungs, metavar="N,N", help="run only these rungs")
    vectors = _command(commands, "export-vectors", _export, "write a layer's golden vectors for RTL, cycle by cycle")
    export.add_arguments(vectors)
    onnx = _command(commands, "export-onnx", _export_onnx, "write a network as we quantized it as an ONNX file")
    export_onnx.add_arguments(onnx)
    swept = _command(commands, "sweep", _sweep, "measure every point of a study that a store does not have yet")
    sweep_command.add_sweep(swept)
    options.add_samples(swept)
    merged = _command(commands, "merge", _merge, "put the stores of several sweeps together")
    sweep_command.add_merge(merged)
    exported = _command(commands, "export", _export_store, "write a store's points as CSV, JSON Lines or Parquet")
    sweep_command.add_export(exported)
    reported = _command(commands, "report", _report, "write a page about a store, runs, or two sides compared")
    report_command.add_report(reported)
    search = _command(
        commands, "search", _search, "look for the best widths, splits and machines, by several objectives"
    )
    search_command.add_arguments(search)
    lists = _command(commands, "list", _list, "show what there is, with sources")
    lists.add_argument("what", choices=("networks", "accelerators", "methods", "technologies", "recipes"))
    for command in (run, cost, verify, vectors, onnx, swept, merged, exported, reported, search, lists):
        options.add_output(command)
    return parser


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> Any:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=run)
    return parser


def _rungs(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be numbers with commas between (got {text!r})") from None


# --- commands --------------------------------------------------------------------------------------------------------


def _run(args: argparse.Namespace) -> int:
    from reports.html import render_report
    from reports.run import RunOptions, run_network
    from reports.summary import run_summary

    _check_outputs(args.json, args.html, args.trace)
    report = run_network(
        RunOptions(
            task=options.task_options(args, args.network),
            recipe=options.quant_options(args),
            machinery=options.machinery_of(args),
            engine=options.engine_of(args),
        )
    )
    record = report.to_json()
    _write_json(args.json, record)
    if args.html is not None:
        _write(args.html, render_report([record]))
    _say(run_summary(record))
    return 0 if record["bit_exact"] is not False else FAILED


def _cost(args: argparse.Namespace) -> int:
    from reports.cost import cost_network
    from reports.summary import cost_summary
    from reports.topology import cost_topology, is_topology

    _check_outputs(args.json, args.trace)
    asked, machinery = options.quant_options(args), options.machinery_of(args)
    if is_topology(args.network):
        record = cost_topology(args.network, asked, machinery)
    else:
        record = cost_network(options.task_options(args, args.network), asked, machinery)
    _write_json(args.json, record)
    _say(cost_summary(record))
    return 0


def _verify(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from reports import verify
    from reports.stand_ins import load_subject

    _check_outputs(args.json)
    if args.published:
        return _published(args)
    chosen = [rung for rung in verify.RUNGS if args.rungs is None or rung.number in args.rungs]
    if not chosen:
        known = sorted({rung.number for rung in verify.RUNGS})
        raise ValueError(f"--rungs must name rungs of {', '.join(map(str, known))} (got {args.rungs})")
    names = (args.networks or ["digits"]) if any(rung.on_networks for rung in chosen) else []
    asked = options.task_options(args, "")
    tasks = tuple(load_subject(replace(asked, network=name)) for name in names)
    outcomes = []
    for outcome in verify.run_ladder(verify.Setting(tasks=tasks, seed=args.seed, images=args.images), chosen):
        outcomes.append(outcome)
        _say(verify.format_outcome(outcome))
    _say("\n" + verify.format_summary(outcomes))
    passed = all(outcome.result != "fail" for outcome in outcomes)
    record = {"networks": names, "passed": passed, "rungs": [outcome.to_json() for outcome in outcomes]}
    _write_json(args.json, record)
    return 0 if passed else FAILED


def _export(args: argparse.Namespace) -> int:
    _check_outputs(args.json)
    record = export.run_export(args)
    _write_json(args.json, record)
    _say(export.export_summary(record))
    return 0


def _export_onnx(args: argparse.Namespace) -> int:
    _check_outputs(args.json, args.out)
    record = export_onnx.run_export_onnx(args)
    text = export_onnx.export_onnx_summary(record)
    return _concluded(args, record, text, passed=record["bit_exact"] is not False)


def _sweep(args: argparse.Namespace) -> int:
    _check_outputs(args.json)
    record = sweep_command.sweep(args)
    return _concluded(args, record, sweep_command.sweep_text(record), passed=not record["failures"])


def _merge(args: argparse.Namespace) -> int:
    _check_outputs(args.json)
    record = sweep_command.merge(args)
    return _concluded(args, record, sweep_command.merge_text(record))


def _report(args: argparse.Namespace) -> int:
    _check_outputs(args.json, args.html)
    record = report_command.report(args)
    return _concluded(args, record, report_command.report_text(record))


def _export_store(args: argparse.Namespace) -> int:
    _check_outputs(args.json, args.file)
    record = sweep_command.export(args)
    return _concluded(args, record, f"{record['file']}: {record['points']} points")


def _search(args: argparse.Namespace) -> int:
    _check_outputs(args.json)
    record, text, sound = search_command.run(args)
    return _concluded(args, record, text, passed=sound)


def _published(args: argparse.Namespace) -> int:
    from reports.published import format_points, published_points, published_record

    if args.networks or args.rungs is not None:
        raise ValueError("--published must be given without networks and --rungs; verify those in a run of their own")
    points = published_points()
    _write_json(args.json, {"published": published_record(points)})
    _say(format_points(points))
    return 0


def _list(args: argparse.Namespace) -> int:
    from reports.listing import LISTINGS, format_listing

    _check_outputs(args.json)
    rows = LISTINGS[args.what]()
    _write_json(args.json, rows)
    _say(format_listing(args.what, rows))
    return 0


# --- output ----------------------------------------------------------------------------------------------------------


def _check_outputs(*paths: Path | None) -> None:
    """Refuse files that cannot be written before any work is done for them."""
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise ValueError(f"output file {path} is a folder; give a file name in it")
        if not path.parent.is_dir():
            raise ValueError(f"output folder {path.parent} does not exist; make it, or write elsewhere")
        try:
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            raise ValueError(
                f"output folder {path.parent} cannot be written to ({error.strerror}); write elsewhere"
            ) from None


def _write_json(path: Path | None, record: Any) -> None:
    if path is not None:
        _write(path, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _write(path: Path, text: str) -> None:
    from accelsim.store import write_atomically

    write_atomically(path, text.encode())


def _concluded(args: argparse.Namespace, record: Any, text: str, *, passed: bool = True) -> int:
    """Write a command's record, say it in words, and return the exit status."""
    _write_json(args.json, record)
    _say(text)
    return 0 if passed else FAILED


def _say(text: str) -> None:
    from reports.terminal import plain

    print(plain(text, sys.stdout.encoding or "ascii"), flush=True)


def _line(error: BaseException) -> str:
    """Return an error as one line."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    asked = list(sys.argv[1:] if argv is None else argv)
    try:
        args = build_parser().parse_args(asked)
        status: int = args.run(args)
        return status
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    except USER_ERRORS as error:
        if "--traceback" in asked:
            raise
        print(f"accelsim: {_line(error)}", file=sys.stderr)
        return BAD_INPUT
    except (MemoryError, RuntimeError) as error:
        if "--traceback" in asked or not (isinstance(error, MemoryError) or "allocate memory" in str(error)):
            raise
        print(f"accelsim: there is not enough memory ({_line(error)[:200]}); give fewer samples", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("accelsim: interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
