"""Samples taken in turns, each with its limit probed before and after it, and what is made of them. Knows no engine."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

ALIKE = 1.15
"""Limits up to this factor apart are one regime: two samples beside them may be compared."""
FLIP = 1.25
"""A gap of this factor between limits parts two regimes."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One turn of an engine."""

    round: int
    rate: float
    """Tokens a second."""
    use: float
    """What a token takes of the limit: bytes read, or floating point operations."""
    before: float
    """The limit, right before the turn: bytes or operations a second."""
    after: float

    @property
    def limit(self) -> float:
        """The mean of both."""
        return (self.before + self.after) / 2

    @property
    def share(self) -> float:
        """Of the limit."""
        return self.rate * self.use / self.limit


Turn = Callable[[], tuple[float, float, float]]
"""Gives rate, use and the seconds that it took."""


def taken(
    turns: Mapping[str, Turn], probe: Callable[[], float], most: int, allowance: Callable[[str], float]
) -> dict[str, list[Sample]]:
    """Engines in turns, `most` rounds at most.

    After its first an engine has no turn that would take it over the seconds that it is allowed.
    """
    found: dict[str, list[Sample]] = {name: [] for name in turns}
    spent, last = dict.fromkeys(turns, 0.0), dict.fromkeys(turns, 0.0)
    before = probe()
    for number in range(most):
        for name, turn in turns.items():
            if spent[name] + last[name] > allowance(name):
                continue
            rate, use, last[name] = turn()
            spent[name] += last[name]
            after = probe()
            found[name].append(Sample(number, rate, use, before, after))
            before = after
    return found


def ratios(ours: Iterable[Sample], theirs: Iterable[Sample], alike: float = ALIKE) -> list[float]:
    """Our rate by theirs, of the pairs of one round whose limits are alike."""
    others = {one.round: one for one in theirs}
    pairs = [(one, others[one.round]) for one in ours if one.round in others]
    return [a.rate / b.rate for a, b in pairs if max(a.limit, b.limit) <= alike * min(a.limit, b.limit)]


def regimes(limits: Iterable[float]) -> list[tuple[float, float]]:
    """The least and the greatest limit of each regime, ascending: parted wherever a gap is as wide as a flip."""
    found: list[tuple[float, float]] = []
    for value in sorted(limits):
        if found and value < FLIP * found[-1][1]:
            found[-1] = (found[-1][0], value)
        else:
            found.append((value, value))
    return found


def figures(samples: Sequence[Sample]) -> dict[str, float]:
    """Medians."""
    return {
        "rate": statistics.median(one.rate for one in samples),
        "use": statistics.median(one.use for one in samples),
        "limit": statistics.median(one.limit for one in samples),
        "share": statistics.median(one.share for one in samples),
    }


def rows(found: Mapping[str, Sequence[Sample]], ours: str, flips: bool = False, **what: Any) -> list[dict[str, Any]]:
    """A row for each engine: medians, the ratio of ours to it, and every sample.

    `flips`: the limit may be another from one moment to the next, as that of DRAM: medians in each regime too, and
    ratios of pairs beside alike limits alone.
    """
    parts = regimes(one.limit for samples in found.values() for one in samples) if flips else []
    made = []
    for name, samples in found.items():
        row: dict[str, Any] = {"engine": name, **what, **figures(samples)}
        if len(parts) > 1:
            inside = [[one for one in samples if low <= one.limit <= high] for low, high in parts]
            row["regimes"] = [figures(held) for held in inside if held]
        if name != ours and ours in found:
            pairs = ratios(found[ours], samples, ALIKE if flips else float("inf"))
            row |= {"ratio": statistics.median(pairs) if pairs else None, "pairs": len(pairs)}
        made.append(row | {"samples": [asdict(one) for one in samples]})
    return made
