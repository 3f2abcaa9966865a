"""The names that provider files share: behaviours with their readings, and kinds of failure. Knows no provider."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

BEHAVIOURS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        # does the text keep the stop sequence that ended it
        "stop_text": ("removed", "kept"),
        # may best_of equal n
        "best_of_floor": ("n", "above_n"),
        # what a stream cannot have: best_of above n, or best_of at all
        "best_of_stream": ("above_n", "refused"),
        "unknown_fields": ("ignored", "refused"),
        # is a chunk with the usage sent always or only for stream_options.include_usage
        "usage_chunk": ("on_request", "always"),
        # n > 1 at temperature 0
        "greedy_n": ("allowed", "refused"),
        # prompt and max_tokens beyond the context: an error, or max_tokens is lowered to fit
        "overlong": ("refused", "lowered"),
        # mass that the tokens ranked above may have: below top_p, or up to it ("higher than p")
        "top_p_rule": ("ge", "gt"),
        # what ignore_eos ignores: the end token, or the stop sequences as well
        "ignore_eos": ("end_token", "stop_too"),
        # several names of the token limit with different values
        "token_limits": ("refused", "lowest"),
        # a request's own time limit: an error, or the text so far with finish_reason length
        "timeout": ("refused", "text_so_far"),
        # guided_json beside response_format json_object: the narrower one counts, or an error
        "guided_and_format": ("guided", "refused"),
        # fields that the page keeps for some vendors' models: any model takes them, or only those
        "vendor_rules": ("any", "printed"),
    }
)
"""Behaviours that pages read differently, and the readings."""

FAILURES: Final = (
    "invalid", "context_length", "unknown_model", "unauthorized", "unknown_path", "method", "too_large", "busy",
    "timeout", "internal",
)  # fmt: skip
"""Kinds of failure that every provider file has to give a status and a type."""
