"""Figures as people read them: a few significant digits and the unit that keeps them short."""

import math
from collections.abc import Sequence

Steps = Sequence[tuple[float, str]]

_ENERGY: Steps = ((1e12, "J"), (1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ"), (1.0, "pJ"))
_AREA: Steps = ((1e6, "mm²"), (1.0, "µm²"))
_TIME: Steps = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BYTES: Steps = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1.0, "B"))
_COUNT: Steps = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def significant(value: float, digits: int = 3, trim: bool = True) -> str:
    """Return a number with a few significant digits and no exponent between 0.001 and 10 000.

    Parameters
    ----------
    value
        The number.
    digits
        How many to keep.
    trim
        Leave zeros at the end of a fraction out.

    >>> significant(1234.5), significant(0.04567), significant(99.96), significant(2.0), significant(2.0, trim=False)
    ('1234', '0.0457', '100', '2', '2.00')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if not 1e-3 <= abs(value) < 1e5:
        return f"{value:.{digits}g}"
    whole = float(f"{value:.{digits}g}")
    if abs(whole) >= 10 ** (digits - 1):
        return f"{round(value):d}"
    decimals = max(digits - 1 - math.floor(math.log10(abs(whole))), 0)
    text = f"{whole:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if trim and "." in text else text


def _stepped(value: float, steps: Steps, trim: bool = False) -> str:
    """Return a figure in the largest unit that leaves at least one before the point."""
    size = abs(value) * (1 + 5e-4)  # 999.6 reads as 1.0 of the next unit
    factor, unit = next((step for step in steps if size >= step[0]), steps[-1])
    number = significant(value / factor, trim=trim)
    return f"{number}\N{NO-BREAK SPACE}{unit}" if unit else number


def energy(pj: float) -> str:
    """Return an energy given in pJ.

    >>> energy(12_345_678.0).replace(chr(160), ' ')
    '12.3 µJ'
    """
    return _stepped(pj, _ENERGY)


def energy_tick(pj: float) -> str:
    """Return an energy given in pJ for an axis: round numbers stay short."""
    return _stepped(pj, _ENERGY, trim=True)


def area(um2: float) -> str:
    """Return an area given in um2; from 0.01 mm2 on in mm2."""
    return _stepped(um2, _AREA) if um2 < 1e4 else f"{significant(um2 / 1e6, trim=False)}\N{NO-BREAK SPACE}mm²"


def duration(seconds: float) -> str:
    """Return a time given in seconds."""
    return _stepped(seconds, _TIME)


def storage(count: float) -> str:
    """Return a number of bytes."""
    return _stepped(count, _BYTES, trim=abs(count) < 1023.5)


def capacity(count: float) -> str:
    """Return the size of a memory, which is a round number of bytes."""
    return _stepped(count, _BYTES, trim=True)


def short(count: float) -> str:
    """Return a count in thousands, millions or billions where it is long.

    >>> short(950), short(40_551_040)
    ('950', '40.6 M')
    """
    if abs(count) < 1e4:
        return significant(count, 4)
    return _stepped(count, _COUNT, trim=True).replace("\N{NO-BREAK SPACE}", " ")


def grouped(count: float) -> str:
    """Return a whole number with its thousands apart (a thin space, as ISO 80000-1 asks)."""
    return f"{round(count):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def percent(share: float, decimals: int = 1) -> str:
    """Return a share 0..1 as a percentage."""
    return f"{100 * share:.{decimals}f}\N{NO-BREAK SPACE}%"


def points(difference: float, decimals: int = 2) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    return f"{100 * difference:+.{decimals}f}".replace("-", "\N{MINUS SIGN}")
