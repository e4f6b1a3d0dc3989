"""LiteRT as outside witness: the integers of an imported TensorFlow Lite file, from LiteRT and from our Program.

LiteRT runs one of its kernel sets on the file, sample by sample; all outputs are compared, and, on some samples, every
tensor of codes. The first one that differs is named: layer, pixel, channel, the two values and the sum that led there.
Needs the extra ``oracle`` (package ai-edge-litert), which is imported when used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.execute import execute
from accelsim.program import Conv, Op, Program, Requantize
from quant.importers.tflite import TfliteNetwork
from reports.progress import progress

RESOLVERS = {"xnnpack": "AUTO", "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "reference": "BUILTIN_REF"}
"""LiteRT's operator resolver by kernel set (`quant.importers.tflite_kernels.KERNELS`)."""

SAMPLES_AT_ONCE = 32
"""Samples of which our engine holds all tensors, or all outputs, at once."""

Codes = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class LitertWitness:
    """What a comparison found.

    Parameters
    ----------
    kernels
        The kernel set.
    images, outputs
        Samples whose outputs were compared, and how many output values.
    layer_images, tensors
        Samples of which every tensor was compared, and tensors per sample.
    difference
        The first difference in one line; empty where there is none.
    """

    kernels: str
    images: int
    outputs: int
    layer_images: int
    tensors: int
    difference: str = ""

    @property
    def bit_exact(self) -> bool:
        """Whether every integer was equal, of at least one sample."""
        return self.images > 0 and not self.difference


def _litert() -> tuple[Any, Any]:
    try:
        from ai_edge_litert import interpreter, schema_py_generated
    except ImportError:
        raise ValueError("LiteRT is not installed; install accelsim[oracle] to compare with it") from None
    return interpreter, schema_py_generated


def installed() -> bool:
    """Tell whether LiteRT can be asked."""
    try:
        _litert()
    except ValueError:
        return False
    return True


class Litert:
    """A file in LiteRT, under one kernel set.

    Parameters
    ----------
    data
        The file's bytes.
    kernels
        A key of `RESOLVERS`.
    """

    def __init__(self, data: bytes, kernels: str) -> None:
        interpreter, _ = _litert()
        if kernels not in RESOLVERS:
            raise ValueError(f"LiteRT's kernels must be one of {', '.join(RESOLVERS)} (got {kernels!r})")
        resolver = getattr(interpreter.OpResolverType, RESOLVERS[kernels])
        self._run = interpreter.Interpreter(
            model_content=data, experimental_op_resolver_type=resolver, num_threads=1
        )  # fmt: skip
        self._run.allocate_tensors()
        self.inputs = [int(detail["index"]) for detail in self._run.get_input_details()]
        self.outputs = [int(detail["index"]) for detail in self._run.get_output_details()]
        self._types = {int(d["index"]): d["dtype"] for d in self._run.get_input_details()}
        batches = {int(detail["shape"][0]) for detail in self._run.get_input_details() if len(detail["shape"])}
        if batches != {1}:
            raise ValueError(f"LiteRT is asked sample by sample; the file is for a batch of {max(batches, default=0)}")

    def __call__(self, samples: Mapping[int, NDArray[Any]]) -> dict[int, NDArray[Any]]:
        """Return outputs ``[1, …]`` by tensor number for one sample ``[1, …]`` by input tensor number."""
        for index, values in samples.items():
            self._run.set_tensor(index, values.astype(self._types[index]))
        self._run.invoke()
        return {index: self._run.get_tensor(index) for index in self.outputs}


def with_outputs(data: bytes, tensors: Sequence[int]) -> bytes:
    """Return a file that has more tensors of its graph as outputs, so that LiteRT keeps them."""
    import flatbuffers

    _, schema = _litert()
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = model.subgraphs[0]
    graph.outputs = [*graph.outputs, *(t for t in tensors if t not in set(graph.outputs))]
    model.signatureDefs = None  # they name the old outputs alone
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def check_litert(
    network: TfliteNetwork, path: Path, samples: NDArray[Any], *, layer_images: int = 2, offset: int = 0
) -> LitertWitness:
    """Compare a network of one input with LiteRT under the kernel set it was imported for.

    Parameters
    ----------
    network
        Imported from the file.
    path
        The file.
    samples
        ``[images, *shape]``, see `TfliteNetwork.encode`.
    layer_images
        Of the first so many, every tensor is compared.
    offset
        Added to sample numbers in messages.

    Raises
    ------
    ValueError
        If LiteRT is not installed or refuses the file, or the network has several inputs.
    """
    data, codes = path.read_bytes(), network.encode(samples)
    count = min(layer_images, len(samples))
    images = outputs = 0
    difference = layers_difference(network, data, {n: c[:count] for n, c in codes.items()}, offset) if count else ""
    if not difference:
        images, outputs, difference = _outputs_difference(network, data, codes, offset)
    return LitertWitness(
        kernels=network.kernels, images=max(images, count), outputs=outputs, layer_images=count,
        tensors=len(computed_tensors(network)), difference=difference,
    )  # fmt: skip


def _outputs_difference(network: TfliteNetwork, data: bytes, codes: Codes, offset: int) -> tuple[int, int, str]:
    """Compare outputs up to the first sample that differs: samples, output values, that sample's first difference."""
    total, images, outputs = len(next(iter(codes.values()))), 0, 0
    theirs = _start(data, network.kernels)
    with progress(f"LiteRT {network.kernels}", total) as advance:
        for start in range(0, total, SAMPLES_AT_ONCE):
            part = {name: values[start : start + SAMPLES_AT_ONCE] for name, values in codes.items()}
            ours = execute(network.program, part).outputs
            for i in range(len(next(iter(part.values())))):
                found = theirs(_fed(network, part, i))
                images, outputs = images + 1, outputs + sum(values.size for values in found.values())
                wrong = [p for p in network.outputs if not _same(network, p.index, ours[p.tensor][i], found)]
                if wrong:
                    one = {name: values[i : i + 1] for name, values in part.items()}
                    return (
                        images,
                        outputs,
                        layers_difference(network, data, one, offset + start + i)
                        or (
                            f"output {wrong[0].tensor!r} of sample {offset + start + i} differs, though no tensor does "
                            "where LiteRT keeps them all"
                        ),
                    )
                advance(1)
    return images, outputs, ""


def litert_outputs(network: TfliteNetwork, path: Path, samples: NDArray[Any], kernels: str) -> NDArray[Any]:
    """Return the first output's codes ``[images, …]`` from LiteRT alone, under any kernel set."""
    theirs, codes, port = _start(path.read_bytes(), kernels), network.encode(samples), network.outputs[0]
    with progress("LiteRT", len(samples)) as advance:
        rows = []
        for i in range(len(samples)):
            rows.append(theirs(_fed(network, codes, i))[port.index][0])
            advance(1)
    return np.stack(rows)


def computed_tensors(network: TfliteNetwork) -> dict[int, str]:
    """Return the tensors of codes that operators of the file compute: Program tensor by file number, in file order."""
    made = {op.output: place for place, op in enumerate(network.program.ops) if op.kind != "constant"}
    computed = {index: name for index, name in network.tensors.items() if name in made}
    return dict(sorted(computed.items(), key=lambda item: made[item[1]]))


def layers_difference(
    network: TfliteNetwork, data: bytes, codes: Codes, offset: int = 0, accelerator: Accelerator | None = None
) -> str:
    """Return the first tensor, in order of execution, in which some sample differs from LiteRT; empty if none."""
    program, tensors = network.program, computed_tensors(network)
    theirs = _start(with_outputs(data, list(tensors)), network.kernels)
    seen: list[tuple[Codes, Mapping[int, NDArray[Any]]]] = []
    first: tuple[int, str, int] | None = None
    for i in range(len(next(iter(codes.values())))):
        one = {n: c[i : i + 1] for n, c in codes.items()}
        seen.append(({**one, **execute(program, one, keep=[op.output for op in program.ops]).outputs}, theirs(_fed(network, codes, i))))
        wrong = [(index, name) for index, name in tensors.items() if not _same(network, index, seen[-1][0][name][0], seen[-1][1])]
        if wrong and first is None:
            first = (*wrong[0], i)
def _start(data: bytes, kernels: str) -> Litert:
    try:
        return Litert(data, kernels)
    except RuntimeError as error:
        raise ValueError(f"LiteRT refuses the file: {str(error).splitlines()[0]}") from None


def _fed(network: TfliteNetwork, codes: Codes, i: int) -> dict[int, NDArray[Any]]:
    """Return one sample as LiteRT takes it: codes, or the real values they stand for where the file quantizes."""
    fed = {}
    for port in network.inputs:
        values = codes[port.tensor][i : i + 1].astype(np.int64)
        real = port.dtype == "float32"
        fed[port.index] = np.float32(port.scale) * (values - port.zero_point).astype(np.float32) if real else values
    return fed


def _same(network: TfliteNetwork, index: int, ours: NDArray[Any], found: Mapping[int, NDArray[Any]]) -> bool:
    """Compare one sample's codes with LiteRT's; where it gives real values, with those the codes stand for."""
    theirs = found[index].reshape(ours.shape)
    if theirs.dtype != np.float32:
        return bool(np.array_equal(ours, theirs))
    port = next(p for p in network.outputs if p.index == index)
    return bool(np.array_equal(np.float32(port.scale) * (ours.astype(np.int64) - port.zero_point).astype("f4"), theirs))


def _describe(program: Program, name: str, ours: Codes, theirs: NDArray[Any], sample: int) -> str:
    """Tell where two maps differ first, and the sum and rule that led to our value."""
    mine, other = ours[name][0], theirs.reshape(ours[name][0].shape)
    different = np.argwhere(mine != other)
    place = tuple(int(n) for n in different[0])
    layer = next(op for op in program.ops if op.output == name)
    text = (
        f"{layer.kind} {name!r}: sample {sample}, pixel {list(place[:-1])}, channel {place[-1]}: ours "
        f"{int(mine[place])}, LiteRT {int(other[place])} ({len(different)} of {mine.size} differ)"
    )
    return text + _led_there(program, layer, ours, place)


def _led_there(program: Program, layer: Op, ours: Codes, place: tuple[int, ...]) -> str:
    if not isinstance(layer, Requantize) or layer.inputs[0] not in ours or ours[layer.inputs[0]][0].ndim != len(place):
        return ""
    product = next(op for op in program.ops if op.output == layer.inputs[0])
    multiplier = float(layer.multiplier[place[-1] if layer.multiplier.size > 1 else 0])
    total = int(ours[layer.inputs[0]][(0, *place)])
    exact = total * multiplier
    return f"; {product.kind} {product.name!r} gives sum {total}, times {multiplier!r} is {exact!r}, rule {layer.rule}"
