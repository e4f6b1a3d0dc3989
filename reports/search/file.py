"""A search in YAML.

    name: mixed
    network: {name: digits, images: 300, calib: 256}
    recipe: {act_bits: 8, clip: mse}                 # what is not searched
    groups:                                          # patterns of layer names; left out: every layer by itself
      front: [block1.*]
      back: [block2.*, widen*, block3.*]
    weight_bits: [3, 4, 6, 8]                        # of each group; {together: [4, 8]}: one choice for all
    act_bits: {front: [6, 8]}                        # of one group
    ocs: {together: [0, 0.02, fill]}
    accelerators:                                    # as in a study: lists are axes
      - {base: edge-32x32, array.dataflow: [ws, os]}
    technology: google
    objectives: [accuracy, energy, latency]
    budget: {max_accuracy_drop: 0.01, minimize: energy}
    trials: 100
    seed: 0

Layers that the recipe protects (the first convolution and the last linear layer, unless ``first_last: same``) stay as
they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from accelsim.plain_yaml import plain_mapping
from quant.fold import fold_batch_norm
from quant.grid import check_bits
from quant.recipe import Recipe, protected_layers
from quant.recipe_options import QuantOptions, recipe_from_options
from reports.search.explore import SAMPLERS, Settings
from reports.search.layers import find_layers, group_layers
from reports.search.objectives import Budget, read_budget, read_objectives
from reports.search.space import ALL, FILL, Axis, Space
from reports.sweep.measure import task_of
from reports.sweep.study import Entry, Plain, Point, Study, build_study
from reports.task import Task, TaskOptions

Choices = list[Any] | dict[str, list[Any]]

MACHINES = "machine"
"""Axis of machines that are no grid: the number of each in the file."""


class StartFile(BaseModel):
    """How a search begins: so many designs along the greedy path, its losses measured on so many samples."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    designs: int = Field(default=8, ge=0)
    samples: int = Field(default=64, ge=1)


class SearchFile(BaseModel):
    """What a search's YAML may hold; see the module's text."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=4000)
    network: Entry
    recipe: dict[str, Any] = Field(default={})
    groups: dict[str, list[str]] = Field(default={})
    weight_bits: Choices = Field(default=[])
    act_bits: Choices = Field(default=[])
    ocs: Choices = Field(default=[])
    accelerators: list[Entry] = Field(min_length=1)
    technology: Entry = "google"
    batch: int = 1
    timing: str | None = None
    objectives: list[str] = Field(default=["accuracy", "energy", "latency", "area"], min_length=1)
    budget: dict[str, Any] = Field(default={})
    trials: int = Field(default=100, ge=1)
    seed: int = Field(default=0, ge=0)
    sampler: str = "tpe"
    population: int = Field(default=16, ge=4)
    local: bool = True
    start: StartFile = StartFile()
    bit_exact_images: int = Field(default=2, ge=0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Search:
    """A validated search.

    Parameters
    ----------
    name, description
        For reports.
    task
        Network with samples.
    space
        What there is to choose.
    objectives, budget
        What designs are judged by.
    settings
        How many designs are tried, and how they are found.
    start
        How it begins.
    bit_exact_images
        Samples proved equal to the torch oracle, per Program.
    """

    name: str
    description: str
    task: TaskOptions
    space: Space
    objectives: tuple[str, ...]
    budget: Budget
    settings: Settings
    start: StartFile
    bit_exact_images: int


def read_search(path: Path, base: TaskOptions) -> Search:
    """Read a search's YAML; `base` says where data are.

    Raises
    ------
    ValueError
        With all errors of the file in one line.
    """
    if not path.is_file():
        raise ValueError(
            f"search {path} does not exist; give a YAML file (reports/studies/search_front/search.yaml is one)"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"search {path} is no UTF-8 text: {error}") from None
    return build_search(plain_mapping(text, f"search {path}"), base, str(path), path.parent)


def build_search(plain: Mapping[str, Any], base: TaskOptions, origin: str = "search", folder: Path = Path()) -> Search:
    """Return the search that a mapping describes; `origin` names it in errors, files are looked for in `folder`."""
    try:
        file = SearchFile.model_validate(dict(plain))
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)]
        raise ValueError(f"search {origin} has {len(lines)} error(s): {'; '.join(lines)}") from None
    study = _study(file, base, origin, folder)
    options = study.points[0].options
    assert isinstance(options, QuantOptions)
    problems: list[str] = []
    recipe = _base(options, problems)
    task = task_of(study.points[0].task)
    space = _space(file, study, recipe, task, problems)
    objectives = read_objectives(file.objectives, problems)
    budget = read_budget(file.budget, objectives, problems) if objectives else Budget(minimize="accuracy")
    if file.sampler not in SAMPLERS:
        problems.append(f"sampler: must be one of {', '.join(SAMPLERS)} (got {file.sampler!r})")
    if problems:
        raise ValueError(f"search {origin} has {len(problems)} error(s): {'; '.join(problems)}")
    return Search(
        name=file.name,
        description=file.description,
        task=study.points[0].task,
        space=space,
        objectives=objectives,
        budget=budget,
        settings=Settings(
            trials=file.trials, seed=file.seed, sampler=file.sampler, population=file.population, local=file.local
        ),
        start=file.start,
        bit_exact_images=file.bit_exact_images,
    )


def _study(file: SearchFile, base: TaskOptions, origin: str, folder: Path) -> Study:
    """Return the machines as a study of the base recipe."""
    plain = {"name": file.name, "networks": [file.network], "recipes": [file.recipe], "batch": file.batch}
    plain |= {"accelerators": file.accelerators, "technologies": [file.technology], "timing": file.timing}
    study = build_study(plain, base, origin, folder)
    for what, values in (
        ("network", {point.task for point in study.points}),
        ("recipe", {point.options for point in study.points}),
        ("technology", {point.prices for point in study.points}),
    ):
        if len(values) > 1:
            raise ValueError(f"search {origin}: {what} must have no lists (got {len(values)} of them); choose one")
    return study


def _base(options: QuantOptions, problems: list[str]) -> Recipe:
    if options.needs_plan:
        problems.append("recipe: splits that depend on the array belong to the search; write ocs: {together: [fill]}")
        options = replace(options, ocs=None, ocs_folds=None)
    return recipe_from_options(options)


def _space(file: SearchFile, study: Study, recipe: Recipe, task: Task, problems: list[str]) -> Space:
    folded = fold_batch_norm(task.graph)
    groups = group_layers(find_layers(folded, protected_layers(folded, recipe)), file.groups, problems)
    if reserved := [name for name in file.groups if name in ("", ALL)]:
        problems.append(f"groups: must have names other than {ALL} (got {reserved[0]!r})")
    given = {"weight_bits": file.weight_bits, "act_bits": file.act_bits, "ocs": file.ocs}
    axes = [axis for what, choices in given.items() for axis in _axes(what, choices, groups, problems)]
    if file.ocs and any(transform.name == "ocs" for transform in recipe.transforms):
        problems.append("ocs: must be left out where the recipe splits outliers already; leave it out of one")
    machine_axes, machines = _machines(study)
    if not axes and not machine_axes:
        problems.append("there is nothing to choose; give weight_bits, act_bits, ocs, or lists in accelerators")
    return Space(base=recipe, groups=groups, axes=(*axes, *machine_axes), machines=machines)


def _axes(what: str, given: Choices, groups: Mapping[str, Any], problems: list[str]) -> list[Axis]:
    """Return an axis for every group that chooses: all of them where a list is given."""
    by_group = given if isinstance(given, dict) else dict.fromkeys(groups, given) if given else {}
    if ALL in by_group and len(by_group) > 1:
        problems.append(f"{what}: {ALL} must be alone, it is for all groups (got {', '.join(by_group)} besides)")
    axes = []
    for group, values in by_group.items():
        if group not in groups and group != ALL:
            problems.append(f"{what}.{group}: there is no such group; there are {', '.join(groups)}, and {ALL}")
        check = _check_split if what == "ocs" else _check_width
        wrong = [text for value in values if (text := check(value))]
        problems += [f"{what}.{group}: {text}" for text in wrong]
        if not values or len(set(map(repr, values))) < len(values):
            problems.append(f"{what}.{group}: must list values, each once (got {values!r})")
        if not wrong:
            numbers = sorted(value for value in values if value != FILL)
            axes.append(Axis(what, group, (*numbers, *(value for value in values if value == FILL))))
    return axes


def _check_width(value: Any) -> str:
    try:
        check_bits(value, "width")
    except (ValueError, TypeError) as error:
        return str(error)
    return "" if type(value) is int else f"must be a whole number (got {value!r})"


def _check_split(value: Any) -> str:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
    return "" if value == FILL or fits else f"must be a ratio within 0..1 or {FILL} (got {value!r})"


def _machines(study: Study) -> tuple[list[Axis], dict[tuple[Plain, ...], Point]]:
    """Return an axis for each factor that machines differ in where they are a whole grid; else one of them all."""
    points = study.points
    names = list(dict.fromkeys(name for point in points for name in point.factors))
    values = {name: list(dict.fromkeys(point.factors.get(name) for point in points)) for name in names}
    axes = [_sorted(Axis(name, "", tuple(found))) for name, found in values.items() if len(found) > 1]
    table = {tuple(point.factors.get(axis.what) for axis in axes): point for point in points}
    grid = 1
    for axis in axes:
        grid *= len(axis.choices)
    if len(table) == len(points) == grid:
        return axes, table
    named = tuple(f"{place}: {point.machine.accelerator.name}" for place, point in enumerate(points))
    return [Axis(MACHINES, "", named)], {(name,): point for name, point in zip(named, points, strict=True)}


def _sorted(axis: Axis) -> Axis:
    return Axis(axis.what, axis.group, tuple(sorted(axis.choices))) if axis.ordered else axis  # type: ignore[type-var]
