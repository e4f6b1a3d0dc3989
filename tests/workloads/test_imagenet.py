"""The ImageNet networks are converted exactly: padding, kernel layout, order of classes, accuracy."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from workloads import METRICS, WORKLOADS
from workloads.evaluate import evaluate
from workloads.imagenet import CLASSES, SameConv, TinyDarknet, picture_samples, read_class_order

# of all 1000 pictures; another JPEG decoder moves a few of them
ACCURACY = {"mobilenet-v1-075": 0.738, "tiny-darknet": 0.623}


@pytest.mark.parametrize("name", ACCURACY)
def test_accuracy_on_the_first_pictures_is_near_that_of_all(name: str, data_dir: Path):
    workload, metric = WORKLOADS[name], METRICS["top1"]
    tallies = evaluate(workload.build(data_dir), workload.samples(data_dir), metric, np.arange(40), batch=20)
    assert abs(metric.value(tallies) - ACCURACY[name]) <= 3 * metric.standard_error(tallies)


@pytest.mark.slow
@pytest.mark.parametrize("name", ACCURACY)
def test_accuracy_on_all_pictures_is_the_known_one(name: str, data_dir: Path):
    workload, metric = WORKLOADS[name], METRICS["top1"]
    tallies = evaluate(workload.build(data_dir), workload.samples(data_dir), metric)
    assert len(tallies) == 1000
    assert metric.value(tallies) == pytest.approx(ACCURACY[name], abs=0.006)


@pytest.mark.parametrize(("name", "strict"), [("mobilenet-v1-075", False), ("tiny-darknet", True)])
def test_it_exports_whole(name: str, strict: bool, data_dir: Path):
    net = WORKLOADS[name].build(data_dir)
    x = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.export.export(net, (x,), strict=strict).module()(x), net(x))


def test_padding_at_stride_two_is_keras_same():
    layer = SameConv(1, 1, 2).eval()
    conv = next(m for m in layer if isinstance(m, torch.nn.Conv2d))
    conv.weight.data = torch.arange(9.0).reshape(1, 1, 3, 3)
    x = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    expected = torch.zeros(3, 3)
    for row in range(3):
        for col in range(3):
            # SAME: one pad row in all, so a window starts at the pixel itself and may end outside
            window = x[0, 0, 2 * row : 2 * row + 3, 2 * col : 2 * col + 3]
            window = functional.pad(window, (0, 3 - window.shape[1], 0, 3 - window.shape[0]))
            expected[row, col] = (window * conv.weight[0, 0]).sum()
    with torch.no_grad():
        found = layer[1](layer[0](x))[0, 0]
    torch.testing.assert_close(found, expected)


def test_kernels_turn_from_keras_layout_to_torchs(data_dir: Path):
    net = WORKLOADS["mobilenet-v1-075"].build(data_dir)
    with np.load(data_dir / "imagenet" / "mobilenet_v1_075_224.npz") as stored:
        dense, depthwise = stored["conv_pw_1.kernel"], stored["conv_dw_1.depthwise_kernel"]
        variance = stored["conv_dw_1_bn.moving_variance"]
    depth, point = net.features[1], net.features[2]
    assert point[0].weight[5, 7, 0, 0] == dense[0, 0, 7, 5]
    assert depth[0].weight[5, 0, 2, 1] == depthwise[2, 1, 5, 0]
    np.testing.assert_array_equal(depth[1].running_var.numpy(), variance)
    assert depth[1].eps == 1e-3


def test_darknets_outputs_are_put_into_the_order_of_class_ids(data_dir: Path):
    net = WORKLOADS["tiny-darknet"].build(data_dir)
    order = read_class_order(data_dir / "imagenet" / "tiny_darknet.class_order.json")
    with np.load(data_dir / "imagenet" / "tiny_darknet.npz") as stored:
        bias = stored["conv2d_16.bias"]
    for output in (0, 1, 500, 999):
        assert net.classify.bias[order[output]] == bias[output]


@pytest.mark.parametrize("order", [[*range(999)], [0, *range(999)], {"a": 1}, "x"])
def test_a_class_order_that_is_no_permutation_is_one_line(order: object, tmp_path: Path):
    path = tmp_path / "order.json"
    path.write_text(json.dumps(order))
    with pytest.raises(ValueError, match="once each"):
        read_class_order(path)


def test_another_networks_arrays_are_refused(data_dir: Path):
    with pytest.raises(ValueError, match="MobileNetV1"):
        WORKLOADS["mobilenet-v1-075"].build(weights=data_dir / "imagenet" / "tiny_darknet.npz")


def test_pictures_need_their_labels(tmp_path: Path):
    def write(members: dict[str, bytes]) -> None:
        with tarfile.open(tmp_path / "nips2017_224.tar", "w") as archive:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))

    write({"labels.csv": b"file,imagenet_id\na.jpg,3\n", "a.jpg": b"not a picture"})
    samples = picture_samples(tmp_path)
    np.testing.assert_array_equal(samples.y, [3])
    with pytest.raises(ValueError, match=r"picture a\.jpg"):
        samples.batch(np.array([0]))
    write({"labels.csv": b"file,imagenet_id\nb.jpg,3\n", "a.jpg": b""})
    with pytest.raises(ValueError, match="every picture it names"):
        picture_samples(tmp_path)
    write({"labels.csv": b"file,imagenet_id\na.jpg,1000\n", "a.jpg": b""})
    with pytest.raises(ValueError, match=r"0\.\.999"):
        picture_samples(tmp_path)


def test_darknet_has_one_logit_a_class():
    assert TinyDarknet()(torch.zeros(1, 3, 64, 64)).shape == (1, CLASSES)
