"""The study of searches against a whole front, on made-up figures."""

from itertools import product

import pytest

from reports.search.explore import Judged, Settings
from reports.search.space import Axis, Design
from reports.studies.search_front.study import SHARES, WAYS, Truth, front_rows, results

AXES = (
    Axis("weight_bits", "a", (2, 3, 4, 6)),
    Axis("weight_bits", "b", (2, 3, 4, 6)),
    Axis("array.dataflow", "", ("ws", "os")),
)
TABLE: dict[Design, Judged | None] = {
    design: None if design == (0, 0, 1) else Judged((2.0**-a + 2.0**-b, 3.0 * a + 5.0 * b + c + 10), (2.0**-a - 0.6,))
    for design in product(range(4), range(4), range(2))
    for a, b, c in [design]
}


def test_the_whole_space_is_the_whole_front() -> None:
    truth = Truth(TABLE)
    assert len(truth.judged) == 3 * 4 * 2  # the others pass the limit or cannot be built
    everything = truth.measure(list(TABLE))
    assert everything == {"hypervolume": 1.0, "found": 1.0, "least_missed": 0.0}
    nothing = truth.measure([(0, 0, 0), (0, 0, 1)])
    assert (nothing["hypervolume"], nothing["found"]) == (0.0, 0.0)
    assert nothing["least_missed"] == pytest.approx((3 * 3 + 5 * 3 + 1 + 10) / (3 + 10) - 1)


def test_results_cover_every_way_and_share_and_the_front_is_sorted() -> None:
    start = {"whole": [(3, 3, 0)], "budget": []}
    found = results(TABLE, AXES, Settings(population=4), start, seeds=2)
    for part in ("whole", "budget"):
        rows = found[part]["rows"]
        assert [(row["way"], row["share"]) for row in rows] == list(product(WAYS, SHARES))
        for way in WAYS:  # what is seen grows, and so does what is found
            shares = [row["found"] for row in rows if row["way"] == way]
            assert shares == sorted(shares)
    rows = front_rows(TABLE, ("accuracy", "energy"), lambda design: {"at": design})
    drops = [row["losses"]["accuracy"] for row in rows]
    energies = [row["losses"]["energy"] for row in rows]
    assert drops == sorted(drops)
    assert energies == sorted(energies, reverse=True)


def test_a_budget_that_nothing_keeps_is_said() -> None:
    with pytest.raises(ValueError, match="keeps the budget"):
        Truth({design: Judged((1.0, 1.0), (1.0,)) for design in TABLE})
