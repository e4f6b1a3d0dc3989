"""Moving prices to another node, by one of two published scalings which differ a lot.

`google`: log-log interpolation between Google's own 45 nm and 7 nm columns (Horowitz, ISSCC 2014; Jouppi et al., ISCA
2021): 2.4x to 4x lower logic energy from 45 to 7 nm. `stillmaker`: the predictive-model polynomials of Stillmaker and
Baas (2017): 9.8x at equal voltage. Both take the area factors of Stillmaker and Baas, the only published ones. A scaled
technology has no timing.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from accelsim.technology.base import Technology
from accelsim.technology.logic import Dataflow, Logic, Toggles
from accelsim.technology.source import Source
from accelsim.technology.sram import SramModel

ScalingName = Literal["google", "stillmaker"]

_STILLMAKER = (
    "Stillmaker and Baas, Integration 58 (2017) 74-81, doi:10.1016/j.vlsi.2017.02.002, as in hwcomponents e67d7f1"
)

# Area relative to 45 nm, row "45" of the published matrix. V
_AREA_TO_45 = {
    130.0: 6.4, 90.0: 2.8, 65.0: 1.5, 45.0: 1.0, 32.0: 0.46, 20.0: 0.21, 16.0: 0.19, 14.0: 0.17, 10.0: 0.10, 7.0: 0.059,
}  # fmt: skip

# E(V) = a2 V^2 + a1 V + a0 per node, in a common arbitrary unit. V
_ENERGY_POLYNOMIALS = {
    130.0: (7.171, -6.709, 2.904),
    90.0: (4.762, -4.781, 2.092),
    65.0: (3.755, -4.398, 1.975),
    45.0: (1.103, -0.362, 0.2767),
    32.0: (0.9559, -0.7823, 0.471),
    20.0: (0.373, -0.1582, 0.04104),
    16.0: (0.2958, -0.1241, 0.03024),
    14.0: (0.2363, -0.09675, 0.02239),
    10.0: (0.2068, -0.09311, 0.02375),
    7.0: (0.1776, -0.09097, 0.02447),
}
_NOMINAL_VOLTS = 0.9

# Google's columns, 45 nm over 7 nm: fitted multiply, add; MAC at 8 x 8 with a 24-bit sum by those fits; published 32 KB
# SRAM access (20 and 8.5 pJ per 64 bits). One factor for all widths and capacities, so that a monotone table stays
# monotone. D
_GOOGLE_45_TO_7 = {
    "multiply": 0.07819 / 0.2,
    "add": 0.0009041 / 0.00338115,
    "mac": (0.07819 + 24 * 0.0009041) / (0.2 + 24 * 0.00338115),
    "sram": 8.5 / 20,
}


@dataclass(frozen=True)
class Factors:
    """What each kind of price is multiplied with."""

    multiply: float
    add: float
    mac: float
    sram: float
    area: float


def area_factor(node_nm: float) -> float:
    """Return logic area relative to 45 nm (7..130 nm), log-log between the published nodes."""
    return _log_interpolate(_AREA_TO_45, node_nm, "area_factor")


def stillmaker_energy_factor(node_nm: float, volts: float = _NOMINAL_VOLTS) -> float:
    """Return switching energy relative to 45 nm at 0.9 V (7..130 nm, 0.7..1.0 V), log-log between published nodes."""
    if not 0.7 <= volts <= 1.0:
        raise ValueError(
            f"stillmaker_energy_factor: volts must be in 0.7..1.0 (got {volts}); the polynomials end there"
        )
    at_45 = _polynomial(45.0, _NOMINAL_VOLTS)
    factors = {node: _polynomial(node, volts) / at_45 for node in _ENERGY_POLYNOMIALS}
    return _log_interpolate(factors, node_nm, "stillmaker_energy_factor")


def google_energy_factor(kind: str, node_nm: float) -> float:
    """Return the energy of one kind of operation ("multiply", "add", "mac", "sram") relative to 45 nm (7..45 nm)."""
    if not 7 <= node_nm <= 45:
        raise ValueError(
            f"google_energy_factor: node_nm must be in 7..45 (got {node_nm}); use scaling 'stillmaker' for others"
        )
    return float(_GOOGLE_45_TO_7[kind] ** (math.log(45 / node_nm) / math.log(45 / 7)))


def scaled(
    technology: Technology, node_nm: float, scaling: ScalingName = "google", volts: float = _NOMINAL_VOLTS
) -> Technology:
    """Return `technology` moved to another node.

    Parameters
    ----------
    technology : Technology
        At its own node, at 0.9 V for the purpose of "stillmaker".
    node_nm : float
        Target node: 7..45 nm under "google" (where the technology's own node must lie too), 7..130 nm under
        "stillmaker".
    scaling : {"google", "stillmaker"}
        Which published scaling.
    volts : float
        Supply at the target node, only under "stillmaker".

    Raises
    ------
    ValueError
        For an unknown scaling or a node out of its range.
    """
    factors = _factors(technology.node_nm, node_nm, scaling, volts)
    return replace(
        technology,
        name=f"{technology.name}>{node_nm:g}nm-{scaling}",
        node_nm=node_nm,
        sources=(*technology.sources, *_SOURCES[scaling]),
        logic=ScaledLogic(technology.logic, factors),
        sram=ScaledSram(technology.sram, factors.sram),
        sram_um2_per_bit=technology.sram_um2_per_bit * node_nm / technology.node_nm,
    )


def _factors(from_nm: float, to_nm: float, scaling: str, volts: float) -> Factors:
    if scaling not in _SOURCES:
        raise ValueError(f"scaled: scaling must be one of {', '.join(_SOURCES)} (got {scaling!r}); both are published")
    if scaling == "stillmaker":
        energy = stillmaker_energy_factor(to_nm, volts) / stillmaker_energy_factor(from_nm)
        kinds = dict.fromkeys(_GOOGLE_45_TO_7, energy)
    else:
        kinds = {k: google_energy_factor(k, to_nm) / google_energy_factor(k, from_nm) for k in _GOOGLE_45_TO_7}
    return Factors(**kinds, area=area_factor(to_nm) / area_factor(from_nm))


def _polynomial(node: float, volts: float) -> float:
    a2, a1, a0 = _ENERGY_POLYNOMIALS[node]
    return a2 * volts**2 + a1 * volts + a0


def _log_interpolate(points: dict[float, float], node_nm: float, name: str) -> float:
    nodes = sorted(points)
    if not nodes[0] <= node_nm <= nodes[-1]:
        raise ValueError(f"{name}: node_nm must be in {nodes[0]:g}..{nodes[-1]:g} (got {node_nm}); no data beyond")
    above = next(node for node in nodes if node >= node_nm)
    if above == node_nm:
        return points[above]
    below = nodes[nodes.index(above) - 1]
    share = math.log(node_nm / below) / math.log(above / below)
    return float(points[below] * (points[above] / points[below]) ** share)


def _times(price: float | None, factor: float) -> float | None:
    return None if price is None else price * factor


@dataclass(frozen=True)
class ScaledSram:
    """Another SRAM model times a factor."""

    base: SramModel
    factor: float

    def read_pj(self, capacity_bytes: float, word_bits: int) -> float:
        """Return pJ for reading one word."""
        return self.base.read_pj(capacity_bytes, word_bits) * self.factor

    def write_pj(self, capacity_bytes: float, word_bits: int) -> float:
        """Return pJ for writing one word."""
        return self.base.write_pj(capacity_bytes, word_bits) * self.factor


@dataclass(frozen=True)
class ScaledLogic(Logic):
    """Another logic times `Factors`; leakage follows the adder's energy, so that its share at one clock stays (A)."""

    base: Logic
    factors: Factors

    def multiply_pj(self, weight_bits: int, act_bits: int) -> float | None:
        """Scale by the multiplier's factor."""
        return _times(self.base.multiply_pj(weight_bits, act_bits), self.factors.multiply)

    def add_pj(self, bits: int) -> float | None:
        """Scale by the adder's factor."""
        return _times(self.base.add_pj(bits), self.factors.add)

    def register_pj(self, bits: int) -> float | None:
        """Scale by the adder's factor."""
        return _times(self.base.register_pj(bits), self.factors.add)

    def mac_pj(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow) -> float | None:
        """Scale by the MAC's factor."""
        return _times(self.base.mac_pj(weight_bits, act_bits, psum_bits, dataflow), self.factors.mac)

    def mac_idle_pj(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow) -> float:
        """Scale by the MAC's factor."""
        return self.base.mac_idle_pj(weight_bits, act_bits, psum_bits, dataflow) * self.factors.mac

    def toggle_pj(
        self, weight_bits: int, act_bits: int, psum_bits: int, toggles: Toggles, dataflow: Dataflow
    ) -> float | None:
        """Scale by the MAC's factor."""
        return _times(self.base.toggle_pj(weight_bits, act_bits, psum_bits, toggles, dataflow), self.factors.mac)

    def pe_area_um2(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow) -> float | None:
        """Scale by the area factor."""
        return _times(self.base.pe_area_um2(weight_bits, act_bits, psum_bits, dataflow), self.factors.area)

    def pe_leakage_mw(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow) -> float | None:
        """Scale by the adder's factor."""
        return _times(self.base.pe_leakage_mw(weight_bits, act_bits, psum_bits, dataflow), self.factors.add)

    def composable_energy_factor(self, max_bits: int) -> float | None:
        """Return the unscaled technology's ratio."""
        return self.base.composable_energy_factor(max_bits)

    def composable_area_factor(self, max_bits: int) -> float | None:
        """Return the unscaled technology's ratio."""
        return self.base.composable_area_factor(max_bits)

    def serial_energy_factor(self, weight_bits: int, act_bits: int) -> float | None:
        """Return the unscaled technology's ratio."""
        return self.base.serial_energy_factor(weight_bits, act_bits)

    def serial_area_factor(self) -> float | None:
        """Return the unscaled technology's ratio."""
        return self.base.serial_area_factor()

    def multiplier_area_um2(self, weight_bits: int, act_bits: int) -> float | None:
        """Scale by the area factor."""
        return _times(self.base.multiplier_area_um2(weight_bits, act_bits), self.factors.area)

    def adder_area_um2(self, bits: int) -> float | None:
        """Scale by the area factor."""
        return _times(self.base.adder_area_um2(bits), self.factors.area)

    def register_area_um2(self, bits: int) -> float | None:
        """Scale by the area factor."""
        return _times(self.base.register_area_um2(bits), self.factors.area)


_AREA_SOURCE = Source(_STILLMAKER, "logic area 45 nm over 7 nm = 17 (matrix, log-log between nodes)", "V")

_SOURCES: dict[str, tuple[Source, ...]] = {
    "google": (
        Source(
            "Horowitz, ISSCC 2014, and Jouppi et al., ISCA 2021, Table 2",
            "energy 45 to 7 nm: multiply 0.39, add 0.27, MAC 0.36, SRAM (32 KB) 0.43, log-log in the node; leakage "
            "as add (A)",
            "S/D/A",
        ),
        _AREA_SOURCE,
    ),
    "stillmaker": (
        Source(
            _STILLMAKER, "energy polynomials in the supply, 45 to 7 nm at 0.9 V = 0.10; leakage likewise (A)", "V/A"
        ),
        _AREA_SOURCE,
    ),
}
