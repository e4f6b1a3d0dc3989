"""SRAM access energy: the CACTI 7 grid (22..90 nm), and constants shared by all SRAM models.

The packaged grid (data/sram_cacti7_lstp.csv) is interpolated log-log in capacity, width and node. CACTI changes an
array's organisation in jumps, so its raw energies sometimes fall as capacity or width grow; a price must not. The grid
is made monotone before use: in log space, the mean of the least monotone majorant (running maximum over all smaller
nodes, capacities and widths) and the greatest monotone minorant (running minimum over all larger ones), both of which
are monotone. That moves read energies by 0.1 % in the mean and 5.7 % at worst, writes by 0.2 % and 6.5 %. The coarser
grids of 32, 65 and 90 nm are filled in with the 45 nm shape times their own interpolated ratio to it.

Outside the grid the surface continues by the exponents of the closed form fitted to the same sweep, E ~ C^0.561 w^0.574
(read), C^0.463 w^0.673 (write): above 4 MiB a bank, below 8 bits; above 512 bits energy grows with the number of
512-bit banks.
"""

import csv
import math
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from accelsim.technology.source import Source

# Below this an SRAM macro makes no sense and CACTI's wrapper refuses it: registers.
MIN_SRAM_BYTES = 512

# CACTI 7 itrs-lstp at 300 K, 2.44e-9 mW/bit at 45 nm, mean error 9.6 % over the grid (D); cell leakage at high
# performance (itrs-hp, 360 K) would be 1.465e-4.
SRAM_LEAK_MW_PER_BIT = 2.44e-9

# um2 per bit and nm of node label, line through five silicon or signed-off designs, errors -16 %..+22 %: TPU v1 28 nm
# <= 0.477 um2/bit (Jouppi, ISCA 2017), NVDLA 28 nm 0.396 and 16 nm 0.229 (nvdla/doc 31f5740, regressed), Gemmini Intel
# 22FFL 0.259 (DAC 2021), TPUv4i 7 nm 0.104 (Jouppi, ISCA 2021). Free exponent of the node 0.996. D
SRAM_UM2_PER_BIT_NM = 0.01434

_CAPACITIES = tuple(512 << i for i in range(14))
_WIDTHS = tuple(8 << i for i in range(7))
_NODES = (22.0, 32.0, 45.0, 65.0, 90.0)
_DENSE_NODES = (22.0, 45.0)
_READ_EXPONENTS = (0.561, 0.574)
_WRITE_EXPONENTS = (0.463, 0.673)

SRAM_AREA_SOURCE = Source(
    "line through TPU v1, NVDLA, Gemmini and TPUv4i memories",
    "SRAM area 0.01434 um2 per bit and nm of node label (errors -16 %..+22 %); CACTI's own areas are 2.5x to 3x "
    "below silicon",
    "D",
    level="sram area",
)
SRAM_LEAK_SOURCE = Source(
    "CACTI 7.0.3DD (HewlettPackard/cacti 1ffd8df)",
    "SRAM leakage 2.44e-9 mW/bit, low-standby-power cells at 300 K, nearly independent of the node; times "
    "sram_leak_factor",
    "D",
    level="sram leakage",
)
CACTI_SOURCE = Source(
    "CACTI 7.0.3DD (HewlettPackard/cacti 1ffd8df), 295 configurations computed for this project",
    "SRAM read and write energy, 1RW, one bank, itrs-lstp 300 K; log-log interpolation, made monotone (worst shift "
    "6.5 %)",
    "D",
)

Table = tuple[tuple[float, ...], ...]


class SramModel(Protocol):
    """Energy of one access to one bank, for capacities of at least 512 bytes."""

    def read_pj(self, capacity_bytes: float, word_bits: int) -> float:
        """Return pJ for reading one word."""
        ...

    def write_pj(self, capacity_bytes: float, word_bits: int) -> float:
        """Return pJ for writing one word."""
        ...


@dataclass(frozen=True)
class CactiSram:
    """SRAM prices of the CACTI grid at one node."""

    node_nm: float

    def __post_init__(self) -> None:
        if not _NODES[0] <= self.node_nm <= _NODES[-1]:
            raise ValueError(
                f"CactiSram.node_nm must be in {_NODES[0]:g}..{_NODES[-1]:g} (got {self.node_nm}); "
                "scale a technology of this range to other nodes"
            )

    def read_pj(self, capacity_bytes: float, word_bits: int) -> float:
        """Return pJ for reading one word."""
        return _interpolate(_tables(self.node_nm)[0], capacity_bytes, word_bits, _READ_EXPONENTS)

    def write_pj(self, capacity_bytes: float, word_bits: int) -> float:
        """Return pJ for writing one word."""
        return _interpolate(_tables(self.node_nm)[1], capacity_bytes, word_bits, _WRITE_EXPONENTS)


def _interpolate(table: Table, capacity_bytes: float, word_bits: int, exponents: tuple[float, float]) -> float:
    """Bilinear in log energy on the powers of two, continued by the closed form outside."""
    row = math.log2(capacity_bytes / _CAPACITIES[0])
    col = math.log2(word_bits / _WIDTHS[0])
    row_in = min(max(row, 0.0), len(_CAPACITIES) - 1)
    col_in = min(max(col, 0.0), len(_WIDTHS) - 1)
    r = min(int(row_in), len(_CAPACITIES) - 2)
    c = min(int(col_in), len(_WIDTHS) - 2)
    fr, fc = row_in - r, col_in - c
    low = table[r][c] * (1 - fc) + table[r][c + 1] * fc
    high = table[r + 1][c] * (1 - fc) + table[r + 1][c + 1] * fc
    outside = exponents[0] * (row - row_in) + (exponents[1] if col < 0 else 1.0) * (col - col_in)
    return float(2.0 ** (low * (1 - fr) + high * fr + outside))


@lru_cache(maxsize=64)
def _tables(node_nm: float) -> tuple[Table, Table]:
    """Return log2 read and write tables [capacity][width] at a node, log-interpolated between the grid's nodes."""
    above = next(i for i, node in enumerate(_NODES) if node >= node_nm)
    below = max(above - 1, 0)
    share = math.log(node_nm / _NODES[below]) / math.log(_NODES[above] / _NODES[below]) if above else 0.0
    read, write = (cube[below] * (1 - share) + cube[above] * share for cube in _monotone_grid())
    return (
        tuple(tuple(map(float, row)) for row in read),
        tuple(tuple(map(float, row)) for row in write),
    )


@lru_cache(maxsize=1)
def _monotone_grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return log2 energies [node, capacity, width] of reads and writes, non-decreasing along every axis."""
    raw = raw_grid()
    read, write = (_monotone(_fill({key: value[i] for key, value in raw.items()})) for i in (0, 1))
    return read, write


def raw_grid() -> dict[tuple[float, int, int], tuple[float, float]]:
    """Return the packaged sweep as (node_nm, capacity_bytes, word_bits) -> (read_pj, write_pj), as CACTI gave it."""
    text = resources.files("accelsim.technology").joinpath("data/sram_cacti7_lstp.csv").read_text("utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {
        (float(row["node_nm"]), int(row["capacity_bytes"]), int(row["word_bits"])): (
            float(row["read_pj"]),
            float(row["write_pj"]),
        )
        for row in rows
    }


def _fill(energy: dict[tuple[float, int, int], float]) -> NDArray[np.float64]:
    """Return the full cube of log2 energies: absent wide words as two half words, coarse nodes by ratio to 45 nm."""
    cube = np.empty((len(_NODES), len(_CAPACITIES), len(_WIDTHS)))
    for i, node in enumerate(_NODES):
        if node in _DENSE_NODES:
            for j, capacity in enumerate(_CAPACITIES):
                for k, width in enumerate(_WIDTHS):
                    known = energy.get((node, capacity, width))
                    cube[i, j, k] = math.log2(known) if known is not None else cube[i, j, k - 1] + 1
    reference = _NODES.index(45.0)
    for i, node in enumerate(_NODES):
        if node not in _DENSE_NODES:
            capacities = sorted({c for n, c, _ in energy if n == node})
            widths = sorted({w for n, _, w in energy if n == node})
            ratio = [[math.log2(energy[node, c, w] / energy[45.0, c, w]) for w in widths] for c in capacities]
            by_width = [np.interp(np.log2(_WIDTHS), np.log2(widths), row) for row in ratio]
            by_both = [np.interp(np.log2(_CAPACITIES), np.log2(capacities), col) for col in np.array(by_width).T]
            cube[i] = cube[reference] + np.array(by_both).T
    return cube


def _monotone(cube: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the least monotone majorant and the greatest monotone minorant."""
    above, below = cube, np.flip(cube)
    for axis in range(cube.ndim):
        above = np.maximum.accumulate(above, axis=axis)
        below = np.minimum.accumulate(below, axis=axis)
    return np.asarray((above + np.flip(below)) / 2)
