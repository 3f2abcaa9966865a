"""OpenAI's answers as JSON Schemas, written by hand from its page; nothing but `refsample` may come on top."""

from __future__ import annotations

from typing import Any

import jsonschema

Schema = dict[str, Any]


def closed(properties: Schema, optional: tuple[str, ...] = ()) -> Schema:
    """An object with these properties and no other."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def listed(items: Schema) -> Schema:
    return {"type": "array", "items": items}


INTEGER: Schema = {"type": "integer", "minimum": 0}
STRING: Schema = {"type": "string"}
LOGPROB: Schema = {"type": "number", "maximum": 0, "minimum": -9999}
BYTE: Schema = {"type": "integer", "minimum": 0, "maximum": 255}
FINISH: Schema = {"enum": ["stop", "length"]}
USAGE = closed({"prompt_tokens": INTEGER, "completion_tokens": INTEGER, "total_tokens": INTEGER})
REPLAY = closed({"seed": {"type": "integer"}, "ignored": listed(STRING)})
LEGACY = closed(
    {
        "tokens": listed(STRING),
        "token_logprobs": listed(nullable(LOGPROB)),
        "top_logprobs": listed(nullable({"type": "object", "additionalProperties": LOGPROB, "maxProperties": 6})),
        "text_offset": listed(INTEGER),
    }
)
ENTRY = {"token": STRING, "logprob": LOGPROB, "bytes": listed(BYTE)}
CONTENT = closed({**ENTRY, "top_logprobs": {"type": "array", "items": closed(ENTRY), "maxItems": 20}})
CHAT_LOGPROBS = closed({"content": listed(CONTENT), "refusal": {"type": "null"}})


def head(prefix: str, kind: str) -> Schema:
    return {
        "id": {"type": "string", "pattern": f"^{prefix}-[0-9a-f]{{24}}$"},
        "object": {"const": kind},
        "created": {"type": "integer", "minimum": 1_500_000_000},
        "model": STRING,
        "system_fingerprint": {"type": "string", "pattern": "^fp_[0-9a-f]{12}$"},
    }


def legacy_choice(finish: Schema) -> Schema:
    return closed({"index": INTEGER, "text": STRING, "logprobs": nullable(LEGACY), "finish_reason": finish})


COMPLETION = closed(
    {**head("cmpl", "text_completion"), "choices": listed(legacy_choice(FINISH)), "usage": USAGE, "refsample": REPLAY}
)
COMPLETION_CHUNK = closed(
    {
        **head("cmpl", "text_completion"),
        "choices": {**listed(legacy_choice(nullable(FINISH))), "maxItems": 1},
        "usage": nullable(USAGE),
        "refsample": REPLAY,
    },
    optional=("usage", "refsample"),
)
MESSAGE = closed({"role": {"const": "assistant"}, "content": STRING, "refusal": {"type": "null"}})
CHAT = closed(
    {
        **head("chatcmpl", "chat.completion"),
        "choices": listed(
            closed({"index": INTEGER, "message": MESSAGE, "logprobs": nullable(CHAT_LOGPROBS), "finish_reason": FINISH})
        ),
        "usage": USAGE,
        "refsample": REPLAY,
    }
)
DELTA = closed(
    {"role": {"const": "assistant"}, "content": STRING, "refusal": {"type": "null"}},
    optional=("role", "content", "refusal"),
)
CHAT_CHUNK = closed(
    {
        **head("chatcmpl", "chat.completion.chunk"),
        "choices": {
            "maxItems": 1,
            **listed(
                closed(
                    {
                        "index": INTEGER,
                        "delta": DELTA,
                        "logprobs": nullable(CHAT_LOGPROBS),
                        "finish_reason": nullable(FINISH),
                    }
                )
            ),
        },
        "usage": nullable(USAGE),
        "refsample": REPLAY,
    },
    optional=("usage", "refsample"),
)
ERROR = closed(
    {
        "error": closed(
            {
                "message": {"type": "string", "minLength": 5},
                "type": STRING,
                "param": nullable(STRING),
                "code": nullable(STRING),
            }
        )
    }
)
MODEL = closed({"id": STRING, "object": {"const": "model"}, "created": INTEGER, "owned_by": STRING})
MODELS = closed({"object": {"const": "list"}, "data": listed(MODEL)})


_COMPILED: dict[int, jsonschema.Draft202012Validator] = {}


def check(value: Any, schema: Schema) -> None:
    """jsonschema.ValidationError where `value` is not as the page says. `schema` is one of this module's."""
    validator = _COMPILED.setdefault(id(schema), jsonschema.Draft202012Validator(schema))
    validator.validate(value)
