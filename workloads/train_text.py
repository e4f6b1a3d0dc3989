"""Train the text networks that have no published weights at hand: ``python -m workloads.train_text NAME``.

The same functions run when such a network is built for the first time. Runs on as many threads as torch is
set to use; the seed decides everything else, so two machines agree to within the rounding of sums.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

Net = TypeVar("Net", bound=nn.Module)

CLIP_NORM = 1.0


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train; the learning rate rises and falls once (one cycle)."""

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    dropout: float


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch inside, and leave its generator outside as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def train_classifier(
    make: Callable[[], Net], x: np.ndarray, y: np.ndarray, schedule: Schedule, seed: int
) -> Net:
    """Train a classifier of token sequences.

    Parameters
    ----------
    make
        Makes the untrained network: ids [B, T] -> logits [B, classes].
    x
        Token ids [N, T].
    y
        Labels [N].
    schedule
        Its dropout applies to the outputs of every layer norm, as regularisation in training only.
    seed
        Of the initial weights, the order of samples and dropout.

    Returns
    -------
    net
        The trained network in eval mode.
    """
    ids, labels = torch.from_numpy(x), torch.from_numpy(y)
    with seeded(seed):
        net = make()
        handles = [
            module.register_forward_hook(_drop(schedule.dropout))
            for module in net.modules()
            if isinstance(module, nn.LayerNorm)
        ]
        optimizer, step = _optimizer(net, schedule, -(-len(ids) // schedule.batch))
        net.train()
        for _ in range(schedule.epochs):
            for chosen in torch.randperm(len(ids)).split(schedule.batch):
                loss = functional.cross_entropy(net(ids[chosen]), labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                step()
        for handle in handles:
            handle.remove()
    return net.eval()


def _drop(share: float) -> Callable[[nn.Module, object, torch.Tensor], torch.Tensor]:
    """Return a hook that drops a share of a module's outputs."""
    return lambda module, inputs, output: functional.dropout(output, share)


def _optimizer(net: nn.Module, schedule: Schedule, batches: int) -> tuple[torch.optim.Optimizer, Callable[[], None]]:
    """Return AdamW and a function that makes one clipped step along a one-cycle learning rate."""
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
    )
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.learning_rate, total_steps=schedule.epochs * batches
    )

    def step() -> None:
        nn.utils.clip_grad_norm_(net.parameters(), CLIP_NORM)
        optimizer.step()
        rate.step()

    return optimizer, step
