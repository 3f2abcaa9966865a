"""What a grammar's source may say: refusals with field, place and reason; Lark and GBNF; dates; recursion."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from refsample.errors import MissingExtraError, ParameterError
from refsample.generation import constrain
from refsample.generation.constrain import Grammar, GrammarKind, State, compile_grammar
from refsample.generation.schema import read_schema
from refsample.text.tokenizer import Tokenizer, load_tokenizer
from tests.text.vocabularies import Facts, byte_level

pytest.importorskip("llguidance")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("bytes")
    byte_level(folder)
    return load_tokenizer(folder, Facts(259))


def start(tokenizer: Tokenizer, kind: GrammarKind, source: Any, field: str = "guided") -> State:
    text = source if isinstance(source, str) else json.dumps(source)
    return compile_grammar(Grammar(kind, text, field), SimpleNamespace(tokenizer=tokenizer)).start()  # type: ignore[arg-type]


def whole(tokenizer: Tokenizer, kind: GrammarKind, source: Any, text: str) -> bool:
    """Whether a text is one that the grammar describes."""
    state = start(tokenizer, kind, source)
    for byte in text.encode():
        if not state.allowed()[3 + byte]:
            return False
        state.push(3 + byte)
    return bool(state.allowed()[0])


TEXT = {"type": "string"}
NEVER_ENDS = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
REFUSED: list[tuple[GrammarKind, Any, str]] = [
    ("json_schema", "{", "must be JSON: Expecting property name"),
    ("json_schema", "[1]", "must be a JSON object that holds a schema"),
    ("json_schema", '{"a":' * 101 + "1" + "}" * 101, "must not be nested deeper than 100 levels"),
    ("json_schema", "[" * 200_000, "must not be nested deeper than 100 levels"),
    ("json_schema", " " * 300_000, "must not be longer than 262144 characters; it has 300000"),
    ("json_schema", {"properties": {"a/b": {"items": {"uniqueItems": True}}}},
     "keyword uniqueItems at #/properties/a~1b/items/uniqueItems is not supported (rule of llguidance)"),
    ("json_schema", {"properties": {"not": TEXT}, "anyOf": [{}, {"not": TEXT}]},
     "keyword not at #/anyOf/1/not is not supported"),
    ("json_schema", {"$defs": {"x": {"type": "string", "format": "colour"}}, "$ref": "#/$defs/x"},
     "format colour at #/$defs/x/format is not supported"),
    ("json_schema", {"oneOf": [TEXT, {"type": "string", "maxLength": 3}]},
     "keyword oneOf (at #) is supported only where its branches evidently exclude each other"),
    ("json_schema", {"type": "object", "minProperties": 3, "required": ["a"]},
     "keyword minProperties at #/minProperties is not supported above 2 where keys are free"),
    ("json_schema", {"type": "integer", "minimum": 5, "maximum": 3}, "minimum (5) is greater than maximum (3)"),
    ("json_schema", {"type": "object", "properties": {"a": False}, "required": ["a"]}, "'a' is unsatisfiable"),
    ("json_schema", {"enum": []}, "Unsatisfiable schema: anyOf is empty"),
    ("json_schema", NEVER_ENDS, "no text satisfies it: it requires itself inside itself, without an end"),
    ("json_schema", NEVER_ENDS | {"type": ["object"]}, "no text satisfies it: it requires itself"),
    ("json_schema", {"type": "object", "required": ["a"], "additionalProperties": {"$ref": "#"}}, "no text"),
    ("json_schema", {"type": "object", "minProperties": 1, "additionalProperties": {"$ref": "#"}}, "no text"),
    ("json_schema", {"type": "object", "required": ["ab"], "patternProperties": {"^a": {"$ref": "#"}}}, "no text"),
    ("json_schema", {"$ref": "#x", "$defs": {"y": {"$anchor": "z"}}}, "Anchor 'x' does not exist"),
    ("json_schema", {"type": "integer", "multipleOf": 100000007},
     "keyword multipleOf at #/multipleOf is not supported: the least common multiple of all of them may be 100000"),
    ("json_schema", {"multipleOf": 99.7, "items": {"multipleOf": 0.0991}, "anyOf": [{"multipleOf": 9.83}]},
     "keyword multipleOf at #/anyOf/0/multipleOf is not supported"),
    ("json_schema", {"properties": {"a": {"const": {"b\0": 1}}}}, "const at #/properties/a/const holds '\\x00'"),
    ("json_schema", {"enum": ["a", ["\x7f"]]}, "keyword enum at #/enum holds '\\x7f': control characters"),
    ("json_schema", {"$ref": "#"}, "no text satisfies it"),
    ("json_schema", {"type": "array", "minItems": 1, "items": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}}, "no text"),
    ("json_schema", {"$ref": "#/nope"}, "Pointer '/nope' does not exist"),
    ("json_schema", {"$ref": "http://example.com/x"}, "Default retriever does not fetch resources"),
    ("json_schema", {"type": "string", "pattern": "(?=a)b"}, "look-around, including look-ahead"),
    ("json_schema", {"type": "strin"}, "Invalid type: strin"),
    ("json_schema", {"required": "a"}, "Expected array for 'required'"),
    ("json_schema", {"x-guidance": {"lenient": True}, "uniqueItems": True}, "keyword uniqueItems at #/uniqueItems"),
    ("regex", "", "must not be empty"),
    ("regex", "[", "not a regular expression that can be kept: unclosed character class"),
    ("regex", r"(a)\1", "backreferences are not supported"),
    ("regex", "a{3,2}", "invalid repetition count range"),
    ("regex", r"a[^\x00-\u{10ffff}]", "no text satisfies it"),
    ("regex", "()", "only the empty text satisfies it"),
    ("choice", "{}", "must be a list of strings, at least one"),
    ("choice", [], "must be a list of strings, at least one"),
    ("choice", ["a", 1], "must be a list of strings, at least one"),
    ("choice", [""], "only the empty text satisfies it"),
    ("choice", '["\\ud800"]', "without lone surrogates"),
    ("grammar", 'start: "a" foo', 'line 1: unknown name: "foo"'),
    ("grammar", 'start: "a"\nstart: "b"', 'line 2: duplicate rule: "start"'),
    ("grammar", 'start: a\na: a "x"', "no text satisfies it"),
    ("grammar", "start: " + "(" * 500 + '"a"' + ")" * 500, "too deeply nested"),
    ("grammar", "root ::= foo", "nor GBNF: Rule 'foo' not found"),
    ("grammar", "anything", "neither Lark (a rule `start:`) nor GBNF: Expected ::="),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "source", "words"), REFUSED)
def test_refusals(kind: GrammarKind, source: Any, words: str, tokenizer: Tokenizer) -> None:
    with pytest.raises(ParameterError) as caught:
        start(tokenizer, kind, source, "response_format")
    said = str(caught.value)
    assert words in said
    assert caught.value.parameter == "response_format" and "\n" not in said and "%llguidance" not in said


def test_wrong_kinds() -> None:
    with pytest.raises(ParameterError, match="kind='yaml': must be one of json_schema, "):
        Grammar("yaml", "a", "guided")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="guided_json=.*must be text"):
        Grammar("json_schema", {"type": "string"}, "guided_json")  # type: ignore[arg-type]


def test_long_chains_of_references_are_read() -> None:
    """In either order, ending or not; each link is looked at a few times, not once for every other."""
    for step in (1, -1):
        needs = [{"type": "array", "items": {"$ref": f"#/$defs/d{i + step}"}, "minItems": 1} for i in range(3000)]
        links = {f"d{i}": need for i, need in enumerate(needs)}
        first, last = ("d0", "d2999") if step == 1 else ("d2999", "d0")
        schema = {"$ref": f"#/$defs/{first}", "$defs": {**links, last: {"type": "null"}}}
        assert read_schema(json.dumps(schema), "guided_json") == schema
        schema["$defs"][last] = {"$ref": f"#/$defs/{first}"}
        with pytest.raises(ParameterError, match="no text satisfies it: it requires itself"):
            read_schema(json.dumps(schema), "guided_json")


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"$ref": "#/$defs/l", "$defs": {"l": {"anyOf": [{"type": "null"}, NEVER_ENDS | {"properties": {"a": {
            "$ref": "#/$defs/l"}}, "additionalProperties": False}]}}}, '{"a":{"a":null}}'),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "additionalProperties": False}, '{"a":{"a":{}}}'),
        ({"type": "array", "items": {"$ref": "#"}, "minItems": 0}, "[[],[[]]]"),
        ({"type": "object", "minProperties": 2, "properties": {"a": {}}, "required": ["a"]}, '{"a":1,"b":[2]}'),
        ({"type": "object", "properties": {"uniqueItems": {"type": "boolean"}}, "required": ["uniqueItems"]},
         '{"uniqueItems":true}'),
        ({"type": "integer", "title": "n", "default": 3, "examples": [1], "deprecated": True, "$comment": "x"}, "7"),
        ({}, "null"),
        ({"type": "object", "required": ["b"], "patternProperties": {"^a": {"$ref": "#"}}}, '{"b":1}'),
        ({"type": "object", "required": ["b"], "additionalProperties": {"type": "null"}}, '{"b":null}'),
        ({"type": ["object", "null"], "required": ["a"], "additionalProperties": {"$ref": "#"}}, '{"a":null}'),
        ({"type": "integer", "multipleOf": 2.5e6, "description": "\x7f"}, "5000000"),
        ({"properties": {"p": {"multipleOf": 0.01}, "q": {"multipleOf": 99990}}}, '{"p":0.07}'),
        ({"$ref": "#x", "$defs": {"y": {"$anchor": "x", "type": "null"}}}, "null"),
        ({"enum": ["\t\"\\\n"]}, r'"\t\"\\\n"'),
    ],
)  # fmt: skip
def test_schemas_that_are_kept(schema: Any, text: str, tokenizer: Tokenizer) -> None:
    assert whole(tokenizer, "json_schema", schema, text)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}, r'{"a":1,"\u0061":"x"}'),
        ({"type": "object", "properties": {"a": False}}, r'{"\u0061":1}'),
        ({"type": "object", "patternProperties": {"^ab": {"type": "integer"}}}, r'{"\u0061b":"x"}'),
        ({"type": "object", "properties": {"a": {"type": "null"}}}, '{"a":null,"a":null}'),
    ],
)
def test_a_name_in_other_letters_is_no_other_name(schema: Any, text: str, tokenizer: Tokenizer) -> None:
    """Readers of JSON undo escapes, so what is bound by its name cannot be had unbound by writing the name so."""
    assert not whole(tokenizer, "json_schema", schema, text)


def test_an_object_of_very_many_fields(tokenizer: Tokenizer) -> None:
    fields = {f"p{index}": {"type": "integer"} for index in range(2000)}
    schema = {"type": "object", "properties": fields, "additionalProperties": False}
    assert whole(tokenizer, "json_schema", schema, '{"p3":1,"p1999":2}')
    assert not whole(tokenizer, "json_schema", schema, '{"p3":1,"p2000":2}')


@pytest.mark.parametrize(
    ("day", "real"),
    [
        ("2023-02-28", True), ("2023-02-29", False), ("2024-02-29", True), ("1900-02-29", False), ("2000-02-29", True),
        ("0000-01-01", False), ("0001-01-01", True), ("0004-02-29", True), ("2023-04-31", False), ("2023-12-31", True),
        ("2023-13-01", False), ("2100-02-29", False), ("2400-02-29", True), ("1000-10-10", True),
    ],
)  # fmt: skip
def test_dates_are_those_of_the_calendar(day: str, real: bool, tokenizer: Tokenizer) -> None:
    for name, text in (("date", day), ("date-time", f"{day}T12:00:00Z")):
        schema = {"type": "array", "items": {"type": "string", "format": name}}
        assert whole(tokenizer, "json_schema", schema, f'["{text}"]') is real
        nested = {"anyOf": [{"$ref": "#/$defs/d"}], "$defs": {"d": {"type": "string", "format": name}}}
        assert whole(tokenizer, "json_schema", nested, f'"{text}"') is real


@pytest.mark.parametrize(
    ("name", "text", "real"),
    [
        ("time", "23:59:59Z", True), ("time", "23:59:60Z", False), ("time", "24:00:00Z", False),
        ("time", "00:00:00.25+01:00", True), ("date-time", "2024-02-29t00:00:59.5-12:30", True),
        ("date-time", "2016-12-31T23:59:60Z", False), ("date-time", "2024-02-29 00:00:00Z", False),
    ],
)  # fmt: skip
def test_times_are_those_of_the_clock(name: str, text: str, real: bool, tokenizer: Tokenizer) -> None:
    assert whole(tokenizer, "json_schema", {"type": "string", "format": name}, f'"{text}"') is real


@pytest.mark.parametrize(
    ("source", "inside", "outside"),
    [
        ('start: "a" NUMBER ("," NUMBER)*\nNUMBER: /[0-9]+/', ["a1", "a12,3"], ["a", "a1,", "b"]),
        ('start: "(" start ")" | "x"', ["x", "((x))"], ["(x", "()"]),
        ('root ::= "yes" | "no" " "? "!"', ["yes", "no!", "no !"], ["no", "yes!"]),
        ('root ::= item+\nitem ::= "- " [a-z]+ "\\n"', ["- a\n", "- a\n- bc\n"], ["- \n", "- A\n"]),
        ('root ::= "(" root ")" | [0-9]{2}', ["12", "((34))"], ["1", "(12"]),
    ],
)
def test_lark_and_gbnf(source: str, inside: list[str], outside: list[str], tokenizer: Tokenizer) -> None:
    assert [whole(tokenizer, "grammar", source, text) for text in inside] == [True] * len(inside)
    assert [whole(tokenizer, "grammar", source, text) for text in outside] == [False] * len(outside)


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        (r"\d{3}-\d{2}", "123-45", "123-4"), ("^ab$", "ab", "abc"), ("a/b", "a/b", "a"), ("x\ny", "x\ny", "xy"),
        ("(?i)yes|no", "YES", "n"), ("[^a]", "é", "a"), (r"\x41\u{42}", "AB", "ab"), ("(?s:.)", "\n", ""),
    ],
)  # fmt: skip
def test_expressions_match_the_whole_text(pattern: str, inside: str, outside: str, tokenizer: Tokenizer) -> None:
    assert whole(tokenizer, "regex", pattern, inside)
    assert not whole(tokenizer, "regex", pattern, outside)


def test_a_way_that_leads_nowhere(tokenizer: Tokenizer) -> None:
    """Only met on the way: the rule x never ends."""
    state = start(tokenizer, "grammar", 'start: "a" | "c" x\nx: x "b"', "guided_grammar")
    state.push(3 + ord("c"))
    assert not state.finished
    with pytest.raises(ParameterError, match="guided_grammar: this grammar has no way on from here"):
        state.allowed()


def test_a_grammar_beyond_the_limits(tokenizer: Tokenizer) -> None:
    """An error of the request, at once or on the way; never a text that breaks the grammar."""
    with pytest.raises(ParameterError, match="guided: this grammar cannot be followed: lexer error: too many"):
        state = start(tokenizer, "regex", "(([a-z]{1,50}){1,50}){1,50}")
        for _ in range(300):
            state.push(3 + ord("a"))


def test_without_llguidance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    byte_level(tmp_path)
    fresh = load_tokenizer(tmp_path, Facts(259))
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'refsample\[guided\]'"):
        start(fresh, "json_object", "")
    assert constrain.Grammar("json_object", "", "response_format").kind == "json_object"


def test_more_choices_than_a_rule_may_hold(tokenizer: Tokenizer) -> None:
    words = [f"word{n}" for n in range(3001)]
    assert all(whole(tokenizer, "choice", words, word) for word in ("word0", "word1999", "word3000"))
    assert not whole(tokenizer, "choice", words, "word3001")
