"""A word language model of the form in the OCS paper's Table 6: two LSTM layers of 650 cells on WikiText-2.

Zhao et al., ICML 2019, section 6, quantize such a network (embedding 650, vocabulary 33,278, perplexity 95.1
in float). Only the validation and the test part of the text are at hand, so ours is trained by our script on
the validation part (214 thousand words instead of 2 million), knows that part's words, and is evaluated on
the test part: its perplexity is much higher and not to be compared with the paper's.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from workloads.base import Samples, Source, Workload
from workloads.cached import trained
from workloads.datasets import data_folder
from workloads.text import read_text, vocabulary, windows
from workloads.training import Schedule, State, seeded, train_language_model
from workloads.weights import load_into, read_state

CELLS = 650
WINDOW = 70
WARM_UP = 35  # labels of a window that do not count, while the state fills
SPECIAL = ("<unk>", "<eos>")
INITIAL_RANGE = 0.1  # of embedding weights, as in PyTorch's word_language_model example

SCHEDULE = Schedule(epochs=3, batch=20, steps=35, learning_rate=2e-3, weight_decay=1e-2, dropout=0.5)


class WordLSTM(nn.Module):
    """Word ids [B, T] -> logits of the next word [B, T, words]; the state starts at zero."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, CELLS)
        self.lstm = nn.LSTM(CELLS, CELLS, num_layers=2, batch_first=True)
        self.linear = nn.Linear(CELLS, words)
        nn.init.uniform_(self.embedding.weight, -INITIAL_RANGE, INITIAL_RANGE)
        nn.init.zeros_(self.linear.bias)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        hidden, _ = self.lstm(self.embedding(ids))
        return self.linear(hidden)

    def unroll(self, ids: torch.Tensor, state: State | None, dropout: float) -> tuple[torch.Tensor, State]:
        """Return logits and the state after ``ids``; a share of every layer's outputs is dropped (training)."""
        self.lstm.dropout = dropout
        inputs = functional.dropout(self.embedding(ids), dropout)
        hidden, after = self.lstm(inputs, state)
        self.lstm.dropout = 0.0
        return self.linear(functional.dropout(hidden, dropout)), after


def words_of(text: str) -> Iterator[str]:
    """Yield the words of a text, and <eos> at the end of every line, as the usual readers of WikiText do."""
    for line in text.splitlines():
        yield from line.split()
        yield "<eos>"


def _streams(folder: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the ids of the validation and of the test part, and the number of words known."""
    valid, test = (list(words_of(read_text(folder / f"wikitext2_{part}.txt"))) for part in ("valid", "test"))
    known = vocabulary(valid, SPECIAL, at_least=1)
    ids = [np.array(known.encode(words), dtype=np.int64) for words in (valid, test)]
    return ids[0], ids[1], len(known)


def _model(source: Source) -> nn.Module:
    ids, _, words = _streams(data_folder(source.data, "text", "wikitext2-lstm"))

    def train() -> nn.Module:
        with seeded(source.seed):
            net = WordLSTM(words)
            # one matrix for both ends while training (Press and Wolf, arXiv 1608.05859), two afterwards
            net.linear.weight = net.embedding.weight
            return train_language_model(net, ids, SCHEDULE, source.progress)

    path = source.weights or trained("wikitext2-lstm", source, train)
    return load_into(WordLSTM(words), read_state(path), path)


def _samples(source: Source) -> Samples:
    folder = data_folder(source.data, "text", "wikitext2-lstm")
    valid, test, _ = _streams(folder)
    x, y = windows(test, WINDOW, WARM_UP, folder / "wikitext2_test.txt")
    spare_x, spare_y = windows(valid, WINDOW, WARM_UP, folder / "wikitext2_valid.txt")
    return Samples(x=np.concatenate([x, spare_x]), y=np.concatenate([y, spare_y]), evaluable=len(x))


WIKITEXT = Workload(
    name="wikitext2-lstm",
    description="two-layer word LSTM of 650 cells on WikiText-2, trained on its validation part on first use",
    origin="weights: trained by workloads.train_text; text: WikiText-2, Merity et al. 2016, CC-BY-SA",
    metric="perplexity",
    input_shape=(WINDOW,),
    model=_model,
    data=_samples,
    tokens=True,
    needs_cache=True,
)
