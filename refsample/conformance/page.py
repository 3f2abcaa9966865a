"""What a provider's page lets a request say, read from its records, so that no probe asks for more. Knows no answers.

Inside the page is what both the printed and the effective range hold. What other engines take beside the page
(`extension` records) counts only where it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from refsample.sampling.params import SamplingParams
from refsample.spec.notation import Range, fits
from refsample.spec.provider import EndpointSpec, ParameterSpec, ProviderSpec

Kind = Literal["completions", "chat"]
STEP = 0.01
"""How far inside an open end a number is put; whole numbers go one further."""


@dataclass(frozen=True, slots=True)
class Page:
    """One endpoint of a provider, as what probes may send."""

    provider: ProviderSpec
    endpoint: EndpointSpec
    extensions: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Names the engine has for some of our fields (llama.cpp: repeat_penalty)."""

    @property
    def kind(self) -> Kind:
        return self.endpoint.kind

    def record(self, means: str) -> ParameterSpec | None:
        """The served field of that meaning; of several names the one on the page, then the library's own."""
        found = [
            p for p in self.endpoint.parameters.values()
            if p.means == means and p.support == "served" and (self.extensions or not p.extension)
        ]  # fmt: skip
        return min(found, key=lambda p: (p.extension, p.name != means), default=None)

    def beside(self, record: ParameterSpec) -> bool:
        """Whether a field is not on the page: an extension, or a field inside one."""
        return record.extension or self.endpoint.parameters.get(record.name.split(".")[0], record).extension

    def takes(self, *means: str) -> bool:
        return all(self.record(name) is not None for name in means)

    def allows(self, means: str, value: Any) -> bool:
        """Whether the page lets a field have this value; False where it has no such field."""
        record = self.record(means)
        if record is None or not any(fits(value, t) for t in (*record.types, *record.printed_types)):
            return False
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return not number or all(bounds.holds(value) for bounds in _ranges(record))

    def near(self, means: str, value: float | int) -> float | int:
        """The value, or the nearest inside the page's ranges: cold for temperature 0 where 0 is outside."""
        record = self.record(means)
        for bounds in () if record is None else _ranges(record):
            if not bounds.holds(value):
                whole = "integer" in (record.types if record is not None else ())
                value = _inside(bounds, value, 1 if whole else STEP)
        return value

    def defaults(self) -> dict[str, Any]:
        """What the page samples with where a request says nothing: its defaults that are not neutral, by our names."""
        records = [self.record(f.name) for f in fields(SamplingParams)]
        return {r.means: r.default for r in records if r is not None and r.default is not None}

    def name(self, means: str) -> str:
        """What the page, or the engine beside it, calls a field; itself where neither knows it."""
        record = self.record(means)
        return record.name if record is not None and not record.extension else self.aliases.get(means, means)

    def logprob_fields(self, top: int) -> dict[str, Any] | None:
        """Fields that ask for logprobs with up to `top` alternatives; None: the page has none."""
        record = self.record("logprobs")
        if record is None:
            return None
        if "boolean" not in record.types:
            return {"logprobs": self.near("logprobs", top)}
        return {
            "logprobs": True,
            **({"top_logprobs": self.near("top_logprobs", top)} if self.takes("top_logprobs") else {}),
        }

    def readings(self, behaviour: str) -> frozenset[str]:
        """What the page says of a behaviour, and what is made of it: neither of them is a fault."""
        return frozenset(self.provider.reading(behaviour, strict=strict) for strict in (False, True))

    def bounded(self) -> tuple[str, ...]:
        """Names of the fields with a finite bound."""
        return tuple(p.name for p in self.endpoint.parameters.values() if not p.extension and _ranges(p))


def pages_of(
    provider: ProviderSpec, extensions: bool | None = None, aliases: Mapping[str, str] | None = None
) -> dict[Kind, Page]:
    """The first endpoint of each kind as a page.

    extensions None: only where the page is an interface that many engines serve (its engine is our reference), since
    what an engine takes beside a page says nothing of a provider that promises the page alone.
    """
    beside = provider.engine == "reference" if extensions is None else extensions
    pages: dict[Kind, Page] = {}
    for endpoint in provider.endpoints.values():
        pages.setdefault(endpoint.kind, Page(provider, endpoint, beside, aliases or {}))
    return pages


def _ranges(record: ParameterSpec) -> list[Range]:
    return [bounds for bounds in (record.printed, record.effective) if bounds is not None]


def _inside(bounds: Range, value: float | int, step: float | int) -> float | int:
    if value <= bounds.low:
        return bounds.low + step if bounds.open_low else bounds.low
    return bounds.high - step if bounds.open_high else bounds.high
