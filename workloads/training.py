"""Training of the text networks that have no published weights at hand.

Runs on as many threads as torch is set to use; the seed decides everything else, so two machines agree to
within what the rounding of sums makes of it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

Progress = Callable[[float], None]
State = tuple[torch.Tensor, torch.Tensor]
CLIP_NORM = 1.0


class Recurrent(Protocol):
    """A recurrent language model whose state can be carried from one stretch of text to the next."""

    def unroll(self, ids: torch.Tensor, state: State | None, dropout: float) -> tuple[torch.Tensor, State]:
        """Return logits [B, T, words] and the state after ids [B, T]."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters."""
        ...


Net = TypeVar("Net", bound=nn.Module)
RecurrentNet = TypeVar("RecurrentNet", bound=Recurrent)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train; the learning rate rises and falls once (one cycle).

    ``batch`` is samples, or parallel streams of a language model, which then reads ``steps`` tokens at a time.
    """

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    dropout: float
    steps: int = 1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch inside, and leave its generator outside as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def train_classifier(net: Net, x: np.ndarray, y: np.ndarray, schedule: Schedule, progress: Progress) -> Net:
    """Train a classifier of token sequences.

    Parameters
    ----------
    net
        The untrained network: ids [B, T] -> logits [B, classes].
    x
        Token ids [N, T].
    y
        Labels [N].
    schedule
        Its dropout applies to the outputs of every layer norm, in training only.
    progress
        Called after every epoch.

    Returns
    -------
    net
        The trained network, in eval mode.
    """
    ids, labels = torch.from_numpy(x), torch.from_numpy(y)
    norms = [module for module in net.modules() if isinstance(module, nn.LayerNorm)]
    handles = [module.register_forward_hook(_drop(schedule.dropout)) for module in norms]
    step = _stepper(net.parameters(), schedule, -(-len(ids) // schedule.batch))
    net.train()
    for epoch in range(schedule.epochs):
        for chosen in torch.randperm(len(ids)).split(schedule.batch):
            step(functional.cross_entropy(net(ids[chosen]), labels[chosen]))
        progress((epoch + 1) / schedule.epochs)
    for handle in handles:
        handle.remove()
    return net.eval()


def train_language_model(net: RecurrentNet, ids: np.ndarray, schedule: Schedule, progress: Progress) -> RecurrentNet:
    """Train a recurrent language model on one stream of token ids [N], cut into parallel streams.

    The state goes on from stretch to stretch, gradients do not (truncated back-propagation through time).
    """
    length = (len(ids) - 1) // schedule.batch
    cut = length * schedule.batch
    x, y = (torch.from_numpy(ids[at : at + cut]).view(schedule.batch, length) for at in (0, 1))
    starts = range(0, length, schedule.steps)
    step = _stepper(net.parameters(), schedule, len(starts))
    for epoch in range(schedule.epochs):
        state: State | None = None
        for at in starts:
            logits, (hidden, cell) = net.unroll(x[:, at : at + schedule.steps], state, schedule.dropout)
            state = hidden.detach(), cell.detach()
            step(functional.cross_entropy(logits.flatten(0, 1), y[:, at : at + schedule.steps].flatten()))
            progress((epoch + at / length) / schedule.epochs)
    progress(1.0)
    return net


def _drop(share: float) -> Callable[[nn.Module, object, torch.Tensor], torch.Tensor]:
    """Return a hook that drops a share of a module's outputs."""
    return lambda module, inputs, output: functional.dropout(output, share)


def _stepper(parameters: Iterator[nn.Parameter], schedule: Schedule, batches: int) -> Callable[[torch.Tensor], None]:
    """Return a function that makes one clipped AdamW step on a loss, along a one-cycle learning rate."""
    trained = list(parameters)
    optimizer = torch.optim.AdamW(trained, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    total = schedule.epochs * batches
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, schedule.learning_rate, total_steps=total)

    def step(loss: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, CLIP_NORM)
        optimizer.step()
        rate.step()

    return step
