"""A design's machine, built again from its description: what it could do at most, and what folds would cost."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accelsim.codes import SCALESIM, array_codes, bytes_per_cycle
from accelsim.config import Accelerator, build_accelerator
from accelsim.pe import pe_type
from accelsim.timing import array_cycles, lay, packed_groups
from reports.page.designs import Design


def machine_of(design: Design) -> Accelerator:
    """Return the accelerator that a design was simulated on."""
    return _built(json.dumps(design.figures["accelerator_description"], sort_keys=True))


@functools.lru_cache(maxsize=1024)
def _built(description: str) -> Accelerator:
    plain = json.loads(description)
    return build_accelerator(plain, f"of a stored point, {plain['name']}")


@dataclass(frozen=True)
class Peaks:
    """The most that a machine does per cycle.

    Parameters
    ----------
    pes
        Of all cores.
    bytes_per_cycle
        Of the DRAM channel.
    """

    accelerator: Accelerator
    pes: int
    bytes_per_cycle: float

    def macs_per_cycle(self, weight_bits: int, act_bits: int) -> float:
        """Return the products per cycle at these widths, all PEs busy."""
        kind = pe_type(self.accelerator)
        bits = (weight_bits, act_bits)
        return self.pes * kind.products(self.accelerator, *bits) / kind.cycles(self.accelerator, *bits)


def peaks(design: Design) -> Peaks:
    """Return the roofs over a design."""
    accelerator = machine_of(design)
    array = accelerator.array
    return Peaks(accelerator, array.rows * array.cols * accelerator.cores, bytes_per_cycle(accelerator))


def layer_rows(design: Design) -> list[dict[str, Any]]:
    """Return a design's layers row by row."""
    columns: Mapping[str, list[Any]] = design.row.layers
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def closed_form(design: Design, layer: Mapping[str, Any], k: int, stream_tile: int = 0) -> tuple[int, int]:
    """Return (folds, array cycles) of a layer of a design with another k.

    The closed form of `accelsim.timing`, which equals the register-level engine. Of several cores it knows nothing.

    Parameters
    ----------
    design, layer
        Whose machine, timing mode and batch; and a row of `layer_rows`.
    k
        Products per output.
    stream_tile
        Length of the chunks that the stream is cut into; 0 where it is not.
    """
    accelerator = machine_of(design)
    kind = pe_type(accelerator)
    bits = (layer["weight_bits"], layer["act_bits"])
    products, steps = kind.products(accelerator, *bits), kind.cycles(accelerator, *bits)
    codes = array_codes(accelerator, design.setting.timing_mode)
    m, n, groups = layer["m"], layer["n"], layer["groups"]
    batch = design.setting.batch
    m, groups = (m * batch, groups) if layer["kind"] == "conv" else (m, groups * batch)
    pack = 1 if codes.mode == SCALESIM else packed_groups(codes, m, k, n, groups, products)
    folds, cycles, *_ = array_cycles(codes, lay(codes, (m, k, n), groups, products, stream_tile, pack), steps)
    return int(folds), int(cycles)
