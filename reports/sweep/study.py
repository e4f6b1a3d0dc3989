"""A study: which points a sweep is made of, from YAML or from Python.

    name: quick
    networks: [{name: digits, images: 300, calib: 256}]
    recipes:
      - {weight_bits: [2, 3, 4, 6, 8], ocs: [null, 0.02, fill]}
    accelerators:
      - base: edge-32x32
        array.dataflow: [ws, os]
        array.rows, array.cols: [[16, 16], [32, 32]]
    technologies: [google, nangate45]
    skip:
      - {weight_bits: ">= 6", ocs: fill}

Lists inside an entry are axes of a grid; a key of several names, with commas between, is one axis of tuples. A
combination that fulfils every condition of an entry of `skip` is left out.
"""

import itertools
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from accelsim.config import Accelerator, build_accelerator, load_accelerator
from accelsim.dataflow import MODES
from accelsim.plain_yaml import plain_mapping
from accelsim.technology import TECHNOLOGIES
from quant.recipe import Recipe
from quant.recipe_options import QuantOptions, recipe_from_options
from reports.prices import SCALINGS, Prices
from reports.sweep.conditions import check_condition, matches
from reports.task import TaskOptions

Entry = str | dict[str, Any]
Plain = str | int | float | bool | None

Kinds = Mapping[str, tuple[type, ...]]

NETWORK_FIELDS: Kinds = {"name": (str,), "images": (int,), "calib": (int,), "seed": (int,), "weights": (str,)}
RECIPE_FIELDS: Kinds = {
    name: tuple(kind for kind in get_args(hint) if kind is not NoneType)
    for name, hint in get_type_hints(QuantOptions).items()
}
PRICE_FIELDS: Kinds = {"name": (str,), "node_nm": (float,), "scaling": (str,)}
MACHINE_FIELDS: Kinds = {"base": (str,), "equal_area_bits": (int,)}
"""Beside those of an accelerator, which are checked when it is built."""

MAX_COMBINATIONS = 1_000_000
"""Of a study, counted before any is made: some seconds and a gigabyte."""

SHOWN = 5
"""Problems of one entry that are named."""

_KIND_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


class StudyFile(BaseModel):
    """What a study's YAML may hold; see the module's text.

    Parameters
    ----------
    name, description
        For reports.
    networks, recipes, accelerators, technologies
        Entries: a name, or a mapping of fields with lists as axes.
    batch, timing
        Samples per batch of every cost, and timing mode; axes where lists.
    bit_exact_images
        Samples proved equal to the torch oracle, per Program.
    accuracy
        Execute the networks. Without it they are priced from shapes and widths alone: networks need no samples.
    skip
        Combinations to leave out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=4000)
    networks: list[Entry] = Field(min_length=1)
    recipes: list[Entry] = Field(min_length=1)
    accelerators: list[Entry] = Field(min_length=1)
    technologies: list[Entry] = Field(default=["google"], min_length=1)
    batch: int | Annotated[list[int], Field(min_length=1)] = 1
    timing: str | Annotated[list[str | None], Field(min_length=1)] | None = None
    bit_exact_images: int = Field(default=2, ge=0)
    accuracy: bool = True
    skip: list[dict[str, Any]] = Field(default=[])


@dataclass(frozen=True, kw_only=True)
class Machine:
    """An accelerator of a study.

    Parameters
    ----------
    accelerator
        As described.
    equal_area_bits
        Columns are added or taken away until the PE array, built for the network's own widths, is as large as the
        described one is with PEs for operands of so many bits; ``None`` leaves the array as described.
    """

    accelerator: Accelerator
    equal_area_bits: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Point:
    """One design: everything that decides its figures, and what the study calls it.

    Parameters
    ----------
    task, options, machine, prices, batch, timing_mode
        Network with samples, recipe or options that become one, accelerator, technology, samples per batch and timing.
    factors
        The study's own words for it: field by name, plain values.
    """

    task: TaskOptions
    options: QuantOptions | Recipe
    machine: Machine
    prices: Prices
    batch: int
    timing_mode: str | None
    factors: Mapping[str, Plain]


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """A validated study.

    Parameters
    ----------
    name, description
        For reports.
    points
        All of them, neighbours alike in network and recipe.
    bit_exact_images
        Samples proved equal to the torch oracle, per Program.
    accuracy
        Whether networks are executed, or only priced.
    """

    name: str
    description: str
    points: tuple[Point, ...]
    bit_exact_images: int = 2
    accuracy: bool = True


def read_study(path: Path, base: TaskOptions) -> Study:
    """Read a study's YAML; `base` says where data are.

    Raises
    ------
    ValueError
        With all errors of the file in one line.
    """
    if not path.is_file():
        raise ValueError(f"study {path} does not exist; give a YAML file (reports/studies/quick.yaml is one)")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"study {path} is no UTF-8 text: {error}") from None
    return build_study(plain_mapping(text, f"study {path}"), base, str(path), path.parent)


def build_study(plain: Mapping[str, Any], base: TaskOptions, origin: str = "study", folder: Path = Path()) -> Study:
    """Return the study that a mapping describes.

    Parameters
    ----------
    plain
        As in the YAML.
    base
        Data folder, cache, and the samples of networks that do not say which.
    origin
        Names the study in errors.
    folder
        Files that the study names are looked for here first.
    """
    try:
        file = StudyFile.model_validate(dict(plain))
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)]
        raise ValueError(f"study {origin} has {len(lines)} error(s): {'; '.join(lines)}") from None
    _check_size(file, origin)
    problems: list[str] = []
    reader = _Reader(base, folder, problems)
    networks = reader.each("networks", file.networks, reader.network)
    recipes = reader.each("recipes", file.recipes, reader.recipe)
    machines = reader.each("accelerators", file.accelerators, reader.machine)
    prices = reader.each("technologies", file.technologies, reader.prices)
    batches = [({"batch": b}, b) for b in _listed(file.batch)]
    modes = [({"timing": mode}, mode) for mode in _listed(file.timing)]
    problems += [f"batch: must be >= 1 (got {batch})" for _, batch in batches if batch < 1]
    problems += [f"timing: must be one of {', '.join(MODES)} (got {m!r})" for _, m in modes if m not in (None, *MODES)]
    axes = (networks, recipes, machines, prices, batches, modes)
    known = {name for axis in axes for factors, _ in axis for name in factors}
    for place, condition in enumerate(file.skip):
        problems += [f"skip[{place}]: {problem}" for problem in check_condition(condition, known)]
    if problems:
        raise ValueError(f"study {origin} has {len(problems)} error(s): {'; '.join(problems)}")
    points = [
        point
        for point in map(_point, itertools.product(*axes))
        if not any(matches(condition, point.factors) for condition in file.skip)
    ]
    if not points:
        raise ValueError(f"study {origin} has no points left (skip leaves all of them out); narrow skip")
    return Study(
        name=file.name,
        description=file.description,
        points=tuple(points),
        bit_exact_images=file.bit_exact_images,
        accuracy=file.accuracy,
    )


def _point(chosen: tuple[tuple[dict[str, Plain], Any], ...]) -> Point:
    factors: dict[str, Plain] = {}
    for named, _ in chosen:
        factors |= named
    task, options, machine, prices, batch, mode = (value for _, value in chosen)
    return Point(
        task=task, options=options, machine=machine, prices=prices, batch=batch, timing_mode=mode, factors=factors
    )


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _check_size(file: StudyFile, origin: str) -> None:
    """Refuse a study that is too large before any of it is made."""
    size = len(_listed(file.batch)) * len(_listed(file.timing))
    for entries in (file.networks, file.recipes, file.accelerators, file.technologies):
        size *= sum(
            1 if isinstance(entry, str) else math.prod(len(_listed(value)) for value in entry.values())
            for entry in entries
        )
    if size > MAX_COMBINATIONS:
        raise ValueError(
            f"study {origin} must have at most {MAX_COMBINATIONS} combinations before any is skipped (got {size}); "
            "make it several studies, they may share a store"
        )


def grid(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the combinations of an entry's lists; a key ``a, b`` takes pairs.

    Raises
    ------
    ValueError
        For a key of several names whose values are not lists of so many, an empty list, or NaN and infinity.
    """
    axes = []
    for key, value in entry.items():
        names = [name.strip() for name in key.split(",")]
        choices = value if isinstance(value, list) else [value]
        if not choices:
            raise ValueError(f"{key}: must list at least one value (got none)")
        if odd := [choice for choice in choices if isinstance(choice, float) and not math.isfinite(choice)]:
            raise ValueError(f"{key}: must be finite (got {odd[0]})")
        if len(names) == 1:
            axes.append([{key: choice} for choice in choices])
            continue
        if not all(isinstance(choice, list) and len(choice) == len(names) for choice in choices):
            raise ValueError(f"{key}: must be a list of lists of {len(names)} values (got {value!r})")
        axes.append([dict(zip(names, choice, strict=True)) for choice in choices])
    for combination in itertools.product(*axes):
        yield {key: value for part in combination for key, value in part.items()}


class _Reader:
    """Turns entries into values, noting every problem."""

    def __init__(self, base: TaskOptions, folder: Path, problems: list[str]) -> None:
        self.base, self.folder, self.problems = base, folder, problems

    def each(self, what: str, entries: list[Entry], read: Any) -> list[tuple[dict[str, Plain], Any]]:
        """Return (factors, value) for every combination of every entry."""
        found = []
        first = {"networks": "name", "recipes": "recipe", "accelerators": "base", "technologies": "name"}[what]
        for place, entry in enumerate(entries):
            wrong: dict[str, None] = {}
            try:
                for fields_ in grid({first: entry} if isinstance(entry, str) else entry):
                    try:
                        found.append(read(fields_))
                    except (ValueError, OverflowError, OSError) as error:
                        wrong[str(error)] = None
            except ValueError as error:
                wrong[str(error)] = None
            more = len(wrong) - SHOWN
            self.problems += [f"{what}[{place}]: {problem}" for problem in list(wrong)[:SHOWN]]
            self.problems += [f"{what}[{place}]: and {more} more combinations"] if more > 0 else []
        return found

    def network(self, given: dict[str, Any]) -> tuple[dict[str, Plain], TaskOptions]:
        """Read a network with its samples."""
        _check_fields(given, NETWORK_FIELDS, needed="name")
        weights = given.get("weights")
        task = TaskOptions(
            network=self._file(given["name"]),
            data=self.base.data,
            images=given.get("images", self.base.images),
            calib=given.get("calib", self.base.calib),
            seed=given.get("seed", self.base.seed),
            weights=None if weights is None else Path(self._file(weights)),
            cache=self.base.cache,
            trust=self.base.trust,
        )
        return {"network": given["name"]} | {k: v for k, v in given.items() if k == "seed"}, task

    def recipe(self, given: dict[str, Any]) -> tuple[dict[str, Plain], QuantOptions | Recipe]:
        """Read quantization options."""
        _check_fields(given, RECIPE_FIELDS, needed=None)
        named = given.get("recipe")
        options = QuantOptions(**(given | ({} if named is None else {"recipe": self._file(named)})))
        recipe = recipe_from_options(options, {} if options.needs_plan else None)
        return given, options if named is None else recipe  # as a value: a file may change, or be on this computer only

    def machine(self, given: dict[str, Any]) -> tuple[dict[str, Plain], Machine]:
        """Read an accelerator: a base, and fields in its place."""
        own = {key: value for key, value in given.items() if key in MACHINE_FIELDS}
        _check_fields(own, MACHINE_FIELDS, needed="base")
        fields_ = {key: value for key, value in given.items() if key not in MACHINE_FIELDS}
        base, area = own["base"], own.get("equal_area_bits")
        if area is not None and not 2 <= area <= 18:
            raise ValueError(f"equal_area_bits: must be within 2..18 (got {area!r})")
        accelerator = changed(load_accelerator(self._file(base)), fields_)
        return {"accelerator": base} | {k: v for k, v in given.items() if k != "base"}, Machine(
            accelerator=accelerator, equal_area_bits=area
        )

    def prices(self, given: dict[str, Any]) -> tuple[dict[str, Plain], Prices]:
        """Read a technology."""
        _check_fields(given, PRICE_FIELDS, needed="name")
        if given.get("scaling") not in (None, *SCALINGS):
            raise ValueError(f"scaling: must be one of {', '.join(SCALINGS)} (got {given['scaling']!r})")
        prices = Prices.named(**(given | {"name": self._tables(given["name"])}))
        return {"technology": prices.label()}, prices

    def _tables(self, name: str) -> str:
        """Return where price tables are: beside the study, unless it is a technology's name."""
        beside = self.folder / name
        return str(beside) if name not in TECHNOLOGIES and os.path.exists(beside) else name

    def _file(self, name: str) -> str:
        beside = self.folder / name
        try:
            return str(beside) if beside.is_file() else name
        except OSError:  # no file can have this name
            return name


def _check_fields(given: Mapping[str, Any], known: Kinds, needed: str | None) -> None:
    for key, value in given.items():
        if key not in known:
            raise ValueError(f"{key}: there is no such field; known are {', '.join(known)}")
        fits = type(value) in known[key] or (type(value) is int and float in known[key])
        if value is not None and not fits:
            kinds = " or ".join(_KIND_WORDS[kind] for kind in known[key])
            raise ValueError(f"{key}: must be {kinds} (got {value!r})")
    if needed is not None and given.get(needed) is None:
        raise ValueError(f"{needed}: must be given")


def changed(base: Accelerator, fields_: Mapping[str, Any]) -> Accelerator:
    """Return an accelerator with some fields changed, named with dots (``array.rows``).

    Raises
    ------
    ValueError
        For fields that do not exist and values that do not fit, all at once.
    """
    if not fields_:
        return base
    plain = base.model_dump(mode="json")
    for key, value in fields_.items():
        *parts, last = key.split(".")
        place = plain
        for part in parts:
            place = place.get(part) if isinstance(place, dict) else None  # type: ignore[assignment]
            if not isinstance(place, dict):
                raise ValueError(f"{key}: there is no such field of an accelerator; fields look like array.rows")
        place[last] = value
    words = " ".join(f"{key.rsplit('.', 1)[-1]}={value}" for key, value in fields_.items() if key != "name")
    plain["name"] = fields_.get("name", f"{base.name} {words}")
    return build_accelerator(plain, plain["name"])
