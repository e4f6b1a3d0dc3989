"""Whole networks of seeded random weights, and every way of quantizing them.

Batch norms get statistics of their own, so that folding them changes every channel differently. Small forms keep all
layers but see few pixels or tokens; `NETWORKS` at full size are what the papers quantize.
"""

import dataclasses
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from accelsim.arith import REQUANT_RULES
from quant.clip import CLIPS
from quant.ocs import SplitOutliers
from quant.ocs_activation import SplitActivations
from quant.recipe import Recipe
from quant.smoothquant import SmoothQuant
from quant.splitquant import SplitQuant
from quant.transform import Transform
from quant.transforms import TRANSFORMS
from workloads.bert import BertTiny
from workloads.hub import hub_workload
from workloads.imagenet import MobileNetV1
from workloads.lstm import CharLSTM
from workloads.wikitext import WordLSTM
from workloads.zoo import zoo_workload

SAMPLES = 4
RATIO = 0.05
WORDS = 300


@dataclass(frozen=True, eq=False)
class Net:
    """A network by the shape of its input: pictures ``[3, side, side]``, or ids ``[time]`` of so many words."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    words: int = 0

    def module(self) -> nn.Module:
        """Return the network in evaluation mode."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = self.build().eval()
            for norm in net.modules():
                if isinstance(norm, nn.BatchNorm2d):
                    nn.init.uniform_(norm.weight, 0.5, 1.5)
                    nn.init.normal_(norm.bias, std=0.1)
                    nn.init.normal_(norm.running_mean, std=0.1)
                    nn.init.uniform_(norm.running_var, 0.5, 1.5)
        return net.requires_grad_(False)

    def samples(self) -> NDArray[Any]:
        """Return seeded inputs ``[4, ...]``."""
        rng, shape = np.random.default_rng(0), (SAMPLES, *self.shape)
        return rng.integers(0, self.words, shape) if self.words else rng.standard_normal(shape).astype(np.float32)


def _vision(name: str, side: int) -> Net:
    return Net(zoo_workload(name).build, (3, side, side))


def _vit() -> nn.Module:
    """Return ViT-B/16 with a random head: torchvision starts it at zero, and a network of zeros proves nothing."""
    net = zoo_workload("vit_b_16").build()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nn.init.normal_(net.heads.head.weight, std=0.05)
    return net


def _small_vgg() -> nn.Module:
    """Return VGG16-BN whose classifier reads one pixel: it was made for maps of 7 x 7 and 124 million weights."""
    net = zoo_workload("vgg16_bn").build()
    net.avgpool = nn.AdaptiveAvgPool2d(1)
    net.classifier[0], net.classifier[3], net.classifier[6] = (
        nn.Linear(512, 512),
        nn.Linear(512, 512),
        nn.Linear(512, 99),
    )
    return net


def _hub(config: dict[str, Any], time: int) -> Net:
    """Return a language model of transformers from its configuration."""

    def build() -> nn.Module:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(config))
            return hub_workload(Path(folder), None).build()

    return Net(build, (time,), words=int(config["vocab_size"]))


BERT = {
    "architectures": ["BertForSequenceClassification"], "model_type": "bert", "hidden_size": 128, "vocab_size": WORDS,
    "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512, "num_labels": 3,
}  # fmt: skip
GPT2 = {
    "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 128, "n_layer": 2, "n_head": 4,
    "vocab_size": WORDS, "n_positions": 64, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip

SMALL: dict[str, Callable[[], Net]] = {
    "resnet18": lambda: _vision("resnet18", 64),
    "mobilenet_v1": lambda: Net(lambda: MobileNetV1(1.0), (3, 64, 64)),
    "mobilenet_v2": lambda: _vision("mobilenet_v2", 64),
    "resnet50": lambda: _vision("resnet50", 64),
    "densenet121": lambda: _vision("densenet121", 64),
    "inception_v3": lambda: _vision("inception_v3", 128),
    "vgg16_bn": lambda: Net(_small_vgg, (3, 64, 64)),
    "char_lstm": lambda: Net(CharLSTM, (6,), words=108),
    "word_lstm": lambda: Net(lambda: WordLSTM(WORDS), (3,), words=WORDS),
    "bert_tiny": lambda: Net(lambda: BertTiny(WORDS, 6), (48,), words=WORDS),
}
"""The papers' networks, on few pixels or tokens."""

FULL: dict[str, Callable[[], Net]] = {
    "resnet18": lambda: _vision("resnet18", 224),
    "mobilenet_v1": lambda: Net(lambda: MobileNetV1(1.0), (3, 224, 224)),
    "mobilenet_v2": lambda: _vision("mobilenet_v2", 224),
    "resnet50": lambda: _vision("resnet50", 224),
    "densenet121": lambda: _vision("densenet121", 224),
    "inception_v3": lambda: _vision("inception_v3", 299),
    "vgg16_bn": lambda: _vision("vgg16_bn", 224),
    "word_lstm": lambda: Net(lambda: WordLSTM(10_000), (35,), words=10_000),
    "efficientnet_b0": lambda: _vision("efficientnet_b0", 224),
    "vit_b_16": lambda: Net(_vit, (3, 224, 224)),
    "bert": lambda: _hub(BERT, 32),
    "gpt2": lambda: _hub(GPT2, 32),
}
"""The same as the papers have them, and networks of other kinds."""


def splitting(kind: type[Transform]) -> Transform:
    """Return a transform with its defaults, but such that it splits channels where it can."""
    options = {field.name for field in dataclasses.fields(kind)} & {"ratio"}  # type: ignore[arg-type]
    return kind(**dict.fromkeys(options, RATIO))


def _composed(*names: str) -> tuple[Transform, ...]:
    return tuple(splitting(TRANSFORMS[name]) for name in names)


PLAIN = Recipe(weight_bits=5, act_bits=7, act_clip=CLIPS["percentile"]())

CLIPPED = {
    f"clip {name}": Recipe(weight_bits=5, act_bits=6, weight_clip=clip(), act_clip=clip())
    for name, clip in CLIPS.items()
}  # fmt: skip

OPTIONS = {
    "eight bits": Recipe(),
    "sixteen bits": Recipe(weight_bits=16, act_bits=16, first_last="same"),
    "per channel": replace(PLAIN, per_channel=True),
    "bias correction": replace(PLAIN, bias_correction=True),
    "affine, first and last alike": replace(PLAIN, first_last="same", act_scheme="affine"),
    "wide clamp": replace(PLAIN, wide_clamp=True, weight_bits=4, weight_clip=CLIPS["aciq-ocs-paper"]()),
} | {f"rule {rule}": replace(PLAIN, rule=rule) for rule in REQUANT_RULES}

FORMS: dict[str, tuple[Transform, ...]] = {
    "ocs naive": (SplitOutliers(ratio=RATIO, naive=True),),
    "ocs selective": (SplitOutliers(ratio=RATIO, threshold_ratio=0.5),),
    "ocs widened": (SplitOutliers(ratio=RATIO, form="widen"),),
    "act-ocs oracle": (SplitActivations(ratio=RATIO, oracle=True),),
    "two-step released": (replace(_composed("two-step")[0], released=True),),
    "splitquant symmetric, activations": (SplitQuant(scales="symmetric", activations=True),),
    "one-step, ocs": _composed("one-step", "ocs"),
    "two-step, act-ocs, ocs": _composed("two-step", "act-ocs", "ocs"),
    "cross-layer, act-ocs": _composed("cross-layer", "act-ocs"),
    "smoothquant, ocs": (SmoothQuant(alpha=0.7), *_composed("ocs")),
    "smoothquant, ocs, splitquant": _composed("smoothquant", "ocs", "splitquant"),
}
TRANSFORMED = {
    name: replace(PLAIN, transforms=transforms)
    for name, transforms in ({name: (splitting(kind),) for name, kind in TRANSFORMS.items()} | FORMS).items()
} | {
    "ocs, expanded clip": replace(PLAIN, transforms=_composed("ocs"), weight_clip=CLIPS["mse"](), clip_expanded=True),
    "cross-layer, bias correction": replace(PLAIN, transforms=_composed("cross-layer"), bias_correction=True),
    "ocs, per channel, kl": replace(PLAIN, transforms=_composed("ocs"), per_channel=True, act_clip=CLIPS["kl"]()),
}

METHODS = CLIPPED | OPTIONS | TRANSFORMED

_RECURRENT = ("char_lstm", "word_lstm")
_SCALING = (
    "one-step", "two-step", "two-step released", "cross-layer", "act-ocs", "act-ocs oracle", "cross-layer, act-ocs",
)  # fmt: skip

UNTOUCHED = {(name, method) for name in _RECURRENT for method in _SCALING}
"""Transforms that find nothing to do: an LSTM's states cannot be scaled, its one linear layer is the protected last."""

REFUSED = {
    ("bert_tiny", "clip aciq-published"): "must have the width",
    ("bert_tiny", "clip aciq-ocs-paper"): "must have the width",
    ("bert_tiny", "clip kl-mxnet"): "must have bins >= levels",
}
"""Clip rules whose tables or bins end below the widths that norms of transformers are read at, and what they say."""
