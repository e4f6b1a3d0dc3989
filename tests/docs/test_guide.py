"""What README and user guide show must exist and work: commands, files, links, code, YAML, names, keys."""

import importlib
import re
import shlex
import sqlite3
from itertools import pairwise
from pathlib import Path

import pytest
from guide_pages import GUIDE, PAGES, ROOT, all_blocks, inline, name_of, prose
from pydantic import BaseModel

from accelsim.arith import REQUANT_RULES
from accelsim.config import Accelerator, load_accelerator, parse_accelerator
from accelsim.pe import PE_TYPES
from accelsim.plain_yaml import plain_mapping
from accelsim.technology import DRAM_TYPES, TECHNOLOGIES, read_tables
from quant.clip import CLIPS
from quant.recipe import Recipe
from quant.recipes import RECIPES, recipe_from_yaml
from quant.transforms import TRANSFORMS
from reports.cli import build_parser
from reports.cost import cost_network
from reports.run import Engine, Machinery, RunOptions, run_network
from reports.search.file import SearchFile, build_search
from reports.sweep.store import Store
from reports.sweep.study import build_study
from reports.task import TaskOptions
from workloads import WORKLOADS

DOCS = ROOT / "docs"
MOST_LINES = 250

COMMANDS = sorted(
    {
        line.strip()
        for block in all_blocks("sh")
        for line in block.text.splitlines()
        if line.strip().startswith("accelsim ")
    }
    | {text for page in PAGES for text in inline(page) if re.fullmatch(r"accelsim [a-z-]+( .*)?", text)}
)

YAMLS = all_blocks("yaml")
PYTHON = [block for block in all_blocks("python") if block.mark == "runnable"]
PATH = re.compile(r"(?:accelsim|quant|workloads|reports|tests|docs)/[\w./-]+")
DOTTED = re.compile(r"(?:accelsim|quant|workloads|reports)(?:\.\w+)+")


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


# --- commands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command: str) -> None:
    words = shlex.split(command.replace("NETWORK|FILE", "NETWORK"), comments=True)[1:]
    known = build_parser()
    if len(words) == 1 and words[0] in (
        "sweep",
        "merge",
        "export",
        "report",
        "search",
        "run",
        "cost",
        "export-vectors",
        "export-onnx",
    ):
        words.append("--help")  # named in a sentence, without its arguments
    elif words == ["list"]:
        words.append("networks")
    if "--help" in words:
        with pytest.raises(SystemExit) as left:
            known.parse_args(words)
        assert left.value.code == 0
        return
    known.parse_args(words)


def test_there_are_commands_and_a_wrong_one_is_noticed() -> None:
    assert len(COMMANDS) > 40
    with pytest.raises(ValueError, match="unrecognized arguments"):
        build_parser().parse_args(shlex.split("cost digits --weights-bits 4"))


def test_named_recipes_presets_and_networks_of_commands_exist() -> None:
    """Of plain words: files and placeholders have dots, slashes, colons or capitals."""
    known = {"--recipe": RECIPES, "--technology": TECHNOLOGIES}
    known["--accelerator"] = dict.fromkeys(path.stem for path in (ROOT / "accelsim" / "presets").glob("*.yaml"))
    for command in COMMANDS:
        words = shlex.split(command, comments=True)
        for flag, value in pairwise(words):
            if flag in known and not re.search(r"[.A-Z/]", value.replace("ocs0.", "")) and value != "near-memory":
                assert value in known[flag], command
        if words[1] == "run" and re.fullmatch(r"[a-z0-9-]+", words[2] if len(words) > 2 else "."):
            assert words[2] in WORKLOADS or words[2] == "resnet50", command


# --- files, links, names ---------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]+))?\)", prose(page)):
        if "://" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{name_of(page)}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{name_of(page)}: {target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_that_is_named_exists(page: Path) -> None:
    new = {"quant/my_rule.py", "quant/my_transform.py", "accelsim/technology/my_table.py"}
    for text in inline(page):
        if PATH.fullmatch(text) and text not in new:
            assert (ROOT / text).exists(), f"{name_of(page)}: {text}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_name_that_is_dotted_exists(page: Path) -> None:
    for text in inline(page):
        if not DOTTED.fullmatch(text) or text.endswith((".py", ".NAME")):
            continue
        module, found = text, None
        while found is None:
            try:
                found = importlib.import_module(module)
            except ModuleNotFoundError:
                module = module.rpartition(".")[0]
                assert module, f"{name_of(page)}: {text}"
        for part in filter(None, text.removeprefix(module).split(".")):
            assert hasattr(found, part), f"{name_of(page)}: {text}"
            found = getattr(found, part)


@pytest.mark.parametrize("page", GUIDE, ids=name_of)
def test_pages_are_short_and_listed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    assert page.name == "README.md" or f"({page.name})" in text_of("README.md")
    assert "@@" not in text


# --- code and YAML ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.page)
def test_runnable_python_runs(block) -> None:
    exec(compile(block.text, block.page, "exec"), {"__name__": "guide"})


def test_all_other_python_compiles() -> None:
    for block in all_blocks("python"):
        compile(block.text, block.page, "exec")


@pytest.mark.parametrize("block", YAMLS, ids=lambda block: f"{block.page}-{block.mark}")
def test_yaml_loads_with_its_own_reader(block, tmp_path: Path) -> None:
    base = TaskOptions(network="")
    if block.mark == "accelerator":
        assert parse_accelerator(block.text, block.page).name
    elif block.mark == "recipe":
        assert recipe_from_yaml(block.text, block.page).transforms
    elif block.mark == "study":
        study = build_study(plain_mapping(block.text, block.page), base, block.page)
        assert len(study.points) > 10
    elif block.mark == "search":
        search = build_search(plain_mapping(block.text, block.page), base, block.page)
        assert search.space.size > search.settings.trials
    elif block.mark == "prices":
        roles = plain_mapping(block.text, block.page)["roles"].values()
        actions = "[{name: compute, energy: 2}, {name: read, energy: 2}, {name: write, energy: 2}]"
        rows = ", ".join(f"{{name: {role['component']}, actions: {actions}}}" for role in roles)
        for name, text in (("ERT", rows), ("ART", "")):
            (tmp_path / f"{name}.yaml").write_text(f"{name}: {{tables: [{text}]}}", encoding="utf-8")
        (tmp_path / "prices.yaml").write_text(block.text, encoding="utf-8")
        assert read_tables(tmp_path / "prices.yaml").at(45).mac_pj(8, 8, 24) == pytest.approx(2)
    else:
        pytest.fail(f"{block.page}: a YAML block must say in its first line what it is")


# --- nothing is left out ---------------------------------------------------------------------------------------------


def fields(model: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            part = "…" if name.endswith("_sram") else f"{prefix}{name}"
            found += [name] * name.endswith("_sram") + fields(inner, f"{part}.")
        else:
            found.append(f"{prefix}{name}")
    return found


def test_machine_page_has_every_field_of_an_accelerator() -> None:
    text = text_of("machine.md").replace("….`", "`….")
    missing = [name for name in fields(Accelerator) if f"`{name}`" not in text]
    assert missing == []
    assert all(f"`{name}`" in text for name in PE_TYPES)


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("methods.md", [*CLIPS, *TRANSFORMS]),
        ("numerics.md", list(REQUANT_RULES)),
        ("prices.md", [*TECHNOLOGIES, *DRAM_TYPES]),
    ],
)
def test_pages_have_every_entry_of_their_dicts(page: str, names: list[str]) -> None:
    assert [name for name in names if f"`{name}`" not in text_of(page)] == []


def test_sweep_page_has_the_schema_and_every_key_of_a_search(tmp_path: Path) -> None:
    text = text_of("sweeps.md")
    with Store(tmp_path / "store.db", create=True) as store:
        store.keep("search", "none", {})
    with sqlite3.connect(tmp_path / "store.db") as db:
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"):
            (row,) = re.findall(rf"^\| `{table}`.*$", text, re.MULTILINE)
            for _, column, *_ in db.execute(f"PRAGMA table_info({table})"):
                assert f"`{column}`" in row, (table, column)
    rare = {"description", "recipe", "act_bits", "batch", "timing", "seed", "population", "local", "start"}
    for key in set(SearchFile.model_fields) - rare - {"bit_exact_images"}:
        assert re.search(rf"^{key}:|`{key}:|`{key}`", text, re.MULTILINE), key


def test_format_page_has_exactly_the_keys_of_run_and_cost() -> None:
    text = text_of("formats.md")
    tables = (
        text.split("## `accelsim run` and `accelsim cost`")[1].split("`--html FILE`")[0].split("| key of a layer |")
    )
    task = TaskOptions(network="digits", images=8, calib=32)
    machinery = Machinery(accelerator=load_accelerator("edge-32x32"))
    run = run_network(
        RunOptions(task=task, recipe=Recipe(), machinery=machinery, engine=Engine(bit_exact_images=1))
    ).to_json()
    cost = cost_network(task, Recipe(), machinery)
    sometimes = {"split_plan", "pe_toggle_energy_pj"}
    for table, record, priced in ((tables[0], run, cost), (tables[1], run["layers"][0], cost["layers"][0])):
        found: dict[str, bool] = {}
        for keys, marked in re.findall(r"^\| (`.*?`) \| (.*?) \|", table, re.MULTILINE):
            for key in re.findall(r"`(\w+)`", keys):
                found[key] = "●" in marked or f"`{key}`" in marked
        assert set(found) - sometimes == set(record) | set(priced)
        assert {key for key, also in found.items() if also} - sometimes == set(priced)
