"""Records: what is written is read back whole, and a damaged one is named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from refsample.conformance.judge import judge
from refsample.conformance.record import EXCHANGES, RUN, make_room, read_record, write_exchange, write_run
from refsample.conformance.report import Report
from refsample.conformance.transport import Exchange
from refsample.errors import RecordError

EMPTY = Report(
    verdict="inconclusive", model="inconclusive", law="inconclusive", contract="inconclusive",
    checks=(), parameters=(), faults=(), excluded=(), not_excluded=(),
    alpha=0.01, e_value=1.0, requests=0, tokens=0, url="http://h", endpoint_model="m", spec="openai",
    engine="reference", profile="smoke", seed=0, reference=None, reference_fingerprint=None, version="0",
)  # fmt: skip
ODD = Exchange(
    "POST", "/v1/completions", {"prompt": "a\u2028b\x85c\n"}, 200, "application/json", "x\u2029\x1c\r\ny\ud83d"
)
SETTINGS = {"model": "m", "max_tokens": None, "only": ["law.*"], "extensions": None}


def written(folder: Path, exchanges: Sequence[Exchange] = (), settings: Any = SETTINGS) -> Path:
    make_room(folder)
    for exchange in exchanges:
        write_exchange(folder, exchange)
    write_run(folder, EMPTY, settings)
    return folder


def test_text_that_looks_like_line_ends_comes_back(tmp_path: Path) -> None:
    plain = Exchange("GET", "/v1/models", None, 200, "application/json", "{}")
    run, exchanges = read_record(written(tmp_path / "record", [ODD, plain]))
    assert exchanges == [ODD, plain]
    assert run["settings"] == {**SETTINGS, "key_env": None} and run["report"]["seed"] == 0  # one of an earlier version


def test_a_used_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    written(tmp_path / "record")
    before = (tmp_path / "record" / RUN).read_bytes()
    with pytest.raises(RecordError, match="holds a record already"):
        make_room(tmp_path / "record")
    assert (tmp_path / "record" / RUN).read_bytes() == before
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="cannot be made"):
        make_room(tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        (RUN, "{", "is not JSON"),
        (RUN, "[]", "no settings and report"),
        (EXCHANGES, "{}\n", "line 1"),
        (EXCHANGES, '{"method": "GET"', "line 1"),
        (EXCHANGES, "[" * 100_000, "line 1"),
    ],
)
def test_damage_is_named(tmp_path: Path, name: str, content: str, named: str) -> None:
    written(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(RecordError, match=named):
        read_record(tmp_path)


def test_no_record_at_all(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no record of a verification"):
        read_record(tmp_path / "nothing")


def test_what_was_paid_for_is_kept_where_the_run_ends_early(tmp_path: Path) -> None:
    make_room(tmp_path)
    make_room(tmp_path)  # nothing was asked yet: the folder is still free
    write_exchange(tmp_path, ODD)
    assert len((tmp_path / EXCHANGES).read_text("ascii").splitlines()) == 1
    with pytest.raises(RecordError, match="holds a record already"):
        make_room(tmp_path)
    with pytest.raises(RecordError, match=r"is no record of a verification: .*run\.json"):
        read_record(tmp_path)


def test_a_file_that_is_not_utf_8_is_the_one_named(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / EXCHANGES).write_bytes(b"\xff\n")
    with pytest.raises(RecordError, match=r"exchanges\.jsonl is not UTF-8"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("settings", "model", 5),
        ("settings", "max_tokens", "many"),
        ("settings", "only", [5]),
        ("report", "seed", "3"),
        ("report", "seed", True),
        ("report", "reference", []),
        ("report", "url", None),
    ],
)
def test_a_run_of_wrong_types_is_named(tmp_path: Path, part: str, key: str, value: Any) -> None:
    whole = json.loads((written(tmp_path) / RUN).read_text())
    for damaged in ({**whole[part], key: value}, {k: v for k, v in whole[part].items() if k != key}, None, {}):
        (tmp_path / RUN).write_text(json.dumps({**whole, part: damaged}))
        with pytest.raises(RecordError, match=rf"run\.json, {part}"):
            judge(tmp_path)


@pytest.mark.parametrize(("key", "value"), [("text", None), ("body", []), ("status", "200"), ("attempts", None)])
def test_an_exchange_of_wrong_types_is_named(tmp_path: Path, key: str, value: Any) -> None:
    line = json.loads((written(tmp_path, [ODD]) / EXCHANGES).read_text())
    (tmp_path / EXCHANGES).write_text("\n" + json.dumps({**line, key: value}))
    with pytest.raises(RecordError, match=rf"line 2: {key}="):
        read_record(tmp_path)
