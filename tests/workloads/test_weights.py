"""Checkpoints are read whole or refused in one line, and nothing in them runs."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from workloads.weights import load_into, read_arrays, read_state

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.0, -1.0])}


def write(path: Path) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in STATE.items()})
    elif path.suffix == ".safetensors":
        save_file(STATE, path)
    elif path.suffix == ".th":
        torch.save(
            {"state_dict": {f"module.{n}": t for n, t in STATE.items()}, "best": 1.0},
            path,
            _use_new_zipfile_serialization=False,
        )
    else:
        torch.save(STATE, path)
    return path


SUFFIXES = (".npz", ".safetensors", ".th", ".pt")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_kind_of_checkpoint_gives_the_same_tensors(suffix: str, tmp_path: Path):
    state = read_state(write(tmp_path / f"w{suffix}"))
    assert set(state) == set(STATE)
    for name, tensor in STATE.items():
        assert torch.equal(state[name], tensor)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_checkpoint_cut_anywhere_is_one_line(suffix: str, tmp_path: Path):
    whole = write(tmp_path / f"w{suffix}").read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"must be a whole|must hold") as error:
            read_state(cut)
        assert "\n" not in str(error.value)
        assert str(cut) in str(error.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_bytes_never_raise_anything_but_one_line(suffix: str, tmp_path: Path, rng: np.random.Generator):
    whole = np.frombuffer(write(tmp_path / f"w{suffix}").read_bytes(), dtype=np.uint8)
    bad, lines = tmp_path / f"bad{suffix}", []
    for _ in range(60):
        mutated = whole.copy()
        mutated[rng.integers(0, len(whole), 4)] = rng.integers(0, 256, 4)
        bad.write_bytes(mutated.tobytes())
        try:
            read_state(bad)
        except ValueError as error:
            lines.append(str(error))
    assert lines
    assert not any("\n" in line for line in lines)


class Touch:
    """Unpickling an instance makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".th", ".pt", ".npz"])
def test_a_pickle_offered_as_weights_is_refused_and_does_not_run(suffix: str, tmp_path: Path):
    path, trace = tmp_path / f"evil{suffix}", tmp_path / "ran"
    if suffix == ".npz":
        content = np.empty(1, dtype=object)
        content[0] = Touch(trace)
        np.savez(path, w=content)
    else:
        torch.save({"w": Touch(trace)}, path)
    rule = "must be a whole npz" if suffix == ".npz" else r"must hold tensors only.*save net\.state_dict"
    with pytest.raises(ValueError, match=rule) as caught:
        read_state(path)
    assert suffix == ".npz" or any(f"it holds {name}" in str(caught.value) for name in ("getattr", "pathlib"))
    raw = tmp_path / f"raw{suffix}"
    raw.write_bytes(pickle.dumps(Touch(trace)))
    with pytest.raises(ValueError, match=rule) as caught:
        read_state(raw)
    assert "weights_only" not in str(caught.value)  # torch's advice, which is to execute the file
    assert not trace.exists()


def test_a_small_file_that_claims_gigabytes_is_refused(tmp_path: Path):
    path = tmp_path / "bomb.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 28,)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", header.getvalue() + bytes(1 << 22))
    with pytest.raises(ValueError, match="claim"):
        read_arrays(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w.npy", header.getvalue() + bytes(64))
    with pytest.raises(ValueError, match="must be a whole npz"):
        read_arrays(path)


def test_a_missing_file_and_an_unknown_kind_are_named(tmp_path: Path):
    with pytest.raises(ValueError, match="must exist"):
        read_state(tmp_path / "absent.th")
    (tmp_path / "w.txt").write_text("x")
    with pytest.raises(ValueError, match="must end in one of"):
        read_state(tmp_path / "w.txt")


@pytest.mark.parametrize("found", [{}, {"w": 3}, [torch.zeros(1)], {"state_dict": {"w": "x"}}])
def test_a_file_of_anything_but_named_tensors_is_refused(found: object, tmp_path: Path):
    torch.save(found, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="must hold"):
        read_state(tmp_path / "w.pt")


def test_tensors_must_have_the_networks_names_and_shapes(tmp_path: Path):
    net = nn.Sequential()
    net.add_module("a", nn.Linear(3, 2))
    load_into(net, STATE, tmp_path)
    assert torch.equal(net.get_parameter("a.weight"), STATE["a.weight"])
    with pytest.raises(ValueError, match=r"missing a\.bias; unknown none"):
        load_into(net, {"a.weight": STATE["a.weight"]}, tmp_path)
    with pytest.raises(ValueError, match=r"unknown b"):
        load_into(net, {**STATE, "b": torch.zeros(1)}, tmp_path)
    with pytest.raises(ValueError, match=r"a\.bias must have shape \(2,\) \(got \(3,\)\)"):
        load_into(net, {**STATE, "a.bias": torch.zeros(3)}, tmp_path)
