"""Input-stationary: rows carry k, columns carry m, weights stream over n, sums hop down the rows.

Each tile of activations is loaded once per stream chunk. See `accelsim.dataflow.stationary` for fold order and closed
forms, `accelsim.dataflow.stationary_kernel` for the registers.
"""

from functools import partial

from accelsim.dataflow import stationary
from accelsim.dataflow.base import Dataflow
from accelsim.dataflow.stationary_toggles import toggles

IS = Dataflow(
    name="is",
    stationary="input",
    folds=partial(stationary.folds, stationary.INPUTS_STAY),
    cycles=partial(stationary.cycles, stationary.INPUTS_STAY),
    counts=partial(stationary.counts, stationary.INPUTS_STAY),
    register=partial(stationary.register, stationary.INPUTS_STAY),
    toggles=partial(toggles, stationary.INPUTS_STAY),
)
