"""The Llama-type model reads llama2.c's format exactly and computes what that program computes."""

import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from workloads import IGNORED, METRICS, WORKLOADS
from workloads.bpe import BOS, encode, read_tokens
from workloads.evaluate import evaluate
from workloads.llama import TOKENS, Llama, LlamaShape, read_llama, sample_text, story_windows
from workloads.text import read_text

SHAPE = LlamaShape(dim=24, hidden=20, layers=2, heads=6, kv_heads=2, vocab=40, context=16)


def write(path: Path, rng: np.random.Generator, own_classifier: bool = False) -> dict[str, np.ndarray]:
    """Write a random checkpoint in llama2.c's layout and return its tensors."""
    n, dim, hidden, kv_dim = SHAPE.layers, SHAPE.dim, SHAPE.hidden, SHAPE.kv_heads * SHAPE.head_dim
    dims = {
        "embedding": (SHAPE.vocab, dim), "rms_att": (n, dim), "wq": (n, dim, dim), "wk": (n, kv_dim, dim),
        "wv": (n, kv_dim, dim), "wo": (n, dim, dim), "rms_ffn": (n, dim), "w1": (n, hidden, dim),
        "w2": (n, dim, hidden), "w3": (n, hidden, dim), "rms_final": (dim,),
        "freq_cis": (2 * SHAPE.context * SHAPE.head_dim // 2,),
    }  # fmt: skip
    if own_classifier:
        dims["wcls"] = (SHAPE.vocab, dim)
    stored = {name: rng.normal(0, 0.3, size).astype("<f4") for name, size in dims.items()}
    vocab = -SHAPE.vocab if own_classifier else SHAPE.vocab
    header = (dim, hidden, n, SHAPE.heads, SHAPE.kv_heads, vocab, SHAPE.context)
    path.write_bytes(struct.pack("<7i", *header) + b"".join(a.tobytes() for a in stored.values()))
    return stored


def rms(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return x / math.sqrt(float(np.mean(x * x)) + 1e-5) * weight


def run(w: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """Follow llama2.c token by token: neighbouring dimensions rotate, a group of heads shares a key."""
    size, group = SHAPE.head_dim, SHAPE.heads // SHAPE.kv_heads
    keys: list[list[np.ndarray]] = [[] for _ in range(SHAPE.layers)]
    values: list[list[np.ndarray]] = [[] for _ in range(SHAPE.layers)]
    out = []
    for pos, token in enumerate(ids):
        x = w["embedding"][token].astype(np.float64)
        for layer in range(SHAPE.layers):
            inner = rms(x, w["rms_att"][layer])
            q, k, v = (w[name][layer] @ inner for name in ("wq", "wk", "wv"))
            for vector in (q, k):
                for i in range(0, len(vector), 2):
                    angle = pos / 10000.0 ** ((i % size) / size)
                    a, b = vector[i], vector[i + 1]
                    vector[i] = a * math.cos(angle) - b * math.sin(angle)
                    vector[i + 1] = a * math.sin(angle) + b * math.cos(angle)
            keys[layer].append(k)
            values[layer].append(v)
            heads = []
            for head in range(SHAPE.heads):
                at = slice(head // group * size, (head // group + 1) * size)
                mine = q[head * size : (head + 1) * size]
                scores = np.array([mine @ key[at] / math.sqrt(size) for key in keys[layer]])
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                heads.append(sum(p * value[at] for p, value in zip(weights, values[layer], strict=True)))
            x = x + w["wo"][layer] @ np.concatenate(heads)
            inner = rms(x, w["rms_ffn"][layer])
            gate = w["w1"][layer] @ inner
            x = x + w["w2"][layer] @ (gate / (1 + np.exp(-gate)) * (w["w3"][layer] @ inner))
        out.append(w.get("wcls", w["embedding"]) @ rms(x, w["rms_final"]))
    return np.array(out)


@pytest.mark.parametrize("own_classifier", [False, True])
def test_the_module_computes_what_llama2c_computes(own_classifier: bool, tmp_path: Path, rng: np.random.Generator):
    stored = write(tmp_path / "m.bin", rng, own_classifier)
    net = read_llama(tmp_path / "m.bin", tokens=16).eval()
    ids = rng.integers(0, SHAPE.vocab, 9).tolist()
    with torch.no_grad():
        found = net(torch.tensor([ids]))[0].numpy()
    np.testing.assert_allclose(found, run(stored, ids), atol=2e-5)


def test_a_file_that_is_not_as_long_as_its_header_says_is_one_line(tmp_path: Path, rng: np.random.Generator):
    path = tmp_path / "m.bin"
    write(path, rng)
    whole = path.read_bytes()
    for content in (b"", whole[:20], whole[:-4], whole + b"\0\0\0\0"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"must (begin|have)") as error:
            read_llama(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "header",
    [
        (0, 1, 1, 1, 1, 1, 1),
        (24, 20, 2, 5, 2, 40, 16),
        (24, 20, 2, 6, 4, 40, 16),
        (24, 20, 2, 24, 2, 40, 16),
        (-24, 20, 2, 6, 2, 40, 16),
        (1 << 30, 1 << 30, 1 << 30, 2, 1, 1 << 30, 1 << 30),
    ],
)
def test_an_impossible_header_is_one_line(header: tuple[int, ...], tmp_path: Path):
    path = tmp_path / "m.bin"
    path.write_bytes(struct.pack("<7i", *header) + bytes(64))
    with pytest.raises(ValueError, match=r"weights file .* must"):
        read_llama(path)


def test_text_drawn_with_kept_keys_follows_the_whole_models_distribution(tmp_path: Path, rng: np.random.Generator):
    write(tmp_path / "m.bin", rng)
    net = read_llama(tmp_path / "m.bin", tokens=16).eval()
    drawn = sample_text(net, 3, 12, seed=5)
    assert drawn.shape == (3, 13)
    assert (drawn[:, 0] == BOS).all()
    np.testing.assert_array_equal(drawn, sample_text(net, 3, 12, seed=5))
    assert (drawn != sample_text(net, 3, 12, seed=6)).any()
    # the same draws from the whole model, run anew for every token
    generator, ids = torch.Generator().manual_seed(5), torch.full((3, 1), BOS)
    with torch.no_grad():
        for _ in range(12):
            likely = torch.softmax(net(ids)[:, -1].double(), dim=-1)
            ids = torch.cat([ids, torch.multinomial(likely, 1, generator=generator)], dim=1)
    np.testing.assert_array_equal(drawn, ids.numpy())


@pytest.mark.parametrize("strict", [True, False])
def test_it_exports_whole(strict: bool):
    net = Llama(SHAPE, tokens=16).eval()
    ids = torch.arange(32).reshape(2, 16)
    exported = torch.export.export(net, (ids,), strict=strict)
    assert torch.equal(exported.module()(ids), net(ids))
    # tables that fit the window are taken whole
    sliced = [n for n in exported.graph.nodes if "slice" in str(n.target) and n.args[0].op == "placeholder"]
    assert not sliced


def test_perplexity_of_the_sample_text_is_the_known_one(data_dir: Path):
    workload, metric = WORKLOADS["stories260k"], METRICS["perplexity"]
    net = workload.build(data_dir)
    x, y = story_text(data_dir)
    with torch.no_grad():
        tallies = metric.tally(net(torch.from_numpy(x)).numpy(), y)
    assert metric.value(tallies) == pytest.approx(3.55, abs=0.005)


def story_text(data_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    path = data_dir / "text" / "tinystories_sample.txt"
    return story_windows(read_text(path), read_tokens(data_dir / "text" / "tok512.bin"), path)


def test_stories_longer_than_a_window_go_on_in_the_next(data_dir: Path):
    tokens = read_tokens(data_dir / "text" / "tok512.bin")
    story = "Once upon a time there was a cat. " * 60
    ids = np.array(encode(story.strip(), tokens))
    x, y = story_windows(f"Hi.<|endoftext|>{story}", tokens, Path("t"))
    assert x.shape == (1 + -(-(len(ids) - 1) // TOKENS), TOKENS)
    counted = y[1:] != IGNORED
    np.testing.assert_array_equal(y[1:][counted], ids[1:])
    np.testing.assert_array_equal(x[1:][counted], ids[:-1])


@pytest.mark.slow
def test_text_drawn_from_the_model_serves_calibration_and_evaluation(data_dir: Path):
    metric = METRICS["perplexity"]
    for name, evaluable, figure in (("stories260k", 5, 3.55), ("stories260k-sampled", 48, 3.7)):
        samples = WORKLOADS[name].samples(data_dir)
        assert samples.evaluable == evaluable
        assert len(samples) > evaluable
        tallies = evaluate(WORKLOADS[name].build(data_dir), samples, metric, batch=8)
        assert metric.value(tallies) == pytest.approx(figure, abs=0.2)
