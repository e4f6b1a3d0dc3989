"""ONNX Runtime as a witness: its integers against ours, tensor by tensor, and how long it takes.

Extra `oracle`. The comparison walks the Program in order, each op fed with values that agreed so far, so the first
difference is the op's own. Where an importer says that ONNX Runtime takes float steps which the Program does not follow
to the bit, differences are counted, ONNX Runtime's values are taken on, and the walk goes on behind them.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.config import Accelerator
from accelsim.execute import execute
from accelsim.program import Program, Tensor
from accelsim.reference import check_input
from quant.exporters.onnx_export import Ends, export_tensors
from quant.importers.onnx_import import OnnxNetwork
from quant.lower import Quantized
from reports.witness import NoWitness, one_op
from reports.witness_sums import Comparison, difference_text, folded

Array = NDArray[Any]

INT8_ALLOWED = ("session.qdqisint8allowed", "1")
"""Without it ONNX Runtime on x86-64 turns int8 activations of QDQ files to uint8 and leaves some layers in float32."""


@dataclass(frozen=True)
class RuntimeWitness:
    """What a comparison with ONNX Runtime found.

    Parameters
    ----------
    runtime
        Its name and version.
    samples, tensors, values
        How many of each were compared.
    difference
        The first difference that should not be, in one line; empty where there is none.
    tolerated
        Of tensors behind float steps that are not followed to the bit: how many values differ, and by at most how much.
    """

    runtime: str
    samples: int
    tensors: int
    values: int
    difference: str = ""
    tolerated: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def bit_exact(self) -> bool:
        """Whether every integer that should be equal was, of at least one."""
        return self.values > 0 and not self.difference


def runtime_session(data: bytes, outputs: tuple[str, ...] = (), threads: int = 1) -> Any:
    """Return an ONNX Runtime session that runs layers as integers, with further tensors as outputs.

    Raises
    ------
    NoWitness
        If onnxruntime is not installed, or refuses the file.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError:
        raise NoWitness("ONNX Runtime is not installed; install accelsim[oracle]") from None
    model = onnx.ModelProto.FromString(data)
    known = {item.name for item in model.graph.output}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in outputs if n not in known)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry(*INT8_ALLOWED)
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise NoWitness(f"ONNX Runtime refuses the file: {str(error).splitlines()[0]}") from None


def compare_imported(
    data: bytes, network: OnnxNetwork, *samples: Array, accelerator: Accelerator | None = None
) -> RuntimeWitness:
    """Compare an imported file's integers with ONNX Runtime's.

    Parameters
    ----------
    data
        The file's bytes.
    network
        What `quant.importers.onnx_import` made of them.
    samples
        One array per input of the file, in its layout.
    accelerator
        Whose folds the sums of a difference are cut into.
    """
    orders = {name: (codes.name, codes.layout) for name, codes in network.tensors.items()}
    session = runtime_session(data, tuple(orders))
    feeds = {item.name: array for item, array in zip(session.get_inputs(), samples, strict=True)}
    theirs = _run(session, feeds)
    found = {
        tensor: _in_program_order(theirs[name], layout, network.program.tensors[tensor].shape)
        for name, (tensor, layout) in orders.items()
        if name in theirs
    }
    return compare(network.program, network.encode(*samples), found, network.inexact, accelerator)


def compare_exported(
    quantized: Quantized, *samples: Array, accelerator: Accelerator | None = None, ends: Ends = "real"
) -> RuntimeWitness:
    """Compare a network of ours, exported, with what ONNX Runtime makes of the file.

    Parameters
    ----------
    quantized
        As `quant.pipeline.quantize_network` gives it.
    samples
        One array of real values per input.
    accelerator
        Whose folds the sums of a difference are cut into.
    ends
        What the file takes and gives, as `quant.exporters.onnx_export.export_onnx`.

    Raises
    ------
    NoWitness
        If the network has no form in ONNX, with the reason, or there is no ONNX Runtime.
    """
    try:
        import onnx

        data, held = export_tensors(quantized, ends=ends)
    except ImportError:
        raise NoWitness("the package onnx is not installed; install accelsim[onnx]") from None
    except ValueError as error:
        raise NoWitness(f"it has no form in ONNX: {error}") from None
    program = quantized.program
    written = {name for node in onnx.ModelProto.FromString(data).graph.node for name in node.output}
    places = {op.output: held[op.output] for op in program.ops if op.output in held}
    places = {tensor: place for tensor, place in places.items() if place.name in written}
    session = runtime_session(data, tuple(place.name for place in places.values()))
    codes = quantized.encode(*samples)
    feeds = {
        f"input.{value.name}": array if ends == "real" else _in_file_order(codes[value.name], value.layout)
        for value, array in zip(quantized.inputs, samples, strict=True)
    }
    theirs = _run(session, feeds)
    found = {}
    for name, place in places.items():
        shape = program.tensors[name].shape
        values = theirs[place.name].reshape(-1, *(shape[axis] for axis in place.order))
        found[name] = _in_program_order(values, tuple(place.order.index(axis) for axis in range(len(shape))), shape)
    return compare(program, codes, found, accelerator=accelerator)


def _in_file_order(codes: Array, layout: tuple[int, ...]) -> Array:
    """Bring a tensor of the Program into the axes' order of an exported file."""
    return codes.transpose(0, *(1 + layout.index(axis) for axis in range(len(layout))))


def _run(session: Any, feeds: Mapping[str, Array]) -> dict[str, Array]:
    wanted: dict[str, Any] = {"uint8": np.uint8, "int8": np.int8, "int64": np.int64, "float": np.float32}
    types = {item.name: wanted.get(item.type.removeprefix("tensor(").rstrip(")")) for item in session.get_inputs()}
    cast = {name: np.asarray(array, dtype=types[name]) for name, array in feeds.items()}
    return dict(zip([item.name for item in session.get_outputs()], session.run(None, cast), strict=True))


def _in_program_order(values: Array, layout: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """Bring a tensor of the file into the Program's order of axes."""
    return values.transpose(0, *(axis + 1 for axis in layout)).reshape(-1, *shape)


# --- the walk --------------------------------------------------------------------------------------------------------


def compare(
    program: Program,
    codes: Mapping[str, Array],
    theirs: Mapping[str, Array],
    inexact: frozenset[str] = frozenset(),
    accelerator: Accelerator | None = None,
    runtime: str = "",
) -> RuntimeWitness:
    """Execute a Program op by op and compare every tensor that another runtime gave.

    Parameters
    ----------
    program, codes
        What is executed, on which inputs.
    theirs
        The other runtime's integers by Program tensor.
    inexact
        Tensors that may differ, by at most `tolerated_codes`: they are counted, and the other runtime's values taken
        on. Beyond that it is a difference like any other.
    accelerator
        Whose folds the sums of a difference are cut into.
    runtime
        Name and version of the other one, ONNX Runtime's if empty.
    """
    if not runtime:
        import onnxruntime

        runtime = f"ONNX Runtime {onnxruntime.__version__}"
    samples = len(next(iter(codes.values())))
    values = {name: check_input(program, name, codes) for name in program.inputs}
    tensors = compared = 0
    tolerated: dict[str, tuple[int, int]] = {}
    for name in program.inputs:
        found = _differs(values[name], theirs.get(name))
        if found is not None:
            text = f"input {name!r}: sample {found[0]}, element {list(found[1:])}: {values[name][found]} here"
            return RuntimeWitness(runtime, samples, 0, 0, f"{text}, {theirs[name][found]} there", {})
    for op in program.ops:
        alone = one_op(program, op)
        values[op.output] = execute(alone, {name: values[name] for name in alone.inputs}).outputs[op.output]
        if op.output not in theirs:
            continue
        ours, other = values[op.output].astype(np.int64), theirs[op.output].astype(np.int64)
        tensors, compared = tensors + 1, compared + ours.size
        place = _differs(ours, other)
        most = int(np.abs(ours - other).max())
        if place is not None and op.output in inexact and most <= tolerated_codes(program.tensors[op.output]):
            tolerated[op.output] = (int((ours != other).sum()), most)
            values[op.output] = other
        elif place is not None:
            text = difference_text(
                Comparison(
                    program=program, op=op, values=values, ours=ours, theirs=other,
                    names=("ours", runtime), rules=folded(program, accelerator),
                )
            )  # fmt: skip
            return RuntimeWitness(runtime, samples, tensors, compared, text, tolerated)
    return RuntimeWitness(runtime, samples, tensors, compared, "", tolerated)


def tolerated_codes(tensor: Tensor) -> float:
    """Return by how many codes float steps may move a value: two, or a hundredth of the codes there are."""
    return max(2.0, (tensor.high - tensor.low) / 100)


def _differs(ours: Array, other: Array | None) -> tuple[int, ...] | None:
    if other is None:
        return None
    places = np.argwhere(ours != other)
    return tuple(int(i) for i in places[0]) if len(places) else None


# --- latency ---------------------------------------------------------------------------------------------------------


def latencies_s(files: Mapping[str, bytes], *samples: Array, repeats: int = 30, threads: int = 1) -> dict[str, float]:
    """Return the least run time of each file in ONNX Runtime, the files taken in turns so that all see the same load.

    Parameters
    ----------
    files
        ONNX files' bytes by name, all with inputs of the same shapes.
    samples
        One array per input.
    repeats
        Turns that are measured, behind one to warm up.
    threads
        Per operator.
    """
    sessions = {name: runtime_session(data, threads=threads) for name, data in files.items()}
    feeds = {
        name: {item.name: array for item, array in zip(session.get_inputs(), samples, strict=True)}
        for name, session in sessions.items()
    }
    least = dict.fromkeys(files, float("inf"))
    for turn in range(repeats + 1):
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(None, feeds[name])
            if turn:
                least[name] = min(least[name], time.perf_counter() - start)
    return least
