"""A stream joined to the answer that it is worth, so that both can be compared. Knows only OpenAI's shapes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Answer = dict[str, Any]


def joined(chunks: Iterable[Answer]) -> Answer:
    """The whole answer of a stream, completions or chat; usage only where the stream has it."""
    chunks = list(chunks)
    first = chunks[0]
    chat = first["object"] == "chat.completion.chunk"
    choices: dict[int, Answer] = {}
    for chunk in chunks:
        assert {name: chunk[name] for name in ("id", "created", "model", "system_fingerprint", "object")} == {
            name: first[name] for name in ("id", "created", "model", "system_fingerprint", "object")
        }
        for part in chunk["choices"]:
            one = choices.setdefault(part["index"], {"index": part["index"], "text": "", "rows": [], "finish": None})
            assert one["finish"] is None, "a chunk after the finish chunk"
            one["text"] += part["delta"].get("content", "") if chat else part["text"]
            one["rows"] += [] if part["logprobs"] is None else [part["logprobs"]]
            one["finish"] = part["finish_reason"]
    answer = {**first, "object": "chat.completion" if chat else "text_completion"}
    answer["choices"] = [_choice(choices[index], chat) for index in sorted(choices)]
    usages = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    answer.pop("usage", None)
    return {**answer, "usage": usages[-1]} if usages else answer


def _choice(one: Answer, chat: bool) -> Answer:
    logprobs = None
    if one["rows"]:
        first = one["rows"][0]
        lists = [name for name in first if isinstance(first[name], list)]
        logprobs = {**first, **{name: [entry for row in one["rows"] for entry in row[name]] for name in lists}}
    body = (
        {"message": {"role": "assistant", "content": one["text"], "refusal": None}} if chat else {"text": one["text"]}
    )
    return {"index": one["index"], **body, "logprobs": logprobs, "finish_reason": one["finish"]}


def comparable(answer: Answer) -> Answer:
    """An answer without what differs between two runs of one request."""
    return {name: value for name, value in answer.items() if name not in ("id", "created")}
