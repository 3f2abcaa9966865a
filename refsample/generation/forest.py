"""Known sequences as a forest: what several of them begin with stands there once. Knows nothing of what is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from refsample.generation.prefix import LEAST, shared

if TYPE_CHECKING:
    from refsample.model.cache import Cache

NEVER = 1 << 62
"""As a least number of shared ids: nothing is shared."""


@dataclass(frozen=True, slots=True)
class Path:
    """A sequence, and from which position on its logits are wanted."""

    ids: tuple[int, ...]
    first: int
    """Position of the first wanted row, which predicts the id after it; less than len(ids)."""
    room: int = 0
    """Tokens that its cache gets room for, beside the ids."""
    declared: int = 0
    """Tokens that the whole text is said to get; 0: the ids and the room."""


@dataclass(slots=True, eq=False)
class Stem:
    """Ids that some paths share, up to where they part or one ends."""

    start: int
    """Position of its first id."""
    ids: tuple[int, ...]
    first: int
    """Position of the first row that one of the paths wants, at least `start`."""
    members: tuple[int, ...]
    """Indices of the paths."""
    capacity: int
    """Tokens that the longest of them needs room for."""
    declared: int
    """Tokens that the text is said to get: of several texts whichever, where they may share at all."""
    above: Stem | None
    cache: Cache | None = None
    heirs: int = 0
    """How many stems and ended paths still want the cache."""

    @property
    def stop(self) -> int:
        """Position behind its last id."""
        return self.start + len(self.ids)

    def take(self, capacity: int) -> Cache:
        """The cache with all tokens up to `stop`, for one that goes on: a copy while others wait."""
        assert self.cache is not None
        self.heirs -= 1
        if self.heirs:
            return self.cache.fork(capacity)
        given, self.cache = self.cache, None
        return given


def planted(paths: Sequence[Path], least: int = LEAST) -> list[list[Stem]]:
    """The stems of all paths by level: each after the one that it goes on from. What is shared has `least` ids, or is
    the whole rest of some."""
    order = sorted(range(len(paths)), key=lambda p: paths[p].ids)
    levels: list[list[Stem]] = []
    above: list[tuple[Stem | None, int, list[int]]] = [(None, 0, order)]
    while above:
        level: list[Stem] = []
        further: list[tuple[Stem | None, int, list[int]]] = []
        for parent, depth, members in above:
            for group in _alike(paths, members, depth, least):
                stem = _stem(paths, group, depth, parent)
                level.append(stem)
                rest = [p for p in group if len(paths[p].ids) > stem.stop]
                stem.heirs = len(group) - len(rest)
                if parent is not None:
                    parent.heirs += 1
                if rest:
                    further.append((stem, stem.stop, rest))
        levels.append(level)
        above = further
    return levels


def _alike(paths: Sequence[Path], members: list[int], depth: int, least: int) -> Iterator[list[int]]:
    """Members in sorted order, those together whose next `least` ids are equal, or all of fewer that are left."""
    if least == NEVER:  # where bits depend on what else goes through, equal prompts go through each for itself
        yield from ([p] for p in members)
        return
    for _, found in groupby(members, key=lambda p: paths[p].ids[depth : depth + least]):
        yield list(found)


def _stem(paths: Sequence[Path], group: list[int], depth: int, parent: Stem | None) -> Stem:
    head, last = paths[group[0]].ids, paths[group[-1]].ids
    stop = depth + shared(head[depth:], last[depth:])
    first = max(depth, min(paths[p].first for p in group))
    capacity = max(len(paths[p].ids) + paths[p].room for p in group)
    whole = paths[group[0]]
    declared = whole.declared or len(whole.ids) + whole.room
    return Stem(depth, head[depth:stop], first, tuple(sorted(group)), capacity, declared, parent)
