"""YAML from strangers as plain values: bounded in size, depth and aliases; no tags, merge keys or repeated keys."""

import re
from typing import Any

import yaml

MAX_CHARACTERS = 1 << 20
MAX_DEPTH = 32
MAX_ALIASES = 64


class UniqueKeys(yaml.constructor.SafeConstructor):
    """Put before a safe loader: refuses a key given twice, of which YAML would keep the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise ValueError(f"key {key.value[:40]!r} is given twice (line {key.start_mark.line + 1})")
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


class _Loader(UniqueKeys, yaml.SafeLoader):
    """The safe loader of plain values."""


# YAML 1.1 reads 1e3 as text; everybody else as a number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def plain_mapping(text: str, what: str, hint: str = "see the presets") -> dict[str, Any]:
    """Return the mapping that a YAML text holds; `what` names it in errors, `hint` says what a mapping looks like.

    Raises
    ------
    ValueError
        If the text is too large, no YAML, uses what plain data do not need, or is no mapping.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"{what} is larger than {MAX_CHARACTERS} characters; a description is a page of YAML")
    try:
        _check_events(text)
        plain = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{what} is no valid YAML: {' '.join(str(error).split())[:400]}") from None
    if not isinstance(plain, dict):
        raise ValueError(f"{what} must be a mapping of fields (got {type(plain).__name__}); {hint}")
    return plain


def _check_events(text: str) -> None:
    """Refuse nesting, aliases and merge keys by which a small text becomes a large value."""
    depth = aliases = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        aliases += isinstance(event, yaml.AliasEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels; no description is")
        if aliases > MAX_ALIASES:
            raise ValueError(f"more than {MAX_ALIASES} aliases (*name); write the values out")
        if isinstance(event, yaml.ScalarEvent) and event.value == "<<":
            raise ValueError("merge keys (<<) are not read; write the fields out")
