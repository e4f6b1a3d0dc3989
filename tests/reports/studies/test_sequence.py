"""The studies of recurrent networks and transformers, whole, on networks of a few cells."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from float_nets import assert_same_function, linear_graph
from torch import nn

from quant.clip import Max
from quant.grid import affine, quantize
from quant.recipe import Recipe
from quant.recipes import RECIPES
from quant.splitquant import SplitQuant
from reports.studies import common
from reports.studies.common import HELD, NOT_HELD, UNDECIDED, Difference
from reports.studies.lstm_words import __main__ as lstm_main
from reports.studies.lstm_words import published
from reports.studies.lstm_words import study as lstm_study
from reports.studies.lstm_words.findings import FINDINGS, judge_all, verdict
from reports.studies.transformers import __main__ as transformers_main
from reports.studies.transformers import study as transformers_study
from reports.studies.transformers.unsplit import joined, quantize_affine
from reports.task import TaskOptions, load_task
from workloads import IGNORED, WORKLOADS, Samples, Source, Workload, bert
from workloads.llama import Llama, LlamaShape

WORDS, TOKENS = 11, 4


class TinyLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(WORDS, 5), nn.LSTM(5, 4, num_layers=2, batch_first=True)
        self.linear = nn.Linear(4, WORDS)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.linear(self.lstm(self.embedding(ids))[0])


def texts(count: int, spare: int, classes: int = 0, tokens: int = TOKENS) -> Samples:
    rng = np.random.default_rng(3)
    x = rng.integers(0, WORDS, (count + spare, tokens))
    y = rng.integers(0, classes, count + spare) if classes else np.roll(x, -1, axis=1)
    if not classes:
        y[:, 0] = IGNORED
    return Samples(x=x, y=y, evaluable=count)


def tiny(name: str, make: Callable[[], nn.Module], samples: Samples) -> Workload:
    def model(source: Source) -> nn.Module:
        torch.manual_seed(source.seed)
        return make()

    return replace(
        WORKLOADS[name], input_shape=samples.x[np.arange(1)].shape[1:], model=model, data=lambda source: samples,
        needs_data=False, needs_cache=False,
    )  # fmt: skip


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"WIDTH": 8, "FEED": 12, "TOKENS": TOKENS, "LAYERS": 1}.items():
        monkeypatch.setattr(bert, key, value)
    shape = LlamaShape(dim=8, hidden=12, layers=1, heads=2, kv_heads=1, vocab=WORDS, context=TOKENS)
    made = [
        *(tiny(network.name, TinyLSTM, texts(6, 4)) for network in lstm_study.NETWORKS),
        *(tiny(name, lambda: bert.BertTiny(WORDS, 3), texts(12, 6, classes=3)) for name in transformers_study.BERTS),
        tiny(transformers_study.DRAWN, lambda: Llama(shape, TOKENS), texts(6, 4)),
        tiny(transformers_study.STORIES, lambda: Llama(shape, TOKENS), texts(3, 4)),
    ]
    for workload in made:
        monkeypatch.setitem(WORKLOADS, workload.name, workload)


def run_twice(main: Callable[[list[str]], int], folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> Any:
    """Run a study, then again from what it kept: nothing is measured a second time, and the files are the same."""
    (folder / "out").mkdir()
    arguments = ["--data", str(folder), "--kept", str(folder / "kept"), "--out", str(folder / "out"), "--threads", "1"]
    arguments += ["--networks", *names]
    files = [folder / "out" / name for name in ("results.json", "README.md")]
    assert main(arguments) == 0
    first = [path.read_text() for path in files]
    with monkeypatch.context() as patch:
        patch.setattr(common, "evaluate", None)
        patch.setattr(transformers_study, "evaluate", None)
        assert main(arguments) == 0
    assert [path.read_text() for path in files] == first
    return json.loads(first[0]), first[1]


def test_the_study_of_lstms_is_whole_and_resumes(networks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    results, page = run_twice(lstm_main.main, tmp_path, monkeypatch, "wikitext2-lstm")
    for name, part in results["networks"].items():
        assert f"## {name}" in page
        assert len(part["cells"]) == 34
        assert all(cell["bit_exact"] and cell["bit_exact_batches"] == 2 for cell in part["cells"])
        grown = {cell["ratio"]: cell["weight_expansion"] for cell in part["cells"]}
        # 5 + 4 + 4 + 4 input channels of the four matrices, each with one more where r > 0; the last layer has none
        assert grown[0.0] == 1
        assert grown[0.01] == pytest.approx((16 * (6 + 3 * 5) + 4 * WORDS) / (16 * (5 + 3 * 4) + 4 * WORDS))
        assert len(judge_all(part)) == len(FINDINGS)
        float_cell = next(cell for cell in part["cells"] if cell["bits"] == 16)
        assert abs(float_cell["minus_float"]) < 0.01
    assert page.count("94.5") == 1  # the paper's figures stand beside the perplexities alone
    assert "34 of 34 Programs bit-exact" in page


def assert_whole(part: Any, name: str, page: str) -> None:
    assert f"### {name}" in page
    assert all(cell["bit_exact"] and cell["bit_exact_batches"] == 2 for cell in part["cells"])
    assert len({(cell["bits"], cell["column"]) for cell in part["cells"]}) == len(part["cells"])


def test_the_study_of_splitquant_is_whole_and_resumes(networks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    name = transformers_study.BERTS[0]
    results, page = run_twice(transformers_main.main, tmp_path, monkeypatch, name)
    assert_whole(results["tasks"][name], name, page)
    cells = {(c["bits"], c["column"]): c for c in results["tasks"][name]["cells"]}
    assert len(cells) == 12
    assert cells[2, "unsplit affine"]["weight_expansion"] == 1
    assert cells[2, "SplitQuant affine"]["weight_expansion"] == 3


@pytest.mark.slow
def test_the_study_of_the_language_model_is_whole_and_resumes(
    networks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    results, page = run_twice(transformers_main.main, tmp_path, monkeypatch, transformers_study.STORIES)
    assert list(results["tasks"]) == [transformers_study.DRAWN, transformers_study.STORIES]
    for name, part in results["tasks"].items():
        assert_whole(part, name, page)
        assert len(part["cells"]) == 42


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for main in (lstm_main.main, transformers_main.main):
        assert main(["--data", str(tmp_path), "--out", str(tmp_path), "--accelerator", "nothing"]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_every_recipe_is_the_papers_row():
    for cell in lstm_study.cells():
        recipe = cell.recipe
        assert (recipe.weight_bits, recipe.act_bits) == (cell.bits, 16)
        assert recipe.transforms == () if cell.ratio == 0 else recipe.transforms[0].ratio == cell.ratio
        assert recipe.weight_clip.name == ("max" if cell.clip == "none" else cell.clip)
    assert published.published(5, 0.05, "none") == published.FLOAT


def test_one_affine_grid_for_a_whole_layer(networks: None, rng: np.random.Generator):
    weight, bias = (rng.normal(0.3, 1, shape).astype(np.float32) for shape in ((6, 9), 6))
    graph = linear_graph(weight, bias)
    whole = joined(SplitQuant()(graph))
    assert_same_function(graph, whole, rng.normal(size=(4, 9)).astype(np.float32))
    assert np.array_equal(whole.node("layer.middle").params["weight"], weight)
    task = load_task(TaskOptions(network=transformers_study.BERTS[0], calib=4))
    recipe = replace(RECIPES["splitquant-w2-none"], weight_clip=Max())
    found = quantize_affine(task, recipe)
    for node in task.graph.nodes:
        if node.op != "linear":
            continue
        real = node.params["weight"]
        grid = affine(real.min(), real.max(), 2)
        codes = found.program.op(f"{node.name}.middle").weight[:, 0, 0]
        np.testing.assert_array_equal(codes, quantize(real, grid) - grid.one_zero_point)
        assert not found.program.op(f"{node.name}.lower").weight.any()


@pytest.mark.parametrize(
    ("value", "error", "claim", "says"),
    [
        (1.0, 0.1, "ahead", NOT_HELD), (-1.0, 0.1, "ahead", HELD), (-0.1, 0.1, "ahead", UNDECIDED),
        (1.0, 0.1, "not ahead", HELD), (-1.0, 0.1, "not ahead", NOT_HELD), (-0.1, 0.1, "not ahead", UNDECIDED),
        (0.1, 0.1, "not ahead", HELD), (0.0, 0.0, "not ahead", HELD), (0.1, 0.1, "not behind", UNDECIDED),
        (-0.1, 0.1, "not behind", HELD), (1.0, 0.1, "not behind", NOT_HELD),
    ],
)  # fmt: skip
def test_verdicts_where_less_is_better(value: float, error: float, claim: str, says: str):
    assert verdict([Difference(value, error, better=False)], claim) == says
    assert verdict([Difference(-value, error, better=True)], claim) == says


def test_recipes_of_the_language_model_have_names_of_their_own():
    recipes: list[Recipe] = [transformers_study.llama_recipe(place) for place in transformers_study.llama_places()]
    assert len({recipe.name for recipe in recipes}) == len(recipes) == 42
    assert all((recipe.act_bits, recipe.inner_bits) == (8, 12) for recipe in recipes)
