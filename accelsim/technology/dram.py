"""DRAM types: access energy in pJ/bit and the peak bandwidth of one channel, device or stack.

Dynamic energy of the access only: no background, refresh or controller power (measured on whole GPU boards, controller
included, HBM costs 11.7 to 14.7 pJ/bit). Peak bandwidth is the JEDEC rate times the width.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class DramType:
    """One kind of DRAM.

    Parameters
    ----------
    name : str
        Key in `DRAM_TYPES`.
    pj_per_bit : float
        Energy of reading or writing one bit.
    peak_gb_per_s : float
        Peak bandwidth of `unit`, in 1e9 bytes per second.
    unit : str
        What that bandwidth belongs to.
    citation, status : str
        Source of the energy and its status letter (see `accelsim.technology.source`).
    """

    name: str
    pj_per_bit: float
    peak_gb_per_s: float
    unit: str
    citation: str
    status: str


def dram_type(name: str) -> DramType:
    """Return the DRAM type called `name` (case does not matter).

    Raises
    ------
    ValueError
        If there is none; the message lists them.
    """
    found = DRAM_TYPES.get(name.lower())
    if found is None:
        raise ValueError(f"dram_type: unknown DRAM {name!r}; choose one of {', '.join(DRAM_TYPES)}")
    return found


_JOUPPI = "Jouppi et al., ISCA 2021, Table 2, doi:10.1109/ISCA52012.2021.00010"
_CACTI_PLUGIN = "accelergy-cacti-plug-in and hwcomponents-cacti de2520f"

_ALL = (
    # 1300 pJ per 64 bits (Horowitz, ISSCC 2014: 1300..2600; Google's table has one row for DDR3/4).
    DramType("ddr3", 20.3, 12.8, "64-bit channel, 1600 MT/s", f"{_JOUPPI}; Horowitz, ISSCC 2014", "S"),
    DramType("ddr3_high", 40.6, 12.8, "64-bit channel, 1600 MT/s", "Horowitz, ISSCC 2014, upper end 2600 pJ/64 b", "S"),
    DramType("ddr4", 20.3, 25.6, "64-bit channel, 3200 MT/s", f"{_JOUPPI} (one DDR3/4 row)", "S"),
    DramType("lpddr4", 8.0, 17.1, "32-bit channel, 4266 MT/s", _CACTI_PLUGIN, "V"),
    DramType(
        "lpddr4_low", 4.0, 17.1, "32-bit channel, 4266 MT/s", "Dally, Turakhia, Han, CACM 63(7) 2020, device only", "S"
    ),
    DramType("lpddr5", 6.0, 25.6, "32-bit channel, 6400 MT/s", "no published system figure found; 0.75 x lpddr4", "A"),
    DramType("gddr5", 14.0, 28.0, "32-bit device", f"O'Connor et al., MICRO 2017; {_CACTI_PLUGIN}", "V"),
    # 350..480 pJ per 64 bits = 5.5..7.5 pJ/bit; the device table of a vendor says 7.5.
    DramType("gddr6", 7.5, 64.0, "32-bit device, 16 Gb/s", _JOUPPI, "S"),
    DramType("gddr6x", 7.25, 84.0, "32-bit device, 21 Gb/s", "vendor comparison table (Micron)", "S"),
    # 250..450 pJ per 64 bits; the upper end includes the path to the device.
    DramType("hbm2", 7.03, 307.0, "1024-bit stack, 2.4 Gb/s", f"{_JOUPPI}, upper end of 3.9..7.0", "S"),
    DramType("hbm2_device", 3.92, 307.0, "1024-bit stack, 2.4 Gb/s", "O'Connor et al., MICRO 2017", "S"),
    DramType(
        "hbm2e", 4.3, 460.0, "1024-bit stack, 3.6 Gb/s", "SK hynix, IEDM 2023 15-6 (a vendor table says 6.0)", "S"
    ),
    DramType("hbm3", 4.05, 819.0, "1024-bit stack, 6.4 Gb/s", "hwcomponents-cacti de2520f", "V"),
    DramType("hbm3e", 3.44, 1229.0, "1024-bit stack, 9.6 Gb/s", "SK hynix, IEDM 2023: 20 % below HBM2E", "S"),
)

DRAM_TYPES: dict[str, DramType] = {kind.name: kind for kind in _ALL}
