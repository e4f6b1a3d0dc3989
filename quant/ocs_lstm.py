"""Outlier channel splitting of an LSTM's two matrices: entries of x[t] and of h[t - 1] are duplicated.

The float graph keeps the unsplit matrices, whose halves add up to them; the splits are notes that lowering replays on
integers, duplicating x once for all steps and h in every step (OCS paper, section 6).
"""

from quant.graph import Node
from quant.ocs import SplitRecord, select_splits

INPUT_SPLITS, HIDDEN_SPLITS = "ocs_input", "ocs_hidden"
"""Keys of the notes: splits of the input-to-hidden and of the hidden-to-hidden matrix, each a `SplitRecord`."""

MATRICES = {INPUT_SPLITS: "weight_ih", HIDDEN_SPLITS: "weight_hh"}
"""Parameter that each note belongs to."""


def split_lstm(node: Node, counts: dict[str, int], naive: bool = False, threshold_ratio: float = 0.0) -> Node:
    """Return an LSTM node with splits of its matrices noted.

    Parameters
    ----------
    node
        An ``lstm``.
    counts
        Splits by note (`INPUT_SPLITS`, `HIDDEN_SPLITS`).
    naive, threshold_ratio
        As in `quant.ocs.SplitOutliers`.
    """
    notes = {}
    for note, count in counts.items():
        if count:
            weight = node.params[MATRICES[note]]
            notes[note] = SplitRecord(weight.shape[1], select_splits(weight, count, threshold_ratio), naive)
    return node.with_notes(**notes)
