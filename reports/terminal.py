"""Tables for the terminal: text in, text out."""

import textwrap
from collections.abc import Sequence


def format_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,), indent: str = ""
) -> str:
    """Return an aligned table.

    Parameters
    ----------
    headers, rows
        One text per column.
    left
        Columns flush left; the others are flush right, as figures are.
    indent
        Put before every line.
    """
    widths = [max(len(row[i]) for row in (headers, *rows)) for i in range(len(headers))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return indent + "  ".join(padded).rstrip()

    rule = indent + "  ".join("─" * width for width in widths)
    return "\n".join([line(headers), rule, *map(line, rows)])


def format_pairs(pairs: Sequence[tuple[str, str]], width: int = 110) -> str:
    """Return one paragraph per pair, the second texts aligned and wrapped."""
    names = max(len(name) for name, _ in pairs)
    paragraphs = [
        textwrap.fill(
            text,
            width,
            initial_indent=f"{name.ljust(names)}  ",
            subsequent_indent=" " * (names + 2),
            break_on_hyphens=False,
        )
        for name, text in pairs
    ]
    return "\n".join(paragraphs)


def plain(text: str, encoding: str) -> str:
    """Return text that a terminal of `encoding` can show; what it lacks is written otherwise or left out."""
    for fancy, simple in (("─", "-"), ("µ", "u"), ("²", "2"), ("×", "x"), ("±", "+/-"), ("−", "-"), ("·", "-")):
        if not _encodes(fancy, encoding):
            text = text.replace(fancy, simple)
    for space in ("\N{NO-BREAK SPACE}", "\N{NARROW NO-BREAK SPACE}"):
        text = text.replace(space, " ")
    return text.encode(encoding, errors="replace").decode(encoding)


def _encodes(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
