"""The colours of figures, read from the style sheets of the page, so that files and page cannot differ."""

import functools
import re
from importlib.resources import files

_FIGURE_RULES = (".figure", ".c-", ".k-", ".track", ".series", ".cell")


@functools.cache
def style_sheet(name: str) -> str:
    """Return a style sheet of ours."""
    return (files("reports") / "templates" / name).read_text(encoding="utf-8")


def both_sheets() -> str:
    """Return the style of the page of a sweep."""
    return style_sheet("style.css") + style_sheet("sweep.css")


@functools.cache
def variables() -> dict[str, str]:
    """Return the colours of a light page by variable."""
    light = style_sheet("style.css").split(":root {", 1)[1].split("}", 1)[0]
    return dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]+)", light))


@functools.cache
def colors() -> dict[str, str]:
    """Return the colours of a light page by class: ``c-…`` of parts, ``k-…`` of series."""
    found = {}
    for names, variable in re.findall(r"^((?:\.[ck]-\w+(?:,\s*)?)+)\s*{\s*\w+:\s*var\(--(\w+)\)", both_sheets(), re.M):
        for name in re.findall(r"\.([ck]-\w+)", names):
            found[name] = variables()[variable]
    return found


def figure_style() -> str:
    """Return the rules of figures alone, for an SVG file of its own: light colours on white."""
    outside = re.split(r"^@media", both_sheets(), flags=re.M)[0].splitlines()
    outside += [line for line in style_sheet("sweep.css").splitlines() if line.startswith(_FIGURE_RULES)]
    rules = [line for line in dict.fromkeys(outside) if line.startswith(_FIGURE_RULES)]
    rules += [line for line in style_sheet("style.css").splitlines() if line.startswith(_FIGURE_RULES)]
    roots = ";".join(f"--{name}:{color}" for name, color in variables().items())
    font = "font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','Liberation Sans',sans-serif"
    return f":root{{{roots};{font}}}" + "\n".join(dict.fromkeys(rules))
