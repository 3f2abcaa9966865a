"""A predicted output: which of its tokens may come next. Knows nothing of models; a wrong guess costs time only.

The text is drawn exactly as without it. Where a drawn token is not the predicted one, the prediction is taken up again
at the next place where it holds the last drawn tokens.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

AHEAD = 16
"""Predicted tokens that go through the transformer at once: more is wasted where a prediction ends early."""

Pair = tuple[int, int]


class Prediction:
    """The predicted ids and where each pair of neighbours stands in them; shared by all choices of a request."""

    __slots__ = ("_places", "ids")

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = tuple(ids)
        self._places: dict[Pair, list[int]] = {}
        for place, pair in enumerate(zip(self.ids, self.ids[1:], strict=False)):
            self._places.setdefault(pair, []).append(place)

    def after(self, pair: Pair, start: int) -> int | None:
        """The place behind the first such pair at `start` or later."""
        places = self._places.get(pair, [])
        found = bisect_left(places, start)
        return places[found] + 2 if found < len(places) else None


class Draft:
    """How far the text of one choice has followed the prediction."""

    __slots__ = ("_lost", "_place", "_prediction", "accepted")

    def __init__(self, prediction: Prediction) -> None:
        self._prediction = prediction
        self._place = 0
        self._lost = False
        self.accepted = 0
        """Predicted tokens that were drawn at their place."""

    @property
    def rejected(self) -> int:
        """Predicted tokens that were not drawn."""
        return len(self._prediction.ids) - self.accepted

    def ahead(self, most: int) -> tuple[int, ...]:
        """The tokens that are expected next, at most so many."""
        return () if self._lost else self._prediction.ids[self._place : self._place + max(0, min(most, AHEAD))]

    def follow(self, output: Sequence[int]) -> None:
        """Take note of the last token of `output`."""
        ids = self._prediction.ids
        if self._lost:
            self._find(output)
        elif self._place < len(ids) and ids[self._place] == output[-1]:
            self._place += 1
            self.accepted += 1
        else:
            self._lost = self._place < len(ids)

    def _find(self, output: Sequence[int]) -> None:
        if len(output) < 2:
            return
        place = self._prediction.after((output[-2], output[-1]), self._place)
        if place is not None:
            self._place, self._lost = place, False
