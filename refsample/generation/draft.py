"""A predicted output: which of its tokens may come next. Knows nothing of models; a wrong guess costs time only.

The text is drawn exactly as without it. Where a drawn token is not the predicted one, the prediction is taken up again
at the next place where it holds the last drawn tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

AHEAD = 16
"""Predicted tokens that go through the transformer at once: more is wasted where a prediction ends early."""
_LEAST_MATCH = 2
"""So many drawn tokens in a row have to be found again in the prediction."""


class Draft:
    """The prediction of one choice and how far the text has followed it."""

    __slots__ = ("_ids", "_lost", "_place", "accepted")

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids = tuple(ids)
        self._place = 0
        self._lost = False
        self.accepted = 0
        """Predicted tokens that were drawn at their place."""

    @property
    def rejected(self) -> int:
        """Predicted tokens that were not drawn."""
        return len(self._ids) - self.accepted

    def ahead(self, most: int) -> tuple[int, ...]:
        """The tokens that are expected next, at most so many."""
        return () if self._lost else self._ids[self._place : self._place + max(0, min(most, AHEAD))]

    def follow(self, output: Sequence[int]) -> None:
        """Take note of the last token of `output`."""
        if self._lost:
            self._find(tuple(output[-_LEAST_MATCH:]))
        elif self._place < len(self._ids) and self._ids[self._place] == output[-1]:
            self._place += 1
            self.accepted += 1
        else:
            self._lost = self._place < len(self._ids)

    def _find(self, last: tuple[int, ...]) -> None:
        if len(last) < _LEAST_MATCH:
            return
        for start in range(self._place, len(self._ids) - _LEAST_MATCH + 1):
            if self._ids[start : start + _LEAST_MATCH] == last:
                self._place, self._lost = start + _LEAST_MATCH, False
                return
