"""A small Llama-type language model in llama2.c's file format: stories260K.

Touvron et al., "Llama 2", arXiv 2307.09288: RMS norm before attention and feed-forward, rotary positions,
grouped key and value heads, SwiGLU; the classifier shares the embedding. The file is a header of seven
little-endian int32 and then float32 tensors in a fixed order.
"""

import math
import struct
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from workloads.base import IGNORED, Samples, Source, Workload
from workloads.bpe import BOS, encode, read_tokens
from workloads.datasets import data_folder
from workloads.text import read_text
from workloads.weights import load_into

TOKENS = 512  # window, the model's context; the longest story of the sample text has 457 tokens
PAD = 0  # behind the end of a story, where no label counts and attention does not look back from
NORM_EPS = 1e-5
ROTARY_BASE = 10000.0
STORY_END = "<|endoftext|>"
MAX_PARAMETERS = 1 << 30  # a header that claims more is damage or malice

SPARE_SEQUENCES, SPARE_SEED = 16, 0  # drawn from the float model, for calibration
DRAWN_SEQUENCES, DRAWN_SEED = 48, 1  # drawn from it, to evaluate on


@dataclass(frozen=True, kw_only=True)
class LlamaShape:
    """Sizes of the network, as in the file's header (``context`` is its longest sequence)."""

    dim: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    context: int

    def __post_init__(self) -> None:
        sizes = (self.dim, self.hidden, self.layers, self.heads, self.kv_heads, self.vocab, self.context)
        if min(sizes) < 1 or self.dim % self.heads or self.heads % self.kv_heads or self.head_dim % 2:
            raise ValueError(f"LlamaShape sizes must be positive, heads dividing evenly (got {sizes}); check the file")

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.dim // self.heads


class Attention(nn.Module):
    """Causal self-attention with rotary positions; a group of heads shares each key and value head."""

    def __init__(self, shape: LlamaShape, tokens: int) -> None:
        super().__init__()
        self.shape = shape
        kv_dim = shape.kv_heads * shape.head_dim
        self.query = nn.Linear(shape.dim, shape.dim, bias=False)
        self.key = nn.Linear(shape.dim, kv_dim, bias=False)
        self.value = nn.Linear(shape.dim, kv_dim, bias=False)
        self.out = nn.Linear(shape.dim, shape.dim, bias=False)
        half = shape.head_dim // 2
        frequency = ROTARY_BASE ** (-torch.arange(half, dtype=torch.float64) / half)
        angle = torch.arange(tokens, dtype=torch.float64)[:, None] * frequency.repeat(2)
        self.register_buffer("cos", angle.cos().float(), persistent=False)
        # the first half of a head is turned the other way, so its sines are negative
        sign = torch.cat([-torch.ones(half), torch.ones(half)])
        self.register_buffer("sin", angle.sin().float() * sign, persistent=False)
        later = torch.full((tokens, tokens), -math.inf).triu(1)
        self.register_buffer("mask", later, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, T, dim] to [B, T, dim]."""
        query, key, value = self.project(x, start=0)
        return self.attend(query, key, value)

    def project(self, x: torch.Tensor, start: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return query [B, heads, T, head_dim], key and value [B, kv_heads, T, head_dim] of positions ``start`` on."""
        query = self._rotated(self._heads(self.query(x), self.shape.heads), start)
        key = self._rotated(self._heads(self.key(x), self.shape.kv_heads), start)
        return query, key, self._heads(self.value(x), self.shape.kv_heads)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Return [B, Q, dim] for the last Q positions of the K that key and value hold."""
        group = self.shape.heads // self.shape.kv_heads
        key, value = key.repeat_interleave(group, dim=1), value.repeat_interleave(group, dim=1)
        scores = torch.matmul(query, key.transpose(2, 3)) * (1 / math.sqrt(self.shape.head_dim))
        end = key.shape[2]
        mask = self._positions("mask", end - query.shape[2], end)
        scores = scores + (mask if mask.shape[1] == end else mask[:, :end])
        weights = torch.softmax(scores, dim=-1)
        return self.out(torch.matmul(weights, value).transpose(1, 2).flatten(2))

    def _heads(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        """[B, T, heads * head_dim] -> [B, heads, T, head_dim]."""
        return x.unflatten(2, (heads, self.shape.head_dim)).transpose(1, 2)

    def _rotated(self, x: torch.Tensor, start: int) -> torch.Tensor:
        """Turn dimension i against dimension i + head_dim / 2 by the position's angle."""
        end, half = start + x.shape[2], self.shape.head_dim // 2
        crossed = torch.cat([x[..., half:], x[..., :half]], dim=-1)
        return x * self._positions("cos", start, end) + crossed * self._positions("sin", start, end)

    def _positions(self, table: str, start: int, end: int) -> torch.Tensor:
        """Return the rows of a table for some positions; the table itself for all, so no slice is exported."""
        rows = self.get_buffer(table)
        return rows if (start, end) == (0, len(rows)) else rows[start:end]


class Block(nn.Module):
    """Attention and SwiGLU feed-forward, each behind an RMS norm and inside a residual add."""

    def __init__(self, shape: LlamaShape, tokens: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(shape.dim, eps=NORM_EPS)
        self.attention = Attention(shape, tokens)
        self.feed_norm = nn.RMSNorm(shape.dim, eps=NORM_EPS)
        self.gate = nn.Linear(shape.dim, shape.hidden, bias=False)
        self.up = nn.Linear(shape.dim, shape.hidden, bias=False)
        self.down = nn.Linear(shape.hidden, shape.dim, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, T, dim] to [B, T, dim]."""
        return self.feed(x + self.attention(self.attention_norm(x)))

    def feed(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, T, dim] to [B, T, dim], position by position."""
        inner = self.feed_norm(x)
        return x + self.down(functional.silu(self.gate(inner)) * self.up(inner))


class Llama(nn.Module):
    """Token ids [B, T] -> logits of the next token [B, T, vocab], for T up to ``tokens``."""

    def __init__(self, shape: LlamaShape, tokens: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.vocab, shape.dim)
        self.blocks = nn.Sequential(*(Block(shape, tokens) for _ in range(shape.layers)))
        self.norm = nn.RMSNorm(shape.dim, eps=NORM_EPS)
        self.classify = nn.Linear(shape.dim, shape.vocab, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return self.classify(self.norm(self.blocks(self.embedding(ids))))


def read_llama(path: Path, tokens: int = TOKENS) -> Llama:
    """Read a float32 checkpoint of llama2.c's first format.

    The file turns neighbouring dimensions of a head against each other; rows of the query and key matrices
    are reordered so that the two halves of a head are turned, which gives the same products.

    Raises
    ------
    ValueError
        If the file is missing, of an impossible shape, or not exactly as long as its header says.
    """
    if not path.is_file():
        raise ValueError(f"weights file {path} must exist; give --data DIR with the folder that holds it")
    content = path.read_bytes()
    if len(content) < 28:
        raise ValueError(f"weights file {path} must begin with seven int32 (got {len(content)} bytes); fetch it again")
    header = struct.unpack("<7i", content[:28])
    try:
        # a negative vocabulary size says that the classifier has weights of its own
        shape = LlamaShape(
            dim=header[0], hidden=header[1], layers=header[2], heads=header[3], kv_heads=header[4],
            vocab=abs(header[5]), context=header[6],
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(f"weights file {path} must be a llama2.c checkpoint ({error})") from None
    layout = _layout(shape, own_classifier=header[5] < 0)
    count = sum(math.prod(dims) for _, dims in layout)
    if count > MAX_PARAMETERS or len(content) != 28 + 4 * count:
        raise ValueError(
            f"weights file {path} must have {28 + 4 * count} bytes for its header's sizes (got {len(content)}); "
            "it is truncated or another format: fetch it again"
        )
    values, at = np.frombuffer(content, dtype="<f4", offset=28), 0
    stored: dict[str, np.ndarray] = {}
    for name, dims in layout:
        size = math.prod(dims)
        stored[name] = values[at : at + size].reshape(dims)
        at += size
    net = Llama(shape, tokens)
    load_into(net, _state(shape, stored), path)
    return net


def _layout(shape: LlamaShape, own_classifier: bool) -> list[tuple[str, tuple[int, ...]]]:
    """Return names and shapes of the tensors in the file's order."""
    layers, dim, hidden, half = shape.layers, shape.dim, shape.hidden, shape.head_dim // 2
    kv_dim = shape.kv_heads * shape.head_dim
    layout: list[tuple[str, tuple[int, ...]]] = [
        ("embedding", (shape.vocab, dim)),
        ("attention_norm", (layers, dim)),
        ("query", (layers, dim, dim)),
        ("key", (layers, kv_dim, dim)),
        ("value", (layers, kv_dim, dim)),
        ("out", (layers, dim, dim)),
        ("feed_norm", (layers, dim)),
        ("gate", (layers, hidden, dim)),
        ("down", (layers, dim, hidden)),
        ("up", (layers, hidden, dim)),
        ("norm", (dim,)),
        ("cos", (shape.context, half)),  # the rotary tables, which are computed here instead
        ("sin", (shape.context, half)),
    ]
    return [*layout, ("classify", (shape.vocab, dim))] if own_classifier else layout


def _state(shape: LlamaShape, stored: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Return the tensors under torch's names."""

    def halves(rows: np.ndarray) -> np.ndarray:
        """Bring rows 0, 2, 4 .. of each head before rows 1, 3, 5 .."""
        return rows.reshape(-1, shape.head_dim // 2, 2, shape.dim).transpose(0, 2, 1, 3).reshape(rows.shape)

    state = {
        "embedding.weight": stored["embedding"],
        "norm.weight": stored["norm"],
        "classify.weight": stored.get("classify", stored["embedding"]),
    }
    for layer in range(shape.layers):
        block = f"blocks.{layer}"
        for name in ("attention_norm", "feed_norm", "gate", "up", "down"):
            state[f"{block}.{name}.weight"] = stored[name][layer]
        for name in ("query", "key", "value", "out"):
            rows = stored[name][layer]
            state[f"{block}.attention.{name}.weight"] = halves(rows) if name in ("query", "key") else rows
    return {name: torch.from_numpy(np.array(array)) for name, array in state.items()}


def sample_text(net: Llama, sequences: int, tokens: int, seed: int) -> np.ndarray:
    """Draw text from the float model at temperature 1: int64 [sequences, tokens + 1], BOS first.

    Keys and values of earlier positions are kept, so each token costs one position.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = [torch.full((sequences, 1), BOS)]
    kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    with torch.inference_mode():
        for position in range(tokens):
            logits = _next_logits(net, ids[-1], position, kept)
            likely = torch.softmax(logits.double(), dim=-1)
            ids.append(torch.multinomial(likely, 1, generator=generator))
        return torch.cat(ids, dim=1).clone().numpy()


def _next_logits(
    net: Llama, ids: torch.Tensor, position: int, kept: dict[int, tuple[torch.Tensor, torch.Tensor]]
) -> torch.Tensor:
    """Return logits [B, vocab] after ids [B, 1] at ``position``; keys and values are added to ``kept``."""
    x = net.embedding(ids)
    for number, block in enumerate(net.blocks):
        assert isinstance(block, Block)
        query, key, value = block.attention.project(block.attention_norm(x), start=position)
        if number in kept:
            key, value = (torch.cat(pair, dim=2) for pair in zip(kept[number], (key, value), strict=True))
        kept[number] = key, value
        x = block.feed(x + block.attention.attend(query, key, value))
    return torch.Tensor(net.classify(net.norm(x))[:, 0])


def story_windows(text: str, tokens: list[tuple[float, bytes]], path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return one window per story (more where it is longer than a window): x, y int64 [N, TOKENS]."""
    stories = [story for part in text.split(STORY_END) if (story := part.strip())]
    if not stories:
        raise ValueError(f"text file {path} must hold stories parted by {STORY_END} (got none); fetch it again")
    rows = []
    for story in stories:
        ids = encode(story, tokens)
        rows += [ids[at : at + TOKENS + 1] for at in range(0, len(ids) - 1, TOKENS)]
    x = np.full((len(rows), TOKENS), PAD, dtype=np.int64)
    y = np.full((len(rows), TOKENS), IGNORED, dtype=np.int64)
    for row, ids in enumerate(rows):
        x[row, : len(ids) - 1] = ids[:-1]
        y[row, : len(ids) - 1] = ids[1:]
    return x, y


@lru_cache(maxsize=2)
def _drawn(path: Path, changed_ns: int, sequences: int, seed: int) -> np.ndarray:
    """Return sequences drawn from a checkpoint; the last ones stay in memory."""
    drawn = sample_text(read_llama(path).eval(), sequences, TOKENS, seed)
    drawn.flags.writeable = False
    return drawn


def _checkpoint(source: Source) -> Path:
    return source.weights or data_folder(source.data, "text", "stories260k") / "stories260K.bin"


def _model(source: Source) -> nn.Module:
    return read_llama(_checkpoint(source))


def _samples(source: Source, *, drawn: bool) -> Samples:
    """Return stories or sequences drawn from the model, then drawn ones that serve calibration."""
    path = _checkpoint(source)
    changed_ns = path.stat().st_mtime_ns if path.is_file() else 0
    if drawn:
        ids = _drawn(path, changed_ns, DRAWN_SEQUENCES, DRAWN_SEED)
        x, y = ids[:, :-1], ids[:, 1:]
    else:
        folder = data_folder(source.data, "text", "stories260k")
        text = folder / "tinystories_sample.txt"
        x, y = story_windows(read_text(text), read_tokens(folder / "tok512.bin"), text)
    spare = _drawn(path, changed_ns, SPARE_SEQUENCES, SPARE_SEED)
    return Samples(x=np.concatenate([x, spare[:, :-1]]), y=np.concatenate([y, spare[:, 1:]]), evaluable=len(x))


LLAMA_WORKLOADS = (
    Workload(
        name="stories260k",
        description="Llama-type model of 260 thousand parameters on a TinyStories sample; calibrated on its own text",
        origin="weights: karpathy/tinyllamas, MIT; text: TinyStories, Eldan and Li 2023",
        metric="perplexity",
        input_shape=(TOKENS,),
        model=_model,
        data=partial(_samples, drawn=False),
        tokens=True,
    ),
    Workload(
        name="stories260k-sampled",
        description="the same model on text drawn from itself (seeded): how far a quantized one departs from it",
        origin="weights: karpathy/tinyllamas, MIT; text: drawn from the model",
        metric="perplexity",
        input_shape=(TOKENS,),
        model=_model,
        data=partial(_samples, drawn=True),
        tokens=True,
    ),
)
