"""The space of a search: axes of choices, and the point of a sweep that a choice of each stands for."""

import glob
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod

from accelsim.config import Accelerator
from accelsim.plan import fold_filling
from accelsim.program import Program
from quant.ocs import SplitOutliers, split_count
from quant.recipe import LayerBits, Recipe
from quant.transform import Transform
from reports.search.layers import Layer
from reports.sweep.study import Plain, Point

Design = tuple[int, ...]
"""The place of what is chosen among the choices of each axis."""

FILL = "fill"
ALL = "together"
"""Group of an axis that is one choice for all groups."""

WIDTHS = ("weight_bits", "act_bits")

LAST = ("splitquant",)
"""Transforms that splits must come before."""


@dataclass(frozen=True)
class Axis:
    """One thing that is chosen.

    Parameters
    ----------
    what
        ``weight_bits``, ``act_bits``, ``ocs``, or a factor of machines.
    group
        Of layers; `ALL` for all of them; empty for machines.
    choices
        Numbers in ascending order, other values as given.
    """

    what: str
    group: str
    choices: tuple[Plain, ...]

    @property
    def name(self) -> str:
        """What reports call it."""
        return f"{self.what}.{self.group}" if self.group else self.what

    @property
    def ordered(self) -> bool:
        """Whether the choices are numbers, so that neighbours are alike."""
        return all(isinstance(item, int | float) and not isinstance(item, bool) for item in self.choices)


@dataclass(frozen=True, eq=False)
class Space:
    """All designs.

    Parameters
    ----------
    base
        What is not searched of the recipe.
    groups
        Layers by group.
    axes
        What is chosen: widths and splits first, then machines.
    machines
        Points that differ in their machines alone, by the choices of the machine axes.
    """

    base: Recipe
    groups: Mapping[str, tuple[Layer, ...]]
    axes: tuple[Axis, ...]
    machines: Mapping[tuple[Plain, ...], Point]

    @property
    def size(self) -> int:
        """Number of designs."""
        return prod(len(axis.choices) for axis in self.axes)

    def designs(self) -> list[Design]:
        """Return all designs."""
        return list(product(*(range(len(axis.choices)) for axis in self.axes)))

    def chosen(self, design: Design) -> dict[str, Plain]:
        """Return the choices by the names of axes."""
        return {axis.name: axis.choices[at] for axis, at in zip(self.axes, design, strict=True)}

    def machine(self, design: Design) -> Point:
        """Return the design's machine, as a point with the base recipe."""
        key = tuple(axis.choices[at] for axis, at in zip(self.axes, design, strict=True) if not axis.group)
        return self.machines[key]

    def point(self, design: Design, lower: Callable[[Recipe], Program]) -> Point:
        """Return the point of a sweep that a design is.

        Parameters
        ----------
        design
            What is chosen.
        lower
            Gives the Program of a recipe, which folds are looked up in where a group fills them.
        """
        at = self.machine(design)
        recipe = self.recipe(design, at.machine.accelerator, lower)
        layered = {axis.name: axis.choices[i] for axis, i in zip(self.axes, design, strict=True) if axis.group}
        return replace(at, options=recipe, factors=dict(at.factors) | layered)

    def recipe(self, design: Design, accelerator: Accelerator, lower: Callable[[Recipe], Program]) -> Recipe:
        """Return a design's recipe: widths by layer, splits as counts, so that equal Programs have equal recipes."""
        chosen = self.chosen(design)
        entries = []
        for group, layers in self.groups.items():
            weight, act = (self._of(chosen, what, group) for what in WIDTHS)
            if weight is not None:
                entries += [LayerBits(glob.escape(layer.name), weight_bits=int(weight)) for layer in layers]
            if act is not None:
                entries += [LayerBits(glob.escape(t), act_bits=int(act)) for layer in layers for t in layer.tensors]
        entries.sort(key=lambda entry: (entry.pattern, entry.weight_bits is None))  # whatever the order of the groups
        recipe = replace(self.base, layer_bits=(*self.base.layer_bits, *entries))
        splits = self._splits(chosen, recipe, accelerator, lower)
        return replace(recipe, transforms=_with_splits(recipe.transforms, splits)) if splits else recipe

    def _splits(
        self, chosen: Mapping[str, Plain], plain: Recipe, accelerator: Accelerator, lower: Callable[[Recipe], Program]
    ) -> tuple[tuple[str, int], ...]:
        wanted = {group: self._of(chosen, "ocs", group) for group in self.groups}
        room: dict[str, int] = {}
        if FILL in wanted.values():
            room = dict(fold_filling(lower(plain), accelerator).splits)
        counts = []
        for group, budget in wanted.items():
            for name, channels in (item for layer in self.groups[group] for item in layer.products):
                count = room.get(name, 0) if budget == FILL else split_count(float(budget or 0), channels)
                if count:
                    counts.append((name, count))
        return tuple(sorted(counts))

    def _of(self, chosen: Mapping[str, Plain], what: str, group: str) -> Plain:
        return chosen.get(f"{what}.{group}", chosen.get(f"{what}.{ALL}"))

    @cached_property
    def widest(self) -> Design:
        """The design that loses least by rounding: widest codes, first split, first machine."""
        return tuple(len(axis.choices) - 1 if axis.what in WIDTHS else 0 for axis in self.axes)


def _with_splits(transforms: tuple[Transform, ...], splits: tuple[tuple[str, int], ...]) -> tuple[Transform, ...]:
    """Return the transforms with the splits in their place: after scaling, before clusters."""
    before = tuple(item for item in transforms if item.name not in LAST)
    after = tuple(item for item in transforms if item.name in LAST)
    return (*before, SplitOutliers(splits=splits), *after)
