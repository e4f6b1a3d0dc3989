"""The word LSTM: what it knows, and that training and evaluation see different text."""

from pathlib import Path

import numpy as np
import pytest
import torch

from workloads import IGNORED, WORKLOADS, wikitext
from workloads.base import split
from workloads.text import read_text
from workloads.wikitext import WordLSTM, words_of

WIKITEXT = WORKLOADS["wikitext2-lstm"]


def test_the_real_parts_have_their_published_sizes(data_dir: Path):
    valid, test = (list(words_of(read_text(data_dir / "text" / f"wikitext2_{part}.txt"))) for part in ("valid", "test"))
    # Merity et al., Table 1: 217,646 and 245,569 tokens, ends of lines among them
    assert (len(valid), len(test)) == (217_646, 245_569)


def test_evaluated_windows_are_of_the_test_part_and_calibrated_ones_of_the_other(data_dir: Path):
    samples = WIKITEXT.samples(data_dir)
    assert samples.evaluable is not None
    calibrated, evaluated = split(samples, 50, 40, seed=0)
    assert evaluated.max() < samples.evaluable <= calibrated.min()
    x, y = samples.batch(evaluated), samples.labels(evaluated)
    counted = y != IGNORED
    assert (counted.sum(axis=1) == wikitext.WINDOW - wikitext.WARM_UP).all()
    np.testing.assert_array_equal(x[:, 1:][counted[:, :-1]], y[:, :-1][counted[:, :-1]])


def test_dropout_and_the_carried_state_are_of_training_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wikitext, "CELLS", 8)
    torch.manual_seed(0)
    net, ids = WordLSTM(13), torch.arange(24).reshape(2, 12) % 13
    whole, _ = net.unroll(ids, None, 0.0)
    first, state = net.unroll(ids[:, :5], None, 0.0)
    second, _ = net.unroll(ids[:, 5:], state, 0.0)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(net.eval()(ids), whole)
    assert not torch.allclose(net.train().unroll(ids, None, 0.5)[0], whole)
    assert net.lstm.dropout == 0.0
