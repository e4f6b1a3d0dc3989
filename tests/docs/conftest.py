"""The examples of the user guide, entered in the package's dicts for one test and taken out again."""

import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from guide_pages import ROOT, blocks

from accelsim.dataflow import DATAFLOWS
from accelsim.pe import PE_TYPES
from accelsim.technology import NODE_RANGES_NM, TECHNOLOGIES
from quant.clip import CLIPS
from quant.importers import onnx_float
from quant.transforms import TRANSFORMS
from reports.task import Task, TaskOptions, load_task
from workloads import WORKLOADS

DICTS: tuple[dict[str, Any], ...] = (
    CLIPS, TRANSFORMS, PE_TYPES, TECHNOLOGIES, NODE_RANGES_NM, WORKLOADS, onnx_float.RULES, DATAFLOWS,
)  # fmt: skip


@pytest.fixture(scope="session")
def digits() -> Task:
    return load_task(TaskOptions(network="digits", images=32, calib=64))


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """Run all examples of both pages as one module; what they register is gone afterwards."""
    before = [dict(known) for known in DICTS]
    module = types.ModuleType("guide_examples")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    try:
        for page in ("extending.md", "extending_core.md"):
            for block in blocks(ROOT / "docs" / page):
                if block.mark.startswith("example"):
                    exec(compile(block.text, f"{block.page} ({block.mark})", "exec"), vars(module))
        yield module
    finally:
        for known, old in zip(DICTS, before, strict=True):
            known.clear()
            known.update(old)
