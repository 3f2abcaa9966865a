"""Ends: stop strings across token borders, minimal hold-back, order of the checks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsample.generation.stop import Follower, Step, StopRule, StopScanner
from refsample.text.stream import Detokenizer
from refsample.text.tokenizer import Tokenizer, load_tokenizer
from tests.text.vocabularies import Facts, byte_level


def scan(stops: tuple[str, ...], parts: list[str], keep: bool = False) -> tuple[list[str], str | None]:
    scanner = StopScanner(stops, keep)
    out = []
    for part in parts:
        text, matched = scanner.push(part)
        out.append(text)
        if matched is not None:
            return out, matched
    return [*out, scanner.flush()], None


# One line a case: stops, parts, what is sent after each part, the match.
CASES = [
    (("END",), ["a E", "N", "D b"], ["a ", "", ""], "END"),
    (("END",), ["a E", "N", "d"], ["a ", "", "ENd", ""], None),
    (("END",), ["a E", "N"], ["a ", "", "EN"], None),
    (("\n\n",), ["a\n", "b\n", "\n"], ["a", "\nb", ""], "\n\n"),
    (("bc", "abcd"), ["xabcd"], ["xa"], "bc"),
    (("abcd", "bc"), ["xab", "cd"], ["x", "a"], "bc"),
    (("abc", "bc"), ["xabc"], ["x"], "abc"),
    (("bc", "abc"), ["xabc"], ["xa"], "bc"),
    (("aab",), ["aa", "aa", "b"], ["", "aa", ""], "aab"),
    (("aab",), ["aaaa"], ["aa", "aa"], None),
    ((), ["a", "b"], ["a", "b", ""], None),
    (("é",), ["caf", "é!"], ["caf", ""], "é"),
]


@pytest.mark.parametrize(("stops", "parts", "sent", "match"), CASES)
def test_scanner(stops: tuple[str, ...], parts: list[str], sent: list[str], match: str | None) -> None:
    assert scan(stops, parts) == (sent, match)


def test_keeping_the_stop_holds_nothing_back() -> None:
    assert scan(("END",), ["a E", "ND b"], keep=True) == (["a E", "ND"], "END")
    assert scan(("END",), ["a E", "N"], keep=True) == (["a E", "N", ""], None)


TEXT = st.text(alphabet="ab\n", max_size=12)
STOPS = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), max_size=3).map(tuple)


def by_definition(stops: tuple[str, ...], text: str, keep: bool) -> tuple[str, str | None]:
    for end in range(1, len(text) + 1):
        for stop in stops:
            if text[:end].endswith(stop):
                return text[: end if keep else end - len(stop)], stop
    return text, None


@given(STOPS, st.lists(TEXT, max_size=6), st.booleans())
def test_scanner_is_the_definition(stops: tuple[str, ...], parts: list[str], keep: bool) -> None:
    sent, matched = scan(stops, parts, keep)
    assert ("".join(sent), matched) == by_definition(stops, "".join(parts), keep)


@given(STOPS, st.lists(TEXT, max_size=6))
def test_hold_back_is_minimal(stops: tuple[str, ...], parts: list[str]) -> None:
    sent, _ = scan(stops, parts)
    for count in range(1, len(sent)):
        seen, free = "".join(parts[:count]), "".join(sent[:count])
        if by_definition(stops, seen, False)[1] is None:
            held = seen[len(free) :]
            assert seen.startswith(free)
            assert held == "" or any(stop.startswith(held) and stop != held for stop in stops)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("stop")
    byte_level(path)
    return load_tokenizer(path, Facts(300))


def follow(tokenizer: Tokenizer, rule: StopRule, data: bytes | list[int]) -> list[Step]:
    follower = Follower(rule, Detokenizer(tokenizer, skip_special=True))
    steps = []
    for item in data:
        steps.append(follower.push(item if isinstance(data, list) else 3 + item))
        if steps[-1].finish_reason:
            break
    return steps


def ends(steps: list[Step]) -> tuple[str, int, str | None, str | int | None]:
    return "".join(s.text for s in steps), len(steps), steps[-1].finish_reason, steps[-1].stop_reason


EOS, A, B = 0, 3 + ord("a"), 3 + ord("b")


def test_order_of_ends(tokenizer: Tokenizer) -> None:
    both = StopRule(2, stop=("ab",), stop_token_ids=frozenset({B}), eos_ids=frozenset({EOS}))
    assert ends(follow(tokenizer, both, [A, B])) == ("a", 2, "stop", B)
    assert ends(follow(tokenizer, both, [A, EOS])) == ("a", 2, "stop", None)
    assert ends(follow(tokenizer, both, [A, A])) == ("aa", 2, "length", None)
    strings = StopRule(2, stop=("ab",))
    assert ends(follow(tokenizer, strings, [A, B])) == ("", 2, "stop", "ab")
    assert ends(follow(tokenizer, strings, [EOS, A])) == ("a", 2, "length", None)
    eos_as_stop = StopRule(9, stop_token_ids=frozenset({EOS}), eos_ids=frozenset({EOS}))
    assert ends(follow(tokenizer, eos_as_stop, [A, EOS])) == ("a", 2, "stop", None)


def test_keep_shows_the_stop(tokenizer: Tokenizer) -> None:
    rule = StopRule(9, stop=("b",), stop_token_ids=frozenset({A}), include_stop=True)
    assert ends(follow(tokenizer, rule, b"cb!")) == ("cb", 2, "stop", "b")
    assert ends(follow(tokenizer, rule, b"ca!")) == ("ca", 2, "stop", A)


def test_min_tokens_delays_every_stop(tokenizer: Tokenizer) -> None:
    rule = StopRule(9, stop=("ab",), stop_token_ids=frozenset({A}), min_tokens=3)
    assert ends(follow(tokenizer, rule, b"abba")) == ("abb", 4, "stop", A)
    # A match may begin before and end after the border, but not end before it.
    strings = StopRule(9, stop=("abc", "b"), min_tokens=2)
    assert ends(follow(tokenizer, strings, b"abc")) == ("", 3, "stop", "abc")
    assert ends(follow(tokenizer, strings, b"abxb")) == ("abx", 4, "stop", "b")
    assert ends(follow(tokenizer, StopRule(2, stop=("b",), min_tokens=2), b"ab")) == ("ab", 2, "length", None)


def test_characters_are_whole_when_searched(tokenizer: Tokenizer) -> None:
    steps = follow(tokenizer, StopRule(9, stop=("é",)), "aé".encode())
    assert ends(steps) == ("a", 3, "stop", "é")
    assert [s.text for s in follow(tokenizer, StopRule(2), "é".encode())] == ["", "é"]
    assert ends(follow(tokenizer, StopRule(2), "€".encode())) == ("\ufffd", 2, "length", None)
