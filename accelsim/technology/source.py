"""Where a figure comes from: citation, what it says, and how sure we are that it says so.

Status letters: V read in the primary document or in the repository that publishes the number; S seen as a quotation in
a secondary document; R recalled from the literature, not re-read; D derived or computed by us; A assumption.
"""

from dataclasses import dataclass

STATUS = {
    "V": "read in the primary source",
    "S": "quoted in a secondary source",
    "R": "recalled, not re-read",
    "D": "derived or computed here",
    "A": "assumption",
}


@dataclass(frozen=True)
class Source:
    """One citation of a technology.

    Parameters
    ----------
    citation : str
        Who published it, where and when.
    what : str
        The raw figure, its node, and how it was converted.
    status : str
        One or more letters of `STATUS`, joined by "/".
    level : str
        What it sets the level of, where it sets nothing but that: a key of `imported_sources.LEVELS`.
    """

    citation: str
    what: str
    status: str
    level: str = ""

    def __post_init__(self) -> None:
        unknown = set(self.status.split("/")) - set(STATUS)
        assert not unknown, f"Source.status {self.status!r} is not made of {sorted(STATUS)}"
