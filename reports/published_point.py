"""One published figure and the model's own."""

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Point:
    """A published figure beside the model's.

    Parameters
    ----------
    name
        What is compared.
    unit
        Of both figures; shares in ``%`` are compared in points, all others by their ratio.
    published, model
        The figures.
    source, status
        Where the published one comes from, and how it was seen: V, S, R, D, A as `accelsim.technology.source` has them.
    assumptions
        All that was assumed to compute the model's figure and is not in the source.
    fitted
        Whether a price was fitted to this very point.
    comparable
        Whether the machine is like the model's.
    """

    name: str
    unit: str
    published: float
    model: float
    source: str
    status: str
    assumptions: tuple[str, ...]
    fitted: bool = False
    comparable: bool = True

    @property
    def is_share(self) -> bool:
        """Whether the figures are shares, whose difference is stated."""
        return self.unit == "%"

    @property
    def error(self) -> float:
        """Model over published, less 1; for shares their difference in points."""
        return self.model - self.published if self.is_share else self.model / self.published - 1

    @property
    def error_text(self) -> str:
        """The error as printed."""
        return f"{self.error:+.1f} pt" if self.is_share else f"{100 * self.error:+.1f} %"

    def to_json(self) -> dict[str, Any]:
        """Return plain types."""
        plain = {item.name: getattr(self, item.name) for item in fields(self)}
        kind = "points" if self.is_share else "relative"
        return plain | {"assumptions": list(self.assumptions), "error": self.error, "error_kind": kind}
