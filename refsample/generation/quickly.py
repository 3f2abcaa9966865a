"""The quick way to the next tokens of a request's choices, and of several requests' at once. It knows nothing of texts.

What it cannot be sure of it leaves to the definition; see `refsample.sampling.quick`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from refsample.sampling import quick
from refsample.sampling.params import SamplingParams
from refsample.sampling.quick import Chooser, Chosen, Tally, program, together
from refsample.spec.types import Semantics

if TYPE_CHECKING:
    from refsample.generation.sequence import GenerationParams
    from refsample.generation.work import Choice


ASK: Literal["ask"] = "ask"
"""They cannot be asked together: each has to be asked by itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Rows that one kernel may decide."""

    chooser: Chooser
    rows: NDArray[np.float32]
    """[R, V]"""
    us: NDArray[np.float64]
    """[R]"""
    tallies: list[Tally]

    def answer(self) -> list[Chosen | None]:
        """A token for each row; None where the definition has to decide."""
        return self.chooser.choose(self.rows, self.us, self.tallies)


class Quick:
    """One request's way: its choosers, made when they are first needed."""

    __slots__ = ("_choosers", "_params", "_possible", "_samplings", "_semantics")

    def __init__(
        self, params: GenerationParams, samplings: tuple[SamplingParams, SamplingParams], semantics: Semantics,
        possible: bool,
    ) -> None:  # fmt: skip
        """`samplings`: after `min_tokens` and before. `possible`: no grammar and no steps of one's own are there."""
        self._params, self._samplings, self._semantics, self._possible = params, samplings, semantics, possible
        self._choosers: dict[bool, Chooser | None] = {}

    def question(
        self, choices: Sequence[Choice], rows: NDArray[np.float32], us: NDArray[np.float64]
    ) -> Question | Literal["ask"] | None:
        """The next token of each choice from rows [R, V]; None where the quick way knows or pays nothing, ASK where
        some are before `min_tokens` and some after."""
        early = len(choices[0].output) < self._params.min_tokens
        if any((len(choice.output) < self._params.min_tokens) != early for choice in choices):
            return ASK
        chooser = self._chooser(early)
        more = len(rows) if choices[0].output else 0  # first tokens do not count: short answers never wait
        if chooser is None or rows.dtype != np.float32 or not quick.pays(more, rows.shape[1]):
            return None
        tallies = []
        for choice in choices:
            if choice.tally is None or choice.tally.program is not chooser.program:
                choice.tally = Tally(chooser.program, choice.prompt)
            choice.tally.follow(choice.output)
            tallies.append(choice.tally)
        return Question(chooser, rows, us, tallies)

    def _chooser(self, early: bool) -> Chooser | None:
        if early not in self._choosers:
            made = self._program(self._samplings[early]) if self._possible else None
            self._choosers[early] = None if made is None else Chooser(made)
        return self._choosers[early]

    def _program(self, sampling: SamplingParams) -> quick.Program | None:
        ranked = 0 if self._params.ranked else -1
        return program(sampling, self._semantics, ranked if self._params.logprobs is None else self._params.logprobs)


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What is known of the next tokens of a request's choices before their rows are looked at."""

    us: NDArray[np.float64]
    """[R]"""
    question: Question | Literal["ask"] | None
    """None: the definition decides each."""


def answers(questions: Sequence[Question | None]) -> list[list[Chosen | None] | None]:
    """An answer for each question, None for none. Neighbours that ask the same of rows that lie one behind the other
    are answered in one go, which threads share."""
    found: list[list[Chosen | None] | None] = []
    begin = 0
    for end in (*(n + 1 for n, pair in enumerate(pairwise(questions)) if not _same(*pair)), len(questions)):
        group = [question for question in questions[begin:end] if question is not None]
        joined = _joined(group) if len(group) > 1 else None
        if joined is None:
            found += [None if question is None else question.answer() for question in questions[begin:end]]
        else:
            left = joined.answer()
            for question in group:
                found.append(left[: len(question.rows)])
                del left[: len(question.rows)]
        begin = end
    return found


def _same(one: Question | None, other: Question | None) -> bool:
    return one is not None and other is not None and one.chooser.program.key == other.chooser.program.key


def _joined(group: Sequence[Question]) -> Question | None:
    """All of them as one; None where their rows lie apart."""
    rows = together([question.rows[n : n + 1] for question in group for n in range(len(question.rows))])
    if rows is None:
        return None
    us = np.concatenate([question.us for question in group])
    return Question(group[0].chooser, rows, us, [tally for question in group for tally in question.tallies])
