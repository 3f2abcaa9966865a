"""JSON objects in the files of a model folder. Knows nothing of what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from refsample.errors import CorruptFileError, MissingFileError, shorten


def read_json_object(path: Path, *, optional: bool = False) -> dict[str, Any]:
    """A JSON file that holds an object; empty where an `optional` one is not there.

    MissingFileError; CorruptFileError for one that cannot be read or is something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if optional:
            return {}
        raise MissingFileError(f"{path} is missing: a model folder needs it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"{path} cannot be read: {shorten(error)}") from None
    except ValueError as error:
        raise CorruptFileError(f"{path} is not JSON: {error}") from None
    except RecursionError:
        raise CorruptFileError(f"{path} is not JSON of a sane depth") from None
    if not isinstance(value, dict):
        raise CorruptFileError(f"{path} holds a {type(value).__name__}, not a JSON object")
    return value
