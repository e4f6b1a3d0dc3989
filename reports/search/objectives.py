"""What designs are judged by: losses, and limits on them.

Every loss is a figure of a stored point; less is better. The loss of accuracy is what is lost against the float
network on the same samples, in the metric's own unit and direction.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.studies.common import DEVIATIONS

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Objective:
    """One loss.

    Parameters
    ----------
    what
        In words, with its unit.
    limit
        The budget's key for its largest value.
    loss
        From a point's figures.
    """

    what: str
    limit: str
    loss: Callable[[Figures], float]


def accuracy_drop(figures: Figures) -> float:
    """Return what a point loses against the float network; negative where it gains."""
    lost = figures["difference"]
    return float(-lost if figures["higher_is_better"] else lost) + 0.0  # no minus zero


OBJECTIVES: dict[str, Objective] = {
    "accuracy": Objective("drop of the metric against float", "max_accuracy_drop", accuracy_drop),
    "energy": Objective("pJ a batch", "max_energy_pj", lambda figures: float(figures["energy_pj"]["total"])),
    "latency": Objective("s a batch", "max_seconds", lambda figures: float(figures["seconds"])),
    "energy_delay": Objective("pJ·s a batch", "max_energy_delay_pj_s", lambda f: float(f["energy_delay_pj_s"])),
    "area": Objective("µm²", "max_area_um2", lambda figures: float(figures["area_um2"]["total"])),
    "weight_bytes": Objective("bytes stored", "max_weight_bytes", lambda figures: float(figures["weight_bytes"])),
}
"""Every objective by name."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits, and what is least within them.

    Parameters
    ----------
    limits
        (objective, largest loss).
    minimize
        An objective.
    """

    limits: tuple[tuple[str, float], ...] = ()
    minimize: str

    def violations(self, figures: Figures) -> tuple[float, ...]:
        """Return by how much each limit is passed, as a share of it; at most 0 where it is kept."""
        return tuple((OBJECTIVES[name].loss(figures) - most) / (abs(most) or 1.0) for name, most in self.limits)

    def kept(self, figures: Figures) -> bool:
        """Tell whether all limits are kept, the figures taken as they are."""
        return all(value <= 0 for value in self.violations(figures))

    def verdict(self, figures: Figures) -> str:
        """Return ``within``, ``beyond``, or ``undecided`` where the drop's standard error leaves it open."""
        drop = dict(self.limits).get("accuracy")
        rest = Budget(limits=tuple(item for item in self.limits if item[0] != "accuracy"), minimize=self.minimize)
        if not rest.kept(figures):
            return "beyond"
        if drop is None:
            return "within"
        room, doubt = drop - accuracy_drop(figures), DEVIATIONS * figures["difference_standard_error"]
        if abs(room) <= doubt and doubt > 0:
            return "undecided"
        return "within" if room >= 0 else "beyond"


def read_objectives(names: Sequence[Any], problems: list[str]) -> tuple[str, ...]:
    """Return the objectives' names, having noted those that do not exist or come twice."""
    unknown = [name for name in names if name not in OBJECTIVES]
    problems += [f"objectives: must be of {', '.join(OBJECTIVES)} (got {name!r})" for name in unknown]
    if len(set(names)) < len(names):
        problems.append(f"objectives: must be named once each (got {', '.join(map(str, names))})")
    return tuple(name for name in names if name in OBJECTIVES)


def read_budget(given: Mapping[str, Any], objectives: Sequence[str], problems: list[str]) -> Budget:
    """Return the budget, having noted its problems; without ``minimize`` the first objective besides accuracy."""
    keys = {objective.limit: name for name, objective in OBJECTIVES.items()}
    costs = [name for name in objectives if name != "accuracy"] or ["accuracy"]
    minimize = given.get("minimize", costs[0])
    if minimize not in objectives:
        problems.append(f"budget.minimize: must be one of the objectives {', '.join(objectives)} (got {minimize!r})")
        minimize = costs[0]
    limits = []
    for key, value in given.items():
        if key == "minimize":
            continue
        if key not in keys:
            problems.append(f"budget.{key}: there is no such limit; there are {', '.join(keys)}")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            problems.append(f"budget.{key}: must be a finite number (got {value!r})")
        else:
            limits.append((keys[key], float(value)))
    return Budget(limits=tuple(limits), minimize=minimize)
