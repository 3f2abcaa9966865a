"""The checked fields of one request with the provider's defaults under them, and the errors that name them.

It knows no rule itself: rules between fields are in `requests` and its neighbours, which all take one of these.
"""

from __future__ import annotations

from typing import Any

from refsample.api.types import UNSET, Fields
from refsample.errors import ParameterError
from refsample.spec.provider import EndpointSpec, ProviderSpec


class Builder:
    """What a request says, asked for by the library's names."""

    def __init__(self, fields: Fields, provider: ProviderSpec, endpoint: EndpointSpec, strict: bool) -> None:
        self.fields, self.provider, self.endpoint, self.strict = fields, provider, endpoint, strict
        records = endpoint.parameters.values()
        self.defaults = {record.means: record.default for record in records if record.default is not None}

    def get(self, name: str) -> Any:
        """The value sent, else the provider's default, else None."""
        return self.fields.value(name, self.defaults.get(name))

    def value(self, name: str, default: Any = None) -> Any:
        """The value sent, else `default`, whatever the provider's default."""
        return self.fields.value(name, default)

    def name(self, name: str) -> str:
        """What the user called this field."""
        return self.fields.name(name)

    def wrong(self, place: str, value: object, rule: str, code: str = "invalid_value") -> ParameterError:
        """The error of something inside a field."""
        return ParameterError(place, value, rule, self.provider.title, code)

    def error(self, name: str, rule: str, code: str = "invalid_value") -> ParameterError:
        """The error of a whole field, under the name that the user gave it."""
        sent = self.fields.sent(name)
        return self.wrong(self.fields.name(name), ... if sent is UNSET else sent, rule, code)

    def reading(self, behaviour: str) -> str:
        """The provider's reading of a behaviour, as it is served."""
        return self.provider.reading(behaviour, strict=self.strict)
