"""Published points: every one is there, its assumptions are written down, and its error is the stated one."""

import json
import math

import pytest

from accelsim.config import load_accelerator
from reports import cli
from reports.published import GROUPS, published_points
from reports.published_point import Point
from reports.published_tpu import APPLICATIONS, PRESET, TILE, scaled_tpu, stacks


@pytest.fixture(scope="module")
def points() -> dict[str, list[Point]]:
    return published_points()


def errors(points: list[Point]) -> dict[str, float]:
    return {point.name: point.error for point in points}


def test_every_group_has_points_with_figures_sources_and_assumptions(points) -> None:
    assert list(points) == list(GROUPS)
    for group in points.values():
        assert group
        for point in group:
            assert math.isfinite(point.error), point.name
            assert point.source
            assert set(point.status) <= set("VSRDA/"), point.name
            assert point.assumptions, point.name
            assert all(len(text) > 10 for text in point.assumptions)
    names = [point.name for group in points.values() for point in group]
    assert len(set(names)) == len(names)


def test_all_six_applications_have_all_figures(points) -> None:
    names = [point.name for point in points["tpu_applications"]]
    assert len(names) == 6 * 5
    for app in ("MLP0", "MLP1", "LSTM0", "LSTM1", "CNN0", "CNN1"):
        for figure in ("useful products", "waiting for weights", "shifting weights", "both", "10^12 operations"):
            assert any(name.startswith(f"{app}: ") and figure in name for name in names)


# Points between model and published useful share; then of waiting and shifting, of the cycles with matrix work. Layer
# shapes are not published, least of all those of the convolutional networks.
TPU = {
    "MLP0": ((-2, 1), (0, 5)),
    "MLP1": ((-3, 0), (0, 6)),
    "LSTM0": ((-5, -2), (2, 6)),
    "LSTM1": ((-4, -1), (-2, 3)),
    "CNN0": ((-22, 8), (-1, 30)),
    "CNN1": ((15, 25), (-16, -6)),
}


@pytest.mark.parametrize("app", list(TPU))
def test_tpu_applications_stay_at_their_error(points, app: str) -> None:
    found = errors(points["tpu_applications"])
    (low, high), (least, most) = TPU[app]
    assert low <= found[f"{app}: useful products of the peak"] <= high
    assert least <= found[f"{app}: both, of cycles with matrix work"] <= most


def test_assumed_shapes_keep_what_is_published() -> None:
    """Weights and products per weight byte come out for all six, by one rule."""
    for app in APPLICATIONS:
        parts = stacks(app)
        weights = sum(part.count * part.side**2 * (9 if part.pixels else 1) for part in parts)
        products = sum(part.products for part in parts)
        assert weights == pytest.approx(app.weights, rel=0.02), app.name
        assert app.batch * products / weights == pytest.approx(app.intensity, rel=0.03), app.name


def test_the_larger_array_is_slower_on_the_600x600_matrix(points) -> None:
    found = {point.name: point for point in points["tpu_fragmentation"]}
    assert found["600x600 on 256x256: tiles"].model == 9
    assert found["600x600 on 512x512: tiles"].model == 4
    small, large = found["600x600 on 256x256: time"], found["600x600 on 512x512: time"]
    assert small.model < large.model
    assert abs(small.error) < 0.06
    assert abs(large.error) < 0.06


def test_the_larger_array_is_the_preset_grown() -> None:
    assert scaled_tpu(TILE).model_copy(update={"name": PRESET}) == load_accelerator(PRESET)
    assert scaled_tpu(512).array.rows == 512


@pytest.mark.parametrize(
    ("group", "name", "low", "high"),
    [
        ("mac_energy", "Keller: INT8 over INT4 energy per MAC", 0.03, 0.05),
        ("mac_energy", "NVDLA: marginal energy per INT8 MAC", -0.07, -0.05),
        ("mac_energy", "TPU v1: busy less idle power", -0.11, -0.09),
        ("mac_energy", "TPUv4i: INT8 MAC", 0.26, 0.29),
        ("memory_energy", "TPUv4i: 4 MB memory, read", 0.31, 0.33),
        ("memory_energy", "TPUv4i: 128 MB memory, read", -0.29, -0.27),
        ("areas", "Gemmini: 16x16 array of INT8 PEs", -0.01, 0.01),
        ("areas", "Gemmini: 256 KB scratchpad", 0.21, 0.23),
        ("areas", "Gemmini: 64 KB accumulator", 0.12, 0.14),
        ("areas", "TPUv4i: 128 MB CMEM", -0.05, -0.03),
        ("areas", "TPU v1: 24 MiB unified buffer", -0.17, -0.15),
        ("areas", "TPU v1: matrix unit", -0.45, -0.43),
        ("areas", "NVDLA 28 nm: buffer, marginal", 0.0, 0.02),
    ],
)
def test_prices_and_areas_stay_at_their_error(points, group: str, name: str, low: float, high: float) -> None:
    assert low <= errors(points[group])[name] <= high


def test_synthesised_arrays_and_pes_are_within_their_fits(points) -> None:
    assert len(points["bit_fusion"]) == 14
    assert all(abs(error) < 0.03 for error in errors(points["bit_fusion"]).values())
    own = errors(points["own_synthesis"])
    assert len(own) == 26
    assert all(abs(error) < 0.10 for error in own.values())
    assert sum(abs(error) for error in own.values()) / len(own) < 0.03


def test_eyeriss_is_marked_as_another_machine(points) -> None:
    apart = [point for point in points["eyeriss"] if not point.comparable]
    assert len(apart) == 3
    assert "row-stationary" in apart[0].assumptions[0]
    (products,) = (point for point in points["eyeriss"] if point.comparable)
    assert abs(products.error) < 0.001
    assert all(point.comparable for name, group in points.items() if name != "eyeriss" for point in group)


def test_the_command_prints_and_writes_every_point(points, tmp_path, capsys) -> None:
    file = tmp_path / "points.json"
    assert cli.main(["verify", "--published", "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    record = json.loads(file.read_text())["published"]
    assert [row["name"] for row in record] == [point.name for group in points.values() for point in group]
    for row in record:
        assert row["name"] in printed
        assert row["error_kind"] in ("relative", "points")
        assert set(row) >= {"group", "unit", "published", "model", "error", "source", "status", "assumptions", "fitted"}
    words = " ".join(printed.split())
    for group in points.values():
        for point in group:
            assert all(" ".join(text.split()) in words for text in point.assumptions)


def test_published_points_are_printed_by_themselves(capsys) -> None:
    assert cli.main(["verify", "--published", "--rungs", "1"]) == 2
    assert "--published must be given without networks and --rungs" in capsys.readouterr().err
