"""A trained character LSTM: two layers of 128 cells, from ml5js/ml5-data-and-models.

The checkpoint is of TensorFlow's BasicLSTMCell: one kernel [inputs + cells, 4 cells] a layer, gates in the
order i, j, f, o, and 1 added to the forget gate when it runs. Here it becomes torch's ``nn.LSTM`` (gates
i, f, g, o) with the 1 in the bias.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from workloads.base import Samples, Source, Workload
from workloads.datasets import data_folder
from workloads.text import read_text, windows
from workloads.weights import load_into, read_arrays

CELLS = 128
CHARACTERS = 108
WINDOW = 150
WARM_UP = 50  # labels of a window that do not count, while the state fills
FORGET_BIAS = 1.0  # BasicLSTMCell's default


class CharLSTM(nn.Module):
    """Character ids [B, T] -> logits of the next character [B, T, 108]; the state starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, CELLS)
        self.lstm = nn.LSTM(CELLS, CELLS, num_layers=2, batch_first=True)
        self.linear = nn.Linear(CELLS, CHARACTERS)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        hidden, _ = self.lstm(self.embedding(ids))
        return self.linear(hidden)


def gates_from_tensorflow(kernel: np.ndarray, bias: np.ndarray, inputs: int) -> dict[str, torch.Tensor]:
    """Turn one BasicLSTMCell into the four tensors of a torch LSTM layer.

    Parameters
    ----------
    kernel
        [inputs + cells, 4 cells], gates i, j, f, o.
    bias
        [4 cells].
    inputs
        Width of the layer's input.

    Returns
    -------
    tensors
        ``weight_ih`` [4 cells, inputs], ``weight_hh`` [4 cells, cells], ``bias_ih`` and ``bias_hh``, gates
        i, f, g, o; all of the bias is in ``bias_ih``.
    """

    def reordered(array: np.ndarray) -> np.ndarray:
        i, j, f, o = np.split(array, 4, axis=-1)
        return np.ascontiguousarray(np.concatenate([i, f, j, o], axis=-1).T)

    i, j, f, o = np.split(bias, 4)
    shifted = np.concatenate([i, j, f + np.float32(FORGET_BIAS), o])
    tensors = {
        "weight_ih": reordered(kernel[:inputs]),
        "weight_hh": reordered(kernel[inputs:]),
        "bias_ih": reordered(shifted),
        "bias_hh": np.zeros_like(bias),
    }
    return {name: torch.from_numpy(array) for name, array in tensors.items()}


def read_char_lstm(path: Path) -> CharLSTM:
    """Read the checkpoint.

    Raises
    ------
    ValueError
        If the file is missing, damaged or another network's.
    """
    arrays = read_arrays(path)
    state = {}
    for ours, theirs, transpose in (
        ("embedding.weight", "embedding", False),
        ("linear.weight", "rnnlm.softmax_w", True),
        ("linear.bias", "rnnlm.softmax_b", False),
    ):
        if theirs in arrays:
            array = arrays[theirs].T if transpose else arrays[theirs]
            state[ours] = torch.from_numpy(np.ascontiguousarray(array))
    for layer in (0, 1):
        cell = f"rnnlm.multi_rnn_cell.cell_{layer}.basic_lstm_cell"
        kernel, bias = arrays.get(f"{cell}.kernel"), arrays.get(f"{cell}.bias")
        if kernel is not None and bias is not None and kernel.shape == (2 * CELLS, 4 * CELLS) == (256, len(bias)):
            for name, tensor in gates_from_tensorflow(kernel, bias, CELLS).items():
                state[f"lstm.{name}_l{layer}"] = tensor
    net = CharLSTM()
    load_into(net, state, path)
    return net


def char_samples(folder: Path) -> Samples:
    """Return windows of the evaluation text; characters without an id count as spaces."""
    ids = _character_ids(folder / "char_lstm_bronte.vocab.json")
    path = folder / "bronte_eval.txt"
    stream = np.array([ids.get(c, ids[" "]) for c in read_text(path)], dtype=np.int64)
    x, y = windows(stream, WINDOW, WARM_UP, path)
    return Samples(x=x, y=y)


def _character_ids(path: Path) -> dict[str, int]:
    """Return the id of every character."""
    try:
        ids = json.loads(read_text(path))
        good = isinstance(ids, dict) and all(isinstance(i, int) and 0 <= i < CHARACTERS for i in ids.values())
    except (json.JSONDecodeError, RecursionError):
        good = False
    if not good or " " not in ids:
        raise ValueError(f"vocabulary {path} must map characters, space among them, to 0..107; fetch it again")
    return dict(ids)


def _model(source: Source) -> nn.Module:
    folder = None if source.weights else data_folder(source.data, "text", "char-lstm")
    return read_char_lstm(source.weights or Path(folder or "") / "char_lstm_bronte.npz")


def _samples(source: Source) -> Samples:
    return char_samples(data_folder(source.data, "text", "char-lstm"))


CHAR_LSTM = Workload(
    name="char-lstm",
    description="two-layer character LSTM of 128 cells on English prose",
    origin="weights and text: ml5js/ml5-data-and-models, MIT",
    metric="bits_per_char",
    input_shape=(WINDOW,),
    model=_model,
    data=_samples,
    tokens=True,
)
