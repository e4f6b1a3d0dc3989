"""LiteRT as witness: every operator under every kernel set, the MLPerf Tiny networks, and reports of differences."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corrupt import convolutions, with_bias, with_weight
from tflite_cases import ABSENT, READ, case_file
from tflite_files import O, T, tflite
from tflite_more_networks import MORE_NETWORKS
from tflite_networks import NETWORKS

from accelsim.config import load_accelerator
from accelsim.execute import execute
from accelsim.program import Program, Requantize
from quant.importers.tflite import TfliteNetwork, import_tflite, import_tflite_bytes
from reports import witness_litert
from reports.witness_litert import RESOLVERS, Litert, check_litert, litert_outputs
from workloads import METRICS
from workloads.tinyml import TINY_TASKS

pytestmark = pytest.mark.skipif(
    not witness_litert.installed(), reason="LiteRT is not installed; install accelsim[oracle]"
)

ALL_NETWORKS = NETWORKS | MORE_NETWORKS
TASKS = sorted(TINY_TASKS)
SCORES = {"tiny-resnet8": 0.850, "tiny-kws": 0.901}
"""Top-1 accuracies known of these files on these samples."""


def random_codes(program: Program, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    tensors = {name: program.tensors[name] for name in program.inputs}
    return {n: rng.integers(t.low, t.high, (2, *t.shape), endpoint=True) for n, t in tensors.items()}


def assert_equal(data: bytes, kernels: str, seed: int, name: str) -> None:
    network = import_tflite_bytes(data, name, kernels)
    codes = random_codes(network.program, seed)
    ours, litert = execute(network.program, codes).outputs, Litert(data, kernels)
    for i in range(2):
        theirs = litert(witness_litert._fed(network, codes, i))
        for port in network.outputs:
            found = theirs[port.index].reshape(port.shape)
            mine = ours[port.tensor][i]
            if port.dtype == "float32":
                mine = np.float32(port.scale) * (mine.astype(np.int64) - port.zero_point).astype(np.float32)
            if network.remarks:  # which name the codes that the C library's last bit decides
                assert np.abs(mine.astype(np.int64) - found).max() <= 1
                assert (mine != found).mean() < 0.05
            else:
                np.testing.assert_array_equal(mine, found, err_msg=f"{name} {seed}")


@pytest.mark.parametrize(("name", "kernels"), READ)
def test_operators_give_litert_s_integers(name: str, kernels: str) -> None:
    for seed in range(4):
        assert_equal(case_file(name, seed), kernels, seed, name)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kernels"), READ)
def test_many_operators_give_litert_s_integers(name: str, kernels: str) -> None:
    for seed in range(100, 250):
        assert_equal(case_file(name, seed), kernels, seed, name)


@pytest.mark.parametrize("kernels", RESOLVERS)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("name", ALL_NETWORKS)
def test_small_networks_agree_in_every_tensor(name: str, dtype: str, kernels: str, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    for seed in range(2):
        rng = np.random.default_rng(seed)
        path.write_bytes(ALL_NETWORKS[name](rng, dtype))
        network = import_tflite(path, kernels)
        x = rng.integers(0, 128, (5, *network.inputs[0].shape))
        witness = check_litert(network, path, x, layer_images=2)
        assert witness.difference == ""
        assert witness.tensors >= 6


@pytest.mark.slow
@pytest.mark.parametrize("kernels", RESOLVERS)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("name", MORE_NETWORKS)
def test_many_small_networks_agree_in_every_tensor(name: str, dtype: str, kernels: str, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    for seed in range(100, 120):
        rng = np.random.default_rng(seed)
        path.write_bytes(MORE_NETWORKS[name](rng, dtype))
        network = import_tflite(path, kernels)
        low = -128 if dtype == "int8" else 0
        x = rng.integers(low, low + 256, (4, *network.inputs[0].shape))
        assert check_litert(network, path, x, layer_images=2).difference == ""


@pytest.mark.parametrize(("name", "kernels"), sorted(ABSENT))
def test_what_a_kernel_set_has_not_is_refused_by_both(name: str, kernels: str) -> None:
    data = case_file(name, 0)
    with pytest.raises(ValueError, match="has no reference kernel; import it with --kernels xnnpack or builtin"):
        import_tflite_bytes(data, name, kernels)
    with pytest.raises(ValueError, match="Didn't find op"):
        Litert(data, kernels)


def all_codes(kind: str, grids: tuple[T, T], kernels: str, **options: object) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return our codes and LiteRT's for all 256 codes of a function of one code, and whether a remark was made."""
    low = -128 if grids[0].dtype == "int8" else 0
    x = np.arange(low, low + 256).reshape(1, 256)
    data = tflite(grids, [O(kind, (0,), (1,), dict(options))], [0], [1])
    network = import_tflite_bytes(data, kind, kernels)
    ours = execute(network.program, {network.inputs[0].tensor: x}).outputs[network.outputs[0].tensor]
    return ours, Litert(data, kernels)({0: x})[1], bool(network.remarks)


CURVE_KINDS = {
    "abs": ("int8",), "elu": ("int8",), "exp": ("int8",), "gelu": ("int8", "uint8"), "hard_swish": ("int8", "uint8"),
    "leaky_relu": ("int8", "uint8"), "logistic": ("int8", "uint8"), "relu6": ("int8", "uint8"),
    "relu_n1_to_1": ("int8", "uint8"), "tanh": ("int8", "uint8"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "kernels"), [(k, s) for k in CURVE_KINDS for s in RESOLVERS if (k, s) not in ABSENT])
def test_all_codes_on_many_grids_give_litert_s(kind: str, kernels: str) -> None:
    """Scales from 2**-14 to 2**6, beyond what any delegate takes; where a remark was made, codes may be off by one."""
    rng = np.random.default_rng(7)
    unsure = 0
    for turn in range(400):
        dtype = str(rng.choice(CURVE_KINDS[kind]))
        low, high = (-128, 127) if dtype == "int8" else (0, 255)
        exponents = rng.uniform(-14, 6, 2)
        scales = 2.0 ** (np.round(exponents) if turn % 2 else exponents)
        zeros = rng.integers(low, high, 2, endpoint=True)
        grids = [T((1, 256), dtype, np.float32(s), int(z)) for s, z in zip(scales, zeros, strict=True)]
        if kind == "logistic" and kernels != "xnnpack":
            grids[1].scale, grids[1].zero = 1 / 256, low
        if kind == "hard_swish" and not 2**-6 < scales[0] / scales[1] < 100:
            continue  # the kernels refuse, or shift everything away
        options: dict[str, object] = {"alpha": float(rng.uniform(-1, 2))} if kind == "leaky_relu" else {}
        options |= {"approximate": bool(turn % 3)} if kind == "gelu" else {}
        ours, theirs, remarked = all_codes(kind, (grids[0], grids[1]), kernels, **options)
        unsure += remarked
        if remarked:
            assert np.abs(ours.astype(int) - theirs).max() <= 1
        else:
            np.testing.assert_array_equal(ours, theirs, err_msg=f"{grids} {options}")
    assert unsure <= 120


@pytest.mark.slow
@pytest.mark.parametrize("kernels", RESOLVERS)
@pytest.mark.parametrize("kind", ["mul", "add"])
def test_two_operands_on_far_scales_give_litert_s(kind: str, kernels: str) -> None:
    rng = np.random.default_rng(11)
    compared = 0
    for turn in range(300):
        exponents = rng.uniform(-10, 2, 3)
        scales = 2.0 ** (np.round(exponents) if turn % 2 else exponents)
        tensors = [T((1, 64, 64), "int8", np.float32(s), int(rng.integers(-128, 128))) for s in scales]
        data = tflite(tensors, [O(kind, (0, 1), (2,), {"activation": 0})], [0, 1], [2])
        product = scales[0] * scales[1] / scales[2]
        if kind == "mul" and product * 2**16 > 2**14 and (kernels == "builtin" or product > 2**7):
            continue  # the built-in kernel wraps here too, which XNNPACK leaves what is larger to
        ratios = scales[:2].astype("f4") / np.float32(scales[2])
        if kind == "add" and kernels != "reference" and ratios.sum() * 255 > 2**14:
            continue  # the built-in kernel wraps
        network = import_tflite_bytes(data, kind, kernels)
        x = {i: rng.integers(-128, 128, (1, 64, 64)) for i in (0, 1)}
        fed = {port.tensor: x[port.index] for port in network.inputs}
        ours = execute(network.program, fed).outputs[network.outputs[0].tensor]
        np.testing.assert_array_equal(ours, Litert(data, kernels)(x)[2], err_msg=f"{scales}")
        compared += 1
    assert compared > 80


# --- networks --------------------------------------------------------------------------------------------------------


LARGE = pytest.param("mobilenet-v2-ptq", marks=pytest.mark.slow)


@pytest.mark.parametrize("kernels", RESOLVERS)
@pytest.mark.parametrize("name", [LARGE if name == "mobilenet-v2-ptq" else name for name in TASKS])
def test_networks_agree_in_every_tensor(name: str, kernels: str, data_dir: Path) -> None:
    task = TINY_TASKS[name]
    path, large = task.model_path(data_dir), name == "mobilenet-v2-ptq"
    x = task.load(data_dir).batch(np.arange(1 if large else 20))
    witness = check_litert(import_tflite(path, kernels), path, x, layer_images=1 if large else 2)
    assert witness.difference == ""
    assert witness.bit_exact
    assert (witness.images, witness.kernels) == (len(x), kernels)
    assert witness.tensors >= 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kernels"),
    [(name, kernels) for name in TASKS for kernels in RESOLVERS if name != "mobilenet-v2-ptq" or kernels == "xnnpack"],
)
def test_all_samples_agree_and_score_alike(name: str, kernels: str, data_dir: Path) -> None:
    task = TINY_TASKS[name]
    path, samples = task.model_path(data_dir), task.load(data_dir)
    network, every = import_tflite(path, kernels), np.arange(len(samples))
    x = samples.batch(every)
    assert check_litert(network, path, x, layer_images=5).difference == ""
    metric = METRICS[task.metric]
    scores = [
        metric.value(metric.tally(network.decode(codes), samples.labels(every)))
        for codes in (
            execute(network.program, network.encode(x)).outputs[network.outputs[0].tensor],
            litert_outputs(network, path, x, kernels),
        )
    ]
    assert scores[0] == scores[1]
    if name in SCORES and kernels == "xnnpack":
        assert scores[0] == pytest.approx(SCORES[name], abs=0.001)


# --- differences -----------------------------------------------------------------------------------------------------


EDGE = load_accelerator("edge-32x32")


def tampered(network: TfliteNetwork, place: int) -> TfliteNetwork:
    """Return a network whose requantization at a place among them is off in its last channel."""
    program = network.program
    op = [op for op in program.ops if isinstance(op, Requantize)][place]
    factor = np.full(program.tensors[op.output].shape[-1], op.multiplier)
    factor[-1] *= 1.5
    ops = tuple(replace(o, multiplier=factor) if o is op else o for o in program.ops)
    return replace(network, program=replace(program, ops=ops))


def difference(program: Program, network: TfliteNetwork, path: Path, x: np.ndarray, layer_images: int = 2) -> str:
    wrong = replace(network, program=program)
    witness = check_litert(wrong, path, x, layer_images=layer_images, offset=100, accelerator=EDGE)
    assert not witness.bit_exact
    return witness.difference


def test_a_wrong_multiplier_is_named_with_the_sum_that_it_scales(data_dir: Path) -> None:
    task = TINY_TASKS["tiny-kws"]
    path = task.model_path(data_dir)
    right = import_tflite(path)
    op = [op for op in right.program.ops if isinstance(op, Requantize)][3]
    text = difference(tampered(right, 3).program, right, path, task.load(data_dir).batch(np.arange(20)))
    assert f"{op.output!r} of layer 'depthwise_conv_2d_3': sample 100, pixel [" in text
    assert "channel 63: ours " in text
    assert "rule float32_rne; the other value needs a sum of " in text
    said = re.search(r"explained by the multiplier being (\S+)\.\.(\S+) in LiteRT", text)
    assert said is not None, text
    real = float(op.multiplier[-1])
    assert float(said[1]) * (1 - 1e-5) <= real <= float(said[2]) * (1 + 1e-5)


@pytest.mark.parametrize(("name", "number", "place"), [
    ("tiny-kws", 2, (5, 0, 0, 40)), ("tiny-kws", 1, (0, 1, 0, 0)), ("tiny-resnet8", 2, (5, 2, 1, 7)),
])  # fmt: skip
def test_a_wrong_weight_is_named(name: str, number: int, place: tuple[int, ...], data_dir: Path) -> None:
    task = TINY_TASKS[name]
    path = task.model_path(data_dir)
    network = import_tflite(path)
    layer = convolutions(network.program)[number]
    more = -40 if layer.weight[place] > 0 else 40
    wrong = with_weight(network.program, layer, place, more)
    text = difference(wrong, network, path, task.load(data_dir).batch(np.arange(8)))
    k = int(np.ravel_multi_index(place[1:], layer.weight.shape[1:]))
    assert f" of layer {layer.name!r}: sample 100, pixel " in text
    assert f"channel {place[0]}: ours " in text
    said = re.search(rf"explained by the weight at k {k} \(.*fold {k // 32}\) being (\S+) (more|less) in LiteRT", text)
    assert said is not None, text
    assert said[2] == ("less" if more > 0 else "more")
    assert text.count("explained by") == 1


def test_a_wrong_bias_is_named(data_dir: Path) -> None:
    task = TINY_TASKS["tiny-kws"]
    path = task.model_path(data_dir)
    network = import_tflite(path)
    layer = convolutions(network.program)[2]
    wrong = with_bias(network.program, layer, 3, 900)
    text = difference(wrong, network, path, task.load(data_dir).batch(np.arange(8)))
    assert "of layer 'conv_2d_2': sample 100, pixel [" in text
    assert "channel 3: ours " in text
    assert "fold 1 (k 32..63)" in text
    said = re.search(r"explained by the bias being (\d+)(?:\.\.(\d+))? less in LiteRT$", text)
    assert said is not None, text
    assert int(said[1]) <= 900 <= int(said[2] or said[1])


def test_a_difference_in_the_outputs_alone_is_traced_to_its_layer(data_dir: Path) -> None:
    task = TINY_TASKS["tiny-kws"]
    path = task.model_path(data_dir)
    right = import_tflite(path)
    text = difference(tampered(right, 0).program, right, path, task.load(data_dir).batch(np.arange(40)), 0)
    assert "requantize" in text
    assert "channel 63: ours " in text


def test_another_kernel_set_is_told_apart(data_dir: Path) -> None:
    """The rules differ, so the comparison must be able to fail: built-in integers are not XNNPACK's."""
    task = TINY_TASKS["tiny-kws"]
    path = task.model_path(data_dir)
    network = replace(import_tflite(path, "builtin"), kernels="xnnpack")
    assert not check_litert(network, path, task.load(data_dir).batch(np.arange(5))).bit_exact


def test_a_file_that_litert_refuses_is_reported(tmp_path: Path) -> None:
    """A convolution without bias is one that we read and LiteRT does not."""
    w = T((2, 1, 1, 3), "int8", 0.1, 0, np.ones((2, 1, 1, 3)))
    op = O("conv_2d", (0, 1), (2,), {"stride_h": 1, "stride_w": 1})
    path = tmp_path / "bare.tflite"
    path.write_bytes(tflite([T((1, 2, 2, 3)), w, T((1, 2, 2, 2))], [op], [0], [2]))
    with pytest.raises(ValueError, match="LiteRT refuses the file"):
        check_litert(import_tflite(path), path, np.zeros((1, 2, 2, 3), dtype=np.int64))


def test_files_for_batches_are_not_compared(tmp_path: Path) -> None:
    grid = ("int8", 0.1, 3)
    path = tmp_path / "four.tflite"
    path.write_bytes(tflite([T((4, 6), *grid), T((4, 6), *grid)], [O("relu", (0,), (1,))], [0], [1]))
    with pytest.raises(ValueError, match="is for a batch of 4"):
        check_litert(import_tflite(path), path, np.zeros((2, 6), dtype=np.int64))
    with pytest.raises(ValueError, match="kernels must be one of"):
        Litert(path.read_bytes(), "fast")
