"""The quick way to the next token of a row: one kernel where the steps allow it, the definition where it does not.

Tokens, logprobs and ranks are those of `pipeline`: what the kernel cannot be sure of it leaves to the caller. It knows
nothing of models or texts.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refsample.sampling.context import Context, effective_temperature
from refsample.sampling.logprobs import TokenLogprobs
from refsample.sampling.params import SamplingParams
from refsample.sampling.standard import top_k_places
from refsample.sampling.steps import plan
from refsample.spec.types import Scope, Semantics
from refsample_kernels import choose as kernels
from refsample_kernels import program as codes
from refsample_kernels.choose_deep import choose_deep
from refsample_kernels.inverse import DEEPER, UNDECIDED
from refsample_kernels.jit import threads

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

LARGE = 8192
"""For vocabularies below this the kernel is never compiled, only used where it is: the definition costs little."""
PATIENCE = 32
"""So many rows of a process go by the definition before the kernel is compiled for them: short answers never wait."""
CODES = {
    "logit_bias": codes.BIAS, "repetition": codes.REPETITION, "frequency": codes.FREQUENCY,
    "presence": codes.PRESENCE, "greedy": codes.GREEDY, "temperature": codes.TEMPERATURE,
    "min_p": codes.MIN_P, "top_k": codes.TOP_K, "top_p": codes.TOP_P,
}  # fmt: skip
"""Steps that the kernel has, beside `mask` where it bans single ids."""


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """The acting steps as the kernel reads them."""

    context: Context
    """Parameters and semantics, without a history."""
    steps: Ids
    numbers: Floats
    rules: Ids
    least: int
    tops: int
    """Raw logprobs that are listed beside the token's; -1: none are wanted, nor the token's."""

    key: tuple[object, ...]
    """Programs with the same say the same of any row, but for what a history, a bias or a ban touches."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """One token."""

    token_id: int
    kept: int
    """How many tokens were left to draw from."""
    logprobs: TokenLogprobs | None
    raw: float | None
    """The token's raw logprob; None where none was wanted."""


def program(params: SamplingParams, semantics: Semantics, tops: int = -1) -> Program | None:
    """None where a step acts that the kernel does not have, or logprobs are wanted that it does not work out."""
    context = Context(params, semantics)
    steps = plan(context)
    acting = [step for step in steps if step.name != "mask"]
    kinds = [step.kind == "adjust" for step in steps]
    if params.allowed_token_ids is not None or any(step.name not in CODES for step in acting):
        return None
    if kinds != sorted(kinds, reverse=True):
        return None
    if tops > codes.MOST or (tops >= 0 and semantics.logprob_stage not in ("raw", "raw_grammar")):
        return None
    numbers, rules = np.zeros(10), np.zeros(10, dtype=np.int64)
    given = {
        codes.REPETITION: params.repetition_penalty, codes.FREQUENCY: params.frequency_penalty,
        codes.PRESENCE: params.presence_penalty, codes.TEMPERATURE: effective_temperature(params, semantics),
        codes.MIN_P: params.min_p, codes.TOP_K: top_k_places(context), codes.TOP_P: params.top_p,
        codes.LOG_MIN_P: math.log(params.min_p) if params.min_p else 0.0,
    }  # fmt: skip
    numbers[list(given)] = list(given.values())
    rules[codes.FREQUENCY] = codes.RELATIVE * (semantics.frequency_form == "relative")
    rules[codes.GREEDY] = codes.TIES * (semantics.greedy_ties == "all")
    rules[codes.MIN_P] = codes.PROBABILITY * (semantics.min_p_form == "probability")
    rules[codes.TOP_K] = codes.TIES * (semantics.top_k_ties == "keep_all")
    rules[codes.TOP_P] = (
        codes.TIES * (semantics.top_p_ties != "low_id")
        + codes.GT * (semantics.top_p_rule == "gt")
        + codes.JOINT * (semantics.top_p_base == "joint")
    )
    numbered = np.array([CODES[step.name] for step in acting], dtype=np.int64)
    least = semantics.min_tokens_to_keep
    key = (numbered.tobytes(), numbers.tobytes(), rules.tobytes(), least, tops, semantics)
    return Program(context, numbered, numbers, rules, least, tops, key)


class Tally:
    """How often each id occurred that a penalty, a bias or a ban may touch; it follows one text in the making."""

    __slots__ = ("_additive", "_followed", "_places", "_repetition", "_tracks", "bias", "counts", "names", "program",
                 "repeats", "size")  # fmt: skip

    def __init__(self, program: Program, prompt: Sequence[int]) -> None:
        params, rules = program.context.params, program.context.semantics
        self.program = program
        self._places: dict[int, int] = {}
        self._followed = 0
        self.size = 0
        """How many of the places below are in use."""
        self.names, self.bias = np.zeros(64, dtype=np.int64), np.zeros(64)
        self.repeats, self.counts = np.zeros(64, dtype=np.int64), np.zeros(64, dtype=np.int64)
        for token_id, value in params.logit_bias.items():
            place = self._place(token_id)  # before the array is looked up: it may grow
            self.bias[place] = min(max(value, -rules.bias_clamp), rules.bias_clamp)
        for token_id in params.banned_token_ids:
            place = self._place(token_id)
            self.bias[place] = -np.inf
        steps = set(program.steps.tolist())
        self._tracks = bool(steps & {codes.REPETITION, codes.FREQUENCY, codes.PRESENCE})
        self._repetition = _Window(rules.repetition_scope, rules.penalty_window)
        self._additive = _Window(rules.additive_scope, rules.penalty_window)
        if self._tracks:
            for token_id in prompt:
                self._count(token_id, True)

    def follow(self, output: Sequence[int]) -> None:
        """Take up what is new in the answer."""
        if self._tracks:
            for token_id in output[self._followed :]:
                self._count(token_id, False)
            self._followed = len(output)

    def _count(self, token_id: int, of_prompt: bool) -> None:
        for window, counts in ((self._repetition, "repeats"), (self._additive, "counts")):
            if of_prompt and window.scope == "output":
                continue
            place = self._place(token_id)
            getattr(self, counts)[place] += 1
            gone = window.push(token_id)
            if gone is not None:
                getattr(self, counts)[self._places[gone]] -= 1

    def _place(self, token_id: int) -> int:
        place = self._places.setdefault(token_id, self.size)
        if place == self.size:
            if place == self.names.size:
                for name in ("names", "bias", "repeats", "counts"):
                    old = getattr(self, name)
                    setattr(self, name, np.concatenate((old, np.zeros_like(old))))
            self.names[place] = token_id
            self.size += 1
        return place


class _Window:
    """The last tokens of a scope that has an end."""

    __slots__ = ("_held", "scope")

    def __init__(self, scope: Scope, length: int) -> None:
        self.scope = scope
        self._held: deque[int] | None = deque(maxlen=length) if scope == "window" and length else None

    def push(self, token_id: int) -> int | None:
        """Take up an id; returns the one that drops out."""
        if self._held is None:
            return None
        gone = self._held[0] if len(self._held) == self._held.maxlen else None
        self._held.append(token_id)
        return gone


def together(rows: Sequence[NDArray[np.floating]]) -> NDArray[np.float32] | None:
    """[R, V] of R arrays [1, V] that lie one behind the other in memory, without a copy; None where they do not."""
    head = rows[0]
    base = head.base
    if head.dtype != np.float32 or head.ndim != 2 or not isinstance(base, np.ndarray) or base.dtype != head.dtype:
        return None
    if not base.flags.c_contiguous or base.size % head.shape[1]:
        return None
    step, start = head.nbytes, head.ctypes.data
    for place, row in enumerate(rows):
        if row.base is not base or row.shape != (1, head.shape[1]) or row.ctypes.data != start + place * step:
            return None
    first = (start - base.ctypes.data) // step
    found: NDArray[np.float32] = base.reshape(-1, head.shape[1])[first : first + len(rows)]
    return found


_left: int | None = None  # rows until the kernel is compiled; None: nobody has looked whether it is already


def pays(rows: int, size: int) -> bool:
    """Whether so many more rows [size] are worth the quick way: the kernel is compiled, or many have come before."""
    global _left
    if _left is None:
        _left = 0 if kernels.choose.ready() and choose_deep.ready() else PATIENCE
    if _left > 0 and size >= LARGE:
        _left -= rows
    return _left <= 0


class Chooser:
    """Room for rows of one program; for one thread of Python at a time."""

    __slots__ = ("_found", "_held", "_ids", "_keys", "_known", "_starts", "_values", "_work", "program")

    def __init__(self, program: Program) -> None:
        self.program = program
        self._starts = np.zeros(2, dtype=np.int64)
        self._known = (0, 0, 0)
        """For how many rows of which length, and for how many names, there is room."""

    def choose(self, rows: NDArray[np.float32], us: Floats, tallies: Sequence[Tally]) -> list[Chosen | None]:
        """A token for each of rows [R, V] with us [R]; None where the definition has to decide.

        Raises nothing: a row that holds NaN or +inf is None too.
        """
        program = self.program
        if len(tallies) == 1:
            one = tallies[0]
            names, bias, repeats, counts = one.names, one.bias, one.repeats, one.counts
            most, starts = one.size, self._starts
            starts[1] = most
        else:
            sizes = [tally.size for tally in tallies]
            most, starts = max(sizes), np.cumsum([0, *sizes])
            names, bias, repeats, counts = (
                np.concatenate([getattr(tally, name)[: tally.size] for tally in tallies])
                for name in ("names", "bias", "repeats", "counts")
            )
        count, size = rows.shape
        if self._known[0] < count or self._known[1] != size or self._known[2] < most:
            self._make_room(count, size, most)
        kernels.choose(
            rows, us, starts, names, bias, repeats, counts, program.steps, program.numbers, program.rules,
            program.least, program.tops, self._work, self._keys, self._held, self._found, self._ids, self._values,
        )  # fmt: skip
        tokens = self._found[:count, kernels.TOKEN].tolist()
        if DEEPER in tokens:
            deeper = np.array([r for r, token in enumerate(tokens) if token == DEEPER])
            choose_deep(
                rows, deeper, us, starts, names, bias, repeats, counts, program.steps, program.numbers, program.rules,
                program.least, self._work, self._keys, self._held, self._found,
            )  # fmt: skip
        return [self._chosen(r, row) for r, row in enumerate(rows)]

    def _make_room(self, count: int, size: int, extras: int) -> None:
        tops, extras = max(self.program.tops, 0), 2 * extras + 64
        sides = min(count, threads())
        work, keys, held = kernels.room(size, extras, tops)
        self._work, self._keys = np.zeros((sides, work), dtype=np.float32), np.zeros((sides, keys))
        self._held = np.zeros((sides, held), dtype=np.int64)
        self._found, self._ids = np.zeros((count, 5), dtype=np.int64), np.zeros((count, tops + 1), dtype=np.int64)
        self._values = np.zeros((count, tops + 3))
        self._known = count, size, extras

    def _chosen(self, r: int, row: NDArray[np.float32]) -> Chosen | None:
        token_id, kept, above, equal, listed = self._found[r].tolist()
        tops = self.program.tops
        if token_id == UNDECIDED:
            return None
        if tops < 0:
            return Chosen(token_id, kept, None, None)
        rules, values, n = self.program.context.semantics, self._values[r].tolist(), min(listed, tops)
        if listed <= tops:
            if listed < row.size:
                return None  # the list goes on with tokens at -inf
        elif tops and rules.top_logprobs_rule == "ties_expanded" and values[tops] == values[tops - 1]:
            return None
        top, log_total = values[-2], math.log(values[-1])  # as `row_log_softmax` has it
        own = float(row[token_id]) - top - log_total
        best = tuple(zip(self._ids[r, :n].tolist(), [v - top - log_total for v in values[:n]], strict=True))
        if rules.top_logprobs_rule == "sampled_first_cut_n_plus_1":
            best = ((token_id, own), *(pair for pair in best if pair[0] != token_id))
        rank = above + (equal if rules.rank_rule == "ge" else 1)
        return Chosen(token_id, kept, TokenLogprobs(token_id, own, rank, best), own)
