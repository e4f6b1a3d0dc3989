"""Prices: what an event costs in a technology, each figure under its citation. Knows no program and no accelerator.

Contents: `base` (Technology, describe), `registry` (TECHNOLOGIES, technology), `google`, `bitfusion45`, `nangate45`
(the three tables), `logic`, `sram`, `dram`, `wires` (their parts), `scaling` (other nodes), `accelergy`, `imported`,
`architecture`, `table_file` (ERT/ART tables), `band` (how far a figure may be off), `source` (citations).
"""

from accelsim.technology.band import Band, absolute_band, ratio_band, ratio_share
from accelsim.technology.base import VECTOR_KINDS, Technology, describe
from accelsim.technology.dram import DRAM_TYPES, DramType, dram_type
from accelsim.technology.imported import from_tables
from accelsim.technology.logic import Dataflow, Toggles
from accelsim.technology.registry import NODE_RANGES_NM, TECHNOLOGIES, technology
from accelsim.technology.role import Role
from accelsim.technology.scaling import scaled
from accelsim.technology.source import Source
from accelsim.technology.table_file import TableFile, read_tables

__all__ = [
    "DRAM_TYPES",
    "NODE_RANGES_NM",
    "TECHNOLOGIES",
    "VECTOR_KINDS",
    "Band",
    "Dataflow",
    "DramType",
    "Role",
    "Source",
    "TableFile",
    "Technology",
    "Toggles",
    "absolute_band",
    "describe",
    "dram_type",
    "from_tables",
    "ratio_band",
    "ratio_share",
    "read_tables",
    "scaled",
    "technology",
]
