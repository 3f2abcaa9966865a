"""Constrained output: exact masks against plain definitions, and valid JSON from pure noise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsample.errors import ParameterError
from refsample.generation.constrain import Constraint, Grammar, GrammarKind, State, compile_grammar
from refsample.sampling.params import SamplingParams
from refsample.sampling.pipeline import decide, draw
from refsample.sampling.semantics import resolve
from refsample.text.tokenizer import Tokenizer, load_tokenizer
from tests.generation import languages
from tests.text.vocabularies import Facts, byte_level, sentencepiece_style

pytest.importorskip("llguidance")

ROOT = Path(__file__).parents[2]
SCHEMAS = sorted((ROOT / "tests/data/schemas").glob("*.json"))
DRAFT = jsonschema.Draft202012Validator
MERGES = (("a", "b"), ("ab", "b"), ("a", "a"), ("Ã", "©"), ("Ã©", "a"), ("b", "Ã"), ('"', "a"), ('"', ":"))
"""é is the bytes C3 A9, written Ã© in the byte alphabet: whole, joined to its neighbours, and torn apart."""


@cache
def tiny() -> Tokenizer:
    return load_tokenizer(ROOT / "refsample/tiny", Facts(3072, (0,)))


@pytest.fixture(scope="module")
def bytes_and_more(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Marks, the 256 bytes, a few merges, two rows without a piece; two end ids."""
    folder = tmp_path_factory.mktemp("bytes")
    byte_level(folder, MERGES)
    return load_tokenizer(folder, Facts(3 + 256 + len(MERGES) + 2, (0, 2)))


def compiled(tokenizer: Tokenizer, kind: GrammarKind, source: object, field: str = "guided") -> Constraint:
    text = source if isinstance(source, str) else json.dumps(source)
    return compile_grammar(Grammar(kind, text, field), SimpleNamespace(tokenizer=tokenizer))  # type: ignore[arg-type]


def after(constraint: Constraint, text: bytes, tokenizer: Tokenizer) -> State:
    """The state after a text, byte by byte."""
    single = {tokenizer.token_bytes(i): i for i in range(tokenizer.rows) if len(tokenizer.token_bytes(i)) == 1}
    state = constraint.start()
    for byte in text:
        state.push(single[bytes([byte])])
    return state


def check_exact(state: State, left: languages.Language, tokenizer: Tokenizer) -> None:
    """The mask is what the language says about every single token; `left`: what may follow here."""
    mask = state.allowed()
    for token_id in range(tokenizer.rows):
        data = tokenizer.token_bytes(token_id)
        if token_id in tokenizer.eos_token_ids:
            expected = languages.has_empty(left)
        elif token_id in tokenizer.special_ids or not data:
            expected = False
        else:
            expected = languages.after(left, data) is not None
        assert mask[token_id] == expected, (token_id, data)
    nothing_else = all(languages.after(left, bytes([byte])) is None for byte in range(256))
    assert state.finished == (languages.has_empty(left) and nothing_else)


def walk(constraint: Constraint, language: languages.Language, tokenizer: Tokenizer, choices: Sequence[int]) -> None:
    """Tokens picked by number among those allowed, each mask compared with the language."""
    state, left = constraint.start(), language
    for number in choices:
        check_exact(state, left, tokenizer)
        ids = np.flatnonzero(state.allowed()).tolist()
        token_id = ids[number % len(ids)]
        state.push(token_id)
        if token_id in tokenizer.eos_token_ids:
            assert state.ended and state.finished and not state.allowed().any()
            return
        left = languages.after(left, tokenizer.token_bytes(token_id))
    check_exact(state, left, tokenizer)


letters = st.sampled_from(["a", "b", "é", "ab", "😀"])
patterns = st.recursive(
    letters.map(lambda text: (text, languages.literal(text.encode()))),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda two: (two[0][0] + two[1][0], languages.cat(two[0][1], two[1][1]))),
        st.tuples(inner, inner).map(lambda two: (f"({two[0][0]}|{two[1][0]})", languages.alt(two[0][1], two[1][1]))),
        inner.map(lambda one: (f"({one[0]})*", languages.star(one[1]))),
        inner.map(lambda one: (f"({one[0]})?", languages.alt(one[1], languages.NOTHING))),
        inner.map(lambda one: (f"({one[0]}){{2}}", languages.cat(one[1], one[1]))),
    ),
    max_leaves=6,
)
numbers = st.lists(st.integers(0, 300), min_size=1, max_size=6)


@settings(max_examples=60)
@given(pattern=patterns, choices=numbers)
def test_masks_of_expressions_are_exact(
    pattern: tuple[str, languages.Language], choices: list[int], bytes_and_more: Tokenizer
) -> None:
    source, language = pattern
    walk(compiled(bytes_and_more, "regex", source), language, bytes_and_more, choices)


@settings(max_examples=60)
@given(
    texts=st.lists(st.text(st.sampled_from('ab"\\\né\0€'), max_size=4), min_size=1, max_size=5).filter(any),
    choices=numbers,
)
def test_masks_of_choices_are_exact(texts: list[str], choices: list[int], bytes_and_more: Tokenizer) -> None:
    """Choices that are the start of others, quotes, newlines, zeros, characters of several bytes."""
    language: languages.Language = None
    for text in texts:
        language = languages.alt(language, languages.literal(text.encode()))
    walk(compiled(bytes_and_more, "choice", texts), language, bytes_and_more, choices)


def test_masks_of_pieces_in_sentencepiece_style(tmp_path: Path) -> None:
    """`▁` is a space, byte pieces are bytes; rows of the same bytes are allowed alike."""
    sentencepiece_style(tmp_path)
    tokenizer = load_tokenizer(tmp_path, Facts(280))
    texts = ["the cat", "the cats", " thé"]
    language = languages.alt(languages.literal(b"the cat"), languages.literal(b"the cats"))
    language = languages.alt(language, languages.literal(" thé".encode()))
    walk(compiled(tokenizer, "choice", texts), language, tokenizer, [1, 3, 0, 2, 1])


@given(choices=st.lists(st.integers(0, 3000), min_size=1, max_size=12), place=st.integers(0, 11))
def test_a_fork_goes_its_own_way(choices: list[int], place: int) -> None:
    """A fork does what the original would have done, and neither sees the other's tokens."""
    constraint = compiled(tiny(), "json_schema", SCHEMAS[0].read_text(encoding="utf-8"))
    state, twin, other = constraint.start(), constraint.start(), constraint.start()
    for step, number in enumerate(choices):
        if step == place:
            twin, other = state.fork(), state.fork()
            other.push(int(np.flatnonzero(other.allowed())[-1]))
        ids = np.flatnonzero(state.allowed())
        token_id = int(ids[number % ids.size])
        for each in (state, twin):
            each.push(token_id)
        np.testing.assert_array_equal(state.allowed(), twin.allowed())
        assert (state.finished, state.ended) == (twin.finished, twin.ended)


def test_what_is_not_allowed_is_refused_and_changes_nothing(bytes_and_more: Tokenizer) -> None:
    state = after(compiled(bytes_and_more, "choice", ["ab", "abc"]), b"a", bytes_and_more)
    before = state.allowed()
    for token_id in (3 + ord("a"), 0, 1, -1, bytes_and_more.rows, bytes_and_more.rows - 1):
        with pytest.raises(ParameterError, match=r"token_id=.*not allowed here by the grammar \(rule of guided\)"):
            state.push(token_id)
    state.push(3 + ord("b"))
    assert before[3 + ord("b")] and not before[0] and not before.flags.writeable
    assert state.allowed()[[0, 2]].all(), "every end id, where the text may end"
    state.push(2)
    with pytest.raises(ParameterError, match="token_id=0: not allowed here"):
        state.push(0)


def test_a_model_without_end_ids(tmp_path: Path) -> None:
    """Nothing can say the end: a finished text has an empty mask."""
    byte_level(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path, Facts(259, ()))
    assert tokenizer.eos_token_ids == ()
    state = after(compiled(tokenizer, "choice", ["a", "ab"]), b"a", tokenizer)
    assert not state.finished and np.flatnonzero(state.allowed()).tolist() == [3 + ord("b")]
    state.push(3 + ord("b"))
    assert state.finished and not state.allowed().any()


def test_json_is_compact() -> None:
    """One space may follow a comma or a colon; no other whitespace, and no text after the end."""
    schema = {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "integer"}}}
    constraint = compiled(tiny(), "json_schema", schema)
    for text in ('{"a":[1,2],"b":[]}', '{"a": [1, 2], "b": []}'):
        assert after(constraint, text.encode(), tiny()).finished
    for text in (" {", "{ ", "{\n", '{"a" ', '{"a":  ', '{"a":[1 ', '{"a":[ ', '{"a":[]}\n'):
        with pytest.raises(ParameterError, match="not allowed here"):
            after(constraint, text.encode(), tiny())


def test_any_object() -> None:
    constraint = compiled(tiny(), "json_object", "")
    assert after(constraint, b'{"x":{"y":[null,-1.5e3,"\\n"]},"x":true}', tiny()).finished
    with pytest.raises(ParameterError, match="not allowed here"):
        after(constraint, b"[", tiny())


def test_compiled_once(bytes_and_more: Tokenizer) -> None:
    first = compiled(bytes_and_more, "regex", "a+b")
    assert compiled(bytes_and_more, "regex", "a+b") is first
    assert compiled(tiny(), "regex", "a+b") is not first


def noise(constraint: Constraint, tokenizer: Tokenizer, seed: int, limit: int) -> tuple[str, bool]:
    """Text from logits that are pure noise, and whether it was cut at `limit` tokens."""
    random, state, out = np.random.default_rng(seed), constraint.start(), list[int]()
    params, rules = SamplingParams(), resolve("vllm")
    while not state.finished:
        if len(out) == limit:
            return tokenizer.decode(out), True
        law = decide(random.standard_normal(tokenizer.rows), params, (), out, rules, state.allowed())
        token_id = draw(law.probs, random.random())
        state.push(token_id)
        out.append(token_id)
    return tokenizer.decode(out, skip_special=True), False


def check_noise(tokenizer: Tokenizer, seeds: int, limit: int) -> dict[str, int]:
    """How many texts of each schema were cut; every other one is valid."""
    cut: dict[str, int] = {}
    for path in SCHEMAS:
        schema: Any = json.loads(path.read_text(encoding="utf-8"))
        validator = DRAFT(schema, format_checker=DRAFT.FORMAT_CHECKER)  # date, uuid, ipv4, ipv6, email are checked
        constraint = compiled(tokenizer, "json_schema", schema)
        cut[path.stem] = 0
        for seed in range(seeds):
            text, short = noise(constraint, tokenizer, seed, limit)
            cut[path.stem] += short
            if not short:
                problems = [error.message for error in validator.iter_errors(json.loads(text))]
                assert problems == [], (path.stem, seed, text)
    return cut


@pytest.mark.slow
def test_noise_becomes_valid_json() -> None:
    """1,000 texts under 25 schemas as they occur: all valid but those that 512 tokens cut, which are 10 % at most."""
    assert len(SCHEMAS) == 25
    cut = check_noise(tiny(), 40, 512)
    assert sum(cut.values()) <= 100, cut
    assert all(count < 40 for count in cut.values()), cut


@pytest.mark.slow
def test_noise_of_bytes_becomes_valid_json(bytes_and_more: Tokenizer) -> None:
    """The same from single bytes, half characters and all; four times the tokens for the same text."""
    cut = check_noise(bytes_and_more, 6, 2048)
    assert sum(cut.values()) <= 15, cut
