"""A technology whose levels come from an imported table and whose shape in the widths comes from another technology.

An ERT prices each component at one width only. Four independent sources agree on how prices vary with width within
about 5 % and on their level within a factor of four, so that is the division of labour: at the stated widths the price
is the table's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from accelsim.technology.accelergy import PriceTable
from accelsim.technology.base import Technology
from accelsim.technology.logic import Dataflow
from accelsim.technology.scaling import Factors, ScaledLogic
from accelsim.technology.source import Source
from accelsim.technology.sram import SramModel

RoleName = Literal["mac", "register", "sram", "dram"]
ROLES: tuple[RoleName, ...] = ("mac", "register", "sram", "dram")


@dataclass(frozen=True)
class Role:
    """Which component of the table plays a part, and the widths that its prices are for.

    Parameters
    ----------
    component : str
        Name in the table, without ranges.
    bits : tuple of int
        mac: (weight, activation, partial sum); sram: (bits of one physical word,); register: (bits,); dram: (bits of
        one access,).
    capacity_bytes : float
        sram only: one bank, which an access goes to.
    banks : int
        sram only: banks that the component's area is of.
    """

    component: str
    bits: tuple[int, ...]
    capacity_bytes: float = 0.0
    banks: int = 1


@dataclass(frozen=True)
class ImportedSram:
    """Another SRAM model with its own factors for reads and writes."""

    base: SramModel
    read_factor: float
    write_factor: float

    def read_pj(self, capacity_bytes: float, word_bits: int) -> float:
        """Return pJ for reading one word."""
        return self.base.read_pj(capacity_bytes, word_bits) * self.read_factor

    def write_pj(self, capacity_bytes: float, word_bits: int) -> float:
        """Return pJ for writing one word."""
        return self.base.write_pj(capacity_bytes, word_bits) * self.write_factor


@dataclass(frozen=True)
class ImportedLogic(ScaledLogic):
    """Scaled logic with its own register factor; leakage is the base's."""

    register_factor: float

    def register_pj(self, bits: int) -> float | None:
        """Scale by the register's factor."""
        price = self.base.register_pj(bits)
        return None if price is None else price * self.register_factor

    def pe_leakage_mw(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow) -> float | None:
        """Return the base's leakage: tables give it per cycle, of an unknown clock."""
        return self.base.pe_leakage_mw(weight_bits, act_bits, psum_bits, dataflow)


def from_tables(
    table: PriceTable, base: Technology, roles: Mapping[str, Role], name: str, fill: bool = False
) -> Technology:
    """Return `base` recalibrated so that it has the table's prices at the widths of `roles`.

    Parameters
    ----------
    table : PriceTable
        Actions used: mac compute, register write, sram read and write, dram read, at the role's widths where the table
        says widths; areas of mac and sram where there is an ART.
    base : Technology
        Gives the shape in widths and capacities.
    roles : mapping of {"mac", "register", "sram", "dram"} to Role
        At least "mac", "sram" and "dram"; without "register" registers follow the MAC's level.
    name : str
        The result's name.
    fill : bool
        Whether roles that are missing keep the base's own prices. Otherwise that is an error.

    Raises
    ------
    ValueError
        For an unknown or missing role, a price the table does not have, or a price of zero to calibrate on.
    """
    _check_roles(roles, fill)
    mac, register, sram, dram = (roles.get(role) for role in ROLES)
    factors = _mac_factors(table, base, mac)
    register_factor = factors.add
    if register is not None:
        register_factor = _ratio(table, register, "write", base.register_pj(register.bits[0]))
    read_factor = write_factor = 1.0
    if sram is not None:
        read_factor = _ratio(table, sram, "read", base.sram_read_pj(sram.capacity_bytes, sram.bits[0]))
        write_factor = _ratio(table, sram, "write", base.sram_write_pj(sram.capacity_bytes, sram.bits[0]))
    dram_pj = base.dram_pj_per_bit_fixed
    if dram is not None:
        dram_pj = _price_pj(table, dram, "read") / dram.bits[0]
    levels = f"levels of {', '.join(role for role in ROLES if role in roles)}; shape in the widths of {base.name}"
    return replace(
        base,
        name=name,
        sources=(Source("imported ERT/ART", levels, "D"), *base.sources),
        logic=ImportedLogic(base.logic, factors, register_factor),
        sram=ImportedSram(base.sram, read_factor, write_factor),
        sram_um2_per_bit=_sram_um2_per_bit(table, base, sram),
        dram_pj_per_bit_fixed=dram_pj,
    )


def _check_roles(roles: Mapping[str, Role], fill: bool) -> None:
    unknown = sorted(set(roles) - set(ROLES))
    if unknown:
        raise ValueError(f"from_tables: roles must be of {', '.join(ROLES)} (got {', '.join(unknown)}); rename them")
    missing = [role for role in ("mac", "sram", "dram") if role not in roles]
    if missing and not fill:
        raise ValueError(
            f"from_tables: roles must name mac, sram and dram (missing {', '.join(missing)}); or set fill=True"
        )
    for role, wanted in (("mac", 3), ("register", 1), ("sram", 1), ("dram", 1)):
        if role in roles and (len(roles[role].bits) != wanted or min(roles[role].bits) < 1):
            raise ValueError(f"from_tables: role {role} must have {wanted} positive width(s) (got {roles[role].bits})")
    sram = roles.get("sram")
    if sram is not None and (not sram.capacity_bytes > 0 or sram.banks < 1):
        raise ValueError(
            f"from_tables: role sram must have capacity_bytes > 0 and banks >= 1 (got {sram.capacity_bytes:g} and "
            f"{sram.banks}); give the bytes of one bank"
        )


def _price_pj(table: PriceTable, role: Role, action: str) -> float:
    """Return the price at the role's widths where the table says widths, else the one that it has."""
    bits = role.bits if len(role.bits) > 1 else role.bits[0]
    at_widths = table.find_pj(role.component, action, bits)
    return table.price_pj(role.component, action) if at_widths is None else at_widths


def _ratio(table: PriceTable, role: Role, action: str, own_price: float) -> float:
    price = _price_pj(table, role, action)
    if price <= 0:
        raise ValueError(
            f"from_tables: {role.component}.{action} must be > 0 to calibrate on (got {price}); drop the role"
        )
    return price / own_price


def _mac_factors(table: PriceTable, base: Technology, role: Role | None) -> Factors:
    if role is None:
        return Factors(multiply=1.0, add=1.0, mac=1.0, sram=1.0, area=1.0)
    weight_bits, act_bits, psum_bits = role.bits
    energy = _ratio(table, role, "compute", base.mac_pj(weight_bits, act_bits, psum_bits))
    area = table.areas_um2.get(role.component, 0.0)
    area_factor = area / base.pe_area_um2(weight_bits, act_bits, psum_bits) if area > 0 else 1.0
    return Factors(multiply=energy, add=energy, mac=energy, sram=1.0, area=area_factor)


def _sram_um2_per_bit(table: PriceTable, base: Technology, role: Role | None) -> float:
    area = 0.0 if role is None else table.areas_um2.get(role.component, 0.0)
    return base.sram_um2_per_bit if role is None or area <= 0 else area / (8 * role.capacity_bytes * role.banks)
