"""What tests of requests share: two bodies, the text of an answer, pages that are read otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from refsample.spec.provider import ProviderSpec, Reading, provider


def read_as(name: str, **readings: str) -> ProviderSpec:
    """The page of a provider with other effective readings."""
    page = provider(name)
    changed = {
        behaviour: Reading(printed=page.behaviours[behaviour].printed, effective=reading, source="test", grade="C")
        for behaviour, reading in readings.items()
    }
    return replace(page, behaviours={**page.behaviours, **changed})


ONCE = "Once upon a time"
ASK = [{"role": "user", "content": "Name an animal."}]


def text_of(answer: dict[str, Any], index: int = 0) -> str:
    """The text of one choice."""
    choice = answer["choices"][index]
    return str(choice["text"] if "text" in choice else choice["message"]["content"])


def once(**fields: Any) -> dict[str, Any]:
    """A short completion of tiny."""
    return {"prompt": ONCE, "seed": 1, "max_tokens": 8, **fields}


def ask(**fields: Any) -> dict[str, Any]:
    """A short answer of tiny."""
    return {"messages": ASK, "seed": 1, "max_tokens": 8, **fields}
