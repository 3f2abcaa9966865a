"""instructor, unmodified: pydantic models out of tools, JSON schema and streams."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from pydantic import BaseModel, Field

from tests.clients.asked import ASK
from tests.clients.live import KEY, missing, need


class Animal(BaseModel):
    name: str = Field(max_length=12)
    legs: int = Field(ge=0, le=99)


@pytest.fixture(scope="module")
def instructor() -> Any:
    need("instructor", missing("instructor"))
    import instructor

    return instructor


def made(instructor: Any, url: str, mode: str) -> Any:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=120)
    return instructor.from_openai(client, mode=getattr(instructor.Mode, mode))


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
def test_a_model_out_of(mode: str, instructor: Any, url: str) -> None:
    animal, answer = made(instructor, url, mode).chat.completions.create_with_completion(
        model="tiny", messages=ASK, response_model=Animal, max_retries=0, seed=1, max_tokens=200
    )
    assert isinstance(animal, Animal) and 0 <= animal.legs <= 99
    assert answer.usage.completion_tokens > 0


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
def test_a_model_in_pieces(mode: str, instructor: Any, url: str) -> None:
    pieces = made(instructor, url, mode).chat.completions.create_partial(
        model="tiny", messages=ASK, response_model=Animal, seed=1, max_tokens=200
    )
    seen = list(pieces)
    assert len(seen) > 1 and Animal.model_validate(seen[-1].model_dump())
