"""Checkpoint files in, plain tensors out; nothing in a file is ever executed.

A damaged or foreign file is one ValueError in one line that names it.
"""

import pickle
import re
import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

SUFFIXES = (".th", ".pt", ".pth", ".bin", ".safetensors", ".npz")


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read named tensors from a torch state dict, a safetensors or an npz file.

    Torch files go through torch's restricted reader (``weights_only``); a dict under the key
    ``state_dict`` is taken out, and the prefix ``module.`` of data-parallel training is cut off.

    Raises
    ------
    ValueError
        If the file is missing, damaged, of unknown kind, or holds anything but named tensors.
    """
    if not path.is_file():
        raise ValueError(f"weights file {path} must exist; give the path of a checkpoint")
    if path.suffix == ".npz":
        return {name: _tensor(name, array, path) for name, array in read_arrays(path).items()}
    if path.suffix not in SUFFIXES:
        raise ValueError(f"weights file {path} must end in one of {', '.join(SUFFIXES)}; rename or convert it")
    try:
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            _refuse_inflation(path)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's notes about old formats
                found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # restricted reading met what is no tensor; torch's advice is to trust it
        named = re.search(r"GLOBAL ([A-Za-z_][\w.]*)", str(error))
        raise ValueError(
            f"weights file {path} must hold tensors only (it holds {named[1] if named else 'other objects'}, or is "
            "damaged, and nothing in a file is executed); save net.state_dict() in place of the network"
        ) from None
    except Exception as error:  # damaged bytes make both readers raise nearly anything
        raise ValueError(
            f"weights file {path} must be a whole checkpoint of tensors ({_first_line(error)}); "
            "it is truncated, damaged or holds other objects: fetch it again"
        ) from None
    return _named_tensors(found, path)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an npz file, without pickles.

    Raises
    ------
    ValueError
        If the file is missing, damaged, or holds objects.
    """
    if not path.is_file():
        raise ValueError(f"array file {path} must exist; give the folder that holds it")
    try:
        _refuse_inflation(path, ratio=64)
        # opened here, because numpy leaves a damaged file open
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
        strange = [name for name, value in found.items() if not isinstance(value, np.ndarray)]
        if strange:  # numpy gives a member without its own head as bytes
            raise ValueError(f"{strange[0]!r:.60} is no array")
        return found
    except Exception as error:  # damaged bytes make the reader raise nearly anything
        raise ValueError(
            f"array file {path} must be a whole npz of plain arrays ({_first_line(error)}); fetch it again"
        ) from None


def load_into(net: nn.Module, state: dict[str, torch.Tensor], path: Path) -> nn.Module:
    """Copy ``state`` into ``net`` and return it.

    Raises
    ------
    ValueError
        If names or shapes do not match the network's.
    """
    wanted = net.state_dict()
    # the count of training batches is no weight, and old checkpoints lack it
    missing = [n for n in wanted if n not in state and not n.endswith("num_batches_tracked")]
    unknown = [n for n in state if n not in wanted]
    if missing or unknown:
        raise ValueError(
            f"weights file {path} must hold the tensors of {type(net).__name__} "
            f"(missing {_some(missing)}; unknown {_some(unknown)}); give this network's own checkpoint"
        )
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            raise ValueError(
                f"weights file {path}: {name} must have shape {tuple(wanted[name].shape)} "
                f"(got {tuple(tensor.shape)}); give this network's own checkpoint"
            )
    net.load_state_dict({**wanted, **state})
    return net


def _tensor(name: str, array: np.ndarray, path: Path) -> torch.Tensor:
    """Return an array as a tensor; ValueError if torch has no such type."""
    try:
        return torch.from_numpy(array)
    except (TypeError, ValueError):
        raise ValueError(
            f"weights file {path} must hold arrays of numbers ({name!r:.60} is {array.dtype}); save float32"
        ) from None


def _named_tensors(found: object, path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors by name, prefix cut; ValueError if there is anything else."""
    inner = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(inner, dict) or not inner:
        raise ValueError(f"weights file {path} must hold a dict of tensors; save net.state_dict()")
    for name, tensor in inner.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ValueError(
                f"weights file {path} must hold only named tensors (got {name!r:.60}); save net.state_dict()"
            )
    return {name.removeprefix("module."): tensor for name, tensor in inner.items()}


def _refuse_inflation(path: Path, ratio: int = 2) -> None:
    """Raise where a zip's members claim to be more than ``ratio`` times the file."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            claimed = sum(member.file_size for member in archive.infolist())
        if claimed > ratio * path.stat().st_size:
            raise ValueError(f"its members claim {claimed} bytes")


def _first_line(error: Exception) -> str:
    """Return an exception's type and the beginning of its first line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:100]}" if text else type(error).__name__


def _some(names: list[str]) -> str:
    """Return up to three names for a message."""
    return "none" if not names else ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
