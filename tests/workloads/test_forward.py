"""What is told of a module that does not run on the samples it is given."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from workloads.arrays import answers
from workloads.forward import forward
from workloads.metrics import METRICS

X = np.random.default_rng(0).standard_normal((3, 2, 4)).astype(np.float32)


def linear(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 5, **options)


class Two(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


class Raises(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise KeyError(f"no such\nthing in {len(x)}")


class Several(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return {"out": (x + 1, x)}


class Number(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return float(x.sum())


@pytest.mark.parametrize(
    ("net", "x", "text"),
    [
        (linear(), X[..., :3], r"samples of shape \(2, 3\) and type float32 .*as the network takes them"),
        (linear(dtype=torch.float16), X, r"torch\.float16: call \.float\(\)"),
        (linear(dtype=torch.bfloat16), X, r"torch\.bfloat16: call \.float\(\)"),
        (linear(), (X * 9).astype(np.int64), r'type int64 .*astype\("float32"\)'),
        (Two(), X, r"takes 2 \(x, y\): wrap it"),
        (Raises(), X, r"it raised 'no such.*thing in 3'"),
        (Number(), X, r"must return a tensor, or several \(got float\)"),
    ],
)
def test_what_does_not_run_is_one_line_with_a_remedy(net: nn.Module, x: np.ndarray, text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        forward(net, x, "theirs")
    assert str(caught.value).startswith("theirs must ")
    assert "\n" not in str(caught.value)


def test_the_first_of_several_outputs_is_returned() -> None:
    assert np.array_equal(forward(Several(), X, "theirs").numpy(), X + 1)


def test_answers_are_those_of_batches_too() -> None:
    many = np.random.default_rng(1).standard_normal((130, 4)).astype(np.float32)
    with torch.no_grad():
        assert np.array_equal(answers(linear(), many, "theirs"), linear()(torch.from_numpy(many)).argmax(-1).numpy())


@pytest.mark.parametrize("metric", ["top1", "perplexity", "bits_per_char"])
@pytest.mark.parametrize("label", [-1, 5, 99])
def test_labels_that_are_no_class_are_refused(metric: str, label: int) -> None:
    with pytest.raises(ValueError, match=rf"labels y must be within 0\.\.4.*got .*{label}"):
        METRICS[metric].tally(np.zeros((2, 5)), np.array([0, label]))
