"""Behaviour: the frozen bundle of everything that decides an answer. It knows nothing of requests or HTTP.

An honest server is one Behaviour; a fault is a map from one Behaviour to another (`refsample.conformance.faults`).
The server serves a Behaviour, the verifier uses the very same object as a hypothesis.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Final

from refsample.sampling.params import SamplingParams
from refsample.spec.types import Semantics

FLAWS: Final = (
    "eos_not_counted", "usage_first_choice", "role_chunk_missing", "done_missing", "logprobs_shape_swapped",
    "top_logprobs_n", "best_of_ignored", "unknown_model_accepted", "bound_not_enforced", "greedy_n_refused",
    "other_defaults",
)  # fmt: skip
"""Ways in which a server can break the contract of its API while its sampling is right."""


OVERLAY: Final = (("temperature", 0.6), ("top_p", 0.95), ("top_k", 20))
"""What a server with the flaw other_defaults samples with where a request sends none of these (Qwen3's
generation_config.json)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How answers come about, beside the weights and the request."""

    semantics: Semantics
    """Order, ties, scopes, logprob stage and seed rule: the engine file's."""
    dropped: frozenset[str] = frozenset()
    """Names of request fields that are taken and silently not applied: SamplingParams fields, "seed"."""
    imposed: tuple[tuple[str, float], ...] = ()
    """SamplingParams fields that get this value where a request leaves them neutral: a server's own defaults."""
    temperature_scale: float = 1.0
    """Every temperature is multiplied by this."""
    precision: str | None = None
    """Name for `Transformer.with_precision`; None: as the model was loaded."""
    include_stop: bool = False
    """True: the matched stop text stays in the answer."""
    template: str | None = None
    """Name of a chat template of the model folder; None is the default one."""
    generation_config: bool = False
    """True: what a request leaves open has the value of the model's generation_config.json, as on vLLM."""
    flaws: frozenset[str] = frozenset()
    """Names of FLAWS that the API layer commits; none in an honest server."""


def applied(params: SamplingParams, behaviour: Behaviour) -> SamplingParams:
    """The parameters that really act: dropped ones are back at their neutral value, then what is imposed comes on."""
    neutral = SamplingParams()
    changes: dict[str, Any] = {f.name: getattr(neutral, f.name) for f in fields(params) if f.name in behaviour.dropped}
    for name, value in behaviour.imposed:
        if changes.get(name, getattr(params, name)) == getattr(neutral, name):
            changes[name] = value
    if behaviour.temperature_scale != 1.0:
        changes["temperature"] = changes.get("temperature", params.temperature) * behaviour.temperature_scale
    return replace(params, **changes) if changes else params
