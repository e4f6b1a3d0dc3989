"""Hostile text: machines, recipes, SCALE-Sim files. Cut, mutated and absurd ones are one line in little memory."""

import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from accelsim.config import build_accelerator, load_accelerator, parse_accelerator
from accelsim.scalesim_cfg import scalesim_fields
from quant.ocs import SplitOutliers
from quant.recipe import Recipe
from quant.recipe_yaml import recipe_from_yaml, recipe_to_yaml
from workloads.topologies import parse_topology

MEMORY_BYTES = 64 << 20
MUTATIONS = 200

MACHINE = """name: small
array: {rows: 8, cols: 16, dataflow: os}
clock_mhz: 200
"""
CFG = """[general]
run_name = small
[architecture_presets]
ArrayHeight: 32
ArrayWidth: 16
IfmapSramSzkB: 64
FilterSramSzkB: 64
OfmapSramSzkB: 32
Dataflow : ws
Bandwidth : 10
[run_presets]
InterfaceBandwidth: CALC
"""
CSV = """Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,
Conv1, 32, 32, 3, 3, 3, 16, 1,
Conv2, 30, 30, 3, 3, 16, 32, 2,
"""


def _recipe() -> str:
    return recipe_to_yaml(Recipe(weight_bits=5, per_channel=True, transforms=(SplitOutliers(ratio=0.05),)))


READERS: dict[str, tuple[str, Callable[[str], object]]] = {
    "machine": (MACHINE, lambda text: parse_accelerator(text, "it")),
    "recipe": (_recipe(), lambda text: recipe_from_yaml(text, "it")),
    "SCALE-Sim machine": (CFG, lambda text: build_accelerator(scalesim_fields(text, "it", "it"), "it")),
    "SCALE-Sim topology": (CSV, lambda text: parse_topology(text, "it")),
}
PIECES = ("9" * 400, "-1", "1e308", "nan", "\x00", "\n", ":", "{", "[", "]", "!!python/object:os.system", "&a *a", "\t",
          "2147483648", "99999999999999999999", ",", "#", "'", '"', "|", "\u2028", "\ud7ff")  # fmt: skip


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """Fail where a test takes more memory than such text can need."""
    load_accelerator("edge-32x32")  # what is loaded once
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MEMORY_BYTES


def refused(kind: str, text: str) -> bool:
    """Read text; return whether it was refused, which must take one line."""
    message = None
    try:
        READERS[kind][1](text)
    except ValueError as error:
        message = str(error)
    assert message is None or len(message.split("\n")) == 1, text[:2000]
    assert message is None or len(message) < 6000, text[:2000]
    return message is not None


@pytest.mark.parametrize("kind", READERS)
def test_text_cut_anywhere_is_read_or_one_line(kind: str) -> None:
    whole = READERS[kind][0]
    for end in range(0, len(whole), max(1, len(whole) // 60)):
        refused(kind, whole[:end])


@pytest.mark.parametrize("kind", READERS)
def test_mutated_text_is_read_or_one_line(kind: str) -> None:
    whole, rng = READERS[kind][0], np.random.default_rng(0)
    count = 0
    for _ in range(MUTATIONS):
        text = whole
        for _ in range(int(rng.integers(1, 4))):
            place, cut = int(rng.integers(len(text))), int(rng.integers(0, 4))
            text = text[:place] + str(rng.choice(PIECES)) + text[place + cut :]
        count += refused(kind, text)
    assert count > MUTATIONS // 4


@pytest.mark.parametrize("number", ["0", "-3", "1" + "0" * 18, "9" * 300, "1e400", "nan", "inf"])
def test_absurd_numbers_are_refused(number: str) -> None:
    assert refused("machine", MACHINE.replace("rows: 8", f"rows: {number}"))
    assert refused("SCALE-Sim topology", CSV.replace("16, 1,", f"{number}, 1,"))
    assert refused("recipe", _recipe().replace("5", number, 1))
    assert refused("SCALE-Sim machine", CFG.replace("ArrayHeight: 32", f"ArrayHeight: {number}"))


@pytest.mark.parametrize("kind", READERS)
def test_long_text_is_refused_or_read_in_little_memory(kind: str) -> None:
    whole = READERS[kind][0]
    for piece in ("a: " * 5_000, "{" * 20_000, "[" * 20_000, "x," * 20_000, "\n" * 20_000, "- " * 10_000):
        refused(kind, whole + piece)
        refused(kind, piece)
