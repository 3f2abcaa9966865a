"""Output held to a form: which tokens may come next. It knows vocabularies and grammars, no logits and no provider.

llguidance follows the text byte by byte, so a token that holds half a character is allowed exactly where those bytes
are. The mask is exact: a token is in it if and only if the text with it is still the start of one that fits (no token
is forced because it would be the usual one there). Where the text may end, every end id of the model is in it.

The grammar goes before `min_tokens` and `ignore_eos`: a text that is finished ends, since nothing could follow it.
A text that `max_tokens` cut is unfinished and may be invalid; its finish_reason is "length".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from refsample.errors import MissingExtraError, ParameterError
from refsample.generation import grammars

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

    from refsample.generation.model import Model
    from refsample.text.tokenizer import Tokenizer

GrammarKind = Literal["json_schema", "json_object", "regex", "choice", "grammar", "tools"]
GRAMMAR_KINDS: tuple[GrammarKind, ...] = get_args(GrammarKind)

MARK = b"\xff"
"""llguidance's sign that the bytes which follow are the name of a mark and no text."""
DEAD_END = "this grammar has no way on from here"
END = MARK + b"<end of text>"


@dataclass(frozen=True, slots=True)
class Grammar:
    """The form that a request asks for, not yet compiled. Raises ParameterError for a kind that is none."""

    kind: GrammarKind
    source: str
    """JSON text (json_schema; choice: a list of strings), a regular expression, or a grammar; json_object: unused."""
    field: str
    """The request field that asked; errors name it."""

    def __post_init__(self) -> None:
        if self.kind not in GRAMMAR_KINDS:
            raise ParameterError("kind", self.kind, f"must be one of {', '.join(GRAMMAR_KINDS)}")
        if not isinstance(self.source, str):
            raise ParameterError(self.field, self.source, "must be text")


@dataclass(frozen=True, slots=True, eq=False)
class Constraint:
    """A compiled grammar for one vocabulary; safe to share between threads."""

    grammar: Grammar
    _tokenizer: Tokenizer
    _matcher: LLMatcher
    """At the start of the text; only ever copied."""

    def start(self) -> State:
        """The state before the first token."""
        return State(self.grammar, self._tokenizer, self._matcher.deep_copy())


class State:
    """How far one text has come. For one thread at a time."""

    __slots__ = ("_grammar", "_mask", "_matcher", "_tokenizer", "ended")

    def __init__(self, grammar: Grammar, tokenizer: Tokenizer, matcher: LLMatcher) -> None:
        self._grammar = grammar
        self._tokenizer = tokenizer
        self._matcher = matcher
        self._mask: NDArray[np.bool_] | None = None
        self.ended = False
        """True once an end id came: no token may follow."""

    def allowed(self) -> NDArray[np.bool_]:
        """[V] True for tokens that may come next; read-only, and of this state also after later pushes.

        Raises ParameterError where the grammar has no way on (a recursion that cannot end) or exceeds its limits.
        """
        if self._mask is None:
            self._mask = self._compute()
        return self._mask

    @property
    def finished(self) -> bool:
        """True where nothing but the end may follow."""
        if self.ended:
            return True
        if not self._matcher.is_accepting():
            return False
        end_ids = self._tokenizer.eos_token_ids
        return int(np.count_nonzero(self.allowed())) == len(end_ids)

    def push(self, token_id: int) -> None:
        """Take the next token. Raises ParameterError, and stays as it was, for one that `allowed` does not hold."""
        if not (0 <= token_id < self._tokenizer.rows and self.allowed()[token_id]):
            raise ParameterError("token_id", token_id, "not allowed here by the grammar", self._grammar.field)
        if token_id in self._tokenizer.eos_token_ids:
            self.ended = True
            self._mask = _frozen(np.zeros(self._tokenizer.rows, dtype=np.bool_))
            return
        if not self._matcher.consume_token(token_id):
            self._fail()
        self._mask = None

    def fork(self) -> State:
        """The same state, to go its own way."""
        other = State(self._grammar, self._tokenizer, self._matcher.deep_copy())
        other._mask, other.ended = self._mask, self.ended
        return other

    def _compute(self) -> NDArray[np.bool_]:
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)  # [(V + 1) / 8]
        if self._matcher.is_error():
            self._fail()
        # A matcher that has no way on offers its end all the same.
        rows, end_ids = self._tokenizer.rows, list(self._tokenizer.eos_token_ids)
        mask = np.unpackbits(bits, count=rows, bitorder="little").view(np.bool_)  # [V]
        may_end = self._matcher.is_accepting()
        mask[end_ids] = may_end
        if not may_end and not mask.any():
            raise ParameterError(self._grammar.field, ..., DEAD_END, "llguidance")
        return _frozen(mask)

    def _fail(self) -> None:
        said = self._matcher.get_error().partition("\n")[0]
        rule = DEAD_END if said.startswith("NoExtension") else f"this grammar cannot be followed: {said}"
        raise ParameterError(self._grammar.field, ..., rule, "llguidance")


def compile_grammar(grammar: Grammar, model: Model) -> Constraint:
    """The grammar over a model's vocabulary; the last few are kept.

    Raises ParameterError, naming the request field, for a source that is malformed, that holds what is not supported
    or that no text satisfies, and MissingExtraError where llguidance is not installed.
    """
    return _compiled(grammar, model.tokenizer)


def check_schema(source: str, field: str) -> None:
    """Whether a schema, as JSON text, can be kept: for one that is a part of a grammar, whose errors would not say so.

    Raises ParameterError, naming the field, and MissingExtraError where llguidance is not installed.
    """
    try:
        from llguidance import LLMatcher
    except ImportError:
        raise MissingExtraError("guided", "llguidance") from None
    lark = LLMatcher.grammar_from_lark(grammars.written("json_schema", source, field))
    if said := LLMatcher.validate_grammar(lark, None):
        raise ParameterError(field, ..., grammars.explained("json_schema", source, said), "llguidance")


@lru_cache(maxsize=64)
def _compiled(grammar: Grammar, tokenizer: Tokenizer) -> Constraint:
    vocabulary = _vocabulary(tokenizer)
    source = grammars.written(grammar.kind, grammar.source, grammar.field)
    matcher = _matcher(vocabulary, source)
    if matcher.is_error():
        said = grammars.explained(grammar.kind, grammar.source, matcher.get_error())
        raise ParameterError(grammar.field, ..., said, "llguidance")
    constraint = Constraint(grammar, tokenizer, matcher)
    start = constraint.start()
    try:
        start.allowed()
    except ParameterError as error:
        if error.rule != DEAD_END:
            raise
        raise ParameterError(grammar.field, ..., "no text satisfies it", "llguidance") from error
    if start.finished:
        raise ParameterError(grammar.field, ..., "only the empty text satisfies it", "llguidance")
    return constraint


def _matcher(vocabulary: LLTokenizer, source: str) -> LLMatcher:
    from llguidance import LLMatcher, LLParserLimits

    # Its own are 2000 and 50000: an object of 600 optional fields would fail at its first token. A schema is as long as
    # MAX_CHARACTERS lets it be, so these are never reached by one: the longest takes 0.2 s a token on a slow machine.
    limits = LLParserLimits(max_items_in_row=100_000, step_max_items=1_000_000)
    return LLMatcher(vocabulary, LLMatcher.grammar_from_lark(source), log_level=0, limits=limits)


@lru_cache(maxsize=8)
def _vocabulary(tokenizer: Tokenizer) -> LLTokenizer:
    """llguidance's view of a vocabulary, with one end id of its own behind the last row: ours are several, or none."""
    try:
        from llguidance import LLTokenizer, TokenizerWrapper
    except ImportError:
        raise MissingExtraError("guided", "llguidance") from None
    return LLTokenizer(TokenizerWrapper(_Pieces(tokenizer)), n_vocab=tokenizer.rows + 1, eos_token=tokenizer.rows)


class _Pieces:
    """What llguidance asks of a tokenizer. It need not encode: no grammar here forces tokens."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.eos_token_id = tokenizer.rows
        marks = tokenizer.special_ids
        pieces = ((i in marks, tokenizer.token_bytes(i)) for i in range(tokenizer.rows))
        self.tokens = [MARK + data if mark else data for mark, data in pieces] + [END]
        self.special_token_ids = [*sorted(marks), tokenizer.rows]

    def __call__(self, text: bytes) -> list[int]:
        raise NotImplementedError  # nothing encodes: see the class


def _frozen(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    mask.flags.writeable = False
    return mask
