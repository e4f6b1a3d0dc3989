"""Language models of the transformers package (extra ``nlp``) from a folder: its configuration, weights and tokenizer.

Nothing is fetched, and no code that a folder brings is executed: weights are read from safetensors files only.
"""

import contextlib
import functools
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from workloads.arrays import array_samples, read_samples
from workloads.base import IGNORED, Samples, Source, Workload
from workloads.weights import load_into, read_state
from workloads.zoo import torchvision

CONFIG = "config.json"
WINDOW = 128
"""Most tokens of a sample, where the data do not say otherwise."""


@functools.cache
def transformers() -> ModuleType:
    """Return the package.

    Raises
    ------
    ValueError
        If it is not installed.
    """
    with contextlib.suppress(ValueError):
        torchvision()  # transformers imports it where it is installed, and must not be the first to
    try:
        return importlib.import_module("transformers")
    except ImportError:
        raise ValueError(
            "transformers must be installed for language models from folders (got none); install accelsim[nlp]"
        ) from None


def is_hub_folder(name: str) -> bool:
    """Tell whether a name is a folder with a model's configuration."""
    return (Path(name) / CONFIG).is_file()


def hub_workload(folder: Path, data: Path | None) -> Workload:
    """Return the model of a folder: its weights where they are there, else random ones.

    Parameters
    ----------
    folder
        With ``config.json``; ``*.safetensors``; a tokenizer, where samples are text.
    data
        An npz file with token ids ``x`` (and ``y``), or for causal models a text; tells the length of the samples.

    Raises
    ------
    ValueError
        If the configuration is no causal language model or sequence classifier.
    """
    config = _config(folder)
    named = (getattr(config, "architectures", None) or [""])[0]
    causal = named.endswith(("ForCausalLM", "LMHeadModel"))
    if not causal and not named.endswith("ForSequenceClassification"):
        raise ValueError(
            f"model {folder} must be a causal language model or a sequence classifier (got architecture "
            f"{named or 'none'!r}); name it under architectures in {CONFIG}"
        )
    limit = getattr(config, "max_position_embeddings", WINDOW)
    length = read_samples(data)["x"].shape[1] if data is not None and data.suffix == ".npz" else min(WINDOW, limit)
    return Workload(
        name=folder.resolve().name,
        description=f"{named} of {folder}",
        origin=f"the user's {folder}",
        metric="perplexity" if causal else "top1",
        input_shape=(length,),
        model=functools.partial(_module, folder, config, causal),
        data=functools.partial(_samples, folder, config, causal),
        tokens=True,
    )


def _config(folder: Path) -> Any:
    try:
        return transformers().AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:150]
        raise ValueError(f"{folder / CONFIG} must describe a model of transformers ({reason}); check it") from None


PADDED_POSITIONS = frozenset({"roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "camembert"})
"""Types of models that count positions from behind the padding token's id on, and work them out from the token ids."""


class _Logits(nn.Module):
    """A model of transformers as a function from token ids ``[B, T]``, none of them padding, to logits."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        config: Any = inner.config
        self.first = config.pad_token_id + 1 if config.model_type in PADDED_POSITIONS else None

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return logits, ``[B, T, vocabulary]`` or ``[B, classes]``."""
        places = {}
        if self.first is not None:
            places["position_ids"] = torch.arange(self.first, self.first + tokens.shape[1])[None]
        found: torch.Tensor = self.inner(input_ids=tokens, return_dict=True, **places).logits
        return found


def _module(folder: Path, config: Any, causal: bool, source: Source) -> nn.Module:
    torch.manual_seed(source.seed)
    config.use_cache = False
    package = transformers()
    kind = package.AutoModelForCausalLM if causal else package.AutoModelForSequenceClassification
    net: nn.Module = kind.from_config(config, trust_remote_code=False)
    files = [source.weights] if source.weights is not None else sorted(folder.glob("*.safetensors"))
    state = {name: tensor for path in files for name, tensor in read_state(path).items()}
    if state:
        # a matrix that two layers share is stored once, buffers that follow from the configuration not always
        shared = {name: value for name, value in net.state_dict().items() if name not in state and _derived(net, name)}
        load_into(net, shared | {name: value for name, value in state.items() if name in net.state_dict()}, files[0])
        net.tie_weights()  # type: ignore[operator]
    return _Logits(net)


def _derived(net: nn.Module, name: str) -> bool:
    """Tell whether a tensor is a buffer, or the same memory as another one of the network."""
    state = net.state_dict()
    same = [other for other, value in state.items() if value.data_ptr() == state[name].data_ptr()]
    return len(same) > 1 or name in dict(net.named_buffers())


def _samples(folder: Path, config: Any, causal: bool, source: Source) -> Samples:
    data = source.data
    if data is not None and data.suffix == ".txt" and causal:
        return _text_samples(folder, config, data)
    arrays = read_samples(data)
    if arrays["x"].dtype != np.int64 or arrays["x"].ndim != 2:
        raise ValueError(f"data file {data}: x must be token ids [N, T] (got {arrays['x'].shape}); tokenize first")
    if causal:
        y = arrays.get("y", _next_tokens(arrays["x"]))
        if y.shape != arrays["x"].shape:
            raise ValueError(f"data file {data}: y must be next tokens, shaped like x (got {y.shape}); leave it out")
        return Samples(x=arrays["x"], y=y)
    if "y" not in arrays:
        raise ValueError(f"data file {data} must have class ids y beside the token ids x (got none); save both")
    return array_samples(arrays, nn.Identity(), folder.name)


def _text_samples(folder: Path, config: Any, path: Path) -> Samples:
    """Return a text cut into windows of token ids, each position labelled with the token after it."""
    try:
        text = path.read_text(encoding="utf-8")
        tokenizer = transformers().AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokens = np.asarray(tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int64)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:150]
        raise ValueError(f"text {path} must be UTF-8, and {folder} must have its tokenizer ({reason})") from None
    length = min(WINDOW, getattr(config, "max_position_embeddings", WINDOW))
    count = (len(tokens) - 1) // length
    if count < 2:
        raise ValueError(
            f"text {path} must have at least {2 * length + 1} tokens (got {len(tokens)}); give a longer one"
        )
    x = tokens[: count * length].reshape(count, length)
    return Samples(x=x, y=tokens[1 : count * length + 1].reshape(count, length))


def _next_tokens(x: np.ndarray) -> np.ndarray:
    """Return each position's next token; the last position of a sample does not count."""
    return np.concatenate([x[:, 1:], np.full((len(x), 1), IGNORED)], axis=1)
