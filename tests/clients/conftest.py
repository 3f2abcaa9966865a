"""One live server for every client: `tiny` as OpenAI's page says, behind the canary key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from refsample.api.server import LocalServer, create_app
from refsample.generation.load import load
from refsample.generation.model import Model
from tests.clients.live import KEY


@pytest.fixture(scope="session")
def model() -> Model:
    return load("tiny")


@pytest.fixture(scope="session")
def url(model: Model) -> Iterator[str]:
    """Where the server listens, without /v1."""
    with LocalServer(create_app({"tiny": model}, api_key=KEY)) as found:
        yield found
