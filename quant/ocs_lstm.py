"""Outlier channel splitting of an LSTM's two matrices: entries of x[t] and of h[t-1] are duplicated.

The float graph keeps the unsplit matrices, which are the sums of their halves. The splits are notes that lowering
replays on integers, duplicating x once for all steps and h in every step (OCS paper, section 6).
"""

import re

import numpy as np
from numpy.typing import NDArray

from quant.graph import Node

INPUT_SPLITS, HIDDEN_SPLITS = "ocs_input", "ocs_hidden"
"""Keys of the notes: splits of the input-to-hidden and of the hidden-to-hidden matrix, each a `SplitRecord`."""


def lstm_matrices(node: Node) -> dict[str, tuple[str, NDArray[np.float32]]]:
    """Return the name of the product (as in plans and reports) and the weight of each matrix, by note."""
    return {
        INPUT_SPLITS: (f"{node.name}.fed", node.params["weight_ih"]),
        HIDDEN_SPLITS: (f"{node.name}.back", node.params["weight_hh"]),
    }


def product_name(name: str) -> str:
    """Return a product's name from an op's: the steps of an LSTM (``lstm.7.back``) share one matrix (``lstm.back``)."""
    return re.sub(r"\.\d+\.back$", ".back", name)
