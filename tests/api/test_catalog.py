"""Names of models: exact, vendor/model/deployment, the longest that is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from refsample.api.catalog import known_name, resolve
from refsample.errors import UnknownModelError
from refsample.spec.provider import provider

PLAIN = replace(provider("openai"), model_names="plain")
VENDOR = replace(provider("openai"), model_names="vendor")
KNOWN = {name: name for name in ("tiny", "org/tiny", "org/tiny-2", "a/b/c", "pirate", "gpt-4o")}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("page", [PLAIN, VENDOR], ids=["plain", "vendor"])
def test_a_known_name_means_itself(name: str, page: object) -> None:
    assert resolve(name, KNOWN, page) == name  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("openai/gpt-4o", "gpt-4o"),
        ("openai/gpt-4o/eu-1", "gpt-4o"),
        ("refsample/tiny", "tiny"),
        ("refsample/tiny/blue", "tiny"),
        ("org/tiny/blue", "org/tiny"),  # vendor, model and deployment: the longer known name wins over "tiny"
        ("org/tiny-2/blue", "org/tiny-2"),
        ("hub/org/tiny-2", "org/tiny-2"),
        ("hub/org/tiny-2/blue", "org/tiny-2"),
        ("hub/a/b/c", "a/b/c"),
        ("a/b/c/blue", "a/b/c"),
        ("hub/pirate", "pirate"),
    ],
)
def test_vendor_and_deployment(asked: str, meant: str) -> None:
    assert resolve(asked, KNOWN, VENDOR) == meant
    assert known_name(asked, KNOWN, PLAIN) is None


NOTHING = (
    "",
    "/",
    "//",
    "Tiny",
    "tiny ",
    "tiny/",
    "tiny/blue",
    "/tiny",
    "/tiny/",
    "x/tiny/",
    "x/y/tiny",
    "tiny/x/y",
    "org/",
)


@pytest.mark.parametrize("asked", NOTHING)
def test_names_of_nothing(asked: str) -> None:
    assert known_name(asked, KNOWN, VENDOR) is None
    with pytest.raises(UnknownModelError, match="known here: tiny"):
        resolve(asked, KNOWN, VENDOR)


def test_a_server_that_looks_at_no_name() -> None:
    assert resolve("gpt-4", KNOWN, PLAIN, any_name=True) == "tiny"
    assert resolve("pirate", KNOWN, PLAIN, any_name=True) == "pirate"
    with pytest.raises(UnknownModelError):
        resolve("gpt-4", {}, PLAIN, any_name=True)
