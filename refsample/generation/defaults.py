"""generation_config.json as defaults of a request: what of it can be kept, under which name, and what cannot.

It is off unless asked for: a reference's defaults are its own. The parameters that transformers and refsample call the
same mean the same; these have another name or form here:

    max_new_tokens    max_tokens, or the room that the context has, where that is less
    min_new_tokens    min_tokens
    stop_strings      stop
    suppress_tokens   banned_token_ids, and so are bad_words_ids of one token each
    do_sample         false: temperature 0, whatever the file says of temperature; true, or absent: nothing

transformers samples greedily where do_sample is absent and takes top_k 50 where that is; servers that read the file
(vLLM, SGLang) do neither, and nor does this. `eos_token_id` ends a text with and without these defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from refsample.errors import MismatchError, ParameterError
from refsample.files import read_json_object
from refsample.generation.sequence import GenerationParams
from refsample.sampling.params import SamplingParams

FILE: Final = "generation_config.json"
Use = Literal["taken", "always", "no effect", "not applied", "not understood"]

_SAME: Final = (
    "temperature", "top_p", "top_k", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff",
    "repetition_penalty", "presence_penalty", "frequency_penalty", "no_repeat_ngram_size",
)  # fmt: skip
_RENAMED: Final = {
    "max_new_tokens": "max_tokens", "min_new_tokens": "min_tokens", "stop_strings": "stop",
    "suppress_tokens": "banned_token_ids", "bad_words_ids": "banned_token_ids",
}  # fmt: skip
_FACTS: Final = (
    "transformers_version", "_from_model_config", "bos_token_id", "pad_token_id", "decoder_start_token_id", "use_cache",
    "cache_implementation", "cache_config", "max_cache_len", "output_attentions", "output_hidden_states",
    "output_scores", "output_logits", "return_dict_in_generate", "compile_config", "disable_compile", "low_memory",
    "trust_remote_code", "renormalize_logits", "remove_invalid_values", "prefill_chunk_size", "early_stopping",
    "length_penalty", "is_assistant",
)  # fmt: skip
"""They change no token of one sampled text."""
_NEUTRAL: Final = {
    "num_beams": 1, "num_beam_groups": 1, "num_return_sequences": 1, "encoder_repetition_penalty": 1,
    "encoder_no_repeat_ngram_size": 0, "diversity_penalty": 0, "penalty_alpha": 0, "guidance_scale": 1,
    "min_length": 0, "token_healing": False, "use_mtp": False,
}  # fmt: skip
_WHY_NOT: Final = {
    "max_length": "counts the prompt too: give max_tokens",
    "min_length": "counts the prompt too: give min_tokens",
    "num_beams": "beams are not searched",
    "num_return_sequences": "give n",
    "max_time": "a text does not hang on the clock",
}

_OTHERS: Final = (
    "forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty", "begin_suppress_tokens",
    "sequence_bias", "watermarking_config", "num_assistant_tokens", "num_assistant_tokens_schedule",
    "assistant_confidence_threshold", "prompt_lookup_num_tokens", "max_matching_ngram_size", "assistant_early_exit",
    "assistant_lookbehind", "target_lookbehind", "assistant_ensemble_weight", "speculation_type",
    "continuous_batching_config", "dola_layers", "constraints", "force_words_ids", "do_sample",
)  # fmt: skip
_SAMPLING: Final = frozenset(field.name for field in fields(SamplingParams))


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the file and what becomes of it."""

    name: str
    value: Any
    use: Use
    detail: str = ""
    """Of one that is taken: the parameter and its value here; else why it is not."""


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """What a model's folder proposes for requests that do not say otherwise."""

    fields: Mapping[str, Any]
    """Parameters of `Model.generate`."""
    entries: tuple[Entry, ...]
    """Every line of the file, in its order."""

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names in the file that would matter and are not kept."""
        return tuple(entry.name for entry in self.entries if entry.use in ("not applied", "not understood"))

    def under(self, given: Mapping[str, Any], room: int) -> dict[str, Any]:
        """The defaults for everything that `given` leaves open, where the context has `room` for so many tokens."""
        kept = {name: value for name, value in self.fields.items() if name not in given}
        if kept.get("max_tokens", room) > room:
            kept["max_tokens"] = None  # as many as there is room for
        return kept


def read_defaults(folder: Path) -> GenerationDefaults:
    """The defaults of a model's folder; without the file there are none.

    Raises CorruptFileError, and MismatchError for a value that its parameter cannot have.
    """
    path = folder / FILE
    raw = read_json_object(path, optional=True)
    found: dict[str, Any] = {}
    entries = [_entry(name, value, found, path) for name, value in raw.items()]
    if raw.get("do_sample") is False:
        overruled = "do_sample=false overrules it"
        entries = [replace(e, use="no effect", detail=overruled) if e.name == "temperature" else e for e in entries]
        found["temperature"] = 0.0
    return GenerationDefaults(MappingProxyType(found), tuple(entries))


def _entry(name: str, value: Any, found: dict[str, Any], path: Path) -> Entry:
    """What becomes of one line; `found` takes up what it sets."""
    if name == "eos_token_id":
        return Entry(name, value, "always", "ends a text")
    if name in _FACTS or value is None or (name in _NEUTRAL and value == _NEUTRAL[name]):
        return Entry(name, value, "no effect")
    if name == "do_sample" and isinstance(value, bool):
        return Entry(name, value, "taken", "" if value else "temperature=0")
    if name == "bad_words_ids" and not _single(value):
        return Entry(name, value, "not applied", "words of several tokens are not banned")
    if name in _SAME or name in _RENAMED:
        ours = _RENAMED.get(name, name)
        kept = _kept(ours, [run[0] for run in value] if name == "bad_words_ids" else value, path, name)
        found[ours] = (*found.get(ours, ()), *kept) if ours == "banned_token_ids" else kept
        return Entry(name, value, "taken", f"{ours}={kept!r}")
    if name in _WHY_NOT or name in _NEUTRAL or name in _OTHERS:
        return Entry(name, value, "not applied", _WHY_NOT.get(name, "refsample does not have it"))
    return Entry(name, value, "not understood", "no parameter of transformers 5")


def _single(runs: Any) -> bool:
    return isinstance(runs, list) and all(isinstance(run, list) and len(run) == 1 for run in runs)


def _kept(ours: str, value: Any, path: Path, name: str) -> Any:
    """The value as the parameter holds it."""
    try:
        if ours in _SAMPLING:
            return getattr(SamplingParams(**{ours: value}), ours)
        return getattr(GenerationParams(**{ours: value}), ours)
    except ParameterError as error:
        raise MismatchError(f"{path}: {name}={error.value!r}: {error.rule}") from None


def applied(params: GenerationParams, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What of `defaults` holds beside the parameters: a proposed min_tokens gives way to a limit."""
    limit, least = defaults.get("max_tokens", params.max_tokens), defaults.get("min_tokens", 0)
    return {k: v for k, v in defaults.items() if k != "min_tokens" or limit is None or least <= limit}


def with_defaults(params: GenerationParams, defaults: Mapping[str, Any]) -> GenerationParams:
    """The parameters with what is `applied` of `defaults` in place of what stands there."""
    if not defaults:
        return params
    defaults = applied(params, defaults)
    sampling = {name: value for name, value in defaults.items() if name in _SAMPLING}
    rest = {name: value for name, value in defaults.items() if name not in _SAMPLING}
    return replace(params, sampling=replace(params.sampling, **sampling), **rest)
