"""Answers that think aloud are scored as the model wrote them: thought and content joined, whole and streamed."""

from __future__ import annotations

from pathlib import Path

import pytest

from refsample.api.answer import default_behaviour
from refsample.conformance.local import LocalEndpoint
from refsample.conformance.oracle import Oracle
from refsample.conformance.transcript import read_answer, read_stream
from refsample.spec.provider import provider
from tests.api.test_tools import stubborn

ASK = {"model": "scripted", "messages": [{"role": "user", "content": "Go."}], "temperature": 0.0}


@pytest.mark.parametrize(
    ("begun", "said"),
    [
        ("", "<think>A?\n</think>\nB é"),
        ("<think>", "A?\n</think>\nB é"),
        ("", "No <think> at all"),
        ("", "<think></think>"),
    ],
)
def test_a_text_is_what_was_written(tmp_path: Path, begun: str, said: str) -> None:
    model = stubborn(tmp_path, said, begun, "</think>")
    oracle = Oracle(model, default_behaviour(provider("openai")))
    ids = model.prompt_ids(ASK["messages"])  # type: ignore[arg-type]
    endpoint = LocalEndpoint(model)
    for size in range(1, len(said.encode()) + 2):
        written = model.generate(list(ids), temperature=0.0, max_tokens=size).text
        body = {**ASK, "max_tokens": size}
        whole = read_answer(endpoint.send("POST", "/v1/chat/completions", body))
        stream = read_stream(endpoint.send("POST", "/v1/chat/completions", {**body, "stream": True}))
        assert whole is not None and stream is not None
        for answer in (whole, stream):
            found = oracle.text_of(answer.choices[0], ids)
            # the one end that an answer does not show: cut after the mark, before the first character behind it
            assert found == (written.removesuffix("</think>") if size <= len(said.encode()) else written)
