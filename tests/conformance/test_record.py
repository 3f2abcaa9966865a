"""Records: what is written is read back whole, and a damaged one is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from refsample.conformance.record import EXCHANGES, RUN, make_room, read_record, write_record
from refsample.conformance.report import Report
from refsample.conformance.transport import Exchange
from refsample.errors import RecordError

EMPTY = Report(
    "inconclusive", "inconclusive", "inconclusive", "inconclusive", (), (), (), 1.0, 0, 0, "http://h", "m", "openai",
    "reference", "smoke", 0, None, None, "0",
)  # fmt: skip
ODD = Exchange("POST", "/v1/completions", {"prompt": "a\u2028b\x85c\n"}, 200, "application/json", "x\u2029\x1c\r\ny")


def test_text_that_looks_like_line_ends_comes_back(tmp_path: Path) -> None:
    plain = Exchange("GET", "/v1/models", None, 200, "application/json", "{}")
    write_record(tmp_path / "record", EMPTY, [ODD, plain], {"only": []})
    run, exchanges = read_record(tmp_path / "record")
    assert exchanges == [ODD, plain]
    assert run["settings"] == {"only": []} and run["report"]["seed"] == 0


def test_a_used_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    write_record(tmp_path / "record", EMPTY, [], {})
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
    ],
)
def test_damage_is_named(tmp_path: Path, name: str, content: str, named: str) -> None:
    write_record(tmp_path, EMPTY, [], {})
    (tmp_path / name).write_text(content)
    with pytest.raises(RecordError, match=named):
        read_record(tmp_path)


def test_no_record_at_all(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no record of a verification"):
        read_record(tmp_path / "nothing")
