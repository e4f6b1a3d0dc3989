"""Networks of torchvision by name: weights from a file, preprocessing as they define it, pictures from folders."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from workloads.pictures import labelled_pictures
from workloads.zoo import preprocessing, zoo_names, zoo_workload

pytestmark = pytest.mark.skipif(not zoo_names(), reason="torchvision is not installed (extra vision)")


def test_names_are_classification_networks() -> None:
    names = zoo_names()
    papers = {"vgg16_bn", "resnet50", "densenet121", "inception_v3", "mobilenet_v2", "resnet18", "vit_b_16"}
    assert papers <= set(names)
    assert "fasterrcnn_resnet50_fpn" not in names


def test_random_weights_come_from_the_seed() -> None:
    workload = zoo_workload("mobilenet_v2")
    first, again, other = (workload.build(seed=seed).state_dict() for seed in (0, 0, 1))
    name = "features.0.0.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_from_a_file(tmp_path: Path, suffix: str) -> None:
    workload = zoo_workload("resnet18")
    state = {name: value.clone() for name, value in workload.build(seed=3).state_dict().items()}
    path = tmp_path / f"weights{suffix}"
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    loaded = workload.build(weights=path).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())
    torch.save({"fc.weight": state["fc.weight"]}, tmp_path / "part.pth")
    with pytest.raises(ValueError, match="must hold the tensors of ResNet"):
        workload.build(weights=tmp_path / "part.pth")


def test_old_densenet_names_are_known(tmp_path: Path) -> None:
    workload = zoo_workload("densenet121")
    state = workload.build(seed=2).state_dict()
    old = {name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): value for name, value in state.items()}
    assert set(old) != set(state)
    torch.save(old, tmp_path / "old.pth")
    loaded = workload.build(weights=tmp_path / "old.pth").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_preprocessing_follows_the_weights_file() -> None:
    first = preprocessing("resnet50", Path("somewhere/resnet50-0676ba61.pth"))
    second = preprocessing("resnet50", Path("resnet50-11ad3fa6.pth"))
    assert first.resize_size == [256]
    assert second.resize_size == [232]
    assert preprocessing("resnet50", None).resize_size == second.resize_size


def write_pictures(folder: Path, classes: int, each: int) -> None:
    rng = np.random.default_rng(0)
    for label in range(classes):
        inner = folder / f"class{label:02d}"
        inner.mkdir(parents=True)
        for place in range(each):
            pixels = rng.integers(0, 256, (40 + label, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(inner / f"{place}.png")


def test_pictures_from_class_folders(tmp_path: Path) -> None:
    write_pictures(tmp_path / "val", 3, 2)
    samples = labelled_pictures(tmp_path, 3, preprocessing("resnet18", None))
    assert samples.y.tolist() == [0, 0, 1, 1, 2, 2]
    batch = samples.batch(np.array([4, 0]))
    assert batch.shape == (2, 3, 224, 224)
    assert batch.dtype == np.float32
    with Image.open(tmp_path / "val" / "class02" / "0.png") as picture:
        assert np.array_equal(batch[0], preprocessing("resnet18", None)(picture).numpy())


def test_bad_picture_folders_are_named(tmp_path: Path) -> None:
    write_pictures(tmp_path, 2, 1)
    with pytest.raises(ValueError, match=r"one folder per class, 1000 \(got 2\)"):
        labelled_pictures(tmp_path, 1000, preprocessing("resnet18", None))
    broken = tmp_path / "class00" / "0.png"
    broken.write_bytes(broken.read_bytes()[:60])
    samples = labelled_pictures(tmp_path, 2, preprocessing("resnet18", None))
    with pytest.raises(ValueError, match="whole JPEG or PNG"):
        samples.batch(np.array([0]))
