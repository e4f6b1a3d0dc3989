"""Which recipes each table is made of: the columns of the OCS paper's tables, and what stands beside them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from quant.clip import CLIPS
from quant.equalize_cross import CrossLayer
from quant.equalize_meller import OneStep, TwoStep
from quant.ocs import SplitOutliers
from quant.ocs_activation import SplitActivations
from quant.recipe import Recipe
from quant.recipes import ACT_BITS, CLIP_COLUMNS, OCS_RATIOS, WEIGHT_BITS

EXTREME_BITS = (4, 3)
EXTREME_RATIOS = (0.05, 0.1, 0.2)
SAME_BITS = (8, 6, 5, 4)
ORACLE_RATIOS = (0.0, 0.02)
CORRECTED_BITS = (6, 5, 4)


@dataclass(frozen=True)
class Cell:
    """One place of a table.

    Parameters
    ----------
    table
        ``weights``, ``weights-per-channel``, ``qa``, ``activations``, ``same``.
    bits
        The row.
    column
        The column.
    recipe
        What is measured there; its name is unique in the study.
    oracle_ratio
        Of the oracle that makes a Program for each batch; ``None`` for an ordinary Program.
    """

    table: str
    bits: int
    column: str
    recipe: Recipe
    oracle_ratio: float | None = None


def cell(table: str, bits: int, column: str, recipe: Recipe, oracle_ratio: float | None = None) -> Cell:
    """Return a cell whose recipe is named after its place."""
    return Cell(table, bits, column, replace(recipe, name=f"{table}-{bits}-{column}"), oracle_ratio)


def weight_cells(table: str, per_channel: bool) -> Iterator[Cell]:
    """Yield the columns of Table 2 that need no choice, and the equalized and per-channel rows beside them."""
    for column, base in _weight_columns().items():
        for bits in WEIGHT_BITS:
            yield cell(table, bits, column, replace(base, weight_bits=bits, per_channel=per_channel))
    for column, base in _beside().items():
        for bits in CORRECTED_BITS if base.bias_correction else WEIGHT_BITS:
            yield cell(
                table, bits, column, replace(base, weight_bits=bits, per_channel=base.per_channel or per_channel)
            )


def _weight_columns() -> dict[str, Recipe]:
    columns = {"none": Recipe()}
    columns |= {clip: Recipe(weight_clip=CLIPS[clip]()) for clip in CLIP_COLUMNS}
    return columns | {f"ocs {ratio:g}": Recipe(transforms=(SplitOutliers(ratio=ratio),)) for ratio in OCS_RATIOS}


def _beside() -> dict[str, Recipe]:
    return {
        "per channel": Recipe(per_channel=True),
        "per channel + mse": Recipe(per_channel=True, weight_clip=CLIPS["mse"]()),
        "one-step": Recipe(transforms=(OneStep(),)),
        "two-step": Recipe(transforms=(TwoStep(),)),
        "cross-layer": Recipe(transforms=(CrossLayer(),)),
        "cross-layer + ocs 0.02": Recipe(transforms=(CrossLayer(), SplitOutliers(ratio=0.02))),
        "bias correction": Recipe(bias_correction=True),
    }


def combined_cells(table: str, per_channel: bool, best_clip: dict[int, str]) -> Iterator[Cell]:
    """Yield OCS with the clip rule that is best without it, for each width."""
    for ratio in OCS_RATIOS:
        for bits in WEIGHT_BITS:
            recipe = Recipe(
                weight_bits=bits,
                per_channel=per_channel,
                weight_clip=CLIPS[best_clip[bits]](),
                transforms=(SplitOutliers(ratio=ratio),),
            )
            yield cell(table, bits, f"ocs {ratio:g} + clip", recipe)


def extreme_cells(per_channel: bool) -> Iterator[Cell]:
    """Yield quantization-aware and naive splitting at low widths and large expansion (Table 1's question)."""
    for ratio in EXTREME_RATIOS:
        for naive in (False, True):
            for bits in EXTREME_BITS:
                split = SplitOutliers(ratio=ratio, naive=naive)
                recipe = Recipe(weight_bits=bits, per_channel=per_channel, transforms=(split,))
                yield cell("qa", bits, f"{'naive' if naive else 'qa'} {ratio:g}", recipe)


def act_cells(per_channel: bool) -> Iterator[Cell]:
    """Yield the columns of Table 3, and the oracles of Table 4 at every width."""
    base = Recipe(per_channel=per_channel)
    for clip in ("none", *CLIP_COLUMNS):
        for bits in ACT_BITS:
            rule = CLIPS["max" if clip == "none" else clip]()
            yield cell("activations", bits, clip, replace(base, act_bits=bits, act_clip=rule))
    for ratio in OCS_RATIOS:
        for bits in ACT_BITS:
            split = SplitActivations(ratio=ratio)
            yield cell("activations", bits, f"ocs {ratio:g}", replace(base, act_bits=bits, transforms=(split,)))
    for ratio in ORACLE_RATIOS:
        for bits in ACT_BITS:
            yield cell("activations", bits, f"oracle {ratio:g}", replace(base, act_bits=bits), ratio)


def same_cells(per_channel: bool) -> Iterator[Cell]:
    """Yield the variant in which first and last layers are quantized as the rest."""
    columns = _weight_columns() | {
        "ocs 0.02 + mse": Recipe(weight_clip=CLIPS["mse"](), transforms=(SplitOutliers(ratio=0.02),))
    }
    for column in ("none", *CLIP_COLUMNS, "ocs 0.02", "ocs 0.02 + mse"):
        for bits in SAME_BITS:
            base = replace(columns[column], weight_bits=bits, per_channel=per_channel, first_last="same")
            yield cell("same", bits, column, base)
