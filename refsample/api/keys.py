"""Whether a request carries the key, in the places that the provider's page names. Knows no HTTP library.

A key is compared and forgotten: no message, log or record holds one.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

from refsample.spec.provider import ProviderSpec
from refsample.spec.records import Auth


def places(page: ProviderSpec, *, strict: bool) -> tuple[Auth, ...]:
    """Where a key may be: any of them is enough. In strict mode those that the page prints, if it prints one."""
    printed = tuple(place for place in page.auth if place.printed)
    return printed if strict and printed else page.auth


def in_headers(headers: Mapping[str, str], where: tuple[Auth, ...], key: str) -> bool:
    """Whether one of the headers holds the key; `headers` looks names up in any case."""
    return any(_matches(headers.get(place.name, ""), place, key) for place in where if place.place == "header")


def in_body(body: object, where: tuple[Auth, ...], key: str) -> bool:
    """Whether a field of a JSON body holds the key."""
    if not isinstance(body, Mapping):
        return False
    fields = [body.get(place.name) for place in where if place.place == "body"]
    return any(isinstance(sent, str) and _same(sent.encode("utf-8", "surrogatepass"), key) for sent in fields)


def shown(headers: Mapping[str, str], where: tuple[Auth, ...]) -> bool:
    """Whether a header holds any key at all, as the page requires it where the server knows none."""
    sent = ((headers.get(place.name, "").strip(), place.scheme) for place in where if place.place == "header")
    return any(value.lower().startswith(f"{scheme} ".lstrip().lower()) and value for value, scheme in sent)


def _matches(sent: str, place: Auth, key: str) -> bool:
    scheme, _, rest = sent.partition(" ") if place.scheme else ("", "", sent)
    # a header's bytes are read as Latin-1; clients send a key outside ASCII as UTF-8
    return scheme.strip().lower() == place.scheme.lower() and _same(rest.strip().encode("latin-1"), key)


def _same(sent: bytes, key: str) -> bool:
    return hmac.compare_digest(sent, key.encode())


def refusal(where: tuple[Auth, ...]) -> tuple[str, dict[str, Any]]:
    """What a client without the key is told, and the challenge that belongs to it."""
    ways = [
        f"the header {place.name}: {f'{place.scheme} KEY'.strip()}" if place.place == "header" else
        f"{place.name} in the body" for place in where
    ]  # fmt: skip
    challenge = next((place.scheme for place in where if place.place == "header" and place.scheme), None)
    # OpenAI's words: litellm tells a wrong key from a wrong request by them
    message = f"Incorrect API key provided: send {' or '.join(ways)}"
    return message, {"www-authenticate": challenge} if challenge else {}
