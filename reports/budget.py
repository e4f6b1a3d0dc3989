"""Recipes whose splits depend on the array: ``--ocs fill`` and ``--ocs-folds`` are worked out here."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from accelsim.config import Accelerator
from accelsim.plan import FoldPlan, fold_filling
from accelsim.program import Program
from quant.ocs_oracle import check_priceable
from quant.recipe import Recipe
from quant.recipe_options import QuantOptions, recipe_from_options


def check_recipe(asked: Recipe | QuantOptions) -> None:
    """Refuse what no network can be quantized by, before one is loaded.

    Raises
    ------
    ValueError
        As `choose_recipe`.
    """
    if isinstance(asked, Recipe) or not asked.needs_plan:
        check_priceable(asked if isinstance(asked, Recipe) else recipe_from_options(asked))
    else:
        recipe_from_options(asked, {})


def choose_recipe(
    asked: Recipe | QuantOptions, lower: Callable[[Recipe], Program], accelerator: Accelerator
) -> tuple[Recipe, FoldPlan | None]:
    """Return the recipe that is asked for, and the plan behind it where it was made for one array.

    Parameters
    ----------
    asked
        A recipe, or options that describe one.
    lower
        Gives the Program of a recipe: the plan looks at the network before it is split.
    accelerator
        Whose folds are filled.

    Raises
    ------
    ValueError
        For options that contradict each other or are out of range, and for a recipe that has no price.
    """
    if isinstance(asked, Recipe) or not asked.needs_plan:
        return check_priceable(asked if isinstance(asked, Recipe) else recipe_from_options(asked)), None
    check_recipe(asked)  # so that a contradiction is refused before the network is lowered
    plain = recipe_from_options(replace(asked, ocs=None, ocs_folds=None, naive_split=None, splitquant=None))
    plan = fold_filling(lower(plain), accelerator, asked.ocs_folds or 0)
    return recipe_from_options(asked, dict(plan.splits)), plan


def budget_record(plan: FoldPlan | None) -> dict[str, Any]:
    """Return the plan for the JSON: every layer's room, splits and reason; nothing where there was none."""
    return {} if plan is None else {"split_plan": [asdict(layer) for layer in plan.layers]}
