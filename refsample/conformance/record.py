"""Records of verifications: written once, read back whole. It knows nothing of how a run is judged.

A record is a folder with `run.json` (what was asked of whom, and the report) and `exchanges.jsonl` (every request and
answer, one a line).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from refsample.conformance.report import Report
from refsample.conformance.transport import Exchange
from refsample.errors import RecordError

RUN, EXCHANGES = "run.json", "exchanges.jsonl"


def make_room(folder: Path) -> None:
    """Make the folder of a record, before anything is spent. Raises RecordError where there is one or none can be."""
    if (folder / RUN).exists():
        raise RecordError(f"{folder} holds a record already: name a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(f"{folder} cannot be made: {error.strerror}") from error


def write_record(folder: Path, report: Report, exchanges: Sequence[Exchange], settings: Mapping[str, Any]) -> None:
    """Write a run to `folder`, which is made; an earlier record there is an error, never overwritten."""
    make_room(folder)
    lines = [json.dumps(asdict(exchange), ensure_ascii=False) for exchange in exchanges]
    (folder / EXCHANGES).write_text("\n".join(lines) + "\n", encoding="utf-8")
    run = {"settings": dict(settings), "report": report.to_dict()}
    (folder / RUN).write_text(json.dumps(run, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_record(folder: Path) -> tuple[dict[str, Any], list[Exchange]]:
    """(run, exchanges) of a record. Raises RecordError that names the file and line at fault."""
    try:
        run = json.loads((folder / RUN).read_text(encoding="utf-8"))
        # Not splitlines: it also splits at U+2028 and its like, which JSON leaves inside strings.
        text = (folder / EXCHANGES).read_bytes().decode("utf-8")
        lines = [line for line in text.split("\n") if line]
    except OSError as error:
        raise RecordError(
            f"{folder} is no record of a verification: {error.strerror} ({Path(error.filename).name})"
        ) from error
    except ValueError as error:
        raise RecordError(f"{folder / RUN} is not JSON: {error}") from error
    exchanges = []
    for number, line in enumerate(lines, 1):
        try:
            exchanges.append(Exchange(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise RecordError(f"{folder / EXCHANGES}, line {number}, is no exchange: {error}") from error
    if not isinstance(run, dict) or not {"settings", "report"} <= run.keys():
        raise RecordError(f"{folder / RUN} has no settings and report")
    return run, exchanges
