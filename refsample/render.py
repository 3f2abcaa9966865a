"""Small writers: HTML pages, SVG bars, coloured terminal text. Knows nothing of models, sampling or reports.

Everything that comes in as text is escaped; every page is self-contained (no script, no font, no network).
Colour of a probability: the cividis ramp, which reads the same with and without colour vision, on a log scale.
"""

from __future__ import annotations

import html
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

# Nuñez, Anderton, Renslow 2018 (cividis), nine stops from dark blue (unlikely) to yellow (likely).
_RAMP = (
    (0, 34, 78),
    (26, 56, 111),
    (67, 78, 108),
    (97, 101, 111),
    (125, 124, 120),
    (155, 148, 118),
    (188, 174, 108),
    (222, 201, 88),
    (254, 232, 56),
)
_DECADES = 4.0
"""Probabilities from 1 down to 1e-4 spread over the whole ramp; below that everything is darkest."""

_CSS = (
    "body{font:15px/1.6 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}"
    "table{border-collapse:collapse;margin:1rem 0}th{border-bottom:2px solid #555}"
    "th,td{border-bottom:1px solid #ccc;padding:.25rem .6rem;text-align:left;vertical-align:top}"
    "td.n{text-align:right;font-variant-numeric:tabular-nums}"
    ".tokens{font:15px/2 ui-monospace,monospace;white-space:pre-wrap}.tokens span{border-radius:2px;padding:1px 0}"
)


@dataclass(frozen=True, slots=True)
class Token:
    """One token to draw: its text, its probability (None: not tinted) and what a tooltip says."""

    text: str
    probability: float | None = None
    title: str = ""


def escape(text: object) -> str:
    """Text made safe for HTML content and attributes."""
    return html.escape(str(text), quote=True)


def ramp(probability: float) -> tuple[int, int, int]:
    """Colour (r, g, b), 0..255 each, of a probability in [0, 1]; linear in its logarithm, clamped at both ends."""
    place = 0.0 if probability <= 0 else 1.0 + math.log10(min(probability, 1.0)) / _DECADES
    place = max(place, 0.0) * (len(_RAMP) - 1)
    low = min(int(place), len(_RAMP) - 2)
    part = place - low
    red, green, blue = (
        round(a + (b - a) * part) for a, b in zip(_RAMP[low], _RAMP[low + 1], strict=True)
    )
    return red, green, blue


def ink(background: tuple[int, int, int]) -> str:
    """Black or white, whichever is easier to read on the background (WCAG relative luminance)."""
    channels = (c / 255 for c in background)
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return "#000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "#fff"


# --- HTML and SVG ---------------------------------------------------------------------------------------------------


def page(title: str, *body: str) -> str:
    """A whole HTML document around parts that are HTML already."""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_CSS}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(body) + "\n</body></html>\n"


def tinted(tokens: Iterable[Token]) -> str:
    """Tokens in one block, each with the colour of its probability and its tooltip."""
    parts = []
    for token in tokens:
        attributes = f' title="{escape(token.title)}"' if token.title else ""
        if token.probability is not None:
            red, green, blue = colour = ramp(token.probability)
            attributes += f' style="background:rgb({red},{green},{blue});color:{ink(colour)}"'
        parts.append(f"<span{attributes}>{escape(token.text)}</span>")
    return f'<div class="tokens">{"".join(parts)}</div>'


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; numbers are set flush right."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = []
    for row in rows:
        cells = (
            f'<td class="n">{number(cell)}</td>'
            if isinstance(cell, int | float) and not isinstance(cell, bool)
            else f"<td>{escape(cell)}</td>"
            for cell in row
        )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def bars(values: Mapping[str, float], *, width: int = 480, title: str = "") -> str:
    """Horizontal bars as SVG, the longest as long as there is room; values must be finite and not negative."""
    bad = [name for name, value in values.items() if not (math.isfinite(value) and value >= 0)]
    if bad:
        raise ValueError(f"bars need finite values >= 0; not so: {', '.join(bad)}")
    row, label, figure = 20, 130, 70
    room = width - label - figure
    top = max(values.values(), default=0.0) or 1.0
    parts = [f"<title>{escape(title)}</title>"] if title else []
    for place, (name, value) in enumerate(values.items()):
        y, length = place * row, room * value / top
        red, green, blue = ramp(value / top)
        parts.append(
            f'<text x="{label - 6}" y="{y + 14}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{label}" y="{y + 3}" width="{length:.2f}" height="14" fill="rgb({red},{green},{blue})"/>'
            f'<text x="{label + length + 6:.2f}" y="{y + 14}">{number(value)}</text>'
        )
    size = f'width="{width}" height="{row * len(values)}"'
    font = 'font-family="ui-monospace,monospace" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size} {font}>{"".join(parts)}</svg>'


def number(value: float) -> str:
    """A figure as people read it: whole numbers whole, others to four significant digits."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.4g}"


# --- terminal -------------------------------------------------------------------------------------------------------


def wants_colour(stream: TextIO, environ: Mapping[str, str] | None = None) -> bool:
    """Whether to colour what goes to a stream: NO_COLOR wins, then FORCE_COLOR, then whether it is a terminal."""
    env = os.environ if environ is None else environ
    if env.get("NO_COLOR"):
        return False
    if env.get("FORCE_COLOR"):
        return env["FORCE_COLOR"] not in ("0", "false")
    return stream.isatty() and env.get("TERM") != "dumb"


def visible(text: str) -> str:
    """Text that cannot steer a terminal: control characters other than newline and tab become pictures (U+2400)."""
    return "".join(
        character
        if character in "\n\t" or (ord(character) >= 32 and not 127 <= ord(character) < 160)
        else chr(0x2400 + ord(character)) if ord(character) < 32 else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def cube(colour: tuple[int, int, int]) -> int:
    """Nearest entry of the 6x6x6 cube of a 256-colour terminal, 16..231."""
    levels = (0, 95, 135, 175, 215, 255)

    def nearest(channel: int) -> int:
        return min(range(6), key=lambda i: abs(levels[i] - channel))

    red, green, blue = (nearest(channel) for channel in colour)
    return 16 + 36 * red + 6 * green + blue


def ansi_token(token: Token) -> str:
    """A token for a terminal: background by probability, reset before every line break so that no colour runs on."""
    text = visible(token.text)
    if token.probability is None:
        return text
    colour = ramp(token.probability)
    front = 16 if ink(colour) == "#000" else 231
    start = f"\x1b[48;5;{cube(colour)};38;5;{front}m"
    return "\n".join(f"{start}{line}\x1b[0m" if line else "" for line in text.split("\n"))


def ansi(text: str, style: str, *, on: bool = True) -> str:
    """Text in one of the styles bold, dim, good, bad, warn; unchanged when `on` is false.

    Good is blue, bad is orange: a pair that needs no red-green vision. The words themselves carry the meaning.
    """
    codes = {"bold": "1", "dim": "2", "good": "1;38;5;33", "bad": "1;38;5;208", "warn": "1;38;5;178"}
    return f"\x1b[{codes[style]}m{text}\x1b[0m" if on else text


def columns(rows: Sequence[Sequence[str]], *, gap: int = 2) -> list[str]:
    """Rows as lines of a plain table: every column but the last is padded to its widest cell."""
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return [
        (" " * gap).join([*(cell.ljust(w) for cell, w in zip(row[:-1], widths, strict=True)), row[-1]]).rstrip()
        for row in rows
    ]
