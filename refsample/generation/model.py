"""Model: a loaded folder, ready to write. Knows nothing of providers or HTTP."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
from numpy.typing import NDArray

from refsample.checks import integer, known_names, room, token_ids
from refsample.errors import ParameterError
from refsample.generation.behaviour import Behaviour
from refsample.generation.decode import Events, generate_events
from refsample.generation.defaults import GenerationDefaults, read_defaults, with_defaults
from refsample.generation.prefix import PrefixCache
from refsample.generation.sequence import Completion, GenerationParams, TokenEvent
from refsample.model.load import adapter_fingerprint
from refsample.model.lora import read_adapter
from refsample.sampling.params import SamplingParams
from refsample.sampling.semantics import resolve
from refsample.text.chat import ChatTemplate
from refsample.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from refsample.model.config import ModelConfig
    from refsample.model.transformer import Transformer

Prompt = str | Sequence[int] | Sequence[Mapping[str, object]]
"""Text, token ids, or the messages of a conversation."""

_SAMPLING = frozenset(f.name for f in fields(SamplingParams))
_GENERATION = frozenset(f.name for f in fields(GenerationParams)) - {"sampling"}


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Weights, tokenizer and template of one folder. Safe to share between threads."""

    name: str
    folder: Path
    transformer: Transformer = field(repr=False)
    tokenizer: Tokenizer = field(repr=False)
    template: ChatTemplate | None = field(repr=False)
    config: ModelConfig = field(repr=False)
    fingerprint: str
    base: Model | None = field(default=None, repr=False)
    """The model that this one puts an adapter over; they share all weights, in every precision."""
    prefixes: PrefixCache = field(default_factory=PrefixCache, repr=False)
    """Keys and values of recent prompts, for prompts that begin alike; shared with the base."""
    _precisions: dict[str, Transformer] = field(default_factory=dict, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def logits(self, ids: Iterable[int]) -> NDArray[np.float32]:
        """ids [T] -> raw logits [T, V]; position t predicts ids[t + 1]. ParameterError for ids that are none.

        float32, whatever the type of the weights; float64 where the model was loaded with that precision.
        """
        checked = self.checked_ids(ids, "ids")
        (rows,) = self.transformer.forward([(checked, self.transformer.new_cache(len(checked)))], rows="all")
        return rows

    @overload
    def generate(
        self,
        prompt_or_messages: Prompt,
        stream: Literal[False] = False,
        behaviour: Behaviour | None = None,
        engine: str = "reference",
        use_generation_config: bool = False,
        **params: object,
    ) -> Completion: ...

    @overload
    def generate(
        self,
        prompt_or_messages: Prompt,
        stream: Literal[True],
        behaviour: Behaviour | None = None,
        engine: str = "reference",
        use_generation_config: bool = False,
        **params: object,
    ) -> Events: ...

    def generate(
        self,
        prompt_or_messages: Prompt,
        stream: bool = False,
        behaviour: Behaviour | None = None,
        engine: str = "reference",
        use_generation_config: bool = False,
        **params: object,
    ) -> Completion | Events:
        """Continue a prompt, or answer messages by the model's chat template.

        `params` are the fields of SamplingParams and GenerationParams. `engine` names whose sampling rules hold;
        `behaviour`, where given, decides that and more. `use_generation_config`: parameters that are not given have the
        values of the folder's generation_config.json, see `generation_defaults`. With `stream`, an iterator of
        TokenEvent; else a Completion. ParameterError for whatever is not allowed, ContextLengthError where the context
        is too small.
        """
        if behaviour is None:
            behaviour = Behaviour(semantics=resolve(engine))
        ids = self.prompt_ids(prompt_or_messages, behaviour.template)
        asked = self._asked(params, len(ids), use_generation_config or behaviour.generation_config)
        events = generate_events(self, [ids], asked, behaviour)
        return events if stream else self._collected(events, [ids])[0]

    @overload
    def generate_many(
        self,
        prompts: Iterable[Prompt],
        stream: Literal[False] = False,
        behaviour: Behaviour | None = None,
        engine: str = "reference",
        max_live: int = 64,
        **params: object,
    ) -> list[Completion]: ...

    @overload
    def generate_many(
        self,
        prompts: Iterable[Prompt],
        stream: Literal[True],
        behaviour: Behaviour | None = None,
        engine: str = "reference",
        max_live: int = 64,
        **params: object,
    ) -> Events: ...

    def generate_many(
        self,
        prompts: Iterable[Prompt],
        stream: bool = False,
        behaviour: Behaviour | None = None,
        engine: str = "reference",
        max_live: int = 64,
        **params: object,
    ) -> list[Completion] | Events:
        """`generate` for many prompts, computed together: a list of Completion in their order.

        At most `max_live` choices go through the transformer side by side (more only where one prompt has a larger
        `n`); those that end make room for prompts that wait. What prompts begin with together is computed once. Every
        prompt has the same seed, and gets the very text, ids and logprobs that `generate` gives it alone. With
        `stream`, an iterator of TokenEvent of all prompts, mixed; `prompt_index` tells them apart. All prompts are
        checked before anything is computed: ParameterError, ContextLengthError.
        """
        if isinstance(prompts, (str, Mapping)) or not isinstance(prompts, Iterable):
            raise ParameterError("prompts", prompts, "must be a list of prompts")
        if behaviour is None:
            behaviour = Behaviour(semantics=resolve(engine))
        most = integer("max_live", max_live, 1)
        ids = self.ids_of_many(prompts, behaviour.template)
        asked = self._asked(params, max(map(len, ids), default=0), behaviour.generation_config)
        events = generate_events(self, ids, asked, behaviour, most)
        return events if stream else self._collected(events, ids)

    def _asked(self, params: Mapping[str, object], longest: int, overlay: bool) -> GenerationParams:
        """Checked parameters of prompts of at most `longest` tokens, with the folder's own under them on demand."""
        asked = parameters(params)
        if not overlay:
            return asked
        return with_defaults(asked, self.generation_defaults.under(params, self.config.max_position - longest))

    @property
    def generation_defaults(self) -> GenerationDefaults:
        """What the folder's generation_config.json proposes; nothing of it holds unless asked for, but its end ids.

        CorruptFileError, MismatchError for a file that is none.
        """
        return read_defaults(self.folder)

    def prompt_ids(self, prompt: Prompt, template: str | None = None) -> tuple[int, ...]:
        """Ids of a prompt, checked.

        Text gets what the tokenizer adds to a text (for some models a begin id); ids stay as they are; messages go
        through the chat template (`template`: one of the folder's named ones), whose text gets nothing added.
        """
        if isinstance(prompt, str):
            return self.checked_ids(self.tokenizer.encode(prompt))
        if isinstance(prompt, Sequence) and prompt and isinstance(prompt[0], Mapping):
            text = self.chat_template(template).render(prompt)  # type: ignore[arg-type]  # every message is checked there
            return self.checked_ids(self.tokenizer.encode(text, bos=False), "messages")
        return self.checked_ids(prompt)  # type: ignore[arg-type]  # every id is checked there

    def ids_of_many(self, prompts: Iterable[Prompt], template: str | None = None) -> list[tuple[int, ...]]:
        """`prompt_ids` of each; errors name a prompt by its place."""
        found = []
        for number, prompt in enumerate(prompts):
            try:
                found.append(self.prompt_ids(prompt, template))
            except ParameterError as error:
                name = f"prompts[{number}]"
                raise type(error)(name, error.value, error.rule, error.source, error.code) from None
        return found

    def chat_template(self, name: str | None = None) -> ChatTemplate:
        """The default chat template or the one called `name`. ParameterError where there is none."""
        if self.template is None:
            rule = "this model has no chat template: send a prompt instead of messages"
            raise ParameterError("messages", ..., rule, f"model {self.name}")
        if name is None or name == self.template.name:
            return self.template
        if name not in self.template.named:
            known = ", ".join(sorted((self.template.name, *self.template.named)))
            raise ParameterError("template", name, f"this model's templates: {known}", f"model {self.name}")
        return self.template.named[name]

    def checked_ids(self, ids: Iterable[int], parameter: str = "prompt") -> tuple[int, ...]:
        """`ids` as a tuple, each an integer in [0, V), at least one, no more than the context holds."""
        source = f"model {self.name}"
        if isinstance(ids, (str, bytes, Mapping)) or not isinstance(ids, Iterable):
            raise ParameterError(parameter, ids, "must be text, token ids or messages", source)
        checked = token_ids(parameter, ids, self.config.vocab_size, source)
        if not checked:
            raise ParameterError(parameter, (), "must hold at least one token", source)
        room(parameter, ..., f"{len(checked)} tokens", len(checked), self.config.max_position, source)
        return checked

    def transformer_for(self, precision: str | None = None) -> Transformer:
        """The weights in a precision (None: as loaded); each is prepared once. ParameterError for a name of none."""
        if precision is None or precision == self.transformer.precision:
            return self.transformer
        with self._lock:
            if precision not in self._precisions:
                if self.base is None:
                    made = self.transformer.with_precision(precision)
                else:
                    made = self.base.transformer_for(precision).with_adapter(self.transformer.adapter)
                self._precisions[precision] = made
            return self._precisions[precision]

    def with_adapter(self, name: str, folder: str | os.PathLike[str]) -> Model:
        """This model under another name, with the LoRA of a folder in PEFT's layout over it.

        The weights stay those of the base, in the same memory; any number of adapters may run beside each other.
        Raises ModelError and its children for a folder that is no adapter of this model, ParameterError where this
        model has one already.
        """
        if self.base is not None:
            raise ParameterError("adapter", name, f"model {self.name} has an adapter already: put this over its base")
        path = Path(folder)
        adapter = read_adapter(path, self.config, self.transformer.source)
        return replace(
            self,
            name=name,
            transformer=self.transformer.with_adapter(adapter),
            fingerprint=adapter_fingerprint(self.fingerprint, path),
            base=self,
            _precisions={},
            _lock=Lock(),
        )

    def _collected(self, events: Events, prompts: Sequence[tuple[int, ...]]) -> list[Completion]:
        """All events as finished choices, those of one prompt together."""
        choices: list[list[list[TokenEvent]]] = [[[] for _ in range(events.params.n)] for _ in prompts]
        for event in events:
            choices[event.prompt_index][event.choice].append(event)
        found = []
        for ids, own in zip(prompts, choices, strict=True):
            done = [self._completion(events, ids, index, choice) for index, choice in enumerate(own)]
            found.append(replace(done[0], others=tuple(done[1:])))
        return found

    def _completion(self, events: Events, ids: tuple[int, ...], index: int, choice: list[TokenEvent]) -> Completion:
        last = choice[-1] if choice else None  # max_tokens=0 gives no event
        return Completion(
            text="".join(event.text for event in choice),
            token_ids=tuple(event.token_id for event in choice),
            tokens=tuple(self.tokenizer.token_text(event.token_id) for event in choice),
            logprobs=tuple(event.logprobs for event in choice if event.logprobs is not None),
            finish_reason="length" if last is None or last.finish_reason is None else last.finish_reason,
            stop_reason=None if last is None else last.stop_reason,
            seed=events.seed,
            prompt_ids=ids,
            index=index,
        )


def parameters(values: Mapping[str, object]) -> GenerationParams:
    """GenerationParams from one flat set of names. ParameterError, with the nearest name, for one that is unknown."""
    known_names(values, _SAMPLING | _GENERATION, "Model.generate")
    sampling = SamplingParams(**{name: value for name, value in values.items() if name in _SAMPLING})  # type: ignore[arg-type]  # checked at construction
    return GenerationParams(sampling=sampling, **{n: v for n, v in values.items() if n in _GENERATION})  # type: ignore[arg-type]  # the same
