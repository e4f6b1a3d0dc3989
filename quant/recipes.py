"""Recipes by name: one for every row of the papers' tables and for the baselines beside them.

A family is a table; its recipes are generated, with names such as ``ocs-table2-w5-ocs0.02-mse``. What a paper keeps in
floating point has 16 bits here (LSTM activations, SplitQuant's activations). First and last layers follow the default
policy (`Recipe.first_last`); `dataclasses.replace(recipe, first_last="same")` quantizes all alike.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from quant.clip import CLIPS, ClipRule
from quant.equalize_cross import CrossLayer
from quant.equalize_meller import OneStep, TwoStep
from quant.ocs import SplitOutliers
from quant.ocs_activation import SplitActivations
from quant.recipe import Recipe
from quant.recipe_yaml import MAX_YAML_BYTES, recipe_from_yaml, recipe_to_yaml
from quant.smoothquant import SmoothQuant
from quant.splitquant import SplitQuant
from quant.transform import Transform
from quant.transforms import TRANSFORMS

__all__ = [
    "FAMILIES",
    "OPTIONS",
    "RECIPES",
    "TRANSFORMS",
    "Family",
    "describe_recipe",
    "load_recipe",
    "recipe_from_yaml",
    "recipe_to_yaml",
]  # fmt: skip

CLIP_COLUMNS = ("mse", "aciq", "kl")
OCS_RATIOS = (0.01, 0.02, 0.05)
WEIGHT_BITS = (8, 7, 6, 5, 4, 3)
ACT_BITS = (8, 7, 6, 5, 4)
FLOAT_BITS = 16
"""Width of what a paper keeps in floating point."""


@dataclass(frozen=True, eq=False)
class Family:
    """The recipes of one table.

    Parameters
    ----------
    name
        How the names of its recipes begin.
    what, source
        What the table compares, and where it is.
    build
        Gives the recipes.
    """

    name: str
    what: str
    source: str
    build: Callable[[], Iterator[Recipe]]


def _clip(name: str | None) -> ClipRule:
    return CLIPS[name or "max"]()


def _label(*parts: object) -> str:
    return "-".join(str(part) for part in parts if part is not None and part != "")


def _plain() -> Iterator[Recipe]:
    for bits in WEIGHT_BITS:
        yield Recipe(name=f"plain-w{bits}a8", weight_bits=bits)
    for bits in ACT_BITS[1:]:
        yield Recipe(name=f"plain-w8a{bits}", act_bits=bits)
    for bits in (6, 5, 4):
        yield Recipe(name=f"plain-w{bits}a{bits}", weight_bits=bits, act_bits=bits)


def _table1() -> Iterator[Recipe]:
    for bits in (6, 5, 4, 3):
        for ratio in (0.01, 0.05, 0.1, 0.2):
            for how in ("qa", "naive"):
                split = SplitOutliers(ratio=ratio, naive=how == "naive")
                yield Recipe(name=f"ocs-table1-w{bits}-ocs{ratio}-{how}", weight_bits=bits, transforms=(split,))


def _table2() -> Iterator[Recipe]:
    for bits in WEIGHT_BITS:
        for ratio in (None, *OCS_RATIOS):
            split: tuple[Transform, ...] = () if ratio is None else (SplitOutliers(ratio=ratio),)
            for clip in (None, *CLIP_COLUMNS):
                column = _label("none" if ratio is clip else "", "" if ratio is None else f"ocs{ratio}", clip)
                name = f"ocs-table2-w{bits}-{column}"
                yield Recipe(name=name, weight_bits=bits, weight_clip=_clip(clip), transforms=split)


def _table3() -> Iterator[Recipe]:
    for bits in ACT_BITS:
        for clip in (None, *CLIP_COLUMNS):
            yield Recipe(name=f"ocs-table3-a{bits}-{clip or 'none'}", act_bits=bits, act_clip=_clip(clip))
        for ratio in OCS_RATIOS:
            split = SplitActivations(ratio=ratio)
            yield Recipe(name=f"ocs-table3-a{bits}-ocs{ratio}", act_bits=bits, transforms=(split,))


def _table4() -> Iterator[Recipe]:
    yield Recipe(name="ocs-table4-a6-none", act_bits=6)
    for clip in CLIP_COLUMNS:
        yield Recipe(name=f"ocs-table4-a6-{clip}", act_bits=6, act_clip=_clip(clip))
    split = SplitActivations(ratio=0.02, oracle=True)
    yield Recipe(name="ocs-table4-a6-ocs0.02-oracle", act_bits=6, transforms=(split,))


def _table5() -> Iterator[Recipe]:
    for ratio in (0.01, 0.02, 0.05, 0.1):
        yield Recipe(name=f"ocs-table5-ocs{ratio}", transforms=(SplitOutliers(ratio=ratio),))


def _released() -> Iterator[Recipe]:
    for bits in WEIGHT_BITS:
        for ratio in (0.0, *OCS_RATIOS):
            for clip in (None, "aciq-ocs-paper", "kl-mxnet"):
                yield Recipe(
                    name=_label(f"ocs-released-w{bits}-ocs{ratio:g}", clip),
                    weight_bits=bits,
                    weight_clip=_clip(clip),
                    wide_clamp=True,
                    transforms=(SplitOutliers(ratio=ratio),) if ratio else (),
                )


def _table6() -> Iterator[Recipe]:
    for bits in (6, 5):
        for ratio in (0.0, *OCS_RATIOS):
            for clip in (None, *CLIP_COLUMNS):
                yield Recipe(
                    name=f"ocs-table6-w{bits}-ocs{ratio:g}-{clip or 'none'}",
                    weight_bits=bits,
                    act_bits=FLOAT_BITS,
                    weight_clip=_clip(clip),
                    transforms=(SplitOutliers(ratio=ratio),) if ratio else (),
                )


def _meller() -> Iterator[Recipe]:
    forms: dict[str, tuple[Transform, ...]] = {
        "none": (), "one-step": (OneStep(),), "two-step": (TwoStep(),), "two-step-released": (TwoStep(released=True),),
    }  # fmt: skip
    for bits in (8, 6, 5, 4):
        for name, transforms in forms.items():
            yield Recipe(name=f"meller-w{bits}a8-{name}", weight_bits=bits, transforms=transforms, first_last="same")


def _cross_layer() -> Iterator[Recipe]:
    for bits in WEIGHT_BITS:
        yield Recipe(name=f"cross-layer-w{bits}a8", weight_bits=bits, transforms=(CrossLayer(),))


def _per_channel() -> Iterator[Recipe]:
    for bits in WEIGHT_BITS:
        for clip in (None, "mse"):
            name = _label(f"per-channel-w{bits}a8", clip)
            yield Recipe(name=name, weight_bits=bits, per_channel=True, weight_clip=_clip(clip))


def _bias_correction() -> Iterator[Recipe]:
    for bits in WEIGHT_BITS:
        for transforms in ((), (CrossLayer(),)):
            name = _label(f"bias-correction-w{bits}a8", "cross-layer" if transforms else None)
            yield Recipe(name=name, weight_bits=bits, bias_correction=True, transforms=transforms)


def _smoothquant() -> Iterator[Recipe]:
    for bits in WEIGHT_BITS:
        for channel in (False, True):
            name = f"smoothquant-w{bits}a8{'-per-channel' * channel}"
            yield Recipe(name=name, weight_bits=bits, per_channel=channel, transforms=(SmoothQuant(alpha=0.5),))


def _splitquant() -> Iterator[Recipe]:
    forms: dict[str, tuple[Transform, ...]] = {
        "none": (), "affine": (SplitQuant(),), "symmetric": (SplitQuant(scales="symmetric"),),
    }  # fmt: skip
    for bits in (2, 4, 8):
        for name, transforms in forms.items():
            yield Recipe(
                name=f"splitquant-w{bits}-{name}",
                weight_bits=bits,
                act_bits=FLOAT_BITS,
                transforms=transforms,
                first_last="same",
            )


def _combined() -> Iterator[Recipe]:
    for bits in (6, 5, 4):
        for ratio in OCS_RATIOS:
            transforms = (TwoStep(), SplitOutliers(ratio=ratio))
            name = f"combined-w{bits}a8-two-step-ocs{ratio}-mse"
            yield Recipe(name=name, weight_bits=bits, weight_clip=_clip("mse"), transforms=transforms)


_OCS = "Zhao et al., ICML 2019, arXiv:1901.09504"

FAMILIES: tuple[Family, ...] = (
    Family("plain", "linear quantization, one scale a layer, no clipping", "baseline", _plain),
    Family("ocs-table1", "quantization-aware against naive splitting", f"{_OCS}, Table 1", _table1),
    Family("ocs-table2", "weights: clipping, OCS, OCS with clipping", f"{_OCS}, Table 2", _table2),
    Family("ocs-table3", "activations: clipping, static OCS", f"{_OCS}, Table 3", _table3),
    Family("ocs-table4", "activations: the oracle, batch by batch; not priced", f"{_OCS}, Table 4", _table4),
    Family("ocs-table5", "overhead: W8A8 by expansion ratio", f"{_OCS}, Table 5", _table5),
    Family("ocs-table6", "LSTM weights: OCS with clipping; activations 16 bits", f"{_OCS}, Table 6", _table6),
    Family("ocs-released", "clamp and clip constants of the released code", f"{_OCS}, authors' code", _released),
    Family("meller", "equalization; first and last layers as the rest", "Meller et al., arXiv:1902.01917", _meller),
    Family("cross-layer", "weight equalization between layers", "Nagel et al., arXiv:1906.04721", _cross_layer),
    Family("per-channel", "one weight scale per output channel", "baseline", _per_channel),
    Family("bias-correction", "mean errors taken off biases", "Nagel et al., arXiv:1906.04721", _bias_correction),
    Family("smoothquant", "alpha 0.5, folded wherever exact", "Xiao et al., arXiv:2211.10438", _smoothquant),
    Family("splitquant", "all weights; activations 16 bits", "Song & Lin, arXiv:2501.12428", _splitquant),
    Family("combined", "two-step equalization, then OCS, then MSE clipping", "methods composed", _combined),
)
"""The oracle of the OCS paper's Table 4 chooses channels for each batch that is run: see `quant.ocs_oracle`."""

OPTIONS: tuple[tuple[str, str, str], ...] = (
    ("per-channel", "one weight scale per output channel instead of one per layer", "baseline"),
    ("bias-correction", "mean error of rounded weights taken off the biases", "Nagel et al., arXiv:1906.04721, 4.2"),
    ("wide-clamp", "weight codes down to -2**(bits-1), for reproduction", f"{_OCS}, authors' code"),
    ("act-ocs oracle", "channels chosen from the batch that is run; an experiment without a price", f"{_OCS}, Table 4"),
)
"""What a recipe can ask for besides transforms and rules: name, what it does, source."""

RECIPES: dict[str, Recipe] = {recipe.name: recipe for family in FAMILIES for recipe in family.build()}
"""Every named recipe."""


def describe_recipe(name: str) -> str:
    """Return in a line what a named recipe does and which table it is of."""
    family = max((f for f in FAMILIES if name.startswith(f.name)), key=lambda f: len(f.name))
    return f"{RECIPES[name].label()} ({family.what}; {family.source})"


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Return a recipe by name, or read a YAML file.

    Raises
    ------
    ValueError
        If there is no such recipe or file, or what it says is invalid; all its errors are listed.
    """
    if str(name_or_path) in RECIPES:
        return RECIPES[str(name_or_path)]
    path = Path(name_or_path)
    if not path.is_file():
        raise ValueError(
            f"recipe {str(name_or_path)!r} is neither a named recipe ({', '.join(f.name for f in FAMILIES)} ...; "
            "`accelsim list recipes` has all) nor a YAML file"
        )
    if path.stat().st_size > MAX_YAML_BYTES:
        raise ValueError(f"recipe {path} is larger than {MAX_YAML_BYTES} bytes; a recipe is a page of YAML")
    try:
        return recipe_from_yaml(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise ValueError(f"recipe {path} is no UTF-8 text: {error}") from None
