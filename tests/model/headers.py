"""Seeded mutations of a safetensors file. It knows nothing of what a loader makes of them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from tests.model.mutate import HOSTILE, Bare, Mutation, dumps, shown, writes

Entries = dict[str, Any]


def split(raw: bytes) -> tuple[Entries, bytes, bytes]:
    """(header, its text, data) of a safetensors file."""
    end = 8 + int.from_bytes(raw[:8], "little")
    return json.loads(raw[8:end]), raw[8:end], raw[end:]


def joined(header: bytes, data: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def bits(file: str, raw: bytes, rng: random.Random, count: int) -> Iterator[Mutation]:
    """Flipped bits of length and header, truncations at every kind of place, wrong lengths."""
    entries, text, data = split(raw)
    start = 8 + len(text)
    for n in range(count):
        at, bit = rng.randrange(8 if n % 8 == 0 else start), rng.randrange(8)
        flipped = raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]
        yield Mutation(f"bit {bit} of byte {at} flipped", file, writes(flipped))
    for _ in range(count // 8):
        a, b = sorted(rng.sample(range(8, start), 2))
        yield Mutation(f"bytes {a} to {b} doubled", file, writes(raw[:b] + raw[a:b] + raw[b:]), must_fail=True)
    ends = {start + entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"}
    places = {*range(10), start - 1, start, start + 1, len(raw) - 1, *(rng.randrange(len(raw)) for _ in range(count))}
    for at in sorted({*rng.sample(sorted(ends - {len(raw)}), min(6, len(ends) - 1)), *places}):
        yield Mutation(f"cut at {at}", file, writes(raw[:at]), must_fail=True)
    yield Mutation("bytes behind", file, writes(raw + b"\0"), must_fail=True)
    for length in (0, 1, 2, len(text) - 1, len(text) + 1, len(raw) - 8, len(raw), 10**8, 2**31, 2**63, 2**64 - 1):
        yield Mutation(f"length {length}", file, writes(length.to_bytes(8, "little") + raw[8:]), must_fail=True)
    for what, header in {
        "UTF-16": text.decode().encode("utf-16"), "UTF-16 without a mark": text.decode().encode("utf-16-le"),
        "UTF-32": text.decode().encode("utf-32"), "a byte order mark": b"\xef\xbb\xbf" + text,
        "not UTF-8": text.replace(b'"pt"', b'"\xff"'), "a surrogate": text.replace(b'"pt"', b'"\xed\xa0\x80"'),
        "a list": b"[1]", "null": b"null", "nothing": b"", "spaces": b" " * 64, "empty": b"{}", "zeros": bytes(64),
        "deep": b"[" * 50000, "deep object": b'{"a":' * 50000, "twice": text + text, "half": text[: len(text) // 2],
    }.items():  # fmt: skip
        yield Mutation(f"header: {what}", file, writes(joined(header, data)), must_fail=True)
    yield Mutation("header with spaces behind", file, writes(joined(text + b" " * 15, data)))


def entries(file: str, raw: bytes, rng: random.Random, count: int) -> Iterator[Mutation]:
    """Of the header as JSON: types, shapes, offsets, names."""
    header, text, data = split(raw)
    names = [name for name in header if name != "__metadata__"]

    def changed(what: str, name: str, value: Any, must_fail: bool = True) -> Mutation:
        new = joined(dumps({**header, name: value}), data)
        return Mutation(f"{name[:60]!r} {what}", file, writes(new), must_fail, () if must_fail else (name,))

    for field in ("dtype", "shape", "data_offsets"):
        for other in rng.sample(HOSTILE, min(count, len(HOSTILE))):
            name = rng.choice(names)
            yield changed(f"{field}={shown(other)}", name, {**header[name], field: other})
        name = rng.choice(names)
        yield changed(f"without {field}", name, {k: v for k, v in header[name].items() if k != field})
        again = dumps(header[name])[:-1] + b", " + dumps({field: header[name][field]})[1:]
        yield changed(f"{field} twice", name, Bare(again.decode()))
    for other in rng.sample(HOSTILE, min(count, len(HOSTILE))):
        yield changed(f"={shown(other)}", rng.choice(names), other)
        yield changed(f"metadata={shown(other)}", "__metadata__", other, must_fail=other not in (None, {}))
        yield changed(f"metadata.format={shown(other)}", "__metadata__", {"format": other}, must_fail=False)
    for what, change in _SHAPES.items():
        name = rng.choice(names)
        shape = header[name]["shape"]
        yield changed(f"shape {what}", name, {**header[name], "shape": change(shape)}, must_fail=change(shape) != shape)
    for what, move in _OFFSETS.items():
        name = rng.choice(names)
        begin, end = header[name]["data_offsets"]
        yield changed(f"offsets {what}", name, {**header[name], "data_offsets": move(begin, end)})
    for dtype in ("F32", "F16", "I16", "U16", "F8_E4M3", "F64", "BOOL", "bf16", "BF16 ", "C64", "F4"):
        name = rng.choice(names)
        yield changed(f"dtype {dtype}", name, {**header[name], "dtype": dtype}, dtype != header[name]["dtype"])
    for new in ("", "x", "a\nb", "\0", "\ud800", "x" * 5000, "__metadata__", "model", "\u2028", "ä" * 50):
        name = rng.choice(names)
        renamed = {(new if n == name else n): e for n, e in header.items()}
        yield Mutation(f"{name} renamed {new[:20]!r}", file, writes(joined(dumps(renamed), data)), must_fail=True)
    name = rng.choice(names)
    yield Mutation(f"{name} twice", file, writes(joined(_twice(text, name, header[name]), data)), must_fail=True)
    one, two = rng.sample(names, 2)
    yield changed("in the place of another", one, header[two])
    for empty in ([0], [0, 2**62], [0, 2**63], [2**40, 0, 2**40], [0] * 70, [0, -1]):
        entry = {"dtype": "BF16", "shape": empty, "data_offsets": [0, 0]}
        yield changed(f"added, {shown(empty)}", "zero", entry)
    for key in ("strides", "scale"):
        yield changed(f"with {key}", one, {**header[one], key: [1]}, must_fail=False)


_SHAPES: dict[str, Callable[[list[int]], list[Any]]] = {
    "with an axis before": lambda s: [1, *s],
    "with an axis behind": lambda s: [*s, 1],
    "with 70 axes": lambda s: [1] * 70 + s,
    "turned round": lambda s: s[::-1],
    "flat": lambda s: [s[0] * s[-1]] if len(s) > 1 else [1, *s],
    "of halves": lambda s: [n / 2 for n in s],
    "of texts": lambda s: [str(n) for n in s],
    "of floats": lambda s: [float(n) for n in s],
    "negative": lambda s: [-n for n in s],
    "less one": lambda s: [s[0] - 1, *s[1:]],
    "more one": lambda s: [s[0] + 1, *s[1:]],
    "empty": lambda s: [],
    "with a zero": lambda s: [0, *s],
    "huge": lambda s: [2**63, *s],
    "wrapped": lambda s: [2**32, 2**32, *s],
    "of many huge": lambda s: [2**62] * 2000,
    "of huger": lambda s: [10**4000, 10**4000],
    "of truths": lambda s: [True] * len(s),
}
_OFFSETS: dict[str, Callable[[int, int], list[Any]]] = {
    "later": lambda a, b: [a + 2, b + 2],
    "earlier": lambda a, b: [a - 2, b - 2],
    "longer": lambda a, b: [a, b + 2],
    "shorter": lambda a, b: [a, b - 2],
    "turned round": lambda a, b: [b, a],
    "three": lambda a, b: [a, b, b],
    "one": lambda a, b: [a],
    "beyond": lambda a, b: [a + 10**9, b + 10**9],
    "huge": lambda a, b: [a + 2**64, b + 2**64],
    "huger": lambda a, b: [a + 10**4000, b + 10**4000],
    "floats": lambda a, b: [float(a), float(b)],
    "half": lambda a, b: [a + 0.5, b + 0.5],
    "negative": lambda a, b: [-b - 2, -a - 2],
    "texts": lambda a, b: [str(a), str(b)],
    "null": lambda a, b: [None, None],
    "with an exponent": lambda a, b: [Bare(f"{a}e0"), Bare(f"{b}e0")],
}


def _twice(text: bytes, name: str, entry: Any) -> bytes:
    """A header that has one entry twice."""
    return text.rstrip()[:-1] + b", " + dumps({name: entry})[1:]


def tensors(file: str, raw: bytes, rng: random.Random, count: int) -> Iterator[Mutation]:
    """Well-formed files with a tensor left out, added, renamed, reshaped or of another type."""
    header, _, data = split(raw)
    held = {
        n: (e["dtype"], e["shape"], data[slice(*e["data_offsets"])]) for n, e in header.items() if n != "__metadata__"
    }

    def written(what: str, new: dict[str, tuple[str, list[int], bytes]], must_fail: bool = True) -> Mutation:
        head, body = {}, b""
        for name, (dtype, shape, part) in new.items():
            head[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(part)]}
            body += part
        return Mutation(what, file, writes(joined(dumps(head), body)), must_fail=must_fail)

    for name in rng.sample(list(held), min(count, len(held))):
        dtype, shape, part = held[name]
        rest = {n: t for n, t in held.items() if n != name}
        yield written(f"{name} left out", rest)
        for new in (f"{name}.x", name.upper(), name + " ", "x." + name):
            yield written(f"{name} renamed {new}", {**rest, new: held[name]})
        yield written(
            f"{name} one longer",
            {**held, name: (dtype, [shape[0] + 1, *shape[1:]], part + part[: len(part) // shape[0]])},
        )
        yield written(f"{name} with an axis more", {**held, name: (dtype, [*shape, 1], part)})
        if len(set(shape)) > 1:
            yield written(f"{name} turned", {**held, name: (dtype, shape[::-1], part)})
        yield written(f"{name} empty", {**held, name: (dtype, [0, *shape[1:]], b"")})
        yield written(f"{name} as a number", {**held, name: (dtype, [], part[:2])})
        for other in ("F16", "I16"):
            yield written(f"{name} as {other}", {**held, name: (other, shape, part)})
        for other, size in (("F32", 4), ("F64", 8), ("I32", 4), ("U8", 1), ("F8_E5M2", 1), ("BOOL", 1)):
            yield written(f"{name} as {other}", {**held, name: (other, shape, bytes(len(part) // 2 * size))})
        for new in ("extra", "model.layers.99.mlp.up_proj.weight", name.replace("weight", "qweight"), "a\nb", "\ud800"):
            yield written(f"{new!r} added", {**held, new + "2": ("F32", [1], bytes(4))})
        at = rng.randrange(len(part))
        flipped = part[:at] + bytes([part[at] ^ 64]) + part[at + 1 :]
        yield written(f"{name}: a bit of the data", {**held, name: (dtype, shape, flipped)}, must_fail=False)
    order = list(held)
    rng.shuffle(order)
    yield written("in another order", {name: held[name] for name in order}, must_fail=False)
