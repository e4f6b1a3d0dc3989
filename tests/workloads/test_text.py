"""Windows count every label once, vocabularies are deterministic, tokenizers lose nothing."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads import IGNORED
from workloads.bert import words_of as bert_words
from workloads.bpe import BOS, FIRST_BYTE, encode, read_tokens
from workloads.text import read_text, vocabulary, windows
from workloads.wikitext import words_of


@given(st.integers(2, 200), st.integers(1, 20), st.data())
def test_windows_count_every_label_at_most_once_and_label_with_what_follows(n: int, tokens: int, data: st.DataObject):
    skip = data.draw(st.integers(0, tokens - 1))
    ids = np.arange(n)
    if n < tokens + 1:
        with pytest.raises(ValueError, match="must hold more than"):
            windows(ids, tokens, skip, Path("t"))
        return
    x, y = windows(ids, tokens, skip, Path("t"))
    assert (y[:, :skip] == IGNORED).all()
    np.testing.assert_array_equal(y[:, skip:], x[:, skip:] + 1)
    counted = y[:, skip:].ravel()
    np.testing.assert_array_equal(counted, np.arange(skip + 1, skip + 1 + len(counted)))
    assert n - 1 - counted[-1] < tokens - skip  # only what does not fill a window is left out


def test_a_vocabulary_is_ranked_by_count_then_spelling():
    known = vocabulary(["b", "a", "c", "a", "b", "c", "d", "<unk>"], ("<pad>", "<unk>"), at_least=2)
    assert list(known.ids) == ["<pad>", "<unk>", "a", "b", "c"]
    assert known.encode(["c", "d", "<unk>", "a"]) == [4, 1, 1, 2]


def test_a_text_that_is_missing_or_not_utf8_is_one_line(tmp_path: Path):
    with pytest.raises(ValueError, match="must exist"):
        read_text(tmp_path / "absent.txt")
    (tmp_path / "t.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="UTF-8"):
        read_text(tmp_path / "t.txt")


def test_words_are_lower_case_and_digits_and_signs_stand_alone():
    assert bert_words("I didn't win £100!") == ["i", "didn", "'", "t", "win", "£", "1", "0", "0", "!"]
    assert list(words_of(" = A B = \n c\n")) == ["=", "A", "B", "=", "<eos>", "c", "<eos>"]


def test_the_tokenizer_loses_nothing_and_merges_what_it_can(data_dir: Path):
    tokens = read_tokens(data_dir / "text" / "tok512.bin")
    text = "Once upon a time ☃\n“Hi”"
    ids = encode(text, tokens)
    assert ids[0] == BOS
    assert [tokens[i][1] for i in ids[1:4]] == [b" Once", b" upon", b" a"]
    snowman = [byte + FIRST_BYTE for byte in "☃".encode()]
    assert any(ids[at : at + 3] == snowman for at in range(len(ids)))
    content = b"".join(bytes([i - FIRST_BYTE]) if FIRST_BYTE <= i < FIRST_BYTE + 256 else tokens[i][1] for i in ids[1:])
    assert content.decode("utf-8") == " " + text


def test_a_truncated_tokenizer_is_one_line(data_dir: Path, tmp_path: Path):
    path = tmp_path / "tok.bin"
    whole = (data_dir / "text" / "tok512.bin").read_bytes()
    for length in (0, 3, 500, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="must be whole"):
            read_tokens(path)
