"""Hostile weights, samples and Programs: one line, bounded memory and time, nothing executed.

Each kind is read some hundred times, cut and mutated, in a process of its own whose address space is limited, so that
a claim of gigabytes that was believed ends it.
"""

import io
import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

ROOM_BYTES = 1 << 30
"""Address space that a reader may take beyond what it had."""

MUTATIONS = 200

READER = """
import importlib, json, resource, sys
from pathlib import Path

readers = {}
for kind, (module, function) in json.loads(sys.argv[2]).items():
    readers[kind] = getattr(importlib.import_module(module), function)
    readers[kind](next((Path(sys.argv[1]) / kind).glob("sound.*")))  # threads are there now
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[3]),) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
refused = dict.fromkeys(readers, 0)
for kind, read in readers.items():
    for path in sorted((Path(sys.argv[1]) / kind).glob("case*")):
        try:
            read(path)
        except ValueError as error:
            refused[kind] += 1
            assert "\\n" not in str(error), path
            assert len(str(error)) < 2000, path
print(json.dumps([refused, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))
"""

STATE = {"a.weight": torch.arange(600.0).reshape(20, 30), "a.bias": torch.ones(20), "count": torch.tensor([3])}


def _torch(path: Path) -> None:
    torch.save(STATE, path)


def _legacy(path: Path) -> None:
    torch.save(STATE, path, _use_new_zipfile_serialization=False)


def _safetensors(path: Path) -> None:
    save_file(STATE, path)


def _npz(path: Path) -> None:
    np.savez(path, x=np.ones((4, 3, 5), np.float32), y=np.arange(4))


def _compressed(path: Path) -> None:
    np.savez_compressed(path, x=np.ones((4, 3, 5), np.float32), y=np.arange(4))


def _program(path: Path) -> None:
    from programs import seeded_program

    from accelsim.store import save_program

    save_program(seeded_program(3), path)


KINDS: dict[str, tuple[Callable[[Path], None], str, str, str]] = {
    "torch": (_torch, ".pth", "workloads.weights", "read_state"),
    "torch, old": (_legacy, ".pt", "workloads.weights", "read_state"),
    "safetensors": (_safetensors, ".safetensors", "workloads.weights", "read_state"),
    "npz weights": (_npz, ".npz", "workloads.weights", "read_state"),
    "npz samples": (_npz, ".npz", "workloads.arrays", "read_samples"),
    "npz, compressed": (_compressed, ".npz", "workloads.arrays", "read_samples"),
    "Program": (_program, ".npz", "accelsim.store", "load_program"),
}


def _read_all(folder: Path) -> dict[str, int]:
    """Read all cases of a folder's kinds in another process; return how many of each were refused."""
    kinds = {path.name: KINDS[path.name][2:] for path in sorted(folder.iterdir()) if path.name in KINDS}
    done = subprocess.run(
        [sys.executable, "-c", READER, str(folder), json.dumps(kinds), str(ROOM_BYTES)], capture_output=True, text=True,
        timeout=300, check=False, env={"OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path), "HOME": str(folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    refused, grown_kb = json.loads(done.stdout)
    assert grown_kb < 256 * 1024
    return dict(refused)


def _sound(folder: Path, kind: str) -> tuple[Path, str, bytes]:
    """Write a sound file of a kind; return its folder, suffix and bytes."""
    write, suffix = KINDS[kind][:2]
    (folder / kind).mkdir()
    write(folder / kind / f"sound{suffix}")
    return folder / kind, suffix, (folder / kind / f"sound{suffix}").read_bytes()


def _mutated(whole: bytes, turn: int, rng: np.random.Generator) -> bytes:
    """Return bytes with single ones changed, or with a word that claims: a size, an offset, a count."""
    data = bytearray(whole)
    if turn % 2:
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            data[place] = rng.choice([0, 1, 127, 128, 255, data[place] ^ (1 << int(rng.integers(8)))])
        return bytes(data)
    place = int(rng.integers(0, min(len(data) - 8, 600) if turn % 4 else len(data) - 8))
    word = int(rng.choice(np.array([2**31, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 0], np.int64)))
    data[place : place + 8] = word.to_bytes(8, "little")
    return bytes(data)


def test_files_cut_and_mutated_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    rng, cuts = np.random.default_rng(0), 40
    for kind in KINDS:
        folder, suffix, whole = _sound(tmp_path, kind)
        for i, place in enumerate(np.linspace(0, len(whole) - 1, cuts).astype(int)):
            (folder / f"case cut {i}{suffix}").write_bytes(whole[:place])
        for turn in range(MUTATIONS):
            (folder / f"case mutated {turn}{suffix}").write_bytes(_mutated(whole, turn, rng))
    refused = _read_all(tmp_path)
    assert set(refused) == set(KINDS)
    assert all(count >= cuts - 1 for count in refused.values()), refused


# --- claims ----------------------------------------------------------------------------------------------------------


def _npy_header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    return header.getvalue()


def _zip(path: Path, name: str, data: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, data)


def _safetensors_claim(path: Path, shape: list[int], end: int, header_bytes: int | None = None) -> None:
    text = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}).encode()
    size = len(text) if header_bytes is None else header_bytes
    path.write_bytes(size.to_bytes(8, "little") + text + bytes(64))


def _torch_claim(path: Path, count: int) -> None:
    """Write a checkpoint whose one tensor claims `count` elements of a storage of 16."""
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(16)}, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("data.pkl"):  # BININT1 16 becomes BININT of the claim
                data = data.replace(b"K\x10", b"J" + count.to_bytes(4, "little", signed=True))
            new.writestr(name, data)


def test_two_gigabytes_claimed_in_two_kilobytes_are_refused(tmp_path: Path) -> None:
    shapes = ((2**29,), (2**40, 2**40), (2**62, 2**62))
    for kind in ("torch", "safetensors", "npz weights", "npz samples", "Program"):
        folder, suffix, _ = _sound(tmp_path, kind)
        cases = [folder / f"case {i}{suffix}" for i in range(3)]
        if kind == "torch":
            for path, count in zip(cases, (2**29, 2**31 - 1, 2**20), strict=True):
                _torch_claim(path, count)
        elif kind == "safetensors":
            _safetensors_claim(cases[0], [2**29], 2**31)
            _safetensors_claim(cases[1], [2**40, 2**40], 2**62)
            _safetensors_claim(cases[2], [4], 16, 2**31)
        else:
            for path, shape in zip(cases, shapes, strict=True):
                _zip(path, "header.npy" if kind == "Program" else "x.npy", _npy_header(shape) + bytes(64))
        assert all(path.stat().st_size < 2048 for path in cases)
    refused = _read_all(tmp_path)
    assert set(refused.values()) == {3}, refused


# --- pickles ---------------------------------------------------------------------------------------------------------


class Touch:
    """Unpickling an instance makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_pickles_are_refused_and_do_not_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    objects = np.empty(1, dtype=object)
    objects[0] = Touch(canary)
    np.savez(tmp_path / "objects.npz", x=objects, header=objects)
    torch.save({"w": Touch(canary)}, tmp_path / "object.pth")
    torch.save({"w": Touch(canary)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    offered = [(tmp_path / name).read_bytes() for name in ("objects.npz", "object.pth", "old.pth")]
    offered += [pickle.dumps(Touch(canary), protocol) for protocol in (0, 2, 4)]
    for kind in KINDS:
        folder, suffix, _ = _sound(tmp_path, kind)
        for i, data in enumerate(offered):
            (folder / f"case {i}{suffix}").write_bytes(data)
    refused = _read_all(tmp_path)
    assert set(refused.values()) == {len(offered)}, refused
    assert not canary.exists()
    pickle.loads(offered[-1])  # the canary sings where a pickle is trusted
    assert canary.exists()
