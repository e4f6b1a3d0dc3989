"""The character LSTM computes what TensorFlow's cell computes, and reaches its known figure."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from workloads import METRICS, WORKLOADS
from workloads.evaluate import evaluate
from workloads.lstm import CharLSTM, gates_from_tensorflow

CHAR_LSTM = WORKLOADS["char-lstm"]


def basic_lstm_cell(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Run TensorFlow's BasicLSTMCell over x [T, inputs] as its documentation defines it."""

    def sigmoid(z: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-z))

    cells = len(bias) // 4
    hidden, cell = np.zeros(cells), np.zeros(cells)
    out = []
    for step in x:
        gates = np.concatenate([step, hidden]) @ kernel + bias
        i, j, f, o = gates[:cells], gates[cells : 2 * cells], gates[2 * cells : 3 * cells], gates[3 * cells :]
        cell = cell * sigmoid(f + 1) + sigmoid(i) * np.tanh(j)
        hidden = np.tanh(cell) * sigmoid(o)
        out.append(hidden)
    return np.array(out)


def test_a_converted_cell_computes_what_the_original_does(rng: np.random.Generator):
    inputs, cells = 3, 5
    kernel = rng.normal(size=(inputs + cells, 4 * cells)).astype(np.float32)
    bias = rng.normal(size=4 * cells).astype(np.float32)
    layer = nn.LSTM(inputs, cells, batch_first=True)
    layer.load_state_dict({f"{n}_l0": t for n, t in gates_from_tensorflow(kernel, bias, inputs).items()})
    x = rng.normal(size=(1, 7, inputs)).astype(np.float32)
    with torch.no_grad():
        found = layer(torch.from_numpy(x))[0][0].numpy()
    np.testing.assert_allclose(found, basic_lstm_cell(x[0], kernel, bias), atol=1e-5)


def test_bits_per_character_on_part_of_the_text_are_the_known_ones(data_dir: Path):
    metric = METRICS["bits_per_char"]
    tallies = evaluate(CHAR_LSTM.build(data_dir), CHAR_LSTM.samples(data_dir), metric, np.arange(0, 2900, 10))
    assert metric.value(tallies) == pytest.approx(1.90, abs=0.04)
    assert (tallies[:, 1] == 100).all()


def test_it_exports_whole():
    net, ids = CharLSTM().eval(), torch.arange(20).reshape(2, 10)
    for strict in (True, False):
        with warnings.catch_warnings():
            # torch notes that nn.LSTM keeps a plain list of its weights
            warnings.filterwarnings("ignore", message="The tensor attributes")
            exported = torch.export.export(net, (ids,), strict=strict).module()
        assert torch.equal(exported(ids), net(ids))


def test_another_vocabulary_is_refused(data_dir: Path, tmp_path: Path):
    (tmp_path / "bronte_eval.txt").write_text("x" * 500)
    for content in ("[1, 2]", '{"a": 1}', '{" ": 200}', "{"):
        (tmp_path / "char_lstm_bronte.vocab.json").write_text(content)
        with pytest.raises(ValueError, match=r"0\.\.107"):
            CHAR_LSTM.samples(tmp_path)


def test_a_checkpoint_of_other_sizes_is_refused(tmp_path: Path):
    cell = "rnnlm.multi_rnn_cell.cell_0.basic_lstm_cell"
    np.savez(tmp_path / "w.npz", **{f"{cell}.kernel": np.zeros((2, 8)), f"{cell}.bias": np.zeros(8)})
    with pytest.raises(ValueError, match="missing"):
        CHAR_LSTM.build(weights=tmp_path / "w.npz")
