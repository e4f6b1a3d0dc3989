"""Weight-stationary: rows carry k, columns carry n, activations stream over m, sums hop down the rows.

Each tile of weights is loaded once per stream chunk. See `accelsim.dataflow.stationary` for fold order and closed
forms, `accelsim.dataflow.stationary_kernel` for the registers.
"""

from functools import partial

from accelsim.dataflow import stationary
from accelsim.dataflow.base import Dataflow
from accelsim.dataflow.stationary_toggles import toggles

WS = Dataflow(
    name="ws",
    stationary="weight",
    folds=partial(stationary.folds, stationary.WEIGHTS_STAY),
    cycles=partial(stationary.cycles, stationary.WEIGHTS_STAY),
    counts=partial(stationary.counts, stationary.WEIGHTS_STAY),
    register=partial(stationary.register, stationary.WEIGHTS_STAY),
    toggles=partial(toggles, stationary.WEIGHTS_STAY),
)
