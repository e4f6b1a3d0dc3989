"""The byte-pair tokenizer of llama2.c: a file of scored tokens, and the encoder that goes with it."""

import struct
from itertools import pairwise
from pathlib import Path

BOS = 1
FIRST_BYTE = 3  # id of byte 0, for characters without a token


def read_tokens(path: Path) -> list[tuple[float, bytes]]:
    """Return (score, bytes) of every token of a llama2.c tokenizer file.

    Raises
    ------
    ValueError
        If the file is missing or damaged.
    """
    if not path.is_file():
        raise ValueError(f"tokenizer {path} must exist; give --data DIR with the folder that holds it")
    content = path.read_bytes()
    tokens, at = [], 4
    while at + 8 <= len(content):
        score, size = struct.unpack("<fi", content[at : at + 8])
        if size < 1 or at + 8 + size > len(content):
            break
        tokens.append((score, content[at + 8 : at + 8 + size]))
        at += 8 + size
    if at != len(content) or len(tokens) < FIRST_BYTE + 256:
        raise ValueError(f"tokenizer {path} must be whole (it ends inside a token); fetch it again")
    return tokens


def encode(text: str, tokens: list[tuple[float, bytes]]) -> list[int]:
    """Return BOS and the token ids of a text: characters first, then the best-scored neighbours merged.

    As llama2.c does, the text gets a leading space, and a character without a token becomes its bytes.
    """
    ids_of = {piece: i for i, (_, piece) in enumerate(tokens)}
    ids: list[int] = []
    for character in " " + text:
        raw = character.encode("utf-8")
        known = ids_of.get(raw)
        ids += [known] if known is not None else [byte + FIRST_BYTE for byte in raw]
    while True:
        merged = (ids_of.get(tokens[a][1] + tokens[b][1]) for a, b in pairwise(ids))
        ranked = [(-tokens[m][0], i, m) for i, m in enumerate(merged) if m is not None]
        if not ranked:
            return [BOS, *ids]
        _, at, token = min(ranked)
        ids[at : at + 2] = [token]
