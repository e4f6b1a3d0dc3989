"""Recipes from the command line's options."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quant.clip import CLIPS, ClipRule, Percentile
from quant.ocs import SplitOutliers
from quant.ocs_activation import SplitActivations
from quant.recipe import Recipe
from quant.recipes import load_recipe
from quant.smoothquant import SmoothQuant
from quant.transform import Transform
from quant.transforms import TRANSFORMS

EQUALIZATIONS = ("one-step", "two-step", "cross-layer")


@dataclass(frozen=True, kw_only=True)
class QuantOptions:
    """What a user may ask for; ``None`` is "not given".

    Parameters
    ----------
    recipe
        Name or YAML file. Widths, granularity, policy and clip rules that are given besides override it; a transform
        besides is an error.
    weight_bits, act_bits, per_channel, first_last
        As in `quant.recipe.Recipe`.
    clip, act_clip
        Rules of weights and activations, keys of `quant.clip.CLIPS`.
    percentile
        Of the rule ``percentile``.
    ocs
        Expansion ratio, or ``fill``: as many splits as cost no fold (`recipe_from_options` is told which).
    ocs_folds
        Splits that cost so many folds instead, likewise told.
    naive_split
        Halve float weights instead of integers.
    act_ocs
        Expansion ratio of activation splitting.
    splitquant
        Split weights by clusters.
    equalize
        One of `EQUALIZATIONS`.
    smoothquant
        Migration strength alpha.
    """

    recipe: str | None = None
    weight_bits: int | None = None
    act_bits: int | None = None
    per_channel: bool | None = None
    first_last: str | None = None
    clip: str | None = None
    act_clip: str | None = None
    percentile: float | None = None
    ocs: str | float | None = None
    ocs_folds: int | None = None
    naive_split: bool | None = None
    act_ocs: float | None = None
    splitquant: bool | None = None
    equalize: str | None = None
    smoothquant: float | None = None

    @property
    def needs_plan(self) -> bool:
        """Whether the splits per layer must be worked out for an array and handed to `recipe_from_options`."""
        return self.ocs == "fill" or self.ocs_folds is not None


_TRANSFORMING = ("ocs", "ocs_folds", "naive_split", "act_ocs", "splitquant", "equalize", "smoothquant")


def recipe_from_options(options: QuantOptions, plan: Mapping[str, int] | None = None) -> Recipe:
    """Return the recipe that options describe.

    Parameters
    ----------
    options
        As given.
    plan
        Splits per layer where `QuantOptions.needs_plan`.

    Raises
    ------
    ValueError
        For values out of range, unknown names, options that contradict each other, and a missing plan.
    """
    given = {key for key, value in dataclasses.asdict(options).items() if value is not None and value is not False}
    if options.recipe is not None and (extra := [key for key in _TRANSFORMING if key in given]):
        raise ValueError(
            f"--recipe must be given without {', '.join(map(_flag, extra))} (got {options.recipe}); "
            "write the transform into a YAML recipe"
        )
    base = Recipe() if options.recipe is None else load_recipe(options.recipe)
    plain = ("weight_bits", "act_bits", "per_channel", "first_last")
    changed: dict[str, Any] = {key: value for key in plain if (value := getattr(options, key)) is not None}
    changed |= _clips(options)
    if options.recipe is None:
        changed["transforms"] = _transforms(options, plan)
    return dataclasses.replace(base, **changed)


def _flag(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _clips(options: QuantOptions) -> dict[str, ClipRule]:
    """Return the clip rules that are given, by field of the recipe."""
    rules: dict[str, ClipRule] = {}
    for flag, field in (("clip", "weight_clip"), ("act_clip", "act_clip")):
        name = getattr(options, flag)
        if name is None:
            continue
        if name not in CLIPS:
            raise ValueError(f"{_flag(flag)} must be one of {', '.join(CLIPS)} (got {name!r}); max does not clip")
        percent = options.percentile
        rules[field] = Percentile(percent) if name == "percentile" and percent is not None else CLIPS[name]()
    if options.percentile is not None and "percentile" not in (options.clip, options.act_clip):
        raise ValueError(
            f"--percentile must come with --clip or --act-clip percentile (got {options.percentile}); add one of them"
        )
    return rules


def _transforms(options: QuantOptions, plan: Mapping[str, int] | None) -> tuple[Transform, ...]:
    """Return the transforms in the order in which they compose: scaling before splitting."""
    found: list[Transform] = []
    if options.equalize is not None:
        if options.equalize not in EQUALIZATIONS:
            raise ValueError(f"--equalize must be one of {', '.join(EQUALIZATIONS)} (got {options.equalize!r})")
        found.append(TRANSFORMS[options.equalize]())
    if options.smoothquant is not None:
        found.append(SmoothQuant(alpha=options.smoothquant))
    if options.act_ocs:
        found.append(SplitActivations(ratio=options.act_ocs))
    found += _weight_splits(options, plan)
    if options.splitquant:
        found.append(TRANSFORMS["splitquant"]())
    return tuple(found)


def _weight_splits(options: QuantOptions, plan: Mapping[str, int] | None) -> list[Transform]:
    if options.ocs is not None and options.ocs_folds is not None:
        raise ValueError(f"--ocs-folds must be given without --ocs (got {options.ocs}); choose one budget")
    if options.ocs is None and options.ocs_folds is None:
        if options.naive_split:
            raise ValueError("--naive-split must come with --ocs or --ocs-folds (got neither); add a ratio")
        return []
    naive = bool(options.naive_split)
    if options.needs_plan:
        if plan is None:
            raise ValueError("--ocs fill and --ocs-folds need the splits of every layer (got none); give an array")
        splits = tuple((name, count) for name, count in plan.items() if count)
        return [SplitOutliers(splits=splits, naive=naive)] if splits else []
    try:
        ratio = float("0" if options.ocs is None else options.ocs)
    except ValueError:
        raise ValueError(f"--ocs must be a ratio within 0..1 or fill (got {options.ocs!r}); 0.02 is usual") from None
    split = SplitOutliers(ratio=ratio, naive=naive)
    return [split] if ratio else []
