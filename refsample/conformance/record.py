"""Records of verifications: written as they happen, read back whole. It knows nothing of how a run is judged.

A record is a folder with `run.json` (what was asked of whom, and the report) and `exchanges.jsonl` (every request and
answer, one a line, appended as it comes: a run that ends early leaves all that was paid for). Both are ASCII: answers
may hold halves of surrogate pairs, which UTF-8 cannot.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from refsample.conformance.report import Report
from refsample.conformance.transport import Exchange
from refsample.errors import RecordError, shorten
from refsample.spec.load import is_path

RUN, EXCHANGES = "run.json", "exchanges.jsonl"
_EXCHANGE: Mapping[str, tuple[type, ...]] = {
    "method": (str,),
    "path": (str,),
    "body": (dict, type(None)),
    "status": (int,),
    "content_type": (str,),
    "text": (str,),
    "attempts": (int,),
    "at": (int, type(None)),
}
_SETTINGS: Mapping[str, tuple[type, ...]] = {
    "model": (str, type(None)),
    "max_tokens": (int, type(None)),
    "only": (list,),
    "extensions": (bool, type(None)),
    "key_env": (str, type(None)),
}
_REPORT: Mapping[str, tuple[type, ...]] = {
    "reference": (str, type(None)),
    "reference_fingerprint": (str, type(None)),
    "spec": (str,),
    "engine": (str,),
    "profile": (str,),
    "seed": (int,),
    "url": (str,),
}


def make_room(folder: Path) -> None:
    """Make the folder of a record, before anything is spent. Raises RecordError where there is one or none can be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A run whose first question failed leaves an empty file, which is no record.
        used = (folder / RUN).exists() or ((folder / EXCHANGES).exists() and (folder / EXCHANGES).stat().st_size > 0)
        if not used:
            (folder / EXCHANGES).touch()
    except OSError as error:
        raise RecordError(f"{folder} cannot be made: {error.strerror}") from error
    if used:
        raise RecordError(f"{folder} holds a record already: name a new folder")


def keep_specs(folder: Path, named: Mapping[str, str | None]) -> None:
    """Copies of the files that a run names by a path: the record has to be judged where they are not."""
    for kind, name in named.items():
        if name is not None and is_path(name):
            shutil.copyfile(name, folder / f"{kind}.toml")


def kept_spec(folder: Path, kind: str, name: str) -> str:
    """What judges a record: the file that was kept with it, else the name."""
    kept = folder / f"{kind}.toml"
    return str(kept) if kept.exists() else name


def write_exchange(folder: Path, exchange: Exchange) -> None:
    """Append one exchange to the record in `folder`, which `make_room` made. Raises RecordError."""
    _write(folder / EXCHANGES, "a", json.dumps(asdict(exchange)))


def write_run(folder: Path, report: Report, settings: Mapping[str, Any]) -> None:
    """End the record in `folder` with what was asked of whom, and the report. Raises RecordError."""
    run = {"settings": dict(settings), "report": report.to_dict()}
    _write(folder / RUN, "w", json.dumps(run, indent=1))


def _write(path: Path, mode: str, text: str) -> None:
    try:
        with path.open(mode, encoding="ascii", newline="\n") as file:
            file.write(text + "\n")
    except OSError as error:
        raise RecordError(f"{path} cannot be written: {error.strerror}") from error


def read_record(folder: Path) -> tuple[dict[str, Any], list[Exchange]]:
    """(run, exchanges) of a record. Raises RecordError that names the file and line at fault."""
    run = _parsed(_read(folder, RUN), str(folder / RUN))
    if not isinstance(run, dict) or not {"settings", "report"} <= run.keys():
        raise RecordError(f"{folder / RUN} has no settings and report")
    if isinstance(run["settings"], dict):
        run["settings"].setdefault("key_env", None)  # records of earlier versions do not tell
    for key, types in (("settings", _SETTINGS), ("report", _REPORT)):
        _check(run[key], types, f"{folder / RUN}, {key}")
    if not all(isinstance(pattern, str) for pattern in run["settings"]["only"]):
        raise RecordError(f"{folder / RUN}, settings: only={shorten(run['settings']['only'])} is no list of strings")
    exchanges = []
    # Not splitlines: it also splits at U+2028 and its like, which JSON leaves inside strings.
    for number, line in enumerate(_read(folder, EXCHANGES).split("\n"), 1):
        if line:
            where = f"{folder / EXCHANGES}, line {number}"
            entry = _parsed(line, where)
            if isinstance(entry, dict):
                entry.setdefault("at", None)  # records of earlier versions do not tell
            _check(entry, _EXCHANGE, where)
            exchanges.append(Exchange(**{each.name: entry[each.name] for each in fields(Exchange)}))
    return run, exchanges


def _read(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_bytes().decode("utf-8")
    except OSError as error:
        raise RecordError(f"{folder} is no record of a verification: {error.strerror} ({name})") from error
    except UnicodeDecodeError as error:
        raise RecordError(f"{folder / name} is not UTF-8: {error.reason} at byte {error.start}") from error


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{where}: is not JSON: {error}") from error


def _check(value: object, types: Mapping[str, tuple[type, ...]], where: str) -> None:
    """Every key is there with one of its types; true and false are no integers here."""
    if not isinstance(value, dict):
        raise RecordError(f"{where}: is no object")
    for key, allowed in types.items():
        if key not in value:
            raise RecordError(f"{where}: has no {key}")
        if not isinstance(value[key], allowed) or (isinstance(value[key], bool) and bool not in allowed):
            raise RecordError(
                f"{where}: {key}={shorten(value[key])} must be {' or '.join(t.__name__ for t in allowed)}"
            )
