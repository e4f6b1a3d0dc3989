"""Readers of text: UTF-8 files, windows of token ids, and word vocabularies.

A window is the input of a language model: ``tokens`` ids, each position labelled with the id that follows.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workloads.base import IGNORED

MAX_TEXT_BYTES = 256 << 20  # the largest text read here has 2 MB; beyond this a file is a mistake


def read_text(path: Path) -> str:
    """Return a UTF-8 text.

    Raises
    ------
    ValueError
        If the file is missing, too large or not UTF-8.
    """
    if not path.is_file():
        raise ValueError(f"text file {path} must exist; give --data DIR with the folder that holds it")
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise ValueError(f"text file {path} must have at most {MAX_TEXT_BYTES} bytes; cut it")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"text file {path} must be UTF-8; convert it") from None


def windows(ids: np.ndarray, tokens: int, skip: int, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Cut a stream of ids into overlapping windows, so that every label counts at most once.

    The network starts each window without memory, so the first ``skip`` labels do not count; the next window
    starts ``tokens - skip`` later and counts from where this one ends. What does not fill a window is left out.

    Parameters
    ----------
    ids
        Token ids [N].
    tokens
        Length of a window.
    skip
        Leading positions of a window that only warm up.
    path
        The file, for the message.

    Returns
    -------
    x, y
        int64 [windows, tokens]; `IGNORED` in the first ``skip`` columns of y.

    Raises
    ------
    ValueError
        If the stream is shorter than one window and its label.
    """
    count = (len(ids) - 1 - skip) // (tokens - skip)
    if count < 1:
        raise ValueError(f"text file {path} must hold more than {tokens} tokens (got {len(ids)}); give a longer text")
    at = np.arange(count)[:, None] * (tokens - skip) + np.arange(tokens)
    x, y = ids[at].astype(np.int64), ids[at + 1].astype(np.int64)
    y[:, :skip] = IGNORED
    return x, y


@dataclass(frozen=True)
class Vocabulary:
    """Words and their ids; words it does not know have the id of ``unknown``.

    Parameters
    ----------
    ids
        Id of every word.
    unknown
        Id of all others.
    """

    ids: dict[str, int]
    unknown: int

    def __len__(self) -> int:
        """Return the number of ids."""
        return len(self.ids)

    def encode(self, words: Iterable[str]) -> list[int]:
        """Return the ids of words."""
        return [self.ids.get(word, self.unknown) for word in words]


def vocabulary(words: Iterable[str], special: tuple[str, ...], at_least: int) -> Vocabulary:
    """Collect the words that occur ``at_least`` so often, after the special ones, by falling count then spelling.

    The first of ``special`` that is ``<unk>`` stands for all others.
    """
    counts = Counter(words)
    for word in special:
        counts.pop(word, None)
    ranked = sorted((w for w, n in counts.items() if n >= at_least), key=lambda w: (-counts[w], w))
    ids = {word: i for i, word in enumerate((*special, *ranked))}
    return Vocabulary(ids=ids, unknown=ids["<unk>"])
