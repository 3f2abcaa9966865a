"""The embedded model, loaded once, for every test of the API."""

from __future__ import annotations

import pytest

from refsample.generation.load import load
from refsample.generation.model import Model


@pytest.fixture(scope="session")
def model() -> Model:
    return load("tiny")
