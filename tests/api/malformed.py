"""Requests that have to be refused: endpoint, body, the parameter to blame, a part of the message."""

from __future__ import annotations

from typing import Any

SAY = {"prompt": "Once upon a time", "max_tokens": 2}
ASK = {"messages": [{"role": "user", "content": "Name an animal."}], "max_tokens": 2}
BIG = 2**63
USAGE = {"include_usage": 1}

Case = tuple[str, Any, str, str]


def say(**fields: Any) -> dict[str, Any]:
    return {**SAY, **fields}


def ask(**fields: Any) -> dict[str, Any]:
    return {**ASK, **fields}


def message(**fields: Any) -> dict[str, Any]:
    return {**ASK, "messages": [{"role": "user", "content": "Hi.", **fields}]}


MALFORMED: list[Case] = [
    ("completions", [1, 2], "body", "must be a JSON object"),
    ("completions", "hello", "body", "must be a JSON object"),
    ("completions", {}, "prompt", "is required"),
    ("completions", ASK, "prompt", "messages belongs to another endpoint"),
    ("completions", say(prompt=5), "prompt", "must be a string or an array of strings"),
    ("completions", say(prompt=[]), "prompt", "1 or more entries"),
    ("completions", say(prompt=""), "prompt", "is empty"),
    ("completions", say(prompt=["a", ""]), "prompt[1]", "is empty"),
    ("completions", say(prompt=[[1, 2], []]), "prompt[1]", "is empty"),
    ("completions", say(prompt=["a", 1]), "prompt", "must be a string or"),
    ("completions", say(prompt=[1, True]), "prompt", "must be a string or"),
    ("completions", say(prompt=[1, 1.0]), "prompt", "must be a string or"),
    ("completions", say(prompt=[1, 10**6]), "prompt[1]", "is no token id"),
    ("completions", say(prompt=[[1], [-1]]), "prompt[1][0]", "is no token id"),
    ("completions", say(prompt="a\ud800b"), "prompt", "lone surrogates"),
    ("completions", say(temperature="hot"), "temperature", "must be a finite number"),
    ("completions", say(temperature=True), "temperature", "must be a finite number"),
    ("completions", say(temperature=2.0001), "temperature", "0 <= x <= 2"),
    ("completions", say(temperature=-0.1), "temperature", "0 <= x <= 2"),
    ("completions", say(temperature=10**400), "temperature", "finite"),
    ("completions", say(top_p=1.5), "top_p", "0 <= x <= 1"),
    ("completions", say(top_p=[0.5]), "top_p", "finite number"),
    ("completions", say(max_tokens="5"), "max_tokens", "must be an integer"),
    ("completions", say(max_tokens=5.5), "max_tokens", "must be an integer"),
    ("completions", say(max_tokens=5.0), "max_tokens", "must be an integer"),
    ("completions", say(max_tokens=-1), "max_tokens", "0 <= x"),
    ("completions", say(max_tokens=100_000), "max_tokens", "exceed the context"),
    ("completions", say(max_tokens=10**30), "max_tokens", "exceed the context"),
    ("completions", say(prompt=[5] * 1025, max_tokens=1), "prompt", "1025 tokens and the answer exceed the context"),
    ("completions", say(n=0), "n", "1 <= x <= 128"),
    ("completions", say(n=129), "n", "1 <= x <= 128"),
    ("completions", say(n=True), "n", "must be an integer"),
    ("completions", say(best_of=2, n=3), "best_of", "at least n (3)"),
    ("completions", say(best_of=21), "best_of", "0 <= x <= 20"),
    ("completions", say(best_of=3, stream=True), "best_of", "in a stream"),
    ("completions", say(logprobs=6), "logprobs", "0 <= x <= 5"),
    ("completions", say(logprobs=-1), "logprobs", "0 <= x <= 5"),
    ("completions", say(logprobs=True), "logprobs", "must be an integer"),
    ("completions", say(stop=[]), "stop", "1 to 4 entries"),
    ("completions", say(stop=["a", "b", "c", "d", "e"]), "stop", "1 to 4 entries"),
    ("completions", say(stop=""), "stop", "1 or more characters"),
    ("completions", say(stop=["a", ""]), "stop[1]", "1 or more characters"),
    ("completions", say(stop=5), "stop", "must be a string or an array of strings"),
    ("completions", say(seed=1.5), "seed", "must be an integer"),
    ("completions", say(seed=BIG), "seed", "<= 9223372036854775807"),
    ("completions", say(seed=-BIG - 1), "seed", "-9223372036854775808 <="),
    ("completions", say(logit_bias=[1]), "logit_bias", "object with values that are integers"),
    ("completions", say(logit_bias={"a": 1}), "logit_bias.a", "key must be a token id"),
    ("completions", say(logit_bias={"-1": 1}), "logit_bias.-1", "key must be a token id"),
    ("completions", say(logit_bias={"05": 1}), "logit_bias.05", "key must be a token id"),
    ("completions", say(logit_bias={"1\u0665": 1}), "logit_bias.1\u0665", "key must be a token id"),
    ("completions", say(logit_bias={"999999": 1}), "logit_bias.999999", "is no token id"),
    ("completions", say(logit_bias={"5": 101}), "logit_bias.5", "-100 <= x <= 100"),
    ("completions", say(logit_bias={"5": 1.5}), "logit_bias", "integers"),
    ("completions", say(stream="yes"), "stream", "must be true or false"),
    ("completions", say(stream_options={"include_usage": True}), "stream_options", "only be sent with stream"),
    ("completions", say(stream=True, stream_options=USAGE), "stream_options.include_usage", "true or false"),
    ("completions", say(stream=True, stream_options=[]), "stream_options", "must be an object"),
    ("completions", say(echo="yes"), "echo", "must be true or false"),
    ("completions", say(suffix=5), "suffix", "must be a string"),
    ("completions", say(suffix="x", echo=True), "suffix", "cannot be combined with echo"),
    ("completions", say(suffix="x", prompt=[1, 2]), "suffix", "needs a prompt that is text"),
    ("completions", say(user=None), "user", "must be a string, not null"),
    ("completions", say(top_k=-2), "top_k", "-1 <= x"),
    ("completions", say(top_k=1.5), "top_k", "must be an integer"),
    ("completions", say(min_p=1.1), "min_p", "0 <= x <= 1"),
    ("completions", say(repetition_penalty=0), "repetition_penalty", "0 < x"),
    ("completions", say(min_tokens=3), "min_tokens", "must not exceed max_tokens (2)"),
    ("completions", say(stop_token_ids=[10**6]), "stop_token_ids[0]", "is no token id"),
    ("completions", say(model=5), "model", "must be a string"),
    ("completions", say(model=""), "model", "1 or more characters"),
    ("chat", SAY, "messages", "prompt belongs to another endpoint"),
    ("chat", ask(messages="Hi."), "messages", '[{"role": "user", "content": "..."}]'),
    ("chat", ask(messages=[]), "messages", "1 or more entries"),
    ("chat", ask(messages=["Hi."]), "messages", "an array of objects"),
    ("chat", ask(messages=None), "messages", "not null"),
    ("chat", ask(messages=[{"content": "Hi."}]), "messages[0].role", "is required"),
    ("chat", message(role="wizard"), "messages[0].role", "must be one of developer, system"),
    ("chat", message(role=5), "messages[0].role", "must be a string"),
    ("chat", message(role="tool"), "messages[0].tool_call_id", "is required"),
    ("chat", ask(messages=[{"role": "user"}]), "messages[0].content", "must be a string or an array of parts"),
    ("chat", message(content=None), "messages[0].content", "must be a string or an array of parts"),
    ("chat", message(content=5), "messages[0].content", "must be a string or an array of objects"),
    ("chat", message(content=[{"type": "image_url", "image_url": {}}]), "messages[0].content[0].type", "one of text"),
    ("chat", message(content=[{"type": "text"}]), "messages[0].content[0].text", "is required"),
    ("chat", message(tool_calls=[{"id": "1"}]), "messages[0].tool_calls[0].function", "is required"),
    ("chat", ask(top_logprobs=3), "top_logprobs", "needs logprobs: true"),
    ("chat", ask(logprobs=False, top_logprobs=3), "top_logprobs", "needs logprobs: true"),
    ("chat", ask(logprobs=True, top_logprobs=21), "top_logprobs", "0 <= x <= 20"),
    ("chat", ask(logprobs=3), "logprobs", "must be true or false"),
    ("chat", ask(max_tokens=0), "max_tokens", "1 <= x"),
    ("chat", ask(max_completion_tokens=3), "max_completion_tokens", "means the same as max_tokens"),
    ("chat", ask(max_tokens=2000), "max_tokens", "exceed the context"),
    ("chat", ask(tools=[{"type": "function"}]), "tools[0].function", "is required"),
    ("chat", ask(tool_choice="required"), "tool_choice", "needs tools"),
    ("chat", ask(response_format={"type": "xml"}), "response_format.type", "must be one of text, json_object"),
    ("chat", ask(modalities=["text", "audio"]), "modalities", "not supported here"),
    ("chat", ask(audio={"voice": "x"}), "audio", "not supported here"),
    ("chat", ask(prediction={"type": "content"}), "prediction.content", "is required"),
    ("chat", ask(reasoning_effort="much"), "reasoning_effort", "must be one of none, minimal"),
    ("chat", ask(verbosity="high"), "verbosity", "not supported here"),
]  # fmt: skip
"""`model` is put into every body that is an object before it goes over HTTP."""
