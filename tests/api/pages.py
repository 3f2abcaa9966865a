"""Providers' pages changed by a test: another reading of a behaviour. Knows no request."""

from __future__ import annotations

from dataclasses import replace

from refsample.spec.provider import ProviderSpec, Reading, provider


def read_as(name: str, **readings: str) -> ProviderSpec:
    """The page of a provider with other effective readings."""
    page = provider(name)
    changed = {
        behaviour: Reading(printed=page.behaviours[behaviour].printed, effective=reading, source="test", grade="C")
        for behaviour, reading in readings.items()
    }
    return replace(page, behaviours={**page.behaviours, **changed})
