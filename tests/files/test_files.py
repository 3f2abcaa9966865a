"""The one reader of JSON objects: what it takes and what it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from refsample.errors import CorruptFileError, MissingFileError
from refsample.files import read_json_object


def test_an_object_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"é": [1]}', encoding="utf-8")
    assert read_json_object(tmp_path / "a.json") == {"é": [1]}
    assert read_json_object(tmp_path / "b.json", optional=True) == {}
    with pytest.raises(MissingFileError, match=r"b\.json is missing"):
        read_json_object(tmp_path / "b.json")


@pytest.mark.parametrize("optional", [False, True])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is not JSON"),
        (b"[1]", "holds a list"),
        (b"\xff\xfe", "cannot be read"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_object(tmp_path: Path, content: bytes | None, said: str, optional: bool) -> None:
    """None: a folder of that name. An optional file that is there has to be right too."""
    path = tmp_path / "a.json"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=said) as caught:
        read_json_object(path, optional=optional)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
