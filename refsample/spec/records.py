"""What a provider's API promises, as frozen records. Knows nothing of HTTP, of TOML or of any provider.

Every bound and every behaviour is kept twice: `printed` is what the page says, `effective` what a careful reader makes
of it, with a grade of the evidence for that reading. Strict mode serves the printed one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Final, Literal

from refsample.errors import SpecError, shorten
from refsample.spec.envelopes import ENVELOPES
from refsample.spec.notation import Range, fits
from refsample.spec.types import KnownDifference

Grade = Literal["A", "B", "C", "run", "3p"]
"""A: the provider's own page; B: upstream specification or engine; C: inference; run: executed; 3p: a third party."""
Support = Literal["served", "ignored", "refused"]
Kind = Literal["completions", "chat"]
Absent = Literal["null", "empty", "omit"]
LogprobsShape = Literal["legacy", "chat", "bare"]
"""Arrays side by side; an object per token; numbers alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterSpec:
    """One request field. `name` may reach inside: `stream_options.include_usage`, `messages[].role`."""

    name: str
    means: str
    """The library's name for it where the provider calls it otherwise; several fields may mean the same."""
    types: tuple[str, ...]
    printed_types: tuple[str, ...]
    required: bool
    printed_required: bool
    nullable: bool
    printed_nullable: bool
    default: Any
    """The provider's default; None where there is none."""
    printed: Range | None
    effective: Range | None
    length: Range | None
    """How many entries an array may hold."""
    item_length: Range | None
    """How many characters a string, or each string of an array, may hold."""
    pattern: str
    """Regular expression that a string has to match as a whole; empty: any."""
    choices: tuple[str, ...]
    """The only strings allowed; empty: any."""
    printed_choices: tuple[str, ...]
    integral: bool
    """50.0 is taken as the integer 50."""
    truncated: bool
    """A fraction is cut off and the field listed as ignored in part; strict mode refuses it."""
    extension: bool
    """Not on the provider's page: taken by default, an unknown field in strict mode."""
    secret: bool
    """Its value is never shown, kept or repeated."""
    support: Support
    """served; ignored: checked, then without effect and listed as such; refused: 400 unless null or neutral."""
    neutral: tuple[Any, ...]
    """Values of an ignored or refused field that ask for nothing."""
    kept_for: tuple[str, ...]
    """Patterns of `vendor/model`, such as `openai/*`; a model has to match one of them where vendor_rules is `printed`.
    Empty: the page keeps the field for nobody."""
    meaning: str
    decisions: tuple[int, ...]
    """What engines do differently behind it: numbers of the list "What a reference must decide"."""
    source: str
    grade: Grade

    def __post_init__(self) -> None:
        """A record agrees with itself: its default is one of its own values. Raises SpecError."""
        value, bounds = self.default, self.effective
        if value is not None and not any(fits(value, name) for name in self.types):
            raise SpecError(f"default={shorten(value)}: is of none of the types {', '.join(self.types)}")
        if isinstance(value, int | float) and bounds is not None and not bounds.holds(value):
            raise SpecError(f"default={value}: breaks the effective range {bounds.about()}")
        if value is not None and self.choices and value not in self.choices:
            raise SpecError(f"default={shorten(value)}: is none of {', '.join(self.choices)}")
        if self.extension and self.printed is not None:
            raise SpecError("printed: an extension is not on the page, so no range of it is printed")
        if self.neutral and self.support == "served":
            raise SpecError("neutral: only an ignored or refused field has neutral values")

    def kept_from(self, model: str) -> bool:
        """Whether the page keeps this field for models of which `vendor/model/deployment` is none."""
        vendor, name = model.split("/")[:2] if "/" in model else ("", model)
        return bool(self.kept_for) and not any(fnmatchcase(f"{vendor}/{name}", kept) for kept in self.kept_for)


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSpec:
    """One field of an answer; `name` is its path, such as `choices[].logprobs.tokens`."""

    name: str
    types: tuple[str, ...]
    printed_types: tuple[str, ...]
    required: bool
    nullable: bool
    choices: tuple[str, ...]
    absent: Absent
    """What an answer shows where there is nothing: null, [] or no key."""
    extension: bool
    """Not on the page; real answers have it."""
    meaning: str
    decisions: tuple[int, ...]
    """As of a request field."""
    source: str
    grade: Grade


OWN_PATHS: Final = ("/", "/health", "/tokenize", "/detokenize")
INNER: Final[Mapping[str, str]] = MappingProxyType(
    {
        "messages": "messages[].role",
        "tools": "tools[].function.name",
        "tool_choice": "tool_choice.function.name",
        "functions": "functions[].name",
        "function_call": "function_call.name",
        "response_format": "response_format.type",
        "prediction": "prediction.content",
        "stream_options": "stream_options.include_usage",
    }
)
"""Objects that are read below the door, where their keys are taken for granted: the record that checks them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSpec:
    """One path: what it takes and what it answers, whole and as chunks of a stream."""

    name: str
    path: str
    kind: Kind
    id_prefix: str
    printed_id_prefix: str
    object: str
    chunk_object: str
    logprobs: LogprobsShape
    merged: tuple[str, ...]
    """Fields whose object is merged into the body; a key in both places must have one value."""
    parameters: Mapping[str, ParameterSpec]
    response: Mapping[str, FieldSpec]
    chunk: Mapping[str, FieldSpec]

    def __post_init__(self) -> None:
        if not self.path.startswith("/"):
            raise SpecError(f"path={self.path!r}: must start with '/'")
        if self.path in OWN_PATHS:
            raise SpecError(f"path={self.path!r}: is one of the server's own: {', '.join(OWN_PATHS)}")
        asked = {record.means for record in self.parameters.values() if record.support == "served"}
        for name in ("model", "prompt" if self.kind == "completions" else "messages"):
            if name not in asked:
                raise SpecError(f"parameters: an endpoint of kind {self.kind} needs the record {name}")
        for name in self.merged:
            if name not in self.parameters:
                raise SpecError(f"merged={name!r}: is no parameter of this endpoint")
        for name, inner in INNER.items():
            record = self.parameters.get(name)
            objects = record is not None and any(kind.startswith("object") for kind in record.types)
            if objects and record is not None and record.support == "served" and inner not in self.parameters:
                raise SpecError(f"{name}: is served and needs the record {inner}, as a group of fields.toml has it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A behaviour that can be read in more than one way."""

    printed: str
    effective: str
    source: str
    grade: Grade


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How one kind of failure is reported; an empty code is null."""

    status: int
    type: str
    code: str
    printed: Literal["nothing", "status", "words"]
    """What of it the page itself has: nothing (it is inferred), the status, or its words (type, code) as well."""

    def __post_init__(self) -> None:
        if not 400 <= self.status <= 599:
            raise SpecError(f"status={self.status}: must be one of an error, 400 to 599")


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """One place that may carry the key, and the word before it."""

    place: Literal["header", "body"]
    name: str
    """Header or body field, in lower case."""
    scheme: str
    """`Bearer`, or empty: the key alone."""
    printed: bool
    """On the page: the places that strict mode takes."""
    required: bool
    """Required as printed: strict mode wants a key there even where the server knows none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderSpec:
    """A header that the page asks for beside the key; strict mode holds requests with a body to it."""

    name: str
    """In lower case."""
    value: str
    """The only value as printed; parameters behind a semicolon are the client's own."""
    source: str
    grade: Grade


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSpec:
    """One file of `specs/providers/`."""

    name: str
    title: str
    version: str
    """Which edition of the page was read."""
    source: str
    engine: str
    """Name of an engine file, or "unknown": then `reference` samples."""
    envelope: str
    """Shape of an error's body: a name of `refsample.spec.envelopes`."""
    models_path: str
    """Path of the list of models; empty: none."""
    models_shape: Literal["openai", "names"]
    """A list object of cards, or a bare array of names."""
    model_names: Literal["plain", "vendor"]
    """vendor: also `vendor/model` and `vendor/model/deployment`."""
    auth: tuple[Auth, ...]
    """Any one of them is enough."""
    headers: tuple[HeaderSpec, ...]
    errors: Mapping[str, Failure]
    behaviours: Mapping[str, Reading]
    known: tuple[KnownDifference, ...]
    endpoints: Mapping[str, EndpointSpec]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", self.name):
            raise SpecError(f"name={shorten(self.name)}: must be made of a-z, 0-9 and _ . -, as the file is called")
        if self.envelope not in ENVELOPES:
            raise SpecError(f"envelope={shorten(self.envelope)}: must be one of {', '.join(ENVELOPES)}")

    def reading(self, behaviour: str, *, strict: bool = False) -> str:
        """The reading of a behaviour that is served: the printed one in strict mode."""
        found = self.behaviours[behaviour]
        return found.printed if strict else found.effective
