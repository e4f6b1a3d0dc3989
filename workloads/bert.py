"""BERT-Tiny text classifiers, trained by our own script: two layers, 128 wide, two heads.

Devlin et al., arXiv 1810.04805 (post-norm blocks, learned positions, GELU, pooler on the first position), in
the size of Turc et al., arXiv 1908.08962. What differs: words of the training text instead of word pieces, no
pre-training, no segment embedding, and no padding mask: a text is filled up with a padding token that the
network is trained to see. Checkpoints (some MB) are made on first use and kept in the caller's folder.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from workloads.base import Samples, Source, Workload
from workloads.cached import trained
from workloads.datasets import data_folder
from workloads.text import Vocabulary, read_text, vocabulary
from workloads.training import Schedule, seeded, train_classifier
from workloads.weights import load_into, read_state

WIDTH = 128
HEADS = 2
LAYERS = 2
FEED = 512
TOKENS = 48
NORM_EPS = 1e-12
SPECIAL = ("<pad>", "<unk>", "<cls>")
WORD = re.compile(r"[a-z]+|[0-9]|[^\sa-z0-9]")  # of lower-cased text; digits one by one
AT_LEAST = 2

EMOTIONS = ("sadness", "joy", "love", "anger", "fear", "surprise")
SPAM_LABELS = ("ham", "spam")
SPAM_TEST = 1114  # of 5574 messages, drawn by SPAM_SEED; the set has no split of its own
SPAM_SEED = 12345

SCHEDULE = Schedule(epochs=6, batch=64, learning_rate=1e-3, weight_decay=1e-2, dropout=0.1)


class SelfAttention(nn.Module):
    """Attention of every position to all."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, T, WIDTH] to [B, T, WIDTH]."""
        query, key, value = (
            layer(x).unflatten(2, (HEADS, WIDTH // HEADS)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        scores = torch.matmul(query, key.transpose(2, 3)) * (1 / math.sqrt(WIDTH // HEADS))
        weights = torch.softmax(scores, dim=-1)
        return self.out(torch.matmul(weights, value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and feed-forward, each inside a residual add followed by a layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = SelfAttention()
        self.attention_norm = nn.LayerNorm(WIDTH, eps=NORM_EPS)
        self.up = nn.Linear(WIDTH, FEED)
        self.down = nn.Linear(FEED, WIDTH)
        self.feed_norm = nn.LayerNorm(WIDTH, eps=NORM_EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, T, WIDTH] to [B, T, WIDTH]."""
        x = self.attention_norm(x + self.attention(x))
        return self.feed_norm(x + self.down(functional.gelu(self.up(x))))


class BertTiny(nn.Module):
    """Token ids [B, 48] -> logits [B, classes]."""

    def __init__(self, words: int, classes: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, WIDTH)
        self.positions = nn.Parameter(torch.randn(TOKENS, WIDTH) * 0.02)
        self.norm = nn.LayerNorm(WIDTH, eps=NORM_EPS)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.pooler = nn.Linear(WIDTH, WIDTH)
        self.classify = nn.Linear(WIDTH, classes)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)  # BERT's initializer_range

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        x = self.blocks(self.norm(self.words(ids) + self.positions))
        return self.classify(torch.tanh(self.pooler(x[:, 0])))


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Labelled texts of one task: the training ones, and those to evaluate."""

    train: list[tuple[str, int]]
    test: list[tuple[str, int]]
    classes: int


def words_of(text: str) -> list[str]:
    """Return lower-case words, single digits and single signs."""
    return WORD.findall(text.lower())


def encode(texts: list[tuple[str, int]], known: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Return ids [N, 48], begun with <cls> and cut or filled up, and labels [N]; both int64."""
    x = np.full((len(texts), TOKENS), known.ids["<pad>"], dtype=np.int64)
    for row, (text, _) in enumerate(texts):
        ids = [known.ids["<cls>"], *known.encode(words_of(text))][:TOKENS]
        x[row, : len(ids)] = ids
    return x, np.array([label for _, label in texts], dtype=np.int64)


def known_words(texts: Texts) -> Vocabulary:
    """Return the words that occur at least twice in the training texts."""
    return vocabulary((w for text, _ in texts.train for w in words_of(text)), SPECIAL, AT_LEAST)


def emotion_texts(folder: Path) -> Texts:
    """Read the emotion task: 16,000 training and 2,000 test sentences of six classes."""
    parts = []
    for part in ("train", "test"):
        path = folder / f"emotion_{part}.txt"
        lines = [line for line in read_text(path).splitlines()[1:] if line]
        pairs = [tuple(line.rsplit(";", 1)) for line in lines]
        parts.append(_labelled([(pair[0], pair[-1]) for pair in pairs], EMOTIONS, path))
    return Texts(train=parts[0], test=parts[1], classes=len(EMOTIONS))


def spam_texts(folder: Path) -> Texts:
    """Read the SMS spam task: 5,574 messages, a seeded fifth of them kept for the test."""
    path = folder / "sms_spam.tsv"
    lines = [line for line in read_text(path).split("\n")[1:] if line]
    pairs = [line.split("\t", 1) for line in lines]
    messages = _labelled([(pair[-1], pair[0]) for pair in pairs], SPAM_LABELS, path)
    if len(messages) <= SPAM_TEST:
        raise ValueError(
            f"text file {path} must hold more than {SPAM_TEST} messages (got {len(messages)}); fetch it again"
        )
    order = np.random.default_rng(SPAM_SEED).permutation(len(messages))
    chosen = [messages[i] for i in order]
    return Texts(train=chosen[SPAM_TEST:], test=chosen[:SPAM_TEST], classes=len(SPAM_LABELS))


def _labelled(pairs: list[tuple[str, str]], labels: tuple[str, ...], path: Path) -> list[tuple[str, int]]:
    """Return (text, class id) after checking the labels."""
    wrong = next((label for _, label in pairs if label not in labels), None)
    if not pairs or wrong is not None:
        raise ValueError(
            f"text file {path} must label every line with one of {', '.join(labels)} (got {wrong!s:.30}); "
            "fetch it again"
        )
    return [(text, labels.index(label)) for text, label in pairs]


def _model(source: Source, *, name: str, read: Callable[[Path], Texts]) -> nn.Module:
    texts = read(data_folder(source.data, "text", name))
    known = known_words(texts)

    def train() -> nn.Module:
        x, y = encode(texts.train, known)
        with seeded(source.seed):
            return train_classifier(BertTiny(len(known), texts.classes), x, y, SCHEDULE, source.progress)

    path = source.weights or trained(name, source, train)
    return load_into(BertTiny(len(known), texts.classes), read_state(path), path)


def _samples(source: Source, *, name: str, read: Callable[[Path], Texts]) -> Samples:
    texts = read(data_folder(source.data, "text", name))
    x, y = encode(texts.test + texts.train, known_words(texts))
    return Samples(x=x, y=y, evaluable=len(texts.test))


BERT_WORKLOADS = tuple(
    Workload(
        name=name,
        description=f"BERT-Tiny on {task}, trained on first use",
        origin=f"weights: trained by workloads.train_text; text: {licence}",
        metric="top1",
        input_shape=(TOKENS,),
        model=partial(_model, name=name, read=read),
        data=partial(_samples, name=name, read=read),
        tokens=True,
        needs_cache=True,
    )
    for name, task, licence, read in (
        ("bert-tiny-emotion", "six emotions of sentences", "dair-ai emotion", emotion_texts),
        ("bert-tiny-spam", "SMS spam", "UCI SMS spam collection, CC-BY 4.0", spam_texts),
    )
)
