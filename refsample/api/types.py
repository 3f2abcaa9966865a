"""A request that passed the door, as frozen data. Knows nothing of HTTP, models or how it was checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from refsample.generation.sequence import GenerationParams
from refsample.spec.provider import EndpointSpec, ProviderSpec

if TYPE_CHECKING:
    from refsample.api.tools import ToolSet


class _Unset(Enum):
    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


UNSET: Final = _Unset.UNSET
"""A field that was not sent: neither null nor its default."""


@dataclass(frozen=True, slots=True)
class Fields:
    """The checked fields of a body, under the library's names."""

    values: Mapping[str, Any]
    """Library's name -> value; None where null was sent; absent where nothing was sent."""
    names: Mapping[str, str]
    """Library's name -> the field's name as the user wrote it."""
    ignored: tuple[str, ...]
    """Fields without effect, as the user wrote them, sorted."""

    def sent(self, name: str) -> Any:
        """The value, None for a null, UNSET where it was not sent."""
        return self.values.get(name, UNSET)

    def value(self, name: str, default: Any = None) -> Any:
        """The value, or `default` where null or nothing was sent."""
        found = self.sent(name)
        return default if found is UNSET or found is None else found

    def name(self, name: str) -> str:
        """What the user called this field."""
        return self.names.get(name, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Templating:
    """How the messages become a prompt, beside the messages."""

    add_generation_prompt: bool = True
    continue_final: bool = False
    """True: the last message is the beginning of the answer."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Further variables of the template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One checked request."""

    provider: ProviderSpec
    endpoint: EndpointSpec
    fields: Fields
    model: str | None
    """None where the body left it out, which only a call in process may."""
    prompts: tuple[str | tuple[int, ...] | None, ...]
    """Completions: texts, token ids, or None for the beginning of a new document. Empty for a chat."""
    messages: tuple[Mapping[str, Any], ...]
    """Chat: role, text and calls of each turn."""
    templating: Templating
    tools: ToolSet | None
    """What the model may call."""
    generation: GenerationParams
    """Its grammar is that of the tools or of the answer's format."""
    prediction: str | None
    """What the answer is expected to be; its ids need a model's tokenizer."""
    timeout_s: float | None
    best_of: int
    """Choices drawn per prompt; generation.n of them are answered."""
    echo: bool
    prompt_logprobs: int | None
    """Alternatives at each token of the prompt, as vLLM shows them; None: nothing of the prompt."""
    return_token_ids: bool
    suffix: str | None
    stream: bool
    include_usage: bool
    strict: bool
    ignored: tuple[str, ...]
