"""quant: from a trained torch network to an integer Program, without retraining.

What there is, in the order of use:

capture   `capture`: a torch module as a float graph
choose    `Recipe`, `SplitOutliers`
quantize  `quantize_network`, `Quantized`
prove     `oracle.run`: the same integers by torch
"""

from quant import oracle
from quant.capture import capture
from quant.lower import Quantized
from quant.ocs import SplitOutliers
from quant.pipeline import quantize_network
from quant.recipe import Recipe

__all__ = ["Quantized", "Recipe", "SplitOutliers", "capture", "oracle", "quantize_network"]
