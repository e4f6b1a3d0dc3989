"""Programs: the op table is enforced, digests tell Programs apart, files come back whole or are refused."""

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
import pytest
from programs import conv_program, random_inputs, seeded_program

from accelsim import reference, store
from accelsim.check import check
from accelsim.program import OPS, Blank, Conv, Program, gemm_view
from accelsim.store import load_program, save_program


def small() -> Program:
    """Return a Program of one layer."""
    return conv_program(np.arange(-12, 12).reshape(2, 1, 1, 12), np.array([3, -4]), (12,))


def changed(program: Program, **fields: object) -> Program:
    """Return the Program with fields of its first op replaced."""
    return dataclasses.replace(program, ops=(dataclasses.replace(program.ops[0], **fields), *program.ops[1:]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weight": np.ones((2, 1, 1, 11), dtype=np.int64)}, "its input has 12"),
        ({"weight": np.full((2, 1, 1, 12), 300)}, "bits do not hold"),
        ({"bound": np.array([1, 1])}, "bound that is not"),
        ({"bias": np.array([1])}, "bias and bound of shape"),
        ({"groups": 3}, "12 × 3 groups of channels"),
        ({"inputs": ("nowhere",)}, "before it is computed"),
        ({"output": "x"}, "a second time"),
    ],
)
def test_a_broken_op_is_refused_with_its_rule(fields: dict[str, object], message: str) -> None:
    program = small()
    check(program)
    with pytest.raises(ValueError, match=message):
        check(changed(program, **fields))


@pytest.mark.parametrize("seed", range(2 * len(OPS)))
def test_files_bring_programs_back_equal(seed: int, tmp_path: Path) -> None:
    program = seeded_program(seed)
    save_program(program, tmp_path / "p.npz")
    loaded = load_program(tmp_path / "p.npz")
    assert loaded.digest() == program.digest()
    inputs = random_inputs(program, 2, seed)
    before, after = reference.run(program, inputs), reference.run(loaded, inputs)
    assert all(np.array_equal(before.values[name], after.values[name]) for name in before.values)


def test_digest_sees_every_change() -> None:
    program = small()
    assert isinstance(program.ops[0], Conv)
    weight = np.array(program.ops[0].weight)
    weight[0, 0, 0, 0] += 1
    digests = {
        program.digest(),
        changed(program, weight=weight).digest(),
        changed(program, pad_value=1).digest(),
        dataclasses.replace(program, name="other").digest(),
        program.without_values().digest(),
    }
    assert len(digests) == 5
    assert program.digest() == small().digest()


def test_a_program_without_values_keeps_shapes_alone(tmp_path: Path) -> None:
    blank = small().without_values()
    check(blank)
    op = blank.ops[0]
    assert isinstance(op, Conv)
    assert op.weight == Blank((2, 1, 1, 12))
    assert gemm_view(blank, op) == gemm_view(small(), small().ops[0])
    assert not blank.has_values
    save_program(blank, tmp_path / "p.npz")
    assert load_program(tmp_path / "p.npz").digest() == blank.digest()


def test_gemm_view_counts_groups_apart() -> None:
    program = conv_program(np.ones((6, 3, 2, 2), dtype=np.int64), np.zeros(6, dtype=np.int64), (7, 9, 4), groups=2)
    view = gemm_view(program, program.ops[0])
    assert view is not None
    assert (view.m, view.k, view.n, view.groups) == (5 * 8, 3 * 2 * 2, 3, 2)
    assert view.macs == 5 * 8 * 6 * 12


def test_broken_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    save_program(small(), path)
    whole = path.read_bytes()
    for content in (b"", b"nonsense", whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"is no readable accelsim Program.*save_program") as error:
            load_program(path)
        assert "\n" not in str(error.value)
    np.savez(path, header=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="pickle"):
        load_program(path)


def test_a_file_that_claims_too_much_is_refused_before_memory_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.npy", bytes(1))
    monkeypatch.setattr(store, "MAX_BYTES", 0)
    with pytest.raises(ValueError, match="more than the"):
        load_program(path)


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        save_program(small(), tmp_path / "p.npz")
    assert list(tmp_path.iterdir()) == []
