"""What all verifications here share: the reference's own texts, which do not depend on the endpoint."""

from __future__ import annotations

import copy
from functools import lru_cache

import pytest

from refsample.conformance import verify
from refsample.conformance.oracle import Oracle
from refsample.generation.behaviour import Behaviour
from refsample.generation.model import Model


@lru_cache(maxsize=4)
def _known(model: Model, honest: Behaviour) -> Oracle:
    return Oracle(model, honest)


def _oracle(model: Model, honest: Behaviour) -> Oracle:
    """An oracle of one run's own that looks into what others have computed."""
    return copy.copy(_known(model, honest))


@pytest.fixture(autouse=True)
def _texts_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "Oracle", _oracle)
