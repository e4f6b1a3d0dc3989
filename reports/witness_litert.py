"""LiteRT as outside witness: the integers of an imported TensorFlow Lite file, from LiteRT and from our Program.

LiteRT runs one of its kernel sets on the file, sample by sample; all outputs are compared, and, on some samples, every
tensor of codes. The first one that differs is named: layer, pixel, channel, the two values and the sums that led there
(`reports.witness_sums`).
Needs the extra ``oracle`` (package ai-edge-litert), which is imported when used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.config import Accelerator
from accelsim.execute import execute
from accelsim.program import Program
from quant.importers.tflite import TfliteNetwork
from reports.progress import progress
from reports.witness import NoWitness
from reports.witness_sums import Comparison, difference_text, folded

RESOLVERS = {"xnnpack": "AUTO", "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "reference": "BUILTIN_REF"}
"""LiteRT's operator resolver by kernel set (`quant.importers.tflite_kernels.KERNELS`)."""

EVIDENCE = 32
"""Samples from which the cause of a difference is told."""

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
        raise NoWitness("LiteRT is not installed; install accelsim[oracle] to compare with it") from None
    return interpreter, schema_py_generated


def installed() -> bool:
    """Tell whether LiteRT can be asked."""
    try:
        _litert()
    except NoWitness:
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
            raise NoWitness(f"LiteRT is asked sample by sample; the file is for a batch of {max(batches, default=0)}")

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
    network: TfliteNetwork,
    path: Path,
    samples: NDArray[Any],
    *,
    layer_images: int = 2,
    offset: int = 0,
    accelerator: Accelerator | None = None,
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
    accelerator
        Whose folds the sums of a difference are cut into.

    Raises
    ------
    ValueError
        If LiteRT is not installed or refuses the file, or the network has several inputs.
    """
    data, codes = path.read_bytes(), network.encode(samples)
    count = min(layer_images, len(samples))
    images = outputs = 0
    difference = layers_difference(network, data, codes, offset, images=count, accelerator=accelerator)
    if not difference:
        images, outputs, difference = _outputs_difference(network, data, codes, offset, accelerator)
    return LitertWitness(
        kernels=network.kernels, images=max(images, count), outputs=outputs, layer_images=count,
        tensors=len(computed_tensors(network)), difference=difference,
    )  # fmt: skip


def _outputs_difference(
    network: TfliteNetwork, data: bytes, codes: Codes, offset: int, accelerator: Accelerator | None
) -> tuple[int, int, str]:
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
                    rest, number = {name: values[i:] for name, values in part.items()}, offset + start + i
                    text = layers_difference(network, data, rest, number, images=1, accelerator=accelerator)
                    alone = f"output {wrong[0].tensor!r} of sample {number} differs, though no tensor does where "
                    return images, outputs, text or alone + "LiteRT keeps them all"
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
    network: TfliteNetwork,
    data: bytes,
    codes: Codes,
    offset: int = 0,
    *,
    images: int | None = None,
    accelerator: Accelerator | None = None,
) -> str:
    """Return the first tensor, in order of execution, in which one of the first samples differs from LiteRT.

    Parameters
    ----------
    network, data, codes
        The network, its file's bytes, and codes of samples.
    offset
        Added to sample numbers.
    images
        How many are compared, all where ``None``; those behind them help to tell why one differs.
    accelerator
        Whose folds the sums of a difference are cut into.

    Returns
    -------
    str
        One line; empty where nothing differs.
    """
    tensors = computed_tensors(network)
    theirs = _start(with_outputs(data, list(tensors)), network.kernels)
    batch = len(next(iter(codes.values())))

    def both(i: int) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]], list[str]]:
        one = {name: values[i : i + 1] for name, values in codes.items()}
        ours = one | execute(network.program, one, keep=[op.output for op in network.program.ops]).outputs
        found = theirs(_fed(network, codes, i))
        wrong = [name for index, name in tensors.items() if not _same(network, index, ours[name][0], found)]
        return ours, {name: found[i].reshape(ours[name].shape).copy() for i, name in tensors.items()}, wrong

    for i in range(batch if images is None else min(images, batch)):
        first = both(i)
        if first[2]:
            evidence = [both(j) for j in range(i + 1, min(i + EVIDENCE, batch))]
            return _describe(network.program, first[2][0], [first, *evidence], offset + i, accelerator)
    return ""


def _start(data: bytes, kernels: str) -> Litert:
    try:
        return Litert(data, kernels)
    except RuntimeError as error:
        raise NoWitness(f"LiteRT refuses the file: {str(error).splitlines()[0]}") from None


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


def _describe(
    program: Program,
    name: str,
    samples: Sequence[tuple[Codes, Codes, list[str]]],
    number: int,
    accelerator: Accelerator | None,
) -> str:
    """Tell where a tensor differs first, and why, from all samples in which nothing before it differs."""
    order = {op.output: place for place, op in enumerate(program.ops)}
    fair = [sample for sample in samples if all(order[wrong] >= order[name] for wrong in sample[2])]
    values = {key: np.concatenate([ours[key] for ours, _, _ in fair]) for key in fair[0][0]}
    return difference_text(
        Comparison(
            program=program, op=program.ops[order[name]], values=values, ours=values[name],
            theirs=np.concatenate([theirs[name] for _, theirs, _ in fair]), names=("ours", "LiteRT"),
            rules=folded(program, accelerator), offset=number,
        )
    )  # fmt: skip
