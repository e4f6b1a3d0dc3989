"""Samples from an npz file: ``x`` as the network takes it, and labels ``y`` where there are any."""

from pathlib import Path

import numpy as np
from torch import nn

from workloads.base import Samples
from workloads.forward import forward
from workloads.weights import read_arrays

BATCH = 64
"""Samples per run where labels are the float network's own answers."""


def read_samples(path: Path | None) -> dict[str, np.ndarray]:
    """Return the arrays ``x`` and, where there, ``y`` of an npz file, checked.

    Returns
    -------
    arrays
        ``x`` float32 ``[N, ...]`` or int64 token ids ``[N, T]``; ``y`` int64 ``[N]`` or ``[N, T]``.

    Raises
    ------
    ValueError
        If there is no such file, or its arrays do not fit together.
    """
    if path is None or path.suffix != ".npz":
        raise ValueError(
            f"this network needs --data FILE.npz with its inputs x and labels y (got {path}); save them with "
            "numpy.savez(FILE, x=..., y=...), preprocessed, batch first"
        )
    found = read_arrays(path)
    if "x" not in found or found["x"].ndim < 2 or not len(found["x"]):
        shape = found["x"].shape if "x" in found else sorted(found)
        raise ValueError(f"data file {path} must have an array x, batch first (got {shape}); save x and y in it")
    x = found["x"]
    if x.dtype.kind not in "fiu":
        raise ValueError(f"data file {path}: x must hold numbers (got {x.dtype}); save float32, or int64 token ids")
    arrays = {"x": x.astype(np.float32 if x.dtype.kind == "f" else np.int64)}
    if "y" in found:
        y = found["y"]
        if y.dtype.kind not in "iu" or len(y) != len(x):
            raise ValueError(
                f"data file {path}: y must be {len(x)} whole numbers, one row a sample (got {y.dtype} {y.shape}); save "
                "class ids, or leave y out to measure agreement with the float network"
            )
        arrays["y"] = y.astype(np.int64)
    return arrays


def array_samples(arrays: dict[str, np.ndarray], net: nn.Module, name: str) -> Samples:
    """Return samples; without labels these are the float network's own answers.

    Raises
    ------
    ValueError
        If the network does not take such samples.
    """
    return Samples(x=arrays["x"], y=arrays["y"] if "y" in arrays else answers(net, arrays["x"], name))


def answers(net: nn.Module, x: np.ndarray, name: str) -> np.ndarray:
    """Return the place of the largest output of every sample (and position), int64."""
    parts = (x[start : start + BATCH] for start in range(0, len(x), BATCH))
    return np.concatenate([forward(net, part, name).argmax(-1).numpy() for part in parts]).astype(np.int64)
