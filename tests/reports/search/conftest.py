"""A small search on the built-in network, shared by the tests of searches."""

from collections.abc import Callable
from typing import Any

import pytest

from reports.search.file import Search, build_search
from reports.task import TaskOptions

PLAIN: dict[str, Any] = {
    "name": "small",
    "network": {"name": "digits", "images": 96, "calib": 64},
    "groups": {"front": ["block1.*"], "back": ["widen*", "block3.*"]},
    "weight_bits": [3, 8],
    "ocs": {"together": [0, 0.05]},
    "accelerators": [{"base": "edge-32x32", "array.rows": [16, 32]}],
    "objectives": ["accuracy", "energy"],
    "budget": {"max_accuracy_drop": 0.02, "minimize": "energy"},
    "trials": 6,
    "population": 4,
    "start": {"designs": 3, "samples": 16},
}


@pytest.fixture(scope="session")
def searched() -> Callable[..., Search]:
    """Build the search, some of its fields changed."""

    def build(**changed: Any) -> Search:
        return build_search(PLAIN | changed, TaskOptions(network=""))

    return build


@pytest.fixture
def plain_search() -> dict[str, Any]:
    """What the search's file holds."""
    return dict(PLAIN)
