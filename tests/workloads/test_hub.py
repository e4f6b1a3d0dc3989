"""Language models from a folder: configuration, safetensors, tokens; nothing fetched, nothing executed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quant.capture import capture
from workloads.base import IGNORED
from workloads.hub import hub_workload, is_hub_folder, transformers

try:
    transformers()
except ValueError:
    pytest.skip("transformers is not installed (extra nlp)", allow_module_level=True)

BERT = {
    "architectures": ["BertForSequenceClassification"], "model_type": "bert", "hidden_size": 16, "vocab_size": 50,
    "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "num_labels": 3,
}  # fmt: skip
GPT = {
    "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2,
    "vocab_size": 50, "n_positions": 32, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip


def folder(path: Path, config: dict[str, Any]) -> Path:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    return path


def tokens(path: Path, **more: np.ndarray) -> Path:
    x = np.random.default_rng(0).integers(0, 50, (6, 9))
    np.savez(path / "tokens.npz", x=x, **more)
    return path / "tokens.npz"


def test_classifier(tmp_path: Path) -> None:
    data = tokens(tmp_path, y=np.arange(6) % 3)
    found = hub_workload(folder(tmp_path / "bert", BERT), data)
    assert (found.metric, found.input_shape, found.tokens, found.name) == ("top1", (9,), True, "bert")
    samples = found.samples(data)
    with torch.no_grad():
        out = found.build()(torch.from_numpy(samples.batch(np.arange(6))))
    assert out.shape == (6, 3)
    assert is_hub_folder(str(tmp_path / "bert"))
    assert not is_hub_folder(str(tmp_path))


def test_causal_model_predicts_the_next_token(tmp_path: Path) -> None:
    data = tokens(tmp_path)
    found = hub_workload(folder(tmp_path / "gpt", GPT), data)
    samples = found.samples(data)
    x = samples.batch(np.arange(6))
    assert np.array_equal(samples.y[:, :-1], x[:, 1:])
    assert (samples.y[:, -1] == IGNORED).all()
    assert found.metric == "perplexity"


@pytest.mark.parametrize("kind", ["roberta", "camembert"])
def test_positions_that_a_model_counts_from_its_padding_on_are_given_to_it(kind: str, tmp_path: Path) -> None:
    title = {"roberta": "Roberta", "camembert": "Camembert"}[kind]
    config = BERT | {"architectures": [f"{title}ForSequenceClassification"], "model_type": kind, "pad_token_id": 1}
    x = torch.from_numpy(np.random.default_rng(0).integers(2, 50, (3, 9)))
    found = hub_workload(folder(tmp_path / kind, config), tokens(tmp_path, y=np.arange(6) % 3)).build()
    with torch.no_grad():
        assert torch.equal(found(x), found.inner(input_ids=x).logits)
    nodes = capture(found, x).nodes  # its own way is through the token ids, which no graph holds
    assert any(node.op == "attention" for node in nodes)


def test_weights_of_the_folder_are_loaded(tmp_path: Path) -> None:
    path = folder(tmp_path / "gpt", GPT)
    data = tokens(tmp_path)
    found = hub_workload(path, data)
    source = found.build(seed=5)
    source.inner.save_pretrained(path)
    assert list(path.glob("*.safetensors"))
    again = hub_workload(path, data).build(seed=6)
    x = torch.from_numpy(np.load(data)["x"])
    with torch.no_grad():
        assert torch.equal(again(x), source(x))
        (path / "model.safetensors").unlink()
        assert not torch.equal(found.build(seed=6)(x), source(x))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "nothing-like-it"}, "must describe a model"),
        (BERT | {"architectures": ["BertForMaskedLM"]}, "causal language model or a sequence classifier"),
        ({}, "must describe a model"),
    ],
)
def test_other_models_are_refused(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hub_workload(folder(tmp_path / "model", config), None)


def test_a_classifier_needs_labels(tmp_path: Path) -> None:
    data = tokens(tmp_path)
    with pytest.raises(ValueError, match="class ids y"):
        hub_workload(folder(tmp_path / "bert", BERT), data).samples(data)
