"""The transforms that there are, by name."""

from quant.equalize_cross import CrossLayer
from quant.equalize_meller import OneStep, TwoStep
from quant.ocs import SplitOutliers
from quant.ocs_activation import SplitActivations
from quant.smoothquant import SmoothQuant
from quant.splitquant import SplitQuant
from quant.transform import Transform

TRANSFORMS: dict[str, type[Transform]] = {
    "one-step": OneStep,
    "two-step": TwoStep,
    "cross-layer": CrossLayer,
    "smoothquant": SmoothQuant,
    "act-ocs": SplitActivations,
    "ocs": SplitOutliers,
    "splitquant": SplitQuant,
}
"""In the order in which they compose: what scales channels comes before what splits them."""
