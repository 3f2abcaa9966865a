"""Seeded mutations of the files of a model folder and of an adapter's. It knows nothing of what a loader makes of them.

A mutation writes one file anew (or puts something that is no file in its place) and says what an error about it has to
name, and whether a load can be right at all. Whether one that loads is right is for `tests.model.judge` to say.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Mutation:
    """One file of a folder, changed."""

    what: str
    file: str
    change: Callable[[Path], Any]
    """Given the path of the file."""
    must_fail: bool = False
    """No reading of the file makes sense; otherwise what loads is compared."""
    names: tuple[str, ...] = ()
    """An error names one of these, where there are any."""


class Bare(str):
    """Text that stands in a JSON file as it is, without quotes."""


DEEP = Bare("[" * 3000 + "]" * 3000)
HOSTILE: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 3, 2**31, 2**63, 10**400, 1e-320, 1e300, 0.5, -0.5, 2.0, Bare("1e400"), Bare("NaN"),
    Bare("-Infinity"), Bare("9" * 5000), "x", "", "1", "a\nb", "\ud800", "x" * 5000, [], {}, [1], [None], {"a": 1},
    [[[[[{}]]]]], DEEP,
)  # fmt: skip
"""What stands in place of a value, whatever it was."""


def dumps(value: Any) -> bytes:
    """JSON with `Bare` texts put in."""
    found: list[str] = []

    def swap(x: Any) -> Any:
        if isinstance(x, Bare):
            found.append(x)
            return f"@bare{len(found) - 1}@"
        if isinstance(x, dict):
            return {k: swap(v) for k, v in x.items()}
        return [swap(v) for v in x] if isinstance(x, list | tuple) else x

    text = json.dumps(swap(value))
    for number, bare in enumerate(found):
        text = text.replace(f'"@bare{number}@"', bare)
    return text.encode()


def writes(data: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(data)


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:50] + "..."


def kin(value: Any) -> list[Any]:
    """Values close to one: of another type, twice, in a list."""
    if isinstance(value, bool):
        return [not value, int(value), str(value)]
    if isinstance(value, int | float):
        return [value * 2, value + 1, str(value), [value], float(value), value // 2]
    if isinstance(value, list):
        return [[*value, *value], value[:-1], value[::-1], {"0": value}, [str(v) for v in value], [*value[:-1], None]]
    return [[value], {"value": value}]


def values(file: str, raw: Mapping[str, Any], rng: random.Random, each: int) -> Iterator[Mutation]:
    """Each key of a JSON object dropped and at `each` of the values, the keys of objects in it too."""
    for key, value in raw.items():
        rest = {k: v for k, v in raw.items() if k != key}
        yield Mutation(f"{key} dropped", file, writes(dumps(rest)), names=(key,))
        near = kin(value)
        for other in (*rng.sample(HOSTILE, min(each, len(HOSTILE))), *rng.sample(near, min(len(near), 1 + each // 3))):
            yield Mutation(f"{key}={shown(other)}", file, writes(dumps({**raw, key: other})), names=(key,))
        if isinstance(value, dict) and value:
            for inner in values(file, value, rng, each):
                captured = _inner(inner.change)
                yield Mutation(
                    f"{key}.{inner.what}", file, writes(dumps({**raw, key: Bare(captured)})), names=(key, *inner.names)
                )
    for other in rng.sample(HOSTILE, min(each, len(HOSTILE))):
        yield Mutation(f"surprise={shown(other)}", file, writes(dumps({**raw, "surprise": other})), names=("surprise",))
    key = rng.choice(list(raw))
    twice = dumps(raw)[:-1] + b", " + dumps({key: raw[key]})[1:]
    yield Mutation(f"{key} twice", file, writes(twice), must_fail=True, names=(key,))


def _inner(change: Callable[[Path], Any]) -> str:
    """The text that a change would write."""
    caught: list[bytes] = []

    class Sink:
        def write_bytes(self, data: bytes) -> None:
            caught.append(data)

    change(Sink())  # type: ignore[arg-type]
    return caught[0].decode()


def texts(file: str, raw: bytes, rng: random.Random, count: int) -> Iterator[Mutation]:
    """Of a JSON file as bytes: cut, flipped, in another encoding, of another kind."""
    for at in sorted(rng.sample(range(len(raw) - 1), min(count, len(raw) - 1))):
        yield Mutation(f"cut at {at}", file, writes(raw[:at]), must_fail=True)
    for _ in range(count):
        at, bit = rng.randrange(len(raw)), rng.randrange(8)
        flipped = raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]
        yield Mutation(f"bit {bit} of byte {at} flipped", file, writes(flipped))
    for what, data in {
        "a list": b"[1]", "null": b"null", "a number": b"1", "a text": b'"x"', "twice": raw + raw,
        "UTF-16": raw.decode().encode("utf-16"), "not UTF-8": raw[:-1] + b'"\xff": 1}', "zeros": bytes(len(raw)),
        "deep": DEEP.encode(), "deep object": b'{"a":' * 3000 + b"1" + b"}" * 3000, "comma": raw.rstrip()[:-1] + b",}",
        "a byte order mark": b"\xef\xbb\xbf" + raw,
    }.items():  # fmt: skip
        yield Mutation(what, file, writes(data), must_fail=True)
    yield Mutation("spaces around", file, writes(b"\n  " + raw + b" \n\t"))


def no_files(file: str, needed: bool = True) -> Iterator[Mutation]:
    """What may stand where a file should be."""
    changes: dict[str, Callable[[Path], Any]] = {
        "empty": writes(b""),
        "a folder": lambda path: path.mkdir(),
        "a link to itself": lambda path: path.symlink_to(path),
        "a link to nothing": lambda path: path.symlink_to(path.with_name("nothing")),
        "a link to its folder": lambda path: path.symlink_to(path.parent),
        "a device": lambda path: path.symlink_to("/dev/zero"),
        "gone": lambda path: None,
    }
    if hasattr(os, "mkfifo"):
        changes["a pipe"] = lambda path: os.mkfifo(path)
    if os.geteuid():
        changes["unreadable"] = lambda path: (path.write_bytes(b"{}"), path.chmod(0))
    absent = ("gone", "a link to nothing", "a link to itself")
    for what, change in changes.items():
        yield Mutation(what, file, change, must_fail=needed or what not in absent)


def remove(path: Path) -> None:
    """Whatever a mutation left, away."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)


def indexes(file: str, raw: Mapping[str, Any], rng: random.Random) -> Iterator[Mutation]:
    """Of model.safetensors.index.json."""
    places: dict[str, str] = dict(raw["weight_map"])
    names, shards = list(places), sorted(set(places.values()))

    def changed(what: str, places: Any, must_fail: bool = True) -> Mutation:
        return Mutation(what, file, writes(dumps({**raw, "weight_map": places})), must_fail=must_fail)

    for other in HOSTILE:
        yield changed(f"weight_map={shown(other)}", other)
        name = rng.choice(names)
        yield changed(f"{name} in {shown(other)}", {**places, name: other})
    for bad in ("../", "/", "./", "sub/", "..", ".", "//", "config.json", "\0", "model\n.safetensors", "x" * 5000):
        name = rng.choice(names)
        yield changed(f"{name} in {bad[:20]!r} and a shard", {**places, name: bad + places[name]})
        yield changed(f"{name} in {bad[:20]!r}", {**places, name: bad})
    for name in rng.sample(names, 8):
        other = next(shard for shard in shards if shard != places[name])
        yield changed(f"{name} in the wrong shard", {**places, name: other})
        yield changed(f"{name} misspelt", {(n + "x" if n == name else n): s for n, s in places.items()})
        yield changed(f"{name} left out", {n: s for n, s in places.items() if n != name}, must_fail=False)
    for shard in shards:
        yield changed(f"{shard} left out", {n: s for n, s in places.items() if s != shard})
        yield Mutation(f"{shard} gone", shard, lambda path: None, must_fail=True)
    twice = dumps(raw)[:-1] + b', "weight_map": {}}'
    yield Mutation("weight_map twice", file, writes(twice), must_fail=True)
