"""The pages of the user guide as tests read them: fenced blocks with their marks, inline code, links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
GUIDE = tuple(sorted((ROOT / "docs").glob("*.md")))
PAGES = (ROOT / "README.md", *GUIDE)

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_MARK = re.compile(r"# (runnable|accelerator|recipe|study|search|prices|example: (\w+))\n")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its mark (the comment in its first line, empty where there is none) and text."""

    page: str
    language: str
    mark: str
    text: str


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> Iterator[Block]:
    for language, text in _FENCE.findall(page.read_text(encoding="utf-8")):
        found = _MARK.match(text)
        yield Block(name_of(page), language, found[1] if found else "", text)


def all_blocks(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.language == language]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def inline(page: Path) -> list[str]:
    """Return what stands in single backticks outside of fenced blocks, on one line each."""
    return [" ".join(text.split()) for text in re.findall(r"`([^`]+)`", prose(page))]
