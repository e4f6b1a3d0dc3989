"""One float run of a torch module on real samples, and what is wrong where it fails, in a line."""

import inspect

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves


def forward(net: nn.Module, x: np.ndarray, name: str) -> torch.Tensor:
    """Return the first output of a module on samples.

    Parameters
    ----------
    net
        In evaluation mode.
    x
        Samples ``[N, ...]``, float32 or int64 token ids.
    name
        Of the network, for the error.

    Raises
    ------
    ValueError
        If the module does not take such samples; the remedy is named where the reason is a usual one.
    """
    try:
        with torch.inference_mode():
            out = net(torch.from_numpy(np.ascontiguousarray(x)))
    except Exception as error:  # the user's code raises what it likes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"{name} must take samples of shape {tuple(x.shape[1:])} and type {x.dtype} (it raised {reason}); "
            f"{_remedy(net, x)}"
        ) from error
    tensors = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
    if not tensors:
        raise ValueError(f"{name} must return a tensor, or several (got {type(out).__name__}); return one")
    return tensors[0]


def _remedy(net: nn.Module, x: np.ndarray) -> str:
    needed = _needed(net)
    types = {p.dtype for p in net.parameters() if p.dtype.is_floating_point} - {torch.float32}
    if len(needed) != 1:
        return f"one input is read, and forward takes {len(needed)} ({', '.join(needed)}): wrap it in a module of one"
    if types:
        return f"its parameters are {', '.join(sorted(map(str, types)))}: call .float() on it"
    if x.dtype.kind in "iu" and not any(isinstance(m, nn.Embedding | nn.EmbeddingBag) for m in net.modules()):
        return 'whole numbers are token ids: save pictures and other real values as x.astype("float32")'
    return "save samples as the network takes them, batch first"


def _needed(net: nn.Module) -> list[str]:
    """Return the names of the arguments that ``forward`` must be given, at least one."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = inspect.signature(net.forward).parameters.values()
    return [p.name for p in found if p.kind in kinds and p.default is inspect.Parameter.empty] or ["x"]
