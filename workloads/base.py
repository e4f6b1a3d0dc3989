"""What a workload is: a trained network, its samples and the number it is judged by.

Networks come out as float torch modules in eval mode, samples as numpy arrays in torch layout, already
preprocessed. Nothing here knows about quantization or hardware.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

IGNORED = -100
"""Label of a position that no metric looks at (torch's own value for it)."""


def _silent(share: float) -> None:
    """Report nothing."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a network and its samples come from.

    Parameters
    ----------
    data
        Folder of real weights and samples (`--data`); None where the user gave none.
    cache
        Folder for checkpoints that are trained on first use; None where none may be written.
    weights
        A checkpoint to load instead of the workload's own.
    seed
        Seed of whatever is random (only the networks trained on first use depend on it).
    progress
        Called now and then while a network is trained, with the share that is done (0..1).
    """

    data: Path | None = None
    cache: Path | None = None
    weights: Path | None = None
    seed: int = 0
    progress: Callable[[float], None] = field(default=_silent, repr=False)


class Inputs(Protocol):
    """A sequence of network inputs, decoded when asked for."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __getitem__(self, indices: np.ndarray, /) -> np.ndarray:
        """Return the samples at ``indices`` as one array, batch first."""
        ...


def _unchanged(raw: np.ndarray) -> np.ndarray:
    """Return the samples as they are stored."""
    return raw


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Labelled samples of one task, in one index space.

    Parameters
    ----------
    x
        Stored inputs, batch first (an array, or a sequence that decodes what is asked for).
    y
        Labels, one row a sample: class ids [N], or token ids [N, T] with `IGNORED` where nothing counts.
    prepare
        Turns stored inputs into network inputs (float32 in torch layout, or int64 token ids).
    evaluable
        The first so many samples may be evaluated; those behind them serve calibration only.
        None: there is no separate calibration set.
    """

    x: Inputs
    y: np.ndarray
    prepare: Callable[[np.ndarray], np.ndarray] = _unchanged
    evaluable: int | None = None

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(
                f"Samples.x and Samples.y must be equally long (got {len(self.x)} and {len(self.y)}); "
                "give one label per sample"
            )
        if self.evaluable is not None and not 1 <= self.evaluable <= len(self.y):
            raise ValueError(
                f"Samples.evaluable must be in 1..{len(self.y)} (got {self.evaluable}); "
                "give the number of samples that may be evaluated"
            )

    def __len__(self) -> int:
        """Return the number of samples, those for calibration included."""
        return len(self.y)

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """Return network inputs [B, ...], contiguous, in the order of ``indices``."""
        return np.ascontiguousarray(self.prepare(self.x[np.asarray(indices, dtype=np.int64)]))

    def labels(self, indices: np.ndarray) -> np.ndarray:
        """Return the labels [B] or [B, T] of ``indices``."""
        return self.y[np.asarray(indices, dtype=np.int64)]


def split(samples: Samples, images: int | None, calib: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose samples to calibrate on and samples to evaluate; no sample is in both.

    A separate calibration set is used where there is one; else the calibrated samples, two thirds of all at most,
    are left out of the evaluation. Asking for more than there is gives what there is, so the caller reports the
    lengths.

    Parameters
    ----------
    samples
        What to choose from.
    images
        Samples to evaluate, drawn at random; None for all.
    calib
        Samples to calibrate on.
    seed
        The same seed gives the same choice; the calibrated ones do not depend on ``images``.

    Returns
    -------
    calib_idx, eval_idx
        Int64 index arrays, evaluated ones ascending.

    Raises
    ------
    ValueError
        If ``images`` or ``calib`` is below 1, or there is but one sample for both.
    """
    if images is not None and images < 1:
        raise ValueError(f"images must be >= 1 (got {images}); give the number of samples to evaluate")
    if calib < 1:
        raise ValueError(f"calib must be >= 1 (got {calib}); give the number of samples to calibrate on")
    calib_rng, eval_rng = (np.random.default_rng([seed, part]) for part in (0, 1))
    pool = np.arange(len(samples) if samples.evaluable is None else samples.evaluable)
    if samples.evaluable is not None and samples.evaluable < len(samples):
        calib_idx = calib_rng.permutation(np.arange(samples.evaluable, len(samples)))[:calib]
    else:
        if len(pool) < 2:
            raise ValueError(
                f"samples must be two or more, as those calibrated on are not evaluated (got {len(pool)}); give more"
            )
        calib_idx = calib_rng.permutation(pool)[: min(calib, max(1, len(pool) * 2 // 3))]
        pool = np.setdiff1d(pool, calib_idx)
    chosen = pool if images is None or images >= len(pool) else eval_rng.permutation(pool)[:images]
    return calib_idx.astype(np.int64), np.sort(chosen).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A trained network with its task.

    Parameters
    ----------
    name
        Name on the command line.
    description
        One line.
    origin
        Where the weights and the samples come from, with their licence.
    metric
        A key of `workloads.metrics.METRICS`.
    input_shape
        Shape of one input without the batch, in torch layout.
    model
        Gives the trained float module (any mode; `build` sets eval).
    data
        Gives the labelled samples.
    tokens
        Inputs are int64 token ids, not float32 values.
    needs_data
        The folder `Source.data` is necessary.
    needs_cache
        The network is trained on first use and kept in `Source.cache`.
    """

    name: str
    description: str
    origin: str
    metric: str
    input_shape: tuple[int, ...]
    model: Callable[[Source], nn.Module] = field(repr=False)
    data: Callable[[Source], Samples] = field(repr=False)
    tokens: bool = False
    needs_data: bool = True
    needs_cache: bool = False

    def build(
        self,
        data: Path | None = None,
        seed: int = 0,
        cache: Path | None = None,
        weights: Path | None = None,
        progress: Callable[[float], None] = _silent,
    ) -> nn.Module:
        """Return the trained module in eval mode, its parameters frozen; torch's generator stays as it was.

        Raises
        ------
        ValueError
            If a file is missing, damaged or of another shape; if a folder is needed and not given.
        """
        source = Source(data=data, cache=cache, weights=weights, seed=seed, progress=progress)
        with torch.random.fork_rng(devices=[]):  # modules draw weights before they are given theirs
            net = self.model(source)
        return net.eval().requires_grad_(False)

    def samples(self, data: Path | None = None, weights: Path | None = None) -> Samples:
        """Return the labelled samples, preprocessed as the weights want it where that depends on them.

        Raises
        ------
        ValueError
            If a file is missing or damaged, or the folder is needed and not given.
        """
        return self.data(Source(data=data, weights=weights))
