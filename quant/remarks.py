"""What a transform left aside on a layer, and why: notes for reports, without a meaning to the lowering."""

from quant.graph import Node

UNSPLIT, GATHERED, UNCLUSTERED, SMOOTHING = "ocs_unsplit", "ocs_gathered", "splitquant_unsplit", "smoothquant"
"""Keys of the notes."""

REMARKS = {
    UNSPLIT: "channels not split",
    GATHERED: "channels gathered, not widened",
    UNCLUSTERED: "not split by clusters",
    SMOOTHING: "not smoothed",
}
"""What each note is about."""


def remark(node: Node) -> str:
    """Return in a line what was left aside on a layer; empty where nothing was."""
    return "; ".join(f"{what}: {node.notes[key]}" for key, what in REMARKS.items() if key in node.notes)
