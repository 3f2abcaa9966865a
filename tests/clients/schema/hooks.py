"""What schemathesis is told on top of its own checks: a stream's events fit the schema of a chunk.

Loaded by schemathesis (SCHEMATHESIS_HOOKS). Every answer's status and refused field are noted in the file named by
SCHEMA_TALLY, so that a run can tell how much of it got past the door.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import schemathesis

from tests.clients.schema.documents import chunk_schemas

TALLY = Path(os.environ["SCHEMA_TALLY"])
DOCUMENT: dict[str, Any] = json.loads(Path(os.environ["SCHEMA_DOCUMENT"]).read_text(encoding="utf-8"))
CHUNKS = chunk_schemas(os.environ["SCHEMA_SPEC"])


def events(text: str) -> Iterator[str]:
    """The data of each event of a stream."""
    for block in text.split("\n\n"):
        if block.startswith("data: "):
            yield block.removeprefix("data: ")


@schemathesis.check
def chunks_fit(ctx: Any, response: Any, case: Any) -> None:
    """A stream ends in [DONE] and each of its events is a chunk, or the provider's error after some of them."""
    note(response, case)
    kind = response.headers.get("content-type", [""])[0]
    if not kind.startswith("text/event-stream"):
        return
    found = list(events(response.text))
    chunk = validator(CHUNKS[case.path])
    assert found and found[-1] == "[DONE]", f"a stream without [DONE]: {response.text[-300:]!r}"
    for event in found[:-1]:
        wrong = [each.message for each in chunk.iter_errors(json.loads(event))]
        assert not wrong, f"an event that is no chunk: {wrong[0][:300]} in {event[:600]}"


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return jsonschema.Draft202012Validator(schema)


def note(response: Any, case: Any) -> None:
    """One line: method and path, status, whether it is a stream, the first words of a refusal."""
    why = response.text[:200] if response.status_code == 400 else ""
    line = [f"{case.method} {case.path}", response.status_code, response.text.startswith("data: "), why]
    with TALLY.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
