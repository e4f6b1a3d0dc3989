"""torch as a witness of networks that it quantized itself: its integers against ours, tensor by tensor."""

from typing import Any

import torch
from numpy.typing import NDArray

from accelsim.config import Accelerator
from quant.importers.pt2e import TorchNetwork
from reports.witness_ort import RuntimeWitness, compare


def compare_torch(
    network: TorchNetwork, *samples: NDArray[Any], accelerator: Accelerator | None = None
) -> RuntimeWitness:
    """Compare the integers of a quantized module with what torch computes, each op fed with torch's own values.

    Where torch rounds float32 sums in the order of its kernel, differences are counted and torch's values taken on.

    Parameters
    ----------
    network
        What `quant.importers.pt2e` made of the module.
    samples
        One float32 array per input, batch first.
    accelerator
        Whose folds the sums of a difference are cut into.
    """
    theirs = network.torch_codes(*samples)
    codes = network.encode(*samples)
    return compare(network.program, codes, theirs, network.inexact, accelerator, f"torch {torch.__version__}")
