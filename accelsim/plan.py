"""Plans of channel duplication for one array: how many channels may be split before a layer costs another fold.

Splitting an input channel of a convolution adds kh·kw products to k. The array takes ``rows_eff`` of them per fold
(rows times the products of a PE at the layer's widths), so what is left of the last fold is free in array cycles; what
is stored, weights and gather lists, is not. Under ``os`` k is time: every added product costs a cycle, nothing is free.
"""

from dataclasses import dataclass

from accelsim.config import Accelerator
from accelsim.execute import operand_bits
from accelsim.program import Conv, Program, gemm_view


@dataclass(frozen=True)
class LayerFill:
    """Room for splits in one layer.

    Parameters
    ----------
    name
        Of the layer.
    channels, window
        Input channels, and products that each adds to k (kh·kw).
    k, rows_eff
        Products per output, and how many of them a fold takes.
    folds
        Folds along k before any split.
    idle
        Products that the last fold has room for.
    splits
        Channels to split: never more than there are.
    added_folds
        Folds along k that they add.
    reason
        Why there is nothing to split; empty where there is.
    """

    name: str
    channels: int
    window: int
    k: int
    rows_eff: int
    folds: int
    idle: int
    splits: int
    added_folds: int = 0
    reason: str = ""


@dataclass(frozen=True)
class FoldPlan:
    """Splits of all layers for one array."""

    accelerator: str
    layers: tuple[LayerFill, ...]

    @property
    def splits(self) -> tuple[tuple[str, int], ...]:
        """Splits per layer by name, layers without any left out: what `quant.ocs.SplitOutliers` takes."""
        return tuple((layer.name, layer.splits) for layer in self.layers if layer.splits)


def fold_filling(program: Program, accelerator: Accelerator, folds: int = 0) -> FoldPlan:
    """Return the splits that fill the last fold of every layer, or the last of `folds` more along k.

    Parameters
    ----------
    program
        The network before splitting, with or without values; its operand widths decide a composable PE's folds.
    accelerator
        The array.
    folds
        Folds along k that each layer may take beyond what it has.

    Raises
    ------
    ValueError
        If `folds` is negative.
    """
    if folds < 0:
        raise ValueError(f"fold_filling: folds must be >= 0 (got {folds}); 0 fills what is idle")
    return FoldPlan(
        accelerator.name,
        tuple(_fill(program, op, accelerator, folds) for op in program.ops if isinstance(op, Conv) and not op.shares),
    )


def _fill(program: Program, op: Conv, accelerator: Accelerator, folds: int) -> LayerFill:
    view = gemm_view(program, op)
    assert view is not None
    _, kh, kw, per_group = op.weight.shape
    channels, window = per_group * op.groups, kh * kw
    rows_eff = accelerator.array.rows * accelerator.products_per_pe(*operand_bits(program, op))
    has = -(-view.k // rows_eff)
    idle = has * rows_eff - view.k
    reason = _reason(op, accelerator, idle + folds * rows_eff, window)
    splits = 0 if reason else min((idle + folds * rows_eff) // window, channels)
    added = -(-(view.k + splits * window) // rows_eff) - has
    if accelerator.array.dataflow == "os":
        rows_eff, has, idle, added = 0, 0, 0, 0
    return LayerFill(op.name, channels, window, view.k, rows_eff, has, idle, splits, added, reason)


def _reason(op: Conv, accelerator: Accelerator, room: int, window: int) -> str:
    if accelerator.array.dataflow == "os":
        return "k is time under os: no rows are idle, every added product costs a cycle"
    if op.groups > 1:
        return "channels of a grouped layer cannot be split alone"
    if room < window:
        return f"the last fold has room for {room} of the {window} products that a channel adds"
    return ""
