"""A technology whose levels come from an imported table and whose shape in the widths comes from another technology.

An ERT prices each component at one width only. Four independent sources agree on how prices vary with width within
about 5 % and on their level within a factor of four, so that is the division of labour: at the stated widths the price
is the table's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from accelsim.technology.accelergy import PriceTable, split_name
from accelsim.technology.base import Technology
from accelsim.technology.imported_sources import imported_sources, leak_mw
from accelsim.technology.logic import Dataflow
from accelsim.technology.role import ROLES, WIDTHS, Role, widths_in_words
from accelsim.technology.scaling import Factors, ScaledLogic
from accelsim.technology.sram import SramModel


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
    """Scaled logic with factors of its own for registers and leakage."""

    register_factor: float
    leakage_factor: float

    def register_pj(self, bits: int) -> float | None:
        """Scale by the register's factor."""
        price = self.base.register_pj(bits)
        return None if price is None else price * self.register_factor

    def pe_leakage_mw(self, weight_bits: int, act_bits: int, psum_bits: int, dataflow: Dataflow) -> float | None:
        """Scale by the leakage's factor: 1 where the tables do not give its power."""
        leakage = self.base.pe_leakage_mw(weight_bits, act_bits, psum_bits, dataflow)
        return None if leakage is None else leakage * self.leakage_factor


def from_tables(
    table: PriceTable, base: Technology, roles: Mapping[str, Role], name: str, fill: bool = False
) -> Technology:
    """Return `base` recalibrated so that it has the table's prices at the widths of `roles`.

    Parameters
    ----------
    table : PriceTable
        Actions used: mac compute, register write, sram read and write, dram read, at the role's widths where the table
        says widths; areas of mac and sram where there is an ART; leak of mac and sram where it is above 0 and the
        actions name the cycle that it is of.
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
    roles = {
        role: replace(given, component=split_name(f"from_tables: role {role}", given.component)[0])
        for role, given in roles.items()
    }
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
    return replace(
        base,
        name=name,
        sources=imported_sources(table, base, roles),
        logic=ImportedLogic(base.logic, factors, register_factor, _mac_leakage_factor(table, base, mac)),
        sram=ImportedSram(base.sram, read_factor, write_factor),
        mac_contents=base.mac_contents if mac is None else _mac_contents(base, mac),
        sram_um2_per_bit=_sram_um2_per_bit(table, base, sram),
        sram_leak_factor=_sram_leak_factor(table, base, sram),
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
    for role, widths in WIDTHS.items():
        if role in roles and (len(roles[role].bits) != len(widths) or min(roles[role].bits) < 1):
            raise ValueError(
                f"from_tables: role {role}: bits must be {widths_in_words(role)}, each > 0 (got "
                f"{list(roles[role].bits)[:8]}); give {'all of them' if len(widths) > 1 else 'that one'}"
            )
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


def _mac_contents(base: Technology, role: Role) -> str:
    weight_bits, act_bits, psum_bits = role.bits
    return (
        f"what {role.component} holds in the tables, at {weight_bits} x {act_bits} bits with sums of {psum_bits}; "
        f"other widths in the proportion of {base.name}'s"
    )


def _mac_leakage_factor(table: PriceTable, base: Technology, role: Role | None) -> float:
    leakage = leak_mw(table, role)
    if role is None or leakage <= 0:
        return 1.0
    weight_bits, act_bits, psum_bits = role.bits
    return leakage / base.pe_leakage_mw(weight_bits, act_bits, psum_bits)


def _sram_leak_factor(table: PriceTable, base: Technology, role: Role | None) -> float:
    leakage = leak_mw(table, role)
    if role is None or leakage <= 0:
        return base.sram_leak_factor
    return base.sram_leak_factor * leakage / (role.banks * base.sram_leakage_mw(role.capacity_bytes))
