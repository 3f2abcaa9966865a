"""What schemathesis is given: a provider's OpenAPI document, as it is but for the model's name, or narrowed.

A schema cannot say the rules between fields (no stream_options without stream), so most bodies drawn from it end at the
door. `narrowed` draws from values that go together, so that answers are drawn and held to their schema as well.
"""

from __future__ import annotations

import copy
import json
import re
from typing import Any

from refsample.spec.openapi import openapi
from refsample.spec.provider import provider
from tests.clients.asked import ANIMAL

Schema = dict[str, Any]

LIMITS = ("max_tokens", "max_completion_tokens", "max_new_tokens")
APART = (
    "stream_options", "suffix", "best_of", "top_logprobs", "tools", "tool_choice", "parallel_tool_calls", "functions",
    "function_call", "audio", "modalities", "extra_body", "metadata", "continue_final_message", "guided_regex",
    "guided_choice", "guided_grammar", "inference_extra_params", "inference_timeout", "prompt_logprobs",
    "stop_sequences", *LIMITS[1:],
)  # fmt: skip
"""Fields that only go with others, or that two of make a conflict."""
GOOD: dict[str, list[Any]] = {
    "n": [1, 2, 5],
    "prompt": ["Once", "the cat", "é"],
    "stop": ["e", ["a ", "th"]],
    "min_tokens": [0, 2],
    "stop_token_ids": [[5, 6]],
    "logit_bias": [{"5": 3}, {}],
    "user": ["me"],
    "token": ["body"],
    "guided_json": [ANIMAL],
    "response_format": [{"type": "json_object"}, {"type": "text"}],
    "prediction": [{"type": "content", "content": "ab"}],
    "chat_template_kwargs": [{}],
    "messages": [
        [{"role": "user", "content": "Hi"}],
        [{"role": "system", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "the"}]}],
        [{"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}, {"role": "user", "content": ""}],
    ],
}


def document(spec: str, model: str) -> Schema:
    """The provider's document; bodies name the model that is served, since any other name is a 404."""
    made: Schema = copy.deepcopy(openapi(provider(spec)))
    for found in _requests(made):
        if "model" in found.get("properties", {}):
            nullable = "null" in json.dumps(found["properties"]["model"])
            found["properties"]["model"] = {"enum": [model, None] if nullable else [model]}
    for operations in made["paths"].values():
        content = operations.get("post", {}).get("responses", {}).get("200", {}).get("content", {})
        # the schema of the whole text, as OpenAPI 3.1 has it; schemathesis takes it for one event's: see hooks.py
        content.get("text/event-stream", {}).pop("schema", None)
    return made


def chunk_schemas(spec: str) -> dict[str, str]:
    """Path -> name of the schema of one event's data, where there are streams."""
    paths = openapi(provider(spec))["paths"]
    kinds = {path: each["post"]["responses"]["200"]["content"] for path, each in paths.items() if "post" in each}
    names = {path: kind["text/event-stream"]["schema"]["description"] for path, kind in kinds.items() if len(kind) > 1}
    return {path: name.removeprefix("data: ").split(",")[0] for path, name in names.items()}


def narrowed(made: Schema) -> Schema:
    """The document with generating paths only, and values that go together."""
    made = copy.deepcopy(made)
    made["paths"] = {path: each for path, each in made["paths"].items() if path.endswith("completions")}
    for found in _requests(made):
        fields = found.get("properties", {})
        for name in set(APART) & set(fields):
            del fields[name]
        for name in set(GOOD) & set(fields):
            fields[name] = {"enum": GOOD[name]}
        if "stream" in fields:
            fields["stream"] = {"type": "boolean"}
            found["required"] = [*found.get("required", []), "stream"]
        if "max_tokens" in fields:
            least = re.search(r'"minimum": (\d+)', json.dumps(fields["max_tokens"]))
            first = max(1, int(least.group(1))) if least else 1
            fields["max_tokens"] = {"enum": [first, first + 8]}
            found["required"] = [*found.get("required", []), "max_tokens"]
    return made


def generating(made: Schema) -> int:
    """How many paths of a document write text."""
    return sum(path.endswith("completions") for path in made["paths"])


def _requests(made: Schema) -> list[Schema]:
    """The schemas of bodies that are sent, variants of one included."""
    found = [schema for name, schema in made["components"]["schemas"].items() if name.endswith("Request")]
    return [*found, *(each for schema in found for key in ("anyOf", "oneOf") for each in schema.get(key, []))]
