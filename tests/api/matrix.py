"""The parameter matrix as data, written out by hand from the five pages; nothing here is taken from the records.

Rows are fields, columns providers; `printed` is what strict mode holds a request to, `effective` what everybody else
meets.
"""

from __future__ import annotations

from typing import Any

PAGES = ("visioncraft", "nebius", "novita", "empower", "scale")
INT64 = "-9223372036854775808 <= x <= 9223372036854775807"
CLOSED_2, OPEN_2 = "-2 <= x <= 2", "-2 < x < 2"

# field: provider: (printed, effective, default). "x": the page has the field and prints no range for it.
RANGES: dict[str, dict[str, tuple[str, str, Any]]] = {
    "max_tokens": {
        "visioncraft": ("128 <= x <= 100000", "128 <= x <= 100000", 512),
        "nebius": ("x", "1 <= x", None),
        "novita": ("x", "0 <= x", None),
        "empower": ("x", "1 <= x", 256),
        "scale": ("x", "0 <= x", 16),
    },
    "max_completion_tokens": {"scale": ("x", "0 <= x", None)},
    "max_new_tokens": {"scale": ("x", "0 <= x", None)},
    "temperature": {
        "visioncraft": ("0 <= x <= 100", "0 <= x <= 100", 0.7),
        "nebius": ("0 <= x <= 2", "0 <= x <= 2", 1),
        "novita": ("0 < x < 2", "0 <= x <= 2", 1),
        "empower": ("0 < x < 2", "0 <= x <= 2", 1),
        "scale": ("x", "0 <= x <= 2", 1),
    },
    "top_p": {
        "visioncraft": ("0 <= x <= 1", "0 <= x <= 1", 0.9),
        "nebius": ("x", "0 <= x <= 1", 1),
        "novita": ("0 < x <= 1", "0 < x <= 1", 1),
        "empower": ("x", "0 <= x <= 1", 1),
        "scale": ("x", "0 <= x <= 1", 1),
    },
    "top_k": {
        "visioncraft": ("0 <= x <= 99999", "0 <= x <= 99999", 0),
        "nebius": ("x", "-1 <= x", None),
        "novita": ("1 < x < 128", "-1 <= x <= 128", None),
        "scale": ("x", "-1 <= x", None),
    },
    "min_p": {"novita": ("0 <= x <= 1", "0 <= x <= 1", None)},
    "repetition_penalty": {
        "visioncraft": ("0.01 <= x <= 5", "0.01 <= x <= 5", 1),
        "novita": ("0 < x < 2", "0 < x <= 2", None),
    },
    "presence_penalty": {
        "visioncraft": (CLOSED_2, CLOSED_2, 0),
        "nebius": ("x", CLOSED_2, 0),
        "novita": (OPEN_2, CLOSED_2, 0),
        "empower": (OPEN_2, CLOSED_2, 0),
        "scale": (CLOSED_2, CLOSED_2, 0),
    },
    "frequency_penalty": {
        "visioncraft": (CLOSED_2, CLOSED_2, 0),
        "nebius": ("x", CLOSED_2, 0),
        "novita": (OPEN_2, CLOSED_2, 0),
        "empower": (OPEN_2, CLOSED_2, 0),
        "scale": (CLOSED_2, CLOSED_2, 0),
    },
    "n": {
        "nebius": ("x", "1 <= x <= 128", 1),
        "novita": ("1 < x < 128", "1 <= x <= 128", 1),
        "empower": ("x", "1 <= x <= 128", 1),
        "scale": ("x", "1 <= x <= 128", 1),
    },
    "best_of": {"novita": ("x", "0 <= x", 1), "scale": ("x", "0 <= x", 1)},
    "seed": {"novita": ("x", INT64, None), "scale": ("x", INT64, None)},
    "logit_bias": {
        "nebius": ("x", "-100 <= x <= 100", None),
        "novita": ("-100 <= x <= 100", "-100 <= x <= 100", None),
        "scale": ("-100 <= x <= 100", "-100 <= x <= 100", None),
    },
    "logprobs": {"novita": ("x <= 5", "0 <= x <= 5", None)},
    "top_logprobs": {
        "nebius": ("x", "0 <= x <= 20", None),
        "scale": ("0 <= x <= 20", "0 <= x <= 20", None),
    },
}

ALL, CHAT, TEXT = frozenset(PAGES), frozenset({"visioncraft", "nebius", "empower"}), frozenset({"novita", "scale"})
# field: (on the page of, taken beside the page by, refused by); every other provider does not know it
WHO: dict[str, tuple[set[str] | frozenset[str], set[str], set[str]]] = {
    "token": ({"visioncraft"}, set(), set()),
    "model": (ALL, set(), set()),
    "messages": (CHAT, set(), set()),
    "prompt": (TEXT, set(), set()),
    "max_tokens": (ALL, set(), set()),
    "max_completion_tokens": ({"scale"}, {"nebius"}, set()),
    "max_new_tokens": ({"scale"}, set(), set()),
    "temperature": (ALL, set(), set()),
    "top_p": (ALL, set(), set()),
    "top_k": ({"visioncraft", "nebius", "novita", "scale"}, {"empower"}, set()),
    "min_p": ({"novita"}, {"nebius", "empower"}, set()),
    "repetition_penalty": ({"visioncraft", "novita"}, {"nebius", "empower"}, set()),
    "presence_penalty": (ALL, set(), set()),
    "frequency_penalty": (ALL, set(), set()),
    "n": ({"nebius", "novita", "empower", "scale"}, set(), set()),
    "best_of": ({"novita", "scale"}, set(), set()),
    "stream": (ALL, set(), set()),
    "stream_options": ({"nebius", "novita", "scale"}, {"visioncraft", "empower"}, set()),
    "stream_options.include_usage": ({"nebius", "novita", "scale"}, {"visioncraft", "empower"}, set()),
    "stop": ({"nebius", "novita", "scale"}, {"empower"}, set()),
    "stop_sequences": ({"scale"}, set(), set()),
    "include_stop_str_in_output": ({"scale"}, {"nebius", "novita", "empower"}, set()),
    "ignore_eos": ({"empower"}, {"nebius", "novita"}, set()),
    "seed": ({"novita", "scale"}, {"nebius", "empower"}, set()),
    "logit_bias": ({"nebius", "novita", "scale"}, {"empower"}, {"empower"}),
    "logprobs": ({"nebius", "novita", "scale"}, {"empower"}, set()),
    "top_logprobs": ({"nebius", "scale"}, set(), set()),
    "return_token_log_probs": ({"scale"}, set(), set()),
    "suffix": ({"scale"}, set(), set()),
    "echo": (set(), set(), set()),
    "user": ({"nebius", "scale"}, {"empower"}, set()),
    "response_format": ({"nebius", "scale"}, {"empower"}, set()),
    "guided_json": ({"nebius", "scale"}, {"empower"}, set()),
    "guided_regex": ({"scale"}, {"nebius", "empower"}, set()),
    "guided_choice": ({"scale"}, {"nebius", "empower"}, set()),
    "guided_grammar": ({"scale"}, {"nebius", "empower"}, set()),
    "extra_body": ({"nebius"}, set(), set()),
    "tools": ({"scale"}, {"nebius", "empower"}, set()),
    "tool_choice": ({"scale"}, {"nebius", "empower"}, set()),
    "parallel_tool_calls": ({"scale"}, {"nebius", "empower"}, set()),
    "function_call": (set(), {"nebius", "empower"}, {"empower"}),
    "audio": ({"scale"}, set(), {"scale"}),
    "modalities": ({"scale"}, set(), {"scale"}),
    "prediction": ({"scale"}, set(), set()),
    "inference_timeout": ({"scale"}, set(), set()),
    "inference_extra_headers": ({"scale"}, set(), set()),
    "inference_extra_params": ({"scale"}, set(), set()),
    "store": (set(), {"nebius"}, set()),
    "service_tier": (set(), {"nebius"}, set()),
    "reasoning_effort": (set(), {"nebius"}, set()),
    "metadata": (set(), set(), set()),
    "verbosity": (set(), set(), set()),
    "web_search_options": (set(), set(), set()),
}

# field: a value that every page with the field takes, and one of a wrong type for all of them
TYPED: dict[str, tuple[Any, Any]] = {
    "model": ("tiny", 5), "max_tokens": (200, "many"), "max_completion_tokens": (200, "many"),
    "max_new_tokens": (200, 1.5), "temperature": (0.5, "hot"), "top_p": (0.5, "half"), "top_k": (20, "few"),
    "min_p": (0.5, "some"), "repetition_penalty": (1.2, True), "presence_penalty": (1, "1"),
    "frequency_penalty": (-1, []), "n": (2, 2.5), "best_of": (3, "3"), "stream": (True, "yes"), "stop": ("a", 5),
    "stop_sequences": (["a"], "a"), "include_stop_str_in_output": (True, 1), "ignore_eos": (True, 0),
    "seed": (3, 0.5), "logit_bias": ({"5": 3}, [5]), "return_token_log_probs": (True, 1), "suffix": ("x", 1),
    "user": ("me", 5), "response_format": ({"type": "json_object"}, "json"), "guided_json": ({"type": "object"}, 5),
    "guided_regex": ("a+", 5), "guided_choice": (["a", "b"], "a"), "guided_grammar": ("start: \"a\"", {}),
    "extra_body": ({"top_k": 5}, "top_k"), "parallel_tool_calls": (False, "no"), "top_logprobs": (3, "3"),
    "prediction": ({"type": "content", "content": "x"}, "x"), "inference_timeout": (2.5, True),
    "inference_extra_headers": ({"x-a": "b"}, "x-a: b"), "inference_extra_params": ({"top_k": 5}, 5),
    "reasoning_effort": ("low", 5), "token": ("key", 5), "store": (True, "yes"), "service_tier": ("auto", 1),
}  # fmt: skip

# header: who prints it as required, and the value that the page wants there; None: a key of the page's scheme
HEADERS: dict[str, tuple[set[str], str | None]] = {
    "content-type": ({"novita", "empower"}, "application/json"),
    "authorization": ({"novita", "empower"}, None),
    "accept": (set(), None),
}

NULLS = {"nebius": True, "novita": True, "visioncraft": False, "empower": False, "scale": False}
"""Whether a page prints that its optional fields may be null."""
NO_NULL_AT_NOVITA = {"max_tokens", "best_of"}

# behaviour: provider: (printed, effective); the others are read as OpenAI reads them
READINGS: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "stop_text": ("removed", {"novita": ("kept", "removed")}),
    "best_of_floor": ("n", {"novita": ("above_n", "n")}),
    "best_of_stream": ("above_n", {"novita": ("refused", "above_n"), "scale": ("refused", "above_n")}),
    "usage_chunk": ("on_request", {"novita": ("always", "on_request")}),
    "greedy_n": ("allowed", {}),
    "overlong": ("refused", {}),
    "top_p_rule": ("ge", {"visioncraft": ("gt", "ge")}),
    "ignore_eos": ("end_token", {"empower": ("stop_too", "end_token")}),
    "token_limits": ("refused", {"scale": ("refused", "lowest")}),
    "timeout": ("refused", {}),
    "guided_and_format": ("guided", {}),
    "vendor_rules": ("any", {"scale": ("printed", "any")}),
}

LOGPROBS_LEGACY = {"text_offset", "token_logprobs", "tokens", "top_logprobs"}
USAGE = {"prompt_tokens", "completion_tokens", "total_tokens"}
# provider: what the answer of its page holds: keys of the top, of a choice, of a message, of usage
ANSWERS: dict[str, tuple[set[str], set[str], set[str], set[str]]] = {
    "visioncraft": (
        {"id", "object", "created", "model", "choices", "usage"},
        {"index", "message", "finish_reason", "logprobs"},
        {"role", "content"},
        USAGE,
    ),
    "nebius": (
        {"id", "choices", "created", "model", "object", "system_fingerprint", "usage"},
        {"finish_reason", "index", "logprobs", "message", "stop_reason"},
        {"content", "role", "function_call", "tool_calls"},
        USAGE,
    ),
    "novita": (
        {"choices", "created", "id", "model", "object", "usage"},
        {"finish_reason", "index", "logprobs", "text"},
        set(),
        USAGE,
    ),
    "empower": (
        {"choices", "id", "model", "usage", "created"},
        {"finish_reason", "index", "logprobs", "message"},
        {"content", "role"},
        USAGE,
    ),
    "scale": (
        {"choices", "usage", "id", "model", "object", "system_fingerprint", "created"},
        {"finish_reason", "index", "logprobs", "text"},
        set(),
        {*USAGE, "completion_tokens_details", "prompt_tokens_details"},
    ),
}
# provider: keys that come on top where the page is not followed to the letter
BESIDE: dict[str, tuple[set[str], set[str], set[str], set[str]]] = {
    "nebius": (
        {"service_tier", "prompt_logprobs", "prompt_token_ids", "kv_transfer_params"},
        {"token_ids"},
        {"refusal", "annotations", "audio", "reasoning", "reasoning_content"},
        {"completion_tokens_details", "prompt_tokens_details"},
    ),
    "empower": ({"object"}, set(), set(), set()),
}
