"""SCALE-Sim machine files (INI) as fields of an accelerator.

What the format says is taken over; what it leaves open is stated in the description of the accelerator:

==========================================  ==========================================================================
``ArrayHeight``, ``ArrayWidth``             rows and columns
``Dataflow``                                ``os | ws | is``; the array is single-buffered, as SCALE-Sim's formulas are
``IfmapSramSzkB`` (v1: ``IfmapSramSz``) …   activation, weight and accumulator buffer in KiB, halves alternating
``Bandwidth``                               words of one byte a cycle of the DRAM channel under ``InterfaceBandwidth =
                                            USER``: the first of a list. SCALE-Sim gives each operand such a channel,
                                            here they share one
``InterfaceBandwidth = CALC``               asks what bandwidth would avoid stalls: a channel that never stalls
==========================================  ==========================================================================

PEs are ``native`` (the format knows no widths), sums have 32 bits, ports feed every row and column each cycle, and
clock and node are the defaults of `accelsim.config.Accelerator`. Sections ``layout`` and ``sparsity`` are optional and
without effect; the description says so where they ask for something.
"""

import configparser
from typing import Any

SUM_BITS = 32
PORT_BITS = 16
"""Bits that a buffer's port has for each row or column: the widest operand."""

MAX_WORD_BITS = 8192
UNSTALLED_GB_PER_S = 1e5
CLOCK_MHZ = 500.0

_INTEGERS = {
    "rows": ("arrayheight",),
    "cols": ("arraywidth",),
    "activation": ("ifmapsramszkb", "ifmapsramsz"),
    "weight": ("filtersramszkb", "filtersramsz"),
    "sums": ("ofmapsramszkb", "ofmapsramsz"),
}
_SPELLED = {
    "rows": "ArrayHeight",
    "cols": "ArrayWidth",
    "activation": "IfmapSramSzkB",
    "weight": "FilterSramSzkB",
    "sums": "OfmapSramSzkB",
}


def scalesim_fields(text: str, origin: str, name: str) -> dict[str, Any]:
    """Return the fields of an accelerator from a SCALE-Sim file.

    Parameters
    ----------
    text, origin
        The file, and what errors call it.
    name
        Of the accelerator, where the file has no ``run_name``.

    Raises
    ------
    ValueError
        With everything that is wrong with the file.
    """
    entries = _entries(text, origin)
    problems: list[str] = []
    sizes = {field: _whole(entries, field, problems) for field in _INTEGERS}
    dataflow = entries.get("dataflow", "").strip("'\" ").lower()
    if dataflow not in ("os", "ws", "is"):
        problems.append(f"Dataflow must be os, ws or is (got {dataflow[:40]!r}); name one")
    bandwidth, remark = _bandwidth(entries, problems)
    if problems:
        raise ValueError(f"SCALE-Sim file {origin} has {len(problems)} error(s): " + "; ".join(problems))
    remarks = [
        f"imported from a SCALE-Sim file, {remark}",
        f"PEs as wide as the network, {SUM_BITS}-bit sums, {CLOCK_MHZ:g} MHz",
    ]
    if entries.get("sparsitysupport", "").lower() == "true":
        remarks.append("its sparsity is priced dense")
    if "true" in (entries.get("ifmapcustomlayout", "").lower(), entries.get("filtercustomlayout", "").lower()):
        remarks.append("its custom layout is left out")
    return {
        "name": (entries.get("run_name", "").strip("'\" ") or name)[:120],
        "description": "; ".join(remarks),
        "array": {"rows": sizes["rows"], "cols": sizes["cols"], "dataflow": dataflow, "double_buffered": False},
        "pe": {"type": "native"},
        "accumulator": {"psum_bits": SUM_BITS, "bits": SUM_BITS},
        "vector_lanes": max(1, min(sizes["cols"], 4096)),
        "requantizer_lanes": max(1, min(sizes["cols"], 4096)),
        "dram": {"bandwidth_gb_per_s": bandwidth, "latency_ns": 0.0, "page_efficiency": 1.0},
        "clock_mhz": CLOCK_MHZ,
    } | _buffers(sizes, dataflow)


def _entries(text: str, origin: str) -> dict[str, str]:
    """Return all entries, sections joined: which section one stands in differs between the tool's versions."""
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=("#", ";"), allow_no_value=True)
    try:
        parser.read_string(text.removeprefix("\ufeff"), source=origin)
    except (configparser.Error, AttributeError) as error:  # the latter for a line that continues a key without value
        message = " ".join(str(error).split())
        raise ValueError(f"SCALE-Sim file {origin} is no INI file: {message[:300]}") from None
    found: dict[str, str] = {}
    for section in parser.sections():
        found |= {key: value or "" for key, value in parser.items(section)}
    return found


def _whole(entries: dict[str, str], field: str, problems: list[str]) -> int:
    text = next((entries[key] for key in _INTEGERS[field] if key in entries), None)
    if text is None:
        problems.append(f"{_SPELLED[field]} is missing; add it under [architecture_presets]")
        return 0
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= 1 << 22:
        problems.append(f"{_SPELLED[field]} must be a whole number in 1..{1 << 22} (got {text[:40]!r}); correct it")
    return value


def _bandwidth(entries: dict[str, str], problems: list[str]) -> tuple[float, str]:
    """Return GB/s of the channel and what was made of the entries."""
    mode = entries.get("interfacebandwidth", "").strip("'\" ").upper()
    if mode not in ("USER", "CALC", ""):
        problems.append(f"InterfaceBandwidth must be CALC or USER (got {mode[:40]!r}); name one")
    text = entries.get("bandwidth", "")
    if mode == "CALC" or (mode == "" and not text):
        return UNSTALLED_GB_PER_S, "bandwidth mode CALC as a DRAM channel that never stalls"
    first = text.split(",")[0].strip()
    try:
        words = float(first)
    except ValueError:
        words = 0.0
    limit = UNSTALLED_GB_PER_S * 1e3 / CLOCK_MHZ
    if not 0 < words <= limit:
        problems.append(
            f"Bandwidth must be words a cycle above 0, at most {limit:g} (got {text[:40]!r}); correct it, or use "
            "InterfaceBandwidth = CALC"
        )
    return words * CLOCK_MHZ / 1e3, f"one DRAM channel of {first} words of a byte a cycle for all operands"


def _buffers(sizes: dict[str, int], dataflow: str) -> dict[str, Any]:
    """Return the three buffers, with ports that feed every row and column each cycle where they are large enough."""
    rows, cols = sizes["rows"], sizes["cols"]
    act, weight = {"ws": (rows, cols), "os": (rows, cols), "is": (max(rows, cols), rows)}[dataflow]
    ports = {"activation": act * PORT_BITS, "weight": weight * PORT_BITS, "sums": cols * SUM_BITS}
    names = {"activation": "activation_sram", "weight": "weight_sram", "sums": "accumulator_sram"}
    return {names[field]: _buffer(1024 * sizes[field], ports[field]) for field in names}


def _buffer(size_bytes: int, port_bits: int) -> dict[str, Any]:
    port = min(port_bits, 8 * size_bytes)
    banks = -(-port // MAX_WORD_BITS)
    return {"bytes": size_bytes, "word_bits": max(8, port // banks), "banks": banks, "double_buffered": True}
