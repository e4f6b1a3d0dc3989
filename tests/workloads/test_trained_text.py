"""Networks trained on first use: trained once, kept, the same for a seed, and refused without a folder."""

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from workloads import IGNORED, METRICS, WORKLOADS, bert, wikitext
from workloads.bert import TOKENS, BertTiny, emotion_texts, encode, known_words, spam_texts
from workloads.evaluate import evaluate
from workloads.train_text import main
from workloads.training import Schedule, seeded, train_language_model

EMOTION = WORKLOADS["bert-tiny-emotion"]
SPAM = WORKLOADS["bert-tiny-spam"]
WIKITEXT = WORKLOADS["wikitext2-lstm"]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> Path:
    """Return a data folder with tiny texts, the label of each given by one word, and make training short."""
    folder = tmp_path / "data" / "text"
    folder.mkdir(parents=True)
    filler = [f"word{chr(97 + i)}" for i in range(20)]

    def line(word: str) -> str:
        return " ".join([*rng.choice(filler, 4), word, *rng.choice(filler, 3)])

    for part, count in (("train", 240), ("test", 60)):
        rows = [f"{line(f'very{label}')};{label}" for label in rng.choice(bert.EMOTIONS, count)]
        (folder / f"emotion_{part}.txt").write_text("text;label_name\n" + "\n".join(rows) + "\n")
    for part, count in (("valid", 400), ("test", 200)):
        (folder / f"wikitext2_{part}.txt").write_text("".join(f" {line('x')} \n" for _ in range(count)))
    common = {"weight_decay": 0.0, "dropout": 0.1}
    monkeypatch.setattr(bert, "SCHEDULE", Schedule(epochs=4, batch=16, learning_rate=3e-3, **common))
    monkeypatch.setattr(bert, "TOKENS", 12)
    monkeypatch.setattr(wikitext, "SCHEDULE", Schedule(epochs=2, batch=4, steps=20, learning_rate=2e-2, **common))
    monkeypatch.setattr(wikitext, "CELLS", 16)
    return tmp_path / "data"


def test_it_is_trained_on_first_use_and_then_read_from_the_folder(small: Path, tmp_path: Path):
    shares: list[float] = []
    cache = tmp_path / "cache"
    net = EMOTION.build(small, 3, cache, progress=shares.append)
    assert shares == [0.25, 0.5, 0.75, 1.0]
    assert [p.name for p in cache.iterdir()] == ["bert-tiny-emotion-seed3.safetensors"]
    again = EMOTION.build(small, 3, cache, progress=shares.append)
    assert len(shares) == 4
    ids = torch.from_numpy(EMOTION.samples(small).batch(np.arange(4)))
    assert torch.equal(net(ids), again(ids))
    metric = METRICS["top1"]
    assert metric.value(evaluate(net, EMOTION.samples(small), metric)) > 0.9


def test_the_seed_decides_the_weights_and_torchs_generator_is_left_alone(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bert, "SCHEDULE", dataclasses.replace(bert.SCHEDULE, epochs=1))
    before = torch.get_rng_state()
    nets = [EMOTION.build(small, seed, tmp_path / name) for seed, name in ((0, "a"), (0, "b"), (1, "c"))]
    assert torch.equal(before, torch.get_rng_state())
    weights = [net.classify.weight for net in nets]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("workload", [EMOTION, WIKITEXT], ids=lambda w: w.name)
def test_without_a_folder_to_keep_weights_in_it_is_one_line(workload, small: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="needs a folder to keep its weights in") as error:
        workload.build(small)
    assert "\n" not in str(error.value)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ValueError, match="can be written"):
        workload.build(small, cache=blocked)


def test_weights_can_be_given_instead(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bert, "SCHEDULE", dataclasses.replace(bert.SCHEDULE, epochs=1))
    EMOTION.build(small, 0, tmp_path / "cache")
    checkpoint = tmp_path / "cache" / "bert-tiny-emotion-seed0.safetensors"
    assert EMOTION.build(small, weights=checkpoint).classify.weight.shape == (6, 128)


def test_the_word_model_trains_and_its_training_part_serves_calibration(small: Path, tmp_path: Path):
    net = WIKITEXT.build(small, 0, tmp_path / "cache")
    samples, metric = WIKITEXT.samples(small), METRICS["perplexity"]
    assert samples.evaluable is not None
    assert samples.evaluable < len(samples)
    assert (samples.y[:, : wikitext.WARM_UP] == IGNORED).all()
    words = net.linear.out_features
    perplexity = metric.value(evaluate(net, samples, metric))
    assert perplexity < 0.8 * words  # it has learned something of the words' frequencies
    assert net.linear.weight is not net.embedding.weight


def test_a_language_model_learns_a_text_that_repeats(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wikitext, "CELLS", 32)
    ids = np.tile(np.arange(7), 60)
    shares: list[float] = []
    schedule = Schedule(epochs=12, batch=4, steps=15, learning_rate=2e-2, weight_decay=0.0, dropout=0.0)
    with seeded(0):
        net = train_language_model(wikitext.WordLSTM(7), ids, schedule, shares.append).eval()
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    with torch.no_grad():
        guesses = net(torch.from_numpy(ids[None, :40])).argmax(-1)[0].numpy()
    np.testing.assert_array_equal(guesses[10:], ids[11:41])


def test_the_training_script_says_what_is_wrong_and_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["bert-tiny-spam", "--data", str(tmp_path), "--cache", str(tmp_path)]
    assert main(arguments) == 2
    assert "must exist" in capsys.readouterr().err


@pytest.mark.parametrize("strict", [True, False])
def test_bert_exports_whole(strict: bool):
    net, ids = BertTiny(50, 3).eval(), torch.arange(2 * TOKENS).reshape(2, TOKENS) % 50
    exported = torch.export.export(net, (ids,), strict=strict)
    assert torch.equal(exported.module()(ids), net(ids))
    assert not any("dropout" in str(node.target) for node in exported.graph.nodes)


def test_the_word_model_exports_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wikitext, "CELLS", 8)
    net, ids = wikitext.WordLSTM(20).eval(), torch.arange(40).reshape(2, 20) % 20
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The tensor attributes")
        exported = torch.export.export(net, (ids,), strict=False)
    assert torch.equal(exported.module()(ids), net(ids))
    assert not any("dropout" in str(node.target) for node in exported.graph.nodes)


def test_texts_are_begun_cut_and_filled_up():
    texts = bert.Texts(train=[("a b a b", 0)], test=[("a zzz", 1), ("b " * 100, 0)], classes=2)
    known = known_words(texts)
    x, y = encode(texts.test, known)
    ids = known.ids
    assert x[0, :4].tolist() == [ids["<cls>"], ids["a"], ids["<unk>"], ids["<pad>"]]
    assert x.shape == (2, TOKENS)
    assert (x[1, 1:] == ids["b"]).all()
    assert y.tolist() == [1, 0]


def test_the_real_tasks_have_their_published_sizes(data_dir: Path):
    emotion, spam = emotion_texts(data_dir / "text"), spam_texts(data_dir / "text")
    assert (len(emotion.train), len(emotion.test)) == (16_000, 2_000)
    assert len(spam.train) + len(spam.test) == 5_574
    assert sum(label for _, label in spam.train + spam.test) == 747  # messages that are spam, says the set's readme
    samples = SPAM.samples(data_dir)
    assert samples.evaluable == len(spam.test)


@pytest.mark.parametrize("content", ["text;label_name\n", "text;label_name\nhello;bored\n", "text;label_name\nhello\n"])
def test_unknown_labels_are_one_line(content: str, tmp_path: Path):
    (tmp_path / "emotion_train.txt").write_text(content)
    with pytest.raises(ValueError, match="must label every line") as error:
        emotion_texts(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_bert_tiny_learns_to_tell_spam(data_dir: Path, tmp_path: Path):
    metric = METRICS["top1"]
    tallies = evaluate(SPAM.build(data_dir, 0, tmp_path), SPAM.samples(data_dir), metric)
    assert metric.value(tallies) >= 0.975
