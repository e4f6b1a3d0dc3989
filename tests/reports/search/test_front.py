"""Fronts and hypervolumes against definitions worked out the slow way."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.search.front import hypervolume, non_dominated

POINTS = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(st.integers(0, 5), min_size=width, max_size=width), min_size=1, max_size=8)
)


@given(POINTS)
def test_front_is_what_no_other_row_dominates(points: list[list[int]]) -> None:
    def dominates(a: list[int], b: list[int]) -> bool:
        return all(x <= y for x, y in zip(a, b, strict=True)) and a != b

    expected = [not any(dominates(other, point) for other in points) for point in points]
    assert non_dominated(np.array(points, dtype=float)).tolist() == expected


@given(POINTS)
def test_hypervolume_counts_the_unit_cells_that_a_point_dominates(points: list[list[int]]) -> None:
    reference = 5
    cells = itertools.product(range(reference), repeat=len(points[0]))
    covered = sum(any(all(p <= c for p, c in zip(point, cell, strict=True)) for point in points) for cell in cells)
    found = hypervolume(np.array(points, dtype=float), np.full(len(points[0]), float(reference)))
    assert found == pytest.approx(covered)


def test_nothing_has_no_volume() -> None:
    assert hypervolume(np.empty((0, 2)), np.ones(2)) == 0.0
