"""One decision as a table: every candidate, its probability after each step, and who cut it. Prints nothing.

The figures are those of a `Distribution` and its trace; nothing is worked out a second way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refsample.sampling.pipeline import Distribution
from refsample.sampling.trace import StepTrace
from refsample_kernels.softmax import softmax

LAW = "law"
"""The last column, where it is not that of the last step: XTC's coin, or a grammar's second draw."""


@dataclass(frozen=True, slots=True)
class Column:
    """One step that acted, or the model before them all, or the law after them."""

    name: str
    mass_kept: float
    """Share of the probability before the step that was on tokens it kept."""
    cut: int
    """How many tokens it took out."""
    margin: float | None
    """Distance from its cut to the nearest decision; None where nothing was in question."""
    margin_unit: str
    undecidable: int
    """How many tokens lie within 1e-6 of the cut."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One token."""

    rank: int
    """1 for the likeliest of the model, equal ones by id."""
    token_id: int
    text: str
    probs: tuple[float | None, ...]
    """One for each column; None once it is cut, 0.0 where it only underflows."""
    cut_by: str | None
    near: tuple[str, ...]
    """Steps to whose cut it is within 1e-6: another correct implementation may decide otherwise."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """One decision of one engine."""

    engine: str
    columns: tuple[Column, ...]
    candidates: tuple[Candidate, ...]
    """The likeliest of the model, and whoever can be drawn beside them, by rank."""
    others: int
    """Tokens that are not listed."""
    support: int
    """Tokens that can be drawn."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "engine": self.engine,
            "steps": [{name: getattr(c, name) for name in Column.__slots__} for c in self.columns],
            "tokens": [
                {**{name: getattr(c, name) for name in Candidate.__slots__ if name != "probs"},
                 "probs": {column.name: p for column, p in zip(self.columns, c.probs, strict=True)}}
                for c in self.candidates
            ],
            "others": self.others,
            "support": self.support,
        }  # fmt: skip


def explain(dist: Distribution, engine: str, text_of: Callable[[int], str], top: int = 10) -> Explanation:
    """The steps that acted on the `top` likeliest tokens of the model, and on the likeliest `top` that can be drawn."""
    trace = dist.trace
    acted = [step for step in trace.steps if step.active]
    stages = [dist.logits, *(step.logits for step in acted)]  # each [V]
    columns = [Column("model", 1.0, 0, None, "nat", 0), *map(_column, acted)]
    if not np.allclose(softmax(stages[-1]), dist.probs, rtol=1e-9, atol=0.0):
        stages.append(dist.final)
        columns.append(Column(LAW, 1.0, 0, None, "nat", 0))
    order = np.argsort(-dist.logits, kind="stable")
    rank = np.empty(order.size, dtype=np.int64)  # [V]
    rank[order] = np.arange(1, order.size + 1)
    drawn = np.argsort(-dist.probs, kind="stable")[:top]
    listed = sorted({*order[:top].tolist(), *drawn[dist.probs[drawn] > 0.0].tolist()}, key=lambda i: rank[i])
    cut_by, laws = _cutters(acted), [(stage, softmax(stage)) for stage in stages]
    candidates = tuple(
        Candidate(
            rank=int(rank[i]),
            token_id=i,
            text=text_of(i),
            probs=tuple(None if logits[i] == -np.inf else float(law[i]) for logits, law in laws),
            cut_by=None if dist.support[i] else cut_by.get(i, "model"),
            near=tuple(step.name for step in acted if i in step.undecidable),
        )
        for i in listed
    )
    return Explanation(engine, tuple(columns), candidates, rank.size - len(listed), int(dist.support.sum()))


def differing(ours: Distribution, theirs: Distribution) -> tuple[int, ...]:
    """Ids that only one of two laws can draw, or that they draw with other probabilities (by more than 1e-9)."""
    apart = ~np.isclose(ours.probs, theirs.probs, rtol=1e-9, atol=1e-12) | (ours.support != theirs.support)
    return tuple(np.flatnonzero(apart).tolist())


def _column(step: StepTrace) -> Column:
    margin = step.margin if np.isfinite(step.margin) else None
    return Column(step.name, step.mass_kept, int(step.cut.size), margin, step.margin_unit, int(step.undecidable.size))


def _cutters(acted: Sequence[StepTrace]) -> Mapping[int, str]:
    """Id -> the step that cut it."""
    return {int(i): step.name for step in acted for i in step.cut}

