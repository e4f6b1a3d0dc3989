"""On-chip wires: energy per random bit and millimetre, repeaters included.

A random bit flips every other cycle: C V^2 / 4 per bit-mm with 0.2 fF/um and repeaters of 1.34 to 1.87 times the wire
gives the same size. A systolic neighbour hop (PE pitch of tens of um) is 1 to 3 fJ/bit, below its register, and needs
no event of its own.
"""

import math

from accelsim.technology.source import Source

# Dally, Turakhia, Han, CACM 63(7) 2020 and Dally, AHA 2023: 100 fJ/bit-mm, no node stated (S); taken for 45 nm at 0.9 V
# (A), between 121 fJ at 40 nm (Keckler et al., IEEE Micro 2011, S) and first principles.
_PJ_45 = 0.100
# Dally et al., VLSI 2018: 20..40 fJ/bit-mm at 16 nm (S); Dally, CACM 2022: 1.9 pJ per 64 bit-mm = 30 fJ (S). Flat below
# 16 nm.
_PJ_16 = 0.030

WIRE_SOURCES = (
    Source(
        "Dally, Turakhia, Han, CACM 63(7) 2020; Keckler et al., IEEE Micro 2011",
        "wire 0.100 pJ per random bit-mm at 45 nm and above (range 0.1..0.16); taken for 45 nm, the source states "
        "no node",
        "S/A",
    ),
    Source(
        "Dally et al., VLSI 2018; Dally, CACM 2022",
        "wire 0.030 pJ per random bit-mm at 16 nm and below (range 0.02..0.07); log-log between 16 and 45 nm",
        "S",
    ),
)


def wire_pj_per_bit_mm(node_nm: float) -> float:
    """Return pJ per random bit and mm: 0.03 up to 16 nm, 0.1 from 45 nm, log-log in between."""
    if node_nm <= 16:
        return _PJ_16
    if node_nm >= 45:
        return _PJ_45
    share = math.log(node_nm / 16) / math.log(45 / 16)
    return float(_PJ_16 * (_PJ_45 / _PJ_16) ** share)
