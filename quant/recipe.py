"""A recipe: everything that decides a quantized network's integers, as one frozen value."""

import fnmatch
from dataclasses import dataclass, field
from typing import Literal

from accelsim.arith import REQUANT_RULES
from quant.clip import ClipRule, Max
from quant.graph import Graph, Node
from quant.grid import check_bits
from quant.tied import with_tied
from quant.transform import Transform


@dataclass(frozen=True)
class LayerBits:
    """Widths of the layers whose name matches a shell pattern; later entries win, ``None`` keeps the recipe's."""

    pattern: str
    weight_bits: int | None = None
    act_bits: int | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to quantize a network without retraining.

    Parameters
    ----------
    name
        For reports.
    weight_bits, act_bits
        Widths of weights and activations, 2..16.
    per_channel
        One weight scale per output channel instead of one per layer (the papers use one per layer).
    weight_clip, act_clip
        Rules that choose the thresholds.
    clip_expanded
        Choose a split layer's weight threshold from the expanded values instead of the original ones.
    transforms
        Applied in order; each keeps the float function.
    first_last
        ``8bit``: the first convolution and the last linear layer keep 8-bit weights (more if `weight_bits` is more)
        and are not transformed, and the network's input keeps at least 8 bits. ``same``: no exception.
    act_scheme
        Grid of activations that can be negative: ``symmetric``, or ``affine`` with a zero point.
    rule
        Requantization rule, a key of `accelsim.arith.REQUANT_RULES`.
    layer_bits
        Mixed precision by layer name; activation widths by tensor name (``node:part`` for inner parts of attention
        and LSTMs).
    inner_bits
        Width of the tensors that no matrix product reads (`quant.inner`): residual streams, inputs of tables, softmaxes
        and norms. ``None``: as other activations, but at least 8 bits in front of a function.
    wide_clamp
        Let weight codes reach ``-2**(bits-1)``, one beyond the grid of the paper, as the OCS authors' code does.
    bias_correction
        Take what rounding the weights adds to each layer's mean output off its bias (`quant.bias_correction`).
    """

    name: str = "custom"
    weight_bits: int = 8
    act_bits: int = 8
    per_channel: bool = False
    weight_clip: ClipRule = field(default_factory=Max)
    act_clip: ClipRule = field(default_factory=Max)
    clip_expanded: bool = False
    transforms: tuple[Transform, ...] = ()
    first_last: Literal["8bit", "same"] = "8bit"
    act_scheme: Literal["symmetric", "affine"] = "symmetric"
    rule: str = "float32_rne"
    layer_bits: tuple[LayerBits, ...] = ()
    inner_bits: int | None = None
    wide_clamp: bool = False
    bias_correction: bool = False

    def __post_init__(self) -> None:
        """Refuse widths and rules that do not exist."""
        check_bits(self.weight_bits, "weight_bits")
        check_bits(self.act_bits, "act_bits")
        if self.inner_bits is not None:
            check_bits(self.inner_bits, "inner_bits")
        for entry in self.layer_bits:
            for bits in (entry.weight_bits, entry.act_bits):
                if bits is not None:
                    check_bits(bits, f"layer_bits of {entry.pattern!r}")
        if self.rule not in REQUANT_RULES:
            raise ValueError(f"rule must be one of {', '.join(REQUANT_RULES)} (got {self.rule!r})")
        if self.first_last not in ("8bit", "same"):
            raise ValueError(f"first_last must be 8bit or same (got {self.first_last!r})")
        if self.act_scheme not in ("symmetric", "affine"):
            raise ValueError(f"act_scheme must be symmetric or affine (got {self.act_scheme!r})")

    def bits_of(self, layer: str, protected: frozenset[str]) -> tuple[int, int]:
        """Return a layer's (weight, activation) widths."""
        weight_bits = max(8, self.weight_bits) if layer in protected else self.weight_bits
        act_bits = self.act_bits
        for entry in self.layer_bits:
            if fnmatch.fnmatchcase(layer, entry.pattern):
                weight_bits = entry.weight_bits or weight_bits
                act_bits = entry.act_bits or act_bits
        return weight_bits, act_bits

    def act_bits_of(self, tensor: str, default: int) -> int:
        """Return the width that `layer_bits` gives a tensor's codes, or the default."""
        for entry in self.layer_bits:
            if entry.act_bits is not None and fnmatch.fnmatchcase(tensor, entry.pattern):
                default = entry.act_bits
        return default

    @property
    def input_bits(self) -> int:
        """Width of the network's input."""
        return self.act_bits if self.first_last == "same" else max(8, self.act_bits)

    def label(self) -> str:
        """Return a short description, e.g. ``W4A8 + OCS 0.02``; with widths by layer their range, ``W2-8A8``."""
        weights = _range([self.weight_bits, *(entry.weight_bits for entry in self.layer_bits)])
        acts = _range([self.act_bits, *(entry.act_bits for entry in self.layer_bits)])
        parts = [f"W{weights}A{acts}" + (f"I{self.inner_bits}" if self.inner_bits else "")]
        parts += [
            f"{clip.name} {role}"
            for role, clip in (("w", self.weight_clip), ("a", self.act_clip))
            if clip.name != "max"
        ]
        parts += ["per channel"] * self.per_channel + ["wide clamp"] * self.wide_clamp
        parts += [transform.label for transform in self.transforms]
        parts += ["bias correction"] * self.bias_correction
        return " + ".join(parts)


def _range(widths: list[int | None]) -> str:
    given = [bits for bits in widths if bits is not None]
    return f"{min(given)}" if min(given) == max(given) else f"{min(given)}-{max(given)}"


def protected_layers(graph: Graph, recipe: Recipe) -> frozenset[str]:
    """Return the names of the first convolution and the last linear layer (or what stands in their place).

    The first layer is the first convolution, linear layer where there is none; the last is the last linear layer,
    convolution where there is none (OCS paper, section 5: the first layer is not quantized; the released code leaves
    the classifier float). Layers of the same parameters are protected together.
    """
    if recipe.first_last == "same":
        return frozenset()
    found = [node for node in graph.nodes if node.op in ("conv", "linear")]
    ends = {node.name for node in (_pick(found, "conv", 0), _pick(found, "linear", -1)) if node is not None}
    return with_tied(graph, ends)


def _pick(nodes: list[Node], op: str, place: int) -> Node | None:
    preferred = [node for node in nodes if node.op == op] or nodes
    return preferred[place] if preferred else None
