"""JSON objects in the files of a model folder. Knows nothing of what they say."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from refsample.errors import CorruptFileError, MissingFileError, shorten


def read_json_object(path: Path, *, optional: bool = False) -> dict[str, Any]:
    """A JSON file that holds an object; empty where an `optional` one is not there.

    MissingFileError; CorruptFileError for one that cannot be read or is something else.
    """
    try:
        refuse_endless(path)
        value = parse_json(path.read_bytes())
    except FileNotFoundError:
        if optional:
            return {}
        raise MissingFileError(f"{path} is missing: a model folder needs it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"{path} cannot be read: {shorten(str(error))}") from None
    except ValueError as error:
        raise CorruptFileError(f"{path} is not JSON: {shorten(str(error))}") from None
    except RecursionError:
        raise CorruptFileError(f"{path} is not JSON of a sane depth") from None
    if not isinstance(value, dict):
        raise CorruptFileError(f"{path} holds a {type(value).__name__}, not a JSON object")
    return value


def parse_json(data: bytes) -> Any:
    """UTF-8 JSON of whole characters, no key of an object twice. ValueError; RecursionError for one too deep."""
    value = json.loads(data.decode("utf-8"), object_pairs_hook=once)
    if rb"\ud" in data or rb"\uD" in data:  # surrogates as escapes: a lone one cannot be written out again
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """`object_pairs_hook` of json: an object that has no key twice. ValueError."""
    table = dict(pairs)
    if len(table) < len(pairs):
        often = Counter(key for key, _ in pairs)
        raise ValueError(f"{shorten(often.most_common(1)[0][0], 60)} is there twice")
    return table


def refuse_endless(path: Path) -> None:
    """CorruptFileError for a pipe or a device, which may never come to an end."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise CorruptFileError(f"{path} is no file")
