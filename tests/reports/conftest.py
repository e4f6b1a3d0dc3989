"""One captured network and one finished run, shared by the tests of reports."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from accelsim.config import load_accelerator
from quant.ocs import SplitOutliers
from quant.recipe import Recipe
from reports.run import Engine, Machinery, RunOptions, run_task
from reports.task import Task, TaskOptions, load_task

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
DIGITS = TaskOptions(network="digits", images=96, calib=64)


@pytest.fixture(scope="session")
def digits() -> Task:
    return load_task(DIGITS)


def _options(accelerator: str = "edge-32x32", weight_bits: int = 4, ratio: float = 0.05, **engine: Any) -> RunOptions:
    split = (SplitOutliers(ratio=ratio),) if ratio else ()
    return RunOptions(
        task=DIGITS,
        recipe=Recipe(weight_bits=weight_bits, transforms=split),
        machinery=Machinery(accelerator=load_accelerator(accelerator)),
        engine=Engine(**engine),
    )


@pytest.fixture(scope="session")
def options() -> Callable[..., RunOptions]:
    """Options of a short run of digits, some of them given."""
    return _options


@pytest.fixture(scope="session")
def record(digits: Task) -> dict[str, Any]:
    return run_task(digits, _options()).to_json()


@pytest.fixture(scope="session")
def overflowing(digits: Task) -> dict[str, Any]:
    """A run whose registers are far too narrow."""
    asked = _options(weight_bits=8, ratio=0)
    accelerator = asked.machinery.accelerator
    narrow = accelerator.accumulator.model_copy(update={"psum_bits": 14, "bits": 16})
    machine = accelerator.model_copy(update={"name": "narrow", "accumulator": narrow})
    return run_task(
        digits, RunOptions(task=DIGITS, recipe=asked.recipe, machinery=Machinery(accelerator=machine))
    ).to_json()


@pytest.fixture(scope="session")
def browser() -> str:
    """A Chromium, where there is one."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium here: the page is not opened in a browser")
    return found
