"""Checkpoints that are trained on first use and kept in a folder of the caller's."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from workloads.base import Source


def trained(name: str, source: Source, train: Callable[[], nn.Module]) -> Path:
    """Return the checkpoint ``name`` of ``source.seed``, training it if it is not in ``source.cache`` yet.

    Parameters
    ----------
    name
        Name of the workload; part of the file name.
    source
        Gives the folder, made if it does not exist, and the seed.
    train
        Gives the trained network; called at most once.

    Raises
    ------
    ValueError
        If no folder was given, or it cannot be written.
    """
    if source.cache is None:
        raise ValueError(
            f"{name} is trained on first use and needs a folder to keep its weights in (got none); "
            "give a cache folder or --weights FILE"
        )
    path = source.cache / f"{name}-seed{source.seed}.safetensors"
    if path.is_file():
        return path
    try:
        source.cache.mkdir(parents=True, exist_ok=True)
        writable = os.access(source.cache, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise ValueError(f"cache folder {source.cache} must be a folder that can be written; give another")
    # cloned, because the file format has no shared tensors
    state = {n: t.clone(memory_format=torch.contiguous_format) for n, t in train().state_dict().items()}
    # under another name first, so that a broken-off write is never taken for a checkpoint
    with tempfile.NamedTemporaryFile(dir=source.cache, prefix=name, suffix=".part", delete=False) as part:
        part.write(save(state))
    os.replace(part.name, path)
    return path
