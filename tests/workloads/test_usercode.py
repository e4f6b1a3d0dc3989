"""A user's own network: by module:callable or an exported program, samples from an npz file."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from workloads.arrays import read_samples
from workloads.base import Workload
from workloads.metrics import METRICS
from workloads.usercode import exported_workload, user_workload

CODE = """
import torch
from torch import nn
from workloads import WORKLOADS

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 4))

def pair():
    return net(), torch.zeros(1, 3, 2, 2)

def workload():
    return WORKLOADS["digits"]

def number():
    return 7

def needs(argument):
    return net()
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "their_net.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "their_net", raising=False)
    return tmp_path


def save(folder: Path, **arrays: np.ndarray) -> Path:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return path


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, 3, 2, 2)).astype(np.float32)


def test_module_with_labelled_data(code: Path) -> None:
    data = save(code, x=pictures(5), y=np.array([0, 1, 2, 3, 0]))
    found = user_workload("their_net:net", data)
    assert (found.metric, found.input_shape, found.tokens) == ("top1", (3, 2, 2), False)
    samples = found.samples(data)
    assert samples.y.tolist() == [0, 1, 2, 3, 0]
    assert np.array_equal(samples.batch(np.array([2])), pictures(5)[2:3])
    assert str(code) not in sys.path


def test_without_labels_the_float_answers_are_the_labels(code: Path) -> None:
    data = save(code, x=pictures(70))
    found = user_workload("their_net:net", data)
    assert found.metric == "agreement"
    with torch.no_grad():
        expected = found.build()(torch.from_numpy(pictures(70))).argmax(-1)
    assert np.array_equal(found.samples(data).y, expected.numpy())


def test_agreement_counts_positions() -> None:
    outputs = np.zeros((2, 3, 4))
    outputs[:, :, 1] = 1
    tallies = METRICS["agreement"].tally(outputs, np.array([[1, 1, 0], [2, 1, 1]]))
    assert tallies.tolist() == [[2, 3], [2, 3]]
    assert METRICS["agreement"].value(tallies) == pytest.approx(4 / 6)


def test_example_and_workload(code: Path) -> None:
    assert user_workload("their_net:pair", None).input_shape == (3, 2, 2)
    found = user_workload("their_net:workload", None)
    assert isinstance(found, Workload)
    assert found.name == "their_net:workload"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("their_net:absent", "no attribute 'absent'"),
        ("no_such_module:net", "No module named"),
        ("their_net:needs", r"without arguments \(it raised TypeError"),
        ("their_net:number", "must return a torch.nn.Module"),
    ],
)
def test_what_is_no_network_is_refused(code: Path, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        user_workload(name, None)


def test_exported_program_needs_trust(code: Path) -> None:
    data = save(code, x=pictures(6), y=np.arange(6) % 4)
    module = user_workload("their_net:net", data).build()
    batch = torch.export.Dim("batch")
    path = code / "net.pt2"
    torch.export.save(torch.export.export(module, (torch.zeros(2, 3, 2, 2),), dynamic_shapes=({0: batch},)), path)
    with pytest.raises(ValueError, match="give --trust"):
        exported_workload(path, data, trusted=False)
    found = exported_workload(path, data, trusted=True)
    x = torch.from_numpy(pictures(6))
    with torch.no_grad():
        assert torch.equal(found.build()(x), module(x))
    torch.export.save(torch.export.export(module, (torch.zeros(2, 3, 2, 2),)), path)
    with pytest.raises(ValueError, match="batches of any size"):
        exported_workload(path, data, trusted=True)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"must be a program of torch\.export"):
        exported_workload(path, data, trusted=True)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"inputs": np.zeros((2, 3))}, "must have an array x"),
        ({"x": np.zeros(3)}, "batch first"),
        ({"x": np.array([["a"]])}, "must hold numbers"),
        ({"x": np.zeros((2, 3)), "y": np.zeros(2)}, "whole numbers"),
        ({"x": np.zeros((2, 3)), "y": np.zeros(3, int)}, "one row a sample"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_samples(save(tmp_path, **arrays))


def test_no_file(tmp_path: Path) -> None:
    for path in (None, tmp_path):
        with pytest.raises(ValueError, match=r"needs --data FILE\.npz"):
            read_samples(path)
