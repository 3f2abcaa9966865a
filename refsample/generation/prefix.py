"""Keys and values of prompts that were prefilled lately: a prompt that begins like one of them takes them over.

A tree of runs of tokens for each transformer: what two prompts share is held once. It never changes a bit, since the
keys and values of a token depend on nothing but the tokens up to it. Knows nothing of requests.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from refsample.checks import integer

if TYPE_CHECKING:
    from refsample.model.cache import Cache, Part
    from refsample.model.transformer import Transformer

LEAST = 16
"""Fewer tokens are computed anew: looking after them would cost as much."""
ROOM = 256 << 20
"""Bytes that a model keeps unless told otherwise."""
_FRAME = 1024
"""Bytes that a run is counted with beside its arrays."""
_EACH = 16
"""Bytes that an id is counted with."""


def repeatable(transformer: Transformer) -> bool:
    """Whether the keys and values of a token depend on the tokens up to it alone.

    Rotary variants that go by the length of the whole text do more; BLAS, behind float64, promises less.
    """
    by_length = any(settings.by_length for settings in transformer.config.ropes)
    return transformer.precision != "float64" and not by_length


@dataclass(slots=True, eq=False)
class _Run:
    """Tokens that follow those of `parent`, up to where prompts part or one ends."""

    ids: tuple[int, ...]
    part: Part | None
    parent: _Run | None
    children: dict[int, _Run] = field(default_factory=dict)
    """By their first id."""

    @property
    def size(self) -> int:
        """Bytes, as they are counted."""
        return _FRAME + _EACH * len(self.ids) + (0 if self.part is None else self.part.nbytes)


class PrefixCache:
    """At most `room` bytes of keys and values; what was not used for the longest time goes first. 0: keeps nothing.

    Threads may share it. Entries belong to a transformer, that is to a precision and an adapter.
    """

    def __init__(self, room: int = ROOM) -> None:
        """ParameterError for a room below 0."""
        self.room = integer("prefix_cache", room, 0)
        self._roots: dict[int, tuple[Transformer, _Run]] = {}
        """By the transformer's id, which the reference beside it keeps from being given to another."""
        self._used: OrderedDict[_Run, int] = OrderedDict()
        """Runs, the oldest first, none before those that follow it; the id of each one's transformer."""
        self._held = 0
        self._lock = Lock()

    @property
    def held(self) -> int:
        """Bytes that are kept now."""
        return self._held

    def begun(
        self, transformer: Transformer, ids: tuple[int, ...], capacity: int, declared: int | None = None
    ) -> Cache:
        """A new cache with the first tokens of `ids`, as many as are known; none where they are fewer than LEAST."""
        cache = transformer.new_cache(capacity, declared)
        with self._lock:
            path = self._path(transformer, ids)
            self._touch([run for run, _ in path])
            known = [(run.part, count) for run, count in path]
        if sum(count for _, count in known) >= LEAST:
            for part, count in known:  # nobody writes to a part: copying needs no lock
                if part is not None:
                    cache.append(part, count)
        return cache

    def keep(self, transformer: Transformer, ids: tuple[int, ...], cache: Cache) -> None:
        """Keep the tokens `ids`, with which `cache` begins; where not all of them have room, the first."""
        if len(ids) < LEAST or not self.room or not repeatable(transformer):
            return
        ids = ids[: max(0, self.room - _FRAME) // (_EACH + cache.part(0, 1).nbytes)]
        with self._lock:
            path = self._path(transformer, ids)
            known = sum(count for _, count in path)
            if path and path[-1][1] < len(path[-1][0].ids) and known < len(ids):
                path[-1] = (self._split(*path[-1]), path[-1][1])
            if known < len(ids):
                root = self._roots.setdefault(id(transformer), (transformer, _Run((), None, None)))[1]
                above = path[-1][0] if path else root
                run = _Run(ids[known:], cache.part(known, len(ids)), above)
                above.children[ids[known]] = run
                self._add(run, id(transformer))
                path.append((run, len(run.ids)))
            self._touch([run for run, _ in path])
            while self._held > self.room:
                self._drop()

    def _path(self, transformer: Transformer, ids: tuple[int, ...]) -> list[tuple[_Run, int]]:
        """The runs that `ids` begin with, and how many tokens of each."""
        found: list[tuple[_Run, int]] = []
        if id(transformer) not in self._roots:
            return found
        run, place = self._roots[id(transformer)][1], 0
        while place < len(ids) and ids[place] in run.children:
            run = run.children[ids[place]]
            count = shared(run.ids, ids[place : place + len(run.ids)])
            found.append((run, count))
            place += count
            if count < len(run.ids):
                break
        return found

    def _split(self, run: _Run, count: int) -> _Run:
        """Cut a run after `count` tokens; the new upper part comes back."""
        assert run.part is not None and run.parent is not None
        owner = self._used[run]
        upper = _Run(run.ids[:count], run.part.cut(0, count), run.parent)
        run.parent.children[run.ids[0]] = upper
        self._held -= run.size
        run.ids, run.part, run.parent = run.ids[count:], run.part.cut(count, len(run.ids)), upper
        self._held += run.size
        upper.children[run.ids[0]] = run
        self._add(upper, owner)
        return upper

    def _add(self, run: _Run, owner: int) -> None:
        self._used[run] = owner
        self._held += run.size

    def _touch(self, path: Sequence[_Run]) -> None:
        for run in reversed(path):
            self._used.move_to_end(run)

    def _drop(self) -> None:
        """Forget the oldest run, which nothing follows."""
        run, owner = self._used.popitem(last=False)
        assert run.parent is not None and not run.children
        self._held -= run.size
        del run.parent.children[run.ids[0]]
        if not self._roots[owner][1].children:
            del self._roots[owner]


def shared(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """With how many equal ids both begin."""
    if a[: len(b)] == b[: len(a)]:
        return min(len(a), len(b))
    return next(place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
