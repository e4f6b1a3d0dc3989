"""Networks of torchvision by their name (extra ``vision``), with weights from a file and pictures from a folder.

Weights are never fetched. Preprocessing is what torchvision states for the weights whose file name it is, else for the
network's default weights.
"""

import functools
import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from workloads.base import Samples, Source, Workload
from workloads.pictures import labelled_pictures
from workloads.weights import load_into, read_state

OPS = ("nms", "qnms")
"""Custom operations that torchvision describes when it is imported; they live in its compiled part."""


@functools.cache
def torchvision() -> ModuleType:
    """Return the package, also where its compiled part does not load beside this build of torch.

    Raises
    ------
    ValueError
        If it is not installed.
    """
    try:
        return importlib.import_module("torchvision")
    except ImportError:
        raise ValueError(
            "torchvision must be installed for its networks (got none); install accelsim[vision]"
        ) from None
    except RuntimeError:  # its description of an operation found none: name them, so that networks can be built
        for name in OPS:
            _library().define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return importlib.import_module("torchvision")


@functools.cache
def _library() -> torch.library.Library:
    return torch.library.Library("torchvision", "FRAGMENT")


def zoo_names() -> tuple[str, ...]:
    """Return the names of all classification networks; none where torchvision is not installed."""
    try:
        models = torchvision().models
    except ValueError:
        return ()
    return tuple(models.list_models(module=models))


def zoo_workload(name: str) -> Workload:
    """Return a network of torchvision.

    Without ``Source.weights`` its weights are random, drawn from the seed.
    """
    models = torchvision().models
    states = list(models.get_model_weights(name))
    sides = states[-1].transforms().crop_size if states else [224]
    return Workload(
        name=name,
        description=f"{name} of torchvision, its weights from a file or random",
        origin="torchvision (BSD-3-Clause); weights: the file given, random without one",
        metric="top1",
        input_shape=(3, sides[0], sides[0]),
        model=functools.partial(_module, name),
        data=functools.partial(_samples, name),
        needs_data=True,
    )


def _module(name: str, source: Source) -> nn.Module:
    torch.manual_seed(source.seed)
    models = torchvision().models
    builder = models.get_model_builder(name)
    # inception and googlenet draw their weights from scipy's truncated normal, for half a minute
    quick = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
    net: nn.Module = builder(weights=None, **quick).eval()
    if source.weights is None:
        return net
    return load_into(net, _renamed(read_state(source.weights), net), source.weights)


def _renamed(state: dict[str, torch.Tensor], net: nn.Module) -> dict[str, torch.Tensor]:
    """Return a state under the network's names.

    The first DenseNets were saved under names with points in them; heads that only training reads are left out where
    the network was built without them.
    """
    known = net.state_dict()
    named = {re.sub(r"(norm|conv|relu)\.([12])\.", r"\1\2.", key): value for key, value in state.items()}
    return {key: value for key, value in named.items() if key in known or not key.startswith(("AuxLogits.", "aux"))}


def preprocessing(name: str, weights: Path | None) -> Any:
    """Return what torchvision does to a picture: a callable from a PIL image to float32 [3, side, side]."""
    states = list(torchvision().models.get_model_weights(name))
    for state in states:
        if weights is not None and Path(state.url).name == weights.name:
            return state.transforms()
    return states[-1].transforms()


def _samples(name: str, source: Source) -> Samples:
    classes = len(list(torchvision().models.get_model_weights(name))[-1].meta["categories"])
    return labelled_pictures(source.data, classes, preprocessing(name, source.weights))
