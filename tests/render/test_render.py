"""The small writers: escaping, colours, columns."""

from __future__ import annotations

import io
import math
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsample.render import (
    Token,
    ansi,
    ansi_token,
    bars,
    columns,
    cube,
    escape,
    ink,
    number,
    page,
    ramp,
    table,
    tinted,
    visible,
    wants_colour,
)

HOSTILE = "<script>alert('x')</script>\"&\x1b[2J"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Tags(HTMLParser):
    """Collects what an HTML reader really sees."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> Tags:
    reader = Tags()
    reader.feed(html)
    reader.close()
    return reader


def test_hostile_text_stays_text() -> None:
    seen = read(page(HOSTILE, tinted([Token(HOSTILE, 0.5, HOSTILE)]), table([HOSTILE], [[HOSTILE]])))
    assert "script" not in seen.tags
    assert seen.text.count("<script>") == 4


@given(st.text(max_size=40))
def test_tinted_keeps_the_text(text: str) -> None:
    clean = "".join(c for c in text if c.isprintable())
    assert read(tinted([Token(clean, 0.1), Token(clean)])).text == clean * 2


def test_page_is_self_contained() -> None:
    html = page("t", bars({"a": 1.0}))
    assert "src=" not in html and "url(" not in html and "<script" not in html and 'rel="stylesheet"' not in html


@given(st.floats(min_value=0.0, max_value=1.0))
def test_ramp_is_a_colour(probability: float) -> None:
    assert all(0 <= channel <= 255 for channel in ramp(probability))
    assert 16 <= cube(ramp(probability)) <= 231


def luminance(colour: tuple[int, int, int]) -> float:
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_ramp_is_read_by_lightness_alone() -> None:
    """Colour-blind safe: likelier is lighter, everywhere."""
    light = [luminance(ramp(10 ** (-4 + 4 * i / 16))) for i in range(17)]
    assert all(later > earlier for earlier, later in zip(light, light[1:], strict=False))
    assert light[-1] > 0.7 > 0.03 > light[0]


@given(st.floats(min_value=1e-6, max_value=1.0))
def test_ink_has_contrast(probability: float) -> None:
    """WCAG AA for text: contrast of at least 4.5 : 1."""
    colour = ramp(probability)
    front = 0.0 if ink(colour) == "#000" else 1.0
    low, high = sorted((luminance(colour), front))
    assert (high + 0.05) / (low + 0.05) >= 4.5


@pytest.mark.parametrize(
    ("terminal", "environ", "colour"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (False, {"FORCE_COLOR": "1"}, True),
        (True, {"FORCE_COLOR": "0"}, False),
        (True, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_wants_colour(terminal: bool, environ: dict[str, str], colour: bool) -> None:
    assert wants_colour(Terminal() if terminal else io.StringIO(), environ) is colour


@given(st.text())
def test_visible_cannot_steer(text: str) -> None:
    shown = visible(text)
    assert len(shown) == len(text)
    assert not any(ord(c) < 32 and c not in "\n\t" or 127 <= ord(c) < 160 for c in shown)
    assert visible(shown) == shown


def test_ansi_token_resets_before_each_line_break() -> None:
    drawn = ansi_token(Token("a\n\nb", 1.0))
    first, empty, last = drawn.split("\n")
    assert empty == ""
    assert first.startswith("\x1b[48;5;") and first.endswith("a\x1b[0m") and last.endswith("b\x1b[0m")
    assert ansi_token(Token("a\x1b")) == "a\u241b"


def test_ansi_off_changes_nothing() -> None:
    assert ansi("x", "bad", on=False) == "x"
    assert "x" in ansi("x", "bad") and ansi("x", "bad") != ansi("x", "good")


def test_bars_is_xml_with_lengths_in_proportion() -> None:
    root = ET.fromstring(bars({"a<b": 2.0, "c": 1.0, "d": 0.0}, title="t & t"))
    name = "{http://www.w3.org/2000/svg}"
    widths = [float(rect.attrib["width"]) for rect in root.iter(f"{name}rect")]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.01) and widths[2] == 0.0
    assert [text.text for text in root.iter(f"{name}text")] == ["a<b", "2", "c", "1", "d", "0"]
    assert ET.fromstring(bars({})).attrib["height"] == "0"


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_bars_refuses_what_has_no_length(bad: float) -> None:
    with pytest.raises(ValueError, match="x"):
        bars({"x": bad})


def test_number_and_escape() -> None:
    assert [number(v) for v in (3, 0.5, 1234.567, 1e-9)] == ["3", "0.5", "1235", "1e-09"]
    assert escape("<&\"'>") == "&lt;&amp;&quot;&#x27;&gt;"


def test_columns() -> None:
    assert columns([("a", "bb", "c"), ("aaa", "b", "")]) == ["a    bb  c", "aaa  b"]
    assert columns([]) == []
