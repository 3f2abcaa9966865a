"""Do the penalties act, and as they should? Greedy text under a strong penalty against the reference's own.

Draws of one token tell nothing of penalties on the output, for there is none yet. Along a greedy text they do: the
reference looks for a prompt where the penalised text parts from the plain one and no decision on the way is close, so
that honest kernel noise cannot turn it. What an endpoint then says is the one text, the other, or neither.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample.conformance.act import Act, Seen, refusal
from refsample.conformance.contract import first
from refsample.conformance.oracle import Oracle
from refsample.conformance.page import Kind, Page
from refsample.conformance.probes import Prompts
from refsample.conformance.session import Session
from refsample.sampling.params import SamplingParams

STRONG = {"presence_penalty": 2.0, "frequency_penalty": 2.0, "repetition_penalty": 1.8}
FAULT = {
    "presence_penalty": "penalties_ignored",
    "frequency_penalty": "penalties_ignored",
    "repetition_penalty": "repetition_penalty_ignored",
}
LENGTH = 32
LEAD = 4.0
"""Times the noise of honest kernels by which every greedy decision on the way has to lead: each is turned with a chance
of 0.0023 (`flip_probability`), and more than one prompt has to say the same."""
FORKS, AGREED = 3, 2
"""Prompts that are asked, and those that have to agree before an endpoint is called wrong."""
THINGS = (
    "animals", "colours", "fruits", "birds", "names", "numbers", "cities", "trees", "flowers", "tools", "vegetables",
    "friends", "days", "words", "countries", "rivers",
)  # fmt: skip
FORMS: Mapping[Kind, tuple[str, ...]] = {
    "chat": ("List five {}.", "Write a list of {}.", "Name ten {}.", "Tell me some {}, one a line."),
    "completions": ("A list of {}:\n-", "Here are ten {}:\n1.", "The {} are:", "My {}, one a line:\n"),
}
"""Lists repeat themselves, which is what penalties are about."""


@dataclass(frozen=True, slots=True)
class _Fork:
    """A prompt where the penalty shows: both texts to where they part, and the penalised one as far as it is sure."""

    prompt: str
    plain: str
    bent: str
    sure: str

    def vote(self, text: str) -> str:
        """Which of the two texts an answer is: bent, plain or neither."""
        said = text.strip()
        return "bent" if said.startswith(self.sure) else "plain" if said.startswith(self.plain) else "neither"


def penalty_acts(oracle: Oracle | None) -> tuple[Act, ...]:
    """One act for each penalty; without a reference nobody knows what the text should be."""
    return tuple(_act(name, oracle) for name in STRONG)


def _act(name: str, oracle: Oracle | None) -> Act:
    def see(session: Session, page: Page) -> Seen:
        if oracle is None:
            return "unknown", "no reference whose text could be compared"
        return _see(session, page, oracle, name)

    return Act(name, see, fault=FAULT[name])


def _see(session: Session, page: Page, oracle: Oracle, name: str) -> Seen:
    """The votes of a few prompts. Neither text counts only where the plain one is the reference's."""
    kind, value = page.kind, page.near(name, STRONG[name])
    votes, said, fields = Counter[str](), "", session.greedy(kind, LENGTH)
    for fork in islice(_forks(session, oracle, kind, {name: value}), FORKS):
        exchange, answer = session.ask(kind, fork.prompt, **{**fields, name: value})
        choice = first(answer)
        if choice is None:
            return refusal(exchange)
        vote = fork.vote(choice.text)
        if vote == "neither":
            plain = first(session.ask(kind, fork.prompt, **fields)[1])
            vote = vote if plain is not None and fork.vote(plain.text) == "plain" else "another model's"
        votes[vote] += 1
        said = f"{value} after {fork.prompt!r} gave {choice.text[:40]!r}, the reference {fork.sure[:40]!r}"
    del votes["another model's"]
    if not votes:
        return "unknown", said or f"no greedy text of the reference shows {name} {value}"
    (vote, count), total = votes.most_common(1)[0], votes.total()
    if vote == "bent" and 2 * count > total:
        return "honoured", said
    if total < AGREED or 2 * count <= total:
        return "unknown", f"{said}; {total} prompts agree on nothing"
    return ("dropped" if vote == "plain" else "different"), said


def _forks(session: Session, oracle: Oracle, kind: Kind, penalty: Mapping[str, Any]) -> Iterator[_Fork]:
    """Prompts that show a penalty, in an order of the run's own."""
    prompts = Prompts(oracle, kind, session.seed, "penalties")
    texts = [form.format(thing) for form in FORMS[kind] for thing in THINGS]
    random.Random(f"refsample penalties {session.seed}").shuffle(texts)
    for text in texts:
        fork = _fork(oracle, text, prompts.ids(text), penalty)
        if fork is not None:
            yield fork


def _fork(oracle: Oracle, prompt: str, ids: tuple[int, ...], penalty: Mapping[str, Any]) -> _Fork | None:
    """The prompt, if the penalty turns its greedy text where both texts are sure."""
    plain, *rows = oracle.greedy(ids, LENGTH)
    parted = _parting(oracle, ids, plain, rows[0], penalty)
    if parted is None or _sure(oracle, ids, plain[: parted + 1], rows, {}) <= parted:
        return None
    bent = oracle.path(ids, LENGTH, penalty)
    sure = _sure(oracle, ids, bent, oracle.both_logits(ids, bent), penalty)
    if sure <= parted:
        return None
    shown = [oracle.model.tokenizer.decode(path, skip_special=True).strip() for path in (
        plain[: parted + 1], bent[: parted + 1], bent[:sure])]  # fmt: skip
    told = "\ufffd" not in "".join(shown) and not shown[0].startswith(shown[1]) and not shown[1].startswith(shown[0])
    return _Fork(prompt, *shown) if told else None


def _parting(
    oracle: Oracle, ids: tuple[int, ...], plain: Sequence[int], rows: NDArray[np.float32], penalty: Mapping[str, Any]
) -> int | None:
    """Where the penalty takes the greedy text off the plain one: up to there both see the same logits."""
    params = SamplingParams(temperature=0.0, **penalty)
    for t, token_id in enumerate(plain):
        if oracle.distribution(rows[t], params, oracle.honest, ids, plain[:t]).probs[token_id] == 0.0:
            return t
    return None


def _sure(
    oracle: Oracle, ids: tuple[int, ...], path: Sequence[int], both: Sequence[NDArray[np.float32]],
    penalty: Mapping[str, Any],
) -> int:  # fmt: skip
    """How many tokens of a greedy path were taken with such a lead, the logits being those after the penalty.

    `both`: logits [T, V] along it, of the reference and of its twin.
    """
    rows, twin = both
    params = SamplingParams(temperature=1.0, **penalty)
    for t in range(len(path)):
        best = np.sort(oracle.distribution(rows[t], params, oracle.honest, ids, path[:t]).probs)[-2:]
        if best[0] > 0 and np.log(best[1] / best[0]) < LEAD * oracle.noise(rows[t], twin[t]):
            return t
    return len(path)
