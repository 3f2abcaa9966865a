"""Ranges and types as provider files write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsample.spec.notation import Range, as_integers, check_type, fits, parse_range, same_json


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("0 <= x <= 2", [0, 2, 0.5], [-1e-9, 2.0000001]),
        ("0 < x < 2", [1e-300, 1.9999999], [0, 2]),
        ("0 < x <= 1", [1, 0.5], [0, 1.1]),
        ("-2 <= x", [-2, 10**30], [-3]),
        ("x < 5", [-(10**30), 4.9], [5]),
        ("x", [0, -1e308, 10**40], []),
        ("-1.5e1 <= x", [-15], [-15.1]),
    ],
)
def test_ranges(text: str, inside: list[float], outside: list[float]) -> None:
    found = parse_range(text)
    assert all(found.holds(value) for value in inside)
    assert not any(found.holds(value) for value in outside)
    assert not found.holds(math.nan)
    assert parse_range(found.about()) == found


def test_int64_bounds_stay_exact() -> None:
    found = parse_range("-9223372036854775808 <= x <= 9223372036854775807")
    assert found.holds(2**63 - 1) and not found.holds(2**63)
    assert found.holds(-(2**63)) and not found.holds(-(2**63) - 1)


@pytest.mark.parametrize("text", ["", "0 to 2", "0 =< x", "2 <= x <= 1", "1 < x <= 1", "0 <= y <= 1", "[0, 1]"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ValueError, match="range|holds no number"):
        parse_range(text)


def test_about_names_its_subject() -> None:
    assert parse_range("0 < x <= 2").about("temperature") == "0 < temperature <= 2"
    assert Range(low=1, open_low=False).about() == "1 <= x"


@pytest.mark.parametrize(
    ("value", "name", "wanted"),
    [
        (5, "integer", True),
        (True, "integer", False),
        ("5", "integer", False),
        (5.0, "integer", False),
        (5, "number", True),
        (True, "number", False),
        (math.nan, "number", False),
        (math.inf, "number", False),
        (10**400, "number", False),
        (10**400, "integer", False),
        (1, "boolean", False),
        (False, "boolean", True),
        ([], "string[]", True),
        (["a", 1], "string[]", False),
        ([[1], [2, 3]], "integer[][]", True),
        ([1, [2]], "integer[][]", False),
        ([1, True], "integer[]", False),
        ({"1": 2}, "map<string,integer>", True),
        ({"1": 2.5}, "map<string,integer>", False),
        ({1: 2}, "map<string,integer>", False),
        ({"a": [1]}, "map<string,integer[]>", True),
        ([{}], "object[]", True),
        ([None, 1.5], "number?[]", True),
        ([None, "a"], "number?[]", False),
        (None, "number?[]", False),
        ([{"a": 1.5}, None], "map<string,number>?[]", True),
        (None, "object", False),
    ],
)
def test_types(value: object, name: str, wanted: bool) -> None:
    assert fits(value, check_type(name)) is wanted


def test_integral_floats_only_where_a_record_says_so() -> None:
    assert fits(50.0, "integer", integral=True)
    assert not fits(50.5, "integer", integral=True)
    assert not fits(True, "integer", integral=True)
    assert fits({"1": 2.0}, "map<string,integer>", integral=True)
    assert as_integers({"1": 2.0, "2": [3.0, 4.5]}) == {"1": 2, "2": [3, 4.5]}
    assert type(as_integers(50.0)) is int


@pytest.mark.parametrize(
    "name", ["int", "string[", "map<integer,string>", "map<string,int>", "", "null", "number?", "number??[]"]
)
def test_what_is_no_type(name: str) -> None:
    with pytest.raises(ValueError, match="is not a type"):
        check_type(name)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)


@given(JSON, JSON)
def test_same_json_is_an_equivalence(one: object, other: object) -> None:
    assert same_json(one, one)
    assert same_json(one, other) == same_json(other, one)


def test_true_is_not_one() -> None:
    assert not same_json(True, 1)
    assert not same_json([0], [False])
    assert same_json({"a": [1, 2.0]}, {"a": (1.0, 2)})
